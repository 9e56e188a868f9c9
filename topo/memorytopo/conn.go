package memorytopo

import (
	"context"
	"iter"
	"path"
	"sync"

	"github.com/tablehaul/tablehaul/topo"
)

// conn is a connection to a store.
type conn struct {
	store *store
	root  string

	mu     sync.Mutex
	closed chan struct{}
	locks  map[*lock]bool
}

func (c *conn) key(key string) string { return path.Join(c.root, key) }

// check tells whether the connection may be used.
func (c *conn) check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return &topo.NodeError{Key: key, Err: err}
	}
	select {
	case <-c.closed:
		return &topo.NodeError{Key: key, Err: topo.ErrClosed}
	default:
		return nil
	}
}

// wrap adds the key to an error.
func wrap(key string, err error) error {
	if err == nil {
		return nil
	}
	return &topo.NodeError{Key: key, Err: err}
}

// Get is part of [topo.Conn].
func (c *conn) Get(ctx context.Context, key string) ([]byte, topo.Version, error) {
	if err := c.check(ctx, key); err != nil {
		return nil, 0, err
	}
	n, _ := c.store.get(c.key(key))
	if n.version == topo.Absent {
		return nil, 0, wrap(key, topo.ErrNoNode)
	}
	return n.value, n.version, nil
}

// Put is part of [topo.Conn].
func (c *conn) Put(ctx context.Context, key string, value []byte, v topo.Version) (topo.Version, error) {
	if err := c.check(ctx, key); err != nil {
		return 0, err
	}
	v, err := c.store.put(c.key(key), value, v, nil)
	return v, wrap(key, err)
}

// Delete is part of [topo.Conn].
func (c *conn) Delete(ctx context.Context, key string, v topo.Version) error {
	if err := c.check(ctx, key); err != nil {
		return err
	}
	return wrap(key, c.store.remove(c.key(key), v))
}

// List is part of [topo.Conn].
func (c *conn) List(ctx context.Context, dir string) ([]string, error) {
	if err := c.check(ctx, dir); err != nil {
		return nil, err
	}
	prefix := c.key(dir)
	if prefix != "" && prefix != "/" {
		prefix += "/"
	}
	names := c.store.children(prefix)
	if len(names) == 0 {
		return nil, wrap(dir, topo.ErrNoNode)
	}
	return names, nil
}

// Watch is part of [topo.Conn].
func (c *conn) Watch(ctx context.Context, key string) iter.Seq2[topo.Watched, error] {
	return func(yield func(topo.Watched, error) bool) {
		last := topo.AnyVersion // which no key has
		for {
			if err := c.check(ctx, key); err != nil {
				yield(topo.Watched{}, err)
				return
			}
			n, changed := c.store.get(c.key(key))
			if n.version != last && !yield(topo.Watched{Value: n.value, Version: n.version}, nil) {
				return
			}
			last = n.version
			select {
			case <-changed:
			case <-ctx.Done():
			case <-c.closed:
			}
		}
	}
}

// Close is part of [topo.Conn].
func (c *conn) Close() error {
	c.mu.Lock()
	locks := c.locks
	c.locks = nil
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	c.mu.Unlock()
	for l := range locks {
		l.expire()
	}
	return nil
}
