package vdiff_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/vdiff"
)

// A replay is a stream in small: it repeats on the target what a single writer commits on the source, some
// transactions later.
type replay struct {
	signal
	applied replication.Position
	queue   chan replayed
}

// A signal guards what somebody waits for. The zero value is ready.
type signal struct {
	mu struct {
		sync.Mutex
		// changed is closed when something changes; nil if nobody waits.
		changed chan struct{}
	}
}

// change calls f, and wakes those who wait.
func (s *signal) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	if s.mu.changed != nil {
		close(s.mu.changed)
		s.mu.changed = nil
	}
}

// wait waits until done says so; it is asked after each change.
func (s *signal) wait(ctx context.Context, done func() bool) error {
	for {
		s.mu.Lock()
		if done() {
			s.mu.Unlock()
			return nil
		}
		if s.mu.changed == nil {
			s.mu.changed = make(chan struct{})
		}
		changed := s.mu.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

type replayed struct {
	statements []string
	position   replication.Position
}

func newReplay(start replication.Position, lag int) *replay {
	return &replay{applied: start, queue: make(chan replayed, lag)}
}

func (r *replay) waitApplied(ctx context.Context, _ string, p replication.Position) error {
	return r.wait(ctx, func() bool { return p.IsZero() || r.applied.Covers(p) })
}

// apply runs what was queued until the queue is closed.
func (r *replay) apply(ctx context.Context, db *sql.DB) error {
	for q := range r.queue {
		if err := retry.Wait(ctx, rand.N(time.Millisecond)); err != nil {
			return err
		}
		if err := transaction(ctx, db, q.statements); err != nil {
			return fmt.Errorf("target: %w", err)
		}
		r.change(func() { r.applied = q.position })
	}
	return nil
}

func transaction(ctx context.Context, db *sql.DB, statements []string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, s := range statements {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", s, err), tx.Rollback())
		}
	}
	return tx.Commit()
}

func executed(ctx context.Context, db *sql.DB) (p replication.Position, err error) {
	var text string
	if err := db.QueryRowContext(ctx, "SELECT @@global.gtid_executed").Scan(&text); err != nil {
		return p, err
	}
	return replication.ParsePosition("MySQL56/" + text)
}

// write commits random transactions on the source until stop is closed.
func (r *replay) write(ctx context.Context, db *sql.DB, rnd *rand.Rand, rows int, stop <-chan struct{}) (n int, err error) {
	defer close(r.queue)
	for {
		var q replayed
		for range 1 + rnd.IntN(3) {
			q.statements = append(q.statements, randomStatement(rnd, rows))
		}
		if err := transaction(ctx, db, q.statements); err != nil {
			return n, fmt.Errorf("source: %w", err)
		}
		n++
		if q.position, err = executed(ctx, db); err != nil {
			return n, err
		}
		select {
		case r.queue <- q:
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
		select {
		case <-stop:
			return n, nil
		default:
		}
	}
}

// hotRows is the number of rows that nearly every second statement changes.
const hotRows = 40

// randomStatement changes rows from 1 to rows; multiples of 1000 are left alone.
func randomStatement(rnd *rand.Rand, rows int) string {
	id := 1 + rnd.IntN(rows)
	if id%1000 == 0 {
		id++
	}
	switch rnd.IntN(12) {
	case 0:
		return fmt.Sprintf("DELETE FROM t WHERE id=%d", id)
	case 1:
		return fmt.Sprintf("REPLACE INTO t VALUES (%d,%d,'new')", id, rnd.IntN(1000))
	case 2:
		return fmt.Sprintf("UPDATE IGNORE t SET id=id+1 WHERE id=%d AND id%%1000<>999", id)
	case 3, 4, 7, 8, 9:
		return fmt.Sprintf("UPDATE t SET n=n+1 WHERE id BETWEEN 1 AND %d", hotRows)
	case 5:
		return "UPDATE t SET n=1-n WHERE id BETWEEN 51 AND 60" // rows that have two values in turn
	case 6:
		return fmt.Sprintf("INSERT IGNORE INTO t VALUES (%d,0,'tail')", rows+1+rnd.IntN(1000))
	}
	return fmt.Sprintf("UPDATE t SET n=%d, v=CONCAT('v',n) WHERE id=%d", rnd.IntN(1000), id)
}

// TestUnderWrites compares while a writer changes the same rows as fast as it can, and the target follows. Nothing but the planted
// differences may be found, and these each time.
func TestUnderWrites(t *testing.T) {
	const rows, compares = 10_000, 3
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, n INT, v VARCHAR(20))")
	w.fill(t, "t", rows, func(i int) string { return fmt.Sprintf("%d,0,'start'", i) })
	run(t, w.target(), "DELETE FROM t WHERE id=5000", "UPDATE t SET v='start ' WHERE id=7000", "INSERT INTO t VALUES (-1,0,''), (100000,0,'')")
	start, err := executed(t.Context(), w.source())
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := newReplay(start, 20)
	w.wait = r.waitApplied
	g, ctx := errgroup.WithContext(t.Context())
	stop, written := make(chan struct{}), 0
	g.Go(func() (err error) {
		written, err = r.write(ctx, w.source(), rand.New(rand.NewPCG(seed, 0)), rows, stop)
		return err
	})
	g.Go(func() error { return r.apply(ctx, w.target()) })
	var unsettled int64
	for range compares {
		report, err := vdiff.New(w).Create(ctx, vdiff.Options{})
		if err != nil {
			t.Error(err)
			break
		}
		table := report.Tables[0]
		if keys(table.ExtraSource) != "5000" || keys(table.Mismatched) != "7000" || keys(table.ExtraTarget) != "-1 100000" {
			t.Errorf("under writes:\n%s", report)
		}
		unsettled += table.RowsUnsettled
		// Rows come and go, but not many.
		if n := report.RowsCompared(); n < rows-4000 || n > rows+1100 {
			t.Errorf("%d rows compared", n)
		}
	}
	close(stop)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d transactions, %d rows unsettled", written, unsettled)
	if unsettled > compares*(hotRows+10) {
		t.Errorf("%d rows without a verdict", unsettled)
	}
	report := create(t, w, vdiff.Options{})
	if table := report.Tables[0]; table.RowsUnsettled != 0 || table.MismatchedRows != 1 || table.ExtraRowsSource != 1 || table.ExtraRowsTarget != 2 {
		t.Errorf("at the end:\n%s", report)
	}
}
