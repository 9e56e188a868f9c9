package topo_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
	"github.com/tablehaul/tablehaul/topo/topotest"
)

// fixtureAddress is where the fixture's CellInfo says its etcd is.
const fixtureAddress = "127.0.0.1:27379"

func TestFixtureMemory(t *testing.T) {
	testFixture(t, memorytopo.New().Open)
}

func TestFixtureEtcd(t *testing.T) {
	e := replicationtest.StartEtcd(t)
	testFixture(t, func(ctx context.Context, a topo.Address) (topo.Conn, error) {
		if a.Server != fixtureAddress {
			t.Errorf("opened %s", a)
		}
		a.Server = e.Addr()
		return etcdtopo.Open(ctx, a)
	})
}

// testFixture loads a dump of a real Vitess's topology, reads every key with the typed methods and writes every key
// again.
func testFixture(t *testing.T, open topo.Opener) {
	ctx := t.Context()
	raw, err := open(ctx, topo.Address{Server: fixtureAddress, Root: "/"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := raw.Close(); err != nil {
			t.Error(err)
		}
	})
	nodes := fixture(t)
	for _, n := range nodes {
		if _, err := raw.Put(ctx, n.Key, n.Value, topo.Absent); err != nil {
			t.Fatal(err)
		}
	}
	ts, err := topo.Open(ctx, topo.Openers{"etcd2": open}, topo.Address{Type: "etcd2", Server: fixtureAddress, Root: "/vitess/ext/global"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ts.Close(); err != nil {
			t.Error(err)
		}
	})
	readFixture(t, ts)
	rewriteFixture(t, ts, raw)
	for _, n := range nodes {
		if got, _, err := raw.Get(ctx, n.Key); err != nil || !bytes.Equal(got, n.Value) {
			t.Errorf("%s is %x, %v, was %x", n.Key, got, err, n.Value)
		}
	}
	readFixture(t, ts)
}

func readFixture(t *testing.T, ts *topo.Server) {
	t.Helper()
	ctx := t.Context()
	if cells, err := ts.Cells(ctx); err != nil || !slices.Equal(cells, []string{"ext1zone"}) {
		t.Errorf("cells are %q, %v", cells, err)
	}
	if c, err := ts.Cell(ctx, "ext1zone"); err != nil || c.Root != "/vitess/ext/ext1zone" || c.ServerAddress != fixtureAddress {
		t.Errorf("cell is %+v, %v", c, err)
	}
	if names, err := ts.Keyspaces(ctx); err != nil || !slices.Equal(names, []string{"load"}) {
		t.Errorf("keyspaces are %q, %v", names, err)
	}
	if k, err := ts.Keyspace(ctx, "load"); err != nil || k.SidecarDBName != "_vt" || k.DurabilityPolicy != "none" {
		t.Errorf("keyspace is %+v, %v", k, err)
	}
	alias := topo.TabletAlias{Cell: "ext1zone", UID: 100}
	if shards, err := ts.ServingShards(ctx, "load"); err != nil || len(shards) != 1 || shards[0].Name != "0" || shards[0].PrimaryAlias != alias {
		t.Errorf("shards are %+v, %v", shards, err)
	}
	if tablets, err := ts.Tablets(ctx, "load", "0"); err != nil || len(tablets) != 1 || tablets[0].Alias != alias {
		t.Errorf("tablets are %+v, %v", tablets, err)
	}
	if p, err := ts.Primary(ctx, "load", "0"); err != nil || p.MySQLAddr() != "127.0.0.1:27306" || p.DBName() != "vt_load" {
		t.Errorf("primary is %+v, %v", p, err)
	}
	if v, err := ts.VSchema(ctx, "load"); err != nil || v.Vindexes["xxhash"].Type != "xxhash" {
		t.Errorf("vschema is %+v, %v", v, err)
	}
	if v, err := ts.SrvVSchema(ctx, "ext1zone"); err != nil || v.Keyspaces["load"].Vindexes["xxhash"].Type != "xxhash" || v.RoutingRules == nil {
		t.Errorf("srv vschema is %+v, %v", v, err)
	}
	k, err := ts.SrvKeyspace(ctx, "ext1zone", "load")
	if err != nil || len(k.Partitions) != 3 || k.Partitions[2].ServedType != topo.TabletRdonly || k.Partitions[0].ShardReferences[0].Name != "0" {
		t.Errorf("srv keyspace is %+v, %v", k, err)
	}
}

// rewriteFixture changes every record and changes it back.
func rewriteFixture(t *testing.T, ts *topo.Server, raw topo.Conn) {
	t.Helper()
	ctx := t.Context()
	alias := topo.TabletAlias{Cell: "ext1zone", UID: 100}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tablet, err := ts.Tablet(ctx, alias)
	must(err)
	shard, err := ts.Shard(ctx, "load", "0")
	must(err)

	// The cell moves, which opens its connection again.
	for _, root := range []string{"/vitess/ext/elsewhere", "/vitess/ext/ext1zone"} {
		must(ts.UpdateCell(ctx, "ext1zone", func(c *topo.CellInfo) error { c.Root = root; return nil }))
		_, err := ts.Tablet(ctx, alias)
		if missing := errors.Is(err, topo.ErrNoNode); missing != (root == "/vitess/ext/elsewhere") {
			t.Errorf("with the cell at %s: %v", root, err)
		}
	}
	for _, policy := range []string{"semi_sync", "none"} {
		must(ts.UpdateKeyspace(ctx, "load", func(k *topo.Keyspace) error { k.DurabilityPolicy = policy; return nil }))
	}
	must(ts.UpdateVSchema(ctx, "load", func(v *topo.VSchema) error {
		v.Tables = map[string]*topo.Table{"t": {}}
		return nil
	}))
	must(ts.RebuildSrvVSchema(ctx))
	if v, err := ts.SrvVSchema(ctx, "ext1zone"); err != nil || v.Keyspaces["load"].Tables["t"] == nil {
		t.Errorf("srv vschema is %+v, %v", v, err)
	}
	must(ts.UpdateVSchema(ctx, "load", func(v *topo.VSchema) error { delete(v.Tables, "t"); return nil }))
	must(ts.RebuildSrvVSchema(ctx, "ext1zone"))

	// The records that are derived from others come out the same when they are made from nothing.
	for _, key := range []string{"SrvVSchema", "keyspaces/load/SrvKeyspace"} {
		must(raw.Delete(ctx, "/vitess/ext/ext1zone/"+key, topo.AnyVersion))
	}
	must(ts.RebuildSrvVSchema(ctx))
	must(ts.RebuildSrvKeyspace(ctx, "load"))

	// So does a tablet's entry, and the shard gets back its primary.
	must(ts.DeleteTablet(ctx, alias))
	if _, err := ts.Primary(ctx, "load", "0"); !errors.As(err, new(*topo.NoTabletError)) {
		t.Errorf("primary after its deletion: %v", err)
	}
	must(ts.InitTablet(ctx, *tablet))
	if shard.PrimaryTermStart != tablet.PrimaryTermStart {
		t.Errorf("the fixture's shard and tablet do not agree")
	}
}

func newServer(t *testing.T) *topo.Server {
	t.Helper()
	ts := topotest.NewServer(t)
	if err := ts.CreateKeyspace(t.Context(), topo.Keyspace{Name: "commerce"}); err != nil {
		t.Fatal(err)
	}
	return ts
}

func wantName(t *testing.T, err error, name string) {
	t.Helper()
	if e := (*topo.NameError)(nil); !errors.As(err, &e) || e.Name != name {
		t.Errorf("%q gives %v", name, err)
	}
}

func TestBadNames(t *testing.T) {
	ts := newServer(t)
	ctx := t.Context()
	long := strings.Repeat("x", 65)
	for _, name := range []string{"", "a/b", "..", ".", "a.b", "a b", "a,b", "a\x00", long, "a:b", "\xff"} {
		wantName(t, ts.CreateKeyspace(ctx, topo.Keyspace{Name: name}), name)
		wantName(t, ts.CreateExternalCluster(ctx, topo.ExternalCluster{Name: name, Kind: topo.ExternalMySQL}), name)
		if name == "a.b" {
			continue // a zone may be called so
		}
		wantName(t, ts.CreateCell(ctx, topo.CellInfo{Name: name, Root: "/r"}), name)
		wantName(t, ts.CreateShard(ctx, "commerce", name), name)
	}
	for _, name := range []string{"", "a/b", "..", "a\n"} {
		_, err := ts.Keyspace(ctx, name)
		wantName(t, err, name)
		_, err = ts.Shard(ctx, "commerce", name)
		wantName(t, err, name)
		_, err = ts.VSchema(ctx, name)
		wantName(t, err, name)
		_, err = ts.Cell(ctx, name)
		wantName(t, err, name)
		_, err = ts.LockKeyspace(ctx, name, topo.LockOptions{})
		wantName(t, err, name)
		if name != "a/b" {
			_, err = ts.LockName(ctx, name, topo.LockOptions{})
			wantName(t, err, name)
		}
	}
	wantName(t, ts.CreateShard(ctx, "commerce", "80-40"), "80-40")
	wantName(t, ts.CreateShard(ctx, "commerce", "x-y"), "x-y")
	for _, alias := range []string{"", "zone1", "zone1-", "-1", "zone1-x", "zone1-4294967296", "a/b-1", "zone1-+1"} {
		_, err := topo.ParseTabletAlias(alias)
		wantName(t, err, alias)
	}
	for _, types := range []string{"", "PRIMRY", "replica,,primary", "in_order:", "unknown"} {
		if _, err := topo.ParseTabletTypes(types); !errors.As(err, new(*topo.NameError)) {
			t.Errorf("types %q give %v", types, err)
		}
	}
	// Nothing was created.
	if names, err := ts.Keyspaces(ctx); err != nil || !slices.Equal(names, []string{"commerce"}) {
		t.Errorf("keyspaces are %q, %v", names, err)
	}
	if shards, err := ts.Shards(ctx, "commerce"); err != nil || len(shards) != 0 {
		t.Errorf("shards are %v, %v", shards, err)
	}
	if cells, err := ts.Cells(ctx); err != nil || !slices.Equal(cells, []string{"zone1"}) {
		t.Errorf("cells are %q, %v", cells, err)
	}
	if names, err := ts.ExternalClusters(ctx); err != nil || len(names) != 0 {
		t.Errorf("external clusters are %q, %v", names, err)
	}
}

func TestAliasesAndTypes(t *testing.T) {
	for in, want := range map[string]string{"zone1-100": "zone1-0000000100", "us-east-1a-0000000007": "us-east-1a-0000000007", "z-4294967295": "z-4294967295", "z-0": "z-0000000000"} {
		a, err := topo.ParseTabletAlias(in)
		if err != nil || a.String() != want {
			t.Errorf("%s is %s, %v", in, a, err)
		}
	}
	got, err := topo.ParseTabletTypes("in_order:REPLICA,primary,batch,replica")
	if want := []topo.TabletType{topo.TabletReplica, topo.TabletPrimary, topo.TabletRdonly}; err != nil || !slices.Equal(got, want) {
		t.Errorf("types are %v, %v", got, err)
	}
}

func TestKeyspacesAndShards(t *testing.T) {
	ts := newServer(t)
	ctx := t.Context()
	if err := ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}); !errors.Is(err, topo.ErrNodeExists) {
		t.Errorf("second keyspace: %v", err)
	}
	if v, err := ts.VSchema(ctx, "commerce"); err != nil || v.Sharded {
		t.Errorf("vschema is %+v, %v", v, err)
	}
	if _, err := ts.ServingShards(ctx, "commerce"); !errors.As(err, new(*topo.NoShardsError)) {
		t.Errorf("no shards: %v", err)
	}
	if _, err := ts.Shards(ctx, "nowhere"); !errors.Is(err, topo.ErrNoNode) || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("no keyspace: %v", err)
	}
	if err := ts.CreateShard(ctx, "nowhere", "0"); !errors.Is(err, topo.ErrNoNode) {
		t.Errorf("no keyspace: %v", err)
	}
	for _, shard := range []string{"80-", "-40"} {
		if err := ts.CreateShard(ctx, "commerce", shard); err != nil {
			t.Fatal(err)
		}
	}
	if err := ts.CreateShard(ctx, "commerce", "80-"); !errors.Is(err, topo.ErrNodeExists) {
		t.Errorf("second shard: %v", err)
	}
	_, err := ts.ServingShards(ctx, "commerce")
	if e := (*topo.CoverError)(nil); !errors.As(err, &e) || e.Range.String() != "40-80" {
		t.Errorf("gap: %v", err)
	}
	if err := ts.RebuildSrvKeyspace(ctx, "commerce"); !errors.As(err, new(*topo.CoverError)) {
		t.Errorf("gap: %v", err)
	}
	for _, shard := range []string{"40-80", "A0-c0"} {
		if err := ts.CreateShard(ctx, "commerce", shard); err != nil {
			t.Fatal(err)
		}
	}
	names := func(shards []*topo.Shard) (out []string) {
		for _, s := range shards {
			out = append(out, s.Name)
		}
		return out
	}
	all, err := ts.Shards(ctx, "commerce")
	if want := []string{"-40", "40-80", "80-", "a0-c0"}; err != nil || !slices.Equal(names(all), want) {
		t.Errorf("shards are %q, %v", names(all), err)
	}
	serving, err := ts.ServingShards(ctx, "commerce")
	if want := []string{"-40", "40-80", "80-"}; err != nil || !slices.Equal(names(serving), want) {
		t.Errorf("serving shards are %q, %v", names(serving), err)
	}
	if err := ts.RebuildSrvKeyspace(ctx, "commerce"); err != nil {
		t.Fatal(err)
	}
	k, err := ts.SrvKeyspace(ctx, "zone1", "commerce")
	if err != nil || len(k.Partitions) != 3 || len(k.Partitions[1].ShardReferences) != 3 || k.Partitions[1].ShardReferences[1].KeyRange != mustRange(t, "40-80") {
		t.Errorf("srv keyspace is %+v, %v", k, err)
	}

	err = ts.DeleteKeyspace(ctx, "commerce")
	if e := (*topo.NotEmptyError)(nil); !errors.As(err, &e) || len(e.Holds) != 4 {
		t.Errorf("delete: %v", err)
	}
	for _, s := range all {
		if err := ts.DeleteShard(ctx, "commerce", s.Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := ts.DeleteKeyspace(ctx, "commerce"); err != nil {
		t.Fatal(err)
	}
	if _, err := ts.SrvKeyspace(ctx, "zone1", "commerce"); !errors.Is(err, topo.ErrNoNode) {
		t.Errorf("srv keyspace after the delete: %v", err)
	}
	if names, err := ts.Keyspaces(ctx); err != nil || len(names) != 0 {
		t.Errorf("keyspaces are %q, %v", names, err)
	}
}

func TestUpdateVSchemaRetries(t *testing.T) {
	ts := newServer(t)
	ctx := t.Context()
	calls := 0
	err := ts.UpdateVSchema(ctx, "commerce", func(v *topo.VSchema) error {
		if calls++; calls == 1 {
			// Somebody else is quicker.
			if err := ts.SaveVSchema(ctx, "commerce", &topo.VSchema{Tables: map[string]*topo.Table{"theirs": {}}}); err != nil {
				return err
			}
		}
		if v.Tables == nil {
			v.Tables = make(map[string]*topo.Table)
		}
		v.Tables["ours"] = &topo.Table{}
		return nil
	})
	if err != nil || calls != 2 {
		t.Fatalf("%d calls, %v", calls, err)
	}
	v, err := ts.VSchema(ctx, "commerce")
	if err != nil || v.Tables["ours"] == nil || v.Tables["theirs"] == nil {
		t.Errorf("vschema is %+v, %v", v, err)
	}
	stop := errors.New("stop")
	if err := ts.UpdateVSchema(ctx, "commerce", func(*topo.VSchema) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of the function: %v", err)
	}
	if err := ts.UpdateVSchema(ctx, "nowhere", func(*topo.VSchema) error { return nil }); !errors.Is(err, topo.ErrNoNode) {
		t.Errorf("no keyspace: %v", err)
	}
	if err := ts.SaveVSchema(ctx, "commerce", &topo.VSchema{Tables: map[string]*topo.Table{"t": {Type: "x"}}}); !errors.As(err, new(*topo.VSchemaError)) {
		t.Errorf("invalid vschema: %v", err)
	}
}

func TestRebuildSrvVSchemaPartly(t *testing.T) {
	mem := memorytopo.New()
	ctx := t.Context()
	down := func(ctx context.Context, a topo.Address) (topo.Conn, error) {
		if a.Server == "down" {
			return nil, topo.ErrUnreachable
		}
		return mem.Open(ctx, a)
	}
	ts, err := topo.Open(ctx, topo.Openers{"memory": down}, topo.Address{Type: "memory", Server: "up", Root: "/global"})
	if err != nil {
		t.Fatal(err)
	}
	defer ts.Close()
	for cell, server := range map[string]string{"zone1": "", "zone2": "down", "zone3": "up"} {
		if err := ts.CreateCell(ctx, topo.CellInfo{Name: cell, ServerAddress: server, Root: "/" + cell}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ts.CreateCellsAlias(ctx, topo.CellsAlias{Name: "west", Cells: []string{"zone3", "zone1"}}); err != nil {
		t.Fatal(err)
	}
	if err := ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}); err != nil {
		t.Fatal(err)
	}
	err = ts.RebuildSrvVSchema(ctx)
	e := (*topo.CellError)(nil)
	if !errors.As(err, &e) || len(e.Cells) != 1 || !errors.Is(e.Cells["zone2"], topo.ErrUnreachable) {
		t.Errorf("rebuild: %v", err)
	}
	for _, cell := range []string{"zone1", "zone3"} {
		if v, err := ts.SrvVSchema(ctx, cell); err != nil || v.Keyspaces["commerce"] == nil {
			t.Errorf("%s has %+v, %v", cell, v, err)
		}
	}
	if err := ts.RebuildSrvVSchema(ctx, "west"); err != nil {
		t.Errorf("rebuild an alias: %v", err)
	}
	if cells, err := ts.ExpandCells(ctx, []string{"zone1", "west", "zone2"}); err != nil || !slices.Equal(cells, []string{"zone1", "zone3", "zone2"}) {
		t.Errorf("expanded to %q, %v", cells, err)
	}
	if _, err := ts.ExpandCells(ctx, []string{"zone9"}); !errors.Is(err, topo.ErrNoNode) || !strings.Contains(err.Error(), "zone9") {
		t.Errorf("unknown cell: %v", err)
	}
	if err := ts.RebuildSrvVSchema(ctx, "zone9"); !errors.Is(err, topo.ErrNoNode) {
		t.Errorf("unknown cell: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	_, err := topo.Open(t.Context(), topo.Openers{"memory": memorytopo.New().Open}, topo.Address{Type: "zk"})
	if e := (*topo.ImplementationError)(nil); !errors.As(err, &e) || e.Type != "zk" || !slices.Equal(e.Known, []string{"memory"}) {
		t.Errorf("unknown implementation: %v", err)
	}
	ts := newServer(t)
	if err := ts.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ts.Cells(t.Context()); !errors.Is(err, topo.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestMalformedRecord(t *testing.T) {
	ts := newServer(t)
	ctx := t.Context()
	if _, err := ts.Conn().Put(ctx, "keyspaces/commerce/shards/0/Shard", []byte("\x0a\xff"), topo.Absent); err != nil {
		t.Fatal(err)
	}
	_, err := ts.Shards(ctx, "commerce")
	if e := (*topo.RecordError)(nil); !errors.As(err, &e) || e.Key != "keyspaces/commerce/shards/0/Shard" {
		t.Errorf("malformed shard: %v", err)
	}
	if err := ts.UpdateShard(ctx, "commerce", "0", func(*topo.Shard) error { return nil }); !errors.As(err, new(*topo.RecordError)) {
		t.Errorf("malformed shard: %v", err)
	}
}

func TestExternalClusters(t *testing.T) {
	ts := newServer(t)
	ctx := t.Context()
	vitess := topo.ExternalCluster{Name: "ext1", Kind: topo.ExternalVitess, Topo: topo.Address{Type: "etcd2", Server: "localhost:12379", Root: "/vitess/global"}}
	if err := ts.CreateExternalCluster(ctx, vitess); err != nil {
		t.Fatal(err)
	}
	// Vitess's form, byte for byte.
	value, _, err := ts.Conn().Get(ctx, "ExternalClusters/vitess/ext1")
	want := field(nil, 1, string(field(field(field(nil, 1, "etcd2"), 2, "localhost:12379"), 3, "/vitess/global")))
	if err != nil || !bytes.Equal(value, want) {
		t.Errorf("record is %q, %v", value, err)
	}
	plain := topo.ExternalCluster{Name: "plain", Kind: topo.ExternalMySQL, Hosts: []string{"a:3306", "b:3306"}}
	if err := ts.CreateExternalCluster(ctx, plain); err != nil {
		t.Fatal(err)
	}
	for _, e := range []topo.ExternalCluster{vitess, plain, {Name: "ext1", Kind: topo.ExternalMySQL}} {
		if err := ts.CreateExternalCluster(ctx, e); !errors.Is(err, topo.ErrNodeExists) || !strings.Contains(err.Error(), e.Name) {
			t.Errorf("second %s %s: %v", e.Kind, e.Name, err)
		}
	}
	if e, err := ts.ExternalCluster(ctx, "ext1"); err != nil || e.Topo != vitess.Topo || e.Kind != topo.ExternalVitess {
		t.Errorf("ext1 is %+v, %v", e, err)
	}
	if e, err := ts.ExternalCluster(ctx, "plain"); err != nil || !slices.Equal(e.Hosts, plain.Hosts) || e.Kind != topo.ExternalMySQL {
		t.Errorf("plain is %+v, %v", e, err)
	}
	if names, err := ts.ExternalClusters(ctx); err != nil || !slices.Equal(names, []string{"ext1", "plain"}) {
		t.Errorf("names are %q, %v", names, err)
	}
	for _, name := range []string{"ext1", "plain"} {
		if err := ts.DeleteExternalCluster(ctx, name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
		if err := ts.DeleteExternalCluster(ctx, name); !errors.Is(err, topo.ErrNoNode) || !strings.Contains(err.Error(), name) {
			t.Errorf("delete %s again: %v", name, err)
		}
	}
	if err := ts.CreateExternalCluster(ctx, topo.ExternalCluster{Name: "x", Kind: "oracle"}); !errors.As(err, new(*topo.NameError)) {
		t.Errorf("unknown kind: %v", err)
	}
}
