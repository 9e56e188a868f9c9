package vdiff_test

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/vdiff"
)

// TestStalledCommit has a source that shows a transaction to readers seconds after its log has it (semi-sync replication
// without a replica). The target has applied it by then, and that is no difference.
func TestStalledCommit(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1,1),(2,2)")
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{
		"--plugin-load=rpl_semi_sync_source=semisync_source.so", "--rpl-semi-sync-source-enabled=ON",
		"--rpl-semi-sync-source-wait-no-replica=ON", "--rpl-semi-sync-source-timeout=1",
	}})
	db := database(t, s, "stalled")
	run(t, db, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1,1),(2,2)")
	w.sources = map[string]*sql.DB{"0": db}

	s.MustExec(t, "SET GLOBAL rpl_semi_sync_source_timeout=3000; SET GLOBAL rpl_semi_sync_source_enabled=OFF; SET GLOBAL rpl_semi_sync_source_enabled=ON")
	begin := time.Now()
	var g errgroup.Group
	g.Go(func() error { return s.Exec(t.Context(), "UPDATE stalled.t SET v=22 WHERE id=2") })
	for s.MustQuery(t, "SELECT @@global.gtid_owned")[0][0] == "" {
		if err := retry.Wait(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if row := s.MustQuery(t, "SELECT v FROM stalled.t WHERE id=2")[0][0]; row != "2" {
		t.Fatalf("the commit did not stall, readers see %s", row)
	}
	run(t, w.target(), "UPDATE t SET v=22 WHERE id=2")
	r, err := vdiff.New(w).Create(t.Context(), vdiff.Options{})
	if err := errors.Join(err, g.Wait()); err != nil {
		t.Fatal(err)
	}
	if time.Since(begin) < 2*time.Second {
		t.Errorf("the commit stalled for %s only", time.Since(begin))
	}
	if !r.Equal() || r.RowsCompared() != 2 {
		t.Error(r)
	}
}
