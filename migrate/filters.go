package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/migrate/rule"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/projection"
)

// A moved table is one of a creation that is not copied as it is.
type moved struct {
	mapping
	// renames are pairs of the source's and the target's names of columns.
	renames [][2]string
	// filtered says that rows are left out.
	filtered bool
}

// record puts what becomes of the table into its record.
func (m *moved) record(t *tableRecord) {
	if m == nil {
		return
	}
	if m.source != t.Name {
		t.Source = m.source
	}
	if m.rule != nil {
		t.Rule = m.rule.String()
	}
}

// parseFilters reads CreateOptions.Filters, by the source's table.
func parseFilters(filters map[string]string) (map[string]*mapping, error) {
	out := map[string]*mapping{}
	var errs []error
	for _, target := range sortedKeys(filters) {
		if why := checkIdentifier(target); why != "" {
			errs = append(errs, &OptionError{"Filters", fmt.Sprintf("%q: %s", target, why)})
			continue
		}
		r, err := rule.Parse(filters[target])
		if err != nil {
			errs = append(errs, fmt.Errorf("option Filters: table %s: %w", target, err))
			continue
		}
		if other := out[r.Table]; other != nil {
			errs = append(errs, &OptionError{"Filters", fmt.Sprintf("more than one target for source table %s: %s and %s", r.Table, other.target, target)})
			continue
		}
		m := &mapping{source: r.Table, target: target, rule: r}
		if r.Columns == nil && !r.Filters() {
			m.rule = nil // only the name, if anything
		}
		out[r.Table] = m
	}
	return out, errors.Join(errs...)
}

// project makes of what was read of the sources what is taken of it: from here on tables, columns and keys are those of the target. It returns false
// if rules are in the way, which are findings then.
func (c *creation) project(ctx context.Context) (bool, error) {
	c.moved = map[string]*moved{}
	if err := c.checkPolicies(); err != nil {
		return false, err
	}
	if len(c.mappings) == 0 && c.tenant == nil {
		return true, nil
	}
	before := len(c.fs.list)
	for i, s := range c.sourceStates {
		if err := c.projectShard(ctx, s, c.sources[i].admin); err != nil {
			return false, fmt.Errorf("source shard %s/%s: %w", c.source, s.shard, err)
		}
	}
	bad := func(f Finding) bool { return f.Severity != SeverityWarning }
	return !slices.ContainsFunc(c.fs.list[before:], bad), nil
}

func (c *creation) projectShard(ctx context.Context, s *sourceState, db *sql.DB) error {
	add := func(sev Severity, object string, err error, message, fix string) {
		c.fs.add(Finding{Code: CodeFilter, Severity: sev, Side: SideSource, Server: s.server.addr, Object: object, Message: message, Fix: fix, Err: err})
	}
	mappings := map[string]*mapping{}
	for _, t := range s.models {
		m, err := c.mappingOf(t)
		if err != nil {
			add(SeverityError, t.Name, err, err.Error(), "change the rule, or leave the table out")
			continue
		}
		mappings[t.Name] = m
	}
	list, err := specs(ctx, s.models, mappings, askServer(db))
	if err != nil && !isRuleError(err) {
		return err
	}
	var tables []*projection.Table
	if err == nil {
		tables, err = projection.Tables(list)
	}
	for _, one := range unjoined(err) {
		add(SeverityError, "", one, one.Error(), "change the rule, or leave the table out")
	}
	if len(tables) < len(s.models) {
		return nil
	}
	for i, t := range tables {
		m := &moved{mapping: *mappings[t.Source.Name], filtered: t.Filtered()}
		for j, name := range sourceColumns(t) {
			if now := t.Target.Columns[j].Name; now != name {
				m.renames = append(m.renames, [2]string{name, now})
			}
		}
		if m.rule != nil || m.source != m.target {
			c.moved[t.Target.Name] = m
		}
		c.checkTenantKeys(s, t)
		if m.rule != nil && s.models[i].Family != "" {
			err := &projection.FamilyError{Table: m.source, Family: s.models[i].Family}
			add(SeverityError, m.source, err, err.Error(), "leave out the rule, or the tables")
		}
		for _, k := range s.shapes[m.source].lost(t) {
			add(SeverityWarning, m.target, nil, fmt.Sprintf("key %s of table %s is not on the target, since the rule leaves columns of it out", ident(k), ident(m.source)), "take its columns too")
		}
		for _, k := range t.LostForeignKeys {
			add(SeverityWarning, m.target, nil, fmt.Sprintf("foreign key %s of table %s is not on the target, since rules leave columns of it out", ident(k), ident(m.source)), "take its columns too")
		}
	}
	c.warnOrphans(s, tables)
	s.take(tables)
	return nil
}

// checkPolicies refuses what does not go with rules, tenants or several source shards.
func (c *creation) checkPolicies() error {
	rec := &record{Tenant: c.tenant}
	for _, s := range c.sources {
		rec.SourceShards = append(rec.SourceShards, s.shard)
	}
	for _, source := range sortedKeys(c.mappings) {
		m := c.mappings[source]
		t := tableRecord{Name: m.target}
		(&moved{mapping: *m}).record(&t)
		rec.Tables = append(rec.Tables, t)
	}
	return rec.checkPolicies(&c.opts.OnDDL, &c.opts.OnDrift)
}

// mappingOf is what becomes of a table: by its rule, and for the tenant.
func (c *creation) mappingOf(t *replication.Table) (*mapping, error) {
	m := c.mappings[t.Name]
	if m == nil {
		m = &mapping{source: t.Name, target: t.Name}
	}
	if c.tenant == nil {
		return m, nil
	}
	out := *m
	var err error
	out.rule, err = c.tenant.restrict(t, m.rule)
	return &out, err
}

// warnOrphans tells of foreign keys to tables of which rows are left out.
func (c *creation) warnOrphans(s *sourceState, tables []*projection.Table) {
	if c.tenant != nil {
		return // rows of one tenant reference rows of the same
	}
	for _, t := range tables {
		for _, fk := range t.Target.ForeignKeys {
			if p := c.moved[fk.Parent]; p != nil && p.filtered {
				c.fs.add(Finding{
					Code: CodeForeignKey, Severity: SeverityWarning, Side: SideSource, Server: s.server.addr, Object: t.Target.Name,
					Message: fmt.Sprintf("foreign key %s of table %s references %s, of which rows are left out: rows that reference those are moved all the same", ident(fk.Name), ident(t.Target.Name), ident(fk.Parent)),
					Fix:     "leave them out by a rule of the same kind",
				})
			}
		}
	}
}

// unjoined are the errors of a join.
func unjoined(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the outermost only
		return j.Unwrap()
	}
	return []error{err}
}

// sourceColumns are the source's names of the target's columns.
func sourceColumns(t *projection.Table) []string {
	lost := t.Lost()
	var names []string
	for _, c := range t.Source.Columns {
		if !slices.Contains(lost, c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

// take makes the state that of what is taken: everything has the target's names from here on.
func (s *sourceState) take(tables []*projection.Table) {
	names, now := map[string]string{}, &sourceState{tables: map[string]*table{}, shapes: map[string]*shape{}, triggers: map[string][]string{}}
	for _, t := range tables {
		names[t.Source.Name] = t.Target.Name
	}
	for _, t := range tables {
		from, to := t.Source.Name, t.Target.Name
		have := *s.tables[from]
		counts := true
		if have.create != nil {
			have.create, counts = have.create.project(t, names)
		}
		now.tables[to], now.triggers[to] = &have, s.triggers[from]
		now.models = append(now.models, t.Target)
		now.selected = append(now.selected, to)
		if slices.Contains(s.provided, from) {
			now.provided = append(now.provided, to)
		}
		if sh := s.shapes[from]; sh != nil {
			now.shapes[to] = sh.project(t)
			if !counts {
				now.shapes[to] = now.shapes[to].withoutAutoIncrement()
			}
		}
	}
	slices.SortFunc(now.models, func(a, b *replication.Table) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(now.selected)
	slices.Sort(now.provided)
	s.tables, s.triggers, s.models, s.selected, s.provided, s.shapes = now.tables, now.triggers, now.models, now.selected, now.provided, now.shapes
}

// project is the text of the table with what is taken of it, under its new name; columns have their old names, as do tables in
// foreign keys that names doesn't have. It is false if a column no longer counts, since its key is not taken.
func (c *createText) project(t *projection.Table, names map[string]string) (*createText, bool) {
	lost := t.Lost()
	gone := func(column string) bool {
		return slices.ContainsFunc(lost, func(l string) bool { return strings.EqualFold(l, column) })
	}
	out := &createText{head: "CREATE TABLE " + ident(t.Target.Name) + " (", tail: c.tail}
	for _, d := range c.defs {
		switch {
		case d.kind == defColumn && gone(d.name), d.kind != defColumn && slices.ContainsFunc(d.columns, gone):
			continue
		case d.kind == defForeignKey && slices.Contains(t.LostForeignKeys, d.name):
			continue
		case d.kind == defForeignKey && d.refSchema == "" && names[d.refTable] != "":
			d = d.referencing(names[d.refTable])
		}
		out.defs = append(out.defs, d)
	}
	auto := out.autoIncrement()
	if auto == "" || slices.ContainsFunc(out.defs, func(d definition) bool {
		return (d.kind == defPrimary || d.kind == defUnique || d.kind == defKey) && strings.EqualFold(d.columns[0], auto)
	}) {
		return out, true
	}
	return out.withoutAutoIncrement(), false
}

// referencing is the foreign key with another table that it references.
func (d definition) referencing(table string) definition {
	t := &tokens{s: d.text}
	for tok := t.next(); tok != "" && !strings.EqualFold(tok, "REFERENCES"); {
		tok = t.next()
	}
	head := d.text[:t.i]
	t.next() // the name
	d.text, d.refTable = head+" "+ident(table)+d.text[t.i:], table
	return d
}

// project is the shape of what is taken of a table.
func (s *shape) project(t *projection.Table) *shape {
	names := map[string]string{}
	for i, name := range sourceColumns(t) {
		names[strings.ToLower(name)] = t.Target.Columns[i].Name
	}
	out := &shape{keys: map[string]string{}}
	for i, name := range s.names {
		if now, ok := names[strings.ToLower(name)]; ok {
			out.names = append(out.names, now)
			out.columns = append(out.columns, ident(now)+strings.TrimPrefix(s.columns[i], ident(name)))
		}
	}
	for key, k := range s.parts {
		text, kept := k.kind, true
		for _, p := range k.columns {
			now, ok := names[strings.ToLower(p.name)]
			if p.expression {
				now, ok = p.name, true
			}
			text, kept = text+" "+now+p.prefix, kept && ok
		}
		if kept {
			out.keys[key] = text
		}
	}
	return out
}

// lost are the names of keys of which columns are not taken.
func (s *shape) lost(t *projection.Table) []string {
	if s == nil {
		return nil
	}
	kept := s.project(t).keys
	return slices.DeleteFunc(sortedKeys(s.keys), func(key string) bool { return kept[key] != "" })
}

// renameSQL is the statement that gives a table's columns their names; empty if they have them.
func (c *creation) renameSQL(table string) string {
	m := c.moved[table]
	if m == nil || len(m.renames) == 0 {
		return ""
	}
	var parts []string
	for _, r := range m.renames {
		parts = append(parts, "RENAME COLUMN "+ident(r[0])+" TO "+ident(r[1]))
	}
	return "ALTER TABLE " + ident(table) + " " + strings.Join(parts, ", ")
}

// columnOf is the target's name of a source's column of a table.
func (c *creation) columnOf(table, column string) string {
	if m := c.moved[table]; m != nil {
		for _, r := range m.renames {
			if strings.EqualFold(r[0], column) {
				return r[1]
			}
		}
	}
	return column
}

// readRules reads Filters and TenantID.
func (c *creation) readRules(ctx context.Context) error {
	var err error
	if c.mappings, err = parseFilters(c.opts.Filters); err != nil {
		return err
	}
	if c.opts.TenantID == "" || len(c.targets) == 0 {
		return nil
	}
	vs, err := c.m.vschema(ctx, c.name.Keyspace)
	if err != nil {
		return err
	}
	c.tenant, err = newTenant(c.name.Keyspace, vs, c.opts.TenantID)
	return err
}
