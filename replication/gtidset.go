package replication

import (
	"cmp"
	"slices"
	"sort"
)

// An interval holds the numbers from first to last, both included.
type interval struct{ first, last uint64 }

// A gtidSet is the set of transactions of one sid, as intervals that neither touch nor overlap, in
// order. It never changes. The last interval is kept apart, because it is the one that grows: then head
// is shared.
type gtidSet struct {
	sid  sid
	head []interval
	tail interval
}

// newGTIDSet makes a set of a normalized, non-empty list, which it keeps.
func newGTIDSet(id sid, list []interval) *gtidSet {
	n := len(list) - 1
	return &gtidSet{sid: id, head: list[:n:n], tail: list[n]}
}

func (s *gtidSet) len() int { return len(s.head) + 1 }

func (s *gtidSet) at(i int) interval {
	if i < len(s.head) {
		return s.head[i]
	}
	return s.tail
}

func (s *gtidSet) equal(t *gtidSet) bool {
	return s == t || s.sid == t.sid && s.tail == t.tail && slices.Equal(s.head, t.head)
}

func (s *gtidSet) contains(n uint64) bool {
	if n >= s.tail.first {
		return n <= s.tail.last
	}
	i := sort.Search(len(s.head), func(i int) bool { return s.head[i].last >= n })
	return i < len(s.head) && s.head[i].first <= n
}

func (s *gtidSet) covers(t *gtidSet) bool {
	i := 0
	for j := range t.len() {
		v := t.at(j)
		for i < s.len() && s.at(i).last < v.last {
			i++
		}
		if i == s.len() || s.at(i).first > v.first {
			return false
		}
	}
	return true
}

// add returns s itself if it holds n already.
func (s *gtidSet) add(n uint64) *gtidSet {
	switch {
	case n == s.tail.last+1:
		return &gtidSet{s.sid, s.head, interval{s.tail.first, n}}
	case n > s.tail.last:
		head := make([]interval, 0, len(s.head)+1)
		return &gtidSet{s.sid, append(append(head, s.head...), s.tail), interval{n, n}}
	case s.contains(n):
		return s
	case n == s.tail.first-1:
		h := len(s.head) - 1
		if h >= 0 && s.head[h].last == n-1 {
			return &gtidSet{s.sid, s.head[:h:h], interval{s.head[h].first, s.tail.last}}
		}
		return &gtidSet{s.sid, s.head, interval{n, s.tail.last}}
	}
	return s.union(&gtidSet{sid: s.sid, tail: interval{n, n}})
}

// without returns the set without n, which it holds; nil if nothing is left.
func (s *gtidSet) without(n uint64) *gtidSet {
	var list []interval
	for i := range s.len() {
		v := s.at(i)
		if n < v.first || n > v.last {
			list = append(list, v)
			continue
		}
		if v.first < n {
			list = append(list, interval{v.first, n - 1})
		}
		if n < v.last {
			list = append(list, interval{n + 1, v.last})
		}
	}
	if len(list) == 0 {
		return nil
	}
	return newGTIDSet(s.sid, list)
}

func (s *gtidSet) union(t *gtidSet) *gtidSet {
	if s.covers(t) {
		return s
	}
	list := make([]interval, 0, s.len()+t.len())
	list = append(append(list, s.head...), s.tail)
	return newGTIDSet(s.sid, normalize(append(append(list, t.head...), t.tail)))
}

// intersect returns the numbers that both have.
func (s *gtidSet) intersect(t *gtidSet) (list []interval) {
	for i, j := 0, 0; i < s.len() && j < t.len(); {
		a, b := s.at(i), t.at(j)
		if v := (interval{max(a.first, b.first), min(a.last, b.last)}); v.first <= v.last {
			list = append(list, v)
		}
		if a.last < b.last {
			i++
		} else {
			j++
		}
	}
	return list
}

// normalize sorts list in place and joins what touches or overlaps.
func normalize(list []interval) []interval {
	slices.SortFunc(list, func(a, b interval) int { return cmp.Compare(a.first, b.first) })
	out := list[:1]
	for _, v := range list[1:] {
		if end := &out[len(out)-1]; v.first <= end.last+1 {
			end.last = max(end.last, v.last)
		} else {
			out = append(out, v)
		}
	}
	return out
}
