package etcdtopo_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
	"github.com/tablehaul/tablehaul/topo/topotest"
)

func open(t *testing.T, server, root string, o etcdtopo.Options) topo.Conn {
	t.Helper()
	c, err := etcdtopo.Opener(o)(t.Context(), topo.Address{Type: "etcd2", Server: server, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// raw is a plain client, to look at what others see.
func raw(t *testing.T, server string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{server}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestConn(t *testing.T) {
	e := replicationtest.StartEtcd(t)
	topotest.TestConn(t, func(t *testing.T) topo.Conn {
		c, err := etcdtopo.Open(t.Context(), topo.Address{Type: "etcd2", Server: e.Addr(), Root: "/vitess/global"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}

// TestForm checks what is in etcd against what Vitess writes there.
func TestForm(t *testing.T) {
	e := replicationtest.StartEtcd(t)
	client := raw(t, e.Addr())
	c := open(t, e.Addr(), "/vitess/global", etcdtopo.Options{})
	ctx := t.Context()

	v, err := c.Put(ctx, "keyspaces/ks/Keyspace", []byte("x"), topo.Absent)
	if err != nil {
		t.Fatal(err)
	}
	r, err := client.Get(ctx, "/vitess/global/keyspaces/ks/Keyspace")
	if err != nil || len(r.Kvs) != 1 || r.Kvs[0].ModRevision != int64(v) {
		t.Fatalf("etcd has %v, %v, want version %d", r, err, v)
	}

	h, err := c.Lock(ctx, "keyspaces/ks", topo.LockRequest{Contents: []byte("who")})
	if err != nil {
		t.Fatal(err)
	}
	r, err = client.Get(ctx, "/vitess/global/keyspaces/ks/locks/", clientv3.WithPrefix())
	if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "who" {
		t.Fatalf("etcd has %v, %v", r, err)
	}
	lease, err := client.TimeToLive(ctx, clientv3.LeaseID(r.Kvs[0].Lease))
	if err != nil || lease.GrantedTTL != 30 {
		t.Errorf("lease is %+v, %v", lease, err)
	}
	if name := path.Base(string(r.Kvs[0].Key)); name != decimal(r.Kvs[0].Lease) {
		t.Errorf("file is %s, lease is %d", name, r.Kvs[0].Lease)
	}
	if err := h.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	if r, err := client.Get(ctx, "/vitess/global/keyspaces/ks/locks/", clientv3.WithPrefix()); err != nil || len(r.Kvs) != 0 {
		t.Errorf("after unlock etcd has %v, %v", r, err)
	}

	// A lock that another program holds, in its form.
	grant, err := client.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(ctx, "/vitess/global/keyspaces/ks/locks/"+decimal(int64(grant.ID)), `{"Action":"Reshard"}`, clientv3.WithLease(grant.ID)); err != nil {
		t.Fatal(err)
	}
	locked := (*topo.LockedError)(nil)
	if _, err := c.Lock(ctx, "keyspaces/ks", topo.LockRequest{Wait: 50 * time.Millisecond}); !errors.As(err, &locked) || locked.Holder.Action != "Reshard" {
		t.Errorf("lock held by another: %v", err)
	}
	if _, err := client.Revoke(ctx, grant.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lock(ctx, "keyspaces/ks", topo.LockRequest{}); err != nil {
		t.Errorf("lock after the other: %v", err)
	}
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// TestLockLost revokes the lease behind the holder's back.
func TestLockLost(t *testing.T) {
	e := replicationtest.StartEtcd(t)
	client := raw(t, e.Addr())
	c := open(t, e.Addr(), "/r", etcdtopo.Options{})
	ctx := t.Context()
	h, err := c.Lock(ctx, "d", topo.LockRequest{Anywhere: true, TTL: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r, err := client.Get(ctx, "/r/d/locks/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Revoke(ctx, clientv3.LeaseID(r.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	if err := h.Check(ctx); !errors.Is(err, topo.ErrLockLost) {
		t.Errorf("check: %v", err)
	}
	wait(t, h.Lost())
	if err := h.Unlock(ctx); !errors.Is(err, topo.ErrLockLost) {
		t.Errorf("unlock: %v", err)
	}
}

// TestLockLostByPartition cuts the holder off: it must stop before somebody else can have the lock.
func TestLockLostByPartition(t *testing.T) {
	e := replicationtest.StartEtcd(t)
	proxy := replicationtest.StartProxy(t, e.Addr())
	near := open(t, e.Addr(), "/r", etcdtopo.Options{})
	far, err := etcdtopo.Opener(etcdtopo.Options{OperationTimeout: time.Second})(t.Context(), topo.Address{Server: proxy.Addr(), Root: "/r"})
	if err != nil {
		t.Fatal(err)
	}
	h, err := far.Lock(t.Context(), "d", topo.LockRequest{Anywhere: true, TTL: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	if _, err := near.Lock(t.Context(), "d", topo.LockRequest{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.Lost():
	default:
		t.Error("two hold the lock, and the first does not know")
	}
	if _, _, err := far.Get(t.Context(), "k"); !errors.Is(err, topo.ErrUnreachable) {
		t.Errorf("get through a cut link: %v", err)
	}
	if err := far.Close(); err != nil && !errors.Is(err, topo.ErrUnreachable) {
		t.Errorf("close: %v", err)
	}
}

func wait(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing happened")
	}
}

// TestWatchSurvives restarts etcd under a watcher.
func TestWatchSurvives(t *testing.T) {
	e := replicationtest.StartEtcd(t)
	c := open(t, e.Addr(), "/r", etcdtopo.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	states := make(chan string)
	done := make(chan error, 1)
	go func() {
		defer close(states)
		for w, err := range c.Watch(ctx, "k") {
			if err != nil {
				done <- err
				return
			}
			states <- string(w.Value)
		}
	}()
	if got := <-states; got != "" {
		t.Fatalf("first state is %q", got)
	}
	if _, err := c.Put(ctx, "k", []byte("1"), topo.Absent); err != nil {
		t.Fatal(err)
	}
	if got := <-states; got != "1" {
		t.Fatalf("second state is %q", got)
	}
	e.Kill9()
	e.MustRestart(t)
	if _, err := c.Put(ctx, "k", []byte("2"), topo.AnyVersion); err != nil {
		t.Fatal(err)
	}
	if got := <-states; got != "2" {
		t.Fatalf("state after the restart is %q (%v)", got, ctx.Err())
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("watch ended with %v", err)
	}
}

func TestOpenUnreachable(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, o := range []etcdtopo.Options{{}, {Username: "u", Password: "top-secret"}, {TLS: &tls.Config{MinVersion: tls.VersionTLS12}}} {
		for _, server := range []string{address, silent.Addr().String()} {
			o.DialTimeout = 500 * time.Millisecond
			start := time.Now()
			_, err := etcdtopo.Opener(o)(t.Context(), topo.Address{Type: "etcd2", Server: server, Root: "/"})
			if !errors.Is(err, topo.ErrUnreachable) || !strings.Contains(err.Error(), server) || strings.Contains(err.Error(), "top-secret") {
				t.Errorf("%s: %v", server, err)
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("%s: gave up after %v", server, d)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := etcdtopo.Open(ctx, topo.Address{Server: address}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	bad := (*etcdtopo.AddressError)(nil)
	for _, server := range []string{"", "a:1,,b:1", ","} {
		if _, err := etcdtopo.Open(t.Context(), topo.Address{Server: server}); !errors.As(err, &bad) || bad.Server != server {
			t.Errorf("%q: %v", server, err)
		}
	}
}

// TestEndpoints: one living endpoint of several is enough.
func TestEndpoints(t *testing.T) {
	e := replicationtest.StartEtcd(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	c := open(t, dead.Addr().String()+", "+e.Addr(), "/r", etcdtopo.Options{})
	if _, err := c.Put(t.Context(), "k", nil, topo.Absent); err != nil {
		t.Fatal(err)
	}
}

// TestLogin uses a cluster with authentication.
func TestLogin(t *testing.T) {
	e := replicationtest.StartEtcd(t)
	client := raw(t, e.Addr())
	ctx := t.Context()
	const password = "top-secret"
	if _, err := client.UserAdd(ctx, "root", password); err != nil {
		t.Fatal(err)
	}
	if _, err := client.UserGrantRole(ctx, "root", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
	c := open(t, e.Addr(), "/r", etcdtopo.Options{Username: "root", Password: password})
	if _, err := c.Put(ctx, "k", []byte("v"), topo.Absent); err != nil {
		t.Fatal(err)
	}
	for _, o := range []etcdtopo.Options{{}, {Username: "root", Password: "wrong-" + password}} {
		_, err := etcdtopo.Opener(o)(ctx, topo.Address{Server: e.Addr(), Root: "/r"})
		if err == nil || errors.Is(err, topo.ErrUnreachable) || strings.Contains(err.Error(), password) {
			t.Errorf("%q: %v", o.Username, err)
		}
	}
}

// startTLS puts a TLS endpoint in front of a server and returns its address and what a client needs to trust it.
func startTLS(t *testing.T, server string) (string, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				t.Error(err)
				near.Close()
				return
			}
			for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
				wg.Go(func() {
					_, _ = io.Copy(ends[0], ends[1]) // ends when either side does
					near.Close()
					far.Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String(), &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
}

func TestTLS(t *testing.T) {
	e := replicationtest.StartEtcd(t)
	address, trust := startTLS(t, e.Addr())
	c := open(t, address, "/r", etcdtopo.Options{TLS: trust})
	if _, err := c.Put(t.Context(), "k", []byte("v"), topo.Absent); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]etcdtopo.Options{"plain text": {}, "another authority": {TLS: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}}} {
		o.DialTimeout = time.Second
		if _, err := etcdtopo.Opener(o)(t.Context(), topo.Address{Server: address, Root: "/r"}); err == nil {
			t.Errorf("%s got through", name)
		}
	}
}
