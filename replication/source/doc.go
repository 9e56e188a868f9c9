// Package source reads one schema of one MySQL server: the definitions of its tables, chunks of
// their rows, and the binary log as transactions.
//
//	Open ─▶ Source ─┬─ Tables        definitions, from information_schema
//	                ├─ Read, Split   chunks: one SELECT each, rows as the server packs them
//	                ├─ Transactions  the log: row images, decoded and grouped, from a set of GTIDs on
//	                └─ End, WaitVisible   where the log ends; what reads can see
//
// Rows of both ways have the same bytes for the same values (replication.Row). Rows of the log are decoded
// here, only for the opened tables. A transaction that can't be mapped exactly ends the stream with an error that names
// it: changes logged as statements, images without all columns, a table that is not what it was, unknown events.
//
//	src, err := source.Open(ctx, source.Config{Addr: "10.0.0.5:3306", User: "move", Password: pw, Database: "shop"},
//		nil, source.Options{})
//	if err != nil {
//		return err
//	}
//	defer src.Close()
//	_, from, err := src.End(ctx)
//	if err != nil {
//		return err
//	}
//	for t, err := range src.Transactions(ctx, from) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(t.GTID, len(t.Changes))
//	}
//
// Memory is bounded whatever the source commits: a transaction that is larger than Options.TransactionBytes comes as a
// replication.Spill, in a temporary file, and one that the source has compressed is decompressed as it is read. Only one row must fit
// into memory. Checksums of events are verified where the source writes them (binlog_checksum).
//
// A consumer that takes nothing for hours holds the server up, not memory: the connection's net_write_timeout is an hour, and
// when it breaks all the same, the log goes on over a new one. A server that is silent for Options.ReadTimeout is left and
// asked again; after 6 connections in a row that brought nothing the log ends with a transient error.
//
// A log that is not the one that was read is refused with replication.ErrHistory: when the position has transactions that the server never
// had, or, within one call of Transactions, when the log ends before what was read of it (RESET BINARY LOGS AND GTIDS).
//
// A change that was logged as a statement (ErrNotRow) is refused where it may be one of an opened table: when the statement names one, or any
// view, stored routine, table with triggers, or parent of a foreign key, in any schema. Only a user with SELECT and TRIGGER on all schemas (*.*)
// sees the names of all these; for another one every statement that changes rows counts as such, even of other schemas. What hid a table and
// was dropped before its statement is read is not known any more, so binlog_format=ROW is for all sessions all the same.
//
// The user needs SELECT on the schema, REPLICATION SLAVE for the log, and REPLICATION CLIENT for its end. The server needs
// gtid_mode=ON, binlog_format=ROW and binlog_row_image=FULL.
//
// Two things of JSON documents are not kept: integers beyond 32 bits may change between signed and unsigned, and
// binary data in a document loses the name of the SQL type it had; the values stay.
package source
