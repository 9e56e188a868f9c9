// Package shardcheck looks at every row of every shard, and says whether each row of the source is on the right target shard, exactly once,
// with the same bytes. It shares no code with what it checks: it has key ranges and keyspace ids of its own, and uses nothing but
// the standard library.
//
//	source shards ── all rows, by table and key ──┐
//	                                              ├── Check ──► Report
//	target shards ── all rows, by table and key ──┘
//
// All servers must be at rest. Both sides' rows are held in memory.
//
//	report, err := shardcheck.Check(ctx, sources, targets, []shardcheck.Table{
//		{Name: "orders", Key: []string{"id"}, ID: func(r shardcheck.Row) ([]byte, error) { return shardcheck.Hash(r["customer"]) }},
//		{Name: "countries", Key: []string{"id"}, Everywhere: true},
//	})
package shardcheck
