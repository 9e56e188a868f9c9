package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Wait blocks for d, or until ctx ends; then it returns the cause. A d of 0 or less only looks at ctx.
func Wait(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// A Backoff yields growing waits. The zero value grows from 100 ms to 10 s. It is not safe for use by
// several goroutines at once.
type Backoff struct {
	// Min is the first wait (0 is 100 ms), Max the longest (0 is 10 s).
	Min, Max time.Duration
	last     time.Duration
}

// Next is the wait before the next attempt: it doubles from Min to Max, and each time up to a quarter of
// it is cut off at random, so that those who failed together don't return together.
func (b *Backoff) Next() time.Duration {
	low, high := b.Min, b.Max
	if low <= 0 {
		low = 100 * time.Millisecond
	}
	if high <= 0 {
		high = 10 * time.Second
	}
	switch {
	case b.last == 0:
		b.last = low
	case b.last > high/2:
		b.last = high
	default:
		b.last *= 2
	}
	b.last = min(b.last, high)
	return b.last - rand.N(b.last/4+1)
}

// Reset starts again at Min; it is called after a success.
func (b *Backoff) Reset() { b.last = 0 }
