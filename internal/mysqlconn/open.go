package mysqlconn

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-sql-driver/mysql"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
)

// A Session says how connections are set up, whatever the server's own defaults are.
type Session struct {
	// Names is the connection character set: "utf8mb4" if empty, "binary" to get text as it is stored.
	Names string
	// Variables are session variables and their values as SQL text, quotes included:
	// {"time_zone": "'+00:00'", "foreign_key_checks": "0"}.
	Variables map[string]string
	// MultiStatements allows several statements in one call. Off is safer and the default.
	MultiStatements bool
	// LocalInfile allows LOAD DATA LOCAL INFILE, where the server does too. A server can then ask for a file at any time: it
	// is for callers that send what they have in memory and never open one. [Dial] only.
	LocalInfile bool
	// MaxOpen bounds the pool of [Open]; 0 is no bound.
	MaxOpen int
}

func (s Session) names() string {
	if s.Names == "" {
		return "utf8mb4"
	}
	return s.Names
}

// Set is the statement that sets the session variables up; "" if there are none.
func (s Session) Set() string {
	if len(s.Variables) == 0 {
		return ""
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.Variables)) {
		parts = append(parts, "SESSION "+name+" = "+s.Variables[name])
	}
	return "SET " + strings.Join(parts, ", ")
}

const (
	// idleTime is when a pool closes a connection that nobody uses.
	idleTime = 15 * time.Second
	// waitTimeout, in seconds, is when the server ends a pool's connection that is silent: that of a process that hangs, or is
	// cut off, in the middle of a transaction. Its locks would be in the way of the process that takes over.
	waitTimeout = "30"
)

// Open returns a pool of connections to the server of cfg, after one of them has answered. Affected rows are
// matched rows, dates stay text, and the largest packet is what the server allows. The caller closes it.
func Open(ctx context.Context, cfg Config, s Session) (*sql.DB, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	mc := mysql.NewConfig()
	mc.Net, mc.Addr = cfg.network()
	mc.User, mc.Passwd, mc.DBName, mc.TLS = cfg.User, cfg.Password, cfg.Database, cfg.TLS
	mc.Timeout, mc.ReadTimeout, mc.WriteTimeout = cfg.timeout(), cfg.ReadTimeout, cfg.WriteTimeout
	mc.MultiStatements = s.MultiStatements
	mc.ClientFoundRows = true
	mc.MaxAllowedPacket = 0
	mc.Logger = &mysql.NopLogger{}
	mc.Params = map[string]string{"wait_timeout": waitTimeout}
	maps.Copy(mc.Params, s.Variables)
	mc.DialFunc = cfg.dialer()
	if err := mc.Apply(mysql.Charset(s.names(), "")); err != nil {
		return nil, fmt.Errorf("mysql server %s: %w", cfg, err)
	}
	connector, err := mysql.NewConnector(mc)
	if err != nil {
		return nil, fmt.Errorf("mysql server %s: %w", cfg, err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(s.MaxOpen)
	db.SetMaxIdleConns(4)
	db.SetConnMaxIdleTime(idleTime)
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, classify(ctx, cfg, err)
	}
	return db, nil
}

// Dial returns one connection of the go-mysql client. Multiple statements are on if s says so, affected rows
// are matched rows, warnings are counted in results. Its methods know no context: see [Watch].
// The caller closes it.
func Dial(ctx context.Context, cfg Config, s Session) (*client.Conn, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	hctx, cancel := context.WithTimeout(ctx, cfg.timeout())
	defer cancel()
	network, addr := cfg.network()
	var stop func() bool
	dial := func(_ context.Context, network, addr string) (net.Conn, error) {
		nc, err := cfg.dialer()(hctx, network, addr)
		if err == nil {
			// The handshake below knows no context, but ends when its connection does.
			stop = context.AfterFunc(hctx, func() { _ = nc.Close() })
		}
		return nc, err
	}
	c, err := client.ConnectWithDialer(hctx, network, addr, cfg.User, cfg.Password, cfg.Database, dial, cfg.clientOptions(s))
	if err == nil {
		err = setUp(c, s)
	}
	if stop != nil && !stop() && err == nil {
		err = context.Cause(hctx)
	}
	if err != nil {
		if c != nil {
			_ = c.Close()
		}
		if hctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(hctx), err)
		}
		return nil, classify(ctx, cfg, err)
	}
	return c, nil
}

// clientOptions puts cfg and s into go-mysql's form.
func (c Config) clientOptions(s Session) client.Option {
	return func(conn *client.Conn) error {
		conn.ReadTimeout, conn.WriteTimeout = c.ReadTimeout, c.WriteTimeout
		if c.TLS != nil {
			conn.SetTLSConfig(c.TLS)
		}
		conn.UnsetCapability(gomysql.CLIENT_QUERY_ATTRIBUTES)
		if s.MultiStatements {
			if err := conn.SetCapability(gomysql.CLIENT_MULTI_STATEMENTS); err != nil {
				return err
			}
		}
		if s.LocalInfile {
			if err := conn.SetCapability(gomysql.CLIENT_LOCAL_FILES); err != nil {
				return err
			}
		}
		return conn.SetCapability(gomysql.CLIENT_FOUND_ROWS)
	}
}

func setUp(c *client.Conn, s Session) error {
	if _, err := c.Execute("SET NAMES " + s.names()); err != nil {
		return err
	}
	if set := s.Set(); set != "" {
		if _, err := c.Execute(set); err != nil {
			return err
		}
	}
	return nil
}

// Watch closes conn when ctx ends, which makes a call that reads from it return with an error. Give it the network
// connection of a client (c.Conn.Conn): only that may be closed while another goroutine uses the client.
// stop ends the watch and tells whether the connection is still open.
func Watch(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.Close() })
}

// classify says which of the errors of this package err is. The drivers don't put passwords into errors;
// the text is checked all the same.
func classify(ctx context.Context, cfg Config, err error) error {
	cause := err
	if cfg.Password != "" && strings.Contains(err.Error(), cfg.Password) {
		err = errors.New(strings.ReplaceAll(err.Error(), cfg.Password, "***"))
	}
	switch code, ok := mysqlerr.Code(cause); {
	case ctx.Err() != nil:
		return fmt.Errorf("mysql server %s: %w", cfg, context.Cause(ctx))
	case mysqlerr.AccessDenied(cause):
		return &AccessDeniedError{Addr: cfg.Addr, User: cfg.User, Err: err}
	case !ok && mysqlerr.Network(cause), code == 1040, code == 1129, code == 1053:
		return &UnreachableError{Addr: cfg.Addr, User: cfg.User, Err: err}
	}
	return fmt.Errorf("mysql server %s: %w", cfg, err)
}
