package source

import (
	"bytes"
	"fmt"
	"strings"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tablehaul/tablehaul/replication"
)

// A wireType says how the values of a column lie in row images.
type wireType struct {
	// tp is the MySQL type: STRING only for CHAR and BINARY, ENUM and SET have their own.
	tp byte
	// size is the number of bytes of a value or of its length prefix; the number of digits of a fraction for
	// temporal types.
	size int
	// precision and scale are those of a DECIMAL.
	precision, scale int
}

// A tableMap is a TABLE_MAP event of one of the opened tables, checked against the table's model.
type tableMap struct {
	raw   []byte
	table *replication.Table
	types []wireType
}

// A tableMapBody is what of a TABLE_MAP event matters here.
type tableMapBody struct {
	id            uint64
	schema, table string
	types         []wireType
	// unsigned has one element per numeric column, in order; nil if the event does not tell.
	unsigned []bool
	// names are there with binlog_row_metadata=FULL only.
	names []string
}

// parseTableMapNames reads the part of a TABLE_MAP that says which table it is.
func parseTableMapNames(c *cursor) (tableMapBody, error) {
	m := tableMapBody{id: c.uint(6)}
	c.take(2) // flags
	m.schema = string(c.take(int(c.byte())))
	c.byte() // NUL
	m.table = string(c.take(int(c.byte())))
	c.byte() // NUL
	if c.bad {
		return m, fmt.Errorf("%w: table map is cut", ErrMalformedEvent)
	}
	return m, nil
}

// parseColumns reads the rest of a TABLE_MAP.
func (m *tableMapBody) parseColumns(c *cursor) error {
	n := c.length()
	if n > 4096 || n > uint64(len(c.b)) {
		return fmt.Errorf("%w: table map of %d columns", ErrMalformedEvent, n)
	}
	types := c.take(int(n))
	meta := cursor{b: c.bytes()}
	for _, tp := range types {
		wt, err := parseWireType(tp, &meta)
		if err != nil {
			return err
		}
		m.types = append(m.types, wt)
	}
	c.take((int(n) + 7) / 8) // which columns can be NULL
	for len(c.b) > 0 && !c.bad {
		kind, field := c.byte(), c.bytes()
		switch kind {
		case 1:
			m.parseSignedness(field)
		case 4:
			m.parseNames(field)
		}
	}
	if c.bad || meta.bad {
		return fmt.Errorf("%w: table map is cut", ErrMalformedEvent)
	}
	return nil
}

// parseSignedness reads one bit per numeric column, the highest first.
func (m *tableMapBody) parseSignedness(bits []byte) {
	for i := range 8 * len(bits) {
		m.unsigned = append(m.unsigned, bits[i/8]&(0x80>>(i%8)) != 0)
	}
}

func (m *tableMapBody) parseNames(field []byte) {
	c := cursor{b: field}
	for len(c.b) > 0 {
		m.names = append(m.names, string(c.bytes()))
	}
	if c.bad || len(m.names) != len(m.types) {
		m.names = nil
	}
}

// parseWireType reads the metadata of a column of type tp.
func parseWireType(tp byte, meta *cursor) (wireType, error) {
	wt := wireType{tp: tp}
	switch tp {
	case gomysql.MYSQL_TYPE_TINY:
		wt.size = 1
	case gomysql.MYSQL_TYPE_SHORT:
		wt.size = 2
	case gomysql.MYSQL_TYPE_INT24:
		wt.size = 3
	case gomysql.MYSQL_TYPE_LONG:
		wt.size = 4
	case gomysql.MYSQL_TYPE_LONGLONG:
		wt.size = 8
	case gomysql.MYSQL_TYPE_DATE, gomysql.MYSQL_TYPE_NEWDATE:
		wt.tp = gomysql.MYSQL_TYPE_DATE
	case gomysql.MYSQL_TYPE_YEAR:
	case gomysql.MYSQL_TYPE_FLOAT, gomysql.MYSQL_TYPE_DOUBLE:
		meta.byte()
	case gomysql.MYSQL_TYPE_NEWDECIMAL:
		wt.precision, wt.scale = int(meta.byte()), int(meta.byte())
	case gomysql.MYSQL_TYPE_TIME2, gomysql.MYSQL_TYPE_DATETIME2, gomysql.MYSQL_TYPE_TIMESTAMP2:
		if wt.size = int(meta.byte()); wt.size > 6 {
			meta.bad = true
		}
	case gomysql.MYSQL_TYPE_BIT:
		bits, whole := int(meta.byte()), int(meta.byte())
		wt.size = whole + (bits+7)/8
	case gomysql.MYSQL_TYPE_VARCHAR, gomysql.MYSQL_TYPE_VAR_STRING:
		wt.tp, wt.size = gomysql.MYSQL_TYPE_VARCHAR, 1
		if meta.uint(2) > 255 {
			wt.size = 2
		}
	case gomysql.MYSQL_TYPE_BLOB, gomysql.MYSQL_TYPE_GEOMETRY, gomysql.MYSQL_TYPE_JSON, gomysql.MYSQL_TYPE_VECTOR:
		if wt.size = int(meta.byte()); wt.size < 1 || wt.size > 4 {
			meta.bad = true
		}
	case gomysql.MYSQL_TYPE_STRING:
		parseStringType(&wt, meta.byte(), meta.byte())
	default:
		return wt, fmt.Errorf("%w: column type %d", ErrMalformedEvent, tp)
	}
	return wt, nil
}

// parseStringType reads the metadata of CHAR, BINARY, ENUM and SET: the real type, into which the
// upper two bits of the length are mixed, and the length.
func parseStringType(wt *wireType, real, length byte) {
	if real == gomysql.MYSQL_TYPE_ENUM || real == gomysql.MYSQL_TYPE_SET {
		wt.tp, wt.size = real, int(length)
		return
	}
	wt.size = 1
	if max := int(length) | (int(real&0x30)^0x30)<<4; max > 255 {
		wt.size = 2
	}
}

// wireOf says how values of a column come. It is what the model makes of a column; metadata that do
// not change the form (the length of a VARCHAR) are left out by comparable.
func wireOf(c *replication.Column) wireType {
	base, _, _ := strings.Cut(c.Type, " ")
	base, args, _ := strings.Cut(base, "(")
	switch base {
	case "tinyint":
		return wireType{tp: gomysql.MYSQL_TYPE_TINY, size: 1}
	case "smallint":
		return wireType{tp: gomysql.MYSQL_TYPE_SHORT, size: 2}
	case "mediumint":
		return wireType{tp: gomysql.MYSQL_TYPE_INT24, size: 3}
	case "int":
		return wireType{tp: gomysql.MYSQL_TYPE_LONG, size: 4}
	case "bigint":
		return wireType{tp: gomysql.MYSQL_TYPE_LONGLONG, size: 8}
	}
	switch c.Kind {
	case replication.KindDecimal:
		var p, s int
		if n, _ := fmt.Sscanf(args, "%d,%d", &p, &s); n < 2 {
			s = 0
		}
		return wireType{tp: gomysql.MYSQL_TYPE_NEWDECIMAL, precision: p, scale: s}
	case replication.KindFloat:
		return wireType{tp: gomysql.MYSQL_TYPE_FLOAT}
	case replication.KindDouble:
		return wireType{tp: gomysql.MYSQL_TYPE_DOUBLE}
	case replication.KindYear:
		return wireType{tp: gomysql.MYSQL_TYPE_YEAR}
	case replication.KindDate:
		return wireType{tp: gomysql.MYSQL_TYPE_DATE}
	case replication.KindTime:
		return wireType{tp: gomysql.MYSQL_TYPE_TIME2, size: c.Fsp}
	case replication.KindDatetime:
		return wireType{tp: gomysql.MYSQL_TYPE_DATETIME2, size: c.Fsp}
	case replication.KindTimestamp:
		return wireType{tp: gomysql.MYSQL_TYPE_TIMESTAMP2, size: c.Fsp}
	case replication.KindBit:
		return wireType{tp: gomysql.MYSQL_TYPE_BIT, size: (c.Length + 7) / 8}
	case replication.KindEnum:
		return wireType{tp: gomysql.MYSQL_TYPE_ENUM}
	case replication.KindSet:
		return wireType{tp: gomysql.MYSQL_TYPE_SET}
	case replication.KindJSON:
		return wireType{tp: gomysql.MYSQL_TYPE_JSON}
	case replication.KindGeometry:
		return wireType{tp: gomysql.MYSQL_TYPE_GEOMETRY}
	case replication.KindVector:
		return wireType{tp: gomysql.MYSQL_TYPE_VECTOR}
	}
	switch {
	case base == "char" || base == "binary":
		return wireType{tp: gomysql.MYSQL_TYPE_STRING}
	case base == "varchar" || base == "varbinary":
		return wireType{tp: gomysql.MYSQL_TYPE_VARCHAR}
	case strings.HasSuffix(base, "blob") || strings.HasSuffix(base, "text"):
		return wireType{tp: gomysql.MYSQL_TYPE_BLOB}
	}
	return wireType{}
}

// comparable is wt without what may differ for one model.
func (wt wireType) comparable() wireType {
	switch wt.tp {
	case gomysql.MYSQL_TYPE_ENUM, gomysql.MYSQL_TYPE_SET, gomysql.MYSQL_TYPE_JSON, gomysql.MYSQL_TYPE_GEOMETRY, gomysql.MYSQL_TYPE_VECTOR,
		gomysql.MYSQL_TYPE_STRING, gomysql.MYSQL_TYPE_VARCHAR, gomysql.MYSQL_TYPE_BLOB:
		wt.size = 0
	}
	return wt
}

// fit checks that m describes the table t.
func (m *tableMapBody) fit(t *replication.Table) error {
	changed := func(format string, args ...any) error {
		return &replication.SchemaChangedError{Table: t.Name, What: fmt.Sprintf(format, args...)}
	}
	if len(m.types) != len(t.Columns) {
		return changed("row events have %d columns, the table had %d", len(m.types), len(t.Columns))
	}
	numeric := 0
	for i := range t.Columns {
		c := &t.Columns[i]
		if m.names != nil && m.names[i] != c.Name {
			return changed("column %d of row events is %s, was %s", i+1, m.names[i], c.Name)
		}
		if have := m.types[i].comparable(); have != wireOf(c) {
			return changed("column %d (%s) of row events has type code %d %v, the table had %s",
				i+1, c.Name, have.tp, have, c.Type)
		}
		if !isNumeric(m.types[i].tp) {
			continue
		}
		if numeric < len(m.unsigned) && m.unsigned[numeric] != c.Unsigned && c.Kind != replication.KindYear {
			return changed("column %d (%s) of row events has another sign, the table had %s", i+1, c.Name, c.Type)
		}
		numeric++
	}
	return nil
}

// isNumeric tells whether a TABLE_MAP has a bit of signedness for columns of the type.
func isNumeric(tp byte) bool {
	switch tp {
	case gomysql.MYSQL_TYPE_TINY, gomysql.MYSQL_TYPE_SHORT, gomysql.MYSQL_TYPE_INT24, gomysql.MYSQL_TYPE_LONG,
		gomysql.MYSQL_TYPE_LONGLONG, gomysql.MYSQL_TYPE_YEAR, gomysql.MYSQL_TYPE_FLOAT, gomysql.MYSQL_TYPE_DOUBLE,
		gomysql.MYSQL_TYPE_NEWDECIMAL:
		return true
	}
	return false
}

// same tells whether the body of a TABLE_MAP event is the one that m was made from.
func (m *tableMap) same(body []byte) bool { return bytes.Equal(m.raw, body) }
