package target_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// A load moves values between rows, one transaction after another, until stopped.
type load struct {
	r     *run
	stop  chan struct{}
	ended chan error
}

func startLoad(r *run, p *replication.Table) *load {
	l := &load{r: r, stop: make(chan struct{}), ended: make(chan error, 1)}
	go func() {
		for {
			select {
			case <-l.stop:
				l.ended <- nil
				return
			default:
			}
			if err := r.apply(moves(r, p, 1)...); err != nil {
				l.ended <- err
				return
			}
		}
	}()
	return l
}

func (l *load) finish() error {
	close(l.stop)
	return <-l.ended
}

// until waits for a condition of the server.
func (h *shard) until(what string, is func() bool) {
	h.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(end) {
			h.Fatalf("waited in vain until %s", what)
		}
		if err := retry.Wait(h.Context(), time.Millisecond); err != nil {
			h.Fatal(err)
		}
	}
}

func (h *shard) altering() bool { return len(h.rows(alters(h))) > 0 }

// fillMany makes pairs large, for keys to take a while: 2^17 rows, beside the first five.
func (h *shard) fillMany() {
	h.exec("INSERT INTO pairs (id, v, u) VALUES (1000, 'some words to be found', 1000)")
	for i := range 17 {
		h.exec(fmt.Sprintf("INSERT INTO pairs (id, v, u) SELECT id + %d, CONCAT(LEFT(v, 14), id), id + %d FROM pairs WHERE id >= 1000", 1<<i, 1<<i))
	}
}

const plainPairs = "CREATE TABLE pairs (id int PRIMARY KEY, v varchar(40) COLLATE utf8mb4_bin, u int)"

// The stream goes on while keys are built, with FULLTEXT as soon as that lets it; the ALTER is killed on the way.
func TestKeysAreBuiltUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, plainPairs, fillPairs)
		h.fillMany()
		p := pairs()
		p.Unique = nil
		keys := []sidecar.ActionKey{
			{Name: "u", Definition: "UNIQUE KEY `u` (`u`)"}, {Name: "v", Definition: "KEY `v` (`v`, `u`)"}, {Name: "text", Definition: "FULLTEXT KEY `text` (`v`)"},
		}
		h.postpone("pairs", keys...)
		tg := h.target(target.Options{Workers: 2}, p)
		r := h.start(tg)
		r.must(chunk(p, replication.Span{}, position(0)))
		l := startLoad(r, p)

		// How often the keys are built in vain before a commit was seen meanwhile: a build takes as long as hundreds of commits.
		const attempts = 3
		for n := 1; ; n++ {
			finished := make(chan error, 1)
			go func() { finished <- tg.FinishTable(t.Context(), p) }()
			commits := h.commitsDuringAlter(func() bool { return len(finished) > 0 })
			for _, id := range h.rows(alters(h)) {
				_, _ = h.db.ExecContext(t.Context(), "KILL "+id) // it may have ended by itself
			}
			if err := <-finished; err != nil && !replication.Transient(err) {
				t.Fatalf("killed: %v", err)
			}
			if commits > 0 {
				break
			}
			if n == attempts {
				t.Fatal("nothing was committed while the first keys were built")
			}
			for _, key := range keys {
				if h.has(key.Name) {
					h.exec("ALTER TABLE pairs DROP KEY " + key.Name)
				}
			}
			if !h.due("pairs") {
				h.postpone("pairs", keys...)
			}
		}
		if err := tg.FinishTable(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if err := l.finish(); err != nil {
			t.Fatal(err)
		}
		if !h.has("u") || !h.has("v") || !h.has("text") {
			t.Errorf("keys are %s", h.rows(keyNames))
		}
		h.exact()
	})
}

// alters selects the sessions in which a table of the shard is being altered.
func alters(h *shard) string {
	return "SELECT id FROM information_schema.processlist WHERE info LIKE 'ALTER TABLE%" + h.name + "%'"
}

// commitsDuringAlter watches the first schema change from when it is seen until ten commits were, or it ends: it tells how many commits
// there were between two moments at which it went on.
func (h *shard) commitsDuringAlter(ended func() bool) int {
	h.Helper()
	h.until("keys are built", func() bool { return ended() || h.altering() })
	first, began := h.rows(alters(h)), transactions(h.position())
	commits := 0
	h.until("commits are seen meanwhile", func() bool {
		now := transactions(h.position())
		if ids := h.rows(alters(h)); len(first) == 0 || ended() || h.has("u") || !slices.Equal(ids, first) {
			return true
		}
		commits = now - began
		return commits >= 10
	})
	h.Logf("%d commits while keys were built", commits)
	return commits
}

// due tells whether a table's keys are still to be added.
func (h *shard) due(table string) bool {
	h.Helper()
	actions, err := h.side.PostCopyActions(h.Context(), h.stream)
	if err != nil {
		h.Fatal(err)
	}
	return slices.ContainsFunc(actions, func(a sidecar.Action) bool { return a.Table == table })
}

func (h *shard) has(key string) bool {
	return strings.Contains(fmt.Sprint(h.rows(keyNames)), " "+key)
}

// A server that dies while keys are built comes back without them, or with them; the next call adds what is missing.
func TestServerDiesWhileKeysAreBuilt(t *testing.T) {
	if testing.Short() {
		t.Skip("-short runs no servers")
	}
	for _, flavor := range []string{"mysql", "mariadb"} {
		t.Run(flavor, func(t *testing.T) {
			var s *replicationtest.Server
			if flavor == "mysql" {
				s = replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
			} else {
				s = replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{})
			}
			h := newShard(t, s, plainPairs, fillPairs)
			h.fillMany()
			p := pairs()
			h.postpone("pairs", sidecar.ActionKey{Name: "u", Definition: "UNIQUE KEY `u` (`u`)"}, sidecar.ActionKey{Name: "v", Definition: "KEY `v` (`v`, `u`)"})
			tg := h.target(target.Options{}, p)
			r := h.start(tg)
			r.must(append(moves(r, p, 10), chunk(p, replication.Span{}, position(r.n)))...)
			finished := make(chan error, 1)
			go func() { finished <- tg.FinishTable(t.Context(), p) }()
			h.until("keys are built", func() bool { return len(finished) > 0 || h.altering() })
			s.Kill9()
			if err := <-finished; err != nil && !replication.Transient(err) {
				t.Errorf("the error is not transient: %v", err)
			}
			_ = r.stop()
			s.MustRestart(t)
			h.open()
			r = h.start(tg)
			l := startLoad(r, p)
			if err := tg.FinishTable(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if err := l.finish(); err != nil {
				t.Fatal(err)
			}
			h.exact()
			if !h.has("u") || !h.has("v") {
				t.Errorf("keys are %s", h.rows(keyNames))
			}
			_ = r.stop()
			if r = h.start(tg); !r.cp.Finished["pairs"] {
				t.Error("the table does not count as finished")
			}
		})
	}
}

// A table that is locked against writes for longer than statements wait, as while a FULLTEXT key is built, holds the stream
// up and does not end it; what waits meanwhile is bounded.
func TestTableLockedAgainstWrites(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, plainPairs, fillPairs)
		p := pairs()
		p.Unique = nil
		r := h.start(h.target(target.Options{Workers: 3, MemoryBytes: 64 << 10}, p))
		r.must(chunk(p, replication.Span{}, position(0)))
		c, err := h.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.ExecContext(t.Context(), "LOCK TABLES pairs READ"); err != nil {
			t.Fatal(err)
		}
		entries := moves(r, p, 500)
		var appended atomic.Int64
		done := make(chan error, 1)
		go func() {
			committed := make(chan struct{}, len(entries))
			for _, e := range entries {
				e.Done = func() { committed <- struct{}{} }
				if err := r.t.Append(r.ctx, e); err != nil {
					done <- err
					return
				}
				appended.Add(1)
			}
			for range entries {
				select {
				case <-committed:
				case <-r.ctx.Done():
					done <- context.Cause(r.ctx)
					return
				}
			}
			done <- nil
		}()
		rollbacks := func() string { return h.rows("SHOW GLOBAL STATUS LIKE 'Com_rollback'")[0] }
		for range 2 {
			n := rollbacks()
			h.until("a statement has waited too long", func() bool { return rollbacks() != n })
		}
		if got := transactions(h.position()); got != 0 {
			t.Errorf("%d transactions got through", got)
		}
		if got := appended.Load(); got == int64(len(entries)) {
			t.Errorf("all of %d transactions are held", got)
		}
		if _, err := c.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := h.exact(); n != len(entries) {
			t.Errorf("at position %d", n)
		}
	})
}
