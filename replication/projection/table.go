package projection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/replication"
)

// A Filter chooses rows. Its methods may be called by several goroutines at once.
type Filter interface {
	// Match tells for each row, of the source's table with all its columns, whether it is taken. It must always say the same of the same row.
	Match(ctx context.Context, rows []replication.Row) ([]bool, error)
	// Where is a condition, as SQL about a table with the alias s, that holds for every row that Match takes; empty if there is none. seek follows
	// from it, and can be looked up in the table's identifying key; empty if there is nothing of that kind.
	Where() (where, seek string)
}

// A Column is one that is taken.
type Column struct {
	// Position is in the source's table.
	Position int
	// Name is the target's.
	Name string
}

// A Spec says what is taken of a table.
type Spec struct {
	// Table is the source's.
	Table *replication.Table
	// Name is the target's; empty is that of the source.
	Name string
	// Columns are those that are taken, in any order: the target has them in the order of the source. Nil is all, under
	// their own names.
	Columns []Column
	// Filter chooses rows; nil takes all.
	Filter Filter
}

// plain tells whether rows and columns are all taken; names may differ.
func (s *Spec) plain() bool {
	return s.Filter == nil && (s.Columns == nil || len(s.Columns) == len(s.Table.Columns))
}

// A Table is a table of the source and what is made of it.
type Table struct {
	// Source is the table as it is at the source, Target as it is taken.
	Source, Target *replication.Table
	// LostKeys and LostForeignKeys are the names of unique keys and foreign keys that the target can't have, since columns of them are
	// not taken.
	LostKeys, LostForeignKeys []string
	// read is how the source is read: by the key that is taken. It has the target's columns only, if no filter needs the others.
	read *replication.Table
	// columns are what is taken, in the order of the source; all says that it is everything.
	columns []Column
	all     bool
	filter  Filter
}

// A KeyError means that a table's rows could not be told apart on the target: no primary key, nor another unique key that compares by bytes
// and has no NULLs, keeps all its columns. Take the columns of one.
type KeyError struct {
	Table string
	// Columns are those of the identifying key that are not taken.
	Columns []string
}

// Error names the table and the columns.
func (e *KeyError) Error() string {
	return fmt.Sprintf("table %s: the identifying key needs %s, which the rule leaves out", e.Table, strings.Join(e.Columns, ", "))
}

// A FamilyError means that rows or columns are to be left out of a table that is tied to others by foreign keys of which the log does not tell
// what they do: then it can't be known what they do to the rows that are taken. Take all of it.
type FamilyError struct {
	Table string
	// Family names the tables.
	Family string
}

// Error names the tables.
func (e *FamilyError) Error() string {
	return fmt.Sprintf("table %s: foreign keys among %s change rows, and the source's log does not tell which: no rows or columns of these tables can be left out", e.Table, e.Family)
}

// A NameError means that the names of the target clash.
type NameError struct {
	// Table is the source's table, Name the name that is taken already.
	Table, Name string
}

// Error names the table and the name.
func (e *NameError) Error() string {
	return fmt.Sprintf("table %s: the target has another %s already", e.Table, e.Name)
}

// Tables makes the tables of specs, in their order. The error joins all that is wrong with them: *KeyError, *FamilyError, *NameError.
func Tables(specs []Spec) ([]*Table, error) {
	var errs []error
	tables := make([]*Table, 0, len(specs))
	names := map[string]bool{}
	for i := range specs {
		t, err := newTable(&specs[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if names[t.Target.Name] {
			errs = append(errs, &NameError{Table: t.Source.Name, Name: "table " + t.Target.Name})
		}
		names[t.Target.Name] = true
		tables = append(tables, t)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for _, t := range tables {
		t.keepForeignKeys(tables)
	}
	return tables, nil
}

func newTable(s *Spec) (*Table, error) {
	t := &Table{Source: s.Table, columns: slices.Clone(s.Columns), filter: s.Filter}
	if s.Table.Family != "" && !s.plain() {
		return nil, &FamilyError{Table: s.Table.Name, Family: s.Table.Family}
	}
	if s.Columns == nil {
		for i, c := range s.Table.Columns {
			t.columns = append(t.columns, Column{i, c.Name})
		}
	}
	slices.SortFunc(t.columns, func(a, b Column) int { return cmp.Compare(a.Position, b.Position) })
	t.all = len(t.columns) == len(s.Table.Columns)
	target := *s.Table
	target.Name = cmp.Or(s.Name, s.Table.Name)
	target.Columns, target.Unique, target.ForeignKeys = nil, nil, nil
	names := map[string]bool{}
	for _, c := range t.columns {
		column := s.Table.Columns[c.Position]
		column.Name = c.Name
		target.Columns = append(target.Columns, column)
		if names[strings.ToLower(c.Name)] {
			return nil, &NameError{Table: s.Table.Name, Name: "column " + c.Name}
		}
		names[strings.ToLower(c.Name)] = true
	}
	key, err := t.identify()
	if err != nil {
		return nil, err
	}
	target.Primary, _ = t.keep(key)
	for _, k := range append([]replication.Index{s.Table.Primary}, s.Table.Unique...) {
		switch kept, ok := t.keep(k); {
		case !ok:
			t.LostKeys = append(t.LostKeys, k.Name)
		case k.Name != key.Name:
			target.Unique = append(target.Unique, kept)
		}
	}
	target.Ordered = orderedBy(s.Table, key)
	t.Target, t.read = &target, t.reading(key)
	return t, nil
}

// identify chooses the key that identifies rows: the source's own if all its columns are taken.
func (t *Table) identify() (replication.Index, error) {
	own := t.Source.Primary
	if _, ok := t.keep(own); ok {
		return own, nil
	}
	var best *replication.Index
	for i := range t.Source.Unique {
		k := &t.Source.Unique[i]
		if _, ok := t.keep(*k); !ok || !k.Exact || slices.ContainsFunc(k.Columns, func(c int) bool { return t.Source.Columns[c].Nullable }) {
			continue
		}
		if best == nil || len(k.Columns) < len(best.Columns) {
			best = k
		}
	}
	if best != nil {
		return *best, nil
	}
	e := &KeyError{Table: t.Source.Name}
	for _, c := range own.Columns {
		if t.place(c) < 0 {
			e.Columns = append(e.Columns, t.Source.Columns[c].Name)
		}
	}
	return own, e
}

// place is where a column of the source is in the target; -1 if it is not taken.
func (t *Table) place(column int) int {
	return slices.IndexFunc(t.columns, func(c Column) bool { return c.Position == column })
}

// keep is a key in the target's columns; false if one of them is not taken.
func (t *Table) keep(k replication.Index) (replication.Index, bool) {
	columns, ok := t.places(k.Columns)
	k.Columns = columns
	return k, ok
}

func (t *Table) places(columns []int) ([]int, bool) {
	var out []int
	for _, c := range columns {
		at := t.place(c)
		if at < 0 {
			return nil, false
		}
		out = append(out, at)
	}
	return out, true
}

func orderedBy(t *replication.Table, k replication.Index) bool {
	if k.Name == t.Primary.Name {
		return t.Ordered
	}
	return !slices.ContainsFunc(k.Columns, func(c int) bool { return !replication.OrderedColumn(&t.Columns[c]) })
}

// reading is the table as it is read.
func (t *Table) reading(key replication.Index) *replication.Table {
	if key.Name == t.Source.Primary.Name && (t.all || t.filter != nil) {
		return t.Source
	}
	read := *t.Source
	read.Primary, read.Ordered = key, orderedBy(t.Source, key)
	if t.filter == nil {
		read.Columns = nil
		for _, c := range t.columns {
			read.Columns = append(read.Columns, t.Source.Columns[c.Position])
		}
		read.Primary, _ = t.keep(key)
		read.Unique, read.ForeignKeys = nil, nil
	}
	return &read
}

// keepForeignKeys translates the foreign keys of which all columns, on both sides, are taken.
func (t *Table) keepForeignKeys(tables []*Table) {
	for _, fk := range t.Source.ForeignKeys {
		columns, ok := t.places(fk.Columns)
		if i := slices.IndexFunc(tables, func(p *Table) bool {
			return fk.ParentSchema == "" && p.Source.Schema == t.Source.Schema && p.Source.Name == fk.Parent
		}); i >= 0 && ok {
			fk.Parent = tables[i].Target.Name
			fk.ParentColumns, ok = tables[i].targetNames(fk.ParentColumns)
		}
		if !ok {
			t.LostForeignKeys = append(t.LostForeignKeys, fk.Name)
			continue
		}
		fk.Columns = columns
		t.Target.ForeignKeys = append(t.Target.ForeignKeys, fk)
	}
}

// targetNames are the target's names of columns of the source.
func (t *Table) targetNames(names []string) ([]string, bool) {
	var out []string
	for _, n := range names {
		i := slices.IndexFunc(t.columns, func(c Column) bool { return t.Source.Columns[c.Position].Name == n })
		if i < 0 {
			return nil, false
		}
		out = append(out, t.columns[i].Name)
	}
	return out, true
}

// Lost are the names of the source's columns that are not taken.
func (t *Table) Lost() []string {
	var names []string
	for i, c := range t.Source.Columns {
		if t.place(i) < 0 {
			names = append(names, c.Name)
		}
	}
	return names
}

// Where is the condition of the table's filter as SQL, and what of it the identifying key can be looked up by (see Filter); empty if there is none.
func (t *Table) Where() (where, seek string) {
	if t.filter == nil {
		return "", ""
	}
	if where, seek = t.filter.Where(); t.read.Primary.Name != t.Source.Primary.Name {
		seek = "" // it is about the source's own key
	}
	return where, seek
}

// Filtered tells whether rows are left out.
func (t *Table) Filtered() bool { return t.filter != nil }

// Rows returns those of the source's rows, which have all its columns, that are taken, as the target has them.
func (t *Table) Rows(ctx context.Context, rows []replication.Row) ([]replication.Row, error) {
	taken := make([]bool, len(rows))
	for i := range taken {
		taken[i] = true
	}
	if t.filter != nil {
		var err error
		if taken, err = t.filter.Match(ctx, rows); err != nil {
			return nil, err
		}
	}
	out := make([]replication.Row, 0, len(rows))
	for i, r := range rows {
		if !taken[i] {
			continue
		}
		p, err := t.row(r)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// row takes the columns of a row.
func (t *Table) row(r replication.Row) (replication.Row, error) {
	if t.all || r == nil {
		return r, nil
	}
	out := make(replication.Row, 0, len(r))
	next := 0
	for i := range t.Source.Columns {
		_, rest, err := r.Next()
		if err != nil {
			return nil, &replication.RowError{Table: t.Source.Name, Err: err}
		}
		if next < len(t.columns) && t.columns[next].Position == i {
			out = append(out, r[:len(r)-len(rest)]...)
			next++
		}
		r = rest
	}
	return out, nil
}
