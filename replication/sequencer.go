package replication

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// The sequencer turns what the source yields and the chunks that were read into the one log that the target
// executes. One goroutine owns it; others reach it through do, which runs between two transactions.
type sequencer struct {
	target   Target
	opts     Options
	progress *progress
	requests chan func(context.Context) error

	tables map[*Table]*sequence
	names  map[string]*sequence
	// position and end are how far the log was read. unsaved is set while position is ahead of the last entry's.
	position  Position
	end       LogPos
	unsaved   bool
	committed time.Time
	waiters   []waiter
}

// sequence is the sequencer's view of one table.
type sequence struct {
	table *Table
	// inLog holds the spans whose chunks are in the log: their changes are transactions like any other.
	inLog   *SpanSet
	windows []*window
}

// A waiter runs once the log has been read up to end, or is told that it won't come to that.
type waiter struct {
	end LogPos
	run func(context.Context, error) error
}

func newSequencer(dst Target, tables []*Table, cp *Checkpoint, p *progress, opts Options) *sequencer {
	s := &sequencer{
		target: dst, opts: opts, progress: p, position: cp.Position,
		requests: make(chan func(context.Context) error),
		tables:   make(map[*Table]*sequence), names: make(map[string]*sequence),
	}
	for _, t := range tables {
		q := &sequence{table: t, inLog: NewSpanSet(t, cp.Copied[t.Name]...)}
		s.tables[t], s.names[t.Name] = q, q
	}
	return s
}

// run is the owning goroutine.
func (s *sequencer) run(ctx context.Context, transactions <-chan *Transaction) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-s.requests:
			if err := f(ctx); err != nil {
				return err
			}
		case t := <-transactions:
			if err := s.take(ctx, t); err != nil {
				return err
			}
		}
	}
}

// do runs f in the owning goroutine at a transaction boundary; an error of f ends the stream.
func (s *sequencer) do(ctx context.Context, f func(context.Context) error) error {
	select {
	case s.requests <- f:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *sequencer) take(ctx context.Context, t *Transaction) error {
	if err := s.advance(ctx, t.End); err != nil {
		return err
	}
	if t.GTID.IsZero() || s.position.Contains(t.GTID) {
		s.progress.heard()
		return s.wake(ctx)
	}
	s.position = s.position.Add(t.GTID)
	if !t.Prepared.IsZero() {
		s.position = s.position.Add(t.Prepared)
	}
	s.unsaved, s.committed = true, t.Committed
	changes, err := s.split(t.Changes)
	if err != nil {
		return err
	}
	s.progress.heard()
	if t.DDL != nil {
		if err := s.schemaChange(ctx, t.DDL); err != nil {
			return err
		}
	} else if len(changes) > 0 {
		if err := s.appendTransaction(ctx, changes, nil); err != nil {
			return err
		}
	}
	return s.wake(ctx)
}

// advance moves the place in the log; a new server makes every open window worthless.
func (s *sequencer) advance(ctx context.Context, end LogPos) error {
	if end.Server == "" {
		return nil
	}
	if s.end.Server != "" && s.end.Server != end.Server {
		for _, q := range s.tables {
			for _, w := range q.windows {
				w.spoil(errServerChanged)
			}
		}
		waiters := s.waiters
		s.waiters, s.end = nil, end
		for _, w := range waiters {
			if err := w.run(ctx, errServerChanged); err != nil {
				return err
			}
		}
	}
	if s.end.Server == "" || s.end.Before(end) {
		s.end = end
	}
	return nil
}

// split notes every change in the open windows and returns the changes, or the halves of them, that
// belong to the log now.
func (s *sequencer) split(changes []Change) ([]Change, error) {
	kept := make([]Change, 0, len(changes))
	for i := range changes {
		c := &changes[i]
		q := s.tables[c.Table]
		if q == nil {
			if q = s.names[c.Table.Name]; q == nil {
				continue
			}
			return nil, &SchemaChangedError{Table: c.Table.Name, What: "its definition changed while the stream ran"}
		}
		var before, after Key
		var err error
		if c.Before != nil {
			if before, err = q.table.Key(c.Before); err != nil {
				return nil, fmt.Errorf("table %s: %w", q.table.Name, err)
			}
		}
		if c.After != nil {
			if after, err = q.table.Key(c.After); err != nil {
				return nil, fmt.Errorf("table %s: %w", q.table.Name, err)
			}
		}
		for _, w := range q.windows {
			w.note(c, before, after)
		}
		if part, ok := q.part(*c, before, after); ok {
			kept = append(kept, part)
		}
	}
	return kept, nil
}

// part is what of a change touches ranges that are in the log.
func (q *sequence) part(c Change, before, after Key) (Change, bool) {
	if q.inLog.Whole() {
		return c, true
	}
	if !q.table.Ordered {
		c.Loose = true
		return c, true
	}
	if before != nil && !q.inLog.Contains(before) {
		c.Before = nil
	}
	if after != nil && !q.inLog.Contains(after) {
		c.After = nil
	}
	return c, c.Before != nil || c.After != nil
}

func (s *sequencer) appendTransaction(ctx context.Context, changes []Change, ddl *DDL) error {
	info := TransactionInfo{Position: s.position, Changes: len(changes), Committed: s.committed}
	e := &Entry{Changes: changes, DDL: ddl, Position: s.position, Committed: s.committed}
	e.Done = func() {
		s.progress.applied(info.Position, info.Committed)
		if info.Changes > 0 {
			s.opts.Trace.transactionCommitted(info)
		}
	}
	s.unsaved = false
	s.progress.appended(s.position)
	return s.target.Append(ctx, e)
}

// flush puts the position into the log if it has moved without an entry.
func (s *sequencer) flush(ctx context.Context) error {
	if !s.unsaved {
		return nil
	}
	return s.appendTransaction(ctx, nil, nil)
}

// schemaChange handles a DDL on a table of the stream: open windows on it are worthless, and OnDDL says the rest.
func (s *sequencer) schemaChange(ctx context.Context, d *DDL) error {
	for _, name := range d.Tables {
		if q := s.names[name]; q != nil {
			for _, w := range q.windows {
				w.spoil(errSpoiled)
			}
		}
	}
	switch s.opts.OnDDL {
	case OnDDLIgnore:
		if d.ReplacesRows {
			return &SchemaChangedError{Table: strings.Join(d.Tables, ", "), What: fmt.Sprintf("rows were replaced by %.200q, which can't be ignored", d.Statement)}
		}
		return nil
	case OnDDLStop:
		return s.settle(ctx, nil, &StoppedAtDDLError{Statement: d.Statement})
	default:
		// The tables may look different from here on: the stream starts again with what they are now.
		return s.settle(ctx, d, &TransientError{Err: errReplan})
	}
}

// settle appends the position, with the DDL if there is one, and ends the stream with err once that is committed.
func (s *sequencer) settle(ctx context.Context, d *DDL, err error) error {
	done := make(chan struct{})
	e := &Entry{DDL: d, Position: s.position, Committed: s.committed, Done: func() { close(done) }}
	s.unsaved = false
	if aerr := s.target.Append(ctx, e); aerr != nil {
		return aerr
	}
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wake runs the waiters whose place has been reached.
func (s *sequencer) wake(ctx context.Context) error {
	for i := 0; i < len(s.waiters); {
		w := s.waiters[i]
		if s.end.Before(w.end) {
			i++
			continue
		}
		s.waiters = append(s.waiters[:i], s.waiters[i+1:]...)
		if err := w.run(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// await runs f when the log has been read up to end; call it inside do.
func (s *sequencer) await(ctx context.Context, end LogPos, f func(context.Context, error) error) error {
	switch {
	case s.end.Server != "" && s.end.Server != end.Server:
		return f(ctx, errServerChanged)
	case s.end.Server != "" && !s.end.Before(end):
		return f(ctx, nil)
	}
	s.waiters = append(s.waiters, waiter{end: end, run: f})
	return nil
}

// open opens a window; call it inside do.
func (s *sequencer) open(t *Table, span Span) *window {
	w := newWindow(t, span, s.opts.WindowBytes)
	q := s.tables[t]
	q.windows = append(q.windows, w)
	return w
}

// drop forgets a window; call it inside do.
func (s *sequencer) drop(w *window) {
	q := s.tables[w.table]
	for i := range q.windows {
		if q.windows[i] == w {
			q.windows = append(q.windows[:i], q.windows[i+1:]...)
			return
		}
	}
}

// place puts a chunk into the log here, where the window says what it holds; call it inside do, when the
// log has been read up to the end that was taken after the chunk was read.
func (s *sequencer) place(ctx context.Context, w *window, c *Chunk, done func()) error {
	s.drop(w)
	if err := w.integrate(c); err != nil {
		return err
	}
	// The durable position must not be before the chunk's place: what comes in between has been
	// worked into the chunk and must not be applied again.
	if err := s.flush(ctx); err != nil {
		return err
	}
	q := s.tables[c.Table]
	q.inLog.Add(c.Span)
	whole := q.inLog.Whole()
	s.progress.placed(c.Table, whole)
	info := ChunkInfo{Table: c.Table, Span: c.Span, Rows: len(c.Rows), Bytes: c.Bytes}
	return s.target.Append(ctx, &Entry{Chunk: c, Position: s.position, Done: func() {
		s.progress.copied(info)
		s.opts.Trace.chunkCommitted(info)
		done()
	}})
}
