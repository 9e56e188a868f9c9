package mount

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/topo"
)

// answerTimeout is how long a server may take to accept a connection and to say what it is.
const answerTimeout = 5 * time.Second

var errNoAnswer = fmt.Errorf("no answer within %v", answerTimeout)

// server is what one MySQL server says about itself.
type server struct {
	addr      string
	variables map[string]string // those of describeVariables, by name
	databases []string          // those that are keyspaces, sorted
}

// readOnly tells whether the server refuses writes of applications.
func (s *server) readOnly() bool {
	for _, name := range []string{"read_only", "super_read_only", "innodb_read_only"} {
		switch strings.ToUpper(s.variables[name]) {
		case "", "0", "OFF":
		default: // newer MariaDB has more than ON
			return true
		}
	}
	return false
}

func (s *server) tabletType() topo.TabletType {
	if s.readOnly() {
		return topo.TabletReplica
	}
	return topo.TabletPrimary
}

func (s *server) mariadb() bool { return strings.Contains(s.variables["version"], "MariaDB") }

// replicatesOtherwise tells whether the server gets its data by other means than a replication channel.
func (s *server) replicatesOtherwise() bool {
	return s.variables["group_replication_group_name"] != "" || s.variables["aurora_version"] != ""
}

const describeVariables = `SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'read_only', 'super_read_only', ` +
	`'innodb_read_only', 'server_uuid', 'group_replication_group_name', 'aurora_version')`

// describe asks a server what it is and holds.
func describe(ctx context.Context, db *sql.DB, addr string) (*server, error) {
	s := &server{addr: addr, variables: make(map[string]string)}
	var name, value string
	err := each(ctx, db, describeVariables, []any{&name, &value}, func() { s.variables[strings.ToLower(name)] = value })
	if err != nil {
		return nil, err
	}
	err = each(ctx, db, "SHOW DATABASES", []any{&name}, func() {
		if !slices.Contains(noKeyspaces, strings.ToLower(name)) {
			s.databases = append(s.databases, name)
		}
	})
	slices.Sort(s.databases)
	return s, err
}

// noKeyspaces are the databases of the server itself and of replication tools, in lower case.
var noKeyspaces = []string{"mysql", "sys", "information_schema", "performance_schema", "_vt", "_tablehaul"}

// each runs a query and calls fn for every row, when it is in dest.
func each(ctx context.Context, db *sql.DB, query string, dest []any, fn func()) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		fn()
	}
	return rows.Err()
}

// channels counts the replication channels of a server.
func (s *server) channels(ctx context.Context, db *sql.DB) (int, error) {
	queries := []string{"SHOW REPLICA STATUS", "SHOW SLAVE STATUS"} // before MySQL 8.0.22 there is only the second
	if s.mariadb() {
		queries = []string{"SHOW ALL SLAVES STATUS"}
	}
	var err error
	for _, q := range queries {
		var n int
		n, err = countRows(ctx, db, q)
		if code, _ := mysqlerr.Code(err); code != 1064 {
			return n, err
		}
	}
	return 0, err
}

func countRows(ctx context.Context, db *sql.DB, query string) (n int, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

// serverError makes an error of connecting or asking one of this package. ctx is the one that the server was asked
// with.
func serverError(ctx context.Context, addr, user string, err error) error {
	_, fromServer := mysqlerr.Code(err)
	switch {
	case err == nil:
		return nil
	case mysqlerr.AccessDenied(err):
		return &AccessError{Addr: addr, User: user, Err: err}
	case errors.Is(context.Cause(ctx), errNoAnswer):
		return &UnreachableError{Addr: addr, Err: errNoAnswer}
	case ctx.Err() != nil:
		return fmt.Errorf("mysql server %s: %w", addr, context.Cause(ctx))
	case errors.Is(err, mysqlconn.ErrUnreachable), !fromServer && mysqlerr.Network(err):
		return &UnreachableError{Addr: addr, Err: err}
	case fromServer:
		return fmt.Errorf("mysql server %s: %w", addr, err)
	}
	return err // names the server
}
