package target_test

import (
	"context"
	"log"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/target"
)

func ExampleOpen() {
	ctx := context.Background()
	// The source and the tables come from package source; the stream's row is in the target's sidecar database.
	var src replication.Source
	var tables []*replication.Table
	t, err := target.Open(ctx, target.Config{
		Server:   mysqlconn.Config{Addr: "10.0.0.9:3306", User: "move", Database: "commerce"},
		StreamID: 1,
		Tables:   tables,
	}, target.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	if err := replication.NewStream(src, t, tables, replication.Options{}).Run(ctx); err != nil {
		log.Fatal(err)
	}
}
