package replicationtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// maxDifferences is where CompareTables stops looking on in a table.
const maxDifferences = 20

// DifferenceKind says what is wrong with a row or a table.
type DifferenceKind string

// The kinds of differences.
const (
	MissingTable DifferenceKind = "missing table" // the destination has no such table
	OtherColumns DifferenceKind = "other columns" // names, their order or the key differ; rows were not compared
	MissingRow   DifferenceKind = "missing row"   // only the source has it
	ExtraRow     DifferenceKind = "extra row"     // only the destination has it
	ChangedRow   DifferenceKind = "changed row"   // both have the key, Columns differ
)

// Difference is one thing in which two databases differ. Values are what the server's
// HEX says of them, NULL is "NULL".
type Difference struct {
	Table   string
	Kind    DifferenceKind
	Key     []string // hex of the key's columns
	Columns []string // that differ, for ChangedRow; all of the row for the others
	Source  []string // hex of Columns at the source
	Dest    []string // hex of Columns at the destination
}

// String returns the difference on one line.
func (d Difference) String() string {
	s := fmt.Sprintf("%s: %s", d.Table, d.Kind)
	if len(d.Key) > 0 {
		s += " " + strings.Join(d.Key, ",")
	}
	for i, c := range d.Columns {
		s += " " + c + ":"
		if i < len(d.Source) {
			s += " " + d.Source[i]
		}
		if i < len(d.Dest) {
			s += " / " + d.Dest[i]
		}
	}
	return s
}

// CompareTables compares every row of tables (none: all of srcDB's) by the hex of every
// column, in key order, and returns what differs: nothing when the tables are equal, at
// most 20 differences per table. Extra tables of dstDB are no difference. It shares no
// code with the library that it is used to test. Values are read in UTC, with all digits
// of floating point numbers and the number as well as the text of ENUM and SET. Rows of
// a table without a primary key are compared as a multiset. Both sides must be at rest.
func CompareTables(ctx context.Context, src, dst *sql.DB, srcDB, dstDB string, tables ...string) ([]Difference, error) {
	a, err := openSide(ctx, src, srcDB)
	if err != nil {
		return nil, fmt.Errorf("compare: source: %w", err)
	}
	defer a.close()
	b, err := openSide(ctx, dst, dstDB)
	if err != nil {
		return nil, fmt.Errorf("compare: destination: %w", err)
	}
	defer b.close()
	if len(tables) == 0 {
		if tables, err = a.tables(ctx); err != nil {
			return nil, fmt.Errorf("compare: source: %w", err)
		}
		if len(tables) == 0 {
			return nil, fmt.Errorf("compare: database %s has no tables", srcDB)
		}
	}
	var out []Difference
	for _, t := range tables {
		d, err := compareTable(ctx, a, b, t)
		if err != nil {
			return out, fmt.Errorf("compare: table %s: %w", t, err)
		}
		out = append(out, d...)
	}
	return out, nil
}

// CheckEqual fails the test with the differences that CompareTables finds, and returns
// whether there are none.
func CheckEqual(tb testing.TB, src, dst *sql.DB, srcDB, dstDB string, tables ...string) bool {
	tb.Helper()
	diffs, err := CompareTables(tb.Context(), src, dst, srcDB, dstDB, tables...)
	if err != nil {
		tb.Error(err)
		return false
	}
	for _, d := range diffs {
		tb.Errorf("%s and %s differ: %v", srcDB, dstDB, d)
	}
	return len(diffs) == 0
}

// side is one end of a comparison: a session of its own on one database.
type side struct {
	conn *sql.Conn
	db   string
}

func openSide(ctx context.Context, db *sql.DB, name string) (*side, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	s := &side{conn: conn, db: name}
	for _, stmt := range []string{
		"SET time_zone = '+00:00'", "SET sql_mode = ''", "SET NAMES utf8mb4",
		"SET max_sort_length = 8192", "SET net_write_timeout = 3600",
	} {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// close throws the session away: a pool must not get it back with other settings.
func (s *side) close() {
	//nolint:errcheck // the error is the one that is asked for
	s.conn.Raw(func(any) error { return driver.ErrBadConn })
	s.conn.Close()
}

func (s *side) tables(ctx context.Context) ([]string, error) {
	return s.strings(ctx, `SELECT table_name FROM information_schema.tables
		WHERE table_schema = ? AND table_type = 'BASE TABLE' ORDER BY table_name`, s.db)
}

func (s *side) strings(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	err = scanText(rows, func(row []sql.NullString) error {
		out = append(out, row[0].String)
		return nil
	})
	return out, err
}

// tableShape is what two tables must share to be compared row by row.
type tableShape struct {
	columns []string
	types   []string // data type per column, "varchar"
	key     []int    // columns of the primary key, none when there is none
}

func (s *side) shape(ctx context.Context, table string) (tableShape, error) {
	var sh tableShape
	rows, err := s.conn.QueryContext(ctx, `SELECT column_name, data_type FROM information_schema.columns
		WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position`, s.db, table)
	if err != nil {
		return sh, err
	}
	defer rows.Close()
	err = scanText(rows, func(row []sql.NullString) error {
		sh.columns = append(sh.columns, row[0].String)
		sh.types = append(sh.types, strings.ToLower(row[1].String))
		return nil
	})
	if err != nil {
		return sh, err
	}
	key, err := s.strings(ctx, `SELECT column_name FROM information_schema.statistics
		WHERE table_schema = ? AND table_name = ? AND index_name = 'PRIMARY' ORDER BY seq_in_index`, s.db, table)
	for _, k := range key {
		sh.key = append(sh.key, slices.Index(sh.columns, k))
	}
	return sh, err
}

// hexOf is the expression that shows a column's value in full.
func hexOf(column, dataType string) string {
	c := tick(column)
	switch dataType {
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext",
		"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob",
		"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring",
		"multipolygon", "geometrycollection", "geomcollection", "vector":
		return "HEX(" + c + ")"
	case "enum", "set":
		return "CONCAT(" + c + " + 0, ':', HEX(" + c + "))"
	case "bit":
		return "HEX(CAST(" + c + " AS UNSIGNED))"
	case "float":
		// The text of a FLOAT has six digits, that of the DOUBLE of the same value all.
		return "HEX(CAST(CAST(" + c + " AS DOUBLE) AS CHAR))"
	default: // numbers, dates and times, JSON, UUID, INET6: their text is exact
		return "HEX(CAST(" + c + " AS CHAR CHARACTER SET utf8mb4))"
	}
}

// tick quotes an identifier.
func tick(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// cursor walks a table in key order.
type cursor struct {
	rows *sql.Rows
	row  []sql.NullString // the present row, valid until next; a row hash may follow its columns
	n    int              // columns of the table
	dest []any
	key  []int
}

// open selects the hex of every column. The order is that of the hex digits of the key,
// which is the same on every server, whatever the collations.
func (s *side) open(ctx context.Context, table string, sh tableShape) (*cursor, error) {
	exprs := make([]string, len(sh.columns))
	for i, c := range sh.columns {
		exprs[i] = hexOf(c, sh.types[i])
	}
	key := sh.key
	if len(key) == 0 {
		// Without a key the order is that of a hash of the row: a server's sort looks at the
		// beginning of long values only.
		parts := make([]string, len(exprs))
		for i, e := range exprs {
			parts[i] = "IFNULL(" + e + ", '-')"
		}
		key = []int{len(exprs)}
		exprs = append(exprs, "SHA2(CONCAT_WS(',', "+strings.Join(parts, ", ")+"), 256)")
	}
	order := make([]string, len(key))
	for i, k := range key {
		order[i] = "CAST(" + exprs[k] + " AS BINARY)"
	}
	//nolint:rowserrcheck // cursor.next looks at it
	rows, err := s.conn.QueryContext(ctx, "SELECT "+strings.Join(exprs, ", ")+" FROM "+
		tick(s.db)+"."+tick(table)+" ORDER BY "+strings.Join(order, ", "))
	if err != nil {
		return nil, err
	}
	c := &cursor{rows: rows, key: key, n: len(sh.columns), row: make([]sql.NullString, len(exprs)), dest: make([]any, len(exprs))}
	for i := range c.row {
		c.dest[i] = &c.row[i]
	}
	return c, nil
}

// next moves on; false at the end.
func (c *cursor) next() (bool, error) {
	if !c.rows.Next() {
		return false, c.rows.Err()
	}
	return true, c.rows.Scan(c.dest...)
}

func (c *cursor) close() {
	c.rows.Close()
}

// compareKeys orders the present rows of two cursors; NULL goes first.
func compareKeys(a, b *cursor) int {
	for i := range a.key {
		x, y := a.row[a.key[i]], b.row[b.key[i]]
		switch {
		case !x.Valid && !y.Valid:
		case !x.Valid:
			return -1
		case !y.Valid:
			return 1
		default:
			if n := strings.Compare(x.String, y.String); n != 0 {
				return n
			}
		}
	}
	return 0
}

func compareTable(ctx context.Context, a, b *side, table string) ([]Difference, error) {
	sa, err := a.shape(ctx, table)
	if err != nil {
		return nil, err
	}
	if len(sa.columns) == 0 {
		return nil, fmt.Errorf("not in database %s of the source", a.db)
	}
	sb, err := b.shape(ctx, table)
	if err != nil {
		return nil, err
	}
	if len(sb.columns) == 0 {
		return []Difference{{Table: table, Kind: MissingTable}}, nil
	}
	if !slices.Equal(sa.columns, sb.columns) || !slices.Equal(sa.key, sb.key) {
		return []Difference{{Table: table, Kind: OtherColumns, Source: sa.columns, Dest: sb.columns}}, nil
	}
	ca, err := a.open(ctx, table, sa)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	defer ca.close()
	cb, err := b.open(ctx, table, sb)
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	defer cb.close()
	return merge(table, sa.columns, ca, cb)
}

// merge walks both cursors side by side.
func merge(table string, columns []string, a, b *cursor) ([]Difference, error) {
	var out []Difference
	okA, errA := a.next()
	okB, errB := b.next()
	for (okA || okB) && errA == nil && errB == nil && len(out) < maxDifferences {
		n := 0
		switch {
		case !okA:
			n = 1
		case !okB:
			n = -1
		default:
			n = compareKeys(a, b)
		}
		switch {
		case n < 0:
			out = append(out, Difference{Table: table, Kind: MissingRow, Key: a.keyText(), Columns: columns, Source: a.text(nil)})
			okA, errA = a.next()
		case n > 0:
			out = append(out, Difference{Table: table, Kind: ExtraRow, Key: b.keyText(), Columns: columns, Dest: b.text(nil)})
			okB, errB = b.next()
		default:
			if which := changed(a.row, b.row); len(which) > 0 {
				d := Difference{Table: table, Kind: ChangedRow, Key: a.keyText(), Source: a.text(which), Dest: b.text(which)}
				for _, i := range which {
					d.Columns = append(d.Columns, columns[i])
				}
				out = append(out, d)
			}
			okA, errA = a.next()
			okB, errB = b.next()
		}
	}
	return out, errors.Join(errA, errB)
}

// changed returns the columns in which two rows differ.
func changed(a, b []sql.NullString) []int {
	var out []int
	for i := range a {
		if a[i] != b[i] {
			out = append(out, i)
		}
	}
	return out
}

func (c *cursor) keyText() []string { return c.text(c.key) }

// text returns the named columns, or all when none is named.
func (c *cursor) text(which []int) []string {
	if which == nil {
		for i := range c.n {
			which = append(which, i)
		}
	}
	out := make([]string, len(which))
	for i, k := range which {
		out[i] = "NULL"
		if c.row[k].Valid {
			out[i] = c.row[k].String
		}
	}
	return out
}
