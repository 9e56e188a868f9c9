package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/serverbin"
	"github.com/tablehaul/tablehaul/migrate"
)

// other is the database on the target that everything but tablehaul copies into.
const other = "plain"

// limitTurns is how often the limit and tablehaul have their turn in a round, and the others once: the machine is noisier than the two differ.
const limitTurns = 3

// A way is one way to copy the database sbtest; without copy it is tablehaul's. It puts figures of its own into f.
type way struct {
	name  string
	turns int // in a round
	copy  func(ctx context.Context, f figures) error
}

// copyPart measures a copy of the whole database by several ways.
func copyPart(ctx context.Context, o options, p *part) error {
	p.Title = fmt.Sprintf("copy of %d sysbench rows in two tables with a secondary key", o.rows)
	p.columns = append(processColumns("source", "target", "client", "library"), column{"client MiB", "peak client", 0}, column{"lib MiB", "peak library", 0})
	l, err := newLab(ctx, o, labOptions{})
	if err != nil {
		return err
	}
	defer l.close()
	if p.Settings, err = l.settings(ctx); err != nil {
		return err
	}
	if err := fill(ctx, l.src, o.rows, false); err != nil {
		return err
	}
	ways := []way{{"OUTFILE + LOAD DATA INFILE", limitTurns, l.byFiles}, {"tablehaul", limitTurns, nil}, {"mysqldump | mysql", 1, l.mysqldump}}
	if b, err := serverbin.Fetch(ctx, serverbin.Mydumper, nil); err != nil {
		p.note("left out: mydumper + myloader: %v", err)
	} else {
		p.Settings = append(p.Settings, "mydumper "+b.Version+", 4 threads, and myloader, 4 threads, with the binary log on")
		ways = append(ways, way{"mydumper + myloader", 1, l.mydumper})
	}
	rounds := map[string][]figures{}
	for i := range limitTurns * o.rounds {
		for _, w := range ways {
			if i%limitTurns >= w.turns || i > 0 && rounds[w.name] == nil {
				continue // not its turn, or it failed the first time
			}
			progress("%s, %d", w.name, len(rounds[w.name])+1)
			f, err := l.copyBy(ctx, w, fmt.Sprintf("copy-%s-%d", strings.Fields(w.name)[0], i+1), i == 0)
			if err != nil && w.name == "mydumper + myloader" && ctx.Err() == nil {
				p.note("left out: %s: %v", w.name, err)
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			rounds[w.name] = append(rounds[w.name], f)
		}
	}
	for _, w := range ways {
		if r := rounds[w.name]; r != nil {
			p.add(w.name, r)
		}
	}
	p.ratios(ways[0].name)
	p.note("x: as parts of the server's own files, which are the practical limit: both tables at once, no client, keys added at the end")
	p.note("medians of %d turns of the first two ways, one after the other, and of %d of the rest; before each the servers write down what the one before has left",
		limitTurns*o.rounds, o.rounds)
	for _, name := range []string{"wall", "cpu"} {
		var x []float64
		for i, f := range rounds["tablehaul"] {
			x = append(x, f[name]/rounds[ways[0].name][i][name])
		}
		p.note("turn by turn, tablehaul's %s is %.2f of the limit's (median; %.2f to %.2f)", name, percentile(x, 50), percentile(x, 0), percentile(x, 100))
	}
	p.note("tablehaul's time begins before the start of its process and Create, and ends with the state Running; the checksums of every way's tables were compared in the first round")
	return nil
}

// copyBy measures one way, into an empty database, on servers that have nothing else to do.
func (l *lab) copyBy(ctx context.Context, w way, profile string, compare bool) (figures, error) {
	if err := l.settle(ctx); err != nil {
		return nil, err
	}
	if w.copy == nil {
		return l.byTablehaul(ctx, profile, compare)
	}
	if err := l.dst.Exec(ctx, "DROP DATABASE IF EXISTS "+other+"; CREATE DATABASE "+other); err != nil {
		return nil, err
	}
	m, err := newMeter(l.pids())
	if err != nil {
		return nil, err
	}
	own := figures{}
	stop := l.profile(ctx, profile+".target", l.dst)
	err = w.copy(ctx, own)
	f, stopped := m.stop() // before the profile is written
	stop()
	if err := errors.Join(err, stopped); err != nil {
		return nil, err
	}
	for name, v := range own {
		f[name] = v
	}
	f["cpu"] = f.total()
	if compare {
		err = checksums(ctx, l.src, l.dst, "sbtest", other, tables)
	}
	return f, errors.Join(err, l.dst.Exec(ctx, "DROP DATABASE "+other))
}

// byFiles copies through files that the servers write and read, both tables at once.
func (l *lab) byFiles(ctx context.Context, _ figures) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range tables {
		g.Go(func() error {
			file := filepath.Join(l.dir, t)
			if err := l.src.Exec(ctx, fmt.Sprintf("SELECT * FROM sbtest.%s INTO OUTFILE '%s'", t, file)); err != nil {
				return err
			}
			err := l.dst.Exec(ctx, fmt.Sprintf("USE %s; CREATE TABLE %s (%s); LOAD DATA INFILE '%s' INTO TABLE %s; ALTER TABLE %s ADD KEY k_1 (k)", other, t, columns, file, t, t))
			return errors.Join(err, os.Remove(file))
		})
	}
	return g.Wait()
}

// byTablehaul lets a worker process copy everything.
func (l *lab) byTablehaul(ctx context.Context, profile string, compare bool) (figures, error) {
	pids := l.pids()
	pids["etcd"] = l.etcd.PID()
	m, err := newMeter(pids)
	if err != nil {
		return nil, err
	}
	w, err := l.worker(ctx, profile, true)
	if err != nil {
		return nil, err
	}
	stop := l.profile(ctx, profile+".target", l.dst)
	m.add("library", w.pid())
	f, err := copied(ctx, w, m)
	stop()
	if err = errors.Join(err, w.stop()); err != nil {
		return nil, err
	}
	if compare {
		if err := checksums(ctx, l.src, l.dst, "sbtest", "commerce", tables); err != nil {
			return nil, err
		}
	}
	_, err = l.m.Workflow(workflow).Cancel(ctx, migrate.CancelOptions{})
	return f, err
}

// copied stops the meter when the worker has told that everything is copied.
func copied(ctx context.Context, w *worker, m *meter) (figures, error) {
	if _, err := w.await(ctx, string(migrate.StateRunning)); err != nil {
		return nil, err
	}
	f, err := m.stop()
	if err != nil {
		return nil, err
	}
	f["peak library"], err = peakOf(w.pid())
	return f, err
}

// costPart measures the cost of a row at several sizes.
func costPart(ctx context.Context, o options, p *part) error {
	p.Title = "cost per row of a copy by tablehaul"
	p.columns = []column{
		{"wall s", "wall", 2},
		{"CPU s", "cpu", 2},
		{"CPU s/M", "cpu per million", 2},
		{"source/M", "source per million", 2},
		{"target/M", "target per million", 2},
		{"library/M", "library per million", 2},
		{"wall s/M", "wall per million", 2},
		{"lib MiB", "peak library", 0},
		{"CPU/row x", "cpu ratio", 2},
		{"wall/row x", "wall ratio", 2},
		{"beyond", "beyond", 2},
		{"beyond x", "beyond ratio", 2},
	}
	for _, millions := range append([]float64{0}, o.sizes...) {
		if err := costOf(ctx, o, p, millions); err != nil {
			return fmt.Errorf("%g million rows: %w", millions, err)
		}
	}
	fixed, first := p.Lines[0].Median, p.Lines[1].Median
	for _, l := range p.Lines[1:] {
		for _, name := range []string{"cpu", "wall"} {
			l.Median[name+" ratio"] = l.Median[name+" per million"] / first[name+" per million"]
		}
		l.Median["beyond"] = (l.Median["cpu"] - fixed["cpu"]) / l.Median["millions"]
		l.Median["beyond ratio"] = l.Median["beyond"] / p.Lines[1].Median["beyond"]
	}
	p.note("x: as parts of the smallest size's. Beyond: the CPU s/M without what a workflow of two rows takes, the first line")
	return nil
}

// costOf measures one size on servers of its own, which leave nothing on the disk.
func costOf(ctx context.Context, o options, p *part, millions float64) error {
	l, err := newLab(ctx, o, labOptions{})
	if err != nil {
		return err
	}
	defer l.close()
	if p.Settings, err = l.settings(ctx); err != nil {
		return err
	}
	if err := fill(ctx, l.src, max(int(millions*1e6), len(tables)), false); err != nil {
		return err
	}
	var all []figures
	for i := range rounds(o, millions) {
		progress("%g million rows, round %d", millions, i+1)
		f, err := l.byTablehaul(ctx, fmt.Sprintf("cost-%g-%d", millions, i+1), i == 0)
		if err != nil {
			return err
		}
		f["millions"] = millions
		for _, name := range []string{"cpu", "cpu source", "cpu target", "cpu library", "wall"} {
			if millions == 0 {
				break
			}
			f[strings.TrimPrefix(name, "cpu ")+" per million"] = f[name] / millions
		}
		all = append(all, f)
	}
	name := fmt.Sprintf("%g million rows", millions)
	if millions == 0 {
		name = "two rows"
	}
	p.add(name, all)
	return nil
}

// rounds are fewer where one takes long, and more where one second of noise is much.
func rounds(o options, millions float64) int {
	switch {
	case millions > 3:
		return 1
	case millions < 1:
		return 4 * o.rounds
	}
	return o.rounds
}
