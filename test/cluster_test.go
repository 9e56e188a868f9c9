package test

import (
	"os"
	"os/exec"
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
	c := &cluster{
		src:  replicationtest.StartMySQL(t, replicationtest.MySQLOptions{}),
		dst:  replicationtest.StartMySQL(t, replicationtest.MySQLOptions{}),
		etcd: replicationtest.StartEtcd(t),
	}
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
	must(c.ts.CreateCell(ctx, topo.CellInfo{Name: "zone1", ServerAddress: c.etcd.Addr(), Root: "/vitess/zone1"}))
	must(c.ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}))
	must(c.ts.CreateShard(ctx, "commerce", "0"))
	must(c.ts.InitTablet(ctx, topo.Tablet{
		Alias: topo.TabletAlias{Cell: "zone1", UID: 100}, Type: topo.TabletPrimary, Keyspace: "commerce", Shard: "0",
		MySQLHostname: c.dst.Host, MySQLPort: int32(c.dst.Port),
	}))
	must(mount.Register(ctx, c.ts, mount.Cluster{Name: "ext1", Type: mount.MySQL, Hosts: []string{c.src.Addr()}}, mount.RegisterOptions{Credentials: login}))
	c.m, err = migrate.New(c.ts, login, migrate.Options{})
	must(err)
	t.Cleanup(func() { _ = c.m.Close() })
	return c
}

// worker starts this test's binary as a worker process; the function kills it with SIGKILL.
func (c *cluster) worker(t *testing.T) (kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+c.etcd.Addr())
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
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
