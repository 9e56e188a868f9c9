package vdiff

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

var errNoColumn = errors.New("no such column")

// A subject is one table to compare: which rows and columns of both ends belong together.
type subject struct {
	pair replication.TablePair
	// t has the compared columns under their names on the target, described as the source does, and the key by which rows
	// are matched.
	t              *replication.Table
	source, target *statements
	// shards are the target shards that the route counts, holders those that the table is compared on.
	shards, holders []string
	// place is set if a row may be on the wrong shard.
	place *placement
}

// newSubject takes a pair apart. targets are the workflow's target shards, sorted.
func newSubject(p replication.TablePair, targets []string, zone *time.Location) (*subject, error) {
	if p.Target == nil {
		p.Target = p.Source
	}
	s := &subject{pair: p, shards: p.TargetShards}
	if s.shards == nil {
		s.shards = targets
	}
	source, target, err := s.columns(zone != nil && hasDatetime(p.Source))
	if err != nil {
		return nil, err
	}
	if err := s.key(); err != nil {
		return nil, err
	}
	s.source = newStatements(s.t, p.Source, source, p.SourceWhere)
	s.target = newStatements(s.t, p.Target, target, p.TargetWhere)
	s.source.zone, s.source.seek = zone, p.SourceSeek
	return s, s.spread(targets)
}

// columns makes the table that is compared, without a key, and the SQL of its columns on both ends. Generated columns have other
// values on the target if they depend on what is converted.
func (s *subject) columns(converted bool) (source, target []string, err error) {
	p := s.pair
	s.t = &replication.Table{Schema: p.Target.Schema, Name: p.Target.Name}
	pairs := p.Columns
	if pairs == nil {
		for _, c := range p.Source.Columns {
			pairs = append(pairs, replication.ColumnPair{Source: c.Name, Target: c.Name})
		}
	}
	for _, c := range pairs {
		at := column(p.Target, c.Target)
		if at < 0 {
			return nil, nil, fmt.Errorf("column %s of the target: %w", c.Target, errNoColumn)
		}
		described := p.Target.Columns[at]
		expr := ""
		if c.Source == "" {
			literal, err := sqltext.AppendKeyLiteral(nil, &described, c.Value)
			if err != nil {
				return nil, nil, fmt.Errorf("value of column %s: %w", c.Target, err)
			}
			expr = string(literal)
		} else {
			at := column(p.Source, c.Source)
			if at < 0 {
				return nil, nil, fmt.Errorf("column %s of the source: %w", c.Source, errNoColumn)
			}
			if described = p.Source.Columns[at]; converted && described.Generated && !slices.Contains(p.Source.Primary.Columns, at) {
				continue
			}
			described.Name = c.Target
			expr = sqltext.Ident(c.Source)
		}
		s.t.Columns = append(s.t.Columns, described)
		source, target = append(source, expr), append(target, sqltext.Ident(c.Target))
	}
	return source, target, nil
}

// column finds a column by its name, as the server would; -1 if it isn't there.
func column(t *replication.Table, name string) int {
	return slices.IndexFunc(t.Columns, func(c replication.Column) bool { return strings.EqualFold(c.Name, name) })
}

// key finds the key by which rows are matched: the source's, or the target's if a column of that is not compared.
func (s *subject) key() error {
	if columns, ok := s.compared(s.pair.Source, true); ok {
		s.t.Primary = replication.Index{Name: s.pair.Source.Primary.Name, Columns: columns, Exact: s.pair.Source.Primary.Exact}
		s.t.Ordered = s.pair.Source.Ordered
		return nil
	}
	if columns, ok := s.compared(s.pair.Target, false); ok {
		s.t.Primary = replication.Index{Name: s.pair.Target.Primary.Name, Columns: columns, Exact: s.pair.Target.Primary.Exact}
		s.t.Ordered = s.pair.Target.Ordered
		return nil
	}
	return ErrNoKey
}

// compared finds the columns of a table's key among those that are compared and no constants; false if one is missing.
func (s *subject) compared(t *replication.Table, source bool) ([]int, bool) {
	var out []int
	for _, c := range t.Primary.Columns {
		at := slices.IndexFunc(s.t.Columns, func(x replication.Column) bool {
			name := s.sourceName(x.Name)
			if !source && name != "" {
				name = x.Name
			}
			return strings.EqualFold(name, t.Columns[c].Name)
		})
		if at < 0 {
			return nil, false
		}
		out = append(out, at)
	}
	return out, len(out) > 0
}

// sourceName is the source's name of a column; empty for a constant.
func (s *subject) sourceName(target string) string {
	if s.pair.Columns == nil {
		return target
	}
	i := slices.IndexFunc(s.pair.Columns, func(c replication.ColumnPair) bool { return strings.EqualFold(c.Target, target) })
	return s.pair.Columns[i].Source
}

// spread finds the shards that the table is compared on, and whether rows can be on a wrong one.
func (s *subject) spread(targets []string) error {
	r := s.pair.Route
	s.holders = targets
	if r.Every() || len(s.shards) < 2 && len(targets) < 2 {
		return nil
	}
	if !r.Spread() {
		// Any row will do: the route looks at none.
		i, err := r.Shard(s.pair.Target, replication.Row{}, len(s.shards))
		if err != nil {
			return err
		}
		if i >= len(s.shards) || !slices.Contains(targets, s.shards[i]) {
			return fmt.Errorf("shard %d of %q holds it: %w", i, s.shards, errNoShard)
		}
		s.holders = s.shards[i : i+1]
		return nil
	}
	var err error
	s.place, err = newPlacement(s)
	return err
}
