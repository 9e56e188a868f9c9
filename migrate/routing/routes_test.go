package routing_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate/routing"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// shelf is a Target that has all of the table, and counts the changes that it is given.
type shelf struct {
	replication.Target
	table string
	got   int
}

func (s *shelf) Load(context.Context) (*replication.Checkpoint, error) {
	p, err := replication.ParsePosition("MySQL56/")
	return &replication.Checkpoint{Position: p, Copied: map[string][]replication.Span{s.table: {{}}}}, err
}

func (s *shelf) Append(_ context.Context, e *replication.Entry) error {
	s.got += len(e.Changes)
	e.Done()
	return nil
}

func newTable(name string, columns ...replication.Column) *replication.Table {
	return &replication.Table{Name: name, Columns: columns, Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}}}
}

func text(name, charset string) replication.Column {
	return replication.Column{Name: name, Kind: replication.KindText, Charset: charset}
}

func vschema(t *testing.T, s string) *topo.VSchema {
	t.Helper()
	vs := &topo.VSchema{}
	if err := json.Unmarshal([]byte(s), vs); err != nil {
		t.Fatal(err)
	}
	return vs
}

func ranges(t *testing.T, names ...string) (out []topo.KeyRange) {
	t.Helper()
	for _, n := range names {
		r, err := topo.ParseKeyRange(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

const sharded = `{"sharded": true,
	"vindexes": {"x": {"type": "xxhash"}, "b": {"type": "binary"}, "n": {"type": "numeric"}, "l": {"type": "lookup"},
		"m": {"type": "multicol", "params": {"column_count": "2", "column_bytes": "1,7", "column_vindex": "binary,xxhash"}}},
	"tables": {
		"orders": {"column_vindexes": [{"column": "id", "name": "n"}]},
		"names": {"column_vindexes": [{"column": "Name", "name": "b"}]},
		"pairs": {"column_vindexes": [{"columns": ["b", "a"], "name": "m"}]},
		"floats": {"column_vindexes": [{"column": "f", "name": "x"}]},
		"looked": {"column_vindexes": [{"column": "id", "name": "l"}]},
		"countries": {"type": "reference"},
		"pinned": {"pinned": "c0"}
	}}`

func TestRoutes(t *testing.T) {
	id := replication.Column{Name: "id", Kind: replication.KindUint}
	e := replication.Column{Name: "name", Kind: replication.KindEnum, Charset: "latin1", Members: []string{"a", "\xe9"}}
	set := replication.Column{Name: "name", Kind: replication.KindSet, Charset: "utf8mb4", Members: []string{"~", "b"}}
	shards := []string{"-40", "80-", "40-80"}
	for _, c := range []struct {
		table *replication.Table
		// row's values; each wants a shard.
		rows []string
		want string
	}{
		{newTable("orders", id), []string{"1", "9223372036854775808", "4611686018427387904"}, "[0 1 2]"},
		{newTable("orders", text("v", "utf8mb4"), id), []string{"z|1", "|9223372036854775808"}, "[0 1]"},
		{newTable("names", text("name", "utf8mb4")), []string{"1", "é", "a"}, "[0 1 2]"},
		{newTable("names", text("name", "latin1")), []string{"1", "\xe9", "\x80", "a"}, "[0 1 1 2]"},
		{newTable("names", text("name", "utf16")), []string{"\x001", "\x00\xe9", "\xd8\x3d\xde\x00", "\x00a"}, "[0 1 1 2]"},
		{newTable("names", text("name", "utf16le")), []string{"1\x00", "\xe9\x00", "a\x00"}, "[0 1 2]"},
		{newTable("names", text("name", "utf32")), []string{"\x00\x00\x001", "\x00\x01\xf6\x00"}, "[0 1]"},
		{newTable("names", e), []string{"0", "1", "2"}, "[0 2 1]"},
		{newTable("names", set), []string{"0", "1", "2", "3"}, "[0 2 2 2]"},
		{newTable("pairs", id, text("a", "utf8"), text("b", "utf8")), []string{"1|x|1", "1|x|é", "1|y|a"}, "[0 1 2]"},
		{newTable("pinned", id), []string{"1", "2"}, "[1 1]"},
	} {
		if got := shardsOf(t, c.table, shards, c.rows); got != c.want {
			t.Errorf("%s %+v: rows %q on shards %s, want %s", c.table.Name, c.table.Columns, c.rows, got, c.want)
		}
	}
	if got := shardsOf(t, newTable("countries", id), shards, []string{"1", "2"}); got != "[0 1 2 0 1 2]" {
		t.Errorf("a reference table's rows are on %s", got)
	}
}

// shardsOf lets a Fanout insert rows, and returns the shards that got them.
func shardsOf(t *testing.T, table *replication.Table, names, rows []string) string {
	t.Helper()
	routes, err := routing.Routes([]*replication.Table{table}, vschema(t, sharded), ranges(t, names...), vindex.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var shards []replication.Shard
	for _, n := range names {
		shards = append(shards, replication.Shard{Name: n, Target: &shelf{table: table.Name}})
	}
	fan, err := replication.NewFanout(shards, routes, replication.FanoutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cp, err := fan.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, r := range rows {
		if err := fan.Append(t.Context(), &replication.Entry{Position: cp.Position, Changes: []replication.Change{{Table: table, After: pack(r)}}}); err != nil {
			t.Errorf("%s: row %q: %v", table.Name, r, err)
		}
		for i, s := range shards {
			if s := s.Target.(*shelf); s.got > 0 {
				s.got = 0
				got = append(got, i)
			}
		}
	}
	return fmt.Sprint(got)
}

// pack packs values that are separated by bars; "NULL" is NULL.
func pack(row string) replication.Row {
	var values [][]byte
	for v := range strings.SplitSeq(row, "|") {
		if v == "NULL" {
			values = append(values, nil)
			continue
		}
		values = append(values, []byte(v))
	}
	return replication.PackRow(values...)
}

func TestRoutesRefuses(t *testing.T) {
	id := replication.Column{Name: "id", Kind: replication.KindUint}
	refused := func(vs string, names []string, tables ...*replication.Table) error {
		t.Helper()
		_, err := routing.Routes(tables, vschema(t, vs), ranges(t, names...), vindex.Options{})
		if err == nil {
			t.Error("it is accepted")
		}
		return err
	}
	two := []string{"-80", "80-"}
	err := refused(sharded, two,
		newTable("orders", id), newTable("unknown", id), newTable("looked", id), newTable("names", text("name", "big5")),
		newTable("floats", replication.Column{Name: "f", Kind: replication.KindDouble}), newTable("pairs", id))
	missing, ok := errors.AsType[*vindex.MissingTableError](err)
	if !ok || missing.Table != "unknown" || missing.Column != "id" {
		t.Errorf("a table that the VSchema has not: %v", err)
	}
	if _, ok := errors.AsType[*vindex.UnsupportedError](err); !ok {
		t.Errorf("a lookup vindex: %v", err)
	}
	if column, ok := errors.AsType[*routing.ColumnError](err); !ok || column.Table != "names" || column.Column != "name" {
		t.Errorf("a character set: %v", err)
	}
	for _, want := range []string{"table floats", "table pairs", "big5"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	json := replication.Column{Name: "name", Kind: replication.KindJSON, Type: "json"}
	if column, ok := errors.AsType[*routing.ColumnError](refused(sharded, two, newTable("names", json))); !ok || column.Column != "name" {
		t.Error("a JSON column has another error")
	}
	var cover *topo.CoverError
	if err := refused(sharded, two[:1], newTable("orders", id)); !errors.As(err, &cover) {
		t.Errorf("half of the ids: %v", err)
	}
	if err := refused(`{}`, two, newTable("orders", id)); !errors.Is(err, routing.ErrShards) {
		t.Errorf("an unsharded keyspace of two shards: %v", err)
	}
	if _, err := routing.Routes([]*replication.Table{newTable("orders", id)}, &topo.VSchema{}, ranges(t, "-"), vindex.Options{}); err != nil {
		t.Errorf("an unsharded keyspace: %v", err)
	}
}

// A row that no shard can hold names its key.
func TestRowWithoutShard(t *testing.T) {
	for _, c := range []struct {
		column replication.Column
		row    string
	}{
		{replication.Column{Name: "id", Kind: replication.KindInt}, "NULL"},
		{replication.Column{Name: "id", Kind: replication.KindEnum, Charset: "ascii", Members: []string{"1"}}, "2"},
		{replication.Column{Name: "id", Kind: replication.KindSet, Charset: "ascii", Members: []string{"1"}}, "2"},
		{text("id", "utf16"), "\xd8\x00"},
		{text("id", "utf32"), "\x00\x00\xd8\x00"},
		{text("id", "ucs2"), "1"},
	} {
		table := newTable("orders", c.column)
		routes, err := routing.Routes([]*replication.Table{table}, vschema(t, sharded), ranges(t, "-"), vindex.Options{})
		if err != nil {
			t.Fatal(err)
		}
		fan, err := replication.NewFanout([]replication.Shard{{Name: "-", Target: &shelf{table: "orders"}}}, routes, replication.FanoutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fan.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		var bad *replication.RowError
		err = fan.Append(t.Context(), &replication.Entry{Changes: []replication.Change{{Table: table, After: pack(c.row)}}})
		if !errors.As(err, &bad) || bad.Table != "orders" || bad.Key == "" {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
