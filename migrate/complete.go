package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

// A CompleteResult says what Complete has done, or would do.
type CompleteResult struct {
	Plan *Plan
	// Positions are, by source shard, the source's positions that the target has applied; empty with Force.
	Positions map[string]string
	// Published are the tables that were added to the VSchema; those that were in it are left as they are.
	Published []string
	// Done is a line for each step that was done.
	Done []string
}

// Complete ends a workflow well: it waits until the target has applied all that the source has at the call, stops the
// streams, publishes the tables in the VSchema, does with the source's tables what SourceTables says,
// and removes every trace of the workflow. What is written to the source after the call may not arrive.
//
// It is refused with an ErrNotReady while the workflow is copying, stopped, in error or lagging, unless Force is set. A workflow that
// isn't there is an ErrNotFound. When Complete was killed in the middle, calling it again goes on, with the
// options of the first call.
func (w *Workflow) Complete(ctx context.Context, o CompleteOptions) (*CompleteResult, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	var res *CompleteResult
	err := w.command(ctx, "Migrate Complete", func(ctx context.Context, name WorkflowName) (err error) {
		f := &completion{finishing: finishing{w: w, m: w.m, name: name, ending: ending{SourceTables: o.SourceTables}}, opts: o}
		res, err = f.run(ctx)
		return err
	})
	return res, err
}

// A completion is one call of Complete.
type completion struct {
	finishing
	opts CompleteOptions
	res  *CompleteResult
}

func (f *completion) run(ctx context.Context) (*CompleteResult, error) {
	if err := f.begin(ctx, eventComplete, StateCompleting, "complete"); err != nil {
		return nil, err
	}
	if !f.again && !f.opts.Force {
		if err := f.ready(ctx); err != nil {
			return nil, err
		}
	}
	if f.ending.SourceTables != KeepSourceTables {
		if err := f.preflightSource(ctx); err != nil {
			return nil, err
		}
	}
	f.res = &CompleteResult{Plan: f.plan(), Positions: map[string]string{}}
	if f.opts.DryRun {
		return f.res, nil
	}
	// The wait may be long: other workflows of the keyspace need not wait with it.
	n := 0
	for n < len(f.res.Plan.Steps) && f.res.Plan.Steps[n].Kind == StepWait {
		n++
	}
	waits, rest := f.res.Plan.Steps[:n], f.res.Plan.Steps[n:]
	if err := f.steps(ctx, waits); err != nil {
		return f.res, err
	}
	err := f.w.withKeyspace(ctx, f.name.Keyspace, "Migrate Complete", func(ctx context.Context) error { return f.steps(ctx, rest) })
	if err != nil {
		return f.res, err
	}
	f.m.log.Info("workflow completed", "workflow", f.name.String(), "tables", len(f.tables()))
	return f.res, nil
}

func (f *completion) steps(ctx context.Context, steps []Step) error {
	done, err := f.w.runSteps(ctx, f.res.Plan, steps, f.do)
	f.res.Done = append(f.res.Done, done...)
	return err
}

// ready refuses a workflow whose target is not, or not nearly, what the source is.
func (f *completion) ready(ctx context.Context) error {
	for _, s := range f.streams {
		st, err := f.m.streamStatus(ctx, s)
		if err != nil {
			return err
		}
		refuse := func(format string, args ...any) error {
			reason := fmt.Sprintf("shard %s is %s: ", s.shard, st.State) + fmt.Sprintf(format, args...)
			return &NotReadyError{Workflow: f.name.String(), State: st.State, Reason: reason}
		}
		unfinished := slices.IndexFunc(st.Tables, func(t TableStatus) bool { return t.Phase != PhaseComplete })
		switch {
		case s.state() == StateCompleting:
		case s.state() == StateError:
			return refuse("%s", st.Message)
		case unfinished >= 0:
			t := st.Tables[unfinished]
			return refuse("table %s is copied to %.1f%%", t.Table, t.Percent)
		case s.state() == StateCopying:
			return refuse("the copy is about to end")
		case s.state() == StateStopped && !s.record.StopAfterCopy:
			return refuse("start it, so that the target catches up with the source")
		case s.state() != StateStopped && st.Lag > f.opts.MaxLag:
			return refuse("it lags %s behind the source, more than %s", st.Lag.Round(time.Second), f.opts.MaxLag)
		}
	}
	return nil
}

func (f *completion) plan() *Plan {
	p := &Plan{Command: "Complete", Workflow: f.name.String()}
	if !f.opts.Force && !f.again {
		for _, t := range f.shards {
			p.Steps = append(p.Steps, Step{Kind: StepWait, Shard: t.shard, Text: "until the target has applied what the source has now"})
		}
	}
	for _, t := range f.shards {
		p.Steps = append(p.Steps, Step{Kind: StepStop, Shard: t.shard, Text: "for good"})
	}
	for _, t := range f.shards {
		p.Steps = append(p.Steps, Step{Kind: StepFinishKeys, Shard: t.shard, Text: "deferred keys that are still missing are added"})
	}
	p.Steps = append(p.Steps,
		Step{Kind: StepPublish, Object: f.name.Keyspace, Text: "tables " + strings.Join(f.tables(), ", ")},
		Step{Kind: StepRebuild, Object: "SrvVSchema", Text: "in all cells"})
	p.Steps = append(p.Steps, f.sourceSteps()...)
	p.Steps = append(p.Steps, f.forgetSteps()...)
	return p
}

func (f *completion) do(ctx context.Context, s Step) (string, error) {
	switch s.Kind {
	case StepWait:
		return f.wait(ctx, s.Shard)
	case StepStop:
		return "stopped the streams of shard " + s.Shard, f.stop(ctx, s.Shard, eventComplete, "completing")
	case StepFinishKeys:
		return f.finishKeys(ctx, s.Shard)
	case StepPublish:
		added, err := f.m.publish(ctx, f.name.Keyspace, f.tables())
		f.res.Published = added
		return fmt.Sprintf("added %d table(s) to the VSchema of %s", len(added), f.name.Keyspace), err
	case StepRebuild:
		return "rebuilt SrvVSchema", f.m.topo.RebuildSrvVSchema(ctx)
	case StepRenameSource, StepDropSource:
		return f.sourceStep(ctx, s)
	case StepForget:
		return "removed the workflow from shard " + s.Shard, f.m.forget(ctx, f.shard(s.Shard), f.name)
	}
	return "", fmt.Errorf("step %q is none of Complete", s.Kind)
}

// wait blocks until the streams of a target shard have applied what their sources had when it was called.
func (f *completion) wait(ctx context.Context, shard string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.opts.Timeout, &NotReadyError{
		Workflow: f.name.String(), State: StateLagging, Reason: fmt.Sprintf("the target has not caught up within %s", f.opts.Timeout),
	})
	defer cancel()
	for _, s := range f.streams {
		if s.shard != shard || s.state() == StateStopped {
			continue
		}
		end, err := f.m.sourceEnd(ctx, s)
		if err != nil {
			return "", err
		}
		if err := f.m.waitApplied(ctx, s, end); err != nil {
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			return "", err
		}
		f.res.Positions[s.record.SourceShard] = end.Text()
	}
	return "the target has applied all that the source had, on shard " + shard, nil
}

// finishKeys adds deferred keys that are not there yet: a workflow that was forced to its end may lack some.
func (f *completion) finishKeys(ctx context.Context, shard string) (string, error) {
	t := f.shard(shard)
	db, err := f.m.pools.db(ctx, t.cfg, forSchema)
	if err != nil {
		return "", err
	}
	n := 0
	for _, s := range f.streams {
		if s.shard != shard {
			continue
		}
		actions, err := f.m.sidecar(t).PostCopyActions(ctx, s.ID)
		if err != nil {
			return "", err
		}
		for _, a := range actions {
			for _, k := range a.Keys {
				_, err := db.ExecContext(ctx, "ALTER TABLE "+ident(a.Table)+" ADD "+k.Definition)
				if err != nil && !mysqlerr.AlreadyDone(err) {
					return "", fmt.Errorf("table %s: %w", a.Table, err)
				}
			}
			if err := f.m.sidecar(t).DeletePostCopyAction(ctx, s.ID, a.Table); err != nil {
				return "", err
			}
			n++
		}
	}
	if n == 0 {
		return "", nil
	}
	return fmt.Sprintf("added deferred keys to %d table(s) on shard %s", n, shard), nil
}

// sourceSteps are what happens to the tables at the source.
func (f *completion) sourceSteps() []Step {
	var steps []Step
	for _, src := range f.sources {
		for _, name := range f.tables() {
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
	for _, s := range f.streams {
		primary := topo.TabletSelector{Types: []topo.TabletType{topo.TabletPrimary}}
		sources, err := f.m.sourceShards(ctx, s.record.source(), primary)
		if err != nil {
			return err
		}
		for _, src := range sources {
			if src.shard != s.record.SourceShard || slices.ContainsFunc(f.sources, func(o *sourceShard) bool { return o.shard == src.shard }) {
				continue
			}
			f.sources = append(f.sources, src)
			if err := f.checkSource(ctx, &fs, src); err != nil {
				return fmt.Errorf("source shard %s/%s: %w", s.record.source(), src.shard, err)
			}
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
	for _, name := range f.tables() {
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
	schema, going := src.cfg.Database, f.tables()
	return queryStrings(ctx, src.admin, "SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, REFERENCED_TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE"+
		" WHERE REFERENCED_TABLE_SCHEMA = "+literal(schema)+" AND REFERENCED_TABLE_NAME IN ("+literals(going)+") AND ORDINAL_POSITION = 1", func(v []string) {
		if v[0] == schema && slices.Contains(going, v[1]) {
			return
		}
		fs.add(Finding{Code: CodeForeignKey, Side: SideSource, Server: src.cfg.Addr, Object: v[3],
			Message: fmt.Sprintf("table %s is referenced by foreign key %s of %s.%s, which stays", ident(v[3]), ident(v[2]), ident(v[0]), ident(v[1])),
			Fix:     "drop that foreign key, or rename or keep the source tables"})
	})
}

// WaitApplied blocks until every target shard has durably applied position p of a source shard, whoever runs
// the streams. With a zero position it only looks at the states. A stream that is not going to get there is a
// *StreamStoppedError, at once.
func (w *Workflow) WaitApplied(ctx context.Context, sourceShard string, p replication.Position) error {
	streams, err := w.find(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, s := range streams {
		if s.record.SourceShard != sourceShard {
			continue
		}
		found = true
		if err := w.m.waitApplied(ctx, s, p); err != nil {
			return err
		}
	}
	if !found {
		return &NotFoundError{Kind: "source shard", Name: sourceShard}
	}
	return nil
}

// waitApplied polls the position of one stream.
func (m *Migrator) waitApplied(ctx context.Context, s *stream, p replication.Position) error {
	db := m.sidecar(s.targetShard)
	for {
		row, err := db.Stream(ctx, s.ID)
		if err != nil {
			return fmt.Errorf("target shard %s: %w", s.shard, err)
		}
		if State(row.State) != StateRunning {
			return &StreamStoppedError{Shard: s.shard, State: State(row.State), Message: row.Message}
		}
		if p.IsZero() {
			return nil
		}
		mark, err := db.Position(ctx, s.ID)
		if err != nil {
			return fmt.Errorf("target shard %s: %w", s.shard, err)
		}
		if mark.Position != "" {
			have, err := replication.ParsePosition(mark.Position)
			if err != nil {
				return fmt.Errorf("target shard %s: %w", s.shard, err)
			}
			if have.Covers(p) {
				return nil
			}
		}
		if err := pause(ctx, nil, 20*time.Millisecond); err != nil {
			return fmt.Errorf("target shard %s has not applied %s: %w", s.shard, p.Text(), err)
		}
	}
}

// sourceEnd is what a stream's source has now: what its primary has, so that a replica that lags does not count
// as all; without a primary, what the server has that the stream reads from.
func (m *Migrator) sourceEnd(ctx context.Context, s *stream) (replication.Position, error) {
	primary := topo.TabletSelector{Types: []topo.TabletType{topo.TabletPrimary}}
	sources, err := m.sourceShards(ctx, s.record.source(), primary)
	if errors.Is(err, ErrNotFound) {
		sel, serr := s.record.selector()
		if serr != nil {
			return replication.Position{}, serr
		}
		sources, err = m.sourceShards(ctx, s.record.source(), sel)
	}
	if err != nil {
		return replication.Position{}, err
	}
	for _, src := range sources {
		if src.shard != s.record.SourceShard {
			continue
		}
		var text string
		if err := src.admin.QueryRowContext(ctx, "SELECT CONCAT('MySQL56/', @@GLOBAL.gtid_executed)").Scan(&text); err != nil {
			return replication.Position{}, fmt.Errorf("position of source %s: %w", src.cfg.Addr, err)
		}
		return replication.ParsePosition(text)
	}
	return replication.Position{}, &NotFoundError{Kind: "source shard", Name: s.record.SourceShard}
}
