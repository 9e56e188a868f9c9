package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
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
	shards := make([]*targetShard, len(serving))
	err = eachShard(serving, func(i int, s *topo.Shard) (err error) {
		if shards[i], err = m.targetShard(ctx, keyspace, s.Name); err != nil {
			return fmt.Errorf("target shard %s/%s: %w", keyspace, s.Name, err)
		}
		return nil
	})
	return slices.DeleteFunc(shards, func(t *targetShard) bool { return t == nil }), err
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
