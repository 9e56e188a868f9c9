package migrate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
)

// lateAfter is how old a report may be before a running stream is shown as Lagging, and how large its lag.
const lateAfter = 10 * time.Second

// Show tells how a workflow is. It needs the target shards only, not the source, and not the process that runs the
// streams. A workflow that isn't there is an ErrNotFound. When some target shards can't be read, the status is that of the others, and the error says
// which are missing in it; it is nil when none could be read.
func (w *Workflow) Show(ctx context.Context) (*Status, error) {
	streams, err := w.find(ctx)
	if len(streams) == 0 {
		return nil, err
	}
	first := streams[0]
	st := &Status{
		Keyspace: first.keyspace, Workflow: first.Workflow, Mount: first.record.Mount, SourceKeyspace: first.record.SourceKeyspace,
		SourceShards: first.record.SourceShards, TargetShards: first.record.TargetShards, OnDDL: first.record.OnDDL,
		OnDrift: cmp.Or(first.record.OnDrift, replication.OnDriftStop.String()), RetryTime: first.record.RetryTime,
		StopAfterCopy: first.record.StopAfterCopy, DeferSecondaryKeys: first.record.DeferSecondaryKeys,
		SourceTimeZone: first.record.SourceTimeZone, TabletTypes: first.record.TabletTypes, Cells: first.record.Cells,
	}
	all := make([]*StreamStatus, len(streams))
	serr := eachShard(streams, func(i int, s *stream) (err error) {
		all[i], err = w.m.streamStatus(ctx, s)
		return err
	})
	if errors.Is(serr, ErrNotFound) {
		return nil, serr // it was just removed
	}
	var states []State
	for _, one := range all {
		if one != nil {
			st.Streams = append(st.Streams, *one)
			states = append(states, one.State)
		}
	}
	if len(states) == 0 {
		return nil, errors.Join(err, serr)
	}
	st.State = overall(states)
	tables := map[string]TableStatus{}
	for _, one := range st.Streams {
		if one.State == st.State && st.Message == "" {
			st.Message = one.Message
		}
		st.Lag = max(st.Lag, one.Lag)
		for _, t := range one.Tables {
			tables[t.Table] = sum(tables[t.Table], t)
		}
	}
	for _, name := range sortedKeys(tables) {
		st.Tables = append(st.Tables, tables[name])
	}
	return st, errors.Join(err, serr)
}

// Watch yields the status now, and then every interval (0: the Migrator's PollInterval) and as soon as this process changes
// the workflow. It ends when ctx does, or after it has yielded an error.
func (w *Workflow) Watch(ctx context.Context, every time.Duration) iter.Seq2[*Status, error] {
	if every <= 0 {
		every = w.m.opts.PollInterval
	}
	return func(yield func(*Status, error) bool) {
		for ctx.Err() == nil {
			changed := w.m.changed()
			st, err := w.Show(ctx)
			if err != nil && ctx.Err() != nil {
				return
			}
			if !yield(st, err) || err != nil || pause(ctx, changed, every) != nil {
				return
			}
		}
	}
}

// streamStatus reads one stream.
func (m *Migrator) streamStatus(ctx context.Context, s *stream) (*StreamStatus, error) {
	db := m.sidecar(s.targetShard)
	fail := func(err error) error {
		if errors.Is(err, sidecar.ErrNotFound) {
			return &NotFoundError{Kind: "workflow", Name: s.name().String()}
		}
		return fmt.Errorf("target shard %s/%s: %w", s.keyspace, s.shard, err)
	}
	logs, err := db.Logs(ctx, s.ID, 100)
	if err != nil {
		return nil, fail(err)
	}
	mark, err := db.Position(ctx, s.ID)
	if err != nil {
		return nil, fail(err)
	}
	owner, taken, err := m.owner(ctx, s)
	if err != nil {
		return nil, fail(err)
	}
	drifts, err := db.Drifts(ctx, s.ID)
	if err != nil {
		return nil, fail(err)
	}
	st := &StreamStatus{
		Failure: s.record.Failures.newest(), Drifts: drifts,
		ID: s.ID, SourceShard: s.record.SourceShard, TargetShard: s.shard, Tablet: s.tablet.String(), Database: s.cfg.Database,
		State: s.state(), Position: bare(mark.Position), StopPosition: bare(s.StopPosition), Updated: s.Updated, Transaction: mark.Transaction,
		Message: s.Message, Owner: owner,
	}
	st.Lag = lag(s, taken)
	if st.State == StateRunning && st.Lag > lateAfter {
		st.State = StateLagging
	}
	for _, t := range s.record.Tables {
		p := s.Tables[t.Name]
		one := tableStatus(t.Name, p.Rows, p.Bytes, t.Rows, p.Done, p.Started != 0, elapsed(p))
		one.Source, one.Rule = t.Source, t.Rule
		st.RowsCopied += one.Rows
		st.Tables = append(st.Tables, one)
	}
	for _, l := range logs {
		st.Logs = append(st.Logs, LogEntry{
			ID: l.ID, Type: l.Type, State: State(l.State), Created: l.Created, Updated: l.Updated, Message: l.Message, Count: l.Count,
		})
	}
	return st, nil
}

// lag is how far a stream is behind: what it last reported, or the age of that report when that is more. A stream that was just
// taken over has not had the time to report.
func lag(s *stream, taken time.Time) time.Duration {
	if !s.state().runs() {
		return 0
	}
	heard := s.Updated
	if taken.After(heard) {
		heard = taken
	}
	if heard.IsZero() {
		return max(0, s.Lag)
	}
	return max(s.Lag, time.Since(heard)-time.Second, 0)
}

// elapsed is how long a table's copy has taken.
func elapsed(p sidecar.TableProgress) time.Duration {
	if p.Started == 0 {
		return 0
	}
	return time.Duration(max(1, p.Changed-p.Started)) * time.Millisecond
}

// owner is who has taken a stream over last, and when; empty when it was fenced since.
func (m *Migrator) owner(ctx context.Context, s *stream) (owner string, taken time.Time, err error) {
	// The number is in the text: a placeholder would cost a round trip more.
	query := fmt.Sprintf("SELECT owner, taken_at FROM %s WHERE vrepl_id = %d", m.sidecar(s.targetShard).Table("vreplication_epoch"), s.ID)
	var at int64
	err = s.admin.QueryRowContext(ctx, query).Scan(&owner, &at)
	if errors.Is(err, sql.ErrNoRows) || mysqlerr.NotFound(err) {
		return "", time.Time{}, sidecar.ErrNotFound
	}
	if at != 0 && owner != "" {
		taken = time.Unix(at, 0)
	}
	return owner, taken, err
}

// bare is a position without its flavor's prefix, as Vitess shows it.
func bare(pos string) string {
	p, err := replication.ParsePosition(pos)
	if err != nil || p.IsZero() {
		return pos
	}
	return p.Text()
}

// sum adds up a table's status over streams.
func sum(a, b TableStatus) TableStatus {
	if a.Table == "" {
		return b
	}
	a.Rows += b.Rows
	a.Bytes += b.Bytes
	a.RowsTotal += b.RowsTotal
	a.BytesTotal += b.BytesTotal
	a.RowsPerSecond += b.RowsPerSecond
	a.ETA = max(a.ETA, b.ETA)
	if a.Phase != b.Phase {
		a.Phase = PhaseInProgress
	}
	a.Percent = percent(a.Rows, a.RowsTotal, a.Phase)
	return a
}
