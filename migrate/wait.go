package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

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
	names := []string{s.record.SourceShard}
	sources, err := m.sourceShards(ctx, s.record.source(), names, primary)
	_, unread := errors.AsType[*topo.CellError](err) // then there may be one
	if errors.Is(err, ErrNotFound) && !unread {
		sel, serr := s.record.selector()
		if serr != nil {
			return replication.Position{}, serr
		}
		sources, err = m.sourceShards(ctx, s.record.source(), names, sel)
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
