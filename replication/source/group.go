package source

import (
	"fmt"
	"strings"
	"time"

	gobinlog "github.com/go-mysql-org/go-mysql/replication"

	"github.com/tablehaul/tablehaul/replication"
)

// A group is a transaction of which events have come.
type group struct {
	gtid replication.GTID
	// prepared is the GTID of the XA PREPARE that the transaction settles.
	prepared  replication.GTID
	committed time.Time
	// known is set when the reader had the transaction before: it is not yielded again.
	known bool
	// begun is set after BEGIN or XA START; such a group has an end of its own.
	begun bool
	changes
	ddl *replication.DDL
	// replaced says how the DDL replaced rows of its tables, if it did.
	replaced string
	// keepsColumns says that the DDL leaves columns and primary key as they are.
	keepsColumns bool
	savepoints   []savepoint
}

// A savepoint is a place in a group to which a later ROLLBACK TO may go back.
type savepoint struct {
	name string
	// count is how many changes came before it.
	count int
}

// begin starts a transaction. One that is open had no end of its own, and ends here.
func (a *assembler) begin(ev *gobinlog.GTIDEvent, h *gobinlog.EventHeader) error {
	if g := a.group; g != nil {
		if g.count() > 0 || g.begun {
			return fmt.Errorf("%w: the transaction has no end", ErrMalformedEvent)
		}
		if err := a.commit(); err != nil {
			return err
		}
	}
	if len(ev.SID) != 16 {
		return fmt.Errorf("%w: GTID event", ErrMalformedEvent)
	}
	gtid, err := replication.NewMySQLGTID([16]byte(ev.SID), ev.Tag.String(), uint64(ev.GNO))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformedEvent, err)
	}
	a.group = &group{gtid: gtid, known: a.have.Contains(gtid) && !a.again[gtid], committed: time.Unix(int64(h.Timestamp), 0)}
	if us := ev.ImmediateCommitTimestamp; us > 0 {
		a.group.committed = time.UnixMicro(int64(us))
	}
	return nil
}

// commit ends the transaction.
func (a *assembler) commit() error {
	g := a.group
	if g == nil {
		return ErrNoGTID
	}
	a.group = nil
	return a.yield(g)
}

// yield hands the transaction of g out, unless it is known.
func (a *assembler) yield(g *group) error {
	a.held -= g.bytes
	if g.known || a.have.Contains(g.gtid) {
		return g.close()
	}
	if err := g.flush(); err != nil {
		return err
	}
	t := &replication.Transaction{
		GTID: g.gtid, Prepared: g.prepared, End: a.end(), Committed: g.committed, Changes: g.list, Spill: g.spill, DDL: g.ddl,
	}
	if g.spill != nil {
		t.Changes = nil
	}
	g.changes = changes{}
	if g.ddl != nil {
		for _, name := range g.ddl.Tables {
			if was := a.stale[name]; was == "" {
				a.stale[name] = g.replaced
			}
		}
		if a.altered != nil {
			if err := a.altered(g, a.seen); err != nil {
				return err
			}
		}
	}
	if err := a.emit(t); err != nil {
		return err
	}
	a.have = a.have.Add(g.gtid)
	if !g.prepared.IsZero() {
		a.have = a.have.Add(g.prepared)
	}
	return nil
}

// query handles the statement of a query event.
func (a *assembler) query(ev *gobinlog.QueryEvent, text string) error {
	g := a.group
	if g == nil {
		return ErrNoGTID
	}
	session := sessionOf(ev.StatusVars)
	s, affected, err := a.read(text, session, string(ev.Schema))
	if err != nil {
		return err
	}
	switch s.kind {
	case stmtBegin, stmtXAStart:
		g.begun = true
		return nil
	case stmtCommit:
		return a.commit()
	case stmtRollback:
		if g.count() > 0 {
			return fmt.Errorf("%w: rows of a transaction that was rolled back", ErrUnknownEvent)
		}
		return a.commit()
	case stmtSavepoint:
		g.savepoints = append(g.savepoints, savepoint{s.name, g.count()})
		return nil
	case stmtRollbackTo:
		return a.rollbackTo(s.name)
	case stmtRelease, stmtXAEnd:
		return nil
	case stmtXACommit, stmtXARollback:
		return a.settle(&s)
	case stmtOther, stmtDDL, stmtDML:
	}
	if s.kind != stmtDML {
		a.indirect.fresh = false
	}
	switch {
	case g.known:
	case s.kind == stmtDML && affected != nil:
		return notRow(s.text, "it names an opened table")
	case affected == nil:
		if err := a.checkIndirect(&s); err != nil {
			return err
		}
	default:
		g.ddl = &replication.DDL{
			Schema: string(ev.Schema), Statement: s.text, Tables: affected, SQLMode: session.sqlMode, ReplacesRows: s.replaces,
			ForeignKeys: a.unlogged && changesForeignKeys.MatchString(s.text),
		}
		g.keepsColumns = s.keepsColumns()
		if s.replaces {
			g.replaced = fmt.Sprintf("rows were replaced by %.200q", s.text)
		}
	}
	if g.begun {
		return nil
	}
	return a.commit()
}

// read reads the text of a query event, and finds the opened tables that it changes.
func (a *assembler) read(text string, session querySession, schema string) (s statement, affected []string, err error) {
	texts, err := a.readings(text, session.client)
	for i, text := range texts {
		r := parseStatement(text, session.sqlMode)
		hit := r.affected(a.fold, schema, a.schema, a.names)
		switch {
		case i == 0, r.split && !s.split,
			r.split == s.split && hit != nil && affected == nil,
			r.kind == stmtSavepoint || r.kind == stmtRollbackTo: // the server writes these itself
			s, affected = r, hit
		}
	}
	return s, affected, err
}

// checkIndirect fails if a statement that names no opened table may change one all the same.
func (a *assembler) checkIndirect(s *statement) error {
	in := &a.indirect
	if !s.writes {
		return nil
	}
	if !in.fresh {
		if err := a.readIndirect(in); err != nil {
			return err
		}
	}
	switch {
	case in.hidden:
		return notRow(s.text, "the user lacks SELECT or TRIGGER on all schemas, which would tell whether it changes an opened table")
	case in.concerns(s):
		return notRow(s.text, "it names a view, a routine, or a table with triggers or foreign keys to it")
	}
	return nil
}

// notRow is the error of a change that was logged as a statement.
func notRow(text, why string) error { return fmt.Errorf("%w; %s: %.200q", ErrNotRow, why, text) }

// loadQuery handles LOAD DATA that was logged as a statement: a query event with four numbers more.
func (a *assembler) loadQuery(body []byte) error {
	c := cursor{b: body}
	c.take(8)
	schema := int(c.byte())
	c.take(2)
	vars := int(c.uint(2))
	c.take(4 + 4 + 4 + 1)
	ev := &gobinlog.QueryEvent{StatusVars: c.take(vars), Schema: c.take(schema)}
	c.byte()
	if c.bad {
		return fmt.Errorf("%w: LOAD DATA", ErrMalformedEvent)
	}
	return a.query(ev, string(c.b))
}

// rollbackTo takes back the changes since a savepoint. The server logs it only where it can't cut them
// out of the log itself.
func (a *assembler) rollbackTo(name string) error {
	g := a.group
	for i := len(g.savepoints) - 1; i >= 0; i-- {
		if sp := g.savepoints[i]; strings.EqualFold(sp.name, name) {
			g.savepoints = g.savepoints[:i+1]
			before := g.bytes
			err := g.truncate(sp.count)
			a.held -= before - g.bytes
			return err
		}
	}
	if g.count() > 0 {
		return fmt.Errorf("%w: rollback to savepoint %.64q, which the transaction does not have", ErrMalformedEvent, name)
	}
	return nil
}

// prepare ends the first part of an XA transaction, or all of it (one phase).
func (a *assembler) prepare(body []byte) error {
	g := a.group
	if g == nil {
		return ErrNoGTID
	}
	c := cursor{b: body}
	onePhase := c.byte() != 0
	format, gtrid, bqual := uint32(c.uint(4)), c.uint(4), c.uint(4)
	if gtrid > 64 || bqual > 64 {
		c.bad = true
	}
	id := xid(format, string(c.take(int(gtrid))), string(c.take(int(bqual))))
	if c.bad {
		return fmt.Errorf("%w: XA PREPARE", ErrMalformedEvent)
	}
	if onePhase {
		return a.commit()
	}
	a.group = nil
	if g.known {
		return nil
	}
	if err := g.flush(); err != nil {
		return err
	}
	a.prepared[id] = g
	if a.have.Contains(g.gtid) { // it is read again
		delete(a.again, g.gtid)
		return nil
	}
	// It changes nothing by itself. If reading starts after it some day, its rows are looked for (logReader.seekPrepared): a
	// position that leaves it out would never cover what the server has executed, as long as it is not settled.
	if err := a.emit(&replication.Transaction{GTID: g.gtid, End: a.end(), Committed: g.committed}); err != nil {
		return err
	}
	a.have = a.have.Add(g.gtid)
	return nil
}

// settle handles XA COMMIT and XA ROLLBACK. The rows of the prepared part take effect here.
func (a *assembler) settle(s *statement) error {
	g := a.group
	p := a.prepared[s.name]
	switch {
	case p != nil:
	case a.unknown != nil:
		a.unknown[s.name] = true
	case s.kind == stmtXACommit && !g.known:
		return &preparedError{s.name}
	}
	a.group = nil
	delete(a.prepared, s.name)
	if p == nil {
		return a.yield(g)
	}
	g.prepared = p.gtid
	if s.kind == stmtXACommit && !g.known { // a position that has the commit has the rows
		g.changes, g.ddl, g.replaced = p.changes, p.ddl, p.replaced
		return a.yield(g)
	}
	a.held -= p.bytes
	if err := p.close(); err != nil {
		return err
	}
	return a.yield(g)
}
