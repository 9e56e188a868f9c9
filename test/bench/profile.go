package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// profile records, with -profile, what a server does until stop is called: its CPU with the system's perf, if it is there, and what its
// connections are at, sampled every 20 ms, which tells what they wait for.
func (l *lab) profile(ctx context.Context, name string, s *replicationtest.Server) (stop func()) {
	if l.opts.profile == "" {
		return func() {}
	}
	file := filepath.Join(l.opts.profile, name)
	states, ended := make(chan error, 1), make(chan struct{})
	go func() { states <- sampleStates(ctx, file+".states", s, ended) }()
	recorded := perf(ctx, "record", "-q", "-F", "299", "-g", "-p", strconv.Itoa(s.PID()), "-o", file+".perf")
	return func() {
		recorded()
		close(ended)
		if err := <-states; err != nil {
			progress("no samples of the server's connections: %v", err)
		}
	}
}

// schedule records, with -profile, who runs and who waits for a core until stop is called; perf sched timehist shows it.
func (l *lab) schedule(ctx context.Context, name string) (stop func()) {
	if l.opts.profile == "" {
		return func() {}
	}
	return perf(ctx, "sched", "record", "-o", filepath.Join(l.opts.profile, name+".sched"))
}

// perf runs the system's perf, if it is there, until stop is called.
func perf(ctx context.Context, args ...string) (stop func()) {
	cmd := exec.CommandContext(ctx, "perf", args...)
	if err := cmd.Start(); err != nil {
		progress("no perf %s: %v", args[0], err)
		return func() {}
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait() // it ends by the signal
	}
}

// sampleStates counts what the server's connections are seen at, and writes it to a file, the most frequent first.
func sampleStates(ctx context.Context, file string, s *replicationtest.Server, ended <-chan struct{}) error {
	db, err := s.Open("")
	if err != nil {
		return err
	}
	defer db.Close()
	seen, looks := map[string]int{}, 0
	err = poll(ctx, 20*time.Millisecond, func() (bool, error) {
		select {
		case <-ended:
			return true, nil
		default:
		}
		looks++
		rows, err := db.QueryContext(ctx, "SELECT COMMAND, COALESCE(STATE, ''), LEFT(COALESCE(INFO, ''), 40) FROM information_schema.processlist WHERE ID <> CONNECTION_ID()")
		if err != nil {
			return false, err
		}
		defer rows.Close()
		for rows.Next() {
			var command, state, info string
			if err := rows.Scan(&command, &state, &info); err != nil {
				return false, err
			}
			seen[fmt.Sprintf("%-12s %-45s %s", command, state, strings.Join(strings.Fields(info), " "))]++
		}
		return false, rows.Err()
	})
	if err != nil {
		return err
	}
	out := fmt.Sprintf("connections per sample, of %d samples\n", looks)
	for _, k := range slices.SortedFunc(maps.Keys(seen), func(a, b string) int { return seen[b] - seen[a] }) {
		out += fmt.Sprintf("%7.3f %s\n", float64(seen[k])/float64(looks), k)
	}
	return os.WriteFile(file, []byte(out), 0o644)
}
