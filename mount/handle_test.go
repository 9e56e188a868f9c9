package mount_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

// TestCheckEndpoint changes one thing after the other in the topology of a Vitess cluster and asks for an endpoint that was given out before.
func TestCheckEndpoint(t *testing.T) {
	type change = func(t *testing.T, ts *topo.Server)
	shard := func(fn func(*topo.Shard)) change {
		return func(t *testing.T, ts *topo.Server) {
			must(t, ts.UpdateShard(t.Context(), "load", "-80", func(s *topo.Shard) error { fn(s); return nil }))
		}
	}
	tablet := func(uid uint32, fn func(*topo.Tablet)) change {
		return func(t *testing.T, ts *topo.Server) {
			must(t, ts.UpdateTablet(t.Context(), topo.TabletAlias{Cell: "far1", UID: uid}, func(r *topo.Tablet) error { fn(r); return nil }))
		}
	}
	promote := func(uid uint32) change {
		return func(t *testing.T, ts *topo.Server) {
			must(t, ts.SetPrimary(t.Context(), "load", "-80", topo.TabletAlias{Cell: "far1", UID: uid}))
		}
	}
	both := []topo.TabletType{topo.TabletReplica, topo.TabletPrimary}
	primary, replica := []topo.TabletType{topo.TabletPrimary}, []topo.TabletType{topo.TabletReplica}
	for _, tt := range []struct {
		name   string
		types  []topo.TabletType
		change change
		want   string // in the reason; "" means nothing has changed
	}{
		{"nothing", both, func(*testing.T, *topo.Server) {}, ""},
		{"another replica is primary", both, promote(102), ""},
		{"it becomes primary", both, promote(101), ""},
		{"it becomes primary and only replicas will do", replica, promote(101), "of type PRIMARY now"},
		{"drained", both, tablet(101, func(r *topo.Tablet) { r.Type = topo.TabletDrained }), "of type DRAINED now"},
		{"restoring", replica, tablet(101, func(r *topo.Tablet) { r.Type = topo.TabletRestore }), "of type RESTORE now"},
		{"another port", both, tablet(101, func(r *topo.Tablet) { r.MySQLPort = 4 }), "at db101:4 now"},
		{"another host", both, tablet(101, func(r *topo.Tablet) { r.MySQLHostname = "fd00::1" }), "at [fd00::1]:3306 now"},
		{"no port", both, tablet(101, func(r *topo.Tablet) { r.MySQLPort = 0 }), "no address"},
		{"another database", both, tablet(101, func(r *topo.Tablet) { r.DBNameOverride = "other" }), "database is other now"},
		{"gone", both, func(t *testing.T, ts *topo.Server) {
			must(t, ts.DeleteTablet(t.Context(), topo.TabletAlias{Cell: "far1", UID: 101}))
		}, "record is gone"},
		{"moved", both, func(t *testing.T, ts *topo.Server) {
			alias := topo.TabletAlias{Cell: "far1", UID: 101}
			must(t, ts.DeleteTablet(t.Context(), alias), ts.InitTablet(t.Context(), topo.Tablet{
				Alias: alias, Keyspace: "load", Shard: "80-", Type: topo.TabletReplica, MySQLHostname: "db101", MySQLPort: 3306,
			}))
		}, "belongs to shard load/80- now"},
		{"resharded", both, shard(func(s *topo.Shard) { s.IsPrimaryServing = false }), "does not serve"},
		{"the primary, and nothing", primary, func(*testing.T, *topo.Server) {}, ""},
		{"the primary, and another one now", primary, promote(101), "far1-0000000101 is the primary now"},
		{"the primary, and none now", primary, shard(func(s *topo.Shard) { s.PrimaryAlias = topo.TabletAlias{} }), ""},
		{"the primary, its own record late", primary, tablet(100, func(r *topo.Tablet) { r.Type = topo.TabletReplica }), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, ts := t.Context(), newTopo(t)
			other := elsewhere(t, ts)
			must(t, other.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}), other.CreateShard(ctx, "load", "-80"), other.CreateShard(ctx, "load", "80-"))
			addTablets(t, other, "load", "-80", 100, "far1 primary", "far1 replica", "far1 replica")
			must(t, mount.Register(ctx, ts, vitessCluster("ext1"), skip))
			h := open(t, ts, "ext1", mount.OpenOptions{})
			sel := topo.TabletSelector{Types: tt.types}
			list, err := h.Endpoints(ctx, "load", "-80", sel)
			must(t, err)
			tt.change(t, other)
			err = h.Check(ctx, "load", "-80", sel, list[0])
			if tt.want == "" {
				must(t, err)
				return
			}
			if e := as[*mount.ChangedError](t, err); e.Alias != list[0].Alias || e.Addr != list[0].Addr() || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestCellsOfTheirOwn: a cell has a topology server of its own, which goes away. What the other cells have is enough; without, the error
// names the cell. That the cell can't be read does not mean that its tablets are gone.
func TestCellsOfTheirOwn(t *testing.T) {
	mem := memorytopo.New()
	ctx := t.Context()
	var down atomic.Bool
	open := func(ctx context.Context, a topo.Address) (topo.Conn, error) {
		if down.Load() && a.Server == "etcd-far2" {
			return nil, topo.ErrUnreachable
		}
		return mem.Open(ctx, a)
	}
	ts, err := topo.Open(ctx, topo.Openers{"memory": open}, topo.Address{Type: "memory", Server: "here", Root: "/global"})
	must(t, err)
	defer ts.Close()
	other, err := ts.OpenOther(ctx, vitessCluster("").Topo)
	must(t, err)
	defer other.Close()
	must(t,
		other.CreateCell(ctx, topo.CellInfo{Name: "far1", Root: "/some/other/root"}),
		other.CreateCell(ctx, topo.CellInfo{Name: "far2", ServerAddress: "etcd-far2", Root: "/far2"}),
		other.CreateCellsAlias(ctx, topo.CellsAlias{Name: "far", Cells: []string{"far2", "far1"}}),
		other.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}), other.CreateShard(ctx, "load", "0"),
		mount.Register(ctx, ts, vitessCluster("ext1"), skip),
	)
	addTablets(t, other, "load", "0", 100, "far1 primary", "far2 replica", "far1 rdonly")
	must(t, other.UpdateTablet(ctx, topo.TabletAlias{Cell: "far2", UID: 101}, func(r *topo.Tablet) error { r.MySQLHostname = "[::1]"; return nil }))
	const (
		primary = "far1-0000000100 PRIMARY db100:3306 vt_load"
		replica = "far2-0000000101 REPLICA [::1]:3306 vt_load"
	)
	var lines bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&lines, nil))
	sel := topo.TabletSelector{Cells: []string{"far"}}
	before := ends(t, openWith(t, ts, logger), "load", "0", sel)
	checkEnds(t, before, replica, primary)
	list, err := openWith(t, ts, logger).Endpoints(ctx, "load", "0", sel)
	must(t, err)
	if lines.Len() > 0 {
		t.Errorf("logged %s", lines.String())
	}

	down.Store(true)
	h := openWith(t, ts, logger)
	checkEnds(t, ends(t, h, "load", "0", sel), primary)
	if text := lines.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "far2") || !strings.Contains(text, "mount=ext1") {
		t.Errorf("logged %q", text)
	}
	_, err = h.Endpoints(ctx, "load", "0", topo.TabletSelector{Cells: []string{"far"}, Types: []topo.TabletType{topo.TabletReplica}})
	as[*topo.NoTabletError](t, err)
	if e := as[*topo.CellError](t, err); e.Cells["far2"] == nil || !errors.Is(err, topo.ErrUnreachable) || !strings.Contains(err.Error(), "far2") {
		t.Error(err)
	}
	err = h.Check(ctx, "load", "0", sel, list[0])
	if _, changed := errors.AsType[*mount.ChangedError](err); changed || !errors.Is(err, topo.ErrUnreachable) {
		t.Errorf("a tablet of a cell that can't be read: %v", err)
	}
	must(t, h.Check(ctx, "load", "0", sel, list[1]))

	for _, kind := range []topo.TabletType{topo.TabletSpare, topo.TabletDrained, topo.TabletBackup, topo.TabletRestore} {
		if e := as[*mount.ConfigError](t, second(h.Endpoints(ctx, "load", "0", topo.TabletSelector{Types: []topo.TabletType{kind}}))); e.Value != kind.String() {
			t.Errorf("%+v", e)
		}
	}
}

func openWith(t *testing.T, ts *topo.Server, logger *slog.Logger) *mount.Handle {
	t.Helper()
	return open(t, ts, "ext1", mount.OpenOptions{Logger: logger})
}

func TestVSchemaOfMount(t *testing.T) {
	ctx, ts := t.Context(), newTopo(t)
	other := elsewhere(t, ts)
	must(t, other.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}), mount.Register(ctx, ts, vitessCluster("ext1"), skip))
	must(t, other.UpdateVSchema(ctx, "load", func(v *topo.VSchema) error { v.Sharded = true; return nil }))
	h := open(t, ts, "ext1", mount.OpenOptions{})
	if v, err := h.VSchema(ctx, "load"); err != nil || !v.Sharded {
		t.Errorf("vschema: %v, %v", v, err)
	}
	must(t, other.Conn().Delete(ctx, "keyspaces/load/VSchema", topo.AnyVersion))
	if v, err := h.VSchema(ctx, "load"); err != nil || v.Sharded || len(v.Tables) > 0 {
		t.Errorf("without one: %v, %v", v, err)
	}
	as[*mount.NotFoundError](t, second(h.VSchema(ctx, "nope")))
}
