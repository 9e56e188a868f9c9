package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/migrate/rule"
	"github.com/tablehaul/tablehaul/topo"
)

// A CreateResult says what Create has made, or would make.
type CreateResult struct {
	Plan *Plan
	// Tables are all tables of the workflow; Created are those that were not on the target. Both are sorted.
	Tables, Created []string
	// Warnings are the findings that did not stop Create.
	Warnings []Finding
	// Done is a line for each step that was done.
	Done []string
}

// Create makes a workflow: it checks both ends, creates the tables on the target and records the streams. It returns
// when that is recorded; the rows are copied by Run, in this process or another.
//
// Everything that is in the way is told at once by a *PreflightError. A workflow that exists is
// an ErrExists; an unknown keyspace or mount an ErrNotFound. After an error nothing is left of the workflow; when the
// process was killed in the middle, the next Create of that name, or Cancel, cleans up.
func (w *Workflow) Create(ctx context.Context, o CreateOptions) (*CreateResult, error) {
	_, err := ParseWorkflowName(w.name)
	if err := errors.Join(err, o.validate()); err != nil {
		return nil, err
	}
	var res *CreateResult
	err = w.command(ctx, "Migrate Create", func(ctx context.Context, name WorkflowName) error {
		return w.withKeyspace(ctx, name.Keyspace, "Migrate Create", func(ctx context.Context) (err error) {
			c := &creation{w: w, m: w.m, name: name, opts: o.withDefaults()}
			res, err = c.run(ctx)
			return err
		})
	})
	return res, err
}

// A creation is one call of Create.
type creation struct {
	w      *Workflow
	m      *Migrator
	name   WorkflowName
	opts   CreateOptions
	source SourceName
	// fromVSchema is the source keyspace's; nil until sourceVSchema is called.
	fromVSchema *topo.VSchema
	fs          findings
	targets     []*targetShard
	sources     []*sourceShard
	// What preflight read, in the order of sources and targets.
	sourceStates []*sourceState
	targetStates []*targetState
	// layout says which of the keyspace's shards hold a table, and feeds which sources which of the targets get rows from.
	layout *layout
	shards []string
	feeds  [][]bool
	// mappings are the rules of Filters, by source table; moved is what becomes of the tables that are not copied as they are, by
	// target table. tenant is whose rows are moved; nil for all.
	mappings map[string]*mapping
	moved    map[string]*moved
	tenant   *tenantRecord
	// sequences give out ids of tables that are spread, instead of AUTO_INCREMENT columns.
	sequences []sequenceRecord
}

func (c *creation) run(ctx context.Context) (*CreateResult, error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	if err := c.preflight(ctx); err != nil {
		return nil, err
	}
	if err := c.fs.err(c.name.String()); err != nil {
		return nil, err
	}
	plan, err := c.plan()
	if err != nil {
		return nil, err
	}
	res := &CreateResult{Plan: plan, Tables: c.tables(), Warnings: c.fs.warnings()}
	for i := range c.targetStates {
		res.Created = append(res.Created, c.missing(i)...)
	}
	res.Created = sortedUnique(res.Created)
	if c.opts.DryRun {
		return res, nil
	}
	if res.Done, err = c.w.runSteps(ctx, plan, plan.Steps, c.do); err != nil {
		// Without the lock somebody else may be at work on the same name, and cleans up what is left here.
		if errors.Is(context.Cause(ctx), topo.ErrLockLost) {
			return nil, err
		}
		cctx, cancel := cleanup(ctx)
		defer cancel()
		return nil, errors.Join(err, c.m.undo(cctx, c.name, c.targets))
	}
	c.m.log.Info("workflow created", "workflow", c.name.String(), "source", c.source.String(), "tables", len(res.Tables))
	return res, nil
}

// connect finds both ends. What an earlier Create left unfinished is removed.
func (c *creation) connect(ctx context.Context) error {
	var err error
	if c.source, err = ParseSourceName(c.opts.Source); err != nil {
		return err
	}
	var targetErr, sourceErr error
	if c.targets, targetErr = c.m.targetShards(ctx, c.name.Keyspace); targetErr == nil {
		if err := c.checkNew(ctx); err != nil {
			return err
		}
	}
	sel := topo.TabletSelector{Types: c.opts.TabletTypes, Cells: c.opts.Cells}
	c.sources, sourceErr = c.m.sourceShards(ctx, c.source, c.opts.SourceShards, sel)
	c.unreachable(SideTarget, &targetErr)
	c.unreachable(SideSource, &sourceErr)
	return errors.Join(targetErr, sourceErr)
}

// checkNew makes sure that no workflow of the name is there.
func (c *creation) checkNew(ctx context.Context) error {
	unmade := false
	var exists error
	for _, t := range c.targets {
		streams, err := c.m.streams(ctx, t, c.name.Workflow)
		if err != nil && !mysqlerr.AccessDenied(err) { // the checks name the privilege
			return fmt.Errorf("target shard %s/%s: %w", t.keyspace, t.shard, err)
		}
		for _, s := range streams {
			if s.state() == StateCreating {
				unmade = true
			} else {
				exists = &ExistsError{Workflow: c.name.String(), State: s.state()}
			}
		}
	}
	switch {
	case !unmade:
		return exists
	case c.opts.DryRun:
		return nil
	}
	c.m.log.Warn("removing an unfinished workflow", "workflow", c.name.String())
	return c.m.undo(ctx, c.name, c.targets)
}

// unreachable turns a server that can't be connected to into a finding, so that everything else is told too.
func (c *creation) unreachable(side Side, err *error) {
	addr, ok := connectError(*err)
	if !ok {
		return
	}
	c.fs.add(Finding{
		Code: CodeUnreachable, Side: side, Server: addr, Message: (*err).Error(), Err: *err,
		Fix: "check address, network, and the account that the credentials callback gives",
	})
	*err = nil
}

// tables are all that are moved, by name.
func (c *creation) tables() []string {
	var names []string
	for _, s := range c.sourceStates {
		names = append(names, s.selected...)
	}
	return sortedUnique(names)
}

// definer is the first source shard that has a table: it says what the table is like.
func (c *creation) definer(table string) *sourceState {
	i := slices.IndexFunc(c.sourceStates, func(s *sourceState) bool { return slices.Contains(s.selected, table) })
	return c.sourceStates[i]
}

// held are the tables that a target shard is to hold.
func (c *creation) held(target int) []string {
	place := slices.Index(c.shards, c.targets[target].shard)
	return slices.DeleteFunc(c.tables(), func(name string) bool { return !c.layout.holds(name, place) })
}

// missing are the tables that Create has to make on a target shard.
func (c *creation) missing(target int) []string {
	return slices.DeleteFunc(c.held(target), func(name string) bool { return c.targetStates[target].tables[name] != nil })
}

// plan says what is going to be done on each target shard.
func (c *creation) plan() (*Plan, error) {
	p := &Plan{Command: "Create", Workflow: c.name.String()}
	for i, t := range c.targetStates {
		text := fmt.Sprintf("streams from %s, tables %s", c.source, strings.Join(c.held(i), ", "))
		p.Steps = append(p.Steps, Step{Kind: StepRecord, Shard: t.shard, Object: c.w.Sidecar(), Text: text})
	}
	for i, t := range c.targetStates {
		if !t.exists {
			p.Steps = append(p.Steps, Step{Kind: StepCreateDatabase, Shard: t.shard, Object: t.schema, SQL: "CREATE DATABASE IF NOT EXISTS " + ident(t.schema)})
		}
		for _, name := range c.missing(i) {
			p.Steps = append(p.Steps, Step{Kind: StepCreateTable, Shard: t.shard, Object: name, SQL: c.split(name).create})
		}
		for _, name := range c.missing(i) {
			// After all are there: the server then renames what foreign keys reference, too.
			if rename := c.renameSQL(name); rename != "" {
				p.Steps = append(p.Steps, Step{Kind: StepRenameColumns, Shard: t.shard, Object: name, SQL: rename})
			}
		}
	}
	for _, s := range c.sequences {
		if s.Create {
			p.Steps = append(p.Steps, Step{Kind: StepCreateSequence, Object: s.String(), SQL: s.createSQL()})
		}
	}
	for _, t := range c.targetStates {
		p.Steps = append(p.Steps, Step{Kind: StepReady, Shard: t.shard})
	}
	if !c.opts.NoAutoStart {
		for _, t := range c.targetStates {
			p.Steps = append(p.Steps, Step{Kind: StepStart, Shard: t.shard})
		}
	}
	return p, nil
}

// A splitTable is the statement that creates a table, and the keys that are added to it later.
type splitTable struct {
	create string
	later  []sidecar.ActionKey
}

// split takes the keys that can wait out of a table's definition.
func (c *creation) split(name string) splitTable {
	s := c.definer(name)
	definitionOf := func(name string) *createText {
		ct := s.tables[name].create
		if c.opts.DropForeignKeys {
			ct = ct.withoutForeignKeys()
		}
		if c.uncounted(name) {
			ct = ct.withoutAutoIncrement()
		}
		return ct
	}
	ct := definitionOf(name)
	if c.opts.KeepSecondaryKeys || c.renameSQL(name) != "" { // the keys have the columns' old names
		return splitTable{create: ct.without(func(definition) bool { return false })}
	}
	identity := ""
	for _, m := range s.models {
		if m.Name == name {
			identity = m.Primary.Name
		}
	}
	var needed [][]string
	for _, other := range s.selected {
		for _, fk := range definitionOf(other).kinds(defForeignKey) {
			if fk.refTable == name {
				needed = append(needed, fk.refColumns)
			}
		}
	}
	deferred := ct.deferrable(identity, needed)
	var later []sidecar.ActionKey
	for _, d := range ct.defs {
		if deferred(d) {
			later = append(later, sidecar.ActionKey{Name: d.name, Definition: d.text})
		}
	}
	return splitTable{create: ct.without(deferred), later: later}
}

// do executes one step.
func (c *creation) do(ctx context.Context, s Step) (string, error) {
	if s.Kind == StepCreateSequence {
		return "created sequence " + s.Object, c.m.createSequence(ctx, named(c.sequences, s.Object))
	}
	i := slices.IndexFunc(c.targets, func(t *targetShard) bool { return t.shard == s.Shard })
	t := c.targets[i]
	switch s.Kind {
	case StepRecord:
		return "recorded the streams of shard " + t.shard, c.record(ctx, i)
	case StepCreateDatabase:
		_, err := t.admin.ExecContext(ctx, s.SQL)
		return "created database " + s.Object, err
	case StepCreateTable:
		db, err := c.m.pools.db(ctx, t.cfg, forSchema)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("created table %s on shard %s", s.Object, t.shard), createTable(ctx, db, s.SQL)
	case StepRenameColumns:
		db, err := c.m.pools.db(ctx, t.cfg, forSchema)
		if err == nil {
			_, err = db.ExecContext(ctx, s.SQL)
		}
		return fmt.Sprintf("renamed columns of table %s on shard %s", s.Object, t.shard), err
	case StepReady:
		return "", c.moveAll(ctx, t, eventCreated)
	case StepStart:
		return "started the streams of shard " + t.shard, c.moveAll(ctx, t, eventStart)
	default:
		return "", fmt.Errorf("step %q is none of Create", s.Kind)
	}
}

func (c *creation) moveAll(ctx context.Context, t *targetShard, e event) error {
	streams, err := c.m.streams(ctx, t, c.name.Workflow)
	if err != nil {
		return err
	}
	target, want := slices.Index(c.targets, t), 0
	for i := range c.sources {
		if c.feeds[i][target] {
			want++
		}
	}
	if len(streams) != want {
		return fmt.Errorf("%d streams are recorded, not %d", len(streams), want)
	}
	for _, s := range streams {
		if err := c.m.move(ctx, s, e, "", nil); err != nil {
			return err
		}
	}
	return nil
}

// record writes the streams of a target shard, in state Creating, with all that is about to be made.
func (c *creation) record(ctx context.Context, target int) error {
	t := c.targets[target]
	db, err := sidecar.Open(ctx, t.admin, c.m.opts.SidecarDatabase)
	if err != nil {
		return err
	}
	for i, src := range c.sources {
		if !c.feeds[i][target] {
			continue
		}
		rec, err := c.newRecord(i, target)
		if err != nil {
			return err
		}
		options, err := rec.text()
		if err != nil {
			return err
		}
		id, err := db.InsertStream(ctx, &sidecar.Stream{
			Workflow: c.name.Workflow, DBName: t.cfg.Database, SourceShard: src.shard, Source: c.sourceText(rec, t.shard),
			State: string(StateCreating), Options: options, Cell: strings.Join(c.opts.Cells, ","),
			TabletTypes: rec.inOrder(), WorkflowType: 3, DeferSecondaryKeys: !c.opts.KeepSecondaryKeys,
		})
		if err != nil {
			return err
		}
		for _, name := range rec.created() {
			if later := c.split(name).later; len(later) > 0 {
				if err := db.AddPostCopyAction(ctx, sidecar.Action{StreamID: id, Table: name, Keys: later}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// newRecord is that of the stream from one source shard to one target shard.
func (c *creation) newRecord(src, target int) (*record, error) {
	onDDL, err := onDDLText(c.opts.OnDDL)
	if err != nil {
		return nil, err
	}
	onDrift, err := onDriftText(c.opts.OnDrift)
	if err != nil {
		return nil, err
	}
	from := c.sourceStates[src]
	rec := &record{
		OnDrift: onDrift, RetryTime: c.opts.RetryTime, SourceShard: from.shard,
		Sequences: c.sequences, Tenant: c.tenant,
		Mount: c.source.Mount, SourceKeyspace: c.source.Keyspace, OnDDL: onDDL, StopAfterCopy: c.opts.StopAfterCopy,
		DeferSecondaryKeys: !c.opts.KeepSecondaryKeys, SourceTimeZone: c.opts.SourceTimeZone, Cells: c.opts.Cells,
	}
	for _, s := range c.sources {
		rec.SourceShards = append(rec.SourceShards, s.shard)
	}
	var feeds []string
	for i, t := range c.targets {
		rec.TargetShards = append(rec.TargetShards, t.shard)
		if c.feeds[src][i] {
			feeds = append(feeds, t.shard)
		}
	}
	if len(feeds) < len(rec.TargetShards) {
		rec.Feeds = feeds
	}
	if len(rec.TargetShards) < len(c.shards) {
		rec.Layout = c.shards
	}
	for _, t := range c.opts.TabletTypes {
		rec.TabletTypes = append(rec.TabletTypes, t.String())
	}
	missing := c.missing(target)
	for _, name := range c.held(target) {
		if !slices.Contains(from.provided, name) {
			continue
		}
		p := c.layout.placement(name)
		t := tableRecord{
			Name: name, Create: slices.Contains(missing, name), Rows: p.share(from.tables[name].rows, len(feeds)), Placement: p,
		}
		c.moved[name].record(&t)
		rec.Tables = append(rec.Tables, t)
	}
	return rec, nil
}

// sourceText is the stream's source as Vitess writes it there: a BinlogSource in the text format of protobuf.
func (c *creation) sourceText(rec *record, shard string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "keyspace:%q shard:%q filter:{", rec.SourceKeyspace, rec.SourceShard)
	for _, t := range rec.Tables {
		of := rule.All(t.source())
		if m := c.moved[t.Name]; m != nil && m.rule != nil {
			of = m.rule
		}
		filter := of.String()
		if t.Placement.spread() {
			filter = of.And(fmt.Sprintf("in_keyrange(%s, '%s.%s', '%s')", strings.Join(t.Placement.Columns, ", "), c.name.Keyspace, t.Placement.Name, shard))
		}
		fmt.Fprintf(&b, "rules:{match:%q filter:%q} ", t.Name, filter)
	}
	fmt.Fprintf(&b, "} on_ddl:%s stop_after_copy:%t external_cluster:%q source_time_zone:%q", rec.OnDDL, rec.StopAfterCopy, rec.Mount, rec.SourceTimeZone)
	return b.String()
}

// undo removes what a Create that failed or was killed has made.
func (m *Migrator) undo(ctx context.Context, name WorkflowName, targets []*targetShard) error {
	var all []*stream
	for _, t := range targets {
		streams, err := m.streams(ctx, t, name.Workflow)
		if err != nil {
			return fmt.Errorf("target shard %s: %w", t.shard, err)
		}
		all = append(all, streams...)
	}
	for _, s := range sequencesOf(all) {
		if !s.Create {
			continue
		}
		// The records go last, since they alone know of the sequences.
		if _, err := m.dropSequence(ctx, name.Keyspace, s); err != nil {
			return fmt.Errorf("sequence %s: %w", s, err)
		}
	}
	// While a stream of it is Creating, none of the workflow has copied anything: what holds rows is somebody else's.
	unmade := slices.ContainsFunc(all, func(s *stream) bool { return s.state() == StateCreating })
	return eachShard(targets, func(_ int, t *targetShard) error { return m.undoShard(ctx, name, t, unmade) })
}

func (m *Migrator) undoShard(ctx context.Context, name WorkflowName, t *targetShard, unmade bool) error {
	streams, err := m.streams(ctx, t, name.Workflow)
	if err != nil {
		return fmt.Errorf("target shard %s: %w", t.shard, err)
	}
	for _, s := range streams {
		if err := m.move(ctx, s, eventCancel, "Create has failed", func(r *record) { r.Ending = &ending{Unmade: unmade} }); err != nil {
			return err
		}
		if err := m.fence(ctx, s); err != nil {
			return err
		}
		for _, table := range s.record.created() {
			if _, err := m.dropCreated(ctx, t, name.Workflow, s.record.Tenant, table, unmade); err != nil {
				return err
			}
		}
	}
	return m.forget(ctx, t, name)
}
