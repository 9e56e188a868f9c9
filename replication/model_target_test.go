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

// modelTarget is an owner's Target, whose scheduler is the real one, over a simulated database.
type modelTarget struct {
	*world
	*target.Scheduler
	options target.SchedulerOptions
	tables  []*replication.Table
	db      *modelDB
	// belongs tells which rows the target is for, if not for all.
	belongs func(*replication.Table, replication.Row) bool
	// view makes what the target has of what the source has, if that is not the same.
	view func(content) content
	// epoch is the database's when this owner took the stream over.
	epoch int
}

// modelServer is a database server, which the streams of several sources may share.
type modelServer struct {
	sync.Mutex
	content content
	locks   map[string]*modelTx
	// starts counts the server's starts; what was not committed before the last one is lost.
	starts int
	// shared says that streams wait for row locks of one another, where keys of two sources are neighbours.
	shared bool
}

func newModelServer() *modelServer {
	return &modelServer{content: newContent(), locks: make(map[string]*modelTx)}
}

// kill ends all transactions.
func (s *modelServer) kill() {
	s.Lock()
	defer s.Unlock()
	s.killLocked()
}

func (s *modelServer) killLocked() {
	s.starts++
	s.locks = make(map[string]*modelTx)
}

// modelDB is what a stream has on a server, which owners share. After every commit it is checked that of the source's rows the
// server holds exactly those that the source held at the recorded position.
type modelDB struct {
	*modelServer
	started  bool
	position int
	copied   map[string][]replication.Span
	finished map[string]bool
	epoch    int
	// violation is the first breach of an invariant.
	violation error
	commits   int
}

func newModelTarget(w *world, tables []*replication.Table, options target.SchedulerOptions) *modelTarget {
	return newModelTargetOn(newModelServer(), w, tables, options)
}

// newModelTargetOn is a target on a server that has others' rows too.
func newModelTargetOn(s *modelServer, w *world, tables []*replication.Table, options target.SchedulerOptions) *modelTarget {
	return &modelTarget{world: w, options: options, tables: tables, db: &modelDB{
		modelServer: s, copied: make(map[string][]replication.Span), finished: make(map[string]bool),
	}}
}

// rival is another owner's Target over the same database.
func (m *modelTarget) rival() *modelTarget {
	return &modelTarget{world: m.world, options: m.options, tables: m.tables, db: m.db, belongs: m.belongs, view: m.view}
}

func (m *modelTarget) Load(context.Context) (*replication.Checkpoint, error) {
	m.Scheduler = target.NewScheduler(m, m.options)
	m.db.Lock()
	defer m.db.Unlock()
	m.db.epoch++
	m.epoch = m.db.epoch
	cp := &replication.Checkpoint{Copied: make(map[string][]replication.Span), Finished: maps.Clone(m.db.finished)}
	for t, spans := range m.db.copied {
		cp.Copied[t] = slices.Clone(spans)
	}
	if m.db.started {
		for i := range m.db.position {
			cp.Position = cp.Position.Add(m.gtid(i))
		}
	}
	return cp, nil
}

// fenced tells whether the stream is another owner's by now; the database is locked.
func (m *modelTarget) fenced() error {
	if m.epoch != m.db.epoch {
		return replication.ErrFenced
	}
	return nil
}

func (m *modelTarget) Start(_ context.Context, p replication.Position) error {
	m.db.Lock()
	defer m.db.Unlock()
	if err := m.fenced(); err != nil {
		return err
	}
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
	m.db.Lock()
	x := &modelTx{m: m, rows: newContent(), held: map[string]bool{}, start: m.db.starts}
	m.db.Unlock()
	return x, m.pause(ctx, time.Millisecond)
}

// modelTx is a transaction: its rows lie over the committed ones; a nil row is a deleted one.
type modelTx struct {
	m    *modelTarget
	rows content
	held map[string]bool
	// start is the server's start in which the transaction began.
	start int
}

// alive tells whether the server still knows the transaction; the database is locked.
func (x *modelTx) alive() error {
	if x.start != x.m.db.starts {
		return errModelLink
	}
	return nil
}

func (x *modelTx) Apply(ctx context.Context, e *replication.Entry, _ bool) error {
	var changes []replication.Change
	err := e.Each(func(c replication.Change) error {
		changes = append(changes, c)
		return nil
	})
	if err != nil {
		return err
	}
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
			if x.m.db.shared && x.m.dice(4) == 0 {
				locks = append(locks, fmt.Sprintf("%s/gap/%d", c.Table.Name, x.m.dice(3)))
			}
			for i, u := range uniqueValues(c.Table, r) {
				if u != "" {
					locks = append(locks, fmt.Sprintf("%s/%d/%s", c.Table.Name, i, u))
				}
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
		if err := x.alive(); err != nil {
			x.m.db.Unlock()
			return err
		}
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
	if err := x.alive(); err != nil {
		return err
	}
	name := c.Table.Name
	if c.Before != nil {
		k := identity(c.Table, c.Before)
		if found := x.see(name, k); !c.Loose && string(found) != string(c.Before) {
			return x.unfit("%s: a change finds %q in place of %q", name, found, c.Before)
		}
		x.rows[name][k] = nil
	}
	if c.After == nil {
		return nil
	}
	k := identity(c.Table, c.After)
	if found := x.see(name, k); found != nil && !c.Loose {
		return x.unfit("%s: %q is there already as %q", name, c.After, found)
	}
	if err := x.unique(c.Table, k, c.After); err != nil {
		return err
	}
	x.rows[name][k] = c.After
	return nil
}

// unique checks that no other row has a unique value of the row.
func (x *modelTx) unique(t *replication.Table, k string, row replication.Row) error {
	values := uniqueValues(t, row)
	if len(values) == 0 {
		return nil
	}
	for _, rows := range []map[string]replication.Row{x.m.db.content[t.Name], x.rows[t.Name]} {
		for other := range rows {
			r := x.see(t.Name, other)
			if r == nil || other == k {
				continue
			}
			for i, v := range uniqueValues(t, r) {
				if v != "" && v == values[i] {
					return x.unfit("%s: unique value %s of %q is taken by %q", t.Name, v, row, r)
				}
			}
		}
	}
	return nil
}

func (x *modelTx) Commit(ctx context.Context, e *replication.Entry) error {
	if err := x.m.pause(ctx, 2*time.Millisecond); err != nil && x.m.dice(2) == 0 {
		return err // killed before the commit; otherwise after it
	}
	x.m.db.Lock()
	defer x.m.db.Unlock()
	if err := x.alive(); err != nil {
		return err
	}
	if err := x.m.fenced(); err != nil {
		return err
	}
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
	if e.Chunk != nil {
		x.m.db.copied[e.Chunk.Table.Name] = append(x.m.db.copied[e.Chunk.Table.Name], e.Chunk.Span)
	} else {
		x.m.db.position = transactionsOf(e.Position)
	}
	x.m.db.commits++
	if err := x.m.check(); err != nil {
		return err
	}
	if x.m.db.shared && x.m.dice(100) == 0 {
		x.m.db.killLocked()
		return errModelLink // the server dies before it answers
	}
	return context.Cause(ctx)
}

func (x *modelTx) Ping(context.Context) error { return nil }

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

// unfit is the error of a change that does not fit the rows that are there. That is a breach, but for an owner that was
// deposed: the rows have gone on without it.
func (x *modelTx) unfit(format string, args ...any) error {
	if err := x.m.fenced(); err != nil {
		return err
	}
	return x.m.violated(format, args...)
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
	want, reading := m.mu.history[m.db.position], m.mu.reading
	m.mu.Unlock()
	want = m.seen(want)
	if most := 2 * modelReaders; reading > most {
		return m.violated("%d reads are under way at the source, more than %d", reading, most)
	}
	for _, t := range m.tables {
		have := m.db.content[t.Name]
		for k, r := range have {
			if !m.owns(t, r) {
				continue // another source's stream answers for it
			}
			if string(want[t.Name][k]) != string(r) || !m.holds(t, r) {
				return m.violated("%s holds %q, the source held %q", t.Name, r, want[t.Name][k])
			}
			if t.Ordered && !m.inCopied(t, r) {
				return m.violated("%s holds %q, which was not copied", t.Name, r)
			}
		}
		for k, r := range want[t.Name] {
			if have[k] == nil && m.holds(t, r) && m.inCopied(t, r) {
				return m.violated("%s misses %q, whose range was copied", t.Name, r)
			}
		}
	}
	return nil
}

// seen is what the target has of what the source has.
func (m *modelTarget) seen(c content) content {
	if m.view == nil {
		return c
	}
	return m.view(c)
}

// holds tells whether the target is for a row.
func (m *modelTarget) holds(t *replication.Table, r replication.Row) bool {
	return m.belongs == nil || m.belongs(t, r)
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
	state := m.seen(m.mu.state)
	for _, t := range m.tables {
		want := maps.Clone(state[t.Name])
		maps.DeleteFunc(want, func(_ string, r replication.Row) bool { return !m.holds(t, r) })
		have := maps.Clone(m.db.content[t.Name])
		maps.DeleteFunc(have, func(_ string, r replication.Row) bool { return !m.owns(t, r) })
		if !maps.EqualFunc(want, have, func(a, b replication.Row) bool { return string(a) == string(b) }) {
			fmt.Fprintf(&out, "%s: source %q, target %q; ", t.Name, want, have)
		}
	}
	return out.String()
}
