package source_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
)

// walk reads a table in chunks and checks that they are what one read gives, span by span.
func (f *fixture) walk(s *source.Source, t *replication.Table, limit replication.Limit) int {
	f.Helper()
	whole := f.read(s, t)
	var rows []replication.Row
	span := replication.Span{}
	for n := 1; ; n++ {
		c, err := s.Read(f.Context(), t, span, limit)
		if err != nil {
			f.Fatal(err)
		}
		if string(c.Span.Lo) != string(span.Lo) {
			f.Fatalf("the chunk begins at %s, want %s", t.FormatSpan(c.Span), t.FormatSpan(span))
		}
		if limit.Rows > 0 && len(c.Rows) > limit.Rows {
			f.Fatalf("a chunk of %d rows", len(c.Rows))
		}
		bytes := 0
		for _, r := range c.Rows {
			bytes += len(r)
		}
		if bytes != c.Bytes {
			f.Errorf("%d bytes, the chunk says %d", bytes, c.Bytes)
		}
		rows = append(rows, c.Rows...)
		if c.Span.Hi == nil {
			if len(rows) != len(whole) {
				f.Fatalf("%s: %d rows in chunks, %d at once", t.Name, len(rows), len(whole))
			}
			for i := range rows {
				if string(rows[i]) != string(whole[i]) {
					f.Fatalf("%s: row %d is %s, want %s", t.Name, i, t.Format(rows[i]), t.Format(whole[i]))
				}
			}
			return n
		}
		if len(c.Rows) == 0 {
			f.Fatalf("an empty chunk that ends at %s", t.FormatSpan(c.Span))
		}
		// The same span, closed on both sides, holds the same rows.
		again, err := s.Read(f.Context(), t, c.Span, replication.Limit{})
		if err != nil {
			f.Fatal(err)
		}
		if !slices.EqualFunc(again.Rows, c.Rows, func(a, b replication.Row) bool { return string(a) == string(b) }) {
			f.Fatalf("%s: %s has %d rows, then %d", t.Name, t.FormatSpan(c.Span), len(c.Rows), len(again.Rows))
		}
		span.Lo = c.Span.Hi
	}
}

func TestWalks(t *testing.T) {
	f := newFixture(t)
	type tc struct{ name, create, fill string }
	cases := []tc{
		{"gaps", "(id bigint primary key, v int)", "SELECT IF(n<50, n, n*3000000000), n FROM n"},
		{"negative", "(id int primary key, v int)", "SELECT n-50, n FROM n"},
		{"bigu", "(id bigint unsigned primary key)", "SELECT 18446744073709551615-n*1000 FROM n"},
		{"composite", "(a int, b varchar(10), c date, v int, primary key(a,b,c))", "SELECT n DIV 40, concat('k', n%4), '2020-01-01' + interval n day, n FROM n"},
		{"hot", "(tenant int, id int, primary key(tenant,id))", "SELECT 5, n FROM n"},
		{"ci", "(k varchar(20) character set utf8mb4 collate utf8mb4_0900_ai_ci primary key, v int)", "SELECT concat(elt(1+n%5,'a','B','é','ß','日'), hex(n)), n FROM n"},
		{"latin", "(k varchar(20) character set latin1 collate latin1_german1_ci primary key)", "SELECT concat(convert(elt(1+n%4,'ä','z','A','ü') using latin1), n) FROM n"},
		{"gbk", "(k varchar(20) character set gbk primary key)", "SELECT concat(convert(elt(1+n%3,'中','文','a') using gbk), n) FROM n"},
		{"utf16", "(k varchar(20) character set utf16 primary key)", "SELECT concat('x', n) FROM n"},
		{"bin", "(k binary(4) primary key)", "SELECT unhex(lpad(hex(n*256), 8, '0')) FROM n"},
		{"varbin", "(k varbinary(20) primary key)", "SELECT concat(char(n using binary), '''\\\\', x'00', n) FROM n"},
		{"temporal", "(d datetime(3), t time(2), ts timestamp(6), primary key(d,t,ts))", "SELECT '2020-01-01' + interval n*1500 microsecond, sec_to_time((n-50)*3.25), '2024-01-01 00:00:00.5' + interval n second FROM n"},
		{"decimal", "(k decimal(12,3) primary key)", "SELECT (n-50)*1.125 FROM n"},
		{"float", "(k float primary key)", "SELECT (n-50)/3 FROM n"},
		{"enum", "(e enum('z','y','x'), s set('a','b','c','d','e','f','g','h'), primary key(e,s))", "SELECT 1+n%3, 1+n FROM n"},
		{"bits", "(b bit(20) primary key)", "SELECT n*1000 FROM n"},
		{"years", "(y year, n int, primary key(y,n))", "SELECT IF(n%3=0,0,1950+n%5), n FROM n"},
		{"pke", "(id int, u int not null, v varchar(9) not null, unique(v), unique(u), unique(id))", "SELECT NULL, 500-n, n FROM n"},
		{"descending", "(a int, b int, primary key(a desc,b))", "SELECT n%7, n FROM n"},
		{"prefixed", "(k varchar(200), v int, primary key(k(10)))", "SELECT concat(n, repeat('x',100)), n FROM n"},
		{"odd`na'me", "(`i``d` int primary key, `select` json, `o` float, `v` enum('a'))", "SELECT n, json_array(n, 1.5), n/7, 1 FROM n"},
		{"empty", "(id int primary key)", "SELECT n FROM n WHERE n<0"},
	}
	f.exec("CREATE VIEW n AS WITH RECURSIVE r AS (SELECT 0 n UNION ALL SELECT n+1 FROM r WHERE n<99) SELECT n FROM r")
	for _, c := range cases {
		f.exec("CREATE TABLE "+sqltext.Ident(c.name)+" "+c.create, "INSERT INTO "+sqltext.Ident(c.name)+" "+c.fill)
	}
	s := f.open()
	for _, table := range s.Tables() {
		t.Run(table.Name, func(t *testing.T) {
			g := *f
			g.T = t
			for _, n := range []int{1, 7, 10, 1000} {
				if chunks := g.walk(s, table, replication.Limit{Rows: n}); table.Name != "empty" && n == 10 && chunks < 10 {
					t.Errorf("%d chunks", chunks)
				}
			}
			g.walk(s, table, replication.Limit{Bytes: 200})
			if table.Name == "pke" && (table.Primary.Name != "u" || !table.Ordered) {
				t.Errorf("the key is %s", table.Primary.Name)
			}
			if !table.Ordered {
				return
			}
			rows := g.read(s, table)
			for i := 1; i < len(rows); i++ {
				a, _ := table.Key(rows[i-1])
				b, _ := table.Key(rows[i])
				if table.Compare(a, b) >= 0 && table.Name != "descending" {
					t.Errorf("%s is read before %s", table.FormatKey(a), table.FormatKey(b))
				}
			}
		})
	}
}

// TestRangesUseTheKey looks at the plan of a chunk in the middle: a range, no sort.
func TestRangesUseTheKey(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE k (a int, b varchar(10) collate utf8mb4_0900_ai_ci, c int, v int, primary key(a,b,c), key(v))",
		"INSERT INTO k WITH RECURSIVE r AS (SELECT 0 n UNION ALL SELECT n+1 FROM r WHERE n<900) SELECT n%3, concat('x',n%30), n, n FROM r")
	s := f.open()
	table := s.Tables()[0]
	key := func(a, b, c string) replication.Key { return replication.PackRow([]byte(a), []byte(b), []byte(c)) }
	span := replication.Span{Lo: key("1", "x15", "100"), Hi: key("1", "x21", "7")}
	query, err := source.Query(s, table, span, replication.Limit{Rows: 50})
	if err != nil {
		t.Fatal(err)
	}
	f.exec("ANALYZE TABLE k")
	plan := f.query("EXPLAIN FORMAT=JSON " + query)
	if !strings.Contains(plan, "range") && !strings.Contains(plan, "Range") || strings.Contains(plan, `"using_filesort": true`) || strings.Contains(plan, "Sort:") {
		t.Errorf("%s\nis run as %s", query, plan)
	}
}

func TestSplit(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE i (id int primary key)", "INSERT INTO i VALUES (-2147483648),(0),(2147483647)",
		"CREATE TABLE u (id bigint unsigned primary key)", "INSERT INTO u VALUES (0),(18446744073709551615)",
		"CREATE TABLE b (id bigint primary key)", "INSERT INTO b VALUES (-9223372036854775808),(9223372036854775807)",
		"CREATE TABLE small (id int primary key)", "INSERT INTO small VALUES (1),(500)",
		"CREATE TABLE gap (id bigint primary key)", "INSERT INTO gap WITH RECURSIVE n AS (SELECT -3000 i UNION ALL SELECT i+1 FROM n WHERE i < 3000) SELECT /*+ SET_VAR(cte_max_recursion_depth=10000) */ i FROM n",
		"INSERT INTO gap VALUES (300000000000)",
		"CREATE TABLE none (id int primary key)", "CREATE TABLE two (a int, b int, primary key(a,b))",
		"CREATE TABLE text (k varchar(10) primary key)")
	s := f.open()
	for _, table := range s.Tables() {
		keys, err := s.Split(t.Context(), table, 4)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int{"gap": 3}[table.Name]
		if len(keys) != want {
			t.Errorf("%s is cut at %d keys, want %d", table.Name, len(keys), want)
		}
		rows, span := 0, replication.Span{}
		for _, k := range append(keys, nil) {
			if k != nil && span.Lo != nil && table.Compare(span.Lo, k) >= 0 {
				t.Errorf("%s: keys are out of order", table.Name)
			}
			span.Hi = k
			c, err := s.Read(t.Context(), table, span, replication.Limit{})
			if err != nil {
				t.Fatal(err)
			}
			rows += len(c.Rows)
			span.Lo = k
		}
		if whole := len(f.read(s, table)); rows != whole {
			t.Errorf("%s: %d rows in parts, %d in all", table.Name, rows, whole)
		}
	}
}

// TestLargeRows reads rows of more than one packet, both ways.
func TestLargeRows(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE big (id int primary key, b longblob, j json)")
	s := f.open()
	_, from := f.end(s)
	f.exec("SET SESSION sql_mode=''")
	for id, size := range []int{1<<24 - 20, 1<<24 - 1, 1<<24 + 7, 10} {
		f.exec(fmt.Sprintf("INSERT INTO big VALUES (%d, REPEAT('a', %d), '[1]')", id, size))
	}
	table := s.Tables()[0]
	rows := f.read(s, table)
	logged := changes(f.log(s, from))
	if len(rows) != 4 || len(logged) != 4 {
		t.Fatalf("%d rows, %d in the log", len(rows), len(logged))
	}
	for i := range rows {
		if string(rows[i]) != string(logged[i].After) {
			t.Errorf("row %d: %d bytes by SELECT, %d by the log", i, len(rows[i]), len(logged[i].After))
		}
	}
	// The rest of the result is not worth reading: the connection is given up, and the next read is fine.
	f.walk(s, table, replication.Limit{Bytes: 1})
}

func TestReadEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key)", "INSERT INTO t VALUES (1)")
	s := f.open()
	lock, err := f.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := lock.ExecContext(t.Context(), "LOCK TABLES t WRITE"); err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, why)
	defer cancel()
	begin := time.Now()
	if _, err := s.Read(ctx, s.Tables()[0], replication.Span{}, replication.Limit{}); !errors.Is(err, why) {
		t.Errorf("a read that was called off: %v", err)
	}
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
	// The server ends a killed read in its own time; behind the table lock it could wait for ever.
	left := func() string {
		return f.query("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT `id` FROM%'")
	}
	for end := time.Now().Add(5 * time.Second); left() != "0" && time.Now().Before(end); {
		if err := retry.Wait(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if n := left(); n != "0" {
		t.Errorf("%s reads are left on the server", n)
	}
	// A position that never comes.
	ctx, cancel = context.WithTimeoutCause(t.Context(), 300*time.Millisecond, why)
	defer cancel()
	_, p := f.end(s)
	if err := s.WaitVisible(ctx, p.Add(gtid(t, "3e11fa47-71ca-11e1-9e33-c80aa9429562:5"))); !errors.Is(err, why) {
		t.Errorf("a wait that was called off: %v", err)
	}
	if err := s.WaitVisible(t.Context(), p); err != nil {
		t.Error(err)
	}
	if err := s.WaitVisible(t.Context(), replication.Position{}); err != nil {
		t.Error(err)
	}
}

func TestReadOfAChangedTable(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE a (id int primary key, v int)", "CREATE TABLE b (id int primary key, v int)", "CREATE TABLE c (id int not null, v int, unique k (id))")
	s := f.open()
	f.exec("DROP TABLE a", "ALTER TABLE b DROP v", "ALTER TABLE c DROP KEY k")
	for _, table := range s.Tables() {
		_, err := s.Read(t.Context(), table, replication.Span{}, replication.Limit{})
		if e, ok := errors.AsType[*replication.SchemaChangedError](err); !ok || e.Table != table.Name || replication.Transient(err) {
			t.Errorf("%s: %v", table.Name, err)
		}
	}
}

// TestKilledConnections: reads go on when the server throws their connections out.
func TestKilledConnections(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key)", "INSERT INTO t VALUES (1),(2),(3)")
	s := f.open()
	for range 5 {
		f.read(s, s.Tables()[0])
		f.end(s)
		for _, id := range f.column(0, "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND = 'Sleep'") {
			_, _ = f.db.Exec(fmt.Sprintf("KILL %s", id))
		}
	}
}

// TestLinks reads over TLS and over the socket.
func TestLinks(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key)", "INSERT INTO t VALUES (1)")
	secure, socket := f.cfg, f.cfg
	secure.TLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a throwaway server's own certificate
	socket.Addr = f.srv.Socket
	for name, cfg := range map[string]source.Config{"tls": secure, "socket": socket} {
		t.Run(name, func(t *testing.T) {
			g := *f
			g.T, g.cfg = t, cfg
			s := g.open()
			_, from := g.end(s)
			if rows := g.read(s, s.Tables()[0]); len(rows) != 1 {
				t.Errorf("%d rows", len(rows))
			}
			g.exec("UPDATE t SET id = id + 1")
			if n := len(changes(g.log(s, from))); n != 1 {
				t.Errorf("%d changes", n)
			}
		})
	}
}

// TestJSONExpressions stores what canonical documents say and reads it back: nothing may change.
func TestJSONExpressions(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE a (id int primary key, j json)", "CREATE TABLE b (id int primary key, j json)")
	for i, v := range jsonValues {
		f.exec(fmt.Sprintf("INSERT INTO a VALUES (%d, %s)", i, v))
	}
	s := f.open()
	a, b := s.Tables()[0], s.Tables()[1]
	rows := f.read(s, a)
	for i, r := range rows {
		values, err := r.Values(nil, 2)
		if err != nil {
			t.Fatal(err)
		}
		literal, err := sqltext.AppendLiteral(nil, &a.Columns[1], values[1])
		if err != nil {
			t.Fatal(err)
		}
		f.exec(fmt.Sprintf("INSERT INTO b VALUES (%d, %s)", i, literal))
	}
	for i, r := range f.read(s, b) {
		if string(r) != string(rows[i]) {
			t.Errorf("%s became\n%s", rows[i], r)
		}
	}
}
