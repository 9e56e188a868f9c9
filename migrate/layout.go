package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tablehaul/tablehaul/migrate/routing"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// A layout says on which of a target keyspace's shards the rows of tables are.
type layout struct {
	vschema *topo.VSchema
	// routes count shards in the order in which these were given.
	routes map[*replication.Table]replication.Route
	// named are the routes by the tables' names.
	named map[string]replication.Route
}

func newLayout(vs *topo.VSchema, routes map[*replication.Table]replication.Route) *layout {
	l := &layout{vschema: vs, routes: routes, named: make(map[string]replication.Route, len(routes))}
	for t, r := range routes {
		l.named[t.Name] = r
	}
	return l
}

// layout makes the routes of tables by the keyspace's VSchema.
func (m *Migrator) layout(ctx context.Context, keyspace string, shards []string, tables []*replication.Table) (*layout, error) {
	vs, err := m.vschema(ctx, keyspace)
	if err != nil {
		return nil, err
	}
	l, err := m.layoutBy(vs, shards, tables)
	if err != nil {
		return nil, fmt.Errorf("keyspace %s: %w", keyspace, err)
	}
	return l, nil
}

// layoutBy makes the routes of tables by a VSchema.
func (m *Migrator) layoutBy(vs *topo.VSchema, shards []string, tables []*replication.Table) (*layout, error) {
	ranges := make([]topo.KeyRange, len(shards))
	for i, s := range shards {
		var err error
		if ranges[i], err = topo.ParseShardName(s); err != nil {
			return nil, err
		}
	}
	routes, err := routing.Routes(tables, vs, ranges, vindex.Options{ReadFile: m.opts.ReadFile})
	if err != nil {
		return nil, err
	}
	return newLayout(vs, routes), nil
}

// vschema is a keyspace's VSchema; one that was never written is empty.
func (m *Migrator) vschema(ctx context.Context, keyspace string) (*topo.VSchema, error) {
	vs, err := m.topo.VSchema(ctx, keyspace)
	if errors.Is(err, topo.ErrNoNode) {
		return &topo.VSchema{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("VSchema of keyspace %s: %w", keyspace, err)
	}
	return vs, nil
}

// spread tells whether rows of some table are spread over shards.
func (l *layout) spread() bool {
	for _, r := range l.routes {
		if r.Spread() {
			return true
		}
	}
	return false
}

// holds tells whether a shard has rows of a table.
func (l *layout) holds(table string, shard int) bool {
	r, known := l.named[table]
	return known && r.Holds(shard)
}

// A placementRecord is what decides where a table's rows are. It is in the stream's record, since rows that were written by one rule
// can't be found, updated and deleted by another.
type placementRecord struct {
	// Type and Pinned are those of the VSchema; Vindex is the type of the primary vindex, Name its name.
	Type    string            `json:"type,omitempty"`
	Pinned  string            `json:"pinned,omitempty"`
	Name    string            `json:"name,omitempty"`
	Vindex  string            `json:"vindex,omitempty"`
	Params  map[string]string `json:"params,omitempty"`
	Columns []string          `json:"columns,omitempty"`
}

// placement is the record of a table's; nil in a keyspace that is not sharded.
func (l *layout) placement(table string) *placementRecord { return placementOf(l.vschema, table) }

// placementOf is how a VSchema places a table's rows; nil if it is not sharded.
func placementOf(vs *topo.VSchema, table string) *placementRecord {
	t := vs.Tables[table]
	if !vs.Sharded || t == nil {
		return nil
	}
	p := &placementRecord{Type: t.Type, Pinned: t.Pinned}
	if p.Type == "" && p.Pinned == "" && len(t.ColumnVindexes) > 0 {
		p.Name, p.Columns = t.ColumnVindexes[0].Name, t.ColumnVindexes[0].ColumnNames()
		if v := vs.Vindexes[t.ColumnVindexes[0].Name]; v != nil {
			p.Vindex, p.Params = v.Type, v.Params
		}
	}
	return p
}

// spread tells whether the table's rows are spread by a vindex.
func (p *placementRecord) spread() bool { return p != nil && p.Vindex != "" }

// share is what one of n shards gets of the table's rows, if they are spread evenly.
func (p *placementRecord) share(rows int64, n int) int64 {
	if p.spread() && n > 0 {
		return rows / int64(n)
	}
	return rows
}

// check refuses a layout that is not the one that the streams were created with.
func (l *layout) check(rec *record) error {
	for _, t := range rec.Tables {
		was, now := text(t.Placement), text(l.placement(t.Name))
		if was != now {
			return &PlacementError{Table: t.Name, Was: was, Now: now}
		}
	}
	return nil
}

func text(p *placementRecord) string {
	b, _ := json.Marshal(p) // maps, strings and lists of them
	return string(b)
}
