package topotest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/topo"
)

// patience bounds every wait of the suite; nothing in it takes that long unless it is broken.
const patience = 20 * time.Second

// TestConn checks that an implementation of [topo.Conn] keeps its contract. All connections that open returns during
// one call lead to the same topology and root, which may hold other keys already. TestConn closes them.
func TestConn(t *testing.T, open func(t *testing.T) topo.Conn) {
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"GetMissing", (*suite).getMissing},
		{"Create", (*suite).create},
		{"Update", (*suite).update},
		{"Upsert", (*suite).upsert},
		{"Delete", (*suite).delete},
		{"Versions", (*suite).versions},
		{"Values", (*suite).values},
		{"List", (*suite).list},
		{"Concurrent", (*suite).concurrent},
		{"Context", (*suite).context},
		{"Close", (*suite).close},
		{"Watch", (*suite).watch},
		{"WatchEnds", (*suite).watchEnds},
		{"Lock", (*suite).lock},
		{"LockTry", (*suite).lockTry},
		{"LockWait", (*suite).lockWait},
		{"LockOrder", (*suite).lockOrder},
		{"LockMissing", (*suite).lockMissing},
		{"LockContext", (*suite).lockContext},
		{"LockAbandoned", (*suite).lockAbandoned},
		{"LockClose", (*suite).lockClose},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s := &suite{T: t, ctx: ctx, dir: fmt.Sprintf("topotest/%s-%d", test.name, time.Now().UnixNano())}
			s.open = func() topo.Conn {
				c := open(t)
				t.Cleanup(func() {
					if err := c.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
				})
				return c
			}
			s.conn = s.open()
			test.run(s)
		})
	}
}

type suite struct {
	*testing.T
	ctx  context.Context
	dir  string // of this test alone
	conn topo.Conn
	open func() topo.Conn
}

func (s *suite) key(name string) string { return path.Join(s.dir, name) }

func (s *suite) put(key, value string, v topo.Version) topo.Version {
	s.Helper()
	v, err := s.conn.Put(s.ctx, key, []byte(value), v)
	if err != nil {
		s.Fatalf("put %s: %v", key, err)
	}
	return v
}

// wantError checks an error and that it names the key.
func (s *suite) wantError(err, want error, key string) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error is %v, want %v", err, want)
	}
	if node := (*topo.NodeError)(nil); !errors.As(err, &node) || node.Key != key {
		s.Fatalf("error %q (%T) does not have the key %q", err, err, key)
	}
}

func (s *suite) wantValue(key, value string, v topo.Version) {
	s.Helper()
	got, gotVersion, err := s.conn.Get(s.ctx, key)
	if err != nil {
		s.Fatalf("get %s: %v", key, err)
	}
	if string(got) != value || gotVersion != v {
		s.Fatalf("%s is %q version %d, want %q version %d", key, got, gotVersion, value, v)
	}
}

func (s *suite) getMissing() {
	_, _, err := s.conn.Get(s.ctx, s.key("a"))
	s.wantError(err, topo.ErrNoNode, s.key("a"))
	// A directory is not a key.
	s.put(s.key("dir/a"), "1", topo.Absent)
	_, _, err = s.conn.Get(s.ctx, s.key("dir"))
	s.wantError(err, topo.ErrNoNode, s.key("dir"))
}

func (s *suite) create() {
	v := s.put(s.key("a"), "1", topo.Absent)
	if v <= 0 {
		s.Fatalf("version is %d", v)
	}
	s.wantValue(s.key("a"), "1", v)
	_, err := s.conn.Put(s.ctx, s.key("a"), []byte("2"), topo.Absent)
	s.wantError(err, topo.ErrNodeExists, s.key("a"))
	s.wantValue(s.key("a"), "1", v)
}

func (s *suite) update() {
	v1 := s.put(s.key("a"), "1", topo.Absent)
	v2 := s.put(s.key("a"), "2", v1)
	if v2 <= v1 {
		s.Fatalf("version %d follows %d", v2, v1)
	}
	_, err := s.conn.Put(s.ctx, s.key("a"), []byte("3"), v1)
	s.wantError(err, topo.ErrBadVersion, s.key("a"))
	s.wantValue(s.key("a"), "2", v2)
	_, err = s.conn.Put(s.ctx, s.key("missing"), []byte("3"), v1)
	s.wantError(err, topo.ErrBadVersion, s.key("missing"))
	_, _, err = s.conn.Get(s.ctx, s.key("missing"))
	s.wantError(err, topo.ErrNoNode, s.key("missing"))
}

func (s *suite) upsert() {
	v1 := s.put(s.key("a"), "1", topo.AnyVersion)
	v2 := s.put(s.key("a"), "2", topo.AnyVersion)
	if v1 == v2 {
		s.Fatalf("two writes have version %d", v1)
	}
	s.wantValue(s.key("a"), "2", v2)
}

func (s *suite) delete() {
	err := s.conn.Delete(s.ctx, s.key("a"), topo.AnyVersion)
	s.wantError(err, topo.ErrNoNode, s.key("a"))
	v1 := s.put(s.key("a"), "1", topo.Absent)
	v2 := s.put(s.key("a"), "2", v1)
	s.wantError(s.conn.Delete(s.ctx, s.key("a"), v1), topo.ErrBadVersion, s.key("a"))
	s.wantValue(s.key("a"), "2", v2)
	if err := s.conn.Delete(s.ctx, s.key("a"), v2); err != nil {
		s.Fatal(err)
	}
	s.wantError(s.conn.Delete(s.ctx, s.key("a"), v2), topo.ErrNoNode, s.key("a"))
	s.put(s.key("a"), "3", topo.Absent)
	if err := s.conn.Delete(s.ctx, s.key("a"), topo.AnyVersion); err != nil {
		s.Fatal(err)
	}
}

// versions: a key that was deleted and made again is not the one that somebody read.
func (s *suite) versions() {
	v1 := s.put(s.key("a"), "1", topo.Absent)
	if err := s.conn.Delete(s.ctx, s.key("a"), v1); err != nil {
		s.Fatal(err)
	}
	s.put(s.key("a"), "1", topo.Absent)
	_, err := s.conn.Put(s.ctx, s.key("a"), []byte("2"), v1)
	s.wantError(err, topo.ErrBadVersion, s.key("a"))
}

func (s *suite) values() {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	v := s.put(s.key("a"), string(every), topo.Absent)
	s.wantValue(s.key("a"), string(every), v)
	v = s.put(s.key("empty"), "", topo.Absent)
	s.wantValue(s.key("empty"), "", v)

	// Values belong to whoever got them.
	got, _, err := s.conn.Get(s.ctx, s.key("a"))
	if err != nil {
		s.Fatal(err)
	}
	got[0] = 'x'
	v = s.put(s.key("b"), "b", topo.Absent)
	s.wantValue(s.key("b"), "b", v)
	again, _, err := s.conn.Get(s.ctx, s.key("a"))
	if err != nil || again[0] != 0 {
		s.Fatalf("a changed through a returned slice (%v)", err)
	}
}

func (s *suite) list() {
	_, err := s.conn.List(s.ctx, s.dir)
	s.wantError(err, topo.ErrNoNode, s.dir)
	for _, key := range []string{"b/x", "a", "b/y/z", "ba/x", "b-/x"} {
		s.put(s.key(key), key, topo.Absent)
	}
	for dir, want := range map[string][]string{
		s.dir:        {"a", "b", "b-", "ba"},
		s.key("b"):   {"x", "y"},
		s.key("b/y"): {"z"},
	} {
		got, err := s.conn.List(s.ctx, dir)
		if err != nil || !slices.Equal(got, want) {
			s.Errorf("list %s is %q, %v, want %q", dir, got, err, want)
		}
	}
	_, err = s.conn.List(s.ctx, s.key("a"))
	s.wantError(err, topo.ErrNoNode, s.key("a"))
	if err := s.conn.Delete(s.ctx, s.key("b/y/z"), topo.AnyVersion); err != nil {
		s.Fatal(err)
	}
	_, err = s.conn.List(s.ctx, s.key("b/y"))
	s.wantError(err, topo.ErrNoNode, s.key("b/y"))
}

// concurrent: of the writers that saw the same version, one wins.
func (s *suite) concurrent() {
	const writers, turns = 8, 10
	key := s.key("counter")
	s.put(key, "", topo.Absent)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < turns; {
				value, v, err := s.conn.Get(s.ctx, key)
				if err != nil {
					s.Errorf("get: %v", err)
					return
				}
				_, err = s.conn.Put(s.ctx, key, append(value, 'x'), v)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, topo.ErrBadVersion):
					s.Errorf("put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	value, _, err := s.conn.Get(s.ctx, key)
	if err != nil || len(value) != writers*turns {
		s.Fatalf("%d writes arrived, want %d (%v)", len(value), writers*turns, err)
	}
}

func (s *suite) context() {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, _, err := s.conn.Get(ctx, s.key("a"))
	s.wantError(err, context.Canceled, s.key("a"))
	_, err = s.conn.Put(ctx, s.key("a"), nil, topo.Absent)
	s.wantError(err, context.Canceled, s.key("a"))
	_, err = s.conn.List(ctx, s.dir)
	s.wantError(err, context.Canceled, s.dir)
	s.wantError(s.conn.Delete(ctx, s.key("a"), topo.AnyVersion), context.Canceled, s.key("a"))
	_, err = s.conn.Lock(ctx, s.dir, topo.LockRequest{Anywhere: true})
	s.wantError(err, context.Canceled, s.dir)
}

func (s *suite) close() {
	if err := s.conn.Close(); err != nil {
		s.Fatal(err)
	}
	if err := s.conn.Close(); err != nil {
		s.Fatalf("second close: %v", err)
	}
	_, _, err := s.conn.Get(s.ctx, s.key("a"))
	s.wantError(err, topo.ErrClosed, s.key("a"))
	_, err = s.conn.Put(s.ctx, s.key("a"), nil, topo.Absent)
	s.wantError(err, topo.ErrClosed, s.key("a"))
	_, err = s.conn.Lock(s.ctx, s.dir, topo.LockRequest{Anywhere: true})
	s.wantError(err, topo.ErrClosed, s.dir)
}
