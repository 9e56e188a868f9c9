package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

// rowsOf fills a table with n rows by doubling.
func (c *cluster) fill(table, columns, values string, n int) {
	c.t.Helper()
	c.src.MustExec(c.t, fmt.Sprintf("SET SESSION cte_max_recursion_depth = 1000000; INSERT INTO %s.%s (%s) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT %s FROM n",
		c.db, table, columns, n, values))
}

// The main job: create, copy under writes, complete.
func TestLifecycle(t *testing.T) {
	c := newCluster(t, migrate.Options{}, shopSchema)
	c.fill("plain", "a, b, v", "i + 10, i, CONCAT('v', i)", 20_000)
	c.run(c.m)
	load := replicationtest.StartLoad(t, c.src.DB(t), c.db, replicationtest.LoadOptions{Seed: 1, Tables: []string{"plain", "customer"}})
	c.create(migrate.CreateOptions{})
	st := c.await(migrate.StateRunning)
	if st.Progress() != 100 {
		t.Errorf("progress %v when all is copied", st.Progress())
	}
	for _, ts := range st.Tables {
		if ts.Phase != migrate.PhaseComplete || ts.Percent != 100 || ts.RowsTotal != ts.Rows {
			t.Errorf("%+v", ts)
		}
	}
	load.MustStop(t)
	c.caughtUp()
	c.equal("customer", "orders", "plain")
	st, err := c.workflow().Show(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := st.Streams[0]
	if s.Owner == "" || s.Position == "" || strings.Contains(s.Position, "/") || s.Updated.IsZero() || s.RowsCopied < 20_000 || len(s.Logs) < 3 || s.Message != "" {
		t.Errorf("%+v", s)
	}
	// All keys are there now.
	if got, want := c.keys(), "customer.PRIMARY customer.email customer.name orders.PRIMARY orders.belongs orders.note orders.placed plain.ab plain.v"; got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
	// What was committed before the call arrives.
	c.src.MustExec(t, "INSERT INTO "+c.db+".plain VALUES (-1, -1, 'last')")
	res, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{SourceTables: migrate.RenameSourceTables})
	if err != nil {
		t.Fatal(err)
	}
	if res.Positions["0"] == "" || len(res.Published) != 3 || len(res.Done) == 0 {
		t.Errorf("%+v", res)
	}
	if got := one(t, c.dst, "SELECT v FROM "+c.vt+".plain WHERE a = -1"); got != "last" {
		t.Errorf("the last row is %q", got)
	}
	c.clean("customer", "orders", "plain")
	if got := c.tables(c.src, c.db); got != "_customer_old _orders_gho _orders_old _plain_old ann" {
		t.Errorf("the source has %s", got)
	}
	if v, srv := c.published(); v != "customer orders plain" || srv != v {
		t.Errorf("published %q, served %q", v, srv)
	}
}

// Started before or after Create, by the same process or another, stopped and started again, cancelled while it runs.
func TestStartStopCancel(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	c.create(migrate.CreateOptions{NoAutoStart: true})
	stop := c.run(c.migrator(migrate.Options{}))
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); !errors.Is(err, migrate.ErrNotReady) {
		t.Errorf("Complete of a stopped workflow: %v", err)
	}
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.await(migrate.StateRunning)
	c.caughtUp()
	c.equal("customer", "plain")

	if err := c.workflow().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.src.MustExec(t, "INSERT INTO "+c.db+".plain VALUES (7, 7)")
	if st := c.await(migrate.StateStopped); st.Message == "" || st.Streams[0].Owner != "" {
		t.Errorf("%+v", st)
	}
	err := c.workflow().WaitApplied(t.Context(), "0", c.position())
	if e, ok := errors.AsType[*migrate.StreamStoppedError](err); !ok || e.StreamState() != "Stopped" {
		t.Errorf("waiting for a stopped stream: %v", err)
	}
	// Another process goes on where this one was.
	stop()
	c.run(c.migrator(migrate.Options{}))
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Errorf("second Start: %v", err)
	}
	c.caughtUp()
	c.equal("customer", "plain")
	res, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{})
	if err != nil || !slices.Equal(res.Dropped, []string{"customer", "plain"}) {
		t.Fatalf("%+v, %v", res, err)
	}
	c.clean()
}

// Two processes share the streams: each is run by one of them, and taken over by the other.
func TestTwoWorkers(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	starts := make(chan string, 100)
	worker := func(name string) *migrate.Migrator {
		return c.migrator(migrate.Options{Trace: migrate.Trace{StreamStarting: func(migrate.StreamInfo) { starts <- name }}})
	}
	stops := map[string]func(){"a": c.run(worker("a")), "b": c.run(worker("b"))}
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	first := <-starts
	c.src.MustExec(t, "INSERT INTO "+c.db+".plain VALUES (7, 7)")
	c.caughtUp()
	select {
	case other := <-starts:
		t.Errorf("%s runs the stream of %s", other, first)
	default:
	}
	stops[first]()
	second := <-starts
	if second == first {
		t.Errorf("%s runs on after its end", first)
	}
	c.src.MustExec(t, "INSERT INTO "+c.db+".plain VALUES (8, 8)")
	c.caughtUp()
	c.equal("customer", "plain")
}

func TestStopAfterCopy(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	c.run(c.m)
	c.create(migrate.CreateOptions{StopAfterCopy: true})
	st := c.await(migrate.StateStopped)
	if st.Progress() != 100 || !strings.Contains(st.Message, "Stopped after copy") {
		t.Errorf("%v%%, %q", st.Progress(), st.Message)
	}
	c.equal("customer", "plain")
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.clean("customer", "plain")
}

func TestOnDDL(t *testing.T) {
	for _, tc := range []struct {
		onDDL  replication.OnDDL
		state  migrate.State
		column bool
	}{
		{replication.OnDDLIgnore, migrate.StateRunning, false},
		{replication.OnDDLStop, migrate.StateStopped, false},
		{replication.OnDDLExec, migrate.StateRunning, true},
		{replication.OnDDLExecIgnore, migrate.StateRunning, true},
	} {
		t.Run(fmt.Sprint(tc.onDDL), func(t *testing.T) {
			c := newCluster(t, migrate.Options{}, smallSchema)
			c.run(c.m)
			c.create(migrate.CreateOptions{OnDDL: tc.onDDL})
			c.await(migrate.StateRunning)
			c.src.MustExec(t, "USE "+c.db+"; ALTER TABLE plain ADD COLUMN extra INT NULL")
			if tc.state == migrate.StateStopped {
				st := c.await(migrate.StateStopped)
				if !strings.Contains(st.Message, "ADD COLUMN extra") {
					t.Errorf("message %q", st.Message)
				}
				// Start goes on after it, once the target has the column too.
				c.dst.MustExec(t, "ALTER TABLE "+c.vt+".plain ADD COLUMN extra INT NULL")
				if err := c.workflow().Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				c.await(migrate.StateRunning)
			}
			if tc.onDDL == replication.OnDDLIgnore {
				// The rows of other tables go on.
				c.src.MustExec(t, "INSERT INTO "+c.db+".customer (name) VALUES ('dan')")
				c.caughtUp()
				c.equal("customer")
				return
			}
			c.src.MustExec(t, "INSERT INTO "+c.db+".plain VALUES (9, 9, 9)")
			c.caughtUp()
			c.equal("customer", "plain")
		})
	}
}

// Before the copy is complete, and when the lag is too large, Complete is refused.
func TestCompleteRefused(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	stop := c.run(c.m)
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	stop()
	c.src.MustExec(t, "INSERT INTO "+c.db+".customer (name) VALUES ('dan')")
	// The time may end anywhere in the wait, even before the source has told what it has.
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{MaxLag: time.Hour, Timeout: time.Nanosecond}); !is[*migrate.NotReadyError](err) {
		t.Errorf("no time at all: %v", err)
	}
	deadline := time.NewTimer(30 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{MaxLag: time.Second, Timeout: 50 * time.Millisecond})
		e, ok := errors.AsType[*migrate.NotReadyError](err)
		if ok && strings.Contains(e.Reason, "lags") {
			break
		}
		if err == nil {
			t.Fatal("completed without a worker")
		}
		if !errors.Is(err, migrate.ErrNotReady) {
			t.Fatalf("not caught up in time: %v", err)
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never lagging: %v", err)
		}
	}
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	c.clean("customer", "plain")
}

func TestSourceTimeZone(t *testing.T) {
	c := newCluster(t, migrate.Options{}, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, at DATETIME(3), d DATE); INSERT INTO t VALUES (1, '2026-07-01 12:00:00.5', '2026-07-01'), (2, NULL, NULL)")
	c.run(c.m)
	c.create(migrate.CreateOptions{SourceTimeZone: "Europe/Berlin"})
	c.await(migrate.StateRunning)
	c.src.MustExec(t, "INSERT INTO "+c.db+".t VALUES (3, '2026-01-01 00:30:00', '2026-01-01')")
	c.caughtUp()
	got := fmt.Sprint(c.dst.MustQuery(t, "SELECT * FROM "+c.vt+".t ORDER BY id"))
	if want := "[[1 2026-07-01 10:00:00.500 2026-07-01] [2 NULL NULL] [3 2025-12-31 23:30:00.000 2026-01-01]]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A row that the target does not have stops the stream for good, says which, and Start tries again once it is repaired.
func TestError(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	c.run(c.m)
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	c.dst.MustExec(t, "DELETE FROM "+c.vt+".plain")
	c.src.MustExec(t, "DELETE FROM "+c.db+".plain WHERE a = 1")
	var st *migrate.Status
	for s, err := range c.workflow().Watch(t.Context(), 20*time.Millisecond) {
		if err != nil {
			t.Fatal(err)
		}
		if st = s; st.State == migrate.StateError {
			break
		}
	}
	if !strings.Contains(st.Message, "plain") || !strings.Contains(st.Message, "a=1") {
		t.Errorf("message %q", st.Message)
	}
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); !errors.Is(err, migrate.ErrNotReady) {
		t.Errorf("Complete of a broken workflow: %v", err)
	}
	c.dst.MustExec(t, "INSERT INTO "+c.vt+".plain VALUES (1, 1)")
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.await(migrate.StateRunning)
	c.caughtUp()
	c.equal("customer", "plain")
}

// Servers that die and come back interrupt a stream and do not end it; the message of the trouble goes away with it.
func TestServerRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("needs MySQL servers; -short is on")
	}
	src, dst := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{}), replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	c := newClusterOn(t, src, dst, migrate.Options{}, smallSchema)
	retried := make(chan error, 1000)
	c.run(c.migrator(migrate.Options{Trace: migrate.Trace{StreamEnded: func(_ migrate.StreamInfo, err error, wait time.Duration) {
		if wait > 0 {
			retried <- err
		}
	}}}))
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	for i, s := range []*replicationtest.Server{dst, src} {
		s.Kill9()
		if s == dst {
			if err := <-retried; err == nil {
				t.Error("a retry without an error")
			}
		}
		s.MustRestart(t)
		c.src.MustExec(t, fmt.Sprintf("INSERT INTO %s.plain VALUES (%d, 7)", c.db, 10+i))
		c.caughtUp()
		c.equal("customer", "plain")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for st, err := range c.workflow().Watch(ctx, 50*time.Millisecond) {
		if err != nil {
			t.Fatal(err)
		}
		if st.State == migrate.StateRunning && st.Message == "" {
			return
		}
	}
	t.Error("the message of an error that is over stays")
}

// A source that has purged what a stream still needs ends it, with the reason and without another try.
func TestPurged(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	c.run(c.m)
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	if err := c.workflow().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.src.MustExec(t, "INSERT INTO "+c.db+".plain VALUES (7, 7); FLUSH BINARY LOGS; INSERT INTO "+c.db+".plain VALUES (8, 8); FLUSH BINARY LOGS")
	logs := c.src.MustQuery(t, "SHOW BINARY LOGS")
	c.src.MustExec(t, "PURGE BINARY LOGS TO '"+logs[len(logs)-1][0]+"'")
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for st, err := range c.workflow().Watch(ctx, 50*time.Millisecond) {
		if err != nil {
			t.Fatal(err)
		}
		if st.State == migrate.StateError {
			if !strings.Contains(st.Message, "purged") {
				t.Errorf("message %q", st.Message)
			}
			return
		}
	}
	t.Error("no state Error")
}

// Workflows of one keyspace do not disturb one another.
func TestTwoWorkflows(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	c.run(c.m)
	c.create(migrate.CreateOptions{Tables: []string{"customer"}})
	other := c.m.Workflow(c.ks + ".other")
	if _, err := other.Create(t.Context(), migrate.CreateOptions{Source: "ext1." + c.db, Tables: []string{"plain"}}); err != nil {
		t.Fatal(err)
	}
	if names, err := c.m.List(t.Context(), c.ks); err != nil || !slices.Equal(names, []string{"other", "wf"}) {
		t.Errorf("workflows %v, %v", names, err)
	}
	c.await(migrate.StateRunning)
	if _, err := other.Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
		t.Fatal(err)
	}
	c.src.MustExec(t, "INSERT INTO "+c.db+".customer (name) VALUES ('dan')")
	c.caughtUp()
	c.equal("customer")
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.clean("customer")
}

// A lockSpy notes the TTL of locks by their directories.
type lockSpy struct {
	topo.Conn
	ttls *sync.Map
}

func (s lockSpy) Lock(ctx context.Context, dir string, r topo.LockRequest) (topo.LockHandle, error) {
	s.ttls.Store(dir, r.TTL)
	return s.Conn.Lock(ctx, dir, r)
}

func TestLeaseTTL(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	var ttls sync.Map
	mem := memorytopo.New()
	c.ts = newTopologyWith(t, func(ctx context.Context, a topo.Address) (topo.Conn, error) {
		conn, err := mem.Open(ctx, a)
		return lockSpy{conn, &ttls}, err
	}, c.ks, c.dst.Host, c.dst.Port)
	c.register("ext1", c.src.Addr())
	c.m = c.migrator(migrate.Options{LeaseTTL: 7 * time.Second})
	c.run(c.m)
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	var got any
	ttls.Range(func(dir, ttl any) bool {
		if strings.HasSuffix(dir.(string), "tablehaul/"+c.ks+"/wf/0") {
			got = ttl
		}
		return true
	})
	if got != 7*time.Second {
		t.Errorf("the stream's lease has TTL %v", got)
	}
}
