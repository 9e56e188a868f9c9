package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

// The servers that most tests share; each test has databases and keyspaces of its own.
var shared struct {
	sync.Once
	src, dst *replicationtest.Server
	err      error
	n        atomic.Int64
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, s := range []*replicationtest.Server{shared.src, shared.dst} {
		if s != nil {
			_ = s.Close()
		}
	}
	os.Exit(code)
}

func servers(t *testing.T) (src, dst *replicationtest.Server) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs MySQL servers; -short is on")
	}
	shared.Do(func() {
		ctx := context.Background()
		if shared.src, shared.err = replicationtest.RunMySQL(ctx, replicationtest.MySQLOptions{}); shared.err == nil {
			shared.dst, shared.err = replicationtest.RunMySQL(ctx, replicationtest.MySQLOptions{})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.src, shared.dst
}

// A cluster is a topology in memory with one target keyspace, and an external MySQL mounted as ext1.
type cluster struct {
	t        *testing.T
	src, dst *replicationtest.Server
	ts       *topo.Server
	m        *migrate.Migrator
	// db is the source's database, ks the target keyspace, vt its database.
	db, ks, vt string
	sidecar    string
}

// newCluster makes a cluster on the shared servers, with these tables at the source.
func newCluster(t *testing.T, opts migrate.Options, schema ...string) *cluster {
	t.Helper()
	src, dst := servers(t)
	return newClusterOn(t, src, dst, opts, schema...)
}

func newClusterOn(t *testing.T, src, dst *replicationtest.Server, opts migrate.Options, schema ...string) *cluster {
	t.Helper()
	n := shared.n.Add(1)
	c := &cluster{t: t, src: src, dst: dst, db: fmt.Sprintf("load%d", n), ks: fmt.Sprintf("commerce%d", n)}
	c.vt, c.sidecar = "vt_"+c.ks, fmt.Sprintf("_side%d", n)
	src.MustExec(t, "CREATE DATABASE "+c.db)
	for _, s := range schema {
		src.MustExec(t, "USE "+c.db+"; "+s)
	}
	c.ts = newTopology(t, c.ks, dst.Host, dst.Port)
	c.register("ext1", src.Addr())
	c.m = c.migrator(opts)
	t.Cleanup(func() {
		ctx := context.Background()
		if err := errors.Join(src.Exec(ctx, "DROP DATABASE IF EXISTS "+c.db),
			dst.Exec(ctx, "DROP DATABASE IF EXISTS "+c.vt+"; DROP DATABASE IF EXISTS "+c.sidecar)); err != nil {
			t.Error(err)
		}
	})
	return c
}

func newTopology(t *testing.T, keyspace, host string, port int) *topo.Server {
	t.Helper()
	return newTopologyWith(t, memorytopo.New().Open, keyspace, host, port)
}

func newTopologyWith(t *testing.T, open topo.Opener, keyspace, host string, port int) *topo.Server {
	t.Helper()
	ctx := t.Context()
	ts, err := topo.Open(ctx, topo.Openers{"memory": open, "etcd2": etcdtopo.Open}, topo.Address{Type: "memory", Root: "/global"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ts.Close() })
	for _, err := range []error{
		ts.CreateCell(ctx, topo.CellInfo{Name: "zone1", Root: "/zone1"}),
		ts.CreateKeyspace(ctx, topo.Keyspace{Name: keyspace}),
		ts.CreateShard(ctx, keyspace, "0"),
		ts.InitTablet(ctx, topo.Tablet{
			Alias: topo.TabletAlias{Cell: "zone1", UID: 100}, Type: topo.TabletPrimary, Keyspace: keyspace, Shard: "0",
			MySQLHostname: host, MySQLPort: int32(port),
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return ts
}

var root = mount.Static(mount.Login{User: "root"})

func (c *cluster) register(name string, hosts ...string) {
	c.t.Helper()
	err := mount.Register(c.t.Context(), c.ts, mount.Cluster{Name: name, Type: mount.MySQL, Hosts: hosts}, mount.RegisterOptions{Credentials: root, SkipChecks: true})
	if err != nil {
		c.t.Fatal(err)
	}
}

// migrator is one more Migrator for the cluster, as another process would have.
func (c *cluster) migrator(opts migrate.Options) *migrate.Migrator {
	c.t.Helper()
	opts.SidecarDatabase = c.sidecar
	if opts.PollInterval == 0 {
		opts.PollInterval = 50 * time.Millisecond
	}
	m, err := migrate.New(c.ts, root, opts)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = m.Close() })
	return m
}

// run runs m until the test ends or stop is called.
func (c *cluster) run(m *migrate.Migrator) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			c.t.Errorf("Run: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	c.t.Cleanup(stop)
	return stop
}

func (c *cluster) workflow() *migrate.Workflow { return c.m.Workflow(c.ks + ".wf") }

// create creates the workflow with all tables unless o says others.
func (c *cluster) create(o migrate.CreateOptions) *migrate.CreateResult {
	c.t.Helper()
	if o.Source == "" {
		o.Source = "ext1." + c.db
	}
	if len(o.Tables) == 0 {
		o.AllTables = true
	}
	res, err := c.workflow().Create(c.t.Context(), o)
	if err != nil {
		c.t.Fatal(err)
	}
	return res
}

// await watches the workflow until it has the state.
func (c *cluster) await(want migrate.State) *migrate.Status {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	var last *migrate.Status
	for st, err := range c.workflow().Watch(ctx, 50*time.Millisecond) {
		if err != nil {
			c.t.Fatal(err)
		}
		last = st
		if st.State == want {
			return st
		}
		if st.State == migrate.StateError {
			c.t.Fatalf("state Error: %s", st.Message)
		}
	}
	c.t.Fatalf("no state %s: %+v", want, last)
	return nil
}

// caughtUp waits until the target has all that the source has now.
func (c *cluster) caughtUp() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	if err := c.workflow().WaitApplied(ctx, "0", c.position()); err != nil {
		c.t.Fatal(err)
	}
}

// position is what the source has now.
func (c *cluster) position() replication.Position {
	c.t.Helper()
	p, err := replication.ParsePosition("MySQL56/" + one(c.t, c.src, "SELECT @@GLOBAL.gtid_executed"))
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *cluster) equal(tables ...string) {
	c.t.Helper()
	replicationtest.CheckEqual(c.t, c.src.DB(c.t), c.dst.DB(c.t), c.db, c.vt, tables...)
}

// clean checks that nothing is left of a workflow: no sidecar, and of the target tables only these.
func (c *cluster) clean(tables ...string) {
	c.t.Helper()
	if rows := c.dst.MustQuery(c.t, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '"+c.sidecar+"'"); len(rows) > 0 {
		c.t.Errorf("sidecar tables are left: %v", rows)
	}
	if rows := c.dst.MustQuery(c.t, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '"+c.sidecar+"'"); len(rows) > 0 {
		c.t.Errorf("the sidecar database is left")
	}
	if got := c.tables(c.dst, c.vt); got != strings.Join(tables, " ") {
		c.t.Errorf("target has tables %q, want %q", got, tables)
	}
	if names, err := c.m.List(c.t.Context(), c.ks); err != nil || len(names) > 0 {
		c.t.Errorf("workflows %v, %v", names, err)
	}
}

func (c *cluster) tables(s *replicationtest.Server, database string) string {
	c.t.Helper()
	var names []string
	for _, r := range s.MustQuery(c.t, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '"+database+"' ORDER BY TABLE_NAME") {
		names = append(names, r[0])
	}
	return strings.Join(names, " ")
}

// keys lists the keys of the target tables, as table.key.
func (c *cluster) keys() string {
	c.t.Helper()
	var names []string
	for _, r := range c.dst.MustQuery(c.t, "SELECT DISTINCT TABLE_NAME, INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '"+c.vt+"'") {
		names = append(names, r[0]+"."+r[1])
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// one is the single value that a query on a server gives.
func one(t *testing.T, s *replicationtest.Server, query string) string {
	t.Helper()
	rows := s.MustQuery(t, query)
	if len(rows) != 1 || len(rows[0]) != 1 {
		t.Fatalf("%s: %v", query, rows)
	}
	return rows[0][0]
}
