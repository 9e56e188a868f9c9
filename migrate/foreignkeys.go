package migrate

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/replication"
)

// A foreignKey is a foreign key as a database has it.
type foreignKey struct {
	schema, table, name   string
	parentSchema, parent  string
	columns, parentColumn []string
	rules                 string
}

// text is what has to be equal on both ends; the names of foreign keys may differ.
func (fk *foreignKey) text() string {
	return fmt.Sprintf("(%s) REFERENCES %s (%s) %s", strings.Join(fk.columns, ", "), ident(fk.parent), strings.Join(fk.parentColumn, ", "), fk.rules)
}

// listForeignKeys reads the foreign keys of a database's tables, and those that reference them.
func listForeignKeys(ctx context.Context, db *sql.DB, schema string) ([]*foreignKey, error) {
	var list []*foreignKey
	err := queryStrings(ctx, db, "SELECT k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME,"+
		" k.COLUMN_NAME, k.REFERENCED_COLUMN_NAME, r.DELETE_RULE, r.UPDATE_RULE"+
		" FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r"+
		" ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.TABLE_NAME = k.TABLE_NAME AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME"+
		" WHERE (k.TABLE_SCHEMA = "+literal(schema)+" OR k.REFERENCED_TABLE_SCHEMA = "+literal(schema)+") AND k.REFERENCED_TABLE_NAME IS NOT NULL"+
		" ORDER BY k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION", func(v []string) {
		n := len(list)
		if n == 0 || list[n-1].schema != v[0] || list[n-1].table != v[1] || list[n-1].name != v[2] {
			// RESTRICT and NO ACTION are the same to InnoDB.
			rules := strings.ReplaceAll("ON DELETE "+v[7]+" ON UPDATE "+v[8], "RESTRICT", "NO ACTION")
			list = append(list, &foreignKey{schema: v[0], table: v[1], name: v[2], parentSchema: v[3], parent: v[4], rules: rules})
			n++
		}
		fk := list[n-1]
		fk.columns, fk.parentColumn = append(fk.columns, ident(v[5])), append(fk.parentColumn, ident(v[6]))
	})
	return list, err
}

// unlogged tells whether foreign keys of the selected tables change rows, and the source does not log that.
func (s *sourceState) unlogged() bool {
	return slices.ContainsFunc(s.models, func(m *replication.Table) bool { return m.Family != "" })
}

// checkForeignKeys looks at where a table's foreign keys lead to.
func checkForeignKeys(fs *findings, o CreateOptions, s *sourceState, t *table) {
	for _, fk := range t.create.kinds(defForeignKey) {
		add := func(message, fix string) {
			fs.add(Finding{Code: CodeForeignKey, Side: SideSource, Server: s.server.addr, Object: t.name, Message: message, Fix: fix})
		}
		what := fmt.Sprintf("foreign key %s of table %s", ident(fk.name), ident(t.name))
		outside := ""
		switch {
		case fk.refSchema != "" && fk.refSchema != s.schema:
			outside = fmt.Sprintf("%s references the database %s", what, ident(fk.refSchema))
		case !slices.Contains(s.selected, fk.refTable):
			outside = fmt.Sprintf("%s references %s, which is not moved", what, ident(fk.refTable))
		}
		acts := fk.cascades && !s.server.logsCascades()
		switch {
		case outside != "" && acts:
			add(outside+", and changes rows by itself, which MySQL "+s.server.version+" does not log", "move that table too, or leave this one out")
		case outside != "" && !o.DropForeignKeys:
			add(outside, "move that table too, or set DropForeignKeys")
		case acts && o.DropForeignKeys:
			add(fmt.Sprintf("%s changes rows by itself, which MySQL %s does not log: the target needs it to do the same", what, s.server.version),
				"leave DropForeignKeys out, and drop the foreign keys after Complete")
		}
	}
}

// checkCascades names the foreign keys whose changes can be known neither from the log nor by doing the same on the target.
func checkCascades(fs *findings, o CreateOptions, s *sourceState, copyBytes int) {
	add := func(object, message string) {
		fs.add(Finding{
			Code: CodeForeignKey, Side: SideSource, Server: s.server.addr, Object: object, Message: message,
			Fix: "use MySQL 9.6 or later as source, give the foreign key ON DELETE and ON UPDATE NO ACTION, or leave the table out",
		})
	}
	if !s.unlogged() || o.DropForeignKeys {
		return
	}
	cause := fmt.Sprintf("changes rows by itself, which MySQL %s does not log, and ", s.server.version)
	for _, e := range replication.CheckCascades(s.models) {
		if fk := s.foreignKey(e.Table, e.ForeignKey); fk == nil || fk.ParentSchema != "" || !slices.Contains(s.selected, fk.Parent) {
			continue // checkForeignKeys has said it
		}
		add(e.Table, fmt.Sprintf("foreign key %s of table %s %s%s", ident(e.ForeignKey), ident(e.Table), cause, e.What))
	}
	for _, m := range s.models {
		for _, fk := range m.ForeignKeys {
			acts := fk.OnDelete != replication.ActionNone || fk.OnUpdate != replication.ActionNone
			// Half of the bound, since the size is an estimate, and what is copied is text.
			if t := s.tables[m.Name]; acts && fk.ParentSchema == "" && fk.Parent == m.Name && t.bytes > int64(copyBytes)/2 {
				add(m.Name, fmt.Sprintf("foreign key %s of table %s %sthe table has about %d MiB: one that references itself has to be copied at once, in %d MiB of memory (Options.Stream.CopyBytes)",
					ident(fk.Name), ident(m.Name), cause, t.bytes>>20, copyBytes>>20))
			}
		}
	}
}

// copyBytes is the memory for chunks of one stream; by default a little less than the engine's.
func (m *Migrator) copyBytes() int {
	return cmp.Or(m.opts.Stream.CopyBytes, 12<<20)
}

func (s *sourceState) foreignKey(table, name string) *replication.ForeignKey {
	for _, m := range s.models {
		for i := range m.ForeignKeys {
			if m.Name == table && m.ForeignKeys[i].Name == name {
				return &m.ForeignKeys[i]
			}
		}
	}
	return nil
}

// checkTargetForeignKeys looks at the foreign keys of target tables that are there already. They do nothing while rows are
// written, unless the source does not log what its own do.
func checkTargetForeignKeys(fs *findings, o CreateOptions, s *sourceState, t *targetState) {
	add := func(object, message, fix string) {
		fs.add(Finding{Code: CodeForeignKey, Side: SideTarget, Server: t.server.addr, Object: object, Message: message, Fix: fix})
	}
	have := map[string][]string{}
	for _, fk := range t.foreignKeys {
		what := fmt.Sprintf("foreign key %s of table %s.%s on the target", ident(fk.name), ident(fk.schema), ident(fk.table))
		mine := fk.schema == t.schema && slices.Contains(s.selected, fk.table)
		toMine := fk.parentSchema == t.schema && slices.Contains(s.selected, fk.parent)
		switch {
		case mine && o.DropForeignKeys:
			add(fk.table, what+" is there already", "drop it, or leave DropForeignKeys out")
		case mine:
			have[fk.table] = append(have[fk.table], fk.text())
		case toMine && s.unlogged():
			add(fk.parent, what+fmt.Sprintf(" references table %s: it would act while rows are written", ident(fk.parent)), "drop it until Complete")
		}
	}
	if !s.unlogged() || o.DropForeignKeys {
		return
	}
	checkFollows(fs, s, t)
	for _, m := range s.models {
		if t.tables[m.Name] == nil || m.Family == "" {
			continue
		}
		var want []string
		for _, fk := range s.foreignKeys {
			if fk.schema == s.schema && fk.table == m.Name {
				want = append(want, fk.text())
			}
		}
		slices.Sort(want)
		slices.Sort(have[m.Name])
		if !slices.Equal(want, have[m.Name]) {
			add(m.Name, fmt.Sprintf("table %s on the target has other foreign keys than the source's, which change rows by themselves and don't log it", ident(m.Name)),
				"drop the table, or give it the same foreign keys")
		}
	}
}

// checkFollows names the foreign keys whose changes the target can't be trusted to make in its turn. A server that does foreign keys
// above its storage engine (MySQL 9.6 and later) leaves a parent's row as it was, without a word, if the update changes
// only how a text is spelled ('A' to 'a') and a child has that spelling already; and in a table that references itself it gives up
// after a few rows (error 6575). Both were measured on 9.7.
func checkFollows(fs *findings, s *sourceState, t *targetState) {
	if !t.server.logsCascades() {
		return
	}
	for _, m := range s.models {
		for _, fk := range m.ForeignKeys {
			add := func(what, fix string) {
				fs.add(Finding{
					Code: CodeForeignKey, Side: SideTarget, Server: t.server.addr, Object: m.Name,
					Message: fmt.Sprintf("foreign key %s of table %s changes rows by itself, which MySQL %s does not log, and MySQL %s can't follow: %s",
						ident(fk.Name), ident(m.Name), s.server.version, t.server.version, what),
					Fix: "use MySQL 9.6 or later as source or an older one as target, " + fix + ", or leave the table out",
				})
			}
			acts := fk.OnDelete != replication.ActionNone || fk.OnUpdate != replication.ActionNone
			collated := slices.ContainsFunc(fk.Columns, func(c int) bool { return !replication.ExactColumn(&m.Columns[c]) })
			switch {
			case m.Family == "" || fk.ParentSchema != "":
			case acts && fk.Parent == m.Name:
				add("it references its own table, where the target gives up after a few rows", "give the foreign key ON DELETE and ON UPDATE NO ACTION")
			case collated && fk.OnUpdate == replication.ActionCascade:
				add("an update may change only the spelling of a text, which the target does not always do", "give the columns a binary collation or the foreign key ON UPDATE NO ACTION")
			}
		}
	}
}

// createTable creates a table. Servers refuse foreign keys that reference columns without a unique key, but for sessions that say
// otherwise; older ones allow them all.
func createTable(ctx context.Context, db *sql.DB, statement string) error {
	const notUnique = 6125
	_, err := db.ExecContext(ctx, statement)
	if code, _ := mysqlerr.Code(err); code != notUnique {
		return err
	}
	conn, cerr := db.Conn(ctx)
	if cerr != nil {
		return cerr
	}
	defer conn.Close()
	if _, serr := conn.ExecContext(ctx, "SET SESSION restrict_fk_on_non_standard_key = OFF"); serr != nil {
		return fmt.Errorf("%w; and it can't be allowed: %w", err, serr)
	}
	_, err = conn.ExecContext(ctx, statement)
	if _, serr := conn.ExecContext(ctx, "SET SESSION restrict_fk_on_non_standard_key = DEFAULT"); err == nil {
		err = serr
	}
	return err
}
