package replicationtest_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

const loadSchema = `CREATE DATABASE shop; USE shop;
	CREATE TABLE sbtest (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, KEY (k));
	INSERT INTO sbtest (k, c) SELECT 1, 'x' FROM (SELECT 1 UNION SELECT 2 UNION SELECT 3) a, (SELECT 1 UNION SELECT 2 UNION SELECT 3) b;
	CREATE TABLE wide (a VARCHAR(20) CHARACTER SET latin1, b BINARY(3), c DATE, e ENUM('it''s','b','c') NOT NULL, f FLOAT, d DOUBLE,
		n DECIMAL(10,3), n2 DECIMAL(5) UNSIGNED, u BIGINT UNSIGNED, ti TINYINT, bi BIT(5), s SET('p','q'), t TEXT CHARACTER SET utf8mb4,
		bl BLOB, ts TIMESTAMP(3) NULL, dt DATETIME, tm TIME(6), y YEAR, j JSON, g INT GENERATED ALWAYS AS (ti + 1), PRIMARY KEY (a, b, c));
	CREATE TABLE keyonly (id BIGINT PRIMARY KEY);
	CREATE TABLE nokey (id INT);`

func TestLoad(t *testing.T) {
	needsServers(t)
	t.Parallel()
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	testLoad(t, s)
}

func TestLoadMariaDB(t *testing.T) {
	needsServers(t)
	t.Parallel()
	s := replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{})
	testLoad(t, s)
}

func testLoad(t *testing.T, s *replicationtest.Server) {
	t.Helper()
	s.MustExec(t, loadSchema)
	l := replicationtest.StartLoad(t, s.DB(t), "shop", replicationtest.LoadOptions{Seed: 7, Writers: 2})
	waitFor(t, l, func(c replicationtest.LoadCounts) bool {
		return c.Inserted > 300 && c.Updated > 100 && c.Deleted > 50 && c.KeyChanged > 20 && c.RolledBack > 5
	})
	c := l.MustStop(t)
	rows := 0
	for _, table := range []string{"sbtest", "wide", "keyonly"} {
		n, err := strconv.Atoi(s.MustQuery(t, "SELECT COUNT(*) FROM shop."+table)[0][0])
		if err != nil || n == 0 {
			t.Errorf("%s has %d rows, %v", table, n, err)
		}
		rows += n
	}
	if want := 9 + c.Inserted - c.Deleted; rows != want {
		t.Errorf("%d rows, but the counts %+v make %d", rows, c, want)
	}
	if n := s.MustQuery(t, "SELECT COUNT(*) FROM shop.nokey")[0][0]; n != "0" {
		t.Errorf("a table without a key has %s rows", n)
	}
	if after := l.Counts(); after != c {
		t.Errorf("writes after Stop: %+v, then %+v", c, after)
	}
}

// waitFor waits until the load has done enough.
func waitFor(t *testing.T, l *replicationtest.Load, enough func(replicationtest.LoadCounts) bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !enough(l.Counts()) {
		select {
		case <-tick.C:
		case <-l.Done():
			_, err := l.Stop()
			t.Fatalf("the load ended: %v", err)
		case <-deadline:
			t.Fatalf("the load is stuck at %+v", l.Counts())
		}
	}
}

func TestLoadSurvivesKill(t *testing.T) {
	needsServers(t)
	t.Parallel()
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	s.MustExec(t, loadSchema)
	p := replicationtest.StartProxy(t, s.Addr())
	cfg := s.Config("")
	cfg.Addr = p.Addr()
	db := open(t, cfg)
	l := replicationtest.StartLoad(t, db, "shop", replicationtest.LoadOptions{Writers: 3, Reconnect: true})
	more := func() {
		n := l.Counts().Transactions
		waitFor(t, l, func(c replicationtest.LoadCounts) bool { return c.Transactions > n+20 })
	}
	more()
	s.Kill9()
	s.MustRestart(t)
	more()
	p.Cut()
	p.MustRestore(t)
	more()
	if c := l.MustStop(t); c.Lost == 0 {
		t.Errorf("no connection was lost: %+v", c)
	}
}

func TestLoadErrors(t *testing.T) {
	needsServers(t)
	t.Parallel()
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	s.MustExec(t, loadSchema)
	db := s.DB(t)
	for _, o := range []replicationtest.LoadOptions{{Tables: []string{"nosuch"}}, {Tables: []string{"nokey"}}} {
		if _, err := replicationtest.RunLoad(t.Context(), db, "shop", o); err == nil {
			t.Errorf("a load on %v started", o.Tables)
		}
	}
	l, err := replicationtest.RunLoad(t.Context(), db, "shop", replicationtest.LoadOptions{Rate: 100})
	if err != nil {
		t.Fatal(err)
	}
	s.MustExec(t, "DROP TABLE shop.keyonly")
	<-l.Done()
	_, err = l.Stop()
	if e, ok := errors.AsType[*mysql.MySQLError](err); !ok || e.Number != 1146 {
		t.Errorf("a load whose table is gone ended with %v", err)
	}
}
