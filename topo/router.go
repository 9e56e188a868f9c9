package topo

import (
	"slices"
	"sort"
)

// A Router tells which of some key ranges holds a keyspace id. It is immutable, and safe for use by many goroutines.
type Router struct {
	starts []string // sorted, trailing zeros trimmed; the first is empty
	order  []int    // positions of the ranges in NewRouter's argument
	ranges []KeyRange
}

// NewRouter returns a Router over the ranges of a keyspace's shards, in any order. They must hold every keyspace id
// exactly once; otherwise there is a [*CoverError].
func NewRouter(ranges []KeyRange) (*Router, error) {
	if err := CheckCover(ranges); err != nil {
		return nil, err
	}
	r := &Router{ranges: slices.Clone(ranges), order: make([]int, len(ranges)), starts: make([]string, len(ranges))}
	for i := range r.order {
		r.order[i] = i
	}
	slices.SortFunc(r.order, func(a, b int) int { return ranges[a].Compare(ranges[b]) })
	for i, o := range r.order {
		r.starts[i] = trimZeros(ranges[o].start)
	}
	return r, nil
}

// Route returns the position, in NewRouter's argument, of the one range that holds the id.
func (r *Router) Route(id []byte) int {
	// Trailing zeros of the id don't matter: no start ends in one, so they never lift an id over a start.
	after := sort.Search(len(r.starts), func(i int) bool { return r.starts[i] > string(id) })
	return r.order[after-1]
}

// Overlapping returns the positions, in NewRouter's argument, of the ranges that share ids with kr, in the order of
// the ranges.
func (r *Router) Overlapping(kr KeyRange) []int {
	var out []int
	for _, o := range r.order {
		if r.ranges[o].Intersects(kr) {
			out = append(out, o)
		}
	}
	return out
}
