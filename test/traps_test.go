package test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
	"github.com/tablehaul/tablehaul/replication/target"
)

// TestTraps runs streams, one after the other, into what other tools of this kind have fallen into. The servers and
// this process are in three time zones.
func TestTraps(t *testing.T) {
	t.Parallel()
	src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--default-time-zone=+05:30"}})
	dst := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--default-time-zone=-08:00"}})
	for _, c := range []struct {
		name string
		run  func(*testing.T, *replicationtest.Server, *replicationtest.Server)
	}{
		{"hot keys from the first moment on", trapHotKeys},
		{"deletes where the copy has just been, and an end", trapDeletesAtBorders},
		{"deletes while the last chunks wait for their commit", trapDeletesAtTail},
		{"more commits than a target can do one by one", trapManyCommits},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, src, dst) })
		dst.MustExec(t, "DROP DATABASE IF EXISTS "+dstDB+"; DROP DATABASE IF EXISTS _tablehaul")
		src.MustExec(t, "DROP DATABASE IF EXISTS "+srcDB)
	}
}

// numbered is the start of a statement that selects i from 1 to n.
func numbered(n int) string {
	return fmt.Sprintf("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d) SELECT ", n)
}

const (
	hotRows   = 900
	otherKeys = 200
)

var (
	hotTables = []string{
		"CREATE TABLE hot (tenant INT, id INT, v INT NOT NULL, at TIMESTAMP(3) NULL, PRIMARY KEY (tenant, id))",
		"CREATE TABLE folded (k VARCHAR(20) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, v INT)",
		"CREATE TABLE padded (k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT)",
		"CREATE TABLE chain (id INT PRIMARY KEY, v INT)",
		`CREATE TABLE nothing (id BINARY(4) PRIMARY KEY, a TINYBLOB, b BLOB, c MEDIUMBLOB, d LONGBLOB, e VARBINARY(9), f BINARY(3),
			g VARCHAR(9), h CHAR(9), i TEXT, j VARCHAR(9) CHARACTER SET latin1, n INT NOT NULL)`,
		"CREATE TABLE gaps (id BIGINT PRIMARY KEY AUTO_INCREMENT, v INT)",
	}
	hotFill = []string{
		"SET sql_mode='NO_AUTO_VALUE_ON_ZERO'", "USE shop",
		"INSERT INTO hot " + numbered(hotRows) + "5, i, 0, NOW(3) FROM n", "INSERT INTO hot SELECT id%5, id, 0, NULL FROM hot WHERE id<200",
		"INSERT INTO folded " + numbered(otherKeys) + "CONCAT('a', i), i FROM n", "INSERT INTO padded SELECT * FROM folded",
		"INSERT INTO chain " + numbered(otherKeys) + "10*i, i FROM n",
		"INSERT INTO nothing (id, a, c, e, f, g, i, n) " + numbered(otherKeys) + "UNHEX(CONCAT(LPAD(HEX(i), 4, '0'), '0000')), '', 0x00, '', 0x00, '', 0x00, i FROM n",
		"INSERT INTO gaps " + numbered(900) + "IF(i<800, i-1, 300000000000+i), i FROM n",
	}
)

// hotRound is what the writer does in one round; each text is one transaction.
func hotRound(rnd *rand.Rand, round int) []string {
	one, key, other := 1+rnd.IntN(hotRows), 1+rnd.IntN(otherKeys), 1+rnd.IntN(otherKeys)
	list := []string{
		fmt.Sprintf("UPDATE hot SET v=v+1, at=NOW(3) WHERE tenant=5 AND id IN (%d, %d, %d)", one, 1+rnd.IntN(hotRows), 1+rnd.IntN(hotRows)),
		fmt.Sprintf("DELETE FROM hot WHERE tenant=5 AND id=%d", 1+rnd.IntN(hotRows)),
		fmt.Sprintf("REPLACE INTO hot VALUES (5, %d, %d, FROM_UNIXTIME(%d))", one, round, 1+rnd.IntN(1<<31-2)),
		// A row goes on by three keys in one transaction, and two rows change places.
		strings.Repeat(fmt.Sprintf("UPDATE chain SET id=%d+(id+1)%%10 WHERE id DIV 10=%d; ", 10*key, key), 3),
	}
	if key != other {
		list = append(list, fmt.Sprintf("UPDATE chain SET id=-1 WHERE id DIV 10=%[1]d; UPDATE chain SET id=%[1]d*10+1 WHERE id DIV 10=%[2]d; UPDATE chain SET id=%[2]d*10 WHERE id=-1", key, other))
	}
	for table, forms := range map[string][4]string{"folded": {"a", "A", "á", "Ä"}, "padded": {"a%d", "A%d ", "á%d  ", "ä%d"}} {
		form := func(i int) string {
			if strings.Contains(forms[i], "%d") {
				return fmt.Sprintf(forms[i], key)
			}
			return fmt.Sprint(forms[i], key)
		}
		list = append(list, fmt.Sprintf("UPDATE %s SET k='%s', v=%d WHERE k='%s'", table, form(1), round, form(0)), fmt.Sprintf("DELETE FROM %s WHERE k='%s'", table, form(0)),
			fmt.Sprintf("INSERT INTO %s VALUES ('%s', %d)", table, form(2), round), fmt.Sprintf("UPDATE %s SET k='%s' WHERE k='%s'", table, form(rnd.IntN(4)), form(3)))
	}
	id, value := fmt.Sprintf("UNHEX('%04X0000')", key), []string{"''", "NULL", "0x00"}[rnd.IntN(3)]
	switch rnd.IntN(4) {
	case 0: // every value is written again, for the sake of another one
		list = append(list, "UPDATE nothing SET n=n+1 WHERE id="+id)
	case 1:
		list = append(list, "DELETE FROM nothing WHERE id="+id, fmt.Sprintf("INSERT INTO nothing (id, b, d, f, h, n) VALUES (%s, %[2]s, %[2]s, %[2]s, %[2]s, 0)", id, value))
	default:
		list = append(list, fmt.Sprintf("UPDATE nothing SET a=%[1]s, b=a, c=%[1]s, d=c, e=%[1]s, f=e, g=%[1]s, h=g, i=h, j=%[1]s WHERE id=%[2]s", value, id))
	}
	return append(list, "DELETE FROM gaps WHERE id=0", fmt.Sprintf("INSERT INTO gaps VALUES (0, %d)", round), fmt.Sprintf("UPDATE gaps SET v=v+1 WHERE id=300000000000+800+%d", rnd.IntN(100)))
}

// trapHotKeys writes before the copy begins and after it has ended, most of all to rows with the same beginning of their key and
// under keys that are equal for the server only, while the connection of the log is killed.
func trapHotKeys(t *testing.T, src, dst *replicationtest.Server) {
	e := newEngine(t, src, dst, hotTables...)
	src.MustExec(t, strings.Join(hotFill, "; "))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	var gapChunks, kills atomic.Int32
	opts := replication.Options{ChunkRows: 25, Readers: 2}
	opts.Trace.ChunkCommitted = func(i replication.ChunkInfo) {
		if i.Table.Name == "gaps" {
			gapChunks.Add(1)
		}
	}
	stream := replication.NewStream(e.source, e.target, e.source.Tables(), opts)
	begun, written, level := make(chan struct{}), make(chan struct{}), make(chan struct{})
	during := 0
	db := openPool(t, src, srcDB)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { // the writer
		defer close(written)
		c, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.ExecContext(ctx, "SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO'"); err != nil {
			return err
		}
		rnd := rand.New(rand.NewPCG(rand.Uint64(), 3))
		for round, more := 1, 100; more > 0; round++ {
			if err := transactions(ctx, c, hotRound(rnd, round)); err != nil {
				return err
			}
			if round == 3 {
				close(begun)
			}
			if stream.Progress().Copying {
				during = round
			} else {
				more--
			}
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-begun:
			return e.untilLevel(ctx, stream, level)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	g.Go(func() error {
		defer close(level)
		return untilClosed(ctx, written, func() error {
			var id int64
			err := db.QueryRowContext(ctx, "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%' ORDER BY ID DESC LIMIT 1").Scan(&id)
			if err == nil && kills.Load() < 12 {
				if _, err := db.ExecContext(ctx, fmt.Sprintf("KILL %d", id)); err == nil {
					kills.Add(1)
				}
			}
			return ctx.Err()
		})
	})
	g.Go(func() error { return onlyForward(ctx, dst.DB(t), level) })
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := e.differences(t, "hot", "folded", "padded", "chain", "nothing", "gaps"); diff != "" {
		t.Error(diff)
	}
	t.Logf("%d rounds during the copy, %d kills, %d chunks of the table with gaps", during, kills.Load(), gapChunks.Load())
	if during < 10 || kills.Load() < 3 {
		t.Error("the test does not test enough")
	}
	if n := gapChunks.Load(); n > 2*900/25 {
		t.Errorf("%d chunks of 25 rows for 900 rows: gaps are walked through", n)
	}
}

// transactions runs each text in a transaction of its own.
func transactions(ctx context.Context, c *sql.Conn, list []string) error {
	for _, text := range list {
		tx, err := c.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for q := range strings.SplitSeq(text, "; ") {
			if strings.TrimSpace(q) == "" {
				continue
			}
			if _, err := tx.ExecContext(ctx, q); err != nil && !duplicate(err) {
				return errors.Join(fmt.Errorf("%s: %w", q, err), tx.Rollback())
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// untilClosed calls f every now and then.
func untilClosed(ctx context.Context, end <-chan struct{}, f func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := f(); err != nil {
			return err
		}
		select {
		case <-end:
			return nil
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// onlyForward watches the durable position: each covers the one before.
func onlyForward(ctx context.Context, db *sql.DB, end <-chan struct{}) error {
	var last replication.Position
	return untilClosed(ctx, end, func() error {
		var text string
		err := db.QueryRowContext(ctx, "SELECT pos FROM "+sidecar.DefaultDatabase+".vreplication_pos ORDER BY seq DESC LIMIT 1").Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		now, err := replication.ParsePosition(text)
		if err == nil && !last.IsZero() && !now.Covers(last) {
			err = fmt.Errorf("the position went back from %s to %s", last, now)
		}
		last = now
		return err
	})
}

var errTrapEnd = errors.New("the end of a life")

// trapDeletesAtBorders deletes rows on both sides of where a chunk has just ended, puts one of them back, and ends the stream,
// again and again: after a chunk's commit, and between its read and its commit.
func trapDeletesAtBorders(t *testing.T, src, dst *replicationtest.Server) {
	e := newEngine(t, src, dst, "CREATE TABLE one (id INT PRIMARY KEY, v INT)", "CREATE TABLE two (x INT, y VARBINARY(8), v INT, PRIMARY KEY (x, y))",
		"CREATE TABLE words (k VARCHAR(20) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, v INT)")
	src.MustExec(t, "USE shop; INSERT INTO one "+numbered(400)+"i, i FROM n; INSERT INTO two SELECT id%3, CONCAT(CHAR(id%256), '0x', id), id FROM one; INSERT INTO words SELECT CONCAT('ä', id), id FROM one")
	db := openPool(t, src, srcDB)
	keys := map[string]string{"one": "id", "two": "x, y", "words": "k"}
	atBorder := func(ctx context.Context, i replication.ChunkInfo) error {
		if i.Span.Hi == nil {
			return nil // the last chunk ends nowhere
		}
		hi, err := i.Span.Hi.Values(nil, len(i.Table.Primary.Columns))
		if err != nil {
			return err
		}
		var args []any
		for _, v := range hi {
			args = append(args, string(v))
		}
		key := keys[i.Table.Name]
		where := fmt.Sprintf("(%s)%%s(%s)", key, strings.Repeat(", ?", len(hi))[2:])
		last := fmt.Sprintf("DELETE FROM %s WHERE "+where+" ORDER BY %s DESC LIMIT 2", i.Table.Name, "<=", strings.ReplaceAll(key, ",", " DESC,"))
		next := fmt.Sprintf("DELETE FROM %s WHERE "+where+" ORDER BY %s LIMIT 1", i.Table.Name, ">", key)
		back := fmt.Sprintf("INSERT INTO %s VALUES (%s, -1)", i.Table.Name, strings.Repeat(", ?", len(hi))[2:])
		for _, q := range []string{last, next, back, last} {
			if q == last && rand.IntN(2) == 0 {
				continue
			}
			if _, err := db.ExecContext(ctx, q, args...); err != nil && !duplicate(err) {
				return fmt.Errorf("%s: %w", q, err)
			}
		}
		return nil
	}
	const most = 24
	lives := 0
	for ; lives < most; lives++ {
		life, end := context.WithCancelCause(t.Context())
		n := new(atomic.Int32)
		hook := func(i replication.ChunkInfo) {
			if n.Add(1) != 2 {
				return
			}
			err := atBorder(context.WithoutCancel(life), i)
			if err == nil {
				err = errTrapEnd
			}
			end(err)
		}
		opts := replication.Options{ChunkRows: 15, Readers: 2}
		if lives%2 == 0 {
			opts.Trace.ChunkCommitted = hook
		} else {
			opts.Trace.ChunkRead = func(_ context.Context, i replication.ChunkInfo) { hook(i) }
		}
		level := make(chan struct{})
		time.AfterFunc(0, func() { close(level) })
		err := e.runUntilLevel(life, e.source, opts, level)
		end(nil)
		if err == nil {
			break // there are no two chunks left
		}
		if !errors.Is(err, errTrapEnd) {
			t.Fatal(err)
		}
	}
	t.Logf("%d lives", lives)
	if lives < most {
		t.Error("the test does not test enough")
	}
	level := make(chan struct{})
	close(level)
	if err := e.runUntilLevel(t.Context(), e.source, replication.Options{ChunkRows: 15}, level); err != nil {
		t.Fatal(err)
	}
	if diff := e.differences(t, "one", "two", "words"); diff != "" {
		t.Error(diff)
	}
}

// trapDeletesAtTail holds the target's tables locked until every row is read, deletes most of them, and lets go when chunks
// were tried again: no row comes back, and each copied row counts once.
func trapDeletesAtTail(t *testing.T, src, dst *replicationtest.Server) {
	const rows = 3000
	e := newEngine(t, src, dst, "CREATE TABLE tail (id INT PRIMARY KEY, v INT)", "CREATE TABLE still (id INT PRIMARY KEY, v INT)")
	src.MustExec(t, fmt.Sprintf("SET SESSION cte_max_recursion_depth=10000; USE shop; INSERT INTO tail %si, i FROM n; INSERT INTO still SELECT * FROM tail WHERE id<=500", numbered(rows)))
	held, err := dst.DB(t).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Rollback() }()
	for _, table := range []string{"tail", "still"} {
		if _, err := held.ExecContext(t.Context(), "SELECT * FROM "+dstDB+"."+table+" FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
	}
	var read atomic.Int64
	opts := replication.Options{ChunkRows: 1000, Readers: 8}
	opts.Trace.ChunkRead = func(_ context.Context, i replication.ChunkInfo) { read.Add(int64(i.Rows)) }
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	stream := replication.NewStream(e.source, e.target, e.source.Tables(), opts)
	level := make(chan struct{})
	g.Go(func() error { return e.untilLevel(ctx, stream, level) })
	g.Go(func() error {
		defer close(level)
		if err := until(ctx, func() (bool, error) { return read.Load() >= rows+500, nil }); err != nil {
			return err
		}
		for lo := 0; lo < rows; lo += 20 {
			q := fmt.Sprintf("DELETE FROM shop.tail WHERE id>%d AND id<=%d AND id%%5>0", lo, lo+20)
			if lo%300 == 0 { // some rows come and go
				q += fmt.Sprintf("; INSERT INTO shop.tail VALUES (%[1]d, -1); UPDATE shop.tail SET id=-id WHERE id=%[1]d; DELETE FROM shop.tail WHERE id=-%[1]d", lo+1)
			}
			if err := src.Exec(ctx, q); err != nil {
				return err
			}
		}
		waits := 0
		err := until(ctx, func() (bool, error) {
			found, err := dst.Query(ctx, "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'")
			if err != nil {
				return false, err
			}
			_, err = fmt.Sscan(found[0][1], &waits)
			return waits >= 8, err
		})
		return errors.Join(err, held.Rollback())
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := e.differences(t, "tail", "still"); diff != "" {
		t.Error(diff)
	}
	p := stream.Progress().Tables["still"].Rows
	stored := dst.MustQuery(t, "SELECT SUM(rows_copied) FROM _tablehaul.copy_state WHERE table_name='still'")[0][0]
	if p != 500 || stored != "500" {
		t.Errorf("of 500 rows %d were copied, %s by the record", p, stored)
	}
}

// metered measures what a stream has taken from its source and not committed.
type metered struct {
	replication.Source
	stream *replication.Stream
	// most is in bytes of rows, taken is how many transactions were.
	most, taken atomic.Int64
}

func (m *metered) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	type flight struct {
		gtid  replication.GTID
		bytes int64
	}
	return func(yield func(*replication.Transaction, error) bool) {
		var list []flight
		held := int64(0)
		for t, err := range m.Source.Transactions(ctx, from) {
			if t != nil && !t.GTID.IsZero() {
				f := flight{gtid: t.GTID}
				for _, c := range t.Changes {
					f.bytes += int64(len(c.Before) + len(c.After))
				}
				list, held = append(list, f), held+f.bytes
				m.taken.Add(1)
				for done := m.stream.Progress().Position; len(list) > 0 && done.Contains(list[0].gtid); list = list[1:] {
					held -= list[0].bytes
				}
				m.most.Store(max(m.most.Load(), held))
			}
			if !yield(t, err) {
				return
			}
		}
	}
}

// trapManyCommits piles up transactions while the target hangs, and goes on writing as fast as it can to a target each of whose commits
// takes 50 ms: what is held stays within its bound, and the stream catches up with the writers.
func trapManyCommits(t *testing.T, src, dst *replicationtest.Server) {
	const (
		writers = 4
		commit  = 50 * time.Millisecond
		memory  = 256 << 10
		pile    = 1500
	)
	e := newEngineFrom(t, src, dst, source.Config{Addr: src.Addr(), User: "root", Database: srcDB}, source.Options{QueueBytes: 64 << 10}, target.Options{MemoryBytes: memory},
		"CREATE TABLE hot (id INT PRIMARY KEY, n INT NOT NULL, pad VARCHAR(400))", "CREATE TABLE idle (id INT PRIMARY KEY AUTO_INCREMENT, n INT)")
	src.MustExec(t, "USE shop; INSERT INTO hot "+numbered(30)+"i, 0, REPEAT('x', 400) FROM n; INSERT INTO idle (n) VALUES (0)")
	dst.MustExec(t, fmt.Sprintf("SET GLOBAL binlog_group_commit_sync_delay=%d", commit.Microseconds()))
	defer dst.MustExec(t, "SET GLOBAL binlog_group_commit_sync_delay=0")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	m := &metered{Source: e.source}
	m.stream = replication.NewStream(m, e.target, e.source.Tables(), replication.Options{})
	level, stop := make(chan struct{}), make(chan struct{})
	var written atomic.Int64
	db := openPool(t, src, srcDB)
	var load errgroup.Group
	g.Go(func() error { return e.untilLevel(ctx, m.stream, level) })
	g.Go(func() error {
		defer close(level)
		if err := until(ctx, func() (bool, error) { return !m.stream.Progress().Copying, nil }); err != nil {
			return err
		}
		dst.Freeze()
		defer dst.Thaw()
		for w := range writers {
			load.Go(func() error { return hammer(ctx, db, w, &written, stop) })
		}
		if err := until(ctx, func() (bool, error) { return written.Load() >= pile, nil }); err != nil {
			return err
		}
		dst.Thaw()
		began, before := time.Now(), written.Load()-pile
		// It reaches what there was a moment ago, while the writers go on.
		_, want, err := e.source.End(ctx)
		if err == nil {
			err = until(ctx, func() (bool, error) { return m.stream.Progress().Position.Covers(want), nil })
		}
		if err != nil {
			return fmt.Errorf("%d transactions were written and %d taken: %w", written.Load(), m.taken.Load(), err)
		}
		took, n := time.Since(began), written.Load()-before
		close(stop)
		t.Logf("%d transactions in %s, at most %d bytes in flight", n, took.Round(time.Millisecond), m.most.Load())
		if took > time.Duration(n)*commit/3 {
			return fmt.Errorf("%d transactions took %s: nearly one by one", n, took)
		}
		return load.Wait()
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if most := m.most.Load(); most > 2*memory {
		t.Errorf("%d bytes of rows were held, with a bound of %d", most, memory)
	}
	if diff := e.differences(t, "hot", "idle"); diff != "" {
		t.Error(diff)
	}
}

// hammer changes hot rows as fast as it can, and adds an idle one now and then.
func hammer(ctx context.Context, db *sql.DB, w int, written *atomic.Int64, stop <-chan struct{}) error {
	for n := 1; ; n++ {
		select {
		case <-stop:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		q := fmt.Sprintf("UPDATE hot SET n=n+1, pad=REPEAT('%c', 400) WHERE id=%d", 'a'+w, 1+rand.IntN(30))
		if n%50 == 0 {
			q = fmt.Sprintf("INSERT INTO idle (n) VALUES (%d)", n)
		}
		if _, err := db.ExecContext(ctx, q); err != nil {
			return err
		}
		written.Add(1)
	}
}
