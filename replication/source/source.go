package source

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/replication"
)

// Config says which server to read, as whom, and which schema (Database). Printing one does not show the password.
type Config = mysqlconn.Config

// Options of a source. The zero value is right for most.
type Options struct {
	// QueueBytes bounds the transactions that are read ahead of their consumer, counted by
	// replication.Transaction.Bytes; one transaction is always held. Default 8 MiB.
	QueueBytes int
	// TransactionBytes bounds the memory of transactions of which not all has been read, XA transactions that are prepared
	// counted in. Changes beyond it go to a temporary file (replication.Spill) in SpillDir. Default 16 MiB.
	TransactionBytes int
	// SpillDir is the directory for temporary files; "" is the system's.
	SpillDir string
	// Heartbeat is how soon an idle source tells that it is alive, and how far its log is; default 500 ms.
	Heartbeat time.Duration
	// ReadTimeout is how long the log's connection may be silent before it is given up and opened again; default 10
	// heartbeats, at least 5 s. The waits between connections grow up to it. After 6 connections in a row that brought nothing
	// the log ends with a transient error: within 12 times this, or a minute.
	ReadTimeout time.Duration
	// Definitions remembers the tables' definitions between one Source and the next; nil: the log is read by those that the
	// tables have when the source is opened, which is right only from there on.
	Definitions Definitions
	// Logger receives one line per connection of the log reader; nil discards.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.QueueBytes = cmp.Or(o.QueueBytes, 8<<20)
	o.TransactionBytes = cmp.Or(o.TransactionBytes, 16<<20)
	o.Heartbeat = cmp.Or(o.Heartbeat, 500*time.Millisecond)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, max(10*o.Heartbeat, 5*time.Second))
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.QueueBytes < 0 {
		errs = append(errs, fmt.Errorf("queue of %d bytes", o.QueueBytes))
	}
	if o.Heartbeat < 0 || o.Heartbeat > time.Hour {
		errs = append(errs, fmt.Errorf("heartbeat of %v", o.Heartbeat))
	}
	if o.TransactionBytes < 0 {
		errs = append(errs, fmt.Errorf("transactions of %d bytes", o.TransactionBytes))
	}
	if d := o.withDefaults(); d.ReadTimeout < 2*d.Heartbeat {
		errs = append(errs, fmt.Errorf("read timeout of %v with a heartbeat of %v", d.ReadTimeout, d.Heartbeat))
	}
	if o.SpillDir != "" {
		s, err := replication.NewSpill(o.SpillDir)
		if err == nil {
			err = s.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// maxIdle is how many connections for reads are kept open without use.
const maxIdle = 16

// A Source reads one schema of one MySQL server. Open makes it; its methods may be called from several goroutines.
type Source struct {
	cfg    Config
	opts   Options
	tables []*replication.Table
	// db is for queries about definitions.
	db *sql.DB
	// fold says that the server ignores case in names of tables.
	fold bool
	// logsCascades says that the server logs what foreign keys do.
	logsCascades bool
	// readers caches what is made of a table to read it, by *replication.Table.
	readers sync.Map

	mu struct {
		sync.Mutex
		// server is the UUID of the server that all connections must lead to; reading is how many streams read its log.
		server  string
		reading int
		idle    []*conn
		closed  bool
		// read is, by table, what the server had executed when the definition was read by which rows are read; see Definition.
		read map[string]replication.Position
	}
}

var _ replication.Source = (*Source)(nil)

// Open connects to a server and reads the definitions of the named tables of cfg.Database; nil means all of its base
// tables but internal ones (InternalTable). Errors are those of mysqlconn.Open, ErrUnsupportedServer,
// *MissingTablesError, or *NoKeyError. The caller closes the source.
func Open(ctx context.Context, cfg Config, tables []string, opts Options) (*Source, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if cfg.Database == "" {
		return nil, fmt.Errorf("source %s: no database", cfg)
	}
	db, err := OpenDB(ctx, cfg)
	if err != nil {
		return nil, mark(ctx, err)
	}
	s := &Source{cfg: withServerName(cfg), opts: opts.withDefaults(), db: db}
	if err := s.load(ctx, tables); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// withServerName makes TLS check the name in the address, unless cfg says what to check.
func withServerName(cfg Config) Config {
	if cfg.TLS == nil || cfg.TLS.ServerName != "" || cfg.TLS.InsecureSkipVerify || strings.Contains(cfg.Addr, "/") {
		return cfg
	}
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		host = strings.Trim(cfg.Addr, "[]")
	}
	cfg.TLS = cfg.TLS.Clone()
	cfg.TLS.ServerName = host
	return cfg
}

func (s *Source) load(ctx context.Context, names []string) error {
	var version, server string
	var lower int
	err := s.db.QueryRowContext(ctx, "SELECT VERSION(), @@server_uuid, @@lower_case_table_names").Scan(&version, &server, &lower)
	if err != nil {
		// MariaDB has no server_uuid.
		if verr := s.db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); verr == nil {
			if serr := supported(version); serr != nil {
				return serr
			}
		}
		return mark(ctx, fmt.Errorf("source %s: %w", s.cfg, err))
	}
	if err := supported(version); err != nil {
		return err
	}
	s.mu.server, s.fold = server, lower != 0
	s.tables, err = Tables(ctx, s.db, s.cfg.Database, names)
	if err != nil {
		return err
	}
	if s.logsCascades, err = readLogsCascades(ctx, s.db); err != nil {
		return mark(ctx, fmt.Errorf("source %s: %w", s.cfg, err))
	}
	if names == nil {
		s.tables = slices.DeleteFunc(s.tables, func(t *replication.Table) bool { return InternalTable(t.Name) })
	}
	s.tables = s.remembered(s.tables)
	return CheckKeys(s.tables)
}

// supported checks a server's version.
func supported(version string) error {
	major, _ := versionNumbers(version)
	switch {
	case strings.Contains(version, "MariaDB"):
		return fmt.Errorf("%w: MariaDB %s", ErrUnsupportedServer, version)
	case major < 8:
		return fmt.Errorf("%w: MySQL %s is older than 8.0", ErrUnsupportedServer, version)
	}
	return nil
}

// versionNumbers are the first two numbers of a version; zeros if it does not begin with them.
func versionNumbers(version string) (major, minor int) {
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n != 2 {
		return 0, 0
	}
	return major, minor
}

// Tables returns the definitions of the opened tables in name order, as they were when the source was opened, or at the position from
// which its log will be read (Options.Definitions).
func (s *Source) Tables() []*replication.Table { return slices.Clone(s.tables) }

// Server returns the UUID of the server that is read; it changes when the log reader's reconnect leads to another one.
func (s *Source) Server() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.server
}

// Close closes all connections that are not in use; those that are end with their calls, whose contexts the
// caller ends first.
func (s *Source) Close() error {
	s.mu.Lock()
	idle := s.mu.idle
	s.mu.idle, s.mu.closed = nil, true
	s.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
	return s.db.Close()
}

// recheck compares an opened table with its present definition, after a DDL that named it.
func (s *Source) recheck(ctx context.Context, name string) error {
	i := slices.IndexFunc(s.tables, func(t *replication.Table) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	now, err := Tables(ctx, s.db, s.cfg.Database, []string{name})
	if _, ok := errors.AsType[*MissingTablesError](err); ok {
		return &replication.SchemaChangedError{Table: name, What: "it was dropped or renamed"}
	}
	if err != nil {
		return err
	}
	if what := difference(s.tables[i], now[0]); what != "" {
		return &replication.SchemaChangedError{Table: name, What: what}
	}
	return nil
}

// otherKey is the difference of two definitions whose columns are the same.
const otherKey = "the identifying key is another one"

// difference says in which column, or that in the identifying key, two definitions of a table differ; "" if in
// nothing that matters for rows.
func difference(was, is *replication.Table) string {
	for i := range max(len(was.Columns), len(is.Columns)) {
		switch {
		case i >= len(was.Columns):
			return fmt.Sprintf("column %d (%s) is new", i+1, is.Columns[i].Name)
		case i >= len(is.Columns):
			return fmt.Sprintf("column %d (%s) is gone", i+1, was.Columns[i].Name)
		}
		a, b := &was.Columns[i], &is.Columns[i]
		switch {
		case a.Name != b.Name:
			return fmt.Sprintf("column %d is %s, was %s", i+1, b.Name, a.Name)
		case a.Type != b.Type, a.Charset != b.Charset, a.Collation != b.Collation:
			return fmt.Sprintf("column %s is %s %s, was %s %s", a.Name, b.Type, b.Collation, a.Type, a.Collation)
		case a.Generated != b.Generated, a.Nullable != b.Nullable:
			return fmt.Sprintf("column %s has other attributes", a.Name)
		}
	}
	if was.Primary.Name != is.Primary.Name || !slices.Equal(was.Primary.Columns, is.Primary.Columns) {
		return otherKey
	}
	return ""
}
