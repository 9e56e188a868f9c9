package source

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	gobinlog "github.com/go-mysql-org/go-mysql/replication"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// maxReconnects is how many connections in a row may fail before the stream ends with the last error.
const maxReconnects = 8

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
			r := &logReader{source: s, queue: q, have: from, stale: make(map[string]string)}
			q.close(r.run(ctx))
		}()
		defer func() {
			cancel(errStopped)
			<-done
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
}

// run ends with an error, always.
func (r *logReader) run(ctx context.Context) error {
	var backoff retry.Backoff
	for failures := 0; ; {
		before := r.last
		err := mark(ctx, r.connect(ctx))
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

// connect reads the log over one connection until it ends.
func (r *logReader) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errStopped)
	set, err := gomysql.ParseMysqlGTIDSet(r.have.Text())
	if err != nil {
		return fmt.Errorf("position %s: %w", r.have, err)
	}
	h := &eventHandler{reader: r, ctx: ctx}
	cfg, err := r.config(ctx, h)
	if err != nil {
		return err
	}
	syncer := gobinlog.NewBinlogSyncer(cfg)
	streamer, err := syncer.StartSyncGTID(set)
	if err == nil {
		// The handler gets the events, this only waits for the end. The context has no part in it: it breaks the
		// connection, and the reading goroutine reports that.
		_, err = streamer.GetEvent(context.WithoutCancel(ctx))
	}
	cancel(errStopped)
	syncer.Close()
	if a := h.assembler; a != nil {
		r.have, r.last = a.have, a.last
	}
	switch {
	case h.err != nil:
		return h.err
	case h.assembler != nil && mysqlerr.AccessDenied(err):
		return fmt.Errorf("read the log, which needs the privilege REPLICATION SLAVE: %w", err)
	}
	return fmt.Errorf("read the log: %w", err)
}

// config sets the syncer up: no retries, positions or sets of its own, nothing decoded that is decoded here.
func (r *logReader) config(ctx context.Context, h *eventHandler) (gobinlog.BinlogSyncerConfig, error) {
	src := r.source
	cfg := gobinlog.BinlogSyncerConfig{
		ServerID:                1<<31 | rand.Uint32(),
		Flavor:                  gomysql.MySQLFlavor,
		Host:                    src.cfg.Addr,
		User:                    src.cfg.User,
		Password:                src.cfg.Password,
		Localhost:               "tablehaul",
		TLSConfig:               src.cfg.TLS,
		HeartbeatPeriod:         src.opts.Heartbeat,
		ReadTimeout:             max(10*src.opts.Heartbeat, 5*time.Second),
		DisableRetrySync:        true,
		DiscardGTIDSet:          true,
		EventCacheCount:         1,
		SynchronousEventHandler: h,
		Logger:                  slog.New(slog.DiscardHandler),
		Option:                  h.check,
		RowsEventDecodeFunc:     rowsHead,
		// Optional metadata are read where they are needed.
		TableMapOptionalMetaDecodeFunc: func([]byte) error { return nil },
		Dialer: func(dctx context.Context, network, addr string) (net.Conn, error) {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx) // Close wants to kill the thread, which ends without that
			}
			dctx, stop := context.WithCancel(dctx)
			defer stop()
			defer context.AfterFunc(ctx, stop)()
			var d net.Dialer
			c, err := d.DialContext(dctx, network, addr)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = c.Close() })
			}
			return c, err
		},
	}
	if strings.Contains(src.cfg.Addr, "/") {
		return cfg, nil
	}
	host, port, err := net.SplitHostPort(src.cfg.Addr)
	if err != nil {
		host, port = strings.Trim(src.cfg.Addr, "[]"), "3306"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return cfg, fmt.Errorf("address %s: port: %w", src.cfg.Addr, err)
	}
	cfg.Host, cfg.Port = host, uint16(n)
	return cfg, nil
}

// rowsHead stands in for the decoding of rows events. The parser only needs the flag by which it forgets tables.
func rowsHead(e *gobinlog.RowsEvent, data []byte) error {
	if len(data) < 8 {
		return fmt.Errorf("%w: rows event is cut", ErrMalformedEvent)
	}
	e.Flags = binary.LittleEndian.Uint16(data[6:])
	return nil
}

// An eventHandler takes the events of one connection, in the goroutine that reads them.
type eventHandler struct {
	reader    *logReader
	ctx       context.Context //nolint:containedctx // go-mysql's callbacks have none
	assembler *assembler
	// err is the first error of ours; the syncer wraps errors beyond recognition.
	err error
}

// HandleEvent is called by the syncer.
func (h *eventHandler) HandleEvent(e *gobinlog.BinlogEvent) error {
	if h.err == nil {
		h.err = h.assembler.HandleEvent(e)
	}
	return h.err
}

// check looks at the server before the log is asked for, on the same connection.
func (h *eventHandler) check(c *client.Conn) error {
	server, err := checkServer(c, h.reader.have)
	if err != nil {
		h.err = err
		return err
	}
	r, src := h.reader, h.reader.source
	src.mu.Lock()
	src.mu.server = server
	src.mu.Unlock()
	a := newAssembler(src.cfg.Database, src.tables, server, r.have)
	a.fold, a.last, a.stale = src.fold, r.last, r.stale
	a.emit = func(t *replication.Transaction) error { return r.queue.put(h.ctx, t) }
	a.news = func(t *replication.Transaction) error { return r.queue.news(h.ctx, t) }
	a.recheck = func(name string) error { return mark(h.ctx, src.recheck(h.ctx, name)) }
	h.assembler = a
	src.opts.Logger.Info("log reader connected", slog.String("source", src.cfg.String()), slog.String("server", server))
	return nil
}

// checkServer returns the server's UUID, or why the log can't be read from the position on. What could not be
// asked is an error of the connection, and never says that the position is gone.
func checkServer(c *client.Conn, have replication.Position) (string, error) {
	if err := supported(c.GetServerVersion()); err != nil {
		return "", err
	}
	// A reader that has to wait for its consumer must not be thrown out.
	for _, q := range []string{"SET SESSION net_write_timeout = 3600", "SET @tablehaul_have = " + sqltext.String(have.Text())} {
		if _, err := c.Execute(q); err != nil {
			return "", err
		}
	}
	// What is owned is read before what is executed: transactions go from the one to the other.
	result, err := c.Execute("SELECT @@server_uuid, @@global.gtid_mode, GTID_SUBTRACT(@@global.gtid_purged, @tablehaul_have)," +
		" @@global.gtid_owned, GTID_SUBTRACT(@tablehaul_have, @@global.gtid_executed)")
	if err != nil {
		return "", err
	}
	var v [5]string
	for i := range v {
		if v[i], err = result.GetString(0, i); err != nil {
			return "", err
		}
	}
	switch {
	case v[1] != "ON":
		return "", fmt.Errorf("%w: gtid_mode is %s", ErrNoLog, v[1])
	case v[4] != "" && !owned(v[3], v[4]):
		return "", fmt.Errorf("server %s: %w: %.200s", v[0], replication.ErrHistory, v[4])
	case v[2] != "":
		return "", fmt.Errorf("server %s: %w: %.200s", v[0], replication.ErrPositionGone, v[2])
	}
	return v[0], nil
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
