package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// steadyWriters are the connections that write at the fixed rate; more than are needed, so that a slow commit holds up none.
const steadyWriters = 8

// pollEvery is how often the reader looks; it is part of every lag that is measured.
const pollEvery = time.Millisecond

// steadyPart measures the lag while a load of a fixed rate is replicated.
func steadyPart(ctx context.Context, o options, p *part) error {
	p.Title = fmt.Sprintf("lag at %d oltp_write_only transactions/s on 2 x %d rows", o.rate, o.tableRows)
	p.columns = []column{
		{"tx/s", "rate", 0},
		{"p50 ms", "p50", 1},
		{"p90 ms", "p90", 1},
		{"p99 ms", "p99", 1},
		{"max ms", "max", 1},
		{"CPU s", "cpu", 2},
		{"source", "cpu source", 2},
		{"target", "cpu target", 2},
		{"library", "cpu library", 2},
		{"lib MiB", "peak library", 0},
	}
	c, err := newCatchUp(ctx, o)
	if err != nil {
		return err
	}
	defer c.close()
	if p.Settings, err = c.settings(ctx); err != nil {
		return err
	}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	w, err := c.worker(ctx, "steady", false)
	if err != nil {
		return err
	}
	ours, err := c.steady(ctx, w)
	if err = errors.Join(err, w.stop()); err != nil {
		return err
	}
	theirs, err := c.steadyNative(ctx)
	if err != nil {
		return err
	}
	p.add("native replica, 4 workers", theirs)
	p.add("tablehaul", ours)
	p.note("each transaction also inserts a row (writer, number). Lag: from when the writer's COMMIT has returned until a reader that polls the target every %v"+
		" sees the row; both by the clock of one process. So it holds all that an application could notice, and the poll (up to %v and a query) besides", pollEvery, pollEvery)
	p.note("writers begin each transaction when it is due, not when the one before has ended; the first second is not counted. One target at a time, the other is stopped")
	return nil
}

// steady measures tablehaul, from a workflow that is stopped.
func (c *catchUp) steady(ctx context.Context, w *worker) ([]figures, error) {
	wf := c.m.Workflow(workflow)
	if err := wf.Start(ctx); err != nil {
		return nil, err
	}
	pids := c.pids()
	pids["library"] = w.pid()
	var all []figures
	for i := range c.opts.rounds {
		progress("tablehaul, round %d of %d: %v of load", i+1, c.opts.rounds, c.opts.steady)
		f, err := c.steadyRound(ctx, c.dst, "commerce", pids, i)
		if err != nil {
			return nil, err
		}
		if f["peak library"], err = peakOf(w.pid()); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	if err := wf.Stop(ctx); err != nil {
		return nil, err
	}
	return all, checksums(ctx, c.src, c.dst, "sbtest", "commerce", append(tables[:len(tables):len(tables)], "mark"))
}

// steadyNative measures the native replica, after it has caught up with what tablehaul was measured with.
func (c *catchUp) steadyNative(ctx context.Context) ([]figures, error) {
	if err := c.src.Exec(ctx, "INSERT INTO sbtest.mark VALUES (0, 1)"); err != nil {
		return nil, err
	}
	if err := c.native.Exec(ctx, "START REPLICA"); err != nil {
		return nil, err
	}
	progress("the native replica catches up")
	if err := c.awaitNative(ctx, 1); err != nil {
		return nil, err
	}
	var all []figures
	for i := range c.opts.rounds {
		progress("native replica, round %d of %d: %v of load", i+1, c.opts.rounds, c.opts.steady)
		f, err := c.steadyRound(ctx, c.native, "sbtest", map[string]int{"source": c.src.PID(), "target": c.native.PID()}, c.opts.rounds+i)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func (c *catchUp) steadyRound(ctx context.Context, dst *replicationtest.Server, database string, pids map[string]int, round int) (figures, error) {
	m, err := newMeter(pids)
	if err != nil {
		return nil, err
	}
	lags, err := lagUnderLoad(ctx, c.src, dst, database, c.opts, round)
	if err != nil {
		return nil, err
	}
	f, err := m.stop()
	if err != nil {
		return nil, err
	}
	f["rate"] = float64(len(lags)) / (f["wall"] - 1)
	for _, at := range []float64{50, 90, 99} {
		f[fmt.Sprintf("p%g", at)] = percentile(lags, at)
	}
	f["max"] = percentile(lags, 100)
	return f, nil
}

// A ledger holds when each transaction was committed, and when it was first seen.
type ledger struct {
	mu        sync.Mutex
	committed [steadyWriters][]time.Time
	seen      [steadyWriters][]time.Time
}

// lagUnderLoad writes for a second and then for as long as the options say, and returns the lags in milliseconds of that time.
func lagUnderLoad(ctx context.Context, src, dst *replicationtest.Server, database string, o options, round int) ([]float64, error) {
	var book ledger
	p := &pace{began: time.Now(), every: time.Second / time.Duration(o.rate)}
	writing, stop := context.WithDeadline(ctx, p.began.Add(time.Second+o.steady))
	defer stop()
	reading, ended := context.WithCancelCause(ctx)
	defer ended(nil)
	read := make(chan error, 1)
	go func() { read <- book.watch(reading, dst, database, round) }()
	err := writers(ctx, src.Addr(), o.tableRows, steadyWriters, func(ctx context.Context, i int, w *writer) error {
		for seq := 0; ; seq++ {
			if _, ok := p.wait(writing); !ok {
				return nil
			}
			if err := w.transaction(ctx, fmt.Sprintf("INSERT INTO mark VALUES (%d, %d); ", markOf(round, i), seq)); err != nil {
				return err
			}
			book.mu.Lock()
			book.committed[i] = append(book.committed[i], time.Now())
			book.mu.Unlock()
		}
	})
	if err == nil {
		err = poll(ctx, 10*time.Millisecond, func() (bool, error) {
			select {
			case err := <-read:
				return true, err
			default:
				return book.complete(), nil
			}
		})
	}
	ended(nil)
	if err != nil {
		return nil, err
	}
	return book.lags(p.began.Add(time.Second)), nil
}

// markOf is the number of a writer in a round.
func markOf(round, writer int) int { return 1 + round*steadyWriters + writer }

// watch looks at the target until ctx ends, or an error is returned.
func (l *ledger) watch(ctx context.Context, s *replicationtest.Server, database string, round int) error {
	db, err := s.Open(database)
	if err != nil {
		return err
	}
	defer db.Close()
	query, err := db.PrepareContext(ctx, "SELECT w, MAX(seq) FROM mark WHERE w BETWEEN ? AND ? GROUP BY w")
	if err != nil {
		return err
	}
	defer query.Close()
	return poll(ctx, pollEvery, func() (bool, error) { return false, l.look(ctx, query, round) })
}

func (l *ledger) look(ctx context.Context, query *sql.Stmt, round int) error {
	rows, err := query.QueryContext(ctx, markOf(round, 0), markOf(round, steadyWriters-1))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var w, seq int
		if err := rows.Scan(&w, &seq); err != nil {
			return err
		}
		now := time.Now()
		l.mu.Lock()
		seen := &l.seen[w-markOf(round, 0)]
		for len(*seen) <= seq {
			*seen = append(*seen, now)
		}
		l.mu.Unlock()
	}
	return rows.Err()
}

// complete tells whether all that was committed has been seen.
func (l *ledger) complete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.committed {
		if len(l.seen[i]) < len(l.committed[i]) {
			return false
		}
	}
	return true
}

// lags are those of transactions committed after from, in milliseconds.
func (l *ledger) lags(from time.Time) []float64 {
	var out []float64
	for i, all := range l.committed {
		for seq, at := range all {
			if at.After(from) {
				out = append(out, float64(l.seen[i][seq].Sub(at).Microseconds())/1000)
			}
		}
	}
	return out
}
