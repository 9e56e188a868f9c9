package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	gobinlog "github.com/go-mysql-org/go-mysql/replication"

	"github.com/tablehaul/tablehaul/replication"
)

// ErrNoGTID means that the log holds transactions without a GTID. Set gtid_mode to ON on the source.
var ErrNoGTID = errors.New("transaction has no GTID (set gtid_mode=ON)")

// An assembler makes transactions of the events of one connection. A new connection starts a new one: what a broken
// connection left half done is sent again. Its methods are called from one goroutine.
type assembler struct {
	schema string
	// fold says that the server ignores case in names of schemas and tables.
	fold bool
	// unlogged says that the server does not log what foreign keys do.
	unlogged bool
	tables   map[string]*replication.Table
	names    []string
	// have holds the transactions that the reader has yielded; emit yields another, news tells of progress. Again are
	// those of them that were prepared only, and are sent once more for the sake of their rows.
	have  replication.Position
	again map[replication.GTID]bool
	emit  func(*replication.Transaction) error
	news  func(*replication.Transaction) error
	// recheck compares a table with its definition on the server, after a DDL; altered is called for a DDL before it is emitted.
	recheck func(name string) error
	altered func(g *group, seen map[string]bool) error
	// convert makes UTF-8 of a statement in the character set of a collation; false if it is not in it.
	convert func(text string, collation uint16) (string, bool, error)
	// indirect is what changes of rows may hide behind; readIndirect reads it from the server.
	indirect     indirect
	readIndirect func(*indirect) error

	// pos is the end of the last event, last the furthest that was told.
	pos, last replication.LogPos
	checksum  bool
	group     *group
	// prepared holds XA transactions that were prepared and neither committed nor rolled back, by xid.
	prepared map[string]*group
	// unknown, unless it is nil, takes the xids of transactions that are settled here and were prepared before; otherwise they are errors.
	unknown map[string]bool
	maps    map[uint64]*tableMap
	// stale has the tables that a DDL named, with how their rows were replaced by it, or "".
	stale map[string]string
	// seen has the tables of which there were rows.
	seen    map[string]bool
	decoder decoder
	// memory bounds the changes that are held here, in the group and in prepared ones; held is what they take. What
	// is more goes to files in dir.
	memory, held int
	dir          string
}

// newAssembler makes one for a connection to the server with the given UUID.
func newAssembler(schema string, tables []*replication.Table, server string, have replication.Position) *assembler {
	a := &assembler{
		schema: schema, tables: make(map[string]*replication.Table, len(tables)), have: have,
		pos:    replication.LogPos{Server: server},
		memory: 16 << 20,
		again:  make(map[replication.GTID]bool), prepared: make(map[string]*group), maps: make(map[uint64]*tableMap), stale: make(map[string]string), seen: make(map[string]bool),
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
func (a *assembler) advance(h *gobinlog.EventHeader) { a.pos = a.after(h) }

// after is the end of the next event.
func (a *assembler) after(h *gobinlog.EventHeader) replication.LogPos {
	next := a.pos
	if h.LogPos != 0 && h.EventType != gobinlog.ROTATE_EVENT && h.Flags&gobinlog.LOG_EVENT_ARTIFICIAL_F == 0 {
		next.Offset = widen(next.Offset, h.LogPos)
	}
	return next
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
	if a.summed(e.Header.EventType, nested) && len(b) >= crc32.Size {
		b = b[:len(b)-crc32.Size]
	}
	return b
}

// summed tells whether a checksum ends an event. A FORMAT_DESCRIPTION, which says whether others do, is read with its own.
func (a *assembler) summed(tp gobinlog.EventType, nested bool) bool {
	return a.checksum && !nested && tp != gobinlog.FORMAT_DESCRIPTION_EVENT
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

// table returns the opened table of a name in the log; nil if it is none. A server that ignores case may log a table
// as a statement wrote it (lower_case_table_names=2).
func (a *assembler) table(schema, name string) *replication.Table {
	if !sameName(a.fold, schema, a.schema) {
		return nil
	}
	if t := a.tables[name]; t != nil || !a.fold {
		return t
	}
	for _, t := range a.tables {
		if sameName(true, t.Name, name) {
			return t
		}
	}
	return nil
}

// tableMap takes note of a TABLE_MAP, if it is of an opened table.
func (a *assembler) tableMap(body []byte) error {
	c := cursor{b: body}
	m, err := parseTableMapNames(&c)
	if err != nil {
		return err
	}
	t := a.table(m.schema, m.table)
	if t == nil {
		delete(a.maps, m.id)
		return nil
	}
	if replaced, ok := a.stale[t.Name]; ok && (a.group == nil || !a.group.known) {
		if replaced != "" {
			return &replication.SchemaChangedError{Table: t.Name, What: replaced}
		}
		if err := a.recheck(t.Name); err != nil {
			return err
		}
		delete(a.stale, t.Name)
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
	a.seen[t.Name] = true
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
	return a.add(m, &r)
}
