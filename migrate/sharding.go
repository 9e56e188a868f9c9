package migrate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// checkSharding looks at what both ends' VSchemas say of the tables, and finds the sequences to make. The layout has to be known.
func (c *creation) checkSharding(ctx context.Context, models []*replication.Table) error {
	sh := &sharding{
		keyspace: c.name.Keyspace, vschema: c.layout.vschema, tables: models, autoIncrement: map[string]string{},
		sources: map[string]sourcePlace{}, vindexes: vindex.Options{ReadFile: c.m.opts.ReadFile},
	}
	for _, t := range c.targets {
		sh.shards = append(sh.shards, t.shard)
		record, err := c.m.topo.Shard(ctx, t.keyspace, t.shard)
		if err != nil {
			return topoError("shard", t.keyspace+"/"+t.shard, err)
		}
		checkDenied(&c.fs, record, c.tables())
	}
	for _, t := range models {
		if create := c.definer(t.Name).tables[t.Name].create; create != nil {
			sh.autoIncrement[t.Name] = c.columnOf(t.Name, create.autoIncrement())
		}
	}
	if len(c.sources) > 1 {
		vs, err := c.sourceVSchema(ctx)
		if err != nil {
			return err
		}
		for _, t := range models {
			sh.sources[t.Name] = c.sourcePlace(vs, t.Name)
		}
	}
	sh.check(&c.fs, c.opts)
	c.sequences = sh.checkAutoIncrement(&c.fs, c.opts)
	if len(c.sequences) == 0 || c.opts.GlobalKeyspace == "" {
		return nil
	}
	return c.checkGlobal(ctx)
}

// sourcePlace is where the source's VSchema says that rows of a table are.
func (c *creation) sourcePlace(vs *topo.VSchema, table string) sourcePlace {
	var p sourcePlace
	for _, s := range c.sourceStates {
		if slices.Contains(s.provided, table) {
			p.shards++
		}
	}
	name := table
	if m := c.moved[table]; m != nil {
		name = m.source
	}
	t := vs.Tables[name]
	if t == nil {
		return p
	}
	p.one = t.Pinned != "" || t.Type == "sequence"
	if len(t.ColumnVindexes) > 0 {
		for _, column := range t.ColumnVindexes[0].ColumnNames() {
			p.columns = append(p.columns, c.columnOf(table, column))
		}
	}
	return p
}

// checkGlobal looks at the keyspace of the sequences.
func (c *creation) checkGlobal(ctx context.Context) error {
	g, _, err := c.m.readGlobal(ctx, c.opts.GlobalKeyspace, c.sequences)
	switch {
	case err == nil:
		g.check(&c.fs, c.sequences)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		c.fs.add(Finding{
			Code: CodeSequence, Side: SideTopology, Object: c.opts.GlobalKeyspace, Message: fmt.Sprintf("GlobalKeyspace %s can't be used: %v", c.opts.GlobalKeyspace, err), Err: err,
			Fix: "name a keyspace with one shard whose primary answers",
		})
	}
	return nil
}

// sourceVSchema is the VSchema of the source keyspace, which is read once: all decisions of a Create go by the same.
func (c *creation) sourceVSchema(ctx context.Context) (*topo.VSchema, error) {
	if c.fromVSchema == nil {
		vs, err := c.m.sourceVSchema(ctx, c.source)
		if err != nil {
			return nil, err
		}
		c.fromVSchema = vs
	}
	return c.fromVSchema, nil
}

// sourceVSchema is the VSchema of a source keyspace; empty where there is none.
func (m *Migrator) sourceVSchema(ctx context.Context, src SourceName) (*topo.VSchema, error) {
	h, err := m.mount(ctx, src.Mount)
	if err != nil {
		return nil, mountError(src, err)
	}
	defer func() { _ = m.mounts.release(h) }() // nothing was written
	vs, err := h.VSchema(ctx, src.Keyspace)
	if err != nil {
		return nil, mountError(src, err)
	}
	return vs, nil
}

// uncounted tells whether a table is to be without AUTO_INCREMENT on the target.
func (c *creation) uncounted(table string) bool {
	return c.opts.AutoIncrement != AutoIncrementLeave && c.layout.placement(table).spread()
}

// counter is how columnShape ends for an AUTO_INCREMENT column.
const counter = " auto_increment"

// withoutAutoIncrement is the shape of a table whose ids are given out elsewhere.
func (s *shape) withoutAutoIncrement() *shape {
	out := &shape{columns: slices.Clone(s.columns), keys: s.keys}
	for i, c := range out.columns {
		out.columns[i] = strings.TrimSuffix(c, counter)
	}
	return out
}

// checkCounters looks at tables that are on a target shard already and count there, though they are not to.
func (c *creation) checkCounters(t *targetState) {
	for _, name := range sortedKeys(t.shapes) {
		counts := slices.ContainsFunc(t.shapes[name].columns, func(column string) bool { return strings.HasSuffix(column, counter) })
		if !counts || !c.uncounted(name) || len(c.targets) < 2 {
			continue
		}
		c.fs.add(Finding{
			Code: CodeAutoIncrement, Severity: SeverityWarning, Side: SideTarget, Server: t.server.addr, Object: name,
			Message: fmt.Sprintf("table %s is on the target already, with AUTO_INCREMENT, which stays: each shard counts for itself", ident(name)),
			Fix:     "drop the table, or take AUTO_INCREMENT from its column",
		})
	}
}
