package test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/vdiff"
)

// TestKillWorker kills the worker process with SIGKILL at twenty random moments of the copy, under load, and compares
// every row at the end with code that shares nothing with the library.
func TestKillWorker(t *testing.T) {
	t.Parallel()
	const kills = 20
	c := newCluster(t)
	c.src.MustExec(t, `CREATE DATABASE shop; USE shop;
		CREATE TABLE a (id BIGINT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL, c CHAR(60), u INT UNIQUE, KEY (k));
		CREATE TABLE b (name VARCHAR(20) PRIMARY KEY, v DECIMAL(12,3), d DATETIME(6));
		CREATE TABLE c (x INT, y VARBINARY(16), z TEXT, PRIMARY KEY (y, x));
		SET SESSION cte_max_recursion_depth=100000;
		INSERT INTO a (k, c, u) WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i+1 FROM n WHERE i < 60000) SELECT i%97, MD5X, i FROM (SELECT i, SHA2(i, 224) MD5X FROM n) q;
		INSERT INTO b WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i+1 FROM n WHERE i < 20000) SELECT CONCAT('näme ', i), i/8, NOW(6) FROM n;
		INSERT INTO c WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i+1 FROM n WHERE i < 20000) SELECT i%7, UNHEX(SUBSTR(SHA2(i, 256), 1, 16)), REPEAT('z', i%50) FROM n`)
	wf := c.m.Workflow("commerce.wf")
	if _, err := wf.Create(t.Context(), migrate.CreateOptions{Source: "ext1.shop", AllTables: true}); err != nil {
		t.Fatal(err)
	}
	load := replicationtest.StartLoad(t, c.src.DB(t), "shop", replicationtest.LoadOptions{Rate: 80, Writers: 2})
	c.killWorkers(t, wf, kills, 50_000)
	kill := c.worker(t)
	c.watch(t, wf, 50*time.Millisecond, func(st *migrate.Status) bool { return st.State == migrate.StateRunning })
	report, err := vdiff.New(wf).Create(t.Context(), vdiff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if report.HasMismatch() {
		t.Errorf("vdiff: %s", report)
	}
	counts := load.MustStop(t)
	t.Logf("%+v", counts)
	if _, err := wf.Complete(t.Context(), migrate.CompleteOptions{}); err != nil {
		t.Fatal(err)
	}
	kill()
	replicationtest.CheckEqual(t, c.src.DB(t), c.dst.DB(t), "shop", "vt_commerce", "a", "b", "c")
	if left := c.dst.MustQuery(t, "SHOW DATABASES LIKE '\\_tablehaul'"); len(left) > 0 {
		t.Errorf("the sidecar is still there: %v", left)
	}
	if keys := c.dst.MustQuery(t, "SHOW INDEX FROM vt_commerce.a WHERE Key_name IN ('k','u')"); len(keys) != 2 {
		t.Errorf("the deferred keys of a: %v", keys)
	}
}

// killWorkers has the workflow copied by one worker after the other, and kills each after a random part of the rows and at a random
// moment, so that about half of the rows are copied in the end. A worker copies on until it is dead: on a quick machine hundreds of rows, which
// the later ones are left less for.
func (c *cluster) killWorkers(t *testing.T, wf *migrate.Workflow, kills int, rows int64) {
	t.Helper()
	copied := int64(0)
	for i := range kills {
		kill := c.worker(t)
		want := copied + rand.Int64N(max(1, (rows-2*copied)/int64(kills-i)))
		c.watch(t, wf, 20*time.Millisecond, func(st *migrate.Status) bool {
			copied = max(copied, rowsCopied(st))
			if st.State == migrate.StateRunning {
				t.Fatalf("everything was copied before kill %d: the test needs more rows", i+1)
			}
			return copied > want
		})
		pause(t, time.Duration(rand.IntN(50_000))*time.Microsecond)
		kill()
		t.Logf("kill %d after %d rows", i+1, copied)
	}
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
