package topotest

import (
	"testing"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

// NewServer returns a topology in memory with one cell, "zone1", and nothing else. It is closed at the end of the
// test.
func NewServer(tb testing.TB) *topo.Server {
	tb.Helper()
	mem := memorytopo.New()
	ts, err := topo.Open(tb.Context(), topo.Openers{"memory": mem.Open}, topo.Address{Type: "memory", Root: "/global"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := ts.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := ts.CreateCell(tb.Context(), topo.CellInfo{Name: "zone1", Root: "/zone1"}); err != nil {
		tb.Fatal(err)
	}
	return ts
}
