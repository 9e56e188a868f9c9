package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
)

// A finishing is one call of Complete or Cancel. What the second call after a crash needs is in the records of the streams, and
// goes with the last of them.
type finishing struct {
	w       *Workflow
	m       *Migrator
	name    WorkflowName
	shards  []*targetShard
	streams []*stream
	ending  ending
	// again says that an earlier call had begun already.
	again bool
	// sources are the primaries of the source's shards, when Complete changes tables there.
	sources []*sourceShard
}

// begin finds the workflow and tells whether the same command was at work on it before.
func (f *finishing) begin(ctx context.Context, e event, doing State, command string) error {
	var err error
	if f.streams, f.shards, err = f.m.load(ctx, f.name); err != nil {
		return err
	}
	for _, s := range f.streams {
		if _, ok := s.state().after(e); !ok {
			return &RefusedError{Workflow: f.name.String(), State: s.state(), Command: command}
		}
		if s.state() == doing && s.record.Ending != nil {
			f.again, f.ending = true, *s.record.Ending
		}
	}
	return nil
}

// tables are those of the workflow, by name.
func (f *finishing) tables() []string {
	var names []string
	for _, s := range f.streams {
		names = append(names, s.record.names()...)
	}
	return sortedUnique(names)
}

// sourceTables are those of the workflow, by their names at the source.
func (f *finishing) sourceTables() []string {
	var names []string
	for _, s := range f.streams {
		names = append(names, s.record.sourceNames()...)
	}
	return sortedUnique(names)
}

// tenant is whose rows the workflow moves; nil for all.
func (f *finishing) tenant() *tenantRecord { return f.streams[0].record.Tenant }

// running are the shards that have streams of the workflow; the others hold nothing of it, or nothing any more but an empty sidecar database.
func (f *finishing) running() []*targetShard {
	return slices.DeleteFunc(slices.Clone(f.shards), func(t *targetShard) bool {
		return !slices.ContainsFunc(f.streams, func(s *stream) bool { return s.shard == t.shard })
	})
}

func (f *finishing) shard(name string) *targetShard {
	i := slices.IndexFunc(f.shards, func(t *targetShard) bool { return t.shard == name })
	return f.shards[i]
}

// stop marks the streams of a shard as ending and makes sure that nobody commits to it any more.
func (f *finishing) stop(ctx context.Context, shard string, e event, message string) error {
	for _, s := range f.streams {
		if s.shard != shard {
			continue
		}
		err := f.m.move(ctx, s, e, message, func(r *record) { r.Ending = &f.ending })
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return err
		}
		if err := f.m.fence(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// forgetSteps remove the workflow's rows, shard by shard.
func (f *finishing) forgetSteps() []Step {
	var steps []Step
	for _, t := range f.shards {
		steps = append(steps, Step{Kind: StepForget, Shard: t.shard, Object: f.name.String(), Text: "streams, progress, logs and vdiffs in " + f.w.Sidecar()})
	}
	return steps
}

// dropTable drops a table of a target shard; a missing one is fine. With emptyOnly a table that holds rows stays.
func (m *Migrator) dropTable(ctx context.Context, t *targetShard, name string, emptyOnly bool) (dropped bool, err error) {
	if emptyOnly {
		filled, err := holdsRows(ctx, t.admin, t.cfg.Database, name)
		switch {
		case mysqlerr.NotFound(err):
			return false, nil
		case err != nil:
			return false, err
		case filled:
			m.log.Warn("a table that an unfinished workflow was about to create holds rows: it stays", "table", name, "shard", t.shard)
			return false, nil
		}
	}
	db, err := m.pools.db(ctx, t.cfg, forSchema)
	if mysqlerr.NotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = db.ExecContext(ctx, "DROP TABLE "+ident(name))
	if mysqlerr.NotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// A CancelResult says what Cancel has done, or would do.
type CancelResult struct {
	Plan *Plan
	// Dropped are the target tables that were dropped, sorted.
	Dropped []string
	// Done is a line for each step that was done.
	Done []string
}

// Cancel gives a workflow up: it stops the streams, drops the target tables that Create made (unless KeepData), and removes
// every trace. The source is not touched and not needed. A workflow that isn't there is an ErrNotFound. When Cancel was killed in the
// middle, calling it again goes on, with the options of the first call.
func (w *Workflow) Cancel(ctx context.Context, o CancelOptions) (*CancelResult, error) {
	var res *CancelResult
	err := w.command(ctx, "Migrate Cancel", func(ctx context.Context, name WorkflowName) error {
		return w.withKeyspace(ctx, name.Keyspace, "Migrate Cancel", func(ctx context.Context) (err error) {
			f := &finishing{w: w, m: w.m, name: name, ending: ending{KeepData: o.KeepData, DeleteBatch: o.DeleteBatch}}
			res, err = f.cancel(ctx, o)
			return err
		})
	})
	return res, err
}

func (f *finishing) cancel(ctx context.Context, o CancelOptions) (*CancelResult, error) {
	if err := f.begin(ctx, eventCancel, StateCancelling, "be cancelled: call Complete again"); err != nil {
		return nil, err
	}
	if !f.again {
		f.ending.Unmade = slices.ContainsFunc(f.streams, func(s *stream) bool { return s.state() == StateCreating })
	}
	res := &CancelResult{Plan: f.planCancel()}
	if o.DryRun {
		return res, nil
	}
	var err error
	res.Done, err = f.w.runSteps(ctx, res.Plan, res.Plan.Steps, func(ctx context.Context, s Step) (string, error) { return f.cancelStep(ctx, s, res) })
	res.Dropped = sortedUnique(res.Dropped)
	if err == nil {
		f.m.log.Info("workflow cancelled", "workflow", f.name.String(), "dropped", len(res.Dropped))
	}
	return res, err
}

func (f *finishing) planCancel() *Plan {
	p := &Plan{Command: "Cancel", Workflow: f.name.String()}
	for _, t := range f.running() {
		p.Steps = append(p.Steps, Step{Kind: StepStop, Shard: t.shard, Text: "for good"})
	}
	for _, t := range f.running() {
		var names, all []string
		for _, s := range f.streams {
			if s.shard == t.shard && !f.ending.KeepData {
				names, all = append(names, s.record.created()...), append(all, s.record.names()...)
			}
		}
		// What is there of the tenant before anything was copied is somebody else's.
		if r := f.tenant(); r != nil && !f.ending.Unmade {
			for _, name := range sortedUnique(all) {
				p.Steps = append(p.Steps, Step{Kind: StepDeleteRows, Shard: t.shard, Object: name, Text: "where " + r.condition()})
			}
		}
		for _, name := range sortedUnique(names) {
			p.Steps = append(p.Steps, Step{Kind: StepDropTable, Shard: t.shard, Object: name})
		}
	}
	p.Steps = append(p.Steps, dropSequenceSteps(f.sequences())...)
	p.Steps = append(p.Steps, f.forgetSteps()...)
	return p
}

func (f *finishing) cancelStep(ctx context.Context, s Step, res *CancelResult) (string, error) {
	if s.Kind == StepDropSequence {
		dropped, err := f.m.dropSequence(ctx, f.name.Keyspace, named(f.sequences(), s.Object))
		if err != nil || !dropped {
			return "", err
		}
		return "dropped sequence " + s.Object, nil
	}
	t := f.shard(s.Shard)
	switch s.Kind {
	case StepStop:
		return "stopped the streams of shard " + s.Shard, f.stop(ctx, s.Shard, eventCancel, "cancelled")
	case StepDeleteRows:
		n, err := f.m.deleteTenant(ctx, t, f.tenant(), s.Object, cmp.Or(f.ending.DeleteBatch, defaultDeleteBatch))
		return fmt.Sprintf("deleted %d rows of table %s on shard %s", n, s.Object, s.Shard), err
	case StepDropTable:
		dropped, err := f.m.dropCreated(ctx, t, f.name.Workflow, f.tenant(), s.Object, f.ending.Unmade)
		if err != nil || !dropped {
			return "", err
		}
		res.Dropped = append(res.Dropped, s.Object)
		return fmt.Sprintf("dropped table %s on shard %s", s.Object, s.Shard), nil
	case StepForget:
		return "removed the workflow from shard " + s.Shard, f.m.forget(ctx, t, f.name)
	default:
		return "", fmt.Errorf("step %q is none of Cancel", s.Kind)
	}
}
