package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/topo"
)

const defaultSidecar = sidecar.DefaultDatabase

// A stream is one stream as it is stored: the sidecar's row, and the record in it.
type stream struct {
	*targetShard
	sidecar.Stream
	record *record
}

// name is the workflow's full name.
func (s *stream) name() WorkflowName { return WorkflowName{s.keyspace, s.Workflow} }

func (s *stream) state() State { return State(s.State) }

func (s *stream) info() StreamInfo {
	return StreamInfo{Workflow: s.name().String(), ID: s.ID, SourceShard: s.record.SourceShard, TargetShard: s.shard}
}

// sidecar is the shard's sidecar for reading; methods give sidecar.ErrNotFound if it isn't there.
func (m *Migrator) sidecar(t *targetShard) *sidecar.DB {
	return sidecar.Attach(t.admin, m.opts.SidecarDatabase)
}

// streams reads the streams of a shard, of one workflow or of all ("").
func (m *Migrator) streams(ctx context.Context, t *targetShard, workflow string) ([]*stream, error) {
	rows, err := m.sidecar(t).Streams(ctx, sidecar.Filter{Workflow: workflow, DBName: t.cfg.Database})
	if errors.Is(err, sidecar.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the streams: %w", err)
	}
	streams := make([]*stream, 0, len(rows))
	for _, r := range rows {
		rec, err := parseRecord(r.Options)
		if err != nil {
			return nil, fmt.Errorf("stream %d of workflow %s: %w", r.ID, r.Workflow, err)
		}
		streams = append(streams, &stream{targetShard: t, Stream: r, record: rec})
	}
	return streams, nil
}

// load reads all streams of a workflow, and the shards of its keyspace. What could be read is returned with the error for the rest. A
// workflow that is not there is a *NotFoundError.
func (m *Migrator) load(ctx context.Context, name WorkflowName) ([]*stream, []*targetShard, error) {
	shards, err := m.targetShards(ctx, name.Keyspace)
	found := make([][]*stream, len(shards))
	err = errors.Join(err, eachShard(shards, func(i int, t *targetShard) (err error) {
		if found[i], err = m.streams(ctx, t, name.Workflow); err != nil {
			return fmt.Errorf("target shard %s/%s: %w", t.keyspace, t.shard, err)
		}
		return nil
	}))
	all := slices.Concat(found...)
	if len(all) == 0 && err == nil {
		return nil, shards, &NotFoundError{Kind: "workflow", Name: name.String()}
	}
	return all, shards, err
}

// find is load for callers that need no shards.
func (w *Workflow) find(ctx context.Context) ([]*stream, error) {
	name, err := ParseWorkflowName(w.name)
	if err != nil {
		return nil, err
	}
	streams, _, err := w.m.load(ctx, name)
	return streams, err
}

// errGone is what move returns for a stream that was removed meanwhile.
var errGone = errors.New("the stream was removed")

// move stores the state that e leads to, and what change makes of the record (nil: nothing). It is atomic against
// other processes. An event that the state does not allow is a *RefusedError.
func (m *Migrator) move(ctx context.Context, s *stream, e event, message string, change func(*record)) error {
	var from, to State
	var refused error
	err := m.sidecar(s.targetShard).UpdateStream(ctx, s.ID, func(row *sidecar.Stream) {
		refused = nil
		from = State(row.State)
		var ok bool
		if to, ok = from.after(e); !ok {
			refused = &RefusedError{Workflow: s.name().String(), State: from, Command: string(e)}
			return
		}
		if change != nil {
			refused = changeRecord(row, s, change)
		}
		if refused == nil {
			row.State, row.Message = string(to), message
		}
	})
	switch {
	case errors.Is(err, sidecar.ErrNotFound):
		return errGone
	case err != nil:
		return err
	case refused != nil:
		return refused
	}
	s.State, s.Message = string(to), message
	if from != to {
		m.log.Info("state changed", "workflow", s.name().String(), "shard", s.shard, "stream", s.ID, "from", from, "to", to, "reason", message)
		m.opts.Trace.stateChanged(s.info(), from, to)
	}
	m.notify()
	return nil
}

// changeRecord changes the record in a row, and in s.
func changeRecord(row *sidecar.Stream, s *stream, change func(*record)) error {
	rec, err := parseRecord(row.Options)
	if err != nil {
		return err
	}
	change(rec)
	text, err := rec.text()
	if err != nil {
		return err
	}
	s.record, row.Options = rec, text
	return nil
}

// graceForOwner is how long a command waits for the owner of a fenced stream to let go of it. The fence
// is what makes the command safe; the wait only spares the owner's half-done statements.
const graceForOwner = 5 * time.Second

// fence makes sure that nothing more is committed by whoever runs the stream, and waits a while for it to stop.
// The state has to have been changed before, so that nobody takes the stream over.
func (m *Migrator) fence(ctx context.Context, s *stream) error {
	if err := m.sidecar(s.targetShard).Fence(ctx, s.ID); err != nil && !errors.Is(err, sidecar.ErrNotFound) {
		return fmt.Errorf("fence stream %d: %w", s.ID, err)
	}
	l, err := m.topo.LockName(ctx, s.ownerLock(), topo.LockOptions{Action: "stop", Wait: graceForOwner})
	if errors.Is(err, topo.ErrLocked) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for the owner of stream %d: %w", s.ID, err)
	}
	return release(ctx, l.Unlock)
}

// forget removes all rows of a workflow on one shard, and the sidecar if nothing else is in it.
func (m *Migrator) forget(ctx context.Context, t *targetShard, name WorkflowName) error {
	streams, err := m.sidecar(t).Streams(ctx, sidecar.Filter{Workflow: name.Workflow, DBName: t.cfg.Database})
	if errors.Is(err, sidecar.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	db := m.sidecar(t)
	if err := db.DeleteVDiffs(ctx, name.Keyspace, name.Workflow); err != nil {
		return err
	}
	for _, s := range streams {
		if err := db.DeleteStream(ctx, s.ID); err != nil {
			return err
		}
	}
	_, err = db.DropIfUnused(ctx)
	return err
}

// pause waits for a change by this process, or for the interval to pass.
func pause(ctx context.Context, changed <-chan struct{}, interval time.Duration) error {
	t := time.NewTimer(interval)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-changed:
	case <-t.C:
	}
	return nil
}
