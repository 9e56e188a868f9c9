package migrate

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

func TestFailures(t *testing.T) {
	var f failures
	if f.newest() != nil {
		t.Error("a failure out of nothing")
	}
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	const lost = "target: read tcp 127.0.0.1:%d->127.0.0.1:3306: connection reset"
	f.add(at(0), fmt.Errorf(lost, 50123))
	f.add(at(time.Minute), errors.New("dial: connection refused"))
	got := f.add(at(2*time.Minute), fmt.Errorf(lost, 50999))
	if got.Count != 2 || !got.First.Equal(at(0)) || got.age() != 2*time.Minute || !strings.Contains(got.Message, "50999") {
		t.Errorf("an error that comes back by turns with another one: %+v", got)
	}
	if n := f.newest(); n.Count != 2 || !n.Last.Equal(at(2*time.Minute)) || n.Message != got.Message {
		t.Errorf("newest: %+v", n)
	}
	if s := got.overdue(); !strings.Contains(s, "for 2m0s, since 2026-01-02T03:04:05Z, 2 times: target: read") {
		t.Error(s)
	}
	if got := f.add(at(0), fmt.Errorf(lost, 1)); got.age() != 0 {
		t.Errorf("a clock that goes back: %v", got.age())
	}
	for i := range 20 {
		f.add(at(time.Hour), errors.New(strings.Repeat("x", i)+strings.Repeat(" y", 5000)))
	}
	if len(f) != maxFailures || len(f[0].Message) > maxFailureText {
		t.Errorf("%d failures are kept, of %d bytes", len(f), len(f[0].Message))
	}
}

func TestKindOf(t *testing.T) {
	same := [][2]string{
		{"at MySQL56/3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", "at MySQL56/3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77:80,4e11fa47-71ca-11e1-9e33-c80aa9429562:1"},
		{"Got error 28 after 10s", "Got error 28 after 20s"},
		{"0-1-5", "0-2-77"},
	}
	for _, c := range same {
		if kindOf(c[0]) != kindOf(c[1]) {
			t.Errorf("%q and %q differ: %q, %q", c[0], c[1], kindOf(c[0]), kindOf(c[1]))
		}
	}
	if kindOf("table a: no such row") == kindOf("table b: no such row") {
		t.Error("errors of two tables are one")
	}
}

// Only what was committed ends a failure, or that there is nothing to commit; that of finishing a table, only that the table is finished.
func TestReach(t *testing.T) {
	at := func(gtids string, rows int64) replication.Progress {
		p, err := replication.ParsePosition("MySQL56/3e11fa47-71ca-11e1-9e33-c80aa9429562:" + gtids)
		if err != nil {
			t.Fatal(err)
		}
		return replication.Progress{Position: p, Tables: map[string]replication.TableProgress{"t": {Rows: rows}}}
	}
	var r groupRunner
	for i, step := range []struct {
		p    replication.Progress
		idle bool
		over bool
	}{
		{replication.Progress{}, false, false}, // has not loaded
		{at("1-5", 10), false, false},          // where it begins
		{at("1-5", 10), false, false},          // runs for a while
		{at("1-6", 10), false, true},           // a transaction
		{at("1-6", 10), false, false},
		{at("1-6", 11), false, true}, // a row
		{at("1-6", 11), true, true},  // nothing to do
	} {
		r.failed.add(time.Now(), errors.New("lost"))
		r.reach(step.p, step.idle)
		if over := len(r.failed) == 0; over != step.over {
			t.Errorf("step %d: the failure is over: %v", i, over)
		}
	}
	// tables have their rows, and wait to be finished or are.
	with := func(p replication.Progress, done1, done2 bool) replication.Progress {
		p.Tables["t1"], p.Tables["t2"] = replication.TableProgress{Done: done1}, replication.TableProgress{Done: done2}
		return p
	}
	r = groupRunner{}
	for i, step := range []struct {
		p    replication.Progress
		idle bool
		left string
	}{
		{replication.Progress{}, false, "[gone t1 t2 -]"},
		{with(at("1-5", 10), false, false), false, "[t1 t2 -]"}, // a table that is not moved any more
		{with(at("1-6", 10), false, false), false, "[t1 t2]"},
		{with(at("1-6", 11), false, false), false, "[t1 t2]"},
		{with(at("1-6", 11), false, false), true, "[t1 t2]"},
		{with(at("1-6", 11), true, false), false, "[t2 -]"},
		{with(at("1-7", 11), true, false), false, "[t2]"},
		{with(at("1-7", 11), true, true), false, "[-]"},
		{with(at("1-8", 11), true, true), false, "[]"},
	} {
		if i == 0 {
			for _, table := range []string{"gone", "t1", "t2"} {
				r.failed.add(time.Now(), fmt.Errorf("shard -80: %w", &replication.FinishError{Table: table, Err: errors.New("locked")}))
			}
			r.failed = reread(t, r.failed)
		}
		r.failed.add(time.Now(), errors.New("lost"))
		r.reach(step.p, step.idle)
		left := []string{}
		for _, f := range r.failed {
			left = append(left, cmp.Or(f.Table, "-"))
		}
		if got := fmt.Sprint(left); got != step.left {
			t.Errorf("step %d of tables that can't be finished: %s are left, want %s", i, got, step.left)
		}
		if open := strings.ContainsAny(step.left, "12"); open != strings.HasPrefix(r.failed.unfinished(), "shard -80: finish table ") {
			t.Errorf("step %d: the message is %q", i, r.failed.unfinished())
		}
	}
}

// reread is what the sidecar gives back of failures.
func reread(t *testing.T, f failures) (out failures) {
	t.Helper()
	text, err := json.Marshal(f)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRetryTimeOfWorkflow(t *testing.T) {
	for _, c := range []struct{ process, workflow, want time.Duration }{
		{0, 0, time.Hour},
		{time.Minute, 0, time.Minute},
		{time.Minute, time.Second, time.Second},
		{time.Minute, -1, 0},
		{-1, 0, 0},
		{-1, time.Second, time.Second},
	} {
		m := &Migrator{opts: Options{RetryTime: c.process}.withDefaults()}
		if got := m.retryTime(&record{RetryTime: c.workflow}); got != c.want {
			t.Errorf("process %v, workflow %v: %v, want %v", c.process, c.workflow, got, c.want)
		}
	}
}
