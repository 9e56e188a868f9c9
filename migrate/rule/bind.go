package rule

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// An Asker has the source's server compute expressions of literals, in one SELECT without a table: source.Source.Ask. It returns
// one value for each, nil for NULL.
type Asker func(ctx context.Context, expressions []string) ([][]byte, error)

// A Filter is the condition of a rule, bound to a table. Its methods may be called by several goroutines at once.
type Filter struct {
	table       *replication.Table
	root        *node
	ask         Asker
	answers     answers
	where, seek string
}

// A node is a condition whose columns and literals are known.
type node struct {
	kind conditionKind
	args []*node
	// What follows is for atoms: the column's position, and what it is compared with.
	op     operator
	column int
	sides  []*side
}

// Bind makes a filter of the rule's condition for rows of t, which is the rule's table as its source has it; nil if the rule has no
// condition. It asks the server for literals in the character sets of their columns. Errors are a *ColumnError, an
// *UnsupportedError for a comparison that can't be made exactly, or one of ask.
func (r *Rule) Bind(ctx context.Context, t *replication.Table, ask Asker) (*Filter, error) {
	if r.where == nil {
		return nil, nil //nolint:nilnil // no condition and no error: there is nothing to filter
	}
	b := &binder{ctx: ctx, table: t, ask: ask}
	root, err := b.bind(r.where)
	if err != nil {
		return nil, err
	}
	return &Filter{table: t, root: root, ask: ask, where: root.sql(t), seek: seek(t, root)}, nil
}

// Check binds the rule without a server: it finds what Bind finds, but for literals that their columns' character sets
// don't have.
func (r *Rule) Check(t *replication.Table) error {
	if _, err := r.Positions(t); err != nil {
		return err
	}
	if r.where == nil {
		return nil
	}
	_, err := (&binder{table: t}).bind(r.where)
	return err
}

// Positions are where the rule's columns are in t, in the order of the rule; those of all columns if it takes all.
func (r *Rule) Positions(t *replication.Table) ([]int, error) {
	var at []int
	if r.Columns == nil {
		for i := range t.Columns {
			at = append(at, i)
		}
		return at, nil
	}
	for _, c := range r.Columns {
		i, err := position(t, c.Source)
		if err != nil {
			return nil, err
		}
		at = append(at, i)
	}
	return at, nil
}

func position(t *replication.Table, column string) (int, error) {
	i := slices.IndexFunc(t.Columns, func(c replication.Column) bool { return strings.EqualFold(c.Name, column) })
	if i < 0 {
		return 0, &ColumnError{Table: t.Name, Column: column, What: "the table has no such column"}
	}
	return i, nil
}

// A binder makes nodes.
type binder struct {
	ctx   context.Context //nolint:containedctx // it lives for one call of Bind
	table *replication.Table
	// ask is nil if there is no server to ask.
	ask Asker
	// questions counts the sides that the server compares.
	questions int
}

func (b *binder) bind(c *condition) (*node, error) {
	n := &node{kind: c.kind}
	for _, arg := range c.args {
		a, err := b.bind(arg)
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, a)
	}
	if c.kind != isAtom {
		return n, nil
	}
	var err error
	n.op = c.atom.op
	if n.column, err = position(b.table, c.atom.column); err != nil {
		return nil, err
	}
	for _, l := range c.atom.values {
		s, err := b.side(c.atom, &b.table.Columns[n.column], l)
		if err != nil {
			return nil, err
		}
		n.sides = append(n.sides, s)
	}
	return n, nil
}

// sql is the condition as SQL text, about a table with the alias s.
func (n *node) sql(t *replication.Table) string {
	switch n.kind {
	case isNot:
		return "NOT (" + n.args[0].sql(t) + ")"
	case isAnd, isOr:
		word := map[conditionKind]string{isAnd: ") AND (", isOr: ") OR ("}[n.kind]
		parts := make([]string, len(n.args))
		for i, a := range n.args {
			parts[i] = a.sql(t)
		}
		return "(" + strings.Join(parts, word) + ")"
	default:
		return n.atomSQL(t)
	}
}

func (n *node) atomSQL(t *replication.Table) string {
	column := "s." + sqltext.Ident(t.Columns[n.column].Name)
	switch n.op {
	case opIsNull:
		return column + " IS NULL"
	case opIn:
		values := make([]string, len(n.sides))
		for i, s := range n.sides {
			values[i] = s.sql
		}
		return column + " IN (" + strings.Join(values, ",") + ")"
	case opLike:
		return fmt.Sprintf(`%s LIKE %s ESCAPE '\\'`, column, n.sides[0].sql)
	default:
		return column + symbols[n.op] + n.sides[0].sql
	}
}

// seek is what the condition says about the first column of the identifying key alone, if the server can look that up in the key; else
// empty.
func seek(t *replication.Table, n *node) string {
	var parts []string
	var walk func(*node)
	walk = func(n *node) {
		switch {
		case n.kind == isAnd:
			for _, a := range n.args {
				walk(a)
			}
		case n.kind == isAtom && len(t.Primary.Columns) > 0 && n.column == t.Primary.Columns[0] && n.seekable(&t.Columns[n.column]):
			parts = append(parts, n.sql(t))
		}
	}
	walk(n)
	return strings.Join(parts, " AND ")
}

func (n *node) seekable(c *replication.Column) bool {
	if n.op == opNotEqual || n.op == opIsNull || n.op == opLike {
		return false
	}
	switch c.Kind {
	case replication.KindEnum, replication.KindSet, replication.KindFloat, replication.KindDouble, replication.KindBit:
		return false
	}
	return !slices.ContainsFunc(n.sides, func(s *side) bool { return s.null })
}

// Where is the condition as SQL text, about a table with the alias s, in UTC and with SET NAMES binary: it chooses the rows that Match chooses.
// seek is the part of it that the server can look up in the table's identifying key; empty if there is none.
func (f *Filter) Where() (where, seek string) { return f.where, f.seek }
