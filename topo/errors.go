package topo

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinels of [Conn] and [Server]. They arrive wrapped, usually in a [*NodeError] that has the key.
var (
	// ErrNoNode says that the key, or the directory, does not exist.
	ErrNoNode = errors.New("node does not exist")
	// ErrNodeExists says that the key to create is there already.
	ErrNodeExists = errors.New("node exists already")
	// ErrBadVersion says that the key was changed or deleted since it was read: read it again.
	ErrBadVersion = errors.New("node has another version")
	// ErrLocked says that somebody else holds the lock; see [*LockedError] for who.
	ErrLocked = errors.New("locked")
	// ErrLockLost says that a lock is no longer held: its lease ran out, was revoked, or its connection or
	// context ended. Another process may hold it now; stop at once.
	ErrLockLost = errors.New("lock lost")
	// ErrUnreachable says that no topology server answered in time. Nothing is known about the outcome of a
	// write that ended this way.
	ErrUnreachable = errors.New("topology server unreachable")
	// ErrClosed says that the Conn was closed.
	ErrClosed = errors.New("topology connection closed")
)

// NodeError says which key an operation was about.
type NodeError struct {
	Key string // relative to the root, e.g. "keyspaces/commerce/Keyspace"
	Err error  // wraps one of the sentinels where one fits
}

func (e *NodeError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *NodeError) Unwrap() error { return e.Err }

// NameError says that a name can't be used; nothing was read or written.
type NameError struct {
	Kind   string // what it should have named: "keyspace", "shard", "cell", "tablet alias", "key range", …
	Name   string // as it was given
	Reason string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("bad %s %q: %s", e.Kind, e.Name, e.Reason)
}

// RecordError says that the value of a key is not the record that belongs there.
type RecordError struct {
	Key string // relative to the root; empty when the bytes did not come from a topology
	Err error
}

func (e *RecordError) Error() string {
	if e.Key == "" {
		return "malformed record: " + e.Err.Error()
	}
	return e.Key + ": malformed record: " + e.Err.Error()
}

// Unwrap returns Err.
func (e *RecordError) Unwrap() error { return e.Err }

// ImplementationError says that no opener was given for a topology type.
type ImplementationError struct {
	Type  string
	Known []string // the types there are openers for, sorted
}

func (e *ImplementationError) Error() string {
	return fmt.Sprintf("unknown topology type %q (known: %s)", e.Type, strings.Join(e.Known, ", "))
}

// PrimaryExistsError says that a shard has another primary.
type PrimaryExistsError struct {
	Keyspace, Shard string
	Primary         TabletAlias // the primary that the shard has
}

func (e *PrimaryExistsError) Error() string {
	return fmt.Sprintf("shard %s/%s has a primary already: %s", e.Keyspace, e.Shard, e.Primary)
}

// NotEmptyError says that something can't be deleted because it holds other things.
type NotEmptyError struct {
	Kind, Name string
	Holds      []string // what it holds, e.g. "shard -80"
}

func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("%s %s is not empty: it holds %s", e.Kind, e.Name, strings.Join(e.Holds, ", "))
}

// NoShardsError says that a keyspace has no shard that serves.
type NoShardsError struct{ Keyspace string }

func (e *NoShardsError) Error() string {
	return fmt.Sprintf("keyspace %s has no serving shard", e.Keyspace)
}

// NoTabletError says that a shard has no tablet of the wanted types in the wanted cells.
type NoTabletError struct {
	Keyspace, Shard string
	Types           []TabletType // as asked for
	Cells           []string     // as asked for; empty means every cell
	Found           []*Tablet    // the tablets there are, of any type
}

func (e *NoTabletError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "shard %s/%s has no tablet of type ", e.Keyspace, e.Shard)
	for i, t := range e.Types {
		if i > 0 {
			b.WriteString(" or ")
		}
		b.WriteString(t.String())
	}
	if len(e.Cells) > 0 {
		fmt.Fprintf(&b, " in %s", strings.Join(e.Cells, ", "))
	}
	if len(e.Found) == 0 {
		b.WriteString(" (it has no tablet)")
		return b.String()
	}
	b.WriteString(" (it has ")
	for i, t := range e.Found {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", t.Alias, t.Type)
	}
	b.WriteString(")")
	return b.String()
}

// LockedError says who holds a lock. It is an [ErrLocked].
type LockedError struct {
	Dir    string   // what is locked, e.g. "keyspaces/commerce"
	Holder LockInfo // zero if the holder left before it could be read
}

func (e *LockedError) Error() string {
	if e.Holder == (LockInfo{}) {
		return e.Dir + ": locked"
	}
	return fmt.Sprintf("%s: locked by %s@%s since %s: %s",
		e.Dir, e.Holder.UserName, e.Holder.HostName, e.Holder.Time, e.Holder.Action)
}

// Is makes errors.Is(err, ErrLocked) true.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// JSONError says what in a JSON document is not as the record wants it.
type JSONError struct {
	Path   string // e.g. "tables.t.column_vindexes[0].nmae"; empty for the document itself
	Reason string
}

func (e *JSONError) Error() string {
	if e.Path == "" {
		return "malformed JSON: " + e.Reason
	}
	return fmt.Sprintf("malformed JSON: %s: %s", e.Path, e.Reason)
}
