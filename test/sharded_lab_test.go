package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/test/shardcheck"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
)

// The tables of a resharding: rows of orders, names and events move between shards when a vindex column changes, the order of names
// is known to the server only, countries is on every shard and settings on one.
const (
	reshardTables = `CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, note varchar(100), serial int UNIQUE, KEY (customer));
		CREATE TABLE names (name varchar(40) CHARACTER SET latin1 PRIMARY KEY, n int NOT NULL);
		CREATE TABLE events (region tinyint unsigned, id int, at datetime(6), payload varbinary(40), PRIMARY KEY (region, id));
		CREATE TABLE countries (id int PRIMARY KEY, name varchar(40));
		CREATE TABLE settings (k varchar(20) COLLATE utf8mb4_bin PRIMARY KEY, v json)`
	reshardVSchema = `{"sharded": true,
		"vindexes": {"h": {"type": "hash"}, "m": {"type": "binary_md5"},
			"both": {"type": "multicol", "params": {"column_count": "2", "column_bytes": "1,7", "column_vindex": "hash,binary_md5"}}},
		"tables": {
			"orders": {"column_vindexes": [{"column": "customer", "name": "h"}]},
			"names": {"column_vindexes": [{"column": "name", "name": "m"}]},
			"events": {"column_vindexes": [{"columns": ["region", "id"], "name": "both"}]},
			"countries": {"type": "reference"},
			"settings": {"pinned": "d0"}}}`
)

// reshardCheck is where rows belong, by shardcheck's own arithmetic.
var reshardCheck = []shardcheck.Table{
	{Name: "orders", Key: []string{"id"}, ID: func(r shardcheck.Row) ([]byte, error) { return shardcheck.Hash(r["customer"]) }},
	{Name: "names", Key: []string{"name"}, ID: func(r shardcheck.Row) ([]byte, error) {
		var utf8 strings.Builder
		for _, b := range r["name"] {
			utf8.WriteRune(rune(b)) // the names have no characters in which latin1 differs from ISO 8859-1
		}
		return shardcheck.MD5([]byte(utf8.String())), nil
	}},
	{Name: "events", Key: []string{"region", "id"}, ID: func(r shardcheck.Row) ([]byte, error) {
		region, err := shardcheck.Hash(r["region"])
		return append(region[:1], shardcheck.MD5(r["id"])[:7]...), err
	}},
	{Name: "countries", Key: []string{"id"}, Everywhere: true},
	{Name: "settings", Key: []string{"k"}, ID: func(shardcheck.Row) ([]byte, error) { return []byte{0xd0}, nil }},
}

// A reshardLab is two source servers, two target servers and etcd with two topologies: an external cluster of sharded keyspaces, mounted as
// ext, and the local one. Shards are databases; those of an odd number are on the second server.
type reshardLab struct {
	src, dst [2]*replicationtest.Server
	etcd     *replicationtest.Etcd
	ext, ts  *topo.Server
	m        *migrate.Migrator
	uid      uint32
	external topo.Address
}

// reshardArgs have commits in the kernel's hands, which a killed process can't take back; a disk would only make the test slower.
var reshardArgs = []string{"--local-infile=ON", "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"}

func newReshardLab(t *testing.T) *reshardLab {
	t.Helper()
	l := &reshardLab{}
	g, ctx := errgroup.WithContext(t.Context())
	for _, s := range []**replicationtest.Server{&l.src[0], &l.src[1], &l.dst[0], &l.dst[1]} {
		g.Go(func() (err error) {
			*s, err = replicationtest.RunMySQL(context.WithoutCancel(ctx), replicationtest.MySQLOptions{Args: reshardArgs})
			return err
		})
	}
	l.etcd = replicationtest.StartEtcd(t)
	err := g.Wait()
	for _, s := range slices.Concat(l.src[:], l.dst[:]) {
		if s != nil {
			t.Cleanup(func() { _ = s.Close() })
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := l.openTopologies(t); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *reshardLab) openTopologies(t *testing.T) (err error) {
	ctx, addr := t.Context(), l.etcd.Addr()
	l.external = topo.Address{Type: "etcd2", Server: addr, Root: "/ext/global"}
	if l.ts, err = openTopology(ctx, addr); err != nil {
		return err
	}
	t.Cleanup(func() { _ = l.ts.Close() })
	if l.ext, err = topo.Open(ctx, topo.Openers{"etcd2": etcdtopo.Open}, l.external); err != nil {
		return err
	}
	t.Cleanup(func() { _ = l.ext.Close() })
	if err := l.ts.CreateCell(ctx, topo.CellInfo{Name: "zone1", ServerAddress: addr, Root: "/vitess/zone1"}); err != nil {
		return err
	}
	if err := l.ext.CreateCell(ctx, topo.CellInfo{Name: "far", ServerAddress: addr, Root: "/ext/far"}); err != nil {
		return err
	}
	l.m, err = migrate.New(l.ts, login, migrate.Options{})
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = l.m.Close() })
	return nil
}

// A reshard is one keyspace's way from some source shards to some target shards.
type reshard struct {
	*reshardLab
	keyspace         string
	sources, targets []shardcheck.Shard
	wf               *migrate.Workflow
}

// newReshard makes a keyspace on both sides, with rows in the source's.
func (l *reshardLab) newReshard(t *testing.T, keyspace string, from, to []string, rows int) *reshard {
	t.Helper()
	r := &reshard{reshardLab: l, keyspace: keyspace, wf: l.m.Workflow(keyspace + ".wf")}
	var err error
	if r.sources, err = l.addShards(t, l.ext, "far", keyspace, "src", from, l.src); err != nil {
		t.Fatal(err)
	}
	if r.targets, err = l.addShards(t, l.ts, "zone1", keyspace, "dst", to, l.dst); err != nil {
		t.Fatal(err)
	}
	vs := &topo.VSchema{}
	if err := json.Unmarshal([]byte(reshardVSchema), vs); err != nil {
		t.Fatal(err)
	}
	if err := l.ts.SaveVSchema(t.Context(), keyspace, vs); err != nil {
		t.Fatal(err)
	}
	// The source's only tells which table all shards have whole; its other rows are on any shard.
	there := &topo.VSchema{Sharded: true, Tables: map[string]*topo.Table{"countries": {Type: "reference"}}}
	if err := l.ext.SaveVSchema(t.Context(), keyspace, there); err != nil {
		t.Fatal(err)
	}
	for i, s := range r.sources {
		n := len(r.sources)
		l.src[i%2].MustExec(t, fmt.Sprintf(`CREATE DATABASE %[1]s; USE %[1]s; %[2]s; SET SESSION cte_max_recursion_depth = 1000000;
			INSERT INTO orders WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < %[5]d)
				SELECT k * %[4]d + %[3]d, CAST(CONV(LEFT(SHA2(k * %[4]d + %[3]d, 256), 12), 16, 10) AS SIGNED) - 140737488355328, SHA2(k, 256), k * %[4]d + %[3]d FROM n;
			INSERT INTO names SELECT CONCAT(ELT(1 + id %% 3, 'a', 'B', 'ç'), id), 0 FROM orders LIMIT %[6]d;
			INSERT INTO events SELECT id %% 5, id, NOW(6), UNHEX(LEFT(note, 20)) FROM orders LIMIT %[6]d;
			INSERT INTO countries SELECT n, CONCAT('land ', n) FROM (SELECT ROW_NUMBER() OVER () n FROM orders LIMIT 100) q`,
			s.Database, reshardTables, i, n, rows/n, rows/n/2))
	}
	l.src[0].MustExec(t, "INSERT INTO "+r.sources[0].Database+".settings SELECT CONCAT('key ', id), JSON_ARRAY(id, 'x') FROM "+r.sources[0].Database+".countries")
	return r
}

// addShards makes a keyspace whose shards are databases of two servers.
func (l *reshardLab) addShards(t *testing.T, ts *topo.Server, cell, keyspace, side string, names []string, servers [2]*replicationtest.Server) ([]shardcheck.Shard, error) {
	t.Helper()
	ctx := t.Context()
	if err := ts.CreateKeyspace(ctx, topo.Keyspace{Name: keyspace}); err != nil {
		return nil, err
	}
	shards := make([]shardcheck.Shard, 0, len(names))
	for i, name := range names {
		if err := ts.CreateShard(ctx, keyspace, name); err != nil {
			return nil, err
		}
		l.uid++
		s, database := servers[i%2], fmt.Sprintf("%s_%s%d", keyspace, side, i)
		err := ts.InitTablet(ctx, topo.Tablet{
			Alias: topo.TabletAlias{Cell: cell, UID: l.uid}, Type: topo.TabletPrimary, Keyspace: keyspace, Shard: name,
			DBNameOverride: database, MySQLHostname: s.Host, MySQLPort: int32(s.Port),
		})
		if err != nil {
			return nil, err
		}
		shards = append(shards, shardcheck.Shard{Name: name, DB: s.DB(t), Database: database})
	}
	return shards, nil
}

// create creates the workflow. The external cluster has something by now that makes it one, and is mounted.
func (r *reshard) create(t *testing.T) {
	t.Helper()
	err := mount.Register(t.Context(), r.ts, mount.Cluster{Name: "ext", Type: mount.Vitess, Topo: r.external}, mount.RegisterOptions{Credentials: login})
	if err != nil && !errors.Is(err, mount.ErrExists) {
		t.Fatal(err)
	}
	if _, err := r.wf.Create(t.Context(), migrate.CreateOptions{Source: "ext." + r.keyspace, AllTables: true}); err != nil {
		t.Fatal(err)
	}
}

// status is the workflow's; nil while it can't be told, because a server is down.
func (r *reshard) status(t *testing.T) *migrate.Status {
	t.Helper()
	st, err := r.wf.Show(t.Context())
	if err != nil {
		return nil
	}
	if st.State == migrate.StateError {
		t.Fatalf("%s is in state Error: %s", r.keyspace, st.Message)
	}
	return st
}

// await asks for the status until it is as wanted, for two minutes.
func (r *reshard) await(t *testing.T, what string, enough func(*migrate.Status) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var last *migrate.Status
	err := until(ctx, func() (bool, error) {
		if st := r.status(t); st != nil {
			last = st
		}
		if last != nil && enough(last) {
			return true, nil
		}
		return false, retry.Wait(ctx, 100*time.Millisecond)
	})
	if err != nil {
		t.Fatalf("%s: %s: %v; the last status is %+v", r.keyspace, what, err, last)
	}
}

func running(st *migrate.Status) bool { return st.State == migrate.StateRunning }

// check waits until the targets have all that the sources have, and looks at every row.
func (r *reshard) check(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for i, s := range r.sources {
		p, err := sourcePosition(ctx, r.src[i%2])
		if err != nil {
			t.Fatal(err)
		}
		if err := r.wf.WaitApplied(ctx, s.Name, p); err != nil {
			t.Fatalf("%s: source shard %s: %v", r.keyspace, s.Name, err)
		}
	}
	r.compare(t)
}

// compare looks at every row.
func (r *reshard) compare(t *testing.T) {
	t.Helper()
	report, err := shardcheck.Check(t.Context(), r.sources, r.targets, reshardCheck)
	if err != nil {
		t.Fatalf("%s: %v", r.keyspace, err)
	}
	if report.Problems > 0 {
		t.Errorf("%s: %s", r.keyspace, report)
	} else {
		t.Logf("%s: %s", r.keyspace, report)
	}
	if slices.Contains(report.PerShard, 0) {
		t.Errorf("%s: a shard is empty: %v", r.keyspace, report.PerShard)
	}
}

// nothingLeft fails when a server has anything of the sidecar.
func (l *reshardLab) nothingLeft(t *testing.T) {
	t.Helper()
	for _, s := range slices.Concat(l.src[:], l.dst[:]) {
		if left := s.MustQuery(t, "SELECT schema_name, table_name FROM information_schema.schemata LEFT JOIN information_schema.tables ON table_schema = schema_name WHERE schema_name LIKE '\\_tablehaul%'"); len(left) > 0 {
			t.Errorf("the sidecar is still there: %v", left)
		}
	}
}

// A reshardWorker is a worker process of the lab.
type reshardWorker struct {
	t   *testing.T
	l   *reshardLab
	cmd *exec.Cmd
}

func (l *reshardLab) worker(t *testing.T) *reshardWorker {
	t.Helper()
	w := &reshardWorker{t: t, l: l}
	w.start()
	t.Cleanup(w.kill)
	return w
}

func (w *reshardWorker) start() {
	w.cmd = startWorker(w.t, workerConfig{Topology: w.l.etcd.Addr(), User: "root", ChunkRows: 30, Workers: 2})
}

// kill kills the process with SIGKILL.
func (w *reshardWorker) kill() {
	if w.cmd != nil {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
		w.cmd = nil
	}
}
