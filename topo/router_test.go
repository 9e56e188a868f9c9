package topo_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/topo"
)

func mustRanges(t testing.TB, list string) []topo.KeyRange {
	t.Helper()
	var out []topo.KeyRange
	for s := range strings.FieldsSeq(list) {
		out = append(out, mustRange(t, s))
	}
	return out
}

func TestRouter(t *testing.T) {
	for _, c := range []struct{ ranges, ids, want string }{
		{"-", "00 80 ff", "0 0 0"},
		{"-80 80-", "00 7fffff 80 8000 ff", "0 0 1 1 1"},
		{"80- -80", "00 7fffff 80 8000 ff", "1 1 0 0 0"},
		{"c0- -8000 80-c0", "7fff 80 800000 bfff c000", "1 2 2 2 0"},
		{"-0001 0001-", "00 0000 000000 000001 0001 01", "0 0 0 0 1 1"},
		{"-80 80-80000000000000000001 80000000000000000001-", "80 8000000000000000000000 800000000000000000ff80 81", "1 1 2 2"},
	} {
		r, err := topo.NewRouter(mustRanges(t, c.ranges))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Route(nil); got != r.Route([]byte{0}) {
			t.Errorf("%s: the empty id is in %d", c.ranges, got)
		}
		want := strings.Fields(c.want)
		for i, id := range strings.Fields(c.ids) {
			if got := strconv.Itoa(r.Route(mustRange(t, id+"-").Start())); got != want[i] {
				t.Errorf("%s: id %s is in %s, want %s", c.ranges, id, got, want[i])
			}
		}
	}
}

func TestRouterNeedsCover(t *testing.T) {
	for _, ranges := range []string{"", "-80", "80-", "-40 80-", "-80 40-", "-80 80- 80-", "-80 80-c0", "- -"} {
		if _, err := topo.NewRouter(mustRanges(t, ranges)); !errors.As(err, new(*topo.CoverError)) {
			t.Errorf("%q gives %v", ranges, err)
		}
	}
}

func TestRouterOverlapping(t *testing.T) {
	r, err := topo.NewRouter(mustRanges(t, "aa- -55 55-aa"))
	if err != nil {
		t.Fatal(err)
	}
	for kr, want := range map[string][]int{"-": {1, 2, 0}, "-80": {1, 2}, "80-": {2, 0}, "55-aa": {2}, "ab-": {0}, "5500-56": {2}} {
		if got := r.Overlapping(mustRange(t, kr)); !slices.Equal(got, want) {
			t.Errorf("%s overlaps %v, want %v", kr, got, want)
		}
	}
}

// In random layouts, each id is routed to the only range that contains it.
func TestRouterProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		ranges := randomLayout(r)
		router, err := topo.NewRouter(ranges)
		if err != nil {
			t.Fatalf("%v: %v", ranges, err)
		}
		for range 50 {
			id := randomBytes(r)
			got := router.Route(id)
			for i, kr := range ranges {
				if kr.Contains(id) != (i == got) {
					t.Fatalf("%v: id %x is routed to %s; %s contains it: %v", ranges, id, ranges[got], kr, kr.Contains(id))
				}
			}
		}
	}
}

// randomLayout covers all ids, in random order.
func randomLayout(r *rand.Rand) []topo.KeyRange {
	ranges := []topo.KeyRange{{}}
	for range r.IntN(12) {
		i := r.IntN(len(ranges))
		bound := randomBytes(r)
		if len(bound) == 0 {
			continue
		}
		low, errLow := topo.NewKeyRange(ranges[i].Start(), bound)
		high, errHigh := topo.NewKeyRange(bound, ranges[i].End())
		if errLow == nil && errHigh == nil {
			ranges[i] = low
			ranges = append(ranges, high)
		}
	}
	r.Shuffle(len(ranges), func(i, j int) { ranges[i], ranges[j] = ranges[j], ranges[i] })
	return ranges
}

func FuzzRouter(f *testing.F) {
	f.Add([]byte{0x80}, []byte{0x40, 0}, []byte{0x7f, 0xff})
	f.Add([]byte{0}, []byte{0, 0, 1}, []byte{0, 0})
	f.Add([]byte{}, []byte{0xff}, []byte{})
	f.Fuzz(func(t *testing.T, a, b, id []byte) {
		var ranges []topo.KeyRange
		for _, bounds := range [][2][]byte{{nil, a}, {a, b}, {b, nil}} {
			kr, err := topo.NewKeyRange(bounds[0], bounds[1])
			if err != nil {
				return
			}
			ranges = append(ranges, kr)
		}
		router, err := topo.NewRouter(ranges)
		if err != nil {
			return // an empty bound is an open one
		}
		got := router.Route(id)
		for i, kr := range ranges {
			if kr.Contains(id) != (i == got) {
				t.Fatalf("%v: id %x is routed to %s", ranges, id, ranges[got])
			}
		}
	})
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		kr   string
		n    int
		want string
	}{
		{"-", 1, "-"},
		{"-", 2, "-80 80-"},
		{"-", 3, "-55 55-aa aa-"},
		{"-", 4, "-40 40-80 80-c0 c0-"},
		{"40-80", 2, "40-60 60-80"},
		{"80-", 2, "80-c0 c0-"},
		{"7f-80", 2, "7f-7f80 7f80-80"},
		{"ff-", 4, "ff-ff40 ff40-ff80 ff80-ffc0 ffc0-"},
		{"8000-c000", 2, "8000-a0 a0-c000"},
		{"4000000001-4000000002", 2, "4000000001-400000000180 400000000180-4000000002"},
	} {
		got, err := mustRange(t, c.kr).Split(c.n)
		if err != nil || !slices.Equal(got, mustRanges(t, c.want)) {
			t.Errorf("%s in %d is %v, %v, want %s", c.kr, c.n, got, err, c.want)
		}
	}
	for _, c := range []struct {
		n, i int
		want string
	}{
		{256, 0, "-01"}, {256, 255, "ff-"}, {300, 0, "-00da"}, {300, 1, "00da-01b4"}, {512, 0, "-0080"}, {512, 511, "ff80-"},
	} {
		got, err := topo.KeyRange{}.Split(c.n)
		if err != nil || len(got) != c.n || got[c.i].String() != c.want {
			t.Errorf("range %d of %d is not %s: %v", c.i, c.n, c.want, err)
		}
	}
	for _, n := range []int{0, -1} {
		if _, err := (topo.KeyRange{}).Split(n); !errors.As(err, new(*topo.NameError)) {
			t.Errorf("%d parts: %v", n, err)
		}
	}
}

// The parts of any range cover it exactly, and their sizes differ little.
func TestSplitProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		kr, err := topo.NewKeyRange(randomBytes(r), randomBytes(r))
		if err != nil {
			continue
		}
		n := 1 + r.IntN(300)
		parts, err := kr.Split(n)
		if err != nil || len(parts) != n {
			t.Fatalf("%s in %d: %d parts, %v", kr, n, len(parts), err)
		}
		all := slices.Clone(parts)
		for _, outside := range [][2][]byte{{nil, kr.Start()}, {kr.End(), nil}} {
			if o, err := topo.NewKeyRange(outside[0], outside[1]); err == nil && !o.IsComplete() {
				all = append(all, o)
			}
		}
		if err := topo.CheckCover(all); err != nil {
			t.Fatalf("%s in %d: %v: %v", kr, n, parts, err)
		}
		small, large := uint64(1<<63), uint64(0)
		for _, p := range parts {
			small, large = min(small, size(p)), max(large, size(p))
		}
		if large > 2*small {
			t.Errorf("%s in %d: sizes from %d to %d", kr, n, small, large)
		}
	}
}

// size is the number of ids of six bytes in the range.
func size(r topo.KeyRange) uint64 {
	number := func(b []byte) uint64 { return binary.BigEndian.Uint64(slices.Concat([]byte{0, 0}, b, make([]byte, 6))) }
	if len(r.End()) == 0 {
		return 1<<48 - number(r.Start())
	}
	return number(r.End()) - number(r.Start())
}

func BenchmarkRoute(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		ranges, err := topo.KeyRange{}.Split(n)
		if err != nil {
			b.Fatal(err)
		}
		router, err := topo.NewRouter(ranges)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			var id [8]byte
			x := uint64(1)
			for b.Loop() {
				x *= 0x9e3779b97f4a7c15
				binary.BigEndian.PutUint64(id[:], x)
				router.Route(id[:])
			}
		})
	}
}
