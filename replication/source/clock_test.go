package source

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead, asked := 400*time.Millisecond, 0
		var fails error
		c := clock{now: func(context.Context) (time.Time, error) {
			asked++
			return time.Now().Add(ahead), fails
		}}
		server := func() time.Time { return time.Now().Add(ahead) }
		want := func(what string, d time.Duration, questions int) {
			t.Helper()
			if have := time.Since(c.local(t.Context(), server())); have != d || asked != questions {
				t.Errorf("%s: %v ago, %d questions; want %v, %d", what, have, asked, d, questions)
			}
			<-time.After(time.Minute)
		}
		want("clocks that agree about", -ahead, 1)
		want("and again", -ahead, 1)
		ahead = time.Hour
		want("set forward", 0, 2)
		want("and again", 0, 2)
		ahead = -time.Hour
		want("set back", 0, 3)
		want("and again", 0, 3)
		ahead, fails = time.Hour, errors.New("no answer")
		want("set forward, and nobody answers", -2*time.Hour, 4)
		fails = nil
		want("until somebody does", 0, 5)
	})
}
