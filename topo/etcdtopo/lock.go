package etcdtopo

import (
	"cmp"
	"context"
	"errors"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tablehaul/tablehaul/topo"
)

// cleanupTimeout bounds what is done after a caller's context has ended.
const cleanupTimeout = 5 * time.Second

// lock is one holder's place in the queue for a lock: a lease, and a key named after it. The oldest key below the
// directory's "locks" has the lock; it is gone with its lease.
type lock struct {
	conn   *conn
	dir    string
	lease  clientv3.LeaseID
	ttl    time.Duration
	cancel context.CancelFunc // ends the keep-alive
	lost   chan struct{}
	gone   atomic.Bool // the lease ran out, or may have
}

// Lock is part of [topo.Conn].
func (c *conn) Lock(ctx context.Context, dir string, r topo.LockRequest) (topo.LockHandle, error) {
	if err := c.ready(dir); err != nil {
		return nil, err
	}
	if !r.Anywhere {
		if _, err := c.List(ctx, dir); err != nil {
			return nil, err
		}
	}
	prefix := c.dirPrefix(dir + "/locks")
	if r.Try {
		// Look first: a key in the queue would be in the way of others who only try.
		if holder, err := c.before(ctx, dir, prefix, math.MaxInt64); err != nil {
			return nil, err
		} else if holder != nil {
			return nil, locked(dir, holder)
		}
	}
	l, err := c.newLock(ctx, dir, r)
	if err != nil {
		return nil, err
	}
	if err := l.acquire(ctx, prefix, r); err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		if revokeErr := l.Unlock(cleanup); revokeErr != nil && !errors.Is(revokeErr, topo.ErrLockLost) && !c.isClosed() {
			err = errors.Join(err, revokeErr)
		}
		return nil, err
	}
	return l, nil
}

// newLock takes a lease and keeps it alive while ctx lasts.
func (c *conn) newLock(ctx context.Context, dir string, r topo.LockRequest) (*lock, error) {
	limited, cancelLimit := c.limit(ctx)
	defer cancelLimit()
	seconds := int64(math.Ceil(cmp.Or(r.TTL, topo.DefaultLockTTL).Seconds()))
	lease, err := c.client.Grant(limited, seconds)
	if err != nil {
		return nil, c.convert(ctx, dir, err)
	}
	keepCtx, cancel := context.WithCancel(ctx)
	l := &lock{
		conn: c, dir: dir, lease: lease.ID, ttl: time.Duration(lease.TTL) * time.Second,
		cancel: cancel, lost: make(chan struct{}),
	}
	alive, err := c.client.KeepAlive(keepCtx, lease.ID)
	if err != nil {
		cancel()
		return nil, c.convert(ctx, dir, err)
	}
	go l.keep(keepCtx, alive)

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		cancel()
		return nil, &topo.NodeError{Key: dir, Err: topo.ErrClosed}
	}
	if c.locks == nil {
		c.locks = make(map[*lock]bool)
	}
	c.locks[l] = true
	return l, nil
}

// keep waits for the end of the lease. Answers come three times per TTL; the lock counts as lost a little before
// the server could have given it to somebody else.
func (l *lock) keep(ctx context.Context, alive <-chan *clientv3.LeaseKeepAliveResponse) {
	defer close(l.lost)
	defer l.cancel()
	margin := min(l.ttl/10, 2*time.Second)
	expiry := time.NewTimer(l.ttl - margin)
	defer expiry.Stop()
	for {
		select {
		case r, ok := <-alive:
			if !ok {
				// The end of ctx closes the channel too; then the lease is still there for a while.
				if ctx.Err() == nil {
					l.gone.Store(true)
				}
				return
			}
			expiry.Reset(time.Duration(r.TTL)*time.Second - margin)
		case <-expiry.C:
			l.gone.Store(true)
			return
		case <-ctx.Done():
			return
		}
	}
}

// acquire puts the key and waits until it is the oldest.
func (l *lock) acquire(ctx context.Context, prefix string, r topo.LockRequest) error {
	revision, err := l.enqueue(ctx, prefix, r.Contents)
	if err != nil {
		return err
	}
	var timeout <-chan time.Time
	if r.Wait > 0 {
		timer := time.NewTimer(r.Wait)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		holder, err := l.conn.before(ctx, l.dir, prefix, revision-1)
		if err != nil {
			return err
		}
		if holder == nil {
			return nil
		}
		if r.Try {
			return locked(l.dir, holder)
		}
		if err := l.await(ctx, holder, revision, timeout); err != nil {
			return err
		}
	}
}

// enqueue puts the lock's key and returns its revision.
func (l *lock) enqueue(ctx context.Context, prefix string, contents []byte) (int64, error) {
	limited, cancel := l.conn.limit(ctx)
	defer cancel()
	key := prefix + strconv.FormatInt(int64(l.lease), 10)
	r, err := l.conn.client.Txn(limited).
		If(clientv3.Compare(clientv3.Version(key), "=", 0)).
		Then(clientv3.OpPut(key, string(contents), clientv3.WithLease(l.lease))).
		Commit()
	if err != nil {
		return 0, l.conn.convert(ctx, l.dir, err)
	}
	if !r.Succeeded {
		return 0, &topo.NodeError{Key: l.dir, Err: topo.ErrNodeExists} // somebody made up our lease's number
	}
	return r.Header.Revision, nil
}

// predecessor is who is in front of us in the queue.
type predecessor struct {
	key      string // in etcd
	contents []byte
}

func locked(dir string, p *predecessor) error {
	return &topo.LockedError{Dir: dir, Holder: topo.ParseLockInfo(p.contents)}
}

// before returns the newest key that is at most as old as a revision, or nil.
func (c *conn) before(ctx context.Context, dir, prefix string, revision int64) (*predecessor, error) {
	limited, cancel := c.limit(ctx)
	defer cancel()
	r, err := c.client.Get(limited, prefix, append(clientv3.WithLastRev(), clientv3.WithMaxModRev(revision))...)
	if err != nil {
		return nil, c.convert(ctx, dir, err)
	}
	if len(r.Kvs) == 0 {
		return nil, nil
	}
	return &predecessor{key: string(r.Kvs[0].Key), contents: r.Kvs[0].Value}, nil
}

// await returns nil when the predecessor may be gone.
func (l *lock) await(ctx context.Context, p *predecessor, revision int64, timeout <-chan time.Time) error {
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := l.conn.client.Watch(watchCtx, p.key, clientv3.WithRev(revision))
	for {
		select {
		case r, ok := <-watch:
			if !ok || r.Err() != nil {
				return l.conn.convert(ctx, l.dir, ctx.Err()) // read again, unless it is us who ended it
			}
			for _, e := range r.Events {
				if e.Type == clientv3.EventTypeDelete {
					return nil
				}
			}
		case <-timeout:
			return locked(l.dir, p)
		case <-ctx.Done():
			return l.conn.convert(ctx, l.dir, ctx.Err())
		case <-l.lost:
			return l.conn.convert(ctx, l.dir, topo.ErrLockLost)
		}
	}
}

// Check is part of [topo.LockHandle].
func (l *lock) Check(ctx context.Context) error {
	if l.gone.Load() {
		return topo.ErrLockLost
	}
	limited, cancel := l.conn.limit(ctx)
	defer cancel()
	if _, err := l.conn.client.KeepAliveOnce(limited, l.lease); err != nil {
		return l.conn.convert(ctx, l.dir, err)
	}
	return nil
}

// Lost is part of [topo.LockHandle].
func (l *lock) Lost() <-chan struct{} { return l.lost }

// Unlock is part of [topo.LockHandle].
func (l *lock) Unlock(ctx context.Context) error {
	err := l.revoke(ctx)
	l.conn.mu.Lock()
	defer l.conn.mu.Unlock()
	delete(l.conn.locks, l)
	return err
}

// revoke ends the lease, and the key with it.
func (l *lock) revoke(ctx context.Context) error {
	l.cancel()
	<-l.lost
	limited, cancel := l.conn.limit(ctx)
	defer cancel()
	_, err := l.conn.client.Revoke(limited, l.lease)
	return l.conn.convert(ctx, l.dir, err)
}
