package topo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Tablets returns the tablets of a shard, in the order of the cells (all cells if none is given; aliases are
// expanded) and of their numbers. If a cell can't be read, it returns the tablets of the others and a
// [*CellError].
func (s *Server) Tablets(ctx context.Context, keyspace, shard string, cells ...string) ([]*Tablet, error) {
	if err := checkShardOf(keyspace, shard); err != nil {
		return nil, err
	}
	cells, err := s.ExpandCells(ctx, cells)
	if err != nil {
		return nil, err
	}
	byCell := make([][]*Tablet, len(cells))
	err = s.inCells(ctx, cells, func(ctx context.Context, cell string, c Conn) error {
		tablets, err := tabletsOf(ctx, c, keyspace, shard)
		byCell[slices.Index(cells, cell)] = tablets
		return err
	})
	if cellErr := (*CellError)(nil); err != nil && !errors.As(err, &cellErr) {
		return nil, err
	}
	return slices.Concat(byCell...), err
}

// tabletsOf reads the tablets of a shard that are in one cell.
func tabletsOf(ctx context.Context, c Conn, keyspace, shard string) ([]*Tablet, error) {
	r, _, err := read[ShardReplication](ctx, c, replicationKey(keyspace, shard))
	if errors.Is(err, ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tablets := make([]*Tablet, len(r.Nodes))
	err = each(ctx, len(tablets), func(ctx context.Context, i int) error {
		t, _, err := read[Tablet](ctx, c, tabletKey(r.Nodes[i].Alias))
		if err == nil && t.Keyspace == keyspace && t.Shard == shard {
			tablets[i] = t
		}
		return ignoreMissing(err) // the list is not kept in one transaction with the tablets
	})
	if err != nil {
		return nil, err
	}
	tablets = slices.DeleteFunc(tablets, func(t *Tablet) bool { return t == nil })
	slices.SortFunc(tablets, func(a, b *Tablet) int { return strings.Compare(a.Alias.key(), b.Alias.key()) })
	return tablets, nil
}

// Primary returns the primary tablet of a shard; a [*NoTabletError] says that it has none.
func (s *Server) Primary(ctx context.Context, keyspace, shard string) (*Tablet, error) {
	r, err := s.Shard(ctx, keyspace, shard)
	if err != nil {
		return nil, err
	}
	if r.PrimaryAlias.IsZero() {
		return nil, &NoTabletError{Keyspace: keyspace, Shard: shard, Types: []TabletType{TabletPrimary}}
	}
	t, err := s.Tablet(ctx, r.PrimaryAlias)
	if err != nil {
		return nil, fmt.Errorf("primary of %s/%s: %w", keyspace, shard, err)
	}
	return t, nil
}

// TabletSelector says which tablets of a shard will do, and which is best.
type TabletSelector struct {
	// Types in order of preference. Default: replica, primary.
	Types []TabletType
	// Cells, or cells aliases, in order of preference. Default: all cells. When primary is the only type, the cells do
	// not matter, as in Vitess: there is one primary, wherever it is.
	Cells []string
}

func (o TabletSelector) withDefaults() TabletSelector {
	if len(o.Types) == 0 {
		o.Types = []TabletType{TabletReplica, TabletPrimary}
	}
	return o
}

// SelectTablets returns the tablets of a shard that the selector allows, best first: by type, then cell, then
// number. Which tablet is primary, the shard's record decides. If there is none, the error is a
// [*NoTabletError], joined with a [*CellError] if some cell could not be read.
func (s *Server) SelectTablets(ctx context.Context, keyspace, shard string, o TabletSelector) ([]*Tablet, error) {
	tablets, _, err := s.SelectTabletsPartly(ctx, keyspace, shard, o)
	return tablets, err
}

// SelectTabletsPartly is SelectTablets that also says, beside its tablets, which cells could not be read; nil if all could.
func (s *Server) SelectTabletsPartly(ctx context.Context, keyspace, shard string, o TabletSelector) ([]*Tablet, *CellError, error) {
	o = o.withDefaults()
	r, err := s.Shard(ctx, keyspace, shard)
	if err != nil {
		return nil, nil, err
	}
	none := &NoTabletError{Keyspace: keyspace, Shard: shard, Types: o.Types, Cells: o.Cells}
	if slices.Equal(o.Types, []TabletType{TabletPrimary}) {
		t, err := s.listedPrimary(ctx, r)
		if t != nil {
			return []*Tablet{t}, nil, nil
		}
		if err == nil {
			none.Found, err = s.Tablets(ctx, keyspace, shard)
		}
		return nil, nil, errors.Join(none, err)
	}
	all, err := s.tabletsWithPrimary(ctx, r, o.Cells)
	unread := (*CellError)(nil)
	if err != nil && !errors.As(err, &unread) {
		return nil, nil, err
	}
	var out []*Tablet
	for _, want := range o.Types {
		for _, t := range all {
			// After a failover the new primary's record may say so before or after the shard's does.
			isPrimary := t.Alias == r.PrimaryAlias
			switch {
			case want == TabletPrimary && isPrimary, want != TabletPrimary && !isPrimary && t.Type == want:
				out = append(out, t)
			}
		}
	}
	if len(out) == 0 {
		none.Found = all
		return nil, nil, errors.Join(none, err)
	}
	return out, unread, nil
}

// listedPrimary reads the tablet that a shard's record names as the primary. nil means that there is none, a *CellError that its cell
// can't be read.
func (s *Server) listedPrimary(ctx context.Context, r *Shard) (*Tablet, error) {
	if r.PrimaryAlias.IsZero() {
		return nil, nil
	}
	t, err := s.Tablet(ctx, r.PrimaryAlias)
	switch {
	case errors.Is(err, ErrNoNode):
		return nil, nil
	case err != nil && ctx.Err() == nil:
		return nil, &CellError{Cells: map[string]error{r.PrimaryAlias.Cell: err}}
	case err != nil:
		return nil, err
	case t.Keyspace != r.Keyspace || t.Shard != r.Name:
		return nil, nil
	}
	return t, nil
}

// tabletsWithPrimary is Tablets with the primary, also when its cell does not list it: the lists are not kept in one transaction with the
// shards.
func (s *Server) tabletsWithPrimary(ctx context.Context, r *Shard, cells []string) ([]*Tablet, error) {
	cells, err := s.ExpandCells(ctx, cells)
	if err != nil {
		return nil, err
	}
	all, err := s.Tablets(ctx, r.Keyspace, r.Name, cells...)
	if err != nil || !slices.Contains(cells, r.PrimaryAlias.Cell) || slices.ContainsFunc(all, func(t *Tablet) bool { return t.Alias == r.PrimaryAlias }) {
		return all, err
	}
	t, err := s.listedPrimary(ctx, r)
	if t != nil {
		all = append(all, t)
	}
	return all, err
}
