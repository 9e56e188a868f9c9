package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
)

// serverArgs are the settings of all servers, beyond those of replicationtest.
var serverArgs = []string{"--innodb-buffer-pool-size=1G", "--innodb-redo-log-capacity=1G", "--local-infile=ON"}

// A lab is two servers and a topology, and what is needed to move the database sbtest from one to the other.
type lab struct {
	src, dst *replicationtest.Server
	etcd     *replicationtest.Etcd
	ts       *topo.Server
	m        *migrate.Migrator
	dir      string
	user     string // tablehaul's account on both servers
	opts     options
	// cpu and loadCPU are the cores of tablehaul and of a load; empty is any.
	cpu, loadCPU string
}

// labOptions are what a part needs besides.
type labOptions struct {
	user       string   // tablehaul's account; default root
	sourceArgs []string // settings of the source alone
	// memory is a folder in memory for the target's files; empty is the disk, as for the source.
	memory string
}

// newLab starts everything.
func newLab(ctx context.Context, o options, lo labOptions) (l *lab, err error) {
	l = &lab{opts: o, user: cmp.Or(lo.user, "root")}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.dir, err = os.MkdirTemp("", "tablehaul-bench"); err != nil {
		return nil, err
	}
	if l.src, err = startServer(ctx, lo.sourceArgs...); err != nil {
		return nil, err
	}
	if l.dst, err = startServerIn(ctx, lo.memory); err != nil {
		return nil, err
	}
	if l.user != "root" {
		for _, s := range []*replicationtest.Server{l.src, l.dst} {
			if err = s.CreateUser(ctx, l.user, "", "ALL ON *.*"); err != nil {
				return nil, err
			}
		}
	}
	if l.etcd, err = replicationtest.RunEtcd(ctx, replicationtest.EtcdOptions{}); err != nil {
		return nil, err
	}
	if l.ts, l.m, err = openMigrator(ctx, l.etcd.Addr(), l.user, migrate.Options{}); err != nil {
		return nil, err
	}
	err = errors.Join(
		l.ts.CreateCell(ctx, topo.CellInfo{Name: "zone1", ServerAddress: l.etcd.Addr(), Root: "/vitess/zone1"}),
		l.ts.CreateKeyspace(ctx, topo.Keyspace{Name: "commerce"}),
		l.ts.CreateShard(ctx, "commerce", "0"),
		l.ts.InitTablet(ctx, topo.Tablet{
			Alias: topo.TabletAlias{Cell: "zone1", UID: 100}, Type: topo.TabletPrimary, Keyspace: "commerce", Shard: "0",
			DBNameOverride: "commerce", MySQLHostname: l.dst.Host, MySQLPort: int32(l.dst.Port),
		}),
		mount.Register(ctx, l.ts, mount.Cluster{Name: "ext1", Type: mount.MySQL, Hosts: []string{l.src.Addr()}},
			mount.RegisterOptions{Credentials: mount.Static(mount.Login{User: l.user})}),
	)
	return l, err
}

func startServer(ctx context.Context, args ...string) (*replicationtest.Server, error) {
	return replicationtest.RunMySQL(ctx, replicationtest.MySQLOptions{Args: append(serverArgs[:len(serverArgs):len(serverArgs)], args...)})
}

// startServerIn starts a server whose files are in folder; empty is the usual one.
func startServerIn(ctx context.Context, folder string) (s *replicationtest.Server, err error) {
	if folder == "" {
		return startServer(ctx)
	}
	const name = "TMPDIR" // where replicationtest makes its folders
	usual, had := os.LookupEnv(name)
	if err := os.Setenv(name, folder); err != nil {
		return nil, err
	}
	s, err = startServer(ctx)
	if had {
		return s, errors.Join(err, os.Setenv(name, usual))
	}
	return s, errors.Join(err, os.Unsetenv(name))
}

func (l *lab) close() {
	if l.m != nil {
		_ = l.m.Close()
	}
	if l.ts != nil {
		_ = l.ts.Close()
	}
	if l.etcd != nil {
		_ = l.etcd.Close()
	}
	for _, s := range []*replicationtest.Server{l.src, l.dst} {
		if s != nil {
			_ = s.Close()
		}
	}
	_ = os.RemoveAll(l.dir)
}

// pids are the processes that a move by tablehaul needs, but for tablehaul's own.
func (l *lab) pids() map[string]int {
	return map[string]int{"source": l.src.PID(), "target": l.dst.PID()}
}

// worker starts tablehaul, which makes the workflow itself if told so. With -profile its CPU profile goes to a file of that name.
func (l *lab) worker(ctx context.Context, profile string, create bool) (*worker, error) {
	r := role{Create: create, Etcd: l.etcd.Addr(), User: l.user, Readers: l.opts.stream.Readers, Chunk: l.opts.stream.ChunkBytes, Workers: l.opts.workers}
	if l.opts.profile != "" && profile != "" {
		r.Profile = filepath.Join(l.opts.profile, profile+".library.pprof")
	}
	return startChild(ctx, r, l.cpu)
}

// settings describes the servers, for the report.
func (l *lab) settings(ctx context.Context) ([]string, error) {
	rows, err := l.dst.Query(ctx, `SELECT CONCAT('MySQL ', VERSION(), ', both servers alike: buffer pool ', @@innodb_buffer_pool_size>>20, ' MiB, redo log ',
		@@innodb_redo_log_capacity>>20, ' MiB, sync_binlog=', @@sync_binlog, ', innodb_flush_log_at_trx_commit=', @@innodb_flush_log_at_trx_commit,
		', binlog ', @@binlog_format, ' ', @@binlog_row_image, ', GTID ', @@gtid_mode, ', local_infile=', @@local_infile,
		', performance_schema=', @@performance_schema)`)
	if err != nil {
		return nil, err
	}
	return []string{rows[0][0]}, nil
}

// settle waits until the servers have written their changed pages, and the system its own.
func (l *lab) settle(ctx context.Context) error {
	for _, s := range []*replicationtest.Server{l.src, l.dst} {
		if err := s.Exec(ctx, "SET GLOBAL innodb_max_dirty_pages_pct = 0"); err != nil {
			return err
		}
		err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
			rows, err := s.Query(ctx, "SELECT COUNT < 100 FROM information_schema.innodb_metrics WHERE NAME = 'buffer_pool_pages_dirty'")
			return err == nil && rows[0][0] == "1", err // some are changed all the time
		})
		if err := errors.Join(err, s.Exec(ctx, "SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT; SET GLOBAL innodb_max_dirty_pages_pct_lwm = DEFAULT")); err != nil {
			return err
		}
	}
	syscall.Sync()
	return nil
}

// checksums compares two databases by CHECKSUM TABLE of every table, which reads all rows.
func checksums(ctx context.Context, a, b *replicationtest.Server, databaseA, databaseB string, tables []string) error {
	for _, t := range tables {
		var sums [2]string
		for i, side := range []struct {
			s  *replicationtest.Server
			db string
		}{{a, databaseA}, {b, databaseB}} {
			rows, err := side.s.Query(ctx, fmt.Sprintf("CHECKSUM TABLE %s.%s", side.db, t))
			if err != nil {
				return err
			}
			sums[i] = rows[0][1]
		}
		if sums[0] != sums[1] || sums[0] == "NULL" {
			return fmt.Errorf("table %s differs: checksum %s at the source, %s at the target", t, sums[0], sums[1])
		}
	}
	return nil
}

// poll calls f every interval until it says yes.
func poll(ctx context.Context, every time.Duration, f func() (bool, error)) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if done, err := f(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}
