package replication_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/target"
)

// modelTarget is a Target whose scheduler is the real one, over a simulated database that checks after
// every commit that it holds exactly what the source held at the recorded position.
type modelTarget struct {
	*world
	*target.Scheduler
	workers int
	tables  []*replication.Table
	// The mutations: the position is saved by itself, after the data; positions without changes are not recorded;
	// a chunk goes before the transaction that it should follow.
	splitPosition, lazyPosition, earlyChunk bool
	// waiting is the transaction that earlyChunk keeps back.
	waiting *replication.Entry

	db struct {
		sync.Mutex
		content  content
		started  bool
		position int
		copied   map[string][]replication.Span
		finished map[string]bool
		locks    map[string]*modelTx
		// violation is the first breach of an invariant.
		violation error
		commits   int
	}
}

func newModelTarget(w *world, tables []*replication.Table, workers int) *modelTarget {
	m := &modelTarget{world: w, workers: workers, tables: tables}
	m.db.content = newContent()
	m.db.copied = make(map[string][]replication.Span)
	m.db.finished = make(map[string]bool)
	return m
}

func (m *modelTarget) Load(context.Context) (*replication.Checkpoint, error) {
	m.waiting = nil
	m.Scheduler = target.NewScheduler(m, target.SchedulerOptions{Workers: m.workers, Loaders: 3, MemoryBytes: 8 << 10})
	m.db.Lock()
	defer m.db.Unlock()
	m.db.locks = make(map[string]*modelTx)
	cp := &replication.Checkpoint{Copied: make(map[string][]replication.Span), Finished: maps.Clone(m.db.finished)}
	for t, spans := range m.db.copied {
		cp.Copied[t] = slices.Clone(spans)
	}
	if m.db.started {
		for i := range m.db.position {
			cp.Position = cp.Position.Add(gtid(i))
		}
	}
	return cp, nil
}

func (m *modelTarget) Append(ctx context.Context, e *replication.Entry) error {
	switch {
	case m.lazyPosition && len(e.Changes) == 0 && e.Chunk == nil:
		e.Done()
		return nil
	case m.earlyChunk && e.Chunk == nil && m.waiting == nil:
		m.waiting = e
		return nil
	case m.earlyChunk && m.waiting != nil:
		first, second := e, m.waiting
		if e.Chunk == nil {
			first, second = second, first
		}
		m.waiting = nil
		if err := m.Scheduler.Append(ctx, first); err != nil {
			return err
		}
		e = second
	}
	return m.Scheduler.Append(ctx, e)
}

func (m *modelTarget) Start(_ context.Context, p replication.Position) error {
	m.db.Lock()
	defer m.db.Unlock()
	m.db.started, m.db.position = true, transactionsOf(p)
	return nil
}

func (m *modelTarget) FinishTable(ctx context.Context, t *replication.Table) error {
	m.db.Lock()
	defer m.db.Unlock()
	m.db.finished[t.Name] = true
	return nil
}

func (m *modelTarget) Report(context.Context, replication.Progress) error { return nil }

func (m *modelTarget) ExecuteDDL(context.Context, *replication.Entry) error {
	return fmt.Errorf("the model has no DDL")
}

func (m *modelTarget) Begin(ctx context.Context) (target.Tx, error) {
	return &modelTx{m: m, rows: newContent(), held: map[string]bool{}}, m.pause(ctx, time.Millisecond)
}

// modelTx is a transaction: its rows lie over the committed ones; a nil row is a deleted one.
type modelTx struct {
	m    *modelTarget
	rows content
	held map[string]bool
}

func (x *modelTx) Apply(ctx context.Context, e *replication.Entry) error {
	changes := e.Changes
	if e.Chunk != nil {
		for _, r := range e.Chunk.Rows {
			changes = append(changes, replication.Change{Table: e.Chunk.Table, After: r, Loose: !e.Chunk.Table.Ordered})
		}
	}
	for _, c := range changes {
		for _, r := range []replication.Row{c.Before, c.After} {
			if r == nil {
				continue
			}
			locks := []string{c.Table.Name + "/" + identity(c.Table, r)}
			if u := uniqueValue(c.Table, r); u != "" {
				locks = append(locks, c.Table.Name+"/unique/"+u)
			}
			for _, l := range locks {
				if err := x.lock(ctx, l); err != nil {
					return err
				}
			}
		}
		if err := x.change(c); err != nil {
			return err
		}
	}
	return nil
}

// lock waits for a row lock a few milliseconds.
func (x *modelTx) lock(ctx context.Context, name string) error {
	for range 4 {
		x.m.db.Lock()
		owner := x.m.db.locks[name]
		if owner == nil || owner == x {
			x.m.db.locks[name], x.held[name] = x, true
			x.m.db.Unlock()
			return nil
		}
		x.m.db.Unlock()
		if err := x.m.pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return target.ErrLockConflict
}

// see is a row as the transaction sees it.
func (x *modelTx) see(table, key string) replication.Row {
	if r, ok := x.rows[table][key]; ok {
		return r
	}
	return x.m.db.content[table][key]
}

func (x *modelTx) change(c replication.Change) error {
	x.m.db.Lock()
	defer x.m.db.Unlock()
	name := c.Table.Name
	if c.Before != nil {
		k := identity(c.Table, c.Before)
		if found := x.see(name, k); !c.Loose && string(found) != string(c.Before) {
			return x.m.violated("%s: a change finds %q in place of %q", name, found, c.Before)
		}
		x.rows[name][k] = nil
	}
	if c.After == nil {
		return nil
	}
	k := identity(c.Table, c.After)
	if found := x.see(name, k); found != nil && !c.Loose {
		return x.m.violated("%s: %q is there already as %q", name, c.After, found)
	}
	if u := uniqueValue(c.Table, c.After); u != "" {
		for other := range x.m.db.content[name] {
			if r := x.see(name, other); r != nil && uniqueValue(c.Table, r) == u && other != k {
				return x.m.violated("%s: unique value %s of %q is taken by %q", name, u, c.After, r)
			}
		}
	}
	x.rows[name][k] = c.After
	return nil
}

func (x *modelTx) Commit(ctx context.Context, e *replication.Entry) error {
	if err := x.m.pause(ctx, 2*time.Millisecond); err != nil && x.m.dice(2) == 0 {
		return err // killed before the commit; otherwise after it
	}
	x.m.db.Lock()
	defer x.m.db.Unlock()
	for name, rows := range x.rows {
		for k, r := range rows {
			if r == nil {
				delete(x.m.db.content[name], k)
			} else {
				x.m.db.content[name][k] = r
			}
		}
	}
	x.unlock()
	switch {
	case e.Chunk != nil:
		x.m.db.copied[e.Chunk.Table.Name] = append(x.m.db.copied[e.Chunk.Table.Name], e.Chunk.Span)
	case x.m.splitPosition && ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		x.m.db.position = transactionsOf(e.Position)
	}
	x.m.db.commits++
	if err := x.m.check(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

func (x *modelTx) Rollback(context.Context) {
	x.m.db.Lock()
	defer x.m.db.Unlock()
	x.unlock()
}

func (x *modelTx) unlock() {
	for l := range x.held {
		if x.m.db.locks[l] == x {
			delete(x.m.db.locks, l)
		}
	}
	x.held = map[string]bool{}
}

// violated records the first breach; the database is locked.
func (m *modelTarget) violated(format string, args ...any) error {
	err := fmt.Errorf("at position %d: "+format, append([]any{m.db.position}, args...)...)
	if m.db.violation == nil {
		m.db.violation = err
	}
	return err
}

// check compares the database with the source's content at the recorded position, restricted to what was
// copied; rows of words that were not copied may be there, but only as they are.
func (m *modelTarget) check() error {
	m.mu.Lock()
	want := m.mu.history[m.db.position]
	m.mu.Unlock()
	for _, t := range m.tables {
		have := m.db.content[t.Name]
		for k, r := range have {
			if string(want[t.Name][k]) != string(r) {
				return m.violated("%s holds %q, the source held %q", t.Name, r, want[t.Name][k])
			}
			if t.Ordered && !m.inCopied(t, r) {
				return m.violated("%s holds %q, which was not copied", t.Name, r)
			}
		}
		for k, r := range want[t.Name] {
			if have[k] == nil && m.inCopied(t, r) {
				return m.violated("%s misses %q, whose range was copied", t.Name, r)
			}
		}
	}
	return nil
}

func (m *modelTarget) inCopied(t *replication.Table, r replication.Row) bool {
	k := identity(t, r)
	for _, s := range m.db.copied[t.Name] {
		if (s.Lo == nil || k > identity(t, s.Lo)) && (s.Hi == nil || k <= identity(t, s.Hi)) {
			return true
		}
	}
	return false
}

// difference says how the two ends differ; empty if they are equal.
func (m *modelTarget) difference() string {
	m.db.Lock()
	defer m.db.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	var out strings.Builder
	for _, t := range m.tables {
		if !maps.EqualFunc(m.mu.state[t.Name], m.db.content[t.Name], func(a, b replication.Row) bool { return string(a) == string(b) }) {
			fmt.Fprintf(&out, "%s: source %q, target %q; ", t.Name, m.mu.state[t.Name], m.db.content[t.Name])
		}
	}
	return out.String()
}
