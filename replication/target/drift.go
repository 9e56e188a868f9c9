package target

import (
	"context"
	"slices"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/replication"
)

// drift does what Options.OnDrift says about a row that the target does not hold as it must, or holds and must not.
func (w *writer) drift(ctx context.Context, e expect, err error) error {
	c := e.change
	d := &replication.DriftError{Table: c.Table.Name, Key: w.key(c), Op: e.op, Position: w.position, Err: err}
	if c.Before != nil {
		d.Before = c.Table.Format(c.Before)
	}
	if c.After != nil {
		d.After = c.Table.Format(c.After)
	}
	switch w.tx.s.t.opts.OnDrift {
	case replication.OnDriftSkip:
	case replication.OnDriftRepair:
		if err := w.repair(ctx, e); mysqlerr.DuplicateKey(err) {
			return d
		} else if err != nil {
			return err
		}
	default:
		return d
	}
	w.tx.drifts.add(d)
	return nil
}

// repair makes way for a change's after image, and puts it in: what has one of its keys goes.
func (w *writer) repair(ctx context.Context, e expect) error {
	c := e.change
	if c.After == nil {
		return nil
	}
	p, err := w.tx.s.plan(c.Table)
	if err != nil {
		return err
	}
	var statements []string
	remove := func(r replication.Row, k replication.Index) error {
		values, err := p.values(nil, r)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(k.Columns, func(i int) bool { return values[i] == nil }) {
			return nil
		}
		text, err := p.appendMatch([]byte("DELETE FROM "+p.name+" WHERE "), k.Columns, values)
		statements = append(statements, string(text))
		return err
	}
	if c.Before != nil {
		if err := remove(c.Before, c.Table.Primary); err != nil {
			return err
		}
	}
	for _, k := range append([]replication.Index{c.Table.Primary}, c.Table.Unique...) {
		if err := remove(c.After, k); err != nil {
			return err
		}
	}
	values, err := p.values(nil, c.After)
	if err != nil {
		return err
	}
	text, warnings, err := p.appendRow([]byte(p.insert), values)
	if err != nil {
		return err
	}
	var r result
	for _, statement := range append(statements, string(text)) {
		r, err = w.conn.run(ctx, statement)
		_, answered := mysqlerr.Code(err)
		switch {
		case err == nil:
		case !answered || mysqlerr.DuplicateKey(err) || mysqlerr.LockWait(err) || mysqlerr.Transient(err, mysqlerr.Target):
			return err
		default:
			return w.refused(e, err)
		}
	}
	e.warnings = warnings
	return w.warned(ctx, e, r)
}

// keptDrifts is how many lines of type Drift one transaction adds at most, and how many a stream's log keeps; when there are twice as
// many, the older ones become one.
const keptDrifts = 1000

// driftText bounds the text of the rows that one transaction lists, in bytes.
const driftText = 1 << 20

// drifts are the rows of a transaction that were not as they should be, and did not end the stream.
type drifts struct {
	list []*replication.DriftError
	text int
	// more is how many are not in the list.
	more int64
}

func (d *drifts) add(e *replication.DriftError) {
	n := len(e.Before) + len(e.After) + len(e.Key)
	if len(d.list) > 0 && (len(d.list) >= keptDrifts || d.text+n > driftText) {
		d.more++
		return
	}
	d.list, d.text = append(d.list, e), d.text+n
}

// appendDrifts appends the statement that records rows that drifted, in the transaction that goes on in spite of them.
func (s *store) appendDrifts(dst []byte, d *drifts) []byte {
	texts := make([]string, len(d.list))
	for i, e := range d.list {
		texts[i] = e.Error() + "; " + s.driftDone()
	}
	return s.side.AppendDrifts(dst, s.id, texts, d.more)
}

func (s *store) driftDone() string {
	if s.t.opts.OnDrift == replication.OnDriftRepair {
		return "repaired"
	}
	return "skipped"
}

// drifted takes note of rows that drifted when their transaction is committed.
func (s *store) drifted(ctx context.Context, d *drifts) {
	for _, e := range d.list {
		s.t.opts.Logger.WarnContext(ctx, "the target's row was not as the stream had put it", "table", e.Table, "key", e.Key,
			"op", e.Op, "done", s.driftDone())
	}
	if d.more > 0 {
		s.t.opts.Logger.WarnContext(ctx, "more rows of the transaction were not as the stream had put them", "rows", d.more, "done", s.driftDone())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.drifts += len(d.list) + 1
}

// trimDrifts keeps the stream's log short.
func (s *store) trimDrifts(ctx context.Context) error {
	s.mu.Lock()
	due := s.mu.drifts >= keptDrifts
	if due {
		s.mu.drifts = 0
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.side.TrimDrifts(ctx, s.id, keptDrifts)
}
