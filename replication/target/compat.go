package target

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tablehaul/tablehaul/replication"
)

// A column is one of the target's.
type column struct {
	name string
	// base is its type without arguments, columnType the whole type; charset is empty if it has none.
	base, columnType, charset string
	noDefault, nullable       bool
	// extra is in lower case.
	extra string
}

func (h *column) autoInc() bool { return strings.Contains(h.extra, "auto_increment") }

// generated is not "default_generated", which MySQL says of a column whose default is an expression.
func (h *column) generated() bool {
	return strings.Contains(h.extra, "virtual generated") || strings.Contains(h.extra, "stored generated")
}

func (h *column) String() string { return describe(h.columnType, h.charset, h.generated()) }

func describe(columnType, charset string, generated bool) string {
	if charset != "" {
		columnType += " CHARACTER SET " + charset
	}
	if generated {
		columnType += " GENERATED"
	}
	return columnType
}

// checkColumns looks at the target's columns: which tables LOAD DATA is not for, and which would get other values than the source's.
// Tables and columns that are missing make the server refuse what is written.
func (s *store) checkColumns(ctx context.Context, v variables) error {
	tables, err := s.columns(ctx)
	if err != nil {
		return err
	}
	for t, p := range s.plans {
		columns := tables[t.Name]
		for name, other := range tables {
			if columns == nil && strings.EqualFold(name, t.Name) {
				columns = other
			}
		}
		for i := range columns {
			h := &columns[i]
			at := slices.IndexFunc(t.Columns, func(c replication.Column) bool { return strings.EqualFold(c.Name, h.name) })
			var c *replication.Column
			if at >= 0 {
				c = &t.Columns[at]
			}
			s.loaders[t].check(c, h, v)
			if c == nil || p.misfit != nil {
				continue
			}
			if why := misfit(c, h, slices.Contains(p.zoned, at)); why != "" {
				p.misfit = &replication.SchemaChangedError{Table: t.Name, What: fmt.Sprintf(
					"on the target: column %s is %s, on the source %s: %s", h.name, h, describe(c.Type, c.Charset, c.Generated), why)}
			}
		}
	}
	return nil
}

// columns reads the columns of all tables of the target's database.
func (s *store) columns(ctx context.Context) (map[string][]column, error) {
	rows, err := s.t.db.QueryContext(ctx, "SELECT table_name, column_name, LOWER(data_type), column_type, COALESCE(character_set_name, ''),"+
		" column_default IS NULL, is_nullable = 'YES', LOWER(extra) FROM information_schema.columns WHERE table_schema = ?", s.t.cfg.Server.Database)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	tables := make(map[string][]column)
	for rows.Next() {
		var table string
		var h column
		if err := rows.Scan(&table, &h.name, &h.base, &h.columnType, &h.charset, &h.noDefault, &h.nullable, &h.extra); err != nil {
			return nil, err
		}
		tables[table] = append(tables[table], h)
	}
	return tables, rows.Err()
}

// What is wrong with a column.
const (
	otherValues = "the target would store other values without an error"
	notWritten  = "values of generated columns are not written"
	nullStored  = "NULL would become a value without an error"
)

// misfit tells why values of the source's column c must not be written to h, where the server would not say so: it is silent when
// fractions and fractions of a second are cut, CHAR and BINARY are padded, bytes are another character set's, or numbers other members'.
// What does not fit otherwise is a warning, with which the stream stops. toUTC says that values are converted to UTC.
func misfit(c *replication.Column, h *column, toUTC bool) string {
	switch {
	case c.Generated && h.generated():
		return ""
	case c.Generated:
		return notWritten
	case h.generated():
		return otherValues // LOAD DATA ignores them
	case c.Nullable && !h.nullable && (h.autoInc() || h.base == "timestamp"):
		// The next number; the present time, on MariaDB, and on MySQL without explicit_defaults_for_timestamp.
		return nullStored
	case !fits(c, h, toUTC):
		return otherValues
	}
	return ""
}

// fits tells whether h holds all values of c, or the server says which it does not. Each rule was tried on MySQL and MariaDB, by INSERT
// and by LOAD DATA (TestMisfits).
func fits(c *replication.Column, h *column, toUTC bool) bool {
	source, args := splitType(c.Type)
	_, have := splitType(h.columnType)
	to := family(h.base)
	// Text of digits is the same bytes in all these character sets.
	text := (to == "text" || to == "char" || to == "blob") && !wideCharset(h.charset)
	switch c.Kind {
	case replication.KindInt, replication.KindUint:
		return to == "int" || to == "decimal" || text || to == "double" && source != "bigint"
	case replication.KindYear:
		return to == "year" || to == "int" || to == "decimal"
	case replication.KindDecimal:
		return to == "decimal" || text || to == "int" && digits(args, 0) == 0 // a DECIMAL of a smaller scale gives a note
	case replication.KindFloat, replication.KindDouble:
		// FLOAT(m,d) rounds, and without a note.
		return to == "decimal" || (to == "double" || to == "float" && c.Kind == replication.KindFloat) && digits(have, 99) >= digits(args, 99)
	case replication.KindDate:
		return to == "date" || to == "datetime" || text
	case replication.KindTime:
		return to == "time" && c.Fsp <= number(have) || text
	case replication.KindDatetime:
		// A DATE gives a note for a time of day. A TIMESTAMP is in UTC.
		return (to == "datetime" || to == "timestamp" && toUTC) && c.Fsp <= number(have) || to == "date" || text
	case replication.KindTimestamp:
		return to == "timestamp" && c.Fsp <= number(have)
	case replication.KindBit:
		return to == "bit"
	case replication.KindEnum:
		return to == "enum" && sameMembers(args, have)
	case replication.KindSet:
		return to == "set" && sameMembers(args, have)
	case replication.KindText:
		fixed := to == "char" && (source == "char" || source == "") // it loses spaces at the end
		return to == "blob" || (to == "text" || fixed) && sameBytes(c.Charset, h.charset)
	case replication.KindBinary:
		return to == "binary" && (c.Length == 0 || c.Length == number(have)) || text && to != "char"
	case replication.KindBlob:
		return text && to != "char"
	case replication.KindJSON:
		return to == "json" || to == "text" || to == "char" || to == "blob" // it is converted
	case replication.KindGeometry:
		return to == "geometry" || to == "blob"
	case replication.KindVector:
		return to == "vector" || to == "blob"
	}
	// UUID, INET4 and the like are sent as the bytes that MariaDB stores.
	return source == "" || source == h.base || to == "blob" || to == "binary" && number(have) == 16 && (source == "uuid" || source == "inet6")
}

// splitType cuts a type such as "decimal(5,2) unsigned" into its name and its arguments.
func splitType(columnType string) (name, args string) {
	name, args, _ = strings.Cut(columnType, "(")
	name, _, _ = strings.Cut(name, " ")
	if end := strings.LastIndexByte(args, ')'); end >= 0 {
		args = args[:end]
	}
	return name, args
}

// family is one name for the types that differ in nothing but how much they hold.
func family(base string) string {
	switch base {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		return "int"
	case "varchar", "tinytext", "text", "mediumtext", "longtext":
		return "text"
	case "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		return "blob"
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection", "geometrycollection":
		return "geometry"
	}
	return base
}

// number is an argument that is a number; without one it is 0.
func number(args string) int {
	n, _ := strconv.Atoi(args)
	return n
}

// digits is the second number of a type's arguments, the digits of the fraction; none if there is no such number.
func digits(args string, none int) int {
	if _, d, ok := strings.Cut(args, ","); ok {
		return number(d)
	}
	return none
}

// sameMembers tells whether two lists of members are the same as far as the shorter one goes; an empty one is not known.
func sameMembers(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return a == "" || a == b || strings.HasPrefix(b, a+",")
}

func wideCharset(charset string) bool {
	return charset == "ucs2" || strings.HasPrefix(charset, "utf16") || charset == "utf32"
}

// sameBytes tells whether the bytes of text in one character set are the same text in another, or the server refuses them there.
func sameBytes(from, to string) bool {
	switch {
	case from == "" || from == to || isUTF8(from) && isUTF8(to):
		return true
	case from == "ascii":
		return !wideCharset(to)
	}
	return from == "ucs2" && to == "utf16"
}

func isUTF8(charset string) bool {
	return charset == "utf8mb4" || charset == "utf8mb3" || charset == "utf8"
}
