package replication_test

import (
	"context"

	"github.com/tablehaul/tablehaul/replication"
)

// Orders go to two shards by the first byte of their key, and both shards have all countries.
func ExampleNewFanout() {
	run := func(ctx context.Context, src replication.Source, left, right replication.Target, orders, countries *replication.Table) error {
		byKey := func(r replication.Row) (int, error) {
			id, _, err := r.Next()
			if err != nil {
				return 0, err
			}
			return int(id[0]) % 2, nil
		}
		fan, err := replication.NewFanout(
			[]replication.Shard{{Name: "-80", Target: left}, {Name: "80-", Target: right}},
			map[*replication.Table]replication.Route{orders: replication.ByRow(byKey), countries: replication.EveryShard()},
			replication.FanoutOptions{},
		)
		if err != nil {
			return err
		}
		return replication.NewStream(src, fan, []*replication.Table{orders, countries}, replication.Options{}).Run(ctx)
	}
	_ = run
	// Output:
}
