package migrate

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tablehaul/tablehaul/internal/retry"
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
// you like: each stream is run by one of them, and taken over by another when that one dies. What one keyspace, shard or
// stream meets does not concern the others: errors are in the state of the streams, and are logged.
func (m *Migrator) Run(ctx context.Context) error {
	w := &worker{m: m, shards: map[shardKey]context.CancelFunc{}}
	defer w.wait.Wait()
	var backoff retry.Backoff
	backoff.Min, backoff.Max = m.opts.PollInterval, 10*m.opts.PollInterval
	failing := false
	for {
		changed := m.changed()
		keys, err := w.find(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			m.log.Warn("topology can't be read; trying again", "error", err)
		} else if err == nil && failing {
			m.log.Info("topology can be read again")
		}
		failing = err != nil
		w.adjust(ctx, keys, err == nil)
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

// A shardKey names a target shard.
type shardKey struct{ keyspace, shard string }

// A worker is one call of Run: a loop for each target shard, and in it one for each stream.
type worker struct {
	m      *Migrator
	wait   sync.WaitGroup
	shards map[shardKey]context.CancelFunc
}

// find lists the shards to look after. What could be listed is returned with the error for the rest.
func (w *worker) find(ctx context.Context) ([]shardKey, error) {
	keyspaces := w.m.opts.Keyspaces
	if len(keyspaces) == 0 {
		var err error
		if keyspaces, err = w.m.topo.Keyspaces(ctx); err != nil {
			return nil, err
		}
	}
	var keys []shardKey
	var errs []error
	for _, ks := range keyspaces {
		shards, err := w.m.topo.Shards(ctx, ks)
		if err != nil {
			errs = append(errs, topoError("keyspace", ks, err))
		}
		for _, s := range shards {
			keys = append(keys, shardKey{ks, s.Name})
		}
	}
	return keys, errors.Join(errs...)
}

// adjust starts loops for new shards, and ends those of shards that are gone when keys is complete.
func (w *worker) adjust(ctx context.Context, keys []shardKey, complete bool) {
	for _, k := range keys {
		if w.shards[k] != nil {
			continue
		}
		sctx, cancel := context.WithCancel(ctx)
		w.shards[k] = cancel
		w.wait.Go(func() { (&shardWorker{m: w.m, key: k, running: map[int64]*runner{}}).run(sctx) })
	}
	for k, cancel := range w.shards {
		if complete && !slices.Contains(keys, k) {
			cancel()
			delete(w.shards, k)
		}
	}
}

// A shardWorker runs the streams of one target shard. One goroutine owns it.
type shardWorker struct {
	m       *Migrator
	key     shardKey
	running map[int64]*runner
	wait    sync.WaitGroup
}

// A runner is a stream that this process runs, or tries to.
type runner struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	// basis is what the stream was last started with.
	basis *atomic.Pointer[basis]
}

// A basis is what a run of a stream goes by. When the topology or the record say something else, the stream starts again.
type basis struct {
	// addr is the target primary's address.
	addr string
	// revision counts the updates of the workflow.
	revision int64
}

// outdated tells why a runner has to start again; nil if it has not.
func (r *runner) outdated(s *stream) error {
	switch b := r.basis.Load(); {
	case b == nil:
	case b.addr != s.cfg.Addr:
		return errPrimaryChanged
	case b.revision < s.record.Revision:
		return errUpdated
	}
	return nil
}

// run looks at the shard's streams again and again.
func (w *shardWorker) run(ctx context.Context) {
	defer w.wait.Wait()
	backoff := retry.Backoff{Min: w.m.opts.PollInterval, Max: 10 * w.m.opts.PollInterval}
	failing := false
	log := w.m.log.With("keyspace", w.key.keyspace, "shard", w.key.shard)
	for {
		changed := w.m.changed()
		streams, err := w.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			log.Warn("target shard can't be read; trying again", "error", err)
		} else if err == nil && failing {
			log.Info("target shard can be read again")
		}
		failing = err != nil
		interval := w.m.opts.PollInterval
		if err != nil {
			interval = backoff.Next()
		} else {
			backoff.Reset()
			w.adjust(ctx, streams)
		}
		if pause(ctx, changed, interval) != nil {
			return
		}
	}
}

// look reads the shard's streams.
func (w *shardWorker) look(ctx context.Context) ([]*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, max(10*time.Second, w.m.opts.PollInterval))
	defer cancel()
	t, err := w.m.targetShard(ctx, w.key.keyspace, w.key.shard)
	if errors.Is(err, ErrNotFound) {
		return nil, nil // no primary yet
	}
	if err != nil {
		return nil, err
	}
	return w.m.streams(ctx, t, "")
}

// adjust starts what should run and stops what should not.
func (w *shardWorker) adjust(ctx context.Context, streams []*stream) {
	wanted := map[int64]bool{}
	for id, r := range w.running {
		select {
		case <-r.done:
			delete(w.running, id)
		default:
		}
	}
	for _, s := range streams {
		if !s.state().runs() {
			continue
		}
		wanted[s.ID] = true
		if r := w.running[s.ID]; r != nil {
			if why := r.outdated(s); why != nil {
				r.cancel(why)
			}
			continue
		}
		rctx, cancel := context.WithCancelCause(ctx)
		r := &runner{cancel: cancel, done: make(chan struct{}), basis: &atomic.Pointer[basis]{}}
		w.running[s.ID] = r
		w.wait.Go(func() {
			defer cancel(nil)
			defer close(r.done)
			(&streamRunner{m: w.m, stream: s, basis: r.basis}).run(rctx)
			if rctx.Err() != nil {
				w.m.notify() // there may be a reason to start again at once
			}
		})
	}
	for id, r := range w.running {
		if !wanted[id] {
			r.cancel(errStopped)
		}
	}
}
