package vdiff

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/replication"
)

// A moment is where a source stands: by shard name, the transactions that are visible, and those under way.
type moment struct {
	positions map[string]replication.Position
	owned     map[string]bool
}

// now reads where every shard stands.
func (e *end) now(ctx context.Context) (*moment, error) {
	positions, owned := make([]replication.Position, len(e.shards)), make([][]string, len(e.shards))
	g, gctx := errgroup.WithContext(ctx)
	for i, s := range e.shards {
		g.Go(func() (err error) {
			if positions[i], owned[i], err = s.position(gctx, e.side); err != nil {
				return fmt.Errorf("%s shard %s: position: %w", e.name, s.name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	m := &moment{positions: map[string]replication.Position{}, owned: map[string]bool{}}
	for i, s := range e.shards {
		m.positions[s.name] = positions[i]
		for _, g := range owned[i] {
			m.owned[s.name+" "+g] = true
		}
	}
	return m, nil
}

// still tells whether nothing was committed or under way between m and a later moment, on any shard.
func (m *moment) still(later *moment) bool {
	if len(m.owned) > 0 || len(later.owned) > 0 {
		return false
	}
	for name, p := range m.positions {
		if p.Flavor() != replication.FlavorMySQL || !p.Equal(later.positions[name]) {
			return false
		}
	}
	return true
}

// overlaps tells whether a transaction that was under way at m still is.
func (m *moment) overlaps(later *moment) bool {
	for g := range m.owned {
		if later.owned[g] {
			return true
		}
	}
	return false
}
