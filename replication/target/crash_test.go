package target_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlconn"
	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// history is a made-up source: transaction n moves 1 from a row of pairs to another, so that the sum of u stays and
// the values say how many transactions were applied.
func move(p *replication.Table, n int) []replication.Change {
	from, to := n%5, (n+1+n/5%4)%5
	state := stateAfter(n - 1)
	change := func(i, by int) replication.Change {
		before, after := state[i], state[i]+by
		return update(p, row(fmt.Sprint(i), fmt.Sprint("v", before), null), row(fmt.Sprint(i), fmt.Sprint("v", after), null))
	}
	return []replication.Change{change(from, -1), change(to, +1)}
}

func stateAfter(n int) [5]int {
	var s [5]int
	for i := 1; i <= n; i++ {
		s[i%5]--
		s[(i+1+i/5%4)%5]++
	}
	return s
}

func wantAfter(n int) string {
	var out []string
	for i, v := range stateAfter(n) {
		out = append(out, fmt.Sprintf("%d v%d NULL", i, v))
	}
	return strings.Join(out, ",")
}

func moves(r *run, p *replication.Table, count int) []*replication.Entry {
	var entries []*replication.Entry
	for range count {
		entries = append(entries, r.entry(move(p, r.n+1)...))
	}
	return entries
}

const fillPairs = "INSERT INTO pairs (id, v) VALUES (0, 'v0'), (1, 'v0'), (2, 'v0'), (3, 'v0'), (4, 'v0')"

// exact checks that the rows are those of the recorded position.
func (h *shard) exact() int {
	h.Helper()
	if err := h.side.Fence(h.Context(), h.stream); err != nil { // waits for a commit that is on its way
		h.Fatal(err)
	}
	n := transactions(h.position())
	if got := strings.Join(h.rows("SELECT * FROM pairs WHERE id < 5 ORDER BY id"), ","); got != wantAfter(n) {
		h.Fatalf("at position %d the rows are %s, want %s", n, got, wantAfter(n))
	}
	return n
}

// TestEndedAtAnyTime ends Run at random moments by its context, which cuts its connections; what another owner finds is
// exact, and it can go on.
func TestEndedAtAnyTime(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs, fillPairs)
		p := pairs()
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 2))
		for life := range 20 {
			r := h.start(h.target(target.Options{Workers: 1 + life%3}, p))
			stop := time.AfterFunc(time.Duration(rnd.IntN(40))*time.Millisecond, r.cancel)
			err := r.apply(moves(r, p, 50)...)
			stop.Stop()
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatalf("life %d: %v", life, err)
			}
			_ = r.stop()
		}
		r := h.start(h.target(target.Options{}, p))
		before := r.n
		r.must(moves(r, p, 10)...)
		if after := h.exact(); after != before+10 {
			t.Errorf("from %d to %d after 10 transactions", before, after)
		}
	})
}

// TestServerKilled kills the server with signal 9 in the middle of transactions and chunks.
func TestServerKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("-short runs no servers")
	}
	for _, flavor := range []string{"mysql", "mariadb"} {
		t.Run(flavor, func(t *testing.T) {
			var s *replicationtest.Server
			if flavor == "mysql" {
				s = replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--local-infile=ON"}})
			} else {
				s = replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{})
			}
			h := newShard(t, s, createPairs, fillPairs)
			p := pairs()
			chunks := 0
			for life := range 4 {
				r := h.start(h.target(target.Options{Workers: 2}, p))
				for i := range chunks {
					lo, hi := row(fmt.Sprint(1000*i+1000)), row(fmt.Sprint(1000*i+2000))
					if !covered(r.cp.Copied["pairs"], p, replication.Span{Lo: lo, Hi: hi}) {
						t.Errorf("life %d: chunk %d was committed and isn't in %v", life, i, r.cp.Copied["pairs"])
					}
				}
				entries := moves(r, p, 400)
				var rows []replication.Row
				for i := range 1000 {
					rows = append(rows, row(fmt.Sprint(1000*chunks+1001+i), "x", null))
				}
				c := chunk(p, replication.Span{Lo: row(fmt.Sprint(1000*chunks + 1000)), Hi: row(fmt.Sprint(1000*chunks + 2000))}, position(0), rows...)
				entries = append(entries[:20:20], append([]*replication.Entry{c}, entries[20:]...)...)
				timer := time.AfterFunc(time.Duration(50+60*life)*time.Millisecond, s.Kill9)
				err := r.apply(entries...)
				timer.Stop()
				s.Kill9()
				if err != nil && !replication.Transient(err) {
					t.Errorf("life %d: the error is not transient: %v", life, err)
				}
				_ = r.stop()
				s.MustRestart(t)
				h.open()
				n := h.exact()
				got := h.rows(fmt.Sprintf("SELECT COUNT(*) FROM pairs WHERE id > %d", 1000*chunks+1000))[0]
				spans, err := h.side.Spans(t.Context(), h.stream)
				if err != nil {
					t.Fatal(err)
				}
				recorded := false
				for _, span := range spans {
					recorded = recorded || covered([]replication.Span{{Lo: span.Lo, Hi: span.Hi}}, p, c.Chunk.Span)
				}
				if want := map[bool]string{true: "1000", false: "0"}[recorded]; got != want {
					t.Errorf("life %d: %s rows of the chunk are there, recorded: %v", life, got, recorded)
				}
				if recorded {
					chunks++
				}
				t.Logf("life %d: %d transactions, chunk %v", life, n, recorded)
			}
		})
	}
}

func covered(spans []replication.Span, table *replication.Table, want replication.Span) bool {
	set := replication.NewSpanSet(table, spans...)
	before := fmt.Sprint(set.Spans())
	set.Add(want)
	return fmt.Sprint(set.Spans()) == before
}

// TestLockOfAnotherWorker: transaction 2 is executed first and holds the lock that transaction 1 needs, through a
// unique key that the table's description does not tell of. It has to make way.
func TestLockOfAnotherWorker(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, "CREATE TABLE a (id int PRIMARY KEY, v int, UNIQUE KEY (v))", "CREATE TABLE b (id int PRIMARY KEY, v int)", "INSERT INTO a VALUES (1, 1), (2, 2)")
		simple := func(name string) *replication.Table {
			return &replication.Table{
				Schema: "source", Name: name, Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
				Columns: []replication.Column{{Name: "id", Kind: replication.KindInt}, {Name: "v", Kind: replication.KindInt, Nullable: true}},
			}
		}
		a, b := simple("a"), simple("b")
		r := h.start(h.target(target.Options{Workers: 3}, a, b))
		var entries []*replication.Entry
		for range 5 {
			// Row 1 gives up the value 1; row 2 takes it and gives it back; row 1 takes it again.
			many := r.entry(update(a, row("1", "1"), row("1", null)))
			for i := range 200 {
				id := fmt.Sprint(len(entries)*1000 + i)
				many.Changes = append([]replication.Change{insert(b, id, "0")}, many.Changes...)
			}
			entries = append(entries, many,
				r.entry(update(a, row("2", "2"), row("2", "1"))), r.entry(update(a, row("2", "1"), row("2", "2"))), r.entry(update(a, row("1", null), row("1", "1"))))
		}
		if err := r.apply(entries...); err != nil {
			if _, drift := errors.AsType[*replication.DriftError](err); !drift {
				t.Fatal(err)
			}
			t.Log("executed before its turn, as the description allows: ", err)
		}
		r = h.start(h.target(target.Options{Workers: 1}, a, b))
		r.must(entries[r.n:]...)
		h.want("SELECT * FROM a ORDER BY id", "1 1", "2 2")
	})
}

// TestForeignLock: somebody else holds a row; the transaction waits and then goes through.
func TestForeignLock(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs, fillPairs)
		p := pairs()
		r := h.start(h.target(target.Options{Workers: 2}, p))
		tx, err := h.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), "SELECT * FROM pairs WHERE id = 1 FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- r.apply(moves(r, p, 5)...) }()
		if err := retry.Wait(t.Context(), 1500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := h.exact(); n != 5 {
			t.Errorf("position is %d", n)
		}
		short := h.start(h.target(target.Options{LockTimeout: time.Second}, p))
		tx, err = h.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		if _, err := tx.ExecContext(t.Context(), "SELECT * FROM pairs FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		if err := short.apply(moves(short, p, 1)...); !errors.Is(err, target.ErrLockConflict) || !replication.Transient(err) {
			t.Errorf("after LockTimeout: %v", err)
		}
	})
}

func TestConnectionsKilled(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs, fillPairs)
		p := pairs()
		for range 3 {
			r := h.start(h.target(target.Options{}, p))
			r.must(moves(r, p, 3)...)
			for _, id := range h.rows("SELECT id FROM information_schema.processlist WHERE db = '" + h.name + "' AND id <> CONNECTION_ID()") {
				_, _ = h.db.ExecContext(t.Context(), "KILL "+id)
			}
			err := r.apply(moves(r, p, 3)...)
			if err != nil && !replication.Transient(err) {
				t.Errorf("after KILL: %v", err)
			}
			_ = r.stop()
			h.exact()
		}
	})
}

func TestOpenErrors(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		cfg := target.Config{Server: h.config(), Sidecar: h.side.Name(), StreamID: h.stream}
		bad := cfg
		bad.Server.User, bad.Server.Password = "nobody", "s3cr3t"
		if _, err := target.Open(t.Context(), bad, target.Options{}); !errors.Is(err, mysqlconn.ErrAccessDenied) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("wrong user: %v", err)
		}
		bad = cfg
		bad.Server.Addr = "127.0.0.1:1"
		if _, err := target.Open(t.Context(), bad, target.Options{}); !errors.Is(err, mysqlconn.ErrUnreachable) || !replication.Transient(err) {
			t.Errorf("no server: %v", err)
		}
		if _, err := target.Open(t.Context(), target.Config{Server: mysqlconn.Config{Addr: "x", User: "y"}}, target.Options{}); err == nil ||
			!strings.Contains(err.Error(), "no database") || !strings.Contains(err.Error(), "stream id") {
			t.Errorf("missing fields: %v", err)
		}
		bad = cfg
		bad.StreamID = 99
		tg, err := target.Open(t.Context(), bad, target.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer tg.Close()
		if _, err := tg.Load(t.Context()); !errors.Is(err, sidecar.ErrNotFound) {
			t.Errorf("a stream that isn't there: %v", err)
		}
		if err := tg.Append(t.Context(), &replication.Entry{}); err == nil {
			t.Error("Append before Load succeeds")
		}
	})
}
