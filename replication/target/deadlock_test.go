package target_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// Another session and the applier wait for each other, and the server rolls the applier back. What it had done is done again,
// once: a transaction of the source, and a chunk by each way of writing one.
func TestForeignDeadlock(t *testing.T) {
	for _, c := range []struct {
		name string
		// first and second are the locks that the other session takes: what the applier comes to last, and what it has by then.
		first, second string
		entry         func(*run, *replication.Table) *replication.Entry
		want          string
	}{
		{
			"transaction", "SELECT * FROM pairs WHERE id = 3 FOR UPDATE", "SELECT * FROM pairs WHERE id = 1 FOR UPDATE",
			func(r *run, p *replication.Table) *replication.Entry {
				return r.entry(update(p, row("1", "v0", null), row("1", "v1", null)), update(p, row("2", "v0", null), row("2", "v-1", null)), update(p, row("3", "v0", null), row("3", "v0+", null)))
			},
			"0 v0,1 v1,2 v-1,3 v0+,4 v0",
		},
		{
			// The lock is on the gap that the chunk's last rows go to.
			"chunk", "SELECT * FROM pairs WHERE id > 50 FOR UPDATE", "SELECT * FROM pairs WHERE id = 10 FOR UPDATE",
			func(_ *run, p *replication.Table) *replication.Entry {
				return chunk(p, replication.Span{Lo: row("4")}, position(0), row("10", "a", null), row("11", "b", null), row("60", "c", null), row("61", "d", null))
			},
			"0 v0,1 v0,2 v0,3 v0,4 v0,10 a,11 b,60 c,61 d",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachPath(t, func(t *testing.T, s *replicationtest.Server, opts target.Options) {
				h := newShard(t, s, "CREATE TABLE pairs (id int PRIMARY KEY, v varchar(20) COLLATE utf8mb4_bin, u int)", fillPairs,
					"CREATE TABLE ballast (id int AUTO_INCREMENT PRIMARY KEY)", "INSERT INTO pairs (id) VALUES (50)")
				p := pairs()
				p.Unique = nil
				opts.Workers = 2
				r := h.start(h.target(opts, p))
				r.must(chunk(p, replication.Span{Hi: row("4")}, position(0)))
				tx, err := h.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = tx.Rollback() }()
				do := func(query string) {
					t.Helper()
					if _, err := tx.ExecContext(t.Context(), query); err != nil {
						t.Fatalf("%s: %v", query, err)
					}
				}
				// The server gives up the transaction that has changed fewer rows.
				do("INSERT INTO ballast VALUES (NULL)")
				for range 8 {
					do("INSERT INTO ballast SELECT NULL FROM ballast")
				}
				do(c.first)
				deadlocks := func() string {
					return h.rows("SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")[0]
				}
				before := deadlocks()
				done := make(chan error, 1)
				go func() { done <- r.apply(c.entry(r, p)) }()
				h.until("the applier waits", func() bool {
					return h.rows("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")[0] != "Innodb_row_lock_current_waits 0"
				})
				if len(done) > 0 {
					t.Fatalf("it does not wait: %v", <-done)
				}
				do(c.second)
				h.until("there is a deadlock", func() bool { return deadlocks() != before })
				if len(done) > 0 {
					t.Fatalf("it ended while its rows were locked: %v", <-done)
				}
				if err := tx.Rollback(); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				got := h.rows("SELECT id, v FROM pairs WHERE id <> 50 ORDER BY id")
				if want := c.want; strings.Join(got, ",") != want {
					t.Errorf("rows are %q, want %q", got, want)
				}
				if n := transactions(h.position()); n != r.n {
					t.Errorf("at position %d, want %d", n, r.n)
				}
				spans := h.rows("SELECT COUNT(*), SUM(rows_copied) FROM " + h.side.Table("copy_state"))
				if want := map[string][]string{"transaction": {"1 0"}, "chunk": {"2 4"}}[c.name]; !slices.Equal(spans, want) {
					t.Errorf("copied are %s spans and rows, want %s", spans, want)
				}
			})
		})
	}
}
