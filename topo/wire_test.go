package topo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tablehaul/tablehaul/topo"
)

// fixtureNode is one key of a real Vitess cluster's topology.
type fixtureNode struct {
	Key   string `json:"key"`
	Value []byte `json:"value_b64"`
}

func fixture(t testing.TB) []fixtureNode {
	t.Helper()
	b, err := os.ReadFile("testdata/vitess_fixture.json")
	if err != nil {
		t.Fatal(err)
	}
	var nodes []fixtureNode
	if err := json.Unmarshal(b, &nodes); err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 8 {
		t.Fatalf("the fixture has %d keys", len(nodes))
	}
	return nodes
}

// newMessage returns an empty record of the kind that a key has.
func newMessage(t testing.TB, key string) topo.Message {
	t.Helper()
	m := map[string]topo.Message{
		"CellInfo": new(topo.CellInfo), "CellsAlias": new(topo.CellsAlias), "Keyspace": new(topo.Keyspace),
		"Shard": new(topo.Shard), "Tablet": new(topo.Tablet), "ShardReplication": new(topo.ShardReplication),
		"SrvKeyspace": new(topo.SrvKeyspace), "VSchema": new(topo.VSchema), "SrvVSchema": new(topo.SrvVSchema),
		"RoutingRules": new(topo.RoutingRules), "ShardRoutingRules": new(topo.ShardRoutingRules), "Rules": new(topo.KeyspaceRoutingRules),
		"MirrorRules": new(topo.MirrorRules), "ext1": &topo.ExternalCluster{Kind: topo.ExternalVitess},
		"ExternalVitess": &topo.ExternalCluster{Kind: topo.ExternalVitess},
		"ExternalMySQL":  &topo.ExternalCluster{Kind: topo.ExternalMySQL},
	}[path.Base(key)]
	if m == nil {
		t.Fatalf("no record for %s", key)
	}
	return m
}

var recordKinds = []string{
	"CellInfo", "CellsAlias", "Keyspace", "Shard", "Tablet", "ShardReplication", "SrvKeyspace", "VSchema", "SrvVSchema",
	"ExternalVitess", "ExternalMySQL",
}

func TestFixtureRoundTrip(t *testing.T) {
	for _, n := range fixture(t) {
		m := newMessage(t, n.Key)
		if err := topo.Decode(n.Value, m); err != nil {
			t.Errorf("%s: %v", n.Key, err)
			continue
		}
		if got := topo.Encode(m); !bytes.Equal(got, n.Value) {
			t.Errorf("%s comes back as %x, was %x", n.Key, got, n.Value)
		}
	}
}

func TestFixtureContent(t *testing.T) {
	read := func(key string) topo.Message {
		t.Helper()
		for _, n := range fixture(t) {
			if n.Key == key {
				m := newMessage(t, key)
				if err := topo.Decode(n.Value, m); err != nil {
					t.Fatal(err)
				}
				return m
			}
		}
		t.Fatalf("no key %s", key)
		return nil
	}
	tablet := read("/vitess/ext/ext1zone/tablets/ext1zone-0000000100/Tablet").(*topo.Tablet)
	want := topo.TabletAlias{Cell: "ext1zone", UID: 100}
	if tablet.Alias != want || tablet.Type != topo.TabletPrimary || tablet.MySQLAddr() != "127.0.0.1:27306" ||
		tablet.DBName() != "vt_load" || tablet.PortMap["grpc"] != 27200 || tablet.PortMap["vt"] != 27100 ||
		tablet.DefaultConnCollation != 255 || tablet.Shard != "0" {
		t.Errorf("tablet is %+v", tablet)
	}
	shard := read("/vitess/ext/global/keyspaces/load/shards/0/Shard").(*topo.Shard)
	if shard.PrimaryAlias != want || !shard.IsPrimaryServing || !shard.PrimaryTermStart.Equal(tablet.PrimaryTermStart) ||
		shard.PrimaryTermStart.Before(time.Unix(1_700_000_000, 0)) {
		t.Errorf("shard is %+v", shard)
	}
	vschema := read("/vitess/ext/global/keyspaces/load/VSchema").(*topo.VSchema)
	if b, err := json.Marshal(vschema); err != nil || string(b) != `{"vindexes":{"xxhash":{"type":"xxhash"}}}` {
		t.Errorf("vschema is %s, %v", b, err)
	}
}

// field appends one length-delimited field.
func field(b []byte, num protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), value)
}

func varint(b []byte, num protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), value)
}

// TestUnknownFields changes records that hold fields of a later Vitess, at every depth and out of order.
func TestUnknownFields(t *testing.T) {
	table := field(field(nil, 1, "sequence"), 99, "in table")
	entry := func(name string, table []byte) string { return string(field(field(nil, 1, name), 2, string(table))) }
	raw := varint(nil, 90, 7)
	raw = field(raw, 3, entry("z", table))
	raw = field(raw, 91, "between")
	raw = field(raw, 3, entry("a", nil))
	raw = field(raw, 3, entry("m", nil))
	raw = varint(raw, 1, 1)

	v := new(topo.VSchema)
	if err := topo.Decode(raw, v); err != nil {
		t.Fatal(err)
	}
	if got := topo.Encode(v); !bytes.Equal(got, raw) {
		t.Fatalf("comes back as %x, was %x", got, raw)
	}
	v.Sharded = false
	delete(v.Tables, "m")
	v.Tables["z"].Pinned = "80"
	v.Tables["b"] = &topo.Table{}
	v.RequireExplicitRouting = true
	want := varint(nil, 4, 1)
	want = varint(want, 90, 7)
	want = field(want, 3, entry("z", field(field(field(nil, 1, "sequence"), 5, "80"), 99, "in table")))
	want = field(want, 91, "between")
	want = field(want, 3, entry("a", nil))
	want = field(want, 3, entry("b", nil))
	if got := topo.Encode(v); !bytes.Equal(got, want) {
		t.Errorf("comes back as\n%q, want\n%q", got, want)
	}
}

// TestLists changes elements of a list in place, in number and in order.
func TestLists(t *testing.T) {
	node := func(uid uint64) string {
		return string(field(nil, 1, string(varint(field(nil, 1, "c"), 2, uid)))) + string(varint(nil, 50, uid))
	}
	raw := field(field(field(nil, 1, node(1)), 1, node(2)), 77, "x")
	r := new(topo.ShardReplication)
	if err := topo.Decode(raw, r); err != nil {
		t.Fatal(err)
	}
	r.Nodes = append(r.Nodes[1:], topo.ReplicationNode{Alias: topo.TabletAlias{Cell: "c", UID: 3}})
	plain := string(field(nil, 1, string(varint(field(nil, 1, "c"), 2, 3))))
	want := field(field(field(nil, 1, node(2)), 1, plain), 77, "x")
	if got := topo.Encode(r); !bytes.Equal(got, want) {
		t.Errorf("comes back as %q, want %q", got, want)
	}
	r.Nodes = nil
	if got, want := topo.Encode(r), field(nil, 77, "x"); !bytes.Equal(got, want) {
		t.Errorf("comes back as %q, want %q", got, want)
	}
}

func TestSingularFields(t *testing.T) {
	// Values that nobody writes today: a default that is spelled out, a field twice.
	raw := field(varint(nil, 5, 0), 8, "none")
	raw = field(raw, 8, "semi_sync")
	k := new(topo.Keyspace)
	if err := topo.Decode(raw, k); err != nil {
		t.Fatal(err)
	}
	if k.DurabilityPolicy != "semi_sync" {
		t.Errorf("policy is %s", k.DurabilityPolicy)
	}
	if got := topo.Encode(k); !bytes.Equal(got, raw) {
		t.Errorf("comes back as %x, was %x", got, raw)
	}
	k.DurabilityPolicy = "cross_cell"
	if got, want := topo.Encode(k), field(varint(nil, 5, 0), 8, "cross_cell"); !bytes.Equal(got, want) {
		t.Errorf("comes back as %x, want %x", got, want)
	}
}

func TestDecodeErrors(t *testing.T) {
	for name, raw := range map[string][]byte{
		"truncated":      {0x0a},
		"wrong type":     varint(nil, 1, 1),
		"short string":   {0x0a, 0x05, 'a'},
		"bad tag":        {0x07},
		"bad inner":      field(nil, 1, "\x0a"),
		"inverted range": field(nil, 2, string(field(field(nil, 1, "\x80"), 2, "\x40"))),
	} {
		if err := topo.Decode(raw, new(topo.Shard)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := topo.Decode(field(nil, 2, string(field(field(nil, 1, "\x80"), 2, "\x40"))), new(topo.Shard)); !errors.As(err, new(*topo.NameError)) {
		t.Errorf("inverted range: %v", err)
	}
}

// FuzzRecords decodes anything as each record. What is accepted must come back byte for byte.
func FuzzRecords(f *testing.F) {
	for _, n := range fixture(f) {
		for i := range recordKinds {
			f.Add(uint8(i), n.Value)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, raw []byte) {
		name := recordKinds[int(kind)%len(recordKinds)]
		m := newMessage(t, name)
		if topo.Decode(raw, m) != nil {
			return
		}
		got := topo.Encode(m)
		if !bytes.Equal(got, raw) {
			t.Fatalf("%s: %x comes back as %x", name, raw, got)
		}
	})
}
