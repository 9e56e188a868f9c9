package mount_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
)

// elsewhere opens the topology of vitessCluster, with two cells and nothing else.
func elsewhere(t *testing.T, ts *topo.Server) *topo.Server {
	t.Helper()
	other, err := ts.OpenOther(t.Context(), vitessCluster("").Topo)
	must(t, err)
	t.Cleanup(func() { must(t, other.Close()) })
	must(t,
		other.CreateCell(t.Context(), topo.CellInfo{Name: "far1", Root: "/far1"}),
		other.CreateCell(t.Context(), topo.CellInfo{Name: "far2", Root: "/far2"}),
	)
	return other
}

// addTablets adds tablets far1-100 and so on, "cell type" each.
func addTablets(t *testing.T, ts *topo.Server, keyspace, shard string, uid uint32, tablets ...string) {
	t.Helper()
	for i, text := range tablets {
		cell, kind, _ := strings.Cut(text, " ")
		typ, err := topo.ParseTabletType(kind)
		must(t, err, ts.InitTablet(t.Context(), topo.Tablet{
			Alias: topo.TabletAlias{Cell: cell, UID: uid + uint32(i)}, Keyspace: keyspace, Shard: shard, Type: typ,
			MySQLHostname: fmt.Sprintf("db%d", uid+uint32(i)), MySQLPort: 3306,
		}))
	}
}

// TestCheckVitess builds a cluster up, step by step; each finding goes when what it asks for is there.
func TestCheckVitess(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	register := func() error { return mount.Register(ctx, ts, vitessCluster("ext1"), mount.RegisterOptions{}) }
	finding := func(want ...string) {
		t.Helper()
		e := as[*mount.CheckError](t, register())
		if len(e.Findings) != len(want) || e.Cluster != "ext1" {
			t.Errorf("want %d findings: %v", len(want), e)
		}
		for i, w := range want {
			if !strings.Contains(e.Findings[i].String(), w) {
				t.Errorf("finding %q does not say %q", e.Findings[i], w)
			}
		}
		checkList(t, ts)
	}
	finding("there: /vitess/global: there is no cell")
	other := elsewhere(t, ts)
	finding("there is no keyspace")
	must(t, other.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}), other.CreateKeyspace(ctx, topo.Keyspace{Name: "empty"}))
	finding("keyspace empty: keyspace empty has no serving shard", "keyspace load: keyspace load has no serving shard")
	must(t, other.CreateShard(ctx, "load", "-80"), other.CreateShard(ctx, "load", "80-"))
	finding("keyspace empty", "shard load/-80 has no tablet of type PRIMARY")
	addTablets(t, other, "load", "80-", 100, "far1 primary")
	must(t, other.UpdateTablet(ctx, topo.TabletAlias{Cell: "far1", UID: 100}, func(r *topo.Tablet) error { r.MySQLPort = 0; return nil }))
	finding("keyspace empty", "far1-0000000100 of shard load/80-: its record has no address")
	must(t, other.UpdateTablet(ctx, topo.TabletAlias{Cell: "far1", UID: 100}, func(r *topo.Tablet) error { r.MySQLPort = 1; return nil }))
	must(t, register())
	checkList(t, ts, "ext1")
}

func TestCheckVitessNotServing(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	other := elsewhere(t, ts)
	must(t, other.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}), other.CreateShard(ctx, "load", "0"))
	addTablets(t, other, "load", "0", 100, "far1 primary")
	must(t, other.UpdateShard(ctx, "load", "0", func(r *topo.Shard) error { r.IsPrimaryServing = false; return nil }))
	err := mount.Register(ctx, ts, vitessCluster("ext1"), mount.RegisterOptions{})
	if e := as[*topo.NoShardsError](t, err); e.Keyspace != "load" {
		t.Errorf("%+v", e)
	}
	as[*mount.CheckError](t, err)
	must(t, mount.Register(ctx, ts, vitessCluster("ext1"), skip))
	h := open(t, ts, "ext1", mount.OpenOptions{})
	as[*topo.NoShardsError](t, second(h.Shards(ctx, "load")))
}

func TestUnknownImplementation(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	c := vitessCluster("ext1")
	c.Topo.Type = "zk2"
	err := mount.Register(ctx, ts, c, mount.RegisterOptions{})
	as[*mount.CheckError](t, err)
	if e := as[*topo.ImplementationError](t, err); e.Type != "zk2" {
		t.Errorf("%+v", e)
	}
	checkList(t, ts)
	must(t, mount.Register(ctx, ts, c, skip)) // another program may have it
	as[*topo.ImplementationError](t, second(mount.Open(ctx, ts, "ext1", mount.OpenOptions{})))
}

// open opens a mount for the rest of the test.
func open(t *testing.T, ts *topo.Server, name string, opts mount.OpenOptions) *mount.Handle {
	t.Helper()
	h, err := mount.Open(t.Context(), ts, name, opts)
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	return h
}

// ends lists the endpoints of a shard as "alias TYPE address database".
func ends(t *testing.T, h *mount.Handle, keyspace, shard string, sel topo.TabletSelector) []string {
	t.Helper()
	list, err := h.Endpoints(t.Context(), keyspace, shard, sel)
	must(t, err)
	var out []string
	for _, e := range list {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Alias, e.Type, e.Addr(), e.Database)))
	}
	return out
}

func checkEnds(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("endpoints\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestVitessHandle(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	other := elsewhere(t, ts)
	must(t,
		other.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}), other.CreateShard(ctx, "load", "80-"), other.CreateShard(ctx, "load", "-80"),
		other.CreateKeyspace(ctx, topo.Keyspace{Name: "empty"}),
	)
	addTablets(t, other, "load", "-80", 100, "far1 primary", "far2 replica", "far1 replica", "far1 rdonly")
	must(t, mount.Register(ctx, ts, vitessCluster("ext1"), mount.RegisterOptions{}))
	h := open(t, ts, "ext1", mount.OpenOptions{})
	if h.Cluster().Topo != vitessCluster("ext1").Topo || h.Cluster().Name != "ext1" {
		t.Errorf("cluster: %v", h.Cluster())
	}
	if got, err := h.Keyspaces(ctx); err != nil || !slices.Equal(got, []string{"empty", "load"}) {
		t.Errorf("keyspaces: %q, %v", got, err)
	}
	if got, err := h.Shards(ctx, "load"); err != nil || fmt.Sprint(got) != "[{-80 -80} {80- 80-}]" {
		t.Errorf("shards: %v, %v", got, err)
	}

	const (
		primary = "far1-0000000100 PRIMARY db100:3306 vt_load"
		near    = "far1-0000000102 REPLICA db102:3306 vt_load"
		far     = "far2-0000000101 REPLICA db101:3306 vt_load"
		rdonly  = "far1-0000000103 RDONLY db103:3306 vt_load"
	)
	types := func(text string) []topo.TabletType {
		list, err := topo.ParseTabletTypes(text)
		must(t, err)
		return list
	}
	checkEnds(t, ends(t, h, "load", "-80", topo.TabletSelector{}), near, far, primary)
	checkEnds(t, ends(t, h, "load", "-80", topo.TabletSelector{Cells: []string{"far2", "far1"}}), far, near, primary)
	checkEnds(t, ends(t, h, "load", "-80", topo.TabletSelector{Types: types("PRIMARY,RDONLY")}), primary, rdonly)
	checkEnds(t, ends(t, h, "load", "-80", topo.TabletSelector{Cells: []string{"far2"}}), far)

	checkEnds(t, ends(t, h, "load", "-80", topo.TabletSelector{Types: types("PRIMARY"), Cells: []string{"far2"}}), primary)
	e := as[*topo.NoTabletError](t, second(h.Endpoints(ctx, "load", "-80", topo.TabletSelector{Types: types("RDONLY"), Cells: []string{"far2"}})))
	if e.Shard != "-80" || len(e.Found) != 1 {
		t.Errorf("%+v", e)
	}
	as[*topo.NoTabletError](t, second(h.Endpoints(ctx, "load", "80-", topo.TabletSelector{})))

	// After a failover the new primary is the primary, and the database may have another name.
	must(t,
		other.SetPrimary(ctx, "load", "-80", topo.TabletAlias{Cell: "far2", UID: 101}),
		other.UpdateTablet(ctx, topo.TabletAlias{Cell: "far2", UID: 101}, func(r *topo.Tablet) error {
			r.DBNameOverride, r.Type = "other", topo.TabletReplica // its own record lags
			return nil
		}),
	)
	checkEnds(t, ends(t, h, "load", "-80", topo.TabletSelector{Types: types("PRIMARY")}), "far2-0000000101 PRIMARY db101:3306 other")
}

func TestVitessNotFound(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	other := elsewhere(t, ts)
	must(t, other.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}), other.CreateShard(ctx, "load", "0"))
	addTablets(t, other, "load", "0", 100, "far1 primary")
	must(t, mount.Register(ctx, ts, vitessCluster("ext1"), mount.RegisterOptions{}))
	h := open(t, ts, "ext1", mount.OpenOptions{})
	for _, tt := range []struct {
		err  error
		want mount.NotFoundError
	}{
		{second(h.Shards(ctx, "nope")), mount.NotFoundError{Kind: "keyspace", Name: "nope", Known: []string{"load"}}},
		{second(h.Endpoints(ctx, "nope", "0", topo.TabletSelector{})), mount.NotFoundError{Kind: "keyspace", Name: "nope", Known: []string{"load"}}},
		{second(h.Endpoints(ctx, "load", "-80", topo.TabletSelector{})), mount.NotFoundError{Kind: "shard", Name: "load/-80", Known: []string{"0"}}},
		{second(h.Endpoints(ctx, "load", "0", topo.TabletSelector{Cells: []string{"far1", "mars"}})), mount.NotFoundError{Kind: "cell", Name: "mars", Known: []string{"far1", "far2"}}},
	} {
		e := as[*mount.NotFoundError](t, tt.err)
		tt.want.Cluster = "ext1"
		if fmt.Sprintf("%+v", *e) != fmt.Sprintf("%+v", tt.want) {
			t.Errorf("%+v, want %+v", *e, tt.want)
		}
		for _, say := range append([]string{"ext1", tt.want.Name}, tt.want.Known...) {
			if !strings.Contains(tt.err.Error(), say) {
				t.Errorf("%q does not say %q", tt.err, say)
			}
		}
	}

	// A tablet without a MySQL address is no endpoint.
	must(t, other.UpdateTablet(ctx, topo.TabletAlias{Cell: "far1", UID: 100}, func(r *topo.Tablet) error { r.MySQLPort = 0; return nil }))
	_, err := h.Endpoints(ctx, "load", "0", topo.TabletSelector{})
	if as[*topo.NoTabletError](t, err); !strings.Contains(err.Error(), "address") {
		t.Error(err)
	}

	must(t, h.Close(), h.Close())
	for _, err := range []error{second(h.Keyspaces(ctx)), second(h.Shards(ctx, "load")), second(h.Endpoints(ctx, "load", "0", topo.TabletSelector{}))} {
		if !errors.Is(err, mount.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}
