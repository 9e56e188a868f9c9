package vitess

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
)

// testSequences moves a table with AUTO_INCREMENT into a keyspace of two shards: vtgate gives out the ids from then on.
func testSequences(t *testing.T, l *lab) {
	c := l.west()
	mv := newMover(t, c.topology(t))
	l.plain().MustExec(t, `CREATE DATABASE counted; USE counted; CREATE TABLE visit (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, who VARCHAR(40));
		INSERT INTO visit WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i * 3, CONCAT('n', i) FROM n`)
	err := mount.Register(t.Context(), mv.ts, mount.Cluster{Name: "ext2", Type: mount.MySQL, Hosts: []string{l.plain().Addr()}}, mount.RegisterOptions{Credentials: login})
	must(t, err)
	c.ctl(t, "ApplyVSchema", "--vschema", `{"sharded": true, "vindexes": {"hash": {"type": "hash"}}, "tables": {"visit": {"column_vindexes": [{"column": "id", "name": "hash"}]}}}`, "customer")
	wf := mv.create(t, "customer.counted", migrate.CreateOptions{Source: "ext2.counted", AutoIncrement: migrate.AutoIncrementReplace, GlobalKeyspace: "commerce"})
	running(t, wf)
	res := complete(t, wf)
	if res.Sequences["commerce.visit_seq"] != 1501 {
		t.Errorf("sequences %v", res.Sequences)
	}
	c.awaitTable(t, "customer", "visit")
	t.Log("done: " + strings.Join(res.Done, "; "))
	for i := range 20 {
		c.mustGate(t, fmt.Sprintf("INSERT INTO customer.visit (who) VALUES ('new %d')", i), 1)
	}
	c.mustGate(t, "INSERT INTO customer.visit (who) VALUES ('many'), ('many'), ('many')", 3)
	rows, err := query(t.Context(), c.gate, "SELECT id FROM customer.visit WHERE who LIKE 'new %' OR who = 'many' ORDER BY id")
	must(t, err)
	var ids []string
	for _, r := range rows {
		ids = append(ids, r[0])
	}
	t.Logf("ids %s", strings.Join(ids, " "))
	if len(ids) != 23 || ids[0] < "1501" {
		t.Errorf("ids %v", ids)
	}
	// A sequence of which the vttablet has ids in memory is used by another workflow, whose ids are higher: it forgets them.
	l.plain().MustExec(t, "CREATE DATABASE again; USE again; CREATE TABLE visit2 (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, who VARCHAR(40)); INSERT INTO visit2 VALUES (1600, 'x'), (5000, 'y')")
	c.ctl(t, "ApplyVSchema", "--vschema", `{"sharded": true, "vindexes": {"hash": {"type": "hash"}}, "tables": {
		"visit": {"column_vindexes": [{"column": "id", "name": "hash"}], "auto_increment": {"column": "id", "sequence": "commerce.visit_seq"}},
		"visit2": {"column_vindexes": [{"column": "id", "name": "hash"}], "auto_increment": {"column": "id", "sequence": "visit_seq"}}}}`, "customer")
	wf = mv.create(t, "customer.again", migrate.CreateOptions{Source: "ext2.again", AutoIncrement: migrate.AutoIncrementReplace, GlobalKeyspace: "commerce"})
	running(t, wf)
	complete(t, wf)
	c.awaitTable(t, "customer", "visit2")
	c.mustGate(t, "INSERT INTO customer.visit2 (who) VALUES ('z')", 1)
	rows, err = query(t.Context(), c.gate, "SELECT id FROM customer.visit2 WHERE who = 'z'")
	must(t, err)
	if fmt.Sprint(rows) != "[[5001]]" {
		t.Errorf("id %v", rows)
	}
	c.checkServed(t, "customer", "-80,80-", "visit", "visit2")
}
