// Command quickstart moves a database from one MySQL server to another while it is being written to.
// It starts both servers itself, on free ports, and removes them at the end:
//
//	go run ./quickstart
//
// The five steps are in the function move; the rest is what a demo needs around them.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
	"github.com/tablehaul/tablehaul/vdiff"
	"golang.org/x/sync/errgroup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run starts two servers with a shop on the first, and writes to it while move moves it to the second.
func run(ctx context.Context) error {
	fmt.Println("Starting two MySQL servers ...")
	source, err := replicationtest.RunMySQL(ctx, replicationtest.MySQLOptions{})
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := replicationtest.RunMySQL(ctx, replicationtest.MySQLOptions{})
	if err != nil {
		return err
	}
	defer target.Close()
	fmt.Printf("source %s, target %s, both MySQL %s\n", source.Addr(), target.Addr(), source.Version)
	if err := source.Exec(ctx, shop); err != nil {
		return err
	}
	app, err := source.Open("shop")
	if err != nil {
		return err
	}
	defer app.Close()

	ts, err := topology(ctx, target)
	if err != nil {
		return err
	}
	defer ts.Close()
	creds := mount.Static(mount.Login{User: "root"})
	m, err := migrate.New(ts, creds, migrate.Options{})
	if err != nil {
		return err
	}
	defer m.Close()

	// The migrator runs the streams in a goroutine of ours, the writer writes in another.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	writes, stopWrites := context.WithCancel(ctx)
	written := make(chan int, 1)
	g.Go(func() error { return m.Run(ctx) })
	g.Go(func() error { return write(writes, app, written) })
	g.Go(func() error {
		defer cancel()
		return move(ctx, ts, creds, m, source, func() int {
			stopWrites()
			return <-written
		})
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return compare(context.WithoutCancel(ctx), source, target)
}

// move is the five steps. stopWrites stops the application and returns how often it has written.
func move(ctx context.Context, ts *topo.Server, creds mount.Credentials, m *migrate.Migrator, source *replicationtest.Server, stopWrites func() int) error {
	step(1, "Mount: give the source a name")
	cluster := mount.Cluster{Name: "ext1", Type: mount.MySQL, Hosts: []string{source.Addr()}}
	if err := mount.Register(ctx, ts, cluster, mount.RegisterOptions{Credentials: creds}); err != nil {
		return err
	}

	step(2, "Create: begin to move all tables of ext1's database shop into the keyspace commerce")
	wf := m.Workflow("commerce.wf")
	created, err := wf.Create(ctx, migrate.CreateOptions{Source: "ext1.shop", AllTables: true})
	if err != nil {
		return err
	}
	fmt.Println("tables:", strings.Join(created.Tables, ", "))

	step(3, "Show: the copy, while the application writes")
	if err := watch(ctx, wf); err != nil {
		return err
	}

	step(4, "VDiff: compare both ends, row by row; the application goes on writing")
	report, err := vdiff.New(wf).Create(ctx, vdiff.Options{})
	if err != nil {
		return err
	}
	fmt.Print(report)
	if !report.Equal() {
		return errors.New("the tables differ")
	}

	step(5, "Complete: the application stops, what it wrote last arrives, the workflow ends")
	fmt.Println("the application wrote", stopWrites(), "times meanwhile")
	done, err := wf.Complete(ctx, migrate.CompleteOptions{})
	if err != nil {
		return err
	}
	for _, d := range done.Done {
		fmt.Println("-", d)
	}
	return nil
}

// watch shows the progress until all rows are copied: bars that move on a terminal, else lines.
func watch(ctx context.Context, wf *migrate.Workflow) error {
	terminal := isTerminal(os.Stdout)
	every, drawn := time.Second, 0
	if terminal {
		every = 100 * time.Millisecond
	}
	for st, err := range wf.Watch(ctx, every) {
		if err != nil {
			return err
		}
		if terminal && drawn > 0 {
			fmt.Printf("\x1b[%dA", drawn) // up to the first bar
		}
		drawn = len(st.Tables)
		for _, t := range st.Tables {
			full := int(t.Percent / 100 * 30)
			fmt.Printf("%-10s [%s%s] %5.1f%% %8d rows %8.0f/s\n", t.Table,
				strings.Repeat("#", full), strings.Repeat(".", 30-full), t.Percent, t.Rows, t.RowsPerSecond)
		}
		if st.State == migrate.StateRunning {
			fmt.Println("all rows are there; changes follow as they happen")
			return nil
		}
		if st.State == migrate.StateError {
			return fmt.Errorf("workflow %s: %s", st.Name(), st.Message)
		}
	}
	return context.Cause(ctx)
}

// compare reads all rows of both ends again, with code that shares nothing with the library.
func compare(ctx context.Context, source, target *replicationtest.Server) error {
	from, err := source.Open("")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := target.Open("")
	if err != nil {
		return err
	}
	defer to.Close()
	differences, err := replicationtest.CompareTables(ctx, from, to, "shop", "commerce")
	if err != nil {
		return err
	}
	for _, d := range differences {
		fmt.Println(d)
	}
	if len(differences) > 0 {
		return errors.New("the tables differ after Complete")
	}
	fmt.Println("\nSource and target are equal after the last write, row by row.")
	return nil
}

// topology says where the target is: keyspace commerce, one shard, its primary is the target server.
// It lives in memory here; several processes would share one in etcd.
func topology(ctx context.Context, target *replicationtest.Server) (*topo.Server, error) {
	openers := topo.Openers{"memory": memorytopo.New().Open}
	ts, err := topo.Open(ctx, openers, topo.Address{Type: "memory", Server: "quickstart", Root: "/vitess/global"})
	if err != nil {
		return nil, err
	}
	return ts, errors.Join(
		ts.CreateCell(ctx, topo.CellInfo{Name: "zone1", ServerAddress: "quickstart", Root: "/vitess/zone1"}),
		ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}),
		ts.CreateShard(ctx, "commerce", "0"),
		ts.InitTablet(ctx, topo.Tablet{
			Alias: topo.TabletAlias{Cell: "zone1", UID: 100}, Type: topo.TabletPrimary,
			Keyspace: "commerce", Shard: "0", DBNameOverride: "commerce",
			MySQLHostname: target.Host, MySQLPort: int32(target.Port),
		}),
	)
}

// write is the application: a hundred times a second it orders, changes or cancels, until ctx ends. Then it
// sends how often it did.
func write(ctx context.Context, db *sql.DB, written chan<- int) error {
	n := 0
	defer func() { written <- n }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var err error
		switch id := rand.IntN(rows); n % 3 {
		case 0:
			_, err = db.ExecContext(ctx, "INSERT INTO orders (customer_id, item, price) VALUES (?, 'live', ?)", id, n)
		case 1:
			_, err = db.ExecContext(ctx, "UPDATE customer SET spent = spent + 1, seen = NOW(6) WHERE id = ?", id)
		case 2:
			_, err = db.ExecContext(ctx, "DELETE FROM orders WHERE id = ?", id)
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("application: %w", err)
		}
		n++
	}
}

// rows is how many rows each table of the shop begins with.
const rows = 100_000

// shop makes the source database.
var shop = fmt.Sprintf(`
CREATE DATABASE shop;
USE shop;
CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(64) NOT NULL, spent DECIMAL(12,2) NOT NULL, seen DATETIME(6), KEY (name));
CREATE TABLE orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, customer_id INT NOT NULL, item VARCHAR(32) NOT NULL, price INT NOT NULL, KEY (customer_id));
SET cte_max_recursion_depth = %[1]d;
INSERT INTO customer WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < %[1]d) SELECT i, CONCAT('customer ', i), i / 100, NULL FROM n;
INSERT INTO orders (customer_id, item, price) SELECT id, CONCAT('item ', id %% 100), id %% 1000 FROM customer;
`, rows)

func step(n int, text string) { fmt.Printf("\n%d. %s\n", n, text) }

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
