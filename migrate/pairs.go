package migrate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/replication"
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
	var tables []*replication.Table
	for _, g := range gs {
		var added []string
		for _, name := range g.tables() {
			if shards[name] == nil {
				added = append(added, name)
			}
			shards[name] = append(shards[name], g.key().source)
		}
		if len(added) == 0 {
			continue
		}
		src, err := w.m.sourceOf(ctx, g.streams...)
		if err != nil {
			return nil, nil, err
		}
		described, err := tablesOf(ctx, src, added)
		if err != nil {
			return nil, nil, fmt.Errorf("source shard %s/%s: %w", rec.source(), src.shard, err)
		}
		tables = append(tables, described...)
	}
	l, err := w.m.layout(ctx, gs[0].name().Keyspace, rec.TargetShards, tables)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range tables {
		pairs = append(pairs, replication.TablePair{
			Source: t, Target: t, SourceShards: shards[t.Name], Route: l.routes[t], TargetShards: rec.TargetShards,
		})
	}
	slices.SortFunc(pairs, func(a, b replication.TablePair) int { return strings.Compare(a.Source.Name, b.Source.Name) })
	return pairs, zone, nil
}
