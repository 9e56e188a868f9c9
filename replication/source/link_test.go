package source_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
)

// TestLinkIsCutAnywhere cuts the link to the server after every so many bytes: the log comes whole all the same.
func TestLinkIsCutAnywhere(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key, v varchar(100))")
	proxy := replicationtest.StartProxy(t, f.srv.Addr())
	f.cfg.Addr = proxy.Addr()
	s := f.open()
	_, from := f.end(s)
	f.exec("INSERT INTO t VALUES (1,REPEAT('a',100)),(2,'b')", "BEGIN", "UPDATE t SET v='c'", "DELETE FROM t WHERE id=1", "COMMIT",
		"XA START 'cut'", "INSERT INTO t VALUES (3,'d')", "XA END 'cut'", "XA PREPARE 'cut'", "INSERT INTO t VALUES (4,'e')", "XA COMMIT 'cut'",
		"SET SESSION binlog_transaction_compression=ON", "INSERT INTO t VALUES (5,REPEAT('f',100))", "UPDATE t SET id=id+10",
		"CREATE TABLE ctas (PRIMARY KEY (id)) SELECT * FROM t", "SET SESSION binlog_transaction_compression=OFF", "CREATE TABLE ctas2 (PRIMARY KEY (id)) SELECT * FROM t",
		"BEGIN", "INSERT INTO t VALUES (6,'g')", "SAVEPOINT s", "DELETE FROM t", "ROLLBACK TO s", "INSERT INTO t VALUES (7,'h')", "COMMIT")
	want := describe(f.log(s, from))
	end, _ := f.end(s)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	go func() {
		// A link that was cut comes back soon.
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-tick.C:
				_ = proxy.Restore()
			case <-ctx.Done():
			}
		}
	}()
	for n := int64(700); n < 9000; n += 331 {
		var list []*replication.Transaction
		proxy.CutAfter(n)
		for x, err := range s.Transactions(ctx, from) {
			if err != nil {
				t.Fatalf("cut after %d bytes: %v", n, err)
			}
			if !x.GTID.IsZero() {
				list = append(list, x)
			}
			if !x.End.Before(end) {
				break
			}
		}
		proxy.CutAfter(-1)
		if have := describe(list); have != want {
			t.Fatalf("cut after %d bytes the log is\n%s\nwant\n%s", n, have, want)
		}
	}
	if opened, _ := proxy.Stats(); opened < 30 {
		t.Errorf("only %d connections were made", opened)
	}
}

// TestSilentLink: a link that swallows everything, as a dead host does, is given up and opened again.
func TestSilentLink(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key)")
	proxy := replicationtest.StartProxy(t, f.srv.Addr())
	f.cfg.Addr = proxy.Addr()
	s := f.openWith(source.Options{Heartbeat: 100 * time.Millisecond, ReadTimeout: time.Second})
	_, from := f.end(s)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	frozen := false
	n := 0
	for x, err := range s.Transactions(ctx, from) {
		if err != nil {
			t.Fatal(err)
		}
		if !frozen {
			frozen = true
			proxy.Freeze()
			f.exec("INSERT INTO t VALUES (1)")
			before, _ := proxy.Stats()
			go func() {
				// Not before the reader has tried again.
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for now := before; now == before && ctx.Err() == nil; now, _ = proxy.Stats() {
					<-tick.C
				}
				proxy.Thaw()
			}()
		}
		if n += len(x.Changes); n == 1 {
			break
		}
	}
	if opened, _ := proxy.Stats(); n != 1 || opened < 3 {
		t.Errorf("%d changes over %d connections", n, opened)
	}
}

// TestLinkStaysSilent: a link that swallows everything for good ends in a transient error.
func TestLinkStaysSilent(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key)")
	proxy := replicationtest.StartProxy(t, f.srv.Addr())
	f.cfg.Addr = proxy.Addr()
	f.cfg.DialTimeout = 100 * time.Millisecond
	s := f.openWith(source.Options{Heartbeat: 20 * time.Millisecond, ReadTimeout: 100 * time.Millisecond})
	_, from := f.end(s)
	var err error
	for _, err = range s.Transactions(t.Context(), from) {
		if err != nil {
			break
		}
		proxy.Freeze()
	}
	if !replication.Transient(err) || errors.Is(err, replication.ErrPositionGone) {
		t.Errorf("a silent link: %v", err)
	}
	if _, err := source.Open(t.Context(), f.cfg, nil, source.Options{Heartbeat: time.Second, ReadTimeout: time.Second}); err == nil {
		t.Error("a read timeout of one heartbeat was taken")
	}
}

// TestHungConsumer: while nobody takes what is read, the server must not lose patience (its own net_write_timeout is 1 s here); if the
// connection breaks all the same, the log goes on where it was, over a new one.
func TestHungConsumer(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int auto_increment primary key, v longblob)", "SET GLOBAL net_write_timeout=1")
	defer f.exec("SET GLOBAL net_write_timeout=DEFAULT")
	proxy := replicationtest.StartProxy(t, f.srv.Addr())
	f.cfg.Addr = proxy.Addr()
	s := f.openWith(source.Options{QueueBytes: 1, Heartbeat: 100 * time.Millisecond, ReadTimeout: time.Second})
	_, from := f.end(s)
	const rows = 40
	for range rows {
		f.exec("INSERT INTO t (v) VALUES (REPEAT('x', 1000000))")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	ticks := time.NewTicker(2500 * time.Millisecond) // the socket buffers hold a few rows, the rest waits in the server
	defer ticks.Stop()
	n, before := 0, 0
	for x, err := range s.Transactions(ctx, from) {
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Changes) == 0 {
			continue
		}
		switch n++; n {
		case 1:
			before, _ = proxy.Stats()
			<-ticks.C
		case 20:
			if now, _ := proxy.Stats(); now != before {
				t.Errorf("%d connections were made while the consumer hung", now-before)
			}
			proxy.Drop()
		}
		if n == rows {
			break
		}
	}
	if now, _ := proxy.Stats(); n != rows || now == before {
		t.Errorf("%d rows, %d new connections", n, now-before)
	}
}

// TestAnotherServerTakesOver: the log goes on, on a server that has the same history; one that lacks part of it is refused.
func TestAnotherServerTakesOver(t *testing.T) {
	if testing.Short() {
		t.Skip("needs servers")
	}
	var servers [2]*replicationtest.Server
	var on [2]*fixture
	for i := range servers {
		servers[i] = replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	}
	schemas += 10 // both servers get the same schema
	for i := range servers {
		servers[i].MustExec(t, "RESET BINARY LOGS AND GTIDS")
		schemas--
		on[i] = fixtureOn(t, servers[i])
		on[i].exec("CREATE TABLE t (id int primary key)")
	}
	// The second server says it has executed what the first one has, as a replica would.
	level := func() {
		servers[1].MustExec(t, "RESET BINARY LOGS AND GTIDS")
		servers[1].MustExec(t, "SET GLOBAL gtid_purged = '"+on[0].query("SELECT @@global.gtid_executed")+"'")
	}
	proxy := replicationtest.StartProxy(t, servers[0].Addr())
	on[0].cfg.Addr = proxy.Addr()
	s := on[0].open()
	_, from := on[0].end(s)
	first, before := s.Server(), on[0].query("SELECT @@global.gtid_executed")
	on[0].exec("INSERT INTO t VALUES (1)")
	level()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	step := 0
	for x, err := range s.Transactions(ctx, from) {
		if step == 3 && err != nil {
			if !errors.Is(err, replication.ErrHistory) {
				t.Fatalf("a server that lacks a transaction: %v", err)
			}
			step = 4
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case step == 0 && len(x.Changes) == 1: // (1) has come from the first server
			if x.End.Server != first {
				t.Errorf("it came from %s", x.End.Server)
			}
			proxy.SetTarget(servers[1].Addr())
			proxy.Drop()
			on[1].exec("INSERT INTO t VALUES (2)")
			step = 1
		case step == 1 && len(x.Changes) == 1: // (2) has come from the second
			if x.End.Server == first || x.End.Server != s.Server() {
				t.Errorf("it came from %s", x.End.Server)
			}
			end, _, err := s.End(ctx)
			if err != nil || end.Server != x.End.Server {
				t.Errorf("End is asked of %v, %v", end, err)
			}
			if rows := on[0].read(s, s.Tables()[0]); len(rows) != 1 {
				t.Errorf("%d rows are read of the second server", len(rows))
			}
			// Back to a first server that has forgotten.
			servers[0].MustExec(t, "RESET BINARY LOGS AND GTIDS")
			servers[0].MustExec(t, "SET GLOBAL gtid_purged = '"+before+"'")
			step = 3
			proxy.SetTarget(servers[0].Addr())
			proxy.Drop()
		}
	}
	if step != 4 {
		t.Errorf("the test ended in step %d", step)
	}
}

// TestReadsStayOnOneServer: while the log is read from one server, connections to another one are refused.
func TestReadsStayOnOneServer(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key)")
	other := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	other.MustExec(t, "CREATE DATABASE "+f.schema)
	proxy := replicationtest.StartProxy(t, f.srv.Addr())
	f.cfg.Addr = proxy.Addr()
	s := f.open()
	_, from := f.end(s)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for _, err := range s.Transactions(ctx, from) {
		if err != nil {
			t.Fatal(err)
		}
		// The link of the log stays as it is, new ones lead elsewhere.
		proxy.SetTarget(other.Addr())
		source.DropIdle(s)
		_, _, err := s.End(ctx)
		if e, ok := errors.AsType[*source.ServerChangedError](err); !ok || e.Have == e.Want || !replication.Transient(err) {
			t.Errorf("a read of another server: %v", err)
		}
		break
	}
}
