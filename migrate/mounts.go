package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tablehaul/tablehaul/mount"
)

// mounts are the open mounts of a Migrator. Whoever asks for one while another uses it gets the same, so that a process that reads from
// many shards of a cluster has one connection to its topology.
type mounts struct {
	mu   sync.Mutex
	open map[string]*openMount // by what the cluster is
}

// An openMount is closed when its last user is done.
type openMount struct {
	*mount.Handle
	key   string
	users int
}

// mount opens a mount for use until release is called.
func (m *Migrator) mount(ctx context.Context, name string) (*openMount, error) {
	c, err := mount.Show(ctx, m.topo, name)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%+v", *c)
	if o := m.mounts.use(key, nil); o != nil {
		return o, nil
	}
	// The lock is not held meanwhile: a cluster that does not answer must not stop the others.
	h, err := mount.OpenCluster(ctx, m.topo, *c, mount.OpenOptions{Credentials: m.creds, Logger: m.log})
	if err != nil {
		return nil, err
	}
	o := m.mounts.use(key, h)
	if o.Handle != h { // another call was quicker
		err = h.Close()
	}
	if err != nil {
		return nil, errors.Join(err, m.mounts.release(o))
	}
	return o, nil
}

// use counts one more user of an open mount. If there is none, it becomes h, or nil without h.
func (s *mounts) use(key string, h *mount.Handle) *openMount {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.open[key]
	if o == nil {
		if h == nil {
			return nil
		}
		if s.open == nil {
			s.open = map[string]*openMount{}
		}
		o = &openMount{Handle: h, key: key}
		s.open[key] = o
	}
	o.users++
	return o
}

// release counts one user less.
func (s *mounts) release(o *openMount) error {
	s.mu.Lock()
	o.users--
	last := o.users == 0
	if last && s.open[o.key] == o {
		delete(s.open, o.key)
	}
	s.mu.Unlock()
	if !last {
		return nil
	}
	return o.Close()
}

// drop keeps a mount that did not work from being used by others: the next one who asks connects anew, maybe with another password.
func (s *mounts) drop(o *openMount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[o.key] == o {
		delete(s.open, o.key)
	}
}
