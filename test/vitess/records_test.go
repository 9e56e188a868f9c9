package vitess

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
)

// testRecords has Vitess read what the library writes, and the other way round.
func testRecords(t *testing.T, l *lab) {
	c := l.west()
	ts := c.topology(t)
	ctx := t.Context()
	t.Run("mounts", func(t *testing.T) {
		address := topo.Address{Type: "etcd2", Server: l.etcd.Addr() + "," + l.etcd.Addr(), Root: "/east/global"}
		must(t, mount.Register(ctx, ts, mount.Cluster{Name: "ours", Type: mount.Vitess, Topo: address}, mount.RegisterOptions{SkipChecks: true}))
		must(t, mount.Register(ctx, ts, mount.Cluster{Name: "plain1", Type: mount.MySQL, Hosts: []string{"db:3306"}}, mount.RegisterOptions{SkipChecks: true, Credentials: login}))
		c.ctl(t, "Mount", "register", "--name", "theirs", "--topo-type", address.Type, "--topo-server", address.Server, "--topo-root", address.Root)
		var list struct{ Names []string }
		must(t, json.Unmarshal([]byte(c.ctl(t, "Mount", "list")), &list))
		if !slices.Equal(list.Names, []string{"ours", "theirs"}) {
			t.Errorf("Vitess has mounts %v", list.Names)
		}
		names, err := mount.List(ctx, ts)
		must(t, err)
		if !slices.Contains(names, "ours") || !slices.Contains(names, "plain1") || !slices.Contains(names, "theirs") {
			t.Errorf("we have mounts %v", names)
		}
		for _, name := range []string{"ours", "theirs"} {
			var show struct {
				Type   string `json:"topo_type"`
				Server string `json:"topo_server"`
				Root   string `json:"topo_root"`
				Name   string
			}
			must(t, json.Unmarshal([]byte(c.ctl(t, "Mount", "show", "--name", name)), &show))
			have, err := mount.Show(ctx, ts, name)
			must(t, err)
			if show.Name != name || have.Topo != (topo.Address{Type: show.Type, Server: show.Server, Root: show.Root}) || have.Topo != address {
				t.Errorf("mount %s: Vitess has %+v, we %+v", name, show, have)
			}
		}
		c.ctl(t, "Mount", "unregister", "--name", "ours")
		must(t, mount.Unregister(ctx, ts, "theirs", mount.UnregisterOptions{}))
		must(t, mount.Unregister(ctx, ts, "plain1", mount.UnregisterOptions{}))
		if out := c.ctl(t, "Mount", "list"); out != "{}" {
			t.Errorf("mounts are left: %s", out)
		}
	})
	t.Run("made by us", func(t *testing.T) {
		must(t, ts.CreateKeyspace(ctx, topo.Keyspace{Name: "made", DurabilityPolicy: "semi_sync"}))
		for _, shard := range []string{"-40", "40-c0", "c0-"} {
			must(t, ts.CreateShard(ctx, "made", shard))
		}
		must(t, ts.InitTablet(ctx, topo.Tablet{
			Alias: topo.TabletAlias{Cell: "zone2", UID: 900}, Type: topo.TabletPrimary, Keyspace: "made", Shard: "40-c0",
			MySQLHostname: "127.0.0.1", MySQLPort: 3399, Hostname: "localhost", PortMap: map[string]int32{"vt": 1, "grpc": 2},
		}))
		must(t, ts.SaveVSchema(ctx, "made", &topo.VSchema{Tables: map[string]*topo.Table{"t": {Type: "sequence"}}}))
		must(t, ts.RebuildSrvKeyspace(ctx, "made"))
		same(t, c, []string{"GetKeyspace", "made"}, `{"name":"made","keyspace":{"durability_policy":"semi_sync","keyspace_type":"NORMAL","sidecar_db_name":"_vt"}}`)
		same(t, c, []string{"GetShard", "made/40-c0"}, `{"keyspace":"made","name":"40-c0","shard":{"primary_alias":{"cell":"zone2","uid":900},
			"key_range":{"start":"QA==","end":"wA=="},"is_primary_serving":true}}`)
		same(t, c, []string{"GetTablet", "zone2-900"}, `{"alias":{"cell":"zone2","uid":900},"hostname":"localhost","keyspace":"made","shard":"40-c0",
			"key_range":{"start":"QA==","end":"wA=="},"type":"PRIMARY","mysql_hostname":"127.0.0.1","mysql_port":3399,"port_map":{"vt":1,"grpc":2}}`)
		same(t, c, []string{"GetVSchema", "made"}, `{"foreign_key_mode":"unspecified","tables":{"t":{"type":"sequence"}}}`)
		ours := c.ctl(t, "GetSrvKeyspaces", "made")
		c.ctl(t, "RebuildKeyspaceGraph", "made")
		if theirs := c.ctl(t, "GetSrvKeyspaces", "made"); theirs != ours {
			t.Errorf("SrvKeyspace: Vitess makes %s of what is %s by us", theirs, ours)
		}
		must(t, ts.DeleteTablet(ctx, topo.TabletAlias{Cell: "zone2", UID: 900}))
		c.ctl(t, "DeleteKeyspace", "--recursive", "made")
	})
	t.Run("changed by us", func(t *testing.T) {
		// Records with all that Vitess's commands put into them.
		c.ctl(t, "AddCellsAlias", "--cells", "zone1,zone2", "west")
		c.ctl(t, "UpdateThrottlerConfig", "--threshold=7", "--throttle-app=x", "--app-name=y", "--app-metrics=lag", "commerce")
		c.ctl(t, "SetShardTabletControl", "--denied-tables=forbidden", "commerce/0", "rdonly")
		c.ctl(t, "SetVtorcEmergencyReparent", "--disable", "commerce", "0")
		c.ctl(t, "SetVtorcEmergencyReparent", "--disable", "customer", "80-")
		c.ctl(t, "ApplyRoutingRules", "--rules", `{"rules": [{"from_table": "gone", "to_tables": ["commerce.there"]}]}`)
		c.ctl(t, "ApplyKeyspaceRoutingRules", "--rules", `{"rules": [{"from_keyspace": "old", "to_keyspace": "commerce"}]}`)
		c.ctl(t, "ApplyShardRoutingRules", "--rules", `{"rules": [{"from_keyspace": "old", "to_keyspace": "customer", "shard": "-80"}]}`)
		c.ctl(t, "RebuildVSchemaGraph")
		c.ctl(t, "RebuildKeyspaceGraph", "commerce", "customer")
		c.undo(t, "ApplyRoutingRules", "--rules", `{"rules": []}`)
		c.undo(t, "ApplyShardRoutingRules", "--rules", `{"rules": []}`)
		c.undo(t, "ApplyKeyspaceRoutingRules", "--rules", `{"rules": []}`)
		c.undo(t, "SetShardTabletControl", "--remove", "commerce/0", "rdonly")
		look := func() (out []string) {
			for _, args := range [][]string{
				{"GetKeyspace", "commerce"},
				{"GetShard", "commerce/0"},
				{"GetShard", "customer/80-"},
				{"GetTablet", "zone2-201"},
				{"GetVSchema", "customer"},
				{"GetSrvVSchema", "zone1"},
				{"GetSrvVSchema", "zone2"},
				{"GetSrvKeyspaces", "commerce"},
				{"GetSrvKeyspaces", "customer"},
				{"GetCellsAliases"},
				{"GetCellInfo", "zone2"},
			} {
				out = append(out, args[0]+" "+c.ctl(t, args...))
			}
			return out
		}
		before := look()
		must(t, ts.UpdateKeyspace(ctx, "commerce", func(*topo.Keyspace) error { return nil }))
		must(t, ts.UpdateShard(ctx, "commerce", "0", func(*topo.Shard) error { return nil }))
		must(t, ts.UpdateShard(ctx, "customer", "80-", func(*topo.Shard) error { return nil }))
		must(t, ts.UpdateTablet(ctx, topo.TabletAlias{Cell: "zone2", UID: 201}, func(*topo.Tablet) error { return nil }))
		must(t, ts.UpdateVSchema(ctx, "customer", func(*topo.VSchema) error { return nil }))
		must(t, ts.UpdateCell(ctx, "zone2", func(*topo.CellInfo) error { return nil }))
		must(t, ts.RebuildSrvVSchema(ctx))
		must(t, ts.RebuildSrvKeyspace(ctx, "commerce"))
		must(t, ts.RebuildSrvKeyspace(ctx, "customer"))
		for i, after := range look() {
			if after != before[i] {
				t.Errorf("was\n%s\nand is\n%s", before[i], after)
			}
		}
		cells, err := ts.ExpandCells(ctx, []string{"west"})
		must(t, err)
		if !slices.Equal(cells, []string{"zone1", "zone2"}) {
			t.Errorf("the alias has cells %v", cells)
		}
	})
}

// same compares what Vitess prints with JSON; fields that this does not have must be empty there, but for times and the collation.
func same(t *testing.T, c *cluster, args []string, want string) {
	t.Helper()
	out := c.ctl(t, args...)
	var a, b any
	must(t, json.Unmarshal([]byte(out), &a))
	must(t, json.Unmarshal([]byte(want), &b))
	textA, errA := json.Marshal(strip(a))
	must(t, errA)
	textB, errB := json.Marshal(b)
	must(t, errB)
	if string(textA) != string(textB) {
		t.Errorf("%v says\n%s, want\n%s", args, textA, textB)
	}
}

// strip removes what is empty.
func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			field = strip(field)
			if v[name] = field; field == nil || name == "primary_term_start_time" {
				delete(v, name)
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
	case string:
		if v == "" {
			return nil
		}
	case float64:
		if v == 0 {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
}
