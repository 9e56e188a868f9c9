package vitess

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
)

// testUnshardedTarget moves tables into a keyspace beside its vttablets, while Vitess makes another tablet its primary.
func testUnshardedTarget(t *testing.T, l *lab) {
	c := l.west()
	mv := newMover(t, c.topology(t))
	l.mountPlain(t, mv.ts, "flat", 3000)
	sidecar := c.vtSidecars(t, "commerce")
	if on := c.tablets["zone1-100"].server.MustQuery(t, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_status'"); fmt.Sprint(on) != "[[Rpl_semi_sync_source_status ON]]" {
		t.Errorf("semi-synchronous replication is not in use: %v", on)
	}
	load := l.write(t, "flat")

	wf := mv.create(t, "commerce.flat", migrate.CreateOptions{Source: "ext1.flat"})
	watch(t, wf, "first rows", func(st *migrate.Status) bool { return st.Streams[0].RowsCopied > 200 })
	c.ctl(t, "PlannedReparentShard", "--new-primary", "zone2-101", "commerce/0")
	c.awaitServing(t, "commerce", "0", "zone2-101")
	running(t, wf)
	watch(t, wf, "the new primary", func(st *migrate.Status) bool { return sameAlias(st.Streams[0].Tablet, "zone2-101") })
	c.ctl(t, "PlannedReparentShard", "--new-primary", "zone1-100", "commerce/0")
	watch(t, wf, "the first primary", func(st *migrate.Status) bool { return sameAlias(st.Streams[0].Tablet, "zone1-100") })
	counts := load.MustStop(t)
	t.Logf("%d transactions were written meanwhile", counts.Transactions)
	compare(t, wf)
	c.noTables(t, "commerce", "orders")
	res := complete(t, wf)
	if len(res.Published) != 3 {
		t.Errorf("published %v", res.Published)
	}
	replicationtest.CheckEqual(t, l.plain().DB(t), c.tablets["zone1-100"].server.DB(t), "flat", "vt_commerce", "orders", "item", "country")
	c.checkSidecars(t, "commerce", sidecar)
	c.checkReplica(t, "zone2-101", "zone1-100")
	c.checkServed(t, "commerce", "0", "orders", "item", "country")

	// Everything goes through vtgate, without any command to Vitess in between.
	for _, table := range []string{"orders", "item", "country"} {
		checkSame(t, c.gate, "SELECT * FROM commerce."+table, l.plain().DB(t), "SELECT * FROM flat."+table)
	}
	c.mustGate(t, "INSERT INTO commerce.orders (id, customer) VALUES (-77, 'a'), (-78, 'b')", 2)
	c.mustGate(t, "INSERT INTO commerce.country VALUES ('IT', 'Italia')", 1)
	c.mustGate(t, "UPDATE commerce.orders SET amount = 5 WHERE id = -77", 1)
	c.mustGate(t, "DELETE FROM commerce.orders WHERE id IN (-77, -78)", 2)
}

// testCancel gives up a move in the middle: Vitess sees nothing of it any more.
func testCancel(t *testing.T, l *lab) {
	c := l.west()
	mv := newMover(t, c.topology(t))
	l.mountPlain(t, mv.ts, "given_up", 3000)
	l.plain().MustExec(t, "RENAME TABLE given_up.orders TO given_up.orders2, given_up.item TO given_up.item2, given_up.country TO given_up.country2")
	before := c.ctl(t, "GetVSchema", "commerce") + c.ctl(t, "GetShard", "commerce/0")
	wf := mv.create(t, "commerce.given_up", migrate.CreateOptions{Source: "ext1.given_up"})
	watch(t, wf, "first rows", func(st *migrate.Status) bool { return rowsCopied(st) > 200 })
	_, err := wf.Cancel(t.Context(), migrate.CancelOptions{})
	must(t, err)
	if after := c.ctl(t, "GetVSchema", "commerce") + c.ctl(t, "GetShard", "commerce/0"); after != before {
		t.Errorf("VSchema and shard were\n%s\nand are\n%s", before, after)
	}
	rows, err := query(t.Context(), c.gate, "SHOW TABLES FROM commerce LIKE '%2'")
	must(t, err)
	if len(rows) > 0 {
		t.Errorf("tables are left: %v", rows)
	}
	c.checkServed(t, "commerce", "0")
}

// checkReplica looks whether a tablet replicates, and has no transactions of its own: those would be what a fenced stream did there.
func (c *cluster) checkReplica(t *testing.T, replica, primary string) {
	t.Helper()
	r, p := c.tablets[replica].server, c.tablets[primary].server
	await(t, "replication of "+replica, func(ctx context.Context) error {
		want, err := p.Query(ctx, "SELECT @@gtid_executed")
		if err != nil {
			return err
		}
		got, err := r.Query(ctx, "SELECT GTID_SUBSET('"+want[0][0]+"', @@gtid_executed), GTID_SUBTRACT(@@gtid_executed, '"+want[0][0]+"')")
		if err == nil && (got[0][0] != "1" || got[0][1] != "") {
			err = fmt.Errorf("it has all: %s, more: %q", got[0][0], got[0][1])
		}
		return err
	})
}

// mustGate executes a statement by vtgate.
func (c *cluster) mustGate(t *testing.T, text string, rows int64) {
	t.Helper()
	r, err := c.gate.ExecContext(t.Context(), text)
	must(t, err)
	if n, err := r.RowsAffected(); err != nil || n != rows {
		t.Errorf("%s: %d rows, %v", text, n, err)
	}
}

// vtSidecars are the checksums of what Vitess keeps on the primaries about workflows, reparents and transactions.
func (c *cluster) vtSidecars(t *testing.T, keyspace string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, tab := range c.keyspaceTablets(keyspace) {
		if tab.primary {
			rows, err := query(t.Context(), tab.server.DB(t), "CHECKSUM TABLE _vt.vreplication, _vt.vreplication_log, _vt.copy_state, _vt.post_copy_action, _vt.vdiff, "+
				"_vt.vdiff_table, _vt.dt_state, _vt.dt_participant, _vt.redo_state, _vt.redo_statement, _vt.resharding_journal, _vt.schema_migrations")
			must(t, err)
			out[tab.alias] = fmt.Sprint(rows)
		}
	}
	return out
}

func (c *cluster) checkSidecars(t *testing.T, keyspace string, before map[string]string) {
	t.Helper()
	for alias, now := range c.vtSidecars(t, keyspace) {
		if now != before[alias] {
			t.Errorf("_vt of %s has changed:\n%s\n%s", alias, before[alias], now)
		}
	}
}

// noTables fails if the VSchema has a table already.
func (c *cluster) noTables(t *testing.T, keyspace, table string) {
	t.Helper()
	if vs := c.vschema(t, keyspace); vs.Tables[table] != nil {
		t.Errorf("table %s is in the VSchema of %s before Complete", table, keyspace)
	}
}

// vschema is what vtctldclient says that a keyspace's VSchema is.
func (c *cluster) vschema(t *testing.T, keyspace string) *topo.VSchema {
	t.Helper()
	vs, err := topo.ParseVSchema([]byte(c.ctl(t, "GetVSchema", keyspace)))
	must(t, err)
	return vs
}

// checkServed looks, with Vitess's own commands, whether tables are published everywhere, and nothing keeps queries away.
func (c *cluster) checkServed(t *testing.T, keyspace, shards string, tables ...string) {
	t.Helper()
	for _, cell := range c.cells {
		var srv struct {
			Keyspaces map[string]json.RawMessage `json:"keyspaces"`
		}
		must(t, json.Unmarshal([]byte(c.ctl(t, "GetSrvVSchema", cell.name)), &srv))
		vs, err := topo.ParseVSchema(srv.Keyspaces[keyspace])
		must(t, err)
		for _, table := range tables {
			if vs.Tables[table] == nil {
				t.Errorf("SrvVSchema of %s has no table %s in %s", cell.name, table, keyspace)
			}
			if c.vschema(t, keyspace).Tables[table] == nil {
				t.Errorf("the VSchema of %s has no table %s", keyspace, table)
			}
		}
	}
	for shard := range strings.SplitSeq(shards, ",") {
		if text := c.ctl(t, "GetShard", keyspace+"/"+shard); strings.Contains(text, "denied_tables") && !strings.Contains(text, `"tablet_controls": []`) {
			t.Errorf("shard %s/%s has tablet controls: %s", keyspace, shard, text)
		}
	}
	for _, args := range [][]string{{"ValidateKeyspace", keyspace}, {"ValidateSchemaKeyspace", keyspace}, {"ValidateVersionKeyspace", keyspace}} {
		await(t, strings.Join(args, " "), func(ctx context.Context) error {
			out, err := c.tryCtl(ctx, args...)
			if err == nil && strings.Contains(out, `"results": [`) && !strings.Contains(out, `"results": []`) {
				err = fmt.Errorf("it says %s", out)
			}
			return err
		})
	}
	for _, table := range tables {
		c.awaitTable(t, keyspace, table)
	}
}

// testShardedTarget moves tables into a keyspace of two shards, of one of which the primary dies meanwhile.
func testShardedTarget(t *testing.T, l *lab) {
	c := l.west()
	mv := newMover(t, c.topology(t))
	l.mountPlain(t, mv.ts, "spread", 3000)
	const text = `{
		"sharded": true,
		"vindexes": {"hash": {"type": "hash"}, "loose": {"type": "unicode_loose_xxhash"}},
		"tables": {
			"orders": {"column_vindexes": [{"column": "customer", "name": "loose"}], "columns": [{"name": "note", "type": "TEXT"}]},
			"item": {"column_vindexes": [{"column": "sku", "name": "loose"}]},
			"country": {"type": "reference"}}}`
	c.ctl(t, "ApplyVSchema", "--vschema", text, "customer")
	before := c.ctl(t, "GetVSchema", "customer")
	load := l.write(t, "spread")

	c.dropLater(t, "customer", "orders, item, country")
	wf := mv.create(t, "customer.spread", migrate.CreateOptions{Source: "ext1.spread"})
	watch(t, wf, "first rows", func(st *migrate.Status) bool { return rowsCopied(st) > 200 })
	c.crash(t, "zone1-200")
	await(t, "emergency reparent", func(ctx context.Context) error {
		_, err := c.tryCtl(ctx, "EmergencyReparentShard", "--new-primary", "zone2-201", "customer/-80")
		return err
	})
	c.awaitServing(t, "customer", "-80", "zone2-201")
	c.ctl(t, "DeleteTablets", "--allow-primary", "zone1-200") // its record still says that it is the primary
	other := c.tablets["zone1-300"]
	other.program.kill()
	c.startTablet(l.t, other)
	running(t, wf)
	counts := load.MustStop(t)
	t.Logf("%d transactions were written meanwhile", counts.Transactions)
	compare(t, wf)
	complete(t, wf)
	c.awaitServing(t, "customer", "80-", "zone1-300")
	if after := c.ctl(t, "GetVSchema", "customer"); after != before {
		t.Errorf("the VSchema was\n%s\nand is\n%s", before, after)
	}
	c.checkServed(t, "customer", "-80,80-", "orders", "item", "country")
	for _, table := range []string{"orders", "item", "country"} {
		checkSame(t, c.gate, "SELECT * FROM customer."+table, l.plain().DB(t), "SELECT * FROM spread."+table)
	}
	c.checkFound(t, "SELECT sku FROM customer.item WHERE sku = ?", l.plain().MustQuery(t, "SELECT sku FROM spread.item LIMIT 300"))
	c.checkFound(t, "SELECT id FROM customer.orders WHERE customer = ? AND id = ?", l.plain().MustQuery(t, "SELECT customer, id FROM spread.orders LIMIT 300"))
	c.mustGate(t, "INSERT INTO customer.orders (id, customer) VALUES (1000001, 'a'), (1000002, 'b'), (1000003, 'c')", 3)
	c.mustGate(t, "INSERT INTO customer.item (sku, price) VALUES ('new1', 1), ('new2', 2), ('new3', 3)", 3)
	c.mustGate(t, "DELETE FROM customer.item WHERE sku = 'NEW2'", 1)
	// Complete has told the vttablets of the tables, so that vtgate gets to know their columns.
	await(t, "INSERT without columns", func(ctx context.Context) error {
		_, err := c.gate.ExecContext(ctx, "INSERT INTO customer.item VALUES ('new5', 1, NULL)")
		return err
	})
}

// checkFound asks vtgate for rows by their vindex columns, so that it looks on one shard only.
func (c *cluster) checkFound(t *testing.T, text string, rows [][]string) {
	t.Helper()
	for _, row := range rows {
		args := make([]any, len(row))
		for i, v := range row {
			args[i] = v
		}
		got, err := query(t.Context(), c.gate, text, args...)
		must(t, err)
		if len(got) != 1 {
			t.Errorf("%s %v: vtgate finds %d rows", text, row, len(got))
		}
	}
}

// dropLater drops tables at the end of the test, for those that come after it.
func (c *cluster) dropLater(t *testing.T, keyspace, tables string) {
	t.Helper()
	c.undo(t, "ApplySchema", "--ddl-strategy=direct", "--sql", "DROP TABLE IF EXISTS "+tables, keyspace)
}

// crash kills a tablet and its MySQL server.
func (c *cluster) crash(t *testing.T, alias string) {
	t.Helper()
	tab := c.tablets[alias]
	tab.server.Kill9()
	tab.program.kill()
	delete(c.tablets, alias)
}

func rowsCopied(st *migrate.Status) (n int64) {
	for _, s := range st.Streams {
		n += s.RowsCopied
	}
	return n
}
