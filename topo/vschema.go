package topo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ForeignKeyMode says how vtgate treats foreign keys.
type ForeignKeyMode int32

// The foreign key modes of Vitess.
const (
	ForeignKeysUnspecified ForeignKeyMode = 0
	ForeignKeysDisallow    ForeignKeyMode = 1
	ForeignKeysUnmanaged   ForeignKeyMode = 2
	ForeignKeysManaged     ForeignKeyMode = 3
)

var foreignKeyModes = map[ForeignKeyMode]string{
	ForeignKeysUnspecified: "unspecified", ForeignKeysDisallow: "disallow",
	ForeignKeysUnmanaged: "unmanaged", ForeignKeysManaged: "managed",
}

// String returns Vitess's name of the mode.
func (m ForeignKeyMode) String() string { return enumName(foreignKeyModes, m) }

// ColumnType is Vitess's number of a MySQL column type.
type ColumnType int32

var columnTypes = map[ColumnType]string{
	0: "NULL_TYPE", 257: "INT8", 770: "UINT8", 259: "INT16", 772: "UINT16", 261: "INT24", 774: "UINT24", 263: "INT32",
	776: "UINT32", 265: "INT64", 778: "UINT64", 1035: "FLOAT32", 1036: "FLOAT64", 2061: "TIMESTAMP", 2062: "DATE",
	2063: "TIME", 2064: "DATETIME", 785: "YEAR", 18: "DECIMAL", 6163: "TEXT", 10260: "BLOB", 6165: "VARCHAR",
	10262: "VARBINARY", 6167: "CHAR", 10264: "BINARY", 2073: "BIT", 2074: "ENUM", 2075: "SET", 2077: "GEOMETRY",
	2078: "JSON",
}

// String returns Vitess's name of the type, e.g. "VARCHAR".
func (t ColumnType) String() string { return enumName(columnTypes, t) }

// VSchema says how a keyspace's tables are spread over its shards. In JSON it reads and writes what users of
// ApplyVSchema type.
type VSchema struct {
	layout
	Sharded                bool
	Vindexes               map[string]*Vindex
	Tables                 map[string]*Table
	RequireExplicitRouting bool
	ForeignKeyMode         ForeignKeyMode
	MultiTenantSpec        *MultiTenantSpec
}

func (v *VSchema) fields() []field {
	return []field{
		boolField{label{1, "sharded"}, &v.Sharded},
		messagesByName(2, "vindexes", &v.Vindexes),
		messagesByName(3, "tables", &v.Tables),
		boolField{label{4, "require_explicit_routing"}, &v.RequireExplicitRouting},
		intField[ForeignKeyMode]{label{5, "foreign_key_mode"}, &v.ForeignKeyMode, foreignKeyModes},
		messageField[MultiTenantSpec, *MultiTenantSpec]{label{6, "multi_tenant_spec"}, &v.MultiTenantSpec},
	}
}

// MultiTenantSpec says which column tells the tenants of a keyspace apart.
type MultiTenantSpec struct {
	layout
	TenantIDColumnName string
	TenantIDColumnType ColumnType
}

func (m *MultiTenantSpec) fields() []field {
	return []field{
		stringField{label{1, "tenant_id_column_name"}, &m.TenantIDColumnName},
		intField[ColumnType]{label{2, "tenant_id_column_type"}, &m.TenantIDColumnType, columnTypes},
	}
}

// Vindex is a named way to compute keyspace ids from column values.
type Vindex struct {
	layout
	Type   string // the function, e.g. "xxhash"
	Params map[string]string
	Owner  string // table that owns a lookup vindex
}

func (v *Vindex) fields() []field {
	return []field{
		stringField{label{1, "type"}, &v.Type},
		stringsByName(2, "params", &v.Params),
		stringField{label{3, "owner"}, &v.Owner},
	}
}

// Table is one table of a [VSchema].
type Table struct {
	layout
	Type                    string         // "" for an ordinary table, "sequence" or "reference"
	ColumnVindexes          []ColumnVindex // the first is the primary vindex: it decides on which shard a row is
	AutoIncrement           *AutoIncrement
	Columns                 []Column
	Pinned                  string // keyspace id, in hexadecimal, of the shard that has the whole table
	ColumnListAuthoritative bool
	Source                  string // of a reference table, "keyspace.table"
}

func (t *Table) fields() []field {
	return []field{
		stringField{label{1, "type"}, &t.Type},
		messagesField[ColumnVindex, *ColumnVindex]{label{2, "column_vindexes"}, &t.ColumnVindexes},
		messageField[AutoIncrement, *AutoIncrement]{label{3, "auto_increment"}, &t.AutoIncrement},
		messagesField[Column, *Column]{label{4, "columns"}, &t.Columns},
		stringField{label{5, "pinned"}, &t.Pinned},
		boolField{label{6, "column_list_authoritative"}, &t.ColumnListAuthoritative},
		stringField{label{7, "source"}, &t.Source},
	}
}

// ColumnVindex binds columns to a vindex of the keyspace.
type ColumnVindex struct {
	layout
	Column  string   // either this
	Name    string   // of the vindex
	Columns []string // or these
}

func (c *ColumnVindex) fields() []field {
	return []field{
		stringField{label{1, "column"}, &c.Column},
		stringField{label{2, "name"}, &c.Name},
		stringsField{label{3, "columns"}, &c.Columns},
	}
}

// ColumnNames returns the columns, whichever way they were given.
func (c *ColumnVindex) ColumnNames() []string {
	if c.Column != "" {
		return []string{c.Column}
	}
	return slices.Clone(c.Columns)
}

// AutoIncrement says which sequence fills a column.
type AutoIncrement struct {
	layout
	Column   string
	Sequence string // table of type "sequence", possibly with its keyspace
}

func (a *AutoIncrement) fields() []field {
	return []field{stringField{label{1, "column"}, &a.Column}, stringField{label{2, "sequence"}, &a.Sequence}}
}

// Column describes a column to vtgate.
type Column struct {
	layout
	Name          string
	Type          ColumnType
	Invisible     bool
	Default       string
	CollationName string
	Size, Scale   int32
	Nullable      *bool // nil if not known
	Values        []string
}

func (c *Column) fields() []field {
	return []field{
		stringField{label{1, "name"}, &c.Name},
		intField[ColumnType]{label{2, "type"}, &c.Type, columnTypes},
		boolField{label{3, "invisible"}, &c.Invisible},
		stringField{label{4, "default"}, &c.Default},
		stringField{label{5, "collation_name"}, &c.CollationName},
		intField[int32]{label: label{6, "size"}, v: &c.Size},
		intField[int32]{label: label{7, "scale"}, v: &c.Scale},
		optionalBoolField{label{8, "nullable"}, &c.Nullable},
		stringsField{label{9, "values"}, &c.Values},
	}
}

// ParseVSchema reads a keyspace's VSchema as users type it, e.g.
//
//	{"sharded": true, "vindexes": {"xxhash": {"type": "xxhash"}},
//	 "tables": {"t": {"column_vindexes": [{"column": "id", "name": "xxhash"}]}}}
//
// A [*JSONError] names the place of what is unknown or malformed. Whether the parts fit together,
// [VSchema.Validate] tells.
func ParseVSchema(b []byte) (*VSchema, error) {
	v := new(VSchema)
	if err := unmarshalJSON(b, v); err != nil {
		return nil, err
	}
	return v, nil
}

// MarshalJSON returns the VSchema as [ParseVSchema] reads it.
func (v *VSchema) MarshalJSON() ([]byte, error) { return marshalJSON(v), nil }

// UnmarshalJSON is [ParseVSchema].
func (v *VSchema) UnmarshalJSON(b []byte) error {
	parsed, err := ParseVSchema(b)
	if err != nil {
		return err
	}
	*v = *parsed
	return nil
}

// VSchemaError says what a VSchema's table or vindex lacks.
type VSchemaError struct {
	Table  string // empty if it is about a vindex
	Vindex string // empty if it is about the table itself
	Reason string
}

func (e *VSchemaError) Error() string {
	switch {
	case e.Table == "":
		return fmt.Sprintf("vindex %s: %s", e.Vindex, e.Reason)
	case e.Vindex == "":
		return fmt.Sprintf("table %s: %s", e.Table, e.Reason)
	}
	return fmt.Sprintf("table %s, vindex %s: %s", e.Table, e.Vindex, e.Reason)
}

// Validate tells whether the parts of the VSchema fit together. It joins one [*VSchemaError] for each finding.
func (v *VSchema) Validate() error {
	var errs []error
	bad := func(table, vindex, reason string) {
		errs = append(errs, &VSchemaError{Table: table, Vindex: vindex, Reason: reason})
	}
	for _, name := range slices.Sorted(maps.Keys(v.Vindexes)) {
		if x := v.Vindexes[name]; x == nil || x.Type == "" {
			bad("", name, "it has no type")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.Tables)) {
		t := v.Tables[name]
		if t == nil {
			continue
		}
		switch {
		case name == "":
			bad(name, "", "it has no name")
		case t.Type != "" && t.Type != "sequence" && t.Type != "reference":
			bad(name, "", fmt.Sprintf(`type %q is none of "", "sequence", "reference"`, t.Type))
		case v.Sharded && t.Type == "" && len(t.ColumnVindexes) == 0 && t.Pinned == "":
			bad(name, "", "it is in a sharded keyspace and has no column_vindexes")
		case v.Sharded && t.Type == "sequence" && t.Pinned == "":
			bad(name, "", "a sequence needs an unsharded keyspace or a pinned keyspace id")
		}
		for i := range t.ColumnVindexes {
			c := &t.ColumnVindexes[i]
			switch {
			case v.Vindexes[c.Name] == nil:
				bad(name, c.Name, "there is no such vindex")
			case c.Column != "" && len(c.Columns) > 0:
				bad(name, c.Name, "it has column and columns; give one of them")
			case c.Column == "" && len(c.Columns) == 0:
				bad(name, c.Name, "it has no column")
			}
		}
		if t.AutoIncrement != nil && (t.AutoIncrement.Column == "" || t.AutoIncrement.Sequence == "") {
			bad(name, "", "auto_increment needs column and sequence")
		}
	}
	return errors.Join(errs...)
}

// VSchema returns the VSchema of a keyspace, or [ErrNoNode].
func (s *Server) VSchema(ctx context.Context, keyspace string) (*VSchema, error) {
	if err := checkName("keyspace", keyspace); err != nil {
		return nil, err
	}
	v, _, err := read[VSchema](ctx, s.global, vschemaKey(keyspace))
	return v, err
}

// SaveVSchema replaces the VSchema of a keyspace that exists. One that does not validate is refused. What a later version of
// Vitess has stored with the VSchema, or with a table or vindex that is still there, stays. Call [Server.RebuildSrvVSchema] then to make it
// known to the cells.
func (s *Server) SaveVSchema(ctx context.Context, keyspace string, v *VSchema) error {
	if err := v.Validate(); err != nil {
		return fmt.Errorf("vschema of %s: %w", keyspace, err)
	}
	if _, err := s.Keyspace(ctx, keyspace); err != nil {
		return err
	}
	return upsert(ctx, s.global, vschemaKey(keyspace), func(stored *VSchema) error {
		*stored = *v.over(stored)
		return nil
	})
}

// over returns v as it is written in place of a stored one: its parts that were not read from a topology are written like those of the
// same name there, with the fields that are not known here.
func (v *VSchema) over(stored *VSchema) *VSchema {
	n := *v
	n.inherit(&stored.layout)
	n.Vindexes, n.Tables = maps.Clone(v.Vindexes), maps.Clone(v.Tables)
	for name, x := range n.Vindexes {
		if had := stored.Vindexes[name]; x != nil && had != nil {
			x := *x
			x.inherit(&had.layout)
			n.Vindexes[name] = &x
		}
	}
	for name, t := range n.Tables {
		if had := stored.Tables[name]; t != nil && had != nil {
			n.Tables[name] = t.over(had)
		}
	}
	if m := stored.MultiTenantSpec; m != nil && n.MultiTenantSpec != nil {
		spec := *n.MultiTenantSpec
		spec.inherit(&m.layout)
		n.MultiTenantSpec = &spec
	}
	return &n
}

// over is VSchema.over for a table.
func (t *Table) over(stored *Table) *Table {
	n := *t
	n.inherit(&stored.layout)
	n.ColumnVindexes, n.Columns = slices.Clone(t.ColumnVindexes), slices.Clone(t.Columns)
	for i := range n.ColumnVindexes {
		c := &n.ColumnVindexes[i]
		if j := slices.IndexFunc(stored.ColumnVindexes, func(o ColumnVindex) bool { return o.Name == c.Name }); j >= 0 {
			c.inherit(&stored.ColumnVindexes[j].layout)
		}
	}
	for i := range n.Columns {
		c := &n.Columns[i]
		if j := slices.IndexFunc(stored.Columns, func(o Column) bool { return o.Name == c.Name }); j >= 0 {
			c.inherit(&stored.Columns[j].layout)
		}
	}
	if a := stored.AutoIncrement; a != nil && n.AutoIncrement != nil {
		auto := *n.AutoIncrement
		auto.inherit(&a.layout)
		n.AutoIncrement = &auto
	}
	return &n
}

// UpdateVSchema changes the VSchema of a keyspace that exists; fn gets an empty one if it has none yet, and is
// called again if somebody else changed it meanwhile. The result is not validated: what was wrong before must
// not stop an unrelated change.
func (s *Server) UpdateVSchema(ctx context.Context, keyspace string, fn func(*VSchema) error) error {
	if _, err := s.Keyspace(ctx, keyspace); err != nil {
		return err
	}
	return upsert(ctx, s.global, vschemaKey(keyspace), fn)
}
