// Package tablehaul moves tables, online, from an external cluster into a new keyspace: it copies the rows
// while the source is being written, streams the changes, lets you compare both ends, and stops when
// you complete or cancel. Nothing is written to the source, and nothing is locked there.
//
// This package holds no code; it is the map. The words are Vitess's:
//
//   - A topology (package topo) says where things are: cells, keyspaces, shards, tablets, VSchemas. It lives in
//     etcd, in the very records of a Vitess cluster, or in memory.
//   - A mount (package mount) names an external cluster: a Vitess topology, or plain MySQL servers.
//   - A workflow (package migrate) says what is to be moved: Create, Show, Stop, Start, Complete, Cancel. A
//     Migrator's Run is the blocking call that does the work.
//   - A stream (package replication) ties one source shard to a target: the engine, which other programs
//     can embed by itself, with replication/source to read a MySQL and replication/target to write one.
//   - A VDiff (package vdiff) compares both ends while the stream goes on.
//
// A row's way:
//
//	source MySQL ── chunks of rows ──┐
//	     │                           ├─► one log ─► scheduler ─► target MySQL
//	     └───── binlog events ───────┘   (window)   (in order)   (rows + position, one transaction)
//
// A program of the five steps, with a topology in memory, a source and a target server; errors left out:
//
//	mem := memorytopo.New()
//	ts, _ := topo.Open(ctx, topo.Openers{"memory": mem.Open}, topo.Address{Type: "memory", Root: "/"})
//	ts.CreateCell(ctx, topo.CellInfo{Name: "zone1", Root: "/zone1"})
//	ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"})
//	ts.CreateShard(ctx, "commerce", "0")
//	ts.InitTablet(ctx, topo.Tablet{ /* where the target's primary is */ })
//	mount.Register(ctx, ts, mount.Cluster{Name: "ext1", Type: mount.MySQL, Hosts: []string{"10.0.0.1:3306"}},
//		mount.RegisterOptions{Credentials: login})                                       // 1. mount
//	m, _ := migrate.New(ts, login, migrate.Options{})
//	go m.Run(ctx)
//	wf := m.Workflow("commerce.wf")
//	wf.Create(ctx, migrate.CreateOptions{Source: "ext1.load", AllTables: true})            // 2. create
//	status, _ := wf.Show(ctx)                                                              // 3. show
//	report, _ := vdiff.New(wf).Create(ctx, vdiff.Options{})                // 4. compare
//	wf.Complete(ctx, migrate.CompleteOptions{})                                            // 5. complete
//
// examples/quickstart is that program, whole and running.
//
// # Guarantees
//
// After every commit a target holds exactly what the source held at one position of its log, restricted to what has
// been copied. Rows and the record of them commit in one transaction, so a kill at any moment loses nothing and
// repeats nothing. No lock and no read view on the source outlives one chunk. Memory is bounded in bytes. What can't be
// mapped exactly stops the stream with an error that names it. ARCHITECTURE.md says where each of these is kept.
package tablehaul
