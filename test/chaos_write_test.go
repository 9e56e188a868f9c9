package test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// chaosLoad is all that writes to the source: a random load on the random tables, values that wander, and transactions of
// unusual shapes. It outlives the server's crashes.
type chaosLoad struct {
	random *replicationtest.Load
	others *errgroup.Group
	stop   chan struct{}
	// done counts the transactions of the others that were committed.
	done atomic.Int64
}

// startChaosLoad starts the writers; round makes what they write differ from an earlier start's.
func startChaosLoad(ctx context.Context, db *sql.DB, tables []chaosTable, seed uint64, round int) (*chaosLoad, error) {
	l := &chaosLoad{stop: make(chan struct{}), others: &errgroup.Group{}}
	var names []string
	for _, t := range tables {
		if t.written {
			names = append(names, t.name)
		}
	}
	var err error
	l.random, err = replicationtest.RunLoad(ctx, db, srcDB, replicationtest.LoadOptions{
		Tables: names, Seed: seed + uint64(round), Rate: 60, Writers: 2, Reconnect: true,
	})
	if err != nil {
		return nil, err
	}
	w := &wanderer{id: 2 * round, rnd: rand.New(rand.NewPCG(seed, uint64(2*round+1000))), db: db, done: &l.done}
	l.others.Go(func() error {
		return l.repeat(ctx, w.rnd, func() error { return w.wander(ctx, &wanderTables[w.rnd.IntN(len(wanderTables))]) })
	})
	s := &shapes{rnd: rand.New(rand.NewPCG(seed, uint64(round+2000))), db: db, round: round, done: &l.done}
	l.others.Go(func() error {
		return errors.Join(l.repeat(ctx, s.rnd, func() error { return s.next(ctx) }), l.settle(ctx, s))
	})
	return l, nil
}

// repeat calls f until the load is stopped. Lost connections and conflicts are what chaos is about.
func (l *chaosLoad) repeat(ctx context.Context, rnd *rand.Rand, f func() error) error {
	for {
		select {
		case <-l.stop:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		default:
		}
		wait := time.Duration(rnd.IntN(30)) * time.Millisecond
		err := f()
		switch {
		case err == nil, duplicate(err), lockTrouble(err):
		case lostServer(err):
			wait = 50 * time.Millisecond
		default:
			return err
		}
		if err := retry.Wait(ctx, wait); err != nil {
			return err
		}
	}
}

// settle ends the distributed transactions that a crash has left prepared.
func (l *chaosLoad) settle(ctx context.Context, s *shapes) error {
	return until(ctx, func() (bool, error) {
		err := s.recover(ctx)
		if err != nil && !lostServer(err) {
			return false, err
		}
		return err == nil, nil
	})
}

// end stops the writers, and returns when nothing is under way any more.
func (l *chaosLoad) end() error {
	close(l.stop)
	_, err := l.random.Stop()
	return errors.Join(err, l.others.Wait())
}

// lostServer tells that the server or the link to it went away, or is on its way.
func lostServer(err error) bool {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		switch e.Number {
		case 1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1180, 1317, 1927, 3169, 3170:
			return true
		}
		return false
	}
	if _, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok {
		return true
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, sql.ErrConnDone)
}

// shapes makes transactions of unusual shapes in the table bulk.
type shapes struct {
	rnd   *rand.Rand
	db    *sql.DB
	round int
	n     int
	done  *atomic.Int64
}

// next makes one transaction.
func (s *shapes) next(ctx context.Context) error {
	s.n++
	part, other := s.rnd.IntN(20), s.rnd.IntN(20)
	insert := fmt.Sprintf("INSERT INTO bulk (part, u, pad, at) VALUES (%d, %d, REPEAT('s', %d), NOW(6))", part, s.value(0), s.rnd.IntN(200))
	insertMore := fmt.Sprintf("INSERT INTO bulk (part, u, pad) VALUES (%d, %d, NULL)", part, s.value(1))
	change := fmt.Sprintf("UPDATE bulk SET pad=CONCAT('n', %d), at=NOW(6) WHERE part=%d ORDER BY id LIMIT %d", s.n, other, 1+s.rnd.IntN(20))
	remove := fmt.Sprintf("DELETE FROM bulk WHERE part=%d ORDER BY id LIMIT %d", other, 1+s.rnd.IntN(5))
	var statements []string
	switch s.rnd.IntN(12) {
	case 0: // many rows at once, twice over
		statements = []string{"BEGIN", s.many(part), fmt.Sprintf("UPDATE bulk SET at=NOW(6) WHERE part=%d", part), "COMMIT"}
	case 1:
		statements = []string{fmt.Sprintf("DELETE FROM bulk WHERE part=%d ORDER BY id DESC LIMIT 600", part)}
	case 2: // all keys of a part move, each to where the next one was or beyond
		statements = []string{fmt.Sprintf("UPDATE bulk SET id=id+%d, u=u+1 WHERE part=%d ORDER BY id DESC LIMIT 200", 1+s.rnd.IntN(3), part)}
	case 3:
		statements = []string{"BEGIN", insert, "SAVEPOINT a", change, "SAVEPOINT b", remove, "ROLLBACK TO a", insertMore, "COMMIT"}
	case 4:
		statements = []string{"BEGIN", insert, "SAVEPOINT a", remove, "RELEASE SAVEPOINT a", change, "ROLLBACK"}
	case 5:
		return s.xa(ctx, insert, change, remove)
	case 6:
		statements = []string{"SET SESSION binlog_transaction_compression=ON", "BEGIN", insert, change, insertMore, "COMMIT", "SET SESSION binlog_transaction_compression=OFF"}
	case 7:
		statements = []string{fmt.Sprintf("REPLACE INTO bulk (part, u, pad) SELECT part, u, 'replaced' FROM bulk WHERE part=%d AND u IS NOT NULL LIMIT 5", other)}
	case 8:
		statements = []string{"CREATE TABLE IF NOT EXISTS aside.c AS SELECT * FROM bulk LIMIT 10", "DROP TABLE aside.c"}
	case 9:
		statements = []string{fmt.Sprintf("UPDATE bulk SET pad=REPEAT('w', 250) WHERE part IN (%d, %d) LIMIT 300", part, other)}
	default:
		statements = []string{"BEGIN", insert, change, insertMore, remove, "COMMIT"}
	}
	return s.session(ctx, statements...)
}

// value is one that u has never had.
func (s *shapes) value(i int) int { return 10_000_000*(s.round+1) + 20*s.n + i }

// many inserts some hundred rows.
func (s *shapes) many(part int) string {
	return fmt.Sprintf(`INSERT INTO bulk (part, u, pad) WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i+1 FROM n WHERE i < %d)
		SELECT %d, NULL, REPEAT('b', i%%120) FROM n`, 200+s.rnd.IntN(600), part)
}

// session runs statements on one connection, which is thrown away after an error.
func (s *shapes) session(ctx context.Context, statements ...string) error {
	c, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, q := range statements {
		if _, err := c.ExecContext(ctx, q); err != nil {
			_ = c.Raw(func(any) error { return driver.ErrBadConn })
			return fmt.Errorf("%.60s: %w", q, err)
		}
	}
	s.done.Add(1)
	return nil
}

// xa is a distributed transaction: in one phase, in two, rolled back, or left prepared for recover to end.
func (s *shapes) xa(ctx context.Context, statements ...string) error {
	id := fmt.Sprintf("'x%d-%d'", s.round, s.n)
	all := append([]string{"XA START " + id}, statements...)
	all = append(all, "XA END "+id)
	switch s.rnd.IntN(5) {
	case 0:
		all = append(all, "XA COMMIT "+id+" ONE PHASE")
	case 1:
		all = append(all, "XA PREPARE "+id, "XA ROLLBACK "+id)
	case 2, 3:
		all = append(all, "XA PREPARE "+id, "XA COMMIT "+id)
	case 4: // the session ends, and another one finds the transaction
		if err := s.session(ctx, append(all, "XA PREPARE "+id)...); err != nil {
			return err
		}
		return s.recover(ctx)
	}
	return s.session(ctx, all...)
}

// recover commits or rolls back what is prepared.
func (s *shapes) recover(ctx context.Context) error {
	rows, err := s.db.QueryContext(ctx, "XA RECOVER")
	if err != nil {
		return err
	}
	defer rows.Close()
	var ends []string
	for rows.Next() {
		var format, gtrid, bqual int
		var data string
		if err := rows.Scan(&format, &gtrid, &bqual, &data); err != nil {
			return err
		}
		ends = append(ends, []string{"XA COMMIT ", "XA COMMIT ", "XA ROLLBACK "}[s.rnd.IntN(3)]+"'"+strings.ReplaceAll(data, "'", "''")+"'")
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, q := range ends {
		_, err := s.db.ExecContext(ctx, q)
		if e, ok := errors.AsType[*mysql.MySQLError](err); ok && (e.Number == 1397 || e.Number == 1399) {
			continue // it has just ended, or its session has not
		}
		if err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}
