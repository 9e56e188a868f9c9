package replication_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/target"
)

// modelFan is the model's sharded target: a database for each shard, and what is routed to it.
type modelFan struct {
	*world
	shards []*modelTarget
	routes map[*replication.Table]replication.Route
	// flaky shards fail now and then.
	flaky bool
}

// A modelPlan says how the rows of each table are spread over some shards. A row's place follows from its value, which every
// update changes.
type modelPlan struct {
	routes map[*replication.Table]replication.Route
	// holds are each shard's tables, belongs which of their rows.
	holds   [][]*replication.Table
	belongs []map[*replication.Table]func(replication.Row) bool
}

// newModelPlan draws a route for each table.
func newModelPlan(rnd *luck, n int) *modelPlan {
	p := &modelPlan{
		routes: make(map[*replication.Table]replication.Route), holds: make([][]*replication.Table, n),
		belongs: make([]map[*replication.Table]func(replication.Row) bool, n),
	}
	for i := range n {
		p.belongs[i] = make(map[*replication.Table]func(replication.Row) bool)
	}
	for _, t := range modelTables {
		home := rnd.IntN(n)
		kind := rnd.IntN(6)
		switch kind {
		case 0:
			p.routes[t] = replication.EveryShard()
		case 1:
			p.routes[t] = replication.OneShard(home)
		default:
			p.routes[t] = replication.ByRow(func(r replication.Row) (int, error) { return modelShard(r, n), nil })
		}
		for i := range n {
			if kind == 1 && i != home {
				continue
			}
			p.holds[i] = append(p.holds[i], t)
			p.belongs[i][t] = func(r replication.Row) bool { return kind < 2 || modelShard(r, n) == i }
		}
	}
	return p
}

// newModelFan draws a plan, for shards of its own.
func newModelFan(w *world, n int, options target.SchedulerOptions, flaky bool) *modelFan {
	servers := make([]*modelServer, n)
	for i := range servers {
		servers[i] = newModelServer()
	}
	return newModelFanOn(servers, newModelPlan(w.rnd, n), w, options, flaky)
}

// newModelFanOn is a fan into servers that others may write to as well.
func newModelFanOn(servers []*modelServer, p *modelPlan, w *world, options target.SchedulerOptions, flaky bool) *modelFan {
	f := &modelFan{world: w, routes: p.routes, flaky: flaky}
	for i, s := range servers {
		m := newModelTargetOn(s, w, p.holds[i], options)
		m.belongs = func(t *replication.Table, r replication.Row) bool { return p.belongs[i][t](r) }
		f.shards = append(f.shards, m)
	}
	return f
}

// modelShard is the shard of a row, by its second column.
func modelShard(r replication.Row, n int) int {
	_, rest, err := r.Next()
	if err != nil {
		panic(err)
	}
	v, _, err := rest.Next()
	if err != nil {
		panic(err)
	}
	i, err := strconv.Atoi(string(v))
	if err != nil {
		panic(err)
	}
	return i * 7 % 11 % n
}

// flakyShard is a shard whose server is gone at times.
type flakyShard struct {
	*modelTarget
	flaky bool
}

func (s flakyShard) trouble(n int) error {
	if s.flaky && s.dice(n) == 0 {
		return errModelLink
	}
	return nil
}

func (s flakyShard) Load(ctx context.Context) (*replication.Checkpoint, error) {
	if err := s.trouble(20); err != nil {
		return nil, err
	}
	return s.modelTarget.Load(ctx)
}

func (s flakyShard) Start(ctx context.Context, p replication.Position) error {
	if err := s.trouble(4); err != nil {
		return err
	}
	return s.modelTarget.Start(ctx, p)
}

func (s flakyShard) Append(ctx context.Context, e *replication.Entry) error {
	if err := s.trouble(50); err != nil {
		return err
	}
	err := e.Each(func(c replication.Change) error {
		s.db.Lock()
		defer s.db.Unlock()
		// A deposed owner does not know what its successor has copied.
		if c.Loose && s.fenced() == nil && replication.NewSpanSet(c.Table, s.db.copied[c.Table.Name]...).Whole() {
			return s.violated("%s: a loose change, though the shard has the whole table", c.Table.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.modelTarget.Append(ctx, e)
}

// run runs one stream over the shards, as a new owner of them.
func (f *modelFan) run(ctx context.Context, src *modelSource) error {
	var shards []replication.Shard
	for i, m := range f.shards {
		shards = append(shards, replication.Shard{Name: strconv.Itoa(i), Target: flakyShard{m.rival(), f.flaky}})
	}
	fan, err := replication.NewFanout(shards, f.routes, replication.FanoutOptions{MemoryBytes: 16 << 10})
	if err != nil {
		return err
	}
	return replication.NewStream(src, fan, modelTables, replication.Options{
		Readers: modelReaders, ReportInterval: 5 * time.Millisecond, WindowBytes: 400, ChunkRows: 1 + f.shards[0].dice(6),
	}).Run(ctx)
}

func (f *modelFan) breach() error {
	for i, m := range f.shards {
		if err := m.breach(); err != nil {
			return fmt.Errorf("shard %d of %d: %w", i, len(f.shards), err)
		}
	}
	return nil
}

func (f *modelFan) commits() (n int) {
	for _, m := range f.shards {
		m.db.Lock()
		n += m.db.commits
		m.db.Unlock()
	}
	return n
}

func (f *modelFan) level() bool {
	for _, m := range f.shards {
		if !m.level() {
			return false
		}
	}
	return true
}

// takeOver runs a stream, and after a while another owner's.
func (f *modelFan) takeOver(ctx context.Context, src *modelSource) error {
	first, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.run(first, src) }()
	_ = f.pause(ctx, 30*time.Millisecond)
	err := f.run(ctx, src)
	stop()
	if first := <-ended; first != nil && !errors.Is(first, replication.ErrFenced) && first != context.Canceled && //nolint:errorlint // must be bare
		!errors.Is(first, context.DeadlineExceeded) && !replication.Transient(first) {
		return fmt.Errorf("a deposed owner: %w", first)
	}
	return err
}

// fanRun is modelRun for a sharded target.
func fanRun(seed uint64, crash int) (commits, steps int, err error) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	w := newWorld(rnd)
	w.flavor = flavorOf(seed)
	src := &modelSource{world: w, spills: rnd.IntN(3) == 0}
	f := newModelFan(w, 1+rnd.IntN(4), target.SchedulerOptions{
		Workers: 1 + rnd.IntN(3), Loaders: 1 + rnd.IntN(3), MemoryBytes: 8 << 10, MergeBytes: []int{-1, 0, 2 << 10}[rnd.IntN(3)],
	}, crash == 0 && rnd.IntN(2) == 0)
	ctx, cancel := context.WithCancel(context.Background())
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		w.write(ctx, 25)
	}()
	defer func() { cancel(); <-writer }()
	lives := 1 + w.dice(4)
	if crash > 0 {
		lives = 1
	}
	steps, err = f.live(ctx, src, lives, crash)
	if err == nil {
		err = f.finish(ctx, src, writer)
	}
	return f.commits(), steps, err
}

// live runs the stream a few times, until it is killed or another owner's takes it over; if crash is set, at that step.
func (f *modelFan) live(ctx context.Context, src *modelSource, lives, crash int) (steps int, err error) {
	w := f.world
	for range lives {
		life, kill := context.WithTimeout(ctx, time.Duration(1+w.dice(60))*time.Millisecond)
		if crash > 0 {
			kill()
			life, kill = context.WithTimeout(ctx, time.Second)
			w.crashAt(crash, kill)
		}
		if crash == 0 && w.dice(4) == 0 {
			err = f.takeOver(life, src)
		} else {
			err = f.run(life, src)
		}
		kill()
		if err := f.breach(); err != nil {
			return 0, err
		}
		if life.Err() == nil && !replication.Transient(err) {
			return 0, err
		}
	}
	w.mu.Lock()
	steps = crash - w.mu.steps
	w.mu.Unlock()
	w.crashAt(0, nil)
	return steps, nil
}

// finish runs the stream until the writer is done and every shard level with the source.
func (f *modelFan) finish(ctx context.Context, src *modelSource, writer <-chan struct{}) error {
	errDone := errors.New("level with the source")
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errLate)
	defer cancel()
	for {
		life, stop := context.WithCancelCause(ctx)
		go func() {
			defer stop(errDone)
			select {
			case <-writer:
			case <-life.Done():
			}
			for !f.level() && f.pause(life, 5*time.Millisecond) == nil {
			}
		}()
		err := f.run(life, src)
		stop(nil)
		if err := f.breach(); err != nil {
			return err
		}
		if errors.Is(err, errDone) {
			for i, m := range f.shards {
				if d := m.difference(); d != "" {
					return fmt.Errorf("at the end: shard %d of %d: %s", i, len(f.shards), d)
				}
			}
			return nil
		}
		if !replication.Transient(err) {
			return err
		}
	}
}

func fanBubble(t *testing.T, seed uint64, crash int, report func(commits, steps int, err error)) {
	synctest.Test(t, func(*testing.T) { report(fanRun(seed, crash)) })
}

// TestFanoutModel runs the model with one to four shards between which every update moves rows.
func TestFanoutModel(t *testing.T) {
	schedules(t, 2, modelDefault/8, 20, fanBubble)
}

// TestFanoutModelCrashes kills the stream at each of its steps.
func TestFanoutModelCrashes(t *testing.T) {
	crashes(t, rand.Uint64(), modelDefault/40, fanBubble)
}
