package migrate_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication"
)

// Somebody else writes to the target. The stream stops and says what is wrong, repairs the rows, or passes them over, as it is told;
// each row is in its log.
func TestOnDrift(t *testing.T) {
	c := newCluster(t, migrate.Options{}, `CREATE TABLE item (id INT PRIMARY KEY, code INT, v VARCHAR(20), UNIQUE KEY code (code));
		INSERT INTO item VALUES (1, 1, 'one'), (2, 2, 'two'), (3, 3, 'three'), (4, 4, 'four'), (5, 5, 'five')`)
	c.run(c.m)
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	c.caughtUp()
	item := c.db + ".item"
	policy := func(o replication.OnDrift) {
		t.Helper()
		if _, err := c.workflow().Update(t.Context(), migrate.UpdateOptions{OnDrift: &o}); err != nil {
			t.Fatal(err)
		}
		if err := c.workflow().Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	// By default the stream stops before the transaction.
	c.dst.MustExec(t, "DELETE FROM "+c.vt+".item WHERE id = 1")
	c.src.MustExec(t, "BEGIN; UPDATE "+item+" SET v = 'uno' WHERE id = 1; INSERT INTO "+item+" VALUES (6, 6, 'six'); COMMIT")
	until(t, "state Error", func() bool { return c.show().State == migrate.StateError })
	st := c.show()
	for _, part := range []string{"item", "update of", "no such row", "'one'", "'uno'", ":1-"} {
		if !strings.Contains(st.Message, part) {
			t.Errorf("%q is not in the message %q", part, st.Message)
		}
	}
	if f := st.Streams[0].Failure; f == nil || f.Count != 1 || f.Message != st.Message {
		t.Errorf("%+v", f)
	}
	if got := one(t, c.dst, "SELECT COUNT(*) FROM "+c.vt+".item WHERE id = 6"); got != "0" {
		t.Error("a part of the transaction is on the target")
	}

	// Repaired: a missing row of an update, of a delete, a row in the way by the primary key, and two by the unique one.
	policy(replication.OnDriftRepair)
	c.caughtUp()
	c.equal("item")
	c.dst.MustExec(t, "DELETE FROM "+c.vt+".item WHERE id = 2; INSERT INTO "+c.vt+".item VALUES (100, 100, 'not ours'), (900, 901, 'in the way'), (902, 902, 'in the way')")
	c.src.MustExec(t, "DELETE FROM "+item+" WHERE id = 2; INSERT INTO "+item+" VALUES (100, 200, 'ours'); INSERT INTO "+item+" VALUES (101, 901, 'a');"+
		" UPDATE "+item+" SET code = 902 WHERE id = 3")
	c.caughtUp()
	c.equal("item")
	st = c.show()
	if got := st.Streams[0].Drifts; got != 5 {
		t.Errorf("%d drifts are counted, want 5", got)
	}
	var told []string
	for _, l := range st.Streams[0].Logs {
		if l.Type == "Drift" {
			told = append(told, l.Message)
		}
	}
	for _, part := range []string{"update of (id=1)", "delete of (id=2)", "insert of (id=100)", "insert of (id=101)", "update of (id=3)"} {
		if !slices.ContainsFunc(told, func(s string) bool { return strings.Contains(s, part) && strings.Contains(s, "repaired") }) {
			t.Errorf("no %q in the log: %s", part, fmt.Sprint(told))
		}
	}

	// Passed over: what is on the target stays, the rest of the transaction is done.
	policy(replication.OnDriftSkip)
	c.dst.MustExec(t, "DELETE FROM "+c.vt+".item WHERE id = 4; INSERT INTO "+c.vt+".item VALUES (300, 300, 'not ours')")
	c.src.MustExec(t, "BEGIN; UPDATE "+item+" SET v = 'vier' WHERE id = 4; INSERT INTO "+item+" VALUES (300, 301, 'ours'); UPDATE "+item+" SET v = 'cinq' WHERE id = 5; COMMIT")
	c.caughtUp()
	if got := fmt.Sprint(c.dst.MustQuery(t, "SELECT id, v FROM "+c.vt+".item WHERE id IN (4, 5, 300) ORDER BY id")); got != "[[5 cinq] [300 not ours]]" {
		t.Errorf("on the target: %s", got)
	}
	if st := c.show(); st.Streams[0].Drifts != 7 || st.State != migrate.StateRunning {
		t.Errorf("%d drifts are counted, want 7; state %s", st.Streams[0].Drifts, st.State)
	}
}

// A row that somebody else has put into a target table stops the copy too, or makes way.
func TestOnDriftInCopy(t *testing.T) {
	_, dst := servers(t)
	was := one(t, dst, "SELECT @@GLOBAL.local_infile")
	t.Cleanup(func() { _ = dst.Exec(context.Background(), "SET GLOBAL local_infile = "+was) })
	for _, infile := range []string{"OFF", "ON"} {
		t.Run("local_infile="+infile, func(t *testing.T) {
			dst.MustExec(t, "SET GLOBAL local_infile = "+infile)
			driftInCopy(t)
		})
	}
}

func driftInCopy(t *testing.T) {
	t.Helper()
	c := newCluster(t, migrate.Options{}, `CREATE TABLE item (id INT PRIMARY KEY, v VARCHAR(20));
		INSERT INTO item VALUES (1, 'one'), (2, 'two'), (3, 'three')`)
	c.run(c.m)
	c.create(migrate.CreateOptions{NoAutoStart: true})
	c.dst.MustExec(t, "INSERT INTO "+c.vt+".item VALUES (2, 'not ours')")
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "state Error", func() bool { return c.show().State == migrate.StateError })
	if st := c.show(); !strings.Contains(st.Message, "insert of (id=2)") || !strings.Contains(st.Message, "'two'") {
		t.Errorf("message %q", st.Message)
	}
	repair := replication.OnDriftRepair
	if _, err := c.workflow().Update(t.Context(), migrate.UpdateOptions{OnDrift: &repair}); err != nil {
		t.Fatal(err)
	}
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := c.await(migrate.StateRunning)
	c.caughtUp()
	c.equal("item")
	if st.Streams[0].Drifts != 1 || st.Streams[0].RowsCopied != 3 {
		t.Errorf("%d drifts, %d rows copied", st.Streams[0].Drifts, st.Streams[0].RowsCopied)
	}
}

func TestParseOnDrift(t *testing.T) {
	for _, o := range []replication.OnDrift{replication.OnDriftStop, replication.OnDriftRepair, replication.OnDriftSkip} {
		for _, text := range []string{o.String(), strings.ToLower(o.String())} {
			if got, err := migrate.ParseOnDrift(text); err != nil || got != o {
				t.Errorf("%q is %v, %v", text, got, err)
			}
		}
	}
	if got, err := migrate.ParseOnDrift(""); err != nil || got != replication.OnDriftStop {
		t.Errorf("nothing is %v, %v", got, err)
	}
	if _, err := migrate.ParseOnDrift("repeat"); !isOption(err) {
		t.Errorf("an unknown policy: %v", err)
	}
}
