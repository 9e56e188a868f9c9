package target

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
)

var _ replication.Target = (*Target)(nil)

// A Config says which stream is written where. All but Sidecar and Owner must be set.
type Config struct {
	// Server is the target shard's primary; its Database is the one that holds the tables.
	Server mysqlconn.Config
	// Sidecar is the name of the sidecar database; empty is sidecar.DefaultDatabase.
	Sidecar string
	// StreamID is the stream's row there.
	StreamID int64
	// Tables are those of the stream, the same values that the stream's changes and chunks point to.
	Tables []*replication.Table
	// Owner names this process to people who look at the sidecar database.
	Owner string
}

func (c Config) validate() error {
	var errs []error
	if c.Server.Database == "" {
		errs = append(errs, errors.New("no database"))
	}
	if c.StreamID <= 0 {
		errs = append(errs, fmt.Errorf("stream id %d", c.StreamID))
	}
	for _, t := range c.Tables {
		if len(t.Primary.Columns) == 0 {
			errs = append(errs, fmt.Errorf("table %s has no key", t.Name))
		}
	}
	return errors.Join(errs...)
}

// Options of a [Target]. The zero value is right for most.
type Options struct {
	// Workers is how many transactions with the source's changes are executed at once; default the target's
	// innodb_read_io_threads, from 4 to 16, which is half of its cores unless it was set. Loaders is how many chunks are;
	// default half of the default workers, at least 4. Each takes a connection, and a loader a core of the target.
	Workers, Loaders int
	// Sharing is how many streams write to the target shard at the same time; their default workers and loaders are divided by it, down to
	// two of each. 0 is 1.
	Sharing int
	// MemoryBytes bounds the entries that wait for their commit; default 32 MiB.
	MemoryBytes int
	// LockTimeout is how long locks of others may keep an entry from being executed; default 1 h. It is
	// long, since adding some kinds of keys after the copy locks a table against writes.
	LockTimeout time.Duration
	// DatetimeZone is the zone that the source's DATETIME values are in, if they are to be stored as UTC; nil leaves
	// them as they are.
	DatetimeZone *time.Location
	// DisableLocalInfile copies by INSERT where LOAD DATA LOCAL INFILE, which costs the target half as much, would be
	// allowed (local_infile=ON on the target).
	DisableLocalInfile bool
	// IgnoreDDLErrors goes on when a schema change can't be executed on the target.
	IgnoreDDLErrors bool
	// OnDrift says what to do about rows of the target that are not what the stream has put there; default
	// replication.OnDriftStop. With another policy each such row is a line of type "Drift" in the stream's log in the sidecar
	// database, written in the transaction of the row, and a warning to Logger after its commit. A transaction lists 1,000 rows or
	// 1 MiB of them at most, and Report removes all lines but the newest 1,000 when there are twice as many; one line counts for
	// all that are not listed, so that the sum of the counts is how many rows there were.
	OnDrift replication.OnDrift
	// Logger receives one line per take-over, schema change and key build; nil discards.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.LockTimeout = cmp.Or(max(o.LockTimeout, 0), time.Hour)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

// A Target is the target shard of one stream; it is a [replication.Target]. Load begins a run of the stream,
// which Run executes; a later Load begins another one.
type Target struct {
	cfg  Config
	opts Options
	db   *sql.DB
	side *sidecar.DB

	mu struct {
		sync.Mutex
		// store and scheduler are those of the last Load; nil before it.
		store     *store
		scheduler *Scheduler
		tables    map[string]sidecar.TableProgress
	}
}

// errNotLoaded is a mistake of the caller.
var errNotLoaded = errors.New("target: Load has not been called")

// Open connects to the target. It changes nothing there; the stream's row must be there by the time of Load.
func Open(ctx context.Context, cfg Config, opts Options) (*Target, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("target %s: %w", cfg.Server, err)
	}
	db, err := mysqlconn.Open(ctx, cfg.Server, mysqlconn.Session{MaxOpen: 4, Variables: map[string]string{
		"sql_mode":                 "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
		"time_zone":                "'+00:00'",
		"innodb_lock_wait_timeout": "10",
	}})
	if err != nil {
		return nil, transientConnect(err)
	}
	return &Target{cfg: cfg, opts: opts.withDefaults(), db: db, side: sidecar.Attach(db, cfg.Sidecar)}, nil
}

func transientConnect(err error) error {
	if errors.Is(err, mysqlconn.ErrUnreachable) || mysqlerr.Transient(err, mysqlerr.Target) {
		return &replication.TransientError{Err: err}
	}
	return err
}

// Close closes the connections; Run must have returned.
func (t *Target) Close() error {
	if s, err := t.loaded(); err == nil {
		s.close()
	}
	return t.db.Close()
}

func (t *Target) loaded() (*store, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.store == nil {
		return nil, errNotLoaded
	}
	return t.mu.store, nil
}

// Load takes the stream over and reads what it has applied. It must not be called during Run.
func (t *Target) Load(ctx context.Context) (*replication.Checkpoint, error) {
	if s, err := t.loaded(); err == nil {
		s.close()
	}
	cp, err := t.load(ctx)
	if err != nil && ctx.Err() == nil && mysqlerr.Transient(err, mysqlerr.Target) && !replication.Transient(err) {
		err = &replication.TransientError{Err: err}
	}
	return cp, err
}

func (t *Target) load(ctx context.Context) (*replication.Checkpoint, error) {
	epoch, mark, err := t.side.TakeOver(ctx, t.cfg.StreamID, t.cfg.Owner)
	if err != nil {
		return nil, err
	}
	cp := &replication.Checkpoint{
		Copied: make(map[string][]replication.Span), Finished: make(map[string]bool),
		Rows: make(map[string]int64), Bytes: make(map[string]int64),
	}
	if mark.Position != "" {
		if cp.Position, err = replication.ParsePosition(mark.Position); err != nil {
			return nil, &RecordError{StreamID: t.cfg.StreamID, What: "position " + clip(mark.Position), Err: err}
		}
	}
	var v variables
	row := t.db.QueryRowContext(ctx, "SELECT @@global.max_allowed_packet, @@local_infile, @@innodb_autoinc_lock_mode, VERSION(), @@innodb_read_io_threads")
	if err := row.Scan(&v.maxPacket, &v.localInfile, &v.autoincLockMode, &v.version, &v.ioThreads); err != nil {
		return nil, err
	}
	s := newStore(t, epoch, mark, v)
	if err := s.checkColumns(ctx, v); err != nil {
		return nil, err
	}
	stream, err := t.side.Stream(ctx, t.cfg.StreamID)
	if err != nil {
		return nil, err
	}
	if err := t.loadSpans(ctx, s, cp, stream.Tables); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.store = s
	t.mu.tables = stream.Tables
	t.mu.scheduler = NewScheduler(s, SchedulerOptions{
		Workers: cmp.Or(t.opts.Workers, t.share(v.workers())), Loaders: cmp.Or(t.opts.Loaders, t.share(v.loaders())), MemoryBytes: t.opts.MemoryBytes, LockTimeout: t.opts.LockTimeout,
	})
	by := "LOAD DATA LOCAL INFILE"
	if s.noInfile.Load() {
		by = "INSERT"
	}
	t.opts.Logger.Info("stream taken over", "stream", t.cfg.StreamID, "epoch", epoch, "position", clip(mark.Position),
		"copy by", by, "local_infile", v.localInfile)
	return cp, nil
}

// variables are what of the server's settings matters.
type variables struct {
	maxPacket       int
	localInfile     bool
	autoincLockMode int
	version         string
	ioThreads       int
}

// workers is the default of Options.Workers. A server does not tell how many cores it has, but its innodb_read_io_threads is
// half of them, at least 4, unless it was set (MySQL since 8.4; 4 before, and in MariaDB).
func (v variables) workers() int { return min(max(v.ioThreads, 4), 16) }

// loaders is the default of Options.Loaders.
func (v variables) loaders() int { return max(v.workers()/2, 4) }

// share is a stream's part of n connections.
func (t *Target) share(n int) int { return max(n/max(t.opts.Sharing, 1), 2) }

// rowAlias tells whether the server lets a statement name the row that it inserts: MySQL since 8.0.19.
func (v variables) rowAlias() bool {
	var major, minor, patch int
	if _, err := fmt.Sscanf(v.version, "%d.%d.%d", &major, &minor, &patch); err != nil || strings.Contains(v.version, "MariaDB") {
		return false
	}
	return major > 8 || major == 8 && (minor > 0 || patch >= 19)
}

// loadSpans reads what has been copied, after folding it, and which tables need nothing more.
func (t *Target) loadSpans(ctx context.Context, s *store, cp *replication.Checkpoint, reported map[string]sidecar.TableProgress) error {
	if err := t.checkSpans(ctx, cp, reported); err != nil {
		return err
	}
	if err := s.foldTables(ctx, t.cfg.Tables); err != nil {
		return err
	}
	spans, err := t.side.Spans(ctx, t.cfg.StreamID)
	if err != nil {
		return err
	}
	for _, span := range spans {
		cp.Copied[span.Table] = append(cp.Copied[span.Table], replication.Span{Lo: span.Lo, Hi: span.Hi})
		cp.Rows[span.Table] += span.Rows
		cp.Bytes[span.Table] += span.Bytes
	}
	actions, err := t.side.PostCopyActions(ctx, t.cfg.StreamID)
	if err != nil {
		return err
	}
	due := make(map[string]bool)
	for _, a := range actions {
		due[a.Table] = true
	}
	for _, table := range t.cfg.Tables {
		whole := replication.NewSpanSet(table, cp.Copied[table.Name]...).Whole()
		cp.Finished[table.Name] = whole && !due[table.Name]
	}
	return nil
}

// Start records the position at which the stream begins.
func (t *Target) Start(ctx context.Context, p replication.Position) error {
	s, err := t.loaded()
	if err != nil {
		return err
	}
	if m := s.mark(); m.Position != "" {
		return fmt.Errorf("stream %d has started already at %s", t.cfg.StreamID, clip(m.Position))
	}
	c, err := s.get(ctx)
	if err != nil {
		return s.classify(ctx, err)
	}
	defer s.put(c)
	return s.record(ctx, c, sidecar.Mark{Seq: s.mark().Seq + 1, Position: p.String()})
}

// Append puts an entry at the end of the log; see [Scheduler.Append].
func (t *Target) Append(ctx context.Context, e *replication.Entry) error {
	t.mu.Lock()
	sched := t.mu.scheduler
	t.mu.Unlock()
	if sched == nil {
		return errNotLoaded
	}
	return sched.Append(ctx, e)
}

// Run executes what is appended until ctx ends or an entry can't be executed. The error is transient
// ([replication.Transient]) if the same may succeed later; then Load and Run may be called again.
func (t *Target) Run(ctx context.Context) error {
	t.mu.Lock()
	s, sched := t.mu.store, t.mu.scheduler
	t.mu.Unlock()
	if sched == nil {
		return errNotLoaded
	}
	defer s.close()
	return sched.Run(ctx)
}

// Report saves progress in the sidecar database, for others to see, and folds the record of what was copied when it has
// grown. Lock conflicts are no error: the next report says more. It never touches the stream's state.
func (t *Target) Report(ctx context.Context, p replication.Progress) error {
	s, err := t.loaded()
	if err != nil {
		return err
	}
	r := sidecar.Report{Position: s.mark().Position, Transaction: p.Committed, Heartbeat: p.Read, Lag: p.Lag}
	if p.Read.IsZero() {
		r.Lag = -1
	}
	r.Tables = t.progress(p, time.Now())
	for _, table := range r.Tables {
		r.RowsCopied += table.Rows
	}
	err = t.side.SaveProgress(ctx, t.cfg.StreamID, s.epoch, r)
	if err == nil {
		err = s.fold(ctx)
	}
	if err == nil {
		err = s.trimDrifts(ctx)
	}
	if mysqlerr.LockWait(err) {
		return nil
	}
	return s.classify(ctx, err)
}

// progress adds to each table's counters when they began to grow and when they last did.
func (t *Target) progress(p replication.Progress, now time.Time) map[string]sidecar.TableProgress {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]sidecar.TableProgress, len(p.Tables))
	for name, table := range p.Tables {
		next := t.mu.tables[name]
		if table.Rows > next.Rows || table.Done && !next.Done {
			next.Changed = now.UnixMilli()
			if next.Started == 0 {
				next.Started = next.Changed
			}
		}
		next.Rows, next.Bytes, next.Done = table.Rows, table.Bytes, table.Done
		out[name] = next
	}
	for _, table := range t.cfg.Tables {
		if next, ok := out[table.Name]; ok {
			next.Key = keyText(table)
			out[table.Name] = next
		}
	}
	t.mu.tables = out
	return out
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "...(" + strconv.Itoa(len(s)) + " bytes)"
	}
	return s
}
