package topo_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

// newShard returns a topology with two cells and a shard without tablets.
func newShard(t *testing.T) *topo.Server {
	t.Helper()
	ts := newServer(t)
	ctx := t.Context()
	if err := ts.CreateCell(ctx, topo.CellInfo{Name: "zone2", Root: "/zone2"}); err != nil {
		t.Fatal(err)
	}
	if err := ts.CreateShard(ctx, "commerce", "-80"); err != nil {
		t.Fatal(err)
	}
	return ts
}

func addTablet(t *testing.T, ts *topo.Server, alias string, kind topo.TabletType) {
	t.Helper()
	a, err := topo.ParseTabletAlias(alias)
	if err != nil {
		t.Fatal(err)
	}
	if err := ts.InitTablet(t.Context(), topo.Tablet{Alias: a, MySQLHostname: "db", MySQLPort: int32(a.UID), Keyspace: "commerce", Shard: "-80", Type: kind}); err != nil {
		t.Fatal(err)
	}
}

func TestInitTablet(t *testing.T) {
	ts := newShard(t)
	ctx := t.Context()
	if _, err := ts.Primary(ctx, "commerce", "-80"); !errors.As(err, new(*topo.NoTabletError)) {
		t.Errorf("primary of an empty shard: %v", err)
	}
	addTablet(t, ts, "zone1-100", topo.TabletPrimary)
	p, err := ts.Primary(ctx, "commerce", "-80")
	if err != nil || p.MySQLAddr() != "db:100" || p.Hostname != "db" || p.DBName() != "vt_commerce" || p.KeyRange.String() != "-80" || p.PrimaryTermStart.IsZero() {
		t.Errorf("primary is %+v, %v", p, err)
	}
	if s, err := ts.Shard(ctx, "commerce", "-80"); err != nil || !s.PrimaryTermStart.Equal(p.PrimaryTermStart) || !s.IsPrimaryServing {
		t.Errorf("shard is %+v, %v", s, err)
	}

	good := topo.Tablet{Alias: topo.TabletAlias{Cell: "zone1", UID: 101}, MySQLHostname: "db", MySQLPort: 3306, Keyspace: "commerce", Shard: "-80", Type: topo.TabletReplica}
	for name, spoil := range map[string]func(*topo.Tablet){
		"alias":    func(t *topo.Tablet) { t.Alias = topo.TabletAlias{} },
		"cell":     func(t *topo.Tablet) { t.Alias.Cell = "a/b" },
		"keyspace": func(t *topo.Tablet) { t.Keyspace = "" },
		"shard":    func(t *topo.Tablet) { t.Shard = "" },
		"type":     func(t *topo.Tablet) { t.Type = topo.TabletUnknown },
		"host":     func(t *topo.Tablet) { t.MySQLHostname = "" },
		"port":     func(t *topo.Tablet) { t.MySQLPort = 65536 },
	} {
		bad := good
		spoil(&bad)
		if err := ts.InitTablet(ctx, bad); !errors.As(err, new(*topo.NameError)) {
			t.Errorf("bad %s: %v", name, err)
		}
	}
	for name, spoil := range map[string]func(*topo.Tablet){
		"zone9":   func(t *topo.Tablet) { t.Alias.Cell = "zone9" },
		"nowhere": func(t *topo.Tablet) { t.Keyspace = "nowhere" },
		"80-":     func(t *topo.Tablet) { t.Shard = "80-" },
	} {
		bad := good
		spoil(&bad)
		if err := ts.InitTablet(ctx, bad); !errors.Is(err, topo.ErrNoNode) || !strings.Contains(err.Error(), name) {
			t.Errorf("unknown %s: %v", name, err)
		}
	}
	again := good
	again.Alias.UID = 100
	if err := ts.InitTablet(ctx, again); !errors.Is(err, topo.ErrNodeExists) {
		t.Errorf("alias in use: %v", err)
	}
	usurper := good
	usurper.Type = topo.TabletPrimary
	err = ts.InitTablet(ctx, usurper)
	if e := (*topo.PrimaryExistsError)(nil); !errors.As(err, &e) || e.Primary.UID != 100 {
		t.Errorf("second primary: %v", err)
	}
	if tablets, err := ts.Tablets(ctx, "commerce", "-80"); err != nil || len(tablets) != 1 {
		t.Errorf("tablets are %+v, %v", tablets, err)
	}
}

func aliases(tablets []*topo.Tablet) string {
	var out []string
	for _, t := range tablets {
		out = append(out, t.MySQLAddr())
	}
	return strings.Join(out, " ")
}

func TestSelectTablets(t *testing.T) {
	ts := newShard(t)
	ctx := t.Context()
	addTablet(t, ts, "zone1-100", topo.TabletPrimary)
	addTablet(t, ts, "zone1-102", topo.TabletReplica)
	addTablet(t, ts, "zone1-101", topo.TabletReplica)
	addTablet(t, ts, "zone2-200", topo.TabletReplica)
	addTablet(t, ts, "zone2-201", topo.TabletRdonly)
	const primary, replica, rdonly = topo.TabletPrimary, topo.TabletReplica, topo.TabletRdonly
	for _, test := range []struct {
		types []topo.TabletType
		cells []string
		want  string
	}{
		{nil, nil, "db:101 db:102 db:200 db:100"},
		{[]topo.TabletType{primary, rdonly}, nil, "db:100 db:201"},
		{[]topo.TabletType{rdonly, replica}, []string{"zone2", "zone1"}, "db:201 db:200 db:101 db:102"},
		{[]topo.TabletType{replica}, []string{"zone2"}, "db:200"},
		{[]topo.TabletType{primary}, []string{"zone2"}, "db:100"},
		{[]topo.TabletType{primary, rdonly}, []string{"zone2"}, "db:201"},
	} {
		got, err := ts.SelectTablets(ctx, "commerce", "-80", topo.TabletSelector{Types: test.types, Cells: test.cells})
		if err != nil || aliases(got) != test.want {
			t.Errorf("%v in %v: %s, %v", test.types, test.cells, aliases(got), err)
		}
	}
	_, err := ts.SelectTablets(ctx, "commerce", "-80", topo.TabletSelector{Types: []topo.TabletType{rdonly}, Cells: []string{"zone1"}})
	const want = "shard commerce/-80 has no tablet of type RDONLY in zone1 (it has zone1-0000000100 PRIMARY, zone1-0000000101 REPLICA, zone1-0000000102 REPLICA)"
	if e := (*topo.NoTabletError)(nil); !errors.As(err, &e) || err.Error() != want {
		t.Errorf("no tablet: %v", err)
	}

	// The primary is known by the shard, even when its cell does not list it.
	c, err := ts.CellConn(ctx, "zone1")
	if err != nil {
		t.Fatal(err)
	}
	const key = "keyspaces/commerce/shards/-80/ShardReplication"
	listed, version, err := c.Get(ctx, key)
	if err == nil {
		err = c.Delete(ctx, key, version)
	}
	for _, test := range []struct {
		cells []string
		want  string
	}{{nil, "db:200 db:100"}, {[]string{"zone1"}, "db:100"}, {[]string{"zone2"}, "db:200"}} {
		if got, serr := ts.SelectTablets(ctx, "commerce", "-80", topo.TabletSelector{Cells: test.cells}); err != nil || serr != nil || aliases(got) != test.want {
			t.Errorf("without the list, in %v: %s, %v, %v", test.cells, aliases(got), err, serr)
		}
	}
	if _, err := c.Put(ctx, key, listed, topo.Absent); err != nil {
		t.Fatal(err)
	}

	if err := ts.SetPrimary(ctx, "commerce", "-80", topo.TabletAlias{Cell: "zone2", UID: 200}); err != nil {
		t.Fatal(err)
	}
	if p, err := ts.Primary(ctx, "commerce", "-80"); err != nil || p.Alias.UID != 200 || p.Type != primary || p.PrimaryTermStart.IsZero() {
		t.Errorf("new primary is %+v, %v", p, err)
	}
	if p, err := ts.Tablet(ctx, topo.TabletAlias{Cell: "zone1", UID: 100}); err != nil || p.Type != replica || !p.PrimaryTermStart.IsZero() {
		t.Errorf("old primary is %+v, %v", p, err)
	}
	if err := ts.CreateShard(ctx, "commerce", "80-"); err != nil {
		t.Fatal(err)
	}
	wantName(t, ts.SetPrimary(ctx, "commerce", "80-", topo.TabletAlias{Cell: "zone1", UID: 100}), "zone1-0000000100")
	if err := ts.DeleteShard(ctx, "commerce", "-80"); !errors.As(err, new(*topo.NotEmptyError)) {
		t.Errorf("delete: %v", err)
	}
	if err := ts.DeleteTablet(ctx, topo.TabletAlias{Cell: "zone2", UID: 200}); err != nil {
		t.Fatal(err)
	}
	if got, err := ts.Tablets(ctx, "commerce", "-80"); err != nil || aliases(got) != "db:100 db:101 db:102 db:201" {
		t.Errorf("after the delete: %s, %v", aliases(got), err)
	}
	err = ts.UpdateTablet(ctx, topo.TabletAlias{Cell: "zone1", UID: 100}, func(t *topo.Tablet) error { t.Shard = "80-"; return nil })
	wantName(t, err, "zone1-0000000100")
}

func TestTabletsPartly(t *testing.T) {
	mem := memorytopo.New()
	ctx := t.Context()
	down := false
	open := func(ctx context.Context, a topo.Address) (topo.Conn, error) {
		if down && a.Server == "two" {
			return nil, topo.ErrUnreachable
		}
		return mem.Open(ctx, a)
	}
	address := topo.Address{Type: "memory", Server: "one", Root: "/global"}
	ts, err := topo.Open(ctx, topo.Openers{"memory": open}, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ts.Close()
	for cell, server := range map[string]string{"zone1": "one", "zone2": "two"} {
		if err := ts.CreateCell(ctx, topo.CellInfo{Name: cell, ServerAddress: server, Root: "/" + cell}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}); err != nil {
		t.Fatal(err)
	}
	if err := ts.CreateShard(ctx, "commerce", "-80"); err != nil {
		t.Fatal(err)
	}
	addTablet(t, ts, "zone1-100", topo.TabletPrimary)
	addTablet(t, ts, "zone2-200", topo.TabletReplica)

	down = true
	late, err := topo.Open(ctx, topo.Openers{"memory": open}, address)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	got, err := late.Tablets(ctx, "commerce", "-80")
	if e := (*topo.CellError)(nil); aliases(got) != "db:100" || !errors.As(err, &e) || !errors.Is(e.Cells["zone2"], topo.ErrUnreachable) {
		t.Errorf("tablets are %s, %v", aliases(got), err)
	}
	if got, err := late.SelectTablets(ctx, "commerce", "-80", topo.TabletSelector{}); err != nil || aliases(got) != "db:100" {
		t.Errorf("selected %s, %v", aliases(got), err)
	}
	_, err = late.SelectTablets(ctx, "commerce", "-80", topo.TabletSelector{Types: []topo.TabletType{topo.TabletReplica}})
	if !errors.As(err, new(*topo.NoTabletError)) || !errors.Is(err, topo.ErrUnreachable) {
		t.Errorf("the only replica's cell is down: %v", err)
	}
}

func TestLocks(t *testing.T) {
	mem := memorytopo.New()
	ctx := t.Context()
	ts, err := topo.Open(ctx, topo.Openers{"memory": mem.Open}, topo.Address{Type: "memory", Root: "/"})
	if err != nil {
		t.Fatal(err)
	}
	defer ts.Close()
	if _, err := ts.LockKeyspace(ctx, "commerce", topo.LockOptions{}); !errors.Is(err, topo.ErrNoNode) {
		t.Errorf("lock of no keyspace: %v", err)
	}
	if err := ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}); err != nil {
		t.Fatal(err)
	}
	if err := ts.CreateShard(ctx, "commerce", "0"); err != nil {
		t.Fatal(err)
	}
	take := map[string]func(topo.LockOptions) (*topo.Lock, error){
		"keyspaces/commerce":               func(o topo.LockOptions) (*topo.Lock, error) { return ts.LockKeyspace(ctx, "commerce", o) },
		"keyspaces/commerce/shards/0":      func(o topo.LockOptions) (*topo.Lock, error) { return ts.LockShard(ctx, "commerce", "0", o) },
		"routing_rules":                    func(o topo.LockOptions) (*topo.Lock, error) { return ts.LockRoutingRules(ctx, o) },
		"internal/named_locks/commerce/wf": func(o topo.LockOptions) (*topo.Lock, error) { return ts.LockName(ctx, "commerce/wf", o) },
	}
	held := make(map[string]*topo.Lock)
	for dir, lock := range take {
		l, err := lock(topo.LockOptions{Action: "test " + dir})
		if err != nil {
			t.Fatal(err)
		}
		held[dir] = l
		files, err := ts.Conn().List(ctx, dir+"/locks")
		if err != nil || len(files) != 1 {
			t.Errorf("%s has lock files %q, %v", dir, files, err)
		}
		for _, o := range []topo.LockOptions{{Try: true}, {Wait: time.Millisecond}} {
			_, err := lock(o)
			if e := (*topo.LockedError)(nil); !errors.As(err, &e) || e.Dir != dir || e.Holder.Action != "test "+dir || e.Holder.HostName == "" || e.Holder.Status != "Running" {
				t.Errorf("%s again: %v", dir, err)
			}
		}
	}
	// What a lock leaves in its directory is no keyspace and no shard.
	if shards, err := ts.Shards(ctx, "commerce"); err != nil || len(shards) != 1 {
		t.Errorf("shards are %v, %v", shards, err)
	}

	l := held["routing_rules"]
	if err := l.Check(ctx); err != nil || l.Context().Err() != nil {
		t.Errorf("held lock: %v, %v", err, l.Context().Err())
	}
	for range 2 {
		if err := l.Unlock(ctx); err != nil {
			t.Errorf("unlock: %v", err)
		}
	}
	if err := context.Cause(l.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("context after unlock: %v", err)
	}
	l, err = take["routing_rules"](topo.LockOptions{Try: true})
	if err != nil {
		t.Fatal(err)
	}
	held["routing_rules"] = l

	mem.ExpireLocks()
	for dir, l := range held {
		<-l.Context().Done()
		<-l.Lost()
		if err := context.Cause(l.Context()); !errors.Is(err, topo.ErrLockLost) || !strings.Contains(err.Error(), dir) {
			t.Errorf("context of %s ends with %v", dir, err)
		}
		if err := l.Check(ctx); !errors.Is(err, topo.ErrLockLost) {
			t.Errorf("check of %s: %v", dir, err)
		}
		if err := l.Unlock(ctx); !errors.Is(err, topo.ErrLockLost) || !strings.Contains(err.Error(), dir) {
			t.Errorf("unlock of %s: %v", dir, err)
		}
	}
}

// TestLockEndsWithContext shows what cleanup after a cancelled command may rely on.
func TestLockEndsWithContext(t *testing.T) {
	ts := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	l, err := ts.LockName(ctx, "a", topo.LockOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-l.Lost()
	if err := l.Check(t.Context()); err != nil {
		t.Errorf("the lock ended with its context: %v", err)
	}
	if _, err := ts.LockName(t.Context(), "a", topo.LockOptions{Try: true}); !errors.Is(err, topo.ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if err := l.Unlock(t.Context()); err != nil {
		t.Errorf("unlock: %v", err)
	}
}

func TestConcurrentCreateShard(t *testing.T) {
	ts := newServer(t)
	ctx := t.Context()
	errs := make(chan error)
	names := []string{"-", "-80", "80-", "40-c0"}
	for _, name := range names {
		go func() { errs <- ts.CreateShard(ctx, "commerce", name) }()
	}
	for range names {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	shards, err := ts.Shards(ctx, "commerce")
	if err != nil || len(shards) != len(names) {
		t.Fatalf("shards are %v, %v", shards, err)
	}
	serving := slices.DeleteFunc(shards, func(s *topo.Shard) bool { return !s.IsPrimaryServing })
	for i, a := range serving {
		for _, b := range serving[:i] {
			if a.KeyRange.Intersects(b.KeyRange) {
				t.Errorf("%s and %s serve the same ids", a.Name, b.Name)
			}
		}
	}
}

// failing fails writes of keys that have a part in their name.
type failing struct {
	topo.Conn
	part string
}

var errWrite = errors.New("no")

func (f *failing) Put(ctx context.Context, key string, value []byte, v topo.Version) (topo.Version, error) {
	if f.part != "" && strings.Contains(key, f.part) {
		return 0, errWrite
	}
	return f.Conn.Put(ctx, key, value, v)
}

func TestInitTabletLeavesNothing(t *testing.T) {
	mem := memorytopo.New()
	ctx := t.Context()
	broken := new(failing)
	open := func(ctx context.Context, a topo.Address) (topo.Conn, error) {
		c, err := mem.Open(ctx, a)
		if a.Root == "/global" {
			broken.Conn = c
			c = broken
		}
		return c, err
	}
	ts, err := topo.Open(ctx, topo.Openers{"memory": open}, topo.Address{Type: "memory", Root: "/global"})
	if err != nil {
		t.Fatal(err)
	}
	defer ts.Close()
	if err := errors.Join(
		ts.CreateCell(ctx, topo.CellInfo{Name: "zone1", Root: "/zone1"}),
		ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}),
		ts.CreateShard(ctx, "commerce", "-80"),
	); err != nil {
		t.Fatal(err)
	}
	primary := topo.Tablet{Alias: topo.TabletAlias{Cell: "zone1", UID: 1}, MySQLHostname: "db", MySQLPort: 1, Keyspace: "commerce", Shard: "-80", Type: topo.TabletPrimary}
	broken.part = "/Shard"
	if err := ts.InitTablet(ctx, primary); !errors.Is(err, errWrite) {
		t.Fatalf("init: %v", err)
	}
	broken.part = ""
	if got, err := ts.Tablets(ctx, "commerce", "-80"); err != nil || len(got) != 0 {
		t.Errorf("tablets are %s, %v", aliases(got), err)
	}
	if err := ts.InitTablet(ctx, primary); err != nil {
		t.Errorf("the second try: %v", err)
	}
}
