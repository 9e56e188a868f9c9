package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/topo"
)

func TestNew(t *testing.T) {
	_, err := migrate.New(nil, nil, migrate.Options{PollInterval: -1, Workers: -1, Loaders: -1, SidecarDatabase: strings.Repeat("x", 65)})
	for _, want := range []string{"ts", "creds", "PollInterval", "Workers", "Loaders", "SidecarDatabase"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s: %v", want, err)
		}
	}
	if _, ok := errors.AsType[*migrate.OptionError](err); !ok {
		t.Errorf("%T", err)
	}
}

// Names are checked before anything is looked up.
func TestMalformedNames(t *testing.T) {
	m, err := migrate.New(newTopology(t, "commerce", "127.0.0.1", 1), root, migrate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx := t.Context()
	wf := m.Workflow("commerce/wf")
	for name, err := range map[string]error{
		"Create": second(wf.Create(ctx, migrate.CreateOptions{})), "Show": second(wf.Show(ctx)), "Start": wf.Start(ctx), "Stop": wf.Stop(ctx),
		"Complete": second(wf.Complete(ctx, migrate.CompleteOptions{})), "Cancel": second(wf.Cancel(ctx, migrate.CancelOptions{})),
	} {
		if e, ok := errors.AsType[*migrate.NameError](err); !ok || !strings.Contains(err.Error(), "commerce/wf") {
			t.Errorf("%s: %v, %v", name, err, e)
		}
	}
	n := 0
	for _, err := range wf.Watch(ctx, 0) {
		if n++; !is[*migrate.NameError](err) || n > 1 {
			t.Fatalf("Watch: %v", err)
		}
	}
	if _, err := m.List(ctx, "nowhere"); !errors.Is(err, migrate.ErrNotFound) || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("List: %v", err)
	}
	// A target that does not answer is told, with its address.
	if _, err := m.List(ctx, "commerce"); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("List: %v", err)
	}
	if _, err := m.UsesMount(ctx, "ext1"); err == nil {
		t.Error("nobody knows what an unreachable shard uses")
	}
}

// A buffer takes a log from several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Run lives on when a shard is broken, says so once, and ends with its context.
func TestRunBrokenShard(t *testing.T) {
	ts := newTopology(t, "commerce", "127.0.0.1", 1)
	if err := ts.CreateKeyspace(t.Context(), topo.Keyspace{Name: "empty"}); err != nil {
		t.Fatal(err)
	}
	var log buffer
	m, err := migrate.New(ts, root, migrate.Options{PollInterval: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := m.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "target shards can't be read"); n != 1 || !strings.Contains(log.String(), "keyspace=commerce") {
		t.Errorf("%d lines: %s", n, log.String())
	}
}
