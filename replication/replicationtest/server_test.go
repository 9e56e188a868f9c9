package replicationtest_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

func TestMySQLServer(t *testing.T) {
	needsServers(t)
	t.Parallel()
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	got := s.MustQuery(t, "SELECT @@gtid_mode, @@binlog_format, @@binlog_row_image, @@log_bin, @@innodb_flush_log_at_trx_commit")
	if g := got[0]; g[0] != "ON" || g[1] != "ROW" || g[2] != "FULL" || g[3] != "1" || g[4] != "1" {
		t.Errorf("settings = %q", g)
	}
	testServer(t, s)
}

func TestMariaDBServer(t *testing.T) {
	needsServers(t)
	t.Parallel()
	s := replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{})
	got := s.MustQuery(t, "SELECT @@binlog_format, @@binlog_row_image, @@log_bin, @@gtid_strict_mode")
	if g := got[0]; g[0] != "ROW" || g[1] != "FULL" || g[2] != "1" || g[3] != "1" {
		t.Errorf("settings = %q", g)
	}
	testServer(t, s)
}

// testServer checks what holds for both flavours: a fresh server, an account, data that
// survives kill -9 and an orderly restart, a folder that goes away.
func testServer(t *testing.T, s *replicationtest.Server) {
	t.Helper()
	s.MustExec(t, "CREATE DATABASE shop; USE shop; CREATE TABLE t (id INT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'a'), (2, NULL)")
	uuid := s.MustQuery(t, "SELECT @@port, @@socket, @@server_id, @@hostname")
	db := s.DB(t)
	for _, end := range []string{"kill -9", "stop"} {
		if end == "stop" {
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else {
			s.Kill9()
		}
		if s.Running() {
			t.Fatalf("runs after %s", end)
		}
		if err := db.PingContext(t.Context()); err == nil {
			t.Fatalf("answers after %s", end)
		}
		s.MustRestart(t)
		rows := s.MustQuery(t, "SELECT * FROM shop.t ORDER BY id")
		if len(rows) != 2 || rows[0][1] != "a" || rows[1][1] != "NULL" {
			t.Errorf("after %s: rows = %q", end, rows)
		}
		if again := s.MustQuery(t, "SELECT @@port, @@socket, @@server_id, @@hostname"); again[0][0] != uuid[0][0] || again[0][1] != uuid[0][1] || again[0][2] != uuid[0][2] {
			t.Errorf("after %s: server is %q, was %q", end, again, uuid)
		}
	}
	s.MustCreateUser(t, "app", "pa'ss", "SELECT ON shop.*")
	cfg := s.Config("shop")
	cfg.User, cfg.Passwd = "app", "pa'ss"
	checkGrants(t, cfg)
	if err := s.CreateUser(t.Context(), "app", "secret"); err == nil {
		t.Error("a second user of that name was created")
	} else if strings.Contains(err.Error(), "secret") {
		t.Errorf("error shows the password: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
		t.Errorf("folder is still there: %v", err)
	}
	if err := s.Restart(t.Context()); err == nil {
		t.Error("a closed server starts again")
	}
}

// checkGrants uses an account that may read and not write.
func checkGrants(t *testing.T, cfg *mysql.Config) {
	t.Helper()
	db := open(t, cfg)
	var n int
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM t").Scan(&n); err != nil || n != 2 {
		t.Errorf("count = %d, %v", n, err)
	}
	if _, err := db.ExecContext(t.Context(), "DELETE FROM t"); err == nil {
		t.Error("an account that may read has deleted")
	}
}

func TestServersAreApart(t *testing.T) {
	needsServers(t)
	t.Parallel()
	a := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	b := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	const q = "SELECT @@server_uuid"
	if a.MustQuery(t, q)[0][0] == b.MustQuery(t, q)[0][0] {
		t.Error("two servers share a UUID")
	}
	if a.ServerID == b.ServerID || a.Port == b.Port {
		t.Errorf("two servers share a server id or port: %+v %+v", a, b)
	}
}

// A MariaDB server deletes at its start what it takes for an earlier one's temporary tables.
func TestServersKeepTheirTemporaryTables(t *testing.T) {
	needsServers(t)
	t.Parallel()
	a := replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{})
	db := a.DB(t)
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), "CREATE TEMPORARY TABLE test.held (a INT) ENGINE=Aria"); err != nil {
		t.Fatal(err)
	}
	replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{})
	if _, err := db.ExecContext(t.Context(), "DROP TEMPORARY TABLE test.held"); err != nil {
		t.Error(err)
	}
}

// A source that holds every commit back between binary log and visibility is what the
// copy algorithm is tested with, so the plugin must load.
func TestSemiSyncSource(t *testing.T) {
	needsServers(t)
	t.Parallel()
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{
		"--plugin-load-add=semisync_source.so",
		"--rpl-semi-sync-source-enabled=1",
		"--rpl-semi-sync-source-wait-no-replica=ON",
		"--rpl-semi-sync-source-timeout=300",
	}})
	s.MustExec(t, "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY)")
	s.MustExec(t, "SET GLOBAL rpl_semi_sync_source_enabled = 0; SET GLOBAL rpl_semi_sync_source_enabled = 1")
	start := time.Now()
	s.MustExec(t, "INSERT INTO shop.t VALUES (1)")
	if d := time.Since(start); d < 250*time.Millisecond {
		t.Errorf("a commit without a replica took %v, want the timeout of 300ms", d)
	}
}

func TestBadServerOption(t *testing.T) {
	needsServers(t)
	t.Parallel()
	_, err := replicationtest.RunMySQL(t.Context(), replicationtest.MySQLOptions{Args: []string{"--no-such-option=1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("error = %v, want one that names the option", err)
	}
}

func TestFreeze(t *testing.T) {
	needsServers(t)
	t.Parallel()
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	s.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Query(ctx, "SELECT 1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen server said %v", err)
	}
	s.Thaw()
	s.MustQuery(t, "SELECT 1")
}

// A test may kill a server that another goroutine is just starting.
func TestKillWhileStarting(t *testing.T) {
	needsServers(t)
	t.Parallel()
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	s.Kill9()
	result := make(chan error, 1)
	go func() { result <- s.Restart(t.Context()) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.PID() == 0 {
		<-tick.C
	}
	s.Kill9()
	if err := <-result; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the start ended with %v, want one that says the server was killed", err)
	}
	s.MustRestart(t)
	s.MustQuery(t, "SELECT 1")
}

func TestMissingServer(t *testing.T) {
	t.Setenv("MYSQLD", "")
	t.Setenv("PATH", "")
	t.Setenv("TABLEHAUL_CACHE", t.TempDir())
	_, err := replicationtest.RunMySQL(t.Context(), replicationtest.MySQLOptions{})
	if !errors.Is(err, replicationtest.ErrServerMissing) {
		t.Fatalf("error = %v", err)
	}
	if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, "$MYSQLD") || !strings.Contains(text, "fetch mysql") {
		t.Errorf("error = %q, want one line that says how to get the server", text)
	}
}

func TestEtcd(t *testing.T) {
	needsServers(t)
	t.Parallel()
	e := replicationtest.StartEtcd(t)
	// The JSON gateway of etcd 3.4: "Zm9v" is foo, "YmFy" is bar.
	post(t, e.URL()+"/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`)
	e.Kill9()
	if e.Running() {
		t.Fatal("runs after kill -9")
	}
	e.MustRestart(t)
	if got := post(t, e.URL()+"/v3/kv/range", `{"key":"Zm9v"}`); !strings.Contains(got, `"YmFy"`) {
		t.Errorf("after restart: %s", got)
	}
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.MustRestart(t)
}

func post(t *testing.T, url, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", url, resp.Status, text, err)
	}
	return string(text)
}

// open returns a pool that is closed at the end of the test.
func open(t *testing.T, cfg *mysql.Config) *sql.DB {
	t.Helper()
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() { db.Close() })
	return db
}

// needsServers leaves a test out of `go test -short`. A server that is missing fails the
// test otherwise.
func needsServers(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a server")
	}
}
