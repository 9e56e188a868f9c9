package topo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path"
	"strings"
	"sync"
	"time"
)

// LockInfo is what a lock's file says about its holder, in Vitess's form.
type LockInfo struct {
	Action   string   // what is being done
	HostName string   // of the holder
	UserName string   // of the holder
	Time     string   // when the lock was asked for, RFC 3339
	Options  struct{} // always empty
	Status   string   // "Running"
}

// ParseLockInfo reads a lock file. What is not in its form gives the zero LockInfo: a lock is a lock, whatever
// its file says.
func ParseLockInfo(b []byte) LockInfo {
	var i LockInfo
	if err := json.Unmarshal(b, &i); err != nil {
		return LockInfo{}
	}
	return i
}

func newLockInfo(action string) ([]byte, error) {
	i := LockInfo{Action: action, HostName: "unknown", UserName: "unknown", Time: time.Now().Format(time.RFC3339), Status: "Running"}
	if host, err := os.Hostname(); err == nil {
		i.HostName = host
	}
	if u, err := user.Current(); err == nil {
		i.UserName = u.Username
	}
	return json.MarshalIndent(i, "", "  ")
}

// LockOptions say how to take a lock.
type LockOptions struct {
	// Action says to others what the lock is held for.
	Action string
	// Try fails at once if somebody else holds the lock.
	Try bool
	// Wait is how long to wait for somebody else. Default 45 s, like Vitess.
	Wait time.Duration
	// TTL is how long the lock outlives a holder that vanished. Default 30 s, for named locks too: Vitess
	// keeps those for 24 hours after a crash, which would block the repair that a crash calls for.
	TTL time.Duration
}

const (
	defaultLockWait = 45 * time.Second
	unlockTimeout   = 5 * time.Second
)

// Lock is a lock that is held, until [Lock.Unlock] is called, the context that it was taken with ends, or it is
// lost.
type Lock struct {
	dir     string
	handle  LockHandle
	ctx     context.Context
	cancel  context.CancelCauseFunc
	watched chan struct{} // closed when the watching goroutine has ended
	once    sync.Once
	err     error // of the first Unlock
}

// LockKeyspace locks a keyspace that exists, against whoever changes its shards or moves its tables. All LockX
// methods fail with a [*LockedError] if somebody else holds the lock at the end of the waiting time, and wait for
// locks of the same process too.
func (s *Server) LockKeyspace(ctx context.Context, keyspace string, o LockOptions) (*Lock, error) {
	if err := checkName("keyspace", keyspace); err != nil {
		return nil, err
	}
	return s.lock(ctx, keyspaceDir(keyspace), o, LockRequest{})
}

// LockShard locks a shard that exists, against whoever changes its tablets.
func (s *Server) LockShard(ctx context.Context, keyspace, shard string, o LockOptions) (*Lock, error) {
	if err := checkShardOf(keyspace, shard); err != nil {
		return nil, err
	}
	return s.lock(ctx, shardDir(keyspace, shard), o, LockRequest{})
}

// LockRoutingRules locks the routing rules.
func (s *Server) LockRoutingRules(ctx context.Context, o LockOptions) (*Lock, error) {
	return s.lock(ctx, rulesLockPath, o, LockRequest{Anywhere: true})
}

// LockName locks a name that is agreed upon, such as "commerce/wf" for a workflow of Vitess and of this library.
func (s *Server) LockName(ctx context.Context, name string, o LockOptions) (*Lock, error) {
	for part := range strings.SplitSeq(name, "/") {
		if err := checkName("lock", part); err != nil {
			return nil, &NameError{Kind: "lock", Name: name, Reason: fmt.Sprintf("part %q can't be a part of a key", part)}
		}
	}
	return s.lock(ctx, path.Join(namedLocksPath, name), o, LockRequest{Anywhere: true})
}

func (s *Server) lock(ctx context.Context, dir string, o LockOptions, r LockRequest) (*Lock, error) {
	info, err := newLockInfo(o.Action)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	r.Contents = info
	r.Try = o.Try
	r.Wait = cmp.Or(o.Wait, defaultLockWait)
	r.TTL = cmp.Or(o.TTL, DefaultLockTTL)
	h, err := s.global.Lock(ctx, dir, r)
	if err != nil {
		if errors.Is(err, ErrLocked) {
			return nil, err // names the directory
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	l := &Lock{dir: dir, handle: h, watched: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	go l.watch()
	return l, nil
}

// watch ends the lock's context when the lock is lost.
func (l *Lock) watch() {
	defer close(l.watched)
	select {
	case <-l.handle.Lost():
		l.cancel(fmt.Errorf("%s: %w", l.dir, ErrLockLost))
	case <-l.ctx.Done():
	}
}

// Context returns a child of the context that the lock was taken with. It ends when the lock is lost, with a cause
// that is an [ErrLockLost], and when the lock is given back. Work under the lock uses it.
func (l *Lock) Context() context.Context { return l.ctx }

// Lost is closed when the lock is no longer held or no longer kept alive.
func (l *Lock) Lost() <-chan struct{} { return l.handle.Lost() }

// Check asks the topology server whether the lock is still held, and extends its lease: nil, or [ErrLockLost].
func (l *Lock) Check(ctx context.Context) error {
	if err := l.handle.Check(ctx); err != nil {
		return fmt.Errorf("%s: %w", l.dir, err)
	}
	return nil
}

// Unlock gives the lock back and ends [Lock.Context]. [ErrLockLost] says that the lock was lost before, so that what
// was done under it may have collided with another's work. Further calls return the same.
func (l *Lock) Unlock(ctx context.Context) error {
	l.once.Do(func() {
		l.cancel(nil)
		<-l.watched
		if err := l.handle.Unlock(ctx); err != nil {
			l.err = fmt.Errorf("unlock %s: %w", l.dir, err)
		}
	})
	return l.err
}

// release gives the lock back at the end of a function, even if its context has ended, and adds what went wrong
// to the function's error.
func (l *Lock) release(err *error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), unlockTimeout)
	defer cancel()
	if unlockErr := l.Unlock(ctx); unlockErr != nil {
		*err = errors.Join(*err, unlockErr)
	}
}
