package test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
	"github.com/tablehaul/tablehaul/replication/target"
)

// engine is a stream between two throwaway servers without a workflow around it: database src to database dst.
type engine struct {
	src, dst *replicationtest.Server
	source   *source.Source
	target   *target.Target
}

const (
	srcDB = "shop"
	dstDB = "vt_commerce"
)

// newEngine opens both ends for the tables that the schema creates.
func newEngine(t *testing.T, src, dst *replicationtest.Server, schema ...string) *engine {
	t.Helper()
	return newEngineVia(t, src, dst, src.Addr(), target.Options{}, schema...)
}

// newEngineVia is newEngine with the source's address as the library sees it, and the target's options.
func newEngineVia(t *testing.T, src, dst *replicationtest.Server, addr string, opts target.Options, schema ...string) *engine {
	t.Helper()
	return newEngineFrom(t, src, dst, source.Config{Addr: addr, User: "root", Database: srcDB}, source.Options{}, opts, schema...)
}

// newEngineFrom is newEngineVia with the source's options.
func newEngineFrom(t *testing.T, src, dst *replicationtest.Server, cfg source.Config, from source.Options, opts target.Options, schema ...string) *engine {
	t.Helper()
	for _, s := range []struct {
		server *replicationtest.Server
		db     string
	}{{src, srcDB}, {dst, dstDB}} {
		s.server.MustExec(t, "CREATE DATABASE "+s.db)
		for _, create := range schema {
			s.server.MustExec(t, "USE "+s.db+"; "+create)
		}
	}
	e := &engine{src: src, dst: dst}
	ctx := t.Context()
	var err error
	e.source, err = source.Open(ctx, cfg, nil, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.source.Close() })
	server := mysqlconn.Config{Addr: dst.Addr(), User: "root", Database: dstDB}
	state, err := sidecar.Open(ctx, dst.DB(t), sidecar.DefaultDatabase)
	if err != nil {
		t.Fatal(err)
	}
	id, err := state.InsertStream(ctx, &sidecar.Stream{Workflow: "wf", SourceShard: "0", DBName: dstDB, State: "Running"})
	if err != nil {
		t.Fatal(err)
	}
	e.target, err = target.Open(ctx, target.Config{Server: server, Sidecar: sidecar.DefaultDatabase, StreamID: id, Tables: e.source.Tables()}, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.target.Close() })
	return e
}

// differences compares every row with code that shares nothing with vdiff.
func (e *engine) differences(t *testing.T, tables ...string) string {
	t.Helper()
	diffs, err := replicationtest.CompareTables(t.Context(), e.src.DB(t), e.dst.DB(t), srcDB, dstDB, tables...)
	if err != nil {
		t.Fatal(err)
	}
	if len(diffs) == 0 {
		return ""
	}
	return fmt.Sprintf("%d rows differ, the first: %s", len(diffs), diffs[0])
}

// runUntilLevel runs the stream until the target has all that the source has when done says so.
func (e *engine) runUntilLevel(ctx context.Context, src replication.Source, opts replication.Options, done <-chan struct{}) error {
	return e.untilLevel(ctx, replication.NewStream(src, e.target, e.source.Tables(), opts), done)
}

// untilLevel is runUntilLevel for a stream that the test watches. Transient errors only make it start again.
func (e *engine) untilLevel(ctx context.Context, stream *replication.Stream, done <-chan struct{}) error {
	errLevel := errors.New("level")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	waited := make(chan struct{})
	defer func() { cancel(nil); <-waited }()
	go func() {
		defer close(waited)
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
		_, want, err := e.source.End(ctx)
		if err != nil {
			cancel(err)
			return
		}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			p := stream.Progress()
			if !p.Copying && p.Position.Covers(want) {
				cancel(errLevel)
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		err := stream.Run(ctx)
		if errors.Is(err, errLevel) {
			return nil
		}
		if !replication.Transient(err) || retry.Wait(ctx, 20*time.Millisecond) != nil {
			return err
		}
	}
}

// stalled is a source one of whose commits is in the binary log, and read from there, but not visible to
// SELECT while each chunk's window is opened. The mutations leave out what makes that harmless.
type stalled struct {
	replication.Source
	skipWait, earlyEnd bool
	// before runs at the end of a chunk's read, before the next window is opened; during runs before a chunk's SELECT.
	before, during func(context.Context) error
	// gate holds back the log while it is set.
	gate atomic.Pointer[chan struct{}]
	seen chan struct{}
	// reading is set when the log is being read.
	reading atomic.Bool

	end replication.LogPos
}

func (s *stalled) WaitVisible(ctx context.Context, p replication.Position) error {
	if s.skipWait {
		return nil
	}
	return s.Source.WaitVisible(ctx, p)
}

func (s *stalled) Read(ctx context.Context, t *replication.Table, span replication.Span, l replication.Limit) (*replication.Chunk, error) {
	var err error
	if s.earlyEnd {
		if s.end, _, err = s.Source.End(ctx); err != nil {
			return nil, err
		}
	}
	if s.during != nil {
		if err := s.during(ctx); err != nil {
			return nil, err
		}
	}
	return s.Source.Read(ctx, t, span, l)
}

func (s *stalled) End(ctx context.Context) (replication.LogPos, replication.Position, error) {
	end, p, err := s.Source.End(ctx)
	if err == nil && s.before != nil && s.reading.Load() {
		err = s.before(ctx)
	}
	if s.earlyEnd && s.end.Server != "" {
		end = s.end
	}
	return end, p, err
}

func (s *stalled) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	s.reading.Store(true)
	return func(yield func(*replication.Transaction, error) bool) {
		for t, err := range s.Source.Transactions(ctx, from) {
			if gate := s.gate.Load(); gate != nil && t != nil && len(t.Changes) > 0 {
				select {
				case <-*gate:
				case <-ctx.Done():
				}
			}
			if !yield(t, err) {
				return
			}
			if t != nil && len(t.Changes) > 0 {
				select {
				case s.seen <- struct{}{}:
				default:
				}
			}
		}
	}
}

const stallSchema = "CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL)"

// TestCommitVisibilityStall is the case of DESIGN 4.2: semi-sync holds every commit between the binary log and the
// engine for seconds, one such commit for each chunk. Nothing may be lost; without the wait for visibility, a row is.
func TestCommitVisibilityStall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		skipWait bool
	}{{"as it is", false}, {"without the wait", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
			dst := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
			e := newEngine(t, src, dst, stallSchema)
			src.MustExec(t, "USE shop; INSERT INTO t VALUES (1,0),(2,0),(3,0),(4,0),(5,0),(6,0),(7,0),(8,0)")
			src.MustExec(t, `INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so';
				SET GLOBAL rpl_semi_sync_source_timeout=3000; SET GLOBAL rpl_semi_sync_source_wait_no_replica=ON`)
			writes, stop := make(chan error, 16), make(chan struct{})
			next := 1
			s := &stalled{Source: e.source, skipWait: c.skipWait, seen: make(chan struct{}, 16)}
			s.before = func(ctx context.Context) error {
				if next > 7 {
					return nil
				}
				// The next chunk is two rows; its second one changes, and the commit hangs.
				id := next + 1
				next += 2
				if err := src.Exec(ctx, "SET GLOBAL rpl_semi_sync_source_enabled=OFF; SET GLOBAL rpl_semi_sync_source_enabled=ON"); err != nil {
					return err
				}
				go func() {
					writes <- src.Exec(context.WithoutCancel(ctx), fmt.Sprintf("UPDATE shop.t SET v=%d WHERE id=%d", 100+id, id))
				}()
				select {
				case <-s.seen:
				case <-ctx.Done():
				}
				if next > 7 {
					close(stop)
				}
				return ctx.Err()
			}
			// One chunk at a time, two rows each.
			err := e.runUntilLevel(t.Context(), s, replication.Options{Readers: 1, ChunkRows: 2}, stop)
			for range (next - 1) / 2 {
				if werr := <-writes; werr != nil {
					t.Error(werr)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			switch diff := e.differences(t, "t"); {
			case c.skipWait && diff == "":
				t.Error("nothing is lost without the wait for visibility: the test does not test it")
			case !c.skipWait && diff != "":
				t.Error(diff)
			}
		})
	}
}

// TestEndAfterRead commits a row between the moment before a chunk's read and the read itself, and holds back the log.
// With the log's end asked for before the read the chunk is put where its row does not exist yet.
func TestEndAfterRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		earlyEnd bool
	}{{"as it is", false}, {"end before the read", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
			dst := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
			e := newEngine(t, src, dst, stallSchema)
			src.MustExec(t, "USE shop; INSERT INTO t VALUES (1,0),(5,0)")
			s := &stalled{Source: e.source, earlyEnd: c.earlyEnd, seen: make(chan struct{}, 16)}
			once, done := false, make(chan struct{})
			s.during = func(ctx context.Context) error {
				if once {
					return nil
				}
				once = true
				gate := make(chan struct{})
				s.gate.Store(&gate)
				// The log goes on only after the chunk had the time to be put somewhere.
				time.AfterFunc(500*time.Millisecond, func() { close(gate); close(done) })
				return src.Exec(ctx, "INSERT INTO shop.t VALUES (3,3)")
			}
			err := e.runUntilLevel(t.Context(), s, replication.Options{Readers: 1}, done)
			var drift *replication.DriftError
			if c.earlyEnd {
				if !errors.As(err, &drift) {
					t.Errorf("the insert was in the chunk and came again, and nobody noticed: %v, %s", err, e.differences(t, "t"))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := e.differences(t, "t"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestStreamUnderLoad copies tables of the common kinds of keys while they are written, changed and deleted from the
// first millisecond on.
func TestStreamUnderLoad(t *testing.T) {
	t.Parallel()
	src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	dst := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	schema := []string{
		"CREATE TABLE a (id BIGINT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL, c VARCHAR(100), u INT UNIQUE, KEY (k))",
		"CREATE TABLE b (tenant INT UNSIGNED, name VARCHAR(20), v DECIMAL(12,3), PRIMARY KEY (tenant, name))",
		"CREATE TABLE c (id BINARY(8) PRIMARY KEY, d DATETIME(6), f FLOAT, j JSON)",
	}
	e := newEngine(t, src, dst, schema...)
	db := src.DB(t)
	ctx := t.Context()
	for i := range 3000 {
		execute(t, db, "INSERT INTO shop.a (k, c, u) VALUES (?, ?, ?)", i%97, fmt.Sprintf("row %d", i), 10*i)
		if i%3 == 0 {
			execute(t, db, "INSERT INTO shop.b VALUES (?, ?, ?)", i%7, fmt.Sprintf("Näme%d", i), float64(i)/8)
			execute(t, db, "INSERT INTO shop.c VALUES (UNHEX(LPAD(HEX(?), 16, '0')), NOW(6), ?, JSON_OBJECT('i', ?))", i<<8, float64(i)/3, i)
		}
	}
	stop, wctx := make(chan struct{}), context.WithoutCancel(ctx)
	writer := make(chan error, 1)
	go func() { writer <- writeUntil(wctx, db, stop) }()
	time.AfterFunc(6*time.Second, func() { close(stop) })
	if err := e.runUntilLevel(ctx, e.source, replication.Options{ChunkRows: 50, ChunkBytes: 4 << 10}, waitFor(writer, t)); err != nil {
		t.Fatal(err)
	}
	if diff := e.differences(t, "a", "b", "c"); diff != "" {
		t.Error(diff)
	}
}

// waitFor is closed when the writer has ended.
func waitFor(writer <-chan error, t *testing.T) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := <-writer; err != nil {
			t.Error(err)
		}
	}()
	return done
}

func execute(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}
