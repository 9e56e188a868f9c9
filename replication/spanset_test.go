package replication_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
)

// spanOf makes a span of small integers; a bound of 0 is open.
func spanOf(lo, hi int) replication.Span {
	var s replication.Span
	if lo != 0 {
		s.Lo = textKey(strconv.Itoa(lo))
	}
	if hi != 0 {
		s.Hi = textKey(strconv.Itoa(hi))
	}
	return s
}

func formatSpans(t *replication.Table, spans []replication.Span) string {
	var b strings.Builder
	for _, s := range spans {
		b.WriteString(t.FormatSpan(s))
	}
	return strings.NewReplacer("(c0=", "", "),", ",", ")]", "]").Replace(b.String())
}

func orderedTable() *replication.Table {
	return keyTable(replication.Column{Kind: replication.KindInt})
}

func unorderedTable() *replication.Table {
	return keyTable(collated("utf8mb4_0900_ai_ci"))
}

func TestSpanSetOrdered(t *testing.T) {
	table := orderedTable()
	set := replication.NewSpanSet(table)
	check := func(spans, missing string) {
		t.Helper()
		if got := formatSpans(table, set.Spans()); got != spans {
			t.Errorf("spans %s, want %s", got, spans)
		}
		if got := formatSpans(table, set.Missing()); got != missing {
			t.Errorf("missing %s, want %s", got, missing)
		}
		if set.Whole() != (missing == "") {
			t.Errorf("whole: %v, missing %s", set.Whole(), missing)
		}
	}
	check("", "(start, end]")
	set.Add(spanOf(10, 20))
	check("(10, 20]", "(start, 10](20, end]")
	set.Add(spanOf(30, 40))
	set.Add(spanOf(50, 0))
	check("(10, 20](30, 40](50, end]", "(start, 10](20, 30](40, 50]")
	set.Add(spanOf(20, 30))
	check("(10, 40](50, end]", "(start, 10](40, 50]")
	set.Add(spanOf(45, 45))
	set.Add(spanOf(46, 45))
	check("(10, 40](50, end]", "(start, 10](40, 50]")
	set.Add(spanOf(0, 5))
	check("(start, 5](10, 40](50, end]", "(5, 10](40, 50]")
	set.Add(spanOf(3, 60))
	check("(start, end]", "")
	if !set.Contains(textKey("-7")) {
		t.Error("the whole set lacks a key")
	}
}

func TestSpanSetUnordered(t *testing.T) {
	table := unorderedTable()
	for _, tt := range []struct {
		name           string
		spans          []replication.Span
		merged, mising string
	}{
		{"empty", nil, "", "('start', end]"},
		{"chain in order", []replication.Span{spanOf(0, 7), spanOf(7, 3), spanOf(3, 0)}, "(start, end]", ""},
		{"chain out of order", []replication.Span{spanOf(3, 0), spanOf(0, 7), spanOf(7, 3)}, "(start, end]", ""},
		{"hole", []replication.Span{spanOf(0, 7), spanOf(3, 5)}, "(start, '7']('3', '5']", "('7', end]"},
		{"no start", []replication.Span{spanOf(7, 3), spanOf(3, 0)}, "('7', end]", "(start, end]"},
		{"one twice", []replication.Span{spanOf(0, 7), spanOf(0, 7)}, "(start, '7']", "('7', end]"},
		{"inside", []replication.Span{spanOf(0, 7), spanOf(7, 3), spanOf(7, 3)}, "(start, '3']", "('3', end]"},
		{"same start", []replication.Span{spanOf(0, 7), spanOf(0, 3), spanOf(3, 5)}, "(start, '7']('3', '5']", "('7', end]"},
		{"rest over a part", []replication.Span{spanOf(0, 7), spanOf(3, 5), spanOf(7, 3), spanOf(5, 0)}, "(start, end]", ""},
		{"whole over parts", []replication.Span{spanOf(0, 7), spanOf(3, 5), spanOf(0, 0)}, "(start, end]", ""},
		{"start over a part", []replication.Span{spanOf(7, 3), spanOf(0, 3)}, "(start, '3']", "('3', end]"},
		{"end over a part", []replication.Span{spanOf(7, 3), spanOf(7, 0), spanOf(0, 7)}, "(start, end]", ""},
		{"no rows", []replication.Span{spanOf(7, 7)}, "", "(start, end]"},
		{"loose part beside the whole", []replication.Span{spanOf(8, 9), spanOf(0, 7), spanOf(7, 0)}, "(start, end]", ""},
	} {
		set := replication.NewSpanSet(table)
		for _, s := range tt.spans {
			set.Add(s)
		}
		if got := formatSpans(table, set.Spans()); got != tt.merged {
			t.Errorf("%s: spans %s, want %s", tt.name, got, tt.merged)
		}
		want := strings.ReplaceAll(tt.mising, "'start'", "start")
		if got := formatSpans(table, set.Missing()); got != want || set.Whole() != (want == "") {
			t.Errorf("%s: missing %s, want %s; whole: %v", tt.name, got, want, set.Whole())
		}
		if set.Contains(textKey("1")) != set.Whole() {
			t.Errorf("%s: contains a key: %v", tt.name, !set.Whole())
		}
	}
}

// TestSpanSetRestart reads on after a hole, over a chunk that an earlier run committed, with other bounds.
func TestSpanSetRestart(t *testing.T) {
	table := unorderedTable()
	set := replication.NewSpanSet(table, spanOf(0, 7), spanOf(3, 5))
	for _, s := range []replication.Span{spanOf(7, 3), spanOf(3, 4), spanOf(4, 0)} {
		if set.Whole() {
			t.Fatal("whole too early")
		}
		set.Add(s)
	}
	if !set.Whole() {
		t.Fatalf("missing %s", formatSpans(table, set.Missing()))
	}
}

func TestSpanSetModel(t *testing.T) {
	const top = 24
	table := orderedTable()
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 2))
		var model [top + 1]bool
		set := replication.NewSpanSet(table)
		for range 12 {
			lo, hi := r.IntN(top), 1+r.IntN(top+1) // a Hi of top+1 stands for the end
			if r.IntN(3) > 0 {
				hi = min(lo+1+r.IntN(3), top+1)
			}
			for k := lo + 1; k <= min(hi, top); k++ {
				model[k] = true
			}
			set.Add(spanOf(lo, hi%(top+1)))
			checkSpanModel(t, seed, table, set, model[1:])
		}
	}
}

func checkSpanModel(t *testing.T, seed uint64, table *replication.Table, set *replication.SpanSet, model []bool) {
	t.Helper()
	spans, missing := set.Spans(), set.Missing()
	for i, want := range model {
		k := textKey(strconv.Itoa(i + 1))
		in := func(s replication.Span) bool { return table.In(s, k) }
		if set.Contains(k) != want || slices.ContainsFunc(spans, in) != want || slices.ContainsFunc(missing, in) == want {
			t.Fatalf("seed %d: key %d is copied: %v; spans %s, missing %s", seed, i+1, want,
				formatSpans(table, spans), formatSpans(table, missing))
		}
	}
	// Spans and missing ones alternate and cover the table, each bound once.
	all := append(slices.Clone(spans), missing...)
	slices.SortFunc(all, func(a, b replication.Span) int {
		if a.Lo == nil || b.Lo == nil {
			return map[bool]int{true: -1, false: 1}[a.Lo == nil]
		}
		return table.Compare(a.Lo, b.Lo)
	})
	for i, s := range all {
		last := i == len(all)-1
		if (s.Lo == nil) != (i == 0) || (s.Hi == nil) != last || !last && !bytes.Equal(s.Hi, all[i+1].Lo) {
			t.Fatalf("seed %d: spans %s, missing %s", seed, formatSpans(table, spans), formatSpans(table, missing))
		}
	}
}

// TestSpanSetChainModel adds the parts of a chain in random order, with restarts: nothing that was not
// added is ever taken for copied, and the whole chain is the whole table.
func TestSpanSetChainModel(t *testing.T) {
	table := unorderedTable()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		names := r.Perm(20) // the server's order, which the set does not know
		var parts []replication.Span
		for i := range 10 {
			s := replication.Span{Lo: textKey(strconv.Itoa(names[i])), Hi: textKey(strconv.Itoa(names[i+1]))}
			if i == 0 {
				s.Lo = nil
			}
			if i == 9 {
				s.Hi = nil
			}
			parts = append(parts, s)
		}
		added := make([]bool, len(parts))
		set := replication.NewSpanSet(table)
		for prefix := 0; prefix < len(parts); {
			i := r.IntN(len(parts))
			if added[i] {
				continue
			}
			set.Add(parts[i])
			added[i] = true
			for prefix < len(parts) && added[prefix] {
				prefix++
			}
			if r.IntN(8) == 0 { // a restart forgets what is not connected to the start
				set = replication.NewSpanSet(table, set.Spans()...)
				for j := prefix; j < len(parts); j++ {
					added[j] = false
				}
			}
			want := "('" + strconv.Itoa(names[prefix]) + "', end]"
			switch prefix {
			case 0:
				want = "(start, end]"
			case len(parts):
				want = ""
			}
			if got := formatSpans(table, set.Missing()); got != want || set.Whole() != (want == "") {
				t.Fatalf("seed %d: missing %s, want %s; whole: %v", seed, got, want, set.Whole())
			}
		}
	}
}
