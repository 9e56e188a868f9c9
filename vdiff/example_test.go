package vdiff_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tablehaul/tablehaul/vdiff"
)

// commerce stands for what a program gets from migrate.Migrator.Workflow("commerce.wf").
var commerce vdiff.Workflow = &workflow{name: "commerce.wf"}

// Compare all tables of a workflow and say what differs.
func ExampleVDiff_Create() {
	ctx := context.TODO()
	report, err := vdiff.New(commerce).Create(ctx, vdiff.Options{})
	if err != nil {
		log.Print(err)
		return
	}
	for _, table := range report.Tables {
		for _, d := range table.Mismatched {
			fmt.Printf("%s %s: %v differ\n", table.Table, d.Key, d.Columns)
		}
	}
	fmt.Printf("%d rows compared, equal: %t\n", report.RowsCompared(), report.Equal())
}

// Ask for a comparison here and have it made by the process that runs the streams.
func ExampleVDiff_RunPending() {
	ctx := context.TODO()
	uuid, err := vdiff.New(commerce).Prepare(ctx, vdiff.Options{Tables: []string{"customer"}})
	if err != nil {
		log.Print(err)
		return
	}
	// In the other process, now and then:
	if err := vdiff.New(commerce).RunPending(ctx); err != nil {
		log.Print(err)
	}
	// In any process:
	report, err := vdiff.New(commerce).Show(ctx, uuid)
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Print(report)
}

// A report as text.
func ExampleReport_String() {
	fmt.Print(&vdiff.Report{
		Workflow: "wf", Keyspace: "commerce", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", State: vdiff.StateCompleted,
		Tables: []*vdiff.TableReport{{
			Table: "customer", State: vdiff.StateCompleted, Counts: vdiff.Counts{MatchingRows: 4, MismatchedRows: 1},
			Mismatched: []vdiff.Difference{{
				Key:     vdiff.Values{{Column: "id", Text: "3"}},
				Source:  vdiff.Values{{Column: "id", Text: "3"}, {Column: "email", Text: "a@b.c"}},
				Target:  vdiff.Values{{Column: "id", Text: "3"}, {Column: "email", Null: true}},
				Columns: []string{"email"},
			}},
		}},
	})
	// Output:
	// VDiff Summary for commerce.wf (6ba7b810-9dad-41d1-80b4-00c04fd430c8)
	// State:        completed
	// RowsCompared: 5
	// HasMismatch:  true
	//
	// Table customer: completed
	// 	RowsCompared:    5
	// 	MatchingRows:    4
	// 	MismatchedRows:  1
	// 	ExtraRowsSource: 0
	// 	ExtraRowsTarget: 0
	// 	differs in email: id=3
	// 		source: id=3, email=a@b.c
	// 		target: id=3, email=NULL
}
