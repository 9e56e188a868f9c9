package mount

import (
	"context"
	"errors"
	"fmt"

	"github.com/tablehaul/tablehaul/topo"
)

// RegisterOptions say how a cluster is registered. The zero value checks it, which for a mysql cluster needs
// Credentials.
type RegisterOptions struct {
	// Credentials log in at the servers of a mysql cluster for the checks. They are not stored.
	Credentials Credentials
	// SkipChecks registers the cluster without contacting it.
	SkipChecks bool
}

// Register gives a cluster its name in ts, after a look whether it can be used: the topology of a Vitess cluster
// answers and has cells and a keyspace with a serving shard and a primary; the servers of a mysql cluster accept
// the login, one of them is the primary and the others its replicas. It takes about 5 s if a server does not answer.
//
// If anything is wrong, nothing is stored. The error is a [*topo.NameError] or [*ConfigError], or several joined, an
// [*ExistsError], or a [*CheckError] that has everything the look has found.
func Register(ctx context.Context, ts *topo.Server, c Cluster, opts RegisterOptions) error {
	c = c.clone()
	errs := []error{validateName(c.Name), c.validate()}
	if c.Type == MySQL && opts.Credentials == nil && !opts.SkipChecks {
		errs = append(errs, errNoCredentials)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	have, err := ts.ExternalCluster(ctx, c.Name)
	if err == nil {
		return &ExistsError{Name: c.Name, Type: Type(have.Kind)}
	}
	if !errors.Is(err, topo.ErrNoNode) {
		return fmt.Errorf("register mount %q: %w", c.Name, err)
	}
	if !opts.SkipChecks {
		if err := check(ctx, ts, c, opts.Credentials); err != nil {
			return err
		}
	}
	err = ts.CreateExternalCluster(ctx, topo.ExternalCluster{Name: c.Name, Kind: string(c.Type), Topo: c.Topo, Hosts: c.Hosts})
	if !errors.Is(err, topo.ErrNodeExists) {
		return wrap(err, "register mount", c.Name)
	}
	// Somebody else was quicker, and may have been of the other type.
	have, err = ts.ExternalCluster(ctx, c.Name)
	if err != nil {
		return fmt.Errorf("register mount %q: %w", c.Name, err)
	}
	return &ExistsError{Name: c.Name, Type: Type(have.Kind)}
}

// Show returns the cluster with a name, or a [*NotFoundError] that has the names there are.
func Show(ctx context.Context, ts *topo.Server, name string) (*Cluster, error) {
	e, err := ts.ExternalCluster(ctx, name)
	if errors.Is(err, topo.ErrNoNode) {
		return nil, notFound(ctx, ts, name)
	}
	if err != nil {
		return nil, wrap(err, "mount", name)
	}
	return &Cluster{Name: e.Name, Type: Type(e.Kind), Topo: e.Topo, Hosts: e.Hosts}, nil
}

// List returns the names of the mounts, sorted.
func List(ctx context.Context, ts *topo.Server) ([]string, error) {
	names, err := ts.ExternalClusters(ctx)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return names, nil
}

// UnregisterOptions say how a mount is removed.
type UnregisterOptions struct {
	// UsedBy names the workflows that read from a mount, as "keyspace.name"; migrate's Migrator.UsesMount does.
	// An error of it keeps the mount: nobody knows who uses it. Nil removes the mount whoever uses it.
	UsedBy func(ctx context.Context, mount string) ([]string, error)
}

// Unregister takes the name of a cluster back; the cluster is not touched. The error is a [*NotFoundError] or, if
// workflows use the mount, an [*InUseError] that names them.
func Unregister(ctx context.Context, ts *topo.Server, name string, opts UnregisterOptions) error {
	if _, err := Show(ctx, ts, name); err != nil {
		return err
	}
	if opts.UsedBy != nil {
		workflows, err := opts.UsedBy(ctx, name)
		if err != nil {
			return fmt.Errorf("workflows that use mount %q: %w", name, err)
		}
		if len(workflows) > 0 {
			return &InUseError{Name: name, Workflows: workflows}
		}
	}
	err := ts.DeleteExternalCluster(ctx, name)
	if errors.Is(err, topo.ErrNoNode) {
		return notFound(ctx, ts, name)
	}
	return wrap(err, "unregister mount", name)
}

// notFound says that there is no mount of that name, and which there are.
func notFound(ctx context.Context, ts *topo.Server, name string) error {
	known, err := List(ctx, ts)
	if err != nil {
		return err
	}
	return &NotFoundError{Kind: "mount", Name: name, Known: known}
}

func wrap(err error, what, name string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", what, name, err)
}
