package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/tablehaul/tablehaul/test/shardcheck"
	"github.com/tablehaul/tablehaul/topo"
)

// home is the source shard on which a row has to be.
func (r *reshard) home(t *testing.T, table string, row shardcheck.Row) shardcheck.Shard {
	t.Helper()
	for _, c := range reshardCheck {
		if c.Name != table {
			continue
		}
		i, err := shardcheck.Home(r.sources, c, row)
		if err != nil || i < 0 {
			t.Fatalf("%s %v: shard %d: %v", table, row, i, err)
		}
		return r.sources[i]
	}
	t.Fatalf("no table %s", table)
	return shardcheck.Shard{}
}

// align puts rows on those source shards where the target's VSchema would have them, and gives the source the same VSchema.
func (r *reshard) align(t *testing.T) {
	t.Helper()
	vs := &topo.VSchema{}
	if err := json.Unmarshal([]byte(reshardVSchema), vs); err != nil {
		t.Fatal(err)
	}
	if err := r.ext.SaveVSchema(t.Context(), r.keyspace, vs); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.sources {
		for _, table := range []string{"orders", "names", "events", "settings"} {
			execute(t, s.DB, "DELETE FROM "+s.Database+"."+table)
		}
	}
	for i := range 300 {
		text := []byte(strconv.Itoa(i))
		s := r.home(t, "orders", shardcheck.Row{"customer": text})
		execute(t, s.DB, "INSERT INTO "+s.Database+".orders VALUES (?, ?, 'aligned', ?)", i, i, i)
		s = r.home(t, "names", shardcheck.Row{"name": text})
		execute(t, s.DB, "INSERT INTO "+s.Database+".names VALUES (?, ?)", strconv.Itoa(i), i)
		s = r.home(t, "events", shardcheck.Row{"region": []byte(strconv.Itoa(i % 7)), "id": text})
		execute(t, s.DB, "INSERT INTO "+s.Database+".events VALUES (?, ?, NOW(6), x'00ff')", i%7, i)
	}
	s := r.home(t, "settings", nil)
	execute(t, s.DB, "INSERT INTO "+s.Database+".settings VALUES ('a', '1'), ('b', 'null')")
}

// changeAligned lets orders go to other customers of the same source shard, most of them of the other target shard in it.
func (r *reshard) changeAligned(t *testing.T) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(5, 5))
	for range 100 {
		customer, id := rnd.IntN(1_000_000), rnd.IntN(300)
		s := r.home(t, "orders", shardcheck.Row{"customer": []byte(strconv.Itoa(customer))})
		execute(t, s.DB, fmt.Sprintf("UPDATE %s.orders SET customer = ?, note = 'moved' WHERE id = ?", s.Database), customer, id)
		if id%10 == 0 {
			execute(t, s.DB, fmt.Sprintf("DELETE FROM %s.orders WHERE id = ?", s.Database), id)
		}
	}
}
