package vdiff

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// statements makes the SQL that compares one table, for one end. Keys in it are as the target has them.
type statements struct {
	t *replication.Table
	// from is "FROM `t` AS s FORCE INDEX (...)"; keyList is the list of quoted key columns, keyValues that of their values.
	from, keyList, keyValues string
	values, hash             string
	// cond is the condition of the rows that take part; empty: all. seek is the part of it that is looked up in the key.
	cond, seek string
	// columns are the SQL of all columns, key that of the key's.
	columns, key []string
	// zone is set if the end's DATETIME values are of that zone and the target's UTC.
	zone *time.Location
}

// newStatements is for tables with a key. t is the compared table, of the end's table, columns the SQL of its columns
// there, cond a condition of the end's rows or empty.
func newStatements(t, of *replication.Table, columns []string, cond string) *statements {
	s := &statements{t: t, hash: hashExpr(t, columns), from: "FROM " + sqltext.Ident(of.Name) + " AS s", cond: cond, columns: columns}
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = valueExpr(&t.Columns[i], c)
	}
	keyValues := make([]string, len(t.Primary.Columns))
	for i, c := range t.Primary.Columns {
		s.key = append(s.key, columns[c])
		keyValues[i] = all[c]
	}
	if index := of.Primary; index.Name != "" && endsWith(of, s.key) {
		// The spans are ranges of this key; a server that prefers another one sorts the whole table for each chunk.
		s.from += " FORCE INDEX (" + sqltext.Ident(index.Name) + ")"
	}
	s.values = strings.Join(all, ",")
	s.keyList, s.keyValues = strings.Join(s.key, ","), strings.Join(keyValues, ",")
	return s
}

// endsWith tells whether a table's key ends with these quoted columns. What comes before is fixed by the end's condition, such
// as the tenant in (tenant, id).
func endsWith(t *replication.Table, key []string) bool {
	columns := t.Primary.Columns
	if len(columns) < len(key) {
		return false
	}
	return slices.EqualFunc(columns[len(columns)-len(key):], key, func(c int, k string) bool {
		return strings.EqualFold(sqltext.Ident(t.Columns[c].Name), k)
	})
}

// sum gives the number of rows in a span and the sum of their hashes, which is negative if a row has none.
func (s *statements) sum(span replication.Span) (string, error) {
	where, err := s.where(span)
	return "SELECT COUNT(*),COALESCE(SUM(IFNULL(" + s.hash + "," + unhashable + ")),0) " + s.from + where, err
}

// hashes gives key values and hash of every row in a span, in no order.
func (s *statements) hashes(span replication.Span) (string, error) {
	where, err := s.where(span)
	return "SELECT " + s.keyValues + "," + s.hash + " " + s.from + where, err
}

// rows gives the values of every row in a span, in no order.
func (s *statements) rows(span replication.Span) (string, error) {
	where, err := s.where(span)
	return "SELECT " + s.values + " " + s.from + where, err
}

// bound gives the key of the n-th row in a span (the first is 1).
func (s *statements) bound(span replication.Span, n int64) (string, error) {
	where, err := s.where(span)
	return fmt.Sprintf("SELECT %s %s%s ORDER BY %s LIMIT %d,1", s.keyValues, s.from, where, s.keyList, n-1), err
}

// scanBound is bound for all rows among which those that take part may be: what the server has to look at.
func (s *statements) scanBound(span replication.Span, n int64) (string, error) {
	all := *s
	all.cond = s.seek
	return all.bound(span, n)
}

// page gives key values and more (a list of columns, or nothing) of the first n rows in a span, in order of the key.
func (s *statements) page(span replication.Span, more string, n int) (string, error) {
	where, err := s.where(span)
	return fmt.Sprintf("SELECT %s%s %s%s ORDER BY %s LIMIT %d", s.keyValues, more, s.from, where, s.keyList, n), err
}

// lookup gives the rows that the server finds by the keys, each with its key's index in front.
func (s *statements) lookup(keys []replication.Key) (string, error) {
	var b strings.Builder
	for i, k := range keys {
		points, err := s.points(k)
		if err != nil {
			return "", err
		}
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		fmt.Fprintf(&b, "SELECT %d,%s %s WHERE ", i, s.values, s.from)
		if s.cond != "" {
			b.WriteString("(" + s.cond + ") AND ")
		}
		for j, p := range points {
			if j > 0 {
				b.WriteString(" AND ")
			}
			if p.gap {
				b.WriteString("FALSE")
				continue
			}
			b.WriteString(s.key[j] + "=" + p.text)
		}
	}
	return b.String(), nil
}

// where is the condition of a span, " WHERE ..." or nothing.
func (s *statements) where(span replication.Span) (string, error) {
	var lo, hi []point
	var err error
	if span.Lo != nil {
		if lo, err = s.points(span.Lo); err != nil {
			return "", err
		}
	}
	if span.Hi != nil {
		if hi, err = s.points(span.Hi); err != nil {
			return "", err
		}
	}
	var terms []string
	if s.cond != "" {
		terms = append(terms, "("+s.cond+")")
	}
	key := s.key
	// What both bounds begin with is said once, so that the server sees one short range.
	for len(key) > 1 && lo != nil && hi != nil && lo[0] == hi[0] && !lo[0].gap {
		terms = append(terms, key[0]+"="+lo[0].text)
		key, lo, hi = key[1:], lo[1:], hi[1:]
	}
	if lo != nil {
		terms = append(terms, beyond(key, lo, ">", ">"))
	}
	if hi != nil {
		terms = append(terms, beyond(key, hi, "<", "<="))
	}
	if len(terms) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(terms, " AND "), nil
}

// A point is a key column's value in SQL.
type point struct {
	text string
	// gap says that no value of this end is the one that is meant, and text is the first beyond it.
	gap bool
}

// compare is the condition that a column is on one side of the point.
func (p point) compare(column, op string) string {
	switch {
	case p.gap && op[0] == '>':
		op = ">="
	case p.gap:
		op = "<"
	}
	return column + op + p.text
}

// beyond compares a key of several columns in the form that servers turn into a range of the index:
// (a > 1 OR (a = 1 AND b > 2)); a row comparison (a,b) > (1,2) they don't.
func beyond(key []string, points []point, op, last string) string {
	end := len(key) - 1
	out := points[end].compare(key[end], last)
	for i := end - 1; i >= 0; i-- {
		p := points[i]
		if p.gap {
			out = p.compare(key[i], op)
			continue
		}
		out = "(" + p.compare(key[i], op) + " OR (" + key[i] + "=" + p.text + " AND " + out + "))"
	}
	return out
}

// points are the values of a key in SQL.
func (s *statements) points(k replication.Key) ([]point, error) {
	values, err := k.Values(nil, len(s.key))
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", s.t.Name, err)
	}
	out := make([]point, len(values))
	for i, v := range values {
		c := &s.t.Columns[s.t.Primary.Columns[i]]
		if s.zone != nil && c.Kind == replication.KindDatetime {
			v, out[i].gap = replication.FromUTC(s.zone, v)
		}
		l, err := sqltext.AppendKeyLiteral(nil, c, v)
		if err != nil {
			return nil, fmt.Errorf("key of %s: %w", s.t.Name, err)
		}
		out[i].text = string(l)
	}
	return out, nil
}
