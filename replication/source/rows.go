package source

import (
	"fmt"

	gobinlog "github.com/go-mysql-org/go-mysql/replication"

	"github.com/tablehaul/tablehaul/replication"
)

// Flags of a rows event.
const (
	flagNoForeignKeyChecks = 2
	// flagLoggedCascades is set by servers that log what foreign keys do as changes of their own; such a change has
	// flagNoForeignKeyChecks too. What a replica logs has the flags that its source gave.
	flagLoggedCascades = 16
)

// A rowsBody is the head of a rows event, and the images that follow.
type rowsBody struct {
	table uint64
	flags uint16
	// width is the number of columns; before and after are the bit maps of the columns in the images; one of them
	// is nil for an insert or delete.
	width         int
	before, after []byte
	images        []byte
}

// parseRows reads the body of a rows event of type tp, version 1 or 2.
func parseRows(tp gobinlog.EventType, body []byte) (rowsBody, error) {
	c := cursor{b: body}
	r := rowsBody{table: c.uint(6), flags: uint16(c.uint(2))}
	if tp >= gobinlog.WRITE_ROWS_EVENTv2 {
		c.take(int(c.uint(2)) - 2) // partition numbers and the like
	}
	n := c.length()
	if n > 4096 {
		return r, fmt.Errorf("%w: rows of %d columns", ErrMalformedEvent, n)
	}
	r.width = int(n)
	size := (r.width + 7) / 8
	switch tp {
	case gobinlog.WRITE_ROWS_EVENTv1, gobinlog.WRITE_ROWS_EVENTv2:
		r.after = c.take(size)
	case gobinlog.DELETE_ROWS_EVENTv1, gobinlog.DELETE_ROWS_EVENTv2:
		r.before = c.take(size)
	case gobinlog.UPDATE_ROWS_EVENTv1, gobinlog.UPDATE_ROWS_EVENTv2:
		r.before, r.after = c.take(size), c.take(size)
	default:
		return r, fmt.Errorf("%w: %d", ErrUnknownEvent, tp)
	}
	if r.images = c.b; c.bad {
		return r, fmt.Errorf("%w: rows event is cut", ErrMalformedEvent)
	}
	return r, nil
}

// A decoder makes rows of images. It may be used again, not by several goroutines at once.
type decoder struct{ row replication.Row }

// decode appends the changes of a rows event of the table of m to dst.
func (d *decoder) decode(dst []replication.Change, m *tableMap, r *rowsBody) ([]replication.Change, error) {
	if r.width != len(m.types) {
		return dst, fmt.Errorf("%w: table %s: rows of %d columns after a table map of %d", ErrMalformedEvent, m.table.Name, r.width, len(m.types))
	}
	for _, bits := range [][]byte{r.before, r.after} {
		if err := full(m.table, bits); err != nil {
			return dst, err
		}
	}
	c := cursor{b: r.images}
	for len(c.b) > 0 {
		change := replication.Change{
			Table:   m.table,
			Cascade: r.flags&(flagNoForeignKeyChecks|flagLoggedCascades) == 0,
		}
		var err error
		if r.before != nil {
			change.Before, err = d.image(m, &c)
		}
		if r.after != nil && err == nil {
			change.After, err = d.image(m, &c)
		}
		if err != nil {
			return dst, err
		}
		dst = append(dst, change)
	}
	return dst, nil
}

// full checks that a bit map, if there is one, names all columns.
func full(t *replication.Table, bits []byte) error {
	if bits == nil {
		return nil
	}
	for i := range t.Columns {
		if bits[i/8]&(1<<(i%8)) == 0 {
			return &replication.RowError{Table: t.Name, Column: t.Columns[i].Name, Err: ErrPartialImage}
		}
	}
	return nil
}

// image decodes one row image; the row is a slice of its own.
func (d *decoder) image(m *tableMap, c *cursor) (replication.Row, error) {
	nulls := c.take((len(m.types) + 7) / 8)
	if c.bad {
		return nil, fmt.Errorf("%w: table %s: row image is cut", ErrMalformedEvent, m.table.Name)
	}
	row := d.row[:0]
	for i := range m.types {
		if nulls[i/8]&(1<<(i%8)) != 0 {
			row = replication.AppendValue(row, nil)
			continue
		}
		var err error
		if row, err = decodeValue(row, c, m.types[i], &m.table.Columns[i]); err != nil {
			return nil, &replication.RowError{Table: m.table.Name, Column: m.table.Columns[i].Name, Err: err}
		}
	}
	if d.row = row; cap(row) > 1<<20 {
		d.row = nil // one huge row is no reason to hold its memory
	}
	return append(make(replication.Row, 0, len(row)), row...), nil
}
