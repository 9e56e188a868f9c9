package vdiff

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
)

// staleAfter is the silence after which the runner of a comparison counts as dead; see aliveEvery.
const staleAfter = 30 * time.Second

// A store keeps the comparisons of one workflow in the sidecar database of the workflow's first target shard.
type store struct {
	db                 *sql.DB
	sidecar            *sidecar.DB
	keyspace, workflow string
}

// A record is a stored comparison.
type record struct {
	id     int64
	report *Report
}

// do runs f, again after transient trouble; f must have no effect when it fails, or the same one twice.
func (s *store) do(ctx context.Context, f func() error) error {
	return again(ctx, mysqlerr.Target, f)
}

// insert records a comparison in the report's state.
func (s *store) insert(ctx context.Context, r *Report) (*record, error) {
	options, err := json.Marshal(r.Options)
	if err != nil {
		return nil, err
	}
	id, err := s.sidecar.InsertVDiff(ctx, &sidecar.VDiff{
		UUID: r.UUID, Keyspace: s.keyspace, Workflow: s.workflow, Shard: shardText(r.TargetShards), State: string(r.State), Options: string(options),
	})
	if errors.Is(err, sidecar.ErrExists) {
		return nil, fmt.Errorf("workflow %s.%s: %w: %s", s.keyspace, s.workflow, ErrExists, r.UUID)
	}
	if err == nil {
		// Says that somebody runs it, if the state says so, and when that began.
		err = s.do(ctx, func() error { return s.sidecar.UpdateVDiff(ctx, id, string(r.State), "") })
	}
	return &record{id: id, report: r}, err
}

// shardBytes is what the record holds of the shards' names; they are there for people.
const shardBytes = 255

func shardText(shards []string) string {
	text := strings.Join(shards, ",")
	if len(text) <= shardBytes {
		return text
	}
	return fmt.Sprintf("%d shards", len(shards))
}

// claimable is the condition that nobody runs a comparison, and nobody need not.
var claimable = fmt.Sprintf("(state='%s' OR state='%s' AND COALESCE(liveness_timestamp,created_at)<CURRENT_TIMESTAMP(6)-INTERVAL %d SECOND)",
	StatePending, StateStarted, int(staleAfter.Seconds()))

// claim makes the caller the runner of a comparison that is pending or whose runner is dead, and tells whether
// that worked. Its tables begin anew.
func (s *store) claim(ctx context.Context, id int64) (bool, error) {
	res, err := s.db.ExecContext(ctx, "UPDATE "+s.sidecar.Table("vdiff")+" SET state=?,started_at=CURRENT_TIMESTAMP(6),liveness_timestamp=CURRENT_TIMESTAMP(6),"+
		"completed_at=NULL,last_error='' WHERE id=? AND "+claimable, string(StateStarted), id)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	if err != nil || n == 0 {
		return false, err
	}
	_, err = s.db.ExecContext(ctx, "DELETE FROM "+s.sidecar.Table("vdiff_table")+" WHERE vdiff_id=?", id)
	return err == nil, err
}

// pending lists the UUIDs of the comparisons that can be claimed, oldest first.
func (s *store) pending(ctx context.Context) (uuids []string, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT vdiff_uuid FROM "+s.sidecar.Table("vdiff")+" WHERE keyspace=? AND workflow=? AND "+claimable+" ORDER BY id",
		s.keyspace, s.workflow)
	if mysqlerr.NotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var uuid string
		if err := rows.Scan(&uuid); err != nil {
			return nil, err
		}
		uuids = append(uuids, uuid)
	}
	return uuids, rows.Err()
}

// alive says that the comparison's runner lives; false if the comparison is gone.
func (s *store) alive(ctx context.Context, r *record) (bool, error) {
	if err := s.sidecar.TouchVDiff(ctx, r.id); err != nil {
		return false, err
	}
	_, err := s.sidecar.VDiff(ctx, r.report.UUID)
	if errors.Is(err, sidecar.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// finish records a comparison's last state.
func (s *store) finish(ctx context.Context, id int64, state State, message string) error {
	return s.do(ctx, func() error {
		if err := s.sidecar.UpdateVDiff(ctx, id, string(state), message); err != nil {
			return err
		}
		return s.sidecar.LogVDiff(ctx, id, "State changed to: "+string(state))
	})
}

func (s *store) log(ctx context.Context, id int64, message string) error {
	return s.do(ctx, func() error { return s.sidecar.LogVDiff(ctx, id, message) })
}

// saveTable records what has been found in a table.
func (s *store) saveTable(ctx context.Context, id int64, t *TableReport, upTo replication.Key) error {
	report, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return s.do(ctx, func() error {
		return s.sidecar.SaveVDiffTable(ctx, sidecar.VDiffTable{
			VDiffID: id, Table: t.Table, State: string(t.State), LastPK: upTo, TableRows: t.RowsEstimate, RowsCompared: t.RowsCompared(),
			Mismatch: t.HasMismatch(), Report: string(report),
		})
	})
}

// list returns the comparisons of the workflow, newest first, without their tables.
func (s *store) list(ctx context.Context) ([]*record, error) {
	stored, err := s.sidecar.VDiffs(ctx, s.keyspace, s.workflow)
	if errors.Is(err, sidecar.ErrNotFound) {
		// No workflow has written to this server yet.
		return nil, nil
	}
	out := make([]*record, 0, len(stored))
	for i := range stored {
		r, rerr := newRecord(&stored[i])
		if err = errors.Join(err, rerr); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, err
}

func newRecord(v *sidecar.VDiff) (*record, error) {
	r := &Report{
		Workflow: v.Workflow, Keyspace: v.Keyspace, UUID: v.UUID, State: State(v.State), LastError: v.LastError,
		CreatedAt: v.Created, StartedAt: v.Started, CompletedAt: v.Completed,
	}
	if v.Options != "" {
		if err := json.Unmarshal([]byte(v.Options), &r.Options); err != nil {
			return nil, fmt.Errorf("stored options of vdiff %s: %w", v.UUID, err)
		}
	}
	return &record{id: v.ID, report: r}, nil
}

// find returns a comparison by UUID or "last", with its tables.
func (s *store) find(ctx context.Context, uuid string) (*record, error) {
	var v *sidecar.VDiff
	var err error
	if uuid == Last {
		v, err = s.sidecar.LastVDiff(ctx, s.keyspace, s.workflow)
	} else {
		v, err = s.sidecar.VDiff(ctx, uuid)
	}
	if errors.Is(err, sidecar.ErrNotFound) || err == nil && (v.Keyspace != s.keyspace || v.Workflow != s.workflow) {
		return nil, &NotFoundError{Kind: "vdiff", Name: uuid, Workflow: s.keyspace + "." + s.workflow}
	}
	if err != nil {
		return nil, err
	}
	r, err := newRecord(v)
	if err != nil {
		return nil, err
	}
	return r, s.loadTables(ctx, r)
}

func (s *store) loadTables(ctx context.Context, r *record) error {
	tables, err := s.sidecar.VDiffTables(ctx, r.id)
	if err != nil {
		return err
	}
	for _, v := range tables {
		t := new(TableReport)
		if err := json.Unmarshal([]byte(v.Report), t); err != nil {
			return fmt.Errorf("stored report of vdiff %s, table %s: %w", r.report.UUID, v.Table, err)
		}
		t.UpdatedAt = v.Updated
		r.report.Tables = append(r.report.Tables, t)
	}
	return nil
}
