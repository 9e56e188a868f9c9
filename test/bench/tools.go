package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/serverbin"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// A tool is a client program on its way.
type tool struct {
	cmd *exec.Cmd
	out bytes.Buffer // what it said, but for what it pipes
}

func newTool(ctx context.Context, argv, env []string) *tool {
	t := &tool{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	t.cmd.Env, t.cmd.Stdout, t.cmd.Stderr = append(os.Environ(), env...), &t.out, &t.out
	return t
}

// runTools runs programs to their end, each one's standard output piped into the next, and adds what they took to f: "cpu client" with
// the programs that they started, and "peak client", the largest one's.
func runTools(ctx context.Context, f figures, all ...*tool) error {
	for i := range len(all) - 1 {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer r.Close()
		defer w.Close()
		all[i].cmd.Stdout, all[i+1].cmd.Stdin = w, r
	}
	var errs []error
	var started []*tool
	for _, t := range all {
		if err := t.cmd.Start(); err != nil {
			errs = append(errs, err)
			break
		}
		started = append(started, t)
	}
	// The programs alone hold the pipes now, so that the end of one is the end of its output.
	for _, t := range all {
		for _, end := range []any{t.cmd.Stdin, t.cmd.Stdout} {
			if p, ok := end.(*os.File); ok && p != nil {
				_ = p.Close()
			}
		}
	}
	peaks, stop := watchPeaks(ctx, started)
	for _, t := range started {
		if err := t.cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: %s", t.cmd.Path, err, lastLine(t.out.String())))
		}
		f["cpu client"] += (t.cmd.ProcessState.UserTime() + t.cmd.ProcessState.SystemTime()).Seconds()
	}
	stop()
	f["peak client"] = max(f["peak client"], <-peaks)
	return errors.Join(errs...)
}

// watchPeaks looks at the programs' memory until stop is called, then gives the most that one had.
func watchPeaks(ctx context.Context, all []*tool) (peak <-chan float64, stop func()) {
	ctx, stop = context.WithCancel(ctx)
	out := make(chan float64, 1)
	go func() {
		most := 0.0
		_ = poll(ctx, 20*time.Millisecond, func() (bool, error) {
			for _, t := range all {
				if p, err := peakOf(t.cmd.Process.Pid); err == nil {
					most = max(most, p)
				}
			}
			return false, nil
		})
		out <- most
	}()
	return out, stop
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// loginArgs are the options that all of the tools have for a server.
func loginArgs(s *replicationtest.Server) []string {
	return []string{"--host=" + s.Host, "--port=" + strconv.Itoa(s.Port), "--user=root"}
}

// mysqldump pipes mysqldump into mysql.
func (l *lab) mysqldump(ctx context.Context, f figures) error {
	b, err := serverbin.Find(ctx, serverbin.MySQL)
	if err != nil {
		return err
	}
	dump, err := b.Tool("mysqldump", append(append([]string{"--no-defaults"}, loginArgs(l.src)...), "--single-transaction", "--set-gtid-purged=OFF", "sbtest")...)
	if err != nil {
		return err
	}
	load, err := b.Tool("mysql", append(append([]string{"--no-defaults"}, loginArgs(l.dst)...), other)...)
	if err != nil {
		return err
	}
	return runTools(ctx, f, newTool(ctx, dump, nil), newTool(ctx, load, nil))
}

// mydumper runs mydumper, then myloader with the binary log on, as everything else has it.
func (l *lab) mydumper(ctx context.Context, f figures) error {
	b, err := serverbin.Find(ctx, serverbin.Mydumper)
	if err != nil {
		return err
	}
	dir := l.dir + "/mydumper"
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	dump, err := b.Tool("mydumper", append(loginArgs(l.src), "--database=sbtest", "--outputdir="+dir, "--threads=4", "--rows=50000", "--trx-consistency-only")...)
	if err != nil {
		return err
	}
	load, err := b.Tool("myloader", append(loginArgs(l.dst), "--directory="+dir, "--database="+other, "--threads=4", "--enable-binlog", "--overwrite-tables")...)
	if err != nil {
		return err
	}
	if err := runTools(ctx, f, newTool(ctx, dump, b.ToolEnv())); err != nil {
		return err
	}
	return runTools(ctx, f, newTool(ctx, load, b.ToolEnv()))
}
