package source_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
)

func TestTables(t *testing.T) {
	f := newFixture(t)
	f.exec(`CREATE TABLE a (
		id int unsigned not null primary key, name varchar(20) character set latin1 not null, code binary(3) not null unique,
		e enum('é','b') character set latin1, s set('x','y'), b bit(12), t datetime(3), g int generated always as (id+1) stored, h int as (id*2) virtual unique,
		j json, n decimal(5,2) unsigned zerofill, i int invisible default 5, d double default (rand()),
		unique pre (name(5)), unique full (name, code), unique fun ((id+1)))`,
		"CREATE TABLE b (x varchar(10) not null, y int not null, z tinyint not null, unique k1 (x), unique k2 (y, z), unique k3 (y), unique k4 (z, x))",
		"CREATE TABLE c (x int, unique (x))", "CREATE VIEW v AS SELECT * FROM a",
		"CREATE TABLE p (id int, y year, primary key (id, y)) PARTITION BY HASH (id) PARTITIONS 3")
	db := f.db
	tables, err := source.Tables(t.Context(), db, f.schema, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	by := map[string]*replication.Table{}
	for _, x := range tables {
		names = append(names, x.Name)
		by[x.Name] = x
	}
	if fmt.Sprint(names) != "[a b c p]" {
		t.Errorf("tables are %v", names)
	}
	a := by["a"]
	for _, want := range []string{
		"{Name:id Kind:2 Type:int unsigned Charset: Collation: Length:0 Fsp:0 Unsigned:true Nullable:false Generated:false Members:[]}",
		"{Name:name Kind:14 Type:varchar(20) Charset:latin1 Collation:latin1_swedish_ci Length:0 Fsp:0 Unsigned:false Nullable:false Generated:false Members:[]}",
		"{Name:code Kind:15 Type:binary(3) Charset: Collation: Length:3 Fsp:0 Unsigned:false Nullable:false Generated:false Members:[]}",
		"{Name:e Kind:12 Type:enum('é','b') Charset:latin1 Collation:latin1_swedish_ci Length:0 Fsp:0 Unsigned:false Nullable:true Generated:false Members:[\xe9 b]}",
		"{Name:b Kind:11 Type:bit(12) Charset: Collation: Length:12 Fsp:0 Unsigned:false Nullable:true Generated:false Members:[]}",
		"{Name:t Kind:9 Type:datetime(3) Charset: Collation: Length:0 Fsp:3 Unsigned:false Nullable:true Generated:false Members:[]}",
		"{Name:g Kind:1 Type:int Charset: Collation: Length:0 Fsp:0 Unsigned:false Nullable:true Generated:true Members:[]}",
		"{Name:h Kind:1 Type:int Charset: Collation: Length:0 Fsp:0 Unsigned:false Nullable:true Generated:true Members:[]}",
		"{Name:d Kind:5 Type:double Charset: Collation: Length:0 Fsp:0 Unsigned:false Nullable:true Generated:false Members:[]}",
	} {
		found := false
		for _, c := range a.Columns {
			found = found || fmt.Sprintf("%+v", c) == want
		}
		if !found {
			t.Errorf("no column %q", want)
		}
	}
	if a.Primary.Name != "PRIMARY" || !a.Primary.Exact || !a.Ordered {
		t.Errorf("the key of a is %+v, ordered %v", a.Primary, a.Ordered)
	}
	exact := map[string]bool{}
	for _, u := range a.Unique {
		exact[u.Name] = u.Exact
	}
	if want := map[string]bool{"code": true, "h": true, "pre": false, "full": false, "fun": false}; fmt.Sprint(exact) != fmt.Sprint(want) {
		t.Errorf("unique keys of a are %v, want %v", exact, want)
	}
	if b := by["b"]; b.Primary.Name != "k3" || len(b.Unique) != 3 || !b.Ordered {
		t.Errorf("the key of b is %+v", b.Primary)
	}
	if e, ok := errors.AsType[*source.NoKeyError](source.CheckKeys(tables)); !ok || fmt.Sprint(e.Tables) != "[c]" {
		t.Errorf("tables without key: %v", e)
	}
	if _, err := source.Tables(t.Context(), db, "nosuch", []string{"x"}); err == nil {
		t.Error("a missing schema has a table")
	}
}

func TestListAndCreateTables(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE b (id int auto_increment primary key, v text) DEFAULT CHARSET latin1", "INSERT INTO b (v) VALUES ('x'),('y')", "ANALYZE TABLE b",
		"CREATE TABLE a (id int primary key) ENGINE=MyISAM", "CREATE VIEW v AS SELECT 1", "CREATE TABLE `odd``x` (id int primary key) PARTITION BY HASH(id)")
	db, err := source.OpenDB(t.Context(), f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	list, err := source.ListTables(t.Context(), db, f.schema)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || list[0].Name != "a" || list[0].Engine != "MyISAM" || list[1].Rows != 2 || list[1].DataLength == 0 ||
		list[1].AutoIncrement != 3 || list[1].Collation != "latin1_swedish_ci" || !list[2].Partitioned || list[1].Partitioned {
		t.Errorf("tables are %+v", list)
	}
	text, err := source.CreateTable(t.Context(), db, f.schema, "odd`x")
	if err != nil || !strings.HasPrefix(text, "CREATE TABLE `odd``x`") {
		t.Errorf("definition %q, %v", text, err)
	}
	for _, name := range []string{"v", "none"} {
		if _, err := source.CreateTable(t.Context(), db, f.schema, name); err == nil {
			t.Errorf("%s has a definition", name)
		} else if _, ok := errors.AsType[*source.MissingTablesError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInspect(t *testing.T) {
	f := newFixture(t)
	f.srv.MustCreateUser(t, "facts", "pw", "USAGE ON *.*")
	root, err := source.Inspect(t.Context(), f.db)
	if err != nil {
		t.Fatal(err)
	}
	if root.Version != f.query("SELECT VERSION()") || root.Flavor != replication.FlavorMySQL || root.ServerUUID != f.query("SELECT @@server_uuid") ||
		root.BinlogFormat != "ROW" || root.BinlogRowImage != "FULL" || root.GTIDMode != "ON" || !isOn(root.LogBin) || root.ReadOnly || root.Replica ||
		!root.ReplicationSlave || !root.ReplicationClient || root.Executed.IsZero() || root.Prepared < 0 || !root.LogReplicaUpdates {
		t.Errorf("facts are %+v", root)
	}
	f.exec("XA START 'facts'", "XA END 'facts'", "XA PREPARE 'facts'")
	if more, err := source.Inspect(t.Context(), f.db); err != nil || more.Prepared != root.Prepared+1 {
		t.Errorf("%d prepared, then %d: %v", root.Prepared, more.Prepared, err)
	}
	f.exec("XA ROLLBACK 'facts'")
	cfg := f.cfg
	cfg.User, cfg.Password, cfg.Database = "facts", "pw", ""
	db, err := source.OpenDB(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	user, err := source.Inspect(t.Context(), db)
	if err != nil || user.ReplicationSlave || user.ReplicationClient || user.Prepared != -1 || user.ServerUUID != root.ServerUUID {
		t.Errorf("facts of a user without privileges are %+v, %v", user, err)
	}
}

func isOn(v string) bool { return v == "ON" || v == "1" }

// TestLeastPrivileges does everything as a user who has just what the package doc asks for.
func TestLeastPrivileges(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int primary key, v varchar(10))", "INSERT INTO t VALUES (1,'a')")
	f.srv.MustCreateUser(t, "least", "pw", "REPLICATION SLAVE, REPLICATION CLIENT ON *.*", "SELECT ON "+f.schema+".*")
	reader := *f
	reader.cfg.User, reader.cfg.Password = "least", "pw"
	s := reader.open()
	_, from := reader.end(s)
	f.exec("INSERT INTO t VALUES (2,'b')", "ALTER TABLE t ADD INDEX (v)", "INSERT INTO t VALUES (3,'c')")
	if n := len(changes(reader.log(s, from))); n != 2 {
		t.Errorf("%d changes", n)
	}
	if n := len(reader.read(s, s.Tables()[0])); n != 3 {
		t.Errorf("%d rows", n)
	}
	// Without the right to read the log, an error that says so, and at once.
	f.srv.MustCreateUser(t, "less", "pw", "REPLICATION CLIENT ON *.*", "SELECT ON "+f.schema+".*")
	reader.cfg.User = "less"
	s = reader.open()
	if _, err := reader.tryLog(s, from); err == nil || replication.Transient(err) || !strings.Contains(err.Error(), "REPLICATION SLAVE") {
		t.Errorf("reading the log without the right to: %v", err)
	}
}
