package source

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/replication"
)

// Tables reads the definitions of the named tables of a schema, or of all its base tables if names is nil, in name
// order. Views are left out. A table without a usable key has no Primary.Columns: see CheckKeys. Names that
// are no base table are a *MissingTablesError.
func Tables(ctx context.Context, db *sql.DB, schema string, names []string) ([]*replication.Table, error) {
	cat := &catalog{db: db, schema: schema}
	if names != nil {
		cat.names = make(map[string]bool, len(names))
		for _, n := range names {
			cat.names[n] = true
		}
	}
	for _, read := range []func(context.Context) error{cat.readTables, cat.readColumns, cat.readKeys, cat.readForeignKeys, cat.findFamilies} {
		if err := read(ctx); err != nil {
			return nil, mark(ctx, fmt.Errorf("schema %s: %w", schema, err))
		}
	}
	if err := cat.convertMembers(ctx); err != nil {
		return nil, mark(ctx, fmt.Errorf("schema %s: %w", schema, err))
	}
	var missing []string
	for n := range cat.names {
		if cat.byName[n] == nil {
			missing = append(missing, n)
		}
	}
	if missing != nil {
		slices.Sort(missing)
		return nil, &MissingTablesError{Schema: schema, Tables: missing}
	}
	for _, t := range cat.tables {
		t.choose()
	}
	models := make([]*replication.Table, len(cat.tables))
	for i, t := range cat.tables {
		models[i] = &t.Table
	}
	return models, nil
}

// CheckKeys returns a *NoKeyError that lists the tables that have no usable key, or nil.
func CheckKeys(tables []*replication.Table) error {
	var bad []string
	for _, t := range tables {
		if len(t.Primary.Columns) == 0 {
			bad = append(bad, t.Name)
		}
	}
	if bad == nil {
		return nil
	}
	return &NoKeyError{Tables: bad}
}

// A catalog is what is known of a schema while it is read.
type catalog struct {
	db     *sql.DB
	schema string
	// names are the wanted tables; nil: all.
	names  map[string]bool
	tables []*draft
	byName map[string]*draft
}

// A draft is a table that is being read, with its unique keys.
type draft struct {
	replication.Table
	keys []*uniqueKey
}

// A uniqueKey is a unique key of a draft.
type uniqueKey struct {
	replication.Index
	// whole is set if every part is a whole column, notNull if no part can be NULL.
	whole, notNull, visible bool
}

func (c *catalog) readTables(ctx context.Context) error {
	c.byName = make(map[string]*draft)
	rows, err := c.db.QueryContext(ctx, "SELECT TABLE_NAME FROM information_schema.TABLES"+
		" WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE'", c.schema)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		if c.names != nil && !c.names[name] {
			continue
		}
		d := &draft{}
		d.Schema, d.Name = c.schema, name
		c.tables, c.byName[name] = append(c.tables, d), d
	}
	slices.SortFunc(c.tables, func(a, b *draft) int { return cmp.Compare(a.Name, b.Name) })
	return rows.Err()
}

// filter restricts a query to the wanted table if there is just one: reading all is cheaper than many.
func (c *catalog) filter() (string, []any) {
	if len(c.names) == 1 {
		for n := range c.names {
			return " AND TABLE_NAME = ?", []any{c.schema, n}
		}
	}
	return "", []any{c.schema}
}

func (c *catalog) readColumns(ctx context.Context) error {
	where, args := c.filter()
	rows, err := c.db.QueryContext(ctx, "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE,"+
		" IFNULL(CHARACTER_SET_NAME, ''), IFNULL(COLLATION_NAME, ''), IFNULL(CHARACTER_OCTET_LENGTH, 0),"+
		" IFNULL(NUMERIC_PRECISION, 0), IFNULL(DATETIME_PRECISION, 0), EXTRA"+
		" FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ?"+where+" ORDER BY TABLE_NAME, ORDINAL_POSITION", args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var table string
		var f columnFacts
		err := rows.Scan(&table, &f.name, &f.dataType, &f.columnType, &f.nullable, &f.charset, &f.collation,
			&f.octets, &f.precision, &f.fsp, &f.extra)
		if err != nil {
			return err
		}
		if d := c.byName[table]; d != nil {
			d.Columns = append(d.Columns, f.column())
		}
	}
	return rows.Err()
}

func (c *catalog) readKeys(ctx context.Context) error {
	where, args := c.filter()
	rows, err := c.db.QueryContext(ctx, "SELECT TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART, IS_VISIBLE"+
		" FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND NON_UNIQUE = 0"+where+
		" ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX", args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var table, index, visible string
		var column sql.NullString
		var prefix sql.NullInt64
		if err := rows.Scan(&table, &index, &column, &prefix, &visible); err != nil {
			return err
		}
		if d := c.byName[table]; d != nil {
			d.addKeyPart(index, column, prefix.Valid, visible == "YES")
		}
	}
	return rows.Err()
}

// addKeyPart adds a column, or an expression (column is NULL), to a key.
func (d *draft) addKeyPart(index string, column sql.NullString, prefix, visible bool) {
	var k *uniqueKey
	if n := len(d.keys); n > 0 && d.keys[n-1].Name == index {
		k = d.keys[n-1]
	} else {
		k = &uniqueKey{whole: true, notNull: true, visible: visible}
		k.Name, k.Exact = index, true
		d.keys = append(d.keys, k)
	}
	i := slices.IndexFunc(d.Columns, func(c replication.Column) bool { return column.Valid && c.Name == column.String })
	if i < 0 {
		k.whole, k.notNull, k.Exact = false, false, false
		return
	}
	k.Columns = append(k.Columns, i)
	k.whole = k.whole && !prefix
	k.notNull = k.notNull && !d.Columns[i].Nullable
	k.Exact = k.Exact && !prefix && replication.ExactColumn(&d.Columns[i])
}

// choose picks the identifying key: the primary key, or the cheapest unique key over whole NOT NULL columns.
func (d *draft) choose() {
	var best *uniqueKey
	for _, k := range d.keys {
		switch {
		case k.Name == "PRIMARY":
			best = k
		case !k.whole || !k.notNull || !k.visible || best != nil && best.Name == "PRIMARY":
		case best == nil || d.compareKeys(k, best) < 0:
			best = k
		}
	}
	for _, k := range d.keys {
		if k != best {
			d.Unique = append(d.Unique, k.Index)
		}
	}
	if best == nil {
		return
	}
	d.Primary, d.Ordered = best.Index, best.whole
	for _, i := range best.Columns {
		d.Ordered = d.Ordered && replication.OrderedColumn(&d.Columns[i])
	}
}

// compareKeys orders keys as Vitess does: by what their types cost, then by their number of columns.
func (d *draft) compareKeys(a, b *uniqueKey) int {
	cost := func(k *uniqueKey) (sum int) {
		for _, i := range k.Columns {
			sum += typeCost(d.Columns[i].Type)
		}
		return sum
	}
	return cmp.Or(cmp.Compare(cost(a), cost(b)), cmp.Compare(len(a.Columns), len(b.Columns)), strings.Compare(a.Name, b.Name))
}

// typeCosts are those of Vitess, so that both choose the same key.
var typeCosts = map[string]int{
	"enum": 0, "tinyint": 1, "year": 2, "smallint": 3, "date": 4, "mediumint": 5, "time": 6, "int": 7, "set": 8,
	"timestamp": 9, "bigint": 10, "float": 11, "double": 12, "decimal": 13, "datetime": 14, "binary": 30, "char": 31,
	"varbinary": 60, "varchar": 61, "tinyblob": 80, "tinytext": 81,
}

func typeCost(columnType string) int {
	if cost, ok := typeCosts[baseType(columnType)]; ok {
		return cost
	}
	return 1000
}

// baseType is the first word of a column type: "int" of "int unsigned", "enum" of "enum('a')".
func baseType(columnType string) string {
	if i := strings.IndexAny(columnType, " ("); i >= 0 {
		return columnType[:i]
	}
	return columnType
}
