package vdiff_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/vdiff"
)

// A stream is the streams of one source shard in small: what a writer commits on the source is repeated on each target shard that it
// concerns, some transactions later, and on one shard sooner than on another.
type stream struct {
	source  *sql.DB
	targets []*sql.DB
	queues  []chan *commit
	signal
	// started counts the transactions that may be visible, applied those that each target shard has.
	started int
	applied []int
	// rows are the columns of each row that is there.
	rows map[int]*movingRow
}

type movingRow struct{ c, v int }

// A commit is what a transaction does on each target shard.
type commit struct{ on [][]string }

func newStream(source *sql.DB, targets []*sql.DB) *stream {
	s := &stream{source: source, targets: targets, applied: make([]int, len(targets)), rows: map[int]*movingRow{}}
	for range targets {
		s.queues = append(s.queues, make(chan *commit, 20))
	}
	return s
}

// waitApplied waits until every target shard has what was visible when it was called.
func (s *stream) waitApplied(ctx context.Context) error {
	want := -1
	return s.wait(ctx, func() bool {
		if want < 0 {
			want = s.started
		}
		return slices.Min(s.applied) >= want
	})
}

// apply repeats transactions on one target shard until the queue is closed.
func (s *stream) apply(ctx context.Context, shard int) error {
	for c := range s.queues[shard] {
		if err := retry.Wait(ctx, rand.N(time.Millisecond)); err != nil {
			return err
		}
		if len(c.on[shard]) > 0 {
			if err := transaction(ctx, s.targets[shard], c.on[shard]); err != nil {
				return fmt.Errorf("target %d: %w", shard, err)
			}
		}
		s.change(func() { s.applied[shard]++ })
	}
	return nil
}

// write commits random transactions until stop is closed.
func (s *stream) write(ctx context.Context, rnd *rand.Rand, ids []int, stop <-chan struct{}) (n int, err error) {
	defer func() {
		for _, q := range s.queues {
			close(q)
		}
	}()
	for ; ; n++ {
		c := &commit{on: make([][]string, len(s.targets))}
		var statements []string
		for range 1 + rnd.IntN(3) {
			// A few rows are changed nearly all the time.
			id := ids[rnd.IntN(len(ids))]
			if rnd.IntN(2) == 0 {
				id = ids[rnd.IntN(10)]
			}
			if id%500 != 0 {
				statements = append(statements, s.alter(rnd, id, c))
			}
		}
		s.change(func() { s.started++ })
		if err := transaction(ctx, s.source, statements); err != nil {
			return n, fmt.Errorf("source: %w", err)
		}
		for _, q := range s.queues {
			select {
			case q <- c:
			case <-ctx.Done():
				return n, context.Cause(ctx)
			}
		}
		select {
		case <-stop:
			return n, nil
		default:
		}
	}
}

// alter changes a row: mostly, it moves to another shard.
func (s *stream) alter(rnd *rand.Rand, id int, c *commit) string {
	was := s.rows[id]
	add := func(shard int, format string, args ...any) {
		c.on[shard] = append(c.on[shard], fmt.Sprintf(format, args...))
	}
	home := func(r *movingRow) int { return r.c % len(s.targets) }
	switch {
	case was == nil:
		now := &movingRow{rnd.IntN(2), rnd.IntN(9)} // two values in turn are the hardest to tell from a difference
		s.rows[id] = now
		add(home(now), "INSERT INTO t VALUES (%d,%d,%d)", id, now.c, now.v)
		return fmt.Sprintf("INSERT INTO t VALUES (%d,%d,%d)", id, now.c, now.v)
	case rnd.IntN(8) == 0:
		delete(s.rows, id)
		add(home(was), "DELETE FROM t WHERE id=%d", id)
		return fmt.Sprintf("DELETE FROM t WHERE id=%d", id)
	case rnd.IntN(8) == 0:
		s.rows[id] = &movingRow{was.c, was.v + 1}
		add(home(was), "UPDATE t SET v=%d WHERE id=%d", was.v+1, id)
		return fmt.Sprintf("UPDATE t SET v=%d WHERE id=%d", was.v+1, id)
	}
	now := &movingRow{1 - was.c, was.v}
	s.rows[id] = now
	add(home(was), "DELETE FROM t WHERE id=%d", id)
	add(home(now), "INSERT INTO t VALUES (%d,%d,%d)", id, now.c, now.v)
	return fmt.Sprintf("UPDATE t SET c=%d WHERE id=%d", now.c, id)
}

// TestRowsMove compares two source shards with two target shards while rows move from one target shard to another all the time. Nothing but
// the planted differences may be found, and these each time.
func TestRowsMove(t *testing.T) {
	const rows, compares = 4000, 2
	w := newSharded(t, 2, 2, "CREATE TABLE t (id INT PRIMARY KEY, c INT, v INT)")
	w.route = byColumn(1, 2)
	w.spread(t, "t", rows, func(i int) string { return fmt.Sprintf("%d,%d,0", i, i/2%2) }, func(i int) int { return i % 2 }, func(i int) int { return i / 2 % 2 })
	targets := []*sql.DB{w.targets["t0"], w.targets["t1"]}
	streams := map[string]*stream{}
	ids := map[string][]int{}
	for i := range 2 {
		name := fmt.Sprint("s", i)
		streams[name] = newStream(w.sources[name], targets)
	}
	for i := 1; i <= rows; i++ {
		name := fmt.Sprint("s", i%2)
		ids[name] = append(ids[name], i)
		streams[name].rows[i] = &movingRow{i / 2 % 2, 0}
	}
	// These rows are not written to: multiples of 500 are on s0, and on t0.
	run(t, targets[0], "DELETE FROM t WHERE id=500", "UPDATE t SET v=1 WHERE id=1000", "DELETE FROM t WHERE id=1500", "INSERT INTO t VALUES (-1,0,0)")
	run(t, targets[1], "INSERT INTO t VALUES (1500,0,0)", "INSERT INTO t VALUES (2000,0,0)")
	w.wait = func(ctx context.Context, shard string, p replication.Position) error {
		if p.IsZero() {
			return nil
		}
		return streams[shard].waitApplied(ctx)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g, ctx := errgroup.WithContext(t.Context())
	stop := make(chan struct{})
	var written [2]int
	for i := range 2 {
		name := fmt.Sprint("s", i)
		g.Go(func() (err error) {
			written[i], err = streams[name].write(ctx, rand.New(rand.NewPCG(seed, uint64(i))), ids[name], stop)
			return err
		})
		for shard := range targets {
			g.Go(func() error { return streams[name].apply(ctx, shard) })
		}
	}
	check := func(r *vdiff.Report) {
		t.Helper()
		table := r.Tables[0]
		if places(table.ExtraSource) != "500@t0<s0" || places(table.Mismatched) != "1000@t0<s0" || places(table.ExtraTarget) != "-1@t0 2000@t1" ||
			places(table.Misplaced) != "1500@t1>t0 2000@t1>t0" {
			t.Errorf("found:\n%s", r)
		}
		checkShardsAddUp(t, r)
	}
	var unsettled int64
	for range compares {
		r, err := vdiff.New(w).Create(ctx, vdiff.Options{})
		if err != nil {
			t.Error(err)
			break
		}
		check(r)
		unsettled += r.Unsettled()
	}
	close(stop)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d transactions, %d rows unsettled", written, unsettled)
	r := create(t, w, vdiff.Options{})
	check(r)
	there := len(streams["s0"].rows) + len(streams["s1"].rows)
	if table := r.Tables[0]; table.RowsUnsettled != 0 || table.RowsCompared() != int64(there+2) {
		t.Errorf("at the end, with %d rows:\n%s", there, r)
	}
}
