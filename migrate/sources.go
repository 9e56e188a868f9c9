package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

// A sourceShard is one shard of a source keyspace: the database of the server that is read.
type sourceShard struct {
	shard   string
	replica bool
	cfg     mysqlconn.Config // Database is the shard's
	admin   *sql.DB          // without a default database
	// end is what the mounted cluster said of the server, and sel what was asked for.
	end mount.Endpoint
	sel topo.TabletSelector
}

// sourceShards finds the shards of a source keyspace that serve, or those of them that are named, and connects to one server of each. A
// server that can't be read from as it is, is taken when there is no better one: the checks of Create say what is wrong with it.
func (m *Migrator) sourceShards(ctx context.Context, src SourceName, names []string, sel topo.TabletSelector) ([]*sourceShard, error) {
	h, list, err := m.serving(ctx, src, names)
	if err != nil {
		return nil, err
	}
	defer func() { _ = m.mounts.release(h) }() // nothing was written
	shards := make([]*sourceShard, len(list))
	err = eachShard(list, func(i int, s mount.Shard) (err error) {
		p := picker{m: m, mount: h, src: src, shard: s.Name, sel: sel, any: true}
		if shards[i], err = p.pick(ctx); err != nil {
			return fmt.Errorf("source shard %s/%s: %w", src, s.Name, err)
		}
		return nil
	})
	if err != nil {
		m.mounts.drop(h)
		return nil, err
	}
	return shards, nil
}

// serving opens the mount of a source and finds the shards that serve, or those of them that are named. The caller releases the mount.
func (m *Migrator) serving(ctx context.Context, src SourceName, names []string) (*openMount, []mount.Shard, error) {
	h, err := m.mount(ctx, src.Mount)
	if err != nil {
		return nil, nil, mountError(src, err)
	}
	list, err := h.Shards(ctx, src.Keyspace)
	if err == nil {
		list, err = selectShards(src, list, names)
	}
	if err != nil {
		m.mounts.drop(h)
		_ = m.mounts.release(h) // nothing was written
		return nil, nil, mountError(src, err)
	}
	return h, list, nil
}

// selectShards are the named ones of the serving shards of a keyspace, in their order; no names mean all.
func selectShards(src SourceName, serving []mount.Shard, names []string) ([]mount.Shard, error) {
	if len(names) == 0 {
		return serving, nil
	}
	wanted := make([]bool, len(serving))
	var errs []error
	for _, name := range names {
		i := slices.IndexFunc(serving, func(s mount.Shard) bool { return sameShard(s, name) })
		if i < 0 {
			known := make([]string, len(serving))
			for j, s := range serving {
				known[j] = s.Name
			}
			errs = append(errs, &NotFoundError{
				Kind: "serving source shard", Name: src.String() + "/" + name, Reason: "those that serve are " + strings.Join(known, ", "),
			})
			continue
		}
		wanted[i] = true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var list []mount.Shard
	for i, s := range serving {
		if wanted[i] {
			list = append(list, s)
		}
	}
	return list, nil
}

// sameShard tells whether a shard is meant by a name: by its own in any case, or, if it has all of the keyspace, by any that means that.
func sameShard(s mount.Shard, name string) bool {
	if strings.EqualFold(s.Name, name) {
		return true
	}
	r, err := topo.ParseShardName(name)
	return err == nil && r.IsComplete() && s.KeyRange.IsComplete()
}

// sourceOf connects to the server that streams of one source shard would read from now. It has, or will have, all that the streams have
// read before; a *NoSourceError says why none will do.
func (m *Migrator) sourceOf(ctx context.Context, streams ...*stream) (*sourceShard, error) {
	rec := streams[0].record
	sel, err := rec.selector()
	if err != nil {
		return nil, err
	}
	read, err := m.positions(ctx, streams)
	if err != nil {
		return nil, err
	}
	src := rec.source()
	h, list, err := m.serving(ctx, src, []string{rec.SourceShard})
	if err != nil {
		return nil, err
	}
	defer func() { _ = m.mounts.release(h) }() // nothing was written
	p := picker{m: m, mount: h, src: src, shard: list[0].Name, sel: sel, read: read}
	s, err := p.pick(ctx)
	if err != nil {
		m.mounts.drop(h)
		return nil, fmt.Errorf("source shard %s/%s: %w", src, p.shard, err)
	}
	return s, nil
}

// positions are the durable positions of streams, without those that have not started.
func (m *Migrator) positions(ctx context.Context, streams []*stream) ([]replication.Position, error) {
	all := make([]replication.Position, len(streams))
	err := eachShard(streams, func(i int, s *stream) error {
		mark, err := m.sidecar(s.targetShard).Position(ctx, s.ID)
		if err == nil && mark.Position != "" {
			all[i], err = replication.ParsePosition(mark.Position)
		}
		if err != nil {
			return fmt.Errorf("target shard %s/%s: %w", s.keyspace, s.shard, err)
		}
		return nil
	})
	return slices.DeleteFunc(all, replication.Position.IsZero), err
}

// errSourceChanged ends a run of streams: their source shard is to be read from another server.
var errSourceChanged = errors.New("the source has changed")

const (
	// sourceLooks is how many PollIntervals pass between two looks at the mounted cluster.
	sourceLooks = 5
	// stoppedLooks is at how many looks in a row a replica has to have stopped replicating before it is given up.
	stoppedLooks = 3
)

// watchSource looks again and again whether the server that is read is still one to read from, until ctx ends (nil), or it is
// not: an errSourceChanged that says why. While the mounted cluster can't be read, nothing changes.
func (m *Migrator) watchSource(ctx context.Context, src SourceName, s *sourceShard) error {
	stopped := 0
	log := m.log.With("source", src.String(), "source shard", s.shard)
	var open *openMount
	defer func() {
		if open != nil {
			_ = m.mounts.release(open) // nothing was written
		}
	}()
	failing := false
	for pause(ctx, nil, sourceLooks*m.opts.PollInterval) == nil {
		// The mount may have been registered anew.
		next, err := m.mount(ctx, src.Mount)
		if err == nil {
			if open != nil {
				_ = m.mounts.release(open)
			}
			open = next
			err = check(ctx, open, src, s)
		}
		if changed, ok := errors.AsType[*mount.ChangedError](err); ok {
			return fmt.Errorf("%w: %w", errSourceChanged, changed)
		}
		// Such a server looks like one where nothing is written.
		why := replicationStopped(ctx, s)
		if stopped++; why == "" {
			stopped = 0
		} else if stopped >= stoppedLooks {
			return fmt.Errorf("%w: replica %s: replication has stopped: %s", errSourceChanged, s.cfg.Addr, why)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			log.Warn("the source cluster can't be looked at; reading goes on", "error", err)
		} else if err == nil && failing {
			log.Info("the source cluster can be looked at again")
		}
		if failing = err != nil; failing && open != nil {
			m.mounts.drop(open)
		}
	}
	return nil
}

// check is one look of watchSource.
func check(ctx context.Context, h *openMount, src SourceName, s *sourceShard) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return h.Check(ctx, src.Keyspace, s.shard, s.sel, s.end)
}

// replicationStopped tells why a replica gets nothing new; "" if it does, or does not say.
func replicationStopped(ctx context.Context, s *sourceShard) string {
	if !s.replica {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, candidateTimeout)
	defer cancel()
	r, err := readReplication(ctx, s.admin)
	if err != nil {
		return ""
	}
	return r.stopped
}

// mountError is topoError for what a mounted cluster answers.
func mountError(src SourceName, err error) error {
	if _, ok := errors.AsType[*NotFoundError](err); ok {
		return err
	}
	if e, ok := errors.AsType[*mount.NotFoundError](err); ok {
		reason := ""
		if len(e.Known) > 0 {
			reason = "there is " + strings.Join(e.Known, ", ")
		}
		return &NotFoundError{Kind: e.Kind, Name: e.Name, Reason: reason, Err: err}
	}
	return topoError("source", src.String(), err)
}
