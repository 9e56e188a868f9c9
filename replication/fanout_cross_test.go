package replication_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablehaul/tablehaul/replication/target"
)

// crossRun is fanRun for two to four sources whose streams write to the same one to four shards: each shard's server has the rows
// of all sources, and for each source a position and copied spans. Streams are killed one by one, or lose their shards to other owners; servers
// are killed, which ends all streams' transactions on them. After each commit the shard holds, of the rows of the committed
// stream's source, exactly what that source held at the stream's position.
func crossRun(seed uint64, _ int) (commits, steps int, err error) {
	rnd := &luck{rnd: rand.New(rand.NewPCG(seed, 4))}
	servers := make([]*modelServer, 1+rnd.IntN(4))
	for i := range servers {
		servers[i] = newModelServer()
		servers[i].shared = true
	}
	plan := newModelPlan(rnd, len(servers))
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	sources := 2 + rnd.IntN(mostWorlds-1)
	fans := make([]*modelFan, sources)
	var streams, others sync.WaitGroup
	for i := range fans {
		w := newWorldOf(rnd, i)
		fans[i] = newModelFanOn(servers, plan, w, target.SchedulerOptions{
			Workers: 1 + rnd.IntN(3), Loaders: 1 + rnd.IntN(3), MemoryBytes: 8 << 10, MergeBytes: []int{-1, 0, 2 << 10}[rnd.IntN(3)],
		}, rnd.IntN(3) == 0)
		src := &modelSource{world: w, spills: rnd.IntN(3) == 0}
		writer := make(chan struct{})
		others.Go(func() {
			defer close(writer)
			w.write(ctx, 15)
		})
		streams.Go(func() {
			_, err := fans[i].live(ctx, src, rnd.IntN(4), 0)
			if err == nil {
				err = fans[i].finish(ctx, src, writer)
			}
			if err != nil {
				cancel(fmt.Errorf("source %d of %d: %w", i, sources, err))
			}
		})
	}
	others.Go(func() {
		// After the last kill nothing keeps the streams from the end.
		for range rnd.IntN(6) {
			if fans[0].pause(ctx, 60*time.Millisecond) != nil {
				return
			}
			servers[rnd.IntN(len(servers))].kill()
		}
	})
	streams.Wait()
	err = context.Cause(ctx) // the first one's; it ended the others
	cancel(nil)
	others.Wait()
	for _, f := range fans {
		commits += f.commits()
	}
	return commits, 0, err
}

// TestFanoutCross runs the model with several sources whose rows go to the same shards.
func TestFanoutCross(t *testing.T) {
	schedules(t, 2, modelDefault/20, 40, func(t *testing.T, seed uint64, crash int, report func(commits, steps int, err error)) {
		synctest.Test(t, func(*testing.T) { report(crossRun(seed, crash)) })
	})
}
