package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

var errReplan = errors.New("a schema change was applied: the stream starts again")

// OnDDL says what happens when the source's log holds a schema change of a table of the stream.
type OnDDL int

const (
	// OnDDLIgnore goes on without it; rows that no longer fit stop the stream with a SchemaChangedError, and so does
	// a statement that itself removes rows, such as TRUNCATE, or changes foreign keys where the log does not tell what they do, or
	// changes what rows are of a table that is being copied.
	OnDDLIgnore OnDDL = iota
	// OnDDLStop ends the stream right after it with a StoppedAtDDLError.
	OnDDLStop
	// OnDDLExec executes it on the target at its place in the log.
	OnDDLExec
	// OnDDLExecIgnore is OnDDLExec, but an error of the statement does not stop the stream.
	OnDDLExecIgnore
)

// Options of a stream. The zero value is right for most.
type Options struct {
	// Readers is how many chunks are read at once; default 4.
	Readers int
	// ChunkBytes is the size that chunks grow to while reading and writing one is quick, about half a second; default
	// 4 MiB. They shrink when it takes more than a second. ChunkRows bounds a chunk's rows; default 100,000.
	ChunkBytes, ChunkRows int
	// CopyBytes bounds the memory of all chunks between their read and their commit; default 24 MiB.
	CopyBytes int
	// WindowBytes bounds the memory of one chunk's window; a chunk that needs more is read again in smaller
	// pieces. Default 16 MiB.
	WindowBytes int
	// StopAfterCopy ends the stream with ErrCopied when everything is copied.
	StopAfterCopy bool
	// Until, unless it is zero, ends the stream with ErrReached when the target, or each part of it, has applied the log up to
	// there; nothing is copied meanwhile. It brings the shards of a Fanout to one state of the source: to their Checkpoint.Level.
	Until Position
	// OnDDL says what to do about schema changes; default OnDDLIgnore.
	OnDDL OnDDL
	// ReportInterval is how often progress is saved on the target; default 1 s.
	ReportInterval time.Duration
	// Logger receives one line per state change; nil discards.
	Logger *slog.Logger
	// Trace holds hooks.
	Trace Trace
}

func (o Options) withDefaults() Options {
	o.Readers = cmp.Or(o.Readers, 4)
	o.ChunkBytes = cmp.Or(o.ChunkBytes, 4<<20)
	o.ChunkRows = cmp.Or(o.ChunkRows, 100_000)
	o.CopyBytes = max(cmp.Or(o.CopyBytes, 24<<20), o.ChunkBytes)
	o.WindowBytes = cmp.Or(o.WindowBytes, 16<<20)
	o.ReportInterval = cmp.Or(o.ReportInterval, time.Second)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

// A Stream copies tables from a source to a target and keeps them in step. Make it with NewStream.
type Stream struct {
	source  Source
	target  Target
	tables  []*Table
	opts    Options
	current atomic.Pointer[progress]
}

// NewStream makes a stream of the tables; it does no I/O.
func NewStream(src Source, dst Target, tables []*Table, opts Options) *Stream {
	return &Stream{source: src, target: dst, tables: tables, opts: opts.withDefaults()}
}

// Progress tells how far the stream is; it may be called at any time. It is zero before Run has loaded the checkpoint.
func (s *Stream) Progress() Progress {
	p := s.current.Load()
	if p == nil {
		return Progress{Copying: true}
	}
	return p.snapshot()
}

// Run copies and streams until the context ends or an error does, going on from what the target holds. It
// returns the context's cause, ErrCopied (with StopAfterCopy), a *StoppedAtDDLError (with OnDDLStop), or the
// error that stopped it. After an error for which Transient holds, Run may be called again: a
// restart is a start.
func (s *Stream) Run(ctx context.Context) error {
	kin, bad := newKinship(s.tables)
	if len(bad) > 0 {
		return bad[0]
	}
	cp, err := s.load(ctx)
	if err != nil {
		return err
	}
	if err := kin.resume(s.tables, cp); err != nil {
		return err
	}
	p := newProgress(s.tables, cp)
	s.current.Store(p)
	g, ctx := errgroup.WithContext(ctx)
	seq := newSequencer(s.target, s.tables, kin, cp, p, s.opts)
	transactions := make(chan *Transaction)
	g.Go(func() error { return s.target.Run(ctx) })
	g.Go(func() error { return s.read(ctx, seq, cp.Position, transactions) })
	g.Go(func() error { return s.check(ctx, cp) })
	g.Go(func() error { return seq.run(ctx, transactions) })
	if s.opts.Until.IsZero() {
		g.Go(func() error { return newCopier(s, seq, cp).run(ctx, p.whole) })
	}
	g.Go(func() error { return s.finish(ctx, seq, p) })
	g.Go(func() error { return s.report(ctx, seq, p) })
	defer seq.close()
	return g.Wait()
}

// load reads the target's checkpoint; a stream that has never run begins at the source's position of now.
func (s *Stream) load(ctx context.Context) (*Checkpoint, error) {
	cp, err := s.target.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the checkpoint: %w", err)
	}
	if !cp.Position.IsZero() {
		return cp, nil
	}
	_, now, err := s.source.End(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the source's position: %w", err)
	}
	if err := s.target.Start(ctx, now); err != nil {
		return nil, fmt.Errorf("record the start: %w", err)
	}
	cp.Position = now
	return cp, nil
}

// read hands the source's transactions to the sequencer, and an error after all that came before it.
func (s *Stream) read(ctx context.Context, seq *sequencer, from Position, out chan<- *Transaction) error {
	for t, err := range s.source.Transactions(ctx, from) {
		if err != nil {
			return seq.do(ctx, func(context.Context) error { return fmt.Errorf("read the source's log: %w", err) })
		}
		select {
		case out <- t:
		case <-ctx.Done():
			if t.Spill != nil {
				_ = t.Spill.Close() // nobody takes it
			}
			return context.Cause(ctx)
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return errors.New("the source's log ended")
}

// check makes sure that the source has what the parts of the target have that are ahead of where the log is read from.
func (s *Stream) check(ctx context.Context, cp *Checkpoint) error {
	if cp.Position.Covers(cp.Level) {
		return nil
	}
	for t, err := range s.source.Transactions(ctx, cp.Level) {
		if err != nil {
			return fmt.Errorf("look for %s in the source's log: %w", cp.Level, err)
		}
		if t.Spill != nil {
			_ = t.Spill.Close() // it is read a second time
		}
		break
	}
	return nil
}

// tablesAtOnce is how many copied tables are finished at once: most of the time of many small ones are waits.
const tablesAtOnce = 4

// finish completes tables whose rows are copied, and ends the stream after the last one if that is wanted.
func (s *Stream) finish(ctx context.Context, seq *sequencer, p *progress) error {
	if err := s.finishTables(ctx, p); err != nil || !s.opts.StopAfterCopy {
		return err
	}
	return seq.do(ctx, func(ctx context.Context) error { return seq.settle(ctx, &Entry{}, ErrCopied) })
}

func (s *Stream) finishTables(ctx context.Context, p *progress) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(tablesAtOnce)
	for {
		select {
		case <-gctx.Done():
			return cmp.Or(g.Wait(), context.Cause(ctx))
		case <-p.finished:
			return g.Wait()
		case t := <-p.finish:
			g.Go(func() error {
				if err := s.target.FinishTable(gctx, t); err != nil {
					return &FinishError{Table: t.Name, Err: err}
				}
				s.opts.Logger.Info("table copied", "table", t.Name)
				p.tableFinished(t)
				s.opts.Trace.tableFinished(t)
				return nil
			})
		}
	}
}

// report saves progress and puts idle positions into the log, once in an interval.
func (s *Stream) report(ctx context.Context, seq *sequencer, p *progress) error {
	tick := time.NewTicker(s.opts.ReportInterval)
	defer tick.Stop()
	for {
		if err := s.target.Report(ctx, p.snapshot()); err != nil {
			return fmt.Errorf("save progress: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if err := seq.do(ctx, seq.flush); err != nil {
			return err
		}
	}
}
