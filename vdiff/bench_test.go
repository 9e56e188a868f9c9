package vdiff_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/vdiff"
)

// BenchmarkEqual compares a table of 200,000 rows of the shape of sysbench that is the same on both ends.
//
//	go test -run - -bench Equal -benchtime 3x ./vdiff
func BenchmarkEqual(b *testing.B) {
	const ddl = "CREATE TABLE sbtest (id INT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY k (k))"
	b.Run("unsharded", func(b *testing.B) { equal(b, newSharded(b, 1, 1, ddl), 1) })
	// The shard of each row is computed of its k.
	b.Run("sharded", func(b *testing.B) { equal(b, newSharded(b, 1, 2, ddl), 2) })
}

func equal(b *testing.B, w *workflow, shards int) {
	b.Helper()
	const rows = 200_000
	w.route = byColumn(1, shards)
	w.spread(b, "sbtest", rows, func(i int) string {
		return fmt.Sprintf("%d,%d,'%s','%s'", i, i*7919%rows, strings.Repeat(fmt.Sprintf("%011d-", i*104729), 10)[:119], strings.Repeat(fmt.Sprintf("%011d-", i*1299709), 5)[:59])
	}, func(int) int { return 0 }, func(i int) int { return i * 7919 % rows % shards })
	source, target := server(b, "source"), server(b, "target")
	s, t := cpuSeconds(b, source), cpuSeconds(b, target)
	n := 0
	for b.Loop() {
		if r := create(b, w, vdiff.Options{}); !r.Equal() || r.RowsCompared() != rows {
			b.Fatal(r)
		}
		n++
	}
	million := float64(n) * rows / 1e6
	b.ReportMetric((cpuSeconds(b, source)-s)/million, "source-cpu-s/Mrow")
	b.ReportMetric((cpuSeconds(b, target)-t)/million, "target-cpu-s/Mrow")
	b.ReportMetric(b.Elapsed().Seconds()/million, "s/Mrow")
}

// cpuSeconds is the CPU time that a server has used so far.
func cpuSeconds(b *testing.B, s *replicationtest.Server) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID()))
	if err != nil {
		b.Fatal(err)
	}
	// The fields after the name, which may hold spaces, and ends with a parenthesis.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system float64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		b.Fatal(err)
	}
	return (user + system) / 100
}
