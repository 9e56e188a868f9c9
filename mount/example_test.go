package mount_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

// Two topologies in memory: the program's own, and one that plays a Vitess cluster elsewhere.
func Example() {
	ctx := context.Background()
	openers := topo.Openers{"memory": memorytopo.New().Open}
	ts, err := topo.Open(ctx, openers, topo.Address{Type: "memory", Server: "here", Root: "/vitess/global"})
	if err != nil {
		log.Fatal(err)
	}
	defer ts.Close()
	there := topo.Address{Type: "memory", Server: "there", Root: "/vitess/global"}
	if err := buildElsewhere(ctx, ts, there); err != nil {
		log.Fatal(err)
	}

	c := mount.Cluster{Name: "ext1", Type: mount.Vitess, Topo: there}
	if err := mount.Register(ctx, ts, c, mount.RegisterOptions{}); err != nil {
		log.Fatal(err)
	}
	h, err := mount.Open(ctx, ts, "ext1", mount.OpenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	servers, err := h.Endpoints(ctx, "load", "0", topo.TabletSelector{})
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range servers {
		fmt.Println(s.Alias, s.Type, s.Addr(), s.Database)
	}
	// Output:
	// far-0000000101 REPLICA db2:3306 vt_load
	// far-0000000100 PRIMARY db1:3306 vt_load
}

func buildElsewhere(ctx context.Context, ts *topo.Server, a topo.Address) error {
	other, err := ts.OpenOther(ctx, a)
	if err != nil {
		return err
	}
	defer other.Close()
	if err := other.CreateCell(ctx, topo.CellInfo{Name: "far", Root: "/vitess/far"}); err != nil {
		return err
	}
	if err := other.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}); err != nil {
		return err
	}
	if err := other.CreateShard(ctx, "load", "0"); err != nil {
		return err
	}
	for i, kind := range []topo.TabletType{topo.TabletPrimary, topo.TabletReplica} {
		err := other.InitTablet(ctx, topo.Tablet{
			Alias: topo.TabletAlias{Cell: "far", UID: uint32(100 + i)}, Keyspace: "load", Shard: "0", Type: kind,
			MySQLHostname: fmt.Sprintf("db%d", i+1), MySQLPort: 3306,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// A cluster is checked before it is registered, and the error has all that was found.
func ExampleRegister() {
	ctx := context.Background()
	ts, err := topo.Open(ctx, topo.Openers{"memory": memorytopo.New().Open}, topo.Address{Type: "memory", Root: "/vitess/global"})
	if err != nil {
		log.Fatal(err)
	}
	defer ts.Close()

	c := mount.Cluster{Name: "my.shop", Type: mount.MySQL, Hosts: []string{"db1:3306", "db2"}}
	fmt.Println(mount.Register(ctx, ts, c, mount.RegisterOptions{SkipChecks: true}))

	c = mount.Cluster{Name: "shop", Type: mount.MySQL, Hosts: []string{"db1:3306", "db2:3306"}}
	fmt.Println(mount.Register(ctx, ts, c, mount.RegisterOptions{SkipChecks: true}))
	fmt.Println(mount.List(ctx, ts))
	// Output:
	// bad external cluster "my.shop": it holds '.'; letters, digits, - and _ are allowed
	// bad Hosts "db2": it is not of the form host:port
	// <nil>
	// [shop] <nil>
}

// The primary of the outside cluster changes while a program reads from it.
func ExampleHandle_Check() {
	ctx := context.Background()
	openers := topo.Openers{"memory": memorytopo.New().Open}
	ts, err := topo.Open(ctx, openers, topo.Address{Type: "memory", Server: "here", Root: "/vitess/global"})
	if err != nil {
		log.Fatal(err)
	}
	defer ts.Close()
	there := topo.Address{Type: "memory", Server: "there", Root: "/vitess/global"}
	if err := buildElsewhere(ctx, ts, there); err != nil {
		log.Fatal(err)
	}
	h, err := mount.OpenCluster(ctx, ts, mount.Cluster{Name: "ext1", Type: mount.Vitess, Topo: there}, mount.OpenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	sel := topo.TabletSelector{Types: []topo.TabletType{topo.TabletPrimary}}
	servers, err := h.Endpoints(ctx, "load", "0", sel)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(h.Check(ctx, "load", "0", sel, servers[0]))

	other, err := ts.OpenOther(ctx, there)
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close()
	if err := other.SetPrimary(ctx, "load", "0", topo.TabletAlias{Cell: "far", UID: 101}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(h.Check(ctx, "load", "0", sel, servers[0]))
	// Output:
	// <nil>
	// mount "ext1": tablet far-0000000100 (db1:3306): tablet far-0000000101 is the primary now
}

// A mount that workflows read from stays.
func ExampleUnregister() {
	ctx := context.Background()
	ts, err := topo.Open(ctx, topo.Openers{"memory": memorytopo.New().Open}, topo.Address{Type: "memory", Root: "/vitess/global"})
	if err != nil {
		log.Fatal(err)
	}
	defer ts.Close()
	c := mount.Cluster{Name: "shop", Type: mount.MySQL, Hosts: []string{"db1:3306"}}
	if err := mount.Register(ctx, ts, c, mount.RegisterOptions{SkipChecks: true}); err != nil {
		log.Fatal(err)
	}

	usedBy := func(context.Context, string) ([]string, error) { return []string{"commerce.wf"}, nil } // migrate's UsesMount
	fmt.Println(mount.Unregister(ctx, ts, "shop", mount.UnregisterOptions{UsedBy: usedBy}))
	// Output: mount "shop" is in use by commerce.wf
}

// Credentials may differ by server; what holds the passwords is the embedding program's business.
func ExampleCredentials() {
	passwords := map[string]string{"": "of the local cluster", "ext1": "of the outside cluster"}
	creds := func(_ context.Context, s mount.Server) (mount.Login, error) {
		return mount.Login{User: "mover", Password: passwords[s.Cluster]}, nil
	}
	login, err := creds(context.Background(), mount.Server{Cluster: "ext1", Addr: "db1:3306"})
	fmt.Println(login, err)
	// Output: mover:*** <nil>
}
