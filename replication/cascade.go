package replication

import (
	"fmt"
	"slices"
)

// A CascadeError means that a foreign key changes rows, that the source's log does not tell which, and that it can't be
// known otherwise. Read from a server that logs what foreign keys do (MySQL 9.6 or later, whose own source does too), or
// do without the foreign key's action, or leave the table out.
type CascadeError struct {
	// Table is the table that has the foreign key.
	Table, ForeignKey string
	// What says why its rows can't be known.
	What string
}

// Error names table and foreign key.
func (e *CascadeError) Error() string {
	return fmt.Sprintf("foreign key %s of table %s: %s", e.ForeignKey, e.Table, e.What)
}

// CheckCascades says which foreign keys make it impossible to copy these tables together, since the log does not tell
// what the keys do (Table.Family). A table that references itself is not among them: it is copied in one chunk, and it is a
// CascadeError of the stream if it is too large for that.
func CheckCascades(tables []*Table) []*CascadeError {
	_, errs := newKinship(tables)
	return errs
}

// A kinship is what foreign keys do among the tables of a stream.
//
// Where the log doesn't tell it, the target's own foreign keys do the same to what has been copied. That is right if
// every row that the source's foreign key started from is on the target when one of those that it reached is. So a table is not
// begun before all those that it references are copied whole: until then nothing of it is on the target.
type kinship struct {
	// children are the foreign keys that act, by the table that they reference.
	children map[*Table][]*reference
	// parents are the tables that must be whole before a table is begun.
	parents map[*Table][]*Table
	// self are the tables that reference themselves: they are copied in one chunk.
	self map[*Table]bool
}

// A reference is a foreign key that acts, and what follows from it.
type reference struct {
	key   *ForeignKey
	child *Table
	// parent is where the referenced columns are in their table.
	parent []int
	// exact says that equal values have equal bytes on both ends.
	exact bool
	// deleted and updated are what changes further down, when a row of the parent is deleted or its key changes.
	deleted, updated []reach
	// moves says that the child's identifying key changes with the parent's.
	moves bool
}

// A reach is a table that changes because another one has been changed by a foreign key.
type reach struct {
	by *reference
	// moves says that its identifying key may change.
	moves bool
}

// newKinship also checks what CheckCascades checks, for tables of families.
func newKinship(tables []*Table) (*kinship, []*CascadeError) {
	k := &kinship{children: map[*Table][]*reference{}, parents: map[*Table][]*Table{}, self: map[*Table]bool{}}
	var errs []*CascadeError
	for _, child := range tables {
		for i := range child.ForeignKeys {
			fk := &child.ForeignKeys[i]
			if fk.OnDelete == ActionNone && fk.OnUpdate == ActionNone {
				continue
			}
			r, what := link(child, fk, tables)
			if what != "" && child.Family != "" {
				errs = append(errs, &CascadeError{Table: child.Name, ForeignKey: fk.Name, What: what})
			}
			if r != nil {
				p := tables[slices.IndexFunc(tables, fk.isParent(child))]
				k.children[p] = append(k.children[p], r)
			}
		}
	}
	for _, child := range tables {
		if child.Family != "" {
			k.order(child, tables)
		}
	}
	for _, refs := range k.children {
		for _, r := range refs {
			r.deleted = k.follow(r, r.key.OnDelete, nil)
			r.updated = k.follow(r, ActionSetNull, nil)
		}
	}
	return k, append(errs, k.circles(tables)...)
}

func (fk *ForeignKey) isParent(child *Table) func(*Table) bool {
	return func(t *Table) bool { return fk.ParentSchema == "" && t.Schema == child.Schema && t.Name == fk.Parent }
}

// link finds what a foreign key references; what says why that can't be followed.
func link(child *Table, fk *ForeignKey, tables []*Table) (r *reference, what string) {
	i := slices.IndexFunc(tables, fk.isParent(child))
	if i < 0 {
		return nil, fmt.Sprintf("it references table %s, which is not copied with it", fk.Parent)
	}
	p := tables[i]
	r = &reference{key: fk, child: child, exact: len(fk.Columns) == len(fk.ParentColumns)}
	for n, name := range fk.ParentColumns {
		c := slices.IndexFunc(p.Columns, func(c Column) bool { return c.Name == name })
		if c < 0 || n >= len(fk.Columns) {
			return nil, fmt.Sprintf("column %s of table %s is not known", name, p.Name)
		}
		r.parent = append(r.parent, c)
		a, b := &p.Columns[c], &child.Columns[fk.Columns[n]]
		r.exact = r.exact && ExactColumn(a) && ExactColumn(b) && a.Type == b.Type
	}
	for _, c := range child.Primary.Columns {
		r.moves = r.moves || slices.Contains(fk.Columns, c) || child.Columns[c].Generated
	}
	if !slices.ContainsFunc(append([]Index{p.Primary}, p.Unique...), func(x Index) bool { return sameColumns(x.Columns, r.parent) }) {
		return r, fmt.Sprintf("the columns that it references are no unique key of table %s", p.Name)
	}
	return r, ""
}

func sameColumns(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	return !slices.ContainsFunc(a, func(c int) bool { return !slices.Contains(b, c) })
}

// order notes which tables must be whole before child is begun: those whose changes reach it, and those whose keys the
// target looks for when such a change sets a column of child that references them too.
func (k *kinship) order(child *Table, tables []*Table) {
	for i := range child.ForeignKeys {
		fk := &child.ForeignKeys[i]
		n := slices.IndexFunc(tables, fk.isParent(child))
		if n < 0 {
			continue
		}
		needed := fk.OnDelete != ActionNone || fk.OnUpdate != ActionNone
		for _, other := range child.ForeignKeys {
			needed = needed || other.OnUpdate == ActionCascade && overlap(other.Columns, fk.Columns)
		}
		switch {
		case !needed:
		case tables[n] == child:
			k.self[child] = true
		case !slices.Contains(k.parents[child], tables[n]):
			k.parents[child] = append(k.parents[child], tables[n])
		}
	}
}

func overlap(a, b []int) bool {
	return slices.ContainsFunc(a, func(c int) bool { return slices.Contains(b, c) })
}

// follow lists what changes when the action changes rows of r's child; seen are the keys on the way there.
func (k *kinship) follow(r *reference, action Action, seen []*reference) (all []reach) {
	if action == ActionNone || slices.Contains(seen, r) {
		return nil
	}
	seen = append(seen, r)
	for _, next := range k.children[r.child] {
		var act Action
		switch {
		case action == ActionCascade:
			act = next.key.OnDelete
		case overlap(next.parent, r.key.Columns) || slices.ContainsFunc(next.parent, func(c int) bool { return r.child.Columns[c].Generated }):
			if act = next.key.OnUpdate; act == ActionCascade {
				act = ActionSetNull // its rows are updated, not deleted
			}
		}
		if act != ActionNone {
			all = append(append(all, reach{next, next.moves && act != ActionCascade}), k.follow(next, act, seen)...)
		}
	}
	return all
}

// circles finds tables that reach themselves by way of others.
func (k *kinship) circles(tables []*Table) (errs []*CascadeError) {
	for _, t := range tables {
		if path := k.path(t, t, nil); path != nil {
			errs = append(errs, &CascadeError{Table: t.Name, ForeignKey: k.between(t, path[0]), What: fmt.Sprintf(
				"it closes a circle of foreign keys (by way of %s), of which no table can be copied before the others", path[0].Name)})
		}
	}
	return errs
}

// path leads from a table by its parents to another one; nil if there is no way.
func (k *kinship) path(from, to *Table, seen []*Table) []*Table {
	for _, p := range k.parents[from] {
		if p == to {
			return []*Table{p}
		}
		if slices.Contains(seen, p) {
			continue
		}
		if rest := k.path(p, to, append(seen, p)); rest != nil {
			return append([]*Table{p}, rest...)
		}
	}
	return nil
}

// resume checks that what has been copied is what a stream with these foreign keys would have copied first.
func (k *kinship) resume(tables []*Table, cp *Checkpoint) error {
	whole := func(t *Table) bool { return NewSpanSet(t, cp.Copied[t.Name]...).Whole() }
	for _, t := range tables {
		if len(cp.Copied[t.Name]) == 0 {
			continue
		}
		needed := slices.Clone(k.parents[t])
		if k.self[t] {
			needed = append(needed, t)
		}
		for _, p := range needed {
			if !whole(p) {
				return &CascadeError{Table: t.Name, ForeignKey: k.between(t, p), What: "it was not there when the copy of its table began: that has to begin again"}
			}
		}
	}
	return nil
}

// tooLarge is the error of a table that references itself and is not one chunk.
func (k *kinship) tooLarge(t *Table, bytes int) error {
	return &CascadeError{Table: t.Name, ForeignKey: k.between(t, t), What: fmt.Sprintf("it references its own table, which is larger than %d bytes: it can't be copied in one chunk", bytes)}
}

// between is the name of a foreign key of child that references parent.
func (k *kinship) between(child, parent *Table) string {
	for i := range child.ForeignKeys {
		if fk := &child.ForeignKeys[i]; fk.isParent(child)(parent) {
			return fk.Name
		}
	}
	return ""
}

// acts returns the values that the foreign key's rows have, if a change that may act (Change.Cascade) changes those rows.
func (r *reference) acts(c *Change) (Row, bool, error) {
	if c.Before == nil || c.After == nil && r.key.OnDelete == ActionNone || c.After != nil && r.key.OnUpdate == ActionNone {
		return nil, false, nil
	}
	var buf [32][]byte
	values, err := c.Before.Values(buf[:0], len(c.Table.Columns))
	if err != nil {
		return nil, false, &RowError{Table: c.Table.Name, Err: err}
	}
	if anyNull(values, r.parent) {
		return nil, false, nil // nothing references it
	}
	was, err := c.Table.pick(c.Before, r.parent)
	if err != nil {
		return nil, false, &RowError{Table: c.Table.Name, Err: err}
	}
	if c.After != nil {
		is, err := c.Table.pick(c.After, r.parent)
		if err != nil {
			return nil, false, &RowError{Table: c.Table.Name, Err: err}
		}
		if string(is) == string(was) {
			return nil, false, nil
		}
	}
	return was, true, nil
}

// cascades tells whether any of the foreign keys acts when c is executed.
func cascades(refs []*reference, c *Change) (bool, error) {
	for _, r := range refs {
		if _, acts, err := r.acts(c); acts || err != nil {
			return acts, err
		}
	}
	return false, nil
}
