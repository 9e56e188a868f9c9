package topo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Tablet is one MySQL server of a shard. In Vitess it is the process beside the server too.
type Tablet struct {
	layout
	Alias                TabletAlias
	Hostname             string           // of the tablet process
	PortMap              map[string]int32 // of the tablet process: "vt", "grpc"
	Keyspace, Shard      string
	KeyRange             KeyRange
	Type                 TabletType
	DBNameOverride       string // name of the database, unless it is "vt_" and the keyspace
	Tags                 map[string]string
	MySQLHostname        string
	MySQLPort            int32
	PrimaryTermStart     time.Time // when it became primary, zero for other types
	DefaultConnCollation uint32    // MySQL's number of the collation
	Start                time.Time // of the tablet process
	Shutdown             time.Time // of the tablet process
}

func (t *Tablet) fields() []field {
	return []field{
		aliasField(1, "alias", &t.Alias),
		stringField{label{2, "hostname"}, &t.Hostname},
		int32sByName(4, "port_map", &t.PortMap),
		stringField{label{5, "keyspace"}, &t.Keyspace},
		stringField{label{6, "shard"}, &t.Shard},
		keyRangeField(7, "key_range", &t.KeyRange),
		intField[TabletType]{label{8, "type"}, &t.Type, tabletTypes},
		stringField{label{9, "db_name_override"}, &t.DBNameOverride},
		stringsByName(10, "tags", &t.Tags),
		stringField{label{12, "mysql_hostname"}, &t.MySQLHostname},
		intField[int32]{label: label{13, "mysql_port"}, v: &t.MySQLPort},
		timeField(14, "primary_term_start_time", &t.PrimaryTermStart),
		intField[uint32]{label: label{16, "default_conn_collation"}, v: &t.DefaultConnCollation},
		timeField(17, "tablet_start_time", &t.Start),
		timeField(18, "tablet_shutdown_time", &t.Shutdown),
	}
}

// MarshalJSON returns the record as Vitess prints it.
func (t *Tablet) MarshalJSON() ([]byte, error) { return marshalJSON(t), nil }

// DBName returns the name of the tablet's database: DBNameOverride, or "vt_" and the keyspace.
func (t *Tablet) DBName() string {
	if t.DBNameOverride != "" {
		return t.DBNameOverride
	}
	return "vt_" + t.Keyspace
}

// MySQLHost returns the name or address of the MySQL server; an IPv6 address has no brackets, however the record has it.
func (t *Tablet) MySQLHost() string {
	if h, ok := strings.CutPrefix(t.MySQLHostname, "["); ok {
		return strings.TrimSuffix(h, "]")
	}
	return t.MySQLHostname
}

// MySQLAddr returns "host:port" of the MySQL server, or "" if the record does not say both.
func (t *Tablet) MySQLAddr() string {
	if t.MySQLHostname == "" || t.MySQLPort == 0 {
		return ""
	}
	return net.JoinHostPort(t.MySQLHost(), strconv.Itoa(int(t.MySQLPort)))
}

// ShardReplication lists the tablets of one shard in one cell.
type ShardReplication struct {
	layout
	Nodes []ReplicationNode
}

func (r *ShardReplication) fields() []field {
	return []field{messagesField[ReplicationNode, *ReplicationNode]{label{1, "nodes"}, &r.Nodes}}
}

// ReplicationNode is one entry of a [ShardReplication].
type ReplicationNode struct {
	layout
	Alias TabletAlias
}

func (n *ReplicationNode) fields() []field {
	return []field{aliasField(1, "tablet_alias", &n.Alias)}
}

func (r *ShardReplication) index(a TabletAlias) int {
	return slices.IndexFunc(r.Nodes, func(n ReplicationNode) bool { return n.Alias == a })
}

// check tells what InitTablet can't store.
func (t *Tablet) check() error {
	if t.Alias.IsZero() {
		return &NameError{Kind: "tablet alias", Reason: "it is empty"}
	}
	if err := checkNewCell(t.Alias.Cell); err != nil {
		return err
	}
	if err := checkShardOf(t.Keyspace, t.Shard); err != nil {
		return err
	}
	if t.Type == TabletUnknown || tabletTypes[t.Type] == "" {
		return &NameError{Kind: "tablet type", Name: t.Type.String(), Reason: "a tablet needs a known one"}
	}
	if t.MySQLHostname == "" && t.Hostname == "" {
		return &NameError{Kind: "host", Reason: fmt.Sprintf("tablet %s has none", t.Alias)}
	}
	if t.MySQLPort < 0 || t.MySQLPort > 65535 {
		return &NameError{Kind: "MySQL port", Name: strconv.Itoa(int(t.MySQLPort)), Reason: "it is not from 0 to 65535"}
	}
	return nil
}

// InitTablet adds a tablet to a shard that exists, in a cell that exists, under an alias that does not
// ([ErrNodeExists]). MySQLHostname and Hostname stand for one another if one is empty; the key range is the
// shard's. A tablet of type primary becomes the shard's primary; [*PrimaryExistsError] says that it has another.
func (s *Server) InitTablet(ctx context.Context, t Tablet) (err error) {
	if err := t.check(); err != nil {
		return err
	}
	c, err := s.CellConn(ctx, t.Alias.Cell)
	if err != nil {
		return err
	}
	shard, err := s.Shard(ctx, t.Keyspace, t.Shard)
	if err != nil {
		return err
	}
	if t.MySQLHostname == "" {
		t.MySQLHostname = t.Hostname
	}
	if t.Hostname == "" {
		t.Hostname = t.MySQLHostname
	}
	t.KeyRange = shard.KeyRange

	lock, err := s.LockShard(ctx, t.Keyspace, t.Shard, LockOptions{Action: "InitTablet " + t.Alias.String()})
	if err != nil {
		return err
	}
	defer lock.release(&err)
	ctx = lock.Context()
	if t.Type == TabletPrimary {
		if shard, err = s.Shard(ctx, t.Keyspace, t.Shard); err != nil {
			return err
		}
		if !shard.PrimaryAlias.IsZero() && shard.PrimaryAlias != t.Alias {
			return &PrimaryExistsError{Keyspace: t.Keyspace, Shard: t.Shard, Primary: shard.PrimaryAlias}
		}
		if t.PrimaryTermStart.IsZero() {
			t.PrimaryTermStart = time.Now().UTC()
		}
	}
	if err := create(ctx, c, tabletKey(t.Alias), &t); err != nil {
		return err
	}
	if err := s.enlist(ctx, c, &t); err != nil {
		// The tablet must not stay half-made: it would be in the way of the next try.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
		defer cancel()
		return errors.Join(err, remove(ctx, c, &t))
	}
	return nil
}

// enlist makes a new tablet known to its shard.
func (s *Server) enlist(ctx context.Context, c Conn, t *Tablet) error {
	err := upsert(ctx, c, replicationKey(t.Keyspace, t.Shard), func(r *ShardReplication) error {
		if r.index(t.Alias) < 0 {
			r.Nodes = append(r.Nodes, ReplicationNode{Alias: t.Alias})
		}
		return nil
	})
	if err != nil || t.Type != TabletPrimary {
		return err
	}
	return s.UpdateShard(ctx, t.Keyspace, t.Shard, func(r *Shard) error {
		r.PrimaryAlias, r.PrimaryTermStart = t.Alias, t.PrimaryTermStart
		return nil
	})
}

// remove removes a tablet from its cell.
func remove(ctx context.Context, c Conn, t *Tablet) error {
	err := update(ctx, c, replicationKey(t.Keyspace, t.Shard), func(r *ShardReplication) error {
		r.Nodes = slices.DeleteFunc(r.Nodes, func(n ReplicationNode) bool { return n.Alias == t.Alias })
		return nil
	})
	if ignoreMissing(err) != nil {
		return err
	}
	return c.Delete(ctx, tabletKey(t.Alias), AnyVersion)
}

// SetPrimary makes a tablet the primary of its shard and the former primary a replica, in the records only: it
// promotes no MySQL server.
func (s *Server) SetPrimary(ctx context.Context, keyspace, shard string, alias TabletAlias) (err error) {
	if err := checkShardOf(keyspace, shard); err != nil {
		return err
	}
	t, err := s.Tablet(ctx, alias)
	if err != nil {
		return err
	}
	if t.Keyspace != keyspace || t.Shard != shard {
		return &NameError{Kind: "tablet alias", Name: alias.String(), Reason: fmt.Sprintf("it belongs to %s/%s, not %s/%s", t.Keyspace, t.Shard, keyspace, shard)}
	}
	lock, err := s.LockShard(ctx, keyspace, shard, LockOptions{Action: "SetPrimary " + alias.String()})
	if err != nil {
		return err
	}
	defer lock.release(&err)
	ctx = lock.Context()
	r, err := s.Shard(ctx, keyspace, shard)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	if former := r.PrimaryAlias; former != alias && !former.IsZero() {
		err := s.UpdateTablet(ctx, former, func(t *Tablet) error {
			t.Type, t.PrimaryTermStart = TabletReplica, time.Time{}
			return nil
		})
		if ignoreMissing(err) != nil {
			return err
		}
	}
	err = s.UpdateTablet(ctx, alias, func(t *Tablet) error {
		t.Type, t.PrimaryTermStart = TabletPrimary, now
		return nil
	})
	if err != nil {
		return err
	}
	return s.UpdateShard(ctx, keyspace, shard, func(r *Shard) error {
		r.PrimaryAlias, r.PrimaryTermStart = alias, now
		return nil
	})
}

// Tablet returns a tablet's record, or [ErrNoNode].
func (s *Server) Tablet(ctx context.Context, alias TabletAlias) (*Tablet, error) {
	if err := checkName("cell", alias.Cell); err != nil {
		return nil, err
	}
	c, err := s.CellConn(ctx, alias.Cell)
	if err != nil {
		return nil, err
	}
	t, _, err := read[Tablet](ctx, c, tabletKey(alias))
	return t, err
}

// UpdateTablet changes a tablet's record; fn may be called more than once. It must not change the alias, keyspace
// or shard.
func (s *Server) UpdateTablet(ctx context.Context, alias TabletAlias, fn func(*Tablet) error) error {
	if err := checkName("cell", alias.Cell); err != nil {
		return err
	}
	c, err := s.CellConn(ctx, alias.Cell)
	if err != nil {
		return err
	}
	return update(ctx, c, tabletKey(alias), func(t *Tablet) error {
		was := *t
		if err := fn(t); err != nil {
			return err
		}
		if t.Alias != was.Alias || t.Keyspace != was.Keyspace || t.Shard != was.Shard {
			return &NameError{Kind: "tablet alias", Name: alias.String(), Reason: "a tablet can't move; delete it and create another"}
		}
		return nil
	})
}

// DeleteTablet removes a tablet, also as its shard's primary.
func (s *Server) DeleteTablet(ctx context.Context, alias TabletAlias) error {
	t, err := s.Tablet(ctx, alias)
	if err != nil {
		return err
	}
	c, err := s.CellConn(ctx, alias.Cell)
	if err != nil {
		return err
	}
	err = s.UpdateShard(ctx, t.Keyspace, t.Shard, func(r *Shard) error {
		if r.PrimaryAlias == alias {
			r.PrimaryAlias, r.PrimaryTermStart = TabletAlias{}, time.Time{}
		}
		return nil
	})
	if ignoreMissing(err) != nil {
		return err
	}
	return remove(ctx, c, t)
}
