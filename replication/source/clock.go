package source

import (
	"context"
	"time"
)

const (
	// clockNoise is a difference of clocks that is not taken out: it may as well be the way to the server.
	clockNoise = time.Second
	// clockPause is how long a clock is not asked again.
	clockPause = 10 * time.Second
)

// A clock turns the source's commit times into times of this process, whose clock may be another one. It asks the
// server again when the log shows that its clock was set.
type clock struct {
	// now is the server's time.
	now func(context.Context) (time.Time, error)
	// ahead is how much the server's clock is ahead.
	ahead time.Duration
	asked time.Time
	// last is the last commit time as logged.
	last time.Time
}

// local turns a commit time into one of this process.
func (c *clock) local(ctx context.Context, committed time.Time) time.Time {
	future := time.Until(committed.Add(-c.ahead)) > clockNoise
	past := c.last.Sub(committed) > clockNoise
	if c.last = committed; (c.asked.IsZero() || future || past) && time.Since(c.asked) > clockPause {
		c.ask(ctx)
	}
	return committed.Add(-c.ahead)
}

// ask compares the clocks. When the server can't be asked the difference stays.
func (c *clock) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	begin := time.Now()
	server, err := c.now(ctx)
	c.asked = time.Now()
	if err != nil {
		return
	}
	c.ahead = server.Sub(begin.Add(c.asked.Sub(begin) / 2))
	if c.ahead.Abs() < clockNoise {
		c.ahead = 0
	}
}

// now asks the server for its time.
func (s *Source) now(ctx context.Context) (time.Time, error) {
	var us int64
	err := s.db.QueryRowContext(ctx, "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)").Scan(&us)
	return time.UnixMicro(us), err
}
