package replication_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

var (
	modelSeed = flag.Uint64("model.seed", 0, "run the model with this seed only")
	modelRuns = flag.Int("model.runs", 0, "how many schedules of the model to run; 0 is the default of each test")
)

// mutation changes the system under test in one way that breaks it.
type mutation struct {
	name   string
	source func(*modelSource)
	target func(*modelTarget)
	tables []*replication.Table
}

// modelRun runs one random schedule: a writer, a stream that is killed and started again a few times, and at the end a
// stream that must bring the target level with the source. The error is the first breach of an invariant.
func modelRun(seed uint64, mu mutation) (commits int, err error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(rnd)
	tables := mu.tables
	if tables == nil {
		tables = modelTables
	}
	src := &modelSource{world: w}
	dst := newModelTarget(w, tables, 1+rnd.IntN(3))
	if mu.source != nil {
		mu.source(src)
	}
	if mu.target != nil {
		mu.target(dst)
	}
	ctx, cancel := context.WithCancel(context.Background())
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		w.write(ctx, 25)
	}()
	defer func() { cancel(); <-writer }()
	for range w.dice(3) {
		life, kill := context.WithTimeout(ctx, time.Duration(1+w.dice(100))*time.Millisecond)
		err := runStream(life, src, dst)
		kill()
		if err := dst.breach(); err != nil {
			return dst.db.commits, err
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !replication.Transient(err) {
			return dst.db.commits, err
		}
	}
	return dst.db.commits, finishRun(ctx, w, src, dst, writer)
}

func runStream(ctx context.Context, src replication.Source, dst *modelTarget) error {
	return replication.NewStream(src, dst, dst.tables, replication.Options{
		Readers: 3, ReportInterval: 5 * time.Millisecond,
		// Windows are small, so that some chunks have to be read again.
		WindowBytes: 400,
		Trace:       replication.Trace{ChunkRetried: func(context.Context, replication.ChunkInfo, error) { chunksRetried.Add(1) }},
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
	if *modelSeed != 0 {
		modelBubble(t, *modelSeed, mutation{}, func(_ int, err error) {
			if err != nil {
				t.Fatal(err)
			}
		})
		return
	}
	const lanes = 4
	runs := *modelRuns
	if runs == 0 {
		runs = modelDefault
	}
	for range lanes {
		t.Run("schedules", func(t *testing.T) {
			t.Parallel()
			commits := 0
			for i := range runs / lanes {
				seed := rand.Uint64()
				modelBubble(t, seed, mutation{}, func(n int, err error) {
					commits += n
					if err != nil {
						t.Errorf("run %d: %v\nrun it again: go test ./replication -run 'TestModel$' -model.seed %d", i, err, seed)
					}
				})
				if t.Failed() {
					return
				}
			}
			if commits < 10*runs/lanes {
				t.Errorf("only %d commits in %d runs: the model does not do its work", commits, runs/lanes)
			}
		})
	}
}

func modelBubble(t *testing.T, seed uint64, mu mutation, report func(int, error)) {
	synctest.Test(t, func(*testing.T) { report(modelRun(seed, mu)) })
}

// TestModelCatches breaks the algorithm in the ways that it must not be broken, and wants each one noticed.
func TestModelCatches(t *testing.T) {
	for _, mu := range []mutation{
		{name: "no wait for visibility", source: func(s *modelSource) { s.skipWait = true }},
		{name: "end of the log before the read", source: func(s *modelSource) { s.earlyEnd = true }},
		{name: "position outside of the transaction", target: func(m *modelTarget) { m.splitPosition = true }},
		{name: "no position before a chunk", target: func(m *modelTarget) { m.lazyPosition = true }},
		{name: "a chunk before its place", target: func(m *modelTarget) { m.earlyChunk = true }},
	} {
		t.Run(mu.name, func(t *testing.T) {
			caught := false
			for seed := uint64(1); seed < 500 && !caught; seed++ {
				modelBubble(t, seed, mu, func(_ int, err error) {
					if err != nil && !errors.Is(err, errLate) {
						t.Logf("seed %d: %v", seed, err)
						caught = true
					}
				})
			}
			if !caught {
				t.Fatal("500 schedules, and nobody noticed")
			}
		})
	}
}
