package target_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

func sysbench() *replication.Table {
	return &replication.Table{
		Schema: "source", Name: "sbtest1", Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
		Columns: []replication.Column{
			{Name: "id", Kind: replication.KindInt},
			{Name: "k", Kind: replication.KindInt},
			{Name: "c", Kind: replication.KindText, Charset: "utf8mb4"},
			{Name: "pad", Kind: replication.KindText, Charset: "utf8mb4"},
		},
	}
}

func sysbenchRow(id int) replication.Row {
	c := fmt.Sprintf("%011d-%011d-%011d-%011d-%011d-%011d-%011d-%011d-%011d-%011d", rand.Uint32(), rand.Uint32(), rand.Uint32(), rand.Uint32(),
		rand.Uint32(), rand.Uint32(), rand.Uint32(), rand.Uint32(), rand.Uint32(), rand.Uint32())
	return row(fmt.Sprint(id), fmt.Sprint(rand.IntN(1e6)), c, c[:59])
}

// benchTarget runs f against a fresh MySQL with a sysbench table.
func benchTarget(b *testing.B, opts target.Options, f func(ctx context.Context, t *target.Target, table *replication.Table)) {
	s := replicationtest.StartMySQL(b, replicationtest.MySQLOptions{Args: []string{"--local-infile=ON", "--innodb-buffer-pool-size=1G", "--innodb-redo-log-capacity=1G"}})
	s.MustExec(b, "CREATE DATABASE d")
	s.MustExec(b, "CREATE TABLE d.sbtest1 (id int PRIMARY KEY, k int NOT NULL, c char(120) NOT NULL, pad char(60) NOT NULL)")
	cfg := mysqlconn.Config{Addr: s.Addr(), User: "root", Database: "d"}
	db, err := mysqlconn.Open(b.Context(), cfg, mysqlconn.Session{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	side, err := sidecar.Open(b.Context(), db, "")
	if err != nil {
		b.Fatal(err)
	}
	id, err := side.InsertStream(b.Context(), &sidecar.Stream{Workflow: "w", DBName: "d", SourceShard: "0", Options: "{}"})
	if err != nil {
		b.Fatal(err)
	}
	table := sysbench()
	t, err := target.Open(b.Context(), target.Config{Server: cfg, StreamID: id, Tables: []*replication.Table{table}}, opts)
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	if _, err := t.Load(b.Context()); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- t.Run(ctx) }()
	b.ResetTimer()
	f(ctx, t, table)
	b.StopTimer()
	cancel()
	<-ended
}

func appendAll(ctx context.Context, b *testing.B, t *target.Target, entries []*replication.Entry) {
	done := make(chan struct{}, len(entries))
	for _, e := range entries {
		e.Done = func() { done <- struct{}{} }
		if err := t.Append(ctx, e); err != nil {
			b.Fatal(err)
		}
	}
	for range entries {
		<-done
	}
}

// BenchmarkChunks loads chunks of 5,000 rows of 200 bytes.
func BenchmarkChunks(b *testing.B) {
	benchTarget(b, target.Options{}, func(ctx context.Context, t *target.Target, table *replication.Table) {
		b.ReportAllocs()
		id := 0
		var entries []*replication.Entry
		b.StopTimer()
		for range b.N {
			var rows []replication.Row
			lo := row(fmt.Sprint(id))
			for range 5000 {
				id++
				rows = append(rows, sysbenchRow(id))
			}
			entries = append(entries, chunk(table, replication.Span{Lo: lo, Hi: row(fmt.Sprint(id))}, position(0), rows...))
		}
		b.StartTimer()
		appendAll(ctx, b, t, entries)
		b.ReportMetric(float64(5000*b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}

// BenchmarkTransactions applies transactions of one row each.
func BenchmarkTransactions(b *testing.B) {
	benchTarget(b, target.Options{}, func(ctx context.Context, t *target.Target, table *replication.Table) {
		b.ReportAllocs()
		var entries []*replication.Entry
		for n := range b.N {
			entries = append(entries, &replication.Entry{Changes: []replication.Change{{Table: table, After: sysbenchRow(n)}}, Position: position(n)})
		}
		b.ResetTimer()
		appendAll(ctx, b, t, entries)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "txn/s")
	})
}
