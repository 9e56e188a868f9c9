package memorytopo_test

import (
	"errors"
	"testing"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
	"github.com/tablehaul/tablehaul/topo/topotest"
)

func open(t *testing.T, m *memorytopo.Memory, server, root string) topo.Conn {
	t.Helper()
	c, err := m.Open(t.Context(), topo.Address{Type: "memory", Server: server, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConn(t *testing.T) {
	m := memorytopo.New()
	topotest.TestConn(t, func(t *testing.T) topo.Conn { return open(t, m, "server", "/root") })
}

func TestStores(t *testing.T) {
	m := memorytopo.New()
	ctx := t.Context()
	a := open(t, m, "one", "/a")
	if _, err := a.Put(ctx, "k", []byte("v"), topo.Absent); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(t, m, "two", "/a").Get(ctx, "k"); !errors.Is(err, topo.ErrNoNode) {
		t.Errorf("another server has the key: %v", err)
	}
	if _, _, err := open(t, m, "one", "/b").Get(ctx, "k"); !errors.Is(err, topo.ErrNoNode) {
		t.Errorf("another root has the key: %v", err)
	}
	if value, _, err := open(t, m, "one", "/").Get(ctx, "a/k"); err != nil || string(value) != "v" {
		t.Errorf("the root above has %q, %v", value, err)
	}
	if value, _, err := open(t, m, "one", "/a").Get(ctx, "k"); err != nil || string(value) != "v" {
		t.Errorf("another connection has %q, %v", value, err)
	}
}

func TestExpireLocks(t *testing.T) {
	m := memorytopo.New()
	c := open(t, m, "", "/")
	h, err := c.Lock(t.Context(), "d", topo.LockRequest{Anywhere: true})
	if err != nil {
		t.Fatal(err)
	}
	m.ExpireLocks()
	<-h.Lost()
	if err := h.Check(t.Context()); !errors.Is(err, topo.ErrLockLost) {
		t.Errorf("check: %v", err)
	}
	if err := h.Unlock(t.Context()); !errors.Is(err, topo.ErrLockLost) {
		t.Errorf("unlock: %v", err)
	}
	if _, err := c.Lock(t.Context(), "d", topo.LockRequest{Try: true, Anywhere: true}); err != nil {
		t.Errorf("lock again: %v", err)
	}
}
