package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

const columns = "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT ''"

var tables = []string{"sbtest1", "sbtest2"}

// fill makes the database sbtest anew, with rows in all of digits in groups as sysbench's. Beyond half a million
// the texts repeat, which the servers don't notice. What isn't logged leaves no binary log on the disk.
func fill(ctx context.Context, s *replicationtest.Server, rows int, logged bool) error {
	progress("filling the source with %d rows", rows)
	digits := func(groups int) string {
		s := "''"
		for range groups {
			s += ", LPAD(FLOOR(RAND()*1e11), 11, '0'), '-'"
		}
		return "CONCAT(" + s + ")"
	}
	if err := s.Exec(ctx, "DROP DATABASE IF EXISTS sbtest; CREATE DATABASE sbtest"); err != nil {
		return err
	}
	each := rows / len(tables)
	const most = 250_000
	log := "SET SESSION sql_log_bin=0; "
	if logged {
		log = ""
	}
	for _, t := range tables {
		err := s.Exec(ctx, fmt.Sprintf(log+`USE sbtest; SET SESSION cte_max_recursion_depth=100000000; CREATE TABLE %[1]s (%[2]s, KEY k_1 (k));
			INSERT INTO %[1]s (k, c, pad) WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i+1 FROM n WHERE i < %[3]d)
			SELECT FLOOR(RAND()*%[4]d), LEFT(%[5]s, 119), LEFT(%[6]s, 59) FROM n`, t, columns, min(each, most), each, digits(10), digits(5)))
		if err != nil {
			return err
		}
		for have := most; have < each; have += most {
			if err := s.Exec(ctx, fmt.Sprintf(log+"USE sbtest; INSERT INTO %[1]s (k, c, pad) SELECT FLOOR(RAND()*%[2]d), c, pad FROM %[1]s WHERE id <= %[3]d",
				t, each, min(most, each-have))); err != nil {
				return err
			}
		}
	}
	return nil
}

// addMarks adds the table into which writers put what they have done.
func addMarks(ctx context.Context, s *replicationtest.Server) error {
	return s.Exec(ctx, "CREATE TABLE sbtest.mark (w INT NOT NULL, seq INT NOT NULL, PRIMARY KEY (w, seq))")
}

// A writer writes sysbench's oltp_write_only transactions on one connection: two updates, a delete and an insert of the same id, each on a
// table and an id of its own, uniformly at random.
type writer struct {
	conn *sql.Conn
	rng  *rand.Rand
	rows int // in each table
	text strings.Builder
}

// transaction commits one. It is sent as one text, so that the client costs little; a deadlock is tried again. More is a
// statement to put in front of the commit.
func (w *writer) transaction(ctx context.Context, more string) error {
	t := &w.text
	t.Reset()
	table := func() string { return tables[w.rng.IntN(len(tables))] }
	id := func() int { return 1 + w.rng.IntN(w.rows) }
	fmt.Fprintf(t, "BEGIN; UPDATE %s SET k=k+1 WHERE id=%d; UPDATE %s SET c='", table(), id(), table())
	w.digits(10)
	again, n := table(), id()
	fmt.Fprintf(t, "' WHERE id=%d; DELETE FROM %s WHERE id=%d; INSERT INTO %s (id, k, c, pad) VALUES (%d, %d, '", id(), again, n, again, n, id())
	w.digits(10)
	t.WriteString("', '")
	w.digits(5)
	t.WriteString("'); ")
	t.WriteString(more)
	t.WriteString("COMMIT")
	for {
		_, err := w.conn.ExecContext(ctx, t.String())
		if e, ok := errors.AsType[*mysql.MySQLError](err); !ok || e.Number != 1213 && e.Number != 1205 {
			return err
		}
		if _, err := w.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
			return err
		}
	}
}

func (w *writer) digits(groups int) {
	for g := range groups {
		if g > 0 {
			w.text.WriteByte('-')
		}
		fmt.Fprintf(&w.text, "%011d", w.rng.Int64N(1e11))
	}
}

// writers gives f a writer each, on connections of their own to addr, and waits for all.
func writers(ctx context.Context, addr string, rows, n int, f func(ctx context.Context, i int, w *writer) error) error {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName, cfg.MultiStatements = "root", "tcp", addr, "sbtest", true
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(c)
	defer db.Close()
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		g.Go(func() error {
			conn, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			return f(ctx, i, &writer{conn: conn, rows: rows, rng: rand.New(rand.NewPCG(uint64(i), rand.Uint64()))})
		})
	}
	return g.Wait()
}

// writeBacklog commits n transactions with four writers, as fast as it goes.
func writeBacklog(ctx context.Context, s *replicationtest.Server, rows, n int) error {
	var left atomic.Int64
	left.Store(int64(n))
	return writers(ctx, s.Addr(), rows, 4, func(ctx context.Context, _ int, w *writer) error {
		for left.Add(-1) >= 0 {
			if err := w.transaction(ctx, ""); err != nil {
				return err
			}
		}
		return nil
	})
}

// A pace lets transactions begin at a fixed rate, however long each takes.
type pace struct {
	began time.Time
	every time.Duration
	next  atomic.Int64
}

// wait returns when the next transaction's time has come, and that time. ok is false once ctx has ended.
func (p *pace) wait(ctx context.Context) (due time.Time, ok bool) {
	due = p.began.Add(time.Duration(p.next.Add(1)-1) * p.every)
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return due, false
	case <-t.C:
		return due, true
	}
}

// A loadRole is a load of a fixed rate in a process of its own. It prints the latency of each transaction.
type loadRole struct {
	Addr string
	Rows int // in each table
	Rate int // per second
}

// latency is one transaction: when it was due, as Unix time in microseconds, and how long after that it was committed.
const latency = "%d %d"

// run says ready and writes until ctx ends. A latency counts from when the transaction was due, so a wait for a free connection is in it.
func (r *loadRole) run(ctx context.Context) error {
	if _, err := fmt.Fprintln(os.Stdout, "ready"); err != nil {
		return err
	}
	p := &pace{began: time.Now(), every: time.Second / time.Duration(r.Rate)}
	var mu sync.Mutex
	out := &strings.Builder{}
	err := writers(context.WithoutCancel(ctx), r.Addr, r.Rows, 16, func(inner context.Context, _ int, w *writer) error {
		for {
			due, ok := p.wait(ctx)
			if !ok {
				return nil
			}
			if err := w.transaction(inner, ""); err != nil {
				return err
			}
			took := time.Since(due)
			mu.Lock()
			fmt.Fprintf(out, latency+"\n", due.UnixMicro(), took.Microseconds())
			mu.Unlock()
		}
	})
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(out.String())
	return err
}
