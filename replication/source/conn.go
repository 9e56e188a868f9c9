package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

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
				s.kill(ctx, c)
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

// kill ends what a connection that was given up still does on the server. It is done as well as it goes: another connection
// may lead to another server, where the number is somebody else's.
func (s *Source) kill(ctx context.Context, c *conn) {
	kctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	via, err := s.db.Conn(kctx)
	if err != nil {
		return
	}
	defer via.Close()
	var server string
	if err := via.QueryRowContext(kctx, "SELECT @@server_uuid").Scan(&server); err == nil && server == c.server {
		_, _ = via.ExecContext(kctx, fmt.Sprintf("KILL %d", c.id))
	}
}

func (c *conn) close() { _ = c.client.Close() }

// watch makes the end of ctx break the connection.
func (c *conn) watch(ctx context.Context) (stop func()) {
	end := mysqlconn.Watch(ctx, c.client.Conn.Conn)
	return func() {
		if !end() {
			c.broken = true
		}
	}
}
