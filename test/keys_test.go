package test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// Tables with difficult keys and values, what is in them before the stream begins, and what is written while it runs.
var (
	keyTables = []string{
		"CREATE TABLE texts (k1 VARCHAR(20), k2 VARCHAR(20), v VARBINARY(20), PRIMARY KEY (k1, k2)) COLLATE utf8mb4_0900_bin",
		"CREATE TABLE folded (k1 VARCHAR(20), k2 VARCHAR(20), v BLOB, PRIMARY KEY (k1, k2))",
		"CREATE TABLE bin (k1 BINARY(16), k2 VARBINARY(16), v BINARY(4), PRIMARY KEY (k1, k2))",
		"CREATE TABLE bits (k1 BIT(64), k2 DECIMAL(20,5), v BIT(8), PRIMARY KEY (k1, k2))",
		"CREATE TABLE times (k1 DATE, k2 TIMESTAMP(6), v TIME(3), PRIMARY KEY (k1, k2))",
		"CREATE TABLE ints (k1 BIGINT UNSIGNED AUTO_INCREMENT, k2 TINYINT, v INT UNSIGNED, w BIGINT, PRIMARY KEY (k1, k2))",
		"CREATE TABLE tenants (k1 INT, k2 INT, v INT, PRIMARY KEY (k1, k2))",
	}
	keyRows = []string{
		`INSERT INTO texts VALUES ('a-#-b','c',''), ('a','b-#-c',0x00), ('''','\"',NULL), ('\\\\','%_','\\0'), (CHAR(0),'',0xff00), ('','','x'), ('\n','\t','''')`,
		"INSERT IGNORE INTO folded SELECT * FROM texts",
		"INSERT INTO bin VALUES (0xff00,0xc3a9,''), (0x01,'',0x00), (0x0101,0x00,0x61000000), (0xfffe,0x0000,NULL), ('',0x27,0x20)",
		"INSERT INTO bits VALUES (0,0,b'0'), (18446744073709551615,-99999.99999,255), (9223372036854775808,0.00001,NULL), (53,5,53)",
		`INSERT INTO times VALUES ('0000-00-00','1970-01-01 00:00:01',NULL), ('2024-02-30','2038-01-19 03:14:07.999998','-838:59:59'),
			('9999-12-31','2024-03-31 01:30:00.000001','00:00:00.001')`,
		`INSERT INTO ints VALUES (0,-128,4294967295,-9223372036854775808), (18446744073709551614,127,0,9223372036854775807), (9223372036854775808,0,NULL,NULL)`,
		`INSERT INTO tenants WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<900)
			SELECT 5, i, i FROM n UNION SELECT i, 1, 0 FROM n WHERE i<>5`,
	}
	keyWrites = []string{
		"UPDATE texts SET v=CONCAT(v,'-')", "UPDATE texts SET k1=CONCAT(k1,'-#-') WHERE k2 IN ('c','b-#-c')", "DELETE FROM texts WHERE k2='%_'",
		"INSERT INTO texts VALUES ('ä','Ä',''), ('A','a',''), ('a','A','')",
		"UPDATE folded SET v=NULL WHERE v=''", "UPDATE folded SET v='' WHERE v=0x00", "DELETE FROM folded WHERE k1=''", "INSERT INTO folded VALUES ('x','y','1')",
		"UPDATE folded SET k1='X' WHERE k1='x'", "DELETE FROM folded WHERE k1='x'", "INSERT INTO folded VALUES ('ẍ','y','2')",
		"UPDATE bin SET v=0x00 WHERE v=''", "UPDATE bin SET k1=0x02 WHERE k1=0x01000000000000000000000000000000 AND k2=''", "DELETE FROM bin WHERE k2=0x00",
		"UPDATE bits SET v=0 WHERE k1=53", "UPDATE bits SET k2=k2+1", "DELETE FROM bits WHERE k1=0",
		"UPDATE times SET v='00:00:00'", "UPDATE times SET k2=k2 + INTERVAL 1 MICROSECOND WHERE k1='9999-12-31'", "DELETE FROM times WHERE k1='0000-00-00'",
		"UPDATE ints SET v=7", "DELETE FROM ints WHERE k1=18446744073709551614", "UPDATE ints SET k1=1 WHERE k1=0", "UPDATE ints SET k1=0 WHERE k1=1",
		"UPDATE tenants SET v=v+1 WHERE k1=5", "DELETE FROM tenants WHERE k1=5 AND k2%7=0", "UPDATE tenants SET k2=-k2 WHERE k1=5 AND k2 BETWEEN 100 AND 200",
		// A swap and a chain of keys in one transaction.
		"BEGIN", "UPDATE tenants SET k2=0 WHERE k1=1", "UPDATE tenants SET k1=1 WHERE k1=2 AND k2=1", "UPDATE tenants SET k1=2, k2=1 WHERE k1=1 AND k2=0",
		"UPDATE tenants SET k1=k1+1000 WHERE k1>5 ORDER BY k1 DESC", "COMMIT",
	}
)

// testKeysAndValues writes rows with difficult keys and values while they are copied: both ways must lead to the same rows.
func testKeysAndValues(t *testing.T, src, dst *replicationtest.Server) {
	e := newEngine(t, src, dst, keyTables...)
	const mode = "SET sql_mode='ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone='+00:00'; USE shop; "
	src.MustExec(t, mode+strings.Join(keyRows, "; "))
	var chunks atomic.Int32
	done, begun := make(chan struct{}), make(chan struct{})
	opts := replication.Options{ChunkRows: 100, Readers: 2}
	opts.Trace.ChunkCommitted = func(replication.ChunkInfo) {
		if chunks.Add(1) == 3 {
			close(begun)
		}
	}
	g, ctx := errgroup.WithContext(t.Context())
	g.Go(func() error { return e.runUntilLevel(ctx, e.source, opts, done) })
	g.Go(func() error {
		defer close(done)
		select {
		case <-begun:
			return src.Exec(ctx, mode+strings.Join(keyWrites, "; "))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := e.differences(t, "texts", "folded", "bin", "bits", "times", "ints", "tenants"); diff != "" {
		t.Error(diff)
	}
}
