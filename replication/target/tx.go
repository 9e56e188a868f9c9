package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
)

// sqlTx is a Tx on a server.
type sqlTx struct {
	s    *store
	conn *conn
	// open is set when a transaction has been begun on the connection.
	open bool
	// cascaded is set when foreign keys were switched on for a change.
	cascaded bool
	// drifts are the rows that were not as they should be, and did not end the stream.
	drifts drifts
	// inserts is set when the chunk is not to be loaded by LOAD DATA.
	inserts bool
	// before and after are reused for unpacked rows.
	before, after [][]byte
}

// Apply executes the entry's changes in their order, or replaces the rows of its chunk.
func (t *sqlTx) Apply(ctx context.Context, e *replication.Entry, careful bool) error {
	err := t.apply(ctx, e, careful)
	if errors.Is(err, errLoad) {
		err = t.insertInstead(ctx, e)
	}
	return t.s.deposed(ctx, t.s.classify(ctx, err))
}

func (t *sqlTx) apply(ctx context.Context, e *replication.Entry, careful bool) error {
	if e.Chunk == nil && e.Spill == nil && len(e.Changes) == 0 {
		return nil
	}
	w := newWriter(t, careful, e.Position)
	if !t.open {
		t.open = true
		if err := w.statement(ctx, "BEGIN"); err != nil {
			return err
		}
	}
	if e.Chunk != nil {
		if err := t.chunk(ctx, w, e.Chunk); err != nil {
			return err
		}
		return w.flush(ctx)
	}
	if err := e.Each(func(c replication.Change) error { return t.change(ctx, w, c) }); err != nil {
		return err
	}
	return w.flush(ctx)
}

func (t *sqlTx) change(ctx context.Context, w *writer, c replication.Change) error {
	if !c.Cascade {
		return t.row(ctx, w, c)
	}
	// The target's own foreign keys do what the source's did.
	t.cascaded = true
	if err := w.statement(ctx, "SET SESSION foreign_key_checks=1"); err != nil {
		return err
	}
	if err := t.row(ctx, w, c); err != nil {
		return err
	}
	return w.statement(ctx, "SET SESSION foreign_key_checks=0")
}

func (t *sqlTx) row(ctx context.Context, w *writer, c replication.Change) error {
	p, err := t.s.plan(c.Table)
	if err != nil {
		return err
	}
	if c.Before != nil {
		if t.before, err = p.values(t.before, c.Before); err != nil {
			return err
		}
	}
	if c.After != nil {
		if t.after, err = p.values(t.after, c.After); err != nil {
			return err
		}
	}
	switch {
	case c.Loose:
		return t.replace(ctx, w, p, c)
	case c.Before == nil && c.After == nil:
		return nil
	case c.Before == nil:
		return w.insert(ctx, p, t.after, len(c.After), c)
	case c.After == nil:
		return w.delete(ctx, p, t.before, deleting, c)
	case w.careful || c.Cascade || p.upsert == "" || len(c.After) >= wide || !sameKey(p.table, t.before, t.after):
		return w.update(ctx, p, t.before, t.after, len(c.Before)+len(c.After), c)
	}
	return w.upsert(ctx, p, t.after, len(c.After), c)
}

func sameKey(table *replication.Table, before, after [][]byte) bool {
	for _, i := range table.Primary.Columns {
		if !bytes.Equal(before[i], after[i]) {
			return false
		}
	}
	return true
}

// replace does a change of a row that may or may not be there.
func (t *sqlTx) replace(ctx context.Context, w *writer, p *plan, c replication.Change) error {
	if c.Before != nil {
		if err := w.delete(ctx, p, t.before, deletingLoosely, c); err != nil {
			return err
		}
	}
	if c.After == nil {
		return nil
	}
	if err := w.delete(ctx, p, t.after, deletingLoosely, c); err != nil {
		return err
	}
	return w.insert(ctx, p, t.after, len(c.After), c)
}

// chunk inserts a chunk's rows. Where events were applied before their range was copied, rows may be there.
func (t *sqlTx) chunk(ctx context.Context, w *writer, c *replication.Chunk) error {
	p, err := t.s.plan(c.Table)
	if err != nil {
		return err
	}
	for pass := range 2 {
		if pass == 0 && c.Table.Ordered {
			continue
		}
		if pass == 1 {
			if done, err := t.load(ctx, w, p, c); done || err != nil {
				return err
			}
		}
		for _, r := range c.Rows {
			if t.after, err = p.values(t.after, r); err != nil {
				return err
			}
			change := replication.Change{Table: c.Table, After: r}
			if pass == 0 {
				err = w.delete(ctx, p, t.after, deletingLoosely, change)
			} else {
				err = w.insert(ctx, p, t.after, len(r), change)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Commit records the entry and commits, in one round trip: the record fails if somebody else has taken the
// stream over, and the COMMIT after it is not executed then.
func (t *sqlTx) Commit(ctx context.Context, e *replication.Entry) error {
	buf := make([]byte, batchHead, 512)
	var mark sidecar.Mark
	if e.Chunk != nil {
		c := e.Chunk
		buf = t.s.side.AppendSpan(buf, t.s.id, t.s.epoch, sidecar.Span{
			Table: c.Table.Name, Lo: c.Span.Lo, Hi: c.Span.Hi, Rows: int64(len(c.Rows)), Bytes: int64(c.Bytes),
		})
	} else {
		mark = t.s.next(e)
		buf = t.s.side.AppendPosition(buf, t.s.id, t.s.epoch, mark)
	}
	want := 1
	if len(t.drifts.list) > 0 {
		buf = t.s.appendDrifts(append(buf, ';'), &t.drifts)
		want++
	}
	if t.open {
		buf = append(buf, ";COMMIT"...)
		want++
	}
	// When ctx ends now, it is better to hear what became of the COMMIT than to leave it open.
	done := 0
	cctx, cancel := outlive(ctx, rollbackTimeout)
	err := t.conn.exec(cctx, buf, func(i int, _ result) { done = i + 1 })
	cancel()
	if err == nil && done != want {
		t.conn.broken = true
		err = fmt.Errorf("%w: %d results for %d statements", errProtocol, done, want)
	}
	if err != nil {
		if done == 0 {
			err = t.s.fenced(err)
		} else if mysqlerr.LockWait(err) {
			// An error of the COMMIT itself: only the next Load knows what became of it.
			err = &replication.TransientError{Err: fmt.Errorf("commit: %w", err)}
		}
		return t.s.classify(ctx, err)
	}
	t.open = false
	if len(t.drifts.list) > 0 {
		t.s.drifted(ctx, &t.drifts)
	}
	if e.Chunk == nil {
		t.s.advanced(mark)
	} else {
		t.s.spanAdded(e.Chunk.Table.Name)
	}
	t.s.put(t.conn)
	t.conn = nil
	return nil
}

// outlive returns a context that ends d after ctx does.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(d, cancel)
		context.AfterFunc(out, func() { timer.Stop() })
	})
	return out, func() {
		stop()
		cancel()
	}
}

// Ping keeps the server from ending the connection.
func (t *sqlTx) Ping(ctx context.Context) error {
	_, err := t.conn.run(ctx, "DO 0")
	return t.s.classify(ctx, err)
}

// Rollback gives the transaction up; if the connection does not answer, by closing it.
func (t *sqlTx) Rollback(ctx context.Context) {
	if t.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	if t.conn.broken {
		t.s.kill(ctx, t.conn)
	} else if err := t.rollback(ctx); err != nil {
		t.conn.broken = true
	}
	t.s.put(t.conn)
	t.conn = nil
}

func (t *sqlTx) rollback(ctx context.Context) error {
	if !t.open {
		return nil
	}
	_, err := t.conn.run(ctx, "ROLLBACK")
	if err == nil && t.cascaded {
		_, err = t.conn.run(ctx, "SET SESSION foreign_key_checks=0")
	}
	t.open, t.drifts = err != nil, drifts{}
	return err
}

// classify makes an error one that the scheduler and the stream's owner understand.
func (s *store) classify(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, replication.ErrFenced) || errors.Is(err, ErrUnexpected) || replication.Transient(err):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case mysqlerr.LockWait(err):
		return &replication.TransientError{Err: fmt.Errorf("%w: %w", ErrLockConflict, err)}
	case mysqlerr.Transient(err, mysqlerr.Target), errors.Is(err, mysqlconn.ErrUnreachable):
		return &replication.TransientError{Err: fmt.Errorf("target: %w", err)}
	}
	return err
}

// fenced turns the server's error of a fenced statement into the one that it stands for.
func (s *store) fenced(err error) error {
	if code, _ := mysqlerr.Code(err); code == sidecar.FenceError {
		return fmt.Errorf("stream %d: %w", s.id, replication.ErrFenced)
	}
	return err
}

// deposed makes an error that can't be mended one of the stream's take-over, if there was one: a new owner may have changed
// the rows already.
func (s *store) deposed(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrUnexpected) || replication.Transient(err) {
		return err
	}
	if _, epoch, _, oerr := s.side.Owner(ctx, s.id); oerr != nil {
		return s.classify(ctx, oerr)
	} else if epoch != s.epoch {
		return fmt.Errorf("stream %d: %w", s.id, replication.ErrFenced)
	}
	return err
}
