package topo

import (
	"context"
	"errors"
	"slices"
)

// SrvVSchema is what the vtgates of a cell know: the VSchemas of all keyspaces, and the routing rules.
type SrvVSchema struct {
	layout
	Keyspaces            map[string]*VSchema
	RoutingRules         *RoutingRules
	ShardRoutingRules    *ShardRoutingRules
	KeyspaceRoutingRules *KeyspaceRoutingRules
	MirrorRules          *MirrorRules
}

func (v *SrvVSchema) fields() []field {
	return []field{
		messagesByName(1, "keyspaces", &v.Keyspaces),
		messageField[RoutingRules, *RoutingRules]{label{2, "routing_rules"}, &v.RoutingRules},
		messageField[ShardRoutingRules, *ShardRoutingRules]{label{3, "shard_routing_rules"}, &v.ShardRoutingRules},
		messageField[KeyspaceRoutingRules, *KeyspaceRoutingRules]{label{4, "keyspace_routing_rules"}, &v.KeyspaceRoutingRules},
		messageField[MirrorRules, *MirrorRules]{label{5, "mirror_rules"}, &v.MirrorRules},
	}
}

// MarshalJSON returns the record as Vitess prints it.
func (v *SrvVSchema) MarshalJSON() ([]byte, error) { return marshalJSON(v), nil }

// SrvVSchema returns what a cell knows, or [ErrNoNode] before the first [Server.RebuildSrvVSchema].
func (s *Server) SrvVSchema(ctx context.Context, cell string) (*SrvVSchema, error) {
	c, err := s.CellConn(ctx, cell)
	if err != nil {
		return nil, err
	}
	v, _, err := read[SrvVSchema](ctx, c, srvVSchemaKey)
	return v, err
}

// RebuildSrvVSchema tells cells (all if none is given; aliases are expanded) the present VSchemas and routing rules.
// If some cells fail, the others are done all the same and a [*CellError] says which failed.
func (s *Server) RebuildSrvVSchema(ctx context.Context, cells ...string) error {
	cells, err := s.ExpandCells(ctx, cells)
	if err != nil {
		return err
	}
	return s.inCells(ctx, cells, func(ctx context.Context, _ string, c Conn) error {
		return rebuild(ctx, c, srvVSchemaKey, s.collectVSchemas)
	})
}

// rebuild derives a cell's record from the global ones. The version is read before they are, so of two rebuilders
// the one that wins has seen what the other had, or the loser collects again.
func rebuild[T any, P pointer[T]](ctx context.Context, c Conn, key string, collect func(context.Context, P) error) error {
	return upsert(ctx, c, key, func(m P) error { return collect(ctx, m) })
}

func (s *Server) collectVSchemas(ctx context.Context, into *SrvVSchema) error {
	names, err := s.Keyspaces(ctx)
	if err != nil {
		return err
	}
	vschemas := make([]*VSchema, len(names))
	err = each(ctx, len(names), func(ctx context.Context, i int) error {
		v, err := s.VSchema(ctx, names[i])
		if errors.Is(err, ErrNoNode) {
			v, err = &VSchema{}, nil
		}
		vschemas[i] = v
		return err
	})
	if err != nil {
		return err
	}
	into.Keyspaces = make(map[string]*VSchema, len(names))
	for i, name := range names {
		into.Keyspaces[name] = vschemas[i]
	}
	// Vitess stores empty rules of all kinds but one.
	if into.RoutingRules, err = rules[RoutingRules](ctx, s.global, routingRulesKey); err != nil {
		return err
	}
	if into.ShardRoutingRules, err = rules[ShardRoutingRules](ctx, s.global, shardRulesKey); err != nil {
		return err
	}
	if into.MirrorRules, err = rules[MirrorRules](ctx, s.global, mirrorRulesKey); err != nil {
		return err
	}
	into.KeyspaceRoutingRules, _, err = read[KeyspaceRoutingRules](ctx, s.global, ksRulesKey)
	return ignoreMissing(err)
}

func rules[T any, P pointer[T]](ctx context.Context, c Conn, key string) (P, error) {
	r, _, err := read[T, P](ctx, c, key)
	if errors.Is(err, ErrNoNode) {
		return new(T), nil
	}
	return r, err
}

// SrvKeyspace is what the vtgates of a cell know of a keyspace's shards.
type SrvKeyspace struct {
	layout
	Partitions []Partition
}

func (k *SrvKeyspace) fields() []field {
	return []field{messagesField[Partition, *Partition]{label{1, "partitions"}, &k.Partitions}}
}

// MarshalJSON returns the record as Vitess prints it.
func (k *SrvKeyspace) MarshalJSON() ([]byte, error) { return marshalJSON(k), nil }

// Partition lists the shards that serve one tablet type.
type Partition struct {
	layout
	ServedType      TabletType
	ShardReferences []ShardReference
}

func (p *Partition) fields() []field {
	return []field{
		intField[TabletType]{label{1, "served_type"}, &p.ServedType, tabletTypes},
		messagesField[ShardReference, *ShardReference]{label{2, "shard_references"}, &p.ShardReferences},
	}
}

// ShardReference names a shard and its range.
type ShardReference struct {
	layout
	Name     string
	KeyRange KeyRange
}

func (r *ShardReference) fields() []field {
	return []field{stringField{label{1, "name"}, &r.Name}, keyRangeField(2, "key_range", &r.KeyRange)}
}

// SrvKeyspace returns what a cell knows of a keyspace, or [ErrNoNode] before the first
// [Server.RebuildSrvKeyspace].
func (s *Server) SrvKeyspace(ctx context.Context, cell, keyspace string) (*SrvKeyspace, error) {
	if err := checkName("keyspace", keyspace); err != nil {
		return nil, err
	}
	c, err := s.CellConn(ctx, cell)
	if err != nil {
		return nil, err
	}
	k, _, err := read[SrvKeyspace](ctx, c, srvKeyspaceKey(keyspace))
	return k, err
}

// RebuildSrvKeyspace tells cells (all if none is given; aliases are expanded) which shards of a keyspace serve. The
// serving shards must cover every keyspace id; see [Server.ServingShards]. Cells that fail are reported like
// those of [Server.RebuildSrvVSchema].
func (s *Server) RebuildSrvKeyspace(ctx context.Context, keyspace string, cells ...string) error {
	cells, err := s.ExpandCells(ctx, cells)
	if err != nil {
		return err
	}
	collect := func(ctx context.Context, into *SrvKeyspace) error {
		shards, err := s.ServingShards(ctx, keyspace)
		if err != nil {
			return err
		}
		for _, served := range []TabletType{TabletPrimary, TabletReplica, TabletRdonly} {
			into.serve(served, shards)
		}
		return nil
	}
	if _, err := s.ServingShards(ctx, keyspace); err != nil {
		return err
	}
	return s.inCells(ctx, cells, func(ctx context.Context, _ string, c Conn) error {
		return rebuild(ctx, c, srvKeyspaceKey(keyspace), collect)
	})
}

// serve makes the partition of one type list shards.
func (k *SrvKeyspace) serve(served TabletType, shards []*Shard) {
	i := slices.IndexFunc(k.Partitions, func(p Partition) bool { return p.ServedType == served })
	if i < 0 {
		i = len(k.Partitions)
		k.Partitions = append(k.Partitions, Partition{ServedType: served})
	}
	p := &k.Partitions[i]
	had := p.ShardReferences
	p.ShardReferences = nil
	for _, shard := range shards {
		var r ShardReference
		if j := slices.IndexFunc(had, func(o ShardReference) bool { return o.Name == shard.Name }); j >= 0 {
			r = had[j] // with what else it says
		}
		r.Name, r.KeyRange = shard.Name, shard.KeyRange
		p.ShardReferences = append(p.ShardReferences, r)
	}
}
