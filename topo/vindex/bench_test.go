package vindex_test

import (
	"slices"
	"strings"
	"testing"
)

func BenchmarkMap(b *testing.B) {
	number, word := signed("1234567890"), text("Fahrvergn\u00fcgen")
	for _, c := range valid {
		v := mustNew(b, c.typ, c.params, withFiles)
		values := slices.Repeat(row(number), v.Columns())
		switch {
		case c.typ == "region_json":
			values[1] = text("fr")
		case strings.HasPrefix(c.typ, "unicode"):
			values[0] = word
		}
		name := c.typ
		for _, p := range []string{"hash", "column_vindex", "region_bytes"} {
			name += c.params[p]
		}
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 0, 64)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Map(buf, values); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A row's way to its shard: hash and route.
func BenchmarkMapAndRoute(b *testing.B) {
	router, _ := mustRouter(b, 256)
	v := mustNew(b, "xxhash", nil, withFiles)
	values := row(signed("1234567890"))
	buf := make([]byte, 0, 32)
	b.ReportAllocs()
	for b.Loop() {
		id, err := v.Map(buf, values)
		if err != nil {
			b.Fatal(err)
		}
		router.Route(id)
	}
}
