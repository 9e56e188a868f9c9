package etcdtopo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tablehaul/tablehaul/topo"
)

// conn is a connection to etcd.
type conn struct {
	client  *clientv3.Client
	address topo.Address
	options Options
	base    context.Context // never ends; of what has to be done after a caller's context has ended

	mu      sync.Mutex
	closing chan struct{}
	closed  bool
	err     error // of the first Close
	locks   map[*lock]bool
}

// path returns the name in etcd of a key.
func (c *conn) path(key string) string { return path.Join(c.address.Root, key) }

// dirPrefix is the beginning of the names of all keys below a directory.
func (c *conn) dirPrefix(dir string) string {
	p := c.path(dir)
	if p == "" || p == "/" {
		return p
	}
	return p + "/"
}

// limit bounds one operation in time.
func (c *conn) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.options.OperationTimeout, topo.ErrUnreachable)
}

func isUnreachable(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := status.Code(err)
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		code = etcd.Code()
	}
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// convert turns an error of the client into one of package topo; ctx is the caller's.
func (c *conn) convert(ctx context.Context, key string, err error) error {
	if err == nil {
		return nil
	}
	switch {
	case c.isClosed():
		err = topo.ErrClosed
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		err = topo.ErrLockLost
	case isUnreachable(err):
		err = fmt.Errorf("etcd %s: %w: %w", c.address.Server, topo.ErrUnreachable, err)
	}
	return &topo.NodeError{Key: key, Err: err}
}

// ready refuses to start anything on a closed connection, which the client would retry for seconds.
func (c *conn) ready(key string) error {
	if c.isClosed() {
		return &topo.NodeError{Key: key, Err: topo.ErrClosed}
	}
	return nil
}

func (c *conn) isClosed() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// Get is part of [topo.Conn].
func (c *conn) Get(ctx context.Context, key string) ([]byte, topo.Version, error) {
	value, v, _, err := c.get(ctx, key)
	if err == nil && v == topo.Absent {
		err = &topo.NodeError{Key: key, Err: topo.ErrNoNode}
	}
	return value, v, err
}

// get reads a key and the revision of the read. A key that is missing has version Absent.
func (c *conn) get(ctx context.Context, key string) (value []byte, v topo.Version, revision int64, err error) {
	if err := c.ready(key); err != nil {
		return nil, 0, 0, err
	}
	limited, cancel := c.limit(ctx)
	defer cancel()
	r, err := c.client.Get(limited, c.path(key))
	if err != nil {
		return nil, 0, 0, c.convert(ctx, key, err)
	}
	if len(r.Kvs) == 0 {
		return nil, topo.Absent, r.Header.Revision, nil
	}
	return r.Kvs[0].Value, topo.Version(r.Kvs[0].ModRevision), r.Header.Revision, nil
}

// Put is part of [topo.Conn].
func (c *conn) Put(ctx context.Context, key string, value []byte, v topo.Version) (topo.Version, error) {
	if err := c.ready(key); err != nil {
		return 0, err
	}
	limited, cancel := c.limit(ctx)
	defer cancel()
	p := c.path(key)
	put := clientv3.OpPut(p, string(value))
	txn := c.client.Txn(limited)
	switch v {
	case topo.AnyVersion:
	case topo.Absent:
		txn = txn.If(clientv3.Compare(clientv3.Version(p), "=", 0))
	default:
		txn = txn.If(clientv3.Compare(clientv3.ModRevision(p), "=", int64(v)))
	}
	r, err := txn.Then(put).Commit()
	if err != nil {
		return 0, c.convert(ctx, key, err)
	}
	if !r.Succeeded {
		err := topo.ErrBadVersion
		if v == topo.Absent {
			err = topo.ErrNodeExists
		}
		return 0, &topo.NodeError{Key: key, Err: err}
	}
	return topo.Version(r.Header.Revision), nil
}

// Delete is part of [topo.Conn].
func (c *conn) Delete(ctx context.Context, key string, v topo.Version) error {
	if err := c.ready(key); err != nil {
		return err
	}
	limited, cancel := c.limit(ctx)
	defer cancel()
	p := c.path(key)
	condition := clientv3.Compare(clientv3.Version(p), ">", 0)
	if v != topo.AnyVersion {
		condition = clientv3.Compare(clientv3.ModRevision(p), "=", int64(v))
	}
	r, err := c.client.Txn(limited).If(condition).
		Then(clientv3.OpDelete(p)).
		Else(clientv3.OpGet(p, clientv3.WithCountOnly())).
		Commit()
	switch {
	case err != nil:
		return c.convert(ctx, key, err)
	case r.Succeeded:
		return nil
	case r.Responses[0].GetResponseRange().Count == 0:
		return &topo.NodeError{Key: key, Err: topo.ErrNoNode}
	}
	return &topo.NodeError{Key: key, Err: topo.ErrBadVersion}
}

// List is part of [topo.Conn].
func (c *conn) List(ctx context.Context, dir string) ([]string, error) {
	if err := c.ready(dir); err != nil {
		return nil, err
	}
	limited, cancel := c.limit(ctx)
	defer cancel()
	prefix := c.dirPrefix(dir)
	r, err := c.client.Get(limited, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, c.convert(ctx, dir, err)
	}
	var out []string
	for _, kv := range r.Kvs {
		name, _, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), prefix), "/")
		out = append(out, name)
	}
	if len(out) == 0 {
		return nil, &topo.NodeError{Key: dir, Err: topo.ErrNoNode}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Watch is part of [topo.Conn].
func (c *conn) Watch(ctx context.Context, key string) iter.Seq2[topo.Watched, error] {
	return func(yield func(topo.Watched, error) bool) {
		// Cancelling ends the watch on the server.
		watchCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		last := topo.AnyVersion // which no key has
		show := func(value []byte, v topo.Version) bool {
			if v == last {
				return true
			}
			last = v
			return yield(topo.Watched{Value: value, Version: v}, nil)
		}
		for {
			value, v, revision, err := c.get(ctx, key)
			if err != nil {
				yield(topo.Watched{}, err)
				return
			}
			if !show(value, v) {
				return
			}
			for r := range c.client.Watch(watchCtx, c.path(key), clientv3.WithRev(revision+1)) {
				for _, e := range r.Events {
					v := topo.Version(e.Kv.ModRevision)
					if e.Type == clientv3.EventTypeDelete {
						v = topo.Absent
					}
					if !show(e.Kv.Value, v) {
						return
					}
				}
				// A watch that fell behind what etcd keeps starts anew from a read; other errors end it.
				if err := r.Err(); err != nil && r.CompactRevision == 0 {
					yield(topo.Watched{}, c.convert(ctx, key, err))
					return
				}
			}
		}
	}
}

// Close is part of [topo.Conn].
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.err
	}
	c.closed = true
	ctx, cancel := context.WithTimeout(c.base, cleanupTimeout)
	defer cancel()
	var g errgroup.Group
	for l := range c.locks {
		g.Go(func() error {
			if err := l.revoke(ctx); err != nil && !errors.Is(err, topo.ErrLockLost) {
				return err
			}
			return nil
		})
	}
	err := g.Wait()
	close(c.closing)
	c.err = errors.Join(err, c.client.Close())
	return c.err
}
