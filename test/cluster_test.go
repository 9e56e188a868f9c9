package test

import (
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
)

// cluster is an external MySQL mounted as ext1, and a local cluster with its topology in etcd: the keyspace commerce
// with one shard.
type cluster struct {
	src, dst *replicationtest.Server
	etcd     *replicationtest.Etcd
	ts       *topo.Server
	m        *migrate.Migrator
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	return newClusterWith(t, replicationtest.MySQLOptions{})
}

// newClusterWith is newCluster with the options of both servers.
func newClusterWith(t *testing.T, opts replicationtest.MySQLOptions) *cluster {
	t.Helper()
	c := &cluster{
		src:  replicationtest.StartMySQL(t, opts),
		dst:  replicationtest.StartMySQL(t, opts),
		etcd: replicationtest.StartEtcd(t),
	}
	c.build(t, clusterAddrs{etcd: c.etcd.Addr(), source: c.src.Addr(), targetPort: c.dst.Port}, migrate.Options{})
	return c
}

// clusterAddrs are the addresses that the topology names.
type clusterAddrs struct {
	etcd, source string
	targetPort   int
}

// build fills the topology and makes the test's own Migrator.
func (c *cluster) build(t *testing.T, a clusterAddrs, opts migrate.Options) {
	t.Helper()
	ctx := t.Context()
	var err error
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c.ts, err = openTopology(ctx, c.etcd.Addr())
	must(err)
	t.Cleanup(func() { _ = c.ts.Close() })
	must(c.ts.CreateCell(ctx, topo.CellInfo{Name: "zone1", ServerAddress: a.etcd, Root: "/vitess/zone1"}))
	must(c.ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}))
	must(c.ts.CreateShard(ctx, "commerce", "0"))
	must(c.ts.InitTablet(ctx, topo.Tablet{
		Alias: topo.TabletAlias{Cell: "zone1", UID: 100}, Type: topo.TabletPrimary, Keyspace: "commerce", Shard: "0",
		MySQLHostname: c.dst.Host, MySQLPort: int32(a.targetPort),
	}))
	must(mount.Register(ctx, c.ts, mount.Cluster{Name: "ext1", Type: mount.MySQL, Hosts: []string{a.source}}, mount.RegisterOptions{Credentials: login}))
	c.m, err = migrate.New(c.ts, login, opts)
	must(err)
	t.Cleanup(func() { _ = c.m.Close() })
}

// worker starts this test's binary as a worker process; the function kills it with SIGKILL.
func (c *cluster) worker(t *testing.T) (kill func()) {
	t.Helper()
	cmd := startWorker(t, workerConfig{Topology: c.etcd.Addr(), User: "root", ChunkRows: 50})
	dead := false
	kill = func() {
		if !dead {
			dead = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	return kill
}

// watch looks at the workflow until enough says so; a state of error or two minutes without success fail the test.
func (c *cluster) watch(t *testing.T, wf *migrate.Workflow, every time.Duration, enough func(*migrate.Status) bool) {
	t.Helper()
	late := time.NewTimer(2 * time.Minute)
	defer late.Stop()
	var last *migrate.Status
	for st, err := range wf.Watch(t.Context(), every) {
		if err != nil {
			t.Fatal(err)
		}
		if last = st; enough(st) {
			return
		}
		if st.State == migrate.StateError {
			t.Fatalf("workflow: %s", st.Message)
		}
		select {
		case <-late.C:
			t.Fatalf("not there after two minutes: %+v", last)
		default:
		}
	}
	t.Fatalf("the watch ended: %+v", last)
}

func rowsCopied(st *migrate.Status) (n int64) {
	for _, table := range st.Tables {
		n += table.Rows
	}
	return n
}
