package replicationtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/serverbin"
)

// EtcdOptions say how an etcd is started; the zero value is one node on free ports.
type EtcdOptions struct {
	// Args are etcd options, as "--quota-backend-bytes=16777216"; they win over this
	// package's own.
	Args []string
	// StartTimeout bounds one start; 0 means 60 s.
	StartTimeout time.Duration
	// Log gets one line per start and stop; nil discards.
	Log *slog.Logger
}

// Etcd is a throwaway etcd of one node. Its methods may be called from any goroutine.
type Etcd struct {
	Version string // "3.4.23"
	Port    int    // for clients; stays the same over restarts

	peerPort int
	d        *daemon
	timeout  time.Duration
	log      *slog.Logger
}

// StartEtcd starts an etcd for one test, with options at most once. A missing server
// fails the test. At the end of the test it is killed and its folder removed.
func StartEtcd(tb testing.TB, opts ...EtcdOptions) *Etcd {
	tb.Helper()
	var o EtcdOptions
	if len(opts) > 0 {
		o = opts[0]
	}
	e, err := RunEtcd(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tail := e.LogTail(40); tb.Failed() && tail != "" {
			tb.Logf("log of etcd %s:\n%s", e.Addr(), tail)
		}
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

// RunEtcd starts an etcd and returns when it is healthy. ctx bounds the start only. The
// caller closes it.
func RunEtcd(ctx context.Context, opts EtcdOptions) (*Etcd, error) {
	bin, err := serverbin.Find(ctx, serverbin.Etcd)
	if err != nil {
		return nil, err
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.StartTimeout == 0 {
		opts.StartTimeout = stopTimeout
	}
	for attempt := 1; ; attempt++ {
		e, err := tryEtcd(ctx, bin, opts)
		if err == nil || !errors.Is(err, errBind) || attempt == 5 {
			return e, err
		}
	}
}

// tryEtcd starts an etcd on one pair of ports; errBind asks for another try.
func tryEtcd(ctx context.Context, bin *serverbin.Binary, opts EtcdOptions) (*Etcd, error) {
	dir, err := newScratch()
	if err != nil {
		return nil, err
	}
	client, err := reservePort(ctx)
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	peer, err := reservePort(ctx)
	if err != nil {
		releasePort(client)
		return nil, errors.Join(err, dir.remove())
	}
	e := &Etcd{Version: bin.Version, Port: client, peerPort: peer, timeout: opts.StartTimeout, log: opts.Log}
	peerURL := "http://" + loopback(peer)
	args := append([]string{
		"--name=test",
		"--data-dir=" + dir.file("data"),
		"--listen-client-urls=" + e.URL(),
		"--advertise-client-urls=" + e.URL(),
		"--listen-peer-urls=" + peerURL,
		"--initial-advertise-peer-urls=" + peerURL,
		"--initial-cluster=test=" + peerURL,
		"--logger=zap",
		"--log-outputs=stderr",
	}, opts.Args...)
	e.d = &daemon{
		name: "etcd", dir: dir,
		argv:  func() []string { return bin.Command(args...) },
		env:   []string{"ETCD_UNSUPPORTED_ARCH=" + unsupportedArch()},
		logs:  []string{dir.file("output.log")},
		ready: e.health,
	}
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// unsupportedArch is what etcd 3.4 wants to hear before it runs on anything but amd64.
func unsupportedArch() string {
	if runtime.GOARCH == "amd64" {
		return ""
	}
	return runtime.GOARCH
}

func (e *Etcd) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	if err := e.d.start(ctx); err != nil {
		return err
	}
	e.log.Info("server started", "server", "etcd", "addr", e.Addr())
	return nil
}

// health asks etcd itself whether it has a leader and its keys.
func (e *Etcd) health(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.URL()+"/health", http.NoBody)
	if err != nil {
		return fmt.Errorf("etcd health: %w", err)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return fmt.Errorf("etcd health: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("etcd health: %w", err)
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"true"`) {
		return fmt.Errorf("etcd health: %s: %s", resp.Status, body)
	}
	return nil
}

// PID returns the process id, 0 when it doesn't run.
func (e *Etcd) PID() int { return e.d.pid() }

// Addr returns "127.0.0.1:port" for clients.
func (e *Etcd) Addr() string { return loopback(e.Port) }

// URL returns "http://127.0.0.1:port" for clients.
func (e *Etcd) URL() string { return "http://" + e.Addr() }

// Running tells whether etcd's process lives.
func (e *Etcd) Running() bool { return e.d.running() }

// Kill9 kills etcd and waits for its end. Nothing happens when it doesn't run.
func (e *Etcd) Kill9() {
	e.d.kill9()
	e.log.Info("server killed", "server", "etcd", "addr", e.Addr())
}

// Freeze stops etcd's process as a hanging machine would, until Thaw.
func (e *Etcd) Freeze() { e.d.signal(syscall.SIGSTOP) }

// Thaw lets a frozen etcd go on.
func (e *Etcd) Thaw() { e.d.signal(syscall.SIGCONT) }

// Stop ends etcd in order, and kills it when ctx ends first, which is an error.
func (e *Etcd) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	return e.d.stop(ctx)
}

// Restart stops etcd if it runs, starts it with its data and ports, and returns when it
// is healthy.
func (e *Etcd) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	if err := e.d.restart(ctx); err != nil {
		return err
	}
	e.log.Info("server started", "server", "etcd", "addr", e.Addr())
	return nil
}

// MustRestart is Restart that ends the test on an error.
func (e *Etcd) MustRestart(tb testing.TB) {
	tb.Helper()
	if err := e.Restart(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// Close kills etcd and removes its folder. It may be called more than once.
func (e *Etcd) Close() error {
	err := e.d.close()
	releasePort(e.Port)
	releasePort(e.peerPort)
	return err
}

// LogTail returns the last n lines of etcd's log.
func (e *Etcd) LogTail(n int) string { return e.d.logTail(n) }
