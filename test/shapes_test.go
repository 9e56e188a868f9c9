package test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
	"github.com/tablehaul/tablehaul/replication/target"
)

var largeRows = flag.Int("large.rows", 13, "how many rows of 2 MB TestShapes has in one transaction; 1000 take 40 GB of disk")

// TestShapes runs streams from one server to another, one after the other, through transactions of unusual shape and size.
func TestShapes(t *testing.T) {
	t.Parallel()
	src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--max-allowed-packet=256M"}})
	dst := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--max-allowed-packet=256M"}})
	for _, c := range []struct {
		name string
		run  func(*testing.T, *replicationtest.Server, *replicationtest.Server)
	}{{"all shapes while copying", testAllShapes}, {"keys and values", testKeysAndValues}, {"large rows", testLargeRows}} {
		t.Run(c.name, func(t *testing.T) { c.run(t, src, dst) })
		dst.MustExec(t, "DROP DATABASE IF EXISTS "+dstDB+"; DROP DATABASE IF EXISTS _tablehaul")
		src.MustExec(t, "DROP DATABASE IF EXISTS "+srcDB)
	}
}

const (
	seedRows = 1200
	seedA    = "INSERT INTO a WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<1200) SELECT i, i, REPEAT(i, 20), 0 FROM n"
	seedB    = "INSERT INTO b SELECT CONCAT('k', id), c, 0 FROM a"
)

// shape is one round of the writer; %[1]d is the round's number, %[2]d one that never comes again. Tables are a (numbers, ordered), b (texts, which only the server can
// order).
var shape = []string{
	"UPDATE a SET n=n+1", // larger than the source's memory, and in the way of every chunk
	"UPDATE b SET n=n+1 WHERE k LIKE 'k1%'",
	"XA START 'two%[1]d'", "INSERT INTO a VALUES (-%[1]d, -%[1]d, 'two phases', 0)", "UPDATE a SET c='xa' WHERE id BETWEEN 500 AND 700", "XA END 'two%[1]d'", "XA PREPARE 'two%[1]d'",
	"INSERT INTO b VALUES ('Round%[1]d', 'while one is prepared', 1)", "XA COMMIT 'two%[1]d'",
	"XA START 'one%[1]d'", "DELETE FROM a WHERE id=%[1]d+100", "XA END 'one%[1]d'", "XA COMMIT 'one%[1]d' ONE PHASE",
	"XA START 'no%[1]d'", "DELETE FROM a", "XA END 'no%[1]d'", "XA PREPARE 'no%[1]d'", "XA ROLLBACK 'no%[1]d'",
	"BEGIN", "UPDATE b SET n=n+1", "SAVEPOINT s", "DELETE FROM b", "ROLLBACK TO s", "DELETE FROM b WHERE k='k%[1]d'", "RELEASE SAVEPOINT s", "COMMIT",
	"FLUSH BINARY LOGS",
	"SET SESSION binlog_transaction_compression=ON", "UPDATE a SET c=REPEAT(n, 10)", "UPDATE a SET u=u+5000 WHERE id>1100 ORDER BY u DESC",
	"XA START 'zip%[1]d'", "UPDATE a SET n=n+1 WHERE id<600", "XA END 'zip%[1]d'", "XA PREPARE 'zip%[1]d'", "XA COMMIT 'zip%[1]d'", "SET SESSION binlog_transaction_compression=OFF",
	"CREATE TABLE other.ctas (PRIMARY KEY (id)) SELECT * FROM a", "DROP TABLE other.ctas",
	"CREATE PROCEDURE p() BEGIN DELETE FROM a; END", "DROP PROCEDURE p", "CREATE TRIGGER tr BEFORE DELETE ON a FOR EACH ROW SET @x=1", "DROP TRIGGER tr",
	"SET GTID_NEXT='dddddddd-aaaa-aaaa-aaaa-aaaaaaaaaaaa:%[2]d'", "UPDATE a SET id=id+100000 WHERE id=%[1]d+200", "SET GTID_NEXT='AUTOMATIC:tag'", "UPDATE a SET u=u+1 ORDER BY u DESC", "SET GTID_NEXT='AUTOMATIC'",
	"ANALYZE TABLE a",
}

// testAllShapes goes through every shape while the tables are copied in small chunks; the source restarts once while XA
// transactions are prepared. Nearly every transaction is too large for the source's memory.
func testAllShapes(t *testing.T, src, dst *replicationtest.Server) {
	src.MustExec(t, "CREATE DATABASE other; SET GLOBAL cte_max_recursion_depth=10000")
	e := newEngineFrom(t, src, dst, source.Config{Addr: src.Addr(), User: "root", Database: srcDB},
		source.Options{TransactionBytes: 32 << 10, QueueBytes: 256 << 10, SpillDir: t.TempDir()}, target.Options{},
		"CREATE TABLE a (id INT PRIMARY KEY, u INT NOT NULL, c VARCHAR(200), n INT, UNIQUE KEY (u))",
		"CREATE TABLE b (k VARCHAR(20) PRIMARY KEY, c VARCHAR(200), n INT)", "CREATE TABLE early (id INT PRIMARY KEY)")
	src.MustExec(t, "USE shop; "+seedA+"; "+seedB)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	var chunks, retried atomic.Int32
	from := &spillCounter{Source: e.source}
	done, copied := make(chan struct{}), make(chan struct{})
	// Windows are so small that the large transactions overflow them.
	opts := replication.Options{ChunkRows: 60, Readers: 2, WindowBytes: 16 << 10, ReportInterval: 100 * time.Millisecond}
	opts.Trace.ChunkRetried = func(context.Context, replication.ChunkInfo, error) { retried.Add(1) }
	opts.Trace.ChunkCommitted = func(replication.ChunkInfo) {
		if chunks.Add(1) == seedRows/60 { // half of it
			close(copied)
		}
	}
	// The stream begins somewhere in the first round, and after two transactions were prepared that are settled in the midst of the copy.
	if err := prepareEarly(ctx, src); err != nil {
		t.Fatal(err)
	}
	g.Go(func() error { return e.runUntilLevel(ctx, from, opts, done) })
	g.Go(func() error {
		defer close(done)
		for round := 1; ; round++ {
			if err := oneSession(ctx, src, round); err != nil {
				return err
			}
			if round == 1 {
				if err := src.Exec(ctx, "XA COMMIT 'early'; XA ROLLBACK 'early2'"); err != nil {
					return err
				}
			}
			if round == 2 {
				if err := restartPrepared(ctx, src); err != nil {
					return err
				}
			}
			select {
			case <-copied:
				if round > 3 {
					return nil
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			default:
			}
		}
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := e.differences(t, "a", "b", "early"); diff != "" {
		t.Error(diff)
	}
	t.Logf("%d transactions through files, %d chunks read again", from.spills.Load(), retried.Load())
	if from.spills.Load() < 20 || retried.Load() == 0 {
		t.Error("the test does not test enough")
	}
	src.MustExec(t, "DROP DATABASE other")
}

// spillCounter counts the transactions that are not in memory.
type spillCounter struct {
	replication.Source
	spills atomic.Int32
}

func (s *spillCounter) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	return func(yield func(*replication.Transaction, error) bool) {
		for t, err := range s.Source.Transactions(ctx, from) {
			if t != nil && t.Spill != nil {
				s.spills.Add(1)
			}
			if !yield(t, err) {
				return
			}
		}
	}
}

// oneSession runs a round of the writer on one connection.
func oneSession(ctx context.Context, src *replicationtest.Server, round int) error {
	db, err := src.Open(srcDB)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range shape {
		if _, err := db.ExecContext(ctx, format(q, round)); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// format fills in a statement of shape.
func format(q string, round int) string {
	return strings.NewReplacer("%[1]d", strconv.Itoa(round), "%[2]d", strconv.FormatInt(time.Now().UnixNano()/100, 10)).Replace(q)
}

// prepareEarly leaves two transactions prepared, in an older file of the log; what they hold is in no shape's way.
func prepareEarly(ctx context.Context, src *replicationtest.Server) error {
	for _, q := range []string{"'early'; INSERT INTO early VALUES (1), (2); XA END 'early'; XA PREPARE 'early'", "'early2'; INSERT INTO early VALUES (3); XA END 'early2'; XA PREPARE 'early2'"} {
		if err := src.Exec(ctx, "USE shop; XA START "+q); err != nil {
			return err
		}
	}
	return src.Exec(ctx, "FLUSH BINARY LOGS")
}

// restartPrepared kills the source while two transactions are prepared, one of them large, and settles them afterwards.
func restartPrepared(ctx context.Context, src *replicationtest.Server) error {
	err := src.Exec(ctx, "USE shop; XA START 'kill'; UPDATE a SET n=n+7 WHERE id>400; XA END 'kill'; XA PREPARE 'kill'")
	err = errors.Join(err, src.Exec(ctx, "USE shop; XA START 'kill2'; DELETE FROM a WHERE id BETWEEN 300 AND 400; XA END 'kill2'; XA PREPARE 'kill2'"))
	if err != nil {
		return err
	}
	src.Kill9()
	if err := src.Restart(ctx); err != nil {
		return err
	}
	return src.Exec(ctx, "XA ROLLBACK 'kill2'; XA COMMIT 'kill'; SET GLOBAL cte_max_recursion_depth=10000")
}

// testLargeRows moves rows of 40 MB in chunks and in transactions, and stops with a name at one that the target's packets
// can't hold.
func testLargeRows(t *testing.T, src, dst *replicationtest.Server) {
	e := newEngine(t, src, dst, "CREATE TABLE big (id INT PRIMARY KEY, v LONGBLOB)")
	src.MustExec(t, "USE shop; INSERT INTO big VALUES (1, REPEAT('a', 12000000)), (2, '')")
	done := make(chan struct{})
	var once atomic.Bool
	opts := replication.Options{}
	opts.Trace.ChunkCommitted = func(replication.ChunkInfo) {
		if once.CompareAndSwap(false, true) {
			go func() {
				defer close(done)
				src.MustExec(t, "USE shop; UPDATE big SET v=REPEAT('b', 12000000) WHERE id=2; UPDATE big SET id=3 WHERE id=1; INSERT INTO big VALUES (4, REPEAT('c', 12000000))")
			}()
		}
	}
	if err := e.runUntilLevel(t.Context(), e.source, opts, done); err != nil {
		t.Fatal(err)
	}
	dst.MustExec(t, "SET GLOBAL max_allowed_packet=16<<20")
	defer dst.MustExec(t, "SET GLOBAL max_allowed_packet=DEFAULT")
	// Transactions of many rows that do not fit into one packet, and small ones that would not if they were all done at once.
	src.MustExec(t, fmt.Sprintf(`USE shop; INSERT INTO big WITH RECURSIVE n (i) AS (SELECT 100 UNION ALL SELECT i+1 FROM n WHERE i<%d) SELECT i, REPEAT('x', 2000000) FROM n;
		UPDATE big SET v=REPEAT('y', 2000000) WHERE id>=100`, 99+*largeRows))
	for i := range *largeRows {
		src.MustExec(t, fmt.Sprintf("UPDATE shop.big SET v=REPEAT('z', 2000000) WHERE id=%d", 100+i))
	}
	closed := make(chan struct{})
	close(closed)
	if err := e.runUntilLevel(t.Context(), e.source, replication.Options{}, closed); err != nil {
		t.Fatal(err)
	}
	if diff := e.differences(t, "big"); diff != "" {
		t.Error(diff)
	}
	src.MustExec(t, "INSERT INTO shop.big VALUES (5, REPEAT('d', 20000000))")
	err := e.runUntilLevel(t.Context(), e.source, replication.Options{}, make(chan struct{}))
	row, ok := errors.AsType[*replication.RowError](err)
	if !ok || row.Table != "big" || row.Key != "(id=5)" || replication.Transient(err) {
		t.Errorf("a row larger than the target's packet: %v", err)
	}
}
