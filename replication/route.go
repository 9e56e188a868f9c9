package replication

import (
	"fmt"
	"slices"
)

// A Route says on which shards of a Fanout the rows of one table are. Make it with EveryShard, OneShard or ByRow; the zero
// Route is OneShard(0).
type Route struct {
	every bool
	shard int
	of    func(Row) (int, error)
	// columns are those that of looks at; nil: maybe all.
	columns []int
}

// EveryShard is the route of a table that all shards hold whole: a reference table.
func EveryShard() Route { return Route{every: true} }

// OneShard is the route of a table that one shard holds whole. Shards are counted from 0.
func OneShard(shard int) Route { return Route{shard: shard} }

// ByRow is the route of a table of which each row is on the shard that of returns. of is called with whole rows, by several
// goroutines at once, and must always return the same for the same row; an error of it ends the stream.
func ByRow(of func(Row) (int, error)) Route { return Route{of: of} }

// Holds tells whether rows of the table may be on a shard.
func (r Route) Holds(shard int) bool { return r.every || r.of != nil || r.shard == shard }

// Spread tells whether the rows are spread over the shards: each of them is on one.
func (r Route) Spread() bool { return r.of != nil }

// ByColumns is ByRow for an of that looks at no other columns than these (positions in Table.Columns).
func ByColumns(columns []int, of func(Row) (int, error)) Route {
	return Route{of: of, columns: slices.Clone(columns)}
}

// Columns are the positions of the columns that tell where a row is; nil if that isn't known, or depends on none (see Spread).
func (r Route) Columns() []int { return slices.Clone(r.columns) }

// Every tells whether all shards hold the whole table.
func (r Route) Every() bool { return r.every }

// Shard returns the shard of a row of t, out of n; of a table that every shard holds it is 0. A row that is on no shard is a
// *RowError.
func (r Route) Shard(t *Table, row Row, n int) (int, error) {
	i, err := r.place(t, row, n)
	return max(i, 0), err
}

// Places of a row that are no shard.
const (
	nowhere    = -1
	everywhere = -2
)

// place returns the shard of a row of t, out of n, or everywhere; nowhere for no row.
func (r Route) place(t *Table, row Row, n int) (int, error) {
	switch {
	case row == nil:
		return nowhere, nil
	case r.every:
		return everywhere, nil
	case r.of == nil:
		return r.shard, nil
	}
	i, err := r.of(row)
	if err == nil && (i < 0 || i >= n) {
		err = fmt.Errorf("it is routed to shard %d of %d", i, n)
	}
	if err != nil {
		e := &RowError{Table: t.Name, Err: err}
		if k, kerr := t.Key(row); kerr == nil {
			e.Key = t.FormatKey(k)
		}
		return nowhere, e
	}
	return i, nil
}

// at restricts a change, whose images are at these places, to those that are on one shard. A row that moves is deleted
// on one shard and inserted on the other.
func (c Change) at(shard, before, after int) (Change, bool) {
	if before != shard && before != everywhere {
		c.Before = nil
	}
	if after != shard && after != everywhere {
		c.After = nil
	}
	return c, c.Before != nil || c.After != nil
}
