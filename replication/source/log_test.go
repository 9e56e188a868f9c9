package source_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
)

// describe renders transactions for comparison: one line each, changes as +after, -before or before>after.
func describe(list []*replication.Transaction) string {
	var b strings.Builder
	for _, t := range list {
		if t.GTID.IsZero() {
			b.WriteString("(progress)")
		}
		for _, c := range t.Changes {
			switch {
			case c.Before == nil:
				b.WriteString("+" + c.Table.Format(c.After))
			case c.After == nil:
				b.WriteString("-" + c.Table.Format(c.Before))
			default:
				b.WriteString(c.Table.Format(c.Before) + ">" + c.Table.Format(c.After))
			}
			b.WriteString(" ")
		}
		if t.DDL != nil {
			fmt.Fprintf(&b, "DDL%v ", t.DDL.Tables)
		}
		if !t.Prepared.IsZero() {
			b.WriteString("xa ")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func wantLog(t *testing.T, have []*replication.Transaction, want ...string) {
	t.Helper()
	var b strings.Builder
	for _, line := range want {
		b.WriteString(line + "\n")
	}
	if d, w := describe(have), b.String(); d != w {
		t.Errorf("log is\n%swant\n%s", d, w)
	}
}

func TestTransactionBoundaries(t *testing.T) {
	for _, tc := range []struct {
		name       string
		statements []string
		want       []string
	}{
		{
			"autocommit",
			[]string{"INSERT INTO t VALUES (1,'a')", "UPDATE t SET id=2", "DELETE FROM t"},
			[]string{"+(id=1, v='a') ", "(id=1, v='a')>(id=2, v='a') ", "-(id=2, v='a') "},
		},
		{
			"several statements",
			[]string{"BEGIN", "INSERT INTO t VALUES (1,'a'),(2,'b')", "UPDATE t SET v='c'", "COMMIT"},
			[]string{"+(id=1, v='a') +(id=2, v='b') (id=1, v='a')>(id=1, v='c') (id=2, v='b')>(id=2, v='c') "},
		},
		{
			"other tables",
			[]string{"INSERT INTO other VALUES (1)", "BEGIN", "INSERT INTO other VALUES (2)", "INSERT INTO t VALUES (1,'a')", "COMMIT"},
			[]string{"", "+(id=1, v='a') "},
		},
		{
			"rolled back",
			[]string{"BEGIN", "INSERT INTO t VALUES (1,'a')", "ROLLBACK", "INSERT INTO t VALUES (2,'b')"},
			[]string{"+(id=2, v='b') "},
		},
		{
			"savepoint",
			[]string{"BEGIN", "INSERT INTO t VALUES (1,'a')", "SAVEPOINT s", "INSERT INTO t VALUES (2,'b')", "ROLLBACK TO s", "INSERT INTO t VALUES (3,'c')", "RELEASE SAVEPOINT s", "COMMIT"},
			[]string{"+(id=1, v='a') +(id=3, v='c') "},
		},
		{
			"non-transactional engine",
			[]string{"INSERT INTO my VALUES (7,'m')", "UPDATE my SET v='n' WHERE id=7", "DELETE FROM my"},
			[]string{"+(id=7, v='m') ", "(id=7, v='m')>(id=7, v='n') ", "-(id=7, v='n') "},
		},
		{
			"create table select",
			[]string{"INSERT INTO t VALUES (1,'a')", "CREATE TABLE ctas (PRIMARY KEY(id)) SELECT * FROM t", "INSERT INTO t VALUES (2,'b')", "DROP TABLE ctas"},
			[]string{"+(id=1, v='a') ", "", "+(id=2, v='b') ", ""},
		},
		{
			"xa two phases",
			[]string{"XA START 'x1'", "INSERT INTO t VALUES (1,'a')", "XA END 'x1'", "XA PREPARE 'x1'", "INSERT INTO other VALUES (5)", "XA COMMIT 'x1'"},
			[]string{"", "", "+(id=1, v='a') xa "},
		},
		{
			"xa one phase",
			[]string{"XA START 'x2','b',7", "INSERT INTO t VALUES (1,'a')", "XA END 'x2','b',7", "XA COMMIT 'x2','b',7 ONE PHASE"},
			[]string{"+(id=1, v='a') "},
		},
		{
			"xa rollback",
			[]string{"XA START 'x3','b''c'", "INSERT INTO t VALUES (1,'a')", "XA END 'x3','b''c'", "XA PREPARE 'x3','b''c'", "XA ROLLBACK 'x3','b''c'", "INSERT INTO t VALUES (2,'b')"},
			[]string{"", "xa ", "+(id=2, v='b') "},
		},
		{
			"compressed",
			[]string{"SET SESSION binlog_transaction_compression=ON", "INSERT INTO t VALUES (1,'a'),(2,'b')", "BEGIN", "UPDATE t SET v='c' WHERE id=1", "DELETE FROM t WHERE id=2", "COMMIT"},
			[]string{"+(id=1, v='a') +(id=2, v='b') ", "(id=1, v='a')>(id=1, v='c') -(id=2, v='b') "},
		},
		{
			"compressed xa",
			[]string{"SET SESSION binlog_transaction_compression=ON", "XA START 'c1'", "INSERT INTO t VALUES (1,'a')", "XA END 'c1'", "XA PREPARE 'c1'", "XA COMMIT 'c1'"},
			[]string{"", "+(id=1, v='a') xa "},
		},
		{
			"routine and unknown statements",
			[]string{"CREATE PROCEDURE p() BEGIN UPDATE t SET id=1; END", "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @x=1", "GRANT SELECT ON *.* TO CURRENT_USER", "DROP TRIGGER tr", "DROP PROCEDURE p", "CREATE VIEW vw AS SELECT * FROM t", "DROP VIEW vw", "ANALYZE TABLE t"},
			[]string{"", "", "", "", "", "", "", ""},
		},
		{
			"ddl",
			[]string{"ALTER TABLE t ADD INDEX (v)", "INSERT INTO t VALUES (1,'a')", "CREATE INDEX i2 ON t(v)", "DROP INDEX i2 ON t", "ALTER TABLE other ADD COLUMN c int", "TRUNCATE t", "/*!50000 ALTER */ TABLE `t` DROP INDEX v"},
			[]string{"DDL[t] ", "+(id=1, v='a') ", "DDL[t] ", "DDL[t] ", "", "DDL[t] ", "DDL[t] "},
		},
		{
			"ansi quotes",
			[]string{"SET sql_mode='ANSI_QUOTES'", `ALTER TABLE "t" COMMENT 'x "t"'`, `CREATE TABLE "t ""2" (id int primary key)`, `DROP TABLE "t ""2"`},
			[]string{"DDL[t] ", "", ""},
		},
		{
			"empty transactions",
			[]string{"SET GTID_NEXT='aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:%d'", "BEGIN", "COMMIT", "SET GTID_NEXT='AUTOMATIC'", "INSERT INTO t VALUES (1,'a')"},
			[]string{"", "+(id=1, v='a') "},
		},
		{
			"tagged",
			[]string{"SET GTID_NEXT='AUTOMATIC:mytag'", "INSERT INTO t VALUES (1,'a')", "INSERT INTO t VALUES (2,'b')", "SET GTID_NEXT='AUTOMATIC'"},
			[]string{"+(id=1, v='a') ", "+(id=2, v='b') "},
		},
		{
			"two gtids by hand, the later one first, with a hole",
			[]string{
				"SET GTID_NEXT='bbbbbbbb-aaaa-aaaa-aaaa-aaaaaaaaaaaa:%d2'", "INSERT INTO t VALUES (1,'a')", "SET GTID_NEXT='bbbbbbbb-aaaa-aaaa-aaaa-aaaaaaaaaaaa:%d0'",
				"INSERT INTO t VALUES (2,'b')", "SET GTID_NEXT='AUTOMATIC'", "DELETE FROM t",
			},
			[]string{"+(id=1, v='a') ", "+(id=2, v='b') ", "-(id=1, v='a') -(id=2, v='b') "},
		},
		{
			"create table select of an opened name",
			[]string{"INSERT INTO other VALUES (1)", "DROP TABLE other", "CREATE TABLE other (PRIMARY KEY (id)) SELECT 7 AS id"},
			[]string{"", "", ""},
		},
		{
			"savepoints within savepoints",
			[]string{
				"BEGIN", "INSERT INTO t VALUES (1,'a')", "SAVEPOINT a", "SAVEPOINT b", "UPDATE t SET v='x'", "ROLLBACK TO b", "INSERT INTO t VALUES (2,'b')",
				"ROLLBACK TO a", "DELETE FROM t", "COMMIT",
			},
			[]string{"+(id=1, v='a') -(id=1, v='a') "},
		},
		{
			"statements of others, the last one unknown",
			[]string{
				"CREATE FUNCTION fu() RETURNS int DETERMINISTIC RETURN 1", "CREATE EVENT ev ON SCHEDULE EVERY 1 DAY DO DELETE FROM t", "DROP EVENT ev",
				"CREATE DATABASE %[1]s_other", "CREATE TABLE %[1]s_other.t (id int primary key, v text)", "INSERT INTO %[1]s_other.t VALUES (1,'a')",
				"CREATE PROCEDURE %[1]s_other.t() BEGIN DELETE FROM t; END", "TRUNCATE %[1]s_other.t", "DROP DATABASE %[1]s_other",
				"CREATE USER 'u%[1]s'", "GRANT INSERT ON %[1]s.t TO 'u%[1]s'", "XA RECOVER", "DROP USER 'u%[1]s'", "CREATE SPATIAL REFERENCE SYSTEM IF NOT EXISTS 4120 NAME 'Greek' DEFINITION 'x'",
			},
			[]string{"", "", "", "", "", "", "", "", "", "", "", ""},
		},
		{
			"compressed ddl and savepoints",
			[]string{
				"SET SESSION binlog_transaction_compression=ON", "ALTER TABLE t COMMENT 'c'", "BEGIN", "INSERT INTO t VALUES (1,'a')", "SAVEPOINT s", "INSERT INTO t VALUES (2,'b')",
				"ROLLBACK TO s", "COMMIT", "CREATE TABLE ctas (PRIMARY KEY(id)) SELECT * FROM t", "XA START 'c2'", "DELETE FROM t", "XA END 'c2'", "XA PREPARE 'c2'", "XA ROLLBACK 'c2'",
				"XA START 'c3'", "DELETE FROM t", "XA END 'c3'", "XA COMMIT 'c3' ONE PHASE",
			},
			[]string{"DDL[t] ", "+(id=1, v='a') ", "", "", "xa ", "-(id=1, v='a') "},
		},
		{
			"the log rotates between dependent transactions",
			[]string{
				"INSERT INTO t VALUES (1,'a')", "FLUSH BINARY LOGS", "UPDATE t SET id=2", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS", "SET SESSION binlog_transaction_compression=ON",
				"UPDATE t SET id=3", "FLUSH BINARY LOGS", "DELETE FROM t",
			},
			[]string{"+(id=1, v='a') ", "(id=1, v='a')>(id=2, v='a') ", "(id=2, v='a')>(id=3, v='a') ", "-(id=3, v='a') "},
		},
		{
			"the clock of the session jumps",
			[]string{"SET timestamp=1", "INSERT INTO t VALUES (1,'a')", "SET timestamp=2147483647", "DELETE FROM t", "SET timestamp=DEFAULT"},
			[]string{"+(id=1, v='a') ", "-(id=1, v='a') "},
		},
		{
			"functional and hidden keys",
			[]string{"INSERT INTO fk (id, j) VALUES (1, '[1,2]')"},
			[]string{"+(id=1, j='[1, 2]', g=2) "},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.exec("CREATE TABLE t (id int primary key, v varchar(20))", "CREATE TABLE other (id int primary key)",
				"CREATE TABLE my (id int primary key, v varchar(20)) ENGINE=MyISAM",
				"CREATE TABLE fk (id int primary key, j json, g int as (id+1) virtual, key ((id*2)), key mv ((cast(j as unsigned array))))",
				"CREATE TABLE parent (id int primary key)",
				"CREATE TABLE child (id int primary key, p int, foreign key (p) references parent (id) on delete cascade on update cascade)")
			s := f.open("t", "my", "fk", "child")
			_, from := f.end(s)
			stamp := time.Now().UnixNano() / 100
			for i := range tc.statements {
				switch q := tc.statements[i]; {
				case strings.Contains(q, "%d"):
					tc.statements[i] = fmt.Sprintf(q, stamp)
				case strings.Contains(q, "%[1]s"):
					tc.statements[i] = fmt.Sprintf(q, f.schema)
				}
			}
			f.exec(tc.statements...)
			list := f.log(s, from)
			wantLog(t, list, tc.want...)
			_, now := f.end(s)
			for _, x := range list {
				from = from.Add(x.GTID)
				if !x.Prepared.IsZero() {
					from = from.Add(x.Prepared)
				}
				if d := time.Since(x.Committed); d < 0 || d > time.Minute {
					t.Errorf("committed %v ago", d)
				}
			}
			if !from.Equal(now) {
				t.Errorf("transactions lead to %s, the server is at %s", from, now)
			}
		})
	}
}

// TestPreparedAcrossRestarts stops reading between XA PREPARE and XA COMMIT.
func TestPreparedAcrossRestarts(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key, v varchar(20))")
	s := f.open()
	_, from := f.end(s)
	f.exec("INSERT INTO t VALUES (1,'a')", "XA START 'r1'", "INSERT INTO t VALUES (2,'b')", "XA END 'r1'", "XA PREPARE 'r1'", "INSERT INTO t VALUES (3,'c')")
	list := f.log(s, from)
	wantLog(t, list, "+(id=1, v='a') ", "", "+(id=3, v='c') ")
	for _, x := range list {
		from = from.Add(x.GTID)
	}
	if _, now := f.end(s); !from.Equal(now) {
		t.Errorf("transactions lead to %s while one is prepared, the server is at %s", from, now)
	}
	f.exec("XA COMMIT 'r1'", "INSERT INTO t VALUES (4,'d')")
	wantLog(t, f.log(s, from), "+(id=2, v='b') xa ", "+(id=4, v='d') ")
}

// TestPreparedAcrossConnections loses the connection while a transaction is prepared: it is sent again, without a search in older logs.
func TestPreparedAcrossConnections(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key, v varchar(20))")
	var log bytes.Buffer
	s := f.openWith(source.Options{Heartbeat: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	_, from := f.end(s)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	f.exec("XA START 'c1'", "INSERT INTO t VALUES (1,'a')", "XA END 'c1'", "XA PREPARE 'c1'", "INSERT INTO t VALUES (2,'b')")
	var list []*replication.Transaction
	for x, err := range s.Transactions(ctx, from) {
		if err != nil {
			t.Fatal(err)
		}
		if x.GTID.IsZero() {
			continue
		}
		if list = append(list, x); len(list) == 3 {
			break
		}
		if len(list) == 2 {
			for _, id := range f.srv.MustQuery(t, "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'") {
				f.exec("KILL " + id[0])
			}
			f.exec("FLUSH BINARY LOGS", "XA COMMIT 'c1'")
		}
	}
	wantLog(t, list, "", "+(id=2, v='b') ", "+(id=1, v='a') xa ")
	if n := strings.Count(log.String(), "log reader connected"); n < 2 || strings.Contains(log.String(), "looking for") {
		t.Errorf("%d connections:\n%s", n, log.String())
	}
}

// TestPreparedBeforeTheStart begins to read between XA PREPARE and XA COMMIT: the rows are looked for in older logs.
func TestPreparedBeforeTheStart(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key, v varchar(20))")
	s := f.open()
	prepare := func(xid string, id int) {
		t.Helper()
		f.exec(fmt.Sprintf("XA START '%s'", xid), fmt.Sprintf("INSERT INTO t VALUES (%d,'%s')", id, xid), fmt.Sprintf("XA END '%s'", xid), fmt.Sprintf("XA PREPARE '%s'", xid))
	}
	late := func() replication.Position {
		t.Helper()
		_, p := f.end(s)
		return p
	}
	// In the same file, while others are prepared; one has the same name as one of long ago.
	prepare("old", 1)
	f.exec("XA COMMIT 'old'")
	prepare("again", 2)
	f.exec("XA ROLLBACK 'again'")
	prepare("again", 3)
	prepare("other", 4)
	prepare("never", 5)
	from := late()
	f.exec("INSERT INTO t VALUES (10,'a')", "XA COMMIT 'again'", "INSERT INTO t VALUES (11,'b')", "XA COMMIT 'other'", "XA ROLLBACK 'never'", "INSERT INTO t VALUES (12,'c')")
	want := []string{"+(id=10, v='a') ", "+(id=3, v='again') xa ", "+(id=11, v='b') ", "+(id=4, v='other') xa ", "xa ", "+(id=12, v='c') "}
	list := f.log(s, from)
	wantLog(t, list, want...)
	// Every position on the way will do to go on from.
	for i := range list {
		p := from
		for _, x := range list[:i] {
			p = p.Add(x.GTID).Add(x.Prepared)
		}
		if i == 4 {
			want[4] = "" // nothing is committed any more for which older logs were read
		}
		wantLog(t, f.log(s, p), want[i:]...)
	}

	// In an older file, compressed, before the server died; in between the name was used again.
	f.exec("SET SESSION binlog_transaction_compression=ON", "INSERT INTO t VALUES (20,'d')")
	f.exec("XA START 'zip'", "INSERT INTO t VALUES (21,'zip'),(22,'zip')", "UPDATE t SET v='unzip' WHERE id=22", "XA END 'zip'", "XA PREPARE 'zip'")
	f.exec("SET SESSION binlog_transaction_compression=OFF")
	prepare("far", 23)
	f.exec("FLUSH BINARY LOGS")
	prepare("near", 24)
	f.exec("XA COMMIT 'near'", "XA COMMIT 'far'")
	prepare("far", 25)
	f.exec("FLUSH BINARY LOGS", "INSERT INTO t VALUES (26,'e')", "FLUSH BINARY LOGS")
	from = late()
	f.exec("INSERT INTO t VALUES (27,'f')", "FLUSH BINARY LOGS", "XA COMMIT 'far'", "FLUSH BINARY LOGS", "XA COMMIT 'zip'")
	want = []string{"+(id=27, v='f') ", "+(id=25, v='far') xa ", "+(id=21, v='zip') +(id=22, v='zip') (id=22, v='zip')>(id=22, v='unzip') xa "}
	wantLog(t, f.log(s, from), want...)
	small := f.openWith(source.Options{TransactionBytes: 1, Heartbeat: 100 * time.Millisecond})
	wantLog(t, f.log(small, from), want...)

	// In a file that is gone.
	prepare("gone", 30)
	f.exec("FLUSH BINARY LOGS")
	from = late()
	f.exec("XA COMMIT 'gone'")
	f.exec("PURGE BINARY LOGS TO '" + f.srv.MustQuery(t, "SHOW BINARY LOG STATUS")[0][0] + "'")
	if _, err := f.tryLog(s, from); !errors.Is(err, source.ErrPreparedBefore) || replication.Transient(err) {
		t.Errorf("a commit of rows that are not known: %v", err)
	}
}

func TestSchemaChangesStopRows(t *testing.T) {
	for name, alter := range map[string]string{
		"new column":       "ALTER TABLE t ADD COLUMN n int",
		"dropped column":   "ALTER TABLE t DROP COLUMN v",
		"other type":       "ALTER TABLE t MODIFY v text",
		"longer":           "ALTER TABLE t MODIFY v varchar(30)",
		"sign":             "ALTER TABLE t MODIFY id int unsigned",
		"order of members": "ALTER TABLE t MODIFY e enum('b','a')",
		"character set":    "ALTER TABLE t MODIFY v varchar(20) character set latin1",
		"renamed":          "ALTER TABLE t RENAME COLUMN v TO w",
		"truncated":        "TRUNCATE t",
		"exchanged":        "RENAME TABLE t TO t2, other TO t",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.exec("CREATE TABLE t (id int primary key, v varchar(20), e enum('a','b'))", "CREATE TABLE other LIKE t")
			s := f.open("t")
			_, from := f.end(s)
			f.exec("INSERT INTO t (id) VALUES (1)", "ALTER TABLE t COMMENT 'harmless'", "INSERT INTO t (id) VALUES (2)", alter, "INSERT INTO t (id) VALUES (3)")
			list, err := f.tryLog(s, from)
			changed, ok := errors.AsType[*replication.SchemaChangedError](err)
			if !ok || changed.Table != "t" || replication.Transient(err) {
				t.Fatalf("rows after %s: %v", alter, err)
			}
			if n := len(list); n < 2 {
				t.Errorf("%d transactions before the error, want 2 or more", n)
			}
			t.Log(err)
		})
	}
}

func TestLogsThatCantBeMapped(t *testing.T) {
	for _, tc := range []struct {
		name       string
		statements []string
		want       error
		column     string
	}{
		{"statement format", []string{"SET SESSION binlog_format=STATEMENT", "INSERT INTO t VALUES (9,'x','{}','')"}, source.ErrNotRow, ""},
		{"minimal image", []string{"SET SESSION binlog_row_image=MINIMAL", "UPDATE t SET v='x' WHERE id=1"}, source.ErrPartialImage, "v"},
		{"noblob image", []string{"SET SESSION binlog_row_image=NOBLOB", "UPDATE t SET v='x' WHERE id=1"}, source.ErrPartialImage, "b"},
		{"partial JSON", []string{"SET SESSION binlog_row_value_options=PARTIAL_JSON", "UPDATE t SET j=JSON_SET(j,'$.a',2) WHERE id=1"}, source.ErrPartialImage, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.exec("CREATE TABLE t (id int primary key, v varchar(20), j json, b text)", "INSERT INTO t (id, v, j) VALUES (1,'a','{\"a\": 1, \"b\": \"some long text here to make it partial\"}')")
			s := f.open()
			_, from := f.end(s)
			f.exec(append([]string{"INSERT INTO t VALUES (2,'b','{}','')"}, tc.statements...)...)
			list, err := f.tryLog(s, from)
			if !errors.Is(err, tc.want) {
				t.Fatalf("error is %v, want %v", err, tc.want)
			}
			if le, ok := errors.AsType[*source.LogError](err); !ok || le.GTID.IsZero() {
				t.Errorf("%v does not name the transaction", err)
			}
			if re, ok := errors.AsType[*replication.RowError](err); tc.column != "" && (!ok || re.Column != tc.column || re.Table != "t") {
				t.Errorf("%v does not name table and column %s", err, tc.column)
			}
			wantLog(t, list, "+(id=2, v='b', j='{}', b='') ")
		})
	}
}

// TestStatementsOfOthers: what was logged as a statement and is not about our tables is no error.
func TestStatementsOfOthers(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key)", "CREATE TABLE elsewhere (id int auto_increment primary key, worth varchar(20))")
	s := f.open("t")
	_, from := f.end(s)
	f.exec("SET SESSION binlog_format=STATEMENT", "INSERT INTO elsewhere (worth) VALUES ('t'), (rand(7)), (@x)")
	wantLog(t, f.log(s, from), "")

	// Who can't see what hides our tables has to take everything for it.
	f.srv.MustExec(t, "CREATE USER blind IDENTIFIED BY 'pw'; GRANT SELECT, TRIGGER, EXECUTE ON "+f.schema+".* TO blind;"+
		" GRANT REPLICATION SLAVE, REPLICATION CLIENT, SHOW_ROUTINE ON *.* TO blind")
	f.srv.MustExec(t, "CREATE USER sees IDENTIFIED BY 'pw'; GRANT SELECT, TRIGGER, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO sees")
	f.exec("CREATE VIEW hides AS SELECT * FROM elsewhere")
	for user, want := range map[string]error{"blind": source.ErrNotRow, "sees": nil} {
		f.cfg.User, f.cfg.Password = user, "pw"
		if _, err := f.tryLog(f.open("t"), from); !errors.Is(err, want) {
			t.Errorf("as %s: %v", user, err)
		}
	}
	_, from = f.end(s)
	f.exec("SET SESSION binlog_format=STATEMENT", "INSERT INTO hides (worth) VALUES ('x')")
	if _, err := f.tryLog(f.open("t"), from); !errors.Is(err, source.ErrNotRow) {
		t.Errorf("a view, as one who sees it: %v", err)
	}
}

// TestStatementsThatHideTables: what changes our table under another name, logged as a statement, is an error.
func TestStatementsThatHideTables(t *testing.T) {
	for name, tc := range map[string]struct{ before, statement string }{
		"view":        {"CREATE VIEW v AS SELECT * FROM t", "INSERT INTO v VALUES (5, 1)"},
		"trigger":     {"CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW INSERT INTO t VALUES (new.id, 1)", "INSERT INTO other VALUES (6)"},
		"select f":    {"CREATE FUNCTION f() RETURNS int DETERMINISTIC BEGIN INSERT INTO t VALUES (7, 1); RETURN 1; END", "SELECT f()"},
		"do f":        {"CREATE FUNCTION f() RETURNS int DETERMINISTIC BEGIN INSERT INTO t VALUES (7, 1); RETURN 1; END", "DO F()"},
		"set f":       {"CREATE FUNCTION f() RETURNS int DETERMINISTIC BEGIN INSERT INTO t VALUES (7, 1); RETURN 1; END", "SET @x = f()"},
		"insert f":    {"CREATE FUNCTION f() RETURNS int DETERMINISTIC BEGIN INSERT INTO t VALUES (7, 1); RETURN 1; END", "INSERT INTO other VALUES (f() + 100)"},
		"procedure":   {"CREATE PROCEDURE p() INSERT INTO t VALUES (8, 1)", "CALL p()"},
		"foreign key": {"ALTER TABLE t ADD FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE", "DELETE FROM parent"},
		"multi-step":  {"CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW DELETE FROM parent; ALTER TABLE t ADD FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE", "INSERT INTO other VALUES (6)"},
		"other schema": {
			"CREATE DATABASE IF NOT EXISTS elsewhere; DROP VIEW IF EXISTS elsewhere.w; CREATE VIEW elsewhere.w AS SELECT * FROM t",
			"INSERT INTO elsewhere.w VALUES (5, 1)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.exec("CREATE TABLE t (id int primary key, p int)", "CREATE TABLE other (id int primary key)", "CREATE TABLE parent (id int primary key)",
				"INSERT INTO parent VALUES (1)", "INSERT INTO t VALUES (1,1)")
			s := f.open("t")
			_, from := f.end(s)
			// The first statement is fine: what hides a table comes after the names were read.
			f.exec("SET SESSION binlog_format=STATEMENT", "INSERT INTO other VALUES (1)")
			if strings.Contains(tc.before, " BEGIN ") {
				f.exec(tc.before)
			} else {
				f.exec(strings.Split(tc.before, "; ")...)
			}
			before := f.query("SELECT CONCAT(COUNT(*), '') FROM t")
			f.exec("SET SESSION binlog_format=STATEMENT", tc.statement)
			if f.query("SELECT CONCAT(COUNT(*), '') FROM t") == before {
				t.Fatal("the statement did not change the table")
			}
			if _, err := f.tryLog(s, from); !errors.Is(err, source.ErrNotRow) {
				t.Errorf("%s: %v", tc.statement, err)
			}
		})
	}
}

// TestStatementsInOtherCharacterSets: statements are in the log as the client sent them.
func TestStatementsInOtherCharacterSets(t *testing.T) {
	for _, tc := range []struct {
		charset, table, raw string // the table's name in UTF-8 and in the character set
	}{
		{"latin1", "größe", "gr\xf6\xdfe"},
		{"gbk", "誠", "\xd5\x5c"}, // a backslash
		{"gbk", "小", "\xd0\xa1"}, // also UTF-8, for another letter
		{"gbk", "乣", "\x81\x60"}, // a backquote
		{"sjis", "表", "\x95\x5c"},
		{"utf8mb3", "größe", "größe"},
		{"binary", "größe", "größe"},
	} {
		t.Run(tc.charset+" "+tc.table, func(t *testing.T) {
			f := newFixture(t)
			ddl := func(statement string) *replication.DDL {
				t.Helper()
				s := f.open(tc.table)
				_, from := f.end(s)
				f.exec("SET NAMES "+tc.charset, strings.ReplaceAll(statement, "@@", tc.raw), "SET NAMES utf8mb4")
				list := f.log(s, from)
				if len(list) != 1 || list[0].DDL == nil || !slices.Equal(list[0].DDL.Tables, []string{tc.table}) {
					t.Errorf("%s is read as %+v", statement, list)
					return &replication.DDL{}
				}
				return list[0].DDL
			}
			f.exec("CREATE TABLE `" + tc.table + "` (id int primary key)")
			for _, statement := range []string{
				"TRUNCATE TABLE `@@`", "ALTER TABLE `@@` ADD a varchar(10) DEFAULT '@@\\''", "ALTER TABLE `@@` COMMENT '@@'", "RENAME TABLE `@@` TO x", "DROP TABLE `@@`",
			} {
				d := ddl(statement)
				want := strings.ReplaceAll(statement, "@@", tc.table)
				if strings.HasPrefix(statement, "DROP") {
					want += " /* generated by server */"
				}
				if d.Statement != want {
					t.Errorf("the statement is %q, want %q", d.Statement, want)
				}
				if strings.HasPrefix(statement, "RENAME") {
					f.exec("RENAME TABLE x TO `" + tc.table + "`")
				}
			}
			// What the server writes itself.
			f.exec("CREATE TABLE `"+tc.table+"` (id int primary key)", "CREATE TABLE other (id int primary key)")
			s := f.open(tc.table)
			_, from := f.end(s)
			f.exec("SET NAMES "+tc.charset, "BEGIN", "INSERT INTO `"+tc.raw+"` VALUES (1)", "SAVEPOINT `"+tc.raw+"`", "INSERT INTO `"+tc.raw+"` VALUES (2)", "INSERT INTO other VALUES (1)",
				"ROLLBACK TO `"+tc.raw+"`", "INSERT INTO `"+tc.raw+"` VALUES (3)", "COMMIT", "SET NAMES utf8mb4")
			if rows := len(changes(f.log(s, from))); rows != 2 {
				t.Errorf("%d rows are logged", rows)
			}
			f.exec("DROP TABLE `" + tc.table + "`")
			_, from = f.end(s)
			f.exec("SET NAMES "+tc.charset, "CREATE TABLE `"+tc.raw+"` SELECT 'ab' AS `"+tc.raw+"` FROM other WHERE 1 = 0", "SET NAMES utf8mb4")
			list := f.log(s, from)
			if len(list) != 1 || list[0].DDL == nil || !strings.Contains(list[0].DDL.Statement, "`"+tc.table+"`") {
				t.Errorf("CREATE TABLE .. SELECT is read as %+v", list)
			}
		})
	}
}

func TestProgressOnAnIdleServer(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key)")
	s := f.open()
	for range 3 {
		f.exec("INSERT INTO t VALUES (1)", "DELETE FROM t")
		end, from := f.end(s)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for x, err := range s.Transactions(ctx, from) {
			if err != nil {
				t.Fatal(err)
			}
			if !x.GTID.IsZero() {
				t.Errorf("%s was known", x.GTID)
			}
			if !x.End.Before(end) {
				if x.End != end {
					t.Errorf("the idle log ends at %v, End said %v", x.End, end)
				}
				break
			}
		}
		cancel()
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("the end was reached after %v", d)
		}
		f.exec("FLUSH BINARY LOGS") // the next round begins in an empty file
	}
}

// TestReconnectUnderLoad kills the connection of the log reader again and again: nothing is lost, nothing comes twice.
func TestReconnectUnderLoad(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int auto_increment primary key, v int)")
	s := f.open()
	_, from := f.end(s)
	admin := f.srv.DB(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	const writers, each, bulk = 3, 60, 40
	for w := range writers {
		g.Go(func() error {
			for i := range each {
				tx, err := f.db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				for range bulk {
					if _, err := tx.ExecContext(ctx, "INSERT INTO t (v) VALUES (?)", w*1000+i); err != nil {
						return err
					}
				}
				if err := tx.Commit(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var kills atomic.Int32
	g.Go(func() error {
		for ctx.Err() == nil && kills.Load() < 8 {
			var id int64
			err := admin.QueryRowContext(ctx, "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%' ORDER BY ID DESC LIMIT 1").Scan(&id)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			if _, err := admin.ExecContext(ctx, fmt.Sprintf("KILL %d", id)); err == nil {
				kills.Add(1)
			}
			select {
			case <-ctx.Done():
			case <-time.After(150 * time.Millisecond):
			}
		}
		return nil
	})
	seen, gtids := map[string]bool{}, map[replication.GTID]bool{}
	for x, err := range s.Transactions(ctx, from) {
		if err != nil {
			t.Fatal(err)
		}
		if gtids[x.GTID] && !x.GTID.IsZero() {
			t.Errorf("%s came twice", x.GTID)
		}
		gtids[x.GTID] = true
		if !x.GTID.IsZero() && len(x.Changes) != bulk {
			t.Errorf("a transaction of %d rows, want %d", len(x.Changes), bulk)
		}
		for _, c := range x.Changes {
			if seen[string(c.After)] {
				t.Errorf("%s came twice", c.Table.Format(c.After))
			}
			seen[string(c.After)] = true
		}
		if len(seen) == writers*each*bulk && kills.Load() == 8 {
			break
		}
	}
	cancel()
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := f.query("SELECT COUNT(*) FROM t"); fmt.Sprint(len(seen)) != n {
		t.Errorf("%d rows came, the table has %s", len(seen), n)
	}
}

// TestSlowConsumer: the reader is held up by a full queue, and Close and cancel don't hang.
func TestSlowConsumer(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int auto_increment primary key, v longblob)")
	s, err := source.Open(t.Context(), f.cfg, nil, source.Options{QueueBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	_, from := f.end(s)
	for range 20 {
		f.exec("INSERT INTO t (v) VALUES (REPEAT('x', 900000))")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for x, err := range s.Transactions(ctx, from) {
		if err != nil {
			t.Fatal(err)
		}
		if n += len(x.Changes); n == 3 {
			break
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Open(ctx, f.cfg, []string{"t"}, source.Options{QueueBytes: -1}); err == nil {
		t.Error("a queue of -1 bytes was taken")
	}
}

func TestPositions(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a server")
	}
	srv := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	f := fixtureOn(t, srv)
	f.exec("CREATE TABLE t (id int primary key)")
	s := f.open()
	_, from := f.end(s)
	f.exec("INSERT INTO t VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (2)")
	wantLog(t, f.log(s, from), "+(id=1) ", "+(id=2) ")
	_, now := f.end(s)
	ahead := now.Add(gtid(t, "3e11fa47-71ca-11e1-9e33-c80aa9429562:5"))
	if _, err := f.tryLog(s, ahead); !errors.Is(err, replication.ErrHistory) || replication.Transient(err) {
		t.Errorf("a position that the server never had: %v", err)
	}
	files := f.column(0, "SHOW BINARY LOGS")
	file := files[len(files)-1]
	f.exec("PURGE BINARY LOGS TO '" + file + "'")
	if _, err := f.tryLog(s, from); !errors.Is(err, replication.ErrPositionGone) || replication.Transient(err) {
		t.Errorf("a purged position: %v", err)
	}
	wantLog(t, f.log(s, now))
	// A server that is down is a reason to wait, not to give up what was copied.
	srv.Kill9()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	for _, err := range s.Transactions(ctx, from) {
		if errors.Is(err, replication.ErrPositionGone) || errors.Is(err, replication.ErrHistory) {
			t.Errorf("a server that is down: %v", err)
		}
	}
	if _, _, err := s.End(t.Context()); !replication.Transient(err) {
		t.Errorf("End of a server that is down: %v", err)
	}
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.exec("INSERT INTO t VALUES (3)")
	wantLog(t, f.log(s, now), "+(id=3) ")
}

func gtid(t *testing.T, text string) replication.GTID {
	t.Helper()
	g, err := replication.ParseGTID(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestOpenErrors(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE good (id int primary key)", "CREATE TABLE bad (id int)", "CREATE TABLE worse (id int, unique (id))", "CREATE VIEW v AS SELECT 1",
		"CREATE TABLE _good_gho (id int)")
	_, err := source.Open(t.Context(), f.cfg, nil, source.Options{})
	if e, ok := errors.AsType[*source.NoKeyError](err); !ok || fmt.Sprint(e.Tables) != "[bad worse]" {
		t.Errorf("tables without key: %v", err)
	}
	_, err = source.Open(t.Context(), f.cfg, []string{"good", "nope", "v"}, source.Options{})
	if e, ok := errors.AsType[*source.MissingTablesError](err); !ok || fmt.Sprint(e.Tables) != "[nope v]" {
		t.Errorf("missing tables: %v", err)
	}
	cfg := f.cfg
	cfg.Password = "wrong"
	if _, err = source.Open(t.Context(), cfg, nil, source.Options{}); !errors.Is(err, mysqlconn.ErrAccessDenied) || replication.Transient(err) {
		t.Errorf("wrong password: %v", err)
	}
	cfg.Addr = "127.0.0.1:1"
	if _, err = source.Open(t.Context(), cfg, nil, source.Options{}); !errors.Is(err, mysqlconn.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
	cfg = f.cfg
	cfg.Database = ""
	if _, err = source.Open(t.Context(), cfg, nil, source.Options{}); err == nil {
		t.Error("no database was taken")
	}
}

func TestMariaDBIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a server")
	}
	srv := replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{})
	_, err := source.Open(t.Context(), source.Config{Addr: srv.Addr(), User: "root", Database: "mysql"}, nil, source.Options{})
	if !errors.Is(err, source.ErrUnsupportedServer) || !strings.Contains(err.Error(), "MariaDB") {
		t.Errorf("MariaDB: %v", err)
	}
}
