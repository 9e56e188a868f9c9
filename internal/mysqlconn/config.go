package mysqlconn

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// A Config says which server to connect to and as whom. Printing one, in whatever form, shows "***" for the
// password.
type Config struct {
	// Addr is host:port, or the path of a Unix socket (with a slash in it). A host alone gets port 3306.
	Addr string
	User string
	// Password is empty for users without one.
	Password string
	// TLS is nil for a plain connection.
	TLS *tls.Config
	// Database is the default database; it may be empty.
	Database string
	// DialTimeout bounds connecting, with the handshake; 0 is 5 s.
	DialTimeout time.Duration
	// ReadTimeout and WriteTimeout bound one read or write on the network; 0 is none.
	ReadTimeout, WriteTimeout time.Duration
	// Silence is how long the server may be silent in the middle of an answer before it is asked over a second connection
	// whether it is there, and at work; 0 is 10 s, negative never asks. A server that does not answer that twice, within DialTimeout or Silence if that is
	// shorter, hangs: the call fails with what is transient for mysqlerr. A statement that runs is waited for, however long.
	Silence time.Duration
}

// network returns the network and address for net.Dial.
func (c Config) network() (network, addr string) {
	if strings.Contains(c.Addr, "/") {
		return "unix", c.Addr
	}
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return "tcp", net.JoinHostPort(strings.Trim(c.Addr, "[]"), "3306")
	}
	return "tcp", c.Addr
}

func (c Config) timeout() time.Duration {
	if c.DialTimeout > 0 {
		return c.DialTimeout
	}
	return 5 * time.Second
}

func (c Config) validate() error {
	var errs []error
	if c.Addr == "" {
		errs = append(errs, errors.New("no address"))
	}
	if c.User == "" {
		errs = append(errs, errors.New("no user"))
	}
	if len(errs) > 0 {
		return fmt.Errorf("mysql server %s: %w", c, errors.Join(errs...))
	}
	return nil
}

// shown is c as it may be printed.
type shown struct {
	Addr     string `json:"addr"`
	User     string `json:"user"`
	Password string `json:"password,omitempty"`
	TLS      bool   `json:"tls"`
	Database string `json:"database,omitempty"`
}

func (c Config) shown() shown {
	s := shown{Addr: c.Addr, User: c.User, TLS: c.TLS != nil, Database: c.Database}
	if c.Password != "" {
		s.Password = "***"
	}
	return s
}

// String is user@address/database.
func (c Config) String() string {
	s := c.User + "@" + c.Addr
	if c.Database != "" {
		s += "/" + c.Database
	}
	return s
}

// Format prints String for every verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// GoString is String.
func (c Config) GoString() string { return c.String() }

// LogValue gives address, user and database.
func (c Config) LogValue() slog.Value {
	s := c.shown()
	return slog.GroupValue(slog.String("addr", s.Addr), slog.String("user", s.User), slog.String("database", s.Database))
}

// MarshalJSON leaves the password out. A Config is not stored, only shown.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.shown()) }

// MarshalText is String.
func (c Config) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// An UnreachableError means that no server answered at the address.
type UnreachableError struct {
	Addr, User string
	Err        error
}

// ErrUnreachable is what every [UnreachableError] is: check address, network and that the server runs.
var ErrUnreachable = errors.New("mysql server unreachable")

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("mysql server %s (user %s) unreachable: %v", e.Addr, e.User, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Is tells that e is an [ErrUnreachable].
func (e *UnreachableError) Is(target error) bool { return target == ErrUnreachable }

// An AccessDeniedError means that the server refused user or password, or the user the database.
type AccessDeniedError struct {
	Addr, User string
	Err        error
}

// ErrAccessDenied is what every [AccessDeniedError] is: check user, password, host and grants.
var ErrAccessDenied = errors.New("mysql access denied")

func (e *AccessDeniedError) Error() string {
	return fmt.Sprintf("mysql server %s: access denied for user %s: %v", e.Addr, e.User, e.Err)
}

// Unwrap returns the cause.
func (e *AccessDeniedError) Unwrap() error { return e.Err }

// Is tells that e is an [ErrAccessDenied].
func (e *AccessDeniedError) Is(target error) bool { return target == ErrAccessDenied }
