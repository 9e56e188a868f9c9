package source_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
)

// TestHistory is about what a server does to its log while it is read, and between two readers. One server, one after another.
func TestHistory(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a server")
	}
	srv := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	for _, tc := range []struct {
		name string
		run  func(*testing.T, *fixture)
	}{
		{"XA over a restart", testXAOverRestart},
		{"restarts in the stream", testRestartsInTheStream},
		{"a restored server", testRestored},
		{"reset under the reader", testReset},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := fixtureOn(t, srv)
			f.exec("CREATE TABLE t (id int primary key, v varchar(20))")
			tc.run(t, f)
		})
	}
}

// testXAOverRestart commits, and rolls back, what was prepared before the server was killed.
func testXAOverRestart(t *testing.T, f *fixture) {
	s := f.open()
	_, from := f.end(s)
	f.exec("XA START 'k1'", "INSERT INTO t VALUES (1,'a')", "XA END 'k1'", "XA PREPARE 'k1'")
	f.exec("XA START 'k2'", "INSERT INTO t VALUES (2,'b')", "XA END 'k2'", "XA PREPARE 'k2'", "INSERT INTO t VALUES (3,'c')")
	wantLog(t, f.log(s, from), "", "", "+(id=3, v='c') ")
	f.srv.Kill9()
	f.srv.MustRestart(t)
	if n := len(f.srv.MustQuery(t, "XA RECOVER")); n != 2 {
		t.Fatalf("%d prepared transactions are left", n)
	}
	f.exec("XA ROLLBACK 'k2'", "XA COMMIT 'k1'", "SET SESSION binlog_transaction_compression=ON", "UPDATE t SET v='d' WHERE id=1")
	want := []string{"", "", "+(id=3, v='c') ", "xa ", "+(id=1, v='a') xa ", "(id=1, v='a')>(id=1, v='d') "}
	wantLog(t, f.log(s, from), want...)
	small := f.openWith(source.Options{TransactionBytes: 1, Heartbeat: 100 * time.Millisecond})
	wantLog(t, f.log(small, from), want...)
}

// testRestartsInTheStream stops and kills the server while its log is read and written: every row comes once.
func testRestartsInTheStream(t *testing.T, f *fixture) {
	s := f.open()
	_, from := f.end(s)
	f.exec("INSERT INTO t VALUES (0,'a')")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for next := 0; next < 4; {
		for x, err := range s.Transactions(ctx, from) {
			if replication.Transient(err) {
				break // a slow restart
			}
			if err != nil {
				t.Fatal(err)
			}
			from = from.Add(x.GTID)
			if len(x.Changes) == 0 {
				continue
			}
			if want := fmt.Sprintf("+(id=%d, v='a') \n", next); describe([]*replication.Transaction{x}) != want {
				t.Fatalf("%s came, want %s", describe([]*replication.Transaction{x}), want)
			}
			switch next++; next {
			case 1:
				f.srv.Kill9()
				f.srv.MustRestart(t)
			case 2:
				f.exec("FLUSH BINARY LOGS")
			case 3:
				if err := f.srv.Stop(ctx); err != nil {
					t.Fatal(err)
				}
				f.srv.MustRestart(t)
			}
			if next == 4 {
				break
			}
			f.exec(fmt.Sprintf("INSERT INTO t VALUES (%d,'a')", next))
		}
	}
}

// refused checks that the log is not read from a position.
func refused(t *testing.T, f *fixture, from replication.Position, want error) {
	t.Helper()
	list, err := f.tryLog(f.open(), from)
	if !errors.Is(err, want) || replication.Transient(err) || len(list) > 0 {
		t.Errorf("%d transactions, %v; want %v", len(list), err, want)
	}
}

// testRestored has a server that was put back to an older state, and has gone on since.
func testRestored(t *testing.T, f *fixture) {
	s := f.open()
	_, before := f.end(s)
	f.exec("INSERT INTO t VALUES (1,'a')")
	_, from := f.end(s)
	f.exec("RESET BINARY LOGS AND GTIDS", "SET GLOBAL gtid_purged='"+before.Text()+"'", "SET GTID_NEXT='cccccccc-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1'", "INSERT INTO t VALUES (5,'e')",
		"SET GTID_NEXT='AUTOMATIC'")
	refused(t, f, from, replication.ErrHistory)
}

// testReset takes the log away from a reader; its server then reaches the same GTIDs again, for other transactions.
func testReset(t *testing.T, f *fixture) {
	f.exec("RESET BINARY LOGS AND GTIDS", "INSERT INTO t VALUES (1,'a')", "INSERT INTO t VALUES (2,'b')", "FLUSH BINARY LOGS")
	proxy := replicationtest.StartProxy(t, f.srv.Addr())
	f.cfg.Addr = proxy.Addr()
	s := f.open()
	_, from := f.end(s)
	f.exec("INSERT INTO t VALUES (3,'c')")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for x, err := range s.Transactions(ctx, from) {
		switch {
		case err != nil:
			if !errors.Is(err, replication.ErrHistory) || replication.Transient(err) {
				t.Errorf("after a reset: %v", err)
			}
			return
		case len(x.Changes) == 1 && x.Changes[0].Table.Format(x.Changes[0].After) == "(id=3, v='c')":
			proxy.Cut()
			f.exec("RESET BINARY LOGS AND GTIDS", "INSERT INTO t VALUES (4,'d')", "INSERT INTO t VALUES (5,'e')", "INSERT INTO t VALUES (6,'f')", "INSERT INTO t VALUES (7,'g')")
			proxy.MustRestore(t)
		case len(x.Changes) > 0:
			t.Fatalf("%s came of another history", describe([]*replication.Transaction{x}))
		}
	}
}
