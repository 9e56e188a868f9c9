package routing_test

import (
	"fmt"

	"github.com/tablehaul/tablehaul/migrate/routing"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// A table that the VSchema does not have can't be routed; the error says what to add.
func ExampleRoutes() {
	left, err := topo.ParseKeyRange("-80")
	if err != nil {
		fmt.Println(err)
		return
	}
	right, err := topo.ParseKeyRange("80-")
	if err != nil {
		fmt.Println(err)
		return
	}
	orders := &replication.Table{
		Name: "orders", Columns: []replication.Column{{Name: "id", Kind: replication.KindInt}},
		Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}}, Ordered: true,
	}
	_, err = routing.Routes([]*replication.Table{orders}, &topo.VSchema{Sharded: true}, []topo.KeyRange{left, right}, vindex.Options{})
	fmt.Println(err)
	// Output:
	// table orders is not in the VSchema of the sharded keyspace; add {"vindexes":{"xxhash":{"type":"xxhash"}},"tables":{"orders":{"column_vindexes":[{"column":"id","name":"xxhash"}]}}}
}
