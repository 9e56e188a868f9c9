// Package target writes one MySQL or MariaDB target shard: it executes the log of a source shard there, each
// entry in one transaction together with the record of it.
//
// Nouns: a [Target] is the shard's end of one stream. A [Scheduler] executes entries at once where their write
// sets allow it and commits them in order. A [Store] is the database that it writes to, a [Tx] one transaction; the
// scheduler knows nothing else of SQL.
//
//	Append -> scheduler -> Tx: statements in batches -> COMMIT with position (or the chunk's span)
//	                        \-> a connection for each transaction that runs at once
//
// # What is checked
//
// Every statement's count of found rows and of warnings is compared with what it must be: an update or delete that
// finds no row, or an insert that finds one, is a [replication.DriftError]; a value that the target would
// change is a [replication.RowError]. In both cases nothing of the entry is committed. The session's
// sql_mode lets zero dates, dates like February 31 and id 0 pass as they are, without warnings. The one
// warning that belongs to a value stored as it is, that of the empty error value of an ENUM (index 0), is counted in
// advance. When a batch of statements does not come out as it must, the transaction is rolled back and executed
// again row by row, which tells which row it is.
//
// Foreign keys are not checked (foreign_key_checks=0), whatever the source's session did: children may be copied before
// their parents, and a source that logs its cascades sends them. Only a change with [replication.Change] Cascade is
// executed with foreign_key_checks=1, by itself and in its place: the source's log does not tell what its foreign keys
// did, and those of the target do the same. Unique keys are always checked.
//
// # Recovery
//
// [Target.Load] takes the stream over: an earlier owner's commit that is on its way ends first, every later one fails
// with [replication.ErrFenced]. What the checkpoint says then is exactly what the target holds, whenever and however
// an earlier run ended.
//
//	t, err := target.Open(ctx, target.Config{Server: server, StreamID: id, Tables: tables}, target.Options{})
//	if err != nil {
//		return err
//	}
//	defer t.Close()
//	err = replication.NewStream(src, t, tables, replication.Options{}).Run(ctx)
package target
