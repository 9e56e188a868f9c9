package target

import (
	"bytes"
	"slices"

	"github.com/tablehaul/tablehaul/replication"
)

const (
	// inPlace is the number of rows of a table with further unique keys up to which they are updated one by one.
	inPlace = 4
	// wide is the size from which on a row is updated by itself, so that only what changes is sent.
	wide = 1024
)

// mergeTasks is the entry that executes the tasks, which are neighbours or have nothing between them that they depend on.
func mergeTasks(tasks []*task, careful bool) (*replication.Entry, error) {
	e := tasks[0].entry
	if careful || e.Chunk != nil || e.Spill != nil || tasks[0].inOrder {
		return e, nil
	}
	n := 0
	for _, t := range tasks {
		n += len(t.entry.Changes)
	}
	changes := make([]replication.Change, 0, n)
	for _, t := range tasks {
		changes = append(changes, t.entry.Changes...)
	}
	changes, err := collapse(changes)
	if err != nil {
		return nil, err
	}
	return &replication.Entry{Changes: changes, Position: tasks[len(tasks)-1].entry.Position}, nil
}

// collapse makes of changes in log order the changes that lead to the same rows, each key once, in an order in which no
// statement meets a unique key value that is still taken: what goes, what is changed in place, what comes. At the first
// point all rows are rows from before, at the last all are rows from after, and in between only such are changed
// as keep their unique values, so no two rows can collide on the way. The rows are matched by the bytes of their keys; of two keys that
// are equal by their collation only, one goes before the other comes.
//
// What comes and goes inside the changes leaves no trace. A row that is changed and changed back is not touched.
func collapse(changes []replication.Change) ([]replication.Change, error) {
	if len(changes) < 2 {
		return changes, nil
	}
	var tables []*netTable
	byTable := make(map[*replication.Table]*netTable)
	for i := range changes {
		c := &changes[i]
		t := byTable[c.Table]
		if t == nil {
			t = &netTable{table: c.Table, rows: make(map[string]*netRow)}
			byTable[c.Table] = t
			tables = append(tables, t)
		}
		if err := t.take(c); err != nil {
			return nil, err
		}
	}
	out := make([]replication.Change, 0, len(changes))
	var err error
	for _, t := range tables {
		if out, err = t.appendNet(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// netTable is what changes do to one table.
type netTable struct {
	table *replication.Table
	rows  map[string]*netRow
	order []*netRow
}

// netRow is what changes do to the row of one key: before is what it was before the first of them, after what it is after
// the last; nil is no row.
type netRow struct {
	key           replication.Key
	before, after replication.Row
	// loose says that before is only some row with the key, which may be on the target or not.
	loose bool
	// replaced says that an updated row is deleted and inserted.
	replaced bool
}

// updated tells whether the row is there before and after, and not the same.
func (r *netRow) updated() bool {
	return r.before != nil && r.after != nil && !r.loose && !bytes.Equal(r.before, r.after)
}

func (t *netTable) take(c *replication.Change) error {
	if c.Before != nil {
		r, seen, err := t.row(c.Before, c.Loose)
		if err != nil {
			return err
		}
		if !seen {
			r.before = c.Before
		}
		r.after = nil
	}
	if c.After == nil {
		return nil
	}
	r, _, err := t.row(c.After, c.Loose)
	if err != nil {
		return err
	}
	r.after = c.After
	return nil
}

// row is the netRow of an image's key, and whether an earlier change had that key.
func (t *netTable) row(image replication.Row, loose bool) (r *netRow, seen bool, err error) {
	k, err := t.table.Key(image)
	if err != nil {
		return nil, false, &replication.RowError{Table: t.table.Name, Err: err}
	}
	r = t.rows[string(k)]
	if seen = r != nil; !seen {
		r = &netRow{key: k}
		t.rows[string(k)] = r
		t.order = append(t.order, r)
	}
	if loose {
		r.loose = true
		if r.before == nil {
			r.before = image
		}
	}
	return r, seen, nil
}

// appendNet appends the table's net changes in their order.
func (t *netTable) appendNet(out []replication.Change) ([]replication.Change, error) {
	if t.table.Ordered {
		slices.SortFunc(t.order, func(a, b *netRow) int { return t.table.Compare(a.key, b.key) })
	}
	if err := t.replace(); err != nil {
		return nil, err
	}
	for _, r := range t.order {
		if r.before != nil && (r.after == nil || r.loose || r.replaced) {
			out = append(out, replication.Change{Table: t.table, Before: r.before, Loose: r.loose})
		}
	}
	for _, r := range t.order {
		if r.updated() && !r.replaced {
			out = append(out, replication.Change{Table: t.table, Before: r.before, After: r.after})
		}
	}
	for _, r := range t.order {
		if r.after != nil && (r.before == nil || r.loose || r.replaced) {
			out = append(out, replication.Change{Table: t.table, After: r.after})
		}
	}
	return out, nil
}

// replace has updated rows deleted and inserted instead: those whose unique key values move, and, as it is cheaper for a
// server than one UPDATE for each, many rows of a table with unique keys.
func (t *netTable) replace() error {
	if len(t.table.Unique) == 0 {
		return nil
	}
	var updated []*netRow
	for _, r := range t.order {
		if !r.updated() {
			continue
		}
		updated = append(updated, r)
		var err error
		if r.replaced, err = moved(t.table, r.before, r.after); err != nil {
			return err
		}
	}
	for _, r := range updated {
		r.replaced = r.replaced || len(updated) > inPlace && len(r.before) < wide
	}
	return nil
}

// moved tells whether a row's value of a unique key changes, as far as bytes tell; of a key that is not Exact they do not
// tell.
func moved(t *replication.Table, before, after replication.Row) (bool, error) {
	var buf [2][32][]byte
	b, err := before.Values(buf[0][:0], len(t.Columns))
	if err != nil {
		return false, &replication.RowError{Table: t.Name, Err: err}
	}
	a, err := after.Values(buf[1][:0], len(t.Columns))
	if err != nil {
		return false, &replication.RowError{Table: t.Name, Err: err}
	}
	for i := range t.Unique {
		if !t.Unique[i].Exact {
			return true, nil
		}
		for _, c := range t.Unique[i].Columns {
			if !bytes.Equal(b[c], a[c]) || (b[c] == nil) != (a[c] == nil) {
				return true, nil
			}
		}
	}
	return false, nil
}
