package sidecar

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/tablehaul/tablehaul/internal/sqltext"
)

// A Mark is the newest row of a stream's ring.
type Mark struct {
	// Seq counts the commits of the stream; the next one writes Seq+1.
	Seq int64
	// Position is empty if the stream has not started.
	Position string
	// Transaction is the source's time of the last transaction; zero if unknown.
	Transaction time.Time
	// DDL is set while a schema change is being executed: it names what follows Position.
	DDL string
}

// Position reads a stream's durable position from the ring; empty if it has not started.
func (d *DB) Position(ctx context.Context, id int64) (Mark, error) {
	m, err := d.mark(ctx, d.db, id)
	return m, d.wrap(fmt.Sprintf("position of stream %d", id), err)
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (d *DB) mark(ctx context.Context, q queryer, id int64) (Mark, error) {
	var m Mark
	var micros int64
	row := q.QueryRowContext(ctx, "SELECT seq, pos, transaction_timestamp, COALESCE(ddl, '') FROM "+d.table("vreplication_pos")+
		" WHERE vrepl_id = ? ORDER BY seq DESC LIMIT 1", id)
	err := row.Scan(&m.Seq, &m.Position, &micros, &m.DDL)
	if micros != 0 {
		m.Transaction = time.UnixMicro(micros).UTC()
	}
	return m, err
}

// TakeOver makes the caller the owner of a stream and returns its epoch and position. It waits for the
// earlier owner's commit that is on its way; later ones fail.
func (d *DB) TakeOver(ctx context.Context, id int64, owner string) (epoch int64, m Mark, err error) {
	err = d.tx(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "UPDATE "+d.table("vreplication_epoch")+
			" SET epoch = epoch + 1, owner = ?, taken_at = UNIX_TIMESTAMP() WHERE vrepl_id = ?", owner, id)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			if err == nil {
				err = ErrNotFound
			}
			return err
		}
		err = tx.QueryRowContext(ctx, "SELECT epoch FROM "+d.table("vreplication_epoch")+" WHERE vrepl_id = ?", id).Scan(&epoch)
		if err != nil {
			return err
		}
		m, err = d.mark(ctx, tx, id)
		return err
	})
	return epoch, m, d.wrap(fmt.Sprintf("take over stream %d", id), err)
}

// Fence makes every later commit of the stream's present owner fail, whoever it is. It is what stops a stream
// for certain.
func (d *DB) Fence(ctx context.Context, id int64) error {
	_, _, err := d.TakeOver(ctx, id, "")
	return err
}

// Owner tells who has taken the stream over last, when, and with what epoch.
func (d *DB) Owner(ctx context.Context, id int64) (owner string, epoch int64, taken time.Time, err error) {
	var at int64
	err = d.db.QueryRowContext(ctx, "SELECT owner, epoch, taken_at FROM "+d.table("vreplication_epoch")+" WHERE vrepl_id = ?", id).
		Scan(&owner, &epoch, &at)
	return owner, epoch, seconds(at), d.wrap(fmt.Sprintf("owner of stream %d", id), err)
}

// FenceError is the server's error number of a statement with a fence whose epoch is not the stream's: a subquery
// that gives two rows (ER_SUBQUERY_NO_1_ROW).
const FenceError = 1242

// appendFence appends a condition that is true if epoch is the stream's, and keeps it so until the end of the
// transaction; else the statement fails with FenceError, and with it a batch that goes on to a COMMIT.
func (d *DB) appendFence(dst []byte, id, epoch int64) []byte {
	dst = append(append(append(dst, "IF((SELECT epoch FROM "...), d.table("vreplication_epoch")...), " WHERE vrepl_id="...)
	dst = strconv.AppendInt(append(strconv.AppendInt(dst, id, 10), " LOCK IN SHARE MODE)="...), epoch, 10)
	return append(dst, ", TRUE, (SELECT TRUE UNION SELECT FALSE))"...)
}

// AppendPosition appends a statement that writes m as the stream's position, in the ring's next slot. If it
// does not fail, with FenceError or otherwise, the position is written.
func (d *DB) AppendPosition(dst []byte, id, epoch int64, m Mark) []byte {
	micros := int64(0)
	if !m.Transaction.IsZero() {
		micros = m.Transaction.UnixMicro()
	}
	dst = append(append(append(dst, "INSERT INTO "...), d.table("vreplication_pos")...),
		" (vrepl_id, slot, seq, pos, transaction_timestamp, ddl) SELECT "...)
	dst = append(strconv.AppendInt(dst, id, 10), ", "...)
	dst = append(strconv.AppendInt(dst, m.Seq%ringSlots, 10), ", "...)
	dst = append(strconv.AppendInt(dst, m.Seq, 10), ", "...)
	dst = append(sqltext.AppendBinary(dst, []byte(m.Position)), ", "...)
	dst = append(strconv.AppendInt(dst, micros, 10), ", "...)
	if m.DDL == "" {
		dst = append(dst, "NULL"...)
	} else {
		dst = sqltext.AppendString(append(dst, "_utf8mb4"...), []byte(m.DDL))
	}
	dst = d.appendFence(append(dst, " FROM (SELECT 1 AS x) AS one WHERE "...), id, epoch)
	return append(dst, " ON DUPLICATE KEY UPDATE seq=VALUES(seq), pos=VALUES(pos),"+
		" transaction_timestamp=VALUES(transaction_timestamp), ddl=VALUES(ddl)"...)
}

// A Span is a row of copy_state: what one or more chunks have copied of a table. Lo and Hi are packed keys;
// nil is the table's start and end.
type Span struct {
	ID          int64
	Table       string
	Lo, Hi      []byte
	Rows, Bytes int64
}

// AppendSpan appends a statement that adds s to copy_state. It affects one row, or fails with FenceError.
func (d *DB) AppendSpan(dst []byte, id, epoch int64, s Span) []byte {
	dst = append(append(append(dst, "INSERT INTO "...), d.table("copy_state")...),
		" (vrepl_id, table_name, lo, hi, rows_copied, bytes_copied) SELECT "...)
	dst = append(strconv.AppendInt(dst, id, 10), ", "...)
	dst = append(sqltext.AppendBinary(dst, []byte(s.Table)), ", "...)
	dst = append(appendKey(dst, s.Lo), ", "...)
	dst = append(appendKey(dst, s.Hi), ", "...)
	dst = append(strconv.AppendInt(dst, s.Rows, 10), ", "...)
	dst = append(strconv.AppendInt(dst, s.Bytes, 10), " FROM (SELECT 1 AS x) AS one WHERE "...)
	return d.appendFence(dst, id, epoch)
}

func appendKey(dst, k []byte) []byte {
	if k == nil {
		return append(dst, "NULL"...)
	}
	return sqltext.AppendBinary(dst, k)
}

// Spans reads what has been copied, in the order in which it was recorded.
func (d *DB) Spans(ctx context.Context, id int64) ([]Span, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT id, table_name, lo, hi, rows_copied, bytes_copied FROM "+d.table("copy_state")+
		" WHERE vrepl_id = ? ORDER BY id", id)
	if err != nil {
		return nil, d.wrap("spans", err)
	}
	spans, err := scanSpans(rows)
	return spans, d.wrap(fmt.Sprintf("spans of stream %d", id), err)
}

func scanSpans(rows *sql.Rows) ([]Span, error) {
	defer rows.Close()
	var spans []Span
	for rows.Next() {
		var s Span
		if err := rows.Scan(&s.ID, &s.Table, &s.Lo, &s.Hi, &s.Rows, &s.Bytes); err != nil {
			return nil, err
		}
		spans = append(spans, s)
	}
	return spans, rows.Err()
}

// FoldSpans replaces what is recorded for a table by what fold makes of it, in one transaction and only while epoch
// is the stream's (else it does nothing). Spans that are recorded meanwhile stay as they are.
func (d *DB) FoldSpans(ctx context.Context, id, epoch int64, table string, fold func([]Span) []Span) error {
	err := d.tx(ctx, func(tx *sql.Tx) error {
		var now int64
		err := tx.QueryRowContext(ctx, "SELECT epoch FROM "+d.table("vreplication_epoch")+" WHERE vrepl_id = ? LOCK IN SHARE MODE", id).Scan(&now)
		if err != nil || now != epoch {
			return err
		}
		rows, err := tx.QueryContext(ctx, "SELECT id, table_name, lo, hi, rows_copied, bytes_copied FROM "+d.table("copy_state")+
			" WHERE vrepl_id = ? AND table_name = ? ORDER BY id FOR UPDATE", id, table)
		if err != nil {
			return err
		}
		old, err := scanSpans(rows)
		if err != nil {
			return err
		}
		folded := fold(old)
		if len(folded) >= len(old) {
			return nil
		}
		ids := make([]int64, len(old))
		for i, s := range old {
			ids[i] = s.ID
		}
		if err := d.deleteIDs(ctx, tx, "copy_state", ids); err != nil {
			return err
		}
		for _, s := range folded {
			_, err := tx.ExecContext(ctx, "INSERT INTO "+d.table("copy_state")+
				" (vrepl_id, table_name, lo, hi, rows_copied, bytes_copied) VALUES (?, ?, ?, ?, ?, ?)", id, table, s.Lo, s.Hi, s.Rows, s.Bytes)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return d.wrap(fmt.Sprintf("fold the spans of stream %d, table %s", id, table), err)
}
