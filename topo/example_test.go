package topo_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

func Example() {
	ctx := context.Background()
	openers := topo.Openers{"memory": memorytopo.New().Open}
	ts, err := topo.Open(ctx, openers, topo.Address{Type: "memory", Root: "/global"})
	if err != nil {
		log.Fatal(err)
	}
	defer ts.Close()

	steps := []error{
		ts.CreateCell(ctx, topo.CellInfo{Name: "zone1", Root: "/zone1"}),
		ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}),
		ts.CreateShard(ctx, "commerce", "-80"),
		ts.CreateShard(ctx, "commerce", "80-"),
		ts.InitTablet(ctx, topo.Tablet{
			Alias: topo.TabletAlias{Cell: "zone1", UID: 100}, Keyspace: "commerce", Shard: "-80",
			Type: topo.TabletPrimary, MySQLHostname: "db1", MySQLPort: 3306,
		}),
	}
	for _, err := range steps {
		if err != nil {
			log.Fatal(err)
		}
	}

	shards, err := ts.ServingShards(ctx, "commerce")
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range shards {
		fmt.Printf("shard %s, primary %q\n", s.Name, s.PrimaryAlias)
	}
	primary, err := ts.Primary(ctx, "commerce", "-80")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(primary.MySQLAddr(), primary.DBName())
	// Output:
	// shard -80, primary "zone1-0000000100"
	// shard 80-, primary ""
	// db1:3306 vt_commerce
}

func ExampleParseKeyRange() {
	r, err := topo.ParseKeyRange("40-80")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r, r.Contains([]byte{0x7f, 0xff}), r.Contains([]byte{0x80}))
	_, err = topo.ParseKeyRange("80-40")
	fmt.Println(err)
	// Output:
	// 40-80 true false
	// bad key range "80-40": the start is not below the end
}

func ExampleNewRouter() {
	ranges, err := topo.KeyRange{}.Split(3)
	if err != nil {
		log.Fatal(err)
	}
	router, err := topo.NewRouter(ranges)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ranges, ranges[router.Route([]byte{0x80})])
	_, err = topo.NewRouter(ranges[1:])
	fmt.Println(err)
	// Output:
	// [-55 55-aa aa-] 55-aa
	// no key range holds -55
}

func ExampleParseVSchema() {
	_, err := topo.ParseVSchema([]byte(`{"tables": {"t": {"column_vindex": []}}}`))
	fmt.Println(err)
	// Output:
	// malformed JSON: tables.t.column_vindex: there is no such field
}

func ExampleServer_LockName() {
	ctx := context.Background()
	ts, err := topo.Open(ctx, topo.Openers{"memory": memorytopo.New().Open}, topo.Address{Type: "memory", Root: "/global"})
	if err != nil {
		log.Fatal(err)
	}
	defer ts.Close()
	lock, err := ts.LockName(ctx, "commerce/wf", topo.LockOptions{Action: "Complete"})
	if err != nil {
		log.Fatal(err)
	}
	// Work under lock.Context(): it ends when the lock is lost.
	fmt.Println(lock.Context().Err())
	fmt.Println(lock.Unlock(ctx))
	// Output:
	// <nil>
	// <nil>
}
