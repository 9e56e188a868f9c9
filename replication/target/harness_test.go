package target_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

var servers = map[string]func() (*replicationtest.Server, error){
	"mysql": sync.OnceValues(func() (*replicationtest.Server, error) {
		return replicationtest.RunMySQL(context.Background(), replicationtest.MySQLOptions{Args: []string{"--max-allowed-packet=8M", "--local-infile=ON"}})
	}),
	"mariadb": sync.OnceValues(func() (*replicationtest.Server, error) {
		return replicationtest.RunMariaDB(context.Background(), replicationtest.MariaDBOptions{Args: []string{"--max-allowed-packet=8M"}})
	}),
}

var started sync.Map

func TestMain(m *testing.M) {
	code := m.Run()
	started.Range(func(_, s any) bool {
		_ = s.(*replicationtest.Server).Close()
		return true
	})
	os.Exit(code)
}

func server(t *testing.T, flavor string) *replicationtest.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("-short runs no servers")
	}
	s, err := servers[flavor]()
	if err != nil {
		t.Fatal(err)
	}
	started.Store(flavor, s)
	return s
}

// each runs f on MySQL and on MariaDB.
func each(t *testing.T, f func(t *testing.T, s *replicationtest.Server)) {
	for _, flavor := range []string{"mysql", "mariadb"} {
		t.Run(flavor, func(t *testing.T) { f(t, server(t, flavor)) })
	}
}

// eachPath is each, by LOAD DATA and by INSERT. The last is told whether a chunk of a table was loaded.
func eachPath(t *testing.T, f func(t *testing.T, s *replicationtest.Server, opts target.Options)) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		t.Run("load", func(t *testing.T) { f(t, s, target.Options{}) })
		t.Run("insert", func(t *testing.T) { f(t, s, target.Options{DisableLocalInfile: true}) })
	})
}

var shards atomic.Int64

// A shard is a database with a sidecar database and one stream.
type shard struct {
	*testing.T
	server *replicationtest.Server
	name   string
	db     *sql.DB
	side   *sidecar.DB
	stream int64
}

func newShard(t *testing.T, s *replicationtest.Server, ddl ...string) *shard {
	t.Helper()
	h := &shard{T: t, server: s, name: fmt.Sprintf("shard%d", shards.Add(1))}
	s.MustExec(t, "CREATE DATABASE "+h.name)
	h.open()
	for _, q := range ddl {
		h.exec(q)
	}
	id, err := h.side.InsertStream(t.Context(), &sidecar.Stream{Workflow: "wf", DBName: h.name, SourceShard: "0", State: "Running", Options: "{}"})
	if err != nil {
		t.Fatal(err)
	}
	h.stream = id
	return h
}

// open connects; again after the server was restarted.
func (h *shard) open() {
	h.Helper()
	db, err := mysqlconn.Open(h.Context(), h.config(), mysqlconn.Session{Variables: map[string]string{"time_zone": "'+00:00'", "sql_mode": "''"}})
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = db.Close() })
	h.db = db
	if h.side, err = sidecar.Open(h.Context(), db, "side_"+h.name); err != nil {
		h.Fatal(err)
	}
}

func (h *shard) config() mysqlconn.Config {
	return mysqlconn.Config{Addr: h.server.Addr(), User: "root", Database: h.name}
}

func (h *shard) exec(query string) {
	h.Helper()
	if _, err := h.db.ExecContext(h.Context(), query); err != nil {
		h.Fatalf("%s: %v", query, err)
	}
}

// rows reads a query's result as text, one string per row.
func (h *shard) rows(query string) []string {
	h.Helper()
	rows, err := h.db.QueryContext(h.Context(), query)
	if err != nil {
		h.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		h.Fatal(err)
	}
	out := []string{}
	for rows.Next() {
		values, dest := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range dest {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			h.Fatal(err)
		}
		text := ""
		for i, v := range values {
			if i > 0 {
				text += " "
			}
			if v.Valid {
				text += v.String
			} else {
				text += "NULL"
			}
		}
		out = append(out, text)
	}
	if err := rows.Err(); err != nil {
		h.Fatal(err)
	}
	return out
}

func (h *shard) target(opts target.Options, tables ...*replication.Table) *target.Target {
	h.Helper()
	tg, err := target.Open(h.Context(), target.Config{Server: h.config(), Sidecar: h.side.Name(), StreamID: h.stream, Tables: tables, Owner: h.Name()}, opts)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = tg.Close() })
	return tg
}

// A run is a loaded target whose Run goes on.
type run struct {
	*shard
	t      *target.Target
	cp     *replication.Checkpoint
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan error
	n      int
}

// start loads and runs; a new stream starts at position 0.
func (h *shard) start(tg *target.Target) *run {
	h.Helper()
	return h.startWith(tg, func() {})
}

// startWith is start, with something to do after the load.
func (h *shard) startWith(tg *target.Target, loaded func()) *run {
	h.Helper()
	cp, err := tg.Load(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	loaded()
	if cp.Position.IsZero() {
		if err := tg.Start(h.Context(), position(0)); err != nil {
			h.Fatal(err)
		}
		cp.Position = position(0)
	}
	r := &run{shard: h, t: tg, cp: cp, ended: make(chan error, 1)}
	r.ctx, r.cancel = context.WithCancel(h.Context())
	go func() {
		err := tg.Run(r.ctx)
		r.ended <- err
		r.cancel()
	}()
	h.Cleanup(func() { r.cancel() })
	r.n = transactions(cp.Position)
	return r
}

const sourceUUID = "11111111-1111-1111-1111-111111111111"

// position is after n transactions of the source.
func position(n int) replication.Position {
	p, err := replication.ParsePosition(fmt.Sprintf("MySQL56/%s:1-%d", sourceUUID, n+1))
	if err != nil {
		panic(err)
	}
	return p
}

// transactions is the n of a position.
func transactions(p replication.Position) int {
	for n := 0; ; n++ {
		if position(n).Equal(p) {
			return n
		}
		if n > 1e6 {
			panic("position " + p.String())
		}
	}
}

// entry is the next transaction.
func (r *run) entry(changes ...replication.Change) *replication.Entry {
	r.n++
	return &replication.Entry{Changes: changes, Position: position(r.n)}
}

// apply appends entries and waits for their commit; the error is that of Run.
func (r *run) apply(entries ...*replication.Entry) error {
	r.Helper()
	done := make(chan struct{}, len(entries))
	for _, e := range entries {
		e.Done = func() { done <- struct{}{} }
		if err := r.t.Append(r.ctx, e); err != nil {
			return <-r.ended
		}
	}
	for range entries {
		select {
		case <-done:
		case err := <-r.ended:
			r.ended <- err
			return err
		}
	}
	return nil
}

func (r *run) must(entries ...*replication.Entry) {
	r.Helper()
	if err := r.apply(entries...); err != nil {
		r.Fatal(err)
	}
}

// stop ends Run.
func (r *run) stop() error {
	r.cancel()
	return <-r.ended
}

func (h *shard) position() replication.Position {
	h.Helper()
	m, err := h.side.Position(h.Context(), h.stream)
	if err != nil {
		h.Fatal(err)
	}
	p, err := replication.ParsePosition(m.Position)
	if err != nil {
		h.Fatal(err)
	}
	return p
}

// row packs texts; "\xffNULL" is NULL.
func row(values ...string) replication.Row {
	packed := make([][]byte, len(values))
	for i, v := range values {
		if v != "\xffNULL" {
			packed[i] = []byte(v)
		}
	}
	return replication.PackRow(packed...)
}

const null = "\xffNULL"

func insert(t *replication.Table, values ...string) replication.Change {
	return replication.Change{Table: t, After: row(values...)}
}

func update(t *replication.Table, before, after replication.Row) replication.Change {
	return replication.Change{Table: t, Before: before, After: after}
}

func remove(t *replication.Table, values ...string) replication.Change {
	return replication.Change{Table: t, Before: row(values...)}
}

func chunk(t *replication.Table, span replication.Span, p replication.Position, rows ...replication.Row) *replication.Entry {
	c := &replication.Chunk{Table: t, Span: span, Rows: rows}
	for _, r := range rows {
		c.Bytes += len(r)
	}
	return &replication.Entry{Chunk: c, Position: p}
}

// pairs is a table (id int primary key, v varchar(20), u int unique).
func pairs() *replication.Table {
	return &replication.Table{
		Schema: "source", Name: "pairs", Ordered: true,
		Columns: []replication.Column{
			{Name: "id", Kind: replication.KindInt, Type: "int"},
			{Name: "v", Kind: replication.KindText, Type: "varchar(20)", Charset: "utf8mb4", Collation: "utf8mb4_bin", Nullable: true},
			{Name: "u", Kind: replication.KindInt, Type: "int", Nullable: true},
		},
		Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}, Exact: true},
		Unique:  []replication.Index{{Name: "u", Columns: []int{2}, Exact: true}},
	}
}

const createPairs = "CREATE TABLE pairs (id int PRIMARY KEY, v varchar(20) COLLATE utf8mb4_bin, u int, UNIQUE KEY u (u))"
