package vdiff

import (
	"fmt"
	"strings"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// statements makes the SQL that compares one table. The texts are the same for both ends.
type statements struct {
	t *replication.Table
	// from is "FROM `t` FORCE INDEX (...)"; key is the list of quoted key columns, keyValues that of their values.
	from, keyList, keyValues string
	values, hash             string
	key                      []string
}

// newStatements is for tables with a key.
func newStatements(t *replication.Table) *statements {
	s := &statements{t: t, hash: hashExpr(t), from: "FROM " + sqltext.Ident(t.Name)}
	if t.Primary.Name != "" {
		// The spans are ranges of this key; a server that prefers another one sorts the whole table for each chunk.
		s.from += " FORCE INDEX (" + sqltext.Ident(t.Primary.Name) + ")"
	}
	all := make([]string, len(t.Columns))
	for i := range t.Columns {
		all[i] = valueExpr(&t.Columns[i], sqltext.Ident(t.Columns[i].Name))
	}
	keyValues := make([]string, len(t.Primary.Columns))
	for i, c := range t.Primary.Columns {
		s.key = append(s.key, sqltext.Ident(t.Columns[c].Name))
		keyValues[i] = all[c]
	}
	s.values = strings.Join(all, ",")
	s.keyList, s.keyValues = strings.Join(s.key, ","), strings.Join(keyValues, ",")
	return s
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

// lookup gives the rows that the server finds by the keys, each with its key's index in front.
func (s *statements) lookup(keys []replication.Key) (string, error) {
	var b strings.Builder
	for i, k := range keys {
		literals, err := s.literals(k)
		if err != nil {
			return "", err
		}
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		fmt.Fprintf(&b, "SELECT %d,%s %s WHERE ", i, s.values, s.from)
		for j, l := range literals {
			if j > 0 {
				b.WriteString(" AND ")
			}
			b.WriteString(s.key[j] + "=" + l)
		}
	}
	return b.String(), nil
}

// where is the condition of a span, " WHERE ..." or nothing.
func (s *statements) where(span replication.Span) (string, error) {
	var lo, hi []string
	var err error
	if span.Lo != nil {
		if lo, err = s.literals(span.Lo); err != nil {
			return "", err
		}
	}
	if span.Hi != nil {
		if hi, err = s.literals(span.Hi); err != nil {
			return "", err
		}
	}
	var terms []string
	key := s.key
	// What both bounds begin with is said once, so that the server sees one short range.
	for len(key) > 1 && lo != nil && hi != nil && lo[0] == hi[0] {
		terms = append(terms, key[0]+"="+lo[0])
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

// beyond compares a key of several columns in the form that servers turn into a range of the index:
// (a > 1 OR (a = 1 AND b > 2)); a row comparison (a,b) > (1,2) they don't.
func beyond(key, literals []string, op, last string) string {
	end := len(key) - 1
	out := key[end] + last + literals[end]
	for i := end - 1; i >= 0; i-- {
		out = "(" + key[i] + op + literals[i] + " OR (" + key[i] + "=" + literals[i] + " AND " + out + "))"
	}
	return out
}

// literals are the values of a key in SQL.
func (s *statements) literals(k replication.Key) ([]string, error) {
	values, err := k.Values(nil, len(s.key))
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", s.t.Name, err)
	}
	out := make([]string, len(values))
	for i, v := range values {
		c := &s.t.Columns[s.t.Primary.Columns[i]]
		l, err := sqltext.AppendKeyLiteral(nil, c, v)
		if err != nil {
			return nil, fmt.Errorf("key of %s: %w", s.t.Name, err)
		}
		out[i] = string(l)
	}
	return out, nil
}
