package test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
	"go.uber.org/goleak"
)

// workerEnv holds the workerConfig of a process of this binary that is a worker instead of a test run.
const workerEnv = "TABLEHAUL_TEST_WORKER"

// workerConfig is what a worker process is told, as JSON.
type workerConfig struct {
	// Topology is the address of etcd, User whom to log in as on every MySQL server.
	Topology, User string
	// ChunkRows are few, so that a copy takes a while. Workers is migrate.Options.Workers.
	ChunkRows, Workers int
	// Complete is a workflow to complete instead; the process kills itself before the first step of the kind DieAt.
	Complete string
	DieAt    migrate.StepKind
}

// TestMain fails the run when a goroutine outlives the tests.
func TestMain(m *testing.M) {
	if text := os.Getenv(workerEnv); text != "" {
		fmt.Fprintln(os.Stderr, "worker:", work(context.Background(), text))
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

// work is a worker process that runs until it is killed, and tells of its chunks often.
func work(ctx context.Context, text string) error {
	var cfg workerConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	ts, err := openTopology(ctx, cfg.Topology)
	if err != nil {
		return err
	}
	trace := migrate.Trace{StepStarting: func(_ context.Context, _ string, s migrate.Step) {
		if s.Kind == cfg.DieAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}}
	m, err := migrate.New(ts, mount.Static(mount.Login{User: cfg.User}), migrate.Options{
		Trace:    trace,
		Stream:   replication.Options{ChunkRows: cfg.ChunkRows, ReportInterval: 50 * time.Millisecond},
		Workers:  cfg.Workers,
		LeaseTTL: 2 * time.Second,
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	if cfg.Complete != "" {
		_, err := m.Workflow(cfg.Complete).Complete(ctx, migrate.CompleteOptions{})
		return err
	}
	return m.Run(ctx)
}

// startWorker starts this test's binary as a worker process.
func startWorker(t *testing.T, cfg workerConfig) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+string(text))
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}
