package sidecar

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
)

// A VDiff is one comparison.
type VDiff struct {
	// ID is given by InsertVDiff.
	ID                                int64
	UUID                              string
	Workflow, Keyspace, Shard, DBName string
	State                             string
	// Options is JSON, not interpreted here.
	Options                               string
	Created, Started, Liveness, Completed time.Time
	LastError                             string
}

const vdiffColumns = `id, vdiff_uuid, workflow, keyspace, shard, db_name, state, options, UNIX_TIMESTAMP(created_at),
 UNIX_TIMESTAMP(started_at), UNIX_TIMESTAMP(liveness_timestamp), UNIX_TIMESTAMP(completed_at), last_error`

// InsertVDiff records a diff and returns its id. ErrExists says that its UUID is taken.
func (d *DB) InsertVDiff(ctx context.Context, v *VDiff) (int64, error) {
	var id int64
	r, err := d.db.ExecContext(ctx, "INSERT INTO "+d.table("vdiff")+
		" (vdiff_uuid, workflow, keyspace, shard, db_name, state, options, last_error) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		v.UUID, v.Workflow, v.Keyspace, v.Shard, v.DBName, v.State, v.Options, clip(v.LastError))
	if err == nil {
		id, err = r.LastInsertId()
	}
	if mysqlerr.DuplicateKey(err) {
		err = fmt.Errorf("%w: vdiff %s", ErrExists, v.UUID)
	}
	return id, d.wrap("insert vdiff", err)
}

// VDiff reads a diff by its UUID.
func (d *DB) VDiff(ctx context.Context, uuid string) (*VDiff, error) {
	v, err := scanVDiff(d.db.QueryRowContext(ctx, "SELECT "+vdiffColumns+" FROM "+d.table("vdiff")+" WHERE vdiff_uuid = ?", uuid))
	return v, d.wrap("vdiff "+uuid, err)
}

// LastVDiff reads the workflow's newest diff.
func (d *DB) LastVDiff(ctx context.Context, keyspace, workflow string) (*VDiff, error) {
	v, err := scanVDiff(d.db.QueryRowContext(ctx, "SELECT "+vdiffColumns+" FROM "+d.table("vdiff")+
		" WHERE keyspace = ? AND workflow = ? ORDER BY id DESC LIMIT 1", keyspace, workflow))
	return v, d.wrap("last vdiff of "+keyspace+"."+workflow, err)
}

// VDiffs lists the workflow's diffs, newest first, at most 100.
func (d *DB) VDiffs(ctx context.Context, keyspace, workflow string) ([]VDiff, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT "+vdiffColumns+" FROM "+d.table("vdiff")+
		" WHERE keyspace = ? AND workflow = ? ORDER BY id DESC LIMIT 100", keyspace, workflow)
	if err != nil {
		return nil, d.wrap("list vdiffs", err)
	}
	defer rows.Close()
	var list []VDiff
	for rows.Next() {
		v, err := scanVDiff(rows)
		if err != nil {
			return nil, d.wrap("list vdiffs", err)
		}
		list = append(list, *v)
	}
	return list, d.wrap("list vdiffs", rows.Err())
}

func scanVDiff(row interface{ Scan(...any) error }) (*VDiff, error) {
	var v VDiff
	var created, started, liveness, completed fraction
	err := row.Scan(&v.ID, &v.UUID, &v.Workflow, &v.Keyspace, &v.Shard, &v.DBName, &v.State, &v.Options, &created, &started, &liveness,
		&completed, &v.LastError)
	v.Created, v.Started, v.Liveness, v.Completed = created.time(), started.time(), liveness.time(), completed.time()
	return &v, err
}

// UpdateVDiff sets state and error of a diff. Started is set by the first state "started", Completed by the first
// "completed" or "error", and cleared by another state; Liveness is now.
func (d *DB) UpdateVDiff(ctx context.Context, id int64, state, lastError string) error {
	_, err := d.db.ExecContext(ctx, "UPDATE "+d.table("vdiff")+` SET state = ?, last_error = ?, liveness_timestamp = CURRENT_TIMESTAMP(6),
 started_at = IF(? = 'started', COALESCE(started_at, CURRENT_TIMESTAMP(6)), started_at),
 completed_at = IF(? IN ('completed', 'error'), COALESCE(completed_at, CURRENT_TIMESTAMP(6)), NULL) WHERE id = ?`,
		state, clip(lastError), state, state, id)
	return d.wrap("update vdiff", err)
}

// TouchVDiff says that a diff is alive.
func (d *DB) TouchVDiff(ctx context.Context, id int64) error {
	_, err := d.db.ExecContext(ctx, "UPDATE "+d.table("vdiff")+" SET liveness_timestamp = CURRENT_TIMESTAMP(6) WHERE id = ?", id)
	return d.wrap("touch vdiff", err)
}

// DeleteVDiff deletes a diff with its tables and log; it may be gone already.
func (d *DB) DeleteVDiff(ctx context.Context, uuid string) error {
	return d.deleteVDiffs(ctx, "vdiff_uuid = ?", uuid)
}

// DeleteVDiffs deletes all diffs of a workflow; there may be none.
func (d *DB) DeleteVDiffs(ctx context.Context, keyspace, workflow string) error {
	return d.deleteVDiffs(ctx, "keyspace = ? AND workflow = ?", keyspace, workflow)
}

func (d *DB) deleteVDiffs(ctx context.Context, where string, args ...any) error {
	err := d.tx(ctx, func(tx *sql.Tx) error {
		for _, t := range []string{"vdiff_table", "vdiff_log"} {
			_, err := tx.ExecContext(ctx, "DELETE FROM "+d.table(t)+" WHERE vdiff_id IN (SELECT id FROM "+d.table("vdiff")+" WHERE "+where+")", args...)
			if err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM "+d.table("vdiff")+" WHERE "+where, args...)
		return err
	})
	if mysqlerr.NotFound(err) {
		return nil
	}
	return d.wrap("delete vdiff", err)
}

// A VDiffTable is how far a diff is with one table.
type VDiffTable struct {
	VDiffID      int64
	Table, State string
	// LastPK is the last compared key, in whatever form the diff gives it; nil at the start.
	LastPK                  []byte
	TableRows, RowsCompared int64
	Mismatch                bool
	// Report is JSON, not interpreted here.
	Report           string
	Created, Updated time.Time
}

// SaveVDiffTable stores t over what was stored for the table.
func (d *DB) SaveVDiffTable(ctx context.Context, t VDiffTable) error {
	_, err := d.db.ExecContext(ctx, "INSERT INTO "+d.table("vdiff_table")+
		` (vdiff_id, table_name, state, lastpk, table_rows, rows_compared, mismatch, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
 ON DUPLICATE KEY UPDATE state = VALUES(state), lastpk = VALUES(lastpk), table_rows = VALUES(table_rows),
 rows_compared = VALUES(rows_compared), mismatch = VALUES(mismatch), report = VALUES(report), updated_at = CURRENT_TIMESTAMP(6)`,
		t.VDiffID, t.Table, t.State, t.LastPK, t.TableRows, t.RowsCompared, t.Mismatch, t.Report)
	return d.wrap("save vdiff of table "+t.Table, err)
}

// VDiffTables reads all tables of a diff, by name.
func (d *DB) VDiffTables(ctx context.Context, id int64) ([]VDiffTable, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT vdiff_id, table_name, state, lastpk, table_rows, rows_compared, mismatch, report, "+
		"UNIX_TIMESTAMP(created_at), UNIX_TIMESTAMP(updated_at) FROM "+d.table("vdiff_table")+" WHERE vdiff_id = ? ORDER BY table_name", id)
	if err != nil {
		return nil, d.wrap("vdiff tables", err)
	}
	defer rows.Close()
	var list []VDiffTable
	for rows.Next() {
		var t VDiffTable
		var created, updated fraction
		err := rows.Scan(&t.VDiffID, &t.Table, &t.State, &t.LastPK, &t.TableRows, &t.RowsCompared, &t.Mismatch, &t.Report, &created, &updated)
		if err != nil {
			return nil, d.wrap("vdiff tables", err)
		}
		t.Created, t.Updated = created.time(), updated.time()
		list = append(list, t)
	}
	return list, d.wrap("vdiff tables", rows.Err())
}

// LogVDiff adds a line to a diff's log.
func (d *DB) LogVDiff(ctx context.Context, id int64, message string) error {
	_, err := d.db.ExecContext(ctx, "INSERT INTO "+d.table("vdiff_log")+" (vdiff_id, message) VALUES (?, ?)", id, clip(message))
	return d.wrap("log of vdiff", err)
}

// A VDiffLogEntry is one line of a diff's log.
type VDiffLogEntry struct {
	Created time.Time
	Message string
}

// VDiffLogs reads a diff's log, oldest first.
func (d *DB) VDiffLogs(ctx context.Context, id int64) ([]VDiffLogEntry, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT UNIX_TIMESTAMP(created_at), message FROM "+d.table("vdiff_log")+" WHERE vdiff_id = ? ORDER BY id", id)
	if err != nil {
		return nil, d.wrap("log of vdiff", err)
	}
	defer rows.Close()
	var list []VDiffLogEntry
	for rows.Next() {
		var e VDiffLogEntry
		var created fraction
		if err := rows.Scan(&created, &e.Message); err != nil {
			return nil, d.wrap("log of vdiff", err)
		}
		e.Created = created.time()
		list = append(list, e)
	}
	return list, d.wrap("log of vdiff", rows.Err())
}
