package source

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// A tableReader is what is made of a table once to read rows of it.
type tableReader struct {
	table *replication.Table
	// head is the query up to the condition, tail its order; columns and from are parts of head.
	head, tail []byte
	columns    []string
	from       []byte
	// width is the number of columns of the result: the table's, and two for each JSON column.
	width int
	// fixes are the columns whose values in the result are not canonical.
	fixes []fix
	// bytes and rows are those of the last chunk: about what the next one takes.
	bytes, rows atomic.Int64
}

// A fix makes the canonical value of the column at column. For JSON, extra is the first of two columns that help.
type fix struct{ column, extra int }

// reader returns the reader of a table.
func (s *Source) reader(t *replication.Table) *tableReader {
	if r, ok := s.readers.Load(t); ok {
		return r.(*tableReader) //nolint:forcetypeassert // nothing else is in the map
	}
	r, _ := s.readers.LoadOrStore(t, newTableReader(t))
	return r.(*tableReader) //nolint:forcetypeassert // nothing else is in the map
}

func newTableReader(t *replication.Table) *tableReader {
	r := &tableReader{table: t, width: len(t.Columns), head: []byte("SELECT ")}
	var extra []string
	for i := range t.Columns {
		c := &t.Columns[i]
		name := sqltext.Ident(c.Name)
		expr := name
		switch c.Kind {
		case replication.KindFloat, replication.KindDouble:
			// The text of a FLOAT has six digits, that of DOUBLE(m,d) d decimals, that of a product all. A sum would lose -0.
			expr = name + "*1e0"
			r.fixes = append(r.fixes, fix{column: i})
		case replication.KindEnum, replication.KindSet:
			expr = "CAST(" + name + " AS UNSIGNED)"
		case replication.KindJSON:
			r.fixes = append(r.fixes, fix{column: i, extra: r.width})
			extra = append(extra, fmt.Sprintf(jsonTypesExpr, "s."+name, "s."+name))
			r.width += 2
		case replication.KindInt, replication.KindUint, replication.KindDecimal:
			if attribute(c.Type, "zerofill") {
				r.fixes = append(r.fixes, fix{column: i})
			}
		}
		if i > 0 {
			r.head = append(r.head, ',')
		}
		r.head = append(r.head, expr...)
		r.columns = append(r.columns, expr)
	}
	for _, e := range extra {
		r.head = append(append(r.head, ','), e...)
	}
	r.from = []byte(" FROM " + sqltext.QualifiedIdent(t.Schema, t.Name) + " AS s FORCE INDEX (" + sqltext.Ident(t.Primary.Name) + ")")
	r.head = append(r.head, r.from...)
	names := make([]string, len(t.Primary.Columns))
	for i, c := range t.Primary.Columns {
		names[i] = sqltext.Ident(t.Columns[c].Name)
	}
	r.tail = []byte(" ORDER BY " + strings.Join(names, ","))
	return r
}

// Read reads rows of a span in one autocommit SELECT.
func (s *Source) Read(ctx context.Context, t *replication.Table, span replication.Span, limit replication.Limit) (*replication.Chunk, error) {
	return s.read(ctx, t, span, limit, "")
}

func (s *Source) read(ctx context.Context, t *replication.Table, span replication.Span, limit replication.Limit, where string) (*replication.Chunk, error) {
	r := s.reader(t)
	query, err := r.query(span, limit, where)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.Name, err)
	}
	var chunk *replication.Chunk
	err = s.with(ctx, func(c *conn) (err error) {
		stop := c.watch(ctx)
		defer stop()
		chunk, err = r.read(c, query, span, limit)
		return err
	})
	if err != nil {
		return nil, readError(t, err)
	}
	return chunk, nil
}

// readError says what an error of reading a table means.
func readError(t *replication.Table, err error) error {
	switch code, _ := mysqlerr.Code(err); {
	case err == nil:
		return nil
	case mysqlerr.NotFound(err), code == 1054, code == 1176: // no such column, no such key
		return &replication.SchemaChangedError{Table: t.Name, What: mysqlerr.Message(err)}
	}
	return fmt.Errorf("read table %s: %w", t.Name, err)
}

// query builds the statement. where is one more condition, about the alias s; empty if there is none.
func (r *tableReader) query(span replication.Span, limit replication.Limit, where string) ([]byte, error) {
	q, err := r.within(slices.Clone(r.head), span, where)
	if err != nil {
		return nil, err
	}
	q = append(q, r.tail...)
	if limit.Rows > 0 {
		q = strconv.AppendInt(append(q, " LIMIT "...), int64(limit.Rows), 10)
	}
	return q, nil
}

// within appends the condition that a row is in a span, and another one.
func (r *tableReader) within(q []byte, span replication.Span, where string) ([]byte, error) {
	word := " WHERE "
	for _, b := range []struct {
		key replication.Key
		op  byte
	}{{span.Lo, '>'}, {span.Hi, '<'}} {
		if len(b.key) == 0 {
			continue
		}
		var err error
		q = append(q, word...)
		if q, err = r.bound(q, b.key, b.op); err != nil {
			return nil, err
		}
		word = " AND "
	}
	if where != "" {
		q = append(append(append(append(q, word...), '('), where...), ')')
	}
	return q, nil
}

// bound appends the condition that the key is after (op is '>') or at most (op is '<') the given one. The first
// comparison is there for the optimizer, which makes a range of it whatever it makes of the rest:
//
//	a >= 1 AND (a > 1 OR (a = 1 AND (b > 2)))
func (r *tableReader) bound(q []byte, key replication.Key, op byte) ([]byte, error) {
	columns := r.table.Primary.Columns
	values, err := key.Values(nil, len(columns))
	if err != nil {
		return nil, err
	}
	literal := func(i int) {
		if err == nil {
			q, err = sqltext.AppendKeyLiteral(q, &r.table.Columns[columns[i]], values[i])
		}
	}
	compare := func(i int, ops ...byte) {
		q = append(sqltext.AppendIdent(append(q, "s."...), r.table.Columns[columns[i]].Name), ops...)
		literal(i)
	}
	last := len(columns) - 1
	if last > 0 {
		compare(0, op, '=')
		q = append(q, " AND "...)
	}
	for i := range last {
		q = append(q, '(')
		compare(i, op)
		q = append(q, " OR ("...)
		compare(i, '=')
		q = append(q, " AND "...)
	}
	if op == '<' {
		compare(last, '<', '=')
	} else {
		compare(last, '>')
	}
	for range last {
		q = append(q, "))"...)
	}
	return q, err
}

// read runs the query on c. When the wanted bytes are there, a rest that is not much more is read and
// forgotten; more than that is not worth it, and the connection is given up.
func (r *tableReader) read(c *conn, query []byte, span replication.Span, limit replication.Limit) (*replication.Chunk, error) {
	if err := c.query(query, r.width); err != nil {
		return nil, err
	}
	maxBytes := limit.Bytes
	if maxBytes <= 0 {
		maxBytes = math.MaxInt / 32 // can be multiplied
	}
	buf := make([]byte, 0, min(int(r.bytes.Load())*17/16, maxBytes/16*17))
	ends := make([]int, 0, int(r.rows.Load())*17/16)
	skipped, cut := 0, false
	var scratch []byte
	for {
		into := buf
		if full := len(ends) > 0 && len(buf) >= maxBytes; full || len(r.fixes) > 0 {
			into = scratch[:0]
			cut = cut || full && skipped > max(maxBytes, 1<<20)
		}
		if cut {
			break
		}
		row, ok, err := c.next(into)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		switch {
		case len(ends) > 0 && len(buf) >= maxBytes:
			scratch = row
			skipped += len(row)
			continue
		case len(r.fixes) > 0:
			scratch = row
			if buf, err = r.canonical(buf, row); err != nil {
				return nil, err
			}
		default:
			buf = row
		}
		ends = append(ends, len(buf))
	}
	r.bytes.Store(int64(len(buf)))
	r.rows.Store(int64(len(ends)))
	chunk := &replication.Chunk{Table: r.table, Span: span, Bytes: len(buf), Rows: make([]replication.Row, len(ends))}
	start := 0
	for i, end := range ends {
		chunk.Rows[i] = buf[start:end:end]
		start = end
	}
	if skipped > 0 || limit.Rows > 0 && len(ends) == limit.Rows {
		hi, err := r.table.Key(chunk.Rows[len(ends)-1])
		if err != nil {
			return nil, err
		}
		chunk.Span.Hi = hi
	}
	return chunk, nil
}

// canonical appends the canonical form of a row of the result.
func (r *tableReader) canonical(dst, row []byte) ([]byte, error) {
	var space [64][]byte
	values, err := replication.Row(row).Values(space[:0], r.width)
	if err != nil {
		return dst, err
	}
	var buf [32]byte
	next := 0
	for i := range r.table.Columns {
		v := values[i]
		if next < len(r.fixes) && r.fixes[next].column == i {
			if v != nil {
				if v, err = r.fixes[next].apply(buf[:0], &r.table.Columns[i], values); err != nil {
					return dst, &replication.RowError{Table: r.table.Name, Column: r.table.Columns[i].Name, Err: err}
				}
			}
			next++
		}
		dst = replication.AppendValue(dst, v)
	}
	return dst, nil
}

func (f fix) apply(dst []byte, c *replication.Column, values [][]byte) ([]byte, error) {
	v := values[f.column]
	switch c.Kind {
	case replication.KindJSON:
		return canonicalJSON(v, values[f.extra], values[f.extra+1])
	case replication.KindFloat, replication.KindDouble:
		x, err := strconv.ParseFloat(string(v), 64)
		return appendDouble(dst, x), err
	default:
		return normalDecimal(v), nil
	}
}
