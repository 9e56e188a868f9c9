package rule

import (
	"strings"

	"github.com/tablehaul/tablehaul/internal/sqltext"
)

// A Rule is a parsed rule. It is not changed after it was made.
type Rule struct {
	// Table is the source's table.
	Table string
	// Columns are what is taken of it, in the order of the rule; nil is all of them, under their own names.
	Columns []Column
	// where is nil if all rows are taken.
	where *condition
	text  string
}

// A Column is one that a rule takes, and the name that it gets. Names are as the rule writes them; those of the source
// match without regard to case, as everywhere in MySQL.
type Column struct{ Source, Target string }

// All is the rule that takes a table as it is.
func All(table string) *Rule {
	return &Rule{Table: table, text: "select * from " + sqltext.Ident(table)}
}

// String is the rule's text, as it was given.
func (r *Rule) String() string { return r.text }

// Filters tells whether the rule leaves out rows.
func (r *Rule) Filters() bool { return r.where != nil }

// With returns the rule with one more condition: that a column equals a value, which is written as a number if number is set,
// else as a text. It is how a tenant's rows are chosen.
func (r *Rule) With(column, value string, number bool) (*Rule, error) {
	literal := sqltext.String(value)
	if number {
		literal = value
	}
	return Parse(r.And(sqltext.Ident(column) + " = " + literal))
}

// And is the text of the rule with one more condition, which is not looked at.
func (r *Rule) And(condition string) string {
	columns := "*"
	if r.Columns != nil {
		var list []string
		for _, c := range r.Columns {
			list = append(list, sqltext.Ident(c.Source)+" as "+sqltext.Ident(c.Target))
		}
		columns = strings.Join(list, ", ")
	}
	text := "select " + columns + " from " + sqltext.Ident(r.Table) + " where " + condition
	if r.where != nil {
		text += " and (" + r.where.text + ")"
	}
	return text
}
