package target_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// A record that this stream can't have written stops it by name, before anything is folded, applied or forgotten; put right, the
// stream goes on from where it was.
func TestRecordThatDoesNotFit(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		tg := h.target(target.Options{}, p)
		r := h.start(tg)
		key := func(values ...string) replication.Key { return row(values...) }
		r.must(chunk(p, replication.Span{Hi: key("5")}, position(0), row("1", "a", "10"), row("5", "e", "50")),
			r.entry(update(p, row("1", "a", "10"), row("1", "b", "10"))),
			chunk(p, replication.Span{Lo: key("5"), Hi: key("9")}, position(1), row("7", "g", "70")))
		_ = r.stop()
		blob := func(text string) string { return "X'" + hex.EncodeToString([]byte(text)) + "'" }
		span := func(column, text string) string {
			return "UPDATE " + h.side.Table("copy_state") + " SET " + column + " = " + blob(text) + " ORDER BY id LIMIT 1"
		}
		place := func(text string) string {
			return "UPDATE " + h.side.Table("vreplication_pos") + " SET pos = " + blob(text)
		}
		// The parts of the record, without the epoch, which counts the attempts.
		record := func() string {
			var parts []string
			for _, table := range []string{"copy_state", "vreplication_pos", "vreplication", "post_copy_action"} {
				parts = append(parts, h.rows("SELECT * FROM "+h.side.Table(table)+" ORDER BY 1, 2")...)
			}
			return strings.Join(append(parts, h.rows(allPairs)...), "\n")
		}
		good := record()
		for _, table := range []string{"copy_state", "vreplication_pos", "vreplication"} {
			h.exec(fmt.Sprintf("CREATE TABLE %s_kept AS SELECT * FROM %s", table, h.side.Table(table)))
		}
		for _, c := range []struct{ name, break1, part string }{
			{"a position of no known kind", place("Zeit/2026-11-23"), "position Zeit/"},
			{"a position in JSON", place(`{"gtid":"MySQL56/` + sourceUUID + `:1-2"}`), "position {"},
			{"a position that is cut", place("MySQL56/" + sourceUUID[:30]), "position MySQL56/"},
			{"no position", place(""), "position: rows are copied"},
			{"a key in JSON", span("hi", `{"id":5}`), "span 1 of table pairs"},
			{"a key as plain text", span("hi", "5"), "span 1 of table pairs"},
			{"an empty key", span("hi", ""), "span 1 of table pairs"},
			{"a key of two columns", span("hi", string(key("5", "6"))), "more than 1 columns"},
			{"a key of another type", span("hi", string(key("0x05"))), `column id can't be "0x05"`},
			{"a key that is NULL", span("lo", string(key(null))), "column id"},
			{"a span that ends before it begins", span("lo", string(key("6"))), "begins after its end"},
			{"progress that is no JSON", "UPDATE " + h.side.Table("vreplication") + " SET progress = 'pairs: 2 rows'", "column progress"},
		} {
			h.exec(c.break1)
			broken := record()
			if broken == good {
				t.Fatalf("%s: nothing was changed", c.name)
			}
			cp, err := tg.Load(t.Context())
			if err == nil || cp != nil || replication.Transient(err) || !strings.Contains(err.Error(), c.part) {
				t.Errorf("%s: %v", c.name, err)
			}
			if bad, ok := errors.AsType[*target.RecordError](err); c.part != "column progress" && (!ok || bad.StreamID != h.stream) {
				t.Errorf("%s: %T", c.name, err)
			}
			if got := record(); got != broken {
				t.Errorf("%s: the record was changed from\n%s\nto\n%s", c.name, broken, got)
			}
			for _, table := range []string{"copy_state", "vreplication_pos", "vreplication"} {
				h.exec("DELETE FROM " + h.side.Table(table))
				h.exec(fmt.Sprintf("INSERT INTO %s SELECT * FROM %s_kept", h.side.Table(table), table))
			}
		}
		r = h.start(tg)
		if got := r.cp.Copied["pairs"]; len(got) != 1 || !slices.Equal(got[0].Hi, key("9")) || !r.cp.Position.Equal(position(1)) {
			t.Errorf("put right, the checkpoint is %+v", r.cp)
		}
		r.must(r.entry(update(p, row("5", "e", "50"), row("5", "f", "50"))), chunk(p, replication.Span{Lo: key("9")}, position(2), row("10", "x", "100")))
		h.want(allPairs, "1 b 10", "5 f 50", "7 g 70", "10 x 100")
	})
}
