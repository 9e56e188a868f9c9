package vdiff

import (
	"fmt"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
)

func fp(s string) fingerprint {
	if s == "" {
		return fingerprintOf(nil)
	}
	return fingerprintOf([]held{{row: replication.Row(s)}})
}

// at is a moment at which n transactions are visible and others are under way.
func at(t *testing.T, n int, owned ...string) *moment {
	t.Helper()
	p, err := replication.ParsePosition(fmt.Sprintf("MySQL56/3e11fa47-71ca-11e1-9e33-c80aa9429562:1-%d", n))
	if err != nil {
		t.Fatal(err)
	}
	m := &moment{positions: map[string]replication.Position{"0": p}, owned: map[string]bool{}}
	for _, o := range owned {
		m.owned[o] = true
	}
	return m
}

func TestJudge(t *testing.T) {
	type read struct {
		source, target string
		before, after  *moment
		want           verdict
	}
	busy := func(i int, s, tg string, want verdict) read { return read{s, tg, at(t, i), at(t, i+1), want} }
	stalled := func(i int, s, tg string, want verdict) read {
		return read{s, tg, at(t, i, "slow"), at(t, i, "slow"), want}
	}
	for name, reads := range map[string][]read{
		"equal":                       {busy(1, "a", "a", verdictEqual)},
		"gone from both":              {busy(1, "", "", verdictEqual)},
		"different on a quiet source": {{"a", "b", at(t, 5), at(t, 5), verdictDifferent}},
		"missing on a quiet source":   {{"a", "", at(t, 5), at(t, 5), verdictDifferent}},
		"settles":                     {busy(1, "a", "b", verdictOpen), busy(2, "b", "b", verdictEqual)},
		"the target was ahead":        {busy(1, "a", "b", verdictOpen), busy(3, "b", "c", verdictEqual)},
		"the target lags behind what it must show": {busy(1, "b", "a", verdictOpen), busy(3, "c", "b", verdictOpen)},
		"different on a busy source": {
			busy(1, "a", "b", verdictOpen), busy(2, "a", "b", verdictOpen), busy(3, "a", "b", verdictOpen), busy(4, "a", "b", verdictOpen),
			busy(5, "a", "b", verdictOpen), busy(6, "a", "b", verdictOpen), busy(7, "a", "b", verdictOpen), busy(8, "a", "b", verdictOpen),
			busy(9, "a", "b", verdictDifferent),
		},
		"a change begins the count anew": {
			busy(1, "a", "b", verdictOpen), busy(2, "a", "b", verdictOpen), busy(3, "a", "b", verdictOpen), busy(4, "a", "b", verdictOpen), busy(5, "a", "b", verdictOpen),
			busy(6, "a", "c", verdictOpen), busy(7, "a", "c", verdictOpen),
		},
		"a slow commit explains a difference": {
			stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen),
			stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen),
			{"b", "b", at(t, 2), at(t, 2), verdictEqual},
		},
		"a slow commit of something else": {
			stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen),
			stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen), stalled(1, "a", "b", verdictOpen),
			{"a", "b", at(t, 2), at(t, 3, "other"), verdictDifferent},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s suspect
			for i, r := range reads {
				if got := s.judge(fp(r.source), fp(r.target), r.before, r.after); got != r.want {
					t.Fatalf("read %d: verdict %d, want %d", i+1, got, r.want)
				}
			}
		})
	}
}

// TestMariaDBNeverStandsStill because its position tells nothing of what is visible.
func TestMariaDBNeverStandsStill(t *testing.T) {
	p, err := replication.ParsePosition("MariaDB/0-1-5")
	if err != nil {
		t.Fatal(err)
	}
	m := &moment{positions: map[string]replication.Position{"0": p}}
	if m.still(m) {
		t.Error("a MariaDB source counts as quiet")
	}
}

func TestParseOwned(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "[]",
		"3e11:7#12":                "[3e11:7#12]",
		"3e11:7#12:8#13,\n4f:1#9,": "[3e11:7#12 3e11:8#13 4f:1#9]",
	} {
		if got := fmt.Sprint(parseOwned(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestCountPairsRows(t *testing.T) {
	table := &replication.Table{Name: "t", Columns: []replication.Column{{Name: "a", Kind: replication.KindInt}}, Primary: replication.Index{Columns: []int{0}}}
	row := func(s string) replication.Row { return replication.PackRow([]byte(s)) }
	rows := func(values ...string) (out []held) {
		for _, v := range values {
			out = append(out, held{row: row(v)})
		}
		return out
	}
	for _, tc := range []struct {
		source, target []held
		want           string
	}{
		{rows("1"), rows("1"), "1 0 0 0"},
		{rows("1"), rows("1", "1"), "1 0 0 1"},
		{rows("1", "3"), rows("2", "3"), "1 1 0 0"},
		{rows("1", "2"), rows("3"), "0 1 1 0"},
		{nil, rows("1", "2"), "0 0 0 2"},
		{rows("1", "2"), nil, "0 0 2 0"},
	} {
		end := &end{shards: []*shard{{name: "0"}}}
		d := &lane{
			differ: &differ{source: &reader{end: end}, report: &TableReport{Shards: []*ShardReport{{Shard: "0"}}}, display: display{t: table, samples: 1}},
			target: &reader{end: end},
		}
		if err := d.count(tc.source, tc.target, verdictDifferent); err != nil {
			t.Fatal(err)
		}
		r := d.report
		if got := fmt.Sprint(r.MatchingRows, r.MismatchedRows, r.ExtraRowsSource, r.ExtraRowsTarget); got != tc.want {
			t.Errorf("%v and %v: %s, want %s", tc.source, tc.target, got, tc.want)
		}
		if r.Shard("0").Counts != r.Counts {
			t.Errorf("the shard has %+v of %+v", r.Shard("0").Counts, r.Counts)
		}
		if n := len(r.Mismatched) + len(r.ExtraSource) + len(r.ExtraTarget); n > 3 || r.HasMismatch() && n == 0 {
			t.Errorf("%d samples", n)
		}
	}
}
