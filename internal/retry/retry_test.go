package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablehaul/tablehaul/internal/retry"
)

func TestBackoffGrowsToMax(t *testing.T) {
	b := retry.Backoff{Min: time.Second, Max: 10 * time.Second}
	full := []time.Duration{1, 2, 4, 8, 10, 10}
	for i, want := range full {
		want *= time.Second
		if got := b.Next(); got > want || got < want*3/4 {
			t.Errorf("wait %d is %v, want within a quarter below %v", i, got, want)
		}
	}
	b.Reset()
	if got := b.Next(); got > time.Second {
		t.Errorf("after Reset the wait is %v", got)
	}
}

func TestBackoffZeroValueAndOddBounds(t *testing.T) {
	var b retry.Backoff
	if got := b.Next(); got < 75*time.Millisecond || got > 100*time.Millisecond {
		t.Errorf("first wait of the zero value is %v", got)
	}
	odd := retry.Backoff{Min: time.Minute, Max: time.Second}
	if got := odd.Next(); got > time.Second {
		t.Errorf("a Min above Max waits %v", got)
	}
	tiny := retry.Backoff{Min: 1, Max: 2}
	for range 10 {
		if got := tiny.Next(); got < 0 || got > 2 {
			t.Errorf("tiny wait %v", got)
		}
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := retry.Wait(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != time.Hour {
			t.Errorf("waited %v", got)
		}
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		go cancel(why)
		if err := retry.Wait(ctx, time.Hour); !errors.Is(err, why) {
			t.Errorf("error is %v, want the cause", err)
		}
		if err := retry.Wait(ctx, 0); !errors.Is(err, why) {
			t.Errorf("no wait on an ended context gives %v", err)
		}
	})
}

func ExampleWait() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	fmt.Println(retry.Wait(ctx, time.Hour))
	// Output: context deadline exceeded
}
