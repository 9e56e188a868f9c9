package test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
	"go.uber.org/goleak"
)

// workerEnv names the etcd server for a process of this binary that is a worker instead of a test run.
const workerEnv = "TABLEHAUL_TEST_WORKER"

// TestMain fails the run when a goroutine outlives the tests.
func TestMain(m *testing.M) {
	if addr := os.Getenv(workerEnv); addr != "" {
		fmt.Fprintln(os.Stderr, "worker:", work(context.Background(), addr))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// topologyRoot is where the local cluster's topology is.
const topologyRoot = "/vitess/global"

var login = mount.Static(mount.Login{User: "root"})

func openTopology(ctx context.Context, addr string) (*topo.Server, error) {
	return topo.Open(ctx, topo.Openers{"etcd2": etcdtopo.Open}, topo.Address{Type: "etcd2", Server: addr, Root: topologyRoot})
}

// work is a worker process that runs until it is killed. Its chunks are small, so that a copy takes a while, and it
// tells of them often.
func work(ctx context.Context, addr string) error {
	ts, err := openTopology(ctx, addr)
	if err != nil {
		return err
	}
	m, err := migrate.New(ts, login, migrate.Options{
		Stream:   replication.Options{ChunkRows: 50, ReportInterval: 50 * time.Millisecond},
		LeaseTTL: 2 * time.Second,
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	return m.Run(ctx)
}
