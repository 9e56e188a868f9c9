package replication_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/target"
)

var (
	modelSeed  = flag.Uint64("model.seed", 0, "run the model with this seed only")
	modelCrash = flag.Int("model.crash", 0, "with a seed: kill the first stream at this step")
	modelRuns  = flag.Int("model.runs", 0, "how many schedules of the model to run; 0 is the default of each test")
)

// modelReaders is how many chunks one stream of the model reads at once.
const modelReaders = 3

// modelRun runs one random schedule: a writer, a stream that is killed and started again a few times, or loses its
// database to another owner, and at the end a stream that must bring the target level with the source. The
// error is the first breach of an invariant. If crash is set, the first stream is killed at that step; steps is how many
// there were until its end.
func modelRun(seed uint64, crash int) (commits, steps int, err error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(rnd)
	w.flavor = flavorOf(seed)
	src := &modelSource{world: w, spills: rnd.IntN(4) == 0}
	dst := newModelTarget(w, modelTables, target.SchedulerOptions{
		Workers: 1 + rnd.IntN(4), Loaders: 1 + rnd.IntN(3), MemoryBytes: []int{8 << 10, 0}[rnd.IntN(2)], MergeBytes: []int{-1, 0, 2 << 10}[rnd.IntN(3)],
	})
	ctx, cancel := context.WithCancel(context.Background())
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		w.write(ctx, 25)
	}()
	defer func() { cancel(); <-writer }()
	lives := w.dice(3)
	if crash > 0 {
		lives = 1
	}
	for range lives {
		life, kill := context.WithTimeout(ctx, time.Duration(1+w.dice(100))*time.Millisecond)
		if crash > 0 {
			kill()
			life, kill = context.WithTimeout(ctx, time.Second)
			w.crashAt(crash, kill)
		}
		var err error
		if crash == 0 && w.dice(3) == 0 {
			err = runRivals(life, w, src, dst)
		} else {
			err = runStream(life, src, dst)
		}
		kill()
		if err := dst.breach(); err != nil {
			return dst.db.commits, 0, err
		}
		if life.Err() == nil && !replication.Transient(err) {
			return dst.db.commits, 0, err
		}
	}
	w.mu.Lock()
	steps = crash - w.mu.steps
	w.mu.Unlock()
	w.crashAt(0, nil)
	return dst.db.commits, steps, finishRun(ctx, w, src, dst, writer)
}

// runRivals runs the stream, and after a while another owner's, which takes it over: the first one commits nothing more
// and ends, unless it had nothing to commit.
func runRivals(ctx context.Context, w *world, src replication.Source, dst *modelTarget) error {
	first, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	old := dst.rival()
	go func() { ended <- runStream(first, src, old) }()
	_ = w.pause(ctx, 30*time.Millisecond)
	err := runStream(ctx, src, dst)
	stop()
	if first := <-ended; first != nil && !errors.Is(first, replication.ErrFenced) && !errors.Is(first, context.Canceled) &&
		!errors.Is(first, context.DeadlineExceeded) && !replication.Transient(first) {
		return fmt.Errorf("a deposed owner: %w", first)
	}
	return err
}

func runStream(ctx context.Context, src replication.Source, dst *modelTarget) error {
	return replication.NewStream(src, dst, dst.tables, replication.Options{
		Readers: modelReaders, ReportInterval: 5 * time.Millisecond,
		// Windows are small, so that some chunks have to be read again.
		WindowBytes: 400, ChunkRows: 1 + dst.dice(6),
		Trace: replication.Trace{ChunkRetried: func(context.Context, replication.ChunkInfo, error) { chunksRetried.Add(1) }},
	}).Run(ctx)
}

// chunksRetried counts the chunks of all runs that were given up.
var chunksRetried atomic.Int64

var errLate = errors.New("not level with the source after a minute")

// finishRun runs the stream until the writer is done and the target level with the source.
func finishRun(ctx context.Context, w *world, src replication.Source, dst *modelTarget, writer <-chan struct{}) error {
	errDone := errors.New("level with the source")
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errLate)
	defer cancel()
	for {
		life, stop := context.WithCancelCause(ctx)
		go func() {
			defer stop(errDone)
			select {
			case <-writer:
			case <-life.Done():
			}
			for !dst.level() && w.pause(life, 5*time.Millisecond) == nil {
			}
		}()
		err := runStream(life, src, dst)
		stop(nil)
		if err := dst.breach(); err != nil {
			return err
		}
		if errors.Is(err, errDone) {
			if d := dst.difference(); d != "" {
				return fmt.Errorf("at the end: %s", d)
			}
			return nil
		}
		if !replication.Transient(err) {
			return err
		}
	}
}

// level tells whether the target has every transaction and every table.
func (m *modelTarget) level() bool {
	m.db.Lock()
	defer m.db.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.db.position == len(m.mu.log) && len(m.db.finished) == len(m.tables)
}

func (m *modelTarget) breach() error {
	m.db.Lock()
	defer m.db.Unlock()
	return m.db.violation
}

func TestModel(t *testing.T) {
	t.Cleanup(func() {
		if *modelSeed == 0 && chunksRetried.Load() == 0 {
			t.Error("no chunk was ever read again")
		}
	})
	schedules(t, 4, modelDefault, 10, modelBubble)
}

// schedules runs bubble with the seed that was asked for, or with random ones in several lanes, as many as were asked for or
// standard; each must make at least commits commits on average.
func schedules(t *testing.T, lanes, standard, commits int, bubble func(t *testing.T, seed uint64, crash int, report func(commits, steps int, err error))) {
	if *modelSeed != 0 {
		bubble(t, *modelSeed, *modelCrash, func(_, _ int, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		return
	}
	name, runs := t.Name(), *modelRuns
	if runs == 0 {
		runs = standard
	}
	for range lanes {
		t.Run("schedules", func(t *testing.T) {
			t.Parallel()
			made := 0
			for i := range runs / lanes {
				seed := rand.Uint64()
				bubble(t, seed, 0, func(n, _ int, err error) {
					made += n
					if err != nil {
						t.Errorf("run %d: %v\nrun it again: go test ./replication -run '%s$' -model.seed %d", i, err, name, seed)
					}
				})
				if t.Failed() {
					return
				}
			}
			if made < commits*runs/lanes {
				t.Errorf("only %d commits in %d runs: the model does not do its work", made, runs/lanes)
			}
		})
	}
}

func modelBubble(t *testing.T, seed uint64, crash int, report func(commits, steps int, err error)) {
	synctest.Test(t, func(*testing.T) { report(modelRun(seed, crash)) })
}

// TestModelCrashes kills the stream of a few schedules at each of its steps: wherever anything is waited for.
func TestModelCrashes(t *testing.T) {
	for range max(1, *modelRuns/2000) {
		t.Run("schedule", func(t *testing.T) {
			t.Parallel()
			crashes(t, rand.Uint64(), modelDefault/4, modelBubble)
		})
	}
}

// crashes runs one schedule with a crash at each of its steps, or by default at about standard of them.
func crashes(t *testing.T, seed uint64, standard int, bubble func(t *testing.T, seed uint64, crash int, report func(commits, steps int, err error))) {
	name, _, _ := strings.Cut(t.Name(), "Crashes")
	steps := 0
	bubble(t, seed, 1<<30, func(_, n int, err error) {
		steps = n
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	})
	if steps == 0 && !t.Failed() {
		t.Fatalf("seed %d: no steps", seed)
	}
	stride := 1
	if *modelRuns == 0 {
		stride = max(1, steps/standard)
	}
	for crash := 1; crash <= steps && !t.Failed(); crash += stride {
		bubble(t, seed, crash, func(_, _ int, err error) {
			if err != nil {
				t.Errorf("a crash at step %d of %d: %v\nrun it again: go test ./replication -run '%s$' -model.seed %d -model.crash %d", crash, steps, err, name, seed, crash)
			}
		})
	}
}
