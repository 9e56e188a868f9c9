package migrate

import (
	"cmp"
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

// A mapping is what a workflow makes of one source table: the target's name, and a rule that chooses rows and columns. A table that is copied as it
// is has the same name and no rule.
type mapping struct {
	source, target string
	rule           *rule.Rule
}

// spec is what the projection needs to know of a table t of a source that answers questions.
func (m *mapping) spec(ctx context.Context, t *replication.Table, ask rule.Asker) (projection.Spec, error) {
	s := projection.Spec{Table: t, Name: m.target}
	if m.rule == nil {
		return s, nil
	}
	at, err := m.rule.Positions(t)
	if err != nil {
		return s, err
	}
	for i, c := range m.rule.Columns {
		s.Columns = append(s.Columns, projection.Column{Position: at[i], Name: c.Target})
	}
	f, err := m.rule.Bind(ctx, t, ask)
	if f != nil {
		s.Filter = f // a nil *rule.Filter would be a filter
	}
	return s, err
}

// specs are those of tables; one without a mapping is copied as it is. Errors of rules are joined, others end it.
func specs(ctx context.Context, tables []*replication.Table, mappings map[string]*mapping, ask rule.Asker) ([]projection.Spec, error) {
	var out []projection.Spec
	var errs []error
	for _, t := range tables {
		m := mappings[t.Name]
		if m == nil {
			m = &mapping{source: t.Name, target: t.Name}
		}
		s, err := m.spec(ctx, t, ask)
		if err != nil && !isRuleError(err) {
			return nil, err
		}
		if err != nil {
			errs = append(errs, err)
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

// isRuleError tells whether a rule is wrong, and not a server.
func isRuleError(err error) bool {
	_, unsupported := errors.AsType[*rule.UnsupportedError](err)
	_, column := errors.AsType[*rule.ColumnError](err)
	_, syntax := errors.AsType[*rule.SyntaxError](err)
	return unsupported || column || syntax
}

// askServer asks by way of a pool of connections.
func askServer(db *sql.DB) rule.Asker {
	return func(ctx context.Context, expressions []string) ([][]byte, error) {
		answers := make([][]byte, len(expressions))
		into := make([]any, len(expressions))
		for i := range answers {
			into[i] = &answers[i]
		}
		err := db.QueryRowContext(ctx, "SELECT "+strings.Join(expressions, ",")).Scan(into...)
		return answers, err
	}
}

// source is the name of the table at the source.
func (t *tableRecord) source() string { return cmp.Or(t.Source, t.Name) }

// mapping is the table's; an error says that the record's rule is none.
func (t *tableRecord) mapping() (*mapping, error) {
	m := &mapping{source: t.source(), target: t.Name}
	if t.Rule == "" {
		return m, nil
	}
	var err error
	m.rule, err = rule.Parse(t.Rule)
	return m, err
}

// mappings are those of a group's tables, by source name; changed tells whether there is more than the same names.
func (g *group) mappings() (out map[string]*mapping, changed bool, err error) {
	out = map[string]*mapping{}
	for _, s := range g.streams {
		for i := range s.record.Tables {
			t := &s.record.Tables[i]
			m, err := t.mapping()
			if err != nil {
				return nil, false, err
			}
			out[m.source] = m
			changed = changed || m.rule != nil || m.source != m.target
		}
	}
	return out, changed, nil
}

// sourceTables are the tables of all of the group's streams, by their names at the source.
func (g *group) sourceTables() []string {
	var names []string
	for _, s := range g.streams {
		names = append(names, s.record.sourceNames()...)
	}
	return sortedUnique(names)
}

func (r *record) sourceNames() []string {
	names := make([]string, len(r.Tables))
	for i := range r.Tables {
		names[i] = r.Tables[i].source()
	}
	return names
}

// filters tells whether rows of the source's tables are left out.
func (r *record) filters() bool {
	return slices.ContainsFunc(r.Tables, func(t tableRecord) bool {
		m, err := t.mapping()
		return err != nil || m.rule != nil && m.rule.Filters()
	})
}

// checkPolicies refuses policies (nil: as they are) that do not go with rules, tenants or several source shards.
func (r *record) checkPolicies(onDDL *replication.OnDDL, onDrift *replication.OnDrift) error {
	if onDrift != nil && *onDrift != replication.OnDriftStop && len(r.SourceShards) > 1 {
		return &OptionError{"OnDrift", "REPAIR and SKIP can't be used with several source shards: a row that has moved from one to another may arrive before it has gone, and would be lost"}
	}
	if onDDL != nil && *onDDL == replication.OnDDLExec && len(r.SourceShards) > 1 {
		return &OptionError{"OnDDL", "EXEC can't be used with several source shards: each of their logs has the statement, and it can be executed once"}
	}
	if onDrift != nil && *onDrift == replication.OnDriftRepair && r.Tenant != nil {
		return &OptionError{"OnDrift", "REPAIR can't be used with TenantID: it removes what is in the way of a row, which may be another tenant's"}
	}
	if onDDL != nil && executes(*onDDL) {
		return r.plainDDL()
	}
	return nil
}

// plainDDL is an error if schema changes of the source can't be executed on the target as they are: names differ, columns are chosen, or the tables
// are not the workflow's alone.
func (r *record) plainDDL() error {
	if r.Tenant != nil {
		return &OptionError{"OnDDL", "EXEC and EXEC_IGNORE can't be used with TenantID: the tables have rows of others"}
	}
	for i := range r.Tables {
		t := &r.Tables[i]
		m, err := t.mapping()
		switch {
		case err != nil:
			return err
		case m.source != m.target || m.rule != nil && m.rule.Columns != nil:
			return &OptionError{"OnDDL", fmt.Sprintf("EXEC and EXEC_IGNORE can't be used, since the rule of table %s gives other names or leaves columns out", t.Name)}
		}
	}
	return nil
}

// project puts the projection of the group's rules before its source.
func (e *engine) project(ctx context.Context) error {
	e.source, e.tables = e.from, e.from.Tables()
	mappings, changed, err := e.group.mappings()
	if err != nil || !changed {
		return err
	}
	list, err := specs(ctx, e.from.Tables(), mappings, e.from.Ask)
	if err != nil {
		return fmt.Errorf("source shard %s: %w", e.src.shard, err)
	}
	tables, err := projection.Tables(list)
	if err != nil {
		return fmt.Errorf("source shard %s: %w", e.src.shard, err)
	}
	p := projection.New(e.from, tables, projection.Options{})
	e.source, e.tables = p, p.Tables()
	return nil
}
