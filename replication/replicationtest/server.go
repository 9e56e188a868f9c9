package replicationtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tablehaul/tablehaul/internal/serverbin"
)

// ErrServerMissing is matched by the error of every Run function when the machine has no
// such server. Its text says in one line how to get it.
var ErrServerMissing = serverbin.ErrMissing

// stopTimeout bounds how long a server may take to start or stop, unless the caller says.
const stopTimeout = 60 * time.Second

// MySQLOptions say how a MySQL server is started. The zero value is a source or target
// as tablehaul wants it: TCP on a free port of 127.0.0.1, binary log with GTIDs, row
// format and full row images, durable commits, and a small memory footprint
// (performance schema off, 64 MiB buffer pool).
type MySQLOptions struct {
	// Args are server options, as "--gtid-mode=OFF". They come after this package's own, so
	// they win. "--performance-schema=ON" turns the performance schema on.
	Args []string
	// ServerID is the server_id; 0 takes a random one.
	ServerID uint32
	// StartTimeout bounds one start; 0 means 60 s.
	StartTimeout time.Duration
	// Log gets one line per start and stop; nil discards.
	Log *slog.Logger
}

// MariaDBOptions say how a MariaDB server is started. The zero value has a binary log
// with GTIDs, row format and full row images, as MySQLOptions'.
type MariaDBOptions struct {
	// Args are server options that win over this package's own.
	Args []string
	// ServerID is the server_id; 0 takes a random one.
	ServerID uint32
	// StartTimeout bounds one start; 0 means 60 s.
	StartTimeout time.Duration
	// Log gets one line per start and stop; nil discards.
	Log *slog.Logger
}

// Server is a throwaway MySQL or MariaDB server. Its methods may be called from any
// goroutine; those that take a [testing.TB] only from the test's own.
type Server struct {
	Flavor   string // "mysql" or "mariadb"
	Version  string // "9.7.4"
	Host     string // "127.0.0.1"
	Port     int    // stays the same over restarts
	Socket   string // path of the Unix socket
	ServerID uint32
	Dir      string // the server's folder; gone after Close

	d       *daemon
	timeout time.Duration
	log     *slog.Logger
}

// StartMySQL starts a MySQL server for one test. A missing server fails the test, it
// doesn't skip it. At the end of the test the server is killed and its folder removed.
func StartMySQL(tb testing.TB, opts MySQLOptions) *Server {
	tb.Helper()
	s, err := RunMySQL(tb.Context(), opts)
	return adopt(tb, s, err)
}

// StartMariaDB starts a MariaDB server for one test, as [StartMySQL] does.
func StartMariaDB(tb testing.TB, opts MariaDBOptions) *Server {
	tb.Helper()
	s, err := RunMariaDB(tb.Context(), opts)
	return adopt(tb, s, err)
}

func adopt(tb testing.TB, s *Server, err error) *Server {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tail := s.LogTail(40); tb.Failed() && tail != "" {
			tb.Logf("error log of %s server %s:\n%s", s.Flavor, s.Addr(), tail)
		}
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// RunMySQL starts a MySQL server and returns when it accepts connections. ctx bounds
// the start only. The caller closes it.
func RunMySQL(ctx context.Context, opts MySQLOptions) (*Server, error) {
	return runServer(ctx, serverbin.MySQL, opts, []string{
		"--mysqlx=OFF",
		"--log-bin=binlog",
		"--gtid-mode=ON",
		"--enforce-gtid-consistency=ON",
		"--innodb-redo-log-capacity=64M",
	})
}

// RunMariaDB starts a MariaDB server, as [RunMySQL] does.
func RunMariaDB(ctx context.Context, opts MariaDBOptions) (*Server, error) {
	return runServer(ctx, serverbin.MariaDB, MySQLOptions(opts), []string{
		"--log-bin=binlog",
		"--binlog-format=ROW", // MariaDB's default is MIXED
		"--log-slave-updates=ON",
		"--gtid-strict-mode=ON",
		"--innodb-log-file-size=64M",
	})
}

func runServer(ctx context.Context, kind serverbin.Kind, opts MySQLOptions, own []string) (*Server, error) {
	bin, err := serverbin.Find(ctx, kind)
	if err != nil {
		return nil, err
	}
	template, err := serverbin.DataDir(ctx, bin)
	if err != nil {
		return nil, err
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.StartTimeout == 0 {
		opts.StartTimeout = stopTimeout
	}
	if opts.ServerID == 0 {
		opts.ServerID = 1 + rand.Uint32N(1<<31)
	}
	for attempt := 1; ; attempt++ {
		s, err := tryServer(ctx, bin, template, opts, own)
		if err == nil || !errors.Is(err, errBind) || attempt == 5 {
			return s, err
		}
	}
}

// tryServer starts a server on one port; errBind asks for another try.
func tryServer(ctx context.Context, bin *serverbin.Binary, template string, opts MySQLOptions, own []string) (*Server, error) {
	dir, err := newScratch()
	if err != nil {
		return nil, err
	}
	port, err := reservePort(ctx)
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	s := &Server{
		Flavor: string(bin.Kind), Version: bin.Version,
		Host: "127.0.0.1", Port: port, Socket: dir.file("s"),
		ServerID: opts.ServerID, Dir: dir.path,
		timeout: opts.StartTimeout, log: opts.Log,
	}
	args := serverArgs(s, bin, own, opts.Args)
	s.d = &daemon{
		name: s.Flavor + " server", dir: dir,
		argv:  func() []string { return bin.Command(args...) },
		logs:  []string{dir.file("error.log"), dir.file("output.log")},
		ready: s.ping,
	}
	if err := copyTree(template, dir.file("data")); err != nil {
		return nil, errors.Join(fmt.Errorf("copy data folder: %w", err), s.Close())
	}
	if err := os.Mkdir(dir.file("tmp"), 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("folder for temporary files: %w", err), s.Close())
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// serverArgs is the server's command line; the caller's options come last and win.
func serverArgs(s *Server, bin *serverbin.Binary, own, extra []string) []string {
	args := append([]string{"--no-defaults"}, bin.PathArgs()...)
	args = append(args, serverbin.UserArgs()...)
	args = append(args,
		"--datadir="+s.file("data"),
		"--tmpdir="+s.file("tmp"), // MariaDB empties it when it starts, whoever's files are in it
		"--socket="+s.Socket,
		"--pid-file="+s.file("pid"),
		"--log-error="+s.file("error.log"),
		"--bind-address="+s.Host,
		fmt.Sprintf("--port=%d", s.Port),
		fmt.Sprintf("--server-id=%d", s.ServerID),
		"--skip-name-resolve",
		"--secure-file-priv=",
		"--performance-schema=OFF",
		"--innodb-buffer-pool-size=64M",
		"--binlog-row-image=FULL",
		"--sync-binlog=1",
		"--innodb-flush-log-at-trx-commit=1",
	)
	args = append(args, own...)
	return append(args, extra...)
}

// file returns the path of one of the server's files.
func (s *Server) file(name string) string { return s.Dir + "/" + name }

func (s *Server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.d.start(ctx); err != nil {
		return err
	}
	s.log.Info("server started", "server", s.Flavor, "addr", s.Addr())
	return nil
}

func (s *Server) ping(ctx context.Context) error {
	db, err := s.Open("")
	if err != nil {
		return err
	}
	defer db.Close()
	return db.PingContext(ctx)
}

// Addr returns "127.0.0.1:port".
func (s *Server) Addr() string { return loopback(s.Port) }

// Config returns the go-sql-driver configuration of a root connection by TCP to a
// database, or to none when it is "". The caller may change it.
func (s *Server) Config(database string) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName = "root", "tcp", s.Addr(), database
	cfg.Logger = &mysql.NopLogger{} // lost connections are what these servers are for
	return cfg
}

// DSN returns the data source name of a root connection to a database, or to none.
func (s *Server) DSN(database string) string { return s.Config(database).FormatDSN() }

// Open returns a pool of root connections to a database, or to none. It doesn't connect
// yet. The caller closes it.
func (s *Server) Open(database string) (*sql.DB, error) {
	c, err := mysql.NewConnector(s.Config(database))
	if err != nil {
		return nil, fmt.Errorf("%s server: %w", s.Flavor, err)
	}
	return sql.OpenDB(c), nil
}

// DB returns a pool of root connections without a database, closed at the end of the test.
func (s *Server) DB(tb testing.TB) *sql.DB {
	tb.Helper()
	db, err := s.Open("")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// Running tells whether the server's process lives.
func (s *Server) Running() bool { return s.d.running() }

// PID returns the server's process id, 0 when it doesn't run.
func (s *Server) PID() int { return s.d.pid() }

// Kill9 kills the server and waits for its end. Nothing happens when it doesn't run.
func (s *Server) Kill9() {
	s.d.kill9()
	s.log.Info("server killed", "server", s.Flavor, "addr", s.Addr())
}

// Freeze stops the server's process as a hanging machine would: its connections stay
// open and nothing answers, until Thaw or the end of the server.
func (s *Server) Freeze() { s.d.signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() { s.d.signal(syscall.SIGCONT) }

// Stop shuts the server down in order, and kills it when ctx ends first, which is an error.
func (s *Server) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.d.stop(ctx); err != nil {
		return err
	}
	s.log.Info("server stopped", "server", s.Flavor, "addr", s.Addr())
	return nil
}

// Restart stops the server if it runs, starts it with its data, port, socket and UUID,
// and returns when it accepts connections.
func (s *Server) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.d.restart(ctx); err != nil {
		return err
	}
	s.log.Info("server started", "server", s.Flavor, "addr", s.Addr())
	return nil
}

// MustRestart is Restart that ends the test on an error.
func (s *Server) MustRestart(tb testing.TB) {
	tb.Helper()
	if err := s.Restart(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// Close kills the server and removes its folder. It may be called more than once.
func (s *Server) Close() error {
	err := s.d.close()
	releasePort(s.Port)
	return err
}

// LogTail returns the last n lines of the server's error log.
func (s *Server) LogTail(n int) string { return s.d.logTail(n) }

// withSession runs f on a connection of its own, which ends afterwards with all it set.
func (s *Server) withSession(ctx context.Context, f func(*sql.Conn) error) error {
	cfg := s.Config("")
	cfg.MultiStatements, cfg.InterpolateParams = true, true
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return fmt.Errorf("%s server: %w", s.Flavor, err)
	}
	db := sql.OpenDB(c)
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("%s server: %w", s.Flavor, err)
	}
	defer conn.Close()
	return f(conn)
}

// Exec runs one or more statements, separated by semicolons, on a fresh root connection.
// USE and SET hold until the end of the call.
func (s *Server) Exec(ctx context.Context, statements string, args ...any) error {
	return s.withSession(ctx, func(c *sql.Conn) error {
		if _, err := c.ExecContext(ctx, statements, args...); err != nil {
			return fmt.Errorf("%s server: %w", s.Flavor, err)
		}
		return nil
	})
}

// MustExec is Exec that ends the test on an error.
func (s *Server) MustExec(tb testing.TB, statements string, args ...any) {
	tb.Helper()
	if err := s.Exec(tb.Context(), statements, args...); err != nil {
		tb.Fatal(err)
	}
}

// Query runs a query on a fresh root connection and returns its rows as text; NULL is "NULL".
func (s *Server) Query(ctx context.Context, query string, args ...any) ([][]string, error) {
	var out [][]string
	err := s.withSession(ctx, func(c *sql.Conn) error {
		rows, err := c.QueryContext(ctx, query, args...)
		if err != nil {
			return fmt.Errorf("%s server: %w", s.Flavor, err)
		}
		defer rows.Close()
		return scanText(rows, func(row []sql.NullString) error {
			line := make([]string, len(row))
			for i, v := range row {
				line[i] = "NULL"
				if v.Valid {
					line[i] = v.String
				}
			}
			out = append(out, line)
			return nil
		})
	})
	return out, err
}

// MustQuery is Query that ends the test on an error.
func (s *Server) MustQuery(tb testing.TB, query string, args ...any) [][]string {
	tb.Helper()
	rows, err := s.Query(tb.Context(), query, args...)
	if err != nil {
		tb.Fatal(err)
	}
	return rows
}

// CreateUser creates an account that may connect from anywhere, with grants such as
// "SELECT, INSERT ON shop.*" or "REPLICATION SLAVE, REPLICATION CLIENT ON *.*". The
// password appears in no error.
func (s *Server) CreateUser(ctx context.Context, user, password string, grants ...string) error {
	if err := s.Exec(ctx, "CREATE USER ?@'%' IDENTIFIED BY ?", user, password); err != nil {
		return fmt.Errorf("create user %q: %w", user, err)
	}
	for _, g := range slices.Clip(grants) {
		if err := s.Exec(ctx, "GRANT "+g+" TO ?@'%'", user); err != nil {
			return fmt.Errorf("grant %q to %q: %w", g, user, err)
		}
	}
	return nil
}

// MustCreateUser is CreateUser that ends the test on an error.
func (s *Server) MustCreateUser(tb testing.TB, user, password string, grants ...string) {
	tb.Helper()
	if err := s.CreateUser(tb.Context(), user, password, grants...); err != nil {
		tb.Fatal(err)
	}
}

// scanText calls f with every row; the slice is valid until the next call.
func scanText(rows *sql.Rows, f func([]sql.NullString) error) error {
	cols, err := rows.Columns()
	if err != nil {
		return fmt.Errorf("columns: %w", err)
	}
	row := make([]sql.NullString, len(cols))
	dest := make([]any, len(cols))
	for i := range row {
		dest[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		if err := f(row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("rows: %w", err)
	}
	return nil
}
