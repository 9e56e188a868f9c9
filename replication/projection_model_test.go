package replication_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/projection"
	"github.com/tablehaul/tablehaul/replication/target"
)

// modelFilter takes rows by their second column, which every update changes: rows enter and leave all the time.
type modelFilter struct {
	modulo int
	// where is what a condition would be; empty if there is none.
	where string
	// dropped counts the rows that were not taken.
	dropped *atomic.Int64
}

func (f *modelFilter) Match(_ context.Context, rows []replication.Row) ([]bool, error) {
	out := make([]bool, len(rows))
	for i, r := range rows {
		if out[i] = modelShard(r, f.modulo) > 0; !out[i] {
			f.dropped.Add(1)
		}
	}
	return out, nil
}

func (f *modelFilter) Where() (string, string) { return f.where, "" }

// conditionalSource reads with conditions: at most three rows at once, of which it returns those that are taken.
type conditionalSource struct {
	*modelSource
	filters map[string]*modelFilter
}

// Read reads the columns of t, which may be fewer than those of the table.
func (s *conditionalSource) Read(ctx context.Context, t *replication.Table, span replication.Span, limit replication.Limit) (*replication.Chunk, error) {
	whole := modelTables[slices.IndexFunc(modelTables, func(m *replication.Table) bool { return m.Name == t.Name })]
	c, err := s.modelSource.Read(ctx, whole, span, limit)
	if err != nil || len(t.Columns) == len(whole.Columns) {
		return c, err
	}
	rows := make([]replication.Row, len(c.Rows))
	for i, r := range c.Rows {
		values, err := r.Values(nil, len(whole.Columns))
		if err != nil {
			return nil, err
		}
		for _, column := range t.Columns {
			at := slices.IndexFunc(whole.Columns, func(c replication.Column) bool { return c.Name == column.Name })
			rows[i] = replication.AppendValue(rows[i], values[at])
		}
	}
	return &replication.Chunk{Table: t, Span: c.Span, Rows: rows}, nil
}

func (s *conditionalSource) ReadWhere(ctx context.Context, t *replication.Table, span replication.Span, limit replication.Limit, where, _ string) (*replication.Chunk, error) {
	limit.Rows = min(limit.Rows, 3)
	c, err := s.Read(ctx, t, span, limit)
	if err != nil {
		return nil, err
	}
	taken, err := s.filters[where].Match(ctx, c.Rows)
	if err != nil {
		return nil, err
	}
	var rows []replication.Row
	for i, r := range c.Rows {
		if taken[i] {
			rows = append(rows, r)
		}
	}
	c.Rows = rows
	return c, nil
}

// projectionRun is modelRun by way of a projection: rows come and go, columns with their unique keys are left out, tables have other names.
func projectionRun(seed uint64, dropped *atomic.Int64) (commits int, err error) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	w := newWorld(rnd)
	w.flavor = flavorOf(seed)
	inner := &conditionalSource{modelSource: &modelSource{world: w, spills: rnd.IntN(2) == 0}, filters: map[string]*modelFilter{}}
	filter := func(name string) projection.Filter {
		f := &modelFilter{modulo: 2 + rnd.IntN(3), dropped: dropped}
		if rnd.IntN(2) == 0 {
			f.where = name
			inner.filters[name] = f
		}
		return f
	}
	specs := []projection.Spec{
		{Table: numbers, Filter: filter("n"), Columns: []projection.Column{{Position: 2, Name: "unique"}, {Position: 0, Name: "key"}}},
		{Table: words, Filter: filter("w")},
		{Table: plain, Name: "simple"},
	}
	if rnd.IntN(2) == 0 {
		specs[2].Columns = []projection.Column{{Position: 0, Name: "id"}}
	}
	if rnd.IntN(3) == 0 {
		specs[0].Filter = nil
	}
	tables, err := projection.Tables(specs)
	if err != nil {
		return 0, err
	}
	src := projection.New(inner, tables, projection.Options{TransactionBytes: 1 + rnd.IntN(300)})
	dst := newModelTarget(w, src.Tables(), target.SchedulerOptions{Workers: 1 + rnd.IntN(4), Loaders: 1 + rnd.IntN(3), MergeBytes: []int{-1, 0}[rnd.IntN(2)]})
	dst.view = func(c content) content { return projected(c, tables) }
	ctx, cancel := context.WithCancel(context.Background())
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		w.write(ctx, 25)
	}()
	defer func() { cancel(); <-writer }()
	for range w.dice(3) {
		life, kill := context.WithTimeout(ctx, time.Duration(1+w.dice(100))*time.Millisecond)
		err := runStream(life, src, dst)
		kill()
		if err := dst.breach(); err != nil {
			return dst.db.commits, err
		}
		if life.Err() == nil && !replication.Transient(err) {
			return dst.db.commits, err
		}
	}
	return dst.db.commits, finishRun(ctx, w, src, dst, writer)
}

// projected is what the tables take of a content, by another way than that of the projection for columns.
func projected(c content, tables []*projection.Table) content {
	out := newContent()
	for _, t := range tables {
		for _, r := range c[t.Source.Name] {
			rows, err := t.Rows(context.Background(), []replication.Row{r})
			if err != nil {
				panic(err)
			}
			if len(rows) == 0 {
				continue
			}
			values, err := r.Values(nil, len(t.Source.Columns))
			if err != nil {
				panic(err)
			}
			switch {
			case t.Source == numbers:
				r = replication.PackRow(values[0], values[2])
			case len(t.Target.Columns) == 1:
				r = replication.PackRow(values[0])
			}
			out[t.Target.Name][identity(t.Target, r)] = r
		}
	}
	return out
}

// TestProjectionModel: a target of a projection has, after every commit, exactly what the projection takes of what the source had at the
// position that is recorded.
func TestProjectionModel(t *testing.T) {
	var dropped atomic.Int64
	schedules(t, 2, modelDefault/4, 10, func(t *testing.T, seed uint64, _ int, report func(commits, steps int, err error)) {
		synctest.Test(t, func(*testing.T) {
			n, err := projectionRun(seed, &dropped)
			report(n, 0, err)
		})
	})
	t.Cleanup(func() {
		if dropped.Load() == 0 {
			t.Error("no row was left out in " + strconv.Itoa(modelDefault/4) + " runs")
		}
	})
}
