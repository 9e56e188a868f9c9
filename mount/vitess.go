package mount

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tablehaul/tablehaul/topo"
)

// vitess is what an open Vitess cluster says: its topology.
type vitess struct {
	cluster Cluster
	ts      *topo.Server
}

func openVitess(ctx context.Context, local *topo.Server, c Cluster) (*vitess, error) {
	if local == nil {
		return nil, &ConfigError{Field: "ts", Reason: "a topology is needed, to open another one the same way"}
	}
	v := &vitess{cluster: c}
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
	tablets, err := v.ts.SelectTablets(ctx, keyspace, shard, sel)
	if err != nil {
		return nil, v.unreachable(err)
	}
	var ends []Endpoint
	for _, t := range tablets {
		if t.MySQLAddr() == "" {
			continue
		}
		e := Endpoint{Host: t.MySQLHostname, Port: int(t.MySQLPort), Database: t.DBName(), Type: t.Type, Alias: t.Alias}
		if t.Alias == r.PrimaryAlias {
			e.Type = topo.TabletPrimary // the tablet's own record may lag behind a failover
		}
		ends = append(ends, e)
	}
	if len(ends) == 0 {
		none := &topo.NoTabletError{Keyspace: keyspace, Shard: shard, Types: slices.Clone(sel.Types), Cells: slices.Clone(sel.Cells), Found: tablets}
		return nil, fmt.Errorf("no tablet record of %s/%s has the address of a MySQL server: %w", keyspace, shard, none)
	}
	return ends, nil
}
