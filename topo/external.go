package topo

import (
	"context"
	"errors"
	"slices"
)

// Kinds of external clusters.
const (
	ExternalVitess = "vitess" // a Vitess cluster, known by its topology
	ExternalMySQL  = "mysql"  // plain MySQL or MariaDB servers, known by their addresses
)

var externalKinds = []string{ExternalVitess, ExternalMySQL}

// ExternalCluster is a cluster outside this topology that was given a name here. Package mount says what can be
// done with it. Those of kind [ExternalVitess] are Vitess's own records.
type ExternalCluster struct {
	layout
	Name, Kind string   // not part of the record
	Topo       Address  // of kind vitess
	Hosts      []string // of kind mysql: "host:port", in the order given
}

func (e *ExternalCluster) fields() []field {
	if e.Kind == ExternalMySQL {
		return []field{stringsField{label{1, "hosts"}, &e.Hosts}}
	}
	return []field{valueField[Address, addressMessage, *addressMessage]{
		label{1, "topo_config"},
		&e.Topo,
		func(a Address) addressMessage { return addressMessage{a: a} },
		func(m addressMessage) (Address, error) { return m.a, nil },
	}}
}

// addressMessage is topodata.TopoConfig.
type addressMessage struct {
	layout
	a Address
}

func (m *addressMessage) fields() []field {
	return []field{
		stringField{label{1, "topo_type"}, &m.a.Type},
		stringField{label{2, "server"}, &m.a.Server},
		stringField{label{3, "root"}, &m.a.Root},
	}
}

func (e *ExternalCluster) check() error {
	if !slices.Contains(externalKinds, e.Kind) {
		return &NameError{Kind: "external cluster type", Name: e.Kind, Reason: "it is neither vitess nor mysql"}
	}
	return checkNewName("external cluster", e.Name)
}

// CreateExternalCluster stores an external cluster under a name that none has yet, of either kind:
// [ErrNodeExists].
func (s *Server) CreateExternalCluster(ctx context.Context, e ExternalCluster) (err error) {
	if err := e.check(); err != nil {
		return err
	}
	// The kinds have keys of their own; the lock makes a name unique across them.
	lock, err := s.LockName(ctx, externalPath+"/"+e.Name, LockOptions{Action: "CreateExternalCluster " + e.Name})
	if err != nil {
		return err
	}
	defer lock.release(&err)
	have, err := s.ExternalCluster(lock.Context(), e.Name)
	if err == nil {
		return &NodeError{Key: externalKey(have.Kind, have.Name), Err: ErrNodeExists}
	}
	if !errors.Is(err, ErrNoNode) {
		return err
	}
	return create(lock.Context(), s.global, externalKey(e.Kind, e.Name), &e)
}

// ExternalCluster returns the external cluster with a name, of either kind, or [ErrNoNode].
func (s *Server) ExternalCluster(ctx context.Context, name string) (*ExternalCluster, error) {
	if err := checkName("external cluster", name); err != nil {
		return nil, err
	}
	for _, kind := range externalKinds {
		key := externalKey(kind, name)
		value, _, err := s.global.Get(ctx, key)
		if errors.Is(err, ErrNoNode) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e := &ExternalCluster{Name: name, Kind: kind}
		if err := decode(value, e); err != nil {
			return nil, &RecordError{Key: key, Err: err}
		}
		return e, nil
	}
	return nil, &NodeError{Key: externalKey("*", name), Err: ErrNoNode}
}

// ExternalClusters returns the names of all external clusters, sorted.
func (s *Server) ExternalClusters(ctx context.Context) ([]string, error) {
	var all []string
	for _, kind := range externalKinds {
		names, err := list(ctx, s.global, externalPath+"/"+kind)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// DeleteExternalCluster removes the external cluster with a name, or fails with [ErrNoNode].
func (s *Server) DeleteExternalCluster(ctx context.Context, name string) error {
	e, err := s.ExternalCluster(ctx, name)
	if err != nil {
		return err
	}
	return s.global.Delete(ctx, externalKey(e.Kind, name), AnyVersion)
}
