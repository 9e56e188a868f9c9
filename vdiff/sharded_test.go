package vdiff_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
	"github.com/tablehaul/tablehaul/vdiff"
)

// newSharded makes the databases of several source shards, s0, s1, ... and target shards, t0, t1, ... and runs the DDL on each of
// them. Tables are described as s0 has them.
func newSharded(tb testing.TB, sources, targets int, ddl ...string) *workflow {
	tb.Helper()
	src, dst := server(tb, "source"), server(tb, "target")
	servers.mu.Lock()
	servers.databases++
	name := fmt.Sprintf("db%d", servers.databases)
	servers.mu.Unlock()
	w := &workflow{name: "commerce.wf", sidecar: "_" + name, sources: map[string]*sql.DB{}, targets: map[string]*sql.DB{}}
	for i := range sources {
		w.sources[fmt.Sprint("s", i)] = database(tb, src, fmt.Sprintf("%s_source%d", name, i))
	}
	for i := range targets {
		w.targets[fmt.Sprint("t", i)] = database(tb, dst, fmt.Sprintf("%s_target%d", name, i))
	}
	for _, db := range w.sources {
		run(tb, db, ddl...)
	}
	for _, db := range w.targets {
		run(tb, db, ddl...)
	}
	if _, err := sidecar.Open(tb.Context(), w.targets["t0"], w.sidecar); err != nil {
		tb.Fatal(err)
	}
	var err error
	if w.tables, err = source.Tables(tb.Context(), w.sources["s0"], name+"_source0", nil); err != nil {
		tb.Fatal(err)
	}
	return w
}

// spread fills a table of every shard with rows 1 to n: row gives the values, from and to the shards of either end.
func (w *workflow) spread(tb testing.TB, table string, n int, row func(i int) string, from, to func(i int) int) {
	tb.Helper()
	values := map[*sql.DB][]string{}
	for i := 1; i <= n; i++ {
		for _, db := range []*sql.DB{w.sources[fmt.Sprint("s", from(i))], w.targets[fmt.Sprint("t", to(i))]} {
			values[db] = append(values[db], "("+row(i)+")")
		}
	}
	for db, list := range values {
		for part := range slices.Chunk(list, 1000) {
			run(tb, db, "INSERT INTO "+table+" VALUES "+strings.Join(part, ","))
		}
	}
}

// byColumn is the route of rows by an integer column, modulo the number of shards.
func byColumn(column, shards int) replication.Route {
	return replication.ByColumns([]int{column}, func(r replication.Row) (int, error) {
		var v []byte
		var err error
		for range column + 1 {
			if v, r, err = r.Next(); err != nil {
				return 0, err
			}
		}
		n, err := strconv.Atoi(string(v))
		return n % shards, err
	})
}

// places lists differences as "key@shard<source shard", with ">shard" for where a row belongs.
func places(diffs []vdiff.Difference) string {
	var out []string
	for _, d := range diffs {
		s := strings.TrimPrefix(d.Key.String(), "id=") + "@" + d.Shard
		if d.SourceShard != "" {
			s += "<" + d.SourceShard
		}
		if d.Belongs != "" {
			s += ">" + d.Belongs
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// TestLayouts plants differences of every kind with every layout of shards.
func TestLayouts(t *testing.T) {
	const rows = 3000
	for _, tc := range []struct{ sources, targets int }{{1, 4}, {4, 2}, {2, 3}, {4, 1}} {
		t.Run(fmt.Sprintf("%dto%d", tc.sources, tc.targets), func(t *testing.T) {
			w := newSharded(t, tc.sources, tc.targets, "CREATE TABLE t (id INT PRIMARY KEY, c INT, v VARCHAR(20))")
			w.route = byColumn(1, tc.targets)
			c := func(i int) int { return i * 7 % 101 }
			w.spread(t, "t", rows, func(i int) string { return fmt.Sprintf("%d,%d,'row %[1]d'", i, c(i)) },
				func(i int) int { return i % tc.sources }, func(i int) int { return c(i) % tc.targets })
			r := create(t, w, vdiff.Options{})
			if !r.Equal() || r.RowsCompared() != rows || len(r.TargetShards) != tc.targets || len(r.SourceShards) != tc.sources {
				t.Fatal(r)
			}
			var sum int64
			for _, s := range r.Tables[0].Shards {
				if s.RowsCompared() == 0 || s.HasMismatch() {
					t.Errorf("shard %s: %+v", s.Shard, s.Counts)
				}
				sum += s.MatchingRows
			}
			if sum != rows {
				t.Errorf("the shards have %d of %d rows", sum, rows)
			}
			home := func(i int) *sql.DB { return w.targets[fmt.Sprint("t", c(i)%tc.targets)] }
			away := func(i int) *sql.DB { return w.targets[fmt.Sprint("t", (c(i)+1)%tc.targets)] }
			run(t, home(10), "DELETE FROM t WHERE id=10")
			run(t, home(11), "INSERT INTO t VALUES (5000,"+fmt.Sprint(c(11))+",'extra')")
			run(t, home(20), "UPDATE t SET v='other' WHERE id=20")
			where := func(i int) string { return fmt.Sprintf("%d@t%d", i, c(i)%tc.targets) }
			from := func(i int) string { return fmt.Sprintf("%s<s%d", where(i), i%tc.sources) }
			extra, matching := fmt.Sprintf("5000@t%d", c(11)%tc.targets), rows-2
			stray, differs := "", from(20)
			if tc.targets > 1 {
				run(t, home(30), "DELETE FROM t WHERE id=30")
				run(t, away(30), fmt.Sprintf("INSERT INTO t VALUES (30,%d,'row 30')", c(30)))
				for _, id := range []int{40, 61} { // before and after the right shard
					run(t, away(id), fmt.Sprintf("INSERT INTO t VALUES (%d,%d,'row %[1]d')", id, c(id)))
				}
				run(t, home(50), "UPDATE t SET c=NULL WHERE id=50")
				strayed := func(i int) string { return fmt.Sprintf("%d@t%d", i, (c(i)+1)%tc.targets) }
				extra = strayed(40) + " " + strayed(61) + " " + extra
				differs += " " + from(50)
				matching--
				stray = fmt.Sprintf("%s>t%d %s>t%d %s %s>t%d", strayed(30), c(30)%tc.targets, strayed(40), c(40)%tc.targets, where(50), strayed(61), c(61)%tc.targets)
			}
			r = create(t, w, vdiff.Options{})
			table := r.Tables[0]
			got := []string{places(table.ExtraSource), places(table.ExtraTarget), places(table.Mismatched), sorted(places(table.Misplaced)), fmt.Sprint(table.MatchingRows)}
			want := []string{from(10), extra, differs, stray, fmt.Sprint(matching)}
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q\n%s", got, want, r)
			}
			checkShardsAddUp(t, r)
		})
	}
}

func sorted(s string) string {
	parts := strings.Fields(s)
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// checkShardsAddUp holds the counts of shards against those of their tables, and the samples against the counts.
func checkShardsAddUp(tb testing.TB, r *vdiff.Report) {
	tb.Helper()
	for _, t := range r.Tables {
		var sum vdiff.Counts
		for _, s := range t.Shards {
			sum.MatchingRows += s.MatchingRows
			sum.MismatchedRows += s.MismatchedRows
			sum.ExtraRowsSource += s.ExtraRowsSource
			sum.ExtraRowsTarget += s.ExtraRowsTarget
			sum.MisplacedRows += s.MisplacedRows
		}
		if sum != t.Counts {
			tb.Errorf("table %s: the shards' counts are %+v together, the table's %+v", t.Table, sum, t.Counts)
		}
	}
}

// TestReferenceTable has a table that every shard of both ends holds whole.
func TestReferenceTable(t *testing.T) {
	w := newSharded(t, 2, 3, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	w.pairs = []replication.TablePair{{Source: w.tables[0], SourceShards: []string{"s1"}, Route: replication.EveryShard()}}
	all := "INSERT INTO t VALUES (1,1),(2,2),(3,3)"
	run(t, w.sources["s1"], all)
	run(t, w.sources["s0"], "INSERT INTO t VALUES (1,0),(9,9)") // the stream does not read it from here
	for _, db := range w.targets {
		run(t, db, all)
	}
	r := create(t, w, vdiff.Options{})
	if !r.Equal() || r.RowsCompared() != 9 || r.Tables[0].Shard("t2").MatchingRows != 3 {
		t.Fatal(r)
	}
	run(t, w.targets["t1"], "UPDATE t SET v=22 WHERE id=2", "DELETE FROM t WHERE id=3")
	run(t, w.targets["t2"], "INSERT INTO t VALUES (4,4)")
	r = create(t, w, vdiff.Options{})
	table := r.Tables[0]
	if places(table.Mismatched) != "2@t1<s1" || places(table.ExtraSource) != "3@t1<s1" || places(table.ExtraTarget) != "4@t2" || table.MatchingRows != 7 || table.MisplacedRows != 0 {
		t.Error(r)
	}
	checkShardsAddUp(t, r)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"Shards":"t0,t1,t2"`,
		`"ShardSummaries":{"t0":{"State":"completed",`,
		`"TableStates":{"t":{"TableName":"t","State":"completed","RowsCompared":3,"MatchingRows":3,"MismatchedRows":0,"ExtraRowsSource":0,"ExtraRowsTarget":0,"HasMismatch":false}}},`,
		`"Reports":{"t":{"t1":{"TableName":"t","ProcessedRows":3,"MatchingRows":1,"MismatchedRows":1,"ExtraRowsSource":1,"ExtraRowsTarget":0,"ExtraRowsSourceSample":[{"Row":{"id":"3","v":"3"},"SourceShard":"s1"}],`,
		`"t2":{"TableName":"t","ProcessedRows":4,"MatchingRows":3,"MismatchedRows":0,"ExtraRowsSource":0,"ExtraRowsTarget":1,"ExtraRowsTargetSample":[{"Row":{"id":"4","v":"4"}}]}`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("missing: %s\nin:      %s", want, b)
		}
	}
	for _, want := range []string{
		"\tShard t1:\n\t\tRowsCompared:    3\n\t\tMatchingRows:    1\n", "\tdiffers on shard t1 in v: id=2\n", "\tonly on the target on shard t2: id=4, v=4\n",
		"\tonly on the source (shard s1), not on shard t1: id=3, v=3\n",
	} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("missing: %s\nin: %s", want, r)
		}
	}
}

// TestPinnedTable has a table that one shard of each end has.
func TestPinnedTable(t *testing.T) {
	w := newSharded(t, 2, 3)
	ddl := "CREATE TABLE t (id INT PRIMARY KEY, v INT)"
	run(t, w.sources["s1"], ddl, "INSERT INTO t VALUES (1,1),(2,2)")
	run(t, w.targets["t2"], ddl, "INSERT INTO t VALUES (1,1),(2,3)")
	run(t, w.targets["t0"], ddl, "INSERT INTO t VALUES (7,7)") // somebody else's
	tables, err := source.Tables(t.Context(), w.sources["s1"], strings.TrimSuffix(w.sidecar[1:], "_")+"_source1", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.pairs = []replication.TablePair{{Source: tables[0], SourceShards: []string{"s1"}, Route: replication.OneShard(1), TargetShards: []string{"t0", "t2", "t1"}}}
	r := create(t, w, vdiff.Options{})
	if table := r.Tables[0]; places(table.Mismatched) != "2@t2<s1" || table.RowsCompared() != 2 || len(table.Shards) != 1 {
		t.Error(r)
	}
	w.pairs[0].TargetShards = []string{"t0", "t7"}
	if _, err := vdiff.New(w).Create(t.Context(), vdiff.Options{}); err == nil || !strings.Contains(err.Error(), "table t: ") {
		t.Errorf("a shard that there is not: %v", err)
	}
}

// TestManyMisplaced has nearly all rows on the wrong shard, of a table whose key only the server can order.
func TestManyMisplaced(t *testing.T) {
	const rows = 9000
	w := newSharded(t, 3, 2, "CREATE TABLE t (k VARCHAR(40) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, c INT NOT NULL)")
	w.route = byColumn(1, 2)
	w.spread(t, "t", rows, func(i int) string { return fmt.Sprintf("'%s%d',%d", []string{"ä", "B", "c", "Zz", " "}[i%5], i, i) },
		func(i int) int { return min(i%50, 2) }, func(i int) int { return (i + 1) % 2 })
	run(t, w.targets["t0"], "UPDATE t SET c=c+1 WHERE c IN (1,3)") // these belong where they are now, and differ
	run(t, w.targets["t1"], "DELETE FROM t WHERE c=2", "INSERT INTO t VALUES ('zz3x',5)")
	r := create(t, w, vdiff.Options{MaxSampleRows: 3})
	table := r.Tables[0]
	if got, want := fmt.Sprint(table.MatchingRows, table.MismatchedRows, table.ExtraRowsSource, table.ExtraRowsTarget, table.MisplacedRows), fmt.Sprint(rows-3, 2, 1, 1, rows-3); got != want {
		t.Errorf("got %s, want %s\n%s", got, want, r)
	}
	if len(table.Misplaced) != 6 { // three of each shard
		t.Errorf("%d samples", len(table.Misplaced))
	}
	checkShardsAddUp(t, r)
}

// TestSameKeyOnTwoSourceShards has keys that are unique within a shard only.
func TestSameKeyOnTwoSourceShards(t *testing.T) {
	w := newSharded(t, 2, 2, "CREATE TABLE t (id INT PRIMARY KEY, c INT, v INT)")
	w.route = byColumn(1, 2)
	for i := range 2 {
		rows := fmt.Sprintf("INSERT INTO t VALUES (1,%d,%[1]d),(2,%[1]d,%[1]d),(3,%[1]d,%[1]d)", i)
		run(t, w.sources[fmt.Sprint("s", i)], rows)
		run(t, w.targets[fmt.Sprint("t", i)], rows)
	}
	if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != 6 || r.Tables[0].Shard("t1").MatchingRows != 3 {
		t.Fatal(r)
	}
	run(t, w.targets["t1"], "UPDATE t SET v=5 WHERE id=2", "DELETE FROM t WHERE id=3")
	r := create(t, w, vdiff.Options{})
	if table := r.Tables[0]; places(table.Mismatched) != "2@t1<s1" || places(table.ExtraSource) != "3@t1<s1" || table.MatchingRows != 4 {
		t.Error(r)
	}
	checkShardsAddUp(t, r)
}

// TestPair compares some rows and columns of tables that have other names.
func TestPair(t *testing.T) {
	w := newSharded(t, 1, 2)
	run(t, w.sources["s0"], "CREATE TABLE old (id INT PRIMARY KEY, tenant INT, total DECIMAL(9,2), note TEXT)",
		"INSERT INTO old VALUES (1,5,1.50,'a'),(2,6,2,'b'),(3,5,3,'c'),(4,5,4,'d'),(5,5,NULL,'e')")
	for i := range 2 {
		run(t, w.targets[fmt.Sprint("t", i)], "CREATE TABLE `new` (tenant_id INT, `order id` INT, total DECIMAL(9,2), origin VARCHAR(9) CHARACTER SET latin1, seen INT, PRIMARY KEY (tenant_id,`order id`))",
			fmt.Sprintf("INSERT INTO `new` VALUES (6,%d,7,'other',1)", i+1)) // of another workflow
	}
	run(t, w.targets["t0"], "INSERT INTO `new` VALUES (5,4,4,'é',1)")
	run(t, w.targets["t1"], "INSERT INTO `new` VALUES (5,1,1.5,'é',1),(5,3,3,'é',2),(5,5,NULL,'é',2)")
	name := w.sidecar[1:]
	from, err := source.Tables(t.Context(), w.sources["s0"], name+"_source0", []string{"old"})
	if err != nil {
		t.Fatal(err)
	}
	to, err := source.Tables(t.Context(), w.targets["t0"], name+"_target0", []string{"new"})
	if err != nil {
		t.Fatal(err)
	}
	w.pairs = []replication.TablePair{{
		Source: from[0], Target: to[0],
		Columns: []replication.ColumnPair{
			{Target: "tenant_id", Source: "Tenant"},
			{Target: "order id", Source: "id"},
			{Target: "total", Source: "total"},
			{Target: "origin", Value: []byte("\xe9")},
		},
		SourceWhere: "s.`tenant`=5", TargetWhere: "s.`tenant_id`=5",
		Route: byColumn(1, 2),
	}}
	w.wait = waitAfterCheck(func(context.Context) error {
		t.Error("sums of equal rows differ")
		return nil
	})
	r := create(t, w, vdiff.Options{Tables: []string{"new"}})
	if !r.Equal() || r.RowsCompared() != 4 {
		t.Fatal(r)
	}
	w.wait = nil
	run(t, w.targets["t1"], "UPDATE `new` SET origin='e' WHERE `order id`=1", "DELETE FROM `new` WHERE `order id`=3", "INSERT INTO `new` VALUES (5,9,9,'é',1)")
	run(t, w.sources["s0"], "UPDATE old SET tenant=7 WHERE id=4", "UPDATE old SET note='z'")
	table := create(t, w, vdiff.Options{}).Tables[0]
	if got := fmt.Sprint(table.Table, table.MatchingRows, "|", table.Mismatched, "|", places(table.ExtraSource), "|", places(table.ExtraTarget)); got !=
		"new1|[{order id=1 order id=1, tenant_id=5, total=1.50, origin=0xE9 order id=1, tenant_id=5, total=1.50, origin=e [origin] t1 s0 }]|order id=3@t1<s0|order id=4@t0 order id=9@t1" {
		t.Error(got)
	}
	w.pairs[0].Columns[0].Source = "nope"
	if _, err := vdiff.New(w).Create(t.Context(), vdiff.Options{}); err == nil || !strings.Contains(err.Error(), "column nope") {
		t.Errorf("a column that there is not: %v", err)
	}
}

// TestZoneInKey has keys that are converted to UTC, around the hour that clocks show twice.
func TestZoneInKey(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	const rows = 6000
	w := newSharded(t, 1, 2, "CREATE TABLE t (d DATETIME(3), n INT, v INT, PRIMARY KEY (d,n))")
	w.zone = zone
	w.route = byColumn(1, 2)
	// In UTC, clocks were put back at 01:00 on October 27th. Half a minute each, two rows at a time.
	start := time.Date(2024, 10, 26, 12, 0, 0, 0, time.UTC)
	src, dst := []string{}, [2][]string{}
	add := func(i int, d time.Time, n int) {
		dst[n%2] = append(dst[n%2], fmt.Sprintf("('%s',%d,%d)", d.Format("2006-01-02 15:04:05.000"), n, i))
	}
	for i := range rows {
		utc := start.Add(time.Duration(i/2) * 30 * time.Second)
		shown := utc.In(zone)
		if begin, _ := shown.ZoneBounds(); utc.Sub(begin) < time.Hour {
			continue // no value of the source means the second time
		}
		src = append(src, fmt.Sprintf("('%s',%d,%d)", shown.Format("2006-01-02 15:04:05.000"), i, i))
		add(i, utc, i)
	}
	src = append(src, "('0000-00-00',1,1)")
	dst[1] = append(dst[1], "('0000-00-00',1,1)")
	equal := len(src)
	run(t, w.sources["s0"], "INSERT INTO t VALUES "+strings.Join(src, ","))
	for i := range 2 {
		run(t, w.targets[fmt.Sprint("t", i)], "INSERT INTO t VALUES "+strings.Join(dst[i], ","))
	}
	r := create(t, w, vdiff.Options{})
	if !r.Equal() || r.RowsCompared() != int64(equal) {
		t.Fatal(r)
	}
	// So many extra rows in that hour that chunks begin and end there.
	dst = [2][]string{}
	for i := range 2 * rows {
		add(i, time.Date(2024, 10, 27, 1, 0, 0, 0, time.UTC).Add(time.Duration(i)*200*time.Millisecond), i)
	}
	for i := range 2 {
		run(t, w.targets[fmt.Sprint("t", i)], "INSERT INTO t VALUES "+strings.Join(dst[i], ","), "UPDATE t SET v=-1 WHERE d='2024-10-27 00:59:30' OR d='2024-10-27 02:00:00'", "DELETE FROM t WHERE d='2024-10-27 00:30:00'")
	}
	r = create(t, w, vdiff.Options{})
	table := r.Tables[0]
	if table.ExtraRowsTarget != 2*rows || table.MismatchedRows != 4 || table.ExtraRowsSource != 2 || table.MatchingRows != int64(equal-6) || table.MisplacedRows != 0 {
		t.Error(r)
	}
}
