package migrate_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
)

// replicate makes a server a replica of another one.
func replicate(t *testing.T, replica, primary *replicationtest.Server) {
	t.Helper()
	replica.MustExec(t, fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_PORT = %d, SOURCE_USER = 'repl', SOURCE_PASSWORD = 'repl',"+
		" SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 1, SOURCE_CONNECT_RETRY = 1; SET GLOBAL super_read_only = ON; START REPLICA", primary.Host, primary.Port))
}

// executed is a server's GTID set.
func executed(t *testing.T, s *replicationtest.Server) string {
	t.Helper()
	return strings.ReplaceAll(one(t, s, "SELECT @@GLOBAL.gtid_executed"), "\n", "")
}

// The target's primary changes under load: once as planned, and once in a hurry, with a replica that lacks what the stream has committed last.
func TestTargetFailover(t *testing.T) {
	src, _ := servers(t)
	a := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	b := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	c := newClusterOn(t, src, a, migrate.Options{}, smallSchema)
	a.MustExec(t, "CREATE USER repl@'%' IDENTIFIED BY 'repl'; GRANT REPLICATION SLAVE ON *.* TO repl@'%'")
	replicate(t, b, a)
	err := c.ts.InitTablet(t.Context(), topo.Tablet{
		Alias: topo.TabletAlias{Cell: "zone1", UID: 101}, Type: topo.TabletReplica, Keyspace: c.ks, Shard: "0", MySQLHostname: b.Host, MySQLPort: int32(b.Port),
	})
	if err != nil {
		t.Fatal(err)
	}
	promote := func(uid uint32, s *replicationtest.Server) {
		t.Helper()
		s.MustExec(t, "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF")
		if err := c.ts.SetPrimary(t.Context(), c.ks, "0", topo.TabletAlias{Cell: "zone1", UID: uid}); err != nil {
			t.Fatal(err)
		}
	}
	moved := func(tablet string) {
		t.Helper()
		until(t, "the stream runs on "+tablet, func() bool {
			st := c.show().Streams[0]
			return st.Tablet == tablet && st.State == migrate.StateRunning && time.Since(st.Updated) < 3*time.Second
		})
	}
	c.run(c.m)
	load := replicationtest.StartLoad(t, c.src.DB(t), c.db, replicationtest.LoadOptions{Seed: 5, Rate: 200, Writers: 2})
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)

	// As planned: the old primary takes no more writes, the new one has all of them.
	a.MustExec(t, "SET GLOBAL super_read_only = ON")
	if got := one(t, b, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"+executed(t, a)+"', 30)"); got != "0" {
		t.Fatal("the replica does not catch up")
	}
	promote(101, b)
	moved("zone1-0000000101")
	c.caughtUp()

	// The old one comes back as a replica: nothing has happened on it since.
	replicate(t, a, b)
	if got := one(t, a, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"+executed(t, b)+"', 30)"); got != "0" {
		t.Fatal("the former primary can't follow the new one")
	}
	// In a hurry: the replica stops, the stream goes on for a while, and what it did then is lost.
	a.MustExec(t, "STOP REPLICA")
	c.caughtUp()
	lost := one(t, b, "SELECT GTID_SUBTRACT('"+executed(t, b)+"', '"+executed(t, a)+"')")
	if lost == "" {
		t.Fatal("nothing gets lost")
	}
	epoch := one(t, b, "SELECT epoch FROM "+c.sidecar+".vreplication_epoch")
	logged := epochsLogged(t, b)
	promote(100, a)
	moved("zone1-0000000100")
	load.MustStop(t)
	c.caughtUp()
	c.equal("customer", "plain")

	// The former primary, which still takes writes, is fenced, without a transaction of its own.
	until(t, "the former primary is fenced", func() bool {
		return one(t, b, "SELECT CONCAT(epoch > "+epoch+", ' ', owner) FROM "+c.sidecar+".vreplication_epoch") == "1 "
	})
	if n := epochsLogged(t, b); logged == 0 || n != logged {
		t.Errorf("the log of the former primary has %d changes of epochs, before the fence %d", n, logged)
	}
	for _, l := range c.show().Streams[0].Logs {
		if l.State == migrate.StateError {
			t.Errorf("the stream was given up: %s", l.Message)
		}
	}
}

// epochsLogged counts the changes of vreplication_epoch in a server's log.
func epochsLogged(t *testing.T, s *replicationtest.Server) int {
	t.Helper()
	n := 0
	for _, file := range s.MustQuery(t, "SHOW BINARY LOGS") {
		for _, event := range s.MustQuery(t, "SHOW BINLOG EVENTS IN '"+file[0]+"'") {
			if strings.Contains(event[5], "vreplication_epoch") {
				n++
			}
		}
	}
	return n
}

// The source server that is read dies, and does not come back: the stream goes on with another one of the cluster.
func TestSourceFailover(t *testing.T) {
	_, dst := servers(t)
	a := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	b := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	c := newClusterOn(t, a, dst, migrate.Options{}, smallSchema)
	a.MustExec(t, "CREATE USER repl@'%' IDENTIFIED BY 'repl'; GRANT REPLICATION SLAVE ON *.* TO repl@'%'")
	replicate(t, b, a)
	if got := one(t, b, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"+executed(t, a)+"', 30)"); got != "0" {
		t.Fatal("the replica does not catch up")
	}
	c.register("ext2", b.Addr(), a.Addr())
	c.run(c.m)
	c.create(migrate.CreateOptions{Source: "ext2." + c.db})
	c.await(migrate.StateRunning)
	c.caughtUp()
	if dumps(t, b) == 0 || dumps(t, a) != 0 {
		t.Fatal("the replica is not what is read")
	}
	b.Kill9()
	a.MustExec(t, "INSERT INTO "+c.db+".plain VALUES (70, 7); UPDATE "+c.db+".plain SET b = 8 WHERE a = 1")
	c.caughtUp()
	c.equal("customer", "plain")
	if dumps(t, a) == 0 {
		t.Error("nobody reads the log of the server that is left")
	}
}
