// Package routing makes of a target keyspace's VSchema the routes by which a replication.Fanout spreads rows over the
// keyspace's shards. It does no I/O.
//
//	VSchema ── vindex.Resolve ──► Placement ──► replication.Route
//	                              Sharded        ByRow: column values ── vindex ──► keyspace id ── topo.Router ──► shard
//	                              Reference      EveryShard
//	                              Pinned         OneShard, of its keyspace id
//	                              Unsharded      OneShard, the only one
//
// Copied rows and rows of the log have the same bytes (replication.Row), so they get the same keyspace ids. These are
// those that a vtgate computes: text is converted to UTF-8 first.
//
//	routes, err := routing.Routes(tables, vschema, ranges, vindex.Options{})
//	if err != nil {
//		return err
//	}
//	fan, err := replication.NewFanout(shards, routes, replication.FanoutOptions{})
package routing
