package vitess

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/vdiff"
)

// A mover runs the streams of a topology's workflows until the test ends.
type mover struct {
	ts *topo.Server
	m  *migrate.Migrator
}

func newMover(t *testing.T, ts *topo.Server) *mover {
	t.Helper()
	opts := migrate.Options{
		Stream: replication.Options{ChunkRows: 50}, LeaseTTL: 2 * time.Second, PollInterval: 100 * time.Millisecond,
	}
	if os.Getenv(logEnv) != "" {
		opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	m, err := migrate.New(ts, login, opts)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
		must(t, m.Close())
	})
	return &mover{ts, m}
}

// create makes a workflow of all tables of a source, "mount.keyspace".
func (mv *mover) create(t *testing.T, name string, o migrate.CreateOptions) *migrate.Workflow {
	t.Helper()
	wf := mv.m.Workflow(name)
	o.AllTables = len(o.Tables) == 0
	res, err := wf.Create(t.Context(), o)
	must(t, err)
	for _, w := range res.Warnings {
		t.Logf("create %s: %s", name, w)
	}
	return wf
}

// running waits until everything has been copied.
func running(t *testing.T, wf *migrate.Workflow) *migrate.Status {
	t.Helper()
	return watch(t, wf, "running", func(st *migrate.Status) bool { return st.State == migrate.StateRunning })
}

// watch looks at a workflow until enough says so.
func watch(t *testing.T, wf *migrate.Workflow, what string, enough func(*migrate.Status) bool) *migrate.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var last *migrate.Status
	for st, err := range wf.Watch(ctx, 100*time.Millisecond) {
		if err != nil {
			t.Fatalf("%s: wait for %s: %v; last %+v", wf.Name(), what, err, last)
		}
		if st.State == migrate.StateError {
			t.Fatalf("%s: %s", wf.Name(), st.Message)
		}
		if last = st; enough(st) {
			return st
		}
	}
	t.Fatalf("%s: wait for %s: the watch ended: %+v", wf.Name(), what, last)
	return nil
}

// compare fails the test if the two ends differ.
func compare(t *testing.T, wf *migrate.Workflow) {
	t.Helper()
	report, err := vdiff.New(wf).Create(t.Context(), vdiff.Options{})
	must(t, err)
	if !report.Equal() {
		t.Errorf("vdiff: %s", report)
	}
}

func complete(t *testing.T, wf *migrate.Workflow) *migrate.CompleteResult {
	t.Helper()
	res, err := wf.Complete(t.Context(), migrate.CompleteOptions{MaxLag: time.Minute})
	must(t, err)
	return res
}

// mountPlain fills a database on the plain server with a shop and mounts the server, as "ext1", unless that has been done.
func (l *lab) mountPlain(t *testing.T, ts *topo.Server, database string, rows int) {
	t.Helper()
	s := l.plain()
	s.MustExec(t, "CREATE DATABASE "+database+"; USE "+database+`;
		CREATE TABLE orders (id BIGINT PRIMARY KEY, customer VARCHAR(40) NOT NULL, amount DECIMAL(12,2), note TEXT, data VARBINARY(60), placed DATETIME(3), KEY (customer));
		CREATE TABLE item (sku VARCHAR(40) PRIMARY KEY, price INT UNSIGNED, about JSON);
		CREATE TABLE country (code CHAR(2) PRIMARY KEY, name VARCHAR(40));
		SET SESSION cte_max_recursion_depth = 100000;
		INSERT INTO orders WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < `+fmt.Sprint(rows)+`)
			SELECT i, CONCAT('Kunde Nr. ', i MOD 97, ' ü'), i / 7, REPEAT('x', i MOD 50), UNHEX(SHA2(i, 256)), NOW(3) FROM n;
		INSERT INTO item SELECT CONCAT(SUBSTR('AaÄäBbßÉé', 1 + id MOD 9, 1), id), id, JSON_OBJECT('n', id) FROM orders WHERE id <= 500;
		INSERT INTO country VALUES ('DE', 'Deutschland'), ('FR', 'France'), ('JP', '日本')`)
	err := mount.Register(t.Context(), ts, mount.Cluster{Name: "ext1", Type: mount.MySQL, Hosts: []string{s.Addr()}}, mount.RegisterOptions{Credentials: login})
	if err != nil && !errors.Is(err, mount.ErrExists) {
		t.Fatal(err)
	}
}

// write starts writers on a database of the plain server.
func (l *lab) write(t *testing.T, database string) *replicationtest.Load {
	t.Helper()
	return replicationtest.StartLoad(t, l.plain().DB(t), database, replicationtest.LoadOptions{Seed: 1, Rate: 100, Writers: 2, Tables: []string{"orders", "item"}})
}
