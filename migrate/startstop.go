package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Start lets the streams run: a process that is in Run takes them up within a second or so. It is how a workflow that is
// Stopped or in Error goes on, from where it was. Starting one that runs changes nothing. A workflow that is half created,
// or being removed, is a *RefusedError.
func (w *Workflow) Start(ctx context.Context) error {
	return w.each(ctx, "start", func(ctx context.Context, s *stream) error {
		if s.state().runs() {
			return nil
		}
		return w.m.move(ctx, s, s.startEvent(), "", func(rec *record) { rec.Failures = nil })
	})
}

// startEvent says how the stream starts: with rows left to copy or not.
func (s *stream) startEvent() event {
	for _, t := range s.record.Tables {
		if !s.Tables[t.Name].Done {
			return eventStart
		}
	}
	return eventResume
}

// Stop stops the streams and keeps everything, so that Start goes on where they were. When it returns, nothing more
// is committed to the target, whoever ran the streams, even if that process does not know yet.
func (w *Workflow) Stop(ctx context.Context) error {
	return w.each(ctx, "stop", func(ctx context.Context, s *stream) error {
		if s.state() == StateStopped {
			return nil
		}
		if err := w.m.move(ctx, s, eventStop, "stopped by a user", nil); err != nil {
			return err
		}
		return w.m.fence(ctx, s)
	})
}

// each calls f for every stream, with the workflow's lock. It is refused before it changes anything if some streams are being made or removed.
func (w *Workflow) each(ctx context.Context, command string, f func(context.Context, *stream) error) error {
	return w.command(ctx, "Workflow "+command, func(ctx context.Context, name WorkflowName) error {
		streams, _, err := w.m.load(ctx, name)
		if err != nil {
			return err
		}
		for _, s := range streams {
			if st := s.state(); st == StateCreating || st == StateCompleting || st == StateCancelling {
				return &RefusedError{Workflow: name.String(), State: st, Command: command}
			}
		}
		var errs []error
		for _, s := range streams {
			if err := f(ctx, s); err != nil {
				errs = append(errs, fmt.Errorf("%s workflow %s: shard %s: %w", command, name, s.shard, err))
			}
		}
		return errors.Join(errs...)
	})
}

// Databases are pools of connections to both ends, by shard name, with the shard's database selected: the server of
// each source shard that a stream would read from now, and the primary of each target shard. They belong to the Migrator.
func (w *Workflow) Databases(ctx context.Context) (sources, targets map[string]*sql.DB, err error) {
	streams, err := w.find(ctx)
	if err != nil {
		return nil, nil, err
	}
	sources, targets = map[string]*sql.DB{}, map[string]*sql.DB{}
	for _, s := range streams {
		if targets[s.shard], err = w.m.pools.db(ctx, s.cfg, forOthers); err != nil {
			return nil, nil, fmt.Errorf("target shard %s/%s: %w", s.keyspace, s.shard, err)
		}
		if sources[s.record.SourceShard] != nil {
			continue
		}
		src, err := w.m.sourceOf(ctx, s)
		if err != nil {
			return nil, nil, err
		}
		if sources[src.shard], err = w.m.pools.db(ctx, src.cfg, forOthers); err != nil {
			return nil, nil, fmt.Errorf("source shard %s/%s: %w", s.record.source(), src.shard, err)
		}
	}
	return sources, targets, nil
}
