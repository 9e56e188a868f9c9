package topo_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/quick"

	"github.com/tablehaul/tablehaul/topo"
)

func mustRange(t testing.TB, s string) topo.KeyRange {
	t.Helper()
	r, err := topo.ParseKeyRange(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseKeyRange(t *testing.T) {
	for _, s := range []string{"-", "-80", "80-", "40-80", "4000-8000", "-0001", "ff-", "00-80", "7fff-8000"} {
		if got := mustRange(t, s).String(); got != s {
			t.Errorf("%s comes back as %s", s, got)
		}
	}
	if got := mustRange(t, "A0-Af").String(); got != "a0-af" {
		t.Errorf("A0-Af comes back as %s", got)
	}
	for _, s := range []string{"", "0", "80", "80-40", "80-80", "80-8000", "8000-80", "-00", "4-8", "x-", "-y", "40-80-c0", "--", " -80", "00-00"} {
		_, err := topo.ParseKeyRange(s)
		if e := (*topo.NameError)(nil); !errors.As(err, &e) || e.Name != s {
			t.Errorf("%q gives %v", s, err)
		}
	}
}

func TestParseShardName(t *testing.T) {
	for name, want := range map[string]string{"0": "-", "-": "-", "unsharded": "-", "-80": "-80", "80-": "80-", "40-80": "40-80"} {
		r, err := topo.ParseShardName(name)
		if err != nil || r.String() != want {
			t.Errorf("shard %s has %s, %v, want %s", name, r, err, want)
		}
	}
	for _, name := range []string{"", "80-40", "a/b", "x-y", "..", "-80\n"} {
		if _, err := topo.ParseShardName(name); !errors.As(err, new(*topo.NameError)) {
			t.Errorf("%q gives %v", name, err)
		}
	}
}

// dumbID is a keyspace id as a fixed number of bytes, which is what ignoring trailing zeros means.
func dumbID(b []byte) [6]byte {
	var id [6]byte
	copy(id[:], b)
	return id
}

// dumbContains is Contains said with numbers of fixed length.
func dumbContains(start, end, id []byte) bool {
	s, e, i := dumbID(start), dumbID(end), dumbID(id)
	return bytes.Compare(i[:], s[:]) >= 0 && (len(end) == 0 || bytes.Compare(i[:], e[:]) < 0)
}

// randomBytes are few and similar, so that bounds meet.
func randomBytes(r *rand.Rand) []byte {
	alphabet := []byte{0, 0, 1, 0x7f, 0x80, 0xff}
	b := make([]byte, r.IntN(4))
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return b
}

// spec is a range for testing/quick.
type spec struct {
	start, end []byte
	r          topo.KeyRange
}

func randomSpec(r *rand.Rand) spec {
	for {
		s := spec{start: randomBytes(r), end: randomBytes(r)}
		var err error
		if s.r, err = topo.NewKeyRange(s.start, s.end); err == nil {
			return s
		}
	}
}

// allIDs are all ids that can tell the ranges of randomSpec apart.
func allIDs() [][]byte {
	alphabet := []byte{0, 1, 2, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff}
	ids := [][]byte{nil}
	for level := ids; len(level[0]) < 3; {
		var next [][]byte
		for _, id := range level {
			for _, b := range alphabet {
				next = append(next, append(slices.Clone(id), b))
			}
		}
		ids = append(ids, next...)
		level = next
	}
	return ids
}

func TestKeyRangeQuick(t *testing.T) {
	ids := allIDs()
	holds := func(s spec) map[string]bool {
		out := make(map[string]bool)
		for _, id := range ids {
			if dumbContains(s.start, s.end, id) {
				out[string(id)] = true
			}
		}
		return out
	}
	check := func(seed uint64) bool {
		r := rand.New(rand.NewPCG(seed, 0))
		a, b := randomSpec(r), randomSpec(r)
		inA, inB := holds(a), holds(b)
		both := make(map[string]bool)
		for id := range inA {
			if inB[id] {
				both[id] = true
			}
		}
		for _, id := range ids {
			if a.r.Contains(id) != inA[string(id)] {
				t.Errorf("%s contains %x: %v", a.r, id, a.r.Contains(id))
				return false
			}
		}
		intersection, ok := a.r.Intersect(b.r)
		got := holds(spec{start: intersection.Start(), end: intersection.End()})
		switch {
		case a.r.Equal(b.r) != reflect.DeepEqual(inA, inB),
			a.r.Equal(b.r) != (a.r.Compare(b.r) == 0),
			a.r.Compare(b.r) != -b.r.Compare(a.r),
			a.r.Intersects(b.r) != (len(both) > 0),
			ok != (len(both) > 0),
			ok && !reflect.DeepEqual(got, both),
			a.r.ContainsRange(b.r) != (len(both) == len(inB)),
			a.r.IsComplete() != (len(inA) == len(ids)):
			t.Errorf("%s and %s: equal %v, compare %d, intersects %v, contains %v, complete %v, intersection %s %v",
				a.r, b.r, a.r.Equal(b.r), a.r.Compare(b.r), a.r.Intersects(b.r), a.r.ContainsRange(b.r), a.r.IsComplete(), intersection, ok)
			return false
		}
		back, err := topo.ParseKeyRange(a.r.String())
		return err == nil && back == a.r
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 3000}); err != nil {
		t.Error(err)
	}
}

func TestCheckCover(t *testing.T) {
	tests := []struct {
		ranges  []string
		gap     string
		overlap string
	}{
		{ranges: []string{"-"}},
		{ranges: []string{"80-", "-80"}},
		{ranges: []string{"-40", "40-8000", "80-c0", "c000-"}},
		{ranges: nil, gap: "-"},
		{ranges: []string{"-80"}, gap: "80-"},
		{ranges: []string{"80-"}, gap: "-80"},
		{ranges: []string{"-40", "80-"}, gap: "40-80"},
		{ranges: []string{"-80", "40-"}, overlap: "40-80"},
		{ranges: []string{"-80", "80-", "80-"}, overlap: "80-"},
		{ranges: []string{"-", "-"}, overlap: "-"},
		{ranges: []string{"-", "40-80"}, overlap: "40-80"},
		{ranges: []string{"-80", "-80", "80-"}, overlap: "-80"},
	}
	for _, test := range tests {
		var ranges []topo.KeyRange
		for _, s := range test.ranges {
			ranges = append(ranges, mustRange(t, s))
		}
		err := topo.CheckCover(ranges)
		e := (*topo.CoverError)(nil)
		switch {
		case test.gap == "" && test.overlap == "":
			if err != nil {
				t.Errorf("%q: %v", test.ranges, err)
			}
		case !errors.As(err, &e):
			t.Errorf("%q: %v", test.ranges, err)
		case e.Overlap != (test.overlap != "") || e.Range.String() != test.gap+test.overlap:
			t.Errorf("%q: %v", test.ranges, err)
		}
	}
}

func TestKeyRangeText(t *testing.T) {
	b, err := json.Marshal(map[string]topo.KeyRange{"r": mustRange(t, "40-80"), "all": {}})
	if err != nil || string(b) != `{"all":"-","r":"40-80"}` {
		t.Errorf("%s, %v", b, err)
	}
	var back map[string]topo.KeyRange
	if err := json.Unmarshal(b, &back); err != nil || back["r"] != mustRange(t, "40-80") {
		t.Errorf("%v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"r":"80-40"}`), &back); !errors.As(err, new(*topo.NameError)) {
		t.Errorf("bad range: %v", err)
	}
}

func FuzzKeyRange(f *testing.F) {
	for _, s := range []string{"-", "-80", "40-80", "80-", "8000-", "00-80", "-00", "x"} {
		f.Add(s, []byte{0x80})
	}
	f.Fuzz(func(t *testing.T, s string, id []byte) {
		r, err := topo.ParseKeyRange(s)
		if err != nil {
			if !errors.As(err, new(*topo.NameError)) {
				t.Fatalf("%q: %v (%T)", s, err, err)
			}
			return
		}
		back, err := topo.ParseKeyRange(r.String())
		if err != nil || back != r {
			t.Fatalf("%q is %s, which is %s, %v", s, r, back, err)
		}
		if again, err := topo.NewKeyRange(r.Start(), r.End()); err != nil || again != r {
			t.Fatalf("%q: bytes give %s, %v", s, again, err)
		}
		if r.Contains(r.End()) && len(r.End()) > 0 || !r.Contains(r.Start()) {
			t.Fatalf("%s holds its end or not its start", r)
		}
		if r.Contains(id) != r.Contains(append(slices.Clone(id), 0, 0)) {
			t.Fatalf("%s: trailing zeros count in %s", r, hex.EncodeToString(id))
		}
	})
}
