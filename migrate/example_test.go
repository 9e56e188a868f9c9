package migrate_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

func ExampleNew() {
	ctx := context.Background()
	ts, err := topo.Open(ctx, topo.Openers{"memory": memorytopo.New().Open}, topo.Address{Type: "memory", Root: "/global"})
	if err != nil {
		log.Fatal(err)
	}
	defer ts.Close()
	m, err := migrate.New(ts, mount.Static(mount.Login{User: "mover"}), migrate.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	_, err = m.Workflow("commerce.wf").Show(ctx)
	fmt.Println(err)
	// Output: keyspace commerce not found
}

// Into a sharded keyspace, whose VSchema says on which shard a row is, with sequences instead of AUTO_INCREMENT, some columns and rows of one
// table, and the name of another changed.
func ExampleCreateOptions_sharded() {
	var m *migrate.Migrator // of New
	res, err := m.Workflow("customer.wf").Create(context.Background(), migrate.CreateOptions{
		Source: "ext1.load", Tables: []string{"customer"},
		Filters: map[string]string{
			"orders":   "select id, customer_id, sku, price from orders where state <> 'void'",
			"products": "select * from product",
		},
		AutoIncrement: migrate.AutoIncrementReplace, GlobalKeyspace: "commerce",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(res.Plan)
}

// The five steps, without the first (mount.Register) and the fourth (vdiff).
func Example() {
	var m *migrate.Migrator // of New
	ctx := context.Background()
	go func() {
		if err := m.Run(ctx); err != nil {
			log.Print(err)
		}
	}()
	wf := m.Workflow("commerce.wf")
	if _, err := wf.Create(ctx, migrate.CreateOptions{Source: "ext1.load", AllTables: true}); err != nil {
		log.Fatal(err) // a *PreflightError says everything that is in the way
	}
	for status, err := range wf.Watch(ctx, 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %.1f%%\n", status.State, status.Progress())
		if status.State == migrate.StateRunning {
			break
		}
	}
	res, err := wf.Complete(ctx, migrate.CompleteOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Done)
}
