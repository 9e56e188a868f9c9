package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sqltext"
)

// A server is what the checks want to know of a MySQL or MariaDB server.
type server struct {
	addr      string
	version   string
	mariadb   bool
	major     int
	minor     int
	variables map[string]string
	grants    *grants
	// prepared is the number of XA transactions that are prepared, as far as the account may know.
	prepared int
}

// serverVariables are read by inspectServer; a server that does not know one has no entry.
var serverVariables = []string{
	"log_bin", "binlog_format", "binlog_row_image", "binlog_row_value_options", "binlog_order_commits", "gtid_mode", "enforce_gtid_consistency",
	"log_replica_updates", "log_slave_updates", "read_only", "super_read_only", "innodb_native_foreign_keys", "lower_case_table_names",
	"group_replication_group_name", "aurora_version",
}

// inspectServer reads version, settings and the account's privileges.
func inspectServer(ctx context.Context, db *sql.DB, addr string) (*server, error) {
	s := &server{addr: addr, variables: map[string]string{}}
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&s.version); err != nil {
		return nil, fmt.Errorf("version: %w", err)
	}
	s.mariadb = strings.Contains(strings.ToLower(s.version), "mariadb")
	s.major, s.minor = parseVersion(s.version)
	err := queryStrings(ctx, db, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ("+literals(serverVariables)+")", func(v []string) {
		s.variables[strings.ToLower(v[0])] = v[1]
	})
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	lines, err := showGrants(ctx, db, s.mariadb)
	if err != nil {
		return nil, fmt.Errorf("grants: %w", err)
	}
	s.grants = parseGrants(lines)
	const notAllowed = 1401 // XA RECOVER has an error of its own
	err = queryStrings(ctx, db, "XA RECOVER", func([]string) { s.prepared++ })
	if code, _ := mysqlerr.Code(err); err != nil && code != notAllowed && !mysqlerr.AccessDenied(err) {
		return nil, fmt.Errorf("XA transactions: %w", err)
	}
	return s, nil
}

// replicatesOtherwise tells whether the server gets its data by other means than a replication channel.
func (s *server) replicatesOtherwise() bool {
	return s.variables["group_replication_group_name"] != "" || s.variables["aurora_version"] != ""
}

// on tells whether a switch is on; unknown says what to take for a server that does not have it.
func (s *server) on(variable string, unknown bool) bool {
	v, ok := s.variables[variable]
	if !ok {
		return unknown
	}
	return v == "1" || strings.EqualFold(v, "ON") || strings.EqualFold(v, "YES")
}

// atLeast compares the version.
func (s *server) atLeast(major, minor int) bool {
	return s.major > major || s.major == major && s.minor >= minor
}

// logsCascades tells whether the row changes that foreign keys make by themselves are in the binary log.
func (s *server) logsCascades() bool {
	return !s.mariadb && s.atLeast(9, 6) && !s.on("innodb_native_foreign_keys", false)
}

// parseVersion reads "9.7.4-log" or "10.11.18-MariaDB".
func parseVersion(v string) (major, minor int) {
	parts := strings.SplitN(v, ".", 3)
	if len(parts) < 2 {
		return 0, 0
	}
	major, _ = strconv.Atoi(parts[0])
	minor, _ = strconv.Atoi(parts[1])
	return major, minor
}

// showGrants lists the account's privileges, with those of its active roles.
func showGrants(ctx context.Context, db *sql.DB, mariadb bool) ([]string, error) {
	var lines []string
	add := func(v []string) { lines = append(lines, v[0]) }
	if err := queryStrings(ctx, db, "SHOW GRANTS", add); err != nil {
		return nil, err
	}
	var roles sql.NullString
	if err := db.QueryRowContext(ctx, "SELECT CURRENT_ROLE()").Scan(&roles); err != nil {
		return nil, err
	}
	if !roles.Valid || roles.String == "" || roles.String == "NONE" || mariadb {
		// MariaDB prints the grants of the active role with the others.
		return lines, nil
	}
	if err := queryStrings(ctx, db, "SHOW GRANTS FOR CURRENT_USER() USING "+roles.String, add); err != nil {
		return nil, err
	}
	return lines, nil
}

// A table is one table or view of a database.
type table struct {
	name, kind, engine string
	// rows and bytes are estimates; bytes is without secondary keys.
	rows, bytes int64
	create      *createText
}

// listTables reads what is in a database, by name. Rows are fresh estimates.
func listTables(ctx context.Context, db *sql.DB, schema string) (map[string]*table, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// MySQL 8 answers from a cache that may be a day old otherwise. Servers that do not know the variable have no cache.
	_, _ = conn.ExecContext(ctx, "SET SESSION information_schema_stats_expiry = 0")
	tables := map[string]*table{}
	err = queryStrings(ctx, conn, "SELECT TABLE_NAME, TABLE_TYPE, IFNULL(ENGINE, ''), IFNULL(TABLE_ROWS, 0), IFNULL(DATA_LENGTH, 0) FROM information_schema.TABLES"+
		" WHERE TABLE_SCHEMA = "+literal(schema), func(v []string) {
		rows, _ := strconv.ParseInt(v[3], 10, 64)
		bytes, _ := strconv.ParseInt(v[4], 10, 64)
		tables[v[0]] = &table{name: v[0], kind: v[1], engine: v[2], rows: rows, bytes: bytes}
	})
	return tables, err
}

// readCreate reads the table's definition.
func readCreate(ctx context.Context, db *sql.DB, schema string, t *table) error {
	err := queryStrings(ctx, db, "SHOW CREATE TABLE "+ident(schema)+"."+ident(t.name), func(v []string) {
		if len(v) > 1 {
			t.create = &createText{head: v[1]}
		}
	})
	if err != nil {
		return err
	}
	if t.create == nil {
		return fmt.Errorf("table %s: no definition", t.name)
	}
	t.create, err = parseCreate(t.create.head)
	return err
}

// databaseExists tells whether the account sees the database.
func databaseExists(ctx context.Context, db *sql.DB, schema string) (bool, error) {
	found := false
	err := queryStrings(ctx, db, "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = "+literal(schema), func([]string) { found = true })
	return found, err
}

// A shape is what has to be equal in two tables of the same name: the columns in order, and the keys.
type shape struct {
	columns []string
	keys    map[string]string
	// names are those of the columns, parts what the texts of keys are made of.
	names []string
	parts map[string]*keyShape
}

// A keyShape is a key of a shape.
type keyShape struct {
	kind    string
	columns []keyPart
}

// A keyPart is one part of a key: a column, with a length or without, or an expression.
type keyPart struct {
	name, prefix string
	expression   bool
}

// shapes reads columns and keys of the tables of a database. With mariadb and MySQL, and with different versions, the
// same type is printed in different ways; what does not matter is left out.
func shapes(ctx context.Context, db *sql.DB, schema string, names []string) (map[string]*shape, error) {
	out := map[string]*shape{}
	if len(names) == 0 {
		return out, nil
	}
	where := " WHERE TABLE_SCHEMA = " + literal(schema) + " AND TABLE_NAME IN (" + literals(names) + ")"
	err := queryStrings(ctx, db, "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, IFNULL(CHARACTER_SET_NAME, ''), IFNULL(COLLATION_NAME, ''),"+
		" EXTRA FROM information_schema.COLUMNS"+where+" ORDER BY TABLE_NAME, ORDINAL_POSITION", func(v []string) {
		s := out[v[0]]
		if s == nil {
			s = &shape{keys: map[string]string{}, parts: map[string]*keyShape{}}
			out[v[0]] = s
		}
		s.names = append(s.names, v[1])
		s.columns = append(s.columns, columnShape(v[1:]))
	})
	if err != nil {
		return nil, err
	}
	err = queryStrings(ctx, db, "SELECT TABLE_NAME, INDEX_NAME, NON_UNIQUE, IFNULL(COLUMN_NAME, '(expression)'), IFNULL(SUB_PART, ''), INDEX_TYPE"+
		" FROM information_schema.STATISTICS"+where+" ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX", func(v []string) {
		s := out[v[0]]
		if s == nil {
			return
		}
		if s.keys[v[1]] == "" {
			s.keys[v[1]] = map[string]string{"0": "unique "}[v[2]] + strings.ToLower(v[5]) + ":"
		}
		if s.parts[v[1]] == nil {
			s.parts[v[1]] = &keyShape{kind: s.keys[v[1]]}
		}
		part := keyPart{name: v[3], expression: v[3] == "(expression)"}
		if v[4] != "" {
			part.prefix = "(" + v[4] + ")"
		}
		s.parts[v[1]].columns = append(s.parts[v[1]].columns, part)
		s.keys[v[1]] += " " + part.name + part.prefix
	})
	return out, err
}

// columnShape is a column as one comparable text.
func columnShape(v []string) string {
	name, typ, nullable, charset, collation, extra := v[0], strings.ToLower(v[1]), v[2], v[3], v[4], strings.ToLower(v[5])
	// The display width of integers was dropped in MySQL 8.0.19; tinyint(1) is still printed with it.
	for _, integer := range []string{"tinyint", "smallint", "mediumint", "int", "bigint", "year"} {
		if rest, ok := strings.CutPrefix(typ, integer+"("); ok {
			if _, after, ok := strings.Cut(rest, ")"); ok {
				typ = integer + after
			}
		}
	}
	parts := []string{ident(name), typ}
	if charset != "" {
		parts = append(parts, strings.Replace(charset, "utf8mb3", "utf8", 1), strings.Replace(collation, "utf8mb3", "utf8", 1))
	}
	if nullable == "NO" {
		parts = append(parts, "not null")
	}
	for _, word := range []string{"auto_increment", "virtual generated", "stored generated"} {
		if strings.Contains(extra, word) {
			parts = append(parts, word)
		}
	}
	return strings.Join(parts, " ")
}

// difference says where two shapes differ; empty if they do not.
func difference(source, target *shape) string {
	var diffs []string
	for i := range max(len(source.columns), len(target.columns)) {
		switch {
		case i >= len(target.columns):
			diffs = append(diffs, "column "+source.columns[i]+" is missing")
		case i >= len(source.columns):
			diffs = append(diffs, "column "+target.columns[i]+" is not in the source")
		case source.columns[i] != target.columns[i]:
			diffs = append(diffs, "column "+target.columns[i]+" is "+source.columns[i]+" in the source")
		}
	}
	for _, name := range sortedKeys(source.keys) {
		switch have, ok := target.keys[name]; {
		case !ok:
			diffs = append(diffs, "key "+ident(name)+" is missing")
		case have != source.keys[name]:
			diffs = append(diffs, "key "+ident(name)+" is "+have+", in the source "+source.keys[name])
		}
	}
	for _, name := range sortedKeys(target.keys) {
		if _, ok := source.keys[name]; !ok {
			diffs = append(diffs, "key "+ident(name)+" is not in the source")
		}
	}
	return strings.Join(diffs, "; ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// A queryer is a pool, a connection or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// queryStrings calls each for every row, NULL being "".
func queryStrings(ctx context.Context, q queryer, query string, each func([]string)) error {
	return queryColumns(ctx, q, query, func(_, values []string) { each(values) })
}

// queryColumns is queryStrings with the names of the columns.
func queryColumns(ctx context.Context, q queryer, query string, each func(columns, values []string)) error {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	raw := make([]sql.RawBytes, len(columns))
	into := make([]any, len(columns))
	for i := range raw {
		into[i] = &raw[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		values := make([]string, len(raw))
		for i, v := range raw {
			values[i] = string(v)
		}
		each(columns, values)
	}
	return rows.Err()
}

// literal quotes a text, literals a list of them.
func literal(s string) string { return sqltext.String(s) }

func literals(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = literal(s)
	}
	return strings.Join(quoted, ", ")
}
