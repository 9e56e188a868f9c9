package replication_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
)

const (
	uuidA = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuidB = "4350f323-7565-4e59-8763-4b1b83a0ce0e"
)

func parsePosition(t testing.TB, s string) replication.Position {
	t.Helper()
	p, err := replication.ParsePosition(s)
	if err != nil {
		t.Fatalf("ParsePosition(%q): %v", s, err)
	}
	return p
}

func parseGTID(t testing.TB, s string) replication.GTID {
	t.Helper()
	g, err := replication.ParseGTID(s)
	if err != nil {
		t.Fatalf("ParseGTID(%q): %v", s, err)
	}
	return g
}

func TestParsePosition(t *testing.T) {
	upper := strings.ToUpper(uuidA)
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{" \n", ""},
		{"MySQL56/", "MySQL56/"},
		{"MariaDB/ ", "MariaDB/"},
		{uuidA + ":1-5", "MySQL56/" + uuidA + ":1-5"},
		{"MySQL56/" + upper + ":5", "MySQL56/" + uuidA + ":5"},
		{uuidA + ":1-1", "MySQL56/" + uuidA + ":1"},
		{uuidA + ":6:1-5:8-9:007", "MySQL56/" + uuidA + ":1-9"},
		{uuidB + ":2,\n" + uuidA + ":1-5:7", "MySQL56/" + uuidA + ":1-5:7," + uuidB + ":2"},
		{" " + uuidA + " : 1 - 5 : 7 ", "MySQL56/" + uuidA + ":1-5:7"},
		{uuidA + ":1," + uuidA + ":3," + uuidA + ":2", "MySQL56/" + uuidA + ":1-3"},
		{uuidA + ":1-5:tag:1-3:tag2:7", "MySQL56/" + uuidA + ":1-5:tag:1-3:tag2:7"},
		{uuidA + ":zz:7:Tag:1-3," + uuidA + ":2:ZZ:8", "MySQL56/" + uuidA + ":2:tag:1-3:zz:7-8"},
		{uuidA + ":1," + uuidB + ":onlytag:1:tag2:7", "MySQL56/" + uuidA + ":1," + uuidB + ":onlytag:1:tag2:7"},
		{uuidA + ":9223372036854775806", "MySQL56/" + uuidA + ":9223372036854775806"},
		{"0-1-5", "MariaDB/0-1-5"},
		{"1-2-7, 0-1-5", "MariaDB/0-1-5,1-2-7"},
		{"MariaDB/0-1-5,0-2-9,0-3-7", "MariaDB/0-2-9"},
		{"4294967295-4294967295-18446744073709551615", "MariaDB/4294967295-4294967295-18446744073709551615"},
	} {
		p := parsePosition(t, tt.in)
		if got := p.String(); got != tt.want {
			t.Errorf("ParsePosition(%q) = %q, want %q", tt.in, got, tt.want)
		}
		if q := parsePosition(t, p.String()); !q.Equal(p) {
			t.Errorf("%q does not round-trip: %q", p, q)
		}
		_, text, _ := strings.Cut(tt.want, "/")
		if p.Text() != text {
			t.Errorf("Text of %q = %q", p, p.Text())
		}
	}
}

func TestParsePositionErrors(t *testing.T) {
	for _, in := range []string{
		"x", "/", "FilePos/a:1", "mysql56/" + uuidA + ":1", uuidA, uuidA + ":", uuidA + ":0", uuidA + ":1-",
		uuidA + ":5-1", uuidA + ":-5", uuidA + ":1:", uuidA + "::1", uuidA + ":1,", "," + uuidA + ":1",
		uuidA + ":9223372036854775807", uuidA + ":99999999999999999999", uuidA + ":tag", uuidA + ":tag:tag2:1",
		uuidA + ":1:tag", uuidA + ":ta-g:1", uuidA + ":\u212aelvin:1", uuidA + ":" + strings.Repeat("a", 33) + ":1",
		strings.Replace(uuidA, "-", "", 1) + ":1", "g" + uuidA[1:] + ":1", uuidA + ":+1", uuidA + ":1_0",
		"0-1", "0-1-0", "0-1-5-6", "0--1-5", "4294967296-1-1", "0-1-5,", "MariaDB/" + uuidA + ":1", "MySQL56/0-1-5",
	} {
		p, err := replication.ParsePosition(in)
		if !errors.Is(err, replication.ErrMalformedPosition) || !p.IsZero() {
			t.Errorf("ParsePosition(%q) = %q, %v", in, p, err)
		}
	}
}

func TestParseGTID(t *testing.T) {
	for in, want := range map[string]string{
		strings.ToUpper(uuidA) + ":5": uuidA + ":5", uuidA + ":Tag:7": uuidA + ":tag:7", " 0-1-5\n": "0-1-5",
	} {
		if got := parseGTID(t, in).String(); got != want {
			t.Errorf("ParseGTID(%q) = %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{"", "x", uuidA, uuidA + ":", uuidA + ":1-2", uuidA + ":0", uuidA + ":t:t:1", uuidA + ":1:1", "0-1-x", "0-1-0"} {
		if g, err := replication.ParseGTID(in); !errors.Is(err, replication.ErrMalformedPosition) || !g.IsZero() {
			t.Errorf("ParseGTID(%q) = %q, %v", in, g, err)
		}
	}
	if _, err := replication.NewMySQLGTID([16]byte{}, "", 0); !errors.Is(err, replication.ErrMalformedPosition) {
		t.Errorf("an anonymous transaction has a GTID: %v", err)
	}
	if a, b := parseGTID(t, uuidA+":TAG:5"), parseGTID(t, uuidA+":tag:5"); a != b {
		t.Errorf("%v != %v", a, b)
	}
}

func TestPositionFlavors(t *testing.T) {
	zero := replication.Position{}
	mysql, maria := parsePosition(t, uuidA+":1-5"), parsePosition(t, "0-1-5")
	empty := parsePosition(t, "MySQL56/")
	if empty.IsZero() || empty.Equal(zero) || empty.Flavor() != replication.FlavorMySQL {
		t.Error("the position before the first transaction is none")
	}
	for _, tt := range []struct {
		p, q replication.Position
		want bool
	}{
		{zero, zero, true},
		{mysql, zero, true},
		{maria, zero, true},
		{empty, zero, true},
		{zero, mysql, false},
		{zero, empty, false},
		{empty, mysql, false},
		{mysql, empty, true},
		{mysql, maria, false},
		{maria, mysql, false},
		{maria, empty, false},
	} {
		if got := tt.p.Covers(tt.q); got != tt.want {
			t.Errorf("%q covers %q: %v", tt.p, tt.q, got)
		}
	}
	same := func(got, want replication.Position) {
		t.Helper()
		if !got.Equal(want) || got.String() != want.String() {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	same(mysql.Union(maria), mysql)
	same(mysql.Union(zero), mysql)
	same(zero.Union(mysql), mysql)
	same(empty.Union(mysql), mysql)
	same(mysql.Add(parseGTID(t, "0-1-9")), mysql)
	same(mysql.Add(replication.GTID{}), mysql)
	same(zero.Add(parseGTID(t, "0-1-5")), maria)
	if mysql.Contains(replication.GTID{}) || maria.Contains(parseGTID(t, uuidA+":1")) {
		t.Error("a position contains a GTID of another flavor")
	}
}

func TestPositionMariaDB(t *testing.T) {
	p := parsePosition(t, "0-1-5,2-1-9")
	for g, want := range map[string]bool{"0-1-5": true, "0-7-4": true, "0-1-6": false, "1-1-1": false, "2-1-9": true} {
		if p.Contains(parseGTID(t, g)) != want {
			t.Errorf("%v contains %v: %v", p, g, !want)
		}
	}
	for g, want := range map[string]string{
		"0-1-4": "MariaDB/0-1-5,2-1-9", "0-2-5": "MariaDB/0-1-5,2-1-9", "0-2-6": "MariaDB/0-2-6,2-1-9",
		"1-1-1": "MariaDB/0-1-5,1-1-1,2-1-9", "3-1-1": "MariaDB/0-1-5,2-1-9,3-1-1",
	} {
		if got := p.Add(parseGTID(t, g)).String(); got != want {
			t.Errorf("with %v: %v, want %v", g, got, want)
		}
	}
	if got := p.String(); got != "MariaDB/0-1-5,2-1-9" {
		t.Errorf("Add changed its receiver: %v", got)
	}
	q := parsePosition(t, "0-3-7,1-1-1,2-4-8")
	u := p.Union(q)
	if got := u.Text(); got != "0-3-7,1-1-1,2-1-9" {
		t.Errorf("union: %v", got)
	}
	if !u.Covers(p) || !u.Covers(q) || p.Covers(q) || q.Covers(p) || p.Covers(u) {
		t.Error("covers does not follow the domains")
	}
}

// positionModel is a position as a set of GTIDs.
type positionModel map[string]bool

func (m positionModel) covers(o positionModel) bool {
	for g := range o {
		if !m[g] {
			return false
		}
	}
	return true
}

// TestPositionModel compares MySQL positions with sets of GTIDs, and checks that no position ever changes.
func TestPositionModel(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		sids := []string{uuidA, uuidA + ":t", uuidA + ":u2", uuidB, uuidB + ":t"}[:1+r.IntN(5)]
		limit := 1 + r.IntN(40)
		random := func() replication.GTID {
			return parseGTID(t, fmt.Sprintf("%s:%d", sids[r.IntN(len(sids))], 1+r.IntN(limit)))
		}
		type pair struct {
			p    replication.Position
			text string
			m    positionModel
		}
		all := []pair{{m: positionModel{}}}
		for range 80 {
			a, b := all[r.IntN(len(all))], all[r.IntN(len(all))]
			next := pair{m: positionModel{}}
			for g := range a.m {
				next.m[g] = true
			}
			switch g := random(); r.IntN(6) {
			case 0:
				next.p = a.p.Union(b.p)
				for g := range b.m {
					next.m[g] = true
				}
			case 1:
				if len(a.m) == 0 || len(a.m) == 1 && a.m[g.String()] {
					continue // a position of nothing has no text that tells its flavor
				}
				next.p = a.p.Without(g)
				delete(next.m, g.String())
			default:
				next.p = a.p.Add(g)
				next.m[g.String()] = true
			}
			next.text = next.p.String()
			if q := parsePosition(t, next.text); !q.Equal(next.p) || q.String() != next.text {
				t.Fatalf("seed %d: %q parses to %q", seed, next.text, q)
			}
			if g := random(); next.p.Contains(g) != next.m[g.String()] {
				t.Fatalf("seed %d: %q contains %v: %v", seed, next.text, g, next.p.Contains(g))
			}
			if got, want := next.p.Covers(b.p), next.m.covers(b.m); got != want {
				t.Fatalf("seed %d: %q covers %q: %v", seed, next.text, b.text, got)
			}
			if got, want := b.p.Equal(next.p), next.m.covers(b.m) && b.m.covers(next.m); got != want {
				t.Fatalf("seed %d: %q equals %q: %v", seed, next.text, b.text, got)
			}
			all = append(all, next)
		}
		for _, a := range all {
			if a.p.String() != a.text {
				t.Fatalf("seed %d: %q has become %q", seed, a.text, a.p)
			}
			for i := range sids {
				for n := 1; n <= limit; n++ {
					g := parseGTID(t, fmt.Sprintf("%s:%d", sids[i], n))
					if a.p.Contains(g) != a.m[g.String()] {
						t.Fatalf("seed %d: %q contains %v: %v", seed, a.text, g, a.p.Contains(g))
					}
				}
			}
		}
	}
}

func TestPositionJSON(t *testing.T) {
	type record struct{ Position replication.Position }
	in := record{parsePosition(t, uuidA+":1-5:tag:7")}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `{"Position":"MySQL56/`+uuidA+`:1-5:tag:7"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var out record
	if err := json.Unmarshal(b, &out); err != nil || !out.Position.Equal(in.Position) {
		t.Fatalf("%v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"Position":"0-1"}`), &out); !errors.Is(err, replication.ErrMalformedPosition) {
		t.Fatalf("malformed text: %v", err)
	}
	if !out.Position.Equal(in.Position) {
		t.Fatal("an error changed the position")
	}
}

func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{
		"", "MySQL56/", uuidA + ":1-5:7," + uuidB + ":tag:1-3:tag2:9", "0-1-5,1-2-7", "MariaDB/0-1-5",
		uuidA + ":9223372036854775806:1", uuidA + " : 1 -2 ,\n" + uuidA + ":3",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := replication.ParsePosition(s)
		if err != nil {
			if !errors.Is(err, replication.ErrMalformedPosition) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		q := parsePosition(t, p.String())
		if !q.Equal(p) || q.String() != p.String() || !p.Covers(q) || !q.Covers(p) {
			t.Fatalf("%q: %q parses to %q", s, p, q)
		}
		if bare, err := replication.ParsePosition(p.Text()); p.Text() != "" && (err != nil || !bare.Equal(p)) {
			t.Fatalf("%q: the bare text parses to %q, %v", s, bare, err)
		}
	})
}

func FuzzParseGTID(f *testing.F) {
	f.Add(uuidA + ":5")
	f.Add(uuidA + ":tag:5")
	f.Add("0-1-5")
	f.Fuzz(func(t *testing.T, s string) {
		g, err := replication.ParseGTID(s)
		if err != nil {
			return
		}
		if back := parseGTID(t, g.String()); back != g {
			t.Fatalf("%q: %v parses to %v", s, g, back)
		}
		if p := (replication.Position{}).Add(g); !p.Contains(g) || p.Text() == "" {
			t.Fatalf("%q: %v lacks it", s, p)
		}
	})
}

// wideGTIDs returns a position of 50 servers with 20 intervals each, and each server's uuid.
func wideGTIDs(b *testing.B) (replication.Position, [][16]byte) {
	var parts []string
	var uuids [][16]byte
	for i := range 50 {
		var u [16]byte
		binary.BigEndian.PutUint64(u[:], uint64(i)*0x9e3779b97f4a7c15)
		uuids = append(uuids, u)
		g, err := replication.NewMySQLGTID(u, "", 1)
		if err != nil {
			b.Fatal(err)
		}
		part := g.String()
		for j := range 19 {
			part += fmt.Sprintf(":%d-%d", 1000*(j+1), 1000*(j+1)+500)
		}
		parts = append(parts, part)
	}
	slices.Reverse(parts)
	return parsePosition(b, strings.Join(parts, ",")), uuids
}

func BenchmarkPositionAdd(b *testing.B) {
	p, uuids := wideGTIDs(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		g, err := replication.NewMySQLGTID(uuids[i%50], "", uint64(19501+i/50))
		if err != nil {
			b.Fatal(err)
		}
		p = p.Add(g)
	}
}

func BenchmarkPositionString(b *testing.B) {
	p, _ := wideGTIDs(b)
	buf := make([]byte, 0, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		if out, err := p.AppendText(buf); err != nil || len(out) < 5000 {
			b.Fatal(len(out), err)
		}
	}
}
