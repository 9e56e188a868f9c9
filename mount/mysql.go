package mount

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/topo"
)

// theShard is the only shard of a database.
const theShard = "0"

// servers are the MySQL servers of a cluster.
type servers struct {
	cluster Cluster
	creds   Credentials
	open    struct {
		sync.Mutex
		pools  map[string]pool // by address
		closed bool
	}
}

type pool struct {
	db   *sql.DB
	user string
}

func newServers(c Cluster, creds Credentials) *servers {
	s := &servers{cluster: c, creds: creds}
	s.open.pools = make(map[string]pool)
	return s
}

func openMySQL(ctx context.Context, c Cluster, creds Credentials) (*servers, error) {
	if creds == nil {
		return nil, errNoCredentials
	}
	s := newServers(c, creds)
	if _, err := s.first(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *servers) close() error {
	s.open.Lock()
	defer s.open.Unlock()
	s.open.closed = true
	var errs []error
	for _, p := range s.open.pools {
		errs = append(errs, p.db.Close())
	}
	clear(s.open.pools)
	return errors.Join(errs...)
}

// pool returns the connections to a server, and opens them if need be.
func (s *servers) pool(ctx context.Context, addr string) (pool, error) {
	s.open.Lock()
	p, ok := s.open.pools[addr]
	s.open.Unlock()
	if ok {
		return p, nil
	}
	cfg, err := s.creds.config(ctx, Server{Cluster: s.cluster.Name, Addr: addr})
	if err != nil {
		return pool{}, err
	}
	// The lock is not held meanwhile: a server that does not answer must not stop the others.
	p = pool{user: cfg.User}
	if p.db, err = mysqlconn.Open(ctx, cfg, mysqlconn.Session{}); err != nil {
		return pool{}, serverError(ctx, addr, cfg.User, err)
	}
	p.db.SetMaxIdleConns(1)

	s.open.Lock()
	defer s.open.Unlock()
	have, ok := s.open.pools[addr]
	switch {
	case s.open.closed:
		return pool{}, errors.Join(ErrClosed, p.db.Close())
	case ok: // another call was quicker
		return have, p.db.Close()
	}
	s.open.pools[addr] = p
	return p, nil
}

// ask runs fn with a server's connections, but not for long.
func (s *servers) ask(ctx context.Context, addr string, fn func(context.Context, *sql.DB) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	defer cancel()
	p, err := s.pool(ctx, addr)
	if err != nil {
		return err
	}
	return serverError(ctx, addr, p.user, fn(ctx, p.db))
}

func (s *servers) describe(ctx context.Context, addr string) (d *server, err error) {
	err = s.ask(ctx, addr, func(ctx context.Context, db *sql.DB) error {
		d, err = describe(ctx, db, addr)
		return err
	})
	return d, err
}

// first returns the server that answers first, or what is wrong with each.
func (s *servers) first(ctx context.Context) (*server, error) {
	asking, stop := context.WithCancel(ctx)
	defer stop()
	var found struct {
		sync.Mutex
		server *server
	}
	errs := make([]error, len(s.cluster.Hosts))
	var g errgroup.Group
	for i, addr := range s.cluster.Hosts {
		g.Go(func() error {
			d, err := s.describe(asking, addr)
			if errs[i] = err; err != nil {
				return nil // one server must not end the others
			}
			found.Lock()
			defer found.Unlock()
			found.server = d
			stop()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if found.server != nil {
		return found.server, nil
	}
	return nil, errors.Join(errs...)
}

// all returns what every server says, in the order of Hosts, and the errors of those that don't answer; where there is
// an error there is no server.
func (s *servers) all(ctx context.Context) ([]*server, []error) {
	out, errs := make([]*server, len(s.cluster.Hosts)), make([]error, len(s.cluster.Hosts))
	var g errgroup.Group
	for i, addr := range s.cluster.Hosts {
		g.Go(func() error {
			out[i], errs[i] = s.describe(ctx, addr)
			return nil // one server must not end the others
		})
	}
	_ = g.Wait() // no function of it fails
	return out, errs
}

// answering returns the servers that answer and the errors of the others. It fails if none answers.
func (s *servers) answering(ctx context.Context) (there []*server, missing, err error) {
	all, errs := s.all(ctx)
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	there = slices.DeleteFunc(all, func(d *server) bool { return d == nil })
	if missing = errors.Join(errs...); len(there) == 0 {
		return nil, nil, missing
	}
	return there, missing, nil
}

// databasesOf returns all databases of some servers, sorted.
func databasesOf(servers []*server) []string {
	names := make(map[string]bool)
	for _, d := range servers {
		for _, name := range d.databases {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (s *servers) keyspaces(ctx context.Context) ([]string, error) {
	there, _, err := s.answering(ctx)
	if err != nil {
		return nil, err
	}
	return databasesOf(there), nil
}

// noKeyspace says that none of the servers has a database.
func (s *servers) noKeyspace(name string, there []*server) error {
	return &NotFoundError{Kind: "keyspace", Name: name, Cluster: s.cluster.Name, Known: databasesOf(there)}
}

func (s *servers) shards(ctx context.Context, keyspace string) ([]Shard, error) {
	// The quickest answer will do, unless it is no: a replica may lag.
	d, err := s.first(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(d.databases, keyspace) {
		there, _, err := s.answering(ctx)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(databasesOf(there), keyspace) {
			return nil, s.noKeyspace(keyspace, there)
		}
	}
	return []Shard{{Name: theShard}}, nil
}

func (s *servers) endpoints(ctx context.Context, keyspace, shard string, sel topo.TabletSelector) ([]Endpoint, error) {
	types := sel.Types
	if len(types) == 0 {
		types = defaultTypes
	}
	there, missing, err := s.answering(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(databasesOf(there), keyspace) {
		return nil, errors.Join(s.noKeyspace(keyspace, there), missing)
	}
	if shard != theShard && shard != "-" {
		return nil, &NotFoundError{Kind: "shard", Name: keyspace + "/" + shard, Cluster: s.cluster.Name, Known: []string{theShard}}
	}
	if primaries := primaries(there); len(primaries) > 1 && slices.Contains(types, topo.TabletPrimary) {
		return nil, &PrimariesError{Cluster: s.cluster.Name, Addrs: primaries}
	}
	var ends []Endpoint
	for i, want := range types {
		for _, d := range there {
			if slices.Contains(types[:i], want) || d.tabletType() != want || !slices.Contains(d.databases, keyspace) {
				continue
			}
			host, port, err := splitHost(d.addr)
			if err != nil {
				return nil, err
			}
			ends = append(ends, Endpoint{Host: host, Port: port, Database: keyspace, Type: want})
		}
	}
	if len(ends) == 0 {
		none := &topo.NoTabletError{Keyspace: keyspace, Shard: theShard, Types: slices.Clone(types)}
		return nil, &noServerError{there: there, keyspace: keyspace, none: none, missing: missing}
	}
	return ends, nil
}

// defaultTypes are those of a selector that names none.
var defaultTypes = []topo.TabletType{topo.TabletReplica, topo.TabletPrimary}

func (s *servers) changed(ctx context.Context, _, _ string, sel topo.TabletSelector, was Endpoint) (string, error) {
	addr := was.Addr()
	i := slices.IndexFunc(s.cluster.Hosts, func(h string) bool {
		host, port, err := splitHost(h)
		return err == nil && host == was.Host && port == was.Port
	})
	if i < 0 {
		return "it is not a server of the cluster any more", nil
	}
	d, err := s.describe(ctx, s.cluster.Hosts[i])
	if err != nil {
		return "", err
	}
	types := sel.Types
	if len(types) == 0 {
		types = defaultTypes
	}
	now := d.tabletType()
	switch {
	case now == was.Type:
		return "", nil
	case now == topo.TabletPrimary:
		if slices.Contains(types, now) {
			return "", nil
		}
		return "it takes writes now", nil
	}
	there, _, err := s.answering(ctx)
	if err != nil {
		return "", err
	}
	for _, other := range primaries(there) {
		if other != addr {
			return "server " + other + " is the primary now", nil
		}
	}
	return "", nil // the next primary isn't known yet
}

func (s *servers) vschema(context.Context, string) (*topo.VSchema, error) {
	return &topo.VSchema{}, nil
}

// primaries returns the addresses of the servers that accept writes.
func primaries(servers []*server) []string {
	var addrs []string
	for _, d := range servers {
		if !d.readOnly() {
			addrs = append(addrs, d.addr)
		}
	}
	return addrs
}

// noServerError is a *topo.NoTabletError with the words for servers that are no tablets.
type noServerError struct {
	keyspace string
	there    []*server
	none     *topo.NoTabletError
	missing  error // why other servers were not asked
}

func (e *noServerError) Error() string {
	var have []string
	for _, d := range e.there {
		text := fmt.Sprintf("%s is %s", d.addr, d.tabletType())
		if !slices.Contains(d.databases, e.keyspace) {
			text += " and does not have the database"
		}
		have = append(have, text)
	}
	if e.missing != nil {
		have = append(have, strings.ReplaceAll(e.missing.Error(), "\n", "; "))
	}
	var types []string
	for _, t := range e.none.Types {
		types = append(types, t.String())
	}
	return fmt.Sprintf("no server of database %s is %s (%s)", e.keyspace, strings.Join(types, " or "), strings.Join(have, "; "))
}

func (e *noServerError) Unwrap() []error {
	if e.missing == nil {
		return []error{e.none}
	}
	return []error{e.none, e.missing}
}
