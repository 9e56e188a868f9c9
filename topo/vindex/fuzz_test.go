package vindex_test

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// mustRouter routes over n equal shards.
func mustRouter(t testing.TB, n int) (*topo.Router, []topo.KeyRange) {
	t.Helper()
	ranges, err := topo.KeyRange{}.Split(n)
	if err != nil {
		t.Fatal(err)
	}
	r, err := topo.NewRouter(ranges)
	if err != nil {
		t.Fatal(err)
	}
	return r, ranges
}

// Any value of any class: no panic, the same id every time whatever dst is, and the one shard that holds it.
func FuzzMap(f *testing.F) {
	var all []*vindex.Vindex
	for _, c := range valid {
		all = append(all, mustNew(f, c.typ, c.params, withFiles))
	}
	router, ranges := mustRouter(f, 7)
	for _, s := range []string{"", "1", "-1", " 12 ", "18446744073709551616", "aa", "T\u00e9st ", "\u0301\u0327x", "\uac00", "\xff", "\U0010ffff"} {
		for class := range 8 {
			f.Add([]byte(s), []byte("fr"), uint8(class), uint8(class*31))
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte, classA, classB uint8) {
		for i, v := range all {
			values := make([]vindex.Value, v.Columns())
			for j := range values {
				values[j] = vindex.Value{Class: vindex.Class(classA % 8), Bytes: a}
				if j%2 == 1 {
					values[j] = vindex.Value{Class: vindex.Class(classB % 8), Bytes: b}
				}
			}
			id, err := v.Map(nil, values)
			if err != nil {
				if !errors.As(err, new(*vindex.ValueError)) || id != nil {
					t.Fatalf("%v: %x, %v", valid[i], id, err)
				}
				continue
			}
			again, err := v.Map([]byte("x"), values)
			if err != nil || !bytes.Equal(again[1:], id) || again[0] != 'x' {
				t.Fatalf("%v: %x, then %x, %v", valid[i], id, again, err)
			}
			if got := router.Route(id); !ranges[got].Contains(id) {
				t.Fatalf("%v: id %x is routed to %s", valid[i], id, ranges[got])
			}
		}
	})
}

// Any type and parameters: no panic, and only typed errors; what is made maps.
func FuzzNew(f *testing.F) {
	for _, c := range valid {
		var keys, values []string
		for k, v := range c.params {
			keys, values = append(keys, k), append(values, v)
		}
		f.Add(c.typ, strings.Join(keys, "\n"), strings.Join(values, "\n"))
	}
	f.Add("multicol", "column_count\ncolumn_bytes", "8\n8,0,0,0,0,0,0,0")
	f.Add("numeric_static_map", "json\nfallback_type", "null\nmulticol")
	f.Fuzz(func(t *testing.T, typ, keys, values string) {
		p := params{}
		list := strings.Split(values, "\n")
		for i, k := range strings.Split(keys, "\n") {
			if i < len(list) {
				p[k] = list[i]
			}
		}
		v, err := vindex.New(typ, p, withFiles)
		if err != nil {
			if !errors.As(err, new(*vindex.ParamError)) && !errors.As(err, new(*vindex.UnsupportedError)) {
				t.Fatalf("%q %v: %v", typ, p, err)
			}
			return
		}
		in := make([]vindex.Value, v.Columns())
		for i := range in {
			in[i] = signed(strconv.Itoa(i))
		}
		if _, err := v.Map(nil, in); err != nil && !errors.As(err, new(*vindex.ValueError)) {
			t.Fatalf("%q %v: %v", typ, p, err)
		}
	})
}
