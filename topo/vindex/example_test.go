package vindex_test

import (
	"fmt"
	"log"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

func Example() {
	vschema, err := topo.ParseVSchema([]byte(`{
		"sharded": true,
		"vindexes": {"hash": {"type": "hash"}},
		"tables": {"orders": {"column_vindexes": [{"column": "customer_id", "name": "hash"}]}}
	}`))
	if err != nil {
		log.Fatal(err)
	}
	ranges, err := topo.KeyRange{}.Split(2)
	if err != nil {
		log.Fatal(err)
	}
	router, err := topo.NewRouter(ranges)
	if err != nil {
		log.Fatal(err)
	}

	p, err := vindex.Resolve(vschema, "orders", vindex.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Table, "is", p.Kind, "by", p.Columns)
	var buf [16]byte
	for _, customer := range []string{"1", "4"} {
		id, err := p.Vindex.Map(buf[:0], []vindex.Value{{Class: vindex.Signed, Bytes: []byte(customer)}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("customer %s: %x is on %s\n", customer, id, ranges[router.Route(id)])
	}
	// Output:
	// orders is sharded by [customer_id]
	// customer 1: 166b40b44aba4bd6 is on -80
	// customer 4: d2fd8867d50d2dfe is on 80-
}

func ExampleNew() {
	_, err := vindex.New("lookup_unique", nil, vindex.Options{})
	fmt.Println(err)
	_, err = vindex.New("region_experimental", map[string]string{"region_bytes": "3"}, vindex.Options{})
	fmt.Println(err)
	// Output:
	// vindex type "lookup_unique": it looks keyspace ids up in a table; only functional vindexes can place rows
	// vindex type region_experimental: parameter region_bytes: "3" is neither 1 nor 2
}

func ExampleResolve_missing() {
	vschema, err := topo.ParseVSchema([]byte(`{"sharded": true}`))
	if err != nil {
		log.Fatal(err)
	}
	_, err = vindex.Resolve(vschema, "orders", vindex.Options{})
	fmt.Println(err)
	// Output:
	// table orders is not in the VSchema of the sharded keyspace; add {"vindexes":{"xxhash":{"type":"xxhash"}},"tables":{"orders":{"column_vindexes":[{"column":"COLUMN","name":"xxhash"}]}}}
}
