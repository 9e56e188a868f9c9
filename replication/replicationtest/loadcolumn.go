package replicationtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// maxLoadKeys is how many of a table's rows a load knows at its start.
const maxLoadKeys = 10000

// loadColumn is a column as far as random values go.
type loadColumn struct {
	name     string // quoted
	dataType string // "varchar"
	fullType string // "varchar(20)", "enum('a','b')"
	charset  string // "" for anything but text
	length   int    // characters or bytes
	digits   int    // of a DECIMAL, before and after the point
	scale    int    // digits after the point
	fraction int    // digits of a second
	unsigned bool
	nullable bool
	key      bool
}

// loadTables reads what is to be written.
func loadTables(ctx context.Context, db *sql.DB, database string, opts LoadOptions) ([]*loadTable, error) {
	names := opts.Tables
	if len(names) == 0 {
		rows, err := db.QueryContext(ctx, `SELECT DISTINCT table_name FROM information_schema.statistics
			WHERE table_schema = ? AND index_name = 'PRIMARY' ORDER BY table_name`, database)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		if err := scanText(rows, func(row []sql.NullString) error {
			names = append(names, row[0].String)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("database %s has no table with a primary key", database)
	}
	var out []*loadTable
	for _, n := range names {
		t, err := readLoadTable(ctx, db, database, n)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", n, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func readLoadTable(ctx context.Context, db *sql.DB, database, table string) (*loadTable, error) {
	t := &loadTable{name: tick(database) + "." + tick(table), index: map[string]int{}, keyMovable: true}
	rows, err := db.QueryContext(ctx, `SELECT column_name, data_type, column_type, character_set_name,
		character_maximum_length, numeric_precision, numeric_scale, datetime_precision, is_nullable, column_key, extra
		FROM information_schema.columns WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position`, database, table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	err = scanText(rows, func(row []sql.NullString) error { return t.addColumn(row) })
	if err != nil {
		return nil, err
	}
	if err := t.markJSON(ctx, db, database, table); err != nil {
		return nil, err
	}
	var keys []loadColumn
	for _, c := range t.columns {
		if c.key {
			keys = append(keys, c)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no such table, or it has no primary key")
	}
	if len(keys) > 1 {
		t.auto = "" // the part of a key that the server counts is given a value like the rest
	}
	return t, t.sample(ctx, db, keys)
}

func (t *loadTable) addColumn(row []sql.NullString) error {
	text := func(i int) string { return strings.ToLower(row[i].String) }
	number := func(i int) int {
		n, err := strconv.ParseInt(row[i].String, 10, 64)
		if err != nil {
			return 0
		}
		return int(n)
	}
	if strings.Contains(text(10), "generated") && !strings.Contains(text(10), "default_generated") {
		return nil
	}
	c := loadColumn{
		name: tick(row[0].String), dataType: text(1), fullType: row[2].String, charset: text(3),
		length: number(4), digits: number(5), scale: number(6), fraction: number(7),
		unsigned: strings.Contains(text(2), "unsigned"), nullable: text(8) == "yes", key: text(9) == "pri",
	}
	if c.random(rand.New(rand.NewPCG(0, 0))) == "" {
		if c.nullable && !c.key {
			return nil
		}
		return fmt.Errorf("column %s: no random values of type %s", c.name, c.fullType)
	}
	if c.key && strings.Contains(text(10), "auto_increment") {
		t.auto = c.name
	}
	if c.key && (c.dataType == "float" || c.dataType == "double" || c.dataType == "json") {
		return fmt.Errorf("column %s: a key of type %s can't be named exactly", c.name, c.fullType)
	}
	t.columns = append(t.columns, c)
	return nil
}

// markJSON finds MariaDB's JSON columns: a LONGTEXT with a constraint.
func (t *loadTable) markJSON(ctx context.Context, db *sql.DB, database, table string) error {
	var version string
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return err
	}
	if !strings.Contains(version, "MariaDB") {
		return nil
	}
	rows, err := db.QueryContext(ctx, `SELECT check_clause FROM information_schema.check_constraints
		WHERE constraint_schema = ? AND table_name = ?`, database, table)
	if err != nil {
		return err
	}
	defer rows.Close()
	return scanText(rows, func(row []sql.NullString) error {
		for i, c := range t.columns {
			if strings.EqualFold(row[0].String, "json_valid("+c.name+")") {
				t.columns[i].dataType = "json"
			}
		}
		return nil
	})
}

// sample reads the keys of up to maxLoadKeys rows from all over the table.
func (t *loadTable) sample(ctx context.Context, db *sql.DB, keys []loadColumn) error {
	var count int64
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+t.name).Scan(&count); err != nil {
		return err
	}
	exprs, names := make([]string, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
		exprs[i] = k.name
		if k.isBytes() || k.isText() {
			exprs[i] = "HEX(" + k.name + ")"
		}
	}
	share := float64(maxLoadKeys) / float64(max(count, 1))
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE RAND(1) < %f ORDER BY %s LIMIT %d",
		strings.Join(exprs, ", "), t.name, share, strings.Join(names, ", "), maxLoadKeys))
	if err != nil {
		return err
	}
	defer rows.Close()
	return scanText(rows, func(row []sql.NullString) error {
		conds := make([]string, len(keys))
		for i, k := range keys {
			conds[i] = k.name + " = " + k.literal(row[i].String)
		}
		t.add(strings.Join(conds, " AND "))
		return nil
	})
}

func (c loadColumn) isText() bool {
	return c.charset != "" && c.dataType != "enum" && c.dataType != "set"
}

func (c loadColumn) isBytes() bool {
	switch c.dataType {
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		return true
	}
	return false
}

// literal makes the SQL text of a sampled value; bytes and text come as hex.
func (c loadColumn) literal(v string) string {
	switch {
	case c.isBytes():
		return "X'" + v + "'"
	case c.isText():
		return "_" + c.charset + " X'" + v + "'"
	case c.dataType == "enum" || c.dataType == "set":
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	}
	if _, err := strconv.ParseFloat(v, 64); err == nil {
		return v
	}
	return "'" + v + "'" // dates and times
}

// random makes the SQL text of a random value, with NULLs where they may be and extremes
// now and then; "" when it can't make any of that type.
func (c loadColumn) random(rng *rand.Rand) string {
	if c.nullable && !c.key && rng.IntN(10) == 0 {
		return "NULL"
	}
	switch c.dataType {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		return c.randomInt(rng)
	case "decimal":
		return c.randomDecimal(rng)
	case "float", "double":
		return strconv.FormatFloat(rng.NormFloat64()*1e6, 'g', -1, 32)
	case "bit":
		return strconv.FormatUint(rng.Uint64()>>(64-max(c.digits, 1)), 10)
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		return c.randomText(rng)
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		b := make([]byte, rng.IntN(min(c.length, 64)+1))
		if c.key && c.dataType == "binary" {
			b = make([]byte, c.length) // as stored: padded values compare unequal to short ones
		}
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return fmt.Sprintf("X'%x'", b)
	case "enum", "set":
		return strconv.Itoa(1 + rng.IntN(1+strings.Count(c.fullType, "','")))
	case "json":
		return fmt.Sprintf(`'{"n": %d, "list": [%d, null, true], "text": "%x"}'`, rng.Int32(), rng.IntN(1000), rng.Uint64())
	}
	return c.randomTime(rng)
}

func (c loadColumn) randomInt(rng *rand.Rand) string {
	bits := map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}[c.dataType]
	limit := uint64(1)<<(bits-1) - 1
	if c.unsigned {
		limit = limit<<1 | 1
	}
	if c.key {
		// Half of what fits: a counter that follows must not hit its end.
		return strconv.FormatUint(1+rng.Uint64N(max(min(limit, 1<<40)/2, 1)), 10)
	}
	switch rng.IntN(20) {
	case 0:
		return strconv.FormatUint(limit, 10)
	case 1:
		if c.unsigned {
			return "0"
		}
		return "-" + strconv.FormatUint(limit+1, 10)
	}
	v := strconv.FormatUint(rng.Uint64()%limit, 10)
	if !c.unsigned && v != "0" && rng.IntN(2) == 0 {
		v = "-" + v
	}
	return v
}

func (c loadColumn) randomDecimal(rng *rand.Rand) string {
	var b strings.Builder
	if !c.unsigned && rng.IntN(2) == 0 {
		b.WriteByte('-')
	}
	b.WriteByte('0')
	for range c.digits - c.scale {
		b.WriteByte(byte('0' + rng.IntN(10)))
	}
	b.WriteString(".0")
	if c.scale > 0 {
		s := b.String()
		b.Reset()
		b.WriteString(strings.TrimSuffix(s, "0"))
		for range c.scale {
			b.WriteByte(byte('0' + rng.IntN(10)))
		}
	}
	return b.String()
}

// randomText makes letters of any case, quotes and spaces, and beyond ASCII where the
// character set has it.
func (c loadColumn) randomText(rng *rand.Rand) string {
	letters := []rune("abcXYZ'\"\\ %_0")
	if strings.HasPrefix(c.charset, "utf8") {
		letters = append(letters, 'ä', 'ß', '日')
	}
	if c.charset == "utf8mb4" {
		letters = append(letters, '🐬')
	}
	n := rng.IntN(min(c.length/4, 40) + 1)
	if c.key {
		letters, n = []rune("abcdefghijklmnop"), min(c.length, 12)
	}
	b := make([]rune, n)
	for i := range b {
		b[i] = letters[rng.IntN(len(letters))]
	}
	if strings.HasPrefix(c.charset, "utf8") {
		return fmt.Sprintf("_utf8mb4 X'%x'", string(b))
	}
	return fmt.Sprintf("_ascii X'%x'", string(b))
}

func (c loadColumn) randomTime(rng *rand.Rand) string {
	fraction := ""
	if c.fraction > 0 {
		fraction = fmt.Sprintf(".%0*d", c.fraction, rng.IntN(pow10(c.fraction)))
	}
	day := fmt.Sprintf("%04d-%02d-%02d", 1971+rng.IntN(66), 1+rng.IntN(12), 1+rng.IntN(28))
	// Noon and later: an hour that no time zone leaves out.
	clock := fmt.Sprintf("%02d:%02d:%02d", 12+rng.IntN(12), rng.IntN(60), rng.IntN(60))
	switch c.dataType {
	case "date":
		return "'" + day + "'"
	case "datetime", "timestamp":
		return "'" + day + " " + clock + fraction + "'"
	case "time":
		return fmt.Sprintf("'%s%d:%02d:%02d%s'", []string{"", "-"}[rng.IntN(2)], rng.IntN(838), rng.IntN(60), rng.IntN(60), fraction)
	case "year":
		return strconv.Itoa(1901 + rng.IntN(254))
	}
	return ""
}

func pow10(n int) int {
	p := 1
	for range n {
		p *= 10
	}
	return p
}

// isNetwork tells whether an error comes from the link rather than from the server.
func isNetwork(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrDeadlineExceeded)
}
