package replication_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/target"
)

// TestFanoutMany copies and streams from several sources into 256 shards at once, each stream with the real schedulers, and measures
// what that takes. With -model.runs there are 64 sources.
func TestFanoutMany(t *testing.T) {
	const shards = 256
	sources, transactions := 2, 60
	if *modelRuns > 0 {
		sources, transactions = 64, 12
	}
	synctest.Test(t, func(t *testing.T) {
		before, memory := runtime.NumGoroutine(), heap()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errLate)
		defer cancel()
		var fans []*modelFan
		var written, ended sync.WaitGroup
		for i := range sources {
			w := newWorld(rand.New(rand.NewPCG(1, uint64(i))))
			f := newManyFan(w, shards)
			fans = append(fans, f)
			writer := make(chan struct{})
			written.Go(func() {
				w.write(ctx, transactions)
				close(writer)
			})
			ended.Go(func() {
				if err := f.finish(ctx, &modelSource{world: w}, writer); err != nil {
					t.Error(err)
				}
			})
		}
		most := mostGoroutines(ctx, &written) - before
		// Every stream is in the middle of its work.
		used := int64(heap()) - int64(memory)
		most = max(most, mostGoroutines(ctx, &ended)-before)
		commits, transactions := 0, 0
		for _, f := range fans {
			commits, transactions = commits+f.commits(), transactions+len(f.mu.log)
		}
		t.Logf("%d sources, %d shards: %d goroutines, %.1f MiB of memory, %d commits for %d transactions and all chunks",
			sources, shards, most, float64(used)/(1<<20), commits, transactions)
		// Three for each shard, with its one worker and one loader, and a handful for the stream.
		if limit := sources * (3*shards + 40); most > limit {
			t.Errorf("%d goroutines, more than %d", most, limit)
		}
		// The bound of what is on its way, and 12 KB for what is known of a shard, with its simulated database.
		if limit := int64(sources) * (16<<10 + 12<<10*shards); used > limit {
			t.Errorf("%d bytes of memory, more than %d", used, limit)
		}
	})
}

// mostGoroutines is the most that there were at any simulated millisecond until all have ended.
func mostGoroutines(ctx context.Context, all *sync.WaitGroup) (most int) {
	ended := make(chan struct{})
	go func() {
		all.Wait()
		close(ended)
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		most = max(most, runtime.NumGoroutine())
		select {
		case <-ended:
			return most
		case <-ctx.Done():
			all.Wait()
			return most
		case <-tick.C:
		}
	}
}

// newManyFan spreads the rows of two tables over the shards; plain is on all of them.
func newManyFan(w *world, shards int) *modelFan {
	byValue := replication.ByRow(func(r replication.Row) (int, error) { return manyShard(r, shards), nil })
	f := &modelFan{world: w, routes: map[*replication.Table]replication.Route{numbers: byValue, words: byValue, plain: replication.EveryShard()}}
	for i := range shards {
		m := newModelTarget(w, modelTables, target.SchedulerOptions{Workers: 1, Loaders: 1})
		m.belongs = func(t *replication.Table, r replication.Row) bool { return t == plain || manyShard(r, shards) == i }
		f.shards = append(f.shards, m)
	}
	return f
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// manyShard spreads rows over many shards, by the second column.
func manyShard(r replication.Row, n int) int {
	values, err := r.Values(nil, 4)
	if errors.Is(err, replication.ErrMalformedRow) {
		values, err = r.Values(nil, 2)
	}
	if err != nil {
		panic(err)
	}
	i, err := strconv.Atoi(string(values[1]))
	if err != nil {
		panic(err)
	}
	return i * 97 % n
}
