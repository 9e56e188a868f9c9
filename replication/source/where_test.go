package source_test

import (
	"fmt"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
)

// walk reads a table with a condition from its start to its end, and returns the number of rows, and of reads.
func (f *fixture) walkWhere(s *source.Source, table *replication.Table, where, seek string, limit replication.Limit) (rows, reads int) {
	f.Helper()
	span := replication.Span{}
	for {
		c, err := s.ReadWhere(f.Context(), table, span, limit, where, seek)
		if err != nil {
			f.Fatal(err)
		}
		rows, reads = rows+len(c.Rows), reads+1
		for _, r := range c.Rows {
			k, err := table.Key(r)
			if err != nil {
				f.Fatal(err)
			}
			if table.Ordered && !table.In(c.Span, k) {
				f.Fatalf("a row outside of the chunk's span: %s", table.FormatKey(k))
			}
		}
		if c.Span.Hi == nil {
			return rows, reads
		}
		if string(c.Span.Hi) == string(span.Lo) {
			f.Fatal("a read that does not go on")
		}
		span.Lo = c.Span.Hi
	}
}

// TestReadWhere: every row for which the condition holds is read once, whatever ends the reads, and no read looks at more than 20,000 rows.
func TestReadWhere(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE one (id INT PRIMARY KEY, tenant INT, f FLOAT, v VARCHAR(20))",
		"CREATE TABLE two (tenant INT, name VARCHAR(20) COLLATE utf8mb4_0900_ai_ci, v INT, PRIMARY KEY (tenant, name))",
		"SET SESSION cte_max_recursion_depth = 100000",
		"INSERT INTO one WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT i, i % 1000, i, i FROM n",
		"INSERT INTO two SELECT tenant, id, id FROM one WHERE tenant < 5 OR id < 30000")
	s := f.open("one", "two")
	one, two := s.Tables()[0], s.Tables()[1]
	for name, c := range map[string]struct {
		table       *replication.Table
		where, seek string
		limit       replication.Limit
		rows, reads int
	}{
		"one of a thousand":        {one, "s.`tenant`=7", "", replication.Limit{}, 50, 3},
		"nothing":                  {one, "s.`tenant`=-1", "", replication.Limit{}, 0, 3},
		"everything":               {one, "s.`tenant`>=0", "", replication.Limit{}, 50_000, 3},
		"a limit of rows":          {one, "s.`tenant`=7", "", replication.Limit{Rows: 10}, 50, 7},
		"a limit of bytes":         {one, "s.`tenant`=7", "", replication.Limit{Bytes: 20}, 50, 50 + 3},
		"looked up":                {one, "s.`id`<=300 AND s.`tenant`=7", "s.`id`<=300", replication.Limit{}, 1, 1},
		"OR":                       {one, "s.`tenant`=7 OR s.`tenant`=8", "", replication.Limit{Rows: 1000}, 100, 3},
		"only the server's order":  {two, "s.`v`%2=0", "", replication.Limit{Rows: 500}, 0, 0},
		"looked up in two columns": {two, "s.`tenant`=3", "s.`tenant`=3", replication.Limit{}, 50, 1},
	} {
		if c.rows == 0 && c.table == two {
			if _, err := fmt.Sscan(f.query("SELECT COUNT(*) FROM two AS s WHERE "+c.where), &c.rows); err != nil {
				t.Fatal(err)
			}
		}
		rows, reads := f.walkWhere(s, c.table, c.where, c.seek, c.limit)
		if rows != c.rows || c.reads > 0 && reads > c.reads+3 {
			t.Errorf("%s: %d rows in %d reads, want %d in %d", name, rows, reads, c.rows, c.reads)
		}
	}
}

// TestAsk: the server computes by its own collations, whatever bytes.
func TestAsk(t *testing.T) {
	s := newFixture(t).open()
	got, err := s.Ask(t.Context(), []string{"STRCMP(_utf8mb4 x'c384' COLLATE utf8mb4_0900_ai_ci,_utf8mb4 x'61' COLLATE utf8mb4_0900_ai_ci)", "NULL", "_latin1 x'e4'"})
	if err != nil || len(got) != 3 || string(got[0]) != "0" || got[1] != nil || string(got[2]) != "\xe4" {
		t.Errorf("%q, %v", got, err)
	}
}
