package replicationtest_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// echoServer sends back what it gets, after one byte of its own name.
func echoServer(t *testing.T, name byte) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.Write([]byte{name})
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// dial connects and reads the server's name.
func dial(t *testing.T, addr string) (net.Conn, byte, error) {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return nil, 0, err
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = io.ReadFull(c, b[:])
	return c, b[0], err
}

func mustDial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, _, err := dial(t, addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// echo sends n bytes and waits until they are back.
func echo(c net.Conn, n int) (time.Duration, error) {
	start := time.Now()
	go c.Write(make([]byte, n))
	_, err := io.ReadFull(c, make([]byte, n))
	return time.Since(start), err
}

func TestProxyCutAndRestore(t *testing.T) {
	t.Parallel()
	p := replicationtest.StartProxy(t, echoServer(t, 'a'))
	c := mustDial(t, p.Addr())
	if _, err := echo(c, 100_000); err != nil {
		t.Fatal(err)
	}
	if opened, n := p.Stats(); opened != 1 || n != 200_001 {
		t.Errorf("opened %d connections and passed %d bytes, want 1 and 200001", opened, n)
	}
	p.Cut()
	if _, err := echo(c, 1); err == nil {
		t.Error("a cut connection still carries")
	}
	if _, _, err := dial(t, p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection while cut: %v, want refused", err)
	}
	p.MustRestore(t)
	p.MustRestore(t)
	c = mustDial(t, p.Addr())
	if _, err := echo(c, 1); err != nil {
		t.Error(err)
	}
	p.Drop()
	if _, err := echo(c, 1); err == nil {
		t.Error("a dropped connection still carries")
	}
	mustDial(t, p.Addr())
	p.Close()
	p.Close()
	if p.Conns() != 0 {
		t.Errorf("%d connections after Close", p.Conns())
	}
	if err := p.Restore(); err == nil {
		t.Error("a closed link was restored")
	}
}

func TestProxyCutAfter(t *testing.T) {
	t.Parallel()
	p := replicationtest.StartProxy(t, echoServer(t, 'a'))
	c := mustDial(t, p.Addr())
	p.CutAfter(1500)
	_, before := p.Stats()
	if _, err := echo(c, 1000); err == nil {
		t.Error("2000 bytes passed")
	}
	if _, after := p.Stats(); after-before != 1500 {
		t.Errorf("%d bytes passed, want 1500", after-before)
	}
	if _, _, err := dial(t, p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection after the cut: %v, want refused", err)
	}
	p.MustRestore(t)
	if _, err := echo(mustDial(t, p.Addr()), 5000); err != nil {
		t.Errorf("the bound held on after Restore: %v", err)
	}
}

func TestProxyDelayAndRate(t *testing.T) {
	t.Parallel()
	p := replicationtest.StartProxy(t, echoServer(t, 'a'))
	c := mustDial(t, p.Addr())
	p.SetDelay(100 * time.Millisecond)
	// 2 MB are some 60 parcels each way: a delay per parcel would take 12 s.
	if d, err := echo(c, 2<<20); err != nil || d < 200*time.Millisecond || d > 3*time.Second {
		t.Errorf("round trip took %v (%v), want 200 ms and a little", d, err)
	}
	p.SetDelay(0)
	p.SetRate(100_000)
	if d, err := echo(c, 30_000); err != nil || d < 250*time.Millisecond || d > 3*time.Second {
		t.Errorf("30 kB at 100 kB/s took %v (%v)", d, err)
	}
	p.SetRate(0)
	if d, err := echo(c, 1000); err != nil || d > time.Second {
		t.Errorf("an unlimited link took %v (%v)", d, err)
	}
}

func TestProxyFreeze(t *testing.T) {
	t.Parallel()
	p := replicationtest.StartProxy(t, echoServer(t, 'a'))
	c := mustDial(t, p.Addr())
	p.Freeze()
	p.Freeze()
	if err := c.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) && !isTimeout(err) {
		t.Errorf("a frozen link: %v, want a timeout", err)
	}
	p.Thaw()
	p.Thaw()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("what was held back is lost: %v", err)
	}
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

func TestProxyTarget(t *testing.T) {
	t.Parallel()
	p := replicationtest.StartProxy(t, echoServer(t, 'a'))
	p.SetTarget(echoServer(t, 'b'))
	if _, name, err := dial(t, p.Addr()); err != nil || name != 'b' {
		t.Errorf("reached %q, %v", name, err)
	}
	p.SetTarget("127.0.0.1:1")
	if _, _, err := dial(t, p.Addr()); err == nil {
		t.Error("reached a server that isn't there")
	}
}
