package topo

// RoutingRules redirect tables.
type RoutingRules struct {
	layout
	Rules []RoutingRule
}

func (r *RoutingRules) fields() []field {
	return []field{messagesField[RoutingRule, *RoutingRule]{label{1, "rules"}, &r.Rules}}
}

// RoutingRule sends queries for one table to others.
type RoutingRule struct {
	layout
	FromTable string
	ToTables  []string
}

func (r *RoutingRule) fields() []field {
	return []field{stringField{label{1, "from_table"}, &r.FromTable}, stringsField{label{2, "to_tables"}, &r.ToTables}}
}

// ShardRoutingRules redirect shards.
type ShardRoutingRules struct {
	layout
	Rules []ShardRoutingRule
}

func (r *ShardRoutingRules) fields() []field {
	return []field{messagesField[ShardRoutingRule, *ShardRoutingRule]{label{1, "rules"}, &r.Rules}}
}

// ShardRoutingRule sends queries for one shard to another keyspace.
type ShardRoutingRule struct {
	layout
	FromKeyspace, ToKeyspace, Shard string
}

func (r *ShardRoutingRule) fields() []field {
	return []field{
		stringField{label{1, "from_keyspace"}, &r.FromKeyspace},
		stringField{label{2, "to_keyspace"}, &r.ToKeyspace},
		stringField{label{3, "shard"}, &r.Shard},
	}
}

// KeyspaceRoutingRules redirect keyspaces.
type KeyspaceRoutingRules struct {
	layout
	Rules []KeyspaceRoutingRule
}

func (r *KeyspaceRoutingRules) fields() []field {
	return []field{messagesField[KeyspaceRoutingRule, *KeyspaceRoutingRule]{label{1, "rules"}, &r.Rules}}
}

// KeyspaceRoutingRule sends queries for one keyspace to another.
type KeyspaceRoutingRule struct {
	layout
	FromKeyspace, ToKeyspace string
}

func (r *KeyspaceRoutingRule) fields() []field {
	return []field{
		stringField{label{1, "from_keyspace"}, &r.FromKeyspace},
		stringField{label{2, "to_keyspace"}, &r.ToKeyspace},
	}
}

// MirrorRules copy queries.
type MirrorRules struct {
	layout
	Rules []MirrorRule
}

func (r *MirrorRules) fields() []field {
	return []field{messagesField[MirrorRule, *MirrorRule]{label{1, "rules"}, &r.Rules}}
}

// MirrorRule sends a part of the queries for one table to another as well.
type MirrorRule struct {
	layout
	FromTable, ToTable string
	Percent            float32
}

func (r *MirrorRule) fields() []field {
	return []field{
		stringField{label{1, "from_table"}, &r.FromTable},
		stringField{label{2, "to_table"}, &r.ToTable},
		floatField{label{3, "percent"}, &r.Percent},
	}
}
