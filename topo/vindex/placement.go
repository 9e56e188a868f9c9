package vindex

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/topo"
)

// A Kind says how a table's rows are spread over the shards of its keyspace.
type Kind uint8

// The kinds.
const (
	// Sharded: each row is on the shard that holds its keyspace id.
	Sharded Kind = iota + 1
	// Reference: every shard has the whole table.
	Reference
	// Sequence: one shard has the table, which holds the next value of an AUTO_INCREMENT column elsewhere.
	Sequence
	// Unsharded: the keyspace has one shard, and it has the whole table.
	Unsharded
	// Pinned: the shard that holds one keyspace id has the whole table.
	Pinned
)

var kindNames = [...]string{"unknown", "sharded", "reference", "sequence", "unsharded", "pinned"}

// String returns the kind in lower case.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// A Placement says where the rows of one table are.
type Placement struct {
	Table string
	Kind  Kind

	// Vindex computes the keyspace ids of a Sharded table's rows from its Columns, which are spelled and ordered
	// as in the VSchema; Name is its name there. They are nil and empty for other kinds.
	Vindex  *Vindex
	Name    string
	Columns []string

	// ID is the keyspace id whose shard has a Pinned table, or a Sequence of a sharded keyspace; else nil.
	ID []byte
	// Source is the table, possibly with its keyspace, that a Reference table is a copy of; empty if none is known.
	Source string
}

// Positions returns where the vindex columns are among a table's columns. Letter case does not count, as in MySQL.
// A [*TableError] says that the table has no such column.
func (p *Placement) Positions(columns []string) ([]int, error) {
	out := make([]int, 0, len(p.Columns))
	for _, want := range p.Columns {
		i := slices.IndexFunc(columns, func(c string) bool { return strings.EqualFold(c, want) })
		if i < 0 {
			return nil, &TableError{p.Table, p.Name, fmt.Errorf("the table has no column %s", want)}
		}
		out = append(out, i)
	}
	return out, nil
}

// Resolve tells where a keyspace's VSchema says that the rows of a table are. Names of tables are compared exactly. A
// keyspace that is not sharded needs not mention its tables; one that is must.
//
// Errors: a [*MissingTableError] that knows what to add to the VSchema, or a [*TableError]. The latter wraps
// [ErrNoVindex], [ErrUndefined], or, when the primary vindex can't be used, an error of [New]: an
// [*UnsupportedError] for lookup vindexes.
func Resolve(vs *topo.VSchema, table string, o Options) (*Placement, error) {
	t, known := vs.Tables[table]
	if t == nil {
		t = &topo.Table{}
	}
	p := &Placement{Table: table, Kind: Unsharded}
	bad := func(err error) (*Placement, error) { return nil, &TableError{Table: table, Err: err} }
	if t.Pinned != "" {
		id, err := hex.DecodeString(t.Pinned)
		if err != nil {
			return bad(fmt.Errorf("pinned: %q is not a keyspace id in hexadecimal", t.Pinned))
		}
		p.ID, p.Kind = id, Pinned
	}
	switch t.Type {
	case "":
	case "reference":
		p.Kind, p.Source, p.ID = Reference, t.Source, nil
	case "sequence":
		p.Kind = Sequence
	default:
		return bad(fmt.Errorf(`type %q is none of "", "sequence", "reference"`, t.Type))
	}
	switch {
	case !vs.Sharded:
		p.ID = nil
		if p.Kind == Pinned {
			p.Kind = Unsharded
		}
		return p, nil
	case !known:
		return nil, missing(vs, table)
	case p.Kind == Sequence && p.ID == nil:
		return bad(errors.New("a sequence needs an unsharded keyspace or a pinned keyspace id"))
	case p.Kind != Unsharded:
		return p, nil
	case len(t.ColumnVindexes) == 0:
		return bad(ErrNoVindex)
	}
	p.Kind = Sharded
	if err := p.setVindex(vs, &t.ColumnVindexes[0], o); err != nil {
		return nil, &TableError{table, t.ColumnVindexes[0].Name, err}
	}
	return p, nil
}

func (p *Placement) setVindex(vs *topo.VSchema, c *topo.ColumnVindex, o Options) error {
	def := vs.Vindexes[c.Name]
	switch {
	case def == nil:
		return ErrUndefined
	case c.Column != "" && len(c.Columns) > 0:
		return errors.New("it has column and columns; give one of them")
	}
	v, err := New(def.Type, def.Params, o)
	if err != nil {
		return err
	}
	columns := c.ColumnNames()
	if len(columns) != v.Columns() {
		return &ColumnsError{v.Type(), v.Columns(), len(columns)}
	}
	p.Vindex, p.Name, p.Columns = v, c.Name, columns
	return nil
}

// MissingTableError says that the VSchema of a sharded keyspace does not have a table. Its JSON is a proposal of what
// to add.
type MissingTableError struct {
	Table string
	// Vindex is the name of the vindex that most tables of the keyspace are sharded by; if there is none that takes
	// one column, it is a new one, of type xxhash.
	Vindex string
	// NewType is the type of a vindex that has to be defined too; empty if the VSchema has it.
	NewType string
	// Column is the column to shard by. Resolve, which doesn't know the table, leaves it empty; the JSON then has
	// "COLUMN" in its place. Set it to the first column of the primary key.
	Column string
}

func (e *MissingTableError) Error() string {
	return fmt.Sprintf("table %s is not in the VSchema of the sharded keyspace; add %s", e.Table, e.JSON())
}

// JSON returns the part that a VSchema needs to have the table, e.g.
//
//	{"vindexes":{"xxhash":{"type":"xxhash"}},"tables":{"t":{"column_vindexes":[{"column":"id","name":"xxhash"}]}}}
func (e *MissingTableError) JSON() string {
	column := e.Column
	if column == "" {
		column = "COLUMN"
	}
	part := &topo.VSchema{Tables: map[string]*topo.Table{
		e.Table: {ColumnVindexes: []topo.ColumnVindex{{Column: column, Name: e.Vindex}}},
	}}
	if e.NewType != "" {
		part.Vindexes = map[string]*topo.Vindex{e.Vindex: {Type: e.NewType}}
	}
	b, _ := part.MarshalJSON() // it always succeeds
	return string(b)
}

func missing(vs *topo.VSchema, table string) error {
	const typ = "xxhash"
	e := &MissingTableError{Table: table}
	uses, most := map[string]int{}, -1
	for _, t := range vs.Tables {
		if t != nil && t.Type == "" && len(t.ColumnVindexes) > 0 {
			uses[t.ColumnVindexes[0].Name]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(vs.Vindexes)) {
		if def := vs.Vindexes[name]; def != nil && uses[name] > most && placesOne(def) {
			e.Vindex, most = name, uses[name]
		}
	}
	if e.Vindex != "" {
		return e
	}
	e.Vindex, e.NewType = typ, typ
	for vs.Vindexes[e.Vindex] != nil { // something else has the name
		e.Vindex += "_primary"
	}
	return e
}

// placesOne tells whether a vindex can be the primary one of a table by one of its columns. Whether its parameters
// are right is seen when it is used.
func placesOne(def *topo.Vindex) bool {
	switch def.Type {
	case "multicol", "region_experimental", "region_json", "null":
		return false
	}
	return slices.Contains(types, def.Type)
}
