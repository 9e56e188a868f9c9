package source

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/replication"
)

// logsCascades tells whether a server logs the row changes that foreign keys make by themselves: MySQL does since 9.6, unless it was
// started with innodb_native_foreign_keys=ON (native).
func logsCascades(version, native string) bool {
	major, minor := versionNumbers(version)
	return !strings.Contains(version, "MariaDB") && (major > 9 || major == 9 && minor >= 6) && !isOn(native)
}

func readLogsCascades(ctx context.Context, db *sql.DB) (bool, error) {
	var version, name, native string
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return false, err
	}
	err := db.QueryRowContext(ctx, "SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'").Scan(&name, &native)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return logsCascades(version, native), err
}

// actions are what information_schema calls them; all others do nothing to rows.
var actions = map[string]replication.Action{"CASCADE": replication.ActionCascade, "SET NULL": replication.ActionSetNull}

// readForeignKeys reads the tables' foreign keys, in the order of their names.
func (c *catalog) readForeignKeys(ctx context.Context) error {
	rows, err := c.db.QueryContext(ctx, "SELECT k.TABLE_NAME, k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME,"+
		" k.REFERENCED_COLUMN_NAME, r.DELETE_RULE, r.UPDATE_RULE"+
		" FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r"+
		" ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.TABLE_NAME = k.TABLE_NAME AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME"+
		" WHERE k.TABLE_SCHEMA = ? AND k.REFERENCED_TABLE_NAME IS NOT NULL ORDER BY k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION", c.schema)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var table, name, column, schema, parent, parentColumn, onDelete, onUpdate string
		if err := rows.Scan(&table, &name, &column, &schema, &parent, &parentColumn, &onDelete, &onUpdate); err != nil {
			return err
		}
		d := c.byName[table]
		if d == nil {
			continue
		}
		if schema == c.schema {
			schema = ""
		}
		i := slices.IndexFunc(d.Columns, func(c replication.Column) bool { return c.Name == column })
		if i < 0 {
			continue // it has just been changed
		}
		if n := len(d.ForeignKeys); n == 0 || d.ForeignKeys[n-1].Name != name {
			d.ForeignKeys = append(d.ForeignKeys, replication.ForeignKey{
				Name: name, ParentSchema: schema, Parent: parent, OnDelete: actions[onDelete], OnUpdate: actions[onUpdate],
			})
		}
		fk := &d.ForeignKeys[len(d.ForeignKeys)-1]
		fk.Columns, fk.ParentColumns = append(fk.Columns, i), append(fk.ParentColumns, parentColumn)
	}
	return rows.Err()
}

// findFamilies names the sets of tables that foreign keys tie together, where one of these changes rows by itself and the
// server does not log that.
func (c *catalog) findFamilies(ctx context.Context) error {
	acts := make(map[string]bool)
	head := make(map[string]string)
	find := func(name string) string {
		for head[name] != "" && head[name] != name {
			name = head[name]
		}
		return name
	}
	for _, t := range c.tables {
		for _, fk := range t.ForeignKeys {
			if fk.OnDelete != replication.ActionNone || fk.OnUpdate != replication.ActionNone {
				acts[t.Name] = true
			}
			if a, b := find(t.Name), find(fk.Parent); fk.ParentSchema == "" && a != b {
				head[max(a, b)] = min(a, b)
			}
		}
	}
	if len(acts) == 0 {
		return nil
	}
	logged, err := readLogsCascades(ctx, c.db)
	if err != nil || logged {
		return err
	}
	families := make(map[string]bool)
	for name := range acts {
		families[find(name)] = true
	}
	for _, t := range c.tables {
		if family := find(t.Name); families[family] {
			t.Family = family
		}
	}
	return nil
}

// changesForeignKeys matches statements that may give tables other foreign keys.
var changesForeignKeys = regexp.MustCompile(`(?is)\balter\b.*\btable\b.*\b(references|foreign\s+key|drop\s+constraint)\b`)
