package migrate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/replication"
)

// A CompleteResult says what Complete has done, or would do.
type CompleteResult struct {
	Plan *Plan
	// Positions are, by source shard, the source's positions that the target has applied; empty with Force.
	Positions map[string]string
	// Published are the tables that were added to the VSchema; those that were in it are left as they are.
	Published []string
	// Sequences are the ids that the sequences of AutoIncrementReplace hand out next, by "keyspace.name".
	Sequences map[string]int64
	// Done is a line for each step that was done.
	Done []string
}

// Complete ends a workflow well: it waits until the target has applied all that the source has at the call, stops the
// streams, sets the sequences above the highest ids, publishes the tables in the VSchema, does with the source's tables what SourceTables says,
// and removes every trace of the workflow. What is written to the source after the call may not arrive.
//
// It is refused with an ErrNotReady while the workflow is copying, stopped, in error or lagging, unless Force is set, and when the VSchema has
// changed so that the tables can't be used: one of a sharded keyspace lacks a table, or places its rows in another way than when they were copied. A workflow that
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
	// ends are, by source shard, the positions that the target waits for.
	ends map[string]replication.Position
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
		if f.streams[0].record.filters() {
			return nil, &OptionError{"SourceTables", "the workflow moves some rows of the source's tables only: they can't be renamed or dropped"}
		}
		if err := f.preflightSource(ctx); err != nil {
			return nil, err
		}
	}
	if err := f.checkPublish(ctx); err != nil {
		return nil, err
	}
	f.res = &CompleteResult{Plan: f.plan(), Positions: map[string]string{}, Sequences: map[string]int64{}}
	if f.opts.DryRun {
		return f.res, nil
	}
	// The wait may be long: other workflows of the keyspace need not wait with it.
	n := 0
	for n < len(f.res.Plan.Steps) && f.res.Plan.Steps[n].Kind == StepWait {
		n++
	}
	waits, rest := f.res.Plan.Steps[:n], f.res.Plan.Steps[n:]
	wctx, cancel := context.WithTimeoutCause(ctx, f.opts.Timeout, &NotReadyError{
		Workflow: f.name.String(), State: StateLagging, Reason: fmt.Sprintf("the target has not caught up within %s", f.opts.Timeout),
	})
	defer cancel()
	if err := f.steps(wctx, waits); err != nil {
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
		for _, t := range f.running() {
			p.Steps = append(p.Steps, Step{Kind: StepWait, Shard: t.shard, Text: "until the target has applied what the source has now"})
		}
	}
	for _, t := range f.running() {
		p.Steps = append(p.Steps, Step{Kind: StepStop, Shard: t.shard, Text: "for good"})
	}
	for _, g := range groups(f.streams) {
		if len(g.streams) > 1 {
			p.Steps = append(p.Steps, Step{Kind: StepLevel, Object: g.first().record.SourceShard, Text: "all shards have the source shard's state of one moment"})
		}
	}
	for _, t := range f.running() {
		p.Steps = append(p.Steps, Step{Kind: StepFinishKeys, Shard: t.shard, Text: "deferred keys that are still missing are added"})
	}
	p.Steps = append(p.Steps, f.publishSteps()...)
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
	case StepLevel:
		return f.level(ctx, s.Object)
	case StepFinishKeys:
		return f.finishKeys(ctx, s.Shard)
	case StepSequence:
		return f.setSequence(ctx, named(f.sequences(), s.Object))
	case StepPublish:
		return f.publish(ctx)
	case StepRebuild:
		return "rebuilt SrvVSchema", f.m.topo.RebuildSrvVSchema(ctx)
	case StepRenameSource, StepDropSource:
		return f.sourceStep(ctx, s)
	case StepForget:
		return "removed the workflow from shard " + s.Shard, f.m.forget(ctx, f.shard(s.Shard), f.name)
	default:
		return "", fmt.Errorf("step %q is none of Complete", s.Kind)
	}
}

// wait blocks until the streams of a target shard have applied what their sources had when it was called.
func (f *completion) wait(ctx context.Context, shard string) (string, error) {
	for _, s := range f.streams {
		if s.shard != shard || s.state() == StateStopped {
			continue
		}
		end, err := f.end(ctx, s)
		if err == nil {
			err = f.m.waitApplied(ctx, s, end)
		}
		if err != nil && ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if err != nil {
			return "", err
		}
		f.res.Positions[s.record.SourceShard] = end.Text()
	}
	return "the target has applied all that the source had, on shard " + shard, nil
}

// end is what a stream's source had when it was first asked for; all target shards wait for the same.
func (f *completion) end(ctx context.Context, s *stream) (replication.Position, error) {
	if end, known := f.ends[s.record.SourceShard]; known {
		return end, nil
	}
	end, err := f.m.sourceEnd(ctx, s)
	if err != nil {
		return end, err
	}
	if f.ends == nil {
		f.ends = map[string]replication.Position{}
	}
	f.ends[s.record.SourceShard] = end
	return end, nil
}

// level makes the target shards equal to the source shard at one moment. Without it a row that moved between two of them after the wait could be
// on both, or on none.
func (f *completion) level(ctx context.Context, sourceShard string) (string, error) {
	for _, g := range groups(f.streams) {
		if g.first().record.SourceShard != sourceShard {
			continue
		}
		err := f.m.level(ctx, g)
		if err != nil && f.opts.Force && ctx.Err() == nil {
			f.m.log.Warn("target shards are not level", "workflow", f.name.String(), "source shard", sourceShard, "error", err)
			return fmt.Sprintf("left the target shards at different states of source shard %s, since Force is set: %v", sourceShard, err), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "the target shards have one state of source shard " + sourceShard, nil
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
