package target

import (
	"context"
	"net"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/packet"

	"github.com/tablehaul/tablehaul/replication"
)

// What the tests look at from outside of the package.
var (
	Requalify       = requalify
	SQLMode         = sqlMode
	AlterStatements = alterStatements
)

func ToUTC(zone *time.Location, v []byte) ([]byte, error) { return replication.ToUTC(zone, v) }

// Definitions is the hash of tables' definitions that a schema change's mark holds.
func Definitions(ctx context.Context, t *Target, tables []string) (string, error) {
	s, err := t.loaded()
	if err != nil {
		return "", err
	}
	return s.definitions(ctx, tables)
}

// Loads tells whether chunks of a table are loaded by LOAD DATA.
func Loads(t *Target, table *replication.Table) bool {
	s, err := t.loaded()
	return err == nil && !s.noInfile.Load() && !s.loaders[table].off.Load()
}

// WriteMisfits makes a target write what the definition of its columns does not fit.
func WriteMisfits(t *Target) {
	if s, err := t.loaded(); err == nil {
		for _, p := range s.plans {
			p.misfit = nil
		}
	}
}

// InfileName is the name that LOAD DATA statements use.
const InfileName = infileName

// Tables are those that a target was opened with.
func Tables(t *Target) []*replication.Table { return t.cfg.Tables }

// Line is the line of a file for LOAD DATA that a row becomes.
func Line(table *replication.Table, r replication.Row) ([]byte, error) {
	l := newLoader(newPlan("d", table, nil, false))
	values, err := l.plan.values(nil, r)
	return l.appendRow(nil, values), err
}

// Talk sends a statement over nc, with rows to load or without, and reads the answer.
func Talk(ctx context.Context, nc net.Conn, load bool, table *replication.Table, rows ...replication.Row) error {
	c := &conn{c: &client.Conn{Conn: packet.NewConn(nc)}}
	if load {
		c.infile = &infile{loader: newLoader(newPlan("d", table, nil, false)), rows: rows}
	}
	_, err := c.run(ctx, "LOAD DATA")
	return err
}
