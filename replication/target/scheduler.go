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
	// Apply executes the entry's changes or its chunk.
	Apply(ctx context.Context, e *replication.Entry) error
	// Commit records the entry (a chunk its span, anything else its position) and commits both together.
	Commit(ctx context.Context, e *replication.Entry) error
	// Rollback undoes the transaction; it must work when the context has ended, and is called after
	// any error of Apply or Commit.
	Rollback(ctx context.Context)
}

// SchedulerOptions bound a scheduler. The zero value is usable.
type SchedulerOptions struct {
	// Workers is how many source transactions are executed at once, default 1; Loaders how many chunks, default 4.
	Workers, Loaders int
	// MemoryBytes bounds the entries that are held; default 64 MiB. One entry larger than that is let in alone.
	MemoryBytes int
	// MergeBytes bounds the neighbouring source transactions that are committed as one when there is backlog; default
	// 1 MiB, negative for none.
	MergeBytes int
	// LockTimeout ends the stream when one entry has met lock conflicts for so long; default 1 minute.
	LockTimeout time.Duration
}

func (o SchedulerOptions) withDefaults() SchedulerOptions {
	o.Workers = cmp.Or(o.Workers, 1)
	o.Loaders = cmp.Or(o.Loaders, 4)
	o.MemoryBytes = cmp.Or(o.MemoryBytes, 64<<20)
	o.MergeBytes = cmp.Or(o.MergeBytes, 1<<20)
	o.LockTimeout = cmp.Or(o.LockTimeout, time.Minute)
	return o
}

// A Scheduler executes the entries of a log on a Store: at once where their write sets allow it, with commits
// in log order. When there is backlog, neighbouring source transactions are committed as one. A chunk may commit after its place, never before it. A scheduler runs once.
type Scheduler struct {
	store Store
	opts  SchedulerOptions

	mu struct {
		sync.Mutex
		graph graph
		held  int
		// single is set after an error: entries are executed one by one, so that all before the bad one are committed.
		single bool
		// changed is closed, and made anew, whenever something happened that a goroutine may wait for.
		changed chan struct{}
	}
}

// NewScheduler makes a scheduler; it starts nothing.
func NewScheduler(store Store, opts SchedulerOptions) *Scheduler {
	s := &Scheduler{store: store, opts: opts.withDefaults()}
	s.mu.graph = newGraph()
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

// work executes the tasks of a lane, one after another.
func (s *Scheduler) work(ctx context.Context, l *lane) error {
	for {
		var t *task
		s.mu.Lock()
		l.idle++
		s.mu.Unlock()
		err := s.when(ctx, func() bool {
			if t = l.ready(); t == nil {
				return false
			}
			t.state = running
			if !s.mu.single {
				l.join(t, s.opts.MergeBytes)
			}
			l.idle--
			return true
		})
		if err != nil {
			return err
		}
		if err := s.execute(ctx, t); err != nil {
			return err
		}
	}
}

// execute brings a task to its commit, or back to waiting when it had to make way for an earlier one.
func (s *Scheduler) execute(ctx context.Context, t *task) error {
	if t.entry.DDL != nil {
		if err := s.store.ExecuteDDL(ctx, t.entry); err != nil {
			return err
		}
		s.finish(t)
		return nil
	}
	err := s.attempt(ctx, t)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, ErrLockConflict):
		if len(t.joined) == 0 || ctx.Err() != nil || replication.Transient(err) {
			return err
		}
		s.again(t, func() { s.mu.single = true })
		return nil
	}
	if t.conflicted.IsZero() {
		t.conflicted = time.Now()
	} else if time.Since(t.conflicted) > s.opts.LockTimeout {
		return fmt.Errorf("an entry met locks for %s: %w", s.opts.LockTimeout, err)
	}
	s.makeWay(t)
	return retry.Wait(ctx, time.Millisecond)
}

// attempt executes a task in one transaction and commits it in its turn. It returns nil as well when the
// task was told to roll back for an earlier one.
func (s *Scheduler) attempt(ctx context.Context, t *task) error {
	tx, err := s.store.Begin(ctx)
	if err != nil {
		return err
	}
	e := t.merged()
	if err := tx.Apply(ctx, e); err != nil {
		tx.Rollback(ctx)
		return err
	}
	var told bool
	err = s.when(ctx, func() bool {
		if t.state == running {
			t.state = executed
			s.signal()
		}
		s.mu.graph.yield(t)
		told = t.state == displaced
		if !told && s.mu.graph.turn(t) {
			t.state = committing
		}
		return told || t.state == committing
	})
	if err != nil || told {
		tx.Rollback(ctx)
		if told {
			s.again(t, func() {})
		}
		return err
	}
	if err := tx.Commit(ctx, e); err != nil {
		tx.Rollback(ctx)
		return err
	}
	s.finish(t)
	return nil
}

// finish takes a committed task, and those that joined it, out of the log.
func (s *Scheduler) finish(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range append([]*task{t}, t.joined...) {
		s.mu.graph.remove(o)
		s.mu.held -= o.bytes
		if o.entry.Done != nil {
			o.entry.Done()
		}
	}
	s.signal()
}

// makeWay puts a task that met locks back, and makes later ones that have executed and only wait for their
// turn roll back: the database cannot see that they wait for this one.
func (s *Scheduler) makeWay(t *task) {
	s.again(t, func() { s.mu.graph.displace(t) })
}

// again puts a task that was rolled back in line, and does what belongs to it.
func (s *Scheduler) again(t *task, with func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.rewind()
	with()
	s.signal()
}
