package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
)

// ErrLockConflict is what a Store's errors wrap when the database undid a statement or a transaction because
// of another one's locks (deadlock, lock wait timeout). The scheduler tries the entry again.
var ErrLockConflict = errors.New("lock conflict")

// A Store is one target shard's database, as the scheduler needs it.
type Store interface {
	// Begin starts a transaction; several may be open at once.
	Begin(ctx context.Context) (Tx, error)
	// ExecuteDDL executes an entry's DDL and records its position; nothing else runs meanwhile.
	ExecuteDDL(ctx context.Context, e *replication.Entry) error
}

// A Tx is one transaction on a Store. It is used by one goroutine.
type Tx interface {
	// Apply executes the entry's changes in their order, or its chunk; it may be called again with more. Only if careful is
	// set an error must say which row is wrong.
	Apply(ctx context.Context, e *replication.Entry, careful bool) error
	// Commit records the entry (a chunk its span, anything else its position) and commits both together.
	Commit(ctx context.Context, e *replication.Entry) error
	// Ping is called now and then while the transaction waits: a database may take it for dead otherwise.
	Ping(ctx context.Context) error
	// Rollback undoes the transaction; it must work when the context has ended, and is called after
	// any error of Apply or Commit.
	Rollback(ctx context.Context)
}

// ErrUnexpected is what a Store's errors wrap when a statement for many rows did not do what it had to, and only
// executing them one by one can tell with which.
var ErrUnexpected = errors.New("statement did not do what it had to")

// errMakeWay says that a batch has to be rolled back for an earlier one.
var errMakeWay = errors.New("make way for an earlier transaction")

// keepAlive is how often a transaction that waits for its turn says that it is still there. The server ends those that say
// nothing for 30 s: their process hangs or is cut off, and the one that takes over would wait for their locks.
const keepAlive = 10 * time.Second

// SchedulerOptions bound a scheduler. The zero value is usable.
type SchedulerOptions struct {
	// Workers is how many transactions with the source's changes are executed at once, default 4; Loaders how many chunks,
	// default 4.
	Workers, Loaders int
	// MemoryBytes bounds the entries that are held; default 32 MiB. One entry larger than that is let in alone.
	MemoryBytes int
	// MergeBytes bounds the neighbouring source transactions that are committed as one when there is backlog; default
	// 1 MiB, negative for none. When executing that many takes longer than MergeTime, default 500 ms, fewer are.
	MergeBytes int
	MergeTime  time.Duration
	// LockTimeout ends the stream when one entry has met lock conflicts for so long; default 1 minute.
	LockTimeout time.Duration
}

func (o SchedulerOptions) withDefaults() SchedulerOptions {
	o.Workers = cmp.Or(o.Workers, 4)
	o.Loaders = cmp.Or(o.Loaders, 4)
	o.MemoryBytes = cmp.Or(o.MemoryBytes, 32<<20)
	o.MergeBytes = cmp.Or(o.MergeBytes, 1<<20)
	o.MergeTime = cmp.Or(o.MergeTime, 500*time.Millisecond)
	o.LockTimeout = cmp.Or(o.LockTimeout, time.Minute)
	return o
}

// A Scheduler executes the entries of a log on a Store: at once where their write sets allow it, with commits
// in log order. When there is backlog, neighbouring source transactions are merged: their changes are collapsed to one for
// each row and committed as one. A chunk may commit after its place, never before it. A scheduler runs once.
type Scheduler struct {
	store Store
	opts  SchedulerOptions

	mu struct {
		sync.Mutex
		graph graph
		held  int
		// merge is how many bytes are merged at present.
		merge int
		// changed is closed, and made anew, whenever something happened that a goroutine may wait for.
		changed chan struct{}
	}
}

// NewScheduler makes a scheduler; it starts nothing.
func NewScheduler(store Store, opts SchedulerOptions) *Scheduler {
	s := &Scheduler{store: store, opts: opts.withDefaults()}
	s.mu.graph = newGraph()
	s.mu.merge = s.opts.MergeBytes
	s.mu.changed = make(chan struct{})
	return s
}

// Append puts an entry at the end of the log. It blocks while the scheduler holds too many bytes.
func (s *Scheduler) Append(ctx context.Context, e *replication.Entry) error {
	t, err := newTask(e)
	if err != nil {
		return err
	}
	return s.when(ctx, func() bool {
		if s.mu.held > 0 && s.mu.held+t.bytes > s.opts.MemoryBytes {
			return false
		}
		s.mu.held += t.bytes
		s.mu.graph.add(t)
		s.signal()
		return true
	})
}

// Run executes what is appended, until the context ends or an entry fails for good.
func (s *Scheduler) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range s.opts.Workers {
		g.Go(func() error { return s.work(ctx, &s.mu.graph.sources) })
	}
	for range s.opts.Loaders {
		g.Go(func() error { return s.work(ctx, &s.mu.graph.loads) })
	}
	return g.Wait()
}

// when calls f with the lock held, now and after every change, until it is true.
func (s *Scheduler) when(ctx context.Context, f func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := f(), s.mu.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// signal wakes all that wait in when; call it with the lock held.
func (s *Scheduler) signal() {
	close(s.mu.changed)
	s.mu.changed = make(chan struct{})
}

// work executes what a lane holds, batch by batch.
func (s *Scheduler) work(ctx context.Context, l *lane) error {
	for {
		var b *batch
		err := s.when(ctx, func() bool {
			b = l.take(s.mu.merge)
			return b != nil
		})
		if err != nil {
			return err
		}
		if err := s.execute(ctx, b); err != nil {
			return err
		}
	}
}

// execute brings a batch to its commit, however often it has to begin again.
func (s *Scheduler) execute(ctx context.Context, b *batch) error {
	for {
		err := s.attempt(ctx, b)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errMakeWay):
		case errors.Is(err, ErrLockConflict):
			if b.conflicted.IsZero() {
				b.conflicted = time.Now()
			} else if time.Since(b.conflicted) > s.opts.LockTimeout {
				return fmt.Errorf("an entry met locks for %s: %w", s.opts.LockTimeout, err)
			}
			s.displace(b)
			if err := retry.Wait(ctx, time.Millisecond); err != nil {
				return err
			}
		case ctx.Err() != nil || replication.Transient(err):
			return err
		case len(b.tasks) > 1:
			return s.oneByOne(ctx, b)
		case errors.Is(err, ErrUnexpected) && !b.careful:
			b.careful = true
		default:
			return err
		}
	}
}

// oneByOne executes the tasks of a batch that failed by themselves, so that all before the bad one are committed.
func (s *Scheduler) oneByOne(ctx context.Context, b *batch) error {
	for _, t := range b.tasks {
		one := &batch{tasks: []*task{t}}
		s.mu.Lock()
		one.divide()
		s.mu.Unlock()
		if err := s.execute(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

// attempt executes a batch in one transaction and commits it in its turn.
func (s *Scheduler) attempt(ctx context.Context, b *batch) error {
	if err := s.when(ctx, b.ready); err != nil {
		return err
	}
	if d := b.first().entry; d.DDL != nil {
		if err := s.store.ExecuteDDL(ctx, d); err != nil {
			return err
		}
		s.finish(b)
		return nil
	}
	tx, err := s.store.Begin(ctx)
	if err != nil {
		return err
	}
	e, err := s.apply(ctx, tx, b)
	if err == nil {
		err = tx.Commit(ctx, e)
	}
	if err != nil {
		tx.Rollback(ctx)
		return err
	}
	s.finish(b)
	return nil
}

// apply executes a batch as far as its commit, for which the turn has come when it returns, and returns the entry to commit.
func (s *Scheduler) apply(ctx context.Context, tx Tx, b *batch) (*replication.Entry, error) {
	if err := s.applyPart(ctx, tx, b, b.early); err != nil {
		return nil, err
	}
	if len(b.late) > 0 {
		if err := s.until(ctx, tx, b, func() bool { return b.open == 0 }); err != nil {
			return nil, err
		}
		if err := s.applyPart(ctx, tx, b, b.late); err != nil {
			return nil, err
		}
	}
	err := s.until(ctx, tx, b, func() bool {
		b.committing = s.mu.graph.turn(b)
		return b.committing
	})
	return b.last().entry, err
}

func (s *Scheduler) applyPart(ctx context.Context, tx Tx, b *batch, part []*task) error {
	if len(part) == 0 {
		return nil
	}
	e, err := mergeTasks(part, b.careful)
	if err != nil {
		return err
	}
	begun := time.Now()
	err = tx.Apply(ctx, e, b.careful)
	if len(b.tasks) > 1 {
		s.adapt(time.Since(begun))
	}
	return err
}

// adapt makes batches smaller when one took too long, and larger again when they are quick.
func (s *Scheduler) adapt(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case took > s.opts.MergeTime:
		s.mu.merge = max(s.mu.merge/2, s.opts.MergeBytes/64)
	case took < s.opts.MergeTime/4:
		s.mu.merge = min(2*s.mu.merge, s.opts.MergeBytes)
	}
}

// until blocks until f is true, or the batch has to make way.
func (s *Scheduler) until(ctx context.Context, tx Tx, b *batch, f func() bool) error {
	for {
		told := false
		wait, cancel := context.WithTimeout(ctx, keepAlive)
		err := s.when(wait, func() bool {
			told = b.after != nil
			return told || f()
		})
		cancel()
		switch {
		case err == nil && told:
			return errMakeWay
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if err := tx.Ping(ctx); err != nil {
			return err
		}
	}
}

// finish takes the tasks of a committed batch out of the log.
func (s *Scheduler) finish(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range b.tasks {
		s.mu.graph.remove(t)
		s.mu.held -= t.bytes
		if t.entry.Done != nil {
			t.entry.Done()
		}
	}
	s.signal()
}

// displace makes later batches, of which one may hold the lock that b has met, roll back: the database cannot see that they
// wait for b.
func (s *Scheduler) displace(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.graph.displace(b)
	s.signal()
}
