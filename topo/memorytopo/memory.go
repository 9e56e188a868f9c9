package memorytopo

import (
	"context"
	"sync"

	"github.com/tablehaul/tablehaul/topo"
)

// Memory holds stores by server address. The zero value is not usable; see [New].
type Memory struct {
	mu     sync.Mutex
	stores map[string]*store
}

// New returns a Memory without stores.
func New() *Memory { return &Memory{stores: make(map[string]*store)} }

// Open connects to the store of a.Server, which is made if it is new. It is a [topo.Opener] and never fails.
func (m *Memory) Open(_ context.Context, a topo.Address) (topo.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.stores[a.Server]
	if !ok {
		s = newStore()
		m.stores[a.Server] = s
	}
	return &conn{store: s, root: a.Root, closed: make(chan struct{}), locks: make(map[*lock]bool)}, nil
}

// ExpireLocks ends every lock as if its lease had run out: for tests of what a program does then.
func (m *Memory) ExpireLocks() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.stores {
		for _, l := range s.lockHolders() {
			l.expire()
		}
	}
}
