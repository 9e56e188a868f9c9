package source

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/tablehaul/tablehaul/replication"
)

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		txn := func(n int) *replication.Transaction {
			return &replication.Transaction{
				GTID:    mustGTID(t, n),
				Changes: []replication.Change{{After: make(replication.Row, 1000)}},
			}
		}
		q := newQueue(2500) // two transactions
		put := make(chan int, 10)
		end := errors.New("the log broke")
		go func() {
			for i := range 5 {
				if err := q.put(ctx, txn(i+1)); err != nil {
					t.Error(err)
				}
				put <- i
			}
			q.close(end)
		}()
		synctest.Wait()
		if len(put) != 1 {
			t.Errorf("%d transactions were taken in, want 1", len(put))
		}
		for i := range 5 {
			x, err := q.take(ctx)
			if err != nil || x.GTID != mustGTID(t, i+1) {
				t.Fatalf("transaction %d is %v, %v", i, x, err)
			}
			synctest.Wait()
			if len(put) > i+2 {
				t.Errorf("%d transactions were taken in after %d were taken out", len(put), i+1)
			}
		}
		for range 2 {
			if _, err := q.take(ctx); !errors.Is(err, end) {
				t.Errorf("the end is %v", err)
			}
		}
	})
}

func TestQueueNews(t *testing.T) {
	q := newQueue(1000)
	for i := range 100 {
		if err := q.news(t.Context(), &replication.Transaction{End: replication.LogPos{Offset: uint64(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(q.mu.items) != 1 || q.mu.items[0].End.Offset != 99 {
		t.Errorf("%d news wait, the last of %v", len(q.mu.items), q.mu.items[0].End)
	}
}

func TestQueueEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		q := newQueue(1)
		first := &replication.Transaction{}
		if err := q.put(ctx, first); err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() { result <- q.put(ctx, &replication.Transaction{}) }()
		synctest.Wait()
		cancel(why)
		if err := <-result; !errors.Is(err, why) {
			t.Errorf("a put that was called off: %v", err)
		}
		if x, err := q.take(ctx); x != first || err != nil {
			t.Errorf("what was put before is lost: %v, %v", x, err)
		}
		if _, err := q.take(ctx); !errors.Is(err, why) {
			t.Errorf("a take that was called off: %v", err)
		}
	})
}

func mustGTID(t *testing.T, n int) replication.GTID {
	t.Helper()
	g, err := replication.NewMySQLGTID(sourceUUID, "", uint64(n))
	if err != nil {
		t.Fatal(err)
	}
	return g
}
