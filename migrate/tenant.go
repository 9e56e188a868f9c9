package migrate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/migrate/rule"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/projection"
	"github.com/tablehaul/tablehaul/topo"
)

// A tenant is whose rows a workflow moves. Column is the target's.
type tenantRecord struct {
	Column string `json:"column"`
	ID     string `json:"id"`
	// Number says that the column holds numbers.
	Number bool `json:"number,omitempty"`
}

// The types of tenant columns, by Vitess's numbers, and the width of the whole numbers among them.
var (
	signedTenants   = map[topo.ColumnType]int{257: 8, 259: 16, 261: 24, 263: 32, 265: 64}
	unsignedTenants = map[topo.ColumnType]int{770: 8, 772: 16, 774: 24, 776: 32, 778: 64}
	textTenants     = []topo.ColumnType{6163, 6165, 6167, 10260, 10262, 10264} // TEXT, VARCHAR, CHAR, BLOB, VARBINARY, BINARY
)

// newTenant checks an id against what the keyspace says of its tenants.
func newTenant(keyspace string, vs *topo.VSchema, id string) (*tenantRecord, error) {
	spec := vs.MultiTenantSpec
	if spec == nil || spec.TenantIDColumnName == "" {
		return nil, &OptionError{"TenantID", fmt.Sprintf("the VSchema of keyspace %s has no multi_tenant_spec", keyspace)}
	}
	t := &tenantRecord{Column: spec.TenantIDColumnName, ID: id}
	var text string
	typ := spec.TenantIDColumnType
	if bits, ok := signedTenants[typ]; ok {
		n, err := strconv.ParseInt(id, 10, bits)
		if err != nil {
			return nil, &OptionError{"TenantID", fmt.Sprintf("%q is no %s, the type in the keyspace's multi_tenant_spec", id, typ)}
		}
		t.Number, text = true, strconv.FormatInt(n, 10)
	} else if bits, ok := unsignedTenants[typ]; ok {
		n, err := strconv.ParseUint(id, 10, bits)
		if err != nil {
			return nil, &OptionError{"TenantID", fmt.Sprintf("%q is no %s, the type in the keyspace's multi_tenant_spec", id, typ)}
		}
		t.Number, text = true, strconv.FormatUint(n, 10)
	} else if !slices.Contains(textTenants, typ) {
		return nil, &OptionError{"TenantID", fmt.Sprintf("the type %s of the keyspace's multi_tenant_spec is neither a whole number nor a text", typ)}
	}
	if t.Number {
		t.ID = text
	}
	return t, nil
}

// restrict is a rule (nil: all of the table) for the tenant's rows of t only.
func (r *tenantRecord) restrict(t *replication.Table, of *rule.Rule) (*rule.Rule, error) {
	if of == nil {
		of = rule.All(t.Name)
	}
	column := ""
	for _, c := range of.Columns {
		if strings.EqualFold(c.Target, r.Column) {
			column = c.Source
		}
	}
	if of.Columns == nil {
		for _, c := range t.Columns {
			if strings.EqualFold(c.Name, r.Column) {
				column = c.Name
			}
		}
	}
	if column == "" {
		return nil, &rule.ColumnError{Table: t.Name, Column: r.Column, What: "the tenants' column is not taken, or not there"}
	}
	return of.With(column, r.ID, r.Number)
}

// checkTenantKeys looks at unique keys that are not the tenant's own: another tenant's row may have the same value. That is an error of the stream then;
// but where only the server can compare keys, a row would take the other one's place.
func (c *creation) checkTenantKeys(s *sourceState, t *projection.Table) {
	if c.tenant == nil {
		return
	}
	column := slices.IndexFunc(t.Target.Columns, func(x replication.Column) bool { return strings.EqualFold(x.Name, c.tenant.Column) })
	for i, k := range append([]replication.Index{t.Target.Primary}, t.Target.Unique...) {
		if slices.Contains(k.Columns, column) {
			continue
		}
		f := Finding{
			Code: CodeUniqueKey, Severity: SeverityWarning, Side: SideSource, Server: s.server.addr, Object: t.Target.Name,
			Message: fmt.Sprintf("unique key %s of table %s does not have the tenants' column %s: rows of two tenants can't have the same value", ident(k.Name), ident(t.Target.Name), ident(c.tenant.Column)),
			Fix:     "add the column to the key, if tenants come from different databases",
		}
		if i == 0 && !t.Target.Ordered {
			f.Severity, f.Fix = SeverityError, "add the column to the key, or give the key's columns a binary collation"
		}
		c.fs.add(f)
	}
}

// condition is true for the tenant's rows on the target.
func (r *tenantRecord) condition() string {
	value := r.ID
	if !r.Number {
		value = "_utf8mb4 " + sqltext.String(r.ID) // whatever the session reads literals as
	}
	return ident(r.Column) + " = " + value
}

// sameTenant tells whether two workflows may have the same table for their target.
func sameTenant(a, b *tenantRecord) bool {
	return a == nil || b == nil || a.ID == b.ID || a.Column != b.Column
}

// holdsTenant tells whether a target table has rows of the tenant.
func (r *tenantRecord) holds(ctx context.Context, t *targetShard, schema, name string) (bool, error) {
	found := false
	err := queryStrings(ctx, t.admin, "SELECT 1 FROM "+ident(schema)+"."+ident(name)+" WHERE "+r.condition()+" LIMIT 1", func([]string) { found = true })
	return found, err
}

// defaultDeleteBatch is Vitess's.
const defaultDeleteBatch = 1000

// deleteTenant deletes the tenant's rows of a target table, a batch at a time, and returns how many.
func (m *Migrator) deleteTenant(ctx context.Context, t *targetShard, r *tenantRecord, name string, batch int) (rows int64, err error) {
	db, err := m.pools.db(ctx, t.cfg, forSchema)
	if mysqlerr.NotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for {
		res, err := db.ExecContext(ctx, fmt.Sprintf("DELETE FROM %s WHERE %s LIMIT %d", ident(name), r.condition(), batch))
		if mysqlerr.NotFound(err) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return rows, err
		}
		if rows += n; n < int64(batch) {
			return rows, nil
		}
	}
}

// shared tells whether another workflow has the table for its target too.
func (m *Migrator) shared(ctx context.Context, t *targetShard, workflow, table string) (bool, error) {
	streams, err := m.streams(ctx, t, "")
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(streams, func(s *stream) bool {
		return s.Workflow != workflow && slices.Contains(s.record.names(), table)
	}), nil
}

// dropCreated drops a table that Create made; one that may hold rows of other tenants only if it is empty and no other workflow has it.
func (m *Migrator) dropCreated(ctx context.Context, t *targetShard, workflow string, tenant *tenantRecord, table string, emptyOnly bool) (bool, error) {
	if tenant != nil {
		if used, err := m.shared(ctx, t, workflow, table); err != nil || used {
			return false, err
		}
		emptyOnly = true
	}
	return m.dropTable(ctx, t, table, emptyOnly)
}
