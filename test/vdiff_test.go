package test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/vdiff"
)

// TestVDiffSharded compares two source shards with three target shards while rows move between the target shards: nothing is found. Then it
// plants a difference of each kind, and each is found on its shard.
func TestVDiffSharded(t *testing.T) {
	t.Parallel()
	l := newReshardLab(t)
	l.worker(t)
	r := l.newReshard(t, "diffed", []string{"-80", "80-"}, []string{"-55", "55-aa", "aa-"}, 4000)
	// The source's rows are not where this VSchema would have them.
	vs := &topo.VSchema{Sharded: true, Tables: map[string]*topo.Table{"countries": {Type: "reference"}}}
	if err := l.ext.SaveVSchema(t.Context(), "diffed", vs); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stop := r.write(t, seed, 4000, 5*time.Millisecond)
	r.create(t)
	r.await(t, "everything is copied", running)
	d := vdiff.New(r.wf)
	for range 2 {
		report, err := d.Create(t.Context(), vdiff.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if report.HasMismatch() || report.RowsCompared() < 4000 {
			t.Errorf("under writes:\n%s", report)
		}
		t.Logf("%d rows compared, %d unsettled", report.RowsCompared(), report.Unsettled())
	}
	stop()
	l.ruled(t)
	r.check(t)
	want := r.plant(t)
	report, err := d.Create(t.Context(), vdiff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, table := range report.Tables {
		add := func(kind string, list []vdiff.Difference) {
			for _, d := range list {
				key := fmt.Sprintf("%s of %s", kind, table.Table)
				found[key] = append(found[key], strings.TrimSpace(fmt.Sprintf("%s@%s %s", d.Key, d.Shard, d.Belongs)))
				slices.Sort(found[key]) // shards are asked at once
			}
		}
		add("mismatched", table.Mismatched)
		add("only on the source", table.ExtraSource)
		add("only on the target", table.ExtraTarget)
		add("misplaced", table.Misplaced)
	}
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("found  %v\nwanted %v\n%s", found, want, report)
	}
	shown, err := d.Show(t.Context(), vdiff.Last)
	if err != nil || shown.String() != report.String() {
		t.Errorf("shown: %v\n%s", err, shown)
	}
}

// plant changes rows on the targets, and returns what has to be found.
func (r *reshard) plant(t *testing.T) map[string][]string {
	t.Helper()
	exec := func(shard int, query string) {
		t.Helper()
		r.dst[shard%2].MustExec(t, "USE "+r.targets[shard].Database+"; "+query)
	}
	first := func(shard int, query string) string {
		t.Helper()
		return r.dst[shard%2].MustQuery(t, strings.ReplaceAll(query, "FROM ", "FROM "+r.targets[shard].Database+"."))[0][0]
	}
	name := func(shard int) string { return r.targets[shard].Name }
	missing, changed := first(0, "SELECT MIN(id) FROM orders"), first(1, "SELECT MIN(id) FROM orders")
	moved, copied := first(2, "SELECT MIN(id) FROM orders"), first(0, "SELECT MAX(id) FROM orders")
	move := func(id string, from, to int) {
		exec(to, "INSERT INTO orders VALUES ("+first(from, "SELECT CONCAT_WS(',', id, customer, QUOTE(note), IFNULL(serial, 'NULL')) FROM orders WHERE id = "+id)+")")
	}
	move(moved, 2, 1)
	exec(2, "DELETE FROM orders WHERE id = "+moved)
	move(copied, 0, 2)
	exec(0, "DELETE FROM orders WHERE id = "+missing)
	exec(1, "UPDATE orders SET note = 'planted' WHERE id = "+changed)
	country, gone := first(1, "SELECT MIN(id) FROM countries"), first(1, "SELECT MAX(id) FROM countries")
	exec(1, "UPDATE countries SET name = 'planted' WHERE id = "+country+"; DELETE FROM countries WHERE id = "+gone)
	exec(2, "INSERT INTO countries VALUES (1000, 'planted')")
	exec(2, "INSERT INTO settings VALUES ('planted', '1')")
	return map[string][]string{
		"only on the source of orders":    {fmt.Sprintf("id=%s@%s", missing, name(0))},
		"mismatched of orders":            {fmt.Sprintf("id=%s@%s", changed, name(1))},
		"only on the target of orders":    {fmt.Sprintf("id=%s@%s", copied, name(2))},
		"misplaced of orders":             slices.Sorted(slices.Values([]string{fmt.Sprintf("id=%s@%s %s", moved, name(1), name(2)), fmt.Sprintf("id=%s@%s %s", copied, name(2), name(0))})),
		"mismatched of countries":         {fmt.Sprintf("id=%s@%s", country, name(1))},
		"only on the source of countries": {fmt.Sprintf("id=%s@%s", gone, name(1))},
		"only on the target of countries": {fmt.Sprintf("id=1000@%s", name(2))},
		"only on the target of settings":  {fmt.Sprintf("k=planted@%s", name(2))},
	}
}

// ruled compares tables of which some rows and columns are moved, under other names and with DATETIME values, also in a key, converted.
func (l *reshardLab) ruled(t *testing.T) {
	t.Helper()
	r := l.newReshard(t, "ruled", []string{"0"}, []string{"-80", "80-"}, 1000)
	vs, err := topo.ParseVSchema([]byte(`{"sharded": true, "vindexes": {"h": {"type": "hash"}}, "tables": {
		"sales": {"column_vindexes": [{"column": "client", "name": "h"}]}, "clock": {"column_vindexes": [{"column": "n", "name": "h"}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.ts.SaveVSchema(t.Context(), r.keyspace, vs); err != nil {
		t.Fatal(err)
	}
	// The hour that clocks show twice, and those around it.
	l.src[0].MustExec(t, "USE "+r.sources[0].Database+`; CREATE TABLE clock (at datetime(3), n int, hour int AS (hour(at)), PRIMARY KEY (at, n));
		INSERT INTO clock (at, n) SELECT '2024-10-27 00:30:00' + INTERVAL id * 20 SECOND, id FROM orders`)
	_, err = r.wf.Create(t.Context(), migrate.CreateOptions{
		Source: "ext." + r.keyspace, Tables: []string{"clock"}, SourceTimeZone: "Europe/Berlin",
		Filters: map[string]string{"sales": "select id, customer as client, note as memo from orders where id > 100 and note > '4'"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.await(t, "everything is copied", running)
	d := vdiff.New(r.wf)
	sales := l.src[0].MustQuery(t, "SELECT COUNT(*), MIN(id), MAX(id) FROM "+r.sources[0].Database+".orders WHERE id > 100 AND note > '4'")[0]
	report, err := d.Create(t.Context(), vdiff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !report.Equal() || len(report.Tables) != 2 || report.Tables[0].MatchingRows != 1000 || fmt.Sprint(report.Tables[1].MatchingRows) != sales[0] {
		t.Fatalf("%s of 1000 rows:\n%s", sales[0], report)
	}
	for i, s := range r.targets {
		l.dst[i%2].MustExec(t, fmt.Sprintf("USE %s; UPDATE sales SET memo = 'planted' WHERE id = %s; DELETE FROM sales WHERE id = %s; DELETE FROM clock WHERE at = '2024-10-27 00:30:00'", s.Database, sales[1], sales[2]))
	}
	if report, err = d.Create(t.Context(), vdiff.Options{}); err != nil {
		t.Fatal(err)
	}
	clock, orders := report.Tables[0], report.Tables[1]
	if clock.ExtraRowsSource != 1 || clock.ExtraSource[0].Key.String() != "at=2024-10-27 00:30:00.000, n=360" ||
		orders.MismatchedRows != 1 || orders.Mismatched[0].Key.String() != "id="+sales[1] || orders.ExtraRowsSource != 1 || orders.ExtraSource[0].Key.String() != "id="+sales[2] ||
		clock.MatchingRows != 999 || clock.ExtraRowsTarget+orders.ExtraRowsTarget+clock.MisplacedRows+orders.MisplacedRows != 0 {
		t.Errorf("planted: %s", report)
	}
}
