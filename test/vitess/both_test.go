package vitess

import (
	"testing"

	"github.com/tablehaul/tablehaul/migrate"
)

// testVitessToVitess moves tables between two clusters of Vitess: from a sharded keyspace into one that is sharded by another vindex, and from an
// unsharded one into a sharded one whose ids come from a sequence from then on.
func testVitessToVitess(t *testing.T, l *lab) {
	l.fillEast(t)
	east, west := l.east(), l.west()
	ts := west.topology(t)
	l.mountEast(t, ts)
	mv := newMover(t, ts)
	west.ctl(t, "ApplyVSchema", "--vschema", `{
		"sharded": true,
		"vindexes": {"xxhash": {"type": "xxhash"}, "hash": {"type": "hash"}},
		"tables": {
			"orders": {"column_vindexes": [{"column": "id", "name": "xxhash"}]},
			"product": {"column_vindexes": [{"column": "id", "name": "hash"}]},
			"country": {"type": "reference"}}}`, "customer")
	west.dropLater(t, "customer", "orders, product, country")
	west.dropLater(t, "commerce", "product_seq")
	stop := east.write(t)
	shop := mv.create(t, "customer.shop", migrate.CreateOptions{Source: "east.shop"})
	legacy := mv.create(t, "customer.legacy", migrate.CreateOptions{
		Source: "east.legacy", AutoIncrement: migrate.AutoIncrementReplace, GlobalKeyspace: "commerce",
	})
	watch(t, shop, "first rows", func(st *migrate.Status) bool { return rowsCopied(st) > 200 })
	west.ctl(t, "PlannedReparentShard", "--new-primary", "zone2-201", "customer/-80")
	east.ctl(t, "PlannedReparentShard", "--new-primary", "east2-101", "shop/-80")
	running(t, shop)
	running(t, legacy)
	stop()
	compare(t, shop)
	compare(t, legacy)
	complete(t, shop)
	complete(t, legacy)
	// The next id is the sequence's, on another shard or not.
	r, err := west.gate.ExecContext(t.Context(), "INSERT INTO customer.product (name) VALUES ('d'), ('e'), ('f')")
	must(t, err)
	if id, err := r.LastInsertId(); err != nil || id != 4 {
		t.Errorf("the sequence begins at %d, %v", id, err)
	}
	east.ctl(t, "PlannedReparentShard", "--new-primary", "east1-100", "shop/-80")
	west.ctl(t, "PlannedReparentShard", "--new-primary", "zone1-200", "customer/-80")
	west.awaitServing(t, "customer", "-80", "zone1-200")
	west.checkServed(t, "customer", "-80,80-", "orders", "product", "country")
	rest := map[string]string{"product": " WHERE id < 4"}
	for keyspace, tables := range map[string][]string{"shop": {"orders", "country"}, "legacy": {"product"}} {
		for _, table := range tables {
			checkSame(t, east.gate, "SELECT * FROM "+keyspace+"."+table+" LIMIT 100000", west.gate, "SELECT * FROM customer."+table+""+rest[table]+" LIMIT 100000")
		}
	}
	rows, err := query(t.Context(), east.gate, "SELECT id FROM shop.orders LIMIT 300")
	must(t, err)
	west.checkFound(t, "SELECT id FROM customer.orders WHERE id = ?", rows)
}
