package memorytopo

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"github.com/tablehaul/tablehaul/topo"
)

// store is what a topology server has: keys with versions, in one order of changes.
type store struct {
	mu       sync.Mutex
	nodes    map[string]node
	revision topo.Version
	changed  chan struct{} // closed and replaced at every change
}

type node struct {
	value   []byte
	version topo.Version
	lock    *lock // the lock whose file this is
}

func newStore() *store {
	return &store{nodes: make(map[string]node), changed: make(chan struct{})}
}

func (s *store) get(key string) (node, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[key]
	n.value = bytes.Clone(n.value)
	return n, s.changed
}

func (s *store) put(key string, value []byte, v topo.Version, l *lock) (topo.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.nodes[key]
	switch {
	case v == topo.Absent && ok:
		return 0, topo.ErrNodeExists
	case v != topo.AnyVersion && n.version != v:
		return 0, topo.ErrBadVersion
	}
	s.revision++
	n.value, n.version, n.lock = bytes.Clone(value), s.revision, l
	s.nodes[key] = n
	s.notify()
	return n.version, nil
}

func (s *store) remove(key string, v topo.Version) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.nodes[key]
	switch {
	case !ok:
		return topo.ErrNoNode
	case v != topo.AnyVersion && n.version != v:
		return topo.ErrBadVersion
	}
	delete(s.nodes, key)
	s.revision++
	s.notify()
	return nil
}

// notify wakes who waits for a change. The caller holds mu.
func (s *store) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// children returns the names right below a prefix, sorted.
func (s *store) children(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for key := range s.nodes {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			name, _, _ := strings.Cut(rest, "/")
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// before returns the newest key below a prefix that is older than v, and a channel that is closed at the next
// change.
func (s *store) before(prefix string, v topo.Version) (newest node, found bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, n := range s.nodes {
		if strings.HasPrefix(key, prefix) && n.version < v && n.version > newest.version {
			newest, found = n, true
		}
	}
	return newest, found, s.changed
}

func (s *store) lockHolders() []*lock {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*lock
	for _, n := range s.nodes {
		if n.lock != nil {
			out = append(out, n.lock)
		}
	}
	return out
}

// newName returns a number that no key has in its name.
func (s *store) newName() topo.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	return s.revision
}
