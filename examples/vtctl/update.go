package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/topo"
)

// updateFlags are the flags of Workflow Update. Only those that are given change something.
type updateFlags struct {
	fs                          *flag.FlagSet
	onDDL, onDrift, tabletTypes string
	cells                       string
	retryTime                   time.Duration
}

// updateNames are the flags' names.
var updateNames = []string{"on_ddl", "on_drift", "tablet_types", "cells", "retry_time"}

func (f *updateFlags) define(fs *flag.FlagSet) {
	f.fs = fs
	fs.StringVar(&f.onDDL, "on_ddl", "", "Update: `what` to do at a DDL on the source: IGNORE, STOP, EXEC, EXEC_IGNORE")
	fs.StringVar(&f.onDrift, "on_drift", "", "Update: `what` to do about rows of the target that are not as they should be: STOP, REPAIR, SKIP")
	fs.StringVar(&f.tabletTypes, "tablet_types", "", "Update: `types` of source tablets to read from, best first")
	fs.StringVar(&f.cells, "cells", "", "Update: source `cells` to read from, best first; empty: any")
	fs.DurationVar(&f.retryTime, "retry_time", 0, "Update: try the same error again for this `duration` before state Error; 0: as the process that runs it says, negative: for ever")
}

// options are what the given flags say.
func (f *updateFlags) options() (migrate.UpdateOptions, error) {
	var o migrate.UpdateOptions
	var err error
	f.fs.Visit(func(given *flag.Flag) {
		if err != nil {
			return
		}
		switch given.Name {
		case "on_ddl":
			p, perr := migrate.ParseOnDDL(f.onDDL)
			o.OnDDL, err = &p, perr
		case "on_drift":
			p, perr := migrate.ParseOnDrift(f.onDrift)
			o.OnDrift, err = &p, perr
		case "tablet_types":
			o.TabletTypes, err = topo.ParseTabletTypes(f.tabletTypes)
		case "cells":
			cells := list{}
			if f.cells != "" {
				err = cells.Set(f.cells)
			}
			o.Cells = cells
		case "retry_time":
			o.RetryTime = &f.retryTime
		}
	})
	return o, err
}

// An update is what Workflow Update prints.
type update struct {
	Workflow string         `json:"workflow"`
	Streams  []updateStream `json:"streams"`
}

type updateStream struct {
	SourceShard string `json:"source_shard"`
	TargetShard string `json:"target_shard"`
	Tablet      string `json:"tablet"`
	Changed     bool   `json:"changed"`
}

func (f *updateFlags) run(ctx context.Context, s *session, args []string) error {
	o, err := f.options()
	if err != nil {
		return &usageError{err.Error()}
	}
	if o.OnDDL == nil && o.OnDrift == nil && o.TabletTypes == nil && o.Cells == nil && o.RetryTime == nil {
		return &usageError{"nothing to update: no flag is given"}
	}
	wf, err := s.workflow(ctx, args[0])
	if err != nil {
		return err
	}
	res, err := wf.Update(ctx, o)
	if err != nil {
		return err
	}
	out := update{Workflow: wf.Name(), Streams: []updateStream{}}
	for _, u := range res.Streams {
		out.Streams = append(out.Streams, updateStream(u))
	}
	return s.print(out, func(w io.Writer) {
		for _, u := range out.Streams {
			what := "unchanged"
			if u.Changed {
				what = "updated"
			}
			fmt.Fprintf(w, "stream from %s to %s (%s) %s\n", u.SourceShard, u.TargetShard, u.Tablet, what)
		}
	})
}
