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

// A targetShard is one shard of a target keyspace: the database of its primary.
type targetShard struct {
	keyspace, shard string
	tablet          topo.TabletAlias
	cfg             mysqlconn.Config // Database is the shard's
	admin           *sql.DB          // without a default database
}

// targetShards finds the serving shards of a keyspace and connects to their primaries. The shards that could
// be reached are returned with the error for the others.
func (m *Migrator) targetShards(ctx context.Context, keyspace string) ([]*targetShard, error) {
	if _, err := m.topo.Keyspace(ctx, keyspace); err != nil {
		return nil, topoError("keyspace", keyspace, err)
	}
	serving, err := m.topo.ServingShards(ctx, keyspace)
	if err != nil {
		return nil, topoError("serving shard of keyspace", keyspace, err)
	}
	var shards []*targetShard
	var errs []error
	for _, s := range serving {
		t, err := m.targetShard(ctx, keyspace, s.Name)
		if err != nil {
			errs = append(errs, fmt.Errorf("target shard %s/%s: %w", keyspace, s.Name, err))
			continue
		}
		shards = append(shards, t)
	}
	return shards, errors.Join(errs...)
}

// targetShard finds one shard's primary and connects to it.
func (m *Migrator) targetShard(ctx context.Context, keyspace, shard string) (*targetShard, error) {
	tablet, err := m.topo.Primary(ctx, keyspace, shard)
	if err != nil {
		return nil, topoError("primary", keyspace+"/"+shard, err)
	}
	addr := tablet.MySQLAddr()
	if addr == "" {
		return nil, &NotFoundError{Kind: "MySQL address of tablet", Name: tablet.Alias.String()}
	}
	cfg, err := m.login(ctx, mount.Server{Keyspace: keyspace, Shard: shard, Addr: addr, Alias: tablet.Alias})
	if err != nil {
		return nil, err
	}
	t := &targetShard{keyspace: keyspace, shard: shard, tablet: tablet.Alias, cfg: cfg}
	if t.admin, err = m.pools.db(ctx, cfg, forAdmin); err != nil {
		return nil, err
	}
	t.cfg.Database = tablet.DBName()
	return t, nil
}

// login asks the embedding program for the account to use.
func (m *Migrator) login(ctx context.Context, s mount.Server) (mysqlconn.Config, error) {
	l, err := m.creds(ctx, s)
	if err != nil {
		return mysqlconn.Config{}, fmt.Errorf("credentials for %s: %w", s.Addr, err)
	}
	return mysqlconn.Config{Addr: s.Addr, User: l.User, Password: l.Password, TLS: l.TLS, Silence: m.opts.HangTimeout}, nil
}

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

// topoError says what is missing when the topology says that something is.
func topoError(kind, name string, err error) error {
	_, noShards := errors.AsType[*topo.NoShardsError](err)
	_, noTablet := errors.AsType[*topo.NoTabletError](err)
	switch {
	case noShards || noTablet:
		return &NotFoundError{Kind: kind, Name: name, Reason: err.Error(), Err: err}
	case errors.Is(err, topo.ErrNoNode):
		return &NotFoundError{Kind: kind, Name: name, Err: err}
	}
	return fmt.Errorf("%s %s: %w", kind, name, err)
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

// serverError makes the errors of connecting those of package mount, which callers can see.
func serverError(addr, user string, err error) error {
	switch {
	case errors.Is(err, mysqlconn.ErrAccessDenied):
		return &mount.AccessError{Addr: addr, User: user, Err: err}
	case errors.Is(err, mysqlconn.ErrUnreachable):
		return &mount.UnreachableError{Addr: addr, Err: err}
	}
	return err
}

// connectError tells whether err is only about a server that can't be connected to, and which.
func connectError(err error) (addr string, ok bool) {
	if e, ok := errors.AsType[*mount.AccessError](err); ok {
		return e.Addr, true
	}
	if e, ok := errors.AsType[*mount.UnreachableError](err); ok {
		return e.Addr, true
	}
	return "", false
}
