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
// The user needs SELECT on the schema, REPLICATION SLAVE for the log, and REPLICATION CLIENT for its end. The server needs
// gtid_mode=ON, binlog_format=ROW and binlog_row_image=FULL.
//
// Two things of JSON documents are not kept: integers beyond 32 bits may change between signed and unsigned, and
// binary data in a document loses the name of the SQL type it had; the values stay.
package source
