package target

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// idlePing is how long a connection may have been idle before it is asked whether it is still alive.
const idlePing = 10 * time.Second

// A store is the Store of one owner of the stream: from one Load to the next.
type store struct {
	t     *Target
	side  *sidecar.DB
	id    int64
	epoch int64
	// maxPacket is the server's max_allowed_packet.
	maxPacket int
	plans     map[*replication.Table]*plan
	// loaders are how chunks are loaded; noInfile is set when the server does not allow it.
	loaders  map[*replication.Table]*loader
	noInfile atomic.Bool

	mu struct {
		sync.Mutex
		// mark is the newest position in the ring.
		mark sidecar.Mark
		// idle are the connections that are not in use; closed ends that.
		idle   []*conn
		closed bool
		// added counts, by table, the spans that were recorded since the last fold.
		added map[string]int
		// drifts counts the lines of type Drift since the log was trimmed.
		drifts int
		// relatives are tables with foreign keys; nil if they have not been asked for.
		relatives map[string]bool
	}
}

func newStore(t *Target, epoch int64, mark sidecar.Mark, v variables) *store {
	s := &store{
		t: t, side: t.side, id: t.cfg.StreamID, epoch: epoch, maxPacket: v.maxPacket,
		plans: make(map[*replication.Table]*plan), loaders: make(map[*replication.Table]*loader),
	}
	for _, table := range t.cfg.Tables {
		p := newPlan(t.cfg.Server.Database, table, t.opts.DatetimeZone, v.rowAlias())
		s.plans[table], s.loaders[table] = p, newLoader(p)
	}
	s.noInfile.Store(!v.localInfile || t.opts.DisableLocalInfile)
	s.mu.mark = mark
	s.mu.added = make(map[string]int)
	s.mu.drifts = keptDrifts // who had the stream before may have left more than that
	return s
}

// Begin takes a connection; the transaction begins on the server with its first statement.
func (s *store) Begin(ctx context.Context) (Tx, error) {
	c, err := s.get(ctx)
	if err != nil {
		return nil, s.classify(ctx, err)
	}
	return &sqlTx{s: s, conn: c}, nil
}

// plan is the plan of a table that can be written. It is only when rows are written that a column must fit: a schema change that comes
// before them in the log may make it so, and the stream is loaded anew after it.
func (s *store) plan(t *replication.Table) (*plan, error) {
	if p := s.plans[t]; p != nil {
		return p, p.misfit
	}
	return nil, &replication.SchemaChangedError{Table: t.Name, What: "the target was not opened with this definition of it"}
}

// get returns an idle connection that is alive, or a new one.
func (s *store) get(ctx context.Context) (*conn, error) {
	for {
		s.mu.Lock()
		var c *conn
		if n := len(s.mu.idle); n > 0 {
			c, s.mu.idle = s.mu.idle[n-1], s.mu.idle[:n-1]
		}
		s.mu.Unlock()
		if c == nil {
			return dial(ctx, s.t.cfg.Server)
		}
		if time.Since(c.used) < idlePing {
			return c, nil
		}
		if _, err := c.run(ctx, "DO 0"); err == nil {
			return c, nil
		}
		c.close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// put gives a connection back, or closes it if it can't be used again.
func (s *store) put(c *conn) {
	s.mu.Lock()
	keep := !c.broken && !s.mu.closed
	if keep {
		s.mu.idle = append(s.mu.idle, c)
	}
	s.mu.Unlock()
	if !keep {
		c.close()
	}
}

// close closes the idle connections, and every other one when it is given back.
func (s *store) close() {
	s.mu.Lock()
	idle := s.mu.idle
	s.mu.idle, s.mu.closed = nil, true
	s.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// kill ends a broken connection on the server's side too, so that a statement that is still running there gives its
// locks back. That it fails means that there is nothing to kill, or no server.
func (s *store) kill(ctx context.Context, c *conn) {
	_, _ = s.t.db.ExecContext(ctx, fmt.Sprintf("KILL %d", c.c.GetConnectionID()))
}

// next is the mark that committing e will leave.
func (s *store) next(e *replication.Entry) sidecar.Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := sidecar.Mark{Seq: s.mu.mark.Seq + 1, Position: e.Position.String(), Transaction: e.Committed}
	if e.Committed.IsZero() {
		m.Transaction = s.mu.mark.Transaction
	}
	return m
}

func (s *store) advanced(m sidecar.Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.mark = m
}

func (s *store) mark() sidecar.Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.mark
}

func (s *store) spanAdded(table string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.added[table]++
}

// record writes a mark by itself, in a transaction of one statement.
func (s *store) record(ctx context.Context, c *conn, m sidecar.Mark) error {
	_, err := c.run(ctx, string(s.side.AppendPosition(nil, s.id, s.epoch, m)))
	if err != nil {
		return s.classify(ctx, s.fenced(err))
	}
	s.advanced(m)
	return nil
}

// qualified is the quoted name of a table on the target.
func (s *store) qualified(table string) string {
	return sqltext.QualifiedIdent(s.t.cfg.Server.Database, table)
}
