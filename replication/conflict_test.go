package replication_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
)

// conflictTable has PRIMARY KEY (a, b) and UNIQUE (c, d), UNIQUE (c).
func conflictTable(schema, name string) *replication.Table {
	t := keyTable(replication.Column{Name: "a", Kind: replication.KindBlob}, replication.Column{Name: "b", Kind: replication.KindBlob})
	t.Schema, t.Name = schema, name
	t.Columns = append(t.Columns, replication.Column{Name: "c", Kind: replication.KindBlob, Nullable: true}, replication.Column{Name: "d", Kind: replication.KindBlob, Nullable: true})
	t.Unique = []replication.Index{{Name: "cd", Columns: []int{2, 3}, Exact: true}, {Name: "c", Columns: []int{2}, Exact: true}}
	return t
}

func conflicts(t *testing.T, table *replication.Table, r replication.Row) []uint64 {
	t.Helper()
	h, err := table.AppendConflicts(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestConflicts(t *testing.T) {
	table := conflictTable("s", "t")
	b := func(s string) []byte { return []byte(s) }
	row := replication.PackRow(b("a"), b("b"), b("c"), b("d"))
	for _, tt := range []struct {
		name  string
		other replication.Row
		want  int // hashes in common
	}{
		{"same row", replication.PackRow(b("a"), b("b"), b("c"), b("d")), 3},
		{"same key only", replication.PackRow(b("a"), b("b"), b("x"), b("y")), 1},
		{"same unique value of one column", replication.PackRow(b("x"), b("b"), b("c"), b("y")), 1},
		{"same unique values", replication.PackRow(b("x"), b("b"), b("c"), b("d")), 2},
		{"values swapped", replication.PackRow(b("b"), b("a"), b("d"), b("c")), 0},
		{"columns run together", replication.PackRow(b("ab"), b(""), b("cd"), b("")), 0},
		{"columns run together, other side", replication.PackRow(b(""), b("ab"), b(""), b("cd")), 0},
		{"NULL", replication.PackRow(b("x"), b("y"), nil, b("d")), 0},
		{"unique values of another key", replication.PackRow(b("c"), b("d"), b("a"), b("b")), 0},
	} {
		ours, theirs := conflicts(t, table, row), conflicts(t, table, tt.other)
		common := 0
		for _, h := range ours {
			if slices.Contains(theirs, h) {
				common++
			}
		}
		if common != tt.want {
			t.Errorf("%s: %d hashes in common, want %d", tt.name, common, tt.want)
		}
	}
	for _, other := range []*replication.Table{conflictTable("s", "u"), conflictTable("u", "t"), conflictTable("t", "s"), conflictTable("st", "")} {
		for _, h := range conflicts(t, other, row) {
			if slices.Contains(conflicts(t, table, row), h) {
				t.Errorf("tables %s.%s and s.t share a hash", other.Schema, other.Name)
			}
		}
	}
	null := replication.PackRow(b("a"), b("b"), nil, nil)
	if got := conflicts(t, table, null); len(got) != 1 {
		t.Errorf("NULL unique values have %d hashes", len(got)-1)
	}
	empty := replication.PackRow(b("a"), b("b"), b(""), b(""))
	if got := conflicts(t, table, empty); len(got) != 3 {
		t.Errorf("empty unique values have %d hashes", len(got)-1)
	}
}

func TestConflictsCoarse(t *testing.T) {
	one, two := replication.PackRow([]byte("a"), []byte("b"), []byte("c"), []byte("d")), replication.PackRow([]byte("x"), []byte("y"), nil, nil)
	for name, spoil := range map[string]func(*replication.Table){
		"primary key not exact": func(t *replication.Table) { t.Primary.Exact = false },
		"unique key not exact":  func(t *replication.Table) { t.Unique[1].Exact = false },
		"not ordered":           func(t *replication.Table) { t.Ordered = false },
	} {
		table := conflictTable("s", "t")
		if table.Coarse() {
			t.Fatal("coarse without a reason")
		}
		spoil(table)
		if a, b := conflicts(t, table, one), conflicts(t, table, two); !table.Coarse() || len(a) != 1 || !slices.Equal(a, b) {
			t.Errorf("%s: hashes %v and %v", name, a, b)
		}
	}
}

func TestChangeConflicts(t *testing.T) {
	table := conflictTable("s", "t")
	before := replication.PackRow([]byte("a"), []byte("b"), []byte("c"), []byte("d"))
	after := replication.PackRow([]byte("a"), []byte("b"), []byte("x"), []byte("d"))
	for _, tt := range []struct {
		change replication.Change
		want   int
	}{
		{replication.Change{Table: table, After: after}, 3},
		{replication.Change{Table: table, Before: before}, 3},
		{replication.Change{Table: table, Before: before, After: before}, 3},
		{replication.Change{Table: table, Before: before, After: after}, 5},
	} {
		got, err := tt.change.AppendConflicts([]uint64{42})
		if err != nil || len(got) != 1+tt.want || got[0] != 42 {
			t.Errorf("%v: %v, %v", tt.change, got, err)
		}
		for _, r := range []replication.Row{tt.change.Before, tt.change.After} {
			if r == nil {
				continue
			}
			for _, h := range conflicts(t, table, r) {
				if !slices.Contains(got, h) {
					t.Errorf("%v lacks a hash of %s", got, table.Format(r))
				}
			}
		}
	}
	bad := replication.Change{Table: table, Before: before, After: replication.Row("\x05a")}
	got, err := bad.AppendConflicts([]uint64{42})
	if _, ok := errors.AsType[*replication.RowError](err); !ok || !errors.Is(err, replication.ErrMalformedRow) || len(got) != 1 {
		t.Errorf("malformed row: %v, %v", got, err)
	}
}

func BenchmarkConflicts(b *testing.B) {
	table := conflictTable("commerce", "customer")
	row := replication.PackRow([]byte("12345678"), []byte("1"), []byte("someone@example.com"), []byte("1234567890"))
	var h []uint64
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if h, err = table.AppendConflicts(h[:0], row); err != nil {
			b.Fatal(err)
		}
	}
}
