package migrate_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
)

// A vitessSource is a source cluster as Vitess has it: a global topology and cell far1 on one etcd, cell far2 on another one; a primary
// far1-100 and its replica far2-101. The replica is reached by way of a proxy.
type vitessSource struct {
	*cluster
	ext          *topo.Server
	a, b         *replicationtest.Server
	global, far2 *replicationtest.Etcd
	proxy        *replicationtest.Proxy
	// front leads to the primary, for those who write.
	front       *replicationtest.Proxy
	written     atomic.Int64
	stopWriting func()
}

func aliasOf(uid uint32) topo.TabletAlias {
	return topo.TabletAlias{Cell: map[uint32]string{100: "far1", 101: "far2"}[uid], UID: uid}
}

func startVitessSource(t *testing.T) *vitessSource {
	t.Helper()
	_, dst := servers(t)
	v := &vitessSource{a: replicationtest.StartMySQL(t, replicationtest.MySQLOptions{}), b: replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})}
	v.cluster = newClusterOn(t, v.a, dst, migrate.Options{}, smallSchema)
	v.a.MustExec(t, "CREATE USER repl@'%' IDENTIFIED BY 'repl'; GRANT REPLICATION SLAVE ON *.* TO repl@'%'")
	replicate(t, v.b, v.a)
	v.proxy, v.front = replicationtest.StartProxy(t, v.b.Addr()), replicationtest.StartProxy(t, v.a.Addr())
	v.follows(v.b, v.a)

	v.global, v.far2 = replicationtest.StartEtcd(t), replicationtest.StartEtcd(t)
	at := topo.Address{Type: "etcd2", Server: v.global.Addr(), Root: "/vitess/global"}
	ext, err := v.ts.OpenOther(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ext.Close() })
	v.ext = ext
	ctx := t.Context()
	v.must(
		ext.CreateCell(ctx, topo.CellInfo{Name: "far1", Root: "/vitess/far1"}),
		ext.CreateCell(ctx, topo.CellInfo{Name: "far2", ServerAddress: v.far2.Addr(), Root: "/elsewhere/far2"}),
		ext.CreateCellsAlias(ctx, topo.CellsAlias{Name: "far", Cells: []string{"far1", "far2"}}),
		ext.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}),
		ext.CreateShard(ctx, "load", "0"),
		ext.InitTablet(ctx, v.tablet(100, topo.TabletPrimary, v.a.Host, v.a.Port)),
		ext.InitTablet(ctx, v.tablet(101, topo.TabletReplica, "127.0.0.1", v.proxy.Port())),
		mount.Register(ctx, v.ts, mount.Cluster{Name: "vit", Type: mount.Vitess, Topo: at}, mount.RegisterOptions{}),
	)
	return v
}

func (v *vitessSource) must(errs ...error) {
	v.t.Helper()
	for _, err := range errs {
		if err != nil {
			v.t.Fatal(err)
		}
	}
}

func (v *vitessSource) tablet(uid uint32, typ topo.TabletType, host string, port int) topo.Tablet {
	return topo.Tablet{
		Alias: aliasOf(uid), Type: typ, Keyspace: "load", Shard: "0", MySQLHostname: host, MySQLPort: int32(port), DBNameOverride: v.db,
	}
}

func (v *vitessSource) setType(uid uint32, typ topo.TabletType) {
	v.t.Helper()
	v.must(v.ext.UpdateTablet(v.t.Context(), aliasOf(uid), func(t *topo.Tablet) error { t.Type = typ; return nil }))
}

// follows waits until a replica has what its primary has now.
func (v *vitessSource) follows(replica, primary *replicationtest.Server) {
	v.t.Helper()
	if got := one(v.t, replica, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"+executed(v.t, primary)+"', 30)"); got != "0" {
		v.t.Fatal("the replica does not catch up")
	}
}

// promote makes a replica the primary, on the server and in the topology, and lets writers go there.
func (v *vitessSource) promote(uid uint32, s *replicationtest.Server) {
	v.t.Helper()
	s.MustExec(v.t, "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF")
	v.front.SetTarget(s.Addr())
	v.front.Drop()
	v.must(v.ext.SetPrimary(v.t.Context(), "load", "0", aliasOf(uid)))
	v.src = s
}

// write writes to the primary, whichever server that is, until the test ends.
func (v *vitessSource) write() {
	v.t.Helper()
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName, cfg.Logger = "root", "tcp", v.front.Addr(), v.db, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	v.must(err)
	db := sql.OpenDB(connector)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			n := rand.IntN(50)
			_, err := db.ExecContext(ctx, []string{
				fmt.Sprintf("INSERT INTO customer (name) VALUES ('c%d')", n), fmt.Sprintf("UPDATE customer SET name = CONCAT(name, 'x') WHERE id %% 50 = %d AND LENGTH(name) < 30", n),
				fmt.Sprintf("DELETE FROM customer WHERE id %% 500 = %d", n), fmt.Sprintf("INSERT IGNORE INTO plain VALUES (%d, %d)", n, rand.IntN(50)),
				fmt.Sprintf("UPDATE IGNORE plain SET a = a + 100 WHERE b = %d", n),
			}[rand.IntN(5)])
			if err == nil {
				v.written.Add(1)
			}
			select { // a failover takes as long as it takes
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	v.stopWriting = func() { cancel(); <-done; _ = db.Close() }
	v.t.Cleanup(v.stopWriting)
}

// reads waits until the stream reads the log of one server and not that of the other, while writes go on and arrive.
func (v *vitessSource) reads(s, other *replicationtest.Server) {
	v.t.Helper()
	until(v.t, "the stream reads from "+s.Addr(), func() bool {
		return dumps(v.t, s) > 0 && (other == nil || dumps(v.t, other) == 0)
	})
	n := v.written.Load()
	until(v.t, "writes go on", func() bool { return v.written.Load() > n+20 })
	v.caughtUp()
}

// stays checks that a server is still the one that is read when the topology has been looked at some times more.
func (v *vitessSource) stays(s *replicationtest.Server) {
	v.t.Helper()
	before := v.changes()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 15 { // three looks
		<-tick.C
	}
	if dumps(v.t, s) == 0 || v.changes() != before {
		v.t.Errorf("the stream has left %s, which is as good as any", s.Addr())
	}
}

// changes counts how often the stream went to another server because of the topology.
func (v *vitessSource) changes() int {
	v.t.Helper()
	n := 0
	for _, l := range v.show().Streams[0].Logs {
		if l.Type == "Source Changed" {
			n++
		}
	}
	return n
}

// dumps counts the connections of streams that read a server's log.
func dumps(t *testing.T, s *replicationtest.Server) (n int) {
	t.Helper()
	for _, r := range s.MustQuery(t, "SHOW PROCESSLIST") {
		if strings.HasPrefix(r[4], "Binlog Dump") && r[1] == "root" {
			n++
		}
	}
	return n
}

// The servers of a mounted Vitess cluster change under the stream, with writes going on: a tablet's type, a tablet's record, the primary as
// planned and in a hurry. The stream reads from the best one each time and ends up exact; it does not move for nothing.
func TestSourceReparent(t *testing.T) {
	v := startVitessSource(t)
	v.write()
	v.run(v.m)
	v.create(migrate.CreateOptions{Source: "vit.load", Cells: []string{"far"}})
	v.await(migrate.StateRunning)
	v.reads(v.b, v.a)

	t.Run("topology servers gone", func(t *testing.T) {
		v.far2.Kill9() // it has the record of the tablet that is read
		v.stays(v.b)
		v.global.Kill9()
		v.stays(v.b)
		v.global.MustRestart(t)
		v.far2.MustRestart(t)
	})

	t.Run("tablet type changed", func(t *testing.T) {
		v.setType(101, topo.TabletDrained)
		v.reads(v.a, v.b)
		v.setType(101, topo.TabletReplica)
		v.stays(v.a)
	})

	t.Run("tablet deleted, the other one behind", func(t *testing.T) {
		v.b.MustExec(t, "STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 3600; START REPLICA SQL_THREAD")
		v.reads(v.a, v.b)
		v.must(v.ext.DeleteTablet(t.Context(), aliasOf(100)))
		message := func(want string) {
			t.Helper()
			until(t, want, func() bool {
				s := v.show().Streams[0]
				if s.State == migrate.StateError {
					t.Fatal(s.Message)
				}
				return strings.Contains(s.Message, want)
			})
		}
		message("has not caught up with what was read before")
		v.b.MustExec(t, "STOP REPLICA SQL_THREAD")
		message("replication has stopped: it applies nothing")
		v.b.MustExec(t, "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 0; START REPLICA SQL_THREAD")
		v.reads(v.b, v.a)
		v.must(v.ext.InitTablet(t.Context(), v.tablet(100, topo.TabletPrimary, v.a.Host, v.a.Port)))
		v.stays(v.b)
	})

	t.Run("replication stopped", func(t *testing.T) {
		v.b.MustExec(t, "STOP REPLICA SQL_THREAD")
		v.reads(v.a, v.b)
		v.b.MustExec(t, "START REPLICA SQL_THREAD")
		v.stays(v.a)
	})

	t.Run("planned reparent", func(t *testing.T) {
		if _, err := v.workflow().Update(t.Context(), migrate.UpdateOptions{TabletTypes: []topo.TabletType{topo.TabletPrimary, topo.TabletReplica}}); err != nil {
			t.Fatal(err)
		}
		v.reads(v.a, v.b)
		v.a.MustExec(t, "SET GLOBAL super_read_only = ON")
		v.follows(v.b, v.a)
		v.promote(101, v.b)
		replicate(t, v.a, v.b)
		v.reads(v.b, v.a)
		v.stays(v.b)
	})

	t.Run("primary killed", func(t *testing.T) {
		// What the stream has read and no replica has is lost for good; that is another test. Here it reads nothing more, and the replica
		// gets all that it has read.
		v.proxy.Freeze()
		v.b.MustExec(t, "INSERT INTO "+v.db+".plain VALUES (10000, 1)")
		v.follows(v.a, v.b)
		v.b.Kill9()
		v.promote(100, v.a)
		v.reads(v.a, nil)
	})

	v.stopWriting()
	v.caughtUp()
	v.equal("customer", "plain")
	if n := v.changes(); n != 5 {
		t.Errorf("the stream went to another server %d times, want 5", n)
	}
	for _, l := range v.show().Streams[0].Logs {
		if l.State == migrate.StateError {
			t.Errorf("the stream was given up: %s", l.Message)
		}
	}

	// The new primary lacks what the stream has applied: a failover that lost transactions. There is nothing to wait for.
	t.Run("transactions lost", func(t *testing.T) {
		v.b.MustRestart(t)
		v.proxy.Thaw()
		lost := one(t, v.b, "SELECT GTID_SUBTRACT('"+executed(t, v.a)+"', @@GLOBAL.gtid_executed)")
		v.promote(101, v.b)
		until(t, "the stream is given up", func() bool { return v.show().Streams[0].State == migrate.StateError })
		text := v.show().Streams[0].Message
		for _, want := range []string{"lacks what was read before", lost, "far2-0000000101"} {
			if !strings.Contains(text, want) {
				t.Errorf("message %q does not name %s", text, want)
			}
		}
	})
}
