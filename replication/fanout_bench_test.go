package replication_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
)

// instantTarget has the whole of plain, and commits at once.
type instantTarget struct{ shelf }

func (i *instantTarget) Append(_ context.Context, e *replication.Entry) error {
	e.Done()
	return nil
}

// BenchmarkFanout divides transactions of ten updates, of which each moves a row.
func BenchmarkFanout(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("shards=%d", n), func(b *testing.B) {
			var shards []replication.Shard
			for range n {
				i := &instantTarget{}
				i.cp = replication.Checkpoint{Position: upTo(1), Copied: map[string][]replication.Span{"plain": {{}}}}
				shards = append(shards, replication.Shard{Target: i})
			}
			byValue := replication.ByRow(func(r replication.Row) (int, error) { return manyShard(r, n), nil })
			fan, err := replication.NewFanout(shards, map[*replication.Table]replication.Route{plain: byValue}, replication.FanoutOptions{})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := fan.Load(b.Context()); err != nil {
				b.Fatal(err)
			}
			var changes []replication.Change
			for i := range 10 {
				changes = append(changes, replication.Change{Table: plain, Before: plainRow(i, i), After: plainRow(i, i+1)})
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := fan.Append(b.Context(), &replication.Entry{Position: upTo(1), Changes: changes}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
