package source_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
)

// megabytes is the size of the large transactions: TABLEHAUL_BIG_MB, or small enough for every run.
func megabytes(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TABLEHAUL_BIG_MB")
	if text == "" {
		return 96
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// mapped is the memory that the process has of the system for Go.
func mapped() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

// peak calls f and returns by how much the process grew meanwhile.
func peak(t *testing.T, f func()) int64 {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	before := mapped()
	var most atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			most.Store(max(most.Load(), mapped()))
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	f()
	close(done)
	<-ended
	return int64(most.Load()) - int64(before)
}

// TestLargeTransaction reads transactions that are much larger than the memory that reading them may take: plain, compressed,
// with rows that can't be compressed, and prepared.
func TestLargeTransaction(t *testing.T) {
	f := newFixture(t)
	mb := megabytes(t)
	const rowBytes = 64 << 10
	f.exec("CREATE TABLE t (id int primary key, v mediumblob)", "SET GLOBAL max_allowed_packet=1<<30")
	defer f.exec("SET GLOBAL max_allowed_packet=DEFAULT")
	depth := fmt.Sprintf("SET SESSION cte_max_recursion_depth=%d", 32*mb)
	s := f.openWith(source.Options{Heartbeat: 100 * time.Millisecond, SpillDir: t.TempDir()})
	fill := fmt.Sprintf("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d) SELECT i, ", mb*(1<<20)/rowBytes)
	same := fmt.Sprintf("REPEAT(i, %d/LENGTH(i)) FROM n", rowBytes)
	// Compression leaves a 32nd.
	random := fmt.Sprintf("CONCAT(REPEAT(RANDOM_BYTES(1024), %[1]d), REPEAT(RANDOM_BYTES(1024), %[1]d)) FROM n", rowBytes/2048)
	for _, tc := range []struct {
		name       string
		statements []string
	}{
		{"plain", []string{depth, fill + same}},
		{"compressed", []string{"SET SESSION binlog_transaction_compression=ON", depth, fill + random}},
		{"prepared", []string{depth, "XA START 'big'", fill + same, "XA END 'big'", "XA PREPARE 'big'", "XA COMMIT 'big'"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.exec("TRUNCATE t")
			end, from := f.end(s)
			f.exec(tc.statements...)

			rows, size := 0, int64(0)
			grown := peak(t, func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				for x, err := range s.Transactions(ctx, from) {
					if err != nil {
						t.Fatal(err)
					}
					if x.Spill == nil {
						continue
					}
					size = x.Spill.Bytes()
					err := x.Spill.Each(func(c replication.Change) error {
						rows++
						id, rest, err := c.After.Next()
						if string(id) != strconv.Itoa(rows) || len(rest) < rowBytes-64 {
							t.Fatalf("row %s of %d bytes came, want row %d", id, len(rest), rows)
						}
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
					if err := x.Spill.Close(); err != nil {
						t.Fatal(err)
					}
					break
				}
			})
			if want := mb * (1 << 20) / rowBytes; rows != want {
				t.Errorf("%d rows came, want %d", rows, want)
			}
			now, _ := f.end(s)
			t.Logf("%d MB of rows, %d MB in the log, %d MB more memory", size>>20, (now.Offset-end.Offset)>>20, grown>>20)
			if grown > 64<<20 {
				t.Errorf("reading a transaction of %d MB took %d MB of memory", mb, grown>>20)
			}
		})
	}
}
