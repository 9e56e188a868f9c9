package migrate_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// The target has no space left, in the copy and in the stream, and gets some. What fills up is InnoDB's system tablespace, which all tables
// are in here and which may not grow: the server says the same then as for a full disk, and it takes no mount to do it.
func TestDiskFull(t *testing.T) {
	src, _ := servers(t)
	dst := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{
		"--innodb-file-per-table=OFF", "--innodb-data-file-path=ibdata1:12M:autoextend:max:24M",
	}})
	var errs struct {
		sync.Mutex
		texts []string
	}
	met := func() int {
		errs.Lock()
		defer errs.Unlock()
		n := 0
		for _, e := range errs.texts {
			if strings.Contains(e, "is full") {
				n++
			}
		}
		return n
	}
	c := newClusterOn(t, src, dst, migrate.Options{}, "CREATE TABLE big (id INT PRIMARY KEY, v VARCHAR(1000) CHARACTER SET latin1)")
	c.run(c.migrator(migrate.Options{Trace: migrate.Trace{StreamEnded: func(_ migrate.StreamInfo, err error, retry time.Duration) {
		if err != nil && retry > 0 {
			errs.Lock()
			defer errs.Unlock()
			errs.texts = append(errs.texts, err.Error())
		}
	}}}))
	// fillUp leaves no space for more than a few rows.
	fillUp := func() {
		t.Helper()
		dst.MustExec(t, "CREATE DATABASE IF NOT EXISTS ballast; CREATE TABLE ballast.b (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(1000))")
		for {
			err := dst.Exec(t.Context(), "INSERT INTO ballast.b (v) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT REPEAT('x', 1000) FROM n")
			if err == nil {
				continue
			}
			if !strings.Contains(err.Error(), "is full") {
				t.Fatal(err)
			}
			return
		}
	}
	full := func(first int) {
		t.Helper()
		before := met()
		fillUp()
		var rows []string
		for i := range 3000 {
			rows = append(rows, fmt.Sprintf("(%d, REPEAT('y', 1000))", first+i))
		}
		c.src.MustExec(t, "INSERT INTO "+c.db+".big VALUES "+strings.Join(rows, ", "))
		if before == 0 {
			c.create(migrate.CreateOptions{})
		}
		until(t, "the stream meets the full disk", func() bool { return met() > before })
		if st := c.show(); st.State == migrate.StateError {
			t.Fatalf("a full disk gives state Error: %s", st.Message)
		}
		dst.MustExec(t, "DROP TABLE ballast.b")
		c.await(migrate.StateRunning)
		c.caughtUp()
		c.equal("big")
	}
	full(0)
	full(10_000)
}
