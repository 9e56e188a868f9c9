package vdiff

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// staleAfter is the silence after which the runner of a comparison counts as dead; a live one says so three times
// in that time.
const staleAfter = 30 * time.Second

// A store keeps the comparisons of one workflow in the sidecar database of the workflow's first target shard.
type store struct {
	on                 *shard
	database           string
	keyspace, workflow string
}

// A record is a stored comparison.
type record struct {
	id     int64
	report *Report
}

func (s *store) table(name string) string { return sqltext.QualifiedIdent(s.database, name) }

// exec runs one statement and returns the number of rows that it found.
func (s *store) exec(ctx context.Context, text string, args ...any) (sql.Result, error) {
	conn, err := s.on.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // gives the connection back
	if _, err := conn.ExecContext(ctx, s.on.session); err != nil {
		return nil, err
	}
	return conn.ExecContext(ctx, text, args...)
}

// insert records a comparison in the report's state.
func (s *store) insert(ctx context.Context, r *Report) (int64, error) {
	options, err := json.Marshal(r.Options)
	if err != nil {
		return 0, err
	}
	started := "NULL"
	if r.State == StateStarted {
		started = "UTC_TIMESTAMP()"
	}
	res, err := s.exec(ctx, "INSERT INTO "+s.table("vdiff")+" (vdiff_uuid,workflow,keyspace,shard,db_name,state,options,created_at,started_at,liveness_timestamp)"+
		" VALUES (?,?,?,?,COALESCE(DATABASE(),''),?,?,UTC_TIMESTAMP(),"+started+",UTC_TIMESTAMP())",
		r.UUID, s.workflow, s.keyspace, strings.Join(r.TargetShards, ","), string(r.State), string(options))
	switch {
	case mysqlerr.DuplicateKey(err):
		return 0, fmt.Errorf("%w: %s", ErrExists, r.UUID)
	case err != nil:
		return 0, fmt.Errorf("record vdiff %s: %w", r.UUID, err)
	}
	return res.LastInsertId()
}

// claim makes the caller the runner of a comparison that is pending or whose runner is dead, and tells whether
// that worked. Its tables begin anew.
func (s *store) claim(ctx context.Context, id int64) (bool, error) {
	res, err := s.exec(ctx, fmt.Sprintf("UPDATE %s SET state=?,started_at=UTC_TIMESTAMP(),liveness_timestamp=UTC_TIMESTAMP(),last_error=''"+
		" WHERE id=? AND (state=? OR state=? AND liveness_timestamp<UTC_TIMESTAMP()-INTERVAL %d SECOND)", s.table("vdiff"), int(staleAfter.Seconds())),
		string(StateStarted), id, string(StatePending), string(StateStarted))
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	if err != nil || n == 0 {
		return false, err
	}
	_, err = s.exec(ctx, "DELETE FROM "+s.table("vdiff_table")+" WHERE vdiff_id=?", id)
	return err == nil, err
}

// alive says that the comparison's runner lives; false if the comparison is gone.
func (s *store) alive(ctx context.Context, id int64) (bool, error) {
	if _, err := s.exec(ctx, "UPDATE "+s.table("vdiff")+" SET liveness_timestamp=UTC_TIMESTAMP() WHERE id=?", id); err != nil {
		return false, err
	}
	n := 0
	err := s.on.query(ctx, mysqlerr.Target, fmt.Sprintf("SELECT 1 FROM %s WHERE id=%d", s.table("vdiff"), id),
		func() { n = 0 }, func(resultRow) error { n++; return nil })
	return n > 0, err
}

// finish records a comparison's last state.
func (s *store) finish(ctx context.Context, id int64, state State, message string) error {
	completed := "NULL"
	if state.Done() {
		completed = "UTC_TIMESTAMP()"
	}
	if _, err := s.exec(ctx, "UPDATE "+s.table("vdiff")+" SET state=?,last_error=?,completed_at="+completed+" WHERE id=?",
		string(state), clip(message, 1000), id); err != nil {
		return err
	}
	return s.log(ctx, id, "State changed to: "+string(state))
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return string(wholeRunes([]byte(s[:n])))
}

func (s *store) log(ctx context.Context, id int64, message string) error {
	_, err := s.exec(ctx, "INSERT INTO "+s.table("vdiff_log")+" (vdiff_id,created_at,message) VALUES (?,UTC_TIMESTAMP(),?)", id, clip(message, 1000))
	return err
}

// saveTable records what has been found in a table.
func (s *store) saveTable(ctx context.Context, id int64, t *TableReport, upTo replication.Key) error {
	t.UpdatedAt = time.Now().UTC().Truncate(time.Second)
	report, err := json.Marshal(t)
	if err != nil {
		return err
	}
	state := []any{string(t.State), []byte(upTo), t.RowsEstimate, t.RowsCompared(), t.HasMismatch(), string(report)}
	// The values come twice: MySQL and MariaDB have no common way to name the row that was not inserted.
	_, err = s.exec(ctx, "INSERT INTO "+s.table("vdiff_table")+" (state,lastpk,table_rows,rows_compared,mismatch,report,vdiff_id,table_name,created_at,updated_at)"+
		" VALUES (?,?,?,?,?,?,?,?,UTC_TIMESTAMP(),UTC_TIMESTAMP())"+
		" ON DUPLICATE KEY UPDATE state=?,lastpk=?,table_rows=?,rows_compared=?,mismatch=?,report=?,updated_at=UTC_TIMESTAMP()",
		slices.Concat(state, []any{id, t.Table}, state)...)
	if err != nil {
		return fmt.Errorf("save report of table %s: %w", t.Table, err)
	}
	return nil
}

const recordColumns = "id,vdiff_uuid,state,shard,options,created_at,started_at,completed_at,COALESCE(last_error,'')"

// list returns the comparisons of the workflow, newest first, without their tables. where is a condition on top.
func (s *store) list(ctx context.Context, where string, limit int) ([]*record, error) {
	text := fmt.Sprintf("SELECT %s FROM %s WHERE keyspace=%s AND workflow=%s%s ORDER BY id DESC LIMIT %d",
		recordColumns, s.table("vdiff"), sqltext.String(s.keyspace), sqltext.String(s.workflow), where, limit)
	var out []*record
	err := s.on.query(ctx, mysqlerr.Target, text, func() { out = nil }, func(v resultRow) error {
		r := &Report{Workflow: s.workflow, Keyspace: s.keyspace, UUID: string(v[1]), State: State(v[2]), LastError: string(v[8])}
		if len(v[3]) > 0 {
			r.TargetShards = strings.Split(string(v[3]), ",")
		}
		rec := &record{report: r}
		_, err := fmt.Sscan(string(v[0]), &rec.id)
		if len(v[4]) > 0 {
			err = errors.Join(err, json.Unmarshal(v[4], &r.Options))
		}
		for i, t := range []*time.Time{&r.CreatedAt, &r.StartedAt, &r.CompletedAt} {
			err = errors.Join(err, parseTime(v[5+i], t))
		}
		out = append(out, rec)
		return err
	})
	if mysqlerr.NotFound(err) {
		// No workflow has written to this server yet.
		return nil, nil
	}
	return out, err
}

func parseTime(v []byte, t *time.Time) (err error) {
	if len(v) > 0 {
		*t, err = time.Parse(datetimeLayout, string(v))
	}
	return err
}

// find returns a comparison by UUID or "last", with its tables.
func (s *store) find(ctx context.Context, uuid string) (*record, error) {
	where := ""
	if uuid != Last {
		where = " AND vdiff_uuid=" + sqltext.String(uuid)
	}
	recs, err := s.list(ctx, where, 1)
	if err != nil {
		return nil, err
	}
	if len(recs) == 0 {
		return nil, &NotFoundError{Kind: "vdiff", Name: uuid, Workflow: s.keyspace + "." + s.workflow}
	}
	return recs[0], s.loadTables(ctx, recs[0])
}

func (s *store) loadTables(ctx context.Context, r *record) error {
	text := fmt.Sprintf("SELECT report FROM %s WHERE vdiff_id=%d ORDER BY table_name", s.table("vdiff_table"), r.id)
	return s.on.query(ctx, mysqlerr.Target, text, func() { r.report.Tables = nil }, func(v resultRow) error {
		t := new(TableReport)
		if err := json.Unmarshal(v[0], t); err != nil {
			return fmt.Errorf("stored report of vdiff %s: %w", r.report.UUID, err)
		}
		r.report.Tables = append(r.report.Tables, t)
		return nil
	})
}

// delete removes a comparison; the rows that hang on it first, so that a crash leaves something to delete.
func (s *store) delete(ctx context.Context, id int64) error {
	for _, step := range [][2]string{{"vdiff_table", "vdiff_id"}, {"vdiff_log", "vdiff_id"}, {"vdiff", "id"}} {
		if _, err := s.exec(ctx, "DELETE FROM "+s.table(step[0])+" WHERE "+step[1]+"=?", id); err != nil {
			return err
		}
	}
	return nil
}
