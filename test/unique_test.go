package test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// A wanderTable is a table whose unique values wander from row to row, while the number of its rows stays the same.
// Its first column, s, names a row for good; it is no unique key, so that the library does not know.
type wanderTable struct {
	name, create string
	// values are the columns after s, and sets those of them whose values wander together, each set for itself.
	values []string
	sets   [][]string
	// whole says that values move only, and within one transaction, so that their sums never change.
	whole bool
	// key is the column of the primary key that changes, if one does.
	key string
}

const (
	wanderRows    = 240
	wanderWriters = 3
)

var wanderTables = []wanderTable{
	{
		name: "plain", values: []string{"u", "v"}, sets: [][]string{{"u"}},
		create: "CREATE TABLE plain (s INT PRIMARY KEY, u INT UNIQUE, v INT NOT NULL)",
	},
	{ // two unique keys whose values go different ways
		name: "perm", values: []string{"u", "w"}, sets: [][]string{{"u"}, {"w"}}, whole: true,
		create: "CREATE TABLE perm (s INT PRIMARY KEY, u INT NOT NULL UNIQUE, w VARBINARY(12) NOT NULL UNIQUE)",
	},
	{ // a unique key that only the server can compare, of two columns that may be NULL
		name: "folded", values: []string{"a", "b", "u"}, sets: [][]string{{"a", "b"}, {"u"}},
		create: `CREATE TABLE folded (s INT PRIMARY KEY, a VARCHAR(12) COLLATE utf8mb4_0900_ai_ci, b INT, u INT,
			UNIQUE ab (a, b), UNIQUE u (u))`,
	},
	{ // a primary key that only the server can compare
		name: "named", values: []string{"name", "u"}, sets: [][]string{{"u"}}, key: "name",
		create: "CREATE TABLE named (s INT NOT NULL, name VARCHAR(20) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, u INT UNIQUE, KEY (s))",
	},
	{ // a primary key that is part of a unique key
		name: "pair", values: []string{"k", "u", "w"}, sets: [][]string{{"u"}, {"w"}}, key: "k",
		create: `CREATE TABLE pair (s INT NOT NULL, k INT, u BIGINT, w CHAR(12) COLLATE utf8mb4_bin,
			PRIMARY KEY (k, s), UNIQUE (u), UNIQUE (k, w), KEY (s))`,
	},
}

// value is what a column holds at first, for the n-th time that one is needed.
func (wanderTable) value(column string, n int) any {
	switch column {
	case "a", "w":
		return fmt.Sprintf("é%07d", n)
	case "name":
		return fmt.Sprintf("Näme%06d", n)
	case "b", "k":
		return n % 3
	}
	return n
}

// fill makes the table's rows.
func (w *wanderTable) fill(ctx context.Context, tx *sql.Tx) error {
	for s := range wanderRows {
		row := []any{s}
		for _, c := range w.values {
			row = append(row, w.value(c, s))
		}
		if err := w.insert(ctx, tx, "INSERT", row); err != nil {
			return err
		}
	}
	return nil
}

func (w *wanderTable) insert(ctx context.Context, tx *sql.Tx, verb string, row []any) error {
	marks := strings.Repeat(", ?", len(row))[2:]
	_, err := tx.ExecContext(ctx, fmt.Sprintf("%s INTO %s (s, %s) VALUES (%s)", verb, w.name, strings.Join(w.values, ", "), marks), row...)
	return err
}

func (w *wanderTable) update(ctx context.Context, tx *sql.Tx, s any, columns []string, values []any) error {
	_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE %s SET %s=? WHERE s=?", w.name, strings.Join(columns, "=?, ")), append(slices.Clone(values), s)...)
	return err
}

// A wanderer lets the values of some rows at a time wander.
type wanderer struct {
	id  int
	rnd *rand.Rand
	db  *sql.DB
	// n counts up for fresh values, done the transactions that were committed.
	n    int
	done *atomic.Int64
}

func (w *wanderer) run(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		t := &wanderTables[w.rnd.IntN(len(wanderTables))]
		if err := w.wander(ctx, t); err != nil && !lockTrouble(err) && !duplicate(err) && !errors.Is(err, errOtherRow) {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
}

// fresh is a value that no row has; NULL is for uniqueness as good as fresh.
func (w *wanderer) fresh(t *wanderTable, column string) any {
	w.n++
	if !t.whole && w.rnd.IntN(3) == 0 {
		return nil
	}
	return t.value(column, 1_000_000*(1+w.id)+w.n)
}

// within runs f in a transaction.
func (w *wanderer) within(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	w.done.Add(1)
	return nil
}

// wander does one of the things that are hard for a copy, to two to four rows that are near or far from one another.
func (w *wanderer) wander(ctx context.Context, t *wanderTable) error {
	first, reach := w.rnd.IntN(wanderRows), 8
	if w.rnd.IntN(2) == 0 {
		reach = wanderRows
	}
	var picked []int
	for range 2 + w.rnd.IntN(3) {
		if s := (first + w.rnd.IntN(reach)) % wanderRows; !slices.Contains(picked, s) {
			picked = append(picked, s)
		}
	}
	set := t.sets[w.rnd.IntN(len(t.sets))]
	kind := w.rnd.IntN(8)
	if kind == 0 && !t.whole {
		return w.steps(ctx, t, set, picked)
	}
	return w.within(ctx, func(tx *sql.Tx) error {
		rows, err := w.lock(ctx, tx, t, picked)
		if err != nil {
			return err
		}
		switch {
		case kind == 1 && !t.whole:
			return w.respell(ctx, tx, t, rows)
		case kind == 2 && t.key != "":
			return w.moveKeys(ctx, tx, t, rows)
		case kind == 3 && t.name == "plain":
			return w.shift(ctx, tx)
		case kind <= 4:
			return w.again(ctx, tx, t, rows)
		case kind == 5:
			return w.replace(ctx, tx, t, set, rows)
		}
		return w.cycle(ctx, tx, t, set, rows)
	})
}

// lock reads the rows as they are.
func (w *wanderer) lock(ctx context.Context, tx *sql.Tx, t *wanderTable, picked []int) ([][]any, error) {
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(picked), " ", ", "), "[]")
	found, err := tx.QueryContext(ctx, fmt.Sprintf("SELECT s, %s FROM %s WHERE s IN (%s) ORDER BY s FOR UPDATE", strings.Join(t.values, ", "), t.name, list))
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var rows [][]any
	for found.Next() {
		texts, dest := make([]sql.NullString, 1+len(t.values)), []any{}
		for i := range texts {
			dest = append(dest, &texts[i])
		}
		if err := found.Scan(dest...); err != nil {
			return nil, err
		}
		row := make([]any, len(texts))
		for i, v := range texts {
			if v.Valid {
				row[i] = v.String
			}
		}
		rows = append(rows, row)
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	if len(rows) != len(picked) {
		return nil, fmt.Errorf("%d of the rows %v are there", len(rows), picked)
	}
	w.rnd.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	return rows, nil
}

// pick are a row's values of the columns.
func (t *wanderTable) pick(row []any, columns []string) []any {
	var out []any
	for _, c := range columns {
		out = append(out, row[1+slices.Index(t.values, c)])
	}
	return out
}

func (w *wanderer) freshAll(t *wanderTable, columns []string) []any {
	var out []any
	for _, c := range columns {
		out = append(out, w.fresh(t, c))
	}
	return out
}

// cycle gives each row the next one's values: the first row steps aside for it. Tables that aren't whole may leave it
// a chain, in which the first row keeps what it stepped aside to.
func (w *wanderer) cycle(ctx context.Context, tx *sql.Tx, t *wanderTable, set []string, rows [][]any) error {
	if err := t.update(ctx, tx, rows[0][0], set, w.freshAll(t, set)); err != nil {
		return err
	}
	for i := len(rows) - 1; i > 0; i-- {
		if err := t.update(ctx, tx, rows[i][0], set, t.pick(rows[(i+1)%len(rows)], set)); err != nil {
			return err
		}
	}
	if !t.whole && w.rnd.IntN(3) == 0 {
		return nil
	}
	return t.update(ctx, tx, rows[0][0], set, t.pick(rows[1%len(rows)], set))
}

// steps is a cycle of which every step is a transaction; others may come in between.
func (w *wanderer) steps(ctx context.Context, t *wanderTable, set []string, picked []int) error {
	var rows [][]any
	err := w.within(ctx, func(tx *sql.Tx) (err error) {
		if rows, err = w.lock(ctx, tx, t, picked); err != nil {
			return err
		}
		return t.update(ctx, tx, rows[0][0], set, w.freshAll(t, set))
	})
	for i := len(rows) - 1; i >= 0 && err == nil; i-- {
		err = w.within(ctx, func(tx *sql.Tx) error {
			return t.update(ctx, tx, rows[i][0], set, t.pick(rows[(i+1)%len(rows)], set))
		})
	}
	return err
}

// respell writes values that the server takes for the same in other letters.
func (w *wanderer) respell(ctx context.Context, tx *sql.Tx, t *wanderTable, rows [][]any) error {
	for _, c := range []string{"a", "name"} {
		if !slices.Contains(t.values, c) {
			continue
		}
		for _, r := range rows {
			if text, ok := t.pick(r, []string{c})[0].(string); ok {
				text = strings.NewReplacer("é", "E", "E", "è", "ä", "A", "A", "á", "á", "ä", "m", "M", "M", "m").Replace(text)
				if err := t.update(ctx, tx, r[0], []string{c}, []any{text}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// moveKeys changes primary keys and unique values at once: the last row gets a new key, every other row its successor's.
func (w *wanderer) moveKeys(ctx context.Context, tx *sql.Tx, t *wanderTable, rows [][]any) error {
	set := []string{t.key, "u"}
	last := w.freshAll(t, set)
	if last[0] == nil || w.rnd.IntN(2) == 0 {
		last[0] = t.value(t.key, 10_000_000*(1+w.id)+w.n)
	}
	for i := len(rows) - 1; i >= 0; i-- {
		values := last
		if i+1 < len(rows) {
			values = t.pick(rows[i+1], set)
		}
		if err := t.update(ctx, tx, rows[i][0], set, values); err != nil {
			return err
		}
	}
	return nil
}

// shift is one statement in which every row takes the place that the one before it has just left.
func (w *wanderer) shift(ctx context.Context, tx *sql.Tx) error {
	lo := w.rnd.IntN(wanderRows)
	by, order := 1, "DESC"
	if w.rnd.IntN(2) == 0 {
		by, order = -1, "ASC"
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE plain SET u=u+%d, v=v+1 WHERE u BETWEEN %d AND %d ORDER BY u %s", by, lo, lo+6, order))
	return err
}

// again deletes the rows, and inserts them with each other's values.
func (w *wanderer) again(ctx context.Context, tx *sql.Tx, t *wanderTable, rows [][]any) error {
	for _, r := range rows {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+t.name+" WHERE s=?", r[0]); err != nil {
			return err
		}
	}
	for i, r := range rows {
		row := slices.Clone(r)
		for n, set := range t.sets {
			other := rows[(i+1+n)%len(rows)]
			for _, c := range set {
				at := 1 + slices.Index(t.values, c)
				row[at] = other[at]
			}
		}
		if err := t.insert(ctx, tx, "INSERT", row); err != nil {
			return err
		}
	}
	return nil
}

// errOtherRow says that REPLACE has deleted a row that nobody brings back.
var errOtherRow = errors.New("another row was in the way")

// replace lets REPLACE delete the row that is in the way, and brings that row back with the values of the next.
func (w *wanderer) replace(ctx context.Context, tx *sql.Tx, t *wanderTable, set []string, rows [][]any) error {
	for i, r := range rows {
		row := slices.Clone(r)
		for _, c := range set {
			at := 1 + slices.Index(t.values, c)
			row[at] = rows[(i+1)%len(rows)][at]
		}
		if err := t.insert(ctx, tx, "REPLACE", row); err != nil {
			return err
		}
	}
	// Rows of pair may have the same w with different k, so a row that is none of these may have been in the way.
	var left int
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+t.name).Scan(&left); err != nil {
		return err
	}
	if left != wanderRows {
		return errOtherRow
	}
	return nil
}

// counted is what a reader sees of the tables: the number of rows of each, and sums over perm.
type counted struct {
	rows                [5]int64
	sum, squares, words int64
}

func countWander(ctx context.Context, db *sql.DB, schema string) (c counted, err error) {
	var q strings.Builder
	var dest []any
	for i, t := range wanderTables {
		fmt.Fprintf(&q, "(SELECT COUNT(*) FROM %s.%s), ", schema, t.name)
		dest = append(dest, &c.rows[i])
	}
	perm := schema + ".perm"
	fmt.Fprintf(&q, "(SELECT IFNULL(SUM(u),0) FROM %[1]s), (SELECT IFNULL(SUM(u*u),0) FROM %[1]s), (SELECT IFNULL(BIT_XOR(CRC32(w)),0) FROM %[1]s)", perm)
	return c, db.QueryRowContext(ctx, "SELECT "+q.String()).Scan(append(dest, &c.sum, &c.squares, &c.words)...)
}

// watchWander looks at the target again and again. While it is being filled, no row of a table whose rows keep their keys
// goes away; after that, what is counted never changes.
func watchWander(ctx context.Context, dst *sql.DB, want counted, copied *atomic.Bool, looks *atomic.Int64, stop <-chan struct{}) error {
	var last counted
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		whole := copied.Load()
		c, err := countWander(ctx, dst, dstDB)
		if err != nil {
			return err
		}
		if whole && c != want {
			return fmt.Errorf("the target shows %+v, which the source never had (%+v)", c, want)
		}
		for i, t := range wanderTables {
			if t.key == "" && c.rows[i] < last.rows[i] {
				return fmt.Errorf("table %s has %d rows after %d", t.name, c.rows[i], last.rows[i])
			}
		}
		if whole {
			looks.Add(1)
		}
		last = c
		// The servers need the processor too.
		if err := retry.Wait(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// TestUniqueValuesWander swaps unique values between rows, lets them go round and moves them on, in one transaction and
// in several, between rows that are copied and rows that are not, and after the copy.
func TestUniqueValuesWander(t *testing.T) {
	t.Parallel()
	src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	dst := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	link := replicationtest.StartProxy(t, src.Addr())
	var schema []string
	for _, w := range wanderTables {
		schema = append(schema, w.create)
	}
	e := newEngineVia(t, src, dst, link.Addr(), target.Options{Workers: 4}, schema...)
	db := openPool(t, src, srcDB)
	for i := range wanderTables {
		filler := &wanderer{db: db, done: new(atomic.Int64)}
		if err := filler.within(t.Context(), func(tx *sql.Tx) error { return wanderTables[i].fill(t.Context(), tx) }); err != nil {
			t.Fatal(err)
		}
	}
	want, err := countWander(t.Context(), db, srcDB)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)

	ctx, late := context.WithTimeoutCause(t.Context(), 8*time.Minute, errors.New("not done after eight minutes"))
	defer late()
	g, ctx := errgroup.WithContext(ctx)
	stream := replication.NewStream(e.source, e.target, e.source.Tables(), replication.Options{ChunkRows: 10})
	began := time.Now()
	var copied atomic.Bool
	var looks, done atomic.Int64
	enough, level, looked := make(chan struct{}), make(chan struct{}), make(chan struct{})
	link.SetDelay(2 * time.Millisecond)
	var wanderers errgroup.Group
	for i := range wanderWriters {
		w := &wanderer{id: i, rnd: rand.New(rand.NewPCG(seed, uint64(i))), db: db, done: &done}
		wanderers.Go(func() error { return w.run(ctx, enough) })
	}
	g.Go(func() error { return e.untilLevel(ctx, stream, level) })
	g.Go(func() error { return watchWander(ctx, openPool(t, dst, dstDB), want, &copied, &looks, looked) })
	g.Go(func() error {
		err := until(ctx, func() (bool, error) { return !stream.Progress().Copying, nil })
		copied.Store(true)
		during := done.Load()
		t.Logf("%d transactions during the copy of %s", during, time.Since(began).Round(time.Millisecond))
		if err == nil && during < 50 {
			err = errors.New("too few transactions during the copy: the test tests nothing")
		}
		if err == nil {
			err = wanderOn(ctx, link, &done, &looks)
		}
		close(enough)
		err = errors.Join(err, wanderers.Wait())
		close(looked)
		close(level)
		return err
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := e.differences(t); diff != "" {
		t.Error(diff)
	}
	t.Logf("%d transactions, %d looks", done.Load(), looks.Load())
}

// wanderOn waits for some backlogs and enough looks.
func wanderOn(ctx context.Context, link *replicationtest.Proxy, done, looks *atomic.Int64) error {
	link.SetDelay(0)
	for range 3 {
		before := done.Load()
		link.Freeze()
		err := until(ctx, func() (bool, error) { return done.Load() > before+250, nil })
		link.Thaw()
		if err != nil {
			return err
		}
		seen := looks.Load()
		if err := until(ctx, func() (bool, error) { return looks.Load() > seen+100, nil }); err != nil {
			return err
		}
	}
	return nil
}
