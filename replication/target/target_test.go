package target_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

func (h *shard) want(query string, want ...string) {
	h.Helper()
	if got := h.rows(query); !reflect.DeepEqual(got, append([]string{}, want...)) {
		h.Errorf("%s\n got %q\nwant %q", query, got, want)
	}
}

// soon is want for what the server does a moment later.
func (h *shard) soon(query string, want ...string) {
	h.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && !reflect.DeepEqual(h.rows(query), want); {
		if err := retry.Wait(h.Context(), 10*time.Millisecond); err != nil {
			h.Fatal(err)
		}
	}
	h.want(query, want...)
}

const allPairs = "SELECT * FROM pairs ORDER BY id"

func TestChangesAndPositionCommitTogether(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		r := h.start(h.target(target.Options{}, p))
		r.must(r.entry(insert(p, "1", "a", "10"), insert(p, "2", "b", "20"), insert(p, "3", null, null)))
		h.want(allPairs, "1 a 10", "2 b 20", "3 NULL NULL")
		if got := h.position(); !got.Equal(position(1)) {
			t.Errorf("position is %s", got)
		}
		r.must(
			// A swap of unique values through a free one, a key change, a delete and an insert of the same key.
			r.entry(update(p, row("1", "a", "10"), row("1", "a", null)), update(p, row("2", "b", "20"), row("2", "b", "10")),
				update(p, row("1", "a", null), row("1", "a", "20"))),
			r.entry(update(p, row("3", null, null), row("7", "it's \\ \x00 ü", "7"))),
			r.entry(remove(p, "1", "a", "20"), remove(p, "2", "b", "10"), insert(p, "1", "new", "10")),
			r.entry(), // only the position
		)
		h.want("SELECT id, HEX(v), u FROM pairs ORDER BY id", "1 6E6577 10", "7 69742773205C200020C3BC 7")
		if got := h.position(); !got.Equal(position(5)) {
			t.Errorf("position is %s", got)
		}
		if err := r.stop(); err == nil {
			t.Error("Run returns nil when its context ends")
		}
	})
}

func TestManyRowsInFewStatements(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs, "CREATE TABLE wide (a int, b varbinary(20), PRIMARY KEY (b, a))")
		p := pairs()
		wide := &replication.Table{
			Schema: "source", Name: "wide", Ordered: true,
			Columns: []replication.Column{{Name: "a", Kind: replication.KindInt}, {Name: "b", Kind: replication.KindBlob}},
			Primary: replication.Index{Columns: []int{1, 0}, Exact: true},
		}
		r := h.start(h.target(target.Options{}, p, wide))
		var inserts, deletes []replication.Change
		for i := range 1000 {
			id := fmt.Sprint(i)
			inserts = append(inserts, insert(p, id, strings.Repeat("x", 20), id))
			deletes = append(deletes, remove(p, id, strings.Repeat("x", 20), id))
		}
		for i := range 1000 {
			inserts = append(inserts, insert(wide, fmt.Sprint(i), "k'"))
			deletes = append(deletes, remove(wide, fmt.Sprint(i), "k'"))
		}
		before := h.rows("SHOW GLOBAL STATUS LIKE 'Com_insert'")
		r.must(r.entry(inserts...))
		h.want("SELECT (SELECT COUNT(*) FROM pairs), (SELECT COUNT(*) FROM wide)", "1000 1000")
		after := h.rows("SHOW GLOBAL STATUS LIKE 'Com_insert'")
		var a, b int
		fmt.Sscan(strings.Fields(before[0])[1], &a)
		fmt.Sscan(strings.Fields(after[0])[1], &b)
		if b-a > 5 {
			t.Errorf("%d INSERT statements for 2000 rows of 2 tables", b-a)
		}
		r.must(r.entry(deletes[:999]...), r.entry(deletes[999:]...))
		h.want("SELECT (SELECT COUNT(*) FROM pairs), (SELECT COUNT(*) FROM wide)", "0 0")
	})
}

func TestDriftStopsWithTheRow(t *testing.T) {
	p := pairs()
	for _, c := range []struct {
		name   string
		entry  func(r *run) *replication.Entry
		op     string
		key    string
		before string
		after  string
		dup    bool
	}{
		{"update of a missing row", func(r *run) *replication.Entry {
			return r.entry(insert(p, "5", "x", "50"), update(p, row("9", "a", "1"), row("9", "b", "1")))
		}, "update", "9", "a", "b", false},
		{"delete of a missing row", func(r *run) *replication.Entry {
			return r.entry(remove(p, "1", "a", "10"), remove(p, "9", "q", "90"), remove(p, "2", "b", "20"))
		}, "delete", "9", "q", "", false},
		{"insert of a key that is there", func(r *run) *replication.Entry {
			return r.entry(insert(p, "5", "x", "50"), insert(p, "2", "w", "51"))
		}, "insert", "2", "", "w", true},
		{"insert of a unique value that is there", func(r *run) *replication.Entry {
			return r.entry(insert(p, "6", "w", "20"))
		}, "insert", "6", "", "w", true},
		{"chunk with a row that is there", func(r *run) *replication.Entry {
			return chunk(p, replication.Span{}, position(1), row("5", "x", "50"), row("2", "w", "51"))
		}, "insert", "2", "", "w", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, s *replicationtest.Server) {
				h := newShard(t, s, createPairs)
				r := h.start(h.target(target.Options{}, p))
				r.must(r.entry(insert(p, "1", "a", "10"), insert(p, "2", "b", "20")))
				err := r.apply(c.entry(r))
				drift, ok := errors.AsType[*replication.DriftError](err)
				if !ok {
					t.Fatalf("error is %v", err)
				}
				if drift.Table != "pairs" || drift.Op != c.op || !strings.Contains(drift.Key, c.key) || (drift.Err != nil) != c.dup ||
					!strings.Contains(drift.Before, c.before) || !strings.Contains(drift.After, c.after) || drift.Position.IsZero() {
					t.Errorf("%#v", drift)
				}
				if replication.Transient(err) {
					t.Error("drift counts as transient")
				}
				h.want(allPairs, "1 a 10", "2 b 20")
				if got := h.position(); !got.Equal(position(1)) {
					t.Errorf("position is %s", got)
				}
				h.want("SELECT COUNT(*) FROM "+h.side.Table("copy_state"), "0")
			})
		})
	}
}

func TestValueThatTheTargetWouldChange(t *testing.T) {
	p := pairs()
	for name, c := range map[string]struct {
		column string
		row    replication.Row
	}{
		"too long":        {"v varchar(3) COLLATE utf8mb4_bin", row("5", "abcd", "1")},
		"spaces cut":      {"v varchar(3) COLLATE utf8mb4_bin", row("5", "abc  ", "1")},
		"out of range":    {"v varchar(20), u tinyint", row("5", "a", "300")},
		"not utf8mb4":     {"v varchar(20) CHARACTER SET utf8mb4", row("5", "a\xff", "1")},
		"NULL not taken":  {"v varchar(20) NOT NULL", row("5", null, "1")},
		"not a number":    {"v varchar(20)", row("5", "a", "1 OR 1=1")},
		"column missing":  {"w varchar(20)", row("5", "a", "1")},
		"more is needed":  {"v varchar(20), w int NOT NULL", row("5", "a", "1")},
		"not that member": {"v enum('a','b')", row("5", "c", "1")},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *replicationtest.Server) {
				if !strings.Contains(c.column, " u ") {
					c.column += ", u int"
				}
				h := newShard(t, s, "CREATE TABLE pairs (id int PRIMARY KEY, "+c.column+")")
				r := h.start(h.target(target.Options{}, p))
				for _, e := range []*replication.Entry{
					r.entry(replication.Change{Table: p, After: c.row}), chunk(p, replication.Span{}, position(0), c.row),
				} {
					err := r.apply(e)
					_, isRow := errors.AsType[*replication.RowError](err)
					_, isSchema := errors.AsType[*replication.SchemaChangedError](err)
					if !isRow && !isSchema || replication.Transient(err) || !strings.Contains(err.Error(), "pairs") {
						t.Errorf("error is %v", err)
					}
					h.want("SELECT COUNT(*) FROM pairs", "0")
					r = h.start(h.target(target.Options{}, p))
				}
			})
		})
	}
}

func TestFencedOwnerCommitsNothing(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		old := h.start(h.target(target.Options{}, p))
		old.must(old.entry(insert(p, "1", "a", "10")))
		young := h.start(h.target(target.Options{}, p))
		if !young.cp.Position.Equal(position(1)) {
			t.Errorf("the new owner starts at %s", young.cp.Position)
		}
		if err := old.apply(old.entry(insert(p, "2", "b", "20"))); !errors.Is(err, replication.ErrFenced) {
			t.Errorf("the old owner's transaction: %v", err)
		}
		chunker := h.start(h.target(target.Options{}, p))
		if err := h.side.Fence(t.Context(), h.stream); err != nil {
			t.Fatal(err)
		}
		if err := chunker.apply(chunk(p, replication.Span{}, position(1), row("3", "c", "30"))); !errors.Is(err, replication.ErrFenced) {
			t.Errorf("the old owner's chunk: %v", err)
		}
		if err := young.apply(young.entry()); !errors.Is(err, replication.ErrFenced) {
			t.Errorf("the old owner's position: %v", err)
		}
		h.want(allPairs, "1 a 10")
	})
}

func TestDeletedStreamCommitsNothing(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		r := h.start(h.target(target.Options{}, p))
		if err := h.side.DeleteStream(t.Context(), h.stream); err != nil {
			t.Fatal(err)
		}
		if err := r.apply(r.entry(insert(p, "2", "b", "20"))); !errors.Is(err, replication.ErrFenced) {
			t.Errorf("a transaction of a deleted stream: %v", err)
		}
		h.want(allPairs)
	})
}

func TestChunksAndCheckpoint(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		tg := h.target(target.Options{}, p)
		r := h.start(tg)
		key := func(id string) replication.Key { return row(id) }
		r.must(
			chunk(p, replication.Span{Hi: key("10")}, position(0), row("1", "a", "10"), row("10", "b", "20")),
			chunk(p, replication.Span{Lo: key("20")}, position(0)),
			r.entry(update(p, row("1", "a", "10"), row("1", "a", "11"))),
			chunk(p, replication.Span{Lo: key("10"), Hi: key("20")}, position(1), row("11", "c", "10"), row("20", "d", "30")),
			r.entry(insert(p, "12", "x", "12"), remove(p, "20", "d", "30")),
		)
		h.want(allPairs, "1 a 11", "10 b 20", "11 c 10", "12 x 12")
		if err := tg.Report(t.Context(), replication.Progress{Tables: map[string]replication.TableProgress{"pairs": {Rows: 4, Bytes: 40, Done: true}}}); err != nil {
			t.Fatal(err)
		}
		_ = r.stop()
		r = h.start(tg)
		if got := r.cp.Copied["pairs"]; len(got) != 1 || got[0].Lo != nil || got[0].Hi != nil {
			t.Errorf("copied is %v", got)
		}
		if r.cp.Rows["pairs"] != 4 || !r.cp.Finished["pairs"] || !r.cp.Position.Equal(position(2)) {
			t.Errorf("checkpoint is %+v", r.cp)
		}
		h.want("SELECT COUNT(*) FROM "+h.side.Table("copy_state"), "1")
		st, err := h.side.Stream(t.Context(), h.stream)
		if err != nil || st.RowsCopied != 4 || !st.Tables["pairs"].Done || st.State != "Running" || st.Position != position(2).String() {
			t.Errorf("stream is %+v, %v", st, err)
		}
	})
}

func TestOnUpdateTimestampStaysAsTheSourceHasIt(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, "CREATE TABLE ts (id int PRIMARY KEY, v int, c timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), "+
			"d datetime DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, g int AS (v + 1) STORED)")
		ts := &replication.Table{
			Schema: "source", Name: "ts", Ordered: true,
			Columns: []replication.Column{
				{Name: "id", Kind: replication.KindInt},
				{Name: "v", Kind: replication.KindInt},
				{Name: "c", Kind: replication.KindTimestamp, Fsp: 3},
				{Name: "d", Kind: replication.KindDatetime, Nullable: true},
				{Name: "g", Kind: replication.KindInt, Generated: true},
			},
			Primary: replication.Index{Columns: []int{0}, Exact: true},
		}
		r := h.start(h.target(target.Options{}, ts))
		before, after := row("1", "1", "2001-02-03 04:05:06.789", null, "2"), row("1", "2", "2001-02-03 04:05:06.789", null, "3")
		r.must(r.entry(replication.Change{Table: ts, After: before}), r.entry(update(ts, before, after)))
		h.want("SELECT * FROM ts", "1 2 2001-02-03 04:05:06.789 NULL 3")
	})
}

// TestLooseChanges: the key compares by collation, so 'a' and 'A ' are one row.
func TestLooseChanges(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, "CREATE TABLE words (w varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci PRIMARY KEY, n int, UNIQUE KEY (n))")
		words := &replication.Table{
			Schema: "source", Name: "words",
			Columns: []replication.Column{
				{Name: "w", Kind: replication.KindText, Charset: "latin1", Collation: "latin1_swedish_ci"}, {Name: "n", Kind: replication.KindInt},
			},
			Primary: replication.Index{Columns: []int{0}},
		}
		r := h.start(h.target(target.Options{}, words))
		loose := func(before, after replication.Row) replication.Change {
			return replication.Change{Table: words, Before: before, After: after, Loose: true}
		}
		r.must(
			r.entry(loose(row("absent", "1"), nil)),
			r.entry(loose(nil, row("b\xe4r", "1")), loose(nil, row("x", "2"))),
			r.entry(loose(row("x", "2"), row("X", "3")), loose(row("X", "3"), row("y", "4"))),
			r.entry(loose(row("nobody", "8"), row("z", "8"))),
			chunk(words, replication.Span{}, position(4), row("B\xc4R", "5"), row("Y", "4"), row("a", "7")),
		)
		h.want("SELECT HEX(w), n FROM words ORDER BY n", "59 4", "42C452 5", "61 7", "7A 8")
		// When the table is copied its changes are strict again, by the collation.
		r.must(r.entry(update(words, row("A ", "7"), row("A", "9"))))
		h.want("SELECT HEX(w) FROM words WHERE n = 9", "41")
		if err := r.apply(r.entry(remove(words, "nobody", "0"))); err == nil || !strings.Contains(err.Error(), "nobody") {
			t.Errorf("a strict delete of a missing row: %v", err)
		}
	})
}

// TestDatetimeZone: DATETIME values of the source's zone are stored as UTC, in keys too.
func TestDatetimeZone(t *testing.T) {
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, "CREATE TABLE d (at datetime(1) PRIMARY KEY, other datetime, ts timestamp NULL)")
		d := &replication.Table{
			Schema: "source", Name: "d", Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
			Columns: []replication.Column{
				{Name: "at", Kind: replication.KindDatetime, Fsp: 1}, {Name: "other", Kind: replication.KindDatetime, Nullable: true}, {Name: "ts", Kind: replication.KindTimestamp, Nullable: true},
			},
		}
		r := h.start(h.target(target.Options{DatetimeZone: zone}, d))
		r.must(
			chunk(d, replication.Span{}, position(0), row("2021-01-01 20:00:00.5", "0000-00-00 00:00:00", "2021-01-01 20:00:00"), row("2021-07-01 20:00:00.0", null, null)),
			r.entry(update(d, row("2021-07-01 20:00:00.0", null, null), row("2021-07-02 20:00:00.0", "2021-07-02 20:00:00", null))),
			r.entry(insert(d, "2021-01-05 00:00:00.0", null, null)), r.entry(remove(d, "2021-01-05 00:00:00.0", null, null)),
		)
		h.want("SELECT * FROM d ORDER BY at", "2021-01-02 01:00:00.5 0000-00-00 00:00:00 2021-01-01 20:00:00", "2021-07-03 00:00:00.0 2021-07-03 00:00:00 NULL")
		err := r.apply(r.entry(insert(d, "2021-03-14 02:30:00.0", null, null)))
		if bad, ok := errors.AsType[*replication.RowError](err); !ok || bad.Column != "at" || !errors.Is(err, target.ErrNoSuchTime) {
			t.Errorf("a time that does not exist: %v", err)
		}
	})
}
