package vdiff_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/vdiff"
)

// TestLostConnections kills every connection of both servers now and then.
func TestLostConnections(t *testing.T) {
	const rows = 20_000
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	w.fill(t, "t", rows, func(i int) string { return fmt.Sprintf("%d,%[1]d", i) })
	run(t, w.target(), "UPDATE t SET v=0 WHERE id IN (1, 10000, 20000)")
	kills := 0
	w.wait = waitAfterCheck(func(context.Context) error {
		if kills++; kills > 20 {
			return nil
		}
		for _, name := range []string{"source", "target"} {
			s := server(t, name)
			for _, id := range s.MustQuery(t, "SELECT ID FROM information_schema.PROCESSLIST WHERE ID<>CONNECTION_ID() AND DB LIKE 'db%'") {
				// It may have ended by itself.
				_ = s.Exec(t.Context(), "KILL "+id[0])
			}
		}
		return nil
	})
	r := create(t, w, vdiff.Options{})
	if keys(r.Tables[0].Mismatched) != "1 10000 20000" || r.RowsCompared() != rows || kills == 0 {
		t.Errorf("after %d kills:\n%s", kills, r)
	}
}

// TestTargetBehind compares while the target has nothing of what the source did last.
func TestTargetBehind(t *testing.T) {
	const rows = 5000
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	w.fill(t, "t", rows, func(i int) string { return fmt.Sprintf("%d,%[1]d", i) })
	catchUp := []string{"UPDATE t SET v=v+1 WHERE id%3=0", "DELETE FROM t WHERE id%7=0", "INSERT INTO t VALUES (100000,1)"}
	run(t, w.source(), catchUp...)
	behind := true
	w.wait = waitAfterCheck(func(ctx context.Context) error {
		if behind {
			run(t, w.target(), catchUp...)
			behind = false
			return retry.Wait(ctx, vdiff.LagTime) // a stream takes its time
		}
		return nil
	})
	if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != rows-rows/7+1 || behind {
		t.Error(r)
	}
}

func TestMariaDBSource(t *testing.T) {
	const ddl = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET utf8mb3, f FLOAT, d DATETIME(6))"
	// The table is described by MySQL, and read from MariaDB.
	w := newWorkflow(t, "source", []string{"mariadb", "target"}, ddl)
	w.sources["0"] = database(t, server(t, "mariadb"), "mariadb_source")
	run(t, w.source(), ddl)
	w.fill(t, "t", 3000, func(i int) string { return fmt.Sprintf("%d,'ü%[1]d',%[1]d.%[1]de-7,'2024-01-01 00:00:00.%06[1]d'", i) })
	run(t, w.targets["0"], "DELETE FROM t WHERE id>1000")
	run(t, w.targets["1"], "DELETE FROM t WHERE id<=1000")
	w.route = byID(func(id int) int { return min(1, (id-1)/1000) })
	seen := ""
	w.wait = func(_ context.Context, shard string, p replication.Position) error {
		if !p.IsZero() {
			seen = shard + " " + string(p.Flavor())
		}
		return nil
	}
	if r := create(t, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != 3000 {
		t.Fatal(r)
	}
	run(t, w.targets["0"], "UPDATE t SET f=f+1 WHERE id=1", "DELETE FROM t WHERE id=1000")
	run(t, w.targets["1"], "UPDATE t SET v=UPPER(v) WHERE id=1001")
	r := create(t, w, vdiff.Options{})
	if keys(r.Tables[0].Mismatched) != "1 1001" || keys(r.Tables[0].ExtraSource) != "1000" || seen != "0 mariadb" {
		t.Errorf("%s\nposition of %s", r, seen)
	}
}

func TestTargetWithoutColumn(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1,1)")
	run(t, w.target(), "ALTER TABLE t DROP COLUMN v")
	r, err := vdiff.New(w).Create(t.Context(), vdiff.Options{})
	if err == nil || r == nil || r.State != vdiff.StateError || r.Equal() || r.RowsCompared() != 0 {
		t.Errorf("%v\n%s", err, r)
	}
	w.targets = map[string]*sql.DB{}
	if _, err := vdiff.New(w).Create(t.Context(), vdiff.Options{}); err == nil {
		t.Error("no shards, no error")
	}
}

// TestDeletedWhileRunning ends a comparison whose record is deleted.
func TestDeletedWhileRunning(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	run(t, w.target(), "DELETE FROM t")
	v := vdiff.New(w)
	w.wait = waitAfterCheck(func(ctx context.Context) error {
		if err := v.Delete(ctx, vdiff.Last); err != nil && !errors.Is(err, vdiff.ErrNotFound) {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if _, err := v.Create(t.Context(), vdiff.Options{}); !errors.Is(err, vdiff.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}
