package replication

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// flights are the entries of a Fanout whose parts are on their way to the shards. Together they are bounded in bytes.
type flights struct {
	limit  int64
	memory *semaphore.Weighted
	mu     struct {
		sync.Mutex
		// queue holds the flights of source transactions that are not done, in their order.
		queue []*flight
	}
}

// A flight is one entry. It is over when all its parts have committed; that of a source transaction, when all
// before it are over too.
type flight struct {
	// left counts the parts that have not committed, and one for the caller of begin.
	left    int
	ordered bool
	bytes   int64
	done    func()
}

func newFlights(limit int) *flights {
	return &flights{limit: int64(limit), memory: semaphore.NewWeighted(int64(limit))}
}

// begin waits for memory and registers an entry; an ordered one is behind all ordered ones before it.
func (f *flights) begin(ctx context.Context, bytes int, ordered bool, done func()) (*flight, error) {
	fl := &flight{left: 1, ordered: ordered, bytes: min(int64(bytes), f.limit), done: done}
	if err := f.memory.Acquire(ctx, fl.bytes); err != nil {
		return nil, context.Cause(ctx)
	}
	if ordered {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.mu.queue = append(f.mu.queue, fl)
	}
	return fl, nil
}

// more registers one more part.
func (f *flights) more(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.left++
}

// landed takes note that a part has committed, or that the caller of begin has no more parts. It calls done while the lock
// is held, to keep the order.
func (f *flights) landed(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.left--; fl.left > 0 {
		return
	}
	if !fl.ordered {
		f.over(fl)
		return
	}
	for len(f.mu.queue) > 0 && f.mu.queue[0].left == 0 {
		f.over(f.mu.queue[0])
		f.mu.queue[0] = nil
		f.mu.queue = f.mu.queue[1:]
	}
}

func (f *flights) over(fl *flight) {
	f.memory.Release(fl.bytes)
	if fl.done != nil {
		fl.done()
	}
}
