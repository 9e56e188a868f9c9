package source

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/tablehaul/tablehaul/replication"
)

// columnFacts are a row of information_schema.COLUMNS.
type columnFacts struct {
	name, dataType, columnType, nullable string
	charset, collation                   string
	octets, precision, fsp               uint64
	extra                                string
}

// kinds are the kinds of the types that need no look at anything else.
var kinds = map[string]replication.Kind{
	"tinyint": replication.KindInt, "smallint": replication.KindInt, "mediumint": replication.KindInt,
	"int": replication.KindInt, "bigint": replication.KindInt,
	"decimal": replication.KindDecimal, "float": replication.KindFloat, "double": replication.KindDouble,
	"year": replication.KindYear, "date": replication.KindDate, "time": replication.KindTime,
	"datetime": replication.KindDatetime, "timestamp": replication.KindTimestamp,
	"bit": replication.KindBit, "enum": replication.KindEnum, "set": replication.KindSet,
	"char": replication.KindText, "varchar": replication.KindText, "tinytext": replication.KindText,
	"text": replication.KindText, "mediumtext": replication.KindText, "longtext": replication.KindText,
	"binary": replication.KindBinary, "varbinary": replication.KindBlob, "tinyblob": replication.KindBlob,
	"blob": replication.KindBlob, "mediumblob": replication.KindBlob, "longblob": replication.KindBlob,
	"json": replication.KindJSON, "vector": replication.KindVector,
	"geometry": replication.KindGeometry, "point": replication.KindGeometry, "linestring": replication.KindGeometry,
	"polygon": replication.KindGeometry, "multipoint": replication.KindGeometry,
	"multilinestring": replication.KindGeometry, "multipolygon": replication.KindGeometry,
	"geomcollection": replication.KindGeometry, "geometrycollection": replication.KindGeometry,
}

// column makes the model of a column.
func (f *columnFacts) column() replication.Column {
	c := replication.Column{
		Name: f.name, Kind: kinds[strings.ToLower(f.dataType)], Type: f.columnType,
		Nullable: f.nullable == "YES", Unsigned: attribute(f.columnType, "unsigned"),
		Generated: strings.Contains(f.extra, "VIRTUAL GENERATED") || strings.Contains(f.extra, "STORED GENERATED"),
	}
	switch c.Kind {
	case replication.KindInt:
		if c.Unsigned {
			c.Kind = replication.KindUint
		}
	case replication.KindBinary:
		c.Length = int(f.octets)
	case replication.KindBit:
		c.Length = int(f.precision)
	case replication.KindTime, replication.KindDatetime, replication.KindTimestamp:
		c.Fsp = int(f.fsp)
	case replication.KindText, replication.KindEnum, replication.KindSet:
		c.Charset, c.Collation = f.charset, f.collation
	}
	if c.Kind == replication.KindEnum || c.Kind == replication.KindSet {
		c.Members = parseMembers(f.columnType)
	}
	return c
}

// attribute tells whether a column type such as "int(10) unsigned zerofill" has the attribute. It does not look into
// the members of an ENUM.
func attribute(columnType, name string) bool {
	_, rest, found := strings.Cut(columnType, ")")
	if !found {
		rest = columnType
	}
	if strings.HasPrefix(columnType, "enum(") || strings.HasPrefix(columnType, "set(") {
		return false
	}
	for word := range strings.FieldsSeq(rest) {
		if word == name {
			return true
		}
	}
	return false
}

// parseMembers reads the members of "enum('a','b”c')" or "set(...)".
func parseMembers(columnType string) []string {
	var members []string
	var b strings.Builder
	in := false
	for i := 0; i < len(columnType); i++ {
		c := columnType[i]
		switch {
		case !in:
			in = c == '\''
		case c == '\'' && i+1 < len(columnType) && columnType[i+1] == '\'':
			b.WriteByte(c)
			i++
		case c == '\'':
			members = append(members, b.String())
			b.Reset()
			in = false
		case c == '\\' && i+1 < len(columnType):
			i++
			b.WriteByte(unescape(columnType[i]))
		default:
			b.WriteByte(c)
		}
	}
	return members
}

func unescape(c byte) byte {
	switch c {
	case '0':
		return 0
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	}
	return c
}

// convertMembers turns the members of ENUM and SET columns, which the catalog has in UTF-8, into the bytes that
// they have in the column's character set.
func (c *catalog) convertMembers(ctx context.Context) error {
	for _, d := range c.tables {
		for i := range d.Columns {
			if err := c.convertColumn(ctx, &d.Columns[i]); err != nil {
				return fmt.Errorf("table %s, column %s: %w", d.Name, d.Columns[i].Name, err)
			}
		}
	}
	return nil
}

func (c *catalog) convertColumn(ctx context.Context, col *replication.Column) error {
	switch col.Charset {
	case "", "utf8mb4", "utf8mb3", "utf8", "ascii", "binary":
		return nil
	}
	wide := strings.HasPrefix(col.Charset, "ucs") || strings.HasPrefix(col.Charset, "utf")
	for i, m := range col.Members {
		if !wide && isASCII(m) {
			continue
		}
		var coded string
		query := fmt.Sprintf("SELECT HEX(CONVERT(_utf8mb4 x'%x' USING %s))", m, col.Charset)
		if err := c.db.QueryRowContext(ctx, query).Scan(&coded); err != nil {
			return err
		}
		raw, err := hex.DecodeString(coded)
		if err != nil {
			return err
		}
		col.Members[i] = string(raw)
	}
	return nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
