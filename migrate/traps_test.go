package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// dump is all that a server holds in some databases, table by table.
func dump(t *testing.T, s *replicationtest.Server, databases ...string) string {
	t.Helper()
	var out strings.Builder
	for _, db := range databases {
		for _, r := range s.MustQuery(t, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '"+db+"' ORDER BY TABLE_NAME") {
			create := s.MustQuery(t, "SHOW CREATE TABLE "+db+"."+r[0])
			rows := s.MustQuery(t, "SELECT * FROM "+db+"."+r[0]+" ORDER BY 1, 2")
			fmt.Fprintf(&out, "%s.%s\n%v\n%v\n", db, r[0], create[0][1:], rows)
		}
	}
	return out.String()
}

// The second Create of a workflow that has copied rows, and runs or stands, changes nothing of it: not a row, not its
// record, not who runs it; whatever its options are, and from whatever process it comes.
func TestCreateOnARunningWorkflow(t *testing.T) {
	c := newCluster(t, migrate.Options{}, shopSchema)
	c.fill("plain", "a, b, v", "i + 10, i, CONCAT('v', i)", 3000)
	starts := make(chan migrate.StreamInfo, 100)
	stop := c.run(c.migrator(migrate.Options{Trace: migrate.Trace{StreamStarting: func(i migrate.StreamInfo) { starts <- i }}}))
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	c.caughtUp()
	before := c.show().Streams[0]
	other := c.migrator(migrate.Options{})
	again := func() {
		t.Helper()
		for _, o := range []migrate.CreateOptions{
			{AllTables: true},
			{AllTables: true, NoAutoStart: true, KeepSecondaryKeys: true, StopAfterCopy: true},
			{Tables: []string{"plain"}},
		} {
			o.Source = "ext1." + c.db
			for _, m := range []*migrate.Migrator{c.m, other} {
				if _, err := m.Workflow(c.ks+".wf").Create(t.Context(), o); !errors.Is(err, migrate.ErrExists) {
					t.Errorf("%+v: %v", o, err)
				}
			}
		}
		_, err := other.Workflow(c.ks+".other").Create(t.Context(), migrate.CreateOptions{Source: "ext1." + c.db, AllTables: true})
		if f := finding(err, migrate.CodeConflict, "plain"); f == nil {
			t.Errorf("another workflow for the same tables: %v", err)
		}
	}
	again()
	c.src.MustExec(t, "INSERT INTO "+c.db+".plain VALUES (1, 5, 'later'); UPDATE "+c.db+".plain SET v = 'new' WHERE b = 2")
	c.caughtUp()
	c.equal("customer", "orders", "plain")
	after := c.show().Streams[0]
	if after.ID != before.ID || after.Owner != before.Owner || after.RowsCopied != before.RowsCopied || after.State != migrate.StateRunning || after.Message != "" {
		t.Errorf("the stream was %+v and is %+v", before, after)
	}
	if n := len(starts); n != 1 {
		t.Errorf("the stream was started %d times", n)
	}
	// Without anybody who writes, not a byte is different.
	stop()
	was := dump(t, c.dst, c.vt, c.sidecar)
	again()
	if is := dump(t, c.dst, c.vt, c.sidecar); is != was {
		t.Errorf("the target was\n%s\nand is\n%s", was, is)
	}
	if names, err := c.m.List(t.Context(), c.ks); err != nil || len(names) != 1 {
		t.Errorf("workflows are %v, %v", names, err)
	}
	c.run(c.migrator(migrate.Options{}))
	c.src.MustExec(t, "DELETE FROM "+c.db+".plain WHERE a > 1000")
	c.caughtUp()
	c.equal("customer", "orders", "plain")
}

// What is written to the source from the end of Complete on does not reach the target: neither rows of the old tables, nor of new ones under
// their names that have other columns; and no stream stumbles over them.
func TestWritesAfterComplete(t *testing.T) {
	for _, what := range []migrate.SourceTables{migrate.KeepSourceTables, migrate.RenameSourceTables, migrate.DropSourceTables} {
		t.Run("SourceTables "+string(what), func(t *testing.T) {
			ended := make(chan error, 100)
			c := newCluster(t, migrate.Options{}, smallSchema)
			c.run(c.migrator(migrate.Options{Trace: migrate.Trace{StreamEnded: func(_ migrate.StreamInfo, err error, _ time.Duration) { ended <- err }}}))
			c.create(migrate.CreateOptions{})
			c.await(migrate.StateRunning)

			// A writer numbers its rows; it goes on through Complete, until its table is gone or it is told.
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var committed atomic.Int64
			db := c.src.DB(t)
			writer := make(chan struct{})
			go func() {
				defer close(writer)
				for n := int64(1); ctx.Err() == nil; n++ {
					if _, err := db.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s.plain VALUES (100, %d)", c.db, n)); err != nil {
						return
					}
					committed.Store(n)
				}
			}()
			until(t, "rows are written", func() bool { return committed.Load() >= 50 })
			before := committed.Load()
			if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{SourceTables: what}); err != nil {
				t.Fatal(err)
			}
			was := dump(t, c.dst, c.vt)
			switch what {
			case migrate.RenameSourceTables:
				c.src.MustExec(t, "INSERT INTO "+c.db+"._plain_old VALUES (200, 1); UPDATE "+c.db+"._plain_old SET a = 201 WHERE a = 1; DELETE FROM "+c.db+"._plain_old WHERE b = 3")
				fallthrough
			case migrate.DropSourceTables:
				<-writer
				c.src.MustExec(t, "USE "+c.db+"; CREATE TABLE plain (a VARCHAR(20), b INT, c INT, d INT, PRIMARY KEY (d)); INSERT INTO plain VALUES ('x', 1, 2, 3); UPDATE plain SET b = 7; CREATE TABLE customer (id INT PRIMARY KEY); INSERT INTO customer VALUES (9)")
			default:
				after := committed.Load()
				until(t, "rows are written after Complete", func() bool { return committed.Load() >= after+50 })
				cancel()
				<-writer
				c.src.MustExec(t, "UPDATE "+c.db+".plain SET a = 201 WHERE a = 1; DELETE FROM "+c.db+".plain WHERE b = 3; ALTER TABLE "+c.db+".plain ADD COLUMN c INT; INSERT INTO "+c.db+".plain VALUES (300, 1, 1)")
			}
			// Nobody reads the source's log any more, so nothing more can come.
			until(t, "no stream reads the source", func() bool {
				return one(t, c.src, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'") == "0"
			})
			if is := dump(t, c.dst, c.vt); is != was {
				t.Errorf("after Complete the target was\n%s\nand is\n%s", was, is)
			}
			// What is there are the rows up to one moment, not before the call.
			var rows, last int64
			r := c.dst.MustQuery(t, "SELECT COUNT(*), COALESCE(MAX(b), 0) FROM "+c.vt+".plain WHERE a = 100")[0]
			if _, err := fmt.Sscan(r[0]+" "+r[1], &rows, &last); err != nil {
				t.Fatal(err)
			}
			if rows != last || last < before {
				t.Errorf("%d rows up to %d are there, %d were written before the call", rows, last, before)
			}
			for len(ended) > 0 {
				if err := <-ended; err != nil && !strings.Contains(err.Error(), "told to stop") && !errors.Is(err, replication.ErrFenced) {
					t.Errorf("a run of the stream ended: %v", err)
				}
			}
			c.clean("customer", "plain")
		})
	}
}

// A stream's record that nobody here has written is told by name, and nothing runs by what can be read of it.
func TestUnknownRecord(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	c.create(migrate.CreateOptions{NoAutoStart: true})
	text := one(t, c.dst, "SELECT options FROM "+c.sidecar+".vreplication")
	store := func(text string) {
		t.Helper()
		if _, err := c.dst.DB(t).ExecContext(t.Context(), "UPDATE "+c.sidecar+".vreplication SET options = ?", text); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"", "{}", "null", "move it", `["plain"]`, strings.Replace(text, "{", `{"filter_of_tomorrow":"a > 5",`, 1), strings.Replace(text, `"tables"`, `"tablets"`, 1)} {
		store(bad)
		was := dump(t, c.dst, c.vt, c.sidecar)
		for name, err := range map[string]error{
			"Show": second(c.workflow().Show(t.Context())), "Start": c.workflow().Start(t.Context()), "Cancel": second(c.workflow().Cancel(t.Context(), migrate.CancelOptions{})),
			"Complete": second(c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true})),
		} {
			if err == nil || !strings.Contains(err.Error(), "options of the stream") {
				t.Errorf("%s with %q: %v", name, bad, err)
			}
		}
		if is := dump(t, c.dst, c.vt, c.sidecar); is != was {
			t.Errorf("with %q the target was\n%s\nand is\n%s", bad, was, is)
		}
	}
	store(text)
	if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
		t.Fatal(err)
	}
	c.clean()
}

// XA transactions that are prepared before Create and committed while the workflow runs arrive whole, and so do those that a worker sees prepared and
// another one committed; what nobody ever settles is in nobody's way.
func TestCreateWhilePrepared(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	prepare := func(xid string, a int) {
		t.Helper()
		c.src.MustExec(t, fmt.Sprintf("USE %[3]s; XA START '%[1]s'; INSERT INTO plain VALUES (%[2]d, 1), (%[2]d, 2); XA END '%[1]s'; XA PREPARE '%[1]s'", xid, a, c.db))
	}
	prepare("early", 100)
	prepare("late", 200)
	prepare("never", 300)
	res := c.create(migrate.CreateOptions{NoAutoStart: true})
	if i := slices.IndexFunc(res.Warnings, func(f migrate.Finding) bool { return f.Code == migrate.CodePrepared }); i < 0 || !strings.Contains(res.Warnings[i].Message, "3 XA") {
		t.Errorf("warnings are %+v", res.Warnings)
	}
	c.src.MustExec(t, "FLUSH BINARY LOGS")
	stop := c.run(c.m)
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.await(migrate.StateRunning)
	c.src.MustExec(t, "XA COMMIT 'early'; INSERT INTO "+c.db+".plain VALUES (7, 7); XA COMMIT 'late'")
	c.caughtUp()
	c.equal("customer", "plain")
	if st := c.show(); st.State != migrate.StateRunning || st.Message != "" {
		t.Errorf("%s: %s", st.State, st.Message)
	}
	if got := one(t, c.dst, "SELECT COUNT(*) FROM "+c.vt+".plain WHERE a >= 100"); got != "4" {
		t.Errorf("%s rows of XA transactions are there, want 4", got)
	}
	prepare("between", 400)
	prepare("never2", 500)
	c.caughtUp()
	stop()
	c.src.MustExec(t, "FLUSH BINARY LOGS")
	c.run(c.migrator(migrate.Options{}))
	c.src.MustExec(t, "XA COMMIT 'between'; INSERT INTO "+c.db+".plain VALUES (8, 8)")
	c.caughtUp()
	c.equal("customer", "plain")
	if got := one(t, c.dst, "SELECT COUNT(*) FROM "+c.vt+".plain WHERE a = 400"); got != "2" {
		t.Errorf("%s rows are there, want 2", got)
	}
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); err != nil {
		t.Errorf("while two are prepared: %v", err)
	}
	c.src.MustExec(t, "XA ROLLBACK 'never'; XA ROLLBACK 'never2'")
}
