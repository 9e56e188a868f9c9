// Package replication moves rows and changes from a source to a target: the vocabulary, and the loop that ties
// the two together. It knows no workflow and no SQL server; replication/source and replication/target do the talking to MySQL.
//
//	             ┌─────────────── Stream.Run ───────────────┐
//	Source ──────┤ transactions ─► sequencer ─► one log ────┼─► Target
//	             │                     ▲                    │   (entries at once,
//	             └─ chunks ─► window ──┘                    │    commits in order)
//
// The nouns: a Table is what the engine must know of one; a Row is its packed values; a Change is one row's
// before and after; a Transaction is what the source committed at once; a Chunk is a Span of a table's rows as they were
// at one point of the log; an Entry is either of these on its way to the target; a Position says which of the source's
// transactions have been seen.
//
// # How it is exact
//
// Copying is not a phase. The log of changes is read from the start, and each chunk of rows is put into it at the
// point where it is true. A chunk's rows are read by plain SELECTs, without lock or snapshot; the changes that happened
// meanwhile are known from the log, and worked in. Changes of rows that have not been copied are dropped: the chunk that
// will bring them is read later. So after every commit the target holds the source's state at one position, as far
// as it was copied. A crash at any moment is harmless, since the target keeps its position in the same transaction as
// its rows; Run just starts again.
//
// A server may change rows by foreign keys and not log it (MySQL before 9.6). The target's own foreign keys then do the
// same, in the same place of the log (Change.Cascade): referenced tables are copied first and whole, and a chunk whose
// window saw a change that may have reached its rows is read again. CheckCascades names what can't be copied like that.
//
// # Embedding
//
// A program that wants the engine without workflows opens a source.Source and a target.Target and runs a Stream:
//
//	stream := replication.NewStream(src, dst, src.Tables(), replication.Options{})
//	err := stream.Run(ctx) // blocks; call it again after an error that is Transient
//
// Source and Target are interfaces: a program may bring its own. They may gain methods before version 1.
//
// A Fanout is a Target over several: each row goes to the shard that its table's Route tells, each shard keeps its own position,
// and the source is read once.
package replication
