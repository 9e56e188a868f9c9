package test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/migrate"
)

var (
	shardedRows  = flag.Int("sharded.rows", 4000, "TestSharded: how many orders each of its keyspaces has; half as many names and events")
	shardedKills = flag.Int("sharded.kills", 4, "TestSharded: how many times it kills the worker or a target server during the copy, and half as often after it")
	shardedSeed  = flag.Uint64("sharded.seed", 0, "TestSharded: seed of what is written; 0 draws one")
)

// writeEvery is how often a writer of one source shard commits a transaction.
const writeEvery = 40 * time.Millisecond

var fourShards = []string{"-40", "40-80", "80-c0", "c0-"}

// TestSharded takes three keyspaces to other numbers of shards at once, 1 to 4, 4 to 2 and 2 to 3, under load, while the worker and one
// of the target servers are killed again and again. At the end an independent program looks at every row. Then a workflow is
// cancelled in the middle, and a Complete is killed in the middle and goes on.
func TestSharded(t *testing.T) {
	t.Parallel()
	l := newReshardLab(t)
	w := l.worker(t)
	l.underFire(t, w)
	l.cancelled(t)
	l.completeKilled(t)
}

func (l *reshardLab) underFire(t *testing.T, w *reshardWorker) {
	t.Helper()
	seed := *shardedSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-sharded.seed %d", seed)
	all := []*reshard{
		l.newReshard(t, "split", []string{"0"}, fourShards, *shardedRows),
		l.newReshard(t, "merge", fourShards, []string{"-80", "80-"}, *shardedRows),
		l.newReshard(t, "cross", []string{"-80", "80-"}, []string{"-55", "55-aa", "aa-"}, *shardedRows),
	}
	var stops []func()
	for _, r := range all {
		stops = append(stops, r.write(t, seed, *shardedRows, writeEvery))
		r.create(t)
	}
	l.killWhileCopying(t, w, all)
	for _, r := range all {
		r.await(t, "everything is copied", running)
	}
	for i := range *shardedKills / 2 {
		l.blow(t, w, i)
		for _, r := range all {
			r.await(t, "the streams go on", running)
		}
	}
	for _, stop := range stops {
		stop()
	}
	for _, r := range all {
		r.check(t)
	}
	for _, r := range all {
		if _, err := r.wf.Complete(t.Context(), migrate.CompleteOptions{}); err != nil {
			t.Errorf("%s: %v", r.keyspace, err)
		}
		r.compare(t)
	}
	l.nothingLeft(t)
}

// killWhileCopying strikes whenever another part of the rows has been copied.
func (l *reshardLab) killWhileCopying(t *testing.T, w *reshardWorker, all []*reshard) {
	t.Helper()
	total := len(all) * *shardedRows * 2 // orders, and half as many names and events
	for i, have := 0, 0; i < *shardedKills; i++ {
		want := have + (total-have)/(*shardedKills-i+2)
		if have = l.awaitRows(t, want, all...); have > total*9/10 {
			if i < *shardedKills/2 {
				t.Fatalf("%d of %d rows are copied before blow %d: the test needs more rows", have, total, i+1)
			}
			return
		}
		t.Logf("blow %d after %d of %d rows", i+1, have, total)
		l.blow(t, w, i)
	}
}

// awaitRows waits until that many rows of the larger tables are on the target shards, and returns how many there are.
func (l *reshardLab) awaitRows(t *testing.T, want int, all ...*reshard) (have int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	queries := [2]string{"SELECT 0", "SELECT 0"}
	for _, r := range all {
		for i, s := range r.targets {
			for _, table := range []string{"orders", "names", "events"} {
				queries[i%2] += " + (SELECT COUNT(*) FROM " + s.Database + "." + table + ")"
			}
		}
	}
	asked := 0
	err := until(ctx, func() (bool, error) {
		have = 0
		for i, s := range l.dst {
			rows, err := s.Query(ctx, queries[i])
			if err != nil {
				return false, err
			}
			n, err := strconv.Atoi(rows[0][0])
			if err != nil {
				return false, err
			}
			have += n
		}
		if asked++; asked%40 == 0 {
			for _, r := range all {
				r.status(t) // fails in state Error
			}
		}
		return have >= want, retry.Wait(ctx, 40*time.Millisecond)
	})
	if err != nil {
		t.Fatalf("%d rows, want %d: %v", have, want, err)
	}
	return have
}

// blow kills the worker, or one of the target servers, or both.
func (l *reshardLab) blow(t *testing.T, w *reshardWorker, i int) {
	t.Helper()
	server := l.dst[1-i/4%2]
	switch i % 4 {
	case 0, 2:
		w.kill()
	case 1:
		server.Kill9()
		server.MustRestart(t)
		return
	case 3:
		server.Kill9()
		w.kill()
		server.MustRestart(t)
	}
	w.start()
}

// cancelled cancels 1 to 4 in the middle of the copy.
func (l *reshardLab) cancelled(t *testing.T) {
	t.Helper()
	r := l.newReshard(t, "given", []string{"0"}, fourShards, *shardedRows)
	stop := r.write(t, 1, *shardedRows, writeEvery)
	r.create(t)
	l.awaitRows(t, *shardedRows/10, r)
	if st := r.status(t); st == nil || st.State != migrate.StateCopying {
		t.Errorf("it is not copying any more: %+v", st)
	}
	if _, err := r.wf.Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
		t.Fatal(err)
	}
	stop()
	l.nothingLeft(t)
	for _, s := range slices.Concat(l.dst[:]) {
		if left := s.MustQuery(t, "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema LIKE 'given%'"); len(left) > 0 {
			t.Errorf("tables are still there after Cancel: %v", left)
		}
	}
	if _, err := r.wf.Show(t.Context()); !errors.Is(err, migrate.ErrNotFound) {
		t.Errorf("Show after Cancel: %v", err)
	}
}

// completeKilled takes a keyspace whose rows are placed by the same vindexes on both sides from 2 to 4 shards, so that
// the target shards' rows come from one source shard each. It kills a process in the middle of Complete, calls Complete while one server is down, has that
// server die in the middle of another Complete, and lets the last one go on.
func (l *reshardLab) completeKilled(t *testing.T) {
	t.Helper()
	r := l.newReshard(t, "ended", []string{"-80", "80-"}, fourShards, 300)
	r.align(t)
	have, before := r.sourceRows(t), l.rowsRead(t)
	r.create(t)
	r.await(t, "everything is copied", running)
	for _, s := range r.status(t).Streams {
		// The first source shard's go everywhere, with the countries.
		if s.SourceShard == "80-" && (s.TargetShard == "-40" || s.TargetShard == "40-80") {
			t.Errorf("there is a stream from %s to %s", s.SourceShard, s.TargetShard)
		}
	}
	// Countries are on both source shards, and are read from one.
	if read := l.rowsRead(t) - before; read < have-100 || read > have+have/5 {
		t.Errorf("the source has %d rows and %d were read for four target shards", have, read)
	}
	r.changeAligned(t)
	r.check(t)
	cmd := startWorker(t, workerConfig{Topology: l.etcd.Addr(), User: "root", Complete: r.wf.Name(), DieAt: migrate.StepPublish})
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the process that completes was to be killed: %v", err)
	}
	// The odd shards are on the second server.
	down := func(err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "40-80") && !strings.Contains(err.Error(), "c0-") {
			t.Fatalf("Complete with the server of shards 40-80 and c0- down: %v", err)
		}
		t.Logf("one server is down: %v", err)
	}
	l.dst[1].Kill9()
	_, err := r.wf.Complete(t.Context(), migrate.CompleteOptions{})
	down(err)
	l.dst[1].MustRestart(t)
	m, err := migrate.New(l.ts, login, migrate.Options{Trace: migrate.Trace{StepStarting: func(_ context.Context, _ string, s migrate.Step) {
		if s.Kind == migrate.StepForget && l.dst[1].Running() {
			l.dst[1].Kill9()
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = m.Workflow(r.wf.Name()).Complete(t.Context(), migrate.CompleteOptions{})
	down(err)
	l.dst[1].MustRestart(t)
	if _, err := r.wf.Complete(t.Context(), migrate.CompleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.compare(t)
	l.nothingLeft(t)
}

// sourceRows is how many rows the source shards have.
func (r *reshard) sourceRows(t *testing.T) (rows int) {
	t.Helper()
	for _, s := range r.sources {
		for _, table := range reshardCheck {
			n := 0
			if err := s.DB.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+s.Database+"."+table.Name).Scan(&n); err != nil {
				t.Fatal(err)
			}
			rows += n
		}
	}
	return rows
}

// rowsRead is how many rows both source servers have read from tables that are not their own.
func (l *reshardLab) rowsRead(t *testing.T) (rows int) {
	t.Helper()
	for _, s := range l.src {
		n, err := strconv.Atoi(s.MustQuery(t, "SHOW GLOBAL STATUS LIKE 'Innodb_rows_read'")[0][1])
		if err != nil {
			t.Fatal(err)
		}
		rows += n
	}
	return rows
}
