package topo

import (
	"context"
	"iter"
	"time"
)

// Conn is a connection to one topology server, below one root. Implementations are in memorytopo and etcdtopo;
// topotest.TestConn says what they have to do. All methods may be called concurrently.
//
// Keys are relative to the root, with slashes: "cells/zone1/CellInfo". There are no directory nodes: a
// directory exists as long as a key below it does. Errors are [*NodeError]s that wrap [ErrNoNode],
// [ErrNodeExists], [ErrBadVersion], [ErrUnreachable] or [ErrClosed], or the context's error.
type Conn interface {
	// Get returns the value of a key and its version, or ErrNoNode.
	Get(ctx context.Context, key string) ([]byte, Version, error)

	// Put writes the value of a key if the key has version v, and returns the new version. Absent creates the key
	// and fails with ErrNodeExists if it is there; AnyVersion writes whatever is there; any other version fails
	// with ErrBadVersion if the key has another one or is gone.
	Put(ctx context.Context, key string, value []byte, v Version) (Version, error)

	// Delete removes a key if it has version v: ErrBadVersion if it has another, ErrNoNode if it is not there.
	Delete(ctx context.Context, key string, v Version) error

	// List returns the names of a directory's children, sorted, or ErrNoNode if it has none. Held locks show as
	// the child "locks".
	List(ctx context.Context, dir string) ([]string, error)

	// Watch yields the present state of a key and then every state that follows; quick successions may show as
	// their last state only. It ends when ctx does, and after an error.
	Watch(ctx context.Context, key string) iter.Seq2[Watched, error]

	// Lock waits for the lock of a directory and takes it. The lock is kept alive while ctx lasts, so ctx is not
	// the place for a waiting time; LockRequest has one.
	Lock(ctx context.Context, dir string, r LockRequest) (LockHandle, error)

	// Close ends the connection; locks taken through it are released. It is the only method that may be called
	// twice.
	Close() error
}

// Version tells one state of a key from every other one it ever had.
type Version int64

const (
	// Absent is the version of a key that does not exist.
	Absent Version = 0
	// AnyVersion writes or deletes whatever is there.
	AnyVersion Version = -1
)

// Watched is the state of a watched key.
type Watched struct {
	Value   []byte
	Version Version // Absent if the key does not exist (any more)
}

// LockRequest says how to take a lock.
type LockRequest struct {
	// Contents is stored while the lock is held or waited for; others can read it.
	Contents []byte
	// TTL is how long the lock outlives a holder that vanished. Implementations round it up to what their server
	// can do. Default 30 s.
	TTL time.Duration
	// Try fails at once with a LockedError instead of waiting.
	Try bool
	// Wait is how long to wait before failing with a LockedError. Default: as long as the context lasts.
	Wait time.Duration
	// Anywhere allows a directory that does not exist; otherwise that is an ErrNoNode.
	Anywhere bool
}

// DefaultLockTTL is the TTL of locks unless the request says otherwise; Vitess has the same.
const DefaultLockTTL = 30 * time.Second

// LockHandle is a lock that is held. It is kept alive until Unlock, until the context given to Conn.Lock ends or
// until the Conn is closed, whichever comes first.
type LockHandle interface {
	// Check asks the server whether the lock is still held and extends its lease: nil, or ErrLockLost.
	Check(ctx context.Context) error
	// Lost is closed when the lock is no longer held or no longer kept alive. After Unlock it is closed too.
	Lost() <-chan struct{}
	// Unlock gives the lock back; ErrLockLost says that it was lost before.
	Unlock(ctx context.Context) error
}
