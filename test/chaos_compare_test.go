package test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// comparePart compares what has been copied of the tables so far, while the copy may go on: the source is at rest, and the
// target is read in one snapshot together with the record of what has been copied. What the spans mean is left to the
// servers' own order. It is true for every moment at which the target has all that the source has:
//
//   - a row of the target is as the source has it;
//   - a row of the source in a span that was copied is on the target;
//   - where the library knows the key's order, there is no row outside of the spans.
func comparePart(ctx context.Context, t *testing.T, src, dst *sql.DB, dstDB string, tables []chaosTable) (rows int, err error) {
	t.Helper()
	tx, err := dst.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }()
	from, err := src.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	for _, c := range []interface {
		ExecContext(context.Context, string, ...any) (sql.Result, error)
	}{tx, from} {
		if _, err := c.ExecContext(ctx, "SET time_zone='+00:00', sql_mode=''"); err != nil {
			return 0, err
		}
	}
	for _, table := range tables {
		n, err := compareSpans(ctx, from, tx, dstDB, table.name)
		rows += n
		if err != nil {
			return rows, fmt.Errorf("table %s: %w", table.name, err)
		}
	}
	return rows, nil
}

// queryer is a connection or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func compareSpans(ctx context.Context, src, dst queryer, dstDB, table string) (int, error) {
	spans, err := lines(ctx, dst, "SELECT lo, hi FROM _tablehaul.copy_state WHERE table_name=?", table)
	if err != nil {
		return 0, err
	}
	columns, err := lines(ctx, src, `SELECT column_name, data_type, IFNULL(collation_name,''), IFNULL(character_set_name,'') FROM information_schema.columns
		WHERE table_schema=? AND table_name=? ORDER BY ordinal_position`, srcDB, table)
	if err != nil {
		return 0, err
	}
	key, err := lines(ctx, src, `SELECT column_name FROM information_schema.statistics WHERE table_schema=? AND table_name=?
		AND index_name = (SELECT index_name FROM information_schema.statistics WHERE table_schema=? AND table_name=? AND non_unique=0
			ORDER BY index_name<>'PRIMARY', index_name<>'identity' LIMIT 1) ORDER BY seq_in_index`, srcDB, table, srcDB, table)
	if err != nil {
		return 0, err
	}
	k := spanKey{}
	for _, name := range key {
		i := slices.IndexFunc(columns, func(c []sql.NullString) bool { return c[0] == name[0] })
		k.columns = append(k.columns, columns[i])
	}
	covered, err := k.covered(spans)
	if err != nil {
		return 0, err
	}
	exprs := make([]string, len(columns))
	for i, c := range columns {
		exprs[i] = hexed(c[0].String, c[1].String)
	}
	q := func(db, flag string) string {
		return fmt.Sprintf("SELECT CONCAT_WS(',', IFNULL(%s, 'NULL')), %s FROM %s.%s", strings.Join(exprs, ", 'NULL'), IFNULL("), flag, db, table)
	}
	want, err := lines(ctx, src, q(srcDB, covered))
	if err != nil {
		return 0, err
	}
	have, err := lines(ctx, dst, q(dstDB, covered))
	if err != nil {
		return 0, err
	}
	there := make(map[string]bool, len(have))
	for _, r := range have {
		there[r[0].String] = r[1].String == "1"
	}
	known := make(map[string]bool, len(want))
	for _, r := range want {
		known[r[0].String] = true
		if _, ok := there[r[0].String]; r[1].String == "1" && !ok {
			return len(have), fmt.Errorf("the target misses %s, whose span was copied (%d spans)", r[0].String, len(spans))
		}
	}
	for _, r := range have {
		switch {
		case !known[r[0].String]:
			return len(have), fmt.Errorf("the target has %s, the source has not", r[0].String)
		case r[1].String != "1" && k.ordered():
			return len(have), fmt.Errorf("the target has %s, which was not copied (%d spans)", r[0].String, len(spans))
		}
	}
	return len(have), nil
}

// hexed shows a value in full.
func hexed(column, dataType string) string {
	switch dataType {
	case "float":
		return "HEX(CAST(" + column + " AS DOUBLE))"
	case "double", "decimal", "json", "date", "datetime", "timestamp", "time", "year", "int", "bigint", "smallint", "tinyint":
		return "HEX(CAST(" + column + " AS CHAR))"
	case "bit", "enum", "set":
		return "HEX(" + column + "+0)"
	}
	return "HEX(" + column + ")"
}

// spanKey is a table's key, each column with type, collation and character set.
type spanKey struct{ columns [][]sql.NullString }

// ordered tells whether the library can compare such keys: no column has a collation but a binary one.
func (k spanKey) ordered() bool {
	return !slices.ContainsFunc(k.columns, func(c []sql.NullString) bool {
		return c[2].String != "" && !strings.HasSuffix(c[2].String, "_bin")
	})
}

// covered is an SQL condition, 0 or 1: the key is in one of the spans.
func (k spanKey) covered(spans [][]sql.NullString) (string, error) {
	if len(spans) == 0 {
		return "0", nil
	}
	var conds []string
	for _, s := range spans {
		cond := []string{"1"}
		for i, op := range []string{">", "<="} {
			if !s[i].Valid {
				continue
			}
			bound, err := k.bound([]byte(s[i].String), op)
			if err != nil {
				return "", err
			}
			cond = append(cond, bound)
		}
		conds = append(conds, "("+strings.Join(cond, " AND ")+")")
	}
	return "(" + strings.Join(conds, " OR ") + ")", nil
}

// bound is (a, b) > (x, y) for the packed values of a key, each a length byte and the value, as short keys are.
func (k spanKey) bound(packed []byte, op string) (string, error) {
	var names, values []string
	for _, c := range k.columns {
		if len(packed) == 0 || packed[0] > 250 || int(packed[0]) >= len(packed) {
			return "", fmt.Errorf("packed key %x", packed)
		}
		v := packed[1 : 1+packed[0]]
		packed = packed[1+packed[0]:]
		names = append(names, c[0].String)
		switch c[1].String {
		case "binary", "varbinary":
			values = append(values, fmt.Sprintf("x'%x'", v))
		case "char", "varchar":
			values = append(values, fmt.Sprintf("_%s x'%x' COLLATE %s", c[3].String, v, c[2].String))
		case "datetime":
			values = append(values, fmt.Sprintf("TIMESTAMP'%s'", v))
		default:
			values = append(values, string(v))
		}
	}
	return fmt.Sprintf("(%s) %s (%s)", strings.Join(names, ", "), op, strings.Join(values, ", ")), nil
}

// lines reads all rows of a query as text.
func lines(ctx context.Context, db queryer, query string, args ...any) ([][]sql.NullString, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%.200s: %w", query, err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out [][]sql.NullString
	for rows.Next() {
		row, dest := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range row {
			dest[i] = &row[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, rows.Err()
}
