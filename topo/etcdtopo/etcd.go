package etcdtopo

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/tablehaul/tablehaul/topo"
)

// Options say how to connect. They are never stored.
type Options struct {
	// TLS encrypts the connections. Nil means plain text.
	TLS *tls.Config
	// Username and Password log in, if etcd has authentication enabled.
	Username, Password string
	// DialTimeout is how long Open waits for an answer before it reports topo.ErrUnreachable. Default 5 s.
	DialTimeout time.Duration
	// OperationTimeout is how long one read or write may take before it ends with topo.ErrUnreachable. Waiting for
	// a lock and watching are not limited. Default 15 s.
	OperationTimeout time.Duration
}

func (o Options) withDefaults() Options {
	o.DialTimeout = cmp.Or(o.DialTimeout, 5*time.Second)
	o.OperationTimeout = cmp.Or(o.OperationTimeout, 15*time.Second)
	return o
}

// Open connects in plain text and without a login. It is a [topo.Opener].
func Open(ctx context.Context, a topo.Address) (topo.Conn, error) {
	return open(ctx, a, Options{})
}

// Opener returns a [topo.Opener] that connects as the options say.
func Opener(o Options) topo.Opener {
	return func(ctx context.Context, a topo.Address) (topo.Conn, error) { return open(ctx, a, o) }
}

// AddressError says that an address can't be one of etcd.
type AddressError struct {
	Server string
	Reason string
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("bad etcd address %q: %s", e.Server, e.Reason)
}

// endpoints splits a comma separated list.
func endpoints(server string) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(server, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			return nil, &AddressError{Server: server, Reason: "an endpoint is empty"}
		}
		out = append(out, part)
	}
	return out, nil
}

const (
	// A dead peer is noticed in about the sum of these. Servers refuse pings more often than every 5 s.
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
)

func open(ctx context.Context, a topo.Address, o Options) (topo.Conn, error) {
	o = o.withDefaults()
	servers, err := endpoints(a.Server)
	if err != nil {
		return nil, err
	}
	// The client's own context must survive the caller's, which is for opening only; but the login inside New would
	// not notice that the caller gave up, so Close is what ends it.
	dialCtx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            servers,
		DialTimeout:          o.DialTimeout,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		TLS:                  o.TLS,
		Username:             o.Username,
		Password:             o.Password,
		Context:              context.WithoutCancel(ctx),
		Logger:               zap.NewNop(),
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, unreachable(a.Server, err)
	}
	c := &conn{client: client, address: a, options: o, closing: make(chan struct{}), base: context.WithoutCancel(ctx)}
	// The client dials when it is used. A linearizable read shows that the cluster has a leader too.
	if _, err := client.Get(dialCtx, c.path(""), clientv3.WithCountOnly()); err != nil {
		closeErr := client.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errors.Join(unreachable(a.Server, err), closeErr)
	}
	return c, nil
}

// unreachable says that err is about reaching the server, unless the server answered it.
func unreachable(server string, err error) error {
	if isUnreachable(err) {
		return fmt.Errorf("etcd %s: %w: %w", server, topo.ErrUnreachable, err)
	}
	return fmt.Errorf("etcd %s: %w", server, err)
}
