package migrate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/migrate/routing"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// A sharding is what both ends say about where the rows of tables are. The checks of this file are pure functions of it.
type sharding struct {
	// keyspace is the target, shards its shards, vschema its VSchema.
	keyspace string
	shards   []string
	vschema  *topo.VSchema
	// tables are those to move, by name.
	tables []*replication.Table
	// autoIncrement is the AUTO_INCREMENT column by table.
	autoIncrement map[string]string
	// sources says of each table where its rows are at the source.
	sources  map[string]sourcePlace
	vindexes vindex.Options
}

// A sourcePlace is where the rows of a table are at the source.
type sourcePlace struct {
	// shards is how many source shards it is read from.
	shards int
	// columns are those by which its rows are spread, by the target's names; nil if the source's VSchema does not say.
	columns []string
	// one says that all rows are on one shard, by the source's VSchema.
	one bool
}

// check makes findings of everything that keeps the tables from being spread over the target's shards, and of what is not there as it is on one
// server.
func (sh *sharding) check(fs *findings, o CreateOptions) {
	sh.checkShards(fs)
	places := sh.places(fs)
	sh.checkFamilies(fs)
	for _, t := range sh.tables {
		sh.checkUnique(fs, t, places[t.Name])
		sh.checkSources(fs, t, places[t.Name])
		if o.DropForeignKeys {
			continue
		}
		for _, fk := range t.ForeignKeys {
			parent := slices.IndexFunc(sh.tables, func(p *replication.Table) bool { return fk.ParentSchema == "" && p.Name == fk.Parent })
			if p := places[t.Name]; p != nil && parent >= 0 && places[fk.Parent] != nil {
				sh.checkForeignKey(fs, t, &fk, p, places[fk.Parent])
			}
		}
	}
}

// spread tells whether the table's rows are spread over shards by a vindex.
func (sh *sharding) spread(table string) bool {
	return placementOf(sh.vschema, table).spread()
}

// checkShards looks at the target's shards as a whole.
func (sh *sharding) checkShards(fs *findings) {
	add := func(err error, fix string) {
		fs.add(Finding{Code: CodeShards, Side: SideTopology, Object: sh.keyspace, Message: fmt.Sprintf("keyspace %s: %v", sh.keyspace, err), Fix: fix, Err: err})
	}
	ranges := make([]topo.KeyRange, len(sh.shards))
	for i, name := range sh.shards {
		var err error
		if ranges[i], err = topo.ParseShardName(name); err != nil {
			add(err, "correct the shard's name")
			return
		}
	}
	switch err := topo.CheckCover(ranges); {
	case !sh.vschema.Sharded && len(sh.shards) > 1:
		add(routing.ErrShards, `set "sharded": true in the VSchema of the keyspace, with vindexes and tables`)
	case err != nil:
		add(err, "create the missing shards, or let the one of two serve that should")
	}
}

// places are where the VSchema says that rows are, by table. What it does not say, or says in a way that can't be followed, is a finding.
func (sh *sharding) places(fs *findings) map[string]*vindex.Placement {
	places := map[string]*vindex.Placement{}
	for _, t := range sh.tables {
		// The shards have been looked at: here only the table counts.
		_, err := routing.Routes([]*replication.Table{t}, sh.vschema, []topo.KeyRange{{}}, sh.vindexes)
		if err == nil {
			places[t.Name], err = vindex.Resolve(sh.vschema, t.Name, sh.vindexes)
		}
		if err != nil {
			sh.addPlacement(fs, t.Name, err)
		}
	}
	return places
}

// addPlacement adds why a table can't be placed.
func (sh *sharding) addPlacement(fs *findings, table string, err error) {
	f := Finding{Code: CodeVSchema, Side: SideTarget, Object: table, Message: err.Error(), Fix: "correct the table's entry in the VSchema", Err: err}
	missing, isMissing := errors.AsType[*vindex.MissingTableError](err)
	unsupported, isUnsupported := errors.AsType[*vindex.UnsupportedError](err)
	column, isColumn := errors.AsType[*routing.ColumnError](err)
	_, isValue := errors.AsType[*vindex.ValueError](err)
	_, isParam := errors.AsType[*vindex.ParamError](err)
	switch {
	case isMissing:
		f.Message = fmt.Sprintf("table %s is not in the VSchema of the sharded keyspace %s", ident(table), sh.keyspace)
		f.Fix = "add to the VSchema " + missing.JSON()
		if missing.Column != "" {
			f.Fix += ", or another vindex and column"
		}
	case isUnsupported:
		f.Fix = fmt.Sprintf("put a functional vindex first in the table's column_vindexes, before that of type %q", unsupported.Type)
	case isColumn:
		f.Fix = fmt.Sprintf("shard the table by another column than %s, or change the column's type", ident(column.Column))
	case isValue:
		f.Fix = "shard the table by another column, or by another vindex"
	case isParam:
		f.Fix = "correct the vindex in the VSchema; the files that it names are read by Options.ReadFile"
	case errors.Is(err, vindex.ErrUndefined):
		f.Fix = "define the vindex in the VSchema"
	case errors.Is(err, vindex.ErrNoVindex):
		f.Fix = "add column_vindexes to the table's entry in the VSchema"
	}
	fs.add(f)
}

// checkFamilies names the foreign keys whose changes can be known on one shard only.
func (sh *sharding) checkFamilies(fs *findings) {
	routes := make(map[*replication.Table]replication.Route, len(sh.tables))
	for _, t := range sh.tables {
		routes[t] = replication.EveryShard()
	}
	_, err := replication.NewFanout(make([]replication.Shard, len(sh.shards)), routes, replication.FanoutOptions{})
	for _, err := range joined(err) {
		e, ok := errors.AsType[*replication.CascadeError](err)
		if !ok {
			continue
		}
		fs.add(Finding{
			Code: CodeForeignKey, Side: SideSource, Object: e.Table, Err: err,
			Message: fmt.Sprintf("foreign key %s of table %s changes rows by itself: %s", ident(e.ForeignKey), ident(e.Table), e.What),
			Fix:     "use MySQL 9.6 or later as source, give the foreign key ON DELETE and ON UPDATE NO ACTION, or leave the table out",
		})
	}
}

// joined are the errors that errors.Join has put together.
func joined(err error) []error {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		return list.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// checkUnique names the unique keys of a spread table that each shard keeps for itself.
func (sh *sharding) checkUnique(fs *findings, t *replication.Table, p *vindex.Placement) {
	if p == nil || p.Kind != vindex.Sharded || len(sh.shards) < 2 {
		return
	}
	for _, key := range uniqueKeys(t) {
		if holdsColumns(t, key, p.Columns) {
			continue
		}
		fs.add(Finding{
			Code: CodeUniqueKey, Severity: SeverityWarning, Side: SideTarget, Object: t.Name,
			Message: fmt.Sprintf("unique key %s of table %s lacks %s, by which rows are spread: on the target it is unique within each shard only",
				ident(key.Name), ident(t.Name), missingColumns(t, key, p.Columns)),
			Fix: "add the columns to the key, spread the rows by columns of it, or have the program keep it unique",
		})
	}
}

// checkSources looks at what several source shards hold of a table: what is unique in each may not be in all of them together.
func (sh *sharding) checkSources(fs *findings, t *replication.Table, p *vindex.Placement) {
	from := sh.sources[t.Name]
	if from.shards < 2 || from.one {
		return
	}
	add := func(code Code, message, fix string) {
		fs.add(Finding{Code: code, Severity: SeverityWarning, Side: SideSource, Object: t.Name, Message: message, Fix: fix})
	}
	if p != nil && p.Kind == vindex.Reference {
		add(CodeReference, fmt.Sprintf("table %s is a reference table on the target and not at the source: the rows of all %d source shards are put together, and stop the streams if they are the same",
			ident(t.Name), from.shards), `give the table "type": "reference" in the VSchema of the source keyspace if each of its shards has all rows`)
		return
	}
	for _, key := range uniqueKeys(t) {
		if len(from.columns) > 0 && holdsColumns(t, key, from.columns) {
			continue
		}
		why := "and the source's VSchema does not say by what its rows are spread"
		if len(from.columns) > 0 {
			why = "and lacks " + missingColumns(t, key, from.columns) + ", by which the source's rows are spread"
		}
		add(CodeUniqueKey, fmt.Sprintf("unique key %s of table %s is unique within each of %d source shards, %s: equal values that meet on one target shard stop a stream",
			ident(key.Name), ident(t.Name), from.shards, why), "make sure that no two source shards have the same value")
	}
}

// uniqueKeys are all unique keys, that which tells rows apart first.
func uniqueKeys(t *replication.Table) []replication.Index {
	if len(t.Primary.Columns) == 0 {
		return t.Unique
	}
	return append([]replication.Index{t.Primary}, t.Unique...)
}

// holdsColumns tells whether a key has all of these columns.
func holdsColumns(t *replication.Table, key replication.Index, columns []string) bool {
	return missingColumns(t, key, columns) == ""
}

// missingColumns lists the columns that a key lacks.
func missingColumns(t *replication.Table, key replication.Index, columns []string) string {
	var out []string
	for _, name := range columns {
		if !slices.ContainsFunc(key.Columns, func(c int) bool { return strings.EqualFold(t.Columns[c].Name, name) }) {
			out = append(out, ident(name))
		}
	}
	return strings.Join(out, ", ")
}

// checkForeignKey tells whether a row and the one that it references are on one shard.
func (sh *sharding) checkForeignKey(fs *findings, t *replication.Table, fk *replication.ForeignKey, child, parent *vindex.Placement) {
	why := ""
	switch {
	case len(sh.shards) < 2 || parent.Kind == vindex.Reference || child.ID != nil && string(child.ID) == string(parent.ID):
		return
	case parent.Kind == vindex.Sharded && child.Kind == vindex.Sharded:
		if why = sh.apart(t, fk, child, parent); why == "" {
			return
		}
	default:
		why = fmt.Sprintf("one is %s, the other %s", child.Kind, parent.Kind)
	}
	fs.add(Finding{
		Code: CodeForeignKey, Severity: SeverityWarning, Side: SideTarget, Object: t.Name,
		Message: fmt.Sprintf("foreign key %s of table %s: a row and the one of %s that it references may be on different shards (%s), where the target refuses to write the row after Complete",
			ident(fk.Name), ident(t.Name), ident(fk.Parent), why),
		Fix: "spread both tables by the columns of the foreign key and the same vindex, or set DropForeignKeys",
	})
}

// apart says why two spread tables that a foreign key ties together do not share their shards; empty if they do.
func (sh *sharding) apart(t *replication.Table, fk *replication.ForeignKey, child, parent *vindex.Placement) string {
	a, b := sh.vschema.Vindexes[child.Name], sh.vschema.Vindexes[parent.Name]
	if a.Type != b.Type || !maps.Equal(a.Params, b.Params) {
		return fmt.Sprintf("they are spread by different vindexes, %s and %s", child.Name, parent.Name)
	}
	for i, column := range child.Columns {
		at := slices.IndexFunc(fk.Columns, func(c int) bool { return strings.EqualFold(t.Columns[c].Name, column) })
		if at < 0 || i >= len(parent.Columns) || at >= len(fk.ParentColumns) || !strings.EqualFold(fk.ParentColumns[at], parent.Columns[i]) {
			return fmt.Sprintf("%s is spread by %s, %s by %s, which the foreign key does not tie together",
				ident(t.Name), strings.Join(child.Columns, ", "), ident(fk.Parent), strings.Join(parent.Columns, ", "))
		}
	}
	return ""
}

// checkDenied names tables that the target's shard records forbid to serve: a Migrate or MoveTables of Vitess may have left that.
func checkDenied(fs *findings, shard *topo.Shard, tables []string) {
	for _, c := range shard.TabletControls {
		var denied []string
		for _, name := range tables {
			if slices.Contains(c.DeniedTables, name) {
				denied = append(denied, name)
			}
		}
		if len(denied) == 0 {
			continue
		}
		where, tablets := shard.Keyspace+"/"+shard.Name, strings.ToLower(c.TabletType.String())
		fs.add(Finding{
			Code: CodeDenied, Severity: SeverityWarning, Side: SideTopology, Object: where,
			Message: fmt.Sprintf("shard %s denies queries for %s on its %s tablets: they can't be used after Complete", where, strings.Join(denied, ", "), tablets),
			Fix:     fmt.Sprintf("vtctldclient SetShardTabletControl --remove --denied-tables=%s %s %s", strings.Join(denied, ","), where, tablets),
		})
	}
}
