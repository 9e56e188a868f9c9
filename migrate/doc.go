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
// # Shards
//
// Source and target keyspace may each have any number of shards. A row goes to the target shard that the primary vindex of the target's
// VSchema gives, a reference table to all; a row whose vindex column changes moves. The source needs no vindexes. The streams of one source shard are
// a group: one owner runs them together, and the source is read once for all of them. Each target shard has the source's state at a position of its own, and
// Complete brings them to one. Where the source's VSchema places rows as the target's does, a source shard feeds only the target shards that it
// overlaps.
//
//	source -80 ── log ──┬─► target -40     a group of three streams
//	                    ├─► target 40-a0
//	                    └─► target a0-
//	source 80- ── log ──┬─► target -40     another one
//	                    …
//
// Each of the workflow's commands concerns all shards or none: Create checks all of them before it changes one, and leaves nothing behind when one fails;
// Complete and Cancel go on where they were when a shard was away. An error of one shard stops its whole group, and the message of each
// stream says which shard it was.
//
// # Errors
//
// An error of a server, of the way to it or of the topology that can go away by itself interrupts a stream, which starts again from what is
// committed on the target, after waits that grow from 100 ms to 5 s. Nothing has to be restarted:
//
//	lost, killed or refused connections; restarts; name lookups; timeouts        again
//	a server that hangs, or a link that swallows packets (HangTimeout)            again
//	deadlocks and lock waits on the target                                        the transaction alone, at once
//	a target that is read-only, or has no space, memory or connections left       again
//	another primary in the topology, of the target or of the source               again, there
//	etcd gone, a shard without primary                                            again
//	a user, password, privilege or certificate that is refused                    Error
//	a purged or foreign binary log, a value or schema that does not fit           Error
//	a row of the target that is not as the stream has put it (OnDrift)            Error, or as told
//	the same error for RetryTime, while nothing is committed                      Error
//
// [StreamStatus].Failure has the error with its first and last time and its count, while the stream tries again as well as in state Error,
// which [Workflow.Start] leaves. A state that can't be stored, because the target is away, is not Error yet: the stream goes on trying.
//
// Each start asks the topology who the target's primary is, and a running stream moves as soon as that changes. The new
// primary has the stream's position by replication: what it has counts, and what it lacks is read from the source again, for as long as the source has
// the logs. A server must have applied what it received as a replica before it takes writes, as every failover tool sees to. [Workflow.Update]
// changes OnDDL, OnDrift, RetryTime and the choice of source servers, and running streams follow.
//
//	m, err := migrate.New(ts, mount.Static(login), migrate.Options{})
//	go m.Run(ctx)
//	wf := m.Workflow("commerce.wf")
//	_, err = wf.Create(ctx, migrate.CreateOptions{Source: "ext1.load", AllTables: true})
//	for status, err := range wf.Watch(ctx, 0) { … }
//	_, err = wf.Complete(ctx, migrate.CompleteOptions{})
package migrate
