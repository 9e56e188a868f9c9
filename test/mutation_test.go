package test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var mutationsRun = flag.Int("mutations", 1, "how many of the mutations TestMutations tries; 0 is all of them")

// A mutation breaks one rule of the engine in the source code; a test must notice. The tree is not changed: the compiler
// is given the changed file in place of the real one.
type mutation struct {
	name string
	// file is the path in the repository, edits what is changed in it: each old text is in it exactly once.
	file  string
	edits []edit
	// by is what must fail; says matches what it must say.
	by   check
	says string
}

type edit struct{ old, new string }

// A check is a test that catches mutations: the module's folder, the package, the test and its arguments.
type check struct {
	dir, pkg, run string
	args          []string
}

var (
	byModel = check{dir: "..", pkg: "./replication", run: "TestModel$", args: []string{"-model.runs", "20000"}}
	byCrash = check{dir: "..", pkg: "./replication/target", run: "TestServerKilled$|TestEndedAtAnyTime$|TestFencedOwnerCommitsNothing$"}
	byFence = check{dir: "..", pkg: "./replication/target", run: "TestFencedOwnerCommitsNothing$"}
)

// breach is how the model says that an invariant does not hold.
const breach = `at position \d+: |at the end: `

var mutations = []mutation{
	{
		name: "a chunk displaces the merged transactions around it", file: "replication/target/graph.go",
		by: check{dir: "..", pkg: "./replication/target", run: "TestSchedulerChunkInsideBatch"}, says: "took|deadlock|commits are",
		edits: []edit{{`o.first().seq > b.first().seq && !o.committing`, `t.seq > b.first().seq && !o.committing`}},
	},
	{
		name: "an empty first field is none", file: "replication/target/load.go",
		by: check{dir: "..", pkg: "./replication/target", run: "TestLinesAreReadBack"}, says: "TestLinesAreReadBack",
		edits: []edit{{`		first = false`, `		first = first && len(v) == 0`}},
	},
	{
		name: "no wait until what was read is visible", file: "replication/copier.go", by: byModel, says: breach,
		edits: []edit{{`if err := c.source.WaitVisible(ctx, seen); err != nil {`, `if err := context.Cause(ctx); err != nil {`}},
	},
	{
		name: "the log's end is asked for before the read", file: "replication/copier.go", by: byModel, says: breach,
		edits: []edit{
			{`	chunk, err := c.readParts(ctx, j, limit)`, `	end, _, err := c.source.End(ctx)
	if err != nil {
		return nil, LogPos{}, err
	}
	chunk, err := c.readParts(ctx, j, limit)`},
			{`	end, _, err := c.source.End(ctx)
	return chunk, end, err`, `	return chunk, end, err`},
		},
	},
	{
		name: "a chunk's parts leave a row out", file: "replication/copier.go", by: byModel, says: breach,
		edits: []edit{{`		rows, bytes = len(chunk.Rows), chunk.Bytes`, `		rows, bytes, chunk.Rows = len(chunk.Rows), chunk.Bytes, chunk.Rows[:max(0, len(chunk.Rows)-1)]`}},
	},
	{
		name: "a chunk is placed before the log was read up to its end", file: "replication/sequencer.go", by: byModel, says: breach,
		edits: []edit{{`	s.waiters = append(s.waiters, waiter{end: end, run: f})
	return nil`, `	return f(ctx, nil)`}},
	},
	{
		name: "a chunk is placed before the position is", file: "replication/sequencer.go", by: byModel, says: breach,
		edits: []edit{{`	if err := s.flush(ctx); err != nil {`, `	if err := context.Cause(ctx); err != nil {`}},
	},
	{
		name: "a window misses the keys that updates take away", file: "replication/window.go", by: byModel, says: breach,
		edits: []edit{{`	if before != nil && w.covers(before) {`, `	if before != nil && after == nil && w.covers(before) {`}},
	},
	{
		name: "a window keeps the first image of a row", file: "replication/window.go", by: byModel, says: breach,
		edits: []edit{{`	w.touched[string(k)] = image`, `	if !known {
		w.touched[string(k)] = image
	}`}},
	},
	{
		name: "a chunk loses the rows that its window has seen", file: "replication/window.go", by: byModel, says: breach,
		edits: []edit{{`			if image != nil && (w.drops ||`, `			if w.err != nil && image != nil && (w.drops ||`}},
	},
	{
		name: "a chunk that was given up is read again as it was asked for", file: "replication/copier.go", by: byModel, says: breach,
		edits: []edit{{`span: chunk.Span, rows: max(1, len(chunk.Rows)/2)`, `span: j.span, rows: max(1, len(chunk.Rows)/2)`}},
	},
	{
		name: "changes are in the log though their range is not", file: "replication/spanset.go", by: byModel, says: breach,
		edits: []edit{{`	if after != nil && !s.Contains(after) {`, `	if before == nil && after != nil && !s.Contains(after) {`}},
	},
	{
		name: "a span holds its lower bound", file: "replication/order.go", by: byModel, says: breach,
		edits: []edit{{`t.Compare(s.Lo, k) < 0`, `t.Compare(s.Lo, k) <= 0`}},
	},
	{
		name: "rows whose order nobody knows are taken for known", file: "replication/spanset.go", by: byModel, says: breach,
		edits: []edit{{`		c.Loose = true
		return c, true, nil`, `		return c, true, nil`}},
	},
	{
		name: "the last unique key is not in the write set", file: "replication/conflict.go", by: byModel, says: breach,
		edits: []edit{{`		if !anyNull(values, columns) {`, `		if i+1 < len(t.Unique) && !anyNull(values, columns) {`}},
	},
	{
		name: "the image before is not in the write set", file: "replication/conflict.go", by: byModel, says: breach,
		edits: []edit{{`range [2]Row{c.Before, c.After}`, `range [2]Row{nil, c.After}`}},
	},
	{
		name: "transactions commit out of turn", file: "replication/target/graph.go", by: byModel, says: breach,
		edits: []edit{{`	return g.sources.first == nil || g.sources.first.seq >= b.first().seq`, `	return b.first().entry.Chunk == nil || g.sources.first == nil || g.sources.first.seq >= b.first().seq`}},
	},
	{
		name: "a chunk commits before its place", file: "replication/target/graph.go", by: byModel, says: breach,
		edits: []edit{{`	return g.sources.first == nil || g.sources.first.seq >= b.first().seq`, `	return b.first().entry.Chunk != nil || g.sources.first == nil || g.sources.first.seq >= b.first().seq`}},
	},
	{
		name: "changes do not wait for the chunk whose span they are in", file: "replication/target/graph.go", by: byModel, says: breach,
		edits: []edit{{`c.Table.In(o.entry.Chunk.Span, k) {`, `len(k) == 0 && c.Table.In(o.entry.Chunk.Span, k) {`}},
	},
	{
		name: "nobody waits for a spilled transaction", file: "replication/target/graph.go", by: byModel, says: breach,
		edits: []edit{{`		g.barrier = t
	}`, `		g.barrier = nil
	}`}},
	},
	{
		name: "what must wait within a batch does not", file: "replication/target/graph.go", by: byModel, says: breach,
		edits: []edit{{`if t.late = t.late || outside > 0; t.late {`, `if t.late = outside > 0; t.late {`}},
	},
	{
		name: "a batch waits for nobody", file: "replication/target/graph.go", by: byModel, says: breach,
		edits: []edit{{`		outside := t.blockers - t.inside`, `		outside := 0 * t.inside`}},
	},
	{
		name: "a batch records the position of its first transaction", file: "replication/target/scheduler.go", by: byModel, says: breach,
		edits: []edit{{`	return b.last().entry, err`, `	return b.first().entry, err`}},
	},
	{
		name: "rows are inserted before those in their way are deleted", file: "replication/target/collapse.go", by: byModel, says: breach,
		edits: []edit{{`	if err := t.replace(); err != nil {
		return nil, err
	}
`, `	if err := t.replace(); err != nil {
		return nil, err
	}
	for _, r := range t.order {
		if r.after != nil && (r.before == nil || r.loose || r.replaced) {
			out = append(out, replication.Change{Table: t.table, After: r.after})
			r.after = nil
		}
	}
`}},
	},
	{
		name: "unique values move in place", file: "replication/target/collapse.go", by: byModel, says: breach,
		edits: []edit{{`r.replaced = r.replaced || len(updated) > inPlace && len(r.before) < wide`, `r.replaced = false`}},
	},
	{
		name: "a row that goes stays", file: "replication/target/collapse.go", by: byModel, says: breach,
		edits: []edit{{`		r.after = nil
	}
	if c.After == nil {`, `		r.after = r.before
	}
	if c.After == nil {`}},
	},
	{
		name: "a row that came and went again is deleted", file: "replication/target/collapse.go", by: byModel, says: breach,
		edits: []edit{{`		if !seen {
			r.before = c.Before
		}`, `		if r.before = c.Before; seen {
			r.after = nil
		}`}},
	},
	{
		name: "the position is written outside of the transaction", file: "replication/target/tx.go", by: byCrash, says: ".",
		edits: []edit{{`		buf = t.s.side.AppendPosition(buf, t.s.id, t.s.epoch, mark)
	}`, `		buf = t.s.side.AppendPosition(append(buf, "COMMIT;"...), t.s.id, t.s.epoch, mark)
		t.open = false
	}`}, {`	want := 1
`, `	want := 1
	if e.Chunk == nil {
		want = 2
	}
`}},
	},
	{
		name: "an owner that was deposed goes on", file: "internal/sidecar/position.go", by: byFence, says: "the old owner",
		edits: []edit{{`", TRUE, (SELECT TRUE UNION SELECT FALSE))"`, `", TRUE, TRUE)"`}},
	},
}

// TestMutationsApply sees to it that every mutation still has something to change.
func TestMutationsApply(t *testing.T) {
	t.Parallel()
	for _, m := range mutations {
		if _, err := m.apply(); err != nil {
			t.Errorf("%s: %s: %v", m.name, m.file, err)
		}
	}
}

// apply returns the changed file.
func (m mutation) apply() (string, error) {
	text, err := os.ReadFile(filepath.Join("..", m.file))
	if err != nil {
		return "", err
	}
	out := string(text)
	for _, e := range m.edits {
		if strings.Count(out, e.old) != 1 {
			return "", errors.New("not there exactly once: " + e.old)
		}
	}
	// From the end, so that what an edit puts in is no other edit's text.
	for i := len(m.edits) - 1; i >= 0; i-- {
		out = strings.Replace(out, m.edits[i].old, m.edits[i].new, 1)
	}
	return out, nil
}

// TestMutations breaks the engine in the ways in which it must not be broken, and wants each one noticed.
func TestMutations(t *testing.T) {
	t.Parallel()
	n := *mutationsRun
	if n == 0 {
		n = len(mutations)
	}
	for _, i := range rand.Perm(len(mutations))[:min(n, len(mutations))] {
		m := mutations[i]
		t.Run(m.name, func(t *testing.T) {
			out, err := m.run(t)
			t.Logf("%s\n%s", m.name, lastLines(out, 6))
			switch {
			case err == nil:
				t.Errorf("nobody notices: %s, %s", m.by.pkg, m.by.run)
			case !regexp.MustCompile(m.says).MatchString(out):
				t.Errorf("the failure says nothing of %q: %v", m.says, err)
			}
		})
	}
}

// run runs the check on the changed source; it returns what was printed, and an error when it failed.
func (m mutation) run(t *testing.T) (string, error) {
	t.Helper()
	text, err := m.apply()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	path, err := filepath.Abs(filepath.Join("..", m.file))
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{changed: []byte(text), overlay: list} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	args := append([]string{"test", "-overlay", overlay, "-count=1", "-vet=off", "-run", m.by.run, m.by.pkg}, m.by.args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = m.by.dir
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "[build failed]") || ctx.Err() != nil {
		t.Fatalf("%v\n%s", err, lastLines(string(out), 30))
	}
	return string(out), err
}

// lastLines are the last n lines of what a test has printed.
func lastLines(out string, n int) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
