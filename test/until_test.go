package test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// until asks every few milliseconds until done says so, fails, or the context ends.
func until(ctx context.Context, done func() (bool, error)) error {
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if err := retry.Wait(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// openPool opens a pool of connections to a database that send each statement in one round trip.
func openPool(t *testing.T, s *replicationtest.Server, database string) *sql.DB {
	t.Helper()
	cfg := s.Config(database)
	cfg.InterpolateParams = true
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
