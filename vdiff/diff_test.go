package vdiff_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/vdiff"
)

// create compares and fails the test on an error.
func create(tb testing.TB, w *workflow, opts vdiff.Options) *vdiff.Report {
	tb.Helper()
	r, err := vdiff.New(w).Create(tb.Context(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	if r.State != vdiff.StateCompleted {
		tb.Fatalf("state %s", r.State)
	}
	return r
}

// types is a table with a column of every type that both servers have, and two rows: one of plain and extreme values, one
// of NULL.
const types = `CREATE TABLE types (
 id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
 i TINYINT, iu INT UNSIGNED, iz INT(8) ZEROFILL, d DECIMAL(30,10), f FLOAT, f2 FLOAT(10,2), db DOUBLE, y YEAR,
 da DATE, ti TIME(6), dt DATETIME(6), dt0 DATETIME, ts TIMESTAMP(6) NULL, b1 BIT(1), b64 BIT(64),
 e ENUM('a','b','c'), s SET('x','y','z'),
 c CHAR(20) CHARACTER SET utf8mb4, vc VARCHAR(200) CHARACTER SET utf8mb4, vl VARCHAR(50) CHARACTER SET latin1, vu VARCHAR(50) CHARACTER SET utf16, tx LONGTEXT CHARACTER SET utf8mb4,
 bn BINARY(8), vb VARBINARY(50), bl LONGBLOB, js JSON, g GEOMETRY, g1 VARCHAR(50) GENERATED ALWAYS AS (CONCAT(i, '!')) VIRTUAL, g2 INT GENERATED ALWAYS AS (i + 1) STORED)`

const typesRow = `INSERT INTO types (id,i,iu,iz,d,f,f2,db,y,da,ti,dt,dt0,ts,b1,b64,e,s,c,vc,vl,vu,tx,bn,vb,bl,js,g) VALUES
 (18446744073709551615, -128, 4294967295, 42, -12345678901234567890.0123456789, 16777216, 1.25, 0.1, 2024, '2024-02-29', '-838:59:58.999999', '2024-01-02 03:04:05.123456', '9999-12-31 23:59:59',
 '2024-06-01 12:00:00.000001', b'1', b'1111111111111111111111111111111111111111111111111111111111111111', 'b', 'x,z', 'a ', 'x0', 'é', 'ß', REPEAT('long',100), 'ab', 'v\0', REPEAT('b',1000),
 '{"a": [1, 2.5, null], "b": "ü"}', ST_GeomFromText('LINESTRING(0 0,1 1.5)'))`

// TestOneChange changes one value of one row on the target at a time. Each must be found, in the right row and column.
func TestOneChange(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, types, typesRow, "INSERT INTO types (id) VALUES (7)",
		"ALTER TABLE types ADD v VECTOR(3)", "UPDATE types SET v=STRING_TO_VECTOR('[1,2,3]') WHERE id<>7")
	if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != 2 {
		t.Fatalf("before any change:\n%s", r)
	}
	for _, tc := range []struct{ column, value string }{
		{"i", "-127"},
		{"i", "NULL"},
		{"iu", "4294967294"},
		{"iz", "43"},
		{"d", "d+0.0000000001"},
		{"f", "16777218"},
		{"f2", "1.26"},
		{"db", "0.10000000000000002e0"},
		{"db", "-0.1"},
		{"y", "0"},
		{"y", "2000"},
		{"da", "'2024-02-28'"},
		{"da", "'0000-00-00'"},
		{"ti", "'-838:59:58.999998'"},
		{"ti", "'838:59:58.999999'"},
		{"dt", "'2024-01-02 03:04:05.123457'"},
		{"dt0", "'9999-12-31 23:59:58'"},
		{"ts", "'2024-06-01 12:00:00.000002'"},
		{"b1", "b'0'"},
		{"b64", "18446744073709551614"},
		{"b64", "NULL"},
		{"e", "'c'"},
		{"e", "0"},
		{"s", "'x,y'"},
		{"s", "''"},
		{"c", "'A'"},
		{"c", "'á'"},
		{"vc", "'X0'"},
		{"vc", "'x0 '"},
		{"vc", "''"},
		{"vc", "NULL"},
		{"vc", "'N'"},
		{"vl", "'É'"},
		{"vu", "'s'"},
		{"tx", "CONCAT(REPEAT('long',99),'lonG')"},
		{"tx", "CONCAT(tx,' ')"},
		{"bn", "'ab\\0\\0\\0\\0\\0x'"},
		{"vb", "'v'"},
		{"vb", "'v\\0\\0'"},
		{"bl", "CONCAT(REPEAT('b',999),'c')"},
		{"bl", "''"},
		{"js", `'{"a": [1, 2.5, null], "b": "u"}'`},
		{"js", `'{"a": [1, 2.5], "b": "ü"}'`},
		{"js", "'null'"},
		{"js", "NULL"},
		{"g", "ST_GeomFromText('LINESTRING(0 0,1 1.5000000000000002)')"},
		{"g", "ST_GeomFromText('LINESTRING(0 0,1 1.5)',4326)"},
		{"v", "STRING_TO_VECTOR('[1,2,3.0000002]')"},
	} {
		t.Run(tc.column+"="+tc.value, func(t *testing.T) {
			run(t, w.target(), fmt.Sprintf("UPDATE types SET %s=%s WHERE id<>7", tc.column, tc.value))
			defer run(t, w.target(), "DELETE FROM types WHERE id<>7", typesRow, "UPDATE types SET v=STRING_TO_VECTOR('[1,2,3]') WHERE id<>7")
			r := create(t, w, vdiff.Options{})
			table := r.Tables[0]
			if table.MismatchedRows != 1 || table.MatchingRows != 1 || table.ExtraRowsSource+table.ExtraRowsTarget != 0 || !r.HasMismatch() || len(table.Mismatched) != 1 {
				t.Fatalf("one change:\n%s", r)
			}
			d := table.Mismatched[0]
			want := []string{tc.column}
			if tc.column == "i" {
				want = append(want, "g1", "g2")
			}
			if d.Key.String() != "id=18446744073709551615" || !slices.Equal(d.Columns, want) {
				t.Errorf("key %s, columns %q; want %q", d.Key, d.Columns, want)
			}
			a, _ := d.Source.Value(tc.column)
			b, _ := d.Target.Value(tc.column)
			if a == b && !strings.HasSuffix(a.Text, "...[TRUNCATED]") {
				t.Errorf("both sides are shown as %+v", a)
			}
		})
	}
}

// TestNullIsNoText holds NULL of a row without values against texts that look like it.
func TestNullIsNoText(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, types, "INSERT INTO types (id) VALUES (7)")
	for _, column := range []string{"vc", "tx", "bl", "vb", "c"} {
		for _, value := range []string{"''", "'N'", "'NULL'", "'0'"} {
			run(t, w.target(), "UPDATE types SET "+column+"="+value)
			if r := create(t, w, vdiff.Options{}); r.Tables[0].MismatchedRows != 1 || !slices.Equal(r.Tables[0].Mismatched[0].Columns, []string{column}) {
				t.Errorf("%s=%s:\n%s", column, value, r)
			}
			run(t, w.target(), "UPDATE types SET "+column+"=NULL")
		}
	}
	if r := create(t, w, vdiff.Options{}); !r.Equal() {
		t.Errorf("changed back:\n%s", r)
	}
}

// TestSwappedValues has rows whose columns, or neighbours, hold each other's bytes.
func TestSwappedValues(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(20), b VARCHAR(20), n INT, m INT)")
	run(t, w.source(), "INSERT INTO t VALUES (1,'x0','y',1,11), (2,'p','q',2,22), (3,'r','s',3,33), (4,NULL,'',4,44), (5,'1:a','',12,3)")
	run(t, w.target(), "INSERT INTO t VALUES (1,'x','0y',1,11), (2,'r','q',2,22), (3,'p','s',3,33), (4,'',NULL,4,44), (5,'','1:a',1,23)")
	r := create(t, w, vdiff.Options{})
	want := map[string]string{"id=1": "a b", "id=2": "a", "id=3": "a", "id=4": "a b", "id=5": "a b n m"}
	got := map[string]string{}
	for _, d := range r.Tables[0].Mismatched {
		got[d.Key.String()] = strings.Join(d.Columns, " ")
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || r.Tables[0].MismatchedRows != 5 || r.RowsCompared() != 5 {
		t.Errorf("got %v, want %v\n%s", got, want, r)
	}
}

// keys returns what a list of differences names, in order.
func keys(diffs []vdiff.Difference) string {
	var out []string
	for _, d := range diffs {
		out = append(out, strings.TrimPrefix(d.Key.String(), "id="))
	}
	return strings.Join(out, " ")
}

// TestMissingAndExtraRows plants every kind of difference over a table of several chunks and leaves.
func TestMissingAndExtraRows(t *testing.T) {
	const n = 25_000
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(40) NOT NULL)", "CREATE TABLE nothing (id INT PRIMARY KEY)",
		"CREATE TABLE same (id INT PRIMARY KEY)", "INSERT INTO same VALUES (1),(2)")
	w.fill(t, "t", n, func(i int) string { return fmt.Sprintf("%d,'row %[1]d'", 2*i) })
	run(t, w.target(), "DELETE FROM t WHERE id IN (2, 20000, 20002, 50000)",
		"INSERT INTO t VALUES (-5,'before all'), (1,'before the first'), (30001,'in a gap'), (50001,'after the last'), (60000,'far after'), (2000000000,'at the end')",
		"UPDATE t SET v='changed' WHERE id IN (4, 25000, 49998)",
		"UPDATE t SET id=33333 WHERE id=33334", // the row under another key
	)
	r := create(t, w, vdiff.Options{})
	if len(r.Tables) != 3 || r.Tables[2].Table != "t" {
		t.Fatalf("tables:\n%s", r)
	}
	table := r.Tables[2]
	check := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("only on the source", keys(table.ExtraSource), "2 20000 20002 33334 50000")
	check("only on the target", keys(table.ExtraTarget), "-5 1 30001 33333 50001 60000 2000000000")
	check("different", keys(table.Mismatched), "4 25000 49998")
	check("counts", fmt.Sprint(table.MatchingRows, table.MismatchedRows, table.ExtraRowsSource, table.ExtraRowsTarget), fmt.Sprint(n-5-3, 3, 5, 7))
	check("rows compared", table.RowsCompared(), int64(n+7))
	check("other tables", fmt.Sprint(r.Tables[0].RowsCompared(), r.Tables[1].RowsCompared(), r.Tables[1].HasMismatch()), "0 2 false")
	if t.Failed() {
		t.Log(r)
	}

	r = create(t, w, vdiff.Options{Tables: []string{"t", "t"}, MaxSampleRows: 2})
	table = r.Tables[0]
	check("two samples of each kind", fmt.Sprint(len(r.Tables), len(table.ExtraSource), len(table.ExtraTarget), len(table.Mismatched)), "1 2 2 2")
	check("counts with two samples", fmt.Sprint(table.MismatchedRows, table.ExtraRowsSource, table.ExtraRowsTarget), "3 5 7")
}

// TestFarMoreRowsOnTarget has a target of which the source holds next to nothing.
func TestFarMoreRowsOnTarget(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (a INT NOT NULL, b VARCHAR(20) COLLATE utf8mb4_0900_ai_ci NOT NULL, v INT, PRIMARY KEY (a,b))")
	w.fill(t, "t", 12_000, func(i int) string { return fmt.Sprintf("%d,'k%d',%d", i%7, i, i) })
	run(t, w.source(), "DELETE FROM t WHERE v NOT IN (100, 6000)")
	r := create(t, w, vdiff.Options{})
	if table := r.Tables[0]; table.MatchingRows != 2 || table.ExtraRowsTarget != 11_998 || table.MismatchedRows+table.ExtraRowsSource != 0 || len(table.ExtraTarget) != 10 {
		t.Error(r)
	}
	run(t, w.source(), "DELETE FROM t")
	if r := create(t, w, vdiff.Options{}); r.Tables[0].ExtraRowsTarget != 12_000 || r.RowsCompared() != 12_000 {
		t.Errorf("source empty:\n%s", r)
	}
	run(t, w.target(), "DELETE FROM t")
	if r := create(t, w, vdiff.Options{}); r.RowsCompared() != 0 || !r.Equal() {
		t.Errorf("both empty:\n%s", r)
	}
}

// TestFoldedKeys has keys that the server compares by a collation.
func TestFoldedKeys(t *testing.T) {
	for _, collation := range []string{"utf8mb4_0900_ai_ci", "utf8mb4_bin", "latin1_swedish_ci", "utf8mb4_general_ci"} {
		t.Run(collation, func(t *testing.T) {
			charset, _, _ := strings.Cut(collation, "_")
			w := newWorkflow(t, "source", []string{"target"}, fmt.Sprintf("CREATE TABLE t (k VARCHAR(40) CHARACTER SET %s COLLATE %s PRIMARY KEY, v INT)", charset, collation))
			w.fill(t, "t", 5000, func(i int) string { return fmt.Sprintf("'%s%d',%d", []string{"ä", "B", "c", "Zz", " "}[i%5], i, i) })
			if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != 5000 {
				t.Fatal(r)
			}
			run(t, w.target(), "UPDATE t SET k='C2' WHERE v=2", "DELETE FROM t WHERE v IN (1,4999)", "INSERT INTO t VALUES ('zzz',0)")
			r := create(t, w, vdiff.Options{})
			table := r.Tables[0]
			got := fmt.Sprint(table.MatchingRows, table.MismatchedRows, table.ExtraRowsSource, table.ExtraRowsTarget)
			if strings.HasSuffix(collation, "_bin") {
				if got != "4997 0 3 2" {
					t.Errorf("%s:\n%s", got, r)
				}
				return
			}
			// For the server c2 and C2 are one key.
			if got != "4997 1 2 1" || !slices.Equal(table.Mismatched[0].Columns, []string{"k"}) {
				t.Errorf("%s:\n%s", got, r)
			}
		})
	}
}

// TestRowLongerThanPacket has rows that no server can hash as one string.
func TestRowLongerThanPacket(t *testing.T) {
	for _, name := range []string{"source", "target"} {
		s := server(t, name)
		s.MustExec(t, "SET GLOBAL max_allowed_packet=1048576")
		t.Cleanup(func() { _ = s.Exec(context.WithoutCancel(t.Context()), "SET GLOBAL max_allowed_packet=67108864") })
	}
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, a LONGBLOB, b LONGBLOB)",
		"INSERT INTO t VALUES (1,REPEAT('a',600000),REPEAT('b',600000)), (2,'x','y')")
	if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != 2 {
		t.Fatal(r)
	}
	run(t, w.target(), "UPDATE t SET b=CONCAT(REPEAT('b',599999),'c') WHERE id=1")
	if r := create(t, w, vdiff.Options{}); r.Tables[0].MismatchedRows != 1 || keys(r.Tables[0].Mismatched) != "1" || r.Tables[0].MatchingRows != 1 {
		t.Fatal(r)
	}
}

// TestMariaDBTarget compares values across the two kinds of server.
func TestMariaDBTarget(t *testing.T) {
	w := newWorkflow(t, "source", []string{"mariadb"}, types, typesRow, "INSERT INTO types (id) VALUES (7)")
	// The target holds the text that MySQL makes of a document.
	run(t, w.target(), `UPDATE types SET js='{"a": [1, 2.5, null], "b": "ü"}' WHERE id<>7`)
	w.fill(t, "types (id,f,db,d,dt)", 200, func(i int) string {
		return fmt.Sprintf("%d,%d.%de-%d,%d.%[3]d%[2]de%[4]d,%[2]d.%[3]d,'2024-01-02 03:04:05.%06[2]d'", 100+i, i, i*i, i%30, i*7)
	})
	if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != 202 {
		t.Fatal(r)
	}
	run(t, w.target(), "UPDATE types SET f=f*1.000001 WHERE id=150", "UPDATE types SET vl='e' WHERE id>1000", "DELETE FROM types WHERE id=7")
	r := create(t, w, vdiff.Options{})
	if keys(r.Tables[0].Mismatched) != "150 18446744073709551615" || keys(r.Tables[0].ExtraSource) != "7" || r.Tables[0].ExtraRowsTarget != 0 {
		t.Fatal(r)
	}
}

// TestShardsAddUp spreads the target's rows over shards, and puts one on two of them.
func TestShardsAddUp(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target", "target", "target"}, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	w.fill(t, "t", 10_000, func(i int) string { return fmt.Sprintf("%d,%[1]d", i) })
	w.route = byID(func(id int) int { return id % 3 })
	for i := range 3 {
		run(t, w.targets[fmt.Sprint(i)], fmt.Sprintf("DELETE FROM t WHERE id%%3<>%d", i))
	}
	if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != 10_000 {
		t.Fatal(r)
	}
	run(t, w.targets["0"], "INSERT INTO t VALUES (1,1)", "DELETE FROM t WHERE id=3000")
	run(t, w.targets["1"], "UPDATE t SET v=0 WHERE id=4")
	r := create(t, w, vdiff.Options{})
	table := r.Tables[0]
	if keys(table.ExtraTarget) != "1" || keys(table.ExtraSource) != "3000" || keys(table.Mismatched) != "4" || table.MatchingRows != 9998 || keys(table.Misplaced) != "1" {
		t.Fatal(r)
	}
}

// TestSourceTimeZone compares DATETIME values of a zone with UTC.
func TestSourceTimeZone(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, dt DATETIME(3), ts TIMESTAMP NULL, f DOUBLE, v VARCHAR(20), hour INT GENERATED ALWAYS AS (HOUR(dt)))",
		"INSERT INTO t (id,dt,ts,f,v) VALUES (1,'2024-07-01 12:00:00.125','2024-07-01 12:00:00',1.5,'x'), (2,'2024-01-01 00:30:00.000','2024-01-01 00:30:00',-0.0,''), (3,'0000-00-00',NULL,NULL,NULL), (4,NULL,NULL,1e300,'é'), (5,'9999-12-31 23:59:59.999',NULL,0,'')")
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	w.zone = zone
	r := create(t, w, vdiff.Options{})
	if keys(r.Tables[0].Mismatched) != "1 2 5" || r.Tables[0].MatchingRows != 2 {
		t.Fatalf("not converted on the target:\n%s", r)
	}
	run(t, w.target(), "UPDATE t SET dt='2024-07-01 10:00:00.125' WHERE id=1", "UPDATE t SET dt='2023-12-31 23:30:00' WHERE id=2", "UPDATE t SET dt='9999-12-31 22:59:59.999' WHERE id=5")
	if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != 5 {
		t.Fatalf("converted on the target:\n%s", r)
	}
}

// TestHashesMadeHere holds the hashes that are computed in this process against those of the server, for all types.
func TestHashesMadeHere(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, types, typesRow, "INSERT INTO types (id) VALUES (7)", "ALTER TABLE types ADD v VECTOR(3)", "UPDATE types SET v=STRING_TO_VECTOR('[1,2,3]') WHERE id<>7")
	w.zone = time.UTC
	if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != 2 {
		t.Fatal(r)
	}
	run(t, w.target(), "UPDATE types SET db=0.2 WHERE id<>7")
	if r := create(t, w, vdiff.Options{}); r.Tables[0].MismatchedRows != 1 || !slices.Equal(r.Tables[0].Mismatched[0].Columns, []string{"db"}) {
		t.Fatal(r)
	}
}

// TestCompositeKeyReadsOneRange proves that a chunk in the middle of a composite key does not read the rows before it.
func TestCompositeKeyReadsOneRange(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (a INT NOT NULL, b INT NOT NULL, c INT NOT NULL, v INT, PRIMARY KEY (a,b,c))")
	w.fill(t, "t", 30_000, func(i int) string { return fmt.Sprintf("1,%d,%d,%d", i/10, i%10, i) })
	before := rowsRead(t, w)
	if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != 30_000 {
		t.Fatal(r)
	}
	// Once to find the chunks, once to sum them, and a little.
	if n := rowsRead(t, w) - before; n > 70_000 {
		t.Errorf("%d rows read on the source for a table of 30000", n)
	}
}

func rowsRead(t *testing.T, w *workflow) int {
	t.Helper()
	n := 0
	for _, row := range server(t, "source").MustQuery(t, "SHOW GLOBAL STATUS LIKE 'Handler_read_%'") {
		if row[0] == "Handler_read_next" || row[0] == "Handler_read_rnd_next" {
			var v int
			if _, err := fmt.Sscan(row[1], &v); err != nil {
				t.Fatal(err)
			}
			n += v
		}
	}
	return n
}

func TestTruncatedValuesAreComparedWhole(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (1,REPEAT('é',1000))")
	run(t, w.target(), "UPDATE t SET v=CONCAT(REPEAT('é',999),'e')")
	for _, tc := range []struct{ cut, bytes int }{{0, 128 + 14}, {50, 50 + 14}, {-1, 2000}} {
		r := create(t, w, vdiff.Options{ColumnTruncate: tc.cut})
		if r.Tables[0].MismatchedRows != 1 {
			t.Fatal(r)
		}
		if v, _ := r.Tables[0].Mismatched[0].Source.Value("v"); len(v.Text) != tc.bytes {
			t.Errorf("cut %d: %d bytes: %s", tc.cut, len(v.Text), v.Text)
		}
	}
}

func TestCancelledContextStops(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	run(t, w.target(), "DELETE FROM t")
	ctx, cancel := context.WithCancel(t.Context())
	w.wait = waitAfterCheck(func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if _, err := vdiff.New(w).Create(ctx, vdiff.Options{}); err == nil || ctx.Err() == nil {
		t.Fatalf("error %v", err)
	}
	r, err := vdiff.New(w).Show(t.Context(), vdiff.Last)
	if err != nil {
		t.Fatal(err)
	}
	if r.State != vdiff.StateStopped || r.LastError == "" || r.Equal() || len(r.Tables) != 1 {
		t.Error(r)
	}
}
