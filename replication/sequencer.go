package replication

import (
	"context"
	"fmt"
	"slices"
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
	kin    *kinship
	// position and end are how far the log was read. unsaved is set while position is ahead of the last entry's.
	position  Position
	end       LogPos
	unsaved   bool
	committed time.Time
	waiters   []waiter
	// level is closed when the log has been read to where all of the target has applied the same (Checkpoint.Level).
	level chan struct{}
	ahead Position
	// spills are those of transactions that may not have committed yet.
	spills []*Spill
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

func newSequencer(dst Target, tables []*Table, kin *kinship, cp *Checkpoint, p *progress, opts Options) *sequencer {
	s := &sequencer{
		target: dst, opts: opts, progress: p, position: cp.Position, kin: kin,
		requests: make(chan func(context.Context) error), level: make(chan struct{}), ahead: cp.Level,
		tables: make(map[*Table]*sequence), names: make(map[string]*sequence),
	}
	for _, t := range tables {
		q := &sequence{table: t, inLog: NewSpanSet(t, cp.Copied[t.Name]...)}
		s.tables[t], s.names[t.Name] = q, q
	}
	for _, q := range s.tables {
		q.inLog.held = kin.self[q.table] && !q.inLog.Whole() || !s.ripe(q.table)
	}
	for t := range s.tables {
		s.release(t)
	}
	s.moved()
	return s
}

// moved takes note that position has moved.
func (s *sequencer) moved() {
	select {
	case <-s.level:
	default:
		if s.position.Covers(s.ahead) {
			close(s.level)
		}
	}
}

// close frees what an ended stream holds; nothing else runs any more.
func (s *sequencer) close() {
	for _, sp := range s.spills {
		_ = sp.Close() // nobody wants what is in it
	}
}

// run is the owning goroutine.
func (s *sequencer) run(ctx context.Context, transactions <-chan *Transaction) error {
	for {
		if !s.opts.Until.IsZero() && s.position.Covers(s.opts.Until) {
			return s.settle(ctx, &Entry{}, ErrReached)
		}
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
	if t.Spill != nil {
		s.spills = append(slices.DeleteFunc(s.spills, (*Spill).closed), t.Spill)
	}
	if err := s.advance(ctx, t.End); err != nil {
		return err
	}
	if t.GTID.IsZero() || s.position.Contains(t.GTID) {
		s.progress.heard(t.Committed)
		if t.Spill != nil {
			if err := t.Spill.Close(); err != nil {
				return err
			}
		}
		return s.wake(ctx)
	}
	s.position = s.position.Add(t.GTID)
	if !t.Prepared.IsZero() {
		s.position = s.position.Add(t.Prepared)
	}
	s.moved()
	s.unsaved, s.committed = true, t.Committed
	var err error
	if t.Spill != nil {
		err = s.takeSpill(ctx, t)
	} else {
		err = s.takeChanges(ctx, t)
	}
	if err != nil {
		return err
	}
	return s.wake(ctx)
}

func (s *sequencer) takeChanges(ctx context.Context, t *Transaction) error {
	changes, err := s.split(t.Changes)
	if err != nil {
		return err
	}
	s.progress.heard(t.Committed)
	switch {
	case t.DDL != nil && len(changes) > 0:
		return createdWithRows(t.DDL)
	case t.DDL != nil:
		return s.schemaChange(ctx, t)
	case len(changes) > 0:
		return s.appendEntry(ctx, &Entry{Changes: changes, gtid: t.GTID}, len(changes))
	}
	return nil
}

func (s *sequencer) takeSpill(ctx context.Context, t *Transaction) error {
	kept, of, err := s.splitSpill(ctx, t.Spill)
	if err != nil {
		return err
	}
	s.progress.heard(t.Committed)
	switch {
	case t.DDL != nil && kept > 0:
		return createdWithRows(t.DDL)
	case t.DDL != nil:
		return s.schemaChange(ctx, t)
	case kept > 0:
		return s.appendEntry(ctx, &Entry{Spill: t.Spill, part: of.part, gtid: t.GTID}, kept)
	}
	return t.Spill.Close()
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
		part, ok, err := s.note(&changes[i])
		if err != nil {
			return nil, err
		}
		if ok {
			kept = append(kept, part)
		}
	}
	return kept, nil
}

// note puts one change into the open windows and returns what of it belongs to the log now.
func (s *sequencer) note(c *Change) (Change, bool, error) {
	q := s.tables[c.Table]
	if q == nil {
		if s.names[c.Table.Name] == nil {
			return *c, false, nil
		}
		return *c, false, &SchemaChangedError{Table: c.Table.Name, What: "its definition changed while the stream ran"}
	}
	before, after, err := c.keys()
	if err != nil {
		return *c, false, err
	}
	for _, w := range q.windows {
		w.note(c, before, after)
	}
	if c.Cascade {
		if err := s.cascade(c); err != nil {
			return *c, false, err
		}
	}
	return q.inLog.part(*c, before, after)
}

// cascade spoils the open windows that a change concerns by way of foreign keys.
func (s *sequencer) cascade(c *Change) error {
	for _, r := range s.kin.children[c.Table] {
		value, acts, err := r.acts(c)
		if err != nil {
			return err
		}
		if !acts {
			continue
		}
		if r.child.Family == "" {
			return &CascadeError{Table: r.child.Name, ForeignKey: r.key.Name, What: "it has changed rows, and the log does not tell which, though this server would"}
		}
		for _, w := range s.tables[r.child].windows {
			w.cascade(r, value)
		}
		further, moves := r.deleted, r.moves && r.key.OnDelete == ActionSetNull
		if c.After != nil {
			further, moves = r.updated, r.moves
		}
		if err := s.stays(reach{r, moves}); err != nil {
			return err
		}
		for _, next := range further {
			if err := s.stays(next); err != nil {
				return err
			}
			for _, w := range s.tables[next.by.child].windows {
				w.spoil(errCascade)
			}
		}
	}
	return nil
}

// stays is an error if rows may have moved between what has been copied of a table and what has not.
func (s *sequencer) stays(to reach) error {
	if of := s.tables[to.by.child].inLog; !to.moves || of.held || of.Whole() {
		return nil
	}
	return &CascadeError{Table: to.by.child.Name, ForeignKey: to.by.key.Name, What: "it has changed the identifying key of rows while the table is partly copied"}
}

// ripe tells whether all tables that must be whole before t is begun are so.
func (s *sequencer) ripe(t *Table) bool {
	for _, p := range s.kin.parents[t] {
		if !s.tables[p].inLog.Whole() {
			return false
		}
	}
	return true
}

// begin lets a table into the log whose parents are whole on the target; call it inside do.
func (s *sequencer) begin(t *Table) {
	if !s.kin.self[t] {
		s.tables[t].inLog.held = false
		s.release(t)
	}
}

// release has the foreign keys of a table act from now on, if the table isn't held.
func (s *sequencer) release(t *Table) {
	if s.tables[t].inLog.held {
		return
	}
	for p, refs := range s.kin.children {
		for _, r := range refs {
			if r.child == t {
				s.tables[p].inLog.acting = append(s.tables[p].inLog.acting, r)
			}
		}
	}
}

// splitSpill is split for a transaction that is not in memory: it returns how many changes belong to the log, and
// which.
func (s *sequencer) splitSpill(ctx context.Context, sp *Spill) (int, copied, error) {
	kept := 0
	err := sp.Each(func(c Change) error {
		_, ok, err := s.note(&c)
		if ok {
			kept++
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		return err
	})
	of := make(copied, len(s.tables))
	for t, q := range s.tables {
		of[t] = q.inLog.clone()
	}
	return kept, of, err
}

// createdWithRows is the error of a CREATE TABLE .. SELECT.
func createdWithRows(d *DDL) error {
	return &SchemaChangedError{Table: strings.Join(d.Tables, ", "), What: fmt.Sprintf("it was created anew, with rows, by %.200q", d.Statement)}
}

// appendEntry puts a source transaction, or only the position, at the end of the target's log.
func (s *sequencer) appendEntry(ctx context.Context, e *Entry, changes int) error {
	info := TransactionInfo{Position: s.position, Changes: changes, Committed: s.committed}
	e.Position, e.Committed = s.position, s.committed
	e.Done = func() {
		if e.Spill != nil {
			_ = e.Spill.Close() // it was read to its end
		}
		s.progress.applied(info.Position, info.Committed)
		if info.Changes > 0 {
			s.opts.Trace.transactionCommitted(info)
		}
	}
	s.unsaved = false
	s.progress.appended(s.position, s.committed)
	return s.target.Append(ctx, e)
}

// flush puts the position into the log if it has moved without an entry.
func (s *sequencer) flush(ctx context.Context) error {
	if !s.unsaved {
		return nil
	}
	return s.appendEntry(ctx, &Entry{}, 0)
}

// schemaChange handles a DDL on a table of the stream: open windows on it are worthless, and OnDDL says the rest.
func (s *sequencer) schemaChange(ctx context.Context, t *Transaction) error {
	d := t.DDL
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
		if d.ForeignKeys {
			return &SchemaChangedError{Table: strings.Join(d.Tables, ", "), What: fmt.Sprintf(
				"foreign keys, of which the log does not tell what they do, were changed by %.200q, which can't be ignored", d.Statement)}
		}
		if d.Differs == "" {
			return nil
		}
		// What follows can't be read by the definitions that what came before it was read by: a restart must find the position after it.
		return s.settle(ctx, &Entry{}, s.unreadable(d))
	case OnDDLStop:
		return s.settle(ctx, &Entry{}, &StoppedAtDDLError{Statement: d.Statement})
	default:
		// The tables may look different from here on: the stream starts again with what they are now.
		return s.settle(ctx, &Entry{DDL: d, gtid: t.GTID}, &TransientError{Err: errReplan})
	}
}

// unreadable is the error of a schema change of tables whose rows are still to be copied; nil if there are none. Rows that
// change are an error of their own.
func (s *sequencer) unreadable(d *DDL) error {
	for _, name := range d.Tables {
		if q := s.names[name]; q != nil && !s.progress.committed([]*Table{q.table}) {
			return &SchemaChangedError{Table: name, What: d.Differs + ", while its rows are copied"}
		}
	}
	return nil
}

// settle appends an entry at the present position, and ends the stream with err once that is committed.
func (s *sequencer) settle(ctx context.Context, e *Entry, err error) error {
	done := make(chan struct{})
	e.Position, e.Committed, e.Done = s.position, s.committed, func() { close(done) }
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
	w.drops = s.kin.self[t]
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
// log has been read up to the end that was taken after the chunk was read. The last chunk of a table that was missing makes it
// whole.
func (s *sequencer) place(ctx context.Context, w *window, c *Chunk, last bool, done func()) error {
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
	if q.inLog.held {
		q.inLog.held = false
		s.release(c.Table)
	}
	s.progress.placed(c.Table, last)
	info := ChunkInfo{Table: c.Table, Span: c.Span, Rows: len(c.Rows), Bytes: c.Bytes}
	return s.target.Append(ctx, &Entry{Chunk: c, Position: s.position, whole: last, Done: func() {
		s.progress.copied(info)
		s.opts.Trace.chunkCommitted(info)
		done()
	}})
}
