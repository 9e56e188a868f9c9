package mount_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
)

// openEtcd opens a root of an etcd server for the rest of the test.
func openEtcd(t *testing.T, e *replicationtest.Etcd, root string) *topo.Server {
	t.Helper()
	openers := topo.Openers{"etcd2": etcdtopo.Opener(etcdtopo.Options{DialTimeout: 2 * time.Second})}
	ts, err := topo.Open(t.Context(), openers, topo.Address{Type: "etcd2", Server: e.Addr(), Root: root})
	must(t, err)
	t.Cleanup(func() { _ = ts.Close() })
	return ts
}

// loadFixture puts the keys of a real Vitess cluster into etcd, as they are but for the address of the cell's server.
func loadFixture(t *testing.T, e *replicationtest.Etcd) {
	t.Helper()
	data, err := os.ReadFile("../topo/testdata/vitess_fixture.json")
	must(t, err)
	var nodes []struct {
		Key   string `json:"key"`
		Value string `json:"value_b64"`
	}
	must(t, json.Unmarshal(data, &nodes))
	all := openEtcd(t, e, "/vitess/ext")
	for _, n := range nodes {
		value, err := base64.StdEncoding.DecodeString(n.Value)
		must(t, err)
		_, err = all.Conn().Put(t.Context(), strings.TrimPrefix(n.Key, "/vitess/ext/"), value, 0)
		must(t, err)
	}
	err = openEtcd(t, e, "/vitess/ext/global").UpdateCell(t.Context(), "ext1zone", func(c *topo.CellInfo) error {
		c.ServerAddress = e.Addr()
		return nil
	})
	must(t, err)
}

// TestEtcd mounts the topology of a real Vitess cluster that is on another etcd server.
func TestEtcd(t *testing.T) {
	needServers(t)
	ctx := t.Context()
	here, there := replicationtest.StartEtcd(t), replicationtest.StartEtcd(t)
	ts := openEtcd(t, here, "/vitess/global")
	loadFixture(t, there)
	c := mount.Cluster{Name: "ext1", Type: mount.Vitess, Topo: topo.Address{Type: "etcd2", Server: there.Addr(), Root: "/vitess/ext/global"}}

	// A root that is not the global one, and one that is nothing.
	for _, root := range []string{"/vitess/ext/ext1zone", "/nothing"} {
		wrong := c
		wrong.Topo.Root = root
		err := mount.Register(ctx, ts, wrong, mount.RegisterOptions{})
		if e := as[*mount.CheckError](t, err); len(e.Findings) != 1 || e.Findings[0].Object != root || !strings.Contains(e.Findings[0].Message, "no cell") {
			t.Errorf("%v", e)
		}
	}
	// Nobody there.
	wrong := c
	wrong.Topo.Server = "127.0.0.1:1"
	begin := time.Now()
	err := mount.Register(ctx, ts, wrong, mount.RegisterOptions{})
	as[*mount.CheckError](t, err)
	if e := as[*mount.UnreachableError](t, err); e.Addr != "127.0.0.1:1" || !errors.Is(err, topo.ErrUnreachable) || time.Since(begin) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	checkList(t, ts)

	must(t, mount.Register(ctx, ts, c, mount.RegisterOptions{}))
	as[*mount.ExistsError](t, mount.Register(ctx, ts, c, mount.RegisterOptions{}))
	checkList(t, ts, "ext1")
	// Another process sees it.
	h := open(t, openEtcd(t, here, "/vitess/global"), "ext1", mount.OpenOptions{})
	if h.Cluster().Topo != c.Topo {
		t.Errorf("cluster: %v", h.Cluster())
	}
	if got, err := h.Keyspaces(ctx); err != nil || !slices.Equal(got, []string{"load"}) {
		t.Errorf("keyspaces: %q, %v", got, err)
	}
	if got, err := h.Shards(ctx, "load"); err != nil || len(got) != 1 || got[0].Name != "0" || !got[0].KeyRange.IsComplete() {
		t.Errorf("shards: %v, %v", got, err)
	}
	checkEnds(t, ends(t, h, "load", "0", topo.TabletSelector{}), "ext1zone-0000000100 PRIMARY 127.0.0.1:27306 vt_load")
	checkEnds(t, ends(t, h, "load", "0", topo.TabletSelector{Cells: []string{"ext1zone"}}), "ext1zone-0000000100 PRIMARY 127.0.0.1:27306 vt_load")

	// The other etcd goes away: opening says so, and the mount can be removed all the same.
	there.Kill9()
	err = second(mount.Open(ctx, ts, "ext1", mount.OpenOptions{}))
	if e := as[*mount.UnreachableError](t, err); e.Addr != there.Addr() {
		t.Errorf("%+v", e)
	}
	limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := mount.Register(limited, ts, mount.Cluster{Name: "ext2", Type: mount.Vitess, Topo: c.Topo}, mount.RegisterOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's limit: %v", err)
	}
	must(t, mount.Unregister(ctx, ts, "ext1", mount.UnregisterOptions{}))
	checkList(t, ts)

	registerAtOnce(t, ts, "ext3")
}
