package source

import (
	"math"
	"slices"
	"testing"
)

// keysIn makes the hull of a sorted set of keys.
func keysIn(keys []uint64, asked *int) func(keyRange) (keyRange, bool, error) {
	return func(r keyRange) (keyRange, bool, error) {
		*asked++
		i, _ := slices.BinarySearch(keys, r.lo)
		j, found := slices.BinarySearch(keys, r.hi)
		if found {
			j++
		}
		if i == j {
			return keyRange{}, false, nil
		}
		return keyRange{keys[i], keys[j-1]}, true, nil
	}
}

func TestSplitOverGaps(t *testing.T) {
	run := func(from, n uint64) (keys []uint64) {
		for i := range n {
			keys = append(keys, from+i)
		}
		return keys
	}
	for name, c := range map[string]struct {
		keys   []uint64
		parts  int
		most   int // rows in the largest part
		lookUp int
	}{
		"one row":             {[]uint64{5}, 1, 1, 0},
		"few rows":            {run(1, 900), 1, 900, 0},
		"dense":               {run(1, 100_000), 4, 26_000, 4},
		"a far row":           {append(run(1, 100_000), 300_000_000_000), 4, 26_000, 40},
		"the farthest rows":   {append(run(1, 100_000), math.MaxUint64-1, math.MaxUint64), 4, 26_000, 40},
		"rows at both ends":   {append([]uint64{0}, append(run(1<<63, 100_000), math.MaxUint64)...), 4, 26_000, 40},
		"two runs":            {append(run(1, 50_000), run(1<<40, 50_000)...), 4, 26_000, 40},
		"only far rows":       {[]uint64{0, 1 << 62, math.MaxUint64}, 1, 3, 40},
		"every thousandth id": {slices.DeleteFunc(run(0, 1_000_000), func(k uint64) bool { return k%1000 > 0 }), 4, 260, 4},
	} {
		asked := 0
		ranges, err := dense(keyRange{c.keys[0], c.keys[len(c.keys)-1]}, 4, keysIn(c.keys, &asked))
		if err != nil {
			t.Fatal(err)
		}
		cuts := cut(ranges, 4)
		if !slices.IsSorted(cuts) || len(slices.Compact(slices.Clone(cuts))) != len(cuts) || len(cuts)+1 != c.parts || asked > c.lookUp {
			t.Errorf("%s: cut at %d, after %d look-ups", name, cuts, asked)
			continue
		}
		done, most := 0, 0
		for _, k := range append(cuts, math.MaxUint64) {
			j, found := slices.BinarySearch(c.keys, k)
			if found {
				j++
			}
			most, done = max(most, j-done), j
		}
		if most > c.most || done != len(c.keys) {
			t.Errorf("%s: cut at %d the largest part has %d rows of %d", name, cuts, most, done)
		}
	}
}
