package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// errLoad says that LOAD DATA did not store a chunk as it must. The transaction is rolled back then, and the rows are
// written by INSERT, which stops at a row that is wrong and says which.
var errLoad = errors.New("LOAD DATA did not do what it had to")

// A loader writes a table's chunks by LOAD DATA LOCAL INFILE. LOCAL makes errors of single rows warnings, and leaves out
// rows whose key is there already; so the counts of rows and of warnings must come out exactly.
type loader struct {
	plan *plan
	// statement is the whole statement.
	statement string
	// plain are the columns, in the table's order, whose values hold nothing to escape; skip those that aren't written.
	plain, skip []bool
	// look says that rows must be looked at before they are loaded: not all JSON can be, ENUM may bring warnings, and some times are
	// in no time zone.
	look bool
	// off is set when the table's chunks can't be loaded.
	off atomic.Bool
}

// newLoader makes a plan's loader. Values go into columns as they are: with CHARACTER SET binary the server takes the bytes for
// the column's own characters, as it does with _binary literals. Where it would not understand them they
// pass through a variable: index and bits of ENUM and SET are numbers, and JSON must be said to be text.
func newLoader(p *plan) *loader {
	// A time that can't be converted is found before the server asks for the rows: once it has, they can't be taken back.
	l := &loader{plan: p, plain: make([]bool, len(p.table.Columns)), skip: make([]bool, len(p.table.Columns)), look: len(p.zoned) > 0}
	for i := range l.skip {
		l.skip[i] = true
	}
	var columns, sets []string
	for n, i := range p.written {
		c := &p.table.Columns[i]
		l.skip[i] = false
		variable, expr := fmt.Sprintf("@c%d", n), ""
		switch c.Kind {
		case replication.KindInt, replication.KindUint, replication.KindDecimal, replication.KindFloat, replication.KindDouble,
			replication.KindYear, replication.KindDate, replication.KindTime, replication.KindDatetime, replication.KindTimestamp:
			l.plain[i] = true
		case replication.KindEnum, replication.KindSet:
			l.plain[i], l.look = true, true
			expr = "CAST(" + variable + " AS UNSIGNED)"
		case replication.KindJSON:
			l.look = true
			expr = "CONVERT(" + variable + " USING utf8mb4)"
		}
		if expr == "" {
			columns = append(columns, p.quoted[i])
		} else {
			columns = append(columns, variable)
			sets = append(sets, p.quoted[i]+"="+expr)
		}
	}
	l.statement = "LOAD DATA LOCAL INFILE " + sqltext.String(infileName) + " INTO TABLE " + p.name +
		` CHARACTER SET binary FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n' (` + strings.Join(columns, ",") + ")"
	if len(sets) > 0 {
		l.statement += " SET " + strings.Join(sets, ",")
	}
	return l
}

// check turns the loader off if LOAD DATA does in silence with a column h of the target what INSERT refuses, or locks more. c is what is
// written there, nil if nothing is.
func (l *loader) check(c *replication.Column, h *column, v variables) {
	written := c != nil && !c.Generated
	switch {
	case !written && h.noDefault && !h.nullable && !h.autoInc() && !h.generated():
		// A column that the source has not, and that needs a value: it would get one.
		l.off.Store(true)
	case written && !h.nullable && c.Nullable:
		// NULL would become the present time in a TIMESTAMP.
		l.off.Store(true)
	case h.autoInc() && v.autoincLockMode < 2:
		// LOAD DATA would hold the lock of the counter to its end, so that chunks and the stream wait for one another.
		l.off.Store(true)
	}
}

// inspect tells whether the rows can be loaded, and how many warnings the server will give for them.
func (l *loader) inspect(rows []replication.Row, values [][]byte, maxPacket int) (warnings int, ok bool, err error) {
	for _, r := range rows {
		if len(r) >= maxPacket {
			return 0, false, nil // INSERT says so
		}
		if !l.look {
			continue
		}
		if values, err = l.plan.values(values, r); err != nil {
			return 0, false, err
		}
		for _, i := range l.plan.written {
			c := &l.plan.table.Columns[i]
			warnings += enumError(c, values[i])
			if c.Kind == replication.KindJSON && len(values[i]) > 0 && values[i][0] == 0 {
				return 0, false, nil // an expression
			}
		}
	}
	return warnings, true, nil
}

// appendRow appends a row as a line.
func (l *loader) appendRow(dst []byte, values [][]byte) []byte {
	first := true
	for i, v := range values {
		if l.skip[i] {
			continue
		}
		if !first {
			dst = append(dst, '\t')
		}
		first = false
		switch {
		case v == nil:
			dst = append(dst, '\\', 'N')
		case l.plain[i]:
			dst = append(dst, v...)
		default:
			dst = appendField(dst, v)
		}
	}
	return append(dst, '\n')
}

// appendField appends v with a backslash before each byte that would end a field or a line, or is one itself.
func appendField(dst, v []byte) []byte {
	// The usual value has none of them, and looking for one byte is what machines are fast at.
	if bytes.IndexByte(v, '\\') < 0 && bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\t') < 0 {
		return append(dst, v...)
	}
	for _, b := range v {
		switch b {
		case '\\':
			dst = append(dst, '\\', '\\')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, b)
		}
	}
	return dst
}

// load writes the rows of a chunk by LOAD DATA, in one round trip with what was gathered before. It returns false, and has
// done nothing, if that is not possible.
func (t *sqlTx) load(ctx context.Context, w *writer, p *plan, c *replication.Chunk) (bool, error) {
	l := t.s.loaders[c.Table]
	if l == nil || t.inserts || w.careful || len(c.Rows) == 0 || l.off.Load() || t.s.noInfile.Load() {
		return false, nil
	}
	warnings, ok, err := l.inspect(c.Rows, t.after, t.s.maxPacket)
	if err != nil || !ok {
		return false, err
	}
	if err := w.begin(ctx, len(l.statement)+1, expect{rows: int64(len(c.Rows)), warnings: warnings, op: "insert"}); err != nil {
		return false, err
	}
	w.buf = append(w.buf, l.statement...)
	file := &infile{loader: l, rows: c.Rows}
	t.conn.infile = file
	err = w.flush(ctx)
	t.conn.infile = nil
	if errors.Is(err, ErrUnexpected) {
		err = errLoad
		if refusesInfile(file.answer) && t.s.noInfile.CompareAndSwap(false, true) {
			t.s.t.opts.Logger.Warn("copying by INSERT from now on", "reason", file.answer)
		}
	}
	return true, err
}

// insertInstead writes a chunk by INSERT after LOAD DATA did not do it. If that works, LOAD DATA does not understand
// the table, and is not used for it again.
func (t *sqlTx) insertInstead(ctx context.Context, e *replication.Entry) error {
	if err := t.rollback(ctx); err != nil {
		return err
	}
	t.inserts = true
	err := t.apply(ctx, e, false)
	if err == nil && !t.s.noInfile.Load() && !t.s.loaders[e.Chunk.Table].off.Swap(true) {
		t.s.t.opts.Logger.Warn("copying a table by INSERT from now on", "table", e.Chunk.Table.Name, "reason", errLoad)
	}
	return err
}

// refusesInfile tells whether an error means that the server does not do LOAD DATA LOCAL at all.
func refusesInfile(err error) bool {
	switch code, _ := mysqlerr.Code(err); code {
	case 1148, 3948, 4166: // not with this version, local_infile=OFF, the same of MariaDB
		return true
	}
	return false
}
