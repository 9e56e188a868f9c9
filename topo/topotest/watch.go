package topotest

import (
	"context"
	"errors"
	"iter"

	"github.com/tablehaul/tablehaul/topo"
)

func (s *suite) watch() {
	key := s.key("a")
	next, stop := iter.Pull2(s.conn.Watch(s.ctx, key))
	defer stop()
	// want pulls states until the wanted one: a watcher may skip states, but never miss the last.
	want := func(value string, v topo.Version) {
		s.Helper()
		for {
			w, err, ok := next()
			if err != nil || !ok {
				s.Fatalf("watch ended with %v, want %q version %d", err, value, v)
			}
			if w.Version == v {
				if string(w.Value) != value {
					s.Fatalf("version %d is %q, want %q", v, w.Value, value)
				}
				return
			}
		}
	}
	want("", topo.Absent)
	v := s.put(key, "1", topo.Absent)
	want("1", v)
	v = s.put(key, "2", v)
	v = s.put(key, "3", v)
	want("3", v)
	if err := s.conn.Delete(s.ctx, key, v); err != nil {
		s.Fatal(err)
	}
	want("", topo.Absent)
	s.put(s.key("ab"), "another key", topo.Absent)
	v = s.put(key, "4", topo.Absent)
	want("4", v)

	for w, err := range s.conn.Watch(s.ctx, key) {
		if err != nil || string(w.Value) != "4" || w.Version != v {
			s.Fatalf("a new watch begins with %q version %d, %v", w.Value, w.Version, err)
		}
		break
	}
}

func (s *suite) watchEnds() {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var last error
	for _, err := range s.conn.Watch(ctx, s.key("a")) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		s.Fatalf("a cancelled watch ends with %v", last)
	}

	other := s.open()
	for _, err := range other.Watch(s.ctx, s.key("a")) {
		last = err
		if err := other.Close(); err != nil {
			s.Fatal(err)
		}
	}
	if !errors.Is(last, topo.ErrClosed) {
		s.Fatalf("the watch of a closed connection ends with %v", last)
	}
}
