// Package migrate moves tables from a mounted cluster into a keyspace, online: it copies the rows and applies the
// changes, until the caller completes or cancels.
//
// Nouns: a [Migrator] knows the topology and how to log in. A [Workflow] is a handle to one move, by the name
// "keyspace.name": what is moved, from where, and how far it is. It has a stream for each pair of source and target shard.
// A [Plan] is what Create, Complete or Cancel is going to do; a [Status] what Show sees; a [Finding] what a check
// found to be in the way.
//
//	        Create                    the last row is there
//	Creating ─────► Stopped ─► Copying ─────────────────► Running ─┬─ Complete ─► Completing ─► gone
//	                   ▲   Start  │                          │     └─ Cancel ───► Cancelling ─► gone
//	                   └── Stop ──┴──────── Error ◄──────────┘
//
// All state of a workflow is in the MySQL of its target shards, in a database of its own ([Options].SidecarDatabase),
// and leaves with the workflow. So every method works in any process; [Migrator.Run] is the blocking call that does the
// copying, in as many processes as you like. Which process runs a stream is settled by a lock in the topology, and
// made safe by a fence in the target's MySQL: when [Workflow.Stop] returns, nothing more is committed.
//
// Create, Complete and Cancel are lists of steps that do no harm when done twice. A process that is killed in the middle
// leaves a state (Creating, Completing, Cancelling) from which the next call goes on.
//
//	m, err := migrate.New(ts, mount.Static(login), migrate.Options{})
//	go m.Run(ctx)
//	wf := m.Workflow("commerce.wf")
//	_, err = wf.Create(ctx, migrate.CreateOptions{Source: "ext1.load", AllTables: true})
//	for status, err := range wf.Watch(ctx, 0) { … }
//	_, err = wf.Complete(ctx, migrate.CompleteOptions{})
package migrate
