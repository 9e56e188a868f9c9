package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
)

// A sourceShard is one shard of a source keyspace: the database of the server that is read.
type sourceShard struct {
	shard   string
	replica bool
	cfg     mysqlconn.Config // Database is the shard's
	admin   *sql.DB          // without a default database
}

// sourceShards finds the shards of a source keyspace and connects to one server of each.
func (m *Migrator) sourceShards(ctx context.Context, src SourceName, sel topo.TabletSelector) ([]*sourceShard, error) {
	h, err := mount.Open(ctx, m.topo, src.Mount, mount.OpenOptions{Credentials: m.creds})
	if err != nil {
		return nil, mountError(src, err)
	}
	defer h.Close()
	list, err := h.Shards(ctx, src.Keyspace)
	if err != nil {
		return nil, mountError(src, err)
	}
	var shards []*sourceShard
	for _, s := range list {
		one, err := m.sourceShard(ctx, h, src, s.Name, sel)
		if err != nil {
			return nil, fmt.Errorf("source shard %s/%s: %w", src, s.Name, err)
		}
		shards = append(shards, one)
	}
	return shards, nil
}

// sourceOf connects to the server that a stream would read from now.
func (m *Migrator) sourceOf(ctx context.Context, s *stream) (*sourceShard, error) {
	sel, err := s.record.selector()
	if err != nil {
		return nil, err
	}
	sources, err := m.sourceShards(ctx, s.record.source(), sel)
	if err != nil {
		return nil, err
	}
	for _, src := range sources {
		if src.shard == s.record.SourceShard {
			return src, nil
		}
	}
	return nil, &NotFoundError{Kind: "source shard", Name: s.record.source().String() + "/" + s.record.SourceShard}
}

// sourceShard connects to the first server of a shard, in order of preference, that answers.
func (m *Migrator) sourceShard(ctx context.Context, h *mount.Handle, src SourceName, shard string, sel topo.TabletSelector) (*sourceShard, error) {
	ends, err := h.Endpoints(ctx, src.Keyspace, shard, sel)
	if err != nil {
		return nil, mountError(src, err)
	}
	var errs []error
	for _, e := range ends {
		s := &sourceShard{shard: shard, replica: e.Type != topo.TabletPrimary}
		s.cfg, err = m.login(ctx, mount.Server{Cluster: src.Mount, Keyspace: src.Keyspace, Shard: shard, Addr: e.Addr(), Alias: e.Alias})
		if err != nil {
			return nil, err
		}
		if s.admin, err = m.pools.db(ctx, s.cfg, forAdmin); err == nil {
			// A pool that was opened before says nothing about the server of today.
			if err = m.answers(ctx, s); err == nil {
				s.cfg.Database = e.Database
				return s, nil
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// answers asks a source server for a sign of life, for 5 s.
func (m *Migrator) answers(ctx context.Context, s *sourceShard) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := s.admin.PingContext(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil, mysqlerr.Network(err):
		return &mount.UnreachableError{Addr: s.cfg.Addr, Err: err}
	}
	return fmt.Errorf("source server %s: %w", s.cfg.Addr, err)
}

// mountError is topoError for what a mounted cluster answers.
func mountError(src SourceName, err error) error {
	if e, ok := errors.AsType[*mount.NotFoundError](err); ok {
		reason := ""
		if len(e.Known) > 0 {
			reason = "there is " + strings.Join(e.Known, ", ")
		}
		return &NotFoundError{Kind: e.Kind, Name: e.Name, Reason: reason, Err: err}
	}
	return topoError("source", src.String(), err)
}
