package memorytopo

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/tablehaul/tablehaul/topo"
)

// lock is one holder's place in the queue for a lock: a key below "locks" in the locked directory. The oldest key
// has the lock.
type lock struct {
	conn *conn
	key  string // with the root
	ttl  time.Duration

	mu     sync.Mutex // taken before the connection's
	lost   chan struct{}
	closed bool // lost
	gone   bool // the key was removed
	timer  *time.Timer
	stop   func() bool // ends the watch over the context
}

// Lock is part of [topo.Conn].
func (c *conn) Lock(ctx context.Context, dir string, r topo.LockRequest) (topo.LockHandle, error) {
	if err := c.check(ctx, dir); err != nil {
		return nil, err
	}
	if !r.Anywhere {
		if _, err := c.List(ctx, dir); err != nil {
			return nil, err
		}
	}
	l, v, err := c.enqueue(ctx, dir, r)
	if err != nil {
		return nil, err
	}
	if err := c.wait(ctx, dir, l, v, r); err != nil {
		l.expire()
		return nil, err
	}
	return l, nil
}

// enqueue takes a place in the queue.
func (c *conn) enqueue(ctx context.Context, dir string, r topo.LockRequest) (*lock, topo.Version, error) {
	l := &lock{
		conn: c,
		key:  path.Join(c.key(dir), "locks", fmt.Sprint(c.store.newName())),
		ttl:  cmp.Or(r.TTL, topo.DefaultLockTTL),
		lost: make(chan struct{}),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.locks == nil {
		return nil, 0, wrap(dir, topo.ErrClosed)
	}
	v, err := c.store.put(l.key, r.Contents, topo.Absent, l)
	if err != nil {
		return nil, 0, wrap(dir, err)
	}
	c.locks[l] = true
	l.stop = context.AfterFunc(ctx, l.abandon)
	return l, v, nil
}

// wait waits until the lock is the oldest.
func (c *conn) wait(ctx context.Context, dir string, l *lock, v topo.Version, r topo.LockRequest) error {
	var timeout <-chan time.Time
	if r.Wait > 0 {
		timer := time.NewTimer(r.Wait)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		holder, locked, changed := c.store.before(path.Dir(l.key)+"/", v)
		if !locked {
			return nil
		}
		refuse := &topo.LockedError{Dir: dir, Holder: topo.ParseLockInfo(holder.value)}
		if r.Try {
			return refuse
		}
		select {
		case <-changed:
		case <-timeout:
			return refuse
		case <-ctx.Done():
			return wrap(dir, ctx.Err())
		case <-l.lost:
			return wrap(dir, topo.ErrLockLost)
		}
	}
}

// abandon is what happens when the context ends: nobody keeps the lock alive any more.
func (l *lock) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose()
	if !l.gone {
		l.timer = time.AfterFunc(l.ttl, l.expire)
	}
}

// expire ends the lock.
func (l *lock) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose()
	l.remove()
}

// lose closes the channel. The caller holds mu.
func (l *lock) lose() {
	if !l.closed {
		l.closed = true
		close(l.lost)
	}
}

// remove removes the key and reports whether it was there. The caller holds mu.
func (l *lock) remove() bool {
	if l.gone {
		return false
	}
	l.gone = true
	l.stop()
	if l.timer != nil {
		l.timer.Stop()
	}
	removed := l.conn.store.remove(l.key, topo.AnyVersion) == nil
	l.conn.forget(l)
	return removed
}

func (c *conn) forget(l *lock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.locks, l)
}

// Check is part of [topo.LockHandle].
func (l *lock) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return topo.ErrLockLost
	}
	if l.timer != nil {
		l.timer.Reset(l.ttl)
	}
	return nil
}

// Lost is part of [topo.LockHandle].
func (l *lock) Lost() <-chan struct{} { return l.lost }

// Unlock is part of [topo.LockHandle].
func (l *lock) Unlock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose()
	if !l.remove() {
		return topo.ErrLockLost
	}
	return nil
}
