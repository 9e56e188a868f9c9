package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/tablehaul/tablehaul/vdiff"
)

// vdiffCommands compare what a workflow has copied.
func vdiffCommands() []command {
	return []command{{
		name: "VDiff", about: "Compare a workflow's tables on both ends, row by row. Exit status 1 means that they differ.",
		forms: []string{
			"[-wait] [-tables T[,T...]] Create KEYSPACE.WORKFLOW",
			"Show KEYSPACE.WORKFLOW last|UUID",
			"KEYSPACE.WORKFLOW      (the same as -wait Create)",
		},
		setup: vdiffCommand,
	}}
}

func vdiffCommand(fs *flag.FlagSet) runFunc {
	var wait bool
	var opts vdiff.Options
	fs.BoolVar(&wait, "wait", false, "Create: compare in this process and print the report; else a Run process compares")
	fs.Var((*list)(&opts.Tables), "tables", "Create: only these `tables`, separated by commas")
	create := func(ctx context.Context, s *session, args []string) error {
		if wait {
			return vdiffNow(ctx, s, args[0], opts)
		}
		return vdiffRecord(ctx, s, args[0], opts)
	}
	name := "KEYSPACE.WORKFLOW"
	byAction := actions(fs,
		action{name: "Create", args: []string{name}, flags: []string{"wait", "tables"}, run: create},
		action{name: "Show", args: []string{name, "last|UUID"}, run: vdiffShow},
	)
	return func(ctx context.Context, s *session, args []string) error {
		if len(args) == 1 && looksLikeWorkflow(args[0]) {
			return vdiffNow(ctx, s, args[0], opts)
		}
		return byAction(ctx, s, args)
	}
}

// looksLikeWorkflow tells a KEYSPACE.WORKFLOW from an action.
func looksLikeWorkflow(s string) bool { return strings.Contains(s, ".") }

// vdiffNow compares in this process and prints the report. What there is of it is printed even if an error
// ends it early.
func vdiffNow(ctx context.Context, s *session, name string, opts vdiff.Options) error {
	wf, err := s.workflow(ctx, name)
	if err != nil {
		return err
	}
	report, err := vdiff.New(wf).Create(ctx, opts)
	if report == nil {
		return err
	}
	if printErr := s.print(report, func(w io.Writer) { fmt.Fprint(w, report) }); printErr != nil {
		return errors.Join(err, printErr)
	}
	if err != nil {
		return err
	}
	return verdict(report)
}

// vdiffRecord leaves the comparison to a Run process.
func vdiffRecord(ctx context.Context, s *session, name string, opts vdiff.Options) error {
	wf, err := s.workflow(ctx, name)
	if err != nil {
		return err
	}
	uuid, err := vdiff.New(wf).Prepare(ctx, opts)
	if err != nil {
		return err
	}
	return s.print(map[string]string{"UUID": uuid}, func(w io.Writer) {
		fmt.Fprintf(w, "VDiff %s recorded; a Run process makes it. See: vtctl VDiff Show %s last\n", uuid, name)
	})
}

func vdiffShow(ctx context.Context, s *session, args []string) error {
	wf, err := s.workflow(ctx, args[0])
	if err != nil {
		return err
	}
	report, err := vdiff.New(wf).Show(ctx, args[1])
	if err != nil {
		return err
	}
	if err := s.print(report, func(w io.Writer) { fmt.Fprint(w, report) }); err != nil {
		return err
	}
	return verdict(report)
}

// verdict fails the command when the ends differ, or when the comparison has ended without an answer. One that is
// under way and has found nothing yet is no failure.
func verdict(r *vdiff.Report) error {
	switch {
	case r.HasMismatch():
		return errors.New("the tables differ")
	case r.State == vdiff.StateCompleted && r.Unsettled() > 0:
		return fmt.Errorf("%d rows changed all the time and could not be compared; compare again", r.Unsettled())
	case r.State == vdiff.StateError, r.State == vdiff.StateStopped:
		return fmt.Errorf("vdiff %s ended early: %s", r.UUID, r.LastError)
	}
	return nil
}
