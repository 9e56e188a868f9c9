package target

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// alterSession is for schema changes. They wait long for tables: the stream gives way to them.
func alterSession() mysqlconn.Session {
	s := session
	s.MultiStatements = false
	s.Variables = map[string]string{
		"sql_mode": "'ALLOW_INVALID_DATES'", "time_zone": "'+00:00'", "foreign_key_checks": "0", "unique_checks": "1",
		"lock_wait_timeout": "600", "innodb_lock_wait_timeout": "600", "wait_timeout": "86400",
	}
	return s
}

// FinishTable adds the keys that were left out for the copy, if any were, while the stream goes on. Of several streams of a workflow
// that fill the table the last one does. When ctx ends
// the server is told to stop; what was not added then is added by the next call.
func (t *Target) FinishTable(ctx context.Context, table *replication.Table) error {
	s, err := t.loaded()
	if err != nil {
		return err
	}
	actions, err := t.side.PostCopyActions(ctx, t.cfg.StreamID)
	if err != nil {
		return s.classify(ctx, err)
	}
	i := slices.IndexFunc(actions, func(a sidecar.Action) bool { return a.Table == table.Name })
	if i < 0 {
		return nil
	}
	handed, err := t.side.HandOver(ctx, t.cfg.StreamID, table.Name)
	if err != nil || handed {
		return s.classify(ctx, err)
	}
	c, err := s.dialAlter(ctx, table.Name)
	if err != nil {
		return s.classify(ctx, err)
	}
	defer c.close()
	return s.classify(ctx, s.addDueKeys(ctx, c, table.Name))
}

// tableLockWait is how long the lock of a table's name is waited for, in seconds: as long as for the table itself.
const tableLockWait = 600

// tableLock is the name of the lock that who changes a table's definition holds. A server has 64 characters for it.
func (s *store) tableLock(table string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(s.t.cfg.Server.Database + "." + table)))
	return "tablehaul " + hex.EncodeToString(sum[:20])
}

// dialAlter dials a connection for schema changes of the tables, and takes the locks of their names. The server keeps them until the
// connection's last statement has ended, also if its process has died: so no key is added, and no schema change
// of the source executed, beside another one of any stream.
func (s *store) dialAlter(ctx context.Context, tables ...string) (*conn, error) {
	raw, err := mysqlconn.Dial(ctx, s.t.cfg.Server, alterSession())
	if err != nil {
		return nil, err
	}
	c := &conn{c: raw}
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = s.tableLock(t)
	}
	slices.Sort(names) // all take them in one order
	for _, name := range names {
		rows, err := c.query(ctx, fmt.Sprintf("SELECT COALESCE(GET_LOCK(%s, %d), 0)", sqltext.String(name), tableLockWait))
		if err == nil && rows[0][0] != "1" {
			err = &replication.TransientError{Err: fmt.Errorf("%w: another schema change of the table goes on", ErrLockConflict)}
		}
		if err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// addDueKeys adds the keys that were left out of the tables for the copy, on a connection that has the tables' locks. It does
// so for all streams of the workflow that fill them.
func (s *store) addDueKeys(ctx context.Context, c *conn, tables ...string) error {
	me, err := s.side.Stream(ctx, s.id)
	if err != nil {
		return err
	}
	streams, err := s.side.Streams(ctx, sidecar.Filter{Workflow: me.Workflow, DBName: me.DBName})
	if err != nil {
		return err
	}
	for _, stream := range streams {
		actions, err := s.side.PostCopyActions(ctx, stream.ID)
		if err != nil {
			return err
		}
		for _, a := range actions {
			if !slices.ContainsFunc(tables, func(t string) bool { return strings.EqualFold(t, a.Table) }) {
				continue
			}
			start := time.Now()
			if err := s.addKeys(ctx, c, a); err != nil {
				return fmt.Errorf("add the keys of table %s: %w", a.Table, err)
			}
			if err := s.side.DeletePostCopyAction(ctx, stream.ID, a.Table); err != nil {
				return err
			}
			s.t.opts.Logger.Info("keys added", "table", a.Table, "keys", len(a.Keys), "took", time.Since(start))
		}
	}
	return nil
}

// addKeys adds those of the keys that are missing.
func (s *store) addKeys(ctx context.Context, c *conn, a sidecar.Action) error {
	for attempt := 0; ; attempt++ {
		missing, err := s.missingKeys(ctx, a)
		if err != nil {
			return err
		}
		statements := alterStatements(s.qualified(a.Table), missing)
		if len(statements) == 0 {
			return nil
		}
		// One at a time, since each changes what is missing. Somebody may add the same keys by hand; then look again.
		err = s.alter(ctx, c, statements[0])
		if err != nil && (!mysqlerr.AlreadyDone(err) || attempt > len(a.Keys)) {
			return err
		}
	}
}

func (s *store) missingKeys(ctx context.Context, a sidecar.Action) ([]sidecar.ActionKey, error) {
	rows, err := s.t.db.QueryContext(ctx, "SELECT DISTINCT 0, index_name FROM information_schema.statistics WHERE table_schema = ? AND table_name = ?"+
		" UNION ALL SELECT 1, constraint_name FROM information_schema.table_constraints"+
		" WHERE table_schema = ? AND table_name = ? AND constraint_type = 'FOREIGN KEY'",
		s.t.cfg.Server.Database, a.Table, s.t.cfg.Server.Database, a.Table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	type key struct {
		foreign bool
		name    string
	}
	have := make(map[key]bool)
	for rows.Next() {
		var k key
		if err := rows.Scan(&k.foreign, &k.name); err != nil {
			return nil, err
		}
		have[key{k.foreign, strings.ToLower(k.name)}] = true
	}
	var missing []sidecar.ActionKey
	for _, k := range a.Keys {
		if !have[key{k.ForeignKey, strings.ToLower(k.Name)}] {
			missing = append(missing, k)
		}
	}
	return missing, rows.Err()
}

// online ends a schema change that must not keep rows from being written.
const online = ", LOCK=NONE"

// alterStatements are the statements that add keys: all that can be built while rows are written in
// one, and each FULLTEXT and SPATIAL key by itself, since a server builds only one of them at a time, without writes.
func alterStatements(table string, keys []sidecar.ActionKey) []string {
	keysOnline, statements := "", []string(nil)
	for _, k := range keys {
		word, _, _ := strings.Cut(strings.TrimSpace(strings.ToUpper(k.Definition)), " ")
		if word == "FULLTEXT" || word == "SPATIAL" {
			statements = append(statements, "ALTER TABLE "+table+" ADD "+k.Definition)
			continue
		}
		if keysOnline != "" {
			keysOnline += ", "
		}
		keysOnline += "ADD " + k.Definition
	}
	if keysOnline != "" {
		statements = append([]string{"ALTER TABLE " + table + " " + keysOnline + online}, statements...)
	}
	return statements
}

// alter executes a schema change with the lock that it needs.
func (s *store) alter(ctx context.Context, c *conn, statement string) error {
	_, err := s.runLong(ctx, c, statement)
	offline, ok := strings.CutSuffix(statement, online)
	switch code, _ := mysqlerr.Code(err); {
	case !ok:
	case code == 1845 || code == 1846 || code == 1221:
		_, err = s.runLong(ctx, c, offline)
	case mysqlerr.DuplicateKey(err) || code == 1799:
		// A server takes two values for duplicates too if one of them came and the other one went while the key was built.
		// Without writes it is right. 1799 says that more was written meanwhile than innodb_online_alter_log_max_size bytes.
		_, err = s.runLong(ctx, c, offline+", LOCK=SHARED")
	}
	return err
}

// runLong runs a statement, and has the server stop it when ctx ends; it waits until the server has.
func (s *store) runLong(ctx context.Context, c *conn, statement string) (result, error) {
	stop := context.AfterFunc(ctx, func() {
		kctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		s.kill(kctx, c)
		// In case that the server did not hear it.
		_ = c.c.Conn.Conn.SetDeadline(time.Now().Add(rollbackTimeout))
	})
	r, err := c.run(context.WithoutCancel(ctx), statement)
	stop()
	if err != nil && ctx.Err() != nil && !errors.Is(err, ErrLockConflict) {
		err = context.Cause(ctx)
	}
	return r, err
}
