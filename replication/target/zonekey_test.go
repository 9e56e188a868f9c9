package target_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// zonedKeys are three tables that are known by a DATETIME: alone, with another unique one, and with a text that only the server compares.
func zonedKeys() (alone, unique, loose *replication.Table) {
	at := replication.Column{Name: "at", Kind: replication.KindDatetime, Type: "datetime(2)", Fsp: 2}
	v := replication.Column{Name: "v", Kind: replication.KindInt, Type: "int"}
	word := replication.Column{Name: "w", Kind: replication.KindText, Type: "varchar(20)", Charset: "latin1", Collation: "latin1_swedish_ci"}
	alone = &replication.Table{
		Schema: "source", Name: "alone", Columns: []replication.Column{at, v}, Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
	}
	also := at
	also.Name, also.Nullable = "also", true
	unique = &replication.Table{
		Schema: "source", Name: "uniq", Columns: []replication.Column{at, also, v}, Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
		Unique: []replication.Index{{Name: "also", Columns: []int{1}, Exact: true}},
	}
	loose = &replication.Table{Schema: "source", Name: "loose", Columns: []replication.Column{word, at, v}, Primary: replication.Index{Columns: []int{0, 1}}}
	return alone, unique, loose
}

// TestZonedKeys: rows that are known by a DATETIME are found by its time in UTC, however they are written: the hour that comes twice,
// fractions, zero dates and the last times that there are.
func TestZonedKeys(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	const (
		before, twice, later, after = "2021-10-31 01:59:59.99", "2021-10-31 02:00:00.00", "2021-10-31 02:59:59.99", "2021-10-31 03:00:00.00"
		zero, last, summer          = "0000-00-00 00:00:00.00", "9999-12-31 23:59:59.99", "2021-07-01 00:30:00.50"
	)
	eachPath(t, func(t *testing.T, s *replicationtest.Server, opts target.Options) {
		h := newShard(t, s, "CREATE TABLE alone (at datetime(2) PRIMARY KEY, v int)",
			"CREATE TABLE uniq (at datetime(2) PRIMARY KEY, also datetime(2) UNIQUE, v int)",
			"CREATE TABLE loose (w varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci, at datetime(2), v int, PRIMARY KEY (w, at))")
		alone, uniq, loose := zonedKeys()
		opts.DatetimeZone = berlin
		r := h.start(h.target(opts, alone, uniq, loose))
		may := func(c replication.Change) replication.Change {
			c.Loose = true
			return c
		}
		r.must(
			r.entry(may(insert(loose, "a", twice, "0")), may(insert(loose, "a", after, "8"))),
			chunk(alone, replication.Span{}, position(1), row(zero, "1"), row(before, "2"), row(twice, "3"), row(later, "4"), row(after, "5"), row(last, "6")),
			chunk(uniq, replication.Span{}, position(1), row(before, after, "1"), row(twice, later, "2"), row(later, twice, "3"), row(after, null, "4")),
			chunk(loose, replication.Span{}, position(1), row("A", twice, "1"), row("A", later, "2"), row("b", zero, "3")),
		)
		h.want("SELECT at, v FROM alone ORDER BY v", "0000-00-00 00:00:00.00 1", "2021-10-30 23:59:59.99 2", "2021-10-31 00:00:00.00 3",
			"2021-10-31 00:59:59.99 4", "2021-10-31 02:00:00.00 5", "9999-12-31 22:59:59.99 6")
		// In one batch: in place, by upsert, by DELETE IN, with keys that move and unique values that change places.
		r.must(
			r.entry(update(alone, row(twice, "3"), row(twice, "13")), update(alone, row(zero, "1"), row(zero, "11")), remove(alone, before, "2"), remove(alone, last, "6")),
			r.entry(update(alone, row(later, "4"), row(summer, "14"))),
			r.entry(update(uniq, row(before, after, "1"), row(before, null, "1")), update(uniq, row(twice, later, "2"), row(twice, after, "2")),
				update(uniq, row(later, twice, "3"), row(summer, later, "3")), remove(uniq, after, null, "4")),
			r.entry(may(remove(loose, "a", later, "2")), may(update(loose, row("A", twice, "1"), row("a", summer, "9")))),
		)
		spill, err := replication.NewSpill("")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []replication.Change{update(alone, row(after, "5"), row(after, "15")), insert(alone, last, "16"), remove(alone, summer, "14")} {
			if err := spill.Append(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := spill.Flush(); err != nil {
			t.Fatal(err)
		}
		large := r.entry()
		large.Spill = spill
		r.must(large)
		h.want("SELECT at, v FROM alone ORDER BY v", "0000-00-00 00:00:00.00 11", "2021-10-31 00:00:00.00 13", "2021-10-31 02:00:00.00 15", "9999-12-31 22:59:59.99 16")
		h.want("SELECT at, also, v FROM uniq ORDER BY v", "2021-10-30 23:59:59.99 NULL 1", "2021-10-31 00:00:00.00 2021-10-31 02:00:00.00 2", "2021-06-30 22:30:00.50 2021-10-31 00:59:59.99 3")
		h.want("SELECT HEX(w), at, v FROM loose ORDER BY v", "62 0000-00-00 00:00:00.00 3", "61 2021-10-31 02:00:00.00 8", "61 2021-06-30 22:30:00.50 9")
		// One by one, up to the row that is not there; its time is the source's.
		err = r.apply(r.entry(update(alone, row(twice, "13"), row(twice, "23"))), r.entry(remove(alone, later, "4")))
		if drift, ok := errors.AsType[*replication.DriftError](err); !ok || !strings.Contains(drift.Key, later) {
			t.Errorf("a row that is not there: %v", err)
		}
		h.want("SELECT v FROM alone WHERE at = '2021-10-31 00:00:00'", "23")
		// Repaired.
		opts.OnDrift = replication.OnDriftRepair
		r = h.start(h.target(opts, alone, uniq, loose))
		r.must(r.entry(insert(alone, twice, "33")), r.entry(update(uniq, row(zero, null, "7"), row(zero, after, "7"))))
		h.want("SELECT v FROM alone WHERE at = '2021-10-31 00:00:00'", "33")
		h.want("SELECT at, also, v FROM uniq ORDER BY v", "2021-10-30 23:59:59.99 NULL 1", "2021-06-30 22:30:00.50 2021-10-31 00:59:59.99 3", "0000-00-00 00:00:00.00 2021-10-31 02:00:00.00 7")
	})
}

// TestNoSuchTimeInKey: a time that clocks have left out, or that has no place in a DATETIME, ends the stream, in a chunk too.
func TestNoSuchTimeInKey(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, "CREATE TABLE alone (at datetime(2) PRIMARY KEY, v int)")
		alone, _, _ := zonedKeys()
		for zone, at := range map[string]string{"Europe/Berlin": "2021-03-28 02:30:00.00", "America/New_York": "9999-12-31 23:00:00.00", "Asia/Tokyo": "0001-01-01 00:00:00.00"} {
			location, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			for name, e := range map[string]func(*run) *replication.Entry{
				"chunk":  func(*run) *replication.Entry { return chunk(alone, replication.Span{}, position(0), row(at, "1")) },
				"insert": func(r *run) *replication.Entry { return r.entry(insert(alone, at, "1")) },
				"delete": func(r *run) *replication.Entry { return r.entry(remove(alone, at, "1")) },
			} {
				r := h.start(h.target(target.Options{DatetimeZone: location}, alone))
				err := r.apply(e(r))
				if bad, ok := errors.AsType[*replication.RowError](err); !ok || !errors.Is(err, target.ErrNoSuchTime) || bad.Column != "at" {
					t.Errorf("%s, %s: %v", zone, name, err)
				}
			}
		}
		h.want("SELECT COUNT(*) FROM alone", "0")
	})
}
