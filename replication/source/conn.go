package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
)

// maxPayload is the largest packet; what is larger is sent in several.
const maxPayload = 1<<24 - 1

// readSession makes every read a consistent one that gives stored bytes, in UTC.
var readSession = mysqlconn.Session{Names: "binary", Variables: map[string]string{
	"autocommit":            "1",
	"transaction_isolation": "'REPEATABLE-READ'",
	"time_zone":             "'+00:00'",
	"sql_mode":              "'ALLOW_INVALID_DATES'",
	"sql_select_limit":      "18446744073709551615",
	"max_execution_time":    "0",
	"lock_wait_timeout":     "60",
}}

// A conn is a connection for reads. The client of go-mysql has set it up; from then on packets are read here, straight
// into the memory of a chunk.
type conn struct {
	client *client.Conn
	br     *bufio.Reader
	id     uint32
	server string
	// binlogStatus is the statement that shows the end of the log.
	binlogStatus string
	fresh        bool
	seq          byte
	// broken is set when the connection is in the middle of something.
	broken bool
}

// dial opens a connection and checks which server it leads to.
func (s *Source) dial(ctx context.Context) (*conn, error) {
	c, err := mysqlconn.Dial(ctx, s.cfg, readSession)
	if err != nil {
		return nil, err
	}
	cn := &conn{client: c, br: bufio.NewReaderSize(c.Conn.Conn, 64<<10), id: c.GetConnectionID(), fresh: true}
	cn.binlogStatus = binlogStatus(c.GetServerVersion())
	row, err := cn.row(ctx, "SELECT @@server_uuid", 1)
	if err == nil {
		cn.server = string(row[0])
		err = s.admit(cn.server)
	}
	if err != nil {
		cn.close()
		return nil, err
	}
	return cn, nil
}

// binlogStatus is the statement by which a server shows the end of its log.
func binlogStatus(version string) string {
	if major, minor := versionNumbers(version); major < 8 || major == 8 && minor < 2 {
		return "SHOW MASTER STATUS"
	}
	return "SHOW BINARY LOG STATUS"
}

// admit checks that a new connection leads to the server that the log is read from. When nobody reads the log, the
// new server is as good as the old one.
func (s *Source) admit(server string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.server == server:
	case s.mu.reading == 0 || s.mu.server == "":
		s.mu.server = server
	default:
		return &ServerChangedError{Want: s.mu.server, Have: server}
	}
	return nil
}

var errClosed = errors.New("source is closed")

// acquire returns a connection to the right server, a used one if there is one.
func (s *Source) acquire(ctx context.Context) (*conn, error) {
	for {
		s.mu.Lock()
		if s.mu.closed {
			s.mu.Unlock()
			return nil, errClosed
		}
		n := len(s.mu.idle)
		if n == 0 {
			s.mu.Unlock()
			return s.dial(ctx)
		}
		c, want := s.mu.idle[n-1], s.mu.server
		s.mu.idle = s.mu.idle[:n-1]
		s.mu.Unlock()
		if c.server == want {
			return c, nil
		}
		c.close()
	}
}

// release takes a connection back.
func (s *Source) release(c *conn) {
	s.mu.Lock()
	keep := !c.broken && !s.mu.closed && c.server == s.mu.server && len(s.mu.idle) < maxIdle
	if keep {
		c.fresh = false
		s.mu.idle = append(s.mu.idle, c)
	}
	s.mu.Unlock()
	if !keep {
		c.close()
	}
}

// with runs f on a connection. f only reads, so it runs again when the connection breaks, and when a new
// one can't be had at once: three times, with growing waits, besides once for each used connection that turns out
// to be dead.
func (s *Source) with(ctx context.Context, f func(*conn) error) error {
	backoff := retry.Backoff{Min: 50 * time.Millisecond, Max: time.Second}
	for attempt := 1; ; {
		c, err := s.acquire(ctx)
		dead := false
		if err == nil {
			if err = f(c); err != nil && !replication.Transient(err) && mysqlerr.Network(err) {
				c.broken = true
			}
			if c.broken && ctx.Err() != nil {
				s.kill(ctx, c.id)
			}
			dead = c.broken && !c.fresh
			s.release(c)
		}
		err = mark(ctx, err)
		if err == nil || ctx.Err() != nil || !replication.Transient(err) {
			return err
		}
		if dead {
			continue
		}
		if attempt++; attempt > 3 {
			return err
		}
		if werr := retry.Wait(ctx, backoff.Next()); werr != nil {
			return werr
		}
	}
}

// kill ends what a connection that was given up still does on the server. It is done as well as it goes.
func (s *Source) kill(ctx context.Context, id uint32) {
	kctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, _ = s.db.ExecContext(kctx, fmt.Sprintf("KILL %d", id))
}

func (c *conn) close() { _ = c.client.Close() }

// watch makes the end of ctx break the connection.
func (c *conn) watch(ctx context.Context) (stop func()) {
	end := mysqlconn.Watch(ctx, c.client)
	return func() {
		if !end() {
			c.broken = true
		}
	}
}

// query sends a statement and reads the heads of its result; width is the number of columns it must have.
func (c *conn) query(sql []byte, width int) error {
	c.broken = true
	if len(sql)+1 >= maxPayload {
		return fmt.Errorf("statement of %d bytes", len(sql))
	}
	n := len(sql) + 1
	packet := make([]byte, 0, n+4)
	packet = append(packet, byte(n), byte(n>>8), byte(n>>16), 0, gomysql.COM_QUERY)
	packet = append(packet, sql...)
	if _, err := c.client.Conn.Conn.Write(packet); err != nil {
		return err
	}
	c.seq = 1
	head, err := c.packet(nil)
	if err != nil {
		return err
	}
	h := cursor{b: head}
	if n := h.length(); h.bad || n != uint64(width) {
		return fmt.Errorf("%w: result of %d columns, want %d", errProtocol, n, width)
	}
	for range width {
		if head, err = c.packet(head[:0]); err != nil {
			return err
		}
	}
	// Servers that do not know better send an EOF packet here.
	peek, err := c.br.Peek(5)
	if err != nil {
		return err
	}
	if peek[0] == 5 && peek[1] == 0 && peek[2] == 0 && peek[4] == gomysql.EOF_HEADER {
		_, err = c.packet(head[:0])
	}
	return err
}

var errProtocol = errors.New("unexpected packet")

// packet appends the payload of the next packet to dst. An ERR packet becomes an error; the connection is fine after it.
func (c *conn) packet(dst []byte) ([]byte, error) {
	start := len(dst)
	for {
		var head [4]byte
		if _, err := io.ReadFull(c.br, head[:]); err != nil {
			return dst, err
		}
		if head[3] != c.seq {
			return dst, fmt.Errorf("%w: sequence %d, want %d", errProtocol, head[3], c.seq)
		}
		c.seq++
		n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		at := len(dst)
		dst = grow(dst, n)
		if _, err := io.ReadFull(c.br, dst[at:]); err != nil {
			return dst, err
		}
		if n < maxPayload {
			break
		}
	}
	if p := dst[start:]; len(p) > 0 && p[0] == gomysql.ERR_HEADER {
		c.broken = false
		return dst[:start], serverError(p)
	}
	return dst, nil
}

// grow makes dst n bytes longer.
func grow(dst []byte, n int) []byte {
	if have := cap(dst) - len(dst); have < n {
		bigger := make([]byte, len(dst), max(cap(dst)+cap(dst)/2, len(dst)+n+512))
		copy(bigger, dst)
		dst = bigger
	}
	return dst[:len(dst)+n]
}

// serverError reads an ERR packet.
func serverError(p []byte) error {
	c := cursor{b: p[1:]}
	e := &gomysql.MyError{Code: uint16(c.uint(2))}
	if len(c.b) > 0 && c.b[0] == '#' {
		if state := c.take(6); len(state) == 6 {
			e.State = string(state[1:])
		}
	}
	e.Message = string(c.b)
	return e
}

// next appends the next row to dst, whose bytes are the row's canonical packing as far as the server knows it; ok is
// false at the end of the result.
func (c *conn) next(dst []byte) (row []byte, ok bool, err error) {
	start := len(dst)
	if dst, err = c.packet(dst); err != nil {
		return dst, false, err
	}
	if p := dst[start:]; len(p) > 0 && p[0] == gomysql.EOF_HEADER && len(p) < maxPayload {
		c.broken = false
		return dst[:start], false, nil
	}
	return dst, true, nil
}

// row runs a query that must give one row, and returns its values.
func (c *conn) row(ctx context.Context, query string, width int) ([][]byte, error) {
	stop := c.watch(ctx)
	defer stop()
	if err := c.query([]byte(query), width); err != nil {
		return nil, fmt.Errorf("%.100s: %w", query, err)
	}
	packed, ok, err := c.next(nil)
	if err != nil {
		return nil, fmt.Errorf("%.100s: %w", query, err)
	}
	if !ok {
		return nil, fmt.Errorf("%.100s: %w", query, errNoRow)
	}
	for more := true; more; {
		if _, more, err = c.next(nil); err != nil {
			return nil, fmt.Errorf("%.100s: %w", query, err)
		}
	}
	return replication.Row(packed).Values(nil, width)
}

var errNoRow = errors.New("no row")
