package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"

	"github.com/tablehaul/tablehaul/topo"
)

// OpenOptions say how a cluster is opened.
type OpenOptions struct {
	// Credentials log in at the servers of a mysql cluster, which can't be opened without. A Vitess cluster says
	// what it holds without them.
	Credentials Credentials
	// Logger receives a line when part of a cluster can't be read and the rest is enough: a cell of a Vitess cluster whose
	// topology server does not answer, while other cells have the tablets that are wanted. nil discards.
	Logger *slog.Logger
}

var errNoCredentials = &ConfigError{Field: "Credentials", Reason: "none are given, and a mysql cluster can't be read without"}

// Handle is an open cluster. Its methods may be called at once from several goroutines. They answer with what is so
// at the time of the call; nothing is cached but connections.
type Handle struct {
	cluster Cluster
	inside  inside
	closed  atomic.Bool
}

// inside is what a Handle is for one type of cluster.
type inside interface {
	keyspaces(ctx context.Context) ([]string, error)
	shards(ctx context.Context, keyspace string) ([]Shard, error)
	endpoints(ctx context.Context, keyspace, shard string, sel topo.TabletSelector) ([]Endpoint, error)
	// changed says what keeps e from being one of the endpoints now; "" is nothing.
	changed(ctx context.Context, keyspace, shard string, sel topo.TabletSelector, e Endpoint) (string, error)
	vschema(ctx context.Context, keyspace string) (*topo.VSchema, error)
	close() error
}

// Shard is one shard of a keyspace of an outside cluster.
type Shard struct {
	Name     string
	KeyRange topo.KeyRange
}

// Endpoint is one MySQL server of a shard.
type Endpoint struct {
	Host     string
	Port     int
	Database string // the name of the keyspace's database on this server
	Type     topo.TabletType
	Alias    topo.TabletAlias // zero in a mysql cluster
}

// Addr returns "host:port".
func (e Endpoint) Addr() string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

// Open opens a mount. A [*NotFoundError] says that there is none of that name; see [OpenCluster] for the rest.
func Open(ctx context.Context, ts *topo.Server, name string, opts OpenOptions) (*Handle, error) {
	c, err := Show(ctx, ts, name)
	if err != nil {
		return nil, err
	}
	return OpenCluster(ctx, ts, *c, opts)
}

// OpenCluster opens a cluster, registered or not. The topology of a Vitess cluster is opened with the openers of ts.
// It returns when the topology, or one of the MySQL servers, has answered. Errors are [*ConfigError]s, a
// [*topo.NameError] for a cluster without a name, [*topo.ImplementationError], and after about 5 s [*UnreachableError]; [*AccessError] if a MySQL server refuses the
// login and no other accepts it. The caller closes the Handle.
func OpenCluster(ctx context.Context, ts *topo.Server, c Cluster, opts OpenOptions) (*Handle, error) {
	c = c.clone()
	if c.Name == "" { // it would be taken for the local cluster
		return nil, errors.Join(validateName(c.Name), c.validate())
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("mount %q: %w", c.Name, err)
	}
	in, err := open(ctx, ts, c, opts)
	if err != nil {
		return nil, fmt.Errorf("mount %q: %w", c.Name, err)
	}
	return &Handle{cluster: c, inside: in}, nil
}

func open(ctx context.Context, ts *topo.Server, c Cluster, opts OpenOptions) (inside, error) {
	if c.Type == Vitess {
		v, err := openVitess(ctx, ts, c)
		if err != nil {
			return nil, err
		}
		if opts.Logger != nil {
			v.log = opts.Logger
		}
		return v, nil
	}
	return openMySQL(ctx, c, opts.Credentials)
}

// Close closes the connections of h. Calling it again does nothing.
func (h *Handle) Close() error {
	if h.closed.Swap(true) {
		return nil
	}
	return wrap(h.inside.close(), "close mount", h.cluster.Name)
}

// Cluster returns what h was opened with.
func (h *Handle) Cluster() Cluster { return h.cluster.clone() }

func (h *Handle) check() error {
	if h.closed.Load() {
		return fmt.Errorf("mount %q: %w", h.cluster.Name, ErrClosed)
	}
	return nil
}

// Keyspaces returns the names of the keyspaces, sorted. In a mysql cluster these are the databases that the user
// may see, without those of the server itself and of replication tools.
func (h *Handle) Keyspaces(ctx context.Context) ([]string, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	names, err := h.inside.keyspaces(ctx)
	return names, wrap(err, "mount", h.cluster.Name)
}

// Shards returns the shards of a keyspace that serve, ordered by key range. They cover every keyspace id once. In a
// mysql cluster there is one, "0". A [*NotFoundError] says that the keyspace does not exist, a
// [*topo.NoShardsError] that no shard serves.
func (h *Handle) Shards(ctx context.Context, keyspace string) ([]Shard, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	shards, err := h.inside.shards(ctx, keyspace)
	return shards, wrap(err, "mount", h.cluster.Name)
}

// Endpoints returns the servers of a shard that the selector allows, best first: by type, then cell, then number or,
// in a mysql cluster, the order of Hosts. Without types, replicas come before the primary.
//
// The servers of a mysql cluster are in no cell, so the selector's cells don't matter there, and those that do not
// answer, or do not have the database, are left out. The servers of a Vitess cluster are not contacted.
//
// A Vitess cell that can't be read does not matter while others have servers. Types of tablets that serve nobody
// (spare, drained, backup, restore) are a [*ConfigError].
//
// The result is not empty unless there is an error: a [*NotFoundError] for the keyspace, the shard or a cell; a
// [*topo.NoTabletError] if no server fits, joined with the reasons for which some were left out and, where cells could not be
// read, a [*topo.CellError]; a [*PrimariesError].
func (h *Handle) Endpoints(ctx context.Context, keyspace, shard string, sel topo.TabletSelector) ([]Endpoint, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	for _, t := range sel.Types {
		if !t.Serves() {
			return nil, &ConfigError{Field: "Types", Value: t.String(), Reason: "such tablets do not serve; use PRIMARY, REPLICA or RDONLY"}
		}
	}
	ends, err := h.inside.endpoints(ctx, keyspace, shard, sel)
	return ends, wrap(err, "mount", h.cluster.Name)
}

// Check tells whether an endpoint is still one that Endpoints would return for the same selector. A [*ChangedError] says that it is
// not: its tablet is gone, is of another type, has moved to another shard or address, is not the primary any more that it
// was when it was returned, or its shard does not serve. Every other error means that it can't be told now.
//
// Check is cheap: it reads two or three records of the topology, or asks the one server, and of a mysql cluster the others too when
// it has changed its role. As long as there is no other primary, the former one is not told to have changed.
func (h *Handle) Check(ctx context.Context, keyspace, shard string, sel topo.TabletSelector, e Endpoint) error {
	if err := h.check(); err != nil {
		return err
	}
	why, err := h.inside.changed(ctx, keyspace, shard, sel, e)
	if err == nil && why != "" {
		err = &ChangedError{Addr: e.Addr(), Alias: e.Alias, Reason: why}
	}
	return wrap(err, "mount", h.cluster.Name)
}

// VSchema returns the VSchema of a keyspace. It is empty in a mysql cluster, and where a Vitess cluster has none.
func (h *Handle) VSchema(ctx context.Context, keyspace string) (*topo.VSchema, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	v, err := h.inside.vschema(ctx, keyspace)
	return v, wrap(err, "mount", h.cluster.Name)
}
