package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figures are what one measurement gave, by name: "wall" in seconds, "cpu source" in CPU seconds, "peak library" in MiB.
type figures map[string]float64

// median takes every figure's median of several rounds. Of an even number it is the lower one.
func median(rounds []figures) figures {
	out := figures{}
	for _, f := range rounds {
		for name := range f {
			out[name] = 0
		}
	}
	for name := range out {
		var values []float64
		for _, f := range rounds {
			values = append(values, f[name])
		}
		out[name] = percentile(values, 50)
	}
	return out
}

// percentile sorts values and returns the smallest one that p percent of them don't exceed.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	i := int(float64(len(values))*p/100+0.9999999) - 1
	return values[min(max(i, 0), len(values)-1)]
}

// total adds up the CPU seconds of every process.
func (f figures) total() float64 {
	var sum float64
	for name, v := range f {
		if strings.HasPrefix(name, "cpu ") {
			sum += v
		}
	}
	return sum
}

// A meter measures wall time and the CPU time of processes from when it was made.
type meter struct {
	began  time.Time
	pids   map[string]int
	before map[string]time.Duration
}

// newMeter begins to measure. A process of pid 0 is not measured.
func newMeter(pids map[string]int) (*meter, error) {
	m := &meter{pids: map[string]int{}, before: map[string]time.Duration{}}
	for name, pid := range pids {
		if pid == 0 {
			continue
		}
		used, err := cpuOf(pid)
		if err != nil {
			return nil, err
		}
		m.pids[name], m.before[name] = pid, used
	}
	m.began = time.Now()
	return m, nil
}

// add counts a process that was started after the meter was made.
func (m *meter) add(name string, pid int) { m.pids[name] = pid }

// stop returns "wall", "cpu NAME" of every process, and "cpu", their sum.
func (m *meter) stop() (figures, error) {
	f := figures{"wall": time.Since(m.began).Seconds()}
	for name, pid := range m.pids {
		used, err := cpuOf(pid)
		if err != nil {
			return nil, err
		}
		f["cpu "+name] = (used - m.before[name]).Seconds()
	}
	f["cpu"] = f.total()
	return f, nil
}

// cpuOf is the CPU time that all threads of a process have used, user and system, from /proc.
func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// After the name, which may hold anything but ends with the last parenthesis, utime and stime are fields 14 and 15.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil // USER_HZ is 100
}

// peakOf is the most memory that a process has had, in MiB. rusage would not do: a child's maximum there begins
// with that of the process which started it.
func peakOf(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has ended", pid)
}
