// Command bench measures tablehaul on throwaway MySQL servers of this machine, side by side with other ways to do the same, in one run:
//
//	a  copy of a million sysbench rows, against the server's own files (SELECT INTO OUTFILE, LOAD DATA INFILE, keys afterwards),
//	   mysqldump | mysql, and mydumper with myloader
//	b  catch-up of a backlog of write transactions, against a native replica with four workers
//	c  lag in the steady state: from the commit on the source to when a reader of the target sees it
//	d  cost per row, from 0.1 million rows upwards
//	e  cost on the source: read views, locks, statements, and the latency of its load with and without the copy
//	f  cost on the source of 1, 2, 4 and 8 target shards: statements, rows, bytes, CPU
//
// It prints wall time, CPU seconds of every process and the peak memory of tablehaul's, which runs in a process of its own: medians
// of several rounds, and ratios within the same run. The whole takes about 25 minutes on two idle cores.
//
//	make bench                                          # everything
//	make bench BENCHFLAGS='-only b -rounds 1'           # one part, one round
//	make bench BENCHFLAGS='-only d -sizes 0.1,1,30'     # thirty million rows: 6 GB on each server
//	make bench BENCHFLAGS='-only b -profile /tmp/prof'  # CPU profiles as well
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

func main() {
	if text := os.Getenv(roleEnv); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.only, "only", "abcdef", "the parts to run, by their letters")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each measurement; the medians are printed")
	flag.IntVar(&o.rows, "rows", 1_000_000, "a, e, f: rows in all, in two tables")
	flag.IntVar(&o.backlog, "backlog", 40_000, "b: transactions in the backlog")
	flag.IntVar(&o.tableRows, "table-rows", 200_000, "b, c: rows in each of the two tables")
	flag.IntVar(&o.rate, "rate", 500, "c: transactions per second")
	flag.DurationVar(&o.steady, "steady", 20*time.Second, "c: how long each round measures")
	flag.Func("sizes", "d: `millions` of rows, smallest first (default 0.1,1,3,10)", o.setSizes)
	flag.Func("shards", "f: `numbers` of target shards, powers of two (default 1,2,4,8)", o.setShards)
	flag.IntVar(&o.loadRate, "load-rate", 200, "e: transactions per second of the load")
	flag.DurationVar(&o.quiet, "quiet", 10*time.Second, "e: how long the load runs in each phase without a copy")
	flag.StringVar(&o.json, "json", "", "`file` that gets all figures of all rounds as JSON")
	flag.StringVar(&o.profile, "profile", "", "`folder` for CPU profiles of tablehaul and, if perf is there, of the target (b: the replica too; e: a record of the scheduler); costs some CPU itself")
	flag.StringVar(&o.memory, "memory", "", "`folder` for the files of all servers, such as /dev/shm: measures without the disk")
	flag.IntVar(&o.stream.Readers, "readers", 0, "tablehaul's readers; 0 is its default")
	flag.IntVar(&o.stream.ChunkBytes, "chunk", 0, "tablehaul's chunk size in bytes; 0 is its default")
	flag.IntVar(&o.workers, "workers", 0, "tablehaul's connections to the target; 0 is its default")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line's.
type options struct {
	only                  string
	rounds, rows          int
	backlog, tableRows    int
	rate                  int
	steady                time.Duration
	sizes                 []float64
	shards                []int
	loadRate              int
	quiet                 time.Duration
	json, profile, memory string
	stream                replication.Options
	workers               int
}

func (o *options) setSizes(text string) error {
	o.sizes = nil
	for s := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || n <= 0 {
			return fmt.Errorf("%q is no number of millions", s)
		}
		o.sizes = append(o.sizes, n)
	}
	return nil
}

func (o *options) setShards(text string) error {
	o.shards = nil
	for s := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 256 || n&(n-1) != 0 {
			return fmt.Errorf("%q is no power of two up to 256", s)
		}
		o.shards = append(o.shards, n)
	}
	return nil
}

func run(ctx context.Context, o options) error {
	for _, letter := range o.only {
		if !strings.ContainsRune("abcdef", letter) {
			return fmt.Errorf("-only %q: want letters of a to f", o.only)
		}
	}
	if len(o.shards) == 0 {
		o.shards = []int{1, 2, 4, 8}
	}
	if len(o.sizes) == 0 {
		o.sizes = []float64{0.1, 1, 3, 10}
	}
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return err
		}
	}
	if o.memory != "" {
		if err := os.Setenv("TMPDIR", o.memory); err != nil { // where replicationtest makes its folders
			return err
		}
	}
	r := &report{Began: time.Now(), CPUs: runtime.NumCPU()}
	parts := []struct {
		name string
		run  func(context.Context, options, *part) error
	}{{"a", copyPart}, {"b", catchUpPart}, {"c", steadyPart}, {"d", costPart}, {"e", sourcePart}, {"f", shardsPart}}
	for _, each := range parts {
		if !strings.Contains(o.only, each.name) {
			continue
		}
		p := &part{Name: each.name}
		began := time.Now()
		if err := each.run(ctx, o, p); err != nil {
			return fmt.Errorf("part %s: %w", each.name, err)
		}
		p.note("this part took %.0f s", time.Since(began).Seconds())
		p.print(os.Stdout)
		r.Parts = append(r.Parts, p)
	}
	if o.json != "" {
		return r.save(o.json)
	}
	return nil
}

// progress tells what is being done; the tables go to standard output alone.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "  ... "+format+"\n", args...) }

// child is the main function of a process that has a role.
func child(text string) (err error) {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if r.Load != nil {
		return r.Load.run(ctx)
	}
	if r.Busy {
		occupy(ctx)
		return nil
	}
	if r.Profile != "" {
		f, err := os.Create(r.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
		defer func() { err = errors.Join(err, writeAllocations(r.Profile+".allocs")) }()
	}
	return work(ctx, r)
}

// writeAllocations writes where memory was allocated, since the start of the process.
func writeAllocations(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}
