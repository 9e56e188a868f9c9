// Command bench copies a million sysbench-shaped rows (two tables, an integer primary key, a key on k) from one MySQL
// to another on this machine, with tablehaul in a process of its own, and by the server's own means as a yardstick: SELECT INTO
// OUTFILE and LOAD DATA INFILE, keys added afterwards. It prints wall time, CPU seconds of every process, and the peak memory
// of tablehaul's process, as medians of several rounds and as ratios of the same run.
//
//	make bench                        # a million rows, three rounds
//	go run ./bench -rows 100000 -rounds 1
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
)

func main() {
	if addr := os.Getenv(workerEnv); addr != "" {
		if err := work(addr); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			os.Exit(1)
		}
		return
	}
	rows := flag.Int("rows", 1_000_000, "rows in all, in two tables")
	rounds := flag.Int("rounds", 3, "rounds; the medians are printed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *rows, *rounds)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figures are what one copy took.
type figures struct {
	wall                   time.Duration
	source, target, worker time.Duration // CPU
	rss                    int64         // bytes
}

func run(ctx context.Context, rows, rounds int) error {
	fmt.Printf("filling the source with %d rows\n", rows)
	b, err := newBench(ctx, rows)
	if err != nil {
		return err
	}
	defer b.close()
	var limit, ours []figures
	for i := range rounds {
		fmt.Printf("round %d of %d\n", i+1, rounds)
		f, err := b.byServer(ctx)
		if err != nil {
			return fmt.Errorf("by the server: %w", err)
		}
		limit = append(limit, f)
		if f, err = b.byTablehaul(ctx); err != nil {
			return fmt.Errorf("by tablehaul: %w", err)
		}
		ours = append(ours, f)
	}
	l, o := median(limit), median(ours)
	fmt.Printf("\n%d rows, medians of %d rounds\n%-28s %9s %9s %12s %12s %12s %9s\n", rows, rounds, "", "wall s", "rows/s", "source CPU", "target CPU", "library CPU", "peak MiB")
	for _, r := range []struct {
		name string
		f    figures
	}{{"OUTFILE + LOAD DATA INFILE", l}, {"tablehaul", o}} {
		fmt.Printf("%-28s %9.1f %9.0f %12.1f %12.1f %12.1f %9.0f\n", r.name, r.f.wall.Seconds(), float64(rows)/r.f.wall.Seconds(),
			r.f.source.Seconds(), r.f.target.Seconds(), r.f.worker.Seconds(), float64(r.f.rss)/(1<<20))
	}
	fmt.Printf("ratio tablehaul / server: wall %.2f, CPU of all processes %.2f\n",
		o.wall.Seconds()/l.wall.Seconds(), (o.source+o.target+o.worker).Seconds()/(l.source+l.target).Seconds())
	return nil
}

func median(all []figures) figures {
	pick := func(f func(figures) int64) int64 {
		v := make([]int64, len(all))
		for i := range all {
			v[i] = f(all[i])
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return figures{
		wall:   time.Duration(pick(func(f figures) int64 { return int64(f.wall) })),
		source: time.Duration(pick(func(f figures) int64 { return int64(f.source) })),
		target: time.Duration(pick(func(f figures) int64 { return int64(f.target) })),
		worker: time.Duration(pick(func(f figures) int64 { return int64(f.worker) })),
		rss:    pick(func(f figures) int64 { return f.rss }),
	}
}

// work is the worker process.
func work(addr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ts, err := openTopology(ctx, addr)
	if err != nil {
		return err
	}
	defer ts.Close() //nolint:errcheck // the process ends
	m, err := migrate.New(ts, login, migrate.Options{PollInterval: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	defer m.Close() //nolint:errcheck // the process ends
	return m.Run(ctx)
}
