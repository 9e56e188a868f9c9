package source

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"regexp"

	"github.com/go-mysql-org/go-mysql/client"
	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// maxReconnects is how many connections in a row may fail before the stream ends with the last error.
const maxReconnects = 5

// Transactions reads the log from a position on. See replication.Source. Besides errors of the server and of the
// way to it, which are transient where another try can help, the stream ends with replication.ErrPositionGone,
// replication.ErrHistory, *replication.SchemaChangedError, *replication.RowError, or what a *LogError holds.
func (s *Source) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	return func(yield func(*replication.Transaction, error) bool) {
		if from.Flavor() != replication.FlavorMySQL {
			yield(nil, fmt.Errorf("start position %q is not one of a MySQL server", from))
			return
		}
		ctx, cancel := context.WithCancelCause(ctx)
		q := newQueue(s.opts.QueueBytes)
		done := make(chan struct{})
		s.countReaders(1)
		go func() {
			defer close(done)
			r := &logReader{source: s, queue: q, have: from, stale: make(map[string]string), seen: make(map[string]bool), clock: clock{now: s.now}}
			err := s.confirm(ctx)
			if err == nil {
				err = r.run(ctx)
			}
			q.close(err)
		}()
		defer func() {
			cancel(errStopped)
			<-done
			q.discard()
			s.countReaders(-1)
		}()
		for {
			t, err := q.take(ctx)
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

var errStopped = errors.New("the consumer stopped")

func (s *Source) countReaders(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.reading += n
}

// A logReader reads the log over as many connections as it takes. One goroutine runs it.
type logReader struct {
	source *Source
	queue  *queue
	// have are the transactions put into the queue, and those before the start.
	have replication.Position
	// last is the furthest place told; stale are the tables that must be looked at again (assembler.stale).
	last  replication.LogPos
	stale map[string]string
	seen  map[string]bool
	clock clock
	// sought is where an XA transaction was last committed whose first part had to be looked for.
	sought replication.LogPos
	// again are the XA transactions in have that are prepared only: their rows are needed on the next connection.
	again map[replication.GTID]bool
}

// run ends with an error, always.
func (r *logReader) run(ctx context.Context) error {
	backoff := retry.Backoff{Max: r.source.opts.ReadTimeout}
	for failures := 0; ; {
		before := r.last
		err := mark(ctx, r.seekPrepared(ctx, r.dialed(ctx, func(d *dump) error { return r.read(ctx, d) })))
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if r.last != before {
			failures = 0
			backoff.Reset()
		}
		if failures++; !retriable(err) || failures > maxReconnects {
			return err
		}
		r.source.opts.Logger.Warn("log reader lost its connection", slog.String("source", r.source.cfg.String()), slog.Any("error", err))
		if err := retry.Wait(ctx, backoff.Next()); err != nil {
			return err
		}
	}
}

// retriable tells whether a new connection is worth it: also after error 1236, which is taken for what it says only
// once the server's sets of GTIDs prove it.
func retriable(err error) bool {
	if replication.Transient(err) {
		return true
	}
	code, _ := mysqlerr.Code(err)
	return code == gomysql.ER_MASTER_FATAL_ERROR_READING_BINLOG &&
		!errors.Is(err, replication.ErrPositionGone) && !errors.Is(err, replication.ErrHistory)
}

// dialed calls f with a connection of its own, which ends with ctx.
func (r *logReader) dialed(ctx context.Context, f func(*dump) error) error {
	d, err := dialDump(ctx, r.source.cfg, r.source.opts.ReadTimeout)
	if err != nil {
		return err
	}
	stop := mysqlconn.Watch(ctx, d.client.Conn.Conn)
	defer func() {
		stop()
		_ = d.client.Close()
	}()
	return f(d)
}

// read reads the log over one connection until it ends.
func (r *logReader) read(ctx context.Context, d *dump) error {
	src := r.source
	server, checksum, err := checkServer(d.client, r.from())
	if errors.Is(err, replication.ErrPositionGone) && len(r.again) > 0 {
		clear(r.again) // they may never be committed
		server, checksum, err = checkServer(d.client, r.have)
	}
	if err == nil {
		err = r.checkEnd(d.client, server)
	}
	if err == nil {
		err = d.start(r.from(), src.opts.Heartbeat, checksum)
	}
	if err != nil {
		return err
	}
	if r.last.Server != server {
		r.clock = clock{now: src.now}
	}
	src.mu.Lock()
	src.mu.server = server
	src.mu.Unlock()
	src.opts.Logger.Info("log reader connected", slog.String("source", src.cfg.String()), slog.String("server", server))
	a := r.assembler(ctx, server)
	a.checksum = checksum == checksumCRC32
	defer a.close()
	defer func() { r.have, r.last, r.again = a.have, a.last, a.unsettled() }()
	return r.events(d, a)
}

// from is the position that the server is to send the log from.
func (r *logReader) from() replication.Position {
	from := r.have
	for g := range r.again {
		from = from.Without(g)
	}
	return from
}

// checkEnd checks that the log of a server that was read from before still reaches as far. One that was reset may have the
// same GTIDs again, for other transactions.
func (r *logReader) checkEnd(c *client.Conn, server string) error {
	if r.last.Server != server {
		return nil
	}
	result, err := c.Execute(binlogStatus(c.GetServerVersion()))
	if err != nil {
		return err
	}
	if result.RowNumber() == 0 {
		return ErrNoLog
	}
	end := replication.LogPos{Server: server}
	file, err := result.GetString(0, 0)
	if err != nil {
		return err
	}
	if end.File, err = fileNumber(file); err != nil {
		return err
	}
	if end.Offset, err = result.GetUint(0, 1); err != nil {
		return err
	}
	if end.Before(r.last) {
		return fmt.Errorf("server %s: %w: its log was read up to %s and ends at %s", server, replication.ErrHistory, r.last, end)
	}
	return nil
}

// events reads what the server sends, until there is an error.
func (r *logReader) events(d *dump, a *assembler) error {
	events := eventReader{assembler: a}
	defer events.close()
	for {
		err := d.next()
		if err != nil {
			if mysqlerr.AccessDenied(err) {
				return fmt.Errorf("read the log, which needs the privilege REPLICATION SLAVE: %w", err)
			}
			return fmt.Errorf("read the log: %w", err)
		}
		if err := events.event(d); err != nil {
			if d.err != nil {
				return fmt.Errorf("read the log: %w", d.err)
			}
			return a.fail(unexpected(err))
		}
	}
}

// assembler makes one for a new connection.
func (r *logReader) assembler(ctx context.Context, server string) *assembler {
	src := r.source
	a := newAssembler(src.cfg.Database, src.tables, server, r.have)
	maps.Copy(a.again, r.again)
	a.fold, a.last, a.stale = src.fold, r.last, r.stale
	a.seen = r.seen
	a.unlogged = !src.logsCascades
	a.memory, a.dir = src.opts.TransactionBytes, src.opts.SpillDir
	a.emit = func(t *replication.Transaction) error {
		t.Committed = r.clock.local(ctx, t.Committed)
		return r.queue.put(ctx, t)
	}
	a.news = func(t *replication.Transaction) error { return r.queue.news(ctx, t) }
	a.readIndirect = func(in *indirect) error { return mark(ctx, src.readIndirect(ctx, in)) }
	a.convert = func(text string, collation uint16) (string, bool, error) {
		utf8, ok, err := src.convert(ctx, text, collation)
		return utf8, ok, mark(ctx, err)
	}
	a.altered = func(g *group, seen map[string]bool) error {
		return mark(ctx, src.altered(ctx, g, seen))
	}
	a.recheck = func(name string) error { return mark(ctx, src.recheck(ctx, name)) }
	return a
}

// checkServer returns the server's UUID and its kind of checksums, or why the log can't be read from the position on. What could not be
// asked is an error of the connection, and never says that the position is gone.
func checkServer(c *client.Conn, have replication.Position) (server, checksum string, err error) {
	if err := supported(c.GetServerVersion()); err != nil {
		return "", "", err
	}
	if _, err := c.Execute("SET @tablehaul_have = " + sqltext.String(have.Text())); err != nil {
		return "", "", err
	}
	// What is owned is read before what is executed: transactions go from the one to the other.
	result, err := c.Execute("SELECT @@server_uuid, @@global.gtid_mode, GTID_SUBTRACT(@@global.gtid_purged, @tablehaul_have)," +
		" @@global.gtid_owned, GTID_SUBTRACT(@tablehaul_have, @@global.gtid_executed), @@global.binlog_checksum")
	if err != nil {
		return "", "", err
	}
	var v [6]string
	for i := range v {
		if v[i], err = result.GetString(0, i); err != nil {
			return "", "", err
		}
	}
	switch {
	case v[1] != "ON":
		return "", "", fmt.Errorf("%w: gtid_mode is %s", ErrNoLog, v[1])
	case v[4] != "" && !owned(v[3], v[4]):
		return "", "", fmt.Errorf("server %s: %w: %.200s", v[0], replication.ErrHistory, v[4])
	case v[2] != "":
		return "", "", fmt.Errorf("server %s: %w: %.200s", v[0], replication.ErrPositionGone, v[2])
	}
	return v[0], v[5], nil
}

// ownerMarks are the thread ids in @@global.gtid_owned, as in uuid:5#12.
var ownerMarks = regexp.MustCompile(`#[0-9]+`)

// owned tells whether the transactions in extra, a set of GTIDs, are all being executed, as a server's gtid_owned tells:
// they are in the log, which is where they were read, and will be visible.
func owned(gtidOwned, extra string) bool {
	all, err := replication.ParsePosition("MySQL56/" + ownerMarks.ReplaceAllString(gtidOwned, ""))
	if err != nil {
		return false
	}
	some, err := replication.ParsePosition(extra)
	return err == nil && all.Covers(some)
}
