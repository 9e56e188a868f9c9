package mysqlconn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
)

const (
	// defaultSilence is Config.Silence where nobody says otherwise.
	defaultSilence = 10 * time.Second
	// failedProbes is how many new connections in a row have to go unanswered.
	failedProbes = 2
	// idleProbes is how many times in a row the server has to say that it waits for the next statement while its answer to the last one has
	// not come. They are many, since a large statement may still be on its way over a slow link.
	idleProbes = 6
)

// keepAlive finds links that swallow packets within half a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// A HungError means that a server has been silent in the middle of an answer, and does not answer a new connection either: it
// hangs, or the way to it swallows what is sent. The connection is closed.
type HungError struct {
	Addr string
	// Silent is how long nothing came.
	Silent time.Duration
	// Err is what the new connection met; nil if the server says that it waits for us.
	Err error
}

func (e *HungError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("mysql server %s: no answer for %s, though it has nothing to do for the connection", e.Addr, e.Silent)
	}
	return fmt.Sprintf("mysql server %s: no answer for %s, and none to a new connection: %v", e.Addr, e.Silent, e.Err)
}

// Unwrap returns the cause.
func (e *HungError) Unwrap() error { return e.Err }

// Timeout is true.
func (e *HungError) Timeout() bool { return true }

// Temporary is true; with Timeout it makes a net.Error.
func (e *HungError) Temporary() bool { return true }

// A guard is a network connection whose reads and writes don't wait for ever. A statement may take hours, so that time alone says nothing:
// after each Config.Silence without a byte, a new connection asks the server whether it is there, and what it does
// for this one.
type guard struct {
	net.Conn
	cfg     Config
	silence time.Duration
	// ctx ends with the connection.
	ctx    context.Context //nolint:containedctx // net.Conn's methods have none
	cancel context.CancelFunc
	// id is the server's number of the connection; 0 until its first packet has been read, which head gathers.
	id   atomic.Uint32
	head []byte

	// read and write are the two directions' deadlines.
	read, write deadline
}

// A deadline is the user's, and the earlier one that is set on the connection.
type deadline struct {
	mu struct {
		sync.Mutex
		user, armed time.Time
	}
	set func(time.Time) error
}

// dialer returns a function that opens guarded connections to cfg's server.
func (c Config) dialer() func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := net.Dialer{KeepAliveConfig: keepAlive}
		nc, err := d.DialContext(ctx, network, addr)
		if err != nil || c.Silence < 0 {
			return nc, err
		}
		return newGuard(ctx, nc, c), nil
	}
}

func newGuard(ctx context.Context, nc net.Conn, cfg Config) *guard {
	g := &guard{Conn: nc, cfg: cfg, silence: cfg.Silence}
	if g.silence == 0 {
		g.silence = defaultSilence
	}
	g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	g.read.set, g.write.set = nc.SetReadDeadline, nc.SetWriteDeadline
	return g
}

// Read reads what has come, or fails with a *HungError.
func (g *guard) Read(p []byte) (int, error) {
	for w := (waiting{guard: g}); ; {
		if err := g.read.arm(g.silence); err != nil {
			return 0, err
		}
		n, err := g.Conn.Read(p)
		if n > 0 && g.id.Load() == 0 {
			g.greet(p[:n])
		}
		if n > 0 || !g.read.ours(err) {
			return n, err
		}
		if err := w.ask(); err != nil {
			return 0, err
		}
	}
}

// Write writes all of p, or fails with a *HungError.
func (g *guard) Write(p []byte) (int, error) {
	done := 0
	for w := (waiting{guard: g}); ; {
		if err := g.write.arm(g.silence); err != nil {
			return done, err
		}
		n, err := g.Conn.Write(p[done:])
		done += n
		switch {
		case !g.write.ours(err):
			return done, err
		case n > 0:
			w = waiting{guard: g}
		default:
			if err := w.ask(); err != nil {
				return done, err
			}
		}
	}
}

// Close closes the connection, and ends what asks about it.
func (g *guard) Close() error {
	g.cancel()
	return g.Conn.Close()
}

// SetDeadline sets both deadlines.
func (g *guard) SetDeadline(t time.Time) error {
	return errors.Join(g.SetReadDeadline(t), g.SetWriteDeadline(t))
}

// SetReadDeadline is net.Conn's.
func (g *guard) SetReadDeadline(t time.Time) error { return g.read.setUser(t) }

// SetWriteDeadline is net.Conn's.
func (g *guard) SetWriteDeadline(t time.Time) error { return g.write.setUser(t) }

// SyscallConn lets drivers look whether the other side has closed the connection.
func (g *guard) SyscallConn() (syscall.RawConn, error) {
	if c, ok := g.Conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// greet finds the connection's number in the server's first packet: header, protocol 10, version, 0, number.
func (g *guard) greet(p []byte) {
	const header, most = 4, 256
	if g.head == nil {
		g.head = make([]byte, 0, most)
	}
	if len(g.head) == most {
		return
	}
	g.head = append(g.head, p[:min(len(p), most-len(g.head))]...)
	if len(g.head) <= header || g.head[header] != 10 {
		return
	}
	for i := header + 1; i+5 <= len(g.head); i++ {
		if g.head[i] == 0 {
			g.id.Store(binary.LittleEndian.Uint32(g.head[i+1:]))
			return
		}
	}
}

// arm sets a deadline d from now, or the user's if that is earlier.
func (l *deadline) arm(d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.mu.armed.Sub(now) > d/2 {
		return nil // a system call less
	}
	t := now.Add(d)
	if u := l.mu.user; !u.IsZero() && u.Before(t) {
		t = u
	}
	l.mu.armed = t
	return l.set(t)
}

func (l *deadline) setUser(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.user, l.mu.armed = t, time.Time{}
	return l.set(t)
}

// ours tells whether err is the end of our deadline and not of the user's.
func (l *deadline) ours(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	if !ok || !e.Timeout() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.armed = time.Time{}
	return l.mu.user.IsZero() || time.Now().Before(l.mu.user)
}

// A waiting is one read or write that nothing comes of.
type waiting struct {
	guard        *guard
	asked        int
	failed, idle int
}

// ask returns nil if it is worth waiting on. Otherwise the connection is closed.
func (w *waiting) ask() error {
	w.asked++
	g := w.guard
	hung := func(err error) error {
		_ = g.Close()
		return &HungError{Addr: g.cfg.Addr, Silent: time.Duration(w.asked) * g.silence, Err: err}
	}
	for {
		idle, err := g.probe()
		switch _, answered := mysqlerr.Code(err); {
		case g.ctx.Err() != nil:
			return net.ErrClosed
		case err == nil && idle:
			if w.failed, w.idle = 0, w.idle+1; w.idle < idleProbes {
				return nil
			}
			return hung(nil)
		case err == nil, answered:
			// At work, or known under another number behind a proxy, or it can't say and is there all the same.
			w.failed, w.idle = 0, 0
			return nil
		}
		if w.failed++; w.failed >= failedProbes {
			return hung(err)
		}
	}
}

// probe asks the server over a connection of its own whether this one waits for a statement.
func (g *guard) probe() (idle bool, err error) {
	ctx, cancel := context.WithTimeout(g.ctx, min(g.cfg.timeout(), g.silence))
	defer cancel()
	cfg := g.cfg
	cfg.Silence, cfg.Database = -1, ""
	c, err := Dial(ctx, cfg, Session{})
	if err != nil {
		return false, err
	}
	defer c.Close()
	defer Watch(ctx, c.Conn.Conn)()
	r, err := c.Execute("SHOW PROCESSLIST")
	if err != nil {
		return false, err
	}
	defer r.Close()
	return isIdle(r, g.id.Load())
}

// isIdle looks for a connection in the answer to SHOW PROCESSLIST.
func isIdle(r *gomysql.Result, id uint32) (bool, error) {
	for i := range r.RowNumber() {
		n, err := r.GetUint(i, 0)
		if err != nil {
			return false, err
		}
		if n == uint64(id) {
			command, err := r.GetString(i, 4)
			return command == "Sleep", err
		}
	}
	return false, nil
}
