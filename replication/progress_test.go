package replication

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLag: the lag is that of the oldest change that is not applied, and never less than nothing.
func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgress(nil, &Checkpoint{})
		want := func(what string, lag time.Duration, caughtUp bool) {
			t.Helper()
			if s := p.snapshot(); s.Lag != lag || s.CaughtUp != caughtUp {
				t.Errorf("%s: lag %v, caught up %v; want %v, %v", what, s.Lag, s.CaughtUp, lag, caughtUp)
			}
		}
		at := func(gno uint64) Position {
			g, err := NewMySQLGTID([16]byte{1}, "", gno)
			if err != nil {
				t.Fatal(err)
			}
			return Position{}.Add(g)
		}
		want("before anything was heard", 0, false)
		p.heard(time.Time{})
		<-time.After(3 * time.Second)
		want("nothing heard for 3 s", 3*time.Second, true)
		<-time.After(time.Hour)
		first := time.Now()
		p.heard(first)
		p.appended(at(1), first)
		<-time.After(time.Second)
		want("a transaction after an idle hour", time.Second, false)
		p.heard(time.Now())
		p.appended(at(2), time.Now())
		<-time.After(time.Second)
		want("two of them", 2*time.Second, false)
		p.applied(at(1), first)
		want("the first is applied", time.Second, false)
		p.applied(at(2), time.Now())
		want("both are applied", time.Second, true)
		p.heard(time.Now().Add(-time.Minute))
		want("what is read is a minute old", time.Minute, true)
		p.heard(time.Now().Add(time.Hour))
		want("a commit in the future", 0, true)
	})
}
