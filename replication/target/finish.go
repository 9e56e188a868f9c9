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
		"lock_wait_timeout": "600", "innodb_lock_wait_timeout": "600", "wait_timeout": "600",
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
	last, err := t.side.IsLast(ctx, t.cfg.StreamID, table.Name)
	if err != nil || !last {
		return s.classify(ctx, err)
	}
	c, err := s.dialAlter(ctx, table.Name)
	if err != nil {
		return s.classify(ctx, err)
	}
	defer c.close()
	// Only now, since a schema change may have added them meanwhile.
	due, err := t.side.WorkflowActions(ctx, t.cfg.StreamID, table.Name)
	if err != nil {
		return s.classify(ctx, err)
	}
	return s.classify(ctx, s.addDueKeys(ctx, c, due))
}

// nameLock is the name of the lock that who changes a table's definition holds; "" stands for all tables with foreign keys. A server has 64
// characters for it.
func (s *store) nameLock(table string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(s.t.cfg.Server.Database + "." + table)))
	return "tablehaul " + hex.EncodeToString(sum[:20])
}

// lockWait is how long a lock is waited for until the log is told, and it is waited for again.
const lockWait = time.Minute

// dialAlter dials a connection for schema changes of the tables, and takes the locks of their names. The server keeps them until the
// connection's last statement has ended, also if its process has died: so no key is added, and no schema change
// of the source executed, beside another one of any stream. Of tables with foreign keys only one is changed at a time: a change of one
// locks its relatives too, and of two at once MySQL ends one as a deadlock, and MariaDB none. Waiting may take as long as the other's keys do.
func (s *store) dialAlter(ctx context.Context, tables ...string) (*conn, error) {
	relatives, err := s.relatives(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := mysqlconn.Dial(ctx, s.t.cfg.Server, alterSession())
	if err != nil {
		return nil, err
	}
	c := &conn{c: raw}
	var names []string
	for _, t := range tables {
		names = append(names, strings.ToLower(t))
	}
	if slices.ContainsFunc(names, func(t string) bool { return relatives[t] }) {
		names = append(names, "")
	}
	slices.Sort(names) // all take them in one order
	for _, name := range names {
		if err := s.lockName(ctx, c, name); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func (s *store) lockName(ctx context.Context, c *conn, table string) error {
	for {
		rows, err := c.query(ctx, fmt.Sprintf("SELECT COALESCE(GET_LOCK(%s, %d), 0)", sqltext.String(s.nameLock(table)), int(lockWait.Seconds())))
		if err != nil || rows[0][0] == "1" {
			return err
		}
		s.t.opts.Logger.Info("waiting until another schema change has ended", "table", table)
	}
}

// relatives are the tables of the target's database that have foreign keys, or are referenced by them, in lower case, as they were when
// they were first asked for.
func (s *store) relatives(ctx context.Context) (map[string]bool, error) {
	s.mu.Lock()
	known := s.mu.relatives
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	rows, err := s.t.db.QueryContext(ctx, "SELECT table_name, referenced_table_name FROM information_schema.referential_constraints WHERE constraint_schema = ?", s.t.cfg.Server.Database)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	known = make(map[string]bool)
	for rows.Next() {
		var child, parent string
		if err := rows.Scan(&child, &parent); err != nil {
			return nil, err
		}
		known[strings.ToLower(child)], known[strings.ToLower(parent)] = true, true
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.relatives = known
	return known, nil
}

// addDueKeys adds the keys that were left out for the copy of tables, on a connection that has the tables' locks. It does so for all
// streams of the workflow that fill them.
func (s *store) addDueKeys(ctx context.Context, c *conn, due []sidecar.Action) error {
	for _, a := range due {
		start := time.Now()
		if err := s.addKeys(ctx, c, a); err != nil {
			return fmt.Errorf("add the keys of table %s: %w", a.Table, err)
		}
		if err := s.side.DeletePostCopyAction(ctx, a.StreamID, a.Table); err != nil {
			return err
		}
		s.t.opts.Logger.Info("keys added", "table", a.Table, "keys", len(a.Keys), "took", time.Since(start))
	}
	return nil
}

// addKeys adds those of the keys that are missing. It looks which those are when the server says that it has one of them already: they are
// added anew after an interruption, and somebody may add the same keys by hand.
func (s *store) addKeys(ctx context.Context, c *conn, a sidecar.Action) error {
	missing := a.Keys
	for attempt := 0; ; attempt++ {
		var err error
		for _, statement := range alterStatements(s.qualified(a.Table), missing) {
			if err = s.alter(ctx, c, statement); err != nil {
				break
			}
		}
		if err == nil || !mysqlerr.AlreadyDone(err) || attempt > len(a.Keys) {
			return err
		}
		if missing, err = s.missingKeys(ctx, a); err != nil {
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
