package source_test

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
)

var familyTables = []string{
	"CREATE TABLE p (a int, b int, primary key (a, b))",
	"CREATE TABLE c (id int primary key, x int, y int, up int, foreign key (y, x) references p (a, b) on delete cascade on update set null," +
		" foreign key (up) references c (id))",
	"CREATE TABLE lone (id int primary key)",
	"CREATE TABLE r (id int primary key, foreign key (id) references lone (id))",
}

// TestForeignKeys reads them as a user who may only read the tables.
func TestForeignKeys(t *testing.T) {
	f := newFixture(t)
	f.exec(familyTables...)
	f.exec("CREATE USER reader_fk@'%'", "GRANT SELECT ON "+f.schema+".* TO reader_fk@'%'")
	db, err := sql.Open("mysql", "reader_fk@tcp("+f.srv.Addr()+")/"+f.schema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tables, err := source.Tables(t.Context(), db, f.schema, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%+v %+v %+v", tables[0].ForeignKeys, tables[2].ForeignKeys, tables[3].ForeignKeys)
	want := "[{Name:c_ibfk_1 Columns:[2 1] ParentSchema: Parent:p ParentColumns:[a b] OnDelete:1 OnUpdate:2}" +
		" {Name:c_ibfk_2 Columns:[3] ParentSchema: Parent:c ParentColumns:[id] OnDelete:0 OnUpdate:0}] [] " +
		"[{Name:r_ibfk_1 Columns:[0] ParentSchema: Parent:lone ParentColumns:[id] OnDelete:0 OnUpdate:0}]"
	if got != want {
		t.Errorf("foreign keys are\n%s, want\n%s", got, want)
	}
	for _, x := range tables {
		if x.Family != "" {
			t.Errorf("%s is of the family %s, though the server logs cascades", x.Name, x.Family)
		}
	}
	facts, err := source.Inspect(t.Context(), f.db)
	if err != nil || !facts.LogsCascades {
		t.Errorf("facts %+v, %v", facts, err)
	}
	s := f.open("p", "c")
	_, from := f.end(s)
	f.exec("INSERT INTO p VALUES (1,1)", "INSERT INTO c VALUES (7,1,1,NULL)", "DELETE FROM p")
	list := f.log(s, from)
	wantLog(t, list, "+(a=1, b=1) ", "+(id=7, x=1, y=1, up=NULL) ", "-(id=7, x=1, y=1, up=NULL) -(a=1, b=1) ")
	for _, x := range list {
		for _, c := range x.Changes {
			if c.Cascade {
				t.Errorf("a change of %s may have brought others with it", c.Table.Name)
			}
		}
	}
}

// TestNativeForeignKeys reads from a server that does not log what foreign keys do.
func TestNativeForeignKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a server")
	}
	f := fixtureOn(t, replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--innodb-native-foreign-keys=ON"}}))
	f.exec(familyTables...)
	facts, err := source.Inspect(t.Context(), f.db)
	if err != nil || facts.LogsCascades {
		t.Errorf("facts %+v, %v", facts, err)
	}
	s := f.open("p", "c", "lone", "r")
	families := ""
	for _, x := range s.Tables() {
		families += x.Name + "=" + x.Family + " "
	}
	if families != "c=c lone= p=c r= " {
		t.Errorf("families are %s", families)
	}
	_, from := f.end(s)
	f.exec("INSERT INTO p VALUES (1,1)", "INSERT INTO c VALUES (7,1,1,NULL)", "DELETE FROM p", "INSERT INTO p VALUES (2,2)", "SET foreign_key_checks=0", "DELETE FROM p")
	list := f.log(s, from)
	wantLog(t, list, "+(a=1, b=1) ", "+(id=7, x=1, y=1, up=NULL) ", "-(a=1, b=1) ", "+(a=2, b=2) ", "-(a=2, b=2) ")
	if !list[2].Changes[0].Cascade || list[4].Changes[0].Cascade {
		t.Error("the flags of the rows events are not what the sessions did")
	}
	_, from = f.end(s)
	f.exec("ALTER TABLE r DROP FOREIGN KEY r_ibfk_1, ADD FOREIGN KEY (id) REFERENCES lone (id) ON DELETE CASCADE", "ALTER TABLE lone COMMENT 'x'")
	list = f.log(s, from)
	if len(list) != 2 || !list[0].DDL.ForeignKeys || list[1].DDL.ForeignKeys {
		t.Errorf("schema changes are %+v", list)
	}
}
