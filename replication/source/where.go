package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tablehaul/tablehaul/replication"
)

// scanRows is how many rows one read with a condition looks at, so that it is as short as others, however few of them are wanted.
const scanRows = 20_000

// ReadWhere reads the rows of a span for which a condition holds, like Read. The condition is SQL about a table with the alias s. It looks at a
// limited number of rows, and the chunk may have none of them: its span says how far it has come, as always.
//
// seek is a condition that follows from where, and that the server looks up in the identifying key, so that the rows for which it does not
// hold need not be looked at; empty if there is none.
func (s *Source) ReadWhere(ctx context.Context, t *replication.Table, span replication.Span, limit replication.Limit, where, seek string) (*replication.Chunk, error) {
	last, err := s.scanEnd(ctx, s.reader(t), span, seek)
	if err != nil {
		return nil, err
	}
	part := span
	if last != nil {
		part.Hi = last
	}
	return s.read(ctx, t, part, limit, where)
}

// scanEnd finds the key up to which a read looks; nil if it may look at all of the span.
func (s *Source) scanEnd(ctx context.Context, r *tableReader, span replication.Span, seek string) (replication.Key, error) {
	t := r.table
	head := []byte("SELECT ")
	for i, c := range t.Primary.Columns {
		if i > 0 {
			head = append(head, ',')
		}
		head = append(head, r.columns[c]...)
	}
	q, err := r.within(append(head, r.from...), span, seek)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.Name, err)
	}
	q = append(append(q, r.tail...), " LIMIT 1 OFFSET "...)
	q = strconv.AppendInt(q, scanRows-1, 10)
	var key replication.Key
	err = s.with(ctx, func(c *conn) error {
		key = nil
		row, err := c.row(ctx, string(q), len(t.Primary.Columns))
		if errors.Is(err, errNoRow) {
			return nil
		}
		if err != nil {
			return err
		}
		key, err = r.key(row)
		return err
	})
	return key, readError(t, err)
}

// key packs the values of the identifying key's columns.
func (r *tableReader) key(values [][]byte) (replication.Key, error) {
	var key replication.Key
	for i, c := range r.table.Primary.Columns {
		v := values[i]
		if at := slices.IndexFunc(r.fixes, func(f fix) bool { return f.column == c }); at >= 0 && v != nil {
			whole := make([][]byte, r.width)
			whole[c] = v
			var err error
			if v, err = r.fixes[at].apply(nil, &r.table.Columns[c], whole); err != nil {
				return nil, &replication.RowError{Table: r.table.Name, Column: r.table.Columns[c].Name, Err: err}
			}
		}
		key = replication.AppendValue(key, v)
	}
	return key, nil
}

// Ask has the server compute expressions of literals, in one SELECT without a table: nothing that the answer could depend on but the server's
// own character sets and collations. It returns one value for each, nil for NULL.
func (s *Source) Ask(ctx context.Context, expressions []string) (answers [][]byte, err error) {
	err = s.with(ctx, func(c *conn) error {
		answers, err = c.row(ctx, "SELECT "+strings.Join(expressions, ","), len(expressions))
		return err
	})
	return answers, err
}
