package routing

import (
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// KeyspaceIDs returns what computes the keyspace ids of a table's rows.
func KeyspaceIDs(t *replication.Table, p *vindex.Placement) (func(replication.Row) ([]byte, error), error) {
	m, err := newMapper(t, p)
	if err != nil {
		return nil, err
	}
	return func(r replication.Row) ([]byte, error) { return m.id(nil, r) }, nil
}
