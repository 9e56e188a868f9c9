package source_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
)

// shared is the server that most tests use, each in a schema of its own.
var shared *replicationtest.Server

// TestMain runs everything in a zone that no server here has: values must not depend on it.
func TestMain(m *testing.M) {
	if err := os.Setenv("TZ", "Asia/Kolkata"); err != nil {
		panic(err)
	}
	time.Local = time.FixedZone("Asia/Kolkata", 5*3600+1800)
	code := m.Run()
	if shared != nil {
		_ = shared.Close()
	}
	os.Exit(code)
}

// server returns the shared server.
func server(t *testing.T) *replicationtest.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a server")
	}
	if shared == nil {
		s, err := replicationtest.RunMySQL(context.Background(), replicationtest.MySQLOptions{})
		if err != nil {
			t.Fatal(err)
		}
		shared = s
	}
	return shared
}

// A fixture is a schema on a server, and a way to read it.
type fixture struct {
	*testing.T
	srv    *replicationtest.Server
	db     *sql.DB
	schema string
	cfg    source.Config
	// spills counts the transactions that log has read and that were too large for memory.
	spills int
}

// unspill takes the changes of a transaction into memory.
func unspill(t *replication.Transaction) error {
	err := t.Spill.Each(func(c replication.Change) error {
		t.Changes = append(t.Changes, c)
		return nil
	})
	return errors.Join(err, t.Spill.Close())
}

var schemas int

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return fixtureOn(t, server(t))
}

func fixtureOn(t *testing.T, srv *replicationtest.Server) *fixture {
	t.Helper()
	schemas++
	f := &fixture{T: t, srv: srv, schema: fmt.Sprintf("s%d", schemas)}
	admin := srv.DB(t)
	if _, err := admin.Exec("CREATE DATABASE " + f.schema); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", srv.DSN(f.schema))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	f.db = db
	f.cfg = source.Config{Addr: srv.Addr(), User: "root", Database: f.schema}
	return f
}

// exec runs statements on one session.
func (f *fixture) exec(statements ...string) {
	f.Helper()
	c, err := f.db.Conn(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	defer c.Close()
	for _, q := range statements {
		if _, err := c.ExecContext(f.Context(), q); err != nil {
			f.Fatalf("%.200s: %v", q, err)
		}
	}
}

// query returns one string.
func (f *fixture) query(q string) string {
	f.Helper()
	var v string
	if err := f.db.QueryRow(q).Scan(&v); err != nil {
		f.Fatalf("%.200s: %v", q, err)
	}
	return v
}

func (f *fixture) open(tables ...string) *source.Source {
	f.Helper()
	return f.openWith(source.Options{Heartbeat: 100 * time.Millisecond}, tables...)
}

func (f *fixture) openWith(opts source.Options, tables ...string) *source.Source {
	f.Helper()
	s, err := source.Open(f.Context(), f.cfg, tables, opts)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	return s
}

// end is the position of now.
func (f *fixture) end(s *source.Source) (replication.LogPos, replication.Position) {
	f.Helper()
	e, p, err := s.End(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	return e, p
}

// log reads the transactions between from and the end of the log at the time of the call.
func (f *fixture) log(s *source.Source, from replication.Position) []*replication.Transaction {
	f.Helper()
	list, err := f.tryLog(s, from)
	if err != nil {
		f.Fatal(err)
	}
	return list
}

func (f *fixture) tryLog(s *source.Source, from replication.Position) ([]*replication.Transaction, error) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), 30*time.Second)
	defer cancel()
	end, _ := f.end(s)
	var list []*replication.Transaction
	var last replication.LogPos
	for t, err := range s.Transactions(ctx, from) {
		if err != nil {
			return list, err
		}
		if t.End.Before(last) {
			f.Errorf("the position went back from %v to %v", last, t.End)
		}
		last = t.End
		if t.Spill != nil {
			f.spills++
			if err := unspill(t); err != nil {
				return list, err
			}
		}
		if !t.GTID.IsZero() {
			list = append(list, t)
		}
		if !t.End.Before(end) {
			break
		}
	}
	return list, nil
}

// changes are those of all transactions.
func changes(list []*replication.Transaction) []replication.Change {
	var all []replication.Change
	for _, t := range list {
		all = append(all, t.Changes...)
	}
	return all
}

// read reads a whole table in one chunk.
func (f *fixture) read(s *source.Source, t *replication.Table) []replication.Row {
	f.Helper()
	c, err := s.Read(f.Context(), t, replication.Span{}, replication.Limit{})
	if err != nil {
		f.Fatal(err)
	}
	return c.Rows
}

// column returns the n-th column of a query's rows.
func (f *fixture) column(n int, q string) []string {
	f.Helper()
	var list []string
	for _, row := range f.srv.MustQuery(f, q) {
		list = append(list, row[n])
	}
	return list
}
