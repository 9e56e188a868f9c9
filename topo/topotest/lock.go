package topotest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tablehaul/tablehaul/topo"
)

func (s *suite) take(c topo.Conn, ctx context.Context, dir string, r topo.LockRequest) topo.LockHandle {
	s.Helper()
	h, err := c.Lock(ctx, dir, r)
	if err != nil {
		s.Fatalf("lock %s: %v", dir, err)
	}
	return h
}

func (s *suite) unlock(h topo.LockHandle) {
	s.Helper()
	if err := h.Unlock(s.ctx); err != nil {
		s.Fatalf("unlock: %v", err)
	}
}

// wantLost waits for the lock to end.
func (s *suite) wantLost(h topo.LockHandle) {
	s.Helper()
	select {
	case <-h.Lost():
	case <-s.ctx.Done():
		s.Fatal("the holder did not notice the loss of its lock")
	}
}

func (s *suite) wantHeld(h topo.LockHandle) {
	s.Helper()
	select {
	case <-h.Lost():
		s.Fatal("the lock was lost")
	default:
	}
	if err := h.Check(s.ctx); err != nil {
		s.Fatalf("check: %v", err)
	}
}

func (s *suite) lock() {
	s.put(s.key("a"), "", topo.Absent)
	first := s.take(s.conn, s.ctx, s.dir, topo.LockRequest{Contents: []byte("{}")})
	s.wantHeld(first)
	names, err := s.conn.List(s.ctx, s.dir)
	if err != nil || !slices.Equal(names, []string{"a", "locks"}) {
		s.Errorf("the locked directory holds %q, %v", names, err)
	}

	other := s.open()
	got := make(chan topo.LockHandle)
	go func() {
		defer close(got)
		h, err := other.Lock(s.ctx, s.dir, topo.LockRequest{})
		if err != nil {
			s.Errorf("second lock: %v", err)
			return
		}
		got <- h
	}()
	// The second holder is in the queue when its file is there.
	for {
		if files, err := s.conn.List(s.ctx, s.key("locks")); err != nil {
			s.Fatal(err)
		} else if len(files) == 2 {
			break
		}
	}
	select {
	case <-got:
		s.Fatal("two have the lock")
	default:
	}
	s.wantHeld(first)
	s.unlock(first)
	s.wantLost(first)
	if err := first.Check(s.ctx); !errors.Is(err, topo.ErrLockLost) {
		s.Errorf("check after unlock: %v", err)
	}
	if err := first.Unlock(s.ctx); !errors.Is(err, topo.ErrLockLost) {
		s.Errorf("second unlock: %v", err)
	}
	second, ok := <-got
	if !ok {
		return
	}
	s.wantHeld(second)
	s.unlock(second)
	names, err = s.conn.List(s.ctx, s.dir)
	if err != nil || !slices.Equal(names, []string{"a"}) {
		s.Errorf("the unlocked directory holds %q, %v", names, err)
	}
}

const lockFile = `{"Action":"haul","HostName":"h","UserName":"u","Time":"2026-01-02T03:04:05Z","Options":{},"Status":"Running"}`

// wantLocked checks that the error says who has the lock.
func (s *suite) wantLocked(err error) {
	s.Helper()
	locked := (*topo.LockedError)(nil)
	if !errors.As(err, &locked) || !errors.Is(err, topo.ErrLocked) {
		s.Fatalf("error is %v (%T), want a LockedError", err, err)
	}
	want := topo.LockInfo{Action: "haul", HostName: "h", UserName: "u", Time: "2026-01-02T03:04:05Z", Status: "Running"}
	if locked.Dir != s.dir || locked.Holder != want {
		s.Fatalf("error is %+v", locked)
	}
}

func (s *suite) lockTry() {
	h := s.take(s.conn, s.ctx, s.dir, topo.LockRequest{Try: true, Anywhere: true, Contents: []byte(lockFile)})
	other := s.open()
	_, err := other.Lock(s.ctx, s.dir, topo.LockRequest{Try: true})
	s.wantLocked(err)
	s.wantHeld(h)
	s.unlock(h)
	s.unlock(s.take(other, s.ctx, s.dir, topo.LockRequest{Try: true, Anywhere: true}))
}

func (s *suite) lockWait() {
	h := s.take(s.conn, s.ctx, s.dir, topo.LockRequest{Anywhere: true, Contents: []byte(lockFile)})
	_, err := s.open().Lock(s.ctx, s.dir, topo.LockRequest{Wait: 50 * time.Millisecond})
	s.wantLocked(err)
	files, err := s.conn.List(s.ctx, s.key("locks"))
	if err != nil || len(files) != 1 {
		s.Errorf("who gave up left a file: %q, %v", files, err)
	}
	s.unlock(h)
}

// lockOrder: who asked first gets the lock first, and never two at once.
func (s *suite) lockOrder() {
	const n = 5
	h := s.take(s.conn, s.ctx, s.dir, topo.LockRequest{Anywhere: true})
	order := make(chan int, n)
	for i := range n {
		go func() {
			h, err := s.conn.Lock(s.ctx, s.dir, topo.LockRequest{Contents: fmt.Append(nil, i)})
			if err != nil {
				s.Errorf("lock: %v", err)
				order <- -1
				return
			}
			order <- i
			if err := h.Unlock(s.ctx); err != nil {
				s.Errorf("unlock: %v", err)
			}
		}()
		for {
			files, err := s.conn.List(s.ctx, s.key("locks"))
			if err != nil {
				s.Fatal(err)
			}
			if len(files) == i+2 {
				break
			}
		}
	}
	s.unlock(h)
	for i := range n {
		if got := <-order; got != i {
			s.Errorf("number %d got the lock in turn %d", got, i)
		}
	}
	s.unlock(s.take(s.conn, s.ctx, s.dir, topo.LockRequest{Anywhere: true}))
}

func (s *suite) lockMissing() {
	_, err := s.conn.Lock(s.ctx, s.dir, topo.LockRequest{})
	s.wantError(err, topo.ErrNoNode, s.dir)
	s.unlock(s.take(s.conn, s.ctx, s.dir, topo.LockRequest{Anywhere: true}))
}

// lockContext: who stops waiting leaves the queue.
func (s *suite) lockContext() {
	h := s.take(s.conn, s.ctx, s.dir, topo.LockRequest{Anywhere: true})
	ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := s.open().Lock(ctx, s.dir, topo.LockRequest{})
	s.wantError(err, context.DeadlineExceeded, s.dir)
	s.wantHeld(h)
	s.unlock(h)
	s.unlock(s.take(s.conn, s.ctx, s.dir, topo.LockRequest{Anywhere: true}))
}

// lockAbandoned: the lock of a context that ended is lost, but nobody else gets it before its holder has had time to
// clean up.
func (s *suite) lockAbandoned() {
	ctx, cancel := context.WithCancel(s.ctx)
	h := s.take(s.conn, ctx, s.dir, topo.LockRequest{Anywhere: true, Contents: []byte(lockFile)})
	cancel()
	s.wantLost(h)
	_, err := s.open().Lock(s.ctx, s.dir, topo.LockRequest{Try: true})
	s.wantLocked(err)
	if err := h.Check(s.ctx); err != nil {
		s.Errorf("check: %v", err)
	}
	s.unlock(h)

	// Without cleanup it ends with its lease.
	ctx, cancel = context.WithCancel(s.ctx)
	h = s.take(s.conn, ctx, s.dir, topo.LockRequest{Anywhere: true, TTL: time.Second})
	cancel()
	s.unlock(s.take(s.conn, s.ctx, s.dir, topo.LockRequest{Anywhere: true}))
	if err := h.Check(s.ctx); !errors.Is(err, topo.ErrLockLost) {
		s.Errorf("check after the lease: %v", err)
	}
}

func (s *suite) lockClose() {
	other := s.open()
	h := s.take(other, s.ctx, s.dir, topo.LockRequest{Anywhere: true})
	if err := other.Close(); err != nil {
		s.Fatal(err)
	}
	s.wantLost(h)
	s.unlock(s.take(s.conn, s.ctx, s.dir, topo.LockRequest{Anywhere: true}))
}
