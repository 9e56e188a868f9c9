package sidecar

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
)

// ringSlots is the number of rows that positions are written to in turn.
const ringSlots = 8

// A Stream is one row of vreplication.
type Stream struct {
	// ID is given by InsertStream.
	ID       int64
	Workflow string
	// Source is JSON that says what is read: mount, keyspace, shard, tables. It is not interpreted here.
	Source string
	// SourceShard makes the stream unique among those of (Workflow, DBName).
	SourceShard string
	// Position is folded from the ring about once a second, for people; DB.Position is exact. StopPosition is empty
	// if the stream has no end.
	Position, StopPosition string
	Cell, TabletTypes      string
	// Updated is when progress was last reported, Transaction the source's time of the last applied
	// transaction, Heartbeat when the source was last heard of. They are zero before that; whole seconds.
	Updated, Transaction, Heartbeat time.Time
	State, Message, DBName          string
	RowsCopied                      int64
	Tags                            string
	WorkflowType, WorkflowSubType   int
	DeferSecondaryKeys              bool
	// Options is JSON of the workflow, not interpreted here.
	Options string
	// Lag is how far the target is behind, negative if it isn't known.
	Lag time.Duration
	// Tables is how far each table's copy was at the last report.
	Tables map[string]TableProgress
}

// TableProgress is the copy of one table as last reported.
type TableProgress struct {
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"`
	Done  bool  `json:"done"`
	// Key is the identifying key by which the table's spans are to be read: columns with their types.
	Key string `json:"key,omitempty"`
	// Started is when the first rows were seen to be copied, Changed when Rows last grew; Unix milliseconds,
	// 0 if not yet.
	Started int64 `json:"started,omitempty"`
	Changed int64 `json:"changed,omitempty"`
}

// An ExistsError is an ErrExists that names the stream.
type ExistsError struct{ Workflow, DBName, SourceShard string }

func (e *ExistsError) Error() string {
	return fmt.Sprintf("stream of workflow %s to %s from shard %s exists already", e.Workflow, e.DBName, e.SourceShard)
}

// Is tells that e is an ErrExists.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// InsertStream records a stream, with its ring and epoch, and returns its id. If the tables have just been dropped by
// another process it makes them again. An *ExistsError says that the stream is there.
func (d *DB) InsertStream(ctx context.Context, s *Stream) (int64, error) {
	id, err := d.insertStream(ctx, s)
	if mysqlerr.NotFound(err) {
		if err := d.Ensure(ctx); err != nil {
			return 0, err
		}
		id, err = d.insertStream(ctx, s)
	}
	if mysqlerr.DuplicateKey(err) {
		err = &ExistsError{s.Workflow, s.DBName, s.SourceShard}
	}
	return id, d.wrap("insert stream", err)
}

func (d *DB) insertStream(ctx context.Context, s *Stream) (id int64, err error) {
	err = d.tx(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "INSERT INTO "+d.table("vreplication")+` (workflow, source, source_shard, pos, stop_pos, cell,
 tablet_types, state, message, db_name, tags, workflow_type, workflow_sub_type, defer_secondary_keys, options, progress)
 VALUES (?, ?, ?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '')`, s.Workflow, s.Source, s.SourceShard, nullable(s.StopPosition), s.Cell,
			s.TabletTypes, s.State, clip(s.Message), s.DBName, s.Tags, s.WorkflowType, s.WorkflowSubType, s.DeferSecondaryKeys, s.Options)
		if err != nil {
			return err
		}
		if id, err = r.LastInsertId(); err != nil {
			return err
		}
		if _, err = tx.ExecContext(ctx, "INSERT INTO "+d.table("vreplication_epoch")+" VALUES (?, 0, '', 0)", id); err != nil {
			return err
		}
		slots := "INSERT INTO " + d.table("vreplication_pos") + " (vrepl_id, slot, seq, pos, transaction_timestamp) VALUES "
		for i := range ringSlots {
			if i > 0 {
				slots += ", "
			}
			slots += fmt.Sprintf("(%d, %d, 0, '', 0)", id, i)
		}
		if _, err = tx.ExecContext(ctx, slots); err != nil {
			return err
		}
		text, err := json.Marshal(map[string]any{
			"id": id, "workflow": s.Workflow, "source_shard": s.SourceShard, "db_name": s.DBName, "state": s.State,
			"cell": s.Cell, "tablet_types": s.TabletTypes, "defer_secondary_keys": s.DeferSecondaryKeys,
		})
		if err != nil {
			return err
		}
		return d.log(ctx, tx, id, "Stream Created", s.State, string(text))
	})
	return id, err
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

const streamColumns = `id, workflow, source, source_shard, pos, COALESCE(stop_pos, ''), cell, tablet_types, time_updated,
 transaction_timestamp, time_heartbeat, state, message, db_name, rows_copied, tags, workflow_type, workflow_sub_type,
 defer_secondary_keys, options, lag_ms, progress`

// Stream reads a stream; ErrNotFound if there is none with that id.
func (d *DB) Stream(ctx context.Context, id int64) (*Stream, error) {
	s, err := scanStream(d.db.QueryRowContext(ctx, "SELECT "+streamColumns+" FROM "+d.table("vreplication")+" WHERE id = ?", id))
	return s, d.wrap(fmt.Sprintf("stream %d", id), err)
}

// A Filter picks streams; an empty field means any.
type Filter struct{ Workflow, DBName string }

// Streams lists streams by id. Without a sidecar database the error is an ErrNotFound.
func (d *DB) Streams(ctx context.Context, f Filter) ([]Stream, error) {
	query, args := "SELECT "+streamColumns+" FROM "+d.table("vreplication")+" WHERE TRUE", []any(nil)
	if f.Workflow != "" {
		query, args = query+" AND workflow = ?", append(args, f.Workflow)
	}
	if f.DBName != "" {
		query, args = query+" AND db_name = ?", append(args, f.DBName)
	}
	rows, err := d.db.QueryContext(ctx, query+" ORDER BY id", args...)
	if err != nil {
		return nil, d.wrap("list streams", err)
	}
	defer rows.Close()
	var list []Stream
	for rows.Next() {
		s, err := scanStream(rows)
		if err != nil {
			return nil, d.wrap("list streams", err)
		}
		list = append(list, *s)
	}
	return list, d.wrap("list streams", rows.Err())
}

func scanStream(row interface{ Scan(...any) error }) (*Stream, error) {
	var s Stream
	var updated, transaction, heartbeat, lag int64
	var progress string
	err := row.Scan(&s.ID, &s.Workflow, &s.Source, &s.SourceShard, &s.Position, &s.StopPosition, &s.Cell, &s.TabletTypes, &updated,
		&transaction, &heartbeat, &s.State, &s.Message, &s.DBName, &s.RowsCopied, &s.Tags, &s.WorkflowType, &s.WorkflowSubType,
		&s.DeferSecondaryKeys, &s.Options, &lag, &progress)
	if err != nil {
		return nil, err
	}
	s.Updated, s.Transaction, s.Heartbeat = seconds(updated), seconds(transaction), seconds(heartbeat)
	s.Lag = time.Duration(lag) * time.Millisecond
	if progress != "" {
		if err := json.Unmarshal([]byte(progress), &s.Tables); err != nil {
			return nil, fmt.Errorf("stream %d: column progress: %w", s.ID, err)
		}
	}
	return &s, nil
}

func seconds(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// UpdateState sets state and message, and logs a new state. Message is cut after 16,000 bytes.
func (d *DB) UpdateState(ctx context.Context, id int64, state, message string) error {
	return d.UpdateStream(ctx, id, func(s *Stream) { s.State, s.Message = state, message })
}

// UpdateStream changes a stream by f, which sees it as it is and may be called again after a lock conflict.
// Of what f does these stay: Source, StopPosition, Cell, TabletTypes, State, Message, Tags, WorkflowType,
// WorkflowSubType, DeferSecondaryKeys and Options. A new state is logged.
func (d *DB) UpdateStream(ctx context.Context, id int64, f func(*Stream)) error {
	err := d.tx(ctx, func(tx *sql.Tx) error {
		s, err := scanStream(tx.QueryRowContext(ctx,
			"SELECT "+streamColumns+" FROM "+d.table("vreplication")+" WHERE id = ? FOR UPDATE", id))
		if err != nil {
			return err
		}
		before := s.State
		f(s)
		s.Message = clip(s.Message)
		_, err = tx.ExecContext(ctx, "UPDATE "+d.table("vreplication")+` SET source = ?, stop_pos = ?, cell = ?, tablet_types = ?, state = ?,
 message = ?, tags = ?, workflow_type = ?, workflow_sub_type = ?, defer_secondary_keys = ?, options = ? WHERE id = ?`,
			s.Source, nullable(s.StopPosition), s.Cell, s.TabletTypes, s.State, s.Message, s.Tags, s.WorkflowType, s.WorkflowSubType,
			s.DeferSecondaryKeys, s.Options, id)
		if err != nil || before == s.State {
			return err
		}
		typ := "State Changed"
		if strings.EqualFold(s.State, "error") {
			typ = "Error"
		}
		return d.log(ctx, tx, id, typ, s.State, s.Message)
	})
	return d.wrap(fmt.Sprintf("update stream %d", id), err)
}

// DeleteStream deletes all that belongs to a stream, in one transaction. Its owner can no longer commit. It does
// nothing if the stream, or the whole database, isn't there.
func (d *DB) DeleteStream(ctx context.Context, id int64) error {
	err := d.tx(ctx, func(tx *sql.Tx) error {
		// The epoch goes first: it waits for the owner's commits on the way, and no later one succeeds.
		for _, t := range []string{"vreplication_epoch", "vreplication_pos", "copy_state", "post_copy_action", "source_definition", "vreplication_log"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+d.table(t)+" WHERE vrepl_id = ?", id); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM "+d.table("vreplication")+" WHERE id = ?", id)
		return err
	})
	if err = d.wrap(fmt.Sprintf("delete stream %d", id), err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// A Report is what SaveProgress stores.
type Report struct {
	Position               string
	Transaction, Heartbeat time.Time
	// Lag is negative if it isn't known.
	Lag        time.Duration
	RowsCopied int64
	Tables     map[string]TableProgress
}

// SaveProgress stores how far a stream is, for others to see, if epoch is still the stream's.
func (d *DB) SaveProgress(ctx context.Context, id, epoch int64, r Report) error {
	text, err := json.Marshal(r.Tables)
	if err != nil {
		return err
	}
	lag := int64(-1)
	if r.Lag >= 0 {
		lag = r.Lag.Milliseconds()
	}
	_, err = d.db.ExecContext(ctx, "UPDATE "+d.table("vreplication")+` SET pos = ?, time_updated = UNIX_TIMESTAMP(), transaction_timestamp = ?,
 time_heartbeat = ?, rows_copied = ?, lag_ms = ?, progress = ? WHERE id = ? AND
 (SELECT epoch FROM `+d.table("vreplication_epoch")+` WHERE vrepl_id = ?) = ?`,
		r.Position, unix(r.Transaction), unix(r.Heartbeat), r.RowsCopied, lag, string(text), id, id, epoch)
	return d.wrap(fmt.Sprintf("save progress of stream %d", id), err)
}
