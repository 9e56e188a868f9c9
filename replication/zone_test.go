package replication_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

// TestZoneBounds takes every minute around some changes of clocks: the order of times is kept, and what FromUTC makes of a time in UTC divides the
// local times as it divides what they become.
func TestZoneBounds(t *testing.T) {
	for name, at := range map[string][]string{
		"Europe/Berlin":       {"2024-03-31", "2024-10-27", "1945-11-18", "2500-10-31"},
		"America/New_York":    {"2023-03-12", "2023-11-05"},
		"Australia/Lord_Howe": {"2024-04-07", "2024-10-06"}, // by half an hour
		"Pacific/Apia":        {"2011-12-30"},               // a day was left out
		"Asia/Kathmandu":      {"1986-01-01"},
		"America/Sao_Paulo":   {"2018-02-18"},
		"Africa/Casablanca":   {"2024-03-10", "2024-04-14"},
		"UTC":                 {"2024-06-01"},
	} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, day := range at {
			start, err := time.Parse(time.DateOnly, day)
			if err != nil {
				t.Fatal(err)
			}
			checkInverse(t, zone, start.Add(-36*time.Hour))
		}
	}
}

func checkInverse(t *testing.T, zone *time.Location, start time.Time) {
	t.Helper()
	const minutes = 4 * 24 * 60
	text := func(d time.Time) []byte { return []byte(d.Format(time.DateTime) + ".25") }
	var locals, instants [][]byte
	for i := range minutes {
		l := text(start.Add(time.Duration(i) * time.Minute))
		utc, err := replication.ToUTC(zone, l)
		if err != nil {
			continue // clocks never show it
		}
		if n := len(instants); n > 0 && bytes.Compare(instants[n-1], utc) >= 0 {
			t.Errorf("%s: %s is %s, and the earlier %s is %s", zone, l, utc, locals[n-1], instants[n-1])
		}
		locals, instants = append(locals, l), append(instants, utc)
	}
	if len(locals) < minutes/2 {
		t.Fatalf("%s: only %d times", zone, len(locals))
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	gaps := 0
	for range 3000 {
		u := text(start.Add(time.Duration(rnd.IntN(minutes)) * time.Minute))
		l, gap := replication.FromUTC(zone, u)
		if gap {
			gaps++
		} else if back, err := replication.ToUTC(zone, l); err != nil || !bytes.Equal(back, u) {
			t.Errorf("%s: %s is %s there, which is %s (%v)", zone, u, l, back, err)
		}
		for i, x := range locals {
			below, want := bytes.Compare(x, l) <= 0, bytes.Compare(instants[i], u) <= 0
			if gap {
				below = bytes.Compare(x, l) < 0
			}
			if below != want {
				t.Fatalf("%s: bound %s (gap %t) for %s: %s is %s", zone, l, gap, u, x, instants[i])
			}
		}
	}
	t.Logf("%s from %s: %d bounds in gaps", zone, start.Format(time.DateOnly), gaps)
}

func TestZoneLeavesAlone(t *testing.T) {
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"0000-00-00 00:00:00", "2024-02-31 10:00:00", "2024-00-10 00:00:00", "0000-05-05 00:00:00", ""} {
		utc, err := replication.ToUTC(zone, []byte(v))
		back, gap := replication.FromUTC(zone, utc)
		if string(utc) != v || err != nil || string(back) != v || gap {
			t.Errorf("%q is %q (%v), and back %q, gap %t", v, utc, err, back, gap)
		}
	}
	if v, err := replication.ToUTC(zone, []byte("2023-03-12 02:30:00")); err == nil {
		t.Errorf("a time that clocks never show is %s", v)
	}
}
