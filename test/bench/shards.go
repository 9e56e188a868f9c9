package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

// logChanges is how many rows of each table change after the copy, in transactions of a thousand.
const logChanges = 50_000

// sourceCounters are the source's own counters, whoever caused them, by the name of the figure.
var sourceCounters = map[string][]string{
	"selects":   {"Com_select"},
	"rows read": {"Handler_read_first", "Handler_read_key", "Handler_read_last", "Handler_read_next", "Handler_read_prev", "Handler_read_rnd", "Handler_read_rnd_next"},
	"sent":      {"Bytes_sent"},
}

// shardsPart measures what it costs the source, and everybody, to move one shard to several.
func shardsPart(ctx context.Context, o options, p *part) error {
	p.Title = fmt.Sprintf("cost of %d rows from one shard into %v shards, databases of one server; then %d changed rows by the log", o.rows, o.shards, logChanges*len(tables))
	p.columns = append(processColumns("source", "target", "library"),
		column{"lib MiB", "peak library", 0},
		column{"reads", "reads", 0}, column{"selects", "selects", 0}, column{"rows read", "rows read", 0}, column{"copy MB", "copy sent", 1}, column{"log MB", "log sent", 1},
		column{"reads x", "reads ratio", 3}, column{"selects x", "selects ratio", 3}, column{"rows x", "rows read ratio", 3},
		column{"copy MB x", "copy sent ratio", 3}, column{"log MB x", "log sent ratio", 3},
		column{"src CPU x", "cpu source ratio", 2}, column{"lib CPU x", "cpu library ratio", 2}, column{"CPU x", "cpu ratio", 2}, column{"wall x", "wall ratio", 2},
		column{"MiB x", "peak library ratio", 2})
	l, err := newLab(ctx, o, labOptions{user: hauler, sourceArgs: []string{"--performance-schema=ON", "--max-digest-length=4096"}})
	if err != nil {
		return err
	}
	defer l.close()
	if p.Settings, err = l.settings(ctx); err != nil {
		return err
	}
	p.Settings = append(p.Settings, "the source has performance_schema=ON besides")
	if err := fill(ctx, l.src, o.rows, false); err != nil {
		return err
	}
	s := &shardCost{lab: l}
	if s.db, err = l.src.Open(""); err != nil {
		return err
	}
	defer s.db.Close()
	rounds := make(map[int][]figures)
	for i := range o.rounds {
		for _, n := range o.shards {
			progress("round %d of %d: %d shards", i+1, o.rounds, n)
			f, err := s.into(ctx, n, i == 0)
			if err != nil {
				return fmt.Errorf("%d shards: %w", n, err)
			}
			rounds[n] = append(rounds[n], f)
		}
	}
	for _, n := range o.shards {
		p.add(fmt.Sprintf("1 -> %d", n), rounds[n])
	}
	base := p.Lines[0].Median
	for _, line := range p.Lines {
		for _, name := range []string{"reads", "selects", "rows read", "copy sent", "log sent", "cpu source", "cpu library", "cpu", "wall", "peak library"} {
			line.Median[name+" ratio"] = line.Median[name] / base[name]
		}
	}
	p.note("x: as parts of the first line's. Wall, CPU and MiB are of the copy and the %d changes after it, with Create; reads are the SELECTs of the tables' rows, by"+
		" performance_schema's digests, selects all of the source's (Com_select), rows read its Handler_read_*, MB its Bytes_sent", logChanges*len(tables))
	p.note("connections that read the source's log: %.0f for the first line, %.0f for %d shards; the sums of all rows were compared in the first round", base["dumps"],
		p.Lines[len(p.Lines)-1].Median["dumps"], o.shards[len(o.shards)-1])
	return nil
}

// shardCost moves the database sbtest to keyspaces of several numbers of shards.
type shardCost struct {
	*lab
	db *sql.DB
}

// keyspace makes one of n shards, unless it is there.
func (s *shardCost) keyspace(ctx context.Context, n int) (string, error) {
	name := fmt.Sprintf("into%d", n)
	switch _, err := s.ts.Keyspace(ctx, name); {
	case err == nil:
		return name, nil
	case !errors.Is(err, topo.ErrNoNode):
		return "", err
	}
	if err := s.ts.CreateKeyspace(ctx, topo.Keyspace{Name: name}); err != nil {
		return "", err
	}
	for i := range n {
		shard := evenShard(i, n)
		if err := s.ts.CreateShard(ctx, name, shard); err != nil {
			return "", err
		}
		err := s.ts.InitTablet(ctx, topo.Tablet{
			Alias: topo.TabletAlias{Cell: "zone1", UID: uint32(1000*n + i)}, Type: topo.TabletPrimary, Keyspace: name, Shard: shard,
			DBNameOverride: fmt.Sprintf("%s_%d", name, i), MySQLHostname: s.dst.Host, MySQLPort: int32(s.dst.Port),
		})
		if err != nil {
			return "", err
		}
	}
	vs := &topo.VSchema{Sharded: true, Vindexes: map[string]*topo.Vindex{"h": {Type: "hash"}}, Tables: map[string]*topo.Table{}}
	for _, t := range tables {
		vs.Tables[t] = &topo.Table{ColumnVindexes: []topo.ColumnVindex{{Column: "id", Name: "h"}}}
	}
	return name, s.ts.SaveVSchema(ctx, name, vs)
}

// evenShard names shard i of n of one size; n is a power of two.
func evenShard(i, n int) string {
	end := func(i int) string {
		if i == 0 || i == n {
			return ""
		}
		return fmt.Sprintf("%02x", i*256/n)
	}
	return end(i) + "-" + end(i+1)
}

// into measures one move.
func (s *shardCost) into(ctx context.Context, n int, compare bool) (f figures, err error) {
	keyspace, err := s.keyspace(ctx, n)
	if err != nil {
		return nil, err
	}
	if _, err := s.db.ExecContext(ctx, "TRUNCATE performance_schema.events_statements_summary_by_digest"); err != nil {
		return nil, err
	}
	before, err := s.counters(ctx)
	if err != nil {
		return nil, err
	}
	pids := s.pids()
	pids["etcd"] = s.etcd.PID()
	m, err := newMeter(pids)
	if err != nil {
		return nil, err
	}
	w, err := s.worker(ctx, fmt.Sprintf("shards-%d", n), false)
	if err != nil {
		return nil, err
	}
	m.add("library", w.pid())
	wf := s.m.Workflow(keyspace + ".bench")
	copied, logged, err := s.move(ctx, w, wf, n)
	if err == nil {
		f, err = m.stop()
	}
	if err == nil {
		f["peak library"], err = peakOf(w.pid())
	}
	if err = errors.Join(err, w.stop()); err != nil {
		return nil, err
	}
	for name := range sourceCounters {
		f[name] = copied[name] - before[name]
	}
	f["dumps"] = logged["dumps"]
	f["copy sent"], f["log sent"] = (copied["sent"]-before["sent"])/1e6, (logged["sent"]-copied["sent"])/1e6
	if f["reads"], err = s.reads(ctx); err != nil {
		return nil, err
	}
	if compare {
		err = s.compare(ctx, keyspace, n)
	}
	_, cancelErr := wf.Cancel(ctx, migrate.CancelOptions{})
	return f, errors.Join(err, cancelErr)
}

// move copies everything, and has the log bring some changes. It returns the counters after either.
func (s *shardCost) move(ctx context.Context, w *worker, wf *migrate.Workflow, n int) (copied, logged figures, err error) {
	if _, err := wf.Create(ctx, migrate.CreateOptions{Source: "ext1.sbtest", AllTables: true}); err != nil {
		return nil, nil, err
	}
	for range n {
		if _, err := w.await(ctx, string(migrate.StateRunning)); err != nil {
			return nil, nil, err
		}
	}
	if copied, err = s.counters(ctx); err != nil {
		return nil, nil, err
	}
	for _, t := range tables {
		for from := 0; from < logChanges; from += 1000 {
			if _, err := s.db.ExecContext(ctx, fmt.Sprintf("UPDATE sbtest.%s SET k = k + 1 WHERE id > %d AND id <= %d", t, from, from+1000)); err != nil {
				return nil, nil, err
			}
		}
	}
	rows, err := s.src.Query(ctx, "SELECT CONCAT('MySQL56/', @@GLOBAL.gtid_executed)")
	if err != nil {
		return nil, nil, err
	}
	end, err := replication.ParsePosition(rows[0][0])
	if err != nil {
		return nil, nil, err
	}
	if err := wf.WaitApplied(ctx, "0", end); err != nil {
		return nil, nil, err
	}
	if logged, err = s.counters(ctx); err != nil {
		return nil, nil, err
	}
	if rows, err = s.src.Query(ctx, "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_COMMAND LIKE 'Binlog Dump%'"); err != nil {
		return nil, nil, err
	}
	logged["dumps"], err = strconv.ParseFloat(rows[0][0], 64)
	return copied, logged, err
}

// counters are the source's, since its start.
func (s *shardCost) counters(ctx context.Context) (figures, error) {
	f := figures{}
	rows, err := s.src.Query(ctx, "SHOW GLOBAL STATUS")
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		for name, counters := range sourceCounters {
			if slices.Contains(counters, r[0]) {
				v, err := strconv.ParseFloat(r[1], 64)
				if err != nil {
					return nil, err
				}
				f[name] += v
			}
		}
	}
	return f, nil
}

// reads is how many SELECTs of rows of the tables there were since the digests were emptied.
func (s *shardCost) reads(ctx context.Context) (n float64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT COALESCE(SUM(COUNT_STAR), 0) FROM performance_schema.events_statements_summary_by_digest
		WHERE DIGEST_TEXT LIKE 'SELECT%FROM %sbtest%' AND DIGEST_TEXT NOT LIKE '%information_schema%'`).Scan(&n)
	return n, err
}

// compare compares sums over all rows of the source and of all shards.
func (s *shardCost) compare(ctx context.Context, keyspace string, n int) error {
	const sums = "SELECT COUNT(*) n, COALESCE(SUM(id), 0) i, COALESCE(SUM(CRC32(CONCAT_WS(',', id, k, c, pad))), 0) c FROM %s.%s"
	for _, t := range tables {
		all := make([]string, n)
		for i := range n {
			all[i] = fmt.Sprintf(sums, fmt.Sprintf("%s_%d", keyspace, i), t)
		}
		want, err := s.src.Query(ctx, fmt.Sprintf(sums, "sbtest", t))
		if err != nil {
			return err
		}
		have, err := s.dst.Query(ctx, "SELECT SUM(n), SUM(i), SUM(c) FROM ("+strings.Join(all, " UNION ALL ")+") q")
		if err != nil {
			return err
		}
		if !slices.Equal(want[0], have[0]) {
			return fmt.Errorf("table %s differs: %v at the source, %v on the shards", t, want[0], have[0])
		}
	}
	return nil
}
