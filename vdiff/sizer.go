package vdiff

import "time"

// Bounds of the number of rows in a chunk.
const (
	firstChunkRows = 10_000
	minChunkRows   = 100
	maxChunkRows   = 1_000_000
)

// A sizer chooses the number of rows in the next chunk, such that one statement takes about a given time. The zero value with
// target set is ready.
type sizer struct {
	target time.Duration
	rows   int64
}

// next is the size of the next chunk.
func (s *sizer) next() int64 {
	if s.rows == 0 {
		s.rows = firstChunkRows
	}
	return s.rows
}

// took says how long a statement on n rows took.
func (s *sizer) took(n int64, d time.Duration) {
	if n == 0 || d <= 0 {
		return
	}
	want := float64(n) * float64(s.target) / float64(d)
	// A single measurement moves the size by a factor of 4 at most.
	rows := float64(s.next())
	want = min(max(want, rows/4), rows*4)
	s.rows = int64(min(max(want, minChunkRows), maxChunkRows))
}
