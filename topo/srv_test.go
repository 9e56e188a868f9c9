package topo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tablehaul/tablehaul/topo"
)

// TestRebuildTakesRules stores every kind of rules as Vitess does and looks at what the cell gets.
func TestRebuildTakesRules(t *testing.T) {
	ts := newServer(t)
	ctx := t.Context()
	percent := protowire.AppendFixed32(protowire.AppendTag(nil, 3, protowire.Fixed32Type), 0x3fc00000) // 1.5
	rules := map[string][]byte{
		"RoutingRules":                 field(nil, 1, string(field(field(field(nil, 1, "a.t"), 2, "b.t"), 2, "c.t"))),
		"ShardRoutingRules":            field(nil, 1, string(field(field(field(nil, 1, "a"), 2, "b"), 3, "-80"))),
		"routing_rules/keyspace/Rules": field(nil, 1, string(field(field(nil, 1, "a"), 2, "b"))),
		"MirrorRules":                  field(nil, 1, string(append(field(field(nil, 1, "a.t"), 2, "b.t"), percent...))),
	}
	for key, value := range rules {
		if _, err := ts.Conn().Put(ctx, key, append(value, varint(nil, 60, 1)...), topo.Absent); err != nil {
			t.Fatal(err)
		}
	}
	if err := ts.RebuildSrvVSchema(ctx); err != nil {
		t.Fatal(err)
	}
	v, err := ts.SrvVSchema(ctx, "zone1")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"keyspaces":{"commerce":{}},` +
		`"routing_rules":{"rules":[{"from_table":"a.t","to_tables":["b.t","c.t"]}]},` +
		`"shard_routing_rules":{"rules":[{"from_keyspace":"a","to_keyspace":"b","shard":"-80"}]},` +
		`"keyspace_routing_rules":{"rules":[{"from_keyspace":"a","to_keyspace":"b"}]},` +
		`"mirror_rules":{"rules":[{"from_table":"a.t","to_table":"b.t","percent":1.5}]}}`
	if b, err := json.Marshal(v); err != nil || string(b) != want {
		t.Errorf("the cell has %s, %v", b, err)
	}
	// What this package does not know of a rule reaches the cell too.
	c, err := ts.CellConn(ctx, "zone1")
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := c.Get(ctx, "SrvVSchema")
	if err != nil {
		t.Fatal(err)
	}
	for key, rule := range rules {
		if !bytes.Contains(value, append(rule, varint(nil, 60, 1)...)) {
			t.Errorf("%s did not arrive whole", key)
		}
	}

	if err := ts.DeleteKeyspace(ctx, "commerce"); err != nil {
		t.Fatal(err)
	}
	if err := ts.Conn().Delete(ctx, "MirrorRules", topo.AnyVersion); err != nil {
		t.Fatal(err)
	}
	if err := ts.RebuildSrvVSchema(ctx); err != nil {
		t.Fatal(err)
	}
	if v, err := ts.SrvVSchema(ctx, "zone1"); err != nil || len(v.Keyspaces) != 0 || len(v.MirrorRules.Rules) != 0 || len(v.RoutingRules.Rules) != 1 {
		t.Errorf("after the deletes the cell has %+v, %v", v, err)
	}
}

// TestBuiltRecords compares records that were built here with the bytes that protobuf writes for them.
func TestBuiltRecords(t *testing.T) {
	yes := true
	alias := topo.TabletAlias{Cell: "c", UID: 1}
	aliasBytes := string(varint(field(nil, 1, "c"), 2, 1))
	rangeBytes := string(field(field(nil, 1, "\x40"), 2, "\x80"))
	negative := int32(-2)
	tests := []struct {
		name string
		m    topo.Message
		want []byte
	}{
		{"empty", &topo.VSchema{}, nil},
		{
			"map defaults", &topo.Tablet{PortMap: map[string]int32{"vt": 0, "grpc": negative}, Tags: map[string]string{"": ""}},
			field(field(field(nil, 4, string(varint(field(nil, 1, "grpc"), 2, 0xfffffffffffffffe))), 4, string(varint(field(nil, 1, "vt"), 2, 0))), 10, string(field(field(nil, 1, ""), 2, ""))),
		},
		{
			"empty messages", &topo.VSchema{Tables: map[string]*topo.Table{"a": {}, "b": nil}},
			field(field(nil, 3, string(field(field(nil, 1, "a"), 2, ""))), 3, string(field(field(nil, 1, "b"), 2, ""))),
		},
		{
			"shard", &topo.Shard{
				PrimaryAlias: alias, KeyRange: mustRange(t, "40-80"), PrimaryTermStart: time.Unix(1, 2),
				SourceShards:   []topo.SourceShard{{UID: negative, Keyspace: "k", Shard: "0", KeyRange: mustRange(t, "40-80"), Tables: []string{"t", ""}}},
				TabletControls: []topo.TabletControl{{TabletType: topo.TabletReplica, Cells: []string{"c"}, DeniedTables: []string{"t"}, Frozen: true, AllowReads: true}},
			},
			field(field(field(field(field(nil, 1, aliasBytes), 2, rangeBytes),
				4, string(field(field(field(field(field(varint(nil, 1, 0xfffffffffffffffe), 2, "k"), 3, "0"), 4, rangeBytes), 5, "t"), 5, ""))),
				6, string(varint(varint(field(field(varint(nil, 1, 2), 2, "c"), 4, "t"), 5, 1), 6, 1))),
				8, string(varint(varint(nil, 1, 1), 2, 2))),
		},
		{
			"column", &topo.VSchema{Tables: map[string]*topo.Table{"t": {Columns: []topo.Column{{Name: "a", Type: 265, Nullable: &yes}}}}},
			field(nil, 3, string(field(field(nil, 1, "t"), 2, string(field(nil, 4, string(varint(varint(field(nil, 1, "a"), 2, 265), 8, 1))))))),
		},
	}
	for _, test := range tests {
		if got := topo.Encode(test.m); !bytes.Equal(got, test.want) {
			t.Errorf("%s is %x, want %x", test.name, got, test.want)
		}
	}
	back := new(topo.Tablet)
	if err := topo.Decode(tests[1].want, back); err != nil || back.PortMap["grpc"] != negative || len(back.PortMap) != 2 || len(back.Tags) != 1 {
		t.Errorf("map comes back as %+v, %v", back, err)
	}
	// An entry without a value is an empty table, not a missing one.
	v := new(topo.VSchema)
	if err := topo.Decode(field(nil, 3, string(field(nil, 1, "t"))), v); err != nil || v.Tables["t"] == nil {
		t.Errorf("tables are %v, %v", v.Tables, err)
	}
}

func TestRecordJSON(t *testing.T) {
	for want, v := range map[string]any{
		`{"server_address":"a:1","root":"/r"}`: &topo.CellInfo{Name: "zone1", ServerAddress: "a:1", Root: "/r"},
		`{"primary_alias":{"cell":"c","uid":7},"key_range":{"start":"QA==","end":"gA=="},"primary_term_start_time":{"seconds":"1","nanoseconds":2}}`: &topo.Shard{
			PrimaryAlias: topo.TabletAlias{Cell: "c", UID: 7}, KeyRange: mustRange(t, "40-80"), PrimaryTermStart: time.Unix(1, 2),
		},
		`{"port_map":{"grpc":1,"vt":0},"type":"RDONLY","tags":{"a":""}}`: &topo.Tablet{PortMap: map[string]int32{"vt": 0, "grpc": 1}, Type: topo.TabletRdonly, Tags: map[string]string{"a": ""}},
		`{"keyspace_type":"SNAPSHOT"}`:                                   &topo.Keyspace{Type: topo.KeyspaceSnapshot},
		`["REPLICA","zone1-0000000007","","40-80"]`:                      []any{topo.TabletReplica, topo.TabletAlias{Cell: "zone1", UID: 7}, topo.TabletAlias{}, mustRange(t, "40-80")},
	} {
		if b, err := json.Marshal(v); err != nil || string(b) != want {
			t.Errorf("%T prints as %s, %v, want %s", v, b, err, want)
		}
	}
	var read struct {
		Type        topo.TabletType
		Alias, None topo.TabletAlias
	}
	if err := json.Unmarshal([]byte(`{"Type":"master","Alias":"zone1-7","None":""}`), &read); err != nil || read.Type != topo.TabletPrimary || read.Alias.UID != 7 || !read.None.IsZero() {
		t.Errorf("read %+v, %v", read, err)
	}
	if err := json.Unmarshal([]byte(`{"Alias":"zone1"}`), &read); !errors.As(err, new(*topo.NameError)) {
		t.Errorf("bad alias: %v", err)
	}
}
