package mysqlconn_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// A statement may be silent for many times the patience; a server that hangs is noticed, while reading and while writing, with both
// drivers, and the caller can still give up before.
func TestGuard(t *testing.T) {
	if testing.Short() {
		t.Skip("-short runs no servers")
	}
	server := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	t.Run("LostAnswer", func(t *testing.T) { testLostAnswer(t, server) })
	proxy := replicationtest.StartProxy(t, server.Addr())
	cfg := mysqlconn.Config{Addr: proxy.Addr(), User: "root", Silence: 300 * time.Millisecond}
	db, err := mysqlconn.Open(t.Context(), cfg, mysqlconn.Session{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var got int
	if err := db.QueryRowContext(t.Context(), "SELECT SLEEP(2) + 7").Scan(&got); err != nil || got != 7 {
		t.Fatalf("a long statement: %d, %v", got, err)
	}
	opened, _ := proxy.Stats()
	if opened < 4 {
		t.Errorf("%d connections: nobody has asked about the long statement", opened)
	}

	dial := func() *client.Conn {
		t.Helper()
		c, err := mysqlconn.Dial(t.Context(), cfg, mysqlconn.Session{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	reading, writing := dial(), dial()
	if _, err := reading.Execute("SELECT SLEEP(1)"); err != nil {
		t.Fatalf("a long statement: %v", err)
	}
	for _, d := range []time.Duration{10 * time.Millisecond, 500 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		if err := db.QueryRowContext(ctx, "SELECT SLEEP(60)").Scan(&got); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's own deadline gives %v", err)
		}
		cancel()
	}
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}

	proxy.Freeze()
	defer proxy.Thaw()
	began := time.Now()
	for name, f := range map[string]func() error{
		"reading": func() error { _, err := reading.Execute("SELECT 1"); return err },
		"writing": func() error { _, err := writing.Execute("SELECT '" + strings.Repeat("x", 16<<20) + "'"); return err },
		"pool":    func() error { return db.QueryRowContext(t.Context(), "SELECT 1").Scan(&got) },
	} {
		if err := f(); err == nil || !mysqlerr.Transient(err, mysqlerr.Target) {
			t.Errorf("%s from a server that hangs: %v", name, err)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s to notice three hanging connections", took)
	}
}

// One connection's packets are lost, the server is well: it says that it has nothing to do for the connection.
func testLostAnswer(t *testing.T, server *replicationtest.Server) {
	t.Helper()
	proxy := replicationtest.StartProxy(t, server.Addr())
	cfg := mysqlconn.Config{Addr: server.Addr(), User: "root", Silence: 100 * time.Millisecond}
	var guard net.Conn
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, network, proxy.Addr())
		if err != nil {
			return nil, err
		}
		guard = mysqlconn.Guard(ctx, nc, cfg)
		return guard, nil
	}
	c, err := client.ConnectWithDialer(t.Context(), "tcp", cfg.Addr, "root", "", "", dial)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Execute("SELECT 1"); err != nil {
		t.Fatal(err)
	}
	proxy.Freeze()
	defer proxy.Thaw()
	_, err = guard.Read(make([]byte, 1))
	if e, ok := errors.AsType[*mysqlconn.HungError](err); !ok || e.Err != nil || !mysqlerr.Transient(err, mysqlerr.Source) {
		t.Errorf("a lost answer: %v", err)
	}
	if _, err := guard.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is still open: %v", err)
	}
}
