package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/topo"
)

// migrateCommands begin and end workflows.
func migrateCommands() []command {
	return []command{{
		name: "Migrate", about: "Move tables of a mounted cluster into a keyspace: begin, complete or cancel a workflow.",
		forms: []string{
			"-all|-tables T[,T...] [-exclude T[,T...]] -source MOUNT.KEYSPACE [flags] Create KEYSPACE.WORKFLOW",
			"[-force] [-max_lag DURATION] [-timeout DURATION] [-rename_tables|-drop_tables] [-dry_run] Complete KEYSPACE.WORKFLOW",
			"[-keep_data] [-dry_run] Cancel KEYSPACE.WORKFLOW",
		},
		setup: migrateCommand,
	}}
}

// migrateFlags are the flags of Migrate, for all its actions.
type migrateFlags struct {
	dryRun bool

	// Create
	source                                                    string
	all, stopAfterCopy, autoStart, deferKeys, dropForeignKeys bool
	tables, exclude, cells, sourceShards                      list
	filters                                                   rules
	tenantID                                                  string
	onDDL, onDrift, sourceTimeZone, sourceTabletTypes         string
	autoIncrement, globalKeyspace                             string
	retryTime                                                 time.Duration

	// Complete
	force, renameTables, dropTables bool
	maxLag, timeout                 time.Duration

	// Cancel
	keepData bool
}

func (f *migrateFlags) define(fs *flag.FlagSet) {
	fs.BoolVar(&f.dryRun, "dry_run", false, "print what would be done and do nothing")

	fs.StringVar(&f.source, "source", "", "Create: the source, `MOUNT.KEYSPACE`")
	fs.BoolVar(&f.all, "all", false, "Create: all tables")
	fs.Var(&f.tables, "tables", "Create: these `tables`, separated by commas")
	fs.Var(&f.exclude, "exclude", "Create: all but these `tables`")
	fs.Var(&f.sourceShards, "source_shards", "Create: only these source `shards`, separated by commas")
	fs.Var(&f.filters, "filter", "Create: what is taken of a table, as `TABLE=SELECT`, with the table's name on the target; may be repeated")
	fs.StringVar(&f.tenantID, "tenant_id", "", "Create: the rows of one tenant only; the target's VSchema names the column")
	fs.BoolVar(&f.stopAfterCopy, "stop_after_copy", false, "Create: stop when all rows are copied")
	fs.BoolVar(&f.autoStart, "auto_start", true, "Create: start at once")
	fs.StringVar(&f.onDDL, "on_ddl", "IGNORE", "Create: `what` to do at a DDL on the source: IGNORE, STOP, EXEC, EXEC_IGNORE")
	fs.StringVar(&f.onDrift, "on_drift", "STOP", "Create: `what` to do about rows of the target that are not as they should be: STOP, REPAIR, SKIP")
	fs.DurationVar(&f.retryTime, "retry_time", 0, "Create: try the same error again for this `duration` before state Error; 0: as the process that runs it says, negative: for ever")
	fs.BoolVar(&f.deferKeys, "defer_secondary_keys", true, "Create: add secondary keys after a table's rows")
	fs.BoolVar(&f.dropForeignKeys, "drop_foreign_keys", false, "Create: make the target tables without foreign keys")
	fs.StringVar(&f.autoIncrement, "sharded_auto_increment_handling", "REMOVE", "Create: `what` becomes of AUTO_INCREMENT where a sharded target spreads rows: REMOVE, LEAVE, REPLACE (by sequences)")
	fs.StringVar(&f.globalKeyspace, "global_keyspace", "", "Create: the `keyspace`, not sharded, for the sequences of REPLACE")
	fs.StringVar(&f.sourceTimeZone, "source_time_zone", "", "Create: `zone` of the source's DATETIME values, converted to UTC; none: not converted")
	fs.StringVar(&f.sourceTabletTypes, "tablet_types", "", "Create: `types` of source tablets to read from, best first; none: replica,primary")
	fs.Var(&f.cells, "cells", "Create: source `cells` to read from, best first; none: any")

	fs.BoolVar(&f.force, "force", false, "Complete: even when rows are missing or the target lags")
	fs.DurationVar(&f.maxLag, "max_lag", 0, "Complete: refuse when the target lags more than this `duration`; 0: 30s")
	fs.DurationVar(&f.timeout, "timeout", 0, "Complete: wait this `duration` for the target to catch up; 0: 5m")
	fs.BoolVar(&f.renameTables, "rename_tables", false, "Complete: rename the source's tables")
	fs.BoolVar(&f.dropTables, "drop_tables", false, "Complete: drop the source's tables")

	fs.BoolVar(&f.keepData, "keep_data", false, "Cancel: leave the tables on the target")
}

func migrateCommand(fs *flag.FlagSet) runFunc {
	var f migrateFlags
	f.define(fs)
	name := []string{"KEYSPACE.WORKFLOW"}
	return actions(fs,
		action{
			name: "Create", args: name, run: f.create,
			flags: []string{"dry_run", "source", "all", "tables", "exclude", "source_shards", "filter", "tenant_id", "stop_after_copy", "auto_start", "on_ddl", "on_drift", "retry_time", "defer_secondary_keys", "drop_foreign_keys", "sharded_auto_increment_handling", "global_keyspace", "source_time_zone", "tablet_types", "cells"},
		},
		action{
			name: "Complete", args: name, run: f.complete,
			flags: []string{"dry_run", "force", "max_lag", "timeout", "rename_tables", "drop_tables"},
		},
		action{
			name: "Cancel", args: name, run: f.cancel,
			flags: []string{"dry_run", "keep_data"},
		},
	)
}

func (f *migrateFlags) create(ctx context.Context, s *session, args []string) error {
	if f.source == "" {
		return &usageError{"-source is needed"}
	}
	if f.all && len(f.tables) > 0 || !f.all && len(f.tables) == 0 && len(f.filters) == 0 {
		return &usageError{"one of -all and -tables is needed, or a -filter"}
	}
	opts := migrate.CreateOptions{
		Source: f.source, AllTables: f.all, Tables: f.tables, ExcludeTables: f.exclude,
		StopAfterCopy: f.stopAfterCopy, NoAutoStart: !f.autoStart, KeepSecondaryKeys: !f.deferKeys, DropForeignKeys: f.dropForeignKeys,
		SourceShards: f.sourceShards, Filters: f.filters, TenantID: f.tenantID,
		SourceTimeZone: f.sourceTimeZone, Cells: f.cells, DryRun: f.dryRun,
	}
	var err error
	if opts.OnDDL, err = migrate.ParseOnDDL(f.onDDL); err != nil {
		return err
	}
	if opts.OnDrift, err = migrate.ParseOnDrift(f.onDrift); err != nil {
		return err
	}
	if opts.AutoIncrement, err = migrate.ParseAutoIncrement(f.autoIncrement); err != nil {
		return err
	}
	opts.GlobalKeyspace, opts.RetryTime = f.globalKeyspace, f.retryTime
	if f.sourceTabletTypes != "" {
		if opts.TabletTypes, err = topo.ParseTabletTypes(f.sourceTabletTypes); err != nil {
			return err
		}
	}
	wf, err := s.workflow(ctx, args[0])
	if err != nil {
		return err
	}
	res, err := wf.Create(ctx, opts)
	if res == nil {
		return err
	}
	o := outcome{
		Workflow: wf.Name(), DryRun: f.dryRun, Steps: steps(res.Plan), Done: res.Done,
		Tables: res.Tables, Created: res.Created, Warnings: res.Warnings,
	}
	return s.finish(o, err, fmt.Sprintf("Workflow %s created: %d tables from %s", wf.Name(), len(res.Tables), f.source))
}

func (f *migrateFlags) complete(ctx context.Context, s *session, args []string) error {
	opts := migrate.CompleteOptions{Force: f.force, MaxLag: f.maxLag, Timeout: f.timeout, DryRun: f.dryRun}
	switch {
	case f.renameTables && f.dropTables:
		return &usageError{"only one of -rename_tables and -drop_tables"}
	case f.renameTables:
		opts.SourceTables = migrate.RenameSourceTables
	case f.dropTables:
		opts.SourceTables = migrate.DropSourceTables
	}
	wf, err := s.workflow(ctx, args[0])
	if err != nil {
		return err
	}
	res, err := wf.Complete(ctx, opts)
	if res == nil {
		return err
	}
	o := outcome{
		Workflow: wf.Name(), DryRun: f.dryRun, Steps: steps(res.Plan), Done: res.Done,
		Positions: res.Positions, Published: res.Published, Sequences: res.Sequences,
	}
	return s.finish(o, err, fmt.Sprintf("Workflow %s completed", wf.Name()))
}

func (f *migrateFlags) cancel(ctx context.Context, s *session, args []string) error {
	wf, err := s.workflow(ctx, args[0])
	if err != nil {
		return err
	}
	res, err := wf.Cancel(ctx, migrate.CancelOptions{KeepData: f.keepData, DryRun: f.dryRun})
	if res == nil {
		return err
	}
	o := outcome{Workflow: wf.Name(), DryRun: f.dryRun, Steps: steps(res.Plan), Done: res.Done, Dropped: res.Dropped}
	return s.finish(o, err, fmt.Sprintf("Workflow %s cancelled", wf.Name()))
}

// An outcome is what Create, Complete and Cancel print.
type outcome struct {
	Workflow string `json:"workflow"`
	DryRun   bool   `json:"dry_run"`
	// Steps are the plan, Done says what was done of it.
	Steps []migrate.Step `json:"steps"`
	Done  []string       `json:"done"`

	Tables    []string          `json:"tables,omitempty"`    // Create: of the workflow
	Created   []string          `json:"created,omitempty"`   // Create: tables made on the target
	Warnings  []migrate.Finding `json:"warnings,omitempty"`  // Create
	Positions map[string]string `json:"positions,omitempty"` // Complete: applied, by source shard
	Published []string          `json:"published,omitempty"` // Complete: tables added to the VSchema
	Sequences map[string]int64  `json:"sequences,omitempty"` // Complete: the ids that sequences hand out next
	Dropped   []string          `json:"dropped,omitempty"`   // Cancel: tables of the target
}

func steps(p *migrate.Plan) []migrate.Step {
	if p == nil {
		return nil
	}
	return p.Steps
}

// finish prints an outcome and its last line. A command that failed in the middle has done something
// too: that is printed, and err returned.
func (s *session) finish(o outcome, err error, last string) error {
	o.Steps, o.Done = append([]migrate.Step{}, o.Steps...), append([]string{}, o.Done...)
	if err != nil && len(o.Done) == 0 {
		return err
	}
	printErr := s.print(o, func(w io.Writer) {
		for _, warning := range o.Warnings {
			fmt.Fprintln(w, "warning:", warning)
		}
		for i, step := range o.Steps {
			if o.DryRun {
				fmt.Fprintf(w, "%3d. %s\n", i+1, step)
			}
		}
		for _, d := range o.Done {
			fmt.Fprintln(w, d)
		}
		if err == nil && !o.DryRun {
			fmt.Fprintln(w, last)
		}
	})
	return errors.Join(err, printErr)
}
