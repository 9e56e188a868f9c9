package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	gobinlog "github.com/go-mysql-org/go-mysql/replication"

	"github.com/tablehaul/tablehaul/replication"
)

// A preparedError is an ErrPreparedBefore that knows which transaction.
type preparedError struct{ xid string }

func (e *preparedError) Error() string { return ErrPreparedBefore.Error() + ": " + e.xid }

func (e *preparedError) Is(target error) bool { return target == ErrPreparedBefore }

// seekPrepared is for an XA transaction that is committed after the start position and was prepared before it: it finds the first
// part in an older piece of the log, and has the server send it again. Then the error is
// nil; otherwise it is err, or why the log can't be searched.
func (r *logReader) seekPrepared(ctx context.Context, err error) error {
	at, ok := errors.AsType[*LogError](err)
	if !ok || ctx.Err() != nil {
		return err
	}
	lacking, ok := errors.AsType[*preparedError](at.Err)
	if !ok || r.sought == at.Pos {
		return err
	}
	r.source.opts.Logger.Info("looking for the first part of an XA transaction in older logs", slog.String("source", r.source.cfg.String()),
		slog.String("xid", lacking.xid), slog.Uint64("file", at.Pos.File))
	open, failed := r.search(ctx, lacking.xid, at.Pos)
	switch {
	case failed != nil:
		return fmt.Errorf("look for the first part of XA transaction %s: %w", lacking.xid, failed)
	case open[lacking.xid].IsZero():
		return err
	}
	for _, g := range open { // others may be committed soon
		r.again[g] = true
	}
	r.sought = at.Pos
	return nil
}

// unsettled are the transactions that are prepared, and those that are to come once more.
func (a *assembler) unsettled() map[replication.GTID]bool {
	list := maps.Clone(a.again)
	for _, g := range a.prepared {
		list[g.gtid] = true
	}
	return list
}

// search reads the log backwards, file by file, from a place on, until it has passed the first part of an XA transaction. It returns the
// GTIDs of all first parts in there that are not settled before the place, by xid. That of the transaction is not among them if the server does
// not have that much of its log.
func (r *logReader) search(ctx context.Context, xid string, end replication.LogPos) (map[string]replication.GTID, error) {
	names, err := r.logFiles(ctx, end)
	if err != nil {
		return nil, err
	}
	open := make(map[string]replication.GTID)
	settled := make(map[string]bool) // in the files that have been read
	for _, name := range names {
		a, err := r.readFile(ctx, name, end)
		if err != nil {
			return nil, err
		}
		for id, g := range a.prepared {
			if open[id].IsZero() && !settled[id] {
				open[id] = g.gtid
			}
		}
		if !open[xid].IsZero() {
			break
		}
		for id := range a.unknown {
			settled[id] = true
		}
	}
	return open, nil
}

// logFiles are the names of the server's log files up to the one with the place, the newest first.
func (r *logReader) logFiles(ctx context.Context, end replication.LogPos) (names []string, err error) {
	err = r.older(ctx, end.Server, func(d *dump, _ string) error {
		result, err := d.client.Execute("SHOW BINARY LOGS")
		if err != nil {
			return err
		}
		for i := range result.RowNumber() {
			name, err := result.GetString(i, 0)
			if err != nil {
				return err
			}
			n, err := fileNumber(name)
			if err != nil {
				return err
			}
			if n <= end.File {
				names = append(names, name)
			}
		}
		return nil
	})
	slices.Reverse(names)
	return names, err
}

// readFile reads one file, up to the place at most, and keeps nothing of it but the XA transactions that are prepared or settled there.
func (r *logReader) readFile(ctx context.Context, name string, end replication.LogPos) (*assembler, error) {
	a := newAssembler(r.source.cfg.Database, nil, end.Server, replication.Position{})
	a.unknown = make(map[string]bool)
	nothing := func(*replication.Transaction) error { return nil }
	a.emit, a.news = nothing, nothing
	err := r.older(ctx, end.Server, func(d *dump, checksum string) error {
		if err := d.startFile(name, r.source.opts.Heartbeat, checksum); err != nil {
			return err
		}
		a.checksum = checksum == checksumCRC32
		return readUntil(d, a, end)
	})
	return a, err
}

// readUntil hands events to a until the one that ends at the place, which it leaves out, or to the end of the file.
func readUntil(d *dump, a *assembler, end replication.LogPos) error {
	events := eventReader{assembler: a}
	defer events.close()
	for entered := false; ; {
		if err := d.next(); errors.Is(err, errDumpEnded) {
			return nil
		} else if err != nil {
			return err
		}
		h, err := events.header(d)
		if err != nil {
			return unexpected(err)
		}
		rotates := h.EventType == gobinlog.ROTATE_EVENT
		if rotates && entered || a.after(h) == end {
			return nil
		}
		if err := events.rest(d, h); err != nil {
			if d.err != nil {
				return d.err
			}
			return a.fail(unexpected(err))
		}
		entered = entered || rotates
	}
}

// older calls f with a connection to a server for reading its older logs.
func (r *logReader) older(ctx context.Context, server string, f func(d *dump, checksum string) error) error {
	return r.dialed(ctx, func(d *dump) error {
		have, checksum, err := checkServer(d.client, r.have)
		if err == nil && have != server {
			err = &ServerChangedError{Want: server, Have: have}
		}
		if err != nil {
			return err
		}
		return f(d, checksum)
	})
}
