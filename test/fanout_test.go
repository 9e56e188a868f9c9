package test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/migrate/routing"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
	"github.com/tablehaul/tablehaul/replication/target"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// The tables: rows of orders and of names move between shards whenever customer or n changes, the order of names is known
// to the server only, and countries is on every shard.
const (
	shopTables = "CREATE TABLE orders (id int PRIMARY KEY, customer bigint unsigned NOT NULL, note varchar(100), serial int UNIQUE);" +
		"CREATE TABLE names (name varchar(40) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, n bigint unsigned NOT NULL);" +
		"CREATE TABLE countries (id int PRIMARY KEY, name varchar(40))"
	shopRows = "INSERT INTO orders WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)" +
		" SELECT i, CONV(LEFT(SHA2(i, 256), 16), 16, 10), SHA2(i, 256), i FROM n;" +
		"INSERT INTO names SELECT CONCAT(ELT(1 + id % 3, 'a', 'B', 'ç'), id), customer FROM orders WHERE id <= 4000;" +
		"INSERT INTO countries SELECT id, LEFT(note, 40) FROM orders WHERE id <= 300"
	shopVSchema = `{"sharded": true, "vindexes": {"n": {"type": "numeric"}}, "tables": {
		"orders": {"column_vindexes": [{"column": "customer", "name": "n"}]},
		"names": {"column_vindexes": [{"column": "n", "name": "n"}]},
		"countries": {"type": "reference"}}}`
)

// shopShards are key ranges, and the same as conditions on a column whose numbers are the keyspace ids.
var shopShards = []struct{ name, where string }{
	{"-40", "%[1]s < 0x4000000000000000 + 0"},
	{"40-c0", "%[1]s >= 0x4000000000000000 + 0 AND %[1]s < 0xc000000000000000 + 0"},
	{"c0-", "%[1]s >= 0xc000000000000000 + 0"},
}

// A shop is a source database and three shards on one server, each shard by a proxy of its own.
type shop struct {
	*testing.T
	server  *replicationtest.Server
	proxies []*replicationtest.Proxy
	streams []int64
	// chunks counts those that a run has committed on all shards.
	chunks func(n int)
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{T: t, server: replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--local-infile=ON"}}), chunks: func(int) {}}
	s.server.MustExec(t, "SET SESSION cte_max_recursion_depth = 100000; CREATE DATABASE shop; USE shop;"+shopTables+";"+shopRows)
	for i := range shopShards {
		s.server.MustExec(t, fmt.Sprintf("CREATE DATABASE shard%d; USE shard%d;", i, i)+shopTables)
		s.proxies = append(s.proxies, replicationtest.StartProxy(t, s.server.Addr()))
		db, err := mysqlconn.Open(t.Context(), s.config(i), mysqlconn.Session{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		side, err := sidecar.Open(t.Context(), db, fmt.Sprintf("side%d", i))
		if err != nil {
			t.Fatal(err)
		}
		id, err := side.InsertStream(t.Context(), &sidecar.Stream{Workflow: "wf", DBName: fmt.Sprintf("shard%d", i), SourceShard: "0", State: "Running", Options: "{}"})
		if err != nil {
			t.Fatal(err)
		}
		s.streams = append(s.streams, id)
	}
	return s
}

func (s *shop) config(shard int) mysqlconn.Config {
	return mysqlconn.Config{Addr: s.proxies[shard].Addr(), User: "root", Database: fmt.Sprintf("shard%d", shard)}
}

// stream opens both ends and makes a stream between them; close ends both.
func (s *shop) stream(ctx context.Context) (st *replication.Stream, closeAll func(), err error) {
	src, err := source.Open(ctx, source.Config{Addr: s.server.Addr(), User: "root", Database: "shop"}, []string{"orders", "names", "countries"}, source.Options{})
	if err != nil {
		return nil, nil, err
	}
	closers := []func() error{src.Close}
	closeAll = func() {
		for _, c := range closers {
			_ = c()
		}
	}
	ranges := make([]topo.KeyRange, 0, len(shopShards))
	shards := make([]replication.Shard, 0, len(shopShards))
	for i, shard := range shopShards {
		to, err := target.Open(ctx, target.Config{
			Server: s.config(i), Sidecar: fmt.Sprintf("side%d", i), StreamID: s.streams[i], Tables: src.Tables(), Owner: "test",
		}, target.Options{Workers: 2, Loaders: 2})
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		closers = append(closers, to.Close)
		kr, err := topo.ParseKeyRange(shard.name)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		shards, ranges = append(shards, replication.Shard{Name: shard.name, Target: to}), append(ranges, kr)
	}
	vs := &topo.VSchema{}
	if err := json.Unmarshal([]byte(shopVSchema), vs); err != nil {
		closeAll()
		return nil, nil, err
	}
	routes, err := routing.Routes(src.Tables(), vs, ranges, vindex.Options{})
	var fan *replication.Fanout
	if err == nil {
		fan, err = replication.NewFanout(shards, routes, replication.FanoutOptions{})
	}
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	chunks := 0
	return replication.NewStream(src, fan, src.Tables(), replication.Options{
		ChunkRows: 400, ReportInterval: 50 * time.Millisecond,
		Trace: replication.Trace{ChunkCommitted: func(replication.ChunkInfo) {
			chunks++
			s.chunks(chunks)
		}},
	}), closeAll, nil
}

// write changes rows until the context ends; every other change moves one to another shard.
func (s *shop) write(ctx context.Context, db *sql.DB) error {
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := 0; ctx.Err() == nil; i++ {
		id, to := rnd.IntN(20100), rnd.Uint64()
		statements := []string{
			fmt.Sprintf("UPDATE orders SET customer = %d, note = '%d' WHERE id BETWEEN %d AND %d", to, i, id, id+rnd.IntN(4)),
			fmt.Sprintf("UPDATE names SET n = %d WHERE name = 'A%d'", to, id%4000),
			fmt.Sprintf("UPDATE names SET name = 'ç%d' WHERE name = 'c%d'", id%4000, id%4000),
			fmt.Sprintf("DELETE FROM orders WHERE id = %d", id),
			fmt.Sprintf("INSERT IGNORE INTO orders VALUES (%d, %d, 'new', NULL)", id, to),
			fmt.Sprintf("UPDATE IGNORE orders SET id = -id, customer = %d WHERE id = %d", to, id),
			fmt.Sprintf("UPDATE countries SET name = '%d' WHERE id = %d", i, id%300),
		}
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		for range 1 + rnd.IntN(3) {
			if _, err := tx.Exec(statements[rnd.IntN(len(statements))]); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// check compares every shard with what the source has of it.
func (s *shop) check() {
	s.Helper()
	sums := func(db, table, columns, where string) string {
		return fmt.Sprint(s.server.MustQuery(s.T, fmt.Sprintf("SELECT COUNT(*), SUM(CRC32(CONCAT_WS('|', %s))), SUM(CRC32(SHA2(CONCAT_WS('/', %s), 256))) FROM %s.%s WHERE %s",
			columns, columns, db, table, where)))
	}
	for i, shard := range shopShards {
		db := fmt.Sprintf("shard%d", i)
		for _, t := range []struct{ name, columns, where string }{
			{"orders", "id, customer, IFNULL(note, '-'), IFNULL(serial, '-')", fmt.Sprintf(shard.where, "customer")},
			{"names", "CAST(name AS BINARY), n", fmt.Sprintf(shard.where, "n")},
			{"countries", "id, name", "TRUE"},
		} {
			if want, got := sums("shop", t.name, t.columns, t.where), sums(db, t.name, t.columns, "TRUE"); got != want {
				s.Errorf("%s of shard %s: %s, on the source %s", t.name, shard.name, got, want)
			}
		}
	}
}

// A stream into three shards, under load, is cut off from one of them in the middle of the copy and killed later: in the end each
// row is on its shard, and nowhere else.
func TestFanoutShards(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	db, err := s.server.Open("shop")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	writing, stop := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() { written <- s.write(writing, db) }()

	run := func(ctx context.Context) error {
		st, closeAll, err := s.stream(ctx)
		if err != nil {
			return err
		}
		defer closeAll()
		return st.Run(ctx)
	}
	s.chunks = func(n int) {
		if n == 8 {
			s.proxies[1].Drop()
		}
	}
	var shard *replication.ShardError
	if err := run(t.Context()); !errors.As(err, &shard) || shard.Shard != "40-c0" || !replication.Transient(err) {
		t.Fatalf("one shard is cut off: %v", err)
	}
	life, kill := context.WithCancel(t.Context())
	s.chunks = func(n int) {
		if n == 12 {
			kill()
		}
	}
	if err := run(life); !errors.Is(err, context.Canceled) {
		t.Fatalf("the stream is killed: %v", err)
	}
	s.chunks = func(int) {}
	if err := s.level(written, stop); err != nil {
		t.Fatal(err)
	}
	s.check()
}

// level runs the stream until all is copied, then stops the load and waits until the shards have all of it.
func (s *shop) level(written <-chan error, stop context.CancelFunc) error {
	ctx, cancel := context.WithTimeout(s.Context(), 60*time.Second)
	defer cancel()
	st, closeAll, err := s.stream(ctx)
	if err != nil {
		return err
	}
	defer closeAll()
	life, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- st.Run(life) }()
	until := func(is func(replication.Progress) bool) error {
		for !is(st.Progress()) {
			select {
			case err := <-ended:
				return errors.Join(errors.New("the stream ended"), err)
			default:
			}
			if err := retry.Wait(ctx, 5*time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	}
	if err := until(func(p replication.Progress) bool { return !p.Copying }); err != nil {
		return err
	}
	stop()
	if err := <-written; err != nil {
		return err
	}
	last, err := replication.ParsePosition("MySQL56/" + s.server.MustQuery(s.T, "SELECT @@gtid_executed")[0][0])
	if err != nil {
		return err
	}
	if err := until(func(p replication.Progress) bool { return p.Position.Covers(last) }); err != nil {
		return err
	}
	end()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
