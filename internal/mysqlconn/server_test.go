package mysqlconn_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

func servers(t *testing.T) []*replicationtest.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("-short runs no servers")
	}
	return []*replicationtest.Server{
		replicationtest.StartMySQL(t, replicationtest.MySQLOptions{}), replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{}),
	}
}

func TestSessionOnServers(t *testing.T) {
	s := mysqlconn.Session{MultiStatements: true, Variables: map[string]string{"time_zone": "'+05:30'", "sql_mode": "'ANSI_QUOTES'"}}
	const query = "SELECT CONCAT_WS(' ', @@time_zone, @@sql_mode, @@character_set_client)"
	for _, server := range servers(t) {
		server.MustExec(t, "CREATE DATABASE x")
		server.MustExec(t, "CREATE TABLE x.t (a int)")
		server.MustExec(t, "INSERT INTO x.t VALUES (1)")
		for _, addr := range []string{server.Addr(), server.Socket} {
			cfg := mysqlconn.Config{Addr: addr, User: "root", Database: "x"}
			db, err := mysqlconn.Open(t.Context(), cfg, s)
			if err != nil {
				t.Fatalf("%s %s: %v", server.Flavor, addr, err)
			}
			defer db.Close()
			var got string
			if err := db.QueryRowContext(t.Context(), query).Scan(&got); err != nil || got != "+05:30 ANSI_QUOTES utf8mb4" {
				t.Errorf("%s: session of Open is %q, %v", server.Flavor, got, err)
			}
			r, err := db.ExecContext(t.Context(), "UPDATE t SET a = 1")
			if err != nil {
				t.Fatal(err)
			}
			if n, err := r.RowsAffected(); n != 1 || err != nil {
				t.Errorf("%s: %d rows are matched, %v", server.Flavor, n, err)
			}
			c, err := mysqlconn.Dial(t.Context(), cfg, s)
			if err != nil {
				t.Fatalf("%s %s: %v", server.Flavor, addr, err)
			}
			res, err := c.Execute(query)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := res.GetString(0, 0); err != nil || got != "+05:30 ANSI_QUOTES utf8mb4" {
				t.Errorf("%s: session of Dial is %q, %v", server.Flavor, got, err)
			}
			if res, err = c.Execute("UPDATE t SET a = 1"); err != nil || res.AffectedRows != 1 {
				t.Errorf("%s: %v rows are matched, %v", server.Flavor, res, err)
			}
			_ = c.Close()
		}
	}
}

func TestRefusedByServers(t *testing.T) {
	for _, server := range servers(t) {
		server.MustCreateUser(t, "move", "right", "USAGE ON *.*")
		for _, cfg := range []mysqlconn.Config{
			{Addr: server.Addr(), User: "move", Password: secret},
			{Addr: server.Addr(), User: "nobody", Password: secret},
			{Addr: server.Addr(), User: "move", Password: "right", Database: "mysql"},
		} {
			for name, err := range connect(t.Context(), cfg) {
				denied, ok := errors.AsType[*mysqlconn.AccessDeniedError](err)
				if !ok || denied.User != cfg.User || denied.Addr != cfg.Addr || mysqlerr.Transient(err, mysqlerr.Source) {
					t.Errorf("%s: %s as %s: %v", server.Flavor, name, cfg, err)
				}
				if strings.Contains(err.Error(), cfg.Password) {
					t.Errorf("%s: %s: the password is in %v", server.Flavor, name, err)
				}
			}
		}
		cfg := mysqlconn.Config{Addr: server.Addr(), User: "root", Database: "nosuch"}
		for name, err := range connect(t.Context(), cfg) {
			if !mysqlerr.NotFound(err) {
				t.Errorf("%s: %s of a missing database: %v", server.Flavor, name, err)
			}
		}
	}
}
