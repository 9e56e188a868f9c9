package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/tablehaul/tablehaul/topo"
)

// vitess is what an open Vitess cluster says: its topology.
type vitess struct {
	cluster Cluster
	ts      *topo.Server
	log     *slog.Logger
}

func openVitess(ctx context.Context, local *topo.Server, c Cluster) (*vitess, error) {
	if local == nil {
		return nil, &ConfigError{Field: "ts", Reason: "a topology is needed, to open another one the same way"}
	}
	v := &vitess{cluster: c, log: slog.New(slog.DiscardHandler)}
	ts, err := local.OpenOther(ctx, c.Topo)
	if err != nil {
		return nil, v.unreachable(err)
	}
	v.ts = ts
	return v, nil
}

// unreachable makes the topology's word for it that of this package.
func (v *vitess) unreachable(err error) error {
	_, told := errors.AsType[*UnreachableError](err)
	_, cell := errors.AsType[*topo.CellError](err) // cells have servers of their own
	if told || cell || !errors.Is(err, topo.ErrUnreachable) {
		return err
	}
	return &UnreachableError{Addr: v.cluster.Topo.Server, Err: err}
}

func (v *vitess) close() error { return v.ts.Close() }

func (v *vitess) keyspaces(ctx context.Context) ([]string, error) {
	names, err := v.ts.Keyspaces(ctx)
	return names, v.unreachable(err)
}

// keyspace tells whether a keyspace exists.
func (v *vitess) keyspace(ctx context.Context, name string) error {
	_, err := v.ts.Keyspace(ctx, name)
	if !errors.Is(err, topo.ErrNoNode) {
		return v.unreachable(err)
	}
	known, err := v.keyspaces(ctx)
	if err != nil {
		return err
	}
	return &NotFoundError{Kind: "keyspace", Name: name, Cluster: v.cluster.Name, Known: known}
}

func (v *vitess) shards(ctx context.Context, keyspace string) ([]Shard, error) {
	if err := v.keyspace(ctx, keyspace); err != nil {
		return nil, err
	}
	serving, err := v.ts.ServingShards(ctx, keyspace)
	if err != nil {
		return nil, v.unreachable(err)
	}
	shards := make([]Shard, len(serving))
	for i, s := range serving {
		shards[i] = Shard{Name: s.Name, KeyRange: s.KeyRange}
	}
	return shards, nil
}

// shard returns a shard's record.
func (v *vitess) shard(ctx context.Context, keyspace, name string) (*topo.Shard, error) {
	if err := v.keyspace(ctx, keyspace); err != nil {
		return nil, err
	}
	r, err := v.ts.Shard(ctx, keyspace, name)
	if !errors.Is(err, topo.ErrNoNode) {
		return r, v.unreachable(err)
	}
	shards, err := v.ts.Shards(ctx, keyspace)
	if err != nil {
		return nil, v.unreachable(err)
	}
	e := &NotFoundError{Kind: "shard", Name: keyspace + "/" + name, Cluster: v.cluster.Name}
	for _, s := range shards {
		e.Known = append(e.Known, s.Name)
	}
	return nil, e
}

// cells tells whether all cells exist.
func (v *vitess) cells(ctx context.Context, names []string) error {
	for _, name := range names {
		_, err := v.ts.ExpandCells(ctx, []string{name})
		if errors.Is(err, topo.ErrNoNode) {
			known, err := v.ts.Cells(ctx)
			if err != nil {
				return v.unreachable(err)
			}
			return &NotFoundError{Kind: "cell", Name: name, Cluster: v.cluster.Name, Known: known}
		}
		if err != nil {
			return v.unreachable(err)
		}
	}
	return nil
}

func (v *vitess) endpoints(ctx context.Context, keyspace, shard string, sel topo.TabletSelector) ([]Endpoint, error) {
	r, shardErr := v.shard(ctx, keyspace, shard)
	if err := errors.Join(shardErr, v.cells(ctx, sel.Cells)); err != nil {
		return nil, err
	}
	tablets, unread, err := v.ts.SelectTabletsPartly(ctx, keyspace, shard, sel)
	if err != nil {
		return nil, v.unreachable(err)
	}
	var ends []Endpoint
	for _, t := range tablets {
		if t.MySQLAddr() == "" {
			continue
		}
		ends = append(ends, endpoint(r, t))
	}
	if len(ends) == 0 {
		none := &topo.NoTabletError{Keyspace: keyspace, Shard: shard, Types: slices.Clone(sel.Types), Cells: slices.Clone(sel.Cells), Found: tablets}
		err := fmt.Errorf("no tablet record of %s/%s has the address of a MySQL server: %w", keyspace, shard, none)
		if unread != nil {
			err = errors.Join(err, unread)
		}
		return nil, err
	}
	if unread != nil {
		v.log.Warn("cells of a mounted cluster can't be read; going on with the others", "mount", v.cluster.Name, "keyspace", keyspace, "shard", shard, "error", unread)
	}
	return ends, nil
}

// endpoint is the server of a tablet. Which tablet is primary, the shard's record decides: the tablet's own may lag behind a
// failover.
func endpoint(r *topo.Shard, t *topo.Tablet) Endpoint {
	e := Endpoint{Host: t.MySQLHost(), Port: int(t.MySQLPort), Database: t.DBName(), Type: t.Type, Alias: t.Alias}
	if t.Alias == r.PrimaryAlias {
		e.Type = topo.TabletPrimary
	}
	return e
}

func (v *vitess) changed(ctx context.Context, keyspace, shard string, sel topo.TabletSelector, was Endpoint) (string, error) {
	r, err := v.ts.Shard(ctx, keyspace, shard)
	switch {
	case errors.Is(err, topo.ErrNoNode):
		return fmt.Sprintf("shard %s/%s is gone", keyspace, shard), nil
	case err != nil:
		return "", v.unreachable(err)
	case !r.IsPrimaryServing:
		return fmt.Sprintf("shard %s/%s does not serve any more", keyspace, shard), nil
	case was.Type == topo.TabletPrimary && r.PrimaryAlias != was.Alias && !r.PrimaryAlias.IsZero():
		return fmt.Sprintf("tablet %s is the primary now", r.PrimaryAlias), nil
	}
	t, err := v.ts.Tablet(ctx, was.Alias)
	if errors.Is(err, topo.ErrNoNode) {
		return "its record is gone", nil
	}
	if err != nil {
		return "", v.unreachable(err)
	}
	if t.Keyspace != keyspace || t.Shard != shard {
		return fmt.Sprintf("it belongs to shard %s/%s now", t.Keyspace, t.Shard), nil
	}
	now := endpoint(r, t)
	if r.PrimaryAlias.IsZero() && was.Type == topo.TabletPrimary {
		now.Type = was.Type // the next primary isn't known yet
	}
	types := sel.Types
	if len(types) == 0 {
		types = defaultTypes
	}
	switch {
	case !slices.Contains(types, now.Type):
		return fmt.Sprintf("it is of type %s now", now.Type), nil
	case t.MySQLAddr() == "":
		return "its record has no address of a MySQL server", nil
	case now.Host != was.Host || now.Port != was.Port:
		return "its MySQL server is at " + now.Addr() + " now", nil
	case now.Database != was.Database:
		return "its database is " + now.Database + " now", nil
	}
	return "", nil
}

func (v *vitess) vschema(ctx context.Context, keyspace string) (*topo.VSchema, error) {
	s, err := v.ts.VSchema(ctx, keyspace)
	if errors.Is(err, topo.ErrNoNode) {
		return &topo.VSchema{}, v.keyspace(ctx, keyspace)
	}
	return s, v.unreachable(err)
}
