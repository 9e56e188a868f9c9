package test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

var familyKills = flag.Int("family.kills", 8, "how often TestKillFamily kills the worker while a family of tables is copied")

// familySchema has three levels of foreign keys of all actions, one of them by a key that only the server can order, and a table that references itself.
// %[1]d is how many times a hundred rows there are.
const familySchema = `CREATE DATABASE shop; USE shop;
	CREATE TABLE region (id INT PRIMARY KEY, code VARCHAR(20) NOT NULL, UNIQUE KEY code (code));
	CREATE TABLE customer (id INT PRIMARY KEY, region INT, name VARCHAR(40), KEY name (name),
		CONSTRAINT lives FOREIGN KEY (region) REFERENCES region (id) ON DELETE SET NULL ON UPDATE CASCADE);
	CREATE TABLE basket (id INT PRIMARY KEY, customer INT, v INT, CONSTRAINT owns FOREIGN KEY (customer) REFERENCES customer (id) ON DELETE CASCADE ON UPDATE CASCADE);
	CREATE TABLE article (id INT PRIMARY KEY, basket INT NOT NULL, v INT, KEY v (v), CONSTRAINT lies FOREIGN KEY (basket) REFERENCES basket (id) ON DELETE CASCADE ON UPDATE CASCADE);
	CREATE TABLE alias (w VARCHAR(20) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, customer INT, v INT, CONSTRAINT calls FOREIGN KEY (customer) REFERENCES customer (id) ON DELETE CASCADE ON UPDATE SET NULL);
	CREATE TABLE tree (id INT PRIMARY KEY, parent INT, v INT, CONSTRAINT up FOREIGN KEY (parent) REFERENCES tree (id) ON DELETE CASCADE);
	SET SESSION cte_max_recursion_depth = 10000000;
	INSERT INTO region WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100) SELECT i, CONCAT('code', i) FROM n;
	INSERT INTO customer WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 10*%[1]d) SELECT i, 1+i%%100, CONCAT('name', i) FROM n;
	INSERT INTO basket WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 30*%[1]d) SELECT i, 1+i%%(10*%[1]d), i FROM n;
	INSERT INTO article WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 40*%[1]d) SELECT i, 1+i%%(30*%[1]d), i FROM n;
	INSERT INTO alias SELECT CONCAT('Alias', id), id, 0 FROM customer;
	INSERT INTO tree SELECT id, NULL, 0 FROM region; INSERT INTO tree SELECT id+100, id, 0 FROM region; INSERT INTO tree SELECT id+200, id+100, 0 FROM region;
	SET foreign_key_checks = 0;
	INSERT INTO article VALUES (-1, -77, 0); INSERT INTO tree VALUES (900, 901, 0)`

// TestKillFamily kills the worker with SIGKILL while tables that foreign keys tie together are copied, from a source that does not log what
// its keys do, under writes of which many are such.
func TestKillFamily(t *testing.T) {
	t.Parallel()
	kills := *familyKills
	size := 20 * max(kills, 8) // hundreds of rows, of which there are 90*size
	native := replicationtest.MySQLOptions{Args: []string{"--innodb-native-foreign-keys=ON"}}
	c := newClusterWith(t, native)
	c.src.MustExec(t, fmt.Sprintf(familySchema, size))
	wf := c.m.Workflow("commerce.wf")
	if _, err := wf.Create(t.Context(), migrate.CreateOptions{Source: "ext1.shop", AllTables: true}); err != nil {
		t.Fatal(err)
	}
	writer := startFamilyWriter(t, c.src, size)
	c.killWorkers(t, wf, kills, int64(90*size))
	kill := c.worker(t)
	c.watch(t, wf, 50*time.Millisecond, func(st *migrate.Status) bool { return st.State == migrate.StateRunning })
	kill()
	kill = c.worker(t)
	if err := writer.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := wf.Complete(t.Context(), migrate.CompleteOptions{Timeout: 2 * time.Minute, MaxLag: time.Hour}); err != nil {
		t.Fatal(err)
	}
	kill()
	replicationtest.CheckEqual(t, c.src.DB(t), c.dst.DB(t), "shop", "vt_commerce", "region", "customer", "basket", "article", "alias", "tree")
	if n := c.dst.MustQuery(t, "SELECT COUNT(*) FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = 'vt_commerce'")[0][0]; n != "5" {
		t.Errorf("the target has %s foreign keys, want 5", n)
	}
	t.Logf("%d transactions, %d with what foreign keys act on", writer.written.Load(), writer.acted.Load())
	if writer.acted.Load() < 20 {
		t.Error("the test does not test enough")
	}
}

// A familyWriter changes the tables of familySchema until it is stopped.
type familyWriter struct {
	db   *sql.DB
	size int
	rnd  *rand.Rand
	// written counts its transactions, acted those in which a row was changed that others may reference.
	written, acted atomic.Int64
	end            chan struct{}
	group          errgroup.Group
}

func startFamilyWriter(t *testing.T, src *replicationtest.Server, size int) *familyWriter {
	t.Helper()
	w := &familyWriter{db: openPool(t, src, srcDB), size: size, rnd: rand.New(rand.NewPCG(rand.Uint64(), 5)), end: make(chan struct{})}
	ctx := t.Context()
	w.group.Go(func() error { return w.run(ctx) })
	return w
}

func (w *familyWriter) stop() error {
	close(w.end)
	return w.group.Wait()
}

func (w *familyWriter) run(ctx context.Context) error {
	c, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		select {
		case <-w.end:
			return nil
		default:
		}
		if err := retry.Wait(ctx, 4*time.Millisecond); err != nil {
			return err
		}
		checks := 1
		if w.rnd.IntN(8) == 0 {
			checks = 0
		}
		statements := []string{fmt.Sprint("SET foreign_key_checks = ", checks), "BEGIN"}
		for range 1 + w.rnd.IntN(3) {
			statements = append(statements, w.statement())
		}
		end := "COMMIT"
		if w.rnd.IntN(15) == 0 {
			end = "ROLLBACK"
		}
		acted := false
		for _, q := range append(statements, end) {
			result, err := c.ExecContext(ctx, q)
			// Duplicate keys, what foreign keys refuse, deadlocks.
			if e, ok := errors.AsType[*mysql.MySQLError](err); err != nil && (!ok || !slices.Contains([]uint16{1062, 1451, 1452, 1761, 1213, 1205}, e.Number)) {
				return fmt.Errorf("%s: %w", q, err)
			}
			if err != nil || strings.HasPrefix(q, "INSERT") || checks == 0 {
				continue
			}
			if n, err := result.RowsAffected(); err == nil && n > 0 && end == "COMMIT" {
				acted = true
			}
		}
		w.written.Add(1)
		if acted {
			w.acted.Add(1)
		}
	}
}

// statement is a random one; most are about rows in the middle of the family.
func (w *familyWriter) statement() string {
	n := func(of int) int { return 1 + w.rnd.IntN(of) }
	customers, baskets, articles := 10*w.size, 30*w.size, 40*w.size
	switch w.rnd.IntN(18) {
	case 0:
		return fmt.Sprintf("DELETE FROM region WHERE id = %d", n(110))
	case 1:
		return fmt.Sprintf("INSERT INTO region VALUES (%d, 'new%d')", n(110), n(1000))
	case 2:
		return fmt.Sprintf("UPDATE region SET id = %d WHERE id = %d", n(110), n(110))
	case 3, 4:
		return fmt.Sprintf("DELETE FROM customer WHERE id IN (%d, %d)", n(customers), n(customers))
	case 5:
		return fmt.Sprintf("INSERT INTO customer VALUES (%d, %d, 'new')", n(customers), n(110))
	case 6:
		return fmt.Sprintf("UPDATE customer SET id = %d WHERE id = %d", n(customers), n(customers))
	case 7:
		return fmt.Sprintf("UPDATE customer SET region = %d, name = 'moved' WHERE id = %d", n(110), n(customers))
	case 8:
		return fmt.Sprintf("INSERT INTO basket VALUES (%d, %d, 5)", n(baskets), n(customers))
	case 9:
		return fmt.Sprintf("UPDATE basket SET v = v + 1, customer = IF(v %% 3 = 0, %d, customer) WHERE id = %d", n(customers), n(baskets))
	case 10, 11:
		return fmt.Sprintf("UPDATE basket SET id = %d WHERE id = %d", n(baskets), n(baskets))
	case 12:
		return fmt.Sprintf("DELETE FROM basket WHERE id = %d", n(baskets))
	case 13:
		return fmt.Sprintf("INSERT INTO article VALUES (%d, %d, 1)", n(2*articles), n(baskets))
	case 14:
		return fmt.Sprintf("UPDATE article SET v = v + 1 WHERE id = %d", n(articles))
	case 15:
		return fmt.Sprintf("INSERT INTO alias VALUES ('%s%d', %d, 1) ON DUPLICATE KEY UPDATE v = v + 1", []string{"alias", "ALIÁS"}[w.rnd.IntN(2)], n(customers), n(customers))
	case 16:
		return fmt.Sprintf("DELETE FROM tree WHERE id = %d", n(400))
	default:
		return fmt.Sprintf("INSERT INTO tree VALUES (%d, %d, 1)", n(400), n(400))
	}
}
