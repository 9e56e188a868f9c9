package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
)

// hauler is tablehaul's account in part e, so that the source can tell its statements from the load's.
const hauler = "hauler"

// shm is where Linux has a file system in memory.
const shm = "/dev/shm"

// The phases of a round, in order.
const (
	before    = "load alone, before"
	copying   = "with the copy"
	streaming = "with the stream alone"
	after     = "load alone, after"
	// occupied says what is not the copy's doing on the source, but that of any work on the same machine.
	occupied = "load alone, a core busy"
)

// sourcePart measures what a copy costs the source and its users.
func sourcePart(ctx context.Context, o options, p *part) error {
	p.Title = fmt.Sprintf("cost on the source of a copy of %d rows under a load of %d oltp_write_only transactions/s on the same tables", o.rows, o.loadRate)
	p.columns = []column{
		{"s", "wall", 1},
		{"tx/s", "rate", 0},
		{"p50 ms", "p50", 2},
		{"p99 ms", "p99", 2},
		{"max ms", "max", 1},
		{"src cores", "source cores", 2},
		{"dst cores", "target cores", 2},
		{"stmts", "statements", 0},
		{"trx max ms", "longest transaction", 1},
		{"view s", "oldest view", 0},
		{"locks", "locks", 0},
		{"history", "history", 0},
	}
	// As it is, InnoDB's page cleaner holds a few transactions up for 10 to 30 ms once a second, and they are the slowest 1 % of 200 a second.
	lo := labOptions{user: hauler, sourceArgs: []string{"--performance-schema=ON", "--innodb-max-dirty-pages-pct-lwm=0", "--innodb-adaptive-flushing-lwm=70"}}
	files := "both servers' files are on one disk: latencies include the fight for it"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		lo.memory, files = shm, "the target's files are in memory, so that the servers don't fight for one disk"
	}
	l, err := newLab(ctx, o, lo)
	if err != nil {
		return err
	}
	defer l.close()
	if p.Settings, err = l.settings(ctx); err != nil {
		return err
	}
	p.Settings = append(p.Settings, "the source has "+strings.Join(lo.sourceArgs, " ")+" besides; without the last two p99 is that of its page cleaner", files)
	if err := fill(ctx, l.src, o.rows, false); err != nil {
		return err
	}
	pinned, err := l.pin(ctx)
	if err != nil {
		return err
	}
	p.Settings = append(p.Settings, pinned)
	e := &sourceCost{lab: l, phases: map[string][]figures{}}
	if e.db, err = l.src.Open(""); err != nil {
		return err
	}
	defer e.db.Close()
	for i := range o.rounds {
		progress("round %d of %d", i+1, o.rounds)
		if err := e.round(ctx); err != nil {
			return err
		}
	}
	for _, name := range []string{before, copying, streaming, after, occupied} {
		p.add(name, e.phases[name])
	}
	b, c, a, busy := p.Lines[0].Median, p.Lines[1].Median, p.Lines[3].Median, p.Lines[4].Median
	alone := (b["p99"] + a["p99"]) / 2
	p.note("p99 with the copy is %.2f of the mean of before and after, and %.2f of that with a core busy; after is %.2f of before", c["p99"]/alone, c["p99"]/busy["p99"], a["p99"]/b["p99"])
	p.note("a core busy: by a process that only writes memory, on the core that the copy has otherwise if they are pinned; what that costs the load is not done by reading the source")
	p.note("latency: from when a transaction was due until it was committed, waits for a free connection included")
	p.note("of tablehaul's account on the source: stmts are its statements; trx max is its longest transaction, and so its oldest read view, by performance_schema's"+
		" own count of every transaction; view is the greatest age in whole seconds that samples of innodb_trx saw, locks the most of data_locks in a sample, every %v in all phases", sampleEvery)
	p.note("history: the longest history list of InnoDB (undo that is kept for old read views, anybody's)")
	return nil
}

// pin gives the source and its load one core and the rest the other. With both on two cores one would
// measure which of them the scheduler favours.
func (l *lab) pin(ctx context.Context) (string, error) {
	if _, err := exec.LookPath("taskset"); err != nil || runtime.NumCPU() < 2 {
		return "not pinned to cores (it takes taskset and two of them): latencies include the fight for CPU", nil
	}
	for pid, cpu := range map[int]string{l.src.PID(): "0", l.dst.PID(): "1", l.etcd.PID(): "1", os.Getpid(): "1"} {
		out, err := exec.CommandContext(ctx, "taskset", "-a", "-c", "-p", cpu, strconv.Itoa(pid)).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("taskset: %w: %s", err, lastLine(string(out)))
		}
	}
	l.cpu, l.loadCPU = "1", "0"
	return "core 0: the source and its load; core 1: the target, tablehaul, etcd and the benchmark itself", nil
}

// sourceCost collects the figures of phases.
type sourceCost struct {
	*lab
	db     *sql.DB
	phases map[string][]figures
	spans  []span
}

// A span is one phase of a round, by the clock.
type span struct {
	name         string
	began, ended time.Time
	figures      figures
}

// round runs the load through all phases.
func (e *sourceCost) round(ctx context.Context) error {
	load, err := startChild(ctx, role{Load: &loadRole{Addr: e.src.Addr(), Rows: e.opts.rows / len(tables), Rate: e.opts.loadRate}}, e.loadCPU)
	if err != nil {
		return err
	}
	e.spans = nil
	if _, err = load.await(ctx, "ready"); err == nil {
		err = errors.Join(pause(ctx, 2*time.Second), e.allPhases(ctx))
	}
	told, stopped := load.finish()
	if err := errors.Join(err, stopped); err != nil {
		return err
	}
	latencies := map[string][]float64{}
	for _, text := range told {
		var due, took int64
		if _, err := fmt.Sscanf(text, latency, &due, &took); err != nil {
			return fmt.Errorf("load: %q: %w", text, err)
		}
		for _, s := range e.spans {
			if at := time.UnixMicro(due); at.After(s.began) && at.Before(s.ended) {
				latencies[s.name] = append(latencies[s.name], float64(took)/1000)
			}
		}
	}
	for _, s := range e.spans {
		all := latencies[s.name]
		s.figures["rate"] = float64(len(all)) / s.ended.Sub(s.began).Seconds()
		s.figures["p50"], s.figures["p99"], s.figures["max"] = percentile(all, 50), percentile(all, 99), percentile(all, 100)
		e.phases[s.name] = append(e.phases[s.name], s.figures)
	}
	return nil
}

func (e *sourceCost) allPhases(ctx context.Context) error {
	quiet := func(ctx context.Context) error { return pause(ctx, e.opts.quiet) }
	if err := e.phase(ctx, before, quiet); err != nil {
		return err
	}
	var w *worker
	err := e.phase(ctx, copying, func(ctx context.Context) (err error) {
		if w, err = e.worker(ctx, fmt.Sprintf("source-%d", len(e.phases[copying])+1), true); err == nil {
			_, err = w.await(ctx, string(migrate.StateRunning))
		}
		return err
	})
	if w == nil {
		return err
	}
	if err == nil {
		err = e.phase(ctx, streaming, quiet)
	}
	if err := errors.Join(err, w.stop()); err != nil {
		return err
	}
	if _, err := e.m.Workflow(workflow).Cancel(ctx, migrate.CancelOptions{}); err != nil {
		return err
	}
	if err := e.phase(ctx, after, quiet); err != nil {
		return err
	}
	b, err := startChild(ctx, role{Busy: true}, e.cpu)
	if err != nil {
		return err
	}
	return errors.Join(e.phase(ctx, occupied, quiet), b.stop())
}

// phase measures the source while f runs.
func (e *sourceCost) phase(ctx context.Context, name string, f func(context.Context) error) error {
	for _, t := range []string{"events_statements_summary_by_user_by_event_name", "events_transactions_summary_by_user_by_event_name"} {
		if _, err := e.db.ExecContext(ctx, "TRUNCATE performance_schema."+t); err != nil {
			return err
		}
	}
	m, err := newMeter(e.pids())
	if err != nil {
		return err
	}
	s := span{name: name, began: m.began}
	sampling, stop := context.WithCancel(ctx)
	defer stop()
	sampled := make(chan error, 1)
	most := figures{}
	go func() {
		sampled <- poll(sampling, sampleEvery, func() (bool, error) { return false, e.sample(sampling, most) })
	}()
	defer e.schedule(ctx, fmt.Sprintf("source-%d %s", len(e.phases[name])+1, name))()
	err = f(ctx)
	s.ended = time.Now()
	stop()
	if serr := <-sampled; !errors.Is(serr, context.Canceled) {
		err = errors.Join(err, serr)
	}
	if err != nil {
		return err
	}
	if s.figures, err = m.stop(); err != nil {
		return err
	}
	for name, v := range most {
		s.figures[name] = v
	}
	for _, side := range []string{"source", "target"} {
		s.figures[side+" cores"] = s.figures["cpu "+side] / s.figures["wall"]
	}
	s.figures["statements"], s.figures["longest transaction"], err = e.summary(ctx)
	e.spans = append(e.spans, s)
	return err
}

// sampleEvery is how often the source is sampled. innodb_trx shows a copy that is made anew only when nobody
// has looked at the last one for 100 ms, so looking more often shows transactions that ended long ago.
const sampleEvery = 200 * time.Millisecond

// sample looks at the source once and keeps the greatest numbers.
func (e *sourceCost) sample(ctx context.Context, most figures) error {
	for name, query := range map[string]string{
		"oldest view": `SELECT COALESCE(MAX(TIMESTAMPDIFF(SECOND, x.trx_started, NOW())), 0) FROM information_schema.innodb_trx x
			JOIN performance_schema.threads t ON t.PROCESSLIST_ID = x.trx_mysql_thread_id WHERE t.PROCESSLIST_USER = '` + hauler + `'`,
		"locks":   "SELECT COUNT(*) FROM performance_schema.data_locks JOIN performance_schema.threads t USING (THREAD_ID) WHERE t.PROCESSLIST_USER = '" + hauler + "'",
		"history": "SELECT COUNT FROM information_schema.innodb_metrics WHERE NAME = 'trx_rseg_history_len'",
	} {
		var v float64
		if err := e.db.QueryRowContext(ctx, query).Scan(&v); err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		most[name] = max(most[name], v)
	}
	return nil
}

// summary is what the account has done since the summaries were emptied: its statements, and its longest transaction in milliseconds.
func (e *sourceCost) summary(ctx context.Context) (statements, longest float64, err error) {
	err = e.db.QueryRowContext(ctx, "SELECT COALESCE(SUM(COUNT_STAR), 0) FROM performance_schema.events_statements_summary_by_user_by_event_name WHERE USER = ? AND EVENT_NAME LIKE 'statement/sql/%'",
		hauler).Scan(&statements)
	if err != nil {
		return 0, 0, err
	}
	err = e.db.QueryRowContext(ctx, "SELECT COALESCE(MAX(MAX_TIMER_WAIT), 0) / 1e9 FROM performance_schema.events_transactions_summary_by_user_by_event_name WHERE USER = ?",
		hauler).Scan(&longest)
	return statements, longest, err
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
