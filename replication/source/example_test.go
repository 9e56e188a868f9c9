package source_test

import (
	"context"
	"fmt"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
)

func ExampleOpen() {
	ctx := context.Background()
	src, err := source.Open(ctx, source.Config{Addr: "10.0.0.5:3306", User: "move", Database: "shop"}, nil, source.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer src.Close()
	for _, t := range src.Tables() {
		chunk, err := src.Read(ctx, t, replication.Span{}, replication.Limit{Rows: 1000})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(t.Name, len(chunk.Rows), t.FormatSpan(chunk.Span))
	}
}

func ExampleSource_Transactions() {
	ctx := context.Background()
	follow := func(src *source.Source) error {
		_, from, err := src.End(ctx)
		if err != nil {
			return err
		}
		for t, err := range src.Transactions(ctx, from) {
			if err != nil {
				return err
			}
			fmt.Println(t.End, t.GTID, len(t.Changes))
		}
		return nil
	}
	_ = follow
}
