package main

import (
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
)

func TestPrintStatus(t *testing.T) {
	var b strings.Builder
	printStatus(&b, &migrate.Status{
		Keyspace: "commerce", Workflow: "wf", State: migrate.StateCopying, Mount: "ext1", SourceKeyspace: "load",
		SourceShards: []string{"-"}, TargetShards: []string{"-80", "80-"}, Lag: 1234 * time.Millisecond, Message: "try again",
		Tables: []migrate.TableStatus{
			{Table: "big", Rows: 250, RowsTotal: 1000, Bytes: 2048, Percent: 25, RowsPerSecond: 50, ETA: 15 * time.Second, Phase: migrate.PhaseInProgress},
			{Table: "done", Rows: 10, RowsTotal: 10, Percent: 100, Phase: migrate.PhaseComplete},
		},
		Streams: []migrate.StreamStatus{{ID: 7, SourceShard: "-", TargetShard: "-80", Tablet: "zone1-0000000100", State: migrate.StateCopying, Owner: "host:1"}},
	})
	for _, want := range []string{
		"commerce.wf  Copying", "lag 1.2s", "from ext1.load (-) to commerce (-80,80-)", "message: try again",
		"[#####...............]", "250 of ~1000", "2.0 KiB", "15s", "[####################]", "10 of 10", "7       -     -80 (zone1-0000000100)",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestBar(t *testing.T) {
	for p, want := range map[float64]string{-1: "[....]", 0: "[....]", 24.9: "[....]", 25: "[#...]", 99.9: "[###.]", 100: "[####]", 180: "[####]"} {
		if got := bar(p, 4); got != want {
			t.Errorf("bar(%v) is %s, want %s", p, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 5 << 40: "5.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) is %s, want %s", n, got, want)
		}
	}
}
