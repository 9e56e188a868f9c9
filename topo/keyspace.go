package topo

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// KeyspaceType tells ordinary keyspaces from those that show a backup.
type KeyspaceType int32

// The keyspace types of Vitess.
const (
	KeyspaceNormal   KeyspaceType = 0
	KeyspaceSnapshot KeyspaceType = 1
)

var keyspaceTypes = map[KeyspaceType]string{KeyspaceNormal: "NORMAL", KeyspaceSnapshot: "SNAPSHOT"}

// String returns Vitess's name of the type.
func (t KeyspaceType) String() string { return enumName(keyspaceTypes, t) }

// Keyspace is a logical database: one MySQL schema, spread over shards.
type Keyspace struct {
	layout
	Name             string // not part of the record
	Type             KeyspaceType
	BaseKeyspace     string    // of a snapshot
	SnapshotTime     time.Time // of a snapshot
	DurabilityPolicy string    // of Vitess's reparents; CreateKeyspace writes "none" for an empty one
	SidecarDBName    string    // Vitess's own database; CreateKeyspace writes "_vt" for an empty one
}

func (k *Keyspace) fields() []field {
	return []field{
		intField[KeyspaceType]{label{5, "keyspace_type"}, &k.Type, keyspaceTypes},
		stringField{label{6, "base_keyspace"}, &k.BaseKeyspace},
		timeField(7, "snapshot_time", &k.SnapshotTime),
		stringField{label{8, "durability_policy"}, &k.DurabilityPolicy},
		stringField{label{10, "sidecar_db_name"}, &k.SidecarDBName},
	}
}

// MarshalJSON returns the record as Vitess prints it.
func (k *Keyspace) MarshalJSON() ([]byte, error) { return marshalJSON(k), nil }

// CreateKeyspace adds a keyspace without shards, and an empty VSchema for it unless there is one. [ErrNodeExists]
// says that the keyspace is there.
func (s *Server) CreateKeyspace(ctx context.Context, k Keyspace) error {
	if err := checkNewName("keyspace", k.Name); err != nil {
		return err
	}
	k.DurabilityPolicy = cmp.Or(k.DurabilityPolicy, "none")
	k.SidecarDBName = cmp.Or(k.SidecarDBName, "_vt")
	if err := create(ctx, s.global, keyspaceKey(k.Name), &k); err != nil {
		return err
	}
	err := create(ctx, s.global, vschemaKey(k.Name), &VSchema{})
	if errors.Is(err, ErrNodeExists) {
		return nil
	}
	return err
}

// Keyspace returns a keyspace's record, or [ErrNoNode].
func (s *Server) Keyspace(ctx context.Context, name string) (*Keyspace, error) {
	if err := checkName("keyspace", name); err != nil {
		return nil, err
	}
	k, _, err := read[Keyspace](ctx, s.global, keyspaceKey(name))
	if err != nil {
		return nil, err
	}
	k.Name = name
	return k, nil
}

// Keyspaces returns the names of all keyspaces, sorted.
func (s *Server) Keyspaces(ctx context.Context) ([]string, error) {
	names, err := list(ctx, s.global, keyspacesPath)
	if err != nil {
		return nil, err
	}
	// A directory may hold other keys than a keyspace's: a lock that is about to vanish, say.
	found := make([]bool, len(names))
	err = each(ctx, len(names), func(ctx context.Context, i int) error {
		_, _, err := s.global.Get(ctx, keyspaceKey(names[i]))
		found[i] = err == nil
		return ignoreMissing(err)
	})
	if err != nil {
		return nil, err
	}
	var out []string
	for i, name := range names {
		if found[i] {
			out = append(out, name)
		}
	}
	return out, nil
}

// UpdateKeyspace changes a keyspace's record; fn may be called more than once.
func (s *Server) UpdateKeyspace(ctx context.Context, name string, fn func(*Keyspace) error) error {
	if err := checkName("keyspace", name); err != nil {
		return err
	}
	return update(ctx, s.global, keyspaceKey(name), func(k *Keyspace) error {
		k.Name = name
		return fn(k)
	})
}

// DeleteKeyspace removes a keyspace that has no shards, its VSchema, and what the cells know of it. A
// [*NotEmptyError] names the shards that are left.
func (s *Server) DeleteKeyspace(ctx context.Context, name string) error {
	if _, err := s.Keyspace(ctx, name); err != nil {
		return err
	}
	shards, err := list(ctx, s.global, keyspaceDir(name)+"/"+shardsPath)
	if err != nil {
		return err
	}
	if len(shards) > 0 {
		for i := range shards {
			shards[i] = "shard " + shards[i]
		}
		return &NotEmptyError{Kind: "keyspace", Name: name, Holds: shards}
	}
	cells, err := s.Cells(ctx)
	if err != nil {
		return err
	}
	err = s.inCells(ctx, cells, func(ctx context.Context, _ string, c Conn) error {
		return ignoreMissing(c.Delete(ctx, srvKeyspaceKey(name), AnyVersion))
	})
	if err != nil {
		return err
	}
	if err := ignoreMissing(s.global.Delete(ctx, vschemaKey(name), AnyVersion)); err != nil {
		return err
	}
	return s.global.Delete(ctx, keyspaceKey(name), AnyVersion)
}
