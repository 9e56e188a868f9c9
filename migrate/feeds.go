package migrate

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

// feed decides which source shards feed which target shards: every one every other, unless the source keyspace's VSchema places the
// rows of all tables as the target's does. Then a source shard feeds only the target shards with which it shares keyspace ids, so that
// two keyspaces of n equal shards need n streams, and not n times n. Target shards that nothing feeds are none of the workflow's.
func (c *creation) feed(ctx context.Context) error {
	aligned, err := c.aligned(ctx)
	if err != nil {
		return err
	}
	c.feeds = make([][]bool, len(c.sources))
	fed := make([]bool, len(c.targets))
	for i, s := range c.sources {
		c.feeds[i] = make([]bool, len(c.targets))
		from, err := topo.ParseShardName(s.shard)
		if err != nil {
			return err
		}
		for j, t := range c.targets {
			to, err := topo.ParseShardName(t.shard)
			if err != nil {
				return err
			}
			c.feeds[i][j] = !aligned || from.Intersects(to) || slices.ContainsFunc(c.sourceStates[i].provided, func(name string) bool {
				return !c.layout.placement(name).spread() && c.layout.holds(name, j)
			})
			fed[j] = fed[j] || c.feeds[i][j]
		}
	}
	c.targets, c.targetStates = kept(c.targets, fed), kept(c.targetStates, fed)
	for i := range c.feeds {
		c.feeds[i] = kept(c.feeds[i], fed)
	}
	return nil
}

// kept are the items that are marked.
func kept[T any](items []T, marked []bool) []T {
	var out []T
	for i, item := range items {
		if marked[i] {
			out = append(out, item)
		}
	}
	return out
}

// aligned tells whether both ends' VSchemas place the rows of all tables that are spread in the same way.
func (c *creation) aligned(ctx context.Context) (bool, error) {
	if !c.layout.vschema.Sharded {
		return false, nil
	}
	vs, err := c.sourceVSchema(ctx)
	if err != nil || !vs.Sharded {
		return false, err
	}
	for _, name := range c.tables() {
		was, is := placementOf(vs, name), c.layout.placement(name)
		if m := c.moved[name]; m != nil && (m.source != m.target || len(m.renames) > 0) {
			was = nil // the source has it under other names
		}
		if is.spread() && !is.like(was) {
			return false, nil
		}
	}
	return true, nil
}

// like tells whether two placements give rows the same keyspace ids.
func (p *placementRecord) like(o *placementRecord) bool {
	return o != nil && p.Vindex == o.Vindex && maps.Equal(p.Params, o.Params) && slices.Equal(p.Columns, o.Columns)
}

// layoutShards are all shards of the target keyspace.
func (r *record) layoutShards() []string {
	if len(r.Layout) > 0 {
		return r.Layout
	}
	return r.TargetShards
}

// fed are the target shards that get rows from the record's source shard.
func (r *record) fed() []string {
	if len(r.Feeds) > 0 {
		return r.Feeds
	}
	return r.TargetShards
}

// among are the layout's routes among some of its shards. A row that belongs to another one is an error.
func (l *layout) among(all, some []string) map[*replication.Table]replication.Route {
	if slices.Equal(all, some) {
		return l.routes
	}
	routes := make(map[*replication.Table]replication.Route, len(l.routes))
	for t, r := range l.routes {
		switch {
		case r.Every():
			routes[t] = r
		case r.Spread():
			routes[t] = replication.ByColumns(r.Columns(), func(row replication.Row) (int, error) {
				i, err := r.Shard(t, row, len(all))
				if err != nil {
					return 0, err
				}
				if at := slices.Index(some, all[i]); at >= 0 {
					return at, nil
				}
				return 0, fmt.Errorf("it belongs to target shard %s, and should not be on this source shard, whose rows do not go there", all[i])
			})
		default:
			at := slices.IndexFunc(some, func(name string) bool { return r.Holds(slices.Index(all, name)) })
			routes[t] = replication.OneShard(at) // which the Fanout refuses if the shard is none of them
		}
	}
	return routes
}
