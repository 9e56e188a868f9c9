package target

import (
	"context"
	"fmt"
	"slices"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/replication"
)

const (
	// batchBytes is the size at which statements are sent; one row may make a batch larger.
	batchBytes = 1 << 20
	// deleteKeys bounds the keys of one DELETE, below what makes optimizers guess instead of look.
	deleteKeys = 150
	// anyRows is the expectation of a statement that may find its rows or not.
	anyRows = -1
)

// harmless are warnings that say nothing about values: of deprecated names for character sets and
// collations.
var harmless = map[string]bool{"1287": true, "1681": true, "3719": true, "3778": true}

// A writer turns changes into statements on one connection. In quick mode it gathers statements
// into batches and rows into statements; in careful mode it sends one statement per row and says exactly
// what is wrong with which.
type writer struct {
	tx      *sqlTx
	conn    *conn
	careful bool
	// limit is the server's max_allowed_packet.
	limit int
	// position is for errors.
	position replication.Position

	buf     []byte
	expects []expect
	// last is what the last statement does, if rows may be added to it.
	last struct {
		plan *plan
		kind statementKind
		rows int
	}
}

type statementKind uint8

const (
	closed statementKind = iota
	inserting
	upserting
	deleting
	deletingLoosely
)

// An expect is what a statement must do.
type expect struct {
	rows     int64
	warnings int
	op       string
	// change is set in careful mode.
	change replication.Change
}

func newWriter(t *sqlTx, careful bool, position replication.Position) *writer {
	w := &writer{tx: t, conn: t.conn, careful: careful, limit: t.s.maxPacket, position: position, buf: t.conn.buf}
	w.reset()
	return w
}

// reset empties the batch. Its buffer stays with the connection, unless one large row has made it large.
func (w *writer) reset() {
	if cap(w.buf) > 4*batchBytes {
		w.buf = nil
	}
	w.buf = append(w.buf[:0], make([]byte, batchHead)...)
	w.conn.buf = w.buf
	clear(w.expects)
	w.expects = w.expects[:0]
	w.last.kind = closed
}

// begin makes room for size more bytes and starts a statement.
func (w *writer) begin(ctx context.Context, size int, e expect) error {
	if err := w.room(ctx, size); err != nil {
		return err
	}
	w.close()
	if len(w.expects) > 0 {
		w.buf = append(w.buf, ';')
	}
	w.expects = append(w.expects, e)
	return nil
}

// close ends the last statement.
func (w *writer) close() {
	if w.last.kind == upserting {
		w.buf = append(w.buf, w.last.plan.upsert...)
	}
	w.last.kind = closed
}

// room sends the batch if size more bytes may not fit in.
func (w *writer) room(ctx context.Context, size int) error {
	if len(w.expects) > 0 && len(w.buf)+size > min(w.limit, 2*batchBytes) {
		return w.flush(ctx)
	}
	return nil
}

// end checks a statement's size and sends the batch when it is large enough.
func (w *writer) end(ctx context.Context, t *replication.Table) error {
	if len(w.buf)-batchHead+1 > w.limit {
		if !w.careful {
			return ErrUnexpected
		}
		return &replication.RowError{Table: t.Name, Key: w.key(w.expects[len(w.expects)-1].change), Err: fmt.Errorf(
			"it needs a statement of %d bytes, the target's max_allowed_packet is %d", len(w.buf)-batchHead, w.limit)}
	}
	if w.careful || len(w.buf) > batchBytes {
		return w.flush(ctx)
	}
	return nil
}

// statement adds a statement that changes no rows of the stream.
func (w *writer) statement(ctx context.Context, text string) error {
	err := w.begin(ctx, len(text)+1, expect{rows: anyRows, warnings: anyRows})
	w.buf = append(w.buf, text...)
	return err
}

func (w *writer) insert(ctx context.Context, p *plan, values [][]byte, size int, change replication.Change) error {
	return w.add(ctx, p, inserting, values, size, expect{op: "insert", change: change})
}

// upsert updates a row that must be there, in one statement with others: an insert that becomes an update of all columns but
// the key's. For a row that is updated the server counts two; for one that is not there, and is inserted, or that holds the
// values already, it counts one, and the statement does not come out as it must.
func (w *writer) upsert(ctx context.Context, p *plan, values [][]byte, size int, change replication.Change) error {
	return w.add(ctx, p, upserting, values, size+len(p.upsert), expect{op: "update", change: change})
}

// add adds a row to the last statement, if that inserts rows of the same kind, or begins one.
func (w *writer) add(ctx context.Context, p *plan, kind statementKind, values [][]byte, size int, e expect) error {
	size = 2*size + 32*len(values) + len(p.insert)
	if err := w.room(ctx, size); err != nil {
		return err
	}
	if w.last.kind == kind && w.last.plan == p && !w.careful {
		w.buf = append(w.buf, ',')
	} else {
		if err := w.begin(ctx, size, e); err != nil {
			return err
		}
		w.buf = append(w.buf, p.insert...)
		w.last.plan, w.last.kind = p, kind
	}
	last := &w.expects[len(w.expects)-1]
	var warnings int
	var err error
	if w.buf, warnings, err = p.appendRow(w.buf, values); err != nil {
		return err
	}
	last.rows++
	if kind == upserting {
		last.rows++
	}
	last.warnings += warnings
	return w.end(ctx, p.table)
}

// delete deletes a row by its key; loosely, if it may not be there.
func (w *writer) delete(ctx context.Context, p *plan, values [][]byte, kind statementKind, change replication.Change) error {
	size := 64 + len(p.name)
	for _, i := range p.table.Primary.Columns {
		size += 2*len(values[i]) + len(p.quoted[i]) + 32
	}
	if err := w.room(ctx, size); err != nil {
		return err
	}
	list := len(p.table.Primary.Columns) == 1
	if w.last.kind == kind && w.last.plan == p && w.last.rows < deleteKeys && !w.careful {
		if list {
			w.buf = append(w.buf[:len(w.buf)-1], ',')
		} else {
			w.buf = append(w.buf, " OR "...)
		}
	} else {
		if err := w.begin(ctx, size, expect{op: "delete", change: change}); err != nil {
			return err
		}
		w.buf = append(append(append(w.buf, "DELETE FROM "...), p.name...), " WHERE "...)
		if list {
			w.buf = append(append(w.buf, p.quoted[p.table.Primary.Columns[0]]...), " IN ("...)
		}
		w.last.plan, w.last.kind, w.last.rows = p, kind, 0
	}
	e := &w.expects[len(w.expects)-1]
	e.rows++
	if kind == deletingLoosely {
		e.rows = anyRows
	}
	w.last.rows++
	var err error
	if list {
		i := p.table.Primary.Columns[0]
		if w.buf, err = p.appendKeyValue(w.buf, i, values[i]); err != nil {
			return err
		}
		w.buf = append(w.buf, ')')
	} else if w.buf, err = p.appendKey(w.buf, values); err != nil {
		return err
	}
	return w.end(ctx, p.table)
}

func (w *writer) update(ctx context.Context, p *plan, before, after [][]byte, size int, change replication.Change) error {
	if err := w.begin(ctx, 2*size+64*len(after)+len(p.name), expect{op: "update", rows: 1, change: change}); err != nil {
		return err
	}
	var warnings int
	var err error
	w.buf = append(append(append(w.buf, "UPDATE "...), p.name...), " SET "...)
	if w.buf, warnings, err = p.appendSet(w.buf, before, after); err != nil {
		return err
	}
	w.expects[len(w.expects)-1].warnings = warnings
	if w.buf, err = p.appendKey(append(w.buf, " WHERE "...), before); err != nil {
		return err
	}
	return w.end(ctx, p.table)
}

// flush sends what was gathered and checks every result.
func (w *writer) flush(ctx context.Context) error {
	if len(w.expects) == 0 {
		return nil
	}
	w.close()
	defer w.reset()
	done, bad := 0, false
	var r result
	err := w.conn.exec(ctx, w.buf, func(i int, got result) {
		done, r = i+1, got
		if i < len(w.expects) {
			e := w.expects[i]
			bad = bad || e.rows != anyRows && e.rows != got.rows || e.warnings != anyRows && min(e.warnings, 65535) != got.warnings
		}
	})
	switch {
	case err == nil && done == len(w.expects) && !bad:
		return nil
	case err == nil && done != len(w.expects):
		w.conn.broken = true
		return fmt.Errorf("%w: %d results for %d statements", errProtocol, done, len(w.expects))
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && (mysqlerr.LockWait(err) || mysqlerr.Transient(err, mysqlerr.Target)):
		return err
	case !w.careful:
		return ErrUnexpected
	}
	return w.judge(ctx, w.expects[len(w.expects)-1], r, err)
}

// judge says what was wrong with the one statement of a careful batch; nil if it was only talk.
func (w *writer) judge(ctx context.Context, e expect, r result, err error) error {
	switch {
	case err == nil:
	case e.change.Table == nil:
		return err
	case mysqlerr.DuplicateKey(err):
		return w.drift(ctx, e, err)
	default:
		return w.refused(e, err)
	}
	if e.rows != anyRows && r.rows != e.rows {
		return w.drift(ctx, e, nil)
	}
	return w.warned(ctx, e, r)
}

// refused makes the server's error of a change one that names the row.
func (w *writer) refused(e expect, err error) error {
	t := e.change.Table
	switch code, _ := mysqlerr.Code(err); code {
	case 1054, 1136, 1146, 1110:
		return &replication.SchemaChangedError{Table: t.Name, What: "on the target: " + mysqlerr.Message(err)}
	}
	return &replication.RowError{Table: t.Name, Key: w.key(e.change), Err: fmt.Errorf("%s: %w", e.op, err)}
}

// warned returns an error if the last statement on the connection, which wrote the row of e, brought other warnings than it should: a
// value was changed then.
func (w *writer) warned(ctx context.Context, e expect, r result) error {
	if e.warnings == anyRows || r.warnings == e.warnings {
		return nil
	}
	warnings, err := w.conn.query(ctx, "SHOW WARNINGS")
	if err != nil {
		return err
	}
	all := len(warnings) == r.warnings
	warnings = slices.DeleteFunc(warnings, func(row []string) bool { return len(row) < 3 || harmless[row[1]] })
	if all && len(warnings) == e.warnings {
		return nil
	}
	what := "a value changes for an unknown reason"
	if len(warnings) > 0 {
		what = "the target would change a value: " + warnings[len(warnings)-1][2]
	}
	return &replication.RowError{Table: e.change.Table.Name, Key: w.key(e.change), Err: fmt.Errorf("%s: %s", e.op, what)}
}

// key formats the key of the row that a change is about.
func (w *writer) key(c replication.Change) string {
	r := c.Before
	if r == nil {
		r = c.After
	}
	k, err := c.Table.Key(r)
	if err != nil {
		return "a row that can't be read"
	}
	return c.Table.FormatKey(k)
}
