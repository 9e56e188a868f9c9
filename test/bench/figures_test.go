package main

import (
	"os"
	"slices"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	var hundred []float64
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, float64(i))
	}
	for _, c := range []struct {
		values  []float64
		p, want float64
	}{
		{nil, 50, 0},
		{[]float64{7}, 99, 7},
		{[]float64{3, 1, 2}, 50, 2},
		{[]float64{4, 1, 3, 2}, 50, 2},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
	} {
		if got := percentile(slices.Clone(c.values), c.p); got != c.want {
			t.Errorf("percentile %g of %v = %g, want %g", c.p, c.values, got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	m := median([]figures{{"wall": 3, "cpu source": 1}, {"wall": 1, "cpu source": 5}, {"wall": 2, "cpu source": 2}})
	if m["wall"] != 2 || m["cpu source"] != 2 || m.total() != 2 {
		t.Errorf("median = %v", m)
	}
}

// TestMeter burns CPU and looks whether the meter saw it.
func TestMeter(t *testing.T) {
	m, err := newMeter(map[string]int{"self": os.Getpid(), "none": 0})
	if err != nil {
		t.Fatal(err)
	}
	before, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		if now, err := cpuOf(os.Getpid()); err != nil || now-before >= 50*time.Millisecond {
			break
		}
	}
	f, err := m.stop()
	if err != nil || f["cpu self"] < 0.04 || f["cpu"] != f["cpu self"] || f["wall"] <= 0 {
		t.Errorf("figures = %v, %v", f, err)
	}
	if _, ok := f["cpu none"]; ok {
		t.Errorf("a process that isn't there has figures: %v", f)
	}
	if peak, err := peakOf(os.Getpid()); err != nil || peak < 1 {
		t.Errorf("peak = %g, %v", peak, err)
	}
}

func TestLedger(t *testing.T) {
	var l ledger
	at := time.Now()
	l.committed[0] = []time.Time{at, at.Add(time.Second)}
	l.seen[0] = []time.Time{at.Add(time.Millisecond)}
	if l.complete() {
		t.Error("complete, with one not seen")
	}
	l.seen[0] = append(l.seen[0], at.Add(1250*time.Millisecond))
	if got := l.lags(at.Add(500 * time.Millisecond)); !l.complete() || len(got) != 1 || got[0] != 250 {
		t.Errorf("lags = %v", got)
	}
}
