package replicationtest_test

import (
	"slices"
	"testing"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// everything has one column of each kind whose text a careless comparison would round,
// pad, fold or convert.
const everything = `CREATE TABLE t (id INT, sub VARCHAR(10) CHARACTER SET latin1, f FLOAT, d DOUBLE, n DECIMAL(20,5),
	u BIGINT UNSIGNED, b BIT(9), e ENUM('x','y'), s SET('p','q'), c CHAR(5), t TEXT, bin BINARY(4), bl BLOB,
	ts TIMESTAMP(6) NULL, dt DATETIME(3), ti TIME, y YEAR, j JSON, g GEOMETRY, PRIMARY KEY (id, sub));
	INSERT INTO t VALUES
	(1, 'a', 16777217.5, 0.1, 1.5, 18446744073709551615, b'100000001', 'x', 'p,q', 'ab', 'text', 0x01000000, 0xff, '2024-01-01 00:00:00.000001', '2024-01-01 00:00:00.001', '-800:00:00', 2000, '{"a": 1}', ST_GeomFromText('POINT(1 2)')),
	(2, 'b', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(2, 'B2', 0, -0.5, 0, 0, 0, '', '', '', '', '', '', NULL, NULL, NULL, NULL, NULL, NULL);`

func TestCompareTables(t *testing.T) {
	needsServers(t)
	t.Parallel()
	my := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	for _, db := range []string{"a", "b"} {
		my.MustExec(t, "SET time_zone = '+00:00', sql_mode = ''; CREATE DATABASE "+db+"; USE "+db+";"+everything)
	}
	db := my.DB(t)
	if !replicationtest.CheckEqual(t, db, db, "a", "b") {
		t.FailNow()
	}
	for _, tt := range []struct {
		change string
		kind   replicationtest.DifferenceKind
		column string
	}{
		{"UPDATE b.t SET f = 16777219 WHERE id = 1", replicationtest.ChangedRow, "f"},
		{"UPDATE b.t SET d = 0.10000000000000002 WHERE id = 1", replicationtest.ChangedRow, "d"},
		{"UPDATE b.t SET n = 1.50001 WHERE id = 1", replicationtest.ChangedRow, "n"},
		{"UPDATE b.t SET u = u - 1 WHERE id = 1", replicationtest.ChangedRow, "u"},
		{"UPDATE b.t SET b = b'100000000' WHERE id = 1", replicationtest.ChangedRow, "b"},
		{"UPDATE b.t SET e = NULL WHERE sub = 'B2'", replicationtest.ChangedRow, "e"},
		{"UPDATE b.t SET s = 'p' WHERE id = 1", replicationtest.ChangedRow, "s"},
		{"UPDATE b.t SET c = 'AB' WHERE id = 1", replicationtest.ChangedRow, "c"},
		{"UPDATE b.t SET t = 'text ' WHERE id = 1", replicationtest.ChangedRow, "t"},
		{"UPDATE b.t SET bin = 0x01000001 WHERE id = 1", replicationtest.ChangedRow, "bin"},
		{"UPDATE b.t SET bl = NULL WHERE sub = 'B2'", replicationtest.ChangedRow, "bl"},
		{"UPDATE b.t SET ts = '2024-01-01 00:00:00.000002' WHERE id = 1", replicationtest.ChangedRow, "ts"},
		{"UPDATE b.t SET dt = '2024-01-01' WHERE id = 1", replicationtest.ChangedRow, "dt"},
		{"UPDATE b.t SET ti = '-799:59:59' WHERE id = 1", replicationtest.ChangedRow, "ti"},
		{"UPDATE b.t SET y = 0 WHERE id = 1", replicationtest.ChangedRow, "y"},
		{"UPDATE b.t SET j = '{\"a\": \"1\"}' WHERE id = 1", replicationtest.ChangedRow, "j"},
		{"UPDATE b.t SET g = ST_GeomFromText('POINT(1 2)', 4326) WHERE id = 1", replicationtest.ChangedRow, "g"},
		{"DELETE FROM b.t WHERE sub = 'B2'", replicationtest.MissingRow, ""},
		{"SET sql_mode = ''; INSERT INTO b.t (id, sub) VALUES (0, 'a')", replicationtest.ExtraRow, ""},
		{"ALTER TABLE b.t DROP PRIMARY KEY, ADD PRIMARY KEY (sub, id)", replicationtest.OtherColumns, ""},
		{"ALTER TABLE b.t ADD COLUMN more INT", replicationtest.OtherColumns, ""},
		{"DROP TABLE b.t", replicationtest.MissingTable, ""},
	} {
		my.MustExec(t, "SET time_zone = '+00:00'; "+tt.change)
		diffs, err := replicationtest.CompareTables(t.Context(), db, db, "a", "b", "t")
		if err != nil {
			t.Fatal(err)
		}
		if len(diffs) != 1 || diffs[0].Kind != tt.kind || tt.column != "" && !slices.Equal(diffs[0].Columns, []string{tt.column}) {
			t.Errorf("after %s: differences = %v, want one %s %s", tt.change, diffs, tt.kind, tt.column)
		}
		my.MustExec(t, "SET time_zone = '+00:00', sql_mode = ''; DROP TABLE IF EXISTS b.t; USE b;"+everything)
	}
	if _, err := replicationtest.CompareTables(t.Context(), db, db, "a", "b", "nosuch"); err == nil {
		t.Error("a table that the source doesn't have is equal")
	}
	if _, err := replicationtest.CompareTables(t.Context(), db, db, "nosuch", "b"); err == nil {
		t.Error("a database without tables is equal")
	}
}

func TestCompareTablesWithoutKey(t *testing.T) {
	needsServers(t)
	t.Parallel()
	maria := replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{})
	maria.MustExec(t, `CREATE DATABASE a; CREATE DATABASE b;
		CREATE TABLE a.t (v INT, w TEXT); CREATE TABLE b.t LIKE a.t;
		INSERT INTO a.t VALUES (1, 'x'), (1, 'x'), (NULL, NULL), (2, 'y'); INSERT INTO b.t VALUES (NULL, NULL), (1, 'x'), (2, 'y'), (1, 'x')`)
	db := maria.DB(t)
	replicationtest.CheckEqual(t, db, db, "a", "b")
	maria.MustExec(t, "DELETE FROM b.t WHERE v = 1 LIMIT 1")
	diffs, err := replicationtest.CompareTables(t.Context(), db, db, "a", "b")
	if err != nil || len(diffs) != 1 || diffs[0].Kind != replicationtest.MissingRow {
		t.Errorf("differences = %v, %v, want one missing row", diffs, err)
	}
}
