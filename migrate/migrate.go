package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
)

// A Migrator creates workflows, runs their streams, and ends them. Make it with New; all methods may be called at
// once from several goroutines.
type Migrator struct {
	topo  *topo.Server
	creds mount.Credentials
	opts  Options
	log   *slog.Logger
	pools pools
	// mounts are those that are in use.
	mounts mounts
	// wake tells the parts of Run in this process that a state was changed here.
	wake struct {
		sync.Mutex
		changed chan struct{}
	}
}

// New makes a Migrator for the keyspaces of ts. creds is asked for the account of every MySQL server
// that is connected to, of the target (Server.Cluster is "") and of mounted clusters. New does no I/O. The
// error names every option that makes no sense.
func New(ts *topo.Server, creds mount.Credentials, opts Options) (*Migrator, error) {
	var errs []error
	if ts == nil {
		errs = append(errs, &OptionError{"ts", "no topology is given"})
	}
	if creds == nil {
		errs = append(errs, &OptionError{"creds", "no credentials are given"})
	}
	errs = append(errs, opts.validate())
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	m := &Migrator{topo: ts, creds: creds, opts: opts.withDefaults()}
	m.log = m.opts.Logger
	m.wake.changed = make(chan struct{})
	return m, nil
}

// Close closes the connections that the Migrator has opened. The topology stays open. Run has to have
// returned before.
func (m *Migrator) Close() error { return m.pools.close() }

// Workflow is a handle to the workflow called "keyspace.name", whether it exists or not. A malformed name
// is told by every method, with a *NameError.
func (m *Migrator) Workflow(name string) *Workflow { return &Workflow{m: m, name: name} }

// List names the workflows of a target keyspace, sorted, without the keyspace. The workflows of shards that could be read are
// returned with the error for the others. An unknown keyspace is an ErrNotFound.
func (m *Migrator) List(ctx context.Context, keyspace string) ([]string, error) {
	shards, err := m.targetShards(ctx, keyspace)
	errs := []error{err}
	seen := map[string]bool{}
	for _, s := range shards {
		rows, err := m.streams(ctx, s, "")
		if err != nil {
			errs = append(errs, fmt.Errorf("target shard %s/%s: %w", keyspace, s.shard, err))
		}
		for _, r := range rows {
			seen[r.Workflow] = true
		}
	}
	return sortedKeys(seen), errors.Join(errs...)
}

// UsesMount names the workflows, as "keyspace.name", whose source is the mounted cluster; it is what
// mount.Unregister asks. Keyspaces that can't be read are an error: nobody knows what they use.
func (m *Migrator) UsesMount(ctx context.Context, name string) ([]string, error) {
	keyspaces, err := m.topo.Keyspaces(ctx)
	if err != nil {
		return nil, err
	}
	var users []string
	for _, ks := range keyspaces {
		shards, err := m.topo.Shards(ctx, ks)
		if err != nil {
			return nil, topoError("keyspace", ks, err)
		}
		for _, shard := range shards {
			t, err := m.targetShard(ctx, ks, shard.Name)
			if errors.Is(err, ErrNotFound) {
				continue // without a primary there never was a stream
			}
			var rows []*stream
			if err == nil {
				rows, err = m.streams(ctx, t, "")
			}
			if err != nil {
				return nil, fmt.Errorf("target shard %s/%s: %w", ks, shard.Name, err)
			}
			for _, r := range rows {
				if r.record.Mount == name {
					users = append(users, WorkflowName{ks, r.Workflow}.String())
				}
			}
		}
	}
	slices.Sort(users)
	return slices.Compact(users), nil
}

// changed is closed when a state is next changed by this process.
func (m *Migrator) changed() <-chan struct{} {
	m.wake.Lock()
	defer m.wake.Unlock()
	return m.wake.changed
}

// notify makes the parts of Run look at once.
func (m *Migrator) notify() {
	m.wake.Lock()
	defer m.wake.Unlock()
	close(m.wake.changed)
	m.wake.changed = make(chan struct{})
}
