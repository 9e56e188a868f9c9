package source

import (
	"context"
	"sync"

	"github.com/tablehaul/tablehaul/replication"
)

// A queue hands transactions from the goroutine that reads the log to the one that consumes them. It holds at
// most limit bytes, but always takes one transaction.
type queue struct {
	limit int
	mu    struct {
		sync.Mutex
		items []*replication.Transaction
		bytes int
		// err ends the queue once the items before it are taken.
		err    error
		closed bool
	}
	// ready and space hold a token when the state may have changed for the better.
	ready, space chan struct{}
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, ready: make(chan struct{}, 1), space: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put appends a transaction, waiting for space. There is one caller at a time.
func (q *queue) put(ctx context.Context, t *replication.Transaction) error {
	size := t.Bytes()
	for {
		q.mu.Lock()
		if len(q.mu.items) == 0 || q.mu.bytes+size <= q.limit {
			q.mu.items = append(q.mu.items, t)
			q.mu.bytes += size
			q.mu.Unlock()
			signal(q.ready)
			return nil
		}
		q.mu.Unlock()
		select {
		case <-q.space:
		case <-ctx.Done():
			if t.Spill != nil {
				_ = t.Spill.Close() // nobody takes it
			}
			return context.Cause(ctx)
		}
	}
}

// news puts a transaction that only tells how far the reader is, unless one like it waits at the end already.
func (q *queue) news(ctx context.Context, t *replication.Transaction) error {
	q.mu.Lock()
	if n := len(q.mu.items); n > 0 && q.mu.items[n-1].GTID.IsZero() {
		q.mu.items[n-1] = t
		q.mu.Unlock()
		return nil
	}
	q.mu.Unlock()
	return q.put(ctx, t)
}

// close ends the queue with an error, which comes after everything put before.
func (q *queue) close(err error) {
	q.mu.Lock()
	q.mu.closed, q.mu.err = true, err
	q.mu.Unlock()
	signal(q.ready)
}

// discard frees what nobody takes any more; the queue is closed.
func (q *queue) discard() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range q.mu.items {
		if t.Spill != nil {
			_ = t.Spill.Close() // nobody wants what is in it
		}
	}
	q.mu.items, q.mu.bytes = nil, 0
}

// take returns the next transaction, waiting for one.
func (q *queue) take(ctx context.Context) (*replication.Transaction, error) {
	for {
		q.mu.Lock()
		if len(q.mu.items) > 0 {
			t := q.mu.items[0]
			q.mu.items[0] = nil
			q.mu.items = q.mu.items[1:]
			q.mu.bytes -= t.Bytes()
			q.mu.Unlock()
			signal(q.space)
			return t, nil
		}
		closed, err := q.mu.closed, q.mu.err
		q.mu.Unlock()
		if closed {
			return nil, err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
