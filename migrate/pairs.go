package migrate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/projection"
)

// TablePairs says for each table, in name order, which rows of the source have to be where on the target, for a comparison. zone is that
// of the source's DATETIME values, if they are converted to UTC, else nil.
func (w *Workflow) TablePairs(ctx context.Context) (pairs []replication.TablePair, zone *time.Location, err error) {
	streams, err := w.find(ctx)
	if err != nil {
		return nil, nil, err
	}
	gs := groups(streams)
	rec := gs[0].first().record
	if zone, err = loadZone(rec.SourceTimeZone); err != nil {
		return nil, nil, err
	}
	shards := map[string][]string{}
	var tables []*projection.Table
	var models []*replication.Table
	for _, g := range gs {
		var added []string
		for _, name := range g.sourceTables() {
			if shards[name] == nil {
				added = append(added, name)
			}
			shards[name] = append(shards[name], g.key().source)
		}
		if len(added) == 0 {
			continue
		}
		described, err := w.m.pairTables(ctx, g, added)
		if err != nil {
			return nil, nil, err
		}
		tables = append(tables, described...)
		for _, t := range described {
			models = append(models, t.Target)
		}
	}
	l, err := w.m.layout(ctx, gs[0].name().Keyspace, rec.layoutShards(), models)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range tables {
		p := replication.TablePair{
			Source: t.Source, Target: t.Target, SourceShards: shards[t.Source.Name], Route: l.routes[t.Target], TargetShards: rec.layoutShards(),
		}
		p.SourceWhere, p.SourceSeek = t.Where()
		for i, name := range sourceColumns(t) {
			p.Columns = append(p.Columns, replication.ColumnPair{Source: name, Target: t.Target.Columns[i].Name})
		}
		if rec.Tenant != nil {
			p.TargetWhere = "s." + rec.Tenant.condition()
		}
		pairs = append(pairs, p)
	}
	slices.SortFunc(pairs, func(a, b replication.TablePair) int { return strings.Compare(a.Source.Name, b.Source.Name) })
	return pairs, zone, nil
}

// pairTables describes tables of a group's source, and what is taken of them.
func (m *Migrator) pairTables(ctx context.Context, g *group, names []string) ([]*projection.Table, error) {
	src, err := m.sourceOf(ctx, g.streams...)
	if err != nil {
		return nil, err
	}
	fail := func(err error) ([]*projection.Table, error) {
		return nil, fmt.Errorf("source shard %s/%s: %w", g.first().record.source(), src.shard, err)
	}
	described, err := tablesOf(ctx, src, names)
	if err != nil {
		return fail(err)
	}
	mappings, _, err := g.mappings()
	if err != nil {
		return fail(err)
	}
	list, err := specs(ctx, described, mappings, askServer(src.admin))
	if err != nil {
		return fail(err)
	}
	tables, err := projection.Tables(list)
	if err != nil {
		return fail(err)
	}
	return tables, nil
}
