package mount

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/topo"
)

// checkTimeout bounds all checks of one cluster together. Topology servers have shorter limits of their own.
const checkTimeout = 20 * time.Second

// check returns a *CheckError with everything that is wrong with c, or the error of ctx.
func check(ctx context.Context, ts *topo.Server, c Cluster, creds Credentials) error {
	limited, cancel := context.WithTimeoutCause(ctx, checkTimeout, fmt.Errorf("no answer within %v", checkTimeout))
	defer cancel()
	var findings []Finding
	if c.Type == Vitess {
		findings = checkVitess(limited, ts, c)
	} else {
		findings = checkMySQL(limited, c, creds)
	}
	switch {
	case ctx.Err() != nil: // then it is not the cluster's fault
		return fmt.Errorf("check cluster %q: %w", c.Name, context.Cause(ctx))
	case len(findings) > 0:
		return &CheckError{Cluster: c.Name, Findings: findings}
	}
	return nil
}

// errorFinding is a finding that an error says all about.
func errorFinding(err error) Finding {
	f := Finding{Message: err.Error(), Err: err}
	if e, ok := errors.AsType[*AccessError](err); ok {
		f = Finding{Server: e.Addr, Message: fmt.Sprintf("access denied for user %q: %v", e.User, cause(e.Err)), Fix: "check user, password and host", Err: err}
	} else if e, ok := errors.AsType[*UnreachableError](err); ok {
		f = Finding{Server: e.Addr, Message: fmt.Sprintf("unreachable: %v", cause(e.Err)), Fix: "check the address, and that the server runs", Err: err}
	}
	return f
}

// checkVitess looks for cells, and for one keyspace that can be read.
func checkVitess(ctx context.Context, ts *topo.Server, c Cluster) (findings []Finding) {
	v, err := openVitess(ctx, ts, c)
	if err != nil {
		return []Finding{errorFinding(err)}
	}
	defer func() {
		if err := v.close(); err != nil {
			findings = append(findings, errorFinding(err))
		}
	}()
	at := func(message, fix string) Finding {
		return Finding{Server: c.Topo.Server, Object: c.Topo.Root, Message: message, Fix: fix}
	}
	cells, err := v.ts.Cells(ctx)
	if err != nil {
		return []Finding{errorFinding(v.unreachable(err))}
	}
	if len(cells) == 0 {
		return []Finding{at("there is no cell", "give the root of the global topology; it often ends in /global")}
	}
	keyspaces, err := v.keyspaces(ctx)
	if err != nil {
		return []Finding{errorFinding(err)}
	}
	if len(keyspaces) == 0 {
		return []Finding{at("there is no keyspace", "")}
	}
	return v.checkKeyspaces(ctx, keyspaces)
}

// checkKeyspaces returns nothing if one of the keyspaces can be read, and otherwise why none can.
func (v *vitess) checkKeyspaces(ctx context.Context, names []string) []Finding {
	asking, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(names))
	usable := make([]bool, len(names))
	var g errgroup.Group
	g.SetLimit(16)
	for i, name := range names {
		g.Go(func() error {
			if errs[i] = v.checkKeyspace(asking, name); errs[i] == nil {
				usable[i] = true
				stop()
			}
			return nil // one keyspace must not end the others
		})
	}
	_ = g.Wait() // no function of it fails
	if slices.Contains(usable, true) {
		return nil
	}
	var findings []Finding
	for i, name := range names {
		f := Finding{Object: "keyspace " + name, Message: errs[i].Error(), Err: errs[i]}
		if e, ok := errors.AsType[*UnreachableError](errs[i]); ok {
			f = errorFinding(e)
			f.Object, f.Err = "keyspace "+name, errs[i]
		}
		findings = append(findings, f)
	}
	return findings
}

// checkKeyspace tells why a keyspace has no serving shard with a primary.
func (v *vitess) checkKeyspace(ctx context.Context, name string) error {
	shards, err := v.ts.ServingShards(ctx, name)
	if err != nil {
		return v.unreachable(err)
	}
	var errs []error
	for _, s := range shards {
		primary, err := v.ts.Primary(ctx, name, s.Name)
		switch {
		case err != nil:
			errs = append(errs, v.unreachable(err))
		case primary.MySQLAddr() == "":
			errs = append(errs, fmt.Errorf("primary %s of shard %s/%s: its record has no address of a MySQL server", primary.Alias, name, s.Name))
		default:
			return nil
		}
	}
	return errors.Join(errs...)
}

// checkMySQL looks at every server, and whether they make one primary and its replicas.
func checkMySQL(ctx context.Context, c Cluster, creds Credentials) (findings []Finding) {
	s := newServers(c, creds)
	defer func() {
		if err := s.close(); err != nil {
			findings = append(findings, errorFinding(err))
		}
	}()
	all, errs := s.all(ctx)
	var there []*server
	for i, d := range all {
		if errs[i] != nil {
			findings = append(findings, errorFinding(errs[i]))
			continue
		}
		if f, ok := d.checkKind(); !ok {
			findings = append(findings, f)
			continue
		}
		there = append(there, d)
	}
	findings = append(findings, checkRoles(there, len(there) == len(all))...)
	findings = append(findings, checkSame(there)...)
	return append(findings, s.checkReplicas(ctx, there)...)
}

// checkKind tells whether the server is MySQL or MariaDB, and not something that speaks the same protocol.
func (s *server) checkKind() (Finding, bool) {
	version := s.variables["version"]
	for _, other := range []string{"TiDB", "Vitess"} {
		if strings.Contains(strings.ToLower(version), strings.ToLower(other)) {
			return Finding{Server: s.addr, Message: fmt.Sprintf("it is neither MySQL nor MariaDB: version %q", version), Fix: "give the addresses of MySQL servers"}, false
		}
	}
	if version == "" {
		return Finding{Server: s.addr, Message: "it is neither MySQL nor MariaDB: it has no version", Fix: "give the addresses of MySQL servers"}, false
	}
	return Finding{}, true
}

// checkRoles looks for exactly one primary. That there is none is known only if all servers have answered.
func checkRoles(there []*server, complete bool) []Finding {
	switch addrs := primaries(there); {
	case len(addrs) == 0 && complete:
		return []Finding{{Message: "no server is the primary: read_only is on everywhere", Fix: "add the primary's address"}}
	case len(addrs) > 1:
		return []Finding{{
			Message: fmt.Sprintf("%d servers accept writes: %s", len(addrs), strings.Join(addrs, ", ")),
			Fix:     "give the addresses of one primary and its replicas, and set read_only on the replicas",
		}}
	}
	return nil
}

// checkSame looks for one server under two addresses.
func checkSame(there []*server) []Finding {
	var findings []Finding
	seen := make(map[string]string)
	for _, d := range there {
		uuid := d.variables["server_uuid"]
		if uuid == "" {
			continue
		}
		if first, ok := seen[uuid]; ok {
			findings = append(findings, Finding{
				Server:  d.addr,
				Message: fmt.Sprintf("it has the same server_uuid as %s: %s", first, uuid),
				Fix:     "give each server once; a copied server needs a new auto.cnf",
			})
			continue
		}
		seen[uuid] = d.addr
	}
	return findings
}

// checkReplicas looks whether the servers that refuse writes replicate from somewhere, as far as the user may see
// that.
func (s *servers) checkReplicas(ctx context.Context, there []*server) []Finding {
	found := make([]*Finding, len(there))
	var g errgroup.Group
	for i, d := range there {
		if !d.readOnly() || d.replicatesOtherwise() || len(there) == 1 {
			continue
		}
		g.Go(func() error {
			n := 0
			err := s.ask(ctx, d.addr, func(ctx context.Context, db *sql.DB) (err error) {
				n, err = d.channels(ctx, db)
				return err
			})
			switch {
			case mysqlerr.AccessDenied(err):
			case err != nil:
				f := errorFinding(err)
				found[i] = &f
			case n == 0:
				found[i] = &Finding{Server: d.addr, Message: "read_only is on, but it is a replica of no server", Fix: "leave it out, or set up replication"}
			}
			return nil // one server must not end the others
		})
	}
	_ = g.Wait() // no function of it fails
	var findings []Finding
	for _, f := range found {
		if f != nil {
			findings = append(findings, *f)
		}
	}
	return findings
}
