package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
)

// workflowCommands show and steer workflows.
func workflowCommands() []command {
	return []command{{
		name: "Workflow", about: "Show, start, stop, update or list workflows.",
		forms: []string{
			"Show|Start|Stop KEYSPACE.WORKFLOW", "List KEYSPACE",
			"[-on_ddl WHAT] [-on_drift WHAT] [-tablet_types T[,T...]] [-cells C[,C...]] [-retry_time DURATION] Update KEYSPACE.WORKFLOW",
		},
		setup: func(fs *flag.FlagSet) runFunc {
			var u updateFlags
			u.define(fs)
			name := []string{"KEYSPACE.WORKFLOW"}
			return actions(fs,
				action{name: "Show", args: name, run: workflowShow},
				action{name: "Start", args: name, run: workflowStart},
				action{name: "Stop", args: name, run: workflowStop},
				action{name: "Update", args: name, run: u.run, flags: updateNames},
				action{name: "List", args: []string{"KEYSPACE"}, run: workflowList},
			)
		},
	}}
}

func workflowShow(ctx context.Context, s *session, args []string) error {
	wf, err := s.workflow(ctx, args[0])
	if err != nil {
		return err
	}
	st, err := wf.Show(ctx)
	if st == nil {
		return err
	}
	// What some shards tell is worth seeing when others can't be asked.
	return errors.Join(s.print(st, func(w io.Writer) { printStatus(w, st) }), err)
}

func workflowStart(ctx context.Context, s *session, args []string) error {
	wf, err := s.workflow(ctx, args[0])
	if err != nil {
		return err
	}
	if err := wf.Start(ctx); err != nil {
		return err
	}
	return s.say("Workflow %s started", wf.Name())
}

func workflowStop(ctx context.Context, s *session, args []string) error {
	wf, err := s.workflow(ctx, args[0])
	if err != nil {
		return err
	}
	if err := wf.Stop(ctx); err != nil {
		return err
	}
	return s.say("Workflow %s stopped", wf.Name())
}

func workflowList(ctx context.Context, s *session, args []string) error {
	m, err := s.migrate(ctx, migrate.Options{})
	if err != nil {
		return err
	}
	names, err := m.List(ctx, args[0])
	if err != nil {
		return err
	}
	return s.print(append([]string{}, names...), func(w io.Writer) {
		for _, n := range names {
			fmt.Fprintln(w, n)
		}
	})
}

// printStatus is Workflow Show for people.
func printStatus(w io.Writer, st *migrate.Status) {
	fmt.Fprintf(w, "%s  %s, %s copied, lag %s\n", st.Name(), st.State, percent(st.Progress()), lag(st.Lag))
	fmt.Fprintf(w, "from %s.%s (%s) to %s (%s)\n", st.Mount, st.SourceKeyspace, strings.Join(st.SourceShards, ","),
		st.Keyspace, strings.Join(st.TargetShards, ","))
	if st.Message != "" {
		fmt.Fprintf(w, "message: %s\n", st.Message)
	}
	for _, x := range st.Streams {
		if f := x.Failure; f != nil {
			fmt.Fprintf(w, "stream %d: failed %d times from %s to %s\n", x.ID, f.Count, f.First.Format(time.RFC3339), f.Last.Format(time.RFC3339))
		}
		if x.Drifts > 0 {
			fmt.Fprintf(w, "stream %d: %d rows were not as they should be (see its log)\n", x.ID, x.Drifts)
		}
	}

	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "\nTABLE\tCOPIED\t\tROWS\tBYTES\tROWS/S\tLEFT\n")
	for _, t := range st.Tables {
		left := "-"
		if t.ETA > 0 {
			left = t.ETA.Round(time.Second).String()
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d of %s\t%s\t%.0f\t%s\n", t.Table, bar(t.Percent, 20), percent(t.Percent),
			t.Rows, total(t), size(t.Bytes), t.RowsPerSecond, left)
	}
	tw.Flush()

	tw = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "\nSTREAM\tFROM\tTO\tSTATE\tLAG\tRUN BY\tPOSITION\n")
	for _, x := range st.Streams {
		fmt.Fprintf(tw, "%d\t%s\t%s (%s)\t%s\t%s\t%s\t%s\n", x.ID, x.SourceShard, x.TargetShard, x.Tablet, x.State, lag(x.Lag),
			orDash(x.Owner), orDash(x.Position))
	}
	tw.Flush()
}

// total is a table's rows; an estimate until all are copied.
func total(t migrate.TableStatus) string {
	if t.Phase == migrate.PhaseComplete {
		return fmt.Sprint(t.RowsTotal)
	}
	return fmt.Sprintf("~%d", t.RowsTotal)
}

// bar is a progress bar of a width.
func bar(percent float64, width int) string {
	full := min(max(int(percent/100*float64(width)), 0), width)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}

func percent(p float64) string { return fmt.Sprintf("%.1f%%", p) }

func lag(d time.Duration) string {
	if d < 0 {
		return "unknown"
	}
	return d.Round(100 * time.Millisecond).String()
}

// size is a number of bytes for people.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, u := float64(n)/1024, 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[u])
}
