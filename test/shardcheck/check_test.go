package shardcheck_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/test/shardcheck"
)

// The keyspace ids are those of Vitess's own tests.
func TestIDs(t *testing.T) {
	for number, want := range map[string]string{
		"1": "166b40b44aba4bd6", "0": "8ca64de9c1b123a7", "-1": "355550b2150e2451", "18446744073709551615": "355550b2150e2451",
		"-9223372036854775808": "95f8a5e5dd31d900",
	} {
		if id, err := shardcheck.Hash([]byte(number)); err != nil || hex.EncodeToString(id) != want {
			t.Errorf("hash of %s is %x, %v; want %s", number, id, err, want)
		}
	}
	if got := hex.EncodeToString(shardcheck.MD5([]byte("Test"))); got != "0cbc6611f5540bd0809a388dc95a615b" {
		t.Errorf("the MD5 of Test is %s", got)
	}
}

// TestCheckFinds breaks a target in every way.
func TestCheckFinds(t *testing.T) {
	t.Parallel()
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	db := s.DB(t)
	tables := []shardcheck.Table{
		{Name: "o", Key: []string{"id"}, ID: func(r shardcheck.Row) ([]byte, error) { return shardcheck.Hash(r["c"]) }},
		{Name: "r", Key: []string{"id"}, Everywhere: true},
	}
	sources := []shardcheck.Shard{{Name: "s0", DB: db, Database: "s0"}, {Name: "s1", DB: db, Database: "s1"}}
	targets := []shardcheck.Shard{{Name: "-80", DB: db, Database: "t0"}, {Name: "80-", DB: db, Database: "t1"}}
	check := func() *shardcheck.Report {
		t.Helper()
		r, err := shardcheck.Check(t.Context(), sources, targets, tables)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, name := range []string{"s0", "s1", "t0", "t1"} {
		s.MustExec(t, "CREATE DATABASE "+name+"; USE "+name+"; CREATE TABLE o (id int PRIMARY KEY, c int, v varchar(9)); CREATE TABLE r (id int PRIMARY KEY); INSERT INTO r VALUES (1), (2)")
	}
	// The ids of 1, 2 and 3 are on the left, those of 4 and 6 on the right.
	s.MustExec(t, `INSERT INTO s0.o VALUES (1, 1, 'a'), (3, 4, NULL); INSERT INTO s1.o VALUES (2, 2, ''), (4, 6, 'x');
		INSERT INTO t0.o VALUES (1, 1, 'a'), (2, 2, ''); INSERT INTO t1.o VALUES (3, 4, NULL), (4, 6, 'x')`)
	if r := check(); r.Problems > 0 || r.Rows != 6 {
		t.Fatalf("all is well: %s", r)
	}
	for _, c := range []struct{ break_, mend, want string }{
		{"DELETE FROM t0.o WHERE id=1", "INSERT INTO t0.o VALUES (1, 1, 'a')", "shard -80 misses"},
		{"INSERT INTO t0.o VALUES (9, 1, 'a')", "DELETE FROM t0.o WHERE id=9", "the source has no such row"},
		{"INSERT INTO t1.o VALUES (1, 1, 'a')", "DELETE FROM t1.o WHERE id=1", "it belongs on shard -80"},
		{"UPDATE t0.o SET v='A' WHERE id=1", "UPDATE t0.o SET v='a' WHERE id=1", "shard -80 has"},
		{"UPDATE t1.o SET v='' WHERE id=3", "UPDATE t1.o SET v=NULL WHERE id=3", "v=0:;"},
		{"DELETE FROM t1.r WHERE id=2", "INSERT INTO t1.r VALUES (2)", "r: shard 80- misses"},
		{"DELETE FROM s1.r WHERE id=2", "INSERT INTO s1.r VALUES (2)", "not on source shard s1"},
	} {
		s.MustExec(t, c.break_)
		if r := check(); r.Problems != 1 || !strings.Contains(r.String(), c.want) {
			t.Errorf("%s: want %q: %s", c.break_, c.want, r)
		}
		s.MustExec(t, c.mend)
	}
	if r := check(); r.Problems > 0 {
		t.Errorf("all is well again: %s", r)
	}
}
