package target_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// waiting waits until a session of the server waits for the lock of a table's name.
func (h *shard) waiting() {
	h.Helper()
	h.until("a lock is waited for", func() bool {
		return len(h.rows("SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT COALESCE(GET_LOCK%'")) > 0
	})
}

// changing is a session that holds the lock of pairs, as that of a process that has died.
func (h *shard) changing(tg *target.Target) *sql.Conn {
	h.Helper()
	c, err := h.db.Conn(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = c.Close() })
	if _, err := c.ExecContext(h.Context(), "DO GET_LOCK(?, 0)", target.TableLock(tg, "pairs")); err != nil {
		h.Fatal(err)
	}
	return c
}

// leave executes a statement as the last one of a session.
func (h *shard) leave(c *sql.Conn, statement string) {
	h.Helper()
	if _, err := c.ExecContext(h.Context(), statement); err != nil {
		h.Fatal(err)
	}
	// The session goes back to a pool, with its locks.
	if _, err := c.ExecContext(h.Context(), "DO RELEASE_ALL_LOCKS()"); err != nil {
		h.Fatal(err)
	}
}

// A schema change of a table whose keys are still to be added leaves the definition that the source has then.
func TestDDLOfATableWithDueKeys(t *testing.T) {
	const definition = "SELECT column_name, index_name, seq_in_index, non_unique FROM information_schema.statistics WHERE table_name = 'pairs' AND table_schema = "
	const columns = "SELECT column_name, column_type FROM information_schema.columns WHERE table_name = 'pairs' AND table_schema = "
	each(t, func(t *testing.T, s *replicationtest.Server) {
		for _, change := range []string{
			"DROP COLUMN v", "RENAME COLUMN u TO w", "DROP KEY v", "DROP KEY v, DROP COLUMN u", "RENAME KEY v TO v2", "MODIFY u bigint", "ADD KEY more (v, u)",
		} {
			t.Run(change, func(t *testing.T) {
				h := newShard(t, s, plainPairs, fillPairs)
				s.MustExec(t, "CREATE DATABASE source_"+h.name)
				h.exec("CREATE TABLE source_" + h.name + ".pairs LIKE pairs")
				h.exec("ALTER TABLE source_" + h.name + ".pairs ADD UNIQUE KEY u (u), ADD KEY v (v, u)")
				h.exec("ALTER TABLE source_" + h.name + ".pairs " + change)
				keys := []sidecar.ActionKey{{Name: "u", Definition: "UNIQUE KEY `u` (`u`)"}, {Name: "v", Definition: "KEY `v` (`v`,`u`)"}}
				h.postpone("pairs", keys...)
				// Another stream of the workflow fills the table too.
				other, err := h.side.InsertStream(t.Context(), &sidecar.Stream{Workflow: "wf", DBName: h.name, SourceShard: "1", State: "Running", Options: "{}"})
				if err != nil {
					t.Fatal(err)
				}
				if err := h.side.AddPostCopyAction(t.Context(), sidecar.Action{StreamID: other, Table: "pairs", Keys: keys}); err != nil {
					t.Fatal(err)
				}
				p := pairs()
				tg := h.target(target.Options{}, p)
				r := h.start(tg)
				r.must(ddl(r, "ALTER TABLE pairs "+change, "pairs"))
				if err := tg.FinishTable(t.Context(), p); err != nil {
					t.Error(err)
				}
				for _, query := range []string{definition, columns} {
					got, want := h.rows(query+"DATABASE() ORDER BY 1, 2"), h.rows(query+"'source_"+h.name+"' ORDER BY 1, 2")
					if fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("target has %s, source %s", got, want)
					}
				}
				if actions, err := h.side.PostCopyActions(t.Context(), other); err != nil || len(actions) > 0 || h.due("pairs") {
					t.Errorf("still due: %v, %v", actions, err)
				}
			})
		}
	})
}

// A schema change is not begun, and its marker not written, while keys are being added: they change the definition too.
func TestDDLWaitsForKeys(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, plainPairs, fillPairs)
		h.postpone("pairs", sidecar.ActionKey{Name: "u", Definition: "UNIQUE KEY `u` (`u`)"})
		p := pairs()
		tg := h.target(target.Options{}, p)
		r := h.start(tg)
		tx, err := h.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO pairs VALUES (100, 'a', 100)"); err != nil {
			t.Fatal(err)
		}
		finished, applied := make(chan error, 1), make(chan error, 1)
		go func() { finished <- tg.FinishTable(t.Context(), p) }()
		h.until("keys are built", h.altering)
		e := ddl(r, "ALTER TABLE pairs DROP COLUMN v", "pairs")
		go func() { applied <- r.apply(e) }()
		h.waiting()
		if m, err := h.side.Position(t.Context(), h.stream); err != nil || m.DDL != "" {
			t.Errorf("the mark is %+v, %v", m, err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(<-finished, <-applied); err != nil {
			t.Fatal(err)
		}
		h.want(keyNames, "PRIMARY", "u")
		h.want("SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY 1", "id", "u")
	})
}

// The statement of a process that has died goes on at the server: whether it was executed is known only when it has ended.
func TestDDLOfADeadProcessGoesOn(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		tg := h.target(target.Options{}, p)
		const statement = "ALTER TABLE pairs ADD KEY (v, u)"
		r := h.start(tg)
		crash(h, tg, ddl(r, statement, "pairs"), false)
		_ = r.stop()
		r = h.start(tg)
		dead := h.changing(tg)
		e := ddl(r, statement, "pairs")
		applied := make(chan error, 1)
		go func() { applied <- r.apply(e) }()
		h.waiting()
		h.leave(dead, statement)
		if err := <-applied; err != nil {
			t.Fatal(err)
		}
		h.want(keyNames, "PRIMARY", "u", "v")
	})
}

// Who has lost the stream does not execute its schema change any more.
func TestDDLOfADeposedOwner(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		tg := h.target(target.Options{}, p)
		r := h.start(tg)
		crash(h, tg, ddl(r, "ALTER TABLE pairs DROP COLUMN v", "pairs"), false)
		_ = r.stop()
		r = h.start(tg)
		if _, err := h.target(target.Options{}, p).Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.apply(ddl(r, "ALTER TABLE pairs DROP COLUMN v", "pairs")); !errors.Is(err, replication.ErrFenced) {
			t.Errorf("error is %v", err)
		}
		h.want("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE()", "3")
	})
}

// MariaDB drops tables one by one: what a crash has left of them is dropped after it.
func TestDropOfSeveralTables(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		for _, done := range []string{"DROP TABLE pairs, more", "DROP TABLE pairs"} {
			if done == "DROP TABLE pairs" && s.Flavor != "mariadb" {
				continue
			}
			h := newShard(t, s, createPairs, "CREATE TABLE more (id int PRIMARY KEY)")
			tg := h.target(target.Options{}, pairs())
			r := h.start(tg)
			e := ddl(r, "DROP TABLE pairs, more", "pairs", "more")
			crash(h, tg, e, false)
			h.exec(done)
			_ = r.stop()
			r = h.start(tg)
			r.must(ddl(r, "DROP TABLE pairs, more", "pairs", "more"))
			h.want("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()")
			if n := transactions(h.position()); n != 1 {
				t.Errorf("position is %d", n)
			}
		}
	})
}

// A key that more is written to, while it is built, than the server keeps for it, is built without writes.
func TestKeysAreBuiltUnderTooMuchLoad(t *testing.T) {
	s := server(t, "mysql") // MariaDB keeps what is written in the undo log, and does without
	h := newShard(t, s, plainPairs)
	old := h.rows("SELECT @@GLOBAL.innodb_online_alter_log_max_size")[0]
	h.exec("SET GLOBAL innodb_online_alter_log_max_size = 65536")
	defer h.exec("SET GLOBAL innodb_online_alter_log_max_size = " + old)
	h.fillMany()
	p := pairs()
	tg := h.target(target.Options{}, p)
	h.start(tg)
	alters := func() string { return h.rows("SHOW GLOBAL STATUS LIKE 'Com_alter_table'")[0] }
	state := "SELECT state FROM information_schema.processlist WHERE info LIKE 'ALTER TABLE%" + h.name + "%LOCK=NONE'"
	for attempt := 1; ; attempt++ {
		h.postpone("pairs", sidecar.ActionKey{Name: "v", Definition: "KEY `v` (`v`,`u`)"})
		var began int
		_, _ = fmt.Sscanf(alters(), "Com_alter_table %d", &began)
		finished := make(chan error, 1)
		go func() { finished <- tg.FinishTable(t.Context(), p) }()
		h.until("the key is built", func() bool {
			return len(finished) > 0 || strings.Contains(fmt.Sprint(h.rows(state)), "altering table")
		})
		h.exec("UPDATE pairs SET u = u + 200000")
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
		if !h.has("v") {
			t.Fatal("the key is missing")
		}
		var ended int
		if _, _ = fmt.Sscanf(alters(), "Com_alter_table %d", &ended); ended > began+1 {
			return
		}
		if attempt == 5 {
			t.Fatal("no build was too slow for its writes")
		}
		h.exec("ALTER TABLE pairs DROP KEY v")
	}
}
