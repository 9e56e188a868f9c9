package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
)

// preflight reads both ends and collects everything that is in the way. Its error is one of reading.
func (c *creation) preflight(ctx context.Context) error {
	checkZone(&c.fs, c.opts.SourceTimeZone)
	if err := c.readRules(ctx); err != nil {
		return err
	}
	c.sourceStates = make([]*sourceState, len(c.sources))
	c.targetStates = make([]*targetState, len(c.targets))
	g, gctx := errgroup.WithContext(ctx)
	for i, s := range c.sources {
		g.Go(func() (err error) {
			if c.sourceStates[i], err = readSource(gctx, s); err != nil {
				return fmt.Errorf("source shard %s/%s: %w", c.source, s.shard, err)
			}
			return nil
		})
	}
	for i, t := range c.targets {
		g.Go(func() (err error) {
			if c.targetStates[i], err = readTarget(gctx, t); err != nil {
				return fmt.Errorf("target shard %s/%s: %w", t.keyspace, t.shard, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, s := range c.sourceStates {
		checkSourceServer(&c.fs, s.server, s.replica)
		if s.server.mariadb {
			continue // nothing more can be said
		}
		s.selected = selectTables(&c.fs, c.opts, s)
	}
	for i, s := range c.sourceStates {
		if err := s.describe(ctx, c.sources[i].admin); err != nil {
			return fmt.Errorf("source shard %s/%s: %w", c.source, s.shard, err)
		}
		checkTables(&c.fs, c.opts, s)
		checkCascades(&c.fs, c.opts, s, c.m.copyBytes())
	}
	if err := c.provide(ctx); err != nil {
		return err
	}
	if ok, err := c.project(ctx); err != nil || !ok {
		return err
	}
	if err := c.place(ctx); err != nil {
		return err
	}
	for i, t := range c.targetStates {
		checkTargetServer(&c.fs, t.server, t.schema, c.m.opts.SidecarDatabase)
		if err := c.look(ctx, c.targets[i], t, c.held(i)); err != nil {
			return fmt.Errorf("target shard %s/%s: %w", c.targets[i].keyspace, t.shard, err)
		}
		for _, s := range c.sourceStates {
			mine := slices.DeleteFunc(c.held(i), func(name string) bool { return c.definer(name) != s })
			checkTargetTables(&c.fs, s, t, mine, c.uncounted)
			checkTargetForeignKeys(&c.fs, c.opts, s, t)
		}
		c.checkCounters(t)
	}
	return nil
}

// place finds out which target shards hold which tables. What can't be placed is a finding of checkSharding, and taken for held by all.
func (c *creation) place(ctx context.Context) error {
	c.layout = &layout{}
	if len(c.targets) == 0 {
		return nil // a finding
	}
	for _, t := range c.targets {
		c.shards = append(c.shards, t.shard)
	}
	var models []*replication.Table
	for _, name := range c.tables() {
		for _, m := range c.definer(name).models {
			if m.Name == name {
				models = append(models, m)
			}
		}
	}
	vs, err := c.m.vschema(ctx, c.name.Keyspace)
	if err != nil {
		return err
	}
	if c.layout, err = c.m.layoutBy(vs, c.shards, models); err != nil {
		anywhere := make(map[*replication.Table]replication.Route, len(models))
		for _, t := range models {
			anywhere[t] = replication.EveryShard()
		}
		c.layout = newLayout(vs, anywhere)
	}
	if err := c.checkSharding(ctx, models); err != nil {
		return err
	}
	return c.feed(ctx)
}

// readSource reads what is needed to select the tables.
func readSource(ctx context.Context, s *sourceShard) (*sourceState, error) {
	st := &sourceState{shard: s.shard, schema: s.cfg.Database, replica: s.replica}
	var err error
	if st.server, err = inspectServer(ctx, s.admin, s.cfg.Addr); err != nil {
		return nil, err
	}
	found, err := databaseExists(ctx, s.admin, st.schema)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &NotFoundError{Kind: "database", Name: st.schema}
	}
	st.tables, err = listTables(ctx, s.admin, st.schema)
	return st, err
}

// describe reads the definitions of the selected tables.
func (s *sourceState) describe(ctx context.Context, db *sql.DB) error {
	if len(s.selected) == 0 {
		return nil
	}
	var readable []string
	for _, name := range s.selected {
		if !s.server.grants.has("SELECT", s.schema, name) {
			continue // a finding of checkTables
		}
		if err := readCreate(ctx, db, s.schema, s.tables[name]); err != nil {
			return fmt.Errorf("table %s: %w", name, err)
		}
		readable = append(readable, name)
	}
	if len(readable) == 0 {
		return nil
	}
	var err error
	if s.models, err = source.Tables(ctx, db, s.schema, readable); err != nil {
		return err
	}
	if s.shapes, err = shapes(ctx, db, s.schema, readable); err != nil {
		return err
	}
	if s.foreignKeys, err = listForeignKeys(ctx, db, s.schema); err != nil {
		return err
	}
	s.triggers, err = listTriggers(ctx, db, s.schema)
	return err
}

// readTarget reads what is on a target shard.
func readTarget(ctx context.Context, t *targetShard) (*targetState, error) {
	st := &targetState{shard: t.shard, schema: t.cfg.Database, tables: map[string]*table{}}
	var err error
	if st.server, err = inspectServer(ctx, t.admin, t.cfg.Addr); err != nil {
		return nil, err
	}
	if st.exists, err = databaseExists(ctx, t.admin, st.schema); err != nil || !st.exists {
		return st, err
	}
	if st.tables, err = listTables(ctx, t.admin, st.schema); err != nil {
		return nil, err
	}
	if st.foreignKeys, err = listForeignKeys(ctx, t.admin, st.schema); err != nil {
		return nil, err
	}
	st.triggers, err = listTriggers(ctx, t.admin, st.schema)
	return st, err
}

// look reads more of the target tables that have the names of selected ones.
func (c *creation) look(ctx context.Context, t *targetShard, st *targetState, selected []string) error {
	st.filled, st.taken = map[string]bool{}, map[string]string{}
	var there []string
	for _, name := range selected {
		have := st.tables[name]
		if have == nil || have.kind != "BASE TABLE" {
			continue
		}
		there = append(there, name)
		filled, err := false, error(nil)
		if c.tenant != nil {
			filled, err = c.tenant.holds(ctx, t, st.schema, name)
		} else {
			filled, err = holdsRows(ctx, t.admin, st.schema, name)
		}
		if err != nil && !mysqlerr.AccessDenied(err) { // the checks name the privilege
			return err
		}
		st.filled[name] = filled
	}
	var err error
	if st.shapes, err = shapes(ctx, t.admin, st.schema, there); err != nil {
		return err
	}
	streams, err := c.m.streams(ctx, t, "")
	for _, s := range streams {
		for _, name := range s.record.names() {
			if s.Workflow != c.name.Workflow && sameTenant(s.record.Tenant, c.tenant) {
				st.taken[name] = s.name().String()
			}
		}
	}
	if mysqlerr.AccessDenied(err) {
		return nil
	}
	return err
}

// holdsRows tells whether a table has a row.
func holdsRows(ctx context.Context, db *sql.DB, schema, name string) (bool, error) {
	found := false
	err := queryStrings(ctx, db, "SELECT 1 FROM "+ident(schema)+"."+ident(name)+" LIMIT 1", func([]string) { found = true })
	return found, err
}

// listTriggers are the names of a database's triggers, by table.
func listTriggers(ctx context.Context, db *sql.DB, schema string) (map[string][]string, error) {
	out := map[string][]string{}
	err := queryStrings(ctx, db, "SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = "+literal(schema), func(v []string) {
		out[v[0]] = append(out[v[0]], v[1])
	})
	return out, err
}

// tablesOf describes the tables of a stream as its source has them.
func tablesOf(ctx context.Context, s *sourceShard, names []string) ([]*replication.Table, error) {
	return source.Tables(ctx, s.admin, s.cfg.Database, names)
}
