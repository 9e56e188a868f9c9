package memorytopo_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

func ExampleNew() {
	ctx := context.Background()
	mem := memorytopo.New()
	c, err := mem.Open(ctx, topo.Address{Type: "memory", Root: "/global"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(ctx, "metadata/owner", []byte("me"), topo.Absent); err != nil {
		log.Fatal(err)
	}
	value, _, err := c.Get(ctx, "metadata/owner")
	fmt.Println(string(value), err)
	// Output: me <nil>
}
