package mount

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/topo"
)

// Credentials answers how to log in at a MySQL server. It is asked before every new pool of connections, possibly
// from several goroutines at once. An error of it is wrapped and returned by the call that needed the login.
type Credentials func(ctx context.Context, s Server) (Login, error)

// Server is a MySQL server that somebody wants to log in at.
type Server struct {
	// Cluster is the name of the mount; empty means the local cluster.
	Cluster string
	// Keyspace and Shard are what the server is wanted for. Both are empty when the server is asked what it
	// holds, as this package does with those of a mysql cluster.
	Keyspace, Shard string
	// Addr is "host:port".
	Addr string
	// Alias is the server's tablet; zero in a mysql cluster.
	Alias topo.TabletAlias
}

// Login is an account on a MySQL server. Printing one, in whatever form, does not show the password.
type Login struct {
	User     string
	Password string
	TLS      *tls.Config // nil for a plain connection
}

// Static answers with the same login for every server.
func Static(l Login) Credentials {
	return func(context.Context, Server) (Login, error) { return l, nil }
}

// String is the user, and whether there is a password.
func (l Login) String() string {
	if l.Password == "" {
		return l.User
	}
	return l.User + ":***"
}

// GoString is String.
func (l Login) GoString() string { return l.String() }

// Format prints String for every verb.
func (l Login) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(l.String())) }

// LogValue is the user.
func (l Login) LogValue() slog.Value { return slog.GroupValue(slog.String("user", l.User)) }

// MarshalJSON gives the user, and whether TLS is used: a Login is not stored.
func (l Login) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		User string `json:"user"`
		TLS  bool   `json:"tls"`
	}{l.User, l.TLS != nil})
}

// MarshalText is String.
func (l Login) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// config asks for the login at s and makes it a way to connect.
func (c Credentials) config(ctx context.Context, s Server) (mysqlconn.Config, error) {
	l, err := c(ctx, s)
	if err != nil {
		return mysqlconn.Config{}, fmt.Errorf("credentials for %s: %w", s.Addr, err)
	}
	if l.User == "" {
		return mysqlconn.Config{}, &ConfigError{Field: "Credentials", Reason: "they name no user for " + s.Addr}
	}
	return mysqlconn.Config{Addr: s.Addr, User: l.User, Password: l.Password, TLS: l.TLS, DialTimeout: answerTimeout}, nil
}
