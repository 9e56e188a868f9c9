package vdiff_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/vdiff"
)

func TestRecordRunShowDelete(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1,1),(2,2)")
	run(t, w.target(), "UPDATE t SET v=NULL WHERE id=2")
	here, there := vdiff.New(w), vdiff.New(w)
	const id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	uuid, err := here.Prepare(t.Context(), vdiff.Options{UUID: strings.ToUpper(id), MaxSampleRows: 3, Tables: []string{"t"}})
	if err != nil || uuid != id {
		t.Fatal(uuid, err)
	}
	if _, err := here.Prepare(t.Context(), vdiff.Options{UUID: id}); !errors.Is(err, vdiff.ErrExists) || !strings.Contains(err.Error(), id) {
		t.Errorf("the same UUID again: %v", err)
	}
	r, err := there.Show(t.Context(), vdiff.Last)
	if err != nil || r.UUID != id || r.State != vdiff.StatePending || r.Equal() || r.CreatedAt.IsZero() || !r.StartedAt.IsZero() || r.Options.MaxSampleRows != 3 {
		t.Fatalf("pending: %v, %v", r, err)
	}
	second, err := here.Prepare(t.Context(), vdiff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := there.RunPending(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := here.List(t.Context())
	if err != nil || len(list) != 2 || list[0].UUID != second || list[1].UUID != id {
		t.Fatalf("list: %v, %v", list, err)
	}
	for _, r := range list {
		if r.State != vdiff.StateCompleted || !r.HasMismatch() || r.RowsCompared() != 2 || r.StartedAt.IsZero() || r.CompletedAt.IsZero() {
			t.Errorf("%s", r)
		}
	}
	if _, err := here.Run(t.Context(), id); !errors.Is(err, vdiff.ErrState) {
		t.Errorf("run what has ended: %v", err)
	}
	shown, err := here.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	made := create(t, w, vdiff.Options{Tables: []string{"t"}})
	if got, want := body(shown), body(made); got != want {
		t.Errorf("shown:\n%s\nmade:\n%s", got, want)
	}
	if err := here.Delete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Show(t.Context(), id); !errors.Is(err, vdiff.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	if n := server(t, "target").MustQuery(t, "SELECT COUNT(*) FROM "+w.sidecar+".vdiff_table"); n[0][0] != "2" {
		t.Errorf("%s table rows are left", n[0][0])
	}
}

// body is a report's text without what tells one comparison from another.
func body(r *vdiff.Report) string {
	_, text, _ := strings.Cut(r.String(), "\n\n")
	return text
}

// TestDeadRunnerIsReplaced takes a comparison over when its runner has said nothing for long, and not before.
func TestDeadRunnerIsReplaced(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	v := vdiff.New(w)
	uuid, err := v.Prepare(t.Context(), vdiff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := server(t, "target")
	s.MustExec(t, "UPDATE "+w.sidecar+".vdiff SET state='started',liveness_timestamp=UTC_TIMESTAMP()-INTERVAL 10 SECOND")
	if err := v.RunPending(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Run(t.Context(), uuid); !errors.Is(err, vdiff.ErrState) {
		t.Errorf("run what somebody runs: %v", err)
	}
	s.MustExec(t, "SET time_zone='+00:00'; UPDATE "+w.sidecar+".vdiff SET liveness_timestamp=UTC_TIMESTAMP()-INTERVAL 100 SECOND")
	if err := v.RunPending(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := v.Show(t.Context(), uuid); err != nil || !r.Equal() || r.RowsCompared() != 1 {
		t.Error(r, err)
	}
}

// TestInterruptedPendingRunsAgain ends a worker in the middle; the next one does the comparison.
func TestInterruptedPendingRunsAgain(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	run(t, w.target(), "INSERT INTO t VALUES (2)")
	v := vdiff.New(w)
	uuid, err := v.Prepare(t.Context(), vdiff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.wait = waitAfterCheck(func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if err := v.RunPending(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if r, err := v.Show(t.Context(), uuid); err != nil || r.State != vdiff.StatePending {
		t.Errorf("after the interruption: %v, %v", r, err)
	}
	w.wait = nil
	if err := v.RunPending(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := v.Show(t.Context(), uuid); err != nil || r.State != vdiff.StateCompleted || keys(r.Tables[0].ExtraTarget) != "2" {
		t.Error(r, err)
	}
}

func TestReportJSON(t *testing.T) {
	w := newWorkflow(t, "source", []string{"target"}, "CREATE TABLE t (id INT PRIMARY KEY, e ENUM('x','y'), b VARBINARY(9), s SET('p','q'), f FLOAT)",
		"INSERT INTO t VALUES (1,'x','ab','p,q',0.5),(2,'y',NULL,'',1)")
	run(t, w.target(), "UPDATE t SET e='y' WHERE id=1", "DELETE FROM t WHERE id=2", "INSERT INTO t (id) VALUES (3)")
	r := create(t, w, vdiff.Options{})
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"Workflow":"wf","Keyspace":"commerce","State":"completed","UUID":"` + r.UUID + `","RowsCompared":3,"HasMismatch":true,"Shards":"0","StartedAt":"` + r.StartedAt.Format("2006-01-02 15:04:05") + `"`,
		`"Reports":{"t":{"0":{"TableName":"t","ProcessedRows":3,"MatchingRows":0,"MismatchedRows":1,"ExtraRowsSource":1,"ExtraRowsTarget":1,` +
			`"ExtraRowsSourceSample":[{"Row":{"id":"2","e":"y","b":null,"s":"","f":"1"}}],` +
			`"ExtraRowsTargetSample":[{"Row":{"id":"3","e":null,"b":null,"s":null,"f":null}}],` +
			`"MismatchedRowsSample":[{"Key":{"id":"1"},"Columns":["e"],"Source":{"Row":{"id":"1","e":"x","b":"0x6162","s":"p,q","f":"0.5"}},` +
			`"Target":{"Row":{"id":"1","e":"y","b":"0x6162","s":"p,q","f":"0.5"}}}]}}}`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("missing: %s\nin:      %s", want, b)
		}
	}
	text := r.String()
	for _, want := range []string{
		fmt.Sprintf("VDiff Summary for commerce.wf (%s)\nState:        completed\nRowsCompared: 3\nHasMismatch:  true\n", r.UUID),
		"\nTable t: completed\n\tRowsCompared:    3\n\tMatchingRows:    0\n\tMismatchedRows:  1\n\tExtraRowsSource: 1\n\tExtraRowsTarget: 1\n" +
			"\tdiffers in e: id=1\n\t\tsource: id=1, e=x, b=0x6162, s=p,q, f=0.5\n\t\ttarget: id=1, e=y, b=0x6162, s=p,q, f=0.5\n" +
			"\tonly on the source: id=2, e=y, b=NULL, s=, f=1\n\tonly on the target: id=3, e=NULL, b=NULL, s=NULL, f=NULL\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing:\n%s\nin:\n%s", want, text)
		}
	}
}
