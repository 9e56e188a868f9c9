package mysqlconn_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// A trouble is something that a server does to us, by the statements of an administrator.
type trouble struct {
	// meet returns the error that u meets; root undoes what it did.
	meet           func(u *troubled) error
	source, target bool
	only           string // flavor
}

// A troubled is a user of a server, and its administrator.
type troubled struct {
	*testing.T
	server *replicationtest.Server
	cfg    mysqlconn.Config
	db     *sql.DB
}

// open is a new connection of the user.
func (u *troubled) open(s mysqlconn.Session) (*sql.DB, error) {
	db, err := mysqlconn.Open(u.Context(), u.cfg, s)
	if err == nil {
		u.Cleanup(func() { _ = db.Close() })
	}
	return db, err
}

// during runs a statement, and the administrator's once the user's thread is in it; %d is that thread.
func (u *troubled) during(statement, admin string) error {
	c, err := u.db.Conn(u.Context())
	if err != nil {
		return err
	}
	defer c.Close()
	var id int64
	if err := c.QueryRowContext(u.Context(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(u.Context(), statement)
		done <- err
	}()
	u.await(fmt.Sprintf("SELECT COUNT(*) FROM information_schema.processlist WHERE id = %d AND command = 'Query'", id), "1")
	u.server.MustExec(u, fmt.Sprintf(admin, id))
	return <-done
}

// await asks until the answer is what it should be.
func (u *troubled) await(query, want string) {
	ctx, cancel := context.WithTimeout(u.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for u.server.MustQuery(u, query)[0][0] != want {
		select {
		case <-tick.C:
		case <-ctx.Done():
			u.Fatalf("%s is never %s", query, want)
		}
	}
}

// long reads every row of a large product, so that the server can stop in between.
const long = "UPDATE x.t SET a = 1 WHERE (SELECT COUNT(*) FROM x.many AS one, x.many AS two, x.many AS three, x.many AS four WHERE" +
	" one.a + two.a + three.a + four.a < 0) < 0"

var troubles = map[string]trouble{
	"KILL": {source: true, target: true, meet: func(u *troubled) error { return u.during(long, "KILL %d") }},
	"KILL QUERY": {source: true, target: true, meet: func(u *troubled) error {
		return u.during(long, "KILL QUERY %d")
	}},
	"read only": {target: true, meet: func(u *troubled) error {
		u.server.MustExec(u, "SET GLOBAL read_only = ON")
		defer u.server.MustExec(u, "SET GLOBAL read_only = OFF")
		_, err := u.db.ExecContext(u.Context(), "INSERT INTO x.t VALUES (2)")
		return err
	}},
	"read-only transaction": {target: true, meet: func(u *troubled) error {
		db, err := u.open(mysqlconn.Session{MaxOpen: 1})
		if err != nil {
			return err
		}
		if _, err := db.ExecContext(u.Context(), "SET SESSION TRANSACTION READ ONLY"); err != nil {
			return err
		}
		_, err = db.ExecContext(u.Context(), "INSERT INTO x.t VALUES (2)")
		return err
	}},
	"too many connections": {source: true, target: true, meet: func(u *troubled) error {
		u.server.MustExec(u, "SET @@GLOBAL.max_connections = 10")
		defer u.server.MustExec(u, "SET @@GLOBAL.max_connections = 151")
		for range 20 {
			db, err := mysqlconn.Open(u.Context(), u.cfg, mysqlconn.Session{})
			if err != nil {
				return err
			}
			defer db.Close() // before the administrator needs a connection
		}
		return nil
	}},
	"user's connections": {source: true, target: true, meet: func(u *troubled) error {
		u.server.MustExec(u, "ALTER USER u WITH MAX_USER_CONNECTIONS 2")
		defer u.server.MustExec(u, "ALTER USER u WITH MAX_USER_CONNECTIONS 0")
		for range 3 {
			if _, err := u.open(mysqlconn.Session{}); err != nil {
				return err
			}
		}
		return nil
	}},
	"offline": {source: true, target: true, only: "mysql", meet: func(u *troubled) error {
		u.server.MustExec(u, "SET GLOBAL offline_mode = ON")
		defer u.server.MustExec(u, "SET GLOBAL offline_mode = OFF")
		_, err := u.open(mysqlconn.Session{})
		return err
	}},
	"lock wait": {source: true, target: true, meet: func(u *troubled) error {
		tx, err := u.server.DB(u).BeginTx(u.Context(), nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if _, err := tx.ExecContext(u.Context(), "UPDATE x.t SET a = a"); err != nil {
			return err
		}
		db, err := u.open(mysqlconn.Session{Variables: map[string]string{"innodb_lock_wait_timeout": "1"}})
		if err != nil {
			return err
		}
		_, err = db.ExecContext(u.Context(), "SELECT * FROM x.t FOR UPDATE")
		return err
	}},
	"execution time": {source: true, target: true, meet: func(u *troubled) error {
		variable := map[string]string{"max_execution_time": "20"}
		if u.server.Flavor == "mariadb" {
			variable = map[string]string{"max_statement_time": "0.02"}
		}
		db, err := u.open(mysqlconn.Session{Variables: variable})
		if err != nil {
			return err
		}
		query := strings.Replace(long, "UPDATE x.t SET a = 1", "SELECT a FROM x.t", 1)
		return db.QueryRowContext(u.Context(), query).Scan(new(int))
	}},
	"idle for too long": {source: true, target: true, meet: func(u *troubled) error {
		c, err := mysqlconn.Dial(u.Context(), u.cfg, mysqlconn.Session{Variables: map[string]string{"wait_timeout": "1"}})
		if err != nil {
			return err
		}
		defer c.Close()
		u.await(fmt.Sprintf("SELECT COUNT(*) FROM information_schema.processlist WHERE id = %d", c.GetConnectionID()), "0")
		_, err = c.Execute("SELECT 1")
		return err
	}},
	"password": {meet: func(u *troubled) error {
		u.cfg.Password = "wrong"
		_, err := u.open(mysqlconn.Session{})
		return err
	}},
	"privilege": {meet: func(u *troubled) error {
		_, err := u.db.ExecContext(u.Context(), "SELECT * FROM mysql.user")
		return err
	}},
	"certificate": {only: "mysql", meet: func(u *troubled) error {
		u.cfg.TLS = &tls.Config{ServerName: "db.example", RootCAs: x509.NewCertPool()}
		_, err := u.open(mysqlconn.Session{})
		return err
	}},
	"no such table": {meet: func(u *troubled) error { _, err := u.db.ExecContext(u.Context(), "SELECT * FROM x.nope"); return err }},
	"duplicate key": {meet: func(u *troubled) error {
		_, err := u.db.ExecContext(u.Context(), "INSERT INTO x.t VALUES (1)")
		return err
	}},
	"no such column": {meet: func(u *troubled) error { _, err := u.db.ExecContext(u.Context(), "SELECT b FROM x.t"); return err }},
}

// What servers of both flavors really say in trouble is what the table of errors says it is.
func TestTroubles(t *testing.T) {
	for _, server := range servers(t) {
		server.MustExec(t, "CREATE DATABASE x; CREATE TABLE x.t (a INT PRIMARY KEY); INSERT INTO x.t VALUES (1); CREATE TABLE x.many (a INT);"+
			" INSERT INTO x.many WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i FROM n")
		server.MustCreateUser(t, "u", "pw", "SELECT, INSERT, UPDATE ON x.*")
		for name, c := range troubles {
			if c.only != "" && c.only != server.Flavor {
				continue
			}
			t.Run(server.Flavor+"/"+name, func(t *testing.T) {
				u := &troubled{T: t, server: server, cfg: mysqlconn.Config{Addr: server.Addr(), User: "u", Password: "pw"}}
				var err error
				if u.db, err = u.open(mysqlconn.Session{}); err != nil {
					t.Fatal(err)
				}
				err = c.meet(u)
				code, _ := mysqlerr.Code(err)
				t.Logf("%d: %v", code, err)
				if err == nil {
					t.Fatal("no error")
				}
				if got := mysqlerr.Transient(err, mysqlerr.Source); got != c.source {
					t.Errorf("Transient(source) is %v for %v", got, err)
				}
				if got := mysqlerr.Transient(err, mysqlerr.Target); got != c.target {
					t.Errorf("Transient(target) is %v for %v", got, err)
				}
			})
		}
	}
}
