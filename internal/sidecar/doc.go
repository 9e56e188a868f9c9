// Package sidecar keeps what streams and diffs must remember in the MySQL server of a target shard, in a
// database of their own (by default [DefaultDatabase]), so that it commits together with the data.
//
// Nouns: a [DB] is that database. A [Stream] is one stream from a source shard to this shard. Its position
// lives in a small ring of rows that consecutive commits write in turn; the row with the highest sequence number
// counts. An epoch row per stream is the fence: its owner's commits fail once somebody has taken over
// ([DB.TakeOver]). What has been copied is appended to copy_state, a row per chunk, and folded later.
//
//	vreplication        one row per stream: what it is, its state, and progress for people to look at
//	vreplication_epoch  vrepl_id, epoch, owner
//	vreplication_pos    vrepl_id, slot, seq, pos, transaction_timestamp (microseconds)
//	copy_state          vrepl_id, table_name, lo, hi, rows_copied, bytes_copied
//	post_copy_action    vrepl_id, table_name, action: keys to add after the copy
//	source_definition   vrepl_id, table_name, since (a GTID), definition, read_at: what source tables are in parts of the log
//	vreplication_log    what happened to a stream
//	vdiff, vdiff_table, vdiff_log
//
// Table and column names are Vitess's where the meaning is. No password is ever stored.
//
//	side, err := sidecar.Open(ctx, db, sidecar.DefaultDatabase)
//	id, err := side.InsertStream(ctx, &sidecar.Stream{Workflow: "wf", DBName: "commerce", SourceShard: "0", State: "Stopped"})
package sidecar
