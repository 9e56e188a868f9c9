package target_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// TestEveryTypeUpdated changes the values of a column of every type by one UPDATE for each row, and by a DELETE and an INSERT.
// (TestEveryType changes rows by one INSERT that becomes an update.)
func TestEveryTypeUpdated(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s)
		var tables []*replication.Table
		var few, many []replication.Change
		var want [][]string
		var reads []string
		for i, c := range typeCases {
			if c.only != "" && c.only != s.Flavor || len(c.values) < 2 {
				continue
			}
			name := fmt.Sprintf("t%d", i)
			h.exec("CREATE TABLE " + name + " (id int PRIMARY KEY, c " + c.ddl + ", u int UNIQUE) CHARACTER SET utf8mb4")
			column := c.column
			column.Name, column.Type, column.Nullable = "c", c.ddl, true
			table := &replication.Table{
				Schema: "source", Name: name, Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
				Unique:  []replication.Index{{Columns: []int{2}, Exact: true}},
				Columns: []replication.Column{{Name: "id", Kind: replication.KindInt}, column, {Name: "u", Kind: replication.KindInt}},
			}
			tables = append(tables, table)
			few = append(few, insert(table, "0", c.values[0][0], "0"))
			want = append(want, []string{c.values[1][1]})
			for n, v := range c.values {
				few = append(few, insert(table, strconv.Itoa(n+1), v[0], strconv.Itoa(n+1)))
				want[len(want)-1] = append(want[len(want)-1], c.values[(n+1)%len(c.values)][1])
				many = append(many, update(table, row(strconv.Itoa(n+1), v[0], strconv.Itoa(n+1)),
					row(strconv.Itoa(n+1), c.values[(n+1)%len(c.values)][0], strconv.Itoa(n+1))))
			}
			reads = append(reads, "SELECT "+c.read+" FROM "+name+" ORDER BY id")
		}
		r := h.start(h.target(target.Options{}, tables...))
		r.must(r.entry(few...))
		few = few[:0]
		for i := range many {
			if values, err := many[i].Before.Values(nil, 3); err == nil && string(values[0]) == "1" {
				few = append(few, update(many[i].Table, row("0", string(values[1]), "0"), row("0", second(many[i]), "0")))
			}
		}
		r.must(r.entry(few...))
		r.must(r.entry(many...))
		for i, q := range reads {
			h.want(q, want[i]...)
		}
	})
}

func second(c replication.Change) string {
	values, err := c.After.Values(nil, 3)
	if err != nil {
		panic(err)
	}
	return string(values[1])
}

// TestUniqueValuesWander: transactions that pile up hand unique values round, and are committed by several workers.
func TestUniqueValuesWander(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		r := h.start(h.target(target.Options{Workers: 4}, p))
		const n = 50
		var first []replication.Change
		at := make([]string, n) // the unique value of each row
		for i := range n {
			at[i] = strconv.Itoa(1000 + i)
			first = append(first, insert(p, strconv.Itoa(i), "0", at[i]))
		}
		r.must(r.entry(first...))
		var entries []*replication.Entry
		for round := range 400 {
			// A cycle of three through NULL, as a source would do it.
			a, b, c := round%n, (round*7+1)%n, (round*13+2)%n
			if a == b || b == c || a == c {
				continue
			}
			id := func(i int, u string) replication.Row { return row(strconv.Itoa(i), "0", u) }
			x, y, z := at[a], at[b], at[c]
			entries = append(entries, r.entry(
				update(p, id(a, x), id(a, null)), update(p, id(b, y), id(b, x)), update(p, id(c, z), id(c, y)), update(p, id(a, null), id(a, z))))
			at[a], at[b], at[c] = z, x, y
		}
		r.must(entries...)
		var want []string
		for i := range n {
			want = append(want, strconv.Itoa(i)+" 0 "+at[i])
		}
		h.want(allPairs, want...)
	})
}

// TestSpilledTransaction: a transaction in a file is executed as a whole, after all before it, also when it drifts.
func TestSpilledTransaction(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		r := h.start(h.target(target.Options{}, p))
		const n = 3000
		pad := strings.Repeat("p", 10)
		spill := func(f func(add func(replication.Change))) *replication.Spill {
			sp, err := replication.NewSpill(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = sp.Close() })
			f(func(c replication.Change) {
				if err := sp.Append(c); err != nil {
					t.Fatal(err)
				}
			})
			if err := sp.Flush(); err != nil {
				t.Fatal(err)
			}
			return sp
		}
		large := r.entry()
		large.Spill = spill(func(add func(replication.Change)) {
			for i := range n {
				add(insert(p, strconv.Itoa(i), pad, strconv.Itoa(i)))
			}
			for i := range n {
				add(update(p, row(strconv.Itoa(i), pad, strconv.Itoa(i)), row(strconv.Itoa(i), "new", strconv.Itoa(i+n))))
			}
		})
		before := r.entry(insert(p, "-1", "x", null))
		after := r.entry(remove(p, "0", "new", strconv.Itoa(n)), update(p, row("-1", "x", null), row("-1", "y", null)))
		before.Position, large.Position, after.Position = position(1), position(2), position(3)
		r.must(before, large, after)
		h.want("SELECT COUNT(*), SUM(u), MIN(v), MAX(v) FROM pairs", fmt.Sprintf("%d %d new y", n, n*(n-1)/2+n*n-n))
		bad := r.entry()
		bad.Spill = spill(func(add func(replication.Change)) {
			for i := 1; i < n; i++ {
				add(remove(p, strconv.Itoa(i), "new", strconv.Itoa(i+n)))
			}
			add(remove(p, "99999", "new", "1"))
		})
		bad.Position = position(4)
		drift, ok := errors.AsType[*replication.DriftError](r.apply(bad))
		if !ok || !strings.Contains(drift.Key, "99999") {
			t.Errorf("drift is %v", drift)
		}
		h.want("SELECT COUNT(*) FROM pairs", strconv.Itoa(n))
	})
}

// TestCascade: a change that says so is executed with foreign keys on, in its place among others; all others are not.
func TestCascade(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, "CREATE TABLE parent (id int PRIMARY KEY)",
			"CREATE TABLE child (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)")
		ints := []replication.Column{{Name: "id", Kind: replication.KindInt}, {Name: "p", Kind: replication.KindInt, Nullable: true}}
		parent := &replication.Table{Schema: "source", Name: "parent", Ordered: true, Columns: ints[:1], Primary: replication.Index{Columns: []int{0}, Exact: true}}
		child := &replication.Table{Schema: "source", Name: "child", Ordered: true, Columns: ints, Primary: replication.Index{Columns: []int{0}, Exact: true}}
		r := h.start(h.target(target.Options{Workers: 1}, parent, child))
		r.must(r.entry(insert(child, "1", "1"), insert(child, "2", "2"), insert(child, "3", "7"), insert(parent, "1"), insert(parent, "2")))
		gone := remove(parent, "1")
		gone.Cascade = true
		r.must(r.entry(insert(child, "4", "1"), gone, insert(child, "4", "1")), r.entry(remove(parent, "2"), insert(child, "5", "8")))
		// Row 4 went with its parent and came again without one; row 2 stayed, since the source had foreign keys off.
		h.want("SELECT id, p FROM child ORDER BY id", "2 2", "3 7", "4 1", "5 8")
		h.want("SELECT id FROM parent")
		// A change that fails must not leave foreign keys on for what the connection does next.
		lost := remove(parent, "9")
		lost.Cascade = true
		if _, ok := errors.AsType[*replication.DriftError](r.apply(r.entry(lost))); !ok {
			t.Error("a parent that is not there is no drift")
		}
	})
}

// TestOnDrift: with a policy, rows that are not as the stream had put them don't stop it, and each is told.
func TestOnDrift(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		p := pairs()
		for _, c := range []struct {
			policy replication.OnDrift
			rows   []string
			done   string
		}{
			{replication.OnDriftRepair, []string{"1 a2 10", "4 d2 40", "5 e 20", "6 f 60"}, "; repaired"},
			{replication.OnDriftSkip, []string{"1 a2 10", "2 stranger 20", "6 stranger 66"}, "; skipped"},
		} {
			h := newShard(t, s, createPairs)
			r := h.start(h.target(target.Options{OnDrift: c.policy}, p))
			r.must(r.entry(insert(p, "1", "a", "10"), insert(p, "3", "c", "30"), insert(p, "4", "d", "40")))
			h.exec("DELETE FROM pairs WHERE id IN (3, 4)")
			h.exec("INSERT INTO pairs VALUES (2, 'stranger', 20), (6, 'stranger', 66)")
			r.must(r.entry(update(p, row("1", "a", "10"), row("1", "a2", "10"))),
				r.entry(remove(p, "3", "c", "30"), update(p, row("4", "d", "40"), row("4", "d2", "40"))),
				r.entry(insert(p, "5", "e", "20"), insert(p, "6", "f", "60")))
			h.want(allPairs, c.rows...)
			h.want("SELECT COUNT(*), SUM(message LIKE '%"+c.done+"') FROM "+h.side.Table("vreplication_log")+" WHERE type = 'Drift'", "4 4")
			if got := h.position(); !got.Equal(position(4)) {
				t.Errorf("position is %s", got)
			}
			r.must(r.entry(update(p, row("1", "a2", "10"), row("1", "a3", "10"))))
		}
	})
}

// TestDeposedOwnerFindsNoDrift: who has been replaced meets what the new owner did, and must not take it for damage.
func TestDeposedOwnerFindsNoDrift(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		old := h.start(h.target(target.Options{}, p))
		old.must(old.entry(insert(p, "1", "a", "10")))
		young := h.start(h.target(target.Options{}, p))
		young.must(young.entry(remove(p, "1", "a", "10")))
		if err := old.apply(old.entry(remove(p, "1", "a", "10"))); !errors.Is(err, replication.ErrFenced) {
			t.Errorf("the old owner ends with %v", err)
		}
	})
}

// TestManyDrifts: a log of rows that are not as they should be stays short, and counts them all.
func TestManyDrifts(t *testing.T) {
	h := newShard(t, server(t, "mysql"), "CREATE TABLE pairs (id int PRIMARY KEY, v varchar(20) COLLATE utf8mb4_bin, u int)")
	p := pairs()
	p.Unique = nil
	var warned atomic.Int64
	log := slog.New(counter{&warned})
	tg := h.target(target.Options{OnDrift: replication.OnDriftSkip, Workers: 1, Logger: log}, p)
	r := h.start(tg)
	report := func(lines, rows string) {
		t.Helper()
		for range 2 { // the second has nothing to do
			if err := tg.Report(t.Context(), replication.Progress{}); err != nil {
				t.Fatal(err)
			}
		}
		h.want("SELECT COUNT(*), SUM(count) FROM "+h.side.Table("vreplication_log")+" WHERE type = 'Drift'", lines+" "+rows)
	}
	missing := func(from, n int) *replication.Entry {
		var list []replication.Change
		for i := range n {
			id := fmt.Sprint(from + i)
			list = append(list, remove(p, id, "x", null))
		}
		return r.entry(list...)
	}
	r.must(missing(0, 300))
	report("300", "300")
	r.must(missing(1000, 2500)) // in one transaction: a thousand lines, and one for the others
	if got := warned.Load(); got != 300+1001 {
		t.Errorf("%d warnings", got)
	}
	report("1001", "2800")
	r.must(missing(4000, 400))
	report("1401", "3200")
	r.must(missing(5000, 400), missing(6000, 400))
	report("1001", "4000")
	_ = r.stop()
	r = h.start(tg) // another owner trims too
	h.exec("INSERT INTO " + h.side.Table("vreplication_log") + " (vrepl_id, type, state, message) SELECT vrepl_id, type, state, message FROM " + h.side.Table("vreplication_log") + " WHERE type = 'Drift'")
	report("1001", "5001")
	h.want("SELECT COUNT(*) FROM pairs", "0")
	if n, err := h.side.Drifts(t.Context(), h.stream); err != nil || n != 5001 {
		t.Errorf("%d drifts, %v", n, err)
	}
}

// A counter counts the warnings that are logged.
type counter struct{ n *atomic.Int64 }

func (c counter) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (c counter) Handle(context.Context, slog.Record) error    { c.n.Add(1); return nil }
func (c counter) WithAttrs([]slog.Attr) slog.Handler           { return c }
func (c counter) WithGroup(string) slog.Handler                { return c }

// TestAnotherKeyIsRefused: spans of a partly copied table mean nothing for another key.
func TestAnotherKeyIsRefused(t *testing.T) {
	h := newShard(t, server(t, "mysql"), createPairs)
	p := pairs()
	r := h.start(h.target(target.Options{}, p))
	r.must(chunk(p, replication.Span{Hi: row("5")}, position(1), row("5", "a", "10")))
	if err := r.t.Report(t.Context(), replication.Progress{Tables: map[string]replication.TableProgress{"pairs": {Rows: 1}}}); err != nil {
		t.Fatal(err)
	}
	_ = r.stop()
	h.start(h.target(target.Options{}, p)).cancel()
	other := pairs()
	other.Primary, other.Unique = replication.Index{Columns: []int{2}, Exact: true}, []replication.Index{{Columns: []int{0}, Exact: true}}
	_, err := h.target(target.Options{}, other).Load(t.Context())
	if changed, ok := errors.AsType[*replication.SchemaChangedError](err); !ok || changed.Table != "pairs" {
		t.Errorf("the error is %v", err)
	}
	r = h.start(h.target(target.Options{}, p))
	r.must(chunk(p, replication.Span{Lo: row("5")}, position(1)))
	_ = r.stop()
	h.start(h.target(target.Options{}, p)).cancel()     // makes one span of the two
	h.start(h.target(target.Options{}, other)).cancel() // the whole table: its span holds no key
}
