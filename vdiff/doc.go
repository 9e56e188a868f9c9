// Package vdiff compares the two ends of a workflow while it runs.
//
// Nouns: a [VDiff] belongs to one [Workflow] (a *migrate.Workflow is one). Create makes a comparison, which has a UUID; its
// [Report] counts the rows of each table and shows the first of each [Difference]. Show reads the report of a
// comparison, made or under way, in any process.
//
//	                  chunk (lo,hi]
//	source shards  ── COUNT, SUM(hash) ── position p of each ──┐
//	target shards  ── COUNT, SUM(hash) ────────────────────────┤ equal together: next chunk
//	                                                           │ differ: wait until all target shards have applied each p
//	                   cut into 16 parts, compare each, down to 2000 rows: hashes by key
//	                                                           │ keys that differ
//	                   read both rows, again and again, until the keys settle ── equal
//	                                                                          └─ Difference
//	target shards  ── key and vindex columns ── Route ── another shard: read it again ── Difference (misplaced)
//
// The shards of each end count together, in any layout: a row has to be on one shard of either end, and its way from one target
// shard to another is no difference. That a row is on the right target shard the sums can't show, and a vtgate would
// not find it elsewhere, so the shard of each target row is computed from its vindex columns. A table that all target shards hold whole
// is read on the source once, and compared with each of them. What a workflow makes of a table, names, columns and a condition for
// rows, it says by a [replication.TablePair].
//
// The workflow isn't paused. On the source there is no lock and no transaction: each statement is an
// autocommit SELECT over one chunk, which is cut so that it takes about half a second.
//
// A chunk's sum is that of 64 bits of the SHA-256 of each row, exact and in any order, so the sums of shards add
// up. Every value is hashed with all its bytes: all digits of times, FLOAT and DOUBLE as IEEE numbers, text as the bytes in
// its character set, with lengths, and NULL apart from everything else. What is equal for vdiff is equal bit for bit, with one
// exception: two JSON documents are equal when their texts are.
//
// Rows are matched by what the server takes for equal keys. So the rows 'a' and 'A' of a case-insensitive key
// are one row that differs in its key column, not two extra rows. The chunks of such tables are cut by the servers; ends whose
// collations order differently are still compared right, but slowly.
//
// While rows change, the ends are never seen at the same moment. A row counts as different only when the source stood still
// while both were read, or both ends showed the same two rows in six reads, and no transaction that was under way meanwhile
// can explain it. A row that changes all the time gets no verdict; it is counted in TableReport.RowsUnsettled.
//
// Needed privileges: SELECT on the tables of both ends, and SELECT, INSERT, UPDATE and DELETE in the sidecar database.
//
//	report, err := vdiff.New(wf).Create(ctx, vdiff.Options{})
//	if err != nil {
//		return err
//	}
//	fmt.Print(report)
//	if !report.Equal() {
//		os.Exit(1)
//	}
//
// To have a comparison made by another process, call Prepare here and RunPending there.
package vdiff
