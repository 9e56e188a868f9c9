package vdiff

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tablehaul/tablehaul/replication"
)

func TestSizerFollowsTheTime(t *testing.T) {
	s := sizer{target: 500 * time.Millisecond}
	if s.next() != firstChunkRows {
		t.Fatal(s.next())
	}
	for _, tc := range []struct {
		rows int64
		took time.Duration
		want int64
	}{
		{10_000, 50 * time.Millisecond, 40_000}, // 100,000 would do, but one step is 4 times
		{40_000, 200 * time.Millisecond, 100_000},
		{100_000, 500 * time.Millisecond, 100_000},
		{100_000, time.Second, 50_000},
		{50_000, time.Minute, 12_500},
		{0, time.Minute, 12_500},
		{12_500, time.Hour, 3125},
		{3125, time.Hour, 781},
		{781, time.Hour, 195},
		{195, time.Hour, minChunkRows},
		{100, time.Hour, minChunkRows},
	} {
		s.took(tc.rows, tc.took)
		if s.next() != tc.want {
			t.Errorf("%d rows in %s: next %d, want %d", tc.rows, tc.took, s.next(), tc.want)
		}
	}
	for range 20 {
		s.took(s.next(), time.Nanosecond)
	}
	if s.next() != maxChunkRows {
		t.Errorf("fast server: %d", s.next())
	}
}

// TestFrameTellsRowsApart takes rows of awkward values: different rows have different frames.
func TestFrameTellsRowsApart(t *testing.T) {
	table := &replication.Table{Columns: []replication.Column{
		{Name: "a", Kind: replication.KindText},
		{Name: "b", Kind: replication.KindInt},
		{Name: "c", Kind: replication.KindBlob},
		{Name: "d", Kind: replication.KindDouble},
		{Name: "e", Kind: replication.KindBinary},
	}}
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) []byte {
		v := from[r.IntN(len(from))]
		if v == "NULL" {
			return nil
		}
		return []byte(v)
	}
	bytes := []string{"", "N", "NULL", "1", "1:", "1:a", "2:", ",", "=", "0:", "N,N", "12", "\x00", ":1"}
	frames, rows := map[string]string{}, map[string]bool{}
	for range 20_000 {
		values := [][]byte{pick(bytes...), pick("NULL", "1", "12", "-1"), pick(bytes...), pick("NULL", "0e+00", "-0e+00", "1e+00"), pick(bytes...)}
		frame, err := appendFrame(nil, table, values)
		if err != nil {
			t.Fatal(err)
		}
		row := string(replication.PackRow(values...))
		if other, ok := frames[string(frame)]; ok && other != row {
			t.Fatalf("%q and %q have the frame %q", row, other, frame)
		}
		frames[string(frame)], rows[row] = row, true
	}
	if len(rows) < 5000 {
		t.Fatalf("only %d rows", len(rows))
	}
}

// statementsOf takes a pair apart.
func statementsOf(t *testing.T, p replication.TablePair, zone *time.Location) *subject {
	t.Helper()
	s, err := newSubject(p, []string{"0"}, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSpanConditions(t *testing.T) {
	s := statementsOf(t, replication.TablePair{Source: &replication.Table{
		Name: "we`ird", Columns: []replication.Column{{Name: "a", Kind: replication.KindInt}, {Name: "b", Kind: replication.KindText, Charset: "latin1"}, {Name: "c", Kind: replication.KindUint}},
		Primary: replication.Index{Name: "PRIMARY", Columns: []int{2, 1, 0}},
	}}, nil).source
	key := func(c, b, a string) replication.Key { return replication.PackRow([]byte(c), []byte(b), []byte(a)) }
	for _, tc := range []struct {
		span replication.Span
		want string
	}{
		{replication.Span{}, ""},
		{replication.Span{Lo: key("1", "x", "2")}, " WHERE (`c`>1 OR (`c`=1 AND (`b`>_latin1 x'78' OR (`b`=_latin1 x'78' AND `a`>2))))"},
		{
			replication.Span{Lo: key("1", "x", "2"), Hi: key("1", "x", "9")},
			" WHERE `c`=1 AND `b`=_latin1 x'78' AND `a`>2 AND `a`<=9",
		},
		{
			replication.Span{Lo: key("1", "x", "2"), Hi: key("1", "y", "9")},
			" WHERE `c`=1 AND (`b`>_latin1 x'78' OR (`b`=_latin1 x'78' AND `a`>2)) AND (`b`<_latin1 x'79' OR (`b`=_latin1 x'79' AND `a`<=9))",
		},
	} {
		if got, err := s.where(tc.span); !strings.EqualFold(got, tc.want) || err != nil {
			t.Errorf("got  %s (%v)\nwant %s", got, err, tc.want)
		}
	}
	if want := "FROM `we``ird` AS s FORCE INDEX (`PRIMARY`)"; s.from != want {
		t.Errorf("got %s, want %s", s.from, want)
	}
	if _, err := s.where(replication.Span{Lo: replication.PackRow([]byte("1"))}); err == nil {
		t.Error("a key with a column too few is taken")
	}
	if _, err := s.where(replication.Span{Lo: key("1; DROP TABLE x", "", "1")}); err == nil {
		t.Error("a number that is none is taken")
	}
}

func TestDisplay(t *testing.T) {
	text := replication.Column{Name: "c", Kind: replication.KindText}
	enum := replication.Column{Name: "c", Kind: replication.KindEnum, Members: []string{"x", "y"}}
	set := replication.Column{Name: "c", Kind: replication.KindSet, Members: []string{"x", "y", "z"}}
	for _, tc := range []struct {
		column replication.Column
		value  string
		cut    int
		want   string
	}{
		{text, "plain", 0, "plain"},
		{text, "\xe9", 0, "0xE9"},
		{text, strings.Repeat("é", 50), 21, strings.Repeat("é", 10) + truncated},
		{text, strings.Repeat("x", 30), 20, strings.Repeat("x", 30)}, // the mark would be longer than what it stands for
		{enum, "2", 0, "y"},
		{enum, "0", 0, "0"},
		{enum, "3", 0, "3"},
		{set, "5", 0, "x,z"},
		{set, "0", 0, ""},
		{set, "8", 0, "8"},
		{replication.Column{Name: "c", Kind: replication.KindBlob}, "ab", 0, "0x6162"},
		{replication.Column{Name: "c", Kind: replication.KindBit}, "\x05", 0, "0x05"},
		{replication.Column{Name: "c", Kind: replication.KindDouble}, "1.5e+00", 0, "1.5"},
		{replication.Column{Name: "c", Kind: replication.KindJSON}, `{"a": 1}`, 0, `{"a": 1}`},
	} {
		d := display{t: &replication.Table{Columns: []replication.Column{tc.column}}}
		if got := d.value(0, []byte(tc.value), tc.cut); got != (Value{Column: "c", Text: tc.want}) {
			t.Errorf("%d %q: got %+v, want %q", tc.column.Kind, tc.value, got, tc.want)
		}
		if got := d.value(0, nil, tc.cut); !got.Null {
			t.Errorf("%d: NULL is %+v", tc.column.Kind, got)
		}
	}
}

func FuzzWholeRunes(f *testing.F) {
	f.Add("é", 1)
	f.Add("日本", 4)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 0 || n > len(s) {
			return
		}
		got := string(wholeRunes([]byte(s[:n])))
		if !strings.HasPrefix(s, got) || len(got) < n-3 {
			t.Errorf("%q cut at %d: %q", s, n, got)
		}
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("%q cut at %d: %q", s, n, got)
		}
	})
}

func TestValuesJSONRoundTrip(t *testing.T) {
	for _, v := range []Values{nil, {}, {{Column: "z", Text: "1"}, {Column: "a", Null: true}, {Column: `q"`, Text: "\"\n"}}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back Values
		if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, v) {
			t.Errorf("%s: %#v, %v", b, back, err)
		}
	}
	for _, bad := range []string{`[]`, `{"a":1}`, `"x"`, `{"a":{}}`} {
		if err := new(Values).UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestProgress(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := start.Add(100 * time.Second)
	table := func(estimate, done int64, s State) *TableReport {
		return &TableReport{RowsEstimate: estimate, Counts: Counts{MatchingRows: done}, State: s}
	}
	for _, tc := range []struct {
		tables []*TableReport
		state  State
		want   string
		left   time.Duration
	}{
		{nil, StateStarted, "0", 0},
		{[]*TableReport{table(100, 10, StateStarted), table(100, 10, StatePending)}, StateStarted, "10", 900 * time.Second},
		{[]*TableReport{table(0, 50, StateStarted)}, StateStarted, "99.99", 10 * time.Millisecond},
		{[]*TableReport{table(500, 50, StateCompleted), table(50, 0, StatePending)}, StateStarted, "50", 100 * time.Second},
		{[]*TableReport{table(1_000_000, 1, StateStarted)}, StateStarted, "0.0001", 0},
		{[]*TableReport{table(500, 50, StateCompleted)}, StateCompleted, "100", 0},
	} {
		r := &Report{State: tc.state, StartedAt: start, Tables: tc.tables}
		p := r.Progress(now)
		left := time.Duration(0)
		if !p.ETA.IsZero() {
			left = p.ETA.Sub(now)
		}
		if fmt.Sprint(p.Percentage) != tc.want || (left-tc.left).Abs() > tc.left/50 {
			t.Errorf("%+v: %v, %s left; want %s, %s", tc.tables, p.Percentage, left, tc.want, tc.left)
		}
	}
}

func TestUUID(t *testing.T) {
	a, b := newUUID(), newUUID()
	if a == b || !uuidPattern.MatchString(a) || a[14] != '4' || !strings.ContainsRune("89ab", rune(a[19])) {
		t.Error(a, b)
	}
}
