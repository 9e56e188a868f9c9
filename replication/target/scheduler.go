package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
)

// ErrLockConflict is in errors of [Tx] that mean: somebody else held a lock too long, or there was a
// deadlock. The transaction is to be rolled back and may be tried again.
var ErrLockConflict = errors.New("row lock conflict")

// maxConflicts is how often in a row an entry is tried against lock conflicts before Run gives up.
const maxConflicts = 20

// A Store is the database that a [Scheduler] writes to.
type Store interface {
	// Begin starts a transaction. Transactions run at once, each on a connection of its own.
	Begin(ctx context.Context) (Tx, error)
	// ExecuteDDL executes an entry that is a schema change, and records its position. No transaction is
	// open meanwhile.
	ExecuteDDL(ctx context.Context, e *replication.Entry) error
}

// A Tx is one transaction of a [Store]. Its methods are called by one goroutine.
type Tx interface {
	// Apply executes the entry's changes or inserts its chunk.
	Apply(ctx context.Context, e *replication.Entry) error
	// Commit records the entry's position, or the chunk's span, and commits both with the data. An error that is
	// an ErrLockConflict says for certain that nothing was committed.
	Commit(ctx context.Context, e *replication.Entry) error
	// Rollback gives the transaction up, and its locks, before it returns. It follows every error, and
	// may be called after ctx has ended.
	Rollback(ctx context.Context)
}

// SchedulerOptions bound a [Scheduler]. The zero value is right for most.
type SchedulerOptions struct {
	// Workers is how many source transactions are executed at once; default 1.
	Workers int
	// Loaders is how many chunks are loaded at once; default 4.
	Loaders int
	// MemoryBytes bounds the entries between Append and their commit; default 64 MiB. A larger entry is
	// let in when there is no other.
	MemoryBytes int
}

func (o SchedulerOptions) withDefaults() SchedulerOptions {
	o.Workers = cmp.Or(max(o.Workers, 0), 1)
	o.Loaders = cmp.Or(max(o.Loaders, 0), 4)
	o.MemoryBytes = cmp.Or(max(o.MemoryBytes, 0), 64<<20)
	return o
}

// A Scheduler executes the entries of a log at once, and commits them in order: transactions one
// after the other, a chunk at any time after the transactions that were appended before it. An entry waits
// with its execution for unfinished earlier ones that it conflicts with. Use one for one Run.
type Scheduler struct {
	store Store
	opts  SchedulerOptions
	// room gets a token when entries have left.
	room chan struct{}

	mu struct {
		sync.Mutex
		// start starts a goroutine of Run; nil before and after Run.
		start func(*node)
		// ended is set when Run has returned.
		ended error
		bytes int
		next  uint64
		// appended and committed count transactions.
		appended, committed uint64
		// txns and chunks are the unfinished entries, in log order.
		txns, chunks []*node
		// barriers are the unfinished schema changes.
		barriers []*node
		// urgent are entries that met a lock conflict: later ones don't start before they are executed.
		urgent    []*node
		conflicts conflicts
	}
}

// NewScheduler makes a scheduler; it starts nothing.
func NewScheduler(store Store, opts SchedulerOptions) *Scheduler {
	s := &Scheduler{store: store, opts: opts.withDefaults(), room: make(chan struct{}, 1)}
	s.mu.conflicts = newConflicts()
	return s
}

// Append puts an entry at the end of the log; see [replication.Target].
func (s *Scheduler) Append(ctx context.Context, e *replication.Entry) error {
	n := &node{entry: e, bytes: e.Bytes(), signal: make(chan struct{}, 1)}
	if err := n.hash(); err != nil {
		return err
	}
	for {
		done, err := s.add(n)
		if done || err != nil {
			return err
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// add adds n unless there is no room for it.
func (s *Scheduler) add(n *node) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ended != nil {
		return false, fmt.Errorf("the target has stopped: %w", s.mu.ended)
	}
	if s.mu.bytes > 0 && s.mu.bytes+n.bytes > s.opts.MemoryBytes {
		return false, nil
	}
	s.mu.bytes += n.bytes
	n.seq = s.mu.next
	s.mu.next++
	n.turn = s.mu.appended
	s.mu.conflicts.add(n)
	switch {
	case n.entry.Chunk != nil:
		s.mu.chunks = append(s.mu.chunks, n)
	default:
		s.mu.appended++
		s.mu.txns = append(s.mu.txns, n)
		if n.entry.DDL != nil {
			s.mu.barriers = append(s.mu.barriers, n)
		}
	}
	s.dispatch()
	return true, nil
}

// Run executes what was and will be appended until ctx ends, and returns its cause, or until an entry can't be
// executed. When it has returned, nothing runs any more and nothing more is committed.
func (s *Scheduler) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-gctx.Done()
		return context.Cause(gctx)
	})
	s.mu.Lock()
	s.mu.start = func(n *node) { g.Go(func() error { return s.execute(gctx, n) }) }
	s.dispatch()
	s.mu.Unlock()
	err := g.Wait()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.start, s.mu.ended = nil, err
	s.wakeAppend()
	return err
}

// dispatch starts every entry that may run. Of the transactions that is one of the first Workers, of the
// chunks one of the first Loaders: so the earliest unfinished entry, the one that all others may have
// to wait for, always has a place. The scheduler is locked.
func (s *Scheduler) dispatch() {
	if s.mu.start == nil {
		return
	}
	for _, window := range [2][]*node{
		s.mu.txns[:min(s.opts.Workers, len(s.mu.txns))],
		s.mu.chunks[:min(s.opts.Loaders, len(s.mu.chunks))],
	} {
		for _, n := range window {
			if n.state == pending && s.runnable(n) {
				n.state = executing
				n.preempted = false
				n.idle = make(chan struct{})
				s.mu.start(n)
			}
		}
	}
}

func (s *Scheduler) runnable(n *node) bool {
	if n.waits > 0 {
		return false
	}
	if n.entry.DDL != nil {
		return s.mu.txns[0] == n && (len(s.mu.chunks) == 0 || s.mu.chunks[0].seq > n.seq)
	}
	if len(s.mu.barriers) > 0 && s.mu.barriers[0].seq < n.seq {
		return false
	}
	for _, u := range s.mu.urgent {
		if u.seq < n.seq {
			return false
		}
	}
	return true
}

// execute runs an entry until it is committed, or rolled back for the sake of an earlier one.
func (s *Scheduler) execute(ctx context.Context, n *node) error {
	defer close(n.idle)
	if n.entry.DDL != nil {
		if err := s.store.ExecuteDDL(ctx, n.entry); err != nil {
			return err
		}
		s.finish(n)
		return nil
	}
	backoff := retry.Backoff{}
	for attempt := 1; ; attempt++ {
		out, err := s.try(ctx, n)
		switch {
		case err == nil && out == committed:
			s.finish(n)
			return nil
		case err == nil:
			s.park(n)
			return nil
		case ctx.Err() != nil || !errors.Is(err, ErrLockConflict):
			return err
		case attempt == maxConflicts:
			return fmt.Errorf("entry still blocked after %d attempts: %w", attempt, err)
		}
		if err := s.preempt(ctx, n); err != nil {
			return err
		}
		// Those that were in the way are gone, if they were ours; after a second conflict somebody else is.
		if attempt > 1 {
			if err := retry.Wait(ctx, backoff.Next()); err != nil {
				return err
			}
		}
	}
}

// outcome is how one try of an entry ended without an error.
type outcome uint8

const (
	committed outcome = iota
	rolledBack
)

// try executes an entry once, waits for its turn, and commits it. It gives way when preempted.
func (s *Scheduler) try(ctx context.Context, n *node) (outcome, error) {
	if s.yields(n) {
		return rolledBack, nil
	}
	tx, err := s.store.Begin(ctx)
	if err != nil {
		return rolledBack, err
	}
	if err := tx.Apply(ctx, n.entry); err != nil {
		tx.Rollback(ctx)
		return rolledBack, err
	}
	s.executed(n)
	for {
		switch s.look(n) {
		case committing:
			if err := tx.Commit(ctx, n.entry); err != nil {
				tx.Rollback(ctx)
				s.mu.Lock()
				n.state = executing
				s.mu.Unlock()
				return rolledBack, err
			}
			return committed, nil
		case pending:
			tx.Rollback(ctx)
			return rolledBack, nil
		}
		select {
		case <-n.signal:
		case <-ctx.Done():
			tx.Rollback(ctx)
			return rolledBack, context.Cause(ctx)
		}
	}
}

func (s *Scheduler) yields(n *node) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return n.preempted
}

// executed notes that an entry only waits for its turn; later ones may start if they waited for that.
func (s *Scheduler) executed(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.state = executed
	if i := slices.Index(s.mu.urgent, n); i >= 0 {
		s.mu.urgent = slices.Delete(s.mu.urgent, i, i+1)
		s.dispatch()
	}
}

// look tells what an executed entry does next: commit (its state is committing then), give way (pending), or
// wait (executed).
func (s *Scheduler) look(n *node) state {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case n.preempted:
		return pending
	case n.entry.Chunk != nil && n.turn <= s.mu.committed, n.turn == s.mu.committed:
		n.state = committing
	}
	return n.state
}

// park puts a preempted entry back in line.
func (s *Scheduler) park(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.state = pending
	s.dispatch()
}

// preempt makes all later entries that hold locks roll back, keeps them from starting before n is executed, and
// waits until they have. An earlier entry may be waiting for them, which nobody but the scheduler knows.
func (s *Scheduler) preempt(ctx context.Context, n *node) error {
	var wait []chan struct{}
	s.mu.Lock()
	if !slices.Contains(s.mu.urgent, n) {
		s.mu.urgent = append(s.mu.urgent, n)
	}
	for _, list := range [2][]*node{s.mu.txns, s.mu.chunks} {
		for _, m := range list {
			if m.seq > n.seq && (m.state == executing || m.state == executed) {
				m.preempted = true
				m.wake()
				wait = append(wait, m.idle)
			}
		}
	}
	s.mu.Unlock()
	for _, idle := range wait {
		select {
		case <-idle:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// finish takes a committed entry out, and starts and wakes those that waited for it.
func (s *Scheduler) finish(n *node) {
	if n.entry.Done != nil {
		n.entry.Done()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.state = finished
	s.mu.bytes -= n.bytes
	s.mu.conflicts.remove(n)
	if n.entry.Chunk != nil {
		i := slices.Index(s.mu.chunks, n)
		s.mu.chunks = slices.Delete(s.mu.chunks, i, i+1)
	} else {
		s.mu.txns[0] = nil
		s.mu.txns = s.mu.txns[1:]
		s.mu.committed++
		if n.entry.DDL != nil {
			s.mu.barriers = slices.Delete(s.mu.barriers, 0, 1)
		}
		if len(s.mu.txns) > 0 {
			s.mu.txns[0].wake()
		}
		for _, m := range s.mu.chunks {
			m.wake()
		}
	}
	s.dispatch()
	s.wakeAppend()
}

func (s *Scheduler) wakeAppend() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}
