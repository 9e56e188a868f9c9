package topo

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// KeyRange is a range of keyspace ids: it holds the ids with start <= id < end. An empty start or end is
// open. The zero value is the whole range. A KeyRange is immutable.
//
// Ids are compared byte by byte and trailing zero bytes do not count, so 80 and 8000 are the same bound.
// [KeyRange.Equal] knows that; == compares spellings.
type KeyRange struct {
	start, end string // raw bytes as they were written, trailing zeros included
}

// NewKeyRange returns the range from start to end, as a record stores it. Nil and empty are open bounds.
// A range that can hold no id is refused with a [*NameError].
func NewKeyRange(start, end []byte) (KeyRange, error) {
	r := KeyRange{start: string(start), end: string(end)}
	if r.end != "" && trimZeros(r.start) >= trimZeros(r.end) {
		return KeyRange{}, &NameError{Kind: "key range", Name: r.String(), Reason: "the start is not below the end"}
	}
	return r, nil
}

// ParseKeyRange reads "start-end" with both bounds in hexadecimal: "-", "-80", "40-80", "80-". Upper case is
// accepted. Errors are [*NameError]s.
func ParseKeyRange(s string) (KeyRange, error) {
	bad := func(reason string) (KeyRange, error) {
		return KeyRange{}, &NameError{Kind: "key range", Name: s, Reason: reason}
	}
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		return bad(`it has no "-"`)
	}
	if strings.Contains(to, "-") {
		return bad(`it has more than one "-"`)
	}
	start, err := hex.DecodeString(from)
	if err != nil {
		return bad(fmt.Sprintf("start %q is not a hexadecimal string of even length", from))
	}
	end, err := hex.DecodeString(to)
	if err != nil {
		return bad(fmt.Sprintf("end %q is not a hexadecimal string of even length", to))
	}
	r, err := NewKeyRange(start, end)
	if err != nil {
		return bad("the start is not below the end")
	}
	return r, nil
}

// ParseShardName returns the key range that a shard's name stands for. A name without "-", such as "0", and
// the name "-" stand for the whole range. Errors are [*NameError]s.
func ParseShardName(name string) (KeyRange, error) {
	if err := checkShard(name); err != nil {
		return KeyRange{}, err
	}
	if !strings.Contains(name, "-") {
		return KeyRange{}, nil
	}
	return ParseKeyRange(name)
}

// Start returns the first id of the range, empty if it is open. The caller may keep it.
func (r KeyRange) Start() []byte { return []byte(r.start) }

// End returns the first id behind the range, empty if it is open. The caller may keep it.
func (r KeyRange) End() []byte { return []byte(r.end) }

// IsComplete tells whether the range holds every id.
func (r KeyRange) IsComplete() bool { return trimZeros(r.start) == "" && r.end == "" }

// Contains tells whether the keyspace id is in the range.
func (r KeyRange) Contains(id []byte) bool {
	id = bytes.TrimRight(id, "\x00")
	return string(id) >= trimZeros(r.start) && (r.end == "" || string(id) < trimZeros(r.end))
}

// ContainsRange tells whether every id of o is in the range.
func (r KeyRange) ContainsRange(o KeyRange) bool {
	return trimZeros(r.start) <= trimZeros(o.start) && compareEnds(o.end, r.end) <= 0
}

// Compare orders ranges by start and then by end; an open end is the highest. It returns -1, 0 or +1.
func (r KeyRange) Compare(o KeyRange) int {
	return cmp.Or(strings.Compare(trimZeros(r.start), trimZeros(o.start)), compareEnds(r.end, o.end))
}

// Equal tells whether both ranges hold the same ids.
func (r KeyRange) Equal(o KeyRange) bool { return r.Compare(o) == 0 }

// Intersects tells whether some id is in both ranges.
func (r KeyRange) Intersects(o KeyRange) bool {
	_, ok := r.Intersect(o)
	return ok
}

// Intersect returns the ids that are in both ranges; false means that there are none.
func (r KeyRange) Intersect(o KeyRange) (KeyRange, bool) {
	both := r
	if trimZeros(o.start) > trimZeros(both.start) {
		both.start = o.start
	}
	if compareEnds(o.end, both.end) < 0 {
		both.end = o.end
	}
	if both.end != "" && trimZeros(both.start) >= trimZeros(both.end) {
		return KeyRange{}, false
	}
	return both, true
}

// Split cuts the range into n ranges of equal size, or, where that isn't possible, of sizes that differ by one in the
// last byte of their bounds. Bounds are as short as they can be, all of one length. The whole range is cut as Vitess
// cuts it: Split(4) gives -40, 40-80, 80-c0 and c0-, Split(3) gives -55, 55-aa and aa-.
//
// A number below 1 is refused with a [*NameError].
func (r KeyRange) Split(n int) ([]KeyRange, error) {
	if n < 1 {
		return nil, &NameError{Kind: "number of key ranges", Name: strconv.Itoa(n), Reason: "it is below 1"}
	}
	from, to := trimZeros(r.start), trimZeros(r.end)
	width := max(1, len(from), len(to))
	for ; ; width++ {
		low, high := padded(from, width), padded(to, width)
		if r.end == "" {
			high.Lsh(big.NewInt(1), uint(8*width))
		}
		span := high.Sub(high, low)
		if span.Cmp(big.NewInt(int64(n))) < 0 {
			continue
		}
		out := make([]KeyRange, n)
		out[0].start, out[n-1].end = r.start, r.end
		for i := 1; i < n; i++ {
			bound := new(big.Int).Mul(span, big.NewInt(int64(i)))
			bound.Add(bound.Quo(bound, big.NewInt(int64(n))), low)
			out[i].start = string(bound.FillBytes(make([]byte, width)))
			out[i-1].end = out[i].start
		}
		return out, nil
	}
}

// padded returns the number that an id of some bytes is.
func padded(id string, width int) *big.Int {
	n := new(big.Int).SetBytes([]byte(id))
	return n.Lsh(n, uint(8*(width-len(id))))
}

// String returns the range as [ParseKeyRange] reads it; the whole range is "-".
func (r KeyRange) String() string {
	return hex.EncodeToString([]byte(r.start)) + "-" + hex.EncodeToString([]byte(r.end))
}

// MarshalText is [KeyRange.String].
func (r KeyRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is [ParseKeyRange].
func (r *KeyRange) UnmarshalText(b []byte) error {
	parsed, err := ParseKeyRange(string(b))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

func trimZeros(s string) string { return strings.TrimRight(s, "\x00") }

func compareEnds(a, b string) int {
	switch {
	case a == "" && b == "":
		return 0
	case a == "":
		return +1
	case b == "":
		return -1
	}
	return strings.Compare(trimZeros(a), trimZeros(b))
}

// CoverError says where key ranges fail to cover every keyspace id exactly once.
type CoverError struct {
	// Overlap tells whether Range is held twice; otherwise nothing holds it.
	Overlap bool
	// Range is the first such range.
	Range KeyRange
}

func (e *CoverError) Error() string {
	if e.Overlap {
		return fmt.Sprintf("key ranges overlap in %s", e.Range)
	}
	return fmt.Sprintf("no key range holds %s", e.Range)
}

// CheckCover tells whether the ranges, in any order, hold every keyspace id exactly once. Otherwise it returns
// a [*CoverError] with the lowest offending range.
func CheckCover(ranges []KeyRange) error {
	sorted := slices.SortedFunc(slices.Values(ranges), KeyRange.Compare)
	next := "" // start of what is not covered yet
	for i, r := range sorted {
		if i > 0 && sorted[i-1].end == "" {
			return &CoverError{Overlap: true, Range: r}
		}
		switch strings.Compare(trimZeros(r.start), trimZeros(next)) {
		case +1:
			return &CoverError{Range: KeyRange{start: next, end: r.start}}
		case -1:
			both, _ := sorted[i-1].Intersect(r)
			return &CoverError{Overlap: true, Range: both}
		}
		next = r.end
	}
	if len(sorted) == 0 || next != "" {
		return &CoverError{Range: KeyRange{start: next}}
	}
	return nil
}
