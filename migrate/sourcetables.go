package migrate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/topo"
)

// sourceSteps are what happens to the tables at the source.
func (f *completion) sourceSteps() []Step {
	var steps []Step
	for _, src := range f.sources {
		for _, name := range f.sourceTables() {
			from := ident(src.cfg.Database) + "." + ident(name)
			switch f.ending.SourceTables {
			case KeepSourceTables:
			case RenameSourceTables:
				to := ident(src.cfg.Database) + "." + ident(renamed(name))
				steps = append(steps, Step{Kind: StepRenameSource, Shard: src.shard, Object: name, SQL: "RENAME TABLE " + from + " TO " + to})
			case DropSourceTables:
				steps = append(steps, Step{Kind: StepDropSource, Shard: src.shard, Object: name, SQL: "DROP TABLE " + from})
			}
		}
	}
	return steps
}

// sourceStep renames or drops one table; one that is gone was done by an earlier call.
func (f *completion) sourceStep(ctx context.Context, s Step) (string, error) {
	i := slices.IndexFunc(f.sources, func(src *sourceShard) bool { return src.shard == s.Shard })
	src := f.sources[i]
	// A foreign key between two tables that both go is no reason to keep one; preflight has refused others.
	db, err := f.m.pools.db(ctx, src.cfg, sourcePurpose(s.Kind))
	if err != nil {
		return "", err
	}
	if _, err := db.ExecContext(ctx, s.SQL); err != nil {
		if mysqlerr.NotFound(err) || f.again && goneAtSource(ctx, src, s.Object) {
			return "", nil
		}
		return "", err
	}
	if s.Kind == StepDropSource {
		return "dropped source table " + s.Object, nil
	}
	return fmt.Sprintf("renamed source table %s to %s", s.Object, renamed(s.Object)), nil
}

// sourcePurpose says with which session a table of the source is changed: foreign keys follow a rename only while
// they are checked.
func sourcePurpose(k StepKind) purpose {
	if k == StepDropSource {
		return forSchema
	}
	return forAdmin
}

func goneAtSource(ctx context.Context, src *sourceShard, name string) bool {
	tables, err := listTables(ctx, src.admin, src.cfg.Database)
	return err == nil && tables[name] == nil
}

// preflightSource connects to the source's primaries and checks that its tables can be renamed or dropped.
func (f *completion) preflightSource(ctx context.Context) error {
	var fs findings
	rec := f.streams[0].record
	var names []string
	for _, s := range f.streams {
		names = append(names, s.record.SourceShard)
	}
	var err error
	primary := topo.TabletSelector{Types: []topo.TabletType{topo.TabletPrimary}}
	if f.sources, err = f.m.sourceShards(ctx, rec.source(), sortedUnique(names), primary); err != nil {
		return err
	}
	for _, src := range f.sources {
		if err := f.checkSource(ctx, &fs, src); err != nil {
			return fmt.Errorf("source shard %s/%s: %w", rec.source(), src.shard, err)
		}
	}
	return fs.err(f.name.String())
}

// checkSource looks for what would keep a source's tables from being renamed or dropped.
func (f *completion) checkSource(ctx context.Context, fs *findings, src *sourceShard) error {
	add := func(code Code, object, message, fix string) {
		fs.add(Finding{Code: code, Side: SideSource, Server: src.cfg.Addr, Object: object, Message: message, Fix: fix})
	}
	server, err := inspectServer(ctx, src.admin, src.cfg.Addr)
	if err != nil {
		return err
	}
	schema := src.cfg.Database
	if server.on("read_only", false) || server.on("super_read_only", false) {
		add(CodeReadOnly, "read_only", "the source's primary is read-only", "make it writable, or keep the source tables")
	}
	tables, err := listTables(ctx, src.admin, schema)
	if err != nil {
		return err
	}
	need := []string{"DROP"}
	if f.ending.SourceTables == RenameSourceTables {
		need = []string{"ALTER", "DROP", "CREATE", "INSERT"}
	}
	for _, name := range f.sourceTables() {
		for _, p := range need {
			object := name
			if p == "CREATE" || p == "INSERT" {
				object = renamed(name)
			}
			if !server.grants.has(p, schema, object) {
				add(CodePrivilege, p, fmt.Sprintf("the account lacks %s on %s.%s", p, ident(schema), ident(object)), fmt.Sprintf("GRANT %s ON %s.* TO the account", strings.Join(need, ", "), ident(schema)))
			}
		}
		if f.ending.SourceTables == RenameSourceTables && tables[name] != nil && tables[renamed(name)] != nil {
			add(CodeName, name, fmt.Sprintf("table %s can't become %s, which is there", ident(name), ident(renamed(name))), "drop or rename that table")
		}
	}
	if f.ending.SourceTables == DropSourceTables {
		return f.checkChildren(ctx, fs, src)
	}
	return nil
}

// checkChildren finds foreign keys of tables that stay and reference tables that are to be dropped.
func (f *completion) checkChildren(ctx context.Context, fs *findings, src *sourceShard) error {
	schema, going := src.cfg.Database, f.sourceTables()
	return queryStrings(ctx, src.admin, "SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, REFERENCED_TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE"+
		" WHERE REFERENCED_TABLE_SCHEMA = "+literal(schema)+" AND REFERENCED_TABLE_NAME IN ("+literals(going)+") AND ORDINAL_POSITION = 1", func(v []string) {
		if v[0] == schema && slices.Contains(going, v[1]) {
			return
		}
		fs.add(Finding{
			Code: CodeForeignKey, Side: SideSource, Server: src.cfg.Addr, Object: v[3],
			Message: fmt.Sprintf("table %s is referenced by foreign key %s of %s.%s, which stays", ident(v[3]), ident(v[2]), ident(v[0]), ident(v[1])),
			Fix:     "drop that foreign key, or rename or keep the source tables",
		})
	})
}
