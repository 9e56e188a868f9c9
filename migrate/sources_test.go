package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

func TestSelectShards(t *testing.T) {
	src := SourceName{"ext1", "load"}
	shard := func(name string) mount.Shard {
		r, err := topo.ParseShardName(name)
		if err != nil {
			t.Fatal(err)
		}
		return mount.Shard{Name: name, KeyRange: r}
	}
	sharded, whole := []mount.Shard{shard("-80"), shard("80-c0"), shard("c0-")}, []mount.Shard{shard("0")}
	for _, tt := range []struct {
		serving []mount.Shard
		names   []string
		want    string // of the shards
		unknown []string
	}{
		{sharded, nil, "-80 80-c0 c0-", nil},
		{sharded, []string{"C0-", "-80", "c0-"}, "-80 c0-", nil},
		{sharded, []string{"-80", "0", "80-"}, "", []string{"ext1.load/0", "ext1.load/80-"}},
		{whole, []string{"-"}, "0", nil},
		{whole, []string{"0"}, "0", nil},
		{whole, []string{"-80"}, "", []string{"ext1.load/-80"}},
	} {
		list, err := selectShards(src, tt.serving, tt.names)
		var names []string
		for _, s := range list {
			names = append(names, s.Name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%v of %v: %s, want %s", tt.names, tt.serving, got, tt.want)
		}
		if (err != nil) != (len(tt.unknown) > 0) || err != nil && !errors.Is(err, ErrNotFound) {
			t.Errorf("%v: %v", tt.names, err)
		}
		for _, name := range tt.unknown {
			for _, say := range []string{name, "those that serve are " + tt.serving[0].Name} {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("%v does not say %q", err, say)
				}
			}
		}
	}
}

func TestProvided(t *testing.T) {
	vs, err := topo.ParseVSchema([]byte(`{"sharded": true, "vindexes": {"xxhash": {"type": "xxhash"}}, "tables": {
		"orders": {"column_vindexes": [{"column": "id", "name": "xxhash"}]}, "country": {"type": "reference"}, "currency": {"type": "reference"},
		"one": {"pinned": "80"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	tables := [][]string{{"country", "orders", "stray"}, {"country", "currency", "one", "orders"}, {"country", "currency", "orders"}}
	want := [][]string{{"country", "orders", "stray"}, {"currency", "one", "orders"}, {"orders"}}
	if got := provided(vs, tables); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("provided %v, want %v", got, want)
	}
	// Without a VSchema that says otherwise, every shard provides what it has.
	for _, vs := range []*topo.VSchema{nil, {}, {Tables: vs.Tables}} {
		if got := provided(vs, tables); fmt.Sprint(got) != fmt.Sprint(tables) {
			t.Errorf("provided %v without sharding", got)
		}
	}
	if got := provided(vs, [][]string{nil}); len(got) != 1 || got[0] != nil {
		t.Errorf("of nothing %v", got)
	}
}

func TestCheckSourceShards(t *testing.T) {
	state := func(shard string, columns map[string]string) *sourceState {
		s := &sourceState{shard: shard, server: &server{addr: "db" + shard}, shapes: map[string]*shape{}}
		for _, name := range sortedKeys(columns) {
			s.selected = append(s.selected, name)
			s.shapes[name] = &shape{columns: []string{columns[name]}, keys: map[string]string{}}
		}
		return s
	}
	vs := &topo.VSchema{Sharded: true, Tables: map[string]*topo.Table{
		"known": {ColumnVindexes: []topo.ColumnVindex{{Column: "id", Name: "v"}}}, "pinned": {Pinned: "80"}, "country": {Type: "reference"},
	}}
	var fs findings
	checkSourceShards(&fs, vs, []*sourceState{
		state("-80", map[string]string{"same": "`id` int", "differs": "`id` int", "known": "`id` int", "stray": "`id` int"}),
		state("80-", map[string]string{"same": "`id` int", "differs": "`id` bigint", "pinned": "`id` int", "country": "`id` int"}),
	})
	want := map[string]Severity{"differs": SeverityError, "known": SeverityError, "stray": SeverityWarning, "pinned": SeverityWarning, "country": SeverityWarning}
	for _, f := range fs.list {
		if f.Code != CodeDifferent || f.Side != SideSource || want[f.Object] != f.Severity {
			t.Errorf("%+v", f)
		}
		if f.Object == "differs" && (f.Server != "db80-" || !strings.Contains(f.Message, "on source shard 80- is not like that on -80: column `id` bigint is `id` int on -80")) {
			t.Errorf("%+v", f)
		}
		delete(want, f.Object)
	}
	if len(want) > 0 {
		t.Errorf("nothing was said of %v", want)
	}
	var alone findings
	checkSourceShards(&alone, vs, []*sourceState{state("0", map[string]string{"a": "x"})})
	if len(alone.list) > 0 {
		t.Errorf("of one shard: %v", alone.list)
	}
}

func TestSelectTablesInternal(t *testing.T) {
	tables := map[string]*table{}
	for _, name := range []string{"_orders_old", "_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_", "_orders_gho", "_left_new"} {
		tables[name] = &table{name: name, kind: "BASE TABLE"}
	}
	for _, tt := range []struct {
		o     CreateOptions
		names string
		codes []Code
	}{
		{CreateOptions{AllTables: true, ExcludeTables: []string{"_left_new"}}, "", []Code{CodeNoTables, CodeInternalTable}},
		{CreateOptions{Tables: []string{"_orders_old"}}, "_orders_old", nil},
	} {
		var fs findings
		names := selectTables(&fs, tt.o, &sourceState{schema: "s", server: &server{}, tables: tables})
		var codes []Code
		for _, f := range fs.list {
			codes = append(codes, f.Code)
			if f.Code == CodeInternalTable && !strings.Contains(f.Message, ": `_orders_gho`, `_orders_old`") {
				t.Error(f)
			}
		}
		if strings.Join(names, " ") != tt.names || !slices.Equal(codes, tt.codes) {
			t.Errorf("%+v: %v, %v", tt.o, names, codes)
		}
	}
}

func TestReplicationStatus(t *testing.T) {
	line := func(io, sql, lag string) map[string]string {
		return map[string]string{"Replica_IO_Running": io, "Replica_SQL_Running": sql, "Seconds_Behind_Source": lag, "Last_IO_Error": "", "Last_SQL_Error": "row not found"}
	}
	old := map[string]string{"Slave_IO_Running": "Yes", "Slave_SQL_Running": "Yes", "Seconds_Behind_Master": "77"}
	for _, tt := range []struct {
		lines []map[string]string
		want  replicationStatus
	}{
		{nil, replicationStatus{}},
		{[]map[string]string{line("Yes", "Yes", "3")}, replicationStatus{channels: 1, lag: 3 * time.Second}},
		{[]map[string]string{old, line("Yes", "Yes", "3")}, replicationStatus{channels: 2, lag: 77 * time.Second}},
		{[]map[string]string{line("Connecting", "Yes", "")}, replicationStatus{channels: 1, connecting: true}},
		{[]map[string]string{line("No", "Yes", "")}, replicationStatus{channels: 1, stopped: "it receives nothing"}},
		{[]map[string]string{line("Yes", "Yes", "0"), line("Yes", "No", "")}, replicationStatus{channels: 2, stopped: "it applies nothing: row not found"}},
	} {
		var r replicationStatus
		for _, l := range tt.lines {
			r.add(l)
		}
		if r != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.lines, r, tt.want)
		}
	}
}

func TestJudgeReplica(t *testing.T) {
	ordinary := &server{variables: map[string]string{}}
	group := &server{variables: map[string]string{"group_replication_group_name": "x"}}
	for _, tt := range []struct {
		s     *server
		r     replicationStatus
		worse bool
		err   bool
	}{
		{ordinary, replicationStatus{channels: 1, lag: maxReplicaLag}, false, false},
		{ordinary, replicationStatus{channels: 1, lag: maxReplicaLag + time.Second}, true, false},
		{ordinary, replicationStatus{channels: 1, connecting: true}, true, false},
		{ordinary, replicationStatus{channels: 1, stopped: "x"}, false, true},
		{ordinary, replicationStatus{}, true, false},
		{ordinary, replicationStatus{unknown: true}, false, false},
		{group, replicationStatus{}, false, false},
	} {
		c := &candidate{sourceShard: &sourceShard{}}
		passing, err := (&picker{}).judgeReplica(c, tt.s, &tt.r)
		if (c.worse != "") != tt.worse || (err != nil) != tt.err || passing != tt.err {
			t.Errorf("%+v: worse %q, %v, passing %v", tt.r, c.worse, err, passing)
		}
	}
}

func TestNoSourceError(t *testing.T) {
	down := SourceServerError{Addr: "db1:3306", Type: topo.TabletReplica, Err: &mount.UnreachableError{Addr: "db1:3306", Err: errors.New("refused")}, Passing: true}
	settings := SourceServerError{Addr: "db2:3306", Tablet: "zone1-0000000101", Type: topo.TabletPrimary, Err: &settingsError{[]Finding{{Message: "gtid_mode is \"OFF\", not \"ON\""}, {Message: "no log"}}}}
	e := &NoSourceError{Servers: []SourceServerError{down, settings}}
	const want = `none of 2 servers can be read: server db1:3306 unreachable: refused; primary zone1-0000000101 (db2:3306): gtid_mode is "OFF", not "ON"; no log`
	if e.Error() != want || !replication.Transient(e) || !transient(fmt.Errorf("source shard: %w", e)) {
		t.Errorf("%v, transient %v", e, e.Transient())
	}
	if _, ok := errors.AsType[*mount.UnreachableError](e); !ok {
		t.Error("the reason can't be found")
	}
	lost := &NoSourceError{Servers: []SourceServerError{{Addr: "db3:3306", Type: topo.TabletPrimary, Err: fmt.Errorf("lacks: %w", replication.ErrHistory)}}}
	if lost.Error() != "primary db3:3306: lacks: "+replication.ErrHistory.Error() || transient(lost) || !errors.Is(lost, replication.ErrHistory) {
		t.Errorf("%v, transient %v", lost, transient(lost))
	}
}

func TestInFlight(t *testing.T) {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	for _, tt := range []struct {
		owned, gtids string
		want         bool
	}{
		{uuid + ":5#12:6#13", uuid + ":5-6", true},
		{uuid + ":5#12", uuid + ":5-6", false},
		{"", uuid + ":5", false},
		{"nonsense", uuid + ":5", false},
	} {
		if got := inFlight(tt.owned, tt.gtids); got != tt.want {
			t.Errorf("%q of %q: %v", tt.gtids, tt.owned, got)
		}
	}
}
