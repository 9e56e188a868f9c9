package topo

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"
)

// Paths of the keys below a root, as Vitess has them.
const (
	cellsPath       = "cells"
	aliasesPath     = "cells_aliases"
	keyspacesPath   = "keyspaces"
	shardsPath      = "shards"
	tabletsPath     = "tablets"
	externalPath    = "ExternalClusters"
	namedLocksPath  = "internal/named_locks"
	rulesLockPath   = "routing_rules"
	srvVSchemaKey   = "SrvVSchema"
	routingRulesKey = "RoutingRules"
	shardRulesKey   = "ShardRoutingRules"
	mirrorRulesKey  = "MirrorRules"
	ksRulesKey      = "routing_rules/keyspace/Rules"
)

const maxName = 64 // bytes, as in Vitess

func cellKey(cell string) string      { return path.Join(cellsPath, cell, "CellInfo") }
func aliasKey(alias string) string    { return path.Join(aliasesPath, alias, "CellsAlias") }
func keyspaceDir(ks string) string    { return path.Join(keyspacesPath, ks) }
func keyspaceKey(ks string) string    { return path.Join(keyspacesPath, ks, "Keyspace") }
func vschemaKey(ks string) string     { return path.Join(keyspacesPath, ks, "VSchema") }
func srvKeyspaceKey(ks string) string { return path.Join(keyspacesPath, ks, "SrvKeyspace") }
func shardDir(ks, shard string) string {
	return path.Join(keyspacesPath, ks, shardsPath, shard)
}
func shardKey(ks, shard string) string { return path.Join(shardDir(ks, shard), "Shard") }
func replicationKey(ks, shard string) string {
	return path.Join(shardDir(ks, shard), "ShardReplication")
}
func tabletKey(a TabletAlias) string       { return path.Join(tabletsPath, a.key(), "Tablet") }
func externalKey(kind, name string) string { return path.Join(externalPath, kind, name) }

// checkName refuses what can't be a part of a key, or would be another key.
func checkName(kind, name string) error {
	reason := ""
	switch {
	case name == "":
		reason = "it is empty"
	case len(name) > maxName:
		reason = fmt.Sprintf("it is longer than %d bytes", maxName)
	case name == "." || name == "..":
		reason = "it is a relative path"
	}
	for _, r := range name {
		switch {
		case r == '/' || r == unicode.ReplacementChar || unicode.IsControl(r):
			reason = fmt.Sprintf("it holds %q", r)
		}
	}
	if reason == "" {
		return nil
	}
	return &NameError{Kind: kind, Name: name, Reason: reason}
}

// checkNewName is checkName for a name that is being created, which has to survive in "keyspace.workflow",
// "keyspace/shard" and comma separated lists too.
func checkNewName(kind, name string) error {
	if err := checkName(kind, name); err != nil {
		return err
	}
	for _, r := range name {
		if !(r == '_' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return &NameError{Kind: kind, Name: name, Reason: fmt.Sprintf("it holds %q; letters, digits, - and _ are allowed", r)}
		}
	}
	return nil
}

func checkShard(name string) error { return checkName("shard", name) }

// TabletAlias names a tablet: its cell and a number that is unique in the cell. The zero value is no tablet.
type TabletAlias struct {
	Cell string
	UID  uint32
}

// ParseTabletAlias reads "zone1-100" or "zone1-0000000100". Errors are [*NameError]s.
func ParseTabletAlias(s string) (TabletAlias, error) {
	bad := func(reason string) (TabletAlias, error) {
		return TabletAlias{}, &NameError{Kind: "tablet alias", Name: s, Reason: reason}
	}
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return bad("it is not of the form cell-number")
	}
	cell := s[:i]
	if err := checkNewCell(cell); err != nil {
		return bad("its cell can't be a cell's name")
	}
	uid, err := strconv.ParseUint(s[i+1:], 10, 32)
	if err != nil {
		return bad(fmt.Sprintf("%q is not a number from 0 to %d", s[i+1:], uint32(1<<32-1)))
	}
	return TabletAlias{Cell: cell, UID: uint32(uid)}, nil
}

// checkNewCell allows a dot besides, which cloud providers' zones may have.
func checkNewCell(cell string) error {
	if err := checkName("cell", cell); err != nil {
		return err
	}
	return checkNewName("cell", strings.ReplaceAll(cell, ".", "-"))
}

// IsZero tells whether the alias names no tablet.
func (a TabletAlias) IsZero() bool { return a == TabletAlias{} }

// String returns the alias as Vitess prints it, "zone1-0000000100"; that of no tablet is empty.
func (a TabletAlias) String() string {
	if a.IsZero() {
		return ""
	}
	return a.key()
}

// MarshalText is [TabletAlias.String].
func (a TabletAlias) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is [ParseTabletAlias]; an empty text is no tablet.
func (a *TabletAlias) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*a = TabletAlias{}
		return nil
	}
	parsed, err := ParseTabletAlias(string(b))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

func (a TabletAlias) key() string { return fmt.Sprintf("%s-%010d", a.Cell, a.UID) }
