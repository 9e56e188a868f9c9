package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/topo"
)

// Why a stream's context ends.
var (
	// errStopped: its state says that it should not run.
	errStopped = errors.New("the stream was told to stop")
	// errPrimaryChanged and errUpdated: it starts again with what is true now.
	errPrimaryChanged = errors.New("the target shard has another primary")
	errUpdated        = errors.New("the workflow was updated")
)

// Run runs the streams of all workflows of the topology (or of Options.Keyspaces) that no other process runs, until ctx
// ends; it returns nil then. It may be called before or after workflows are created, and in as many processes as
// you like: the streams of each source shard are run by one of them, and taken over by another when that one dies. What one keyspace or
// source shard meets does not concern the others: errors are in the state of the streams, and are logged.
func (m *Migrator) Run(ctx context.Context) error {
	w := &worker{m: m, keyspaces: map[string]context.CancelFunc{}}
	defer w.wait.Wait()
	var backoff retry.Backoff
	backoff.Min, backoff.Max = m.opts.PollInterval, 10*m.opts.PollInterval
	failing := false
	for {
		changed := m.changed()
		names, err := w.find(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			m.log.Warn("topology can't be read; trying again", "error", err)
		} else if err == nil && failing {
			m.log.Info("topology can be read again")
		}
		failing = err != nil
		w.adjust(ctx, names, err == nil)
		interval := 5 * m.opts.PollInterval
		if err != nil {
			interval = backoff.Next()
		} else {
			backoff.Reset()
		}
		if pause(ctx, changed, interval) != nil {
			return nil
		}
	}
}

// A worker is one call of Run: a loop for each keyspace, and in it one for each group of streams.
type worker struct {
	m         *Migrator
	wait      sync.WaitGroup
	keyspaces map[string]context.CancelFunc
}

// find lists the keyspaces to look after.
func (w *worker) find(ctx context.Context) ([]string, error) {
	if names := w.m.opts.Keyspaces; len(names) > 0 {
		return names, nil
	}
	return w.m.topo.Keyspaces(ctx)
}

// adjust starts loops for new keyspaces, and ends those of keyspaces that are gone, unless the names are not known.
func (w *worker) adjust(ctx context.Context, names []string, known bool) {
	for _, name := range names {
		if w.keyspaces[name] != nil {
			continue
		}
		kctx, cancel := context.WithCancel(ctx)
		w.keyspaces[name] = cancel
		w.wait.Go(func() { (&keyspaceWorker{m: w.m, keyspace: name, running: map[groupKey]*runner{}}).run(kctx) })
	}
	for name, cancel := range w.keyspaces {
		if known && !slices.Contains(names, name) {
			cancel()
			delete(w.keyspaces, name)
		}
	}
}

// A keyspaceWorker runs the groups of one target keyspace. One goroutine owns it.
type keyspaceWorker struct {
	m        *Migrator
	keyspace string
	running  map[groupKey]*runner
	wait     sync.WaitGroup
}

// A runner is a group that this process runs, or tries to.
type runner struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	// basis is what the group was last started with.
	basis *atomic.Pointer[basis]
}

// A basis is what a run of a group goes by. When the topology or the records say something else, it starts again.
type basis struct {
	// addrs are the addresses of the target primaries, by the shard's place.
	addrs map[int]string
	// revision counts the updates of the workflow.
	revision int64
}

// basisOf is what a group is started with.
func basisOf(g *group) *basis {
	b := &basis{addrs: make(map[int]string)}
	for _, s := range g.streams {
		b.addrs[s.place()] = s.cfg.Addr
		b.revision = max(b.revision, s.record.Revision)
	}
	return b
}

// outdated tells why a runner has to start again; nil if it has not.
func (r *runner) outdated(g *group) error {
	was := r.basis.Load()
	if was == nil {
		return nil
	}
	now := basisOf(g)
	for at, addr := range now.addrs {
		if was.addrs[at] != addr {
			return errPrimaryChanged
		}
	}
	if was.revision < now.revision {
		return errUpdated
	}
	return nil
}

// run looks at the keyspace's streams again and again.
func (w *keyspaceWorker) run(ctx context.Context) {
	defer w.wait.Wait()
	backoff := retry.Backoff{Min: w.m.opts.PollInterval, Max: 10 * w.m.opts.PollInterval}
	failing := false
	log := w.m.log.With("keyspace", w.keyspace)
	for {
		changed := w.m.changed()
		streams, err := w.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			log.Warn("target shards can't be read; trying again", "error", err)
		} else if err == nil && failing {
			log.Info("target shards can be read again")
		}
		failing = err != nil
		w.adjust(ctx, groups(streams), err == nil)
		interval := w.m.opts.PollInterval
		if err != nil {
			interval = backoff.Next()
		} else {
			backoff.Reset()
		}
		if pause(ctx, changed, interval) != nil {
			return
		}
	}
}

// look reads the streams of all shards. What could be read is returned with the error for the rest.
func (w *keyspaceWorker) look(ctx context.Context) ([]*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, max(10*time.Second, w.m.opts.PollInterval))
	defer cancel()
	shards, err := w.m.topo.Shards(ctx, w.keyspace)
	if err != nil {
		return nil, topoError("keyspace", w.keyspace, err)
	}
	var mu sync.Mutex
	var all []*stream
	err = eachShard(shards, func(_ int, s *topo.Shard) error {
		t, err := w.m.targetShard(ctx, w.keyspace, s.Name)
		if errors.Is(err, ErrNotFound) {
			return nil // no primary yet
		}
		var streams []*stream
		if err == nil {
			streams, err = w.m.streams(ctx, t, "")
		}
		if err != nil {
			return fmt.Errorf("target shard %s/%s: %w", w.keyspace, s.Name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, streams...)
		return nil
	})
	return all, err
}

// adjust starts what should run and stops what should not. Of a group that was not read whole nothing is known but what its streams say.
func (w *keyspaceWorker) adjust(ctx context.Context, all []*group, known bool) {
	seen := map[groupKey]bool{}
	for key, r := range w.running {
		select {
		case <-r.done:
			delete(w.running, key)
		default:
		}
	}
	for _, g := range all {
		seen[g.key()] = true
		r := w.running[g.key()]
		switch {
		case r != nil && !g.runs():
			r.cancel(errStopped)
		case r != nil:
			if why := r.outdated(g); why != nil {
				r.cancel(why)
			}
		case g.runs() && g.complete():
			w.start(ctx, g)
		}
	}
	for key, r := range w.running {
		if known && !seen[key] {
			r.cancel(errStopped)
		}
	}
}

// start runs a group in a goroutine of its own.
func (w *keyspaceWorker) start(ctx context.Context, g *group) {
	rctx, cancel := context.WithCancelCause(ctx)
	r := &runner{cancel: cancel, done: make(chan struct{}), basis: &atomic.Pointer[basis]{}}
	w.running[g.key()] = r
	w.wait.Go(func() {
		defer cancel(nil)
		defer close(r.done)
		(&groupRunner{m: w.m, group: g, basis: r.basis}).run(rctx)
		if rctx.Err() != nil {
			w.m.notify() // there may be a reason to start again at once
		}
	})
}
