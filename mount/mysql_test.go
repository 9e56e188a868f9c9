package mount_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
)

var asRoot = mount.Static(mount.Login{User: "root"})

func needServers(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs MySQL servers; -short is on")
	}
	t.Parallel()
}

// pair starts a primary and a replica of it, with the databases blog and shop.
func pair(t *testing.T) (primary, replica *replicationtest.Server) {
	t.Helper()
	primary = replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	replica = replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--read-only=ON"}})
	replica.MustExec(t, fmt.Sprintf(`CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%d, SOURCE_USER='root', SOURCE_AUTO_POSITION=1; START REPLICA`, primary.Host, primary.Port))
	primary.MustExec(t, "CREATE DATABASE shop; CREATE DATABASE blog; CREATE DATABASE _vt; CREATE DATABASE _tablehaul")
	primary.MustCreateUser(t, "mover", "sesame", "SELECT ON shop.*", "REPLICATION SLAVE, REPLICATION CLIENT ON *.*")
	primary.MustCreateUser(t, "reader", "sesame", "SELECT ON shop.*")
	gtids := primary.MustQuery(t, "SELECT @@gtid_executed")[0][0]
	if got := replica.MustQuery(t, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"+gtids+"', 30)"); got[0][0] != "0" {
		t.Fatal("the replica does not follow")
	}
	return primary, replica
}

func login(user, password string) mount.Credentials {
	return mount.Static(mount.Login{User: user, Password: password})
}

func TestMySQLPair(t *testing.T) {
	needServers(t)
	ctx, ts := t.Context(), newTopo(t)
	primary, replica := pair(t)
	p, r := primary.Addr(), replica.Addr()

	var asked []mount.Server
	creds := func(_ context.Context, s mount.Server) (mount.Login, error) { return mount.Login{User: "root"}, nil }
	// What the caller does with its slice meanwhile, or later, changes nothing.
	hosts := []string{p, r}
	var once sync.Once
	must(t, mount.Register(ctx, ts, mysqlCluster("ext1", hosts...), mount.RegisterOptions{Credentials: func(context.Context, mount.Server) (mount.Login, error) {
		once.Do(func() { hosts[0], hosts[1] = "a:1", "b:1" })
		return mount.Login{User: "root"}, nil
	}}))
	if c, err := mount.Show(ctx, ts, "ext1"); err != nil || !slices.Equal(c.Hosts, []string{p, r}) {
		t.Errorf("registered: %v, %v", c, err)
	}
	_, err := mount.OpenCluster(ctx, ts, mysqlCluster("ext2", p), mount.OpenOptions{Credentials: func(_ context.Context, s mount.Server) (mount.Login, error) {
		asked = append(asked, s)
		return mount.Login{User: "mover", Password: "wrong"}, nil
	}})
	if e := as[*mount.AccessError](t, err); e.Addr != p || e.User != "mover" || strings.Contains(err.Error(), "wrong") {
		t.Errorf("%+v: %v", e, err)
	}
	if want := (mount.Server{Cluster: "ext2", Addr: p}); len(asked) != 1 || asked[0] != want {
		t.Errorf("credentials were asked for %+v, want %+v", asked, want)
	}

	h := open(t, ts, "ext1", mount.OpenOptions{Credentials: creds})
	h.Cluster().Hosts[0] = "a:1"
	if got, err := h.Keyspaces(ctx); err != nil || !slices.Equal(got, []string{"blog", "shop"}) {
		t.Errorf("keyspaces: %q, %v", got, err)
	}
	if got, err := h.Shards(ctx, "shop"); err != nil || !slices.Equal(got, []mount.Shard{{Name: "0"}}) || !got[0].KeyRange.IsComplete() {
		t.Errorf("shards: %v, %v", got, err)
	}
	isPrimary, isReplica := "PRIMARY "+p+" shop", "REPLICA "+r+" shop"
	only := func(types ...topo.TabletType) topo.TabletSelector {
		return topo.TabletSelector{Types: types, Cells: []string{"zone1"}} // plain servers are in no cell
	}
	checkEnds(t, ends(t, h, "shop", "0", topo.TabletSelector{}), isReplica, isPrimary)
	checkEnds(t, ends(t, h, "shop", "-", only(topo.TabletPrimary, topo.TabletReplica, topo.TabletPrimary)), isPrimary, isReplica)
	checkEnds(t, ends(t, h, "shop", "0", only(topo.TabletPrimary)), isPrimary)
	checkEnds(t, ends(t, h, "shop", "0", only(topo.TabletRdonly, topo.TabletReplica)), isReplica)
	_, err = h.Endpoints(ctx, "shop", "0", only(topo.TabletRdonly))
	if as[*topo.NoTabletError](t, err); !strings.Contains(err.Error(), p+" is PRIMARY; "+r+" is REPLICA") {
		t.Error(err)
	}

	for _, err := range []error{second(h.Shards(ctx, "nope")), second(h.Endpoints(ctx, "nope", "0", topo.TabletSelector{}))} {
		if e := as[*mount.NotFoundError](t, err); e.Kind != "keyspace" || e.Name != "nope" || !slices.Equal(e.Known, []string{"blog", "shop"}) {
			t.Errorf("%+v", e)
		}
	}
	as[*mount.NotFoundError](t, second(h.Shards(ctx, "mysql")))
	if e := as[*mount.NotFoundError](t, second(h.Endpoints(ctx, "shop", "-80", topo.TabletSelector{}))); e.Kind != "shard" || !slices.Equal(e.Known, []string{"0"}) {
		t.Errorf("%+v", e)
	}

	// A database that only one server has is a keyspace, and only that server is an endpoint of it.
	replica.MustExec(t, "STOP REPLICA")
	primary.MustExec(t, "CREATE DATABASE fresh")
	if got, err := h.Shards(ctx, "fresh"); err != nil || len(got) != 1 {
		t.Errorf("shards of fresh: %v, %v", got, err)
	}
	checkEnds(t, ends(t, h, "fresh", "0", topo.TabletSelector{}), "PRIMARY "+p+" fresh")
	_, err = h.Endpoints(ctx, "fresh", "0", only(topo.TabletReplica))
	if as[*topo.NoTabletError](t, err); !strings.Contains(err.Error(), "does not have the database") {
		t.Error(err)
	}

	// The roles are those of the moment. Until there is another primary, the former one has not changed.
	given, err := h.Endpoints(ctx, "shop", "0", topo.TabletSelector{})
	must(t, err)
	primary.MustExec(t, "SET GLOBAL super_read_only = ON")
	must(t, h.Check(ctx, "shop", "0", only(topo.TabletPrimary), given[1]))
	replica.MustExec(t, "SET GLOBAL read_only = OFF")
	checkEnds(t, ends(t, h, "shop", "0", topo.TabletSelector{}), "REPLICA "+p+" shop", "PRIMARY "+r+" shop")
	if e := as[*mount.ChangedError](t, h.Check(ctx, "shop", "0", only(topo.TabletPrimary), given[1])); e.Addr != p || !strings.Contains(e.Error(), r+" is the primary now") {
		t.Error(e)
	}
	must(t, h.Check(ctx, "shop", "0", topo.TabletSelector{}, given[0]))
	as[*mount.ChangedError](t, h.Check(ctx, "shop", "0", only(topo.TabletReplica), given[0]))
	primary.MustExec(t, "SET GLOBAL read_only = OFF")
	_, err = h.Endpoints(ctx, "shop", "0", topo.TabletSelector{})
	if e := as[*mount.PrimariesError](t, err); !slices.Equal(e.Addrs, []string{p, r}) {
		t.Errorf("%+v", e)
	}
	replica.MustExec(t, "SET GLOBAL read_only = ON")

	// One server of two is down: the other one is enough. None is not.
	primary.Kill9()
	checkEnds(t, ends(t, h, "shop", "0", topo.TabletSelector{}), isReplica)
	_, err = h.Endpoints(ctx, "shop", "0", only(topo.TabletPrimary))
	as[*topo.NoTabletError](t, err)
	if e := as[*mount.UnreachableError](t, err); e.Addr != p {
		t.Errorf("%+v", e)
	}
	open(t, ts, "ext1", mount.OpenOptions{Credentials: creds})
	replica.Kill9()
	for _, err := range []error{second(h.Keyspaces(ctx)), second(h.Shards(ctx, "shop")), second(mount.Open(ctx, ts, "ext1", mount.OpenOptions{Credentials: creds}))} {
		as[*mount.UnreachableError](t, err)
		if !strings.Contains(err.Error(), p) || !strings.Contains(err.Error(), r) || !strings.Contains(err.Error(), "ext1") {
			t.Errorf("%v", err)
		}
	}
	replica.MustRestart(t)
	checkEnds(t, ends(t, h, "shop", "0", topo.TabletSelector{}), isReplica)
}

// TestCheckMySQL: everything that is wrong is in one error, and nothing is stored.
func TestCheckMySQL(t *testing.T) {
	needServers(t)
	ctx, ts := t.Context(), newTopo(t)
	primary, replica := pair(t)
	lone := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	p, r, l := primary.Addr(), replica.Addr(), lone.Addr()
	const dead = "127.0.0.1:1"

	for _, tt := range []struct {
		name  string
		creds mount.Credentials
		hosts []string
		want  []string // the findings
	}{
		{"unreachable and two primaries", asRoot, []string{p, dead, l}, []string{dead + ": unreachable: dial tcp 127.0.0.1:1", "2 servers accept writes: " + p + ", " + l}},
		{"only a replica", asRoot, []string{r}, []string{"no server is the primary"}},
		{"a replica, and who knows", asRoot, []string{r, dead}, []string{dead + ": unreachable"}},
		{"wrong password everywhere", login("mover", "wrong"), []string{p, r}, []string{p + `: access denied for user "mover"`, r + `: access denied for user "mover"`}},
		{"one server twice", asRoot, []string{p, "localhost:" + fmt.Sprint(primary.Port)}, []string{"2 servers accept writes", "same server_uuid as " + p}},
	} {
		err := mount.Register(ctx, ts, mysqlCluster("ext1", tt.hosts...), mount.RegisterOptions{Credentials: tt.creds})
		e := as[*mount.CheckError](t, err)
		if len(e.Findings) != len(tt.want) {
			t.Errorf("%s: want %d findings: %v", tt.name, len(tt.want), e)
			continue
		}
		for i, w := range tt.want {
			if !strings.Contains(e.Findings[i].String(), w) {
				t.Errorf("%s: finding %q does not say %q", tt.name, e.Findings[i], w)
			}
		}
		if text := fmt.Sprintf("%v %+v %#v", err, e, e.Findings); strings.Contains(text, "wrong") || strings.Contains(text, "sesame") {
			t.Errorf("%s: a password is in %s", tt.name, text)
		}
	}
	checkList(t, ts)

	lone.MustExec(t, "SET GLOBAL read_only = ON")
	err := mount.Register(ctx, ts, mysqlCluster("ext1", p, r, l), mount.RegisterOptions{Credentials: asRoot})
	if e := as[*mount.CheckError](t, err); len(e.Findings) != 1 || e.Findings[0].Server != l || !strings.Contains(e.Findings[0].Message, "replica of no server") {
		t.Errorf("%v", e)
	}
	checkList(t, ts)

	// The least user will do, and one without REPLICATION CLIENT is not the mount's business.
	must(t, mount.Register(ctx, ts, mysqlCluster("ext1", r, p), mount.RegisterOptions{Credentials: login("mover", "sesame")}))
	must(t, mount.Register(ctx, ts, mysqlCluster("ext2", r, p), mount.RegisterOptions{Credentials: login("reader", "sesame")}))
	h := open(t, ts, "ext2", mount.OpenOptions{Credentials: login("reader", "sesame")})
	if got, err := h.Keyspaces(ctx); err != nil || !slices.Equal(got, []string{"shop"}) {
		t.Errorf("what reader may see: %q, %v", got, err)
	}
	for key := range map[string]bool{"ExternalClusters/mysql/ext1": true, "ExternalClusters/mysql/ext2": true} {
		if data, _, err := ts.Conn().Get(ctx, key); err != nil || strings.Contains(string(data), "sesame") || strings.Contains(string(data), "mover") {
			t.Errorf("%s: %q, %v", key, data, err)
		}
	}
}

func TestMariaDB(t *testing.T) {
	needServers(t)
	ctx, ts := t.Context(), newTopo(t)
	primary := replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{})
	replica := replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{Args: []string{"--read-only=ON"}})
	primary.MustExec(t, "CREATE DATABASE shop")
	replica.MustExec(t, "SET GLOBAL gtid_strict_mode = 0; CREATE DATABASE shop")
	c := mysqlCluster("ext1", replica.Addr(), primary.Addr())
	err := mount.Register(ctx, ts, c, mount.RegisterOptions{Credentials: asRoot})
	if e := as[*mount.CheckError](t, err); len(e.Findings) != 1 || e.Findings[0].Server != replica.Addr() || !strings.Contains(e.Findings[0].Message, "replica of no server") {
		t.Errorf("%v", e)
	}
	replica.MustExec(t, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%d, MASTER_USER='root'", primary.Host, primary.Port))
	must(t, mount.Register(ctx, ts, c, mount.RegisterOptions{Credentials: asRoot}))
	h := open(t, ts, "ext1", mount.OpenOptions{Credentials: asRoot})
	checkEnds(t, ends(t, h, "shop", "0", topo.TabletSelector{}), "REPLICA "+replica.Addr()+" shop", "PRIMARY "+primary.Addr()+" shop")
}

// TestNoAnswer: a server that accepts connections and says nothing costs the time limit, not more, and does not keep
// the caller from giving up.
func TestNoAnswer(t *testing.T) {
	needServers(t)
	ctx, ts := t.Context(), newTopo(t)
	s := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	s.MustExec(t, "CREATE DATABASE shop")
	c := mysqlCluster("ext1", s.Addr(), "127.0.0.1:1")
	must(t, mount.Register(ctx, ts, c, skip))
	h := open(t, ts, "ext1", mount.OpenOptions{Credentials: asRoot})
	s.Freeze()
	defer s.Thaw()
	begin := time.Now()
	_, err := mount.Open(ctx, ts, "ext1", mount.OpenOptions{Credentials: asRoot})
	as[*mount.UnreachableError](t, err)
	if took := time.Since(begin); took > 15*time.Second || !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("after %v: %v", took, err)
	}
	limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := h.Keyspaces(limited); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's limit: %v", err)
	}
	s.Thaw()
	checkEnds(t, ends(t, h, "shop", "0", topo.TabletSelector{}), "PRIMARY "+s.Addr()+" shop")
}
