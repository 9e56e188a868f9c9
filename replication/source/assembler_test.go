package source

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	gobinlog "github.com/go-mysql-org/go-mysql/replication"

	"github.com/tablehaul/tablehaul/replication"
)

const sourceID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

var sourceUUID = [16]byte{0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62}

// A script feeds made-up events to an assembler and notes what comes out, as text.
type script struct {
	t   *testing.T
	a   *assembler
	pos uint32
	out []string
	// recheck is what looking at the table again gives.
	recheck error
}

func newScript(t *testing.T, from string) *script {
	t.Helper()
	table := &replication.Table{Schema: "shop", Name: "t", Columns: []replication.Column{{Name: "id", Kind: replication.KindInt, Type: "int"}}}
	table.Primary.Columns = []int{0}
	have, err := replication.ParsePosition("MySQL56/" + from)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, pos: 4}
	s.a = newAssembler("shop", []*replication.Table{table}, "server", have)
	s.a.emit = func(x *replication.Transaction) error {
		line := strings.TrimPrefix(x.GTID.String(), sourceID+":")
		if !x.Prepared.IsZero() {
			line += "+" + strings.TrimPrefix(x.Prepared.String(), sourceID+":")
		}
		for _, c := range x.Changes {
			line += " " + table.Format(c.After)
		}
		if x.Spill != nil {
			err := x.Spill.Each(func(c replication.Change) error {
				line += " " + table.Format(c.After)
				return nil
			})
			if err := errors.Join(err, x.Spill.Close()); err != nil {
				return err
			}
		}
		if x.DDL != nil {
			line += " ddl"
		}
		s.out = append(s.out, line)
		return nil
	}
	s.a.news = func(x *replication.Transaction) error {
		s.out = append(s.out, fmt.Sprintf("@%d:%d", x.End.File, x.End.Offset))
		return nil
	}
	s.a.recheck = func(string) error { return s.recheck }
	s.a.readIndirect = func(in *indirect) error {
		if in.names == nil {
			in.names = map[string]bool{"v": true}
		} else {
			in.names["later"] = true
		}
		in.fresh = true
		return nil
	}
	return s
}

// feed gives one event, 100 bytes long.
func (s *script) feed(tp gobinlog.EventType, ev gobinlog.Event, body ...byte) error {
	if tp != gobinlog.ROTATE_EVENT && tp != gobinlog.HEARTBEAT_EVENT {
		s.pos += 100
	}
	raw := append(make([]byte, gobinlog.EventHeaderSize), body...)
	return s.a.HandleEvent(&gobinlog.BinlogEvent{
		Header: &gobinlog.EventHeader{EventType: tp, LogPos: s.pos, EventSize: 100}, Event: ev, RawData: raw,
	})
}

// run plays a script in words: gtid:5 query:TEXT row:7 xid prepare:x onephase:x rotate:2 beat:500 prev map or a number: an event of that type.
func (s *script) run(words ...string) error {
	for _, w := range words {
		verb, arg, _ := strings.Cut(w, ":")
		var n uint64
		_, _ = fmt.Sscan(arg, &n)
		var err error
		switch verb {
		case "gtid":
			err = s.feed(gobinlog.GTID_EVENT, &gobinlog.GTIDEvent{SID: sourceUUID[:], GNO: int64(n)})
		case "anonymous":
			err = s.feed(gobinlog.ANONYMOUS_GTID_EVENT, &gobinlog.GTIDEvent{SID: make([]byte, 16)})
		case "query":
			err = s.feed(gobinlog.QUERY_EVENT, &gobinlog.QueryEvent{Schema: []byte("shop"), Query: []byte(arg)})
		case "map":
			err = s.feed(gobinlog.TABLE_MAP_EVENT, &gobinlog.TableMapEvent{}, 9, 0, 0, 0, 0, 0, 1, 0, 4, 's', 'h', 'o', 'p', 0, 1, 't', 0, 1, gomysql.MYSQL_TYPE_LONG, 0, 0)
		case "wrongmap":
			err = s.feed(gobinlog.TABLE_MAP_EVENT, &gobinlog.TableMapEvent{}, 9, 0, 0, 0, 0, 0, 1, 0, 4, 's', 'h', 'o', 'p', 0, 1, 't', 0, 1, gomysql.MYSQL_TYPE_LONGLONG, 0, 0)
		case "row":
			body := binary.LittleEndian.AppendUint32([]byte{9, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 0xff, 0}, uint32(n))
			err = s.feed(gobinlog.WRITE_ROWS_EVENTv2, &gobinlog.RowsEvent{}, body...)
		case "xid":
			err = s.feed(gobinlog.XID_EVENT, &gobinlog.XIDEvent{})
		case "prepare", "onephase":
			body := []byte{0, 1, 0, 0, 0, byte(len(arg)), 0, 0, 0, 0, 0, 0, 0}
			if verb == "onephase" {
				body[0] = 1
			}
			err = s.feed(gobinlog.XA_PREPARE_LOG_EVENT, &gobinlog.GenericEvent{}, append(body, arg...)...)
		case "rotate":
			s.pos = 4
			err = s.feed(gobinlog.ROTATE_EVENT, &gobinlog.RotateEvent{Position: 4, NextLogName: fmt.Appendf(nil, "binlog.%06d", n)})
		case "beat":
			s.pos = uint32(n)
			err = s.feed(gobinlog.HEARTBEAT_EVENT, &gobinlog.HeartbeatEvent{Version: 1, Filename: fmt.Sprintf("binlog.%06d", s.a.pos.File)})
		case "prev":
			err = s.feed(gobinlog.PREVIOUS_GTIDS_EVENT, &gobinlog.PreviousGTIDsEvent{})
		default:
			_, _ = fmt.Sscan(verb, &n)
			err = s.feed(gobinlog.EventType(n), &gobinlog.GenericEvent{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func TestAssembler(t *testing.T) {
	for _, tc := range []struct {
		name  string
		from  string
		words []string
		want  []string
		err   error
	}{
		{"a transaction", "", []string{"gtid:1", "query:BEGIN", "map", "row:5", "row:6", "xid"}, []string{"1 (id=5) (id=6)"}, nil},
		{"known ones are not yielded", sourceID + ":1-2", []string{"gtid:1", "query:BEGIN", "map", "row:5", "xid", "gtid:2", "query:DROP TABLE t", "gtid:3", "query:BEGIN", "map", "row:7", "query:COMMIT"}, []string{"3 (id=7)"}, nil},
		{"savepoints never end one", "", []string{"gtid:1", "query:BEGIN", "map", "row:1", "query:SAVEPOINT `a`", "map", "row:2", "query:SAVEPOINT b", "map", "row:3", "query:ROLLBACK TO `A`", "map", "row:4", "query:RELEASE SAVEPOINT a", "xid"}, []string{"1 (id=1) (id=4)"}, nil},
		{"a savepoint out of nowhere", "", []string{"gtid:1", "query:BEGIN", "map", "row:1", "query:ROLLBACK TO x"}, nil, ErrMalformedEvent},
		{"rows that were rolled back", "", []string{"gtid:1", "query:BEGIN", "map", "row:1", "query:ROLLBACK"}, nil, ErrUnknownEvent},
		{"no rows that were rolled back", "", []string{"gtid:1", "query:BEGIN", "query:ROLLBACK"}, []string{"1"}, nil},
		{"create table select", "", []string{"gtid:1", "query:BEGIN", "query:CREATE TABLE `u` (`id` int) START TRANSACTION", "xid", "gtid:2", "query:BEGIN", "query:CREATE TABLE `t` (`id` int) START TRANSACTION", "map", "row:1", "xid"}, []string{"1", "2 (id=1) ddl"}, nil},
		{"xa in two phases", "", []string{"gtid:1", "query:XA START X'61',X'',1", "map", "row:1", "query:XA END X'61',X'',1", "prepare:a", "gtid:2", "query:BEGIN", "map", "row:2", "xid", "gtid:3", "query:XA COMMIT X'61',X'',1"}, []string{"1", "2 (id=2)", "3+1 (id=1)"}, nil},
		{"two of them", "", []string{"gtid:1", "query:XA START X'61',X'',1", "map", "row:1", "prepare:a", "gtid:2", "query:XA START X'62',X'',1", "map", "row:2", "prepare:b", "gtid:3", "query:XA ROLLBACK X'61',X'',1", "gtid:4", "query:XA COMMIT X'62',X'',1", "gtid:5", "query:XA START X'61',X'',1", "prepare:a", "gtid:6", "query:XA COMMIT X'61',X'',1"}, []string{"1", "2", "3+1", "4+2 (id=2)", "5", "6+5"}, nil},
		{"xa in one phase", "", []string{"gtid:1", "query:XA START X'61',X'',1", "map", "row:1", "query:XA END X'61',X'',1", "onephase:a"}, []string{"1 (id=1)"}, nil},
		{"xa of before", sourceID + ":1", []string{"gtid:1", "query:XA START X'61',X'',1", "prepare:a", "gtid:2", "query:XA COMMIT X'61',X'',1"}, nil, ErrPreparedBefore},
		{"xa rollback of before", sourceID + ":1", []string{"gtid:2", "query:XA ROLLBACK X'61',X'',1"}, []string{"2"}, nil},
		{"xa committed before, so its rows are there", sourceID + ":2", []string{"gtid:1", "query:XA START X'61',X'',1", "map", "row:1", "prepare:a", "gtid:2", "query:XA COMMIT X'61',X'',1", "gtid:3", "query:BEGIN", "xid"}, []string{"1", "3"}, nil},
		{"the next GTID ends a statement", "", []string{"gtid:1", "gtid:2", "query:BEGIN", "xid"}, []string{"1", "2"}, nil},
		{"no end", "", []string{"gtid:1", "query:BEGIN", "map", "row:1", "gtid:2"}, nil, ErrMalformedEvent},
		{"the file ends within", "", []string{"gtid:1", "query:BEGIN", "rotate:2"}, nil, ErrMalformedEvent},
		{"ignorable ones", "", []string{"gtid:1", "query:BEGIN", "29", "36", "37", "5", "13", "14", "xid", "3"}, []string{"1"}, nil},
		{"unknown ones", "", []string{"gtid:1", "query:BEGIN", "77"}, nil, ErrUnknownEvent},
		{"incident", "", []string{"26"}, nil, ErrIncident},
		{"anonymous", "", []string{"anonymous"}, nil, ErrNoGTID},
		{"no group", "", []string{"query:BEGIN"}, nil, ErrNoGTID},
		{"rows without group", "", []string{"map", "row:1"}, nil, ErrNoGTID},
		{"statement format", "", []string{"gtid:1", "query:BEGIN", "query:UPDATE t SET id=1"}, nil, ErrNotRow},
		{"statements of others", "", []string{"gtid:1", "query:BEGIN", "query:UPDATE u SET id=1", "xid"}, []string{"1"}, nil},
		{"statements of others that hide ours", "", []string{"gtid:1", "query:BEGIN", "query:UPDATE `V` SET id=1", "xid"}, nil, ErrNotRow},
		{"a view that is new", "", []string{"gtid:1", "query:UPDATE u SET id=1", "gtid:2", "query:CREATE VIEW later AS SELECT 1", "gtid:3", "query:UPDATE later SET id=1"}, []string{"1", "2"}, ErrNotRow},
		{"what was a view once", "", []string{"gtid:1", "query:UPDATE u SET id=1", "gtid:2", "query:DROP VIEW v", "gtid:3", "query:UPDATE v SET id=1"}, []string{"1", "2"}, ErrNotRow},
		{"statements of a kind that is not known", "", []string{"gtid:1", "query:BEGIN", "query:FROBNICATE u, 'v'", "xid"}, nil, ErrNotRow},
		{"statements that hide ours and only define", "", []string{"gtid:1", "query:CREATE VIEW v AS SELECT 1", "gtid:2", "query:ALTER TABLE v ADD c int"}, []string{"1", "2"}, nil},
		{"progress", "", []string{"rotate:7", "prev", "beat:500", "gtid:1", "beat:700", "query:BEGIN", "xid", "rotate:8", "prev"}, []string{"@7:4", "@7:104", "@7:500", "1", "@8:4", "@8:104"}, nil},
		{"progress does not go back", "", []string{"rotate:7", "beat:500", "rotate:7", "prev", "beat:400", "beat:600"}, []string{"@7:4", "@7:500", "@7:500", "@7:500", "@7:500", "@7:600"}, nil},
	} {
		// In memory, with some changes in files, and with all of them.
		for _, memory := range []int{1 << 20, 250, 1} {
			t.Run(fmt.Sprintf("%s, memory of %d", tc.name, memory), func(t *testing.T) {
				s := newScript(t, tc.from)
				s.a.memory, s.a.dir = memory, t.TempDir()
				defer s.a.close()
				err := s.run(tc.words...)
				if !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
					t.Errorf("error is %v, want %v", err, tc.err)
				}
				if err != nil {
					if _, ok := errors.AsType[*LogError](err); !ok {
						t.Errorf("%v does not say where", err)
					}
				}
				if have, want := strings.Join(s.out, "\n"), strings.Join(tc.want, "\n"); have != want {
					t.Errorf("yielded\n%s\nwant\n%s", have, want)
				}
				if held := s.a.held; held > memory || s.a.group == nil && len(s.a.prepared) == 0 && held != 0 {
					t.Errorf("%d bytes are held", held)
				}
			})
		}
	}
}

// TestStopAnywhere cuts a log at every event and reads on from what was yielded: nothing is lost, nothing comes twice.
func TestStopAnywhere(t *testing.T) {
	words := []string{
		"rotate:1", "prev", "gtid:1", "query:BEGIN", "map", "row:1", "xid", "gtid:2", "query:XA START X'61',X'',1", "map", "row:2", "query:XA END X'61',X'',1", "prepare:a",
		"gtid:3", "query:BEGIN", "map", "row:3", "xid", "gtid:4", "query:XA START X'62',X'',1", "map", "row:4", "prepare:b", "gtid:5", "query:XA COMMIT X'61',X'',1",
		"gtid:6", "query:ALTER TABLE t COMMENT 'x'", "gtid:7", "query:XA ROLLBACK X'62',X'',1", "gtid:8", "query:BEGIN", "map", "row:8", "query:COMMIT",
	}
	rows := func(s *script) (n int) {
		for _, line := range s.out {
			n += strings.Count(line, "(id=")
		}
		return n
	}
	for cut := range words {
		first := newScript(t, "")
		if err := first.run(words[:cut]...); err != nil {
			t.Fatal(err)
		}
		second := newScript(t, first.a.have.Text())
		maps.Copy(second.a.again, first.a.unsettled())
		if err := second.run(words...); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if n := rows(first) + rows(second); n != 4 {
			t.Errorf("cut at %d: %d rows, want 4:\n%s\n--\n%s", cut, n, first.out, second.out)
		}
		if want := sourceID + ":1-8"; second.a.have.Text() != want {
			t.Errorf("cut at %d: the end is %s, want %s", cut, second.a.have.Text(), want)
		}
	}
}

func TestLogPositionsBeyond32Bits(t *testing.T) {
	s := newScript(t, "")
	if err := s.run("rotate:1"); err != nil {
		t.Fatal(err)
	}
	for i, low := range []uint32{1 << 31, 1<<32 - 50, 100, 1 << 31, 1<<32 - 1, 7} {
		s.pos = low - 100
		if err := s.run("prev"); err != nil {
			t.Fatal(err)
		}
		want := uint64(low) + []uint64{0, 0, 1 << 32, 1 << 32, 1 << 32, 2 << 32}[i]
		if s.a.pos.Offset != want {
			t.Errorf("offset is %d, want %d", s.a.pos.Offset, want)
		}
	}
}

func TestDefinitionIsLookedAtAgain(t *testing.T) {
	gone := &replication.SchemaChangedError{Table: "t", What: "gone"}
	s := newScript(t, "")
	s.recheck = gone
	if err := s.run("gtid:1", "query:BEGIN", "map", "row:1", "xid", "gtid:2", "query:ALTER TABLE t ADD INDEX (id)", "gtid:3", "query:BEGIN"); err != nil {
		t.Fatal(err)
	}
	if err := s.run("map"); !errors.Is(err, gone) {
		t.Errorf("rows after a DDL: %v", err)
	}
	s.recheck = nil
	if err := s.run("map", "row:2", "xid"); err != nil {
		t.Error(err)
	}
	if err := s.run("gtid:4", "query:BEGIN", "wrongmap"); err == nil || !strings.Contains(err.Error(), "column 1 (id)") {
		t.Errorf("a table of another shape: %v", err)
	}
}

// TestTableNamesInTheLog: with lower_case_table_names=2 the log has names as they were written when a table was made, or in a statement.
func TestTableNamesInTheLog(t *testing.T) {
	s := newScript(t, "")
	for _, tc := range []struct {
		fold         bool
		schema, name string
		want         bool
	}{
		{false, "shop", "t", true},
		{false, "shop", "T", false},
		{false, "Shop", "t", false},
		{true, "shop", "t", true},
		{true, "Shop", "T", true},
		{true, "shop", "u", false},
		{true, "other", "T", false},
	} {
		s.a.fold = tc.fold
		if got := s.a.table(tc.schema, tc.name); (got != nil) != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}
