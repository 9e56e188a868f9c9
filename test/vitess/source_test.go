package vitess

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
)

// plainTopology is a topology that Vitess has no part in: the keyspace merged on a server of its own.
func (l *lab) plainTopology(t *testing.T) (*topo.Server, *replicationtest.Server) {
	t.Helper()
	ctx := t.Context()
	root := "/" + strings.ReplaceAll(t.Name(), "/", "_")
	ts, err := topo.Open(ctx, openers, topo.Address{Type: "etcd2", Server: l.etcd.Addr(), Root: root + "/global"})
	must(t, err)
	t.Cleanup(func() { _ = ts.Close() })
	target := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	must(t, ts.CreateCell(ctx, topo.CellInfo{Name: "here", ServerAddress: l.etcd.Addr(), Root: root + "/here"}))
	must(t, ts.CreateKeyspace(ctx, topo.Keyspace{Name: "merged"}))
	must(t, ts.CreateShard(ctx, "merged", "0"))
	must(t, ts.InitTablet(ctx, topo.Tablet{
		Alias: topo.TabletAlias{Cell: "here", UID: 1}, Type: topo.TabletPrimary, Keyspace: "merged", Shard: "0",
		MySQLHostname: target.Host, MySQLPort: int32(target.Port), DBNameOverride: "merged",
	}))
	return ts, target
}

// mountEast mounts the Vitess east, as "east".
func (l *lab) mountEast(t *testing.T, ts *topo.Server) {
	t.Helper()
	c := l.east()
	address := topo.Address{Type: "etcd2", Server: c.etcd.Addr(), Root: c.root()}
	must(t, mount.Register(t.Context(), ts, mount.Cluster{Name: "east", Type: mount.Vitess, Topo: address}, mount.RegisterOptions{Credentials: login}))
}

// fillEast makes the tables of east, and their rows through vtgate.
func (l *lab) fillEast(t *testing.T) {
	t.Helper()
	c := l.east()
	if l.eastFilled {
		return
	}
	l.eastFilled = true
	c.ctl(t, "ApplySchema", "--ddl-strategy=direct", "--sql", `CREATE TABLE orders (id BIGINT PRIMARY KEY, customer VARCHAR(40), amount DECIMAL(10,2), KEY (customer));
		CREATE TABLE country (code CHAR(2) PRIMARY KEY, name VARCHAR(40));
		CREATE TABLE _vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_ (id INT PRIMARY KEY); CREATE TABLE _orders_gho (id INT PRIMARY KEY)`, "shop")
	c.ctl(t, "ApplySchema", "--ddl-strategy=direct", "--sql", "CREATE TABLE product (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40))", "legacy")
	c.awaitTable(t, "shop", "orders")
	for i := range 30 {
		var rows []string
		for j := range 100 {
			id := i*100 + j
			rows = append(rows, fmt.Sprintf("(%d, 'Kunde %d', %d.25)", id, id%77, id))
		}
		c.mustGate(t, "INSERT INTO shop.orders (id, customer, amount) VALUES "+strings.Join(rows, ", "), 100)
	}
	for _, tab := range c.keyspaceTablets("shop") { // vtgate takes no inserts of reference tables
		if tab.primary {
			tab.server.MustExec(t, "INSERT INTO vt_shop.country (code, name) VALUES ('DE', 'Deutschland'), ('JP', '日本')")
		}
	}
	c.mustGate(t, "INSERT INTO legacy.product (name) VALUES ('a'), ('b'), ('c')", 3)
}

// testMountedVitess looks into a Vitess.
func testMountedVitess(t *testing.T, l *lab) {
	l.east()
	ts, _ := l.plainTopology(t)
	l.mountEast(t, ts)
	h, err := mount.Open(t.Context(), ts, "east", mount.OpenOptions{Credentials: login})
	must(t, err)
	defer h.Close()
	keyspaces, err := h.Keyspaces(t.Context())
	must(t, err)
	if !slices.Equal(keyspaces, []string{"legacy", "shop"}) {
		t.Errorf("keyspaces %v", keyspaces)
	}
	shards, err := h.Shards(t.Context(), "shop")
	must(t, err)
	if len(shards) != 2 || shards[0].Name != "-80" || shards[1].Name != "80-" || shards[0].KeyRange.String() != "-80" {
		t.Errorf("shards %+v", shards)
	}
	for _, want := range []struct {
		keyspace, shard string
		sel             topo.TabletSelector
		ends            []string // alias, type and database
	}{
		{"shop", "-80", topo.TabletSelector{}, []string{"east2-0000000101 replica vt_shop", "east1-0000000100 primary vt_shop"}},
		{"shop", "-80", topo.TabletSelector{Types: []topo.TabletType{topo.TabletPrimary}}, []string{"east1-0000000100 primary vt_shop"}},
		{"shop", "-80", topo.TabletSelector{Cells: []string{"east2"}}, []string{"east2-0000000101 replica vt_shop"}},
		{"shop", "80-", topo.TabletSelector{}, []string{"east1-0000000200 primary vt_shop"}},
		{"legacy", "0", topo.TabletSelector{}, []string{"east1-0000000300 primary legacydb"}},
	} {
		ends, err := h.Endpoints(t.Context(), want.keyspace, want.shard, want.sel)
		must(t, err)
		var got []string
		for _, e := range ends {
			got = append(got, fmt.Sprintf("%s %s %s", e.Alias, strings.ToLower(e.Type.String()), e.Database))
			if tab := l.eastCluster.tabletOf(e.Alias); tab == nil || e.Addr() != tab.server.Addr() {
				t.Errorf("%s is at %s", e.Alias, e.Addr())
			}
		}
		if !slices.Equal(got, want.ends) {
			t.Errorf("%s/%s, %+v: %v, want %v", want.keyspace, want.shard, want.sel, got, want.ends)
		}
	}
}

func (c *cluster) tabletOf(alias topo.TabletAlias) *tablet {
	for name, tab := range c.tablets {
		if sameAlias(name, alias.String()) {
			return tab
		}
	}
	return nil
}

// testVitessSource moves tables of a sharded and an unsharded keyspace of a Vitess to one MySQL server, while rows are written through vtgate
// and Vitess makes another tablet the primary of a shard.
func testVitessSource(t *testing.T, l *lab) {
	l.fillEast(t)
	c := l.east()
	ts, target := l.plainTopology(t)
	l.mountEast(t, ts)
	mv := newMover(t, ts)
	stop := c.write(t)
	wf := mv.create(t, "merged.shop", migrate.CreateOptions{Source: "east.shop"})
	small := mv.create(t, "merged.legacy", migrate.CreateOptions{Source: "east.legacy"})
	watch(t, wf, "first rows", func(st *migrate.Status) bool { return rowsCopied(st) > 200 })
	c.ctl(t, "PlannedReparentShard", "--new-primary", "east2-101", "shop/-80")
	running(t, wf)
	former := c.tablets["east1-100"]
	former.server.Kill9()
	position := running(t, wf).Streams[0].Position
	watch(t, wf, "a stream without the tablet", func(st *migrate.Status) bool { return st.Streams[0].Position != position })
	former.server.MustRestart(t)
	await(t, "reparent", func(ctx context.Context) error {
		_, err := c.tryCtl(ctx, "PlannedReparentShard", "--new-primary", "east1-100", "shop/-80")
		return err
	})
	stop()
	running(t, small)
	compare(t, wf)
	complete(t, wf)
	complete(t, small)
	db := target.DB(t)
	checkSame(t, c.gate, "SELECT * FROM shop.orders LIMIT 100000", db, "SELECT * FROM merged.orders")
	checkSame(t, c.gate, "SELECT * FROM shop.country", db, "SELECT * FROM merged.country")
	checkSame(t, c.gate, "SELECT * FROM legacy.product", db, "SELECT * FROM merged.product")
	tables, err := query(t.Context(), db, "SHOW TABLES FROM merged")
	must(t, err)
	if got := fmt.Sprint(tables); got != "[[country] [orders] [product]]" {
		t.Errorf("tables %s", got)
	}
}

// write writes to shop.orders through vtgate until the function is called.
func (c *cluster) write(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := c.gate.Conn(ctx)
	must(t, err)
	done := make(chan int)
	go func() {
		r := rand.New(rand.NewPCG(3, 3))
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for ctx.Err() == nil {
			id, text := 10000+n, ""
			switch r.IntN(4) {
			case 0, 1:
				text = fmt.Sprintf("INSERT INTO shop.orders (id, customer, amount) VALUES (%d, 'neu', 1), (%d, 'neu', 2)", id, -id)
			case 2:
				text = fmt.Sprintf("UPDATE shop.orders SET amount = amount + 1, customer = 'x%d' WHERE id = %d", n, r.IntN(3000))
			case 3:
				text = fmt.Sprintf("DELETE FROM shop.orders WHERE id = %d", r.IntN(3000))
			}
			// A reparent may end a transaction; nobody has to know which. The session takes nothing more until it is rolled back.
			if _, err := conn.ExecContext(ctx, text); err == nil {
				n++
			} else {
				_, _ = conn.ExecContext(ctx, "ROLLBACK")
			}
			<-tick.C
		}
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		done <- n
	}()
	return func() {
		cancel()
		t.Logf("%d statements went through vtgate meanwhile", <-done)
	}
}

// checkSame compares the results of two queries as sets of rows.
func checkSame(t *testing.T, a *sql.DB, queryA string, b *sql.DB, queryB string) {
	t.Helper()
	count := map[string]int{}
	for i, side := range []struct {
		db   *sql.DB
		text string
	}{{a, queryA}, {b, queryB}} {
		var rows [][][]byte
		// A vttablet learns that its MySQL server was restarted by an error for each of its connections.
		await(t, side.text, func(ctx context.Context) (err error) {
			rows, err = queryNull(ctx, side.db, side.text)
			return err
		})
		for _, row := range rows {
			key := ""
			for _, v := range row {
				if key += ", "; v == nil {
					key += "NULL"
				} else {
					key += fmt.Sprintf("%q", v)
				}
			}
			count[key] += 1 - 2*i
		}
	}
	for row, n := range count {
		switch {
		case n > 0:
			t.Errorf("%d times more in %s: %s", n, queryA, row)
		case n < 0:
			t.Errorf("%d times more in %s: %s", -n, queryB, row)
		}
	}
}
