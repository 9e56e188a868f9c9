package replication_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
)

func TestRowLengths(t *testing.T) {
	// Lengths at which the length prefix changes its form, and that form's size.
	for n, head := range map[int]int{0: 1, 1: 1, 250: 1, 251: 3, 252: 3, 255: 3, 65535: 3, 65536: 4, 1<<24 - 1: 4, 1 << 24: 9} {
		v := bytes.Repeat([]byte{0xfb}, n)
		r := replication.PackRow(v, nil, []byte("x"))
		if len(r) != head+n+1+2 {
			t.Errorf("a value of %d bytes has a prefix of %d, want %d", n, len(r)-n-3, head)
		}
		values, err := r.Values(nil, 3)
		if err != nil || values[0] == nil || !bytes.Equal(values[0], v) || values[1] != nil || string(values[2]) != "x" {
			t.Errorf("a value of %d bytes does not round-trip: %v", n, err)
		}
	}
}

func TestRowErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		row  replication.Row
		want int
	}{
		"too few": {replication.PackRow(nil), 2}, "too many": {replication.PackRow(nil, nil), 1}, "error packet": {replication.Row{0xff}, 1},
		"cut length": {replication.Row{0xfc, 1}, 1}, "cut value": {replication.Row("\x03ab"), 1},
		"huge": {replication.Row{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 1},
	} {
		if _, err := tt.row.Values(nil, tt.want); !errors.Is(err, replication.ErrMalformedRow) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTableKey(t *testing.T) {
	table := keyTable(replication.Column{Kind: replication.KindInt}, replication.Column{Kind: replication.KindInt}, replication.Column{Kind: replication.KindInt})
	table.Primary.Columns = []int{2, 0}
	k, err := table.Key(replication.PackRow([]byte("1"), []byte("2"), []byte("3")))
	if err != nil || !bytes.Equal(k, textKey("3", "1")) {
		t.Errorf("key %q, %v", k, err)
	}
	if _, err := table.Key(replication.PackRow(nil)); !errors.Is(err, replication.ErrMalformedRow) {
		t.Errorf("short row: %v", err)
	}
}

// FuzzRow packs random values and reads them back.
func FuzzRow(f *testing.F) {
	f.Add([]byte("a"), []byte{}, []byte{0xfb}, uint8(0))
	f.Add([]byte{}, bytes.Repeat([]byte("x"), 251), []byte{}, uint8(5))
	f.Fuzz(func(t *testing.T, a, b, c []byte, nulls uint8) {
		in := [][]byte{a, b, c}
		for i := range in {
			if nulls>>i&1 == 1 {
				in[i] = nil
			}
		}
		r := replication.PackRow(in...)
		out, err := r.Values(nil, len(in))
		if err != nil {
			t.Fatal(err)
		}
		for i := range in {
			if (in[i] == nil) != (out[i] == nil) || !bytes.Equal(in[i], out[i]) {
				t.Fatalf("value %d: %q became %q", i, in[i], out[i])
			}
		}
		if again := replication.PackRow(out...); !bytes.Equal(again, r) {
			t.Fatalf("%q packs to %q", r, again)
		}
	})
}

// FuzzRowDecode reads random bytes as a row: what can be read is the same after packing it again.
func FuzzRowDecode(f *testing.F) {
	f.Add([]byte("\x01a\xfb\x00"))
	f.Add([]byte{0xfc, 0, 0, 0xfd, 1, 0, 0, 'x'})
	f.Add([]byte{0xfe, 0, 0, 0, 0, 0, 0, 0, 0x80})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var values [][]byte
		for rest := replication.Row(raw); len(rest) > 0; {
			v, next, err := rest.Next()
			if err != nil {
				if !errors.Is(err, replication.ErrMalformedRow) {
					t.Fatal(err)
				}
				return
			}
			if len(next) >= len(rest) {
				t.Fatalf("%q: no progress", raw)
			}
			values, rest = append(values, v), next
		}
		again, err := replication.PackRow(values...).Values(nil, len(values))
		if err != nil {
			t.Fatal(err)
		}
		for i := range values {
			if (values[i] == nil) != (again[i] == nil) || !bytes.Equal(values[i], again[i]) {
				t.Fatalf("value %d: %q became %q", i, values[i], again[i])
			}
		}
	})
}
