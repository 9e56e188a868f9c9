package sidecar

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tablehaul/tablehaul/internal/sqltext"
)

// A LogEntry is one line of a stream's log.
type LogEntry struct {
	ID, StreamID         int64
	Type, State, Message string
	// Created is when it happened first, Updated when last, Count how often in a row.
	Created, Updated time.Time
	Count            int64
}

// Log adds a line to a stream's log; one equal to the last only counts it up.
func (d *DB) Log(ctx context.Context, id int64, typ, state, message string) error {
	err := d.tx(ctx, func(tx *sql.Tx) error { return d.log(ctx, tx, id, typ, state, clip(message)) })
	return d.wrap(fmt.Sprintf("log of stream %d", id), err)
}

func (d *DB) log(ctx context.Context, tx *sql.Tx, id int64, typ, state, message string) error {
	var last int64
	var same bool
	err := tx.QueryRowContext(ctx, "SELECT id, type = ? AND state = ? AND message = CONVERT(? USING utf8mb4) COLLATE utf8mb4_bin FROM "+
		d.table("vreplication_log")+" WHERE vrepl_id = ? ORDER BY id DESC LIMIT 1 FOR UPDATE", typ, state, message, id).Scan(&last, &same)
	switch {
	case err == nil && same:
		_, err = tx.ExecContext(ctx, "UPDATE "+d.table("vreplication_log")+
			" SET count = count + 1, updated_at = CURRENT_TIMESTAMP(6) WHERE id = ?", last)
	case err == nil || errors.Is(err, sql.ErrNoRows):
		_, err = tx.ExecContext(ctx, "INSERT INTO "+d.table("vreplication_log")+
			" (vrepl_id, type, state, message) VALUES (?, ?, ?, ?)", id, typ, state, message)
	}
	return err
}

// TypeDrift is the type of a log line about a row of the target that was not what the stream had put there, and
// did not stop it.
const TypeDrift = "Drift"

// AppendDrifts appends a statement that adds a line of TypeDrift for each message to a stream's log, and one that counts for more
// rows if there are more. There must be a message at least.
func (d *DB) AppendDrifts(dst []byte, id int64, messages []string, more int64) []byte {
	dst = append(append(append(dst, "INSERT INTO "...), d.table("vreplication_log")...), " (vrepl_id, type, state, message, count) VALUES "...)
	line := func(message string, count int64) {
		dst = strconv.AppendInt(append(dst, '('), id, 10)
		dst = append(dst, ", '"+TypeDrift+"', '', CONVERT("...)
		dst = append(sqltext.AppendBinary(dst, []byte(clip(message))), " USING utf8mb4), "...)
		dst = append(strconv.AppendInt(dst, count, 10), ')')
	}
	for i, m := range messages {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		line(m, 1)
	}
	if more > 0 {
		dst = append(dst, ", "...)
		line(fmt.Sprintf("%d more rows of the same transaction", more), more)
	}
	return dst
}

// Drifts counts the rows that lines of TypeDrift in a stream's log are about.
func (d *DB) Drifts(ctx context.Context, id int64) (int64, error) {
	var n int64
	err := d.db.QueryRowContext(ctx, "SELECT COALESCE(SUM(count), 0) FROM "+d.table("vreplication_log")+" WHERE vrepl_id = ? AND type = ?", id, TypeDrift).Scan(&n)
	return n, d.wrap("count drifts", err)
}

// TrimDrifts makes one line of all lines of TypeDrift in a stream's log but the newest keep: it counts for all of them.
func (d *DB) TrimDrifts(ctx context.Context, id int64, keep int) error {
	err := d.tx(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT id, count FROM "+d.table("vreplication_log")+" WHERE vrepl_id = ? AND type = ? ORDER BY id DESC FOR UPDATE", id, TypeDrift)
		if err != nil {
			return err
		}
		ids, counts, err := scanCounts(rows)
		if err != nil || len(ids) <= keep+1 {
			return err
		}
		sum := int64(0)
		for _, n := range counts[keep:] {
			sum += n
		}
		last := len(ids) - 1
		_, err = tx.ExecContext(ctx, "UPDATE "+d.table("vreplication_log")+" SET message = ?, count = ?, updated_at = CURRENT_TIMESTAMP(6) WHERE id = ?",
			fmt.Sprintf("%d earlier rows, whose lines were removed", sum), sum, ids[last])
		if err != nil {
			return err
		}
		return d.deleteIDs(ctx, tx, "vreplication_log", ids[keep:last])
	})
	return d.wrap(fmt.Sprintf("trim the log of stream %d", id), err)
}

func scanCounts(rows *sql.Rows) (ids, counts []int64, err error) {
	defer rows.Close()
	for rows.Next() {
		var id, n int64
		if err := rows.Scan(&id, &n); err != nil {
			return nil, nil, err
		}
		ids, counts = append(ids, id), append(counts, n)
	}
	return ids, counts, rows.Err()
}

// deleteIDs deletes rows of a table by their ids.
func (d *DB) deleteIDs(ctx context.Context, tx *sql.Tx, table string, ids []int64) error {
	for part := range slices.Chunk(ids, 1000) {
		q := []byte("DELETE FROM " + d.table(table) + " WHERE id IN (")
		for i, id := range part {
			if i > 0 {
				q = append(q, ',')
			}
			q = strconv.AppendInt(q, id, 10)
		}
		if _, err := tx.ExecContext(ctx, string(append(q, ')'))); err != nil {
			return err
		}
	}
	return nil
}

// Logs reads the newest lines of a stream's log, oldest first; limit 0 is 100.
func (d *DB) Logs(ctx context.Context, id int64, limit int) ([]LogEntry, error) {
	if limit <= 0 {
		limit = 100
	}
	rows, err := d.db.QueryContext(ctx, "SELECT id, vrepl_id, type, state, message, UNIX_TIMESTAMP(created_at), UNIX_TIMESTAMP(updated_at), count FROM "+
		d.table("vreplication_log")+" WHERE vrepl_id = ? ORDER BY id DESC LIMIT ?", id, limit)
	if err != nil {
		return nil, d.wrap("log", err)
	}
	defer rows.Close()
	var list []LogEntry
	for rows.Next() {
		var e LogEntry
		var created, updated fraction
		if err := rows.Scan(&e.ID, &e.StreamID, &e.Type, &e.State, &e.Message, &created, &updated, &e.Count); err != nil {
			return nil, d.wrap("log", err)
		}
		e.Created, e.Updated = created.time(), updated.time()
		list = append(list, e)
	}
	slices.Reverse(list)
	return list, d.wrap("log", rows.Err())
}

// fraction scans UNIX_TIMESTAMP of a timestamp(6): seconds with a fraction, or NULL.
type fraction struct{ sql.NullFloat64 }

func (f fraction) time() time.Time {
	if !f.Valid {
		return time.Time{}
	}
	return time.UnixMicro(int64(f.Float64*1e6 + 0.5)).UTC()
}
