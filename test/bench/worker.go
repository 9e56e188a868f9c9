package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
)

// roleEnv holds what a process that the benchmark has started is to do, as JSON of a role.
const roleEnv = "TABLEHAUL_BENCH_ROLE"

// workflow is the name of the one that all parts but f have.
const workflow = "commerce.bench"

// A role is the task of a process of its own: running tablehaul's streams, writing a load, or being in the way.
type role struct {
	Etcd    string    `json:",omitempty"` // runs streams
	User    string    `json:",omitempty"`
	Profile string    `json:",omitempty"` // file for a CPU profile
	Readers int       `json:",omitempty"`
	Chunk   int       `json:",omitempty"`
	Workers int       `json:",omitempty"`
	Create  bool      `json:",omitempty"` // makes the workflow that it runs; else another process does
	Load    *loadRole `json:",omitempty"`
	Busy    bool      `json:",omitempty"` // keeps a core and the memory busy
}

// work runs streams until ctx ends. Changes of state are told on standard output.
func work(ctx context.Context, r role) (err error) {
	opts := migrate.Options{Workers: r.Workers, Stream: replication.Options{Readers: r.Readers, ChunkBytes: r.Chunk}}
	opts.Trace = migrate.Trace{
		StateChanged: func(_ migrate.StreamInfo, _, to migrate.State) { fmt.Fprintln(os.Stdout, to) },
		StreamEnded: func(_ migrate.StreamInfo, err error, _ time.Duration) {
			if err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stdout, "ended:", strings.ReplaceAll(err.Error(), "\n", "; "))
			}
		},
	}
	if !r.Create {
		opts.PollInterval = 100 * time.Millisecond // what another process has made or started is found soon
	}
	ts, m, err := openMigrator(ctx, r.Etcd, r.User, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close(), ts.Close()) }()
	if r.Create {
		if _, err := m.Workflow(workflow).Create(ctx, migrate.CreateOptions{Source: "ext1.sbtest", AllTables: true}); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stdout, "ready")
	return m.Run(ctx)
}

// occupy keeps a core and its way to the memory busy until ctx ends.
func occupy(ctx context.Context) {
	memory := make([]byte, 8<<20)
	for n := byte(0); ctx.Err() == nil; n++ {
		for i := range memory {
			memory[i] = n
		}
	}
}

// openMigrator opens the topology and a Migrator that logs in as user everywhere.
func openMigrator(ctx context.Context, addr, user string, opts migrate.Options) (*topo.Server, *migrate.Migrator, error) {
	ts, err := topo.Open(ctx, topo.Openers{"etcd2": etcdtopo.Open}, topo.Address{Type: "etcd2", Server: addr, Root: "/vitess/global"})
	if err != nil {
		return nil, nil, err
	}
	m, err := migrate.New(ts, mount.Static(mount.Login{User: user}), opts)
	if err != nil {
		return nil, nil, errors.Join(err, ts.Close())
	}
	return ts, m, nil
}

// A worker is tablehaul in a process of its own.
type worker struct {
	cmd    *exec.Cmd
	states chan string // what it told, oldest first; closed when it has ended
}

// startChild starts this program in a role, on the given CPU if cpu isn't empty.
func startChild(ctx context.Context, r role, cpu string) (*worker, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	argv := []string{"/proc/self/exe"}
	if cpu != "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		argv = []string{"taskset", "-c", cpu, self}
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Stderr = append(os.Environ(), roleEnv+"="+string(text)), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w := &worker{cmd: cmd, states: make(chan string, 1000)}
	go func() {
		defer close(w.states)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			w.states <- lines.Text()
		}
	}()
	return w, nil
}

func (w *worker) pid() int { return w.cmd.Process.Pid }

// await reads on until the worker tells one of these words.
func (w *worker) await(ctx context.Context, words ...string) (string, error) {
	var last string
	for {
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case s, ok := <-w.states:
			if !ok {
				return "", errors.New("tablehaul's process ended")
			}
			for _, word := range words {
				if s == word {
					return s, nil
				}
			}
			switch text, ended := strings.CutPrefix(s, "ended: "); {
			case ended:
				last = text
			case s == string(migrate.StateError):
				return "", fmt.Errorf("the stream is in state Error: %s", last)
			}
		}
	}
}

// stop ends the process in order.
func (w *worker) stop() error {
	_, err := w.finish()
	return err
}

// finish ends the process in order and returns what it had still to tell.
func (w *worker) finish() (told []string, err error) {
	err = w.cmd.Process.Signal(syscall.SIGTERM)
	for s := range w.states {
		told = append(told, s)
	}
	return told, errors.Join(err, w.cmd.Wait())
}
