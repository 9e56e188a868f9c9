package sidecar

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sqltext"
)

// DefaultDatabase is the database's name where nobody says otherwise.
const DefaultDatabase = "_tablehaul"

var (
	// ErrNotFound means that the stream, diff or whole sidecar database isn't there.
	ErrNotFound = errors.New("not in the sidecar database")
	// ErrExists means that a stream or diff of that name is there already.
	ErrExists = errors.New("already in the sidecar database")
	// ErrNewer means that a newer version of this library has made the tables; use that version.
	ErrNewer = errors.New("sidecar database was made by a newer version")
)

// A DB is the sidecar database of one target shard. Its methods may be called at once.
type DB struct {
	db   *sql.DB
	name string
}

// Attach names the sidecar database without looking at it; an empty name is the default one. A method
// finds out with ErrNotFound if it isn't there. The caller keeps and closes db.
func Attach(db *sql.DB, name string) *DB {
	if name == "" {
		name = DefaultDatabase
	}
	return &DB{db: db, name: name}
}

// Open makes the database and its tables if they are missing, and upgrades them if they are old. Several
// processes may do so at once.
func Open(ctx context.Context, db *sql.DB, name string) (*DB, error) {
	d := Attach(db, name)
	return d, d.Ensure(ctx)
}

// Ensure does what Open does.
func (d *DB) Ensure(ctx context.Context) error {
	err := d.exclusive(ctx, func(c *sql.Conn) error {
		var n int
		row := c.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?", d.name)
		if err := row.Scan(&n); err != nil {
			return err
		}
		statements := []string{"CREATE DATABASE IF NOT EXISTS " + sqltext.Ident(d.name)}
		for _, t := range tables {
			statements = append(statements, "CREATE TABLE IF NOT EXISTS "+d.table(t)+" "+definitions[t]+tableOptions)
		}
		if n > 0 {
			statements = statements[1:]
		}
		for _, s := range statements {
			if _, err := c.ExecContext(ctx, s); err != nil {
				return err
			}
		}
		_, err := c.ExecContext(ctx, "INSERT IGNORE INTO "+d.table("sidecar_version")+" VALUES (1, ?, ?)", version, n == 0)
		if err != nil {
			return err
		}
		var have int
		if err := c.QueryRowContext(ctx, "SELECT version FROM "+d.table("sidecar_version")+" WHERE id = 1").Scan(&have); err != nil {
			return err
		}
		if have > version {
			return fmt.Errorf("%w: schema version %d, this one knows %d", ErrNewer, have, version)
		}
		return nil
	})
	return d.wrap("open", err)
}

// Name is the database's name.
func (d *DB) Name() string { return d.name }

// Table is the quoted, qualified name of one of the sidecar tables.
func (d *DB) Table(name string) string { return d.table(name) }

func (d *DB) table(name string) string { return sqltext.QualifiedIdent(d.name, name) }

// DropIfUnused drops the tables when they hold no stream and no diff, and the database if this package made it
// and nothing else is in it. It tells whether the tables are gone; they may have been before.
func (d *DB) DropIfUnused(ctx context.Context) (bool, error) {
	gone := false
	err := d.exclusive(ctx, func(c *sql.Conn) error {
		have, err := d.present(ctx, c)
		if err != nil || len(have) == 0 {
			gone = err == nil
			return err
		}
		created := 0
		gone, err = d.dropTables(ctx, c, have, &created)
		if err != nil || !gone || created == 0 {
			return err
		}
		left, err := d.present(ctx, c)
		if err == nil && len(left) == 0 {
			_, err = c.ExecContext(ctx, "DROP DATABASE IF EXISTS "+sqltext.Ident(d.name))
		}
		return err
	})
	return gone, d.wrap("drop", err)
}

// present lists all tables in the database, those of others too.
func (d *DB) present(ctx context.Context, c *sql.Conn) ([]string, error) {
	rows, err := c.QueryContext(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = ?", d.name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, rows.Err()
}

// dropTables drops our tables among have if none is in use, with all of them locked from the look to the drop.
func (d *DB) dropTables(ctx context.Context, c *sql.Conn, have []string, created *int) (bool, error) {
	lock, drop := "LOCK TABLES ", "DROP TABLE "
	var ours []string
	for _, t := range tables {
		if slices.Contains(have, t) {
			if len(ours) > 0 {
				lock, drop = lock+", ", drop+", "
			}
			ours = append(ours, t)
			lock, drop = lock+d.table(t)+" WRITE", drop+d.table(t)
		}
	}
	if len(ours) == 0 {
		return true, nil
	}
	if _, err := c.ExecContext(ctx, lock); err != nil {
		return false, err
	}
	defer func() {
		// The lock must not outlive this call, whatever became of ctx.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = c.ExecContext(ctx, "UNLOCK TABLES")
	}()
	for _, t := range []string{"vreplication", "vdiff"} {
		if !slices.Contains(ours, t) {
			continue
		}
		var n int
		if err := c.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+d.table(t)).Scan(&n); err != nil || n > 0 {
			return false, err
		}
	}
	if slices.Contains(ours, "sidecar_version") {
		err := c.QueryRowContext(ctx, "SELECT COALESCE(MAX(created_database), 0) FROM "+d.table("sidecar_version")).Scan(created)
		if err != nil {
			return false, err
		}
	}
	_, err := c.ExecContext(ctx, drop)
	return err == nil, err
}

// exclusive runs f on a connection while no other process makes or drops the database.
func (d *DB) exclusive(ctx context.Context, f func(*sql.Conn) error) error {
	c, err := d.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	name := "tablehaul " + d.name
	if len(name) > 64 {
		name = name[:64]
	}
	var got sql.NullInt64
	if err := c.QueryRowContext(ctx, "SELECT GET_LOCK(?, 30)", name).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return errors.New("another process has been making or dropping it for 30 s")
	}
	err = f(c)
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, rerr := c.ExecContext(rctx, "DO RELEASE_LOCK(?)", name); rerr != nil {
		err = errors.Join(err, rerr)
	}
	return err
}

// tx runs f in a transaction, again after a deadlock or lock wait.
func (d *DB) tx(ctx context.Context, f func(*sql.Tx) error) error {
	backoff := retry.Backoff{Min: 10 * time.Millisecond, Max: time.Second}
	for attempt := 1; ; attempt++ {
		err := d.once(ctx, f)
		if err == nil || !mysqlerr.LockWait(err) || attempt == 10 {
			return err
		}
		if err := retry.Wait(ctx, backoff.Next()); err != nil {
			return err
		}
	}
}

func (d *DB) once(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// wrap says what was being done, and makes a missing database or row an ErrNotFound.
func (d *DB) wrap(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists):
	case mysqlerr.NotFound(err), errors.Is(err, sql.ErrNoRows):
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return fmt.Errorf("sidecar database %s: %s: %w", d.name, what, err)
}

// clip shortens a text for people to what a message column is for.
func clip(s string) string {
	const most = 16000
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
