package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/topo"
)

// A Workflow is a handle to one workflow, "keyspace.name". It holds no state: every method looks at the topology and
// the target shards anew, and any process can call them.
type Workflow struct {
	m    *Migrator
	name string
}

// Name is the name as it was given, "keyspace.name".
func (w *Workflow) Name() string { return w.name }

// Sidecar is the name of the sidecar database on the target shards.
func (w *Workflow) Sidecar() string { return w.m.opts.SidecarDatabase }

// Lock takes the lock that Create, Complete, Cancel and a starting VDiff of the workflow exclude one another with. The
// returned context ends when the lock is lost; unlock must be called. Somebody else's lock is waited for, then it is a *topo.LockedError.
func (w *Workflow) Lock(ctx context.Context, action string) (locked context.Context, unlock func(context.Context) error, err error) {
	name, err := ParseWorkflowName(w.name)
	if err != nil {
		return nil, nil, err
	}
	l, err := w.m.topo.LockName(ctx, name.lockName(), topo.LockOptions{Action: action})
	if err != nil {
		return nil, nil, fmt.Errorf("lock workflow %s: %w", name, err)
	}
	return l.Context(), l.Unlock, nil
}

// command runs f with the workflow's lock.
func (w *Workflow) command(ctx context.Context, action string, f func(ctx context.Context, name WorkflowName) error) (err error) {
	name, err := ParseWorkflowName(w.name)
	if err != nil {
		return err
	}
	if _, err := w.m.topo.Keyspace(ctx, name.Keyspace); err != nil {
		return topoError("keyspace", name.Keyspace, err)
	}
	locked, unlock, err := w.Lock(ctx, action)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release(ctx, unlock)) }()
	return f(locked, name)
}

// withKeyspace runs f with the lock of the target keyspace, which is taken after the workflow's, as
// Vitess's own commands do.
func (w *Workflow) withKeyspace(ctx context.Context, keyspace, action string, f func(ctx context.Context) error) (err error) {
	l, err := w.m.topo.LockKeyspace(ctx, keyspace, topo.LockOptions{Action: action})
	if err != nil {
		return fmt.Errorf("lock keyspace %s: %w", keyspace, err)
	}
	defer func() { err = errors.Join(err, release(ctx, l.Unlock)) }()
	return f(l.Context()) //nolint:contextcheck // a child of ctx that ends with the lock
}

// release gives a lock back, even when ctx has ended. A lock that was lost is not an error here: what was done under it has told.
func release(ctx context.Context, unlock func(context.Context) error) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := unlock(ctx); err != nil && !errors.Is(err, topo.ErrLockLost) {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

// cleanup is a context for what has to be done after ctx has ended.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
}

// runSteps executes steps of a plan. It returns a line for each step that was done.
func (w *Workflow) runSteps(ctx context.Context, p *Plan, steps []Step, do func(context.Context, Step) (string, error)) ([]string, error) {
	var done []string
	for _, s := range steps {
		w.m.opts.Trace.stepStarting(ctx, p.Workflow, s)
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		what, err := do(ctx, s)
		if err != nil {
			return done, fmt.Errorf("%s %s: %s: %w", strings.ToLower(p.Command), p.Workflow, s, err)
		}
		if what != "" {
			done = append(done, what)
		}
	}
	return done, nil
}
