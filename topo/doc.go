// Package topo knows where things are: cells, keyspaces, shards with their key ranges, tablets, VSchemas, mounted
// external clusters, and locks. It knows no MySQL.
//
// The nouns:
//
//   - A [Server] is one topology, opened by its [Address]. Its methods read and write typed records.
//   - A cell is a failure domain with a topology root of its own, possibly on another server ([CellInfo]).
//   - A [Keyspace] is a logical database. It is spread over [Shard]s, each of which holds a [KeyRange].
//   - A [Tablet] is one MySQL server of a shard, named by a [TabletAlias].
//   - A [Router] tells which of a keyspace's key ranges holds a keyspace id. Ids come from package vindex.
//   - A [VSchema] says which column decides on which shard a row is; [SrvVSchema] is what vtgates read of them.
//   - A [Lock] excludes other processes while a keyspace, a shard or a workflow is being changed.
//   - A [Conn] is the small interface to what stores all this: etcd (package etcdtopo) or memory (memorytopo).
//
// The picture:
//
//	Server ── typed records ── Conn of the global root      cells/, keyspaces/, ExternalClusters/, locks
//	   │                         (etcd or memory)
//	   └── one Conn per cell, as CellInfo says              tablets/, ShardReplication, SrvKeyspace, SrvVSchema
//
// Keys, records and locks are those of Vitess, so both may work with one topology at the same time. Fields that
// this package does not know survive when a record is read, changed and written back.
//
// Implementations are passed, not registered:
//
//	openers := topo.Openers{"etcd2": etcdtopo.Open}
//	ts, err := topo.Open(ctx, openers, topo.Address{Type: "etcd2", Server: "localhost:2379", Root: "/vitess/global"})
//	if err != nil {
//		return err
//	}
//	defer ts.Close()
//	primary, err := ts.Primary(ctx, "commerce", "-80")
package topo
