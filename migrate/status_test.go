package migrate

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

func TestTableStatus(t *testing.T) {
	for _, tc := range []struct {
		name                  string
		rows, bytes, estimate int64
		done, started         bool
		elapsed               time.Duration
		want                  TableStatus
	}{
		{"untouched", 0, 0, 1000, false, false, 0, TableStatus{RowsTotal: 1000, Phase: PhaseNotStarted}},
		{"half", 500, 5000, 1000, false, true, 10 * time.Second, TableStatus{
			Rows: 500, Bytes: 5000, RowsTotal: 1000, BytesTotal: 10000, Percent: 50, RowsPerSecond: 50, ETA: 10 * time.Second, Phase: PhaseInProgress,
		}},
		{"estimate too low", 1500, 1500, 1000, false, true, time.Second, TableStatus{
			Rows: 1500, Bytes: 1500, RowsTotal: 1500, BytesTotal: 1500, Percent: 99.9, RowsPerSecond: 1500, Phase: PhaseInProgress,
		}},
		{"almost", 99999, 1, 100000, false, true, 0, TableStatus{Rows: 99999, Bytes: 1, RowsTotal: 100000, BytesTotal: 1, Percent: 99.9, Phase: PhaseInProgress}},
		{"done below the estimate", 700, 70, 1000, true, true, 7 * time.Second, TableStatus{
			Rows: 700, Bytes: 70, RowsTotal: 700, BytesTotal: 70, Percent: 100, RowsPerSecond: 100, Phase: PhaseComplete,
		}},
		{"done and empty", 0, 0, 10, true, true, 0, TableStatus{Percent: 100, Phase: PhaseComplete}},
	} {
		tc.want.Table = "t"
		if got := tableStatus("t", tc.rows, tc.bytes, tc.estimate, tc.done, tc.started, tc.elapsed); got != tc.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}

// The names and forms are those that programs written for Vitess read.
func TestStatusJSON(t *testing.T) {
	at := time.Unix(1700000000, 5000)
	s := &Status{
		Keyspace: "commerce", Workflow: "wf", State: StateCopying, Mount: "ext1", SourceKeyspace: "load",
		SourceShards: []string{"0"}, TargetShards: []string{"0"}, Lag: 1400 * time.Millisecond, OnDDL: "STOP",
		DeferSecondaryKeys: true, SourceTimeZone: "Europe/Berlin", TabletTypes: []string{"REPLICA", "PRIMARY"},
		Streams: []StreamStatus{{
			ID: 7, SourceShard: "0", TargetShard: "0", Tablet: "zone1-0000000100", Database: "vt_commerce", State: StateCopying, Position: "u:1-5",
			Updated: at, RowsCopied: 12, Owner: "h:1",
			Tables: []TableStatus{{Table: "t1", Rows: 12, RowsTotal: 24, Percent: 50, Phase: PhaseInProgress}},
			Logs:   []LogEntry{{ID: 1, Type: "State Changed", State: StateCopying, Created: at, Updated: at, Message: "m", Count: 1}},
		}},
		Tables: []TableStatus{{Table: "t1", Rows: 12, RowsTotal: 24, Percent: 50, Phase: PhaseInProgress}},
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	at2 := map[string]any{"seconds": "1700000000", "nanoseconds": 5000.0}
	stream := dig(got, "shard_streams", "0/zone1-0000000100")["streams"].([]any)[0].(map[string]any)
	for _, tc := range []struct {
		what      string
		got, want any
	}{
		{"name", got["name"], "wf"},
		{"state", got["state"], "Copying"},
		{"workflow_type", got["workflow_type"], "Migrate"},
		{"source", got["source"], map[string]any{"keyspace": "load", "shards": []any{"0"}}},
		{"max_v_replication_lag", got["max_v_replication_lag"], "1"},
		{"max_v_replication_transaction_lag", got["max_v_replication_transaction_lag"], "9223372036854775807"},
		{"rows_copied of t1", dig(got, "table_copy_state", "t1")["rows_copied"], "12"},
		{"percentage of t1", dig(got, "table_copy_state", "t1")["rows_percentage"], 50.0},
		{"id", stream["id"], "7"},
		{"tablet", stream["tablet"], map[string]any{"cell": "zone1", "uid": 100.0}},
		{"on_ddl", dig(stream, "binlog_source")["on_ddl"], "STOP"},
		{"external_cluster", dig(stream, "binlog_source")["external_cluster"], "ext1"},
		{"target_time_zone", dig(stream, "binlog_source")["target_time_zone"], "UTC"},
		{"time_updated", stream["time_updated"], at2},
		{"tablet_types", stream["tablet_types"], []any{"REPLICA", "PRIMARY"}},
		{"copy_states", stream["copy_states"], []any{map[string]any{"table": "t1", "last_pk": "", "stream_id": "7"}}},
		{"logs", stream["logs"], []any{map[string]any{
			"id": "1", "stream_id": "7", "type": "State Changed", "state": "Copying", "created_at": at2, "updated_at": at2, "message": "m", "count": "1",
		}}},
	} {
		if !reflect.DeepEqual(tc.got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.what, tc.got, tc.want)
		}
	}
}

func dig(m map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		m, _ = m[k].(map[string]any)
	}
	return m
}

func TestStatusProgress(t *testing.T) {
	s := &Status{Tables: []TableStatus{
		{Rows: 10, RowsTotal: 10, Phase: PhaseComplete}, {Rows: 0, RowsTotal: 30, Phase: PhaseNotStarted},
	}}
	if got := s.Progress(); math.Abs(got-25) > 1e-9 {
		t.Errorf("progress %v, want 25", got)
	}
	s.Tables = s.Tables[:1]
	if got := s.Progress(); got != 100 {
		t.Errorf("progress %v, want 100", got)
	}
}

func TestOptions(t *testing.T) {
	good := CreateOptions{Source: "ext1.load", Tables: []string{"b", "a", "b"}}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	if got := good.withDefaults().Tables; !slices.Equal(got, []string{"a", "b"}) || good.Tables[0] != "b" {
		t.Errorf("tables %q, caller's %q", got, good.Tables)
	}
	for name, o := range map[string]CreateOptions{
		"no source":    {AllTables: true},
		"no tables":    {Source: "ext1.load"},
		"both":         {Source: "ext1.load", AllTables: true, Tables: []string{"a"}},
		"empty table":  {Source: "ext1.load", Tables: []string{""}},
		"on ddl":       {Source: "ext1.load", AllTables: true, OnDDL: replication.OnDDL(9)},
		"bad excluded": {Source: "ext1.load", AllTables: true, ExcludeTables: []string{"x\x00"}},
	} {
		if o.validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	// All bad fields are told at once.
	err := CreateOptions{OnDDL: 9}.validate()
	if _, ok := errors.AsType[*NameError](err); !ok {
		t.Errorf("no word of the source: %v", err)
	}
	if e, ok := errors.AsType[*OptionError](err); !ok {
		t.Errorf("no word of the options: %v, %v", err, e)
	}
	for text, want := range map[string]replication.OnDDL{
		"": replication.OnDDLIgnore, "stop": replication.OnDDLStop, "Exec": replication.OnDDLExec, "EXEC_IGNORE": replication.OnDDLExecIgnore,
	} {
		if got, err := ParseOnDDL(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := ParseOnDDL("maybe"); err == nil {
		t.Error("maybe is accepted")
	}
	if err := (CompleteOptions{SourceTables: "Burn", MaxLag: -1}).validate(); err == nil {
		t.Error("Burn is accepted")
	}
}

func TestRenamed(t *testing.T) {
	long := "t234567890123456789012345678901234567890123456789012345678901234"
	for in, want := range map[string]string{"t": "_t_old", long: "_" + long[:59] + "_old"} {
		if got := renamed(in); got != want || len(got) > 64 {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}
