package topo_test

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tablehaul/tablehaul/topo"
)

// A nest says which fields of a message are messages themselves. That of a map's entry has a 0.
type nest map[protowire.Number]nest

var (
	leaf    = nest{}
	aTable  = nest{2: leaf, 3: leaf, 4: leaf}
	ofNames = func(value nest) nest { return nest{0: nil, 2: value} }
	vschema = nest{2: ofNames(leaf), 3: ofNames(aTable), 6: leaf}
	rules   = nest{1: leaf}
	// nests are all records that a topology holds, by the last part of the key.
	nests = map[string]nest{
		"CellInfo": leaf, "CellsAlias": leaf, "Keyspace": {7: leaf},
		"Shard":  {1: leaf, 2: leaf, 4: {4: leaf}, 6: leaf, 8: leaf},
		"Tablet": {1: leaf, 7: leaf, 14: leaf, 17: leaf, 18: leaf}, "ShardReplication": {1: {1: leaf}},
		"SrvKeyspace": {1: {2: {2: leaf}}}, "VSchema": vschema, "SrvVSchema": {1: ofNames(vschema), 2: rules, 3: rules, 4: rules, 5: rules},
		"RoutingRules": rules, "ShardRoutingRules": rules, "Rules": rules, "MirrorRules": rules, "ext1": {1: leaf},
	}
)

// size counts the kinds of messages in a nest. An entry counts for its value.
func (n nest) size() int {
	size := 1
	if _, entry := n[0]; entry {
		size = 0
	}
	for _, inner := range n {
		if inner != nil {
			size += inner.size()
		}
	}
	return size
}

// ofEntry is the part of a place that names a map's entry.
var ofEntry = regexp.MustCompile(`\[[^]]*\]`)

// laterField is a field of a Vitess that is not known here.
const laterField protowire.Number = 777

// walk calls visit for the content of every message in a record, outermost first, with its place in the record, and returns the record
// made of what visit returns.
func walk(b []byte, n nest, place string, visit func(place string, message []byte) []byte) []byte {
	var out []byte
	_, entry := n[0]
	key := ""
	for rest := b; len(rest) > 0; {
		num, typ, tag := protowire.ConsumeTag(rest)
		size := protowire.ConsumeFieldValue(num, typ, rest[tag:])
		if tag < 0 || size < 0 {
			panic("malformed")
		}
		raw := rest[:tag+size]
		rest = rest[tag+size:]
		inner, nested := n[num]
		if entry && num == 1 {
			value, _ := protowire.ConsumeBytes(raw[tag:])
			key = string(value)
		}
		if !nested {
			out = append(out, raw...)
			continue
		}
		value, _ := protowire.ConsumeBytes(raw[tag:])
		where := fmt.Sprintf("%s/%d", place, num)
		if entry {
			where = place + "[" + key + "]"
		}
		out = protowire.AppendTag(out, num, protowire.BytesType)
		out = protowire.AppendBytes(out, walk(value, inner, where, visit))
	}
	if entry {
		return out // protobuf keeps nothing of an entry but its key and value
	}
	return visit(place, out)
}

// addUnknown puts a field of a later version into every message of a record.
func addUnknown(b []byte, n nest) []byte {
	return walk(b, n, "", func(_ string, m []byte) []byte { return field(m, laterField, "later") })
}

// unknown counts the messages of a record that hold such a field, by their places; the places in lists are all one.
func unknown(b []byte, n nest) map[string]int {
	found := map[string]int{}
	walk(b, n, "", func(place string, m []byte) []byte {
		for rest := m; len(rest) > 0; {
			num, _, n := protowire.ConsumeField(rest)
			if rest = rest[n:]; num == laterField {
				found[place]++
			}
		}
		return m
	})
	return found
}

// checkSame reads a record and writes it.
func checkSame(t *testing.T, key string, value []byte) {
	t.Helper()
	m := newMessage(t, key)
	if err := topo.Decode(value, m); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	if again := topo.Encode(m); !bytes.Equal(again, value) {
		t.Errorf("%s comes back as %x, was %x", key, again, value)
	}
}

// TestUnknownFieldsStay puts fields of a later Vitess into every message of every record of a topology, and then changes the records by every
// method there is. What is not replaced as a whole keeps them.
func TestUnknownFieldsStay(t *testing.T) {
	ts := newShard(t)
	ctx := t.Context()
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	v, err := topo.ParseVSchema([]byte(bigVSchema))
	must(err)
	later := time.Unix(1_800_000_000, 5)
	must(
		ts.CreateCellsAlias(ctx, topo.CellsAlias{Name: "all", Cells: []string{"zone1", "zone2"}}),
		ts.CreateShard(ctx, "commerce", "80-"),
		ts.UpdateVSchema(ctx, "commerce", func(into *topo.VSchema) error { *into = *v; return nil }),
		ts.UpdateKeyspace(ctx, "commerce", func(k *topo.Keyspace) error { k.SnapshotTime = later; return nil }),
		ts.UpdateShard(ctx, "commerce", "-80", func(s *topo.Shard) error {
			s.SourceShards = []topo.SourceShard{{UID: 1, Keyspace: "k", Shard: "0", KeyRange: mustRange(t, "-80")}}
			s.TabletControls = []topo.TabletControl{{TabletType: topo.TabletPrimary, DeniedTables: []string{"t"}}}
			return nil
		}),
	)
	addTablet(t, ts, "zone1-100", topo.TabletPrimary)
	addTablet(t, ts, "zone1-101", topo.TabletReplica)
	for _, uid := range []uint32{100, 101} {
		must(ts.UpdateTablet(ctx, topo.TabletAlias{Cell: "zone1", UID: uid}, func(t *topo.Tablet) error {
			t.Start, t.Shutdown, t.PrimaryTermStart = later, later, later
			t.PortMap, t.Tags = map[string]int32{"grpc": 1}, map[string]string{"a": "b"}
			return nil
		}))
	}
	rule := func(from, to string) []byte { return field(nil, 1, string(field(field(nil, 1, from), 2, to))) }
	for key, value := range map[string][]byte{
		"RoutingRules": rule("a.t", "b.t"), "ShardRoutingRules": rule("a", "b"), "routing_rules/keyspace/Rules": rule("a", "b"), "MirrorRules": rule("a.t", "b.t"),
		"ExternalClusters/vitess/ext1": field(nil, 1, string(field(nil, 1, "etcd2"))),
	} {
		_, err := ts.Conn().Put(ctx, key, value, topo.Absent)
		must(err)
	}
	must(ts.RebuildSrvKeyspace(ctx, "commerce"), ts.RebuildSrvVSchema(ctx))

	cell := func(name string) topo.Conn {
		c, err := ts.CellConn(ctx, name)
		must(err)
		return c
	}
	type place struct {
		c   topo.Conn
		key string
	}
	var records []place
	for _, key := range []string{
		"cells/zone1/CellInfo", "cells_aliases/all/CellsAlias", "keyspaces/commerce/Keyspace", "keyspaces/commerce/VSchema", "keyspaces/commerce/shards/-80/Shard",
		"RoutingRules", "ShardRoutingRules", "routing_rules/keyspace/Rules", "MirrorRules", "ExternalClusters/vitess/ext1",
	} {
		records = append(records, place{ts.Conn(), key})
	}
	for _, key := range []string{
		"tablets/zone1-0000000100/Tablet", "tablets/zone1-0000000101/Tablet", "keyspaces/commerce/shards/-80/ShardReplication",
		"keyspaces/commerce/SrvKeyspace", "SrvVSchema",
	} {
		records = append(records, place{cell("zone1"), key})
	}
	before := map[string]map[string]int{}
	seen := map[string]bool{}
	for _, r := range records {
		kind := path.Base(r.key)
		seen[kind] = true
		value, version, err := r.c.Get(ctx, r.key)
		must(err)
		checkSame(t, r.key, value) // as this library made it
		value = addUnknown(value, nests[kind])
		checkSame(t, r.key, value)
		_, err = r.c.Put(ctx, r.key, value, version)
		must(err)
		before[r.key] = unknown(value, nests[kind])
		// The test is worth something only if every kind of message is there.
		places := map[string]bool{}
		for where := range before[r.key] {
			places[ofEntry.ReplaceAllString(where, "")] = true
		}
		if len(places) != nests[kind].size() {
			t.Errorf("%s: messages are at %d places, not at %d: %v", r.key, len(places), nests[kind].size(), before[r.key])
		}
	}
	if len(seen) != len(nests) {
		t.Errorf("there are records of %d kinds, not of %d", len(seen), len(nests))
	}
	// check looks at all records. What a step replaces is named as "key place"; it is not expected any more.
	check := func(step string, replaced ...string) {
		t.Helper()
		for _, r := range records {
			value, _, err := r.c.Get(ctx, r.key)
			must(err)
			for _, name := range replaced {
				if key, where, _ := strings.Cut(name, " "); key == r.key {
					delete(before[key], where)
				}
			}
			now := unknown(value, nests[path.Base(r.key)])
			for where, n := range before[r.key] {
				if now[where] < n {
					t.Errorf("%s: %s: %d of %d unknown fields are left in messages at %q", step, r.key, now[where], n, where)
				}
			}
			before[r.key] = now
		}
	}
	check("nothing")

	must(ts.UpdateCell(ctx, "zone1", func(c *topo.CellInfo) error { c.ServerAddress = "other"; return nil }))
	must(ts.UpdateCell(ctx, "zone1", func(c *topo.CellInfo) error { c.ServerAddress = ""; return nil }))
	must(ts.UpdateKeyspace(ctx, "commerce", func(k *topo.Keyspace) error { k.DurabilityPolicy = "semi_sync"; return nil }))
	must(ts.UpdateShard(ctx, "commerce", "-80", func(s *topo.Shard) error {
		s.TabletControls[0].DeniedTables = append(s.TabletControls[0].DeniedTables, "u")
		s.TabletControls = append(s.TabletControls, topo.TabletControl{TabletType: topo.TabletRdonly})
		s.SourceShards[0].Tables = []string{"t"}
		s.IsPrimaryServing = !s.IsPrimaryServing
		return nil
	}))
	must(ts.UpdateShard(ctx, "commerce", "-80", func(s *topo.Shard) error { s.IsPrimaryServing = true; return nil }))
	must(ts.UpdateTablet(ctx, topo.TabletAlias{Cell: "zone1", UID: 101}, func(t *topo.Tablet) error {
		t.MySQLPort, t.DBNameOverride, t.PortMap["vt"], t.Tags = 1, "x", 2, nil
		return nil
	}))
	check("updates")

	shard := "keyspaces/commerce/shards/-80/Shard"
	must(ts.SetPrimary(ctx, "commerce", "-80", topo.TabletAlias{Cell: "zone1", UID: 101}))
	check("another primary", shard+" /1", shard+" /8", "tablets/zone1-0000000100/Tablet /14", "tablets/zone1-0000000101/Tablet /14")
	addTablet(t, ts, "zone1-99", topo.TabletReplica)
	check("a new tablet")
	must(ts.DeleteTablet(ctx, topo.TabletAlias{Cell: "zone1", UID: 99}))
	check("a tablet less")

	update := func(change func(*topo.VSchema)) {
		t.Helper()
		must(ts.UpdateVSchema(ctx, "commerce", func(v *topo.VSchema) error { change(v); return nil }))
	}
	update(func(v *topo.VSchema) {
		v.Tables["new"], v.Vindexes["null"] = &topo.Table{Pinned: "80"}, &topo.Vindex{Type: "null"}
		v.Tables["t"].AutoIncrement.Sequence = "main.other"
		v.Tables["t"].ColumnVindexes[1].Columns = []string{"a", "b", "c"}
		v.Tables["t"].Columns[0].Size = 7
		v.Vindexes["region"].Params["region_bytes"] = "2"
		v.MultiTenantSpec.TenantIDColumnName = "customer"
	})
	check("UpdateVSchema")
	must(ts.RebuildSrvVSchema(ctx))
	check("RebuildSrvVSchema")

	// A VSchema as a user has it, which can't name such fields.
	b, err := v.MarshalJSON()
	must(err)
	typed, err := topo.ParseVSchema(b)
	must(err)
	slices.Reverse(typed.Tables["t"].ColumnVindexes)
	typed.Tables["ref"].Source = "main.other"
	must(ts.SaveVSchema(ctx, "commerce", typed))
	check("SaveVSchema")
	if now, err := ts.VSchema(ctx, "commerce"); err != nil || now.Tables["new"] != nil || now.Tables["ref"].Source != "main.other" || now.Tables["t"].ColumnVindexes[0].Name != "region" {
		t.Errorf("the saved VSchema is %+v, %v", now, err)
	}
	delete(typed.Tables, "t")
	gone := []string{"", "/2", "/3", "/4"}
	for i, where := range gone {
		gone[i] = "keyspaces/commerce/VSchema /3[t]" + where
	}
	must(ts.SaveVSchema(ctx, "commerce", typed))
	check("SaveVSchema without a table", gone...)
	for i, where := range gone {
		gone[i] = "SrvVSchema /1[commerce]" + strings.TrimPrefix(where, "keyspaces/commerce/VSchema ")
	}
	must(ts.RebuildSrvVSchema(ctx))
	check("RebuildSrvVSchema without a table", gone...)

	// A shard is split: its references go, and that of the other shard stays as it is.
	must(ts.CreateShard(ctx, "commerce", "-40"), ts.CreateShard(ctx, "commerce", "40-80"))
	must(ts.UpdateShard(ctx, "commerce", "-80", func(s *topo.Shard) error { s.IsPrimaryServing = false; return nil }))
	for _, name := range []string{"-40", "40-80"} {
		must(ts.UpdateShard(ctx, "commerce", name, func(s *topo.Shard) error { s.IsPrimaryServing = true; return nil }))
	}
	must(ts.RebuildSrvKeyspace(ctx, "commerce"))
	srv := before["keyspaces/commerce/SrvKeyspace"]
	want := maps.Clone(srv)
	want["/1/2"], want["/1/2/2"] = 3, 3 // of the three types, one shard each
	before["keyspaces/commerce/SrvKeyspace"] = want
	check("RebuildSrvKeyspace")
}
