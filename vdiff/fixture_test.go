package vdiff_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
)

// servers are shared by the tests of this package; each test has databases of its own.
var servers struct {
	mu     sync.Mutex
	byName map[string]*replicationtest.Server
	// databases counts those made so far.
	databases int
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, s := range servers.byName {
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = cmp.Or(code, 1)
		}
	}
	os.Exit(code)
}

// server is the server of a name ("source", "target", "mariadb"), started when it is first asked for.
func server(tb testing.TB, name string) *replicationtest.Server {
	tb.Helper()
	servers.mu.Lock()
	defer servers.mu.Unlock()
	if s := servers.byName[name]; s != nil {
		return s
	}
	var s *replicationtest.Server
	var err error
	// The server outlives the test, so it must not end with the test's context.
	ctx := context.WithoutCancel(tb.Context())
	if name == "mariadb" {
		s, err = replicationtest.RunMariaDB(ctx, replicationtest.MariaDBOptions{})
	} else {
		s, err = replicationtest.RunMySQL(ctx, replicationtest.MySQLOptions{})
	}
	if err != nil {
		tb.Fatal(err)
	}
	if servers.byName == nil {
		servers.byName = map[string]*replicationtest.Server{}
	}
	servers.byName[name] = s
	return s
}

// A workflow is the other side of vdiff.Workflow: two databases that the test fills itself. Without a replay the
// target counts as having applied everything.
type workflow struct {
	name             string
	sources, targets map[string]*sql.DB
	tables           []*replication.Table
	// route is that of all tables; pairs are TablePairs if they are set.
	route   replication.Route
	pairs   []replication.TablePair
	zone    *time.Location
	sidecar string
	// wait is WaitApplied if it is set.
	wait func(ctx context.Context, shard string, p replication.Position) error
}

func (w *workflow) Name() string    { return w.name }
func (w *workflow) Sidecar() string { return w.sidecar }

func (w *workflow) Databases(context.Context) (sources, targets map[string]*sql.DB, err error) {
	return w.sources, w.targets, nil
}

func (w *workflow) TablePairs(context.Context) ([]replication.TablePair, *time.Location, error) {
	if w.pairs != nil {
		return w.pairs, w.zone, nil
	}
	var pairs []replication.TablePair
	for _, t := range w.tables {
		pairs = append(pairs, replication.TablePair{Source: t, Target: t, Route: w.route})
	}
	return pairs, w.zone, nil
}

func (w *workflow) WaitApplied(ctx context.Context, shard string, p replication.Position) error {
	if w.wait == nil {
		return ctx.Err()
	}
	return w.wait(ctx, shard, p)
}

// database makes a database on a server and returns a pool on it.
func database(tb testing.TB, s *replicationtest.Server, name string) *sql.DB {
	tb.Helper()
	s.MustExec(tb, "CREATE DATABASE "+name)
	db, err := s.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// newWorkflow makes the databases of one source and some targets and runs the DDL on each of them.
func newWorkflow(tb testing.TB, sourceServer string, targetServers []string, ddl ...string) *workflow {
	tb.Helper()
	src := server(tb, sourceServer)
	servers.mu.Lock()
	servers.databases++
	name := fmt.Sprintf("db%d", servers.databases)
	servers.mu.Unlock()
	w := &workflow{
		name: "commerce.wf", sidecar: "_" + name, targets: map[string]*sql.DB{},
		sources: map[string]*sql.DB{"0": database(tb, src, name+"_source")},
	}
	for i, t := range targetServers {
		w.targets[fmt.Sprint(i)] = database(tb, server(tb, t), fmt.Sprintf("%s_target%d", name, i))
	}
	w.both(tb, ddl...)
	if _, err := sidecar.Open(tb.Context(), w.target(), w.sidecar); err != nil {
		tb.Fatal(err)
	}
	var err error
	w.tables, err = source.Tables(tb.Context(), w.sources["0"], name+"_source", nil)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

func (w *workflow) source() *sql.DB { return w.sources["0"] }
func (w *workflow) target() *sql.DB { return w.targets["0"] }

// both runs statements on every database, as one session each.
func (w *workflow) both(tb testing.TB, statements ...string) {
	tb.Helper()
	run(tb, w.source(), statements...)
	for _, db := range w.targets {
		run(tb, db, statements...)
	}
}

// run runs statements in one session that takes every value as it is.
func run(tb testing.TB, db *sql.DB, statements ...string) {
	tb.Helper()
	conn, err := db.Conn(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	for _, s := range slices.Concat([]string{"SET NAMES utf8mb4", "SET sql_mode=''", "SET time_zone='+00:00'", "SET @@session.foreign_key_checks=0"}, statements) {
		if _, err := conn.ExecContext(tb.Context(), s); err != nil {
			tb.Fatalf("%.200s: %v", s, err)
		}
	}
}

// fill inserts rows 1 to n into a table of every database; row gives the values of one as SQL.
func (w *workflow) fill(tb testing.TB, table string, n int, row func(i int) string) {
	tb.Helper()
	var statements []string
	for i := 1; i <= n; {
		var b strings.Builder
		for end := min(n, i+999); i <= end; i++ {
			b.WriteString(",(" + row(i) + ")")
		}
		statements = append(statements, "INSERT INTO "+table+" VALUES "+b.String()[1:])
	}
	w.both(tb, statements...)
}

// byID is the route of rows by their first column, an integer.
func byID(of func(id int) int) replication.Route {
	return replication.ByColumns([]int{0}, func(r replication.Row) (int, error) {
		v, _, err := r.Next()
		if err != nil {
			return 0, err
		}
		id, err := strconv.Atoi(string(v))
		return of(id), err
	})
}
