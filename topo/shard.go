package topo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Shard is one part of a keyspace: the rows whose keyspace ids are in its range, on one primary and its replicas.
type Shard struct {
	layout
	Keyspace, Name   string      // not part of the record
	PrimaryAlias     TabletAlias // zero if there is none
	PrimaryTermStart time.Time   // when the primary became one
	KeyRange         KeyRange
	SourceShards     []SourceShard
	TabletControls   []TabletControl
	IsPrimaryServing bool // false while another shard serves its range
}

func (s *Shard) fields() []field {
	return []field{
		aliasField(1, "primary_alias", &s.PrimaryAlias),
		keyRangeField(2, "key_range", &s.KeyRange),
		messagesField[SourceShard, *SourceShard]{label{4, "source_shards"}, &s.SourceShards},
		messagesField[TabletControl, *TabletControl]{label{6, "tablet_controls"}, &s.TabletControls},
		boolField{label{7, "is_primary_serving"}, &s.IsPrimaryServing},
		timeField(8, "primary_term_start_time", &s.PrimaryTermStart),
	}
}

// MarshalJSON returns the record as Vitess prints it.
func (s *Shard) MarshalJSON() ([]byte, error) { return marshalJSON(s), nil }

// SourceShard is where an old-style resharding of Vitess reads from.
type SourceShard struct {
	layout
	UID             int32
	Keyspace, Shard string
	KeyRange        KeyRange
	Tables          []string
}

func (s *SourceShard) fields() []field {
	return []field{
		intField[int32]{label: label{1, "uid"}, v: &s.UID},
		stringField{label{2, "keyspace"}, &s.Keyspace},
		stringField{label{3, "shard"}, &s.Shard},
		keyRangeField(4, "key_range", &s.KeyRange),
		stringsField{label{5, "tables"}, &s.Tables},
	}
}

// TabletControl restricts what the tablets of one type serve.
type TabletControl struct {
	layout
	TabletType   TabletType
	Cells        []string
	DeniedTables []string
	Frozen       bool
	AllowReads   bool
}

func (c *TabletControl) fields() []field {
	return []field{
		intField[TabletType]{label{1, "tablet_type"}, &c.TabletType, tabletTypes},
		stringsField{label{2, "cells"}, &c.Cells},
		stringsField{label{4, "denied_tables"}, &c.DeniedTables},
		boolField{label{5, "frozen"}, &c.Frozen},
		boolField{label{6, "allow_reads"}, &c.AllowReads},
	}
}

// CreateShard adds a shard to a keyspace. Its range follows from its name, which is lower-cased; it serves unless
// a shard that serves overlaps it. [ErrNoNode] says that there is no such keyspace, [ErrNodeExists] that the shard
// is there.
func (s *Server) CreateShard(ctx context.Context, keyspace, shard string) (err error) {
	if err := checkName("keyspace", keyspace); err != nil {
		return err
	}
	r, err := ParseShardName(shard)
	if err != nil {
		return err
	}
	if err := checkNewName("shard", shard); err != nil {
		return err
	}
	shard = strings.ToLower(shard)
	if _, err := s.Keyspace(ctx, keyspace); err != nil {
		return err
	}
	// The lock makes the check for overlaps mean something.
	lock, err := s.LockKeyspace(ctx, keyspace, LockOptions{Action: "CreateShard " + shard})
	if err != nil {
		return err
	}
	defer lock.release(&err)
	shards, err := s.Shards(lock.Context(), keyspace)
	if err != nil {
		return err
	}
	serving := !slices.ContainsFunc(shards, func(o *Shard) bool {
		return o.IsPrimaryServing && o.KeyRange.Intersects(r)
	})
	return create(lock.Context(), s.global, shardKey(keyspace, shard), &Shard{KeyRange: r, IsPrimaryServing: serving})
}

// Shard returns a shard's record, or [ErrNoNode].
func (s *Server) Shard(ctx context.Context, keyspace, shard string) (*Shard, error) {
	if err := checkShardOf(keyspace, shard); err != nil {
		return nil, err
	}
	r, _, err := read[Shard](ctx, s.global, shardKey(keyspace, shard))
	if err != nil {
		return nil, err
	}
	r.Keyspace, r.Name = keyspace, shard
	return r, nil
}

func checkShardOf(keyspace, shard string) error {
	if err := checkName("keyspace", keyspace); err != nil {
		return err
	}
	return checkShard(shard)
}

// Shards returns all shards of a keyspace, ordered by range and name. A keyspace without shards has none; one that
// does not exist is an [ErrNoNode].
func (s *Server) Shards(ctx context.Context, keyspace string) ([]*Shard, error) {
	if _, err := s.Keyspace(ctx, keyspace); err != nil {
		return nil, err
	}
	names, err := list(ctx, s.global, keyspaceDir(keyspace)+"/"+shardsPath)
	if err != nil {
		return nil, err
	}
	shards := make([]*Shard, len(names))
	err = each(ctx, len(names), func(ctx context.Context, i int) error {
		shard, err := s.Shard(ctx, keyspace, names[i])
		shards[i] = shard
		return ignoreMissing(err) // deleted meanwhile, or only a lock is there
	})
	if err != nil {
		return nil, err
	}
	shards = slices.DeleteFunc(shards, func(s *Shard) bool { return s == nil })
	slices.SortFunc(shards, func(a, b *Shard) int {
		if c := a.KeyRange.Compare(b.KeyRange); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return shards, nil
}

// ServingShards returns the shards of a keyspace that serve, ordered by range. They cover every keyspace id once;
// otherwise the error wraps a [*CoverError]. A [*NoShardsError] says that none serves.
func (s *Server) ServingShards(ctx context.Context, keyspace string) ([]*Shard, error) {
	shards, err := s.Shards(ctx, keyspace)
	if err != nil {
		return nil, err
	}
	shards = slices.DeleteFunc(shards, func(s *Shard) bool { return !s.IsPrimaryServing })
	if len(shards) == 0 {
		return nil, &NoShardsError{Keyspace: keyspace}
	}
	ranges := make([]KeyRange, len(shards))
	for i, shard := range shards {
		ranges[i] = shard.KeyRange
	}
	if err := CheckCover(ranges); err != nil {
		return nil, fmt.Errorf("keyspace %s: serving shards: %w", keyspace, err)
	}
	return shards, nil
}

// UpdateShard changes a shard's record; fn may be called more than once.
func (s *Server) UpdateShard(ctx context.Context, keyspace, shard string, fn func(*Shard) error) error {
	if err := checkShardOf(keyspace, shard); err != nil {
		return err
	}
	return update(ctx, s.global, shardKey(keyspace, shard), func(r *Shard) error {
		r.Keyspace, r.Name = keyspace, shard
		return fn(r)
	})
}

// DeleteShard removes a shard that has no tablets. A [*NotEmptyError] names those that are left.
func (s *Server) DeleteShard(ctx context.Context, keyspace, shard string) error {
	if _, err := s.Shard(ctx, keyspace, shard); err != nil {
		return err
	}
	tablets, err := s.Tablets(ctx, keyspace, shard)
	if err != nil {
		return err
	}
	if len(tablets) > 0 {
		e := &NotEmptyError{Kind: "shard", Name: keyspace + "/" + shard}
		for _, t := range tablets {
			e.Holds = append(e.Holds, "tablet "+t.Alias.String())
		}
		return e
	}
	cells, err := s.Cells(ctx)
	if err != nil {
		return err
	}
	err = s.inCells(ctx, cells, func(ctx context.Context, _ string, c Conn) error {
		return ignoreMissing(c.Delete(ctx, replicationKey(keyspace, shard), AnyVersion))
	})
	if err != nil {
		return err
	}
	return s.global.Delete(ctx, shardKey(keyspace, shard), AnyVersion)
}
