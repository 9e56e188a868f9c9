package test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// The bank is two tables of accounts and a counter for each clerk. Every account is in one of the two tables; clerks
// move amounts between accounts, accounts between tables, and exchange the accounts' unique numbers. So the number of
// accounts, the sum of their amounts and the sum of their numbers never change, and the counters only grow.
const (
	bankClerks   = 4
	bankAccounts = 96
	bankReads    = 10_000
)

var bankSchema = []string{
	"CREATE TABLE a (id INT PRIMARY KEY, amount BIGINT NOT NULL, number INT UNIQUE)",
	"CREATE TABLE b (id INT PRIMARY KEY, amount BIGINT NOT NULL, number INT UNIQUE)",
	"CREATE TABLE counter (clerk INT PRIMARY KEY, n BIGINT NOT NULL)",
}

// bankState is what one consistent read of a bank shows.
type bankState struct {
	accounts, amounts, numbers int64
	counters                   [bankClerks]int64
}

func (s bankState) transactions() (n int64) {
	for _, c := range s.counters {
		n += c
	}
	return n
}

// readBank reads the state in one statement, which is one consistent read.
func readBank(ctx context.Context, db querier, schema string) (bankState, error) {
	var s bankState
	var counters string
	q := strings.ReplaceAll(`SELECT (SELECT COUNT(*) FROM DB.a)+(SELECT COUNT(*) FROM DB.b),
		(SELECT IFNULL(SUM(amount),0) FROM DB.a)+(SELECT IFNULL(SUM(amount),0) FROM DB.b),
		(SELECT IFNULL(SUM(number),0) FROM DB.a)+(SELECT IFNULL(SUM(number),0) FROM DB.b),
		(SELECT GROUP_CONCAT(n ORDER BY clerk) FROM DB.counter)`, "DB", schema)
	if err := db.QueryRowContext(ctx, q).Scan(&s.accounts, &s.amounts, &s.numbers, &counters); err != nil {
		return s, err
	}
	return s, s.parse(counters)
}

func (s *bankState) parse(counters string) error {
	for i, n := range strings.Split(counters, ",") {
		var err error
		if s.counters[i], err = strconv.ParseInt(n, 10, 64); err != nil {
			return err
		}
	}
	return nil
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// readBankSlowly reads the state in several statements of one snapshot.
func readBankSlowly(ctx context.Context, c *sql.Conn, schema string) (s bankState, err error) {
	if _, err := c.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"); err != nil {
		return s, err
	}
	defer func() {
		_, rerr := c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		err = errors.Join(err, rerr)
	}()
	for _, table := range []string{"b", "a"} {
		var accounts, amounts, numbers int64
		err := c.QueryRowContext(ctx, "SELECT COUNT(*), IFNULL(SUM(amount),0), IFNULL(SUM(number),0) FROM "+schema+"."+table).
			Scan(&accounts, &amounts, &numbers)
		if err != nil {
			return s, err
		}
		s.accounts, s.amounts, s.numbers = s.accounts+accounts, s.amounts+amounts, s.numbers+numbers
	}
	var counters string
	if err := c.QueryRowContext(ctx, "SELECT GROUP_CONCAT(n ORDER BY clerk) FROM "+schema+".counter").Scan(&counters); err != nil {
		return s, err
	}
	return s, s.parse(counters)
}

// A clerk makes transactions until it is told to stop.
type clerk struct {
	id  int
	rnd *rand.Rand
	db  *sql.DB
	// slow makes it think between two transactions.
	slow *atomic.Bool
}

func (c *clerk) run(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if c.slow.Load() {
			if err := retry.Wait(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
		tx, err := c.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		done, err := c.transaction(ctx, tx)
		if err == nil && done {
			err = tx.Commit()
		} else {
			err = errors.Join(err, tx.Rollback())
		}
		if err != nil && !lockTrouble(err) {
			return err
		}
	}
}

func lockTrouble(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && (e.Number == 1213 || e.Number == 1205)
}

// transaction tells whether its statements found what they need, else it has to be rolled back.
func (c *clerk) transaction(ctx context.Context, tx *sql.Tx) (bool, error) {
	from, to := "a", "b"
	if c.rnd.IntN(2) == 0 {
		from, to = to, from
	}
	x, y := c.rnd.IntN(bankAccounts), c.rnd.IntN(bankAccounts)
	statements := []string{fmt.Sprintf("UPDATE counter SET n=n+1 WHERE clerk=%d", c.id)}
	add := func(format string, args ...any) { statements = append(statements, fmt.Sprintf(format, args...)) }
	switch c.rnd.IntN(8) {
	case 0: // an account moves to the other table
		add("INSERT INTO %s SELECT * FROM %s WHERE id=%d FOR UPDATE", to, from, x)
		add("DELETE FROM %s WHERE id=%d", from, x)
	case 1: // two accounts exchange their numbers, if they are in the same table
		if x == y {
			return false, nil
		}
		var p, q int
		err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT p.number, q.number FROM %[1]s p JOIN %[1]s q ON p.id=%[2]d AND q.id=%[3]d FOR UPDATE", from, x, y)).Scan(&p, &q)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		add("UPDATE %s SET number=NULL WHERE id=%d", from, x)
		add("UPDATE %s SET number=%d WHERE id=%d", from, p, y)
		add("UPDATE %s SET number=%d WHERE id=%d", from, q, x)
	default:
		n := c.rnd.IntN(1000)
		add("UPDATE %s SET amount=amount-%d WHERE id=%d", from, n+1, x)
		add("UPDATE %s SET amount=amount+%d WHERE id=%d", to, n+1, y)
	}
	for _, s := range statements {
		r, err := tx.ExecContext(ctx, s)
		if err != nil {
			return false, err
		}
		if n, err := r.RowsAffected(); err != nil || n != 1 {
			return false, err
		}
	}
	return true, nil
}

// auditor reads the target's bank until there were enough reads, and enough backlogs.
type auditor struct {
	db     *sql.DB
	want   bankState
	reads  atomic.Int64
	states atomic.Int64 // reads that saw something new
	level  atomic.Bool  // the stream is level, so that commits can be told from one another
	last   bankState    // of the source, when last asked
	behind int64        // reads while the target was catching up
}

// audit reads until stop is closed; slowly is in several statements of one snapshot.
func (a *auditor) audit(ctx context.Context, slowly bool, stop <-chan struct{}) error {
	conn, err := a.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var last bankState
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		read := func() (bankState, error) { return readBank(ctx, conn, dstDB) }
		if slowly {
			read = func() (bankState, error) { return readBankSlowly(ctx, conn, dstDB) }
		}
		s, err := read()
		if err != nil {
			return err
		}
		n := a.reads.Add(1)
		if s.accounts != a.want.accounts || s.amounts != a.want.amounts || s.numbers != a.want.numbers {
			return fmt.Errorf("read %d: the target shows %+v, which the source never had (%+v)", n, s, a.want)
		}
		for i := range s.counters {
			if s.counters[i] < last.counters[i] {
				return fmt.Errorf("read %d: a counter goes back: %v, then %v", n, last.counters, s.counters)
			}
		}
		if s.counters != last.counters {
			a.states.Add(1)
		}
		last = s
		// The servers need the processor too.
		if err := retry.Wait(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// TestConstantSums moves amounts between two tables at full speed and reads the target 10,000 times, while the stream
// is level and while it catches up with a backlog: a reader of the target never sees a sum that the source did not have.
func TestConstantSums(t *testing.T) {
	t.Parallel()
	src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	dst := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	link := replicationtest.StartProxy(t, src.Addr())
	e := newEngineVia(t, src, dst, link.Addr(), target.Options{Workers: 4}, bankSchema...)
	db := openPool(t, src, srcDB)
	execute(t, db, "INSERT INTO a (id, amount, number) WITH RECURSIVE n AS (SELECT 0 i UNION ALL SELECT i+1 FROM n WHERE i < ?) SELECT i, 10000, i FROM n", bankAccounts-1)
	execute(t, db, "INSERT INTO counter WITH RECURSIVE n AS (SELECT 0 i UNION ALL SELECT i+1 FROM n WHERE i < ?) SELECT i, 0 FROM n", bankClerks-1)
	want, err := readBank(t.Context(), db, srcDB)
	if err != nil {
		t.Fatal(err)
	}

	ctx, late := context.WithTimeoutCause(t.Context(), 8*time.Minute, errors.New("not done after eight minutes"))
	defer late()
	g, ctx := errgroup.WithContext(ctx)
	stream := replication.NewStream(e.source, e.target, e.source.Tables(), replication.Options{})
	a := &auditor{db: openPool(t, dst, dstDB), want: want}
	enough, level, audited := make(chan struct{}), make(chan struct{}), make(chan struct{})
	g.Go(func() error { return e.untilLevel(ctx, stream, level) })
	g.Go(func() error {
		if err := until(ctx, func() (bool, error) { return !stream.Progress().Copying, nil }); err != nil {
			return err
		}
		for i := range 2 {
			g.Go(func() error { return a.audit(ctx, i == 1, audited) })
		}
		var clerks errgroup.Group
		for i := range bankClerks {
			c := &clerk{id: i, rnd: rand.New(rand.NewPCG(rand.Uint64(), 1)), db: db, slow: &a.level}
			clerks.Go(func() error { return c.run(ctx, enough) })
		}
		err := a.backlogs(ctx, link, db)
		close(enough)
		if err = errors.Join(err, clerks.Wait()); err == nil {
			err = a.reach(ctx, db)
		}
		close(audited)
		close(level)
		return err
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := e.differences(t, "a", "b", "counter"); diff != "" {
		t.Error(diff)
	}
	t.Logf("%d reads saw %d states, %d of the reads in a backlog; %d transactions", a.reads.Load(), a.states.Load(), a.behind, a.last.transactions())
	if a.behind < bankReads/100 {
		t.Error("too few of the reads met a backlog: the test tests nothing")
	}
}

// backlogs holds the source's log back until many transactions have piled up, and lets the target catch up, again and
// again, until there were enough reads.
func (a *auditor) backlogs(ctx context.Context, link *replicationtest.Proxy, src *sql.DB) error {
	defer link.Thaw()
	for round := 0; round < 3 || a.reads.Load() < bankReads; round++ {
		before, err := readBank(ctx, src, srcDB)
		if err != nil {
			return err
		}
		link.Freeze()
		err = until(ctx, func() (bool, error) {
			now, err := readBank(ctx, src, srcDB)
			return now.transactions() >= before.transactions()+1000, err
		})
		if err != nil {
			return err
		}
		reads := a.reads.Load()
		if round%2 == 1 {
			link.Drop()
		}
		link.Thaw()
		if err := a.reach(ctx, src); err != nil {
			return err
		}
		a.behind += a.reads.Load() - reads
		states := a.states.Load()
		a.level.Store(true)
		if err := until(ctx, func() (bool, error) { return a.states.Load() >= states+40, nil }); err != nil {
			return err
		}
		a.level.Store(false)
	}
	return nil
}

// reach waits until the target has what the source has now.
func (a *auditor) reach(ctx context.Context, src *sql.DB) error {
	want, err := readBank(ctx, src, srcDB)
	if err != nil {
		return err
	}
	a.last = want
	return until(ctx, func() (bool, error) {
		have, err := readBank(ctx, a.db, dstDB)
		return have.transactions() >= want.transactions(), err
	})
}
