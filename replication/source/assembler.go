package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	gobinlog "github.com/go-mysql-org/go-mysql/replication"

	"github.com/tablehaul/tablehaul/replication"
)

// ErrNoGTID means that the log holds transactions without a GTID. Set gtid_mode to ON on the source.
var ErrNoGTID = errors.New("transaction has no GTID (set gtid_mode=ON)")

// A group is a transaction of which events have come.
type group struct {
	gtid replication.GTID
	// prepared is the GTID of the XA PREPARE that the transaction settles.
	prepared  replication.GTID
	committed time.Time
	// known is set when the reader had the transaction before: it is not yielded again.
	known bool
	// begun is set after BEGIN or XA START; such a group has an end of its own.
	begun   bool
	changes []replication.Change
	ddl     *replication.DDL
	// replaced says how the DDL replaced rows of its tables, if it did.
	replaced   string
	savepoints []savepoint
}

// A savepoint is a place in a group to which a later ROLLBACK TO may go back.
type savepoint struct {
	name    string
	changes int
}

// An assembler makes transactions of the events of one connection. A new connection starts a new one: what a broken
// connection left half done is sent again. Its methods are called from one goroutine.
type assembler struct {
	schema string
	// fold says that the server ignores case in names of schemas and tables.
	fold   bool
	tables map[string]*replication.Table
	names  []string
	// have holds the transactions that the reader has yielded; emit yields another, news tells of progress.
	have replication.Position
	emit func(*replication.Transaction) error
	news func(*replication.Transaction) error
	// recheck compares a table with its definition on the server, after a DDL.
	recheck func(name string) error

	// pos is the end of the last event, last the furthest that was told.
	pos, last replication.LogPos
	checksum  bool
	group     *group
	// prepared holds XA transactions that were prepared and neither committed nor rolled back, by xid.
	prepared map[string]*group
	maps     map[uint64]*tableMap
	// stale has the tables that a DDL named, with how their rows were replaced by it, or "".
	stale   map[string]string
	decoder decoder
}

// newAssembler makes one for a connection to the server with the given UUID.
func newAssembler(schema string, tables []*replication.Table, server string, have replication.Position) *assembler {
	a := &assembler{
		schema: schema, tables: make(map[string]*replication.Table, len(tables)), have: have,
		pos:      replication.LogPos{Server: server},
		prepared: make(map[string]*group), maps: make(map[uint64]*tableMap), stale: make(map[string]string),
	}
	for _, t := range tables {
		a.tables[t.Name] = t
		a.names = append(a.names, t.Name)
	}
	return a
}

// HandleEvent takes the next event of the connection. Errors are *LogError, or those of emit and recheck.
func (a *assembler) HandleEvent(e *gobinlog.BinlogEvent) error {
	a.advance(e.Header)
	if err := a.handle(e); err != nil {
		return a.fail(err)
	}
	return nil
}

// fail wraps an error with the place.
func (a *assembler) fail(err error) error {
	if _, ok := errors.AsType[*LogError](err); ok {
		return err
	}
	le := &LogError{Pos: a.pos, Err: err}
	if a.group != nil {
		le.GTID = a.group.gtid
	}
	return le
}

// advance moves to the end of an event. The wire has 32 bits of it; files can be larger.
func (a *assembler) advance(h *gobinlog.EventHeader) {
	if h.LogPos == 0 || h.EventType == gobinlog.ROTATE_EVENT || h.Flags&gobinlog.LOG_EVENT_ARTIFICIAL_F != 0 {
		return
	}
	a.pos.Offset = widen(a.pos.Offset, h.LogPos)
}

// widen finds the first offset from have on whose lower half is low.
func widen(have uint64, low uint32) uint64 {
	wide := have&^(1<<32-1) | uint64(low)
	if wide < have {
		wide += 1 << 32
	}
	return wide
}

// body is an event without header and checksum.
func (a *assembler) body(e *gobinlog.BinlogEvent, nested bool) []byte {
	b := e.RawData[min(gobinlog.EventHeaderSize, len(e.RawData)):]
	if a.checksum && !nested && len(b) >= 4 {
		b = b[:len(b)-4]
	}
	return b
}

func (a *assembler) handle(e *gobinlog.BinlogEvent) error {
	switch ev := e.Event.(type) {
	case *gobinlog.FormatDescriptionEvent:
		a.checksum = ev.ChecksumAlgorithm == gobinlog.BINLOG_CHECKSUM_ALG_CRC32
		return nil
	case *gobinlog.RotateEvent:
		return a.rotate(ev)
	case *gobinlog.HeartbeatEvent:
		return a.heartbeat(e.Header, ev)
	case *gobinlog.PreviousGTIDsEvent:
		return a.tell()
	case *gobinlog.GTIDEvent:
		if e.Header.EventType == gobinlog.ANONYMOUS_GTID_EVENT {
			return ErrNoGTID
		}
		return a.begin(ev, e.Header)
	case *gobinlog.GtidTaggedLogEvent:
		return a.begin(&ev.GTIDEvent, e.Header)
	case *gobinlog.TransactionPayloadEvent:
		for _, inner := range ev.Events {
			if err := a.inGroup(inner, true); err != nil {
				return err
			}
		}
		return nil
	}
	return a.inGroup(e, false)
}

// inGroup handles the events that make up transactions.
func (a *assembler) inGroup(e *gobinlog.BinlogEvent, nested bool) error {
	switch ev := e.Event.(type) {
	case *gobinlog.QueryEvent:
		return a.query(ev, string(ev.Query))
	case *gobinlog.ExecuteLoadQueryEvent:
		return a.loadQuery(a.body(e, nested))
	case *gobinlog.XIDEvent:
		return a.commit()
	case *gobinlog.TableMapEvent:
		return a.tableMap(a.body(e, nested))
	case *gobinlog.RowsEvent:
		return a.rows(e.Header.EventType, a.body(e, nested))
	}
	switch e.Header.EventType {
	case gobinlog.XA_PREPARE_LOG_EVENT:
		return a.prepare(a.body(e, nested))
	case gobinlog.INCIDENT_EVENT:
		return ErrIncident
	case gobinlog.STOP_EVENT, gobinlog.ROWS_QUERY_EVENT, gobinlog.IGNORABLE_EVENT, gobinlog.TRANSACTION_CONTEXT_EVENT,
		gobinlog.VIEW_CHANGE_EVENT, gobinlog.INTVAR_EVENT, gobinlog.RAND_EVENT, gobinlog.USER_VAR_EVENT,
		gobinlog.BEGIN_LOAD_QUERY_EVENT, gobinlog.APPEND_BLOCK_EVENT, gobinlog.DELETE_FILE_EVENT,
		gobinlog.FORMAT_DESCRIPTION_EVENT:
		return nil
	default:
		if e.Header.Flags&gobinlog.LOG_EVENT_IGNORABLE_F != 0 {
			return nil
		}
		return fmt.Errorf("%w: %d", ErrUnknownEvent, e.Header.EventType)
	}
}

// rotate goes to another file.
func (a *assembler) rotate(ev *gobinlog.RotateEvent) error {
	if a.group != nil {
		return fmt.Errorf("%w: the log file ends within a transaction", ErrMalformedEvent)
	}
	if err := a.enter(string(ev.NextLogName), ev.Position); err != nil {
		return err
	}
	return a.tell()
}

// enter sets the place in the log.
func (a *assembler) enter(file string, offset uint64) error {
	n, err := fileNumber(file)
	if err != nil {
		return err
	}
	a.pos.File, a.pos.Offset = n, offset
	return nil
}

// fileNumber is the number that ends the name of a log file.
func fileNumber(name string) (uint64, error) {
	n, err := strconv.ParseUint(name[strings.LastIndexByte(name, '.')+1:], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: log file %.64q", ErrMalformedEvent, name)
	}
	return n, nil
}

// heartbeat tells how far the server is: with everything before the place sent, or left out because it is known here.
func (a *assembler) heartbeat(h *gobinlog.EventHeader, ev *gobinlog.HeartbeatEvent) error {
	if a.group != nil {
		return nil
	}
	n, err := fileNumber(ev.Filename)
	if err != nil {
		return err
	}
	if n != a.pos.File {
		a.pos.File, a.pos.Offset = n, 0
	}
	switch {
	case ev.Version == 2 && ev.Offset > 0:
		a.pos.Offset = max(a.pos.Offset, ev.Offset)
	case h.LogPos > 0:
		a.pos.Offset = widen(a.pos.Offset, h.LogPos)
	}
	return a.tell()
}

// tell yields the news of the present place. Places never go back on one server.
func (a *assembler) tell() error {
	if a.group != nil {
		return nil
	}
	return a.news(&replication.Transaction{End: a.end()})
}

// end is the present place, or the furthest that was told if the server sends something again.
func (a *assembler) end() replication.LogPos {
	if a.last.Server != a.pos.Server || a.last.Before(a.pos) {
		a.last = a.pos
	}
	return a.last
}

// begin starts a transaction. One that is open had no end of its own, and ends here.
func (a *assembler) begin(ev *gobinlog.GTIDEvent, h *gobinlog.EventHeader) error {
	if g := a.group; g != nil {
		if len(g.changes) > 0 || g.begun {
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
	a.group = &group{gtid: gtid, known: a.have.Contains(gtid), committed: time.Unix(int64(h.Timestamp), 0)}
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
	if g.known || a.have.Contains(g.gtid) {
		return nil
	}
	t := &replication.Transaction{
		GTID: g.gtid, Prepared: g.prepared, End: a.end(), Committed: g.committed, Changes: g.changes, DDL: g.ddl,
	}
	if g.ddl != nil {
		for _, name := range g.ddl.Tables {
			if was := a.stale[name]; was == "" {
				a.stale[name] = g.replaced
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
	mode := sqlModeOf(ev.StatusVars)
	s := parseStatement(text, mode)
	switch s.kind {
	case stmtBegin, stmtXAStart:
		g.begun = true
		return nil
	case stmtCommit:
		return a.commit()
	case stmtRollback:
		if len(g.changes) > 0 {
			return fmt.Errorf("%w: rows of a transaction that was rolled back", ErrUnknownEvent)
		}
		return a.commit()
	case stmtSavepoint:
		g.savepoints = append(g.savepoints, savepoint{s.name, len(g.changes)})
		return nil
	case stmtRollbackTo:
		return g.rollbackTo(s.name)
	case stmtRelease, stmtXAEnd:
		return nil
	case stmtXACommit, stmtXARollback:
		return a.settle(&s)
	case stmtOther, stmtDDL, stmtDML:
	}
	affected := s.affected(a.fold, string(ev.Schema), a.schema, a.names)
	switch {
	case g.known || affected == nil:
	case s.kind == stmtDML:
		return fmt.Errorf("%w: %.200q", ErrNotRow, text)
	default:
		g.ddl = &replication.DDL{Schema: string(ev.Schema), Statement: text, Tables: affected, SQLMode: mode}
		if s.replaces {
			g.replaced = fmt.Sprintf("rows were replaced by %.200q", text)
		}
	}
	if g.begun {
		return nil
	}
	return a.commit()
}

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
func (g *group) rollbackTo(name string) error {
	for i := len(g.savepoints) - 1; i >= 0; i-- {
		if sp := g.savepoints[i]; strings.EqualFold(sp.name, name) {
			g.changes = g.changes[:sp.changes]
			g.savepoints = g.savepoints[:i+1]
			return nil
		}
	}
	if len(g.changes) > 0 {
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
	if !g.known {
		a.prepared[id] = g
	}
	return nil
}

// settle handles XA COMMIT and XA ROLLBACK. The rows of the prepared part take effect here, and the GTIDs
// of both parts count together: whoever stops before that gets the prepared part sent again.
func (a *assembler) settle(s *statement) error {
	g := a.group
	p := a.prepared[s.name]
	if p == nil && s.kind == stmtXACommit && !g.known {
		return ErrPreparedBefore
	}
	a.group = nil
	delete(a.prepared, s.name)
	switch {
	case p == nil:
		return a.yield(g)
	case g.known:
		return a.yield(p) // committed before the start position, which had the commit only
	}
	g.prepared = p.gtid
	if s.kind == stmtXACommit {
		g.changes, g.ddl, g.replaced = p.changes, p.ddl, p.replaced
	}
	return a.yield(g)
}

// tableMap takes note of a TABLE_MAP, if it is of an opened table.
func (a *assembler) tableMap(body []byte) error {
	c := cursor{b: body}
	m, err := parseTableMapNames(&c)
	if err != nil {
		return err
	}
	t := a.tables[m.table]
	if t == nil || !sameName(a.fold, m.schema, a.schema) {
		delete(a.maps, m.id)
		return nil
	}
	if replaced, ok := a.stale[m.table]; ok && (a.group == nil || !a.group.known) {
		if replaced != "" {
			return &replication.SchemaChangedError{Table: m.table, What: replaced}
		}
		if err := a.recheck(m.table); err != nil {
			return err
		}
		delete(a.stale, m.table)
	}
	if old := a.maps[m.id]; old != nil && old.same(body) {
		return nil
	}
	if a.group != nil && a.group.known {
		delete(a.maps, m.id)
		return nil // rows of another time, which nobody will look at
	}
	if err := m.parseColumns(&c); err != nil {
		return err
	}
	if err := m.fit(t); err != nil {
		return err
	}
	for id, old := range a.maps {
		if old.table == t {
			delete(a.maps, id) // a table's id changes when its definition is loaded again
		}
	}
	a.maps[m.id] = &tableMap{raw: bytes.Clone(body), table: t, types: m.types}
	return nil
}

// rows decodes a rows event, if it is of an opened table.
func (a *assembler) rows(tp gobinlog.EventType, body []byte) error {
	if a.group == nil {
		return ErrNoGTID
	}
	if len(body) < 8 {
		return fmt.Errorf("%w: rows event is cut", ErrMalformedEvent)
	}
	var id [8]byte
	copy(id[:6], body)
	m := a.maps[binary.LittleEndian.Uint64(id[:])]
	if m == nil || a.group.known {
		return nil
	}
	if tp == gobinlog.PARTIAL_UPDATE_ROWS_EVENT {
		return &replication.RowError{Table: m.table.Name, Err: ErrPartialImage}
	}
	r, err := parseRows(tp, body)
	if err != nil {
		return err
	}
	a.group.changes, err = a.decoder.decode(a.group.changes, m, &r)
	return err
}
