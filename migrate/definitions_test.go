package migrate_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication"
)

// The log holds rows from before a schema change that was made while nobody read it: they are read by the definition of their time.
func TestAlteredWhileNobodyRead(t *testing.T) {
	const schema = "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(50), b VARCHAR(50), e ENUM('x', 'y'), l VARCHAR(20) CHARACTER SET latin1);" +
		"INSERT INTO t VALUES (1, 'a1', 'b1', 'x', 'é')"
	for _, tc := range []struct {
		name, alter string
		onDDL       replication.OnDDL
	}{
		{"order of columns", "MODIFY a VARCHAR(50) AFTER b", replication.OnDDLIgnore},
		{"order of members", "MODIFY e ENUM('y', 'x')", replication.OnDDLIgnore},
		{"character set", "MODIFY l VARCHAR(20) CHARACTER SET utf8mb4", replication.OnDDLIgnore},
		{"new column", "ADD COLUMN c INT FIRST", replication.OnDDLIgnore},
		{"stopped", "ADD COLUMN c INT FIRST, MODIFY e ENUM('y', 'x')", replication.OnDDLStop},
		{"executed: order of columns", "MODIFY a VARCHAR(50) AFTER b", replication.OnDDLExec},
		{"executed: order of members", "MODIFY e ENUM('y', 'x')", replication.OnDDLExec},
		{"executed: new column", "ADD COLUMN c INT FIRST", replication.OnDDLExec},
		{"executed: dropped column", "DROP COLUMN a", replication.OnDDLExec},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t, migrate.Options{}, schema)
			stop := c.run(c.m)
			c.create(migrate.CreateOptions{OnDDL: tc.onDDL})
			c.await(migrate.StateRunning)
			stop()
			for i, alter := range []string{"", tc.alter} {
				if alter != "" {
					c.src.MustExec(t, "ALTER TABLE "+c.db+".t "+alter)
				}
				c.src.MustExec(t, fmt.Sprintf("INSERT INTO %s.t (id, b, e, l) VALUES (%d, 'b', 'y', 'ü')", c.db, i+2))
				c.src.MustExec(t, fmt.Sprintf("UPDATE %s.t SET b = CONCAT(b, '+'), e = IF(e = 'x', 'y', 'x') WHERE id = 1", c.db))
			}
			c.run(c.m)
			switch tc.onDDL {
			case replication.OnDDLIgnore:
				if st := c.await(migrate.StateError); !strings.Contains(st.Message, "table t") {
					t.Errorf("message %q", st.Message)
				}
			case replication.OnDDLStop:
				c.await(migrate.StateStopped)
			}
			if got := fmt.Sprint(c.dst.MustQuery(t, "SELECT id, b, e, l FROM "+c.vt+".t ORDER BY id")); tc.onDDL != replication.OnDDLExec && got != "[[1 b1+ y é] [2 b y ü]]" {
				t.Errorf("before the change: %s", got)
			}
			if tc.onDDL != replication.OnDDLExec {
				c.dst.MustExec(t, "ALTER TABLE "+c.vt+".t "+tc.alter)
				if err := c.workflow().Start(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			c.await(migrate.StateRunning)
			c.caughtUp()
			c.equal("t")
		})
	}
}

// Several changes are executed each in its place, with the rows between them.
func TestAlteredAgainAndAgain(t *testing.T) {
	c := newCluster(t, migrate.Options{}, "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(50), b VARCHAR(50), e ENUM('x', 'y'), UNIQUE KEY (b)); INSERT INTO t VALUES (1, 'a1', 'b1', 'x')")
	stop := c.run(c.m)
	c.create(migrate.CreateOptions{OnDDL: replication.OnDDLExec})
	c.await(migrate.StateRunning)
	stop()
	for i, alter := range []string{
		"ADD COLUMN c1 INT", "ADD COLUMN c2 INT", "ADD KEY (a)", "MODIFY e ENUM('y', 'x')", "DROP COLUMN c1", "MODIFY e ENUM('x', 'y', 'z')", "ADD COLUMN c1 VARCHAR(9) FIRST",
	} {
		c.src.MustExec(t, "ALTER TABLE "+c.db+".t "+alter)
		c.src.MustExec(t, fmt.Sprintf("INSERT INTO %s.t (id, a, b, e) VALUES (%d, 'a', 'b%d', 'y')", c.db, i+2, i+2))
		c.src.MustExec(t, "UPDATE "+c.db+".t SET e = IF(e = 'x', 'y', 'x') WHERE id = 1")
	}
	c.run(c.m)
	c.await(migrate.StateRunning)
	c.caughtUp()
	c.equal("t")
}

// Of rows between two changes nobody knows the definition when the log comes to the first one after both: they stop the stream, even if the
// second change takes back the first.
func TestAlteredAndBack(t *testing.T) {
	for _, onDDL := range []replication.OnDDL{replication.OnDDLIgnore, replication.OnDDLExecIgnore} {
		t.Run(fmt.Sprint(onDDL), func(t *testing.T) {
			c := newCluster(t, migrate.Options{}, "CREATE TABLE t (id INT PRIMARY KEY, e ENUM('x', 'y')); INSERT INTO t VALUES (1, 'x')")
			stop := c.run(c.m)
			c.create(migrate.CreateOptions{OnDDL: onDDL})
			c.await(migrate.StateRunning)
			// These leave the columns as they are, and rows between them are read.
			stop()
			for i, alter := range []string{"COMMENT 'one'", "ADD KEY (e)", "DROP KEY e, COMMENT 'two'", "ENGINE = InnoDB"} {
				c.src.MustExec(t, fmt.Sprintf("ALTER TABLE %s.t %s; INSERT INTO %s.t VALUES (%d, 'x')", c.db, alter, c.db, i+2))
			}
			stop = c.run(c.m)
			c.caughtUp()
			c.equal("t")
			stop()
			c.src.MustExec(t, fmt.Sprintf("ALTER TABLE %[1]s.t MODIFY e ENUM('y', 'x'); INSERT INTO %[1]s.t VALUES (10, 'x'); ALTER TABLE %[1]s.t MODIFY e ENUM('x', 'y')", c.db))
			c.run(c.m)
			if st := c.await(migrate.StateError); !strings.Contains(st.Message, "the copy has to begin again") {
				t.Errorf("message %q", st.Message)
			}
		})
	}
}

// A schema change that nobody's rows have followed yet is not forgotten by a restart.
func TestIgnoredChangeIsRemembered(t *testing.T) {
	c := newCluster(t, migrate.Options{}, "CREATE TABLE t (id INT PRIMARY KEY, e ENUM('x', 'y')); CREATE TABLE o (id INT PRIMARY KEY); INSERT INTO t VALUES (1, 'x')")
	stop := c.run(c.m)
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	c.src.MustExec(t, "ALTER TABLE "+c.db+".t MODIFY e ENUM('y', 'x')")
	c.src.MustExec(t, "INSERT INTO "+c.db+".o VALUES (1)")
	c.caughtUp()
	stop()
	c.run(c.m)
	c.src.MustExec(t, "INSERT INTO "+c.db+".t VALUES (2, 'x')")
	c.await(migrate.StateError)
	if got := fmt.Sprint(c.dst.MustQuery(t, "SELECT id, e FROM "+c.vt+".t")); got != "[[1 x]]" {
		t.Errorf("got %s", got)
	}
	c.dst.MustExec(t, "ALTER TABLE "+c.vt+".t MODIFY e ENUM('y', 'x')")
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.await(migrate.StateRunning)
	c.caughtUp()
	c.equal("t", "o")
}

// While rows are copied, a change of what they mean ends the copy: rows that were read before it and after it are not the same.
func TestAlteredDuringCopy(t *testing.T) {
	for _, onDDL := range []replication.OnDDL{replication.OnDDLIgnore, replication.OnDDLExec} {
		t.Run(fmt.Sprint(onDDL), func(t *testing.T) {
			var c *cluster
			done := false
			c = newCluster(t, migrate.Options{Stream: replication.Options{Readers: 1, ChunkRows: 500, Trace: replication.Trace{
				ChunkRead: func(_ context.Context, i replication.ChunkInfo) {
					if !done && i.Table.Name == "t" {
						done = true
						c.src.MustExec(t, "ALTER TABLE "+c.db+".t MODIFY e ENUM('y', 'x')")
					}
				},
			}}}, "CREATE TABLE t (id INT PRIMARY KEY, e ENUM('x', 'y'))")
			c.fill("t", "id, e", "i, IF(i % 3, 'x', 'y')", 5000)
			c.run(c.m)
			c.create(migrate.CreateOptions{OnDDL: onDDL})
			if onDDL == replication.OnDDLIgnore {
				c.await(migrate.StateError)
				c.dst.MustExec(t, "ALTER TABLE "+c.vt+".t MODIFY e ENUM('y', 'x')")
				if err := c.workflow().Start(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			c.await(migrate.StateRunning)
			c.caughtUp()
			c.equal("t")
		})
	}
}
