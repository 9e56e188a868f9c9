package routing

import (
	"errors"
	"fmt"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// ErrShards means that a keyspace that is not sharded has more than one shard.
var ErrShards = errors.New("the keyspace is not sharded and has more than one shard")

// A ColumnError means that the values of a vindex column have no form of which a keyspace id can be computed.
type ColumnError struct {
	Table, Column string
	// Why says what is wrong with the column.
	Why string
}

// Error names table and column.
func (e *ColumnError) Error() string {
	return fmt.Sprintf("table %s: vindex column %s: %s", e.Table, e.Column, e.Why)
}

// Routes returns where the rows of each table are in a keyspace with this VSchema. A shard of a route is its position in ranges,
// which must hold every keyspace id exactly once.
//
// All tables that can't be routed are reported, joined: as *vindex.MissingTableError, which knows what to add to the
// VSchema, *vindex.TableError, *ColumnError, or ErrShards. Before any of these, a *topo.CoverError is about the ranges.
func Routes(tables []*replication.Table, vs *topo.VSchema, ranges []topo.KeyRange, o vindex.Options) (map[*replication.Table]replication.Route, error) {
	shards, err := topo.NewRouter(ranges)
	if err != nil {
		return nil, err
	}
	routes := make(map[*replication.Table]replication.Route, len(tables))
	var errs []error
	for _, t := range tables {
		r, err := route(t, vs, shards, len(ranges), o)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		routes[t] = r
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return routes, nil
}

func route(t *replication.Table, vs *topo.VSchema, shards *topo.Router, n int, o vindex.Options) (replication.Route, error) {
	p, err := vindex.Resolve(vs, t.Name, o)
	if missing, ok := errors.AsType[*vindex.MissingTableError](err); ok && len(t.Primary.Columns) > 0 {
		missing.Column = t.Columns[t.Primary.Columns[0]].Name
	}
	switch {
	case err != nil:
		return replication.Route{}, err
	case p.Kind == vindex.Reference:
		return replication.EveryShard(), nil
	case p.Kind == vindex.Sharded:
		return byVindex(t, p, shards)
	case p.ID != nil:
		return replication.OneShard(shards.Route(p.ID)), nil
	case n > 1:
		return replication.Route{}, fmt.Errorf("table %s: %w", t.Name, ErrShards)
	}
	return replication.OneShard(0), nil
}

// byVindex is the route of a table with a primary vindex.
func byVindex(t *replication.Table, p *vindex.Placement, shards *topo.Router) (replication.Route, error) {
	m, err := newMapper(t, p)
	if err != nil {
		return replication.Route{}, err
	}
	return replication.ByColumns(m.positions(), func(r replication.Row) (int, error) {
		var buf [64]byte
		id, err := m.id(buf[:0], r)
		if err != nil {
			return 0, err
		}
		return shards.Route(id), nil
	}), nil
}

// A mapper computes the keyspace ids of a table's rows. It is not changed after it was made.
type mapper struct {
	vindex *vindex.Vindex
	// width is how many values the vindex takes, columns how many of a row's first ones have to be looked at.
	width, columns int
	// values is by column.
	values []value
}

// A value says what a column is to the vindex.
type value struct {
	class vindex.Class
	// text makes UTF-8 of the stored bytes; nil leaves them.
	text func([]byte) ([]byte, error)
	// places are where the vindex takes it; none for most columns.
	places []int
}

func newMapper(t *replication.Table, p *vindex.Placement) (*mapper, error) {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	positions, err := p.Positions(names)
	if err != nil {
		return nil, err
	}
	m := &mapper{vindex: p.Vindex, width: len(positions), values: make([]value, len(t.Columns))}
	classes := make([]vindex.Class, len(positions))
	for i, at := range positions {
		m.columns = max(m.columns, at+1)
		v := &m.values[at]
		v.places = append(v.places, i)
		if v.class, v.text, err = classOf(t, &t.Columns[at]); err != nil {
			return nil, err
		}
		classes[i] = v.class
	}
	if err := p.Vindex.Check(classes...); err != nil {
		return nil, &vindex.TableError{Table: t.Name, Vindex: p.Name, Err: err}
	}
	return m, nil
}

// positions are the columns that the vindex takes.
func (m *mapper) positions() []int {
	var out []int
	for i := range m.values {
		if len(m.values[i].places) > 0 {
			out = append(out, i)
		}
	}
	return out
}

// id appends the keyspace id of a row to dst.
func (m *mapper) id(dst []byte, r replication.Row) ([]byte, error) {
	var few [4]vindex.Value
	values := few[:0]
	if m.width > len(few) {
		values = make([]vindex.Value, 0, m.width)
	}
	values = values[:m.width]
	for i := range m.columns {
		b, rest, err := r.Next()
		if err != nil {
			return dst, err
		}
		r = rest
		v := &m.values[i]
		if len(v.places) == 0 {
			continue
		}
		if b != nil && v.text != nil {
			if b, err = v.text(b); err != nil {
				return dst, err
			}
		}
		for _, at := range v.places {
			values[at] = vindex.Value{Class: v.class, Bytes: b}
		}
	}
	return m.vindex.Map(dst, values)
}
