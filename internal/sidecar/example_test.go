package sidecar_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/sidecar"
)

func ExampleOpen() {
	ctx := context.Background()
	db, err := mysqlconn.Open(ctx, mysqlconn.Config{Addr: "10.0.0.5:3306", User: "move"}, mysqlconn.Session{})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	side, err := sidecar.Open(ctx, db, sidecar.DefaultDatabase)
	if err != nil {
		log.Fatal(err)
	}
	streams, err := side.Streams(ctx, sidecar.Filter{Workflow: "wf", DBName: "commerce"})
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range streams {
		fmt.Println(s.ID, s.State, s.Position)
	}
}
