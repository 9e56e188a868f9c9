package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
	"github.com/tablehaul/tablehaul/replication/target"
)

// shardsAtOnce is how many shards are spoken to at the same time.
const shardsAtOnce = 16

// A groupKey names a group within a keyspace.
type groupKey struct{ workflow, source string }

// A group is the streams of a workflow that come from one source shard, one for each target shard that it feeds. They are run together, by one
// owner: the source's log is read once, however many shards it feeds.
type group struct {
	streams []*stream // in the order of the shards that the record feeds
}

// groups puts streams together that belong together, sorted by workflow and source shard.
func groups(streams []*stream) []*group {
	by := map[groupKey]*group{}
	for _, s := range streams {
		key := groupKey{s.Workflow, s.record.SourceShard}
		if by[key] == nil {
			by[key] = &group{}
		}
		by[key].streams = append(by[key].streams, s)
	}
	all := make([]*group, 0, len(by))
	for _, g := range by {
		slices.SortFunc(g.streams, func(a, b *stream) int { return cmp.Compare(a.place(), b.place()) })
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.key().workflow, b.key().workflow), cmp.Compare(a.key().source, b.key().source))
	})
	return all
}

// place is where a stream's target shard is among those that its source shard feeds.
func (s *stream) place() int { return slices.Index(s.record.fed(), s.shard) }

func (g *group) first() *stream { return g.streams[0] }

func (g *group) key() groupKey { return groupKey{g.first().Workflow, g.first().record.SourceShard} }

func (g *group) name() WorkflowName { return g.first().name() }

// complete tells whether the streams of all target shards are there.
func (g *group) complete() bool {
	return len(g.streams) == len(g.first().record.fed())
}

// runs tells whether the streams should run: all of them, since they are one.
func (g *group) runs() bool {
	return !slices.ContainsFunc(g.streams, func(s *stream) bool { return !s.state().runs() })
}

// attrs are the group's in log lines.
func (g *group) attrs() []any {
	return []any{"workflow", g.name().String(), "source shard", g.first().record.SourceShard}
}

// ownerLock is the name of the topology lock of who runs the stream's group.
func (s *stream) ownerLock() string {
	return fmt.Sprintf("tablehaul/%s/%s/%s", s.keyspace, s.Workflow, s.record.SourceShard)
}

// each calls do for every stream, several at once, and returns all errors.
func (g *group) each(ctx context.Context, do func(context.Context, *stream) error) error {
	return eachShard(g.streams, func(_ int, s *stream) error {
		if err := do(ctx, s); err != nil {
			return fmt.Errorf("target shard %s/%s: %w", s.keyspace, s.shard, err)
		}
		return nil
	})
}

// eachShard calls do for every item, several at once, and returns all errors in the order of the items.
func eachShard[T any](items []T, do func(int, T) error) error {
	errs := make([]error, len(items))
	var eg errgroup.Group
	eg.SetLimit(shardsAtOnce)
	for i, item := range items {
		eg.Go(func() error {
			errs[i] = do(i, item)
			return nil
		})
	}
	_ = eg.Wait() // the errors are in errs
	return errors.Join(errs...)
}

// refresh reads the group again: the topology or the records may have changed since they were read.
func (m *Migrator) refresh(ctx context.Context, g *group) (*group, error) {
	fresh := &group{streams: make([]*stream, len(g.streams))}
	err := g.each(ctx, func(ctx context.Context, s *stream) error {
		t, err := m.targetShard(ctx, s.keyspace, s.shard)
		if err != nil {
			return err
		}
		if s.cfg.Addr != t.cfg.Addr {
			m.fenceFormer(ctx, s)
		}
		row, err := m.sidecar(t).Stream(ctx, s.ID)
		if errors.Is(err, sidecar.ErrNotFound) {
			return errGone
		}
		if err != nil {
			return err
		}
		rec, err := parseRecord(row.Options)
		if err != nil {
			return err
		}
		fresh.streams[s.place()] = &stream{targetShard: t, Stream: *row, record: rec}
		return nil
	})
	return fresh, err
}

// An engine is a group that is open at both ends.
type engine struct {
	group *group
	src   *sourceShard
	from  *source.Source
	// source is what is taken of from, tables are its tables.
	source replication.Source
	tables []*replication.Table
	to     replication.Target
	// targets are the shards of to, in the order of the group's streams.
	targets []*target.Target
	onDDL   replication.OnDDL
}

// open connects to both ends of a group. Nothing is changed anywhere.
func (m *Migrator) open(ctx context.Context, g *group) (_ *engine, err error) {
	e := &engine{group: g}
	rec := g.first().record
	if e.onDDL, err = ParseOnDDL(rec.OnDDL); err != nil {
		return nil, err
	}
	if e.src, err = m.sourceOf(ctx, g.streams...); err != nil {
		return nil, err
	}
	known, err := m.definitions(ctx, g)
	if err != nil {
		return nil, err
	}
	if e.from, err = source.Open(ctx, e.src.cfg, g.sourceTables(), source.Options{Definitions: known, Logger: m.log}); err != nil {
		return nil, fmt.Errorf("source shard %s/%s: %w", rec.source(), e.src.shard, err)
	}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if err := e.project(ctx); err != nil {
		return nil, err
	}
	if err := e.openTargets(ctx, m); err != nil {
		return nil, err
	}
	l, err := m.layout(ctx, g.name().Keyspace, rec.layoutShards(), e.tables)
	if err != nil {
		return nil, err
	}
	for _, s := range g.streams {
		if err := l.check(s.record); err != nil {
			return nil, err
		}
	}
	if len(e.targets) == 1 && !l.spread() {
		e.to = e.targets[0]
		return e, nil
	}
	shards := make([]replication.Shard, len(e.targets))
	for i, t := range e.targets {
		shards[i] = replication.Shard{Name: g.streams[i].shard, Target: t}
	}
	zone, err := loadZone(rec.SourceTimeZone)
	if err != nil {
		return nil, err
	}
	routes := inUTC(zone, l.among(rec.layoutShards(), rec.fed()), len(shards))
	e.to, err = replication.NewFanout(shards, routes, replication.FanoutOptions{})
	return e, err
}

// openTargets connects to the target shards.
func (e *engine) openTargets(ctx context.Context, m *Migrator) error {
	rec := e.group.first().record
	onDrift, err := ParseOnDrift(rec.OnDrift)
	if err != nil {
		return err
	}
	zone, err := loadZone(rec.SourceTimeZone)
	if err != nil {
		return err
	}
	opts := target.Options{
		Workers: m.opts.Workers, Loaders: m.opts.Loaders, Sharing: len(rec.SourceShards), DatetimeZone: zone, IgnoreDDLErrors: e.onDDL == replication.OnDDLExecIgnore,
		OnDrift: onDrift, Logger: m.log,
	}
	e.targets = make([]*target.Target, len(e.group.streams))
	return e.group.each(ctx, func(ctx context.Context, s *stream) error {
		var tables []*replication.Table
		names := s.record.names()
		for _, t := range e.tables {
			if slices.Contains(names, t.Name) {
				tables = append(tables, t)
			}
		}
		to, err := target.Open(ctx, target.Config{Server: s.cfg, Sidecar: m.opts.SidecarDatabase, StreamID: s.ID, Tables: tables, Owner: owner()}, opts)
		if err == nil {
			e.targets[s.place()] = to
		}
		return err
	})
}

// close closes the connections.
func (e *engine) close() {
	for _, t := range e.targets {
		if t != nil {
			_ = t.Close() // nothing is under way any more
		}
	}
	_ = e.from.Close() // likewise
}

// level brings the target shards of a stopped group to one state of the source, that of the shard that is furthest: a row that has
// moved from one shard to another is on one of them then, and not on both or none. Nobody else runs the group any more.
func (m *Migrator) level(ctx context.Context, g *group) error {
	if len(g.streams) == 1 || !g.complete() { // what is left of a workflow that is being removed was made level before
		return nil
	}
	positions, err := m.positions(ctx, g.streams)
	if err != nil {
		return err
	}
	var furthest replication.Position
	for _, p := range positions {
		furthest = furthest.Union(p)
	}
	behind := slices.ContainsFunc(positions, func(p replication.Position) bool { return !p.Covers(furthest) })
	if len(positions) == 0 || len(positions) == len(g.streams) && !behind { // none has begun, or all are level
		return nil
	}
	e, err := m.open(ctx, g)
	if err != nil {
		return err
	}
	defer e.close()
	opts := m.opts.Stream
	opts.OnDDL, opts.Until, opts.Logger = e.onDDL, furthest, m.log.With(g.attrs()...)
	err = replication.NewStream(e.source, e.to, e.tables, opts).Run(ctx)
	if errors.Is(err, replication.ErrReached) {
		return nil
	}
	return err
}
