package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
)

const (
	workerEnv = "TABLEHAUL_BENCH_WORKER"
	root      = "/vitess/global"
	columns   = "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT ''"
)

var (
	tables = []string{"sbtest1", "sbtest2"}
	login  = mount.Static(mount.Login{User: "root"})
)

// bench is two servers, a topology, and the source filled.
type bench struct {
	src, dst *replicationtest.Server
	etcd     *replicationtest.Etcd
	ts       *topo.Server
	m        *migrate.Migrator
	dir      string
}

func newBench(ctx context.Context, rows int) (b *bench, err error) {
	b = &bench{}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.dir, err = os.MkdirTemp("", "tablehaul-bench"); err != nil {
		return nil, err
	}
	opts := replicationtest.MySQLOptions{Args: []string{"--innodb-buffer-pool-size=1G", "--innodb-redo-log-capacity=1G", "--local-infile=ON"}}
	if b.src, err = replicationtest.RunMySQL(ctx, opts); err != nil {
		return nil, err
	}
	if b.dst, err = replicationtest.RunMySQL(ctx, opts); err != nil {
		return nil, err
	}
	if b.etcd, err = replicationtest.RunEtcd(ctx, replicationtest.EtcdOptions{}); err != nil {
		return nil, err
	}
	if b.ts, err = openTopology(ctx, b.etcd.Addr()); err != nil {
		return nil, err
	}
	err = errors.Join(
		b.ts.CreateCell(ctx, topo.CellInfo{Name: "zone1", ServerAddress: b.etcd.Addr(), Root: "/vitess/zone1"}),
		b.ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}),
		b.ts.CreateShard(ctx, "commerce", "0"),
		b.ts.InitTablet(ctx, topo.Tablet{
			Alias: topo.TabletAlias{Cell: "zone1", UID: 100}, Type: topo.TabletPrimary, Keyspace: "commerce", Shard: "0",
			DBNameOverride: "commerce", MySQLHostname: b.dst.Host, MySQLPort: int32(b.dst.Port),
		}),
		mount.Register(ctx, b.ts, mount.Cluster{Name: "ext1", Type: mount.MySQL, Hosts: []string{b.src.Addr()}}, mount.RegisterOptions{Credentials: login}),
	)
	if err != nil {
		return nil, err
	}
	if b.m, err = migrate.New(b.ts, login, migrate.Options{PollInterval: 100 * time.Millisecond}); err != nil {
		return nil, err
	}
	return b, b.fill(ctx, rows)
}

func openTopology(ctx context.Context, addr string) (*topo.Server, error) {
	return topo.Open(ctx, topo.Openers{"etcd2": etcdtopo.Open}, topo.Address{Type: "etcd2", Server: addr, Root: root})
}

func (b *bench) close() {
	if b.m != nil {
		_ = b.m.Close()
	}
	if b.ts != nil {
		_ = b.ts.Close()
	}
	if b.etcd != nil {
		_ = b.etcd.Close()
	}
	for _, s := range []*replicationtest.Server{b.src, b.dst} {
		if s != nil {
			_ = s.Close()
		}
	}
	_ = os.RemoveAll(b.dir)
}

// fill makes the source's rows, of digits in groups as sysbench does.
func (b *bench) fill(ctx context.Context, rows int) error {
	if err := b.src.Exec(ctx, "CREATE DATABASE sbtest"); err != nil {
		return err
	}
	digits := func(groups int) string {
		s := "''"
		for range groups {
			s += ", LPAD(FLOOR(RAND()*1e11), 11, '0'), '-'"
		}
		return "CONCAT(" + s + ")"
	}
	for _, t := range tables {
		err := b.src.Exec(ctx, fmt.Sprintf(`USE sbtest; SET SESSION cte_max_recursion_depth=100000000; CREATE TABLE %s (%s, KEY k_1 (k));
			INSERT INTO %s (k, c, pad) WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i+1 FROM n WHERE i < %d)
			SELECT FLOOR(RAND()*%d), LEFT(%s, 119), LEFT(%s, 59) FROM n`, t, columns, t, rows/len(tables), rows, digits(10), digits(5)))
		if err != nil {
			return err
		}
	}
	return nil
}

// meter measures wall time and the two servers' CPU from now on.
func (b *bench) meter() (stop func(context.Context) (figures, error), err error) {
	before, err := b.cpu()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	return func(context.Context) (figures, error) {
		f := figures{wall: time.Since(began)}
		after, err := b.cpu()
		f.source, f.target = after[0]-before[0], after[1]-before[1]
		return f, err
	}, nil
}

func (b *bench) cpu() (out [2]time.Duration, err error) {
	for i, s := range []*replicationtest.Server{b.src, b.dst} {
		if out[i], err = cpuOf(s.PID()); err != nil {
			return out, err
		}
	}
	return out, nil
}

// cpuOf is the CPU time that a process has used, from /proc.
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

// byServer copies through files, without a client in between.
func (b *bench) byServer(ctx context.Context) (figures, error) {
	if err := b.dst.Exec(ctx, "DROP DATABASE IF EXISTS plain; CREATE DATABASE plain"); err != nil {
		return figures{}, err
	}
	stop, err := b.meter()
	if err != nil {
		return figures{}, err
	}
	for _, t := range tables {
		file := filepath.Join(b.dir, t)
		if err := b.src.Exec(ctx, fmt.Sprintf("SELECT * FROM sbtest.%s INTO OUTFILE '%s'", t, file)); err != nil {
			return figures{}, err
		}
		err := b.dst.Exec(ctx, fmt.Sprintf("USE plain; CREATE TABLE %s (%s); LOAD DATA INFILE '%s' INTO TABLE %s; ALTER TABLE %s ADD KEY k_1 (k)", t, columns, file, t, t))
		if err != nil {
			return figures{}, err
		}
		if err := os.Remove(file); err != nil {
			return figures{}, err
		}
	}
	return stop(ctx)
}

// byTablehaul creates a workflow and lets a worker process run it until everything is copied.
func (b *bench) byTablehaul(ctx context.Context) (figures, error) {
	wf := b.m.Workflow("commerce.bench")
	stop, err := b.meter()
	if err != nil {
		return figures{}, err
	}
	if _, err := wf.Create(ctx, migrate.CreateOptions{Source: "ext1.sbtest", AllTables: true}); err != nil {
		return figures{}, err
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), workerEnv+"="+b.etcd.Addr()), os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return figures{}, err
	}
	for st, err := range wf.Watch(ctx, 50*time.Millisecond) {
		if err == nil && st.State == migrate.StateError {
			err = errors.New(st.Message)
		}
		if err != nil {
			return figures{}, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
		if st.State == migrate.StateRunning {
			break
		}
	}
	f, err := stop(ctx)
	if err != nil {
		return f, err
	}
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
		return f, err
	}
	use := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	f.worker = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	f.rss = use.Maxrss << 10
	_, err = wf.Cancel(ctx, migrate.CancelOptions{})
	return f, err
}
