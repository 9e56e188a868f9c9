package migrate_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/topo"
)

// A fakeTablet is a vttablet that takes note of what it is told.
type fakeTablet struct {
	port int32
	mu   sync.Mutex
	told []string
}

func newFakeTablet(t *testing.T) *fakeTablet {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's own
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeTablet{port: int32(l.Addr().(*net.TCPAddr).Port)} //nolint:forcetypeassert // it is tcp
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		var request emptypb.Empty // which keeps the fields that it does not know
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = append(f.told, fmt.Sprintf("%s%q", method[strings.LastIndex(method, "/")+1:], request.ProtoReflect().GetUnknown()))
		return stream.SendMsg(&request)
	}))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fakeTablet) check(t *testing.T, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.told, want) {
		t.Errorf("told %q, want %q", f.told, want)
	}
	f.told = nil
}

// Vttablets are told of the new tables before a vtgate knows them; one that does not answer stops nothing, and Complete says what to do.
func TestCompleteTellsTablets(t *testing.T) {
	c := newReplace(t)
	left, global := newFakeTablet(t), newFakeTablet(t)
	serve := func(uid uint32, port int32) {
		t.Helper()
		err := c.ts.UpdateTablet(t.Context(), topo.TabletAlias{Cell: "zone1", UID: uid}, func(tab *topo.Tablet) error {
			tab.Hostname, tab.PortMap = "127.0.0.1", map[string]int32{"vt": 1, "grpc": port}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	serve(100, left.port)
	serve(300, global.port)
	o := c.options()
	o.NoAutoStart = true
	complete := func() string {
		t.Helper()
		c.create(o)
		left.check(t)
		res, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true})
		if err != nil {
			t.Fatal(err)
		}
		left.check(t, `ReloadSchema""`)
		global.check(t, `ReloadSchema""`, `ResetSequences"\n\fcustomer_seq"`)
		return strings.Join(res.Done, "\n")
	}
	if done := complete(); !strings.Contains(done, "told 2 vttablet(s)") || strings.Contains(done, "ReloadSchemaKeyspace") {
		t.Errorf("done: %s", done)
	}
	// Nobody listens on the other shard's port.
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's own
	if err != nil {
		t.Fatal(err)
	}
	serve(101, int32(l.Addr().(*net.TCPAddr).Port)) //nolint:forcetypeassert // it is tcp
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want := "told 2 vttablet(s); zone1-0000000101 can't be told of new tables: call vtctldclient ReloadSchemaKeyspace --include-primary " + c.ks
	if done := complete(); !strings.Contains(done, want) {
		t.Errorf("done: %s, want %s", done, want)
	}
}
