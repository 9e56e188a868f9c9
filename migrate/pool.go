package migrate

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
)

// errClosed is what a closed Migrator's methods return.
var errClosed = errors.New("the migrator is closed")

// A purpose keeps pools apart whose sessions are set up in different ways.
type purpose uint8

const (
	// forAdmin reads catalogs and the sidecar.
	forAdmin purpose = iota
	// forSchema creates and drops tables, in any order.
	forSchema
	// forOthers are handed out by Workflow.Databases; their users set sessions up as they like.
	forOthers
)

// sessions say how the connections of each purpose are set up.
var sessions = map[purpose]mysqlconn.Session{
	forAdmin: {MaxOpen: 4, Variables: map[string]string{
		"time_zone": "'+00:00'", "sql_mode": "'NO_AUTO_VALUE_ON_ZERO'", "sql_quote_show_create": "1", "lock_wait_timeout": "60",
	}},
	forSchema: {MaxOpen: 4, Variables: map[string]string{
		"time_zone": "'+00:00'", "sql_mode": "'NO_AUTO_VALUE_ON_ZERO'", "foreign_key_checks": "0", "unique_checks": "1", "lock_wait_timeout": "60",
	}},
	forOthers: {MaxOpen: 16},
}

// pools are the connections of a Migrator, opened when they are first needed and shared by all workflows.
type pools struct {
	mu struct {
		sync.Mutex
		open   map[poolKey]*sql.DB
		closed bool
	}
}

// A poolKey tells pools apart; a changed password gives another pool.
type poolKey struct {
	addr, user, password, database string
	tls                            bool
	purpose                        purpose
}

// db is the pool for cfg; it has answered at least once.
func (p *pools) db(ctx context.Context, cfg mysqlconn.Config, why purpose) (*sql.DB, error) {
	key := poolKey{cfg.Addr, cfg.User, cfg.Password, cfg.Database, cfg.TLS != nil, why}
	p.mu.Lock()
	db, closed := p.mu.open[key], p.mu.closed
	p.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if db != nil {
		return db, nil
	}
	db, err := mysqlconn.Open(ctx, cfg, sessions[why])
	if err != nil {
		return nil, serverError(cfg.Addr, cfg.User, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch other := p.mu.open[key]; {
	case p.mu.closed:
		_ = db.Close()
		return nil, errClosed
	case other != nil:
		_ = db.Close()
		return other, nil
	}
	if p.mu.open == nil {
		p.mu.open = map[poolKey]*sql.DB{}
	}
	p.mu.open[key] = db
	return db, nil
}

// close closes all pools.
func (p *pools) close() error {
	p.mu.Lock()
	open := slices.Collect(maps.Values(p.mu.open))
	p.mu.open, p.mu.closed = nil, true
	p.mu.Unlock()
	var errs []error
	for _, db := range open {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}
