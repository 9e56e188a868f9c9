package replicationtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Proxy is a TCP link to a server that a test can break. Its methods may be called from
// any goroutine, and hold for the connections that are open as well as for new ones.
//
//	client ──> Proxy.Addr() ──> target
type Proxy struct {
	port   int
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		target  string
		l       net.Listener // nil while cut
		links   map[*link]struct{}
		delay   time.Duration
		rate    int64         // bytes per second and direction, 0 = unlimited
		left    int64         // bytes until the next cut, < 0 = no such limit
		thawed  chan struct{} // closed when the link is not frozen
		passed  int64
		opened  int
		closing bool
	}
}

// link is one client's connection and its counterpart.
type link struct {
	client, server net.Conn
	cancel         context.CancelFunc // ends what is held back
}

// StartProxy starts a link to target ("127.0.0.1:3306") for one test; it ends with it.
func StartProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p, err := RunProxy(tb.Context(), target)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

// RunProxy starts a link to target. ctx bounds the start only; the caller closes the
// link. The target need not be up: a client's connection is closed when the target can't
// be reached.
func RunProxy(ctx context.Context, target string) (*Proxy, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &Proxy{ctx: ctx, cancel: cancel}
	p.mu.target, p.mu.left = target, -1
	p.mu.links = map[*link]struct{}{}
	p.mu.thawed = closedChan()
	for attempt := 1; ; attempt++ {
		port, err := reservePort(ctx)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("proxy: %w", err)
		}
		p.port = port
		err = p.restore(ctx)
		if err == nil {
			return p, nil
		}
		releasePort(port)
		if !errors.Is(err, syscall.EADDRINUSE) || attempt == 5 {
			cancel()
			return nil, err
		}
	}
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Addr returns the address that clients dial. It stays the same through Cut and Restore.
func (p *Proxy) Addr() string { return loopback(p.port) }

// Port returns the port of Addr.
func (p *Proxy) Port() int { return p.port }

// SetTarget sends new connections to another server, as a failover does. Open
// connections stay with the old one.
func (p *Proxy) SetTarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.target = addr
}

// Cut breaks every open connection (the client sees a reset) and refuses new ones until
// Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *Proxy) cutLocked() {
	p.mu.left = -1
	if p.mu.l != nil {
		p.mu.l.Close()
		p.mu.l = nil
	}
	p.dropLocked()
}

// Drop breaks every open connection and goes on accepting new ones.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLocked()
}

func (p *Proxy) dropLocked() {
	for l := range p.mu.links {
		l.reset()
	}
}

// Restore accepts connections again after a Cut. Nothing happens when the link is not
// cut. The error is that of listening on the port again.
func (p *Proxy) Restore() error { return p.restore(p.ctx) }

func (p *Proxy) restore(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closing {
		return errors.New("proxy: closed")
	}
	if p.mu.l != nil {
		return nil
	}
	l, err := listen(ctx, p.port)
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	p.mu.l = l
	p.wg.Go(func() { p.accept(ctx, l) })
	return nil
}

// MustRestore is Restore that ends the test on an error.
func (p *Proxy) MustRestore(tb testing.TB) {
	tb.Helper()
	if err := p.Restore(); err != nil {
		tb.Fatal(err)
	}
}

// CutAfter lets n more bytes pass, in both directions together and over all
// connections, and then cuts. A packet that crosses the bound is passed in part.
// CutAfter(-1) takes it back.
func (p *Proxy) CutAfter(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.left = n
	if n == 0 {
		p.cutLocked()
	}
}

// SetDelay holds every byte back for d in each direction, as a long line does. It adds
// latency, it doesn't bound throughput.
func (p *Proxy) SetDelay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.delay = d
}

// SetRate bounds the bytes per second of each direction of each connection; 0 lifts it.
func (p *Proxy) SetRate(bytesPerSecond int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.rate = max(bytesPerSecond, 0)
}

// Freeze holds everything back, without closing a connection, until Thaw. New
// connections are accepted and hang.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.mu.thawed:
		p.mu.thawed = make(chan struct{})
	default:
	}
}

// Thaw ends Freeze; what was held back passes, nothing is lost.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.mu.thawed:
	default:
		close(p.mu.thawed)
	}
}

// Conns returns the number of open connections.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.links)
}

// Stats returns how many connections were opened to the target and how many bytes have
// passed in both directions since the start.
func (p *Proxy) Stats() (opened int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.opened, p.mu.passed
}

// Close breaks all connections and waits until every goroutine of the link has ended.
// It may be called more than once.
func (p *Proxy) Close() {
	p.mu.Lock()
	first := !p.mu.closing
	p.mu.closing = true
	p.cutLocked()
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
	if first {
		releasePort(p.port)
	}
}

func (p *Proxy) accept(ctx context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // the listener was closed
		}
		p.wg.Go(func() { p.serve(ctx, l, c) })
	}
}

// serve carries one client's connection until either side ends it. l is the listener
// that accepted it: when that has been cut meanwhile, so is the connection.
func (p *Proxy) serve(ctx context.Context, l net.Listener, client net.Conn) {
	p.mu.Lock()
	target := p.mu.target
	p.mu.Unlock()
	var d net.Dialer
	server, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		resetConn(client)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := &link{client: client, server: server, cancel: cancel}
	p.mu.Lock()
	if p.mu.l != l {
		p.mu.Unlock()
		k.reset()
		return
	}
	p.mu.links[k] = struct{}{}
	p.mu.opened++
	p.mu.Unlock()

	// One direction's end ends the other: database protocols have no half-open state.
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		wg.Go(func() {
			p.carry(ctx, way[1], way[0])
			k.close()
		})
	}
	wg.Wait()
	p.mu.Lock()
	delete(p.mu.links, k)
	p.mu.Unlock()
}

func (k *link) close() {
	k.client.Close()
	k.server.Close()
}

func (k *link) reset() {
	k.cancel()
	resetConn(k.client)
	resetConn(k.server)
}

// resetConn closes a connection so that the other end sees an error, not an end of file.
func resetConn(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0) //nolint:errcheck // it may be closed already
	}
	c.Close()
}

// parcel is a piece of the stream and the moment at which it may pass.
type parcel struct {
	data []byte
	due  time.Time
}

// carry copies from one end to the other. Reading and writing are apart, so that a delay
// does not bound the throughput; at most 64 parcels of 32 KiB are under way.
func (p *Proxy) carry(ctx context.Context, to, from net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	queue := make(chan parcel, 64)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		p.deliver(ctx, to, queue)
		from.Close()
	})
	defer wg.Wait()
	defer close(queue)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.mu.Lock()
			due := time.Now().Add(p.mu.delay)
			p.mu.Unlock()
			select {
			case queue <- parcel{data: append([]byte(nil), buf[:n]...), due: due}:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// deliver writes parcels when they are due, as fast as the rate allows, and stops at the
// first error or when the queue is closed and empty.
func (p *Proxy) deliver(ctx context.Context, to net.Conn, queue <-chan parcel) {
	for q := range queue {
		if !wait(ctx, time.Until(q.due)) {
			return
		}
		for data := q.data; len(data) > 0; {
			p.mu.Lock()
			rate, thawed := p.mu.rate, p.mu.thawed
			p.mu.Unlock()
			select {
			case <-thawed:
			case <-ctx.Done():
				return
			}
			n := len(data)
			if rate > 0 {
				// A tenth of a second's worth at a time.
				n = min(n, max(1, int(rate/10)))
				if !wait(ctx, time.Duration(n)*time.Second/time.Duration(rate)) {
					return
				}
			}
			n, cut := p.take(n)
			_, err := to.Write(data[:n])
			if cut {
				p.Cut()
			}
			if cut || err != nil {
				return
			}
			data = data[n:]
		}
	}
}

// take counts up to n bytes as passed and returns how many may pass, and whether the
// link is to be cut after them.
func (p *Proxy) take(n int) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cut := false
	if p.mu.left >= 0 && int64(n) >= p.mu.left {
		n, cut = int(p.mu.left), true
	}
	if p.mu.left >= 0 {
		p.mu.left -= int64(n)
	}
	p.mu.passed += int64(n)
	return n, cut
}

// wait waits for d; false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
