package target_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication/target"
)

func TestToUTC(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"2021-01-01 12:00:00", "2021-01-01 11:00:00"},
		{"2021-07-01 00:30:00.123", "2021-06-30 22:30:00.123"},
		{"2021-03-28 01:59:59", "2021-03-28 00:59:59"},
		{"2021-03-28 03:00:00", "2021-03-28 01:00:00"},
		{"2021-10-31 01:59:59", "2021-10-30 23:59:59"},
		{"2021-10-31 02:30:00", "2021-10-31 00:30:00"}, // twice: the first
		{"2021-10-31 03:00:00", "2021-10-31 02:00:00"},
		{"0000-00-00 00:00:00", "0000-00-00 00:00:00"},
		{"2021-02-31 10:00:00.5", "2021-02-31 10:00:00.5"},
		{"2021-00-01 10:00:00", "2021-00-01 10:00:00"},
		{"9999-12-31 23:59:59.999999", "9999-12-31 22:59:59.999999"},
	} {
		got, err := target.ToUTC(berlin, []byte(c[0]))
		if err != nil || string(got) != c[1] {
			t.Errorf("%s is %s, %v, want %s", c[0], got, err, c[1])
		}
	}
	if got, err := target.ToUTC(berlin, nil); got != nil || err != nil {
		t.Errorf("NULL is %q, %v", got, err)
	}
	for _, gap := range []string{"2021-03-28 02:00:00", "2021-03-28 02:59:59.9"} {
		if got, err := target.ToUTC(berlin, []byte(gap)); !errors.Is(err, target.ErrNoSuchTime) {
			t.Errorf("%s is %s, %v", gap, got, err)
		}
	}
	if got, err := target.ToUTC(time.FixedZone("west", -3600), []byte("9999-12-31 23:30:00")); !errors.Is(err, target.ErrNoSuchTime) {
		t.Errorf("year 10000: %s, %v", got, err)
	}
	// Different times stay different and keep their order through a whole year.
	last := ""
	for at := time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() == 2021; at = at.Add(10 * time.Minute) {
		got, err := target.ToUTC(berlin, []byte(at.Format("2006-01-02 15:04:05")))
		if errors.Is(err, target.ErrNoSuchTime) {
			continue
		}
		if err != nil || string(got) <= last {
			t.Fatalf("%s is %s after %s, %v", at, got, last, err)
		}
		last = string(got)
	}
}

func TestRequalify(t *testing.T) {
	for _, c := range [][2]string{
		{"ALTER TABLE src.t ADD src int", "ALTER TABLE `dst`.t ADD src int"},
		{"ALTER TABLE `src` . `t` ADD c int COMMENT 'src.t' /* src.t */ -- src.t", "ALTER TABLE `dst` . `t` ADD c int COMMENT 'src.t' /* src.t */ -- src.t"},
		{"DROP TABLE `src`.`a`, `SRC`.b, other.src", "DROP TABLE `dst`.`a`, `dst`.b, other.src"},
		{`ALTER TABLE "src"."t" ADD c int DEFAULT 'it''s src.t'`, "ALTER TABLE `dst`.\"t\" ADD c int DEFAULT 'it''s src.t'"},
		{"/*!50000 ALTER TABLE src.t ADD c int */", "/*!50000 ALTER TABLE `dst`.t ADD c int */"},
		{"ALTER TABLE t ADD c int # src.x\n, ADD KEY (c)", "ALTER TABLE t ADD c int # src.x\n, ADD KEY (c)"},
		{"ALTER TABLE `sr``c`.t", "ALTER TABLE `sr``c`.t"},
		{"ALTER TABLE asrc.t COMMENT 'x\\' src.t", "ALTER TABLE asrc.t COMMENT 'x\\' src.t"},
		{"", ""},
	} {
		if got := target.Requalify(c[0], "src", "dst", true); got != c[1] {
			t.Errorf("%q became %q, want %q", c[0], got, c[1])
		}
	}
	if got := target.Requalify(`SELECT "src".x`, "src", "dst", false); got != `SELECT "src".x` {
		t.Errorf("without ANSI_QUOTES %q", got)
	}
}

func FuzzRequalify(f *testing.F) {
	for _, s := range []string{"ALTER TABLE `src`.t", "'", "`", "/*", "-- ", "\\", "src", "src."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := target.Requalify(s, "src", "src", true); got != s {
			t.Errorf("%q became %q", s, got)
		}
		target.Requalify(s, "src", "dst", false)
	})
}

func TestAlterStatements(t *testing.T) {
	got := target.AlterStatements("`d`.`t`", []sidecar.ActionKey{
		{Definition: "KEY `a` (`a`)"}, {Definition: "FULLTEXT KEY `f` (`f`)"}, {Definition: "UNIQUE KEY `b` (`b`)"}, {Definition: "spatial key `g` (`g`)"},
	})
	want := []string{
		"ALTER TABLE `d`.`t` ADD KEY `a` (`a`), ADD UNIQUE KEY `b` (`b`), LOCK=NONE",
		"ALTER TABLE `d`.`t` ADD FULLTEXT KEY `f` (`f`)", "ALTER TABLE `d`.`t` ADD spatial key `g` (`g`)",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := target.AlterStatements("t", nil); got != nil {
		t.Errorf("for nothing: %q", got)
	}
}

func TestSQLMode(t *testing.T) {
	if got := target.SQLMode(1<<2 | 1<<20 | 1<<21); got != "ALLOW_INVALID_DATES,ANSI_QUOTES,NO_BACKSLASH_ESCAPES" {
		t.Error(got)
	}
}
