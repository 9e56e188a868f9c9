package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sqltext"
)

// OpenDB opens a pool of connections for the queries of this package: UTC, an sql_mode that changes
// neither quoting nor values. The caller closes it. Errors are those of mysqlconn.Open.
func OpenDB(ctx context.Context, cfg Config) (*sql.DB, error) {
	return mysqlconn.Open(ctx, cfg, mysqlconn.Session{MaxOpen: 4, Variables: map[string]string{
		"time_zone": "'+00:00'", "sql_mode": "'ALLOW_INVALID_DATES'", "sql_quote_show_create": "1",
	}})
}

// TableInfo is what the server says about a table's size. The numbers of InnoDB are estimates.
type TableInfo struct {
	Name, Engine, Collation string
	Rows                    int64
	// AvgRowLength, DataLength and IndexLength are bytes.
	AvgRowLength, DataLength, IndexLength int64
	// AutoIncrement is the next value; 0 if there is none.
	AutoIncrement uint64
	Partitioned   bool
}

// ListTables lists the base tables of a schema in name order.
func ListTables(ctx context.Context, db *sql.DB, schema string) ([]TableInfo, error) {
	list, err := listTables(ctx, db, schema)
	if err != nil {
		return nil, mark(ctx, fmt.Errorf("list the tables of %s: %w", schema, err))
	}
	return list, nil
}

func listTables(ctx context.Context, db *sql.DB, schema string) (list []TableInfo, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// MySQL caches these numbers for a day unless told otherwise.
	if _, err := conn.ExecContext(ctx, "SET SESSION information_schema_stats_expiry = 0"); err != nil {
		return nil, err
	}
	defer func() {
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, rerr := conn.ExecContext(rctx, "SET SESSION information_schema_stats_expiry = DEFAULT")
		if err == nil {
			err = rerr
		}
	}()
	rows, err := conn.QueryContext(ctx, "SELECT TABLE_NAME, IFNULL(ENGINE, ''), IFNULL(TABLE_COLLATION, ''), IFNULL(TABLE_ROWS, 0),"+
		" IFNULL(AVG_ROW_LENGTH, 0), IFNULL(DATA_LENGTH, 0), IFNULL(INDEX_LENGTH, 0), IFNULL(AUTO_INCREMENT, 0),"+
		" IFNULL(CREATE_OPTIONS, '') LIKE '%partitioned%'"+
		" FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE' ORDER BY TABLE_NAME", schema)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var t TableInfo
		err := rows.Scan(&t.Name, &t.Engine, &t.Collation, &t.Rows, &t.AvgRowLength, &t.DataLength, &t.IndexLength,
			&t.AutoIncrement, &t.Partitioned)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, rows.Err()
}

// CreateTable returns the statement that creates a table, as the server prints it. A missing table is a *MissingTablesError.
func CreateTable(ctx context.Context, db *sql.DB, schema, table string) (string, error) {
	missing := &MissingTablesError{Schema: schema, Tables: []string{table}}
	rows, err := db.QueryContext(ctx, "SHOW CREATE TABLE "+sqltext.QualifiedIdent(schema, table))
	if mysqlerr.NotFound(err) {
		return "", missing
	}
	if err != nil {
		return "", mark(ctx, fmt.Errorf("definition of table %s: %w", table, err))
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err == nil && len(columns) != 2 {
		return "", missing // a view has four
	}
	var name, text string
	if err == nil && rows.Next() {
		err = rows.Scan(&name, &text)
	}
	if err = errors.Join(err, rows.Err()); err != nil {
		return "", mark(ctx, fmt.Errorf("definition of table %s: %w", table, err))
	}
	return text, nil
}

// internalTable matches what schema change tools and Vitess leave behind.
var internalTable = regexp.MustCompile(`^(_vt_.+` + // Vitess: tables on their way to being dropped, and what online schema changes make
	`|_.+_(gho|ghc|del)` + // gh-ost: the new table, its log, the old table, all with or without a time before the end
	`|_.+_(new|old)` + // pt-online-schema-change, with one or more _ in front; Vitess's and this module's own renamed tables
	`|_[0-9a-f]{8}(_[0-9a-f]{4}){3}_[0-9a-f]{12}_[0-9]{14}_vrepl)$`) // Vitess before version 19

// InternalTable tells whether a table's name is one that Vitess (_vt_..., _<uuid>_<time>_vrepl), gh-ost (_t_gho, _t_ghc, _t_del) or
// pt-online-schema-change (_t_new, __t_new, _t_old) gives to its own tables, which are not worth moving.
func InternalTable(name string) bool { return internalTable.MatchString(name) }
