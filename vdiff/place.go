package vdiff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/replication"
)

var errNotCompared = errors.New("column decides where a row is, and is not one of those that the workflow fills")

// pageRows is the number of rows of a shard whose places are looked at by one statement.
const pageRows = 50_000

// A placement tells on which target shard a row belongs. It is not changed after it was made.
type placement struct {
	s *subject
	// columns are the positions, in the target's table, of the columns that decide; from is by the target's columns: where
	// the compared table has it, or -1 if it decides nothing.
	columns, from []int
}

func newPlacement(s *subject) (*placement, error) {
	t := s.pair.Target
	p := &placement{s: s, columns: s.pair.Route.Columns(), from: make([]int, len(t.Columns))}
	if p.columns == nil {
		for i := range t.Columns {
			p.columns = append(p.columns, i)
		}
	}
	for i := range p.from {
		p.from[i] = -1
	}
	for _, at := range p.columns {
		if at < 0 || at >= len(t.Columns) {
			return nil, fmt.Errorf("column %d of %d: %w", at, len(t.Columns), errNoColumn)
		}
		if p.from[at] = column(s.t, t.Columns[at].Name); p.from[at] < 0 {
			return nil, fmt.Errorf("column %s: %w", t.Columns[at].Name, errNotCompared)
		}
	}
	return p, nil
}

// of is the name of the shard that a row belongs on; empty if it belongs on none, since no keyspace id can be computed.
func (p *placement) of(row replication.Row) (string, error) {
	values, err := row.Values(nil, len(p.s.t.Columns))
	if err != nil {
		return "", err
	}
	return p.ofValues(func(column int) []byte { return values[column] })
}

// ofValues is of for the values of the compared table's columns.
func (p *placement) ofValues(value func(column int) []byte) (string, error) {
	var row replication.Row
	for _, from := range p.from {
		var v []byte
		if from >= 0 {
			v = value(from)
		}
		row = replication.AppendValue(row, v)
	}
	i, err := p.s.pair.Route.Shard(p.s.pair.Target, row, len(p.s.shards))
	if _, none := errors.AsType[*replication.RowError](err); none {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return p.s.shards[i], nil
}

// A narrow list of columns is the key and what decides on the place.
type narrow struct {
	// more is the SQL of the columns beside the key's.
	more string
	// at is by the compared table's columns: the position in the list.
	at map[int]int
}

func (p *placement) narrow(st *statements) narrow {
	n := narrow{at: map[int]int{}}
	for i, c := range st.t.Primary.Columns {
		n.at[c] = i
	}
	var more strings.Builder
	for _, at := range p.columns {
		c := p.from[at]
		if _, there := n.at[c]; there {
			continue
		}
		n.at[c] = len(n.at)
		more.WriteString("," + valueExpr(&st.t.Columns[c], st.columns[c]))
	}
	n.more = more.String()
	return n
}

// strays returns the keys of the rows of a span that a shard holds and should not, as many as fit, and the span
// that is left to look at; nil when there is none.
func (p *placement) strays(ctx context.Context, r *reader, shard int, span replication.Span) (keys []replication.Key, rest *replication.Span, err error) {
	n := p.narrow(r.st)
	text, err := r.st.page(span, n.more, pageRows)
	if err != nil {
		return nil, nil, err
	}
	one := r.on(shard)
	var rows, size int
	var last replication.Key
	err = one.each(ctx, text, func(int) { keys, rows, size, last = nil, 0, 0, nil }, func(_ int, v resultRow) error {
		if rows++; size >= leafBatchBytes {
			return nil
		}
		var bad error
		home, err := p.ofValues(func(c int) []byte {
			b, err := canonical(&r.st.t.Columns[c], v[n.at[c]])
			bad = errors.Join(bad, err)
			return b
		})
		if err = errors.Join(bad, err); err != nil {
			return err
		}
		if home == one.shards[0].name && rows < pageRows {
			return nil
		}
		key, err := one.key(v)
		if err != nil {
			return err
		}
		if last = key; home != one.shards[0].name {
			keys, size = append(keys, key), size+len(key)
		}
		return nil
	})
	if err != nil || rows < pageRows && size < leafBatchBytes {
		return keys, nil, err
	}
	return keys, &replication.Span{Lo: last, Hi: span.Hi}, nil
}

// misplaced looks for rows of a span that are on another shard than their vindex says. Such a row is never one that is on its way:
// every shard is given those rows only that belong to it.
func (l *lane) misplaced(ctx context.Context, span replication.Span) error {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	for i := range l.target.shards {
		g.Go(func() error {
			for rest := &span; rest != nil; {
				var keys []replication.Key
				var err error
				if keys, rest, err = l.place.strays(gctx, l.target, i, *rest); err != nil {
					return err
				}
				if len(keys) == 0 {
					continue
				}
				mu.Lock()
				err = l.countMisplaced(gctx, i, keys)
				mu.Unlock()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// countMisplaced reads rows again, when the target has caught up, and counts those that are still on the wrong shard.
func (l *lane) countMisplaced(ctx context.Context, shard int, keys []replication.Key) error {
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	one := l.target.on(shard)
	name := one.shards[0].name
	for len(keys) > 0 {
		rows, err := one.lookup(ctx, keys)
		if err != nil {
			return err
		}
		for _, r := range slices.Concat(rows...) {
			home, err := l.place.of(r.row)
			if err != nil {
				return err
			}
			if home == name {
				continue
			}
			if err := l.report.addMisplaced(&l.display, name, home, r.row); err != nil {
				return fmt.Errorf("table %s: %w", l.report.Table, err)
			}
		}
		keys = keys[len(rows):]
	}
	return nil
}
