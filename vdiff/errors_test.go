package vdiff_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/vdiff"
)

// waitAfterCheck is a WaitApplied that agrees to be asked for the state and does f for a position.
func waitAfterCheck(f func(ctx context.Context) error) func(context.Context, string, replication.Position) error {
	return func(ctx context.Context, _ string, p replication.Position) error {
		if p.IsZero() {
			return nil
		}
		return f(ctx)
	}
}

type stateError struct{ state string }

func (e *stateError) Error() string       { return "no good" }
func (e *stateError) StreamState() string { return e.state }

func TestErrors(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE nokey (id INT)")
	v := vdiff.New(w)
	fails := func(what string, err error, want error, words ...string) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
			return
		}
		for _, word := range append(words, "commerce.wf") {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q is missing in %q", what, word, err)
			}
		}
	}
	_, err := v.Create(t.Context(), vdiff.Options{Tables: []string{"t", "nope", "neither"}})
	fails("unknown tables", err, vdiff.ErrNotFound, "neither, nope")
	_, err = v.Create(t.Context(), vdiff.Options{})
	fails("no key", err, vdiff.ErrNoKey, "nokey")
	_, err = v.Show(t.Context(), vdiff.Last)
	fails("none yet", err, vdiff.ErrNotFound, "last")
	_, err = v.Show(t.Context(), "00000000-0000-4000-8000-000000000000")
	fails("unknown uuid", err, vdiff.ErrNotFound, "00000000-0000-4000-8000-000000000000")
	fails("delete", v.Delete(t.Context(), "x"), vdiff.ErrNotFound, "x")
	only := vdiff.Options{Tables: []string{"t"}}
	for state, want := range map[string]error{"Copying": vdiff.ErrCopying, "Stopped": vdiff.ErrNotRunning, "Error": vdiff.ErrNotRunning} {
		w.wait = func(context.Context, string, replication.Position) error { return &stateError{state} }
		_, err = v.Create(t.Context(), only)
		fails(state, err, want, state)
		_, err = v.Prepare(t.Context(), only)
		fails(state, err, want, state)
	}
	if list, err := v.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("refused comparisons are recorded: %v, %v", list, err)
	}

	// Only a difference makes it wait.
	run(t, w.target(), "INSERT INTO t VALUES (1)")
	w.wait = waitAfterCheck(func(context.Context) error { return &stateError{"Stopped"} })
	r, err := v.Create(t.Context(), only)
	fails("stopped meanwhile", err, vdiff.ErrNotRunning, "Stopped", "no good")
	if r == nil || r.State != vdiff.StateError || !strings.Contains(r.LastError, "no good") {
		t.Errorf("report %v", r)
	}
	w.wait = waitAfterCheck(func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
	only.WaitTimeout = 20 * time.Millisecond
	_, err = v.Create(t.Context(), only)
	fails("too far behind", err, vdiff.ErrBehind, "20ms")
}

func TestBadOptions(t *testing.T) {
	_, err := vdiff.New(&workflow{name: "commerce.wf"}).Create(t.Context(), vdiff.Options{UUID: "x", MaxSampleRows: -1, Parallel: -1, WaitTimeout: -1})
	for _, field := range []string{"UUID", "MaxSampleRows", "Parallel", "WaitTimeout"} {
		if err == nil || !strings.Contains(err.Error(), "option "+field+":") {
			t.Errorf("%s is missing in %v", field, err)
		}
	}
	if _, ok := errors.AsType[*vdiff.OptionError](err); !ok {
		t.Errorf("%v is no OptionError", err)
	}
}
