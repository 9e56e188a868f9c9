package vitess

import (
	"testing"

	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// A lab holds what the subtests share. Its parts are started when they are first asked for, and live until the
// test ends that made the lab.
type lab struct {
	t           *testing.T
	etcd, other *replicationtest.Etcd
	eastCluster *cluster
	eastFilled  bool
	westCluster *cluster
	plainServer *replicationtest.Server
}

var login = mount.Static(mount.Login{User: "root"})

func newLab(t *testing.T) *lab {
	t.Helper()
	binDir(t)
	return &lab{t: t, etcd: replicationtest.StartEtcd(t), other: replicationtest.StartEtcd(t)}
}

// east is the Vitess to move tables from. Its cell east2 is on another etcd than the rest.
func (l *lab) east() *cluster {
	l.t.Helper()
	if l.eastCluster == nil {
		l.eastCluster = &cluster{name: "east", unsharded: "legacy", etcd: l.etcd, cells: []cell{{"east1", l.etcd}, {"east2", l.other}}}
		startCluster(l.t, l.eastCluster, []*tablet{
			{alias: "east1-100", keyspace: "shop", shard: "-80", primary: true},
			{alias: "east2-101", keyspace: "shop", shard: "-80"},
			{alias: "east1-200", keyspace: "shop", shard: "80-", primary: true},
			{alias: "east1-300", keyspace: "legacy", shard: "0", database: "legacydb", primary: true},
		}, map[string]string{"shop": `{
			"sharded": true,
			"vindexes": {"hash": {"type": "hash"}},
			"tables": {"orders": {"column_vindexes": [{"column": "id", "name": "hash"}]}, "country": {"type": "reference"}}}`})
	}
	return l.eastCluster
}

// west is the Vitess to move tables to.
func (l *lab) west() *cluster {
	l.t.Helper()
	if l.westCluster == nil {
		l.westCluster = &cluster{name: "west", unsharded: "commerce", semiSync: "commerce", etcd: l.other, cells: []cell{{"zone1", l.other}, {"zone2", l.other}}}
		startCluster(l.t, l.westCluster, []*tablet{
			{alias: "zone1-100", keyspace: "commerce", shard: "0", primary: true},
			{alias: "zone2-101", keyspace: "commerce", shard: "0"},
			{alias: "zone1-200", keyspace: "customer", shard: "-80", primary: true},
			{alias: "zone2-201", keyspace: "customer", shard: "-80"},
			{alias: "zone1-300", keyspace: "customer", shard: "80-", primary: true},
		}, map[string]string{"customer": `{
			"sharded": true,
			"vindexes": {"hash": {"type": "hash"}},
			"tables": {"orders": {"column_vindexes": [{"column": "id", "name": "hash"}]}}}`})
	}
	return l.westCluster
}

// plain is a MySQL server without Vitess.
func (l *lab) plain() *replicationtest.Server {
	l.t.Helper()
	if l.plainServer == nil {
		l.plainServer = replicationtest.StartMySQL(l.t, replicationtest.MySQLOptions{})
	}
	return l.plainServer
}

// TestVitess runs the checks, see the package's documentation.
func TestVitess(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *lab)
	}{
		{"vindexes", testVindexes},
		{"locks", testLocks},
		{"records", testRecords},
		{"mounted vitess", testMountedVitess},
		{"vitess source", testVitessSource},
		{"vitess to vitess", testVitessToVitess},
		{"unsharded target", testUnshardedTarget},
		{"cancel", testCancel},
		{"sharded target", testShardedTarget},
		{"sequences", testSequences},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, l) })
	}
}
