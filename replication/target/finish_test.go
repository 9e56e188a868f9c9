package target_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

func (h *shard) postpone(table string, keys ...sidecar.ActionKey) {
	h.Helper()
	if err := h.side.AddPostCopyAction(h.Context(), sidecar.Action{StreamID: h.stream, Table: table, Keys: keys}); err != nil {
		h.Fatal(err)
	}
}

const keyNames = "SELECT DISTINCT index_name FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 'pairs' ORDER BY 1"

func TestFinishTableAddsKeysWhileRowsAreWritten(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, "CREATE TABLE pairs (id int PRIMARY KEY, v varchar(20) COLLATE utf8mb4_bin, u int)", "CREATE TABLE parent (id int PRIMARY KEY)", fillPairs)
		p := pairs()
		h.postpone("pairs", sidecar.ActionKey{Name: "V", Definition: "KEY `V` (`v`(3))"}, sidecar.ActionKey{Name: "u", Definition: "UNIQUE KEY `u` (`u`)"},
			sidecar.ActionKey{Name: "text", Definition: "FULLTEXT KEY `text` (`v`)"}, sidecar.ActionKey{Name: "text2", Definition: "FULLTEXT KEY `text2` (`v`)"},
			sidecar.ActionKey{Name: "fk", Definition: "CONSTRAINT `fk` FOREIGN KEY (`u`) REFERENCES `parent` (`id`)", ForeignKey: true})
		// One of them is there already, as after a crash between two statements.
		h.exec("ALTER TABLE pairs ADD KEY v (v(3))")
		tg := h.target(target.Options{}, p)
		r := h.start(tg)
		r.must(chunk(p, replication.Span{}, position(0)))
		if r.cp.Finished["pairs"] {
			t.Error("the table counts as finished")
		}
		done := make(chan error, 1)
		go func() { done <- r.apply(moves(r, p, 100)...) }()
		if err := tg.FinishTable(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		h.exact()
		want := []string{"PRIMARY", "text", "text2", "u", "v"}
		if got := strings.ToLower(fmt.Sprint(h.rows(keyNames))); got != strings.ToLower(fmt.Sprint(want)) {
			t.Errorf("keys are %s, want %s", got, want)
		}
		h.want("SELECT constraint_name FROM information_schema.table_constraints WHERE table_schema = DATABASE() AND constraint_type = 'FOREIGN KEY'", "fk")
		if err := tg.FinishTable(t.Context(), p); err != nil {
			t.Errorf("the second time: %v", err)
		}
		_ = r.stop()
		if r = h.start(tg); !r.cp.Finished["pairs"] {
			t.Error("the table does not count as finished")
		}
	})
}

func TestFinishTableStopsOnTheServer(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, "CREATE TABLE pairs (id int PRIMARY KEY, v varchar(20) COLLATE utf8mb4_bin, u int)")
		p := pairs()
		h.postpone("pairs", sidecar.ActionKey{Name: "u", Definition: "UNIQUE KEY `u` (`u`)"})
		tg := h.target(target.Options{}, p)
		h.start(tg)
		tx, err := h.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO pairs VALUES (1, 'a', 1)"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := tg.FinishTable(ctx, p); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended by its context: %v", err)
		}
		// The server ends a killed statement in its own time; until the rollback below it could wait for ever.
		h.soon("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'ALTER TABLE%"+h.name+"%'", "0")
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		h.exec("INSERT INTO pairs VALUES (1, 'a', 1), (2, 'a', 1)")
		if err := tg.FinishTable(t.Context(), p); err == nil || replication.Transient(err) || !strings.Contains(err.Error(), "pairs") {
			t.Errorf("a unique key over duplicates: %v", err)
		}
		h.exec("DELETE FROM pairs WHERE id = 2")
		if err := tg.FinishTable(t.Context(), p); err != nil {
			t.Error(err)
		}
		h.want(keyNames, "PRIMARY", "u")
	})
}

func ddl(r *run, statement string, tables ...string) *replication.Entry {
	e := r.entry()
	e.DDL = &replication.DDL{Schema: "elsewhere", Statement: statement, Tables: tables}
	return e
}

func TestDDLIsABarrierAndExecutedOnce(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		tg := h.target(target.Options{Workers: 3}, p)
		r := h.start(tg)
		e := ddl(r, "ALTER TABLE `source`.pairs ADD w int DEFAULT 5 COMMENT 'source.pairs', ADD KEY (v)", "pairs")
		r.n = 0
		first := r.entry(insert(p, "1", "a", "1"))
		e.Position = position(2)
		r.n = 2
		r.must(first, e, r.entry(insert(p, "2", "b", "2")))
		h.want("SELECT * FROM pairs ORDER BY id", "1 a 1 5", "2 b 2 5")
		_ = r.stop()

		// A crash after the statement and before its record, then one before the statement.
		for _, c := range []struct {
			statement string
			executed  bool
		}{
			{"ALTER TABLE pairs ADD KEY (u, v)", true},
			{"ALTER TABLE pairs ADD KEY (u, w)", false},
			{"DROP TABLE pairs", true},
			{"CREATE TABLE pairs (id int)", true},
			{"CREATE TABLE IF NOT EXISTS pairs (id int)", false},
		} {
			r := h.start(tg)
			e := ddl(r, c.statement, "pairs")
			crash(h, tg, e, c.executed)
			r = h.start(tg)
			if got := transactions(r.cp.Position); got != r.n {
				t.Fatalf("loaded %d, want %d", got, r.n)
			}
			e = ddl(r, c.statement, "pairs")
			r.must(e)
			_ = r.stop()
			if m, err := h.side.Position(t.Context(), h.stream); err != nil || m.DDL != "" {
				t.Errorf("%s: mark is %+v, %v", c.statement, m, err)
			}
			if strings.HasPrefix(c.statement, "ALTER") {
				n := h.rows("SELECT COUNT(DISTINCT index_name) FROM information_schema.statistics WHERE table_schema = DATABASE() AND column_name = 'u'")
				t.Log(c.statement, n)
			}
		}
		h.want("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE()", "1")
	})
}

// crash leaves what a crash in the middle of a schema change leaves: the mark, and the change or not.
func crash(h *shard, tg *target.Target, e *replication.Entry, executed bool) {
	h.Helper()
	before, err := target.Definitions(h.Context(), tg, e.DDL.Tables)
	if err != nil {
		h.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"position": e.Position.String(), "before": before})
	if err != nil {
		h.Fatal(err)
	}
	m, err := h.side.Position(h.Context(), h.stream)
	if err != nil {
		h.Fatal(err)
	}
	_, epoch, _, err := h.side.Owner(h.Context(), h.stream)
	if err != nil {
		h.Fatal(err)
	}
	m.Seq, m.DDL = m.Seq+1, string(text)
	h.exec(string(h.side.AppendPosition(nil, h.stream, epoch, m)))
	if executed {
		h.exec(e.DDL.Statement)
	}
}

func TestRefusedDDL(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		for range 2 { // the marker of the first time does not make it be taken for done
			r := h.start(h.target(target.Options{}, p))
			err := r.apply(ddl(r, "ALTER TABLE pairs DROP COLUMN nosuch", "pairs"))
			if bad, ok := errors.AsType[*target.DDLError](err); !ok || !strings.Contains(bad.Statement, "nosuch") || replication.Transient(err) {
				t.Errorf("error is %v", err)
			}
			if got := transactions(h.position()); got != 0 {
				t.Errorf("position is %d", got)
			}
		}
		r := h.start(h.target(target.Options{IgnoreDDLErrors: true}, p))
		r.must(ddl(r, "ALTER TABLE pairs DROP COLUMN nosuch", "pairs"))
		if got := transactions(h.position()); got != 1 {
			t.Errorf("position is %d", got)
		}
	})
}

func TestFoldDuringTheRun(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		tg := h.target(target.Options{Loaders: 4}, p)
		r := h.start(tg)
		var entries []*replication.Entry
		for i := range 1100 {
			entries = append(entries, chunk(p, replication.Span{Lo: row(fmt.Sprint(i)), Hi: row(fmt.Sprint(i + 1))}, position(0), row(fmt.Sprint(i+1), "x", null)))
		}
		r.must(entries...)
		if err := tg.Report(t.Context(), replication.Progress{}); err != nil {
			t.Fatal(err)
		}
		h.want("SELECT COUNT(*), SUM(rows_copied) FROM "+h.side.Table("copy_state"), "1 1100")
		_ = r.stop()
		r = h.start(tg)
		if got := r.cp.Copied["pairs"]; len(got) != 1 || string(got[0].Lo) != string(row("0")) || string(got[0].Hi) != string(row("1100")) || r.cp.Rows["pairs"] != 1100 {
			t.Errorf("checkpoint is %v", r.cp)
		}
	})
}

// Tables get their keys at once, also those that reference each other, though an ALTER TABLE of one locks the others too.
func TestFinishTablesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		for name, relatives := range map[string]bool{"strangers": false, "relatives": true} {
			t.Run(name, func(t *testing.T) { finishAtOnce(newShard(t, s), relatives) })
		}
	})
}

func finishAtOnce(h *shard, relatives bool) {
	const members, rounds = 6, 5
	family := make([]*replication.Table, members)
	for i := range family {
		p := pairs()
		p.Name, p.Unique = fmt.Sprintf("member%d", i), nil
		h.exec(fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, v varchar(20) COLLATE utf8mb4_bin, u int, older int, KEY older (older))", p.Name))
		family[i] = p
	}
	for i := range family {
		if relatives { // in a ring
			h.exec(fmt.Sprintf("ALTER TABLE member%d ADD CONSTRAINT f%d FOREIGN KEY (older) REFERENCES member%d (id) ON DELETE CASCADE", i, i, (i+1)%members))
		}
	}
	tg := h.target(target.Options{}, family...)
	h.start(tg)
	for range rounds {
		for _, p := range family {
			h.postpone(p.Name, sidecar.ActionKey{Name: "u", Definition: "UNIQUE KEY `u` (`u`)"}, sidecar.ActionKey{Name: "v", Definition: "KEY `v` (`v`,`u`)"})
		}
		var g errgroup.Group
		for _, p := range family {
			g.Go(func() error { return tg.FinishTable(h.Context(), p) })
		}
		if err := g.Wait(); err != nil {
			h.Fatal(err)
		}
		h.want("SELECT COUNT(DISTINCT table_name, index_name) FROM information_schema.statistics WHERE table_schema = DATABASE() AND index_name IN ('u', 'v')", strconv.Itoa(2*members))
		for _, p := range family {
			h.exec("ALTER TABLE " + p.Name + " DROP KEY u, DROP KEY v")
		}
	}
}
