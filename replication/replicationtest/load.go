package replicationtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// LoadOptions say how a Load writes.
type LoadOptions struct {
	// Tables are written; none means all tables of the database that have a primary key.
	Tables []string
	// Seed makes the statements of a single writer repeatable as long as the tables start
	// the same.
	Seed uint64
	// Rate bounds the transactions per second over all writers; 0 is as fast as it goes.
	Rate int
	// Writers is the number of connections that write; 0 means 1.
	Writers int
	// MaxStatements is the most statements of one transaction; 0 means 4.
	MaxStatements int
	// Reconnect goes on after a lost connection, as long as it takes: for tests that kill
	// the server. Without it a lost connection ends the load with an error.
	Reconnect bool
}

// LoadCounts is what a Load has done. Statements of transactions that were rolled back
// are not in it; after a lost connection a transaction may have happened that isn't.
type LoadCounts struct {
	Transactions int // committed
	RolledBack   int // on purpose
	Conflicts    int // given up: duplicate key, deadlock, lock wait timeout, foreign key or other constraint
	Lost         int // ended by a lost connection (with LoadOptions.Reconnect)
	Inserted     int // rows
	Updated      int
	Deleted      int
	KeyChanged   int // rows whose primary key was updated
}

// Load writes at random to the tables of one database until it is stopped: inserts,
// updates, deletes and changes of primary keys, in transactions of several statements,
// some of them rolled back. Values are drawn from each column's type, with NULLs and
// extremes.
type Load struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid after done

	mu struct {
		sync.Mutex
		counts LoadCounts
	}
}

// StartLoad starts a load for one test. It is stopped at the end of the test, if it
// hasn't been, and its error fails the test. db's connections must be able to write to
// the database.
func StartLoad(tb testing.TB, db *sql.DB, database string, opts LoadOptions) *Load {
	tb.Helper()
	// tb.Context ends before the cleanups run; the load is stopped by one of them.
	l, err := RunLoad(context.WithoutCancel(tb.Context()), db, database, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if _, err := l.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// RunLoad reads the tables' definitions and up to 10,000 of each one's keys, starts the
// writers and returns. The load ends with Stop, with ctx, or with its first error.
func RunLoad(ctx context.Context, db *sql.DB, database string, opts LoadOptions) (*Load, error) {
	opts.Writers = max(opts.Writers, 1)
	if opts.MaxStatements <= 0 {
		opts.MaxStatements = 4
	}
	tables, err := loadTables(ctx, db, database, opts)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{cancel: cancel, done: make(chan struct{})}
	errs := make([]error, opts.Writers)
	var wg sync.WaitGroup
	for i := range opts.Writers {
		w := &writer{l: l, db: db, opts: opts, rng: rand.New(rand.NewPCG(opts.Seed, uint64(i)))}
		for _, t := range tables {
			w.tables = append(w.tables, t.share(i, opts.Writers))
		}
		wg.Go(func() {
			if errs[i] = w.run(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	go func() {
		wg.Wait()
		l.err = errors.Join(errs...)
		close(l.done)
	}()
	return l, nil
}

// Counts returns what the load has done so far.
func (l *Load) Counts() LoadCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.counts
}

// Done is closed when the load has ended, by Stop or by an error.
func (l *Load) Done() <-chan struct{} { return l.done }

// Stop ends the load between two transactions and returns what it has done and why it
// ended before, if it did. It may be called more than once.
func (l *Load) Stop() (LoadCounts, error) {
	l.cancel()
	<-l.done
	if l.err != nil {
		return l.Counts(), fmt.Errorf("load: %w", l.err)
	}
	return l.Counts(), nil
}

// MustStop is Stop that ends the test on an error.
func (l *Load) MustStop(tb testing.TB) LoadCounts {
	tb.Helper()
	c, err := l.Stop()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// writer is one connection's share of a load.
type writer struct {
	l      *Load
	db     *sql.DB
	opts   LoadOptions
	rng    *rand.Rand
	tables []*loadTable
}

func (w *writer) run(ctx context.Context) error {
	interval := time.Nanosecond
	if w.opts.Rate > 0 {
		interval = max(time.Second*time.Duration(w.opts.Writers)/time.Duration(w.opts.Rate), 1)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := w.transaction(ctx)
		switch {
		case err == nil:
		case isConflict(err):
			w.count(func(c *LoadCounts) { c.Conflicts++ })
		case w.opts.Reconnect && isLost(err):
			w.count(func(c *LoadCounts) { c.Lost++ })
			if !wait(ctx, 20*time.Millisecond) {
				return nil
			}
		default:
			return err
		}
	}
}

func (w *writer) count(f func(*LoadCounts)) {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	f(&w.l.mu.counts)
}

// transaction runs one to MaxStatements statements and commits nine times in ten.
func (w *writer) transaction(ctx context.Context) error {
	// A transaction that was begun is ended: Stop doesn't cut through it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	var done LoadCounts
	var after []func() // what the keys are after a commit
	touched := map[*loadTable]map[string]bool{}
	for range 1 + w.rng.IntN(w.opts.MaxStatements) {
		t := w.tables[w.rng.IntN(len(w.tables))]
		if touched[t] == nil {
			touched[t] = map[string]bool{}
		}
		f, err := w.statement(ctx, tx, t, touched[t], &done)
		if err != nil {
			tx.Rollback() // the statement's error is the one to report
			return err
		}
		after = append(after, f...)
	}
	if w.rng.IntN(10) == 0 {
		if err := tx.Rollback(); err != nil {
			return err
		}
		w.count(func(c *LoadCounts) { c.RolledBack++ })
		return nil
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	for _, f := range after {
		f()
	}
	w.count(func(c *LoadCounts) {
		c.Transactions++
		c.Inserted += done.Inserted
		c.Updated += done.Updated
		c.Deleted += done.Deleted
		c.KeyChanged += done.KeyChanged
	})
	return nil
}

// statement runs one random statement on t. It returns what becomes of the known keys
// when the transaction commits. A key is touched once per transaction at most by a
// change that moves or removes it.
func (w *writer) statement(ctx context.Context, tx *sql.Tx, t *loadTable, touched map[string]bool, done *LoadCounts) ([]func(), error) {
	pick := w.rng.IntN(10)
	i := -1
	if len(t.keys) > 0 {
		i = w.rng.IntN(len(t.keys))
	}
	if i < 0 || pick < 4 || touched[t.keys[i]] {
		key, n, err := w.insert(ctx, tx, t)
		done.Inserted += n
		return []func(){func() { t.add(key) }}, err
	}
	old := t.keys[i]
	switch {
	case pick < 7 || pick == 9 && !t.keyMovable:
		n, err := execCount(ctx, tx, "UPDATE "+t.name+" SET "+t.assignments(w.rng)+" WHERE "+old)
		done.Updated += n
		return nil, err
	case pick < 9:
		touched[old] = true
		n, err := execCount(ctx, tx, "DELETE FROM "+t.name+" WHERE "+old)
		done.Deleted += n
		return []func(){func() { t.remove(old) }}, err
	default:
		touched[old] = true
		set, key := t.randomKey(w.rng)
		n, err := execCount(ctx, tx, "UPDATE "+t.name+" SET "+set+" WHERE "+old)
		done.KeyChanged += n
		return []func(){func() { t.remove(old); t.add(key) }}, err
	}
}

// insert adds a random row and returns its key as a condition.
func (w *writer) insert(ctx context.Context, tx *sql.Tx, t *loadTable) (key string, n int, err error) {
	names, values, key := t.randomRow(w.rng)
	res, err := tx.ExecContext(ctx, "INSERT INTO "+t.name+" ("+names+") VALUES ("+values+")")
	if err != nil {
		return "", 0, err
	}
	if key == "" { // the server has counted it
		id, err := res.LastInsertId()
		if err != nil {
			return "", 0, err
		}
		key = fmt.Sprintf("%s = %d", t.auto, id)
	}
	return key, 1, nil
}

func execCount(ctx context.Context, tx *sql.Tx, query string) (int, error) {
	res, err := tx.ExecContext(ctx, query)
	if err != nil {
		return 0, fmt.Errorf("%.200s: %w", query, err)
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// isConflict tells whether random statements got into each other's way.
func isConflict(err error) bool {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return false
	}
	switch e.Number {
	case 1062, 1205, 1213, 1020, 1216, 1217, 1451, 1452, 3819, 4025:
		return true
	}
	return false
}

// isLost tells whether the server or the link to it went away.
func isLost(err error) bool {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		switch e.Number {
		case 1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1927, 3169, 1180, 1290:
			return true
		}
		return false
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, context.DeadlineExceeded) || isNetwork(err)
}

// loadTable is a table as one writer knows it.
type loadTable struct {
	name       string // quoted, with its database
	columns    []loadColumn
	auto       string   // the AUTO_INCREMENT column of the key, quoted; "" if there is none
	keyMovable bool     // random keys can be made
	keys       []string // conditions that name a row each
	index      map[string]int
}

func (t *loadTable) add(key string) {
	if _, ok := t.index[key]; !ok {
		t.index[key] = len(t.keys)
		t.keys = append(t.keys, key)
	}
}

func (t *loadTable) remove(key string) {
	i, ok := t.index[key]
	if !ok {
		return
	}
	last := len(t.keys) - 1
	t.keys[i] = t.keys[last]
	t.index[t.keys[i]] = i
	t.keys = t.keys[:last]
	delete(t.index, key)
}

// share returns a copy with the i-th of n parts of the known keys.
func (t *loadTable) share(i, n int) *loadTable {
	c := *t
	c.keys, c.index = nil, map[string]int{}
	for k := i; k < len(t.keys); k += n {
		c.add(t.keys[k])
	}
	return &c
}

// randomRow makes an INSERT's columns and values. The key is "" when the server counts it.
func (t *loadTable) randomRow(rng *rand.Rand) (names, values, key string) {
	var ns, vs, conds []string
	for _, c := range t.columns {
		if c.name == t.auto {
			continue
		}
		v := c.random(rng)
		ns, vs = append(ns, c.name), append(vs, v)
		if c.key {
			conds = append(conds, c.name+" = "+v)
		}
	}
	if t.auto == "" {
		key = strings.Join(conds, " AND ")
	}
	return strings.Join(ns, ", "), strings.Join(vs, ", "), key
}

// randomKey makes the assignments that move a row, and the condition that finds it then.
func (t *loadTable) randomKey(rng *rand.Rand) (set, key string) {
	var sets []string
	for _, c := range t.columns {
		if c.key {
			sets = append(sets, c.name+" = "+c.random(rng))
		}
	}
	return strings.Join(sets, ", "), strings.Join(sets, " AND ")
}

// assignments changes one to all columns outside the key; a table of nothing but a key
// is assigned what it has.
func (t *loadTable) assignments(rng *rand.Rand) string {
	var sets []string
	for _, c := range t.columns {
		if !c.key && (len(sets) == 0 || rng.IntN(2) == 0) {
			sets = append(sets, c.name+" = "+c.random(rng))
		}
	}
	if len(sets) == 0 {
		return t.columns[0].name + " = " + t.columns[0].name
	}
	return strings.Join(sets, ", ")
}
