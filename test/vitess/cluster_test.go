package vitess

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
)

// A cluster is one Vitess.
type cluster struct {
	name string // its topology's roots are below it: /name/global
	// unsharded is the keyspace that statements through gate mean when they name none.
	unsharded string
	// semiSync is the keyspace whose primary waits for a replica at every commit.
	semiSync string
	etcd     *replicationtest.Etcd
	cells    []cell
	ctld     string // vtctld's address
	gate     *sql.DB
	tablets  map[string]*tablet
}

// A cell is a part of a cluster's topology, on an etcd of its own or the cluster's.
type cell struct {
	name string
	etcd *replicationtest.Etcd
}

// A tablet is one vttablet and its MySQL server.
type tablet struct {
	alias, keyspace, shard string
	database               string // empty: vt_<keyspace>
	primary                bool   // at first
	server                 *replicationtest.Server
	program                *program
}

// startCluster starts a Vitess whose keyspaces have their primaries and are served.
func startCluster(t *testing.T, c *cluster, tablets []*tablet, vschemas map[string]string) {
	t.Helper()
	c.startControl(t)
	c.tablets = map[string]*tablet{}
	for _, tab := range tablets {
		c.tablets[tab.alias] = tab
		if len(c.keyspaceTablets(tab.keyspace)) == 1 {
			c.ctl(t, "CreateKeyspace", "--durability-policy="+c.durability(tab.keyspace), tab.keyspace)
		}
		c.startTablet(t, tab)
	}
	for _, tab := range tablets {
		if tab.primary {
			await(t, "first primary of "+tab.keyspace+"/"+tab.shard, func(ctx context.Context) error {
				_, err := c.tryCtl(ctx, "PlannedReparentShard", "--new-primary", tab.alias, tab.keyspace+"/"+tab.shard)
				return err
			})
		}
	}
	for keyspace, text := range vschemas {
		c.ctl(t, "ApplyVSchema", "--vschema", text, keyspace)
	}
	c.startGate(t)
}

// durability is a keyspace's policy.
func (c *cluster) durability(keyspace string) string {
	if keyspace == c.semiSync {
		return "semi_sync"
	}
	return "none"
}

// topologyFlags are those of every program.
func (c *cluster) topologyFlags() []string {
	return []string{
		"--topo-implementation=etcd2", "--topo-global-server-address=" + c.etcd.Addr(), "--topo-global-root=" + c.root(),
		"--log-format=text",
	}
}

func (c *cluster) root() string { return "/" + c.name + "/global" }

func (c *cluster) startControl(t *testing.T) {
	t.Helper()
	grpc := freePort(t)
	c.ctld = loopback(grpc)
	p := startProgram(t, "vtctld", c.name+" vtctld", append(c.topologyFlags(),
		"--cell="+c.cells[0].name, fmt.Sprintf("--port=%d", freePort(t)), fmt.Sprintf("--grpc-port=%d", grpc), "--service-map=grpc-vtctl,grpc-vtctld")...)
	await(t, "vtctld", func(ctx context.Context) error {
		if p.ended() {
			t.Fatal("vtctld has ended")
		}
		_, err := c.tryCtl(ctx, "GetCellInfoNames")
		return err
	})
	for _, cell := range c.cells {
		c.ctl(t, "AddCellInfo", "--root", "/"+c.name+"/"+cell.name, "--server-address", cell.etcd.Addr(), cell.name)
	}
}

// startTablet starts a vttablet over a MySQL server. It is a replica until it is made the primary.
func (c *cluster) startTablet(t *testing.T, tab *tablet) {
	t.Helper()
	if tab.server == nil {
		tab.server = replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{
			"--innodb-buffer-pool-size=32M", "--plugin-load-add=semisync_source.so", "--plugin-load-add=semisync_replica.so",
		}})
	}
	args := append(c.topologyFlags(),
		"--tablet-path="+tab.alias, "--init-keyspace="+tab.keyspace, "--init-shard="+tab.shard, "--init-tablet-type=replica",
		"--init-db-name-override="+tab.database, "--tablet-hostname=127.0.0.1",
		fmt.Sprintf("--port=%d", freePort(t)), fmt.Sprintf("--grpc-port=%d", freePort(t)),
		"--service-map=grpc-queryservice,grpc-tabletmanager,grpc-updatestream",
		"--db-host="+tab.server.Host, fmt.Sprintf("--db-port=%d", tab.server.Port), "--db-ssl-mode=disabled",
		"--health-check-interval=1s")
	for _, role := range []string{"dba", "app", "allprivs", "appdebug", "filtered", "repl"} {
		args = append(args, "--db-"+role+"-user=root")
	}
	tab.program = startProgram(t, "vttablet", "vttablet "+tab.alias, args...)
}

func (c *cluster) startGate(t *testing.T) {
	t.Helper()
	port := freePort(t)
	var cells []string
	for _, cell := range c.cells {
		cells = append(cells, cell.name)
	}
	startProgram(t, "vtgate", c.name+" vtgate", append(c.topologyFlags(),
		"--cell="+cells[0], "--cells-to-watch="+strings.Join(cells, ","), "--tablet-types-to-wait=PRIMARY",
		fmt.Sprintf("--port=%d", freePort(t)), fmt.Sprintf("--grpc-port=%d", freePort(t)), "--service-map=grpc-vtgateservice",
		fmt.Sprintf("--mysql-server-port=%d", port), "--mysql-server-bind-address=127.0.0.1", "--mysql-auth-server-impl=none", "--enable-buffer")...)
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.DBName, cfg.InterpolateParams = "tcp", loopback(port), "root", c.unsharded, true
	cfg.Logger = &mysql.NopLogger{}
	conn, err := mysql.NewConnector(cfg)
	must(t, err)
	c.gate = sql.OpenDB(conn)
	t.Cleanup(func() { _ = c.gate.Close() })
	for _, tab := range c.tablets {
		if tab.primary {
			c.awaitServing(t, tab.keyspace, tab.shard, tab.alias)
		}
	}
}

// awaitServing waits until vtgate knows the primary of a shard, which must be the given tablet unless that is empty.
func (c *cluster) awaitServing(t *testing.T, keyspace, shard, alias string) {
	t.Helper()
	await(t, "vtgate to serve "+keyspace+"/"+shard, func(ctx context.Context) error {
		rows, err := query(ctx, c.gate, "SHOW vitess_tablets")
		for _, r := range rows { // cell, keyspace, shard, type, state, alias
			if r[1] == keyspace && r[2] == shard && r[3] == "PRIMARY" && r[4] == "SERVING" && (alias == "" || sameAlias(r[5], alias)) {
				return nil
			}
		}
		return fmt.Errorf("tablets %v: %w", rows, err)
	})
}

// awaitTable waits until vtgate has a VSchema with a table.
func (c *cluster) awaitTable(t *testing.T, keyspace, table string) {
	t.Helper()
	await(t, "VSchema of vtgate", func(ctx context.Context) error {
		_, err := query(ctx, c.gate, "SELECT 1 FROM `"+keyspace+"`.`"+table+"` LIMIT 1")
		return err
	})
}

// sameAlias compares "zone1-0000000100" with "zone1-100".
func sameAlias(a, b string) bool {
	x, errX := topo.ParseTabletAlias(a)
	y, errY := topo.ParseTabletAlias(b)
	return errX == nil && errY == nil && x == y
}

func (c *cluster) keyspaceTablets(keyspace string) (out []*tablet) {
	for _, tab := range c.tablets {
		if tab.keyspace == keyspace {
			out = append(out, tab)
		}
	}
	return out
}

// tryCtl runs vtctldclient and returns what it prints.
func (c *cluster) tryCtl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(os.Getenv(binEnv), "vtctldclient"), append([]string{"--server", c.ctld, "--action-timeout=30s"}, args...)...)
	b, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("vtctldclient %s: %w: %s", strings.Join(args, " "), err, b)
	}
	return strings.TrimSpace(string(b)), nil
}

// ctl is tryCtl that must succeed.
func (c *cluster) ctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.tryCtl(t.Context(), args...)
	must(t, err)
	return out
}

// undo runs vtctldclient at the end of the test.
func (c *cluster) undo(t *testing.T, args ...string) {
	t.Cleanup(func() {
		if _, err := c.tryCtl(context.WithoutCancel(t.Context()), args...); err != nil {
			t.Error(err)
		}
	})
}

// topology opens the cluster's topology as this library does.
func (c *cluster) topology(t *testing.T) *topo.Server {
	t.Helper()
	ts, err := topo.Open(t.Context(), openers, topo.Address{Type: "etcd2", Server: c.etcd.Addr(), Root: c.root()})
	must(t, err)
	t.Cleanup(func() { _ = ts.Close() })
	return ts
}

var openers = topo.Openers{"etcd2": etcdtopo.Open}

// query returns all rows of a query as text; NULL is empty.
func query(ctx context.Context, db *sql.DB, text string, args ...any) ([][]string, error) {
	rows, err := queryNull(ctx, db, text, args...)
	out := make([][]string, len(rows))
	for i, row := range rows {
		for _, v := range row {
			out[i] = append(out[i], string(v))
		}
	}
	return out, err
}

// queryNull returns all rows of a query as text; NULL is nil.
func queryNull(ctx context.Context, db *sql.DB, text string, args ...any) ([][][]byte, error) {
	rows, err := db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out [][][]byte
	for rows.Next() {
		row, ptrs := make([][]byte, len(cols)), make([]any, len(cols))
		for i := range row {
			ptrs[i] = &row[i]
		}
		if err := rows.Scan(ptrs...); err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, rows.Err()
}
