package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// nativeArgs make a server a replica that applies with four workers and keeps the order of commits.
var nativeArgs = []string{"--replica-parallel-workers=4", "--replica-preserve-commit-order=ON", "--skip-replica-start"}

// catchUpPart measures how long it takes to apply a backlog, by tablehaul and by a native replica.
func catchUpPart(ctx context.Context, o options, p *part) error {
	p.Title = fmt.Sprintf("catch-up of %d oltp_write_only transactions on 2 x %d rows", o.backlog, o.tableRows)
	p.columns = append(processColumns("source", "target", "library"), column{"lib MiB", "peak library", 0}, column{"tx/s", "rate", 0})
	c, err := newCatchUp(ctx, o)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.prepare(ctx); err != nil {
		return err
	}
	if p.Settings, err = c.settings(ctx); err != nil {
		return err
	}
	var ours, theirs []figures
	for i := range o.rounds {
		progress("round %d of %d: writing the backlog", i+1, o.rounds)
		if err := c.backlog(ctx, i+1); err != nil {
			return err
		}
		// One at a time, the other one first every time.
		runs := []func() error{
			func() error { f, err := c.tablehaul(ctx, i+1); ours = append(ours, f); return err },
			func() error { f, err := c.replica(ctx, i+1); theirs = append(theirs, f); return err },
		}
		if i%2 == 1 {
			slices.Reverse(runs)
		}
		for _, run := range runs {
			if err := run(); err != nil {
				return err
			}
		}
		all := append(slices.Clone(tables), "mark")
		if err := errors.Join(checksums(ctx, c.src, c.dst, "sbtest", "commerce", all), checksums(ctx, c.src, c.native, "sbtest", "sbtest", all)); err != nil {
			return fmt.Errorf("after the catch-up: %w", err)
		}
	}
	p.add("native replica, 4 workers", theirs)
	p.add("tablehaul", ours)
	p.ratios("native replica, 4 workers")
	n, t := p.Lines[0].Median, p.Lines[1].Median
	p.note("tablehaul is %.1f times as fast as the replica, with %.2f of its CPU; target and library alone %.2f of the replica server's",
		n["wall"]/t["wall"], t["cpu"]/n["cpu"], (t["cpu target"]+t["cpu library"])/n["cpu target"])
	p.note("time is from Start (START REPLICA) until a reader polling every 10 ms sees the row that the backlog's last transaction wrote; after every round the checksums of all tables agree on the three servers")
	p.note("the replica's coordinator spins while no worker is free, so its CPU follows its wall time: on a machine that does other things as well it is far too high")
	return nil
}

// catchUp is a lab with a native replica beside the target.
type catchUp struct {
	*lab
	native *replicationtest.Server
}

func newCatchUp(ctx context.Context, o options) (*catchUp, error) {
	l, err := newLab(ctx, o, labOptions{})
	if err != nil {
		return nil, err
	}
	native, err := startServer(ctx, nativeArgs...)
	if err != nil {
		l.close()
		return nil, err
	}
	return &catchUp{lab: l, native: native}, nil
}

func (c *catchUp) close() {
	_ = c.native.Close()
	c.lab.close()
}

// settings adds those of the replica.
func (c *catchUp) settings(ctx context.Context) ([]string, error) {
	s, err := c.lab.settings(ctx)
	return append(s, "native replica: the same and "+strings.Join(nativeArgs, " ")+", GTID auto position"), err
}

// prepare gives both targets the same rows, and stops both.
func (c *catchUp) prepare(ctx context.Context) error {
	err := c.native.Exec(ctx, fmt.Sprintf(`CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%d, SOURCE_USER='root', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1`,
		c.src.Host, c.src.Port))
	if err != nil {
		return err
	}
	if err := errors.Join(fill(ctx, c.src, 2*c.opts.tableRows, true), addMarks(ctx, c.src)); err != nil {
		return err
	}
	if err := c.src.Exec(ctx, "INSERT INTO sbtest.mark VALUES (0, 0)"); err != nil {
		return err
	}
	progress("copying")
	w, err := c.worker(ctx, "", true)
	if err != nil {
		return err
	}
	if _, err := w.await(ctx, string(migrate.StateRunning)); err != nil {
		return errors.Join(err, w.stop())
	}
	if err := errors.Join(c.m.Workflow(workflow).Stop(ctx), w.stop()); err != nil {
		return err
	}
	if err := c.native.Exec(ctx, "START REPLICA"); err != nil {
		return err
	}
	if err := c.awaitNative(ctx, 0); err != nil {
		return err
	}
	return c.native.Exec(ctx, "STOP REPLICA")
}

// backlog writes transactions with both stopped, and a last one that a reader can recognise.
func (c *catchUp) backlog(ctx context.Context, round int) error {
	// Without waiting for the disk, for the sake of the benchmark's own time. The log is the same.
	if err := c.src.Exec(ctx, "SET GLOBAL sync_binlog=0, GLOBAL innodb_flush_log_at_trx_commit=2"); err != nil {
		return err
	}
	if err := writeBacklog(ctx, c.src, c.opts.tableRows, c.opts.backlog); err != nil {
		return err
	}
	return c.src.Exec(ctx, fmt.Sprintf("SET GLOBAL sync_binlog=1, GLOBAL innodb_flush_log_at_trx_commit=1; INSERT INTO sbtest.mark VALUES (0, %d)", round))
}

// tablehaul measures a catch-up by a process of tablehaul that is already there, as the replica's server is.
func (c *catchUp) tablehaul(ctx context.Context, round int) (figures, error) {
	progress("catch-up by tablehaul")
	name := fmt.Sprintf("catchup-%d", round)
	w, err := c.worker(ctx, name, false)
	if err != nil {
		return nil, err
	}
	f, err := c.measureOurs(ctx, w, name, round)
	if err == nil {
		err = c.m.Workflow(workflow).Stop(ctx)
	}
	return f, errors.Join(err, w.stop())
}

func (c *catchUp) measureOurs(ctx context.Context, w *worker, name string, round int) (figures, error) {
	if _, err := w.await(ctx, "ready"); err != nil {
		return nil, err
	}
	defer c.profile(ctx, name+".target", c.dst)()
	pids := c.pids()
	pids["library"] = w.pid()
	m, err := newMeter(pids)
	if err != nil {
		return nil, err
	}
	if err := c.m.Workflow(workflow).Start(ctx); err != nil {
		return nil, err
	}
	if err := awaitMark(ctx, c.dst, "commerce", round, nil); err != nil {
		return nil, err
	}
	return c.done(m, w.pid())
}

func (c *catchUp) done(m *meter, library int) (figures, error) {
	f, err := m.stop()
	if err != nil {
		return nil, err
	}
	f["rate"] = float64(c.opts.backlog) / f["wall"]
	if library != 0 {
		f["peak library"], err = peakOf(library)
	}
	return f, err
}

// replica measures the native replica's catch-up.
func (c *catchUp) replica(ctx context.Context, round int) (figures, error) {
	progress("catch-up by the native replica")
	defer c.profile(ctx, fmt.Sprintf("catchup-%d.replica", round), c.native)()
	m, err := newMeter(map[string]int{"source": c.src.PID(), "target": c.native.PID()})
	if err != nil {
		return nil, err
	}
	if err := c.native.Exec(ctx, "START REPLICA"); err != nil {
		return nil, err
	}
	if err := c.awaitNative(ctx, round); err != nil {
		return nil, err
	}
	f, err := c.done(m, 0)
	return f, errors.Join(err, c.native.Exec(ctx, "STOP REPLICA"))
}

func (c *catchUp) awaitNative(ctx context.Context, round int) error {
	db, err := c.native.Open("")
	if err != nil {
		return err
	}
	defer db.Close()
	return awaitMark(ctx, c.native, "sbtest", round, func() error { return replicaError(ctx, db) })
}

// replicaError is what has stopped a native replica, if anything.
func replicaError(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SHOW REPLICA STATUS")
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil || !rows.Next() {
		return errors.Join(err, rows.Err())
	}
	values, into := make([]sql.RawBytes, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return err
	}
	for i, n := range names {
		if (n == "Last_IO_Error" || n == "Last_SQL_Error") && len(values[i]) > 0 {
			return fmt.Errorf("native replica: %s", values[i])
		}
	}
	return rows.Err()
}

// awaitMark waits until a reader of the database sees the mark of a round. Once a second it calls check, if there is one.
func awaitMark(ctx context.Context, s *replicationtest.Server, database string, round int, check func() error) error {
	db, err := s.Open("")
	if err != nil {
		return err
	}
	defer db.Close()
	checked := time.Now()
	return poll(ctx, 10*time.Millisecond, func() (bool, error) {
		if check != nil && time.Since(checked) > time.Second {
			if err := check(); err != nil {
				return false, err
			}
			checked = time.Now()
		}
		return seen(ctx, db, database, round)
	})
}

func seen(ctx context.Context, db *sql.DB, database string, round int) (bool, error) {
	var n int
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+database+".mark WHERE w=0 AND seq=?", round).Scan(&n)
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok && (e.Number == 1049 || e.Number == 1146) {
		return false, nil // the database or the table isn't there yet
	}
	return n == 1, err
}
