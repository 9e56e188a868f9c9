package vindex_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

const shop = `{
	"sharded": true,
	"vindexes": {
		"by_number": {"type": "hash"},
		"by_text": {"type": "unicode_loose_md5"},
		"by_region": {"type": "region_experimental", "params": {"region_bytes": "1"}},
		"by_lookup": {"type": "lookup_unique", "params": {"table": "l", "from": "a", "to": "b"}, "owner": "orders"},
		"by_magic": {"type": "magic"},
		"by_half": {"type": "cfc", "params": {"hash": "md5"}},
		"by_file": {"type": "numeric_static_map", "params": {"json_path": "numbers.json"}}
	},
	"tables": {
		"orders": {"column_vindexes": [{"column": "customer_id", "name": "by_number"}, {"column": "id", "name": "by_lookup"}]},
		"users": {"column_vindexes": [{"columns": ["region", "id"], "name": "by_region"}]},
		"names": {"column_vindexes": [{"columns": ["Name"], "name": "by_text"}]},
		"filed": {"column_vindexes": [{"column": "id", "name": "by_file"}]},
		"countries": {"type": "reference", "source": "main.countries"},
		"orders_seq": {"type": "sequence", "pinned": "00"},
		"config": {"pinned": "80c0"},
		"bad_seq": {"type": "sequence"},
		"bad_type": {"type": "view"},
		"bad_pin": {"pinned": "8"},
		"bad_none": {},
		"bad_name": {"column_vindexes": [{"column": "id", "name": "by_nothing"}]},
		"bad_both": {"column_vindexes": [{"column": "id", "columns": ["id"], "name": "by_number"}]},
		"bad_neither": {"column_vindexes": [{"name": "by_number"}]},
		"bad_count": {"column_vindexes": [{"column": "id", "name": "by_region"}]},
		"bad_lookup": {"column_vindexes": [{"column": "id", "name": "by_lookup"}, {"column": "id", "name": "by_number"}]},
		"bad_magic": {"column_vindexes": [{"column": "id", "name": "by_magic"}]},
		"bad_params": {"column_vindexes": [{"column": "id", "name": "by_half"}]}
	}
}`

func mustParse(t testing.TB, s string) *topo.VSchema {
	t.Helper()
	vs, err := topo.ParseVSchema([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return vs
}

func TestResolve(t *testing.T) {
	vs := mustParse(t, shop)
	for table, want := range map[string]vindex.Placement{
		"orders":     {Kind: vindex.Sharded, Name: "by_number", Columns: []string{"customer_id"}},
		"users":      {Kind: vindex.Sharded, Name: "by_region", Columns: []string{"region", "id"}},
		"names":      {Kind: vindex.Sharded, Name: "by_text", Columns: []string{"Name"}},
		"filed":      {Kind: vindex.Sharded, Name: "by_file", Columns: []string{"id"}},
		"countries":  {Kind: vindex.Reference, Source: "main.countries"},
		"orders_seq": {Kind: vindex.Sequence, ID: []byte{0}},
		"config":     {Kind: vindex.Pinned, ID: []byte{0x80, 0xc0}},
	} {
		p, err := vindex.Resolve(vs, table, withFiles)
		if err != nil {
			t.Errorf("%s: %v", table, err)
			continue
		}
		if (p.Vindex != nil) != (p.Kind == vindex.Sharded) {
			t.Errorf("%s is %s and has vindex %v", table, p.Kind, p.Vindex)
		}
		if p.Vindex != nil && p.Vindex.Type() != vs.Vindexes[p.Name].Type {
			t.Errorf("%s has a vindex of type %s", table, p.Vindex.Type())
		}
		got := *p
		got.Vindex, want.Table = nil, table
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", table, got, want)
		}
	}
}

// The parameters of the VSchema arrive, so rows get the ids that Vitess gives them.
func TestResolveMaps(t *testing.T) {
	p, err := vindex.Resolve(mustParse(t, shop), "users", vindex.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := p.Vindex.Map(nil, row(signed("255"), signed("1")))
	if want := "\xff\x16\x6b\x40\xb4\x4a\xba\x4b\xd6"; err != nil || string(id) != want {
		t.Errorf("%x, %v, want %x", id, err, want)
	}
}

func TestResolveErrors(t *testing.T) {
	vs := mustParse(t, shop)
	for table, check := range map[string]func(error) bool{
		"bad_none":   func(err error) bool { return errors.Is(err, vindex.ErrNoVindex) },
		"bad_name":   func(err error) bool { return errors.Is(err, vindex.ErrUndefined) },
		"bad_count":  func(err error) bool { return errors.As(err, new(*vindex.ColumnsError)) },
		"bad_params": func(err error) bool { return errors.As(err, new(*vindex.ParamError)) },
		"filed":      func(err error) bool { return errors.As(err, new(*vindex.ParamError)) }, // no ReadFile here
		"bad_lookup": func(err error) bool {
			e := (*vindex.UnsupportedError)(nil)
			return errors.As(err, &e) && e.Type == "lookup_unique"
		},
		"bad_magic": func(err error) bool {
			e := (*vindex.UnsupportedError)(nil)
			return errors.As(err, &e) && e.Type == "magic"
		},
		"bad_neither": func(err error) bool { return errors.As(err, new(*vindex.ColumnsError)) },
		"bad_seq":     func(err error) bool { return strings.Contains(err.Error(), "sequence") },
		"bad_type":    func(err error) bool { return strings.Contains(err.Error(), `"view"`) },
		"bad_pin":     func(err error) bool { return strings.Contains(err.Error(), `"8"`) },
		"bad_both":    func(err error) bool { return strings.Contains(err.Error(), "column and columns") },
	} {
		_, err := vindex.Resolve(vs, table, vindex.Options{})
		e := (*vindex.TableError)(nil)
		if !errors.As(err, &e) || e.Table != table || !check(err) {
			t.Errorf("%s gives %v", table, err)
			continue
		}
		if c := vs.Tables[table].ColumnVindexes; len(c) > 0 && e.Vindex != c[0].Name {
			t.Errorf("%s: the error names vindex %q", table, e.Vindex)
		}
	}
}

func TestResolveUnsharded(t *testing.T) {
	vs := mustParse(t, `{"tables": {"t": {}, "seq": {"type": "sequence"}, "ref": {"type": "reference"}, "pin": {"pinned": "80"}}}`)
	for table, want := range map[string]vindex.Kind{
		"t": vindex.Unsharded, "not_mentioned": vindex.Unsharded, "pin": vindex.Unsharded,
		"seq": vindex.Sequence, "ref": vindex.Reference,
	} {
		p, err := vindex.Resolve(vs, table, vindex.Options{})
		if err != nil || p.Kind != want || p.ID != nil || p.Vindex != nil {
			t.Errorf("%s: %+v, %v, want %s", table, p, err, want)
		}
	}
	if p, err := vindex.Resolve(new(topo.VSchema), "t", vindex.Options{}); err != nil || p.Kind != vindex.Unsharded {
		t.Errorf("an empty VSchema: %+v, %v", p, err)
	}
}

// What a missing table's error proposes makes it resolve.
func TestMissingTable(t *testing.T) {
	for name, c := range map[string]struct{ vschema, vindex, newType string }{
		"empty":   {`{"sharded": true}`, "xxhash", "xxhash"},
		"defined": {`{"sharded": true, "vindexes": {"b": {"type": "binary"}}}`, "b", ""},
		"most used": {`{"sharded": true,
			"vindexes": {"a": {"type": "hash"}, "b": {"type": "xxhash"}, "r": {"type": "null"}},
			"tables": {"t1": {"column_vindexes": [{"column": "id", "name": "b"}]}, "t2": {"column_vindexes": [{"column": "id", "name": "r"}]},
				"t3": {"column_vindexes": [{"column": "id", "name": "r"}]}}}`, "b", ""},
		"only others": {`{"sharded": true, "vindexes": {"l": {"type": "lookup"}, "xxhash": {"type": "null"}}}`, "xxhash_primary", "xxhash"},
	} {
		vs := mustParse(t, c.vschema)
		_, err := vindex.Resolve(vs, "orders", vindex.Options{})
		e := (*vindex.MissingTableError)(nil)
		if !errors.As(err, &e) || e.Table != "orders" || e.Vindex != c.vindex || e.NewType != c.newType {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(err.Error(), e.JSON()) || !strings.Contains(e.JSON(), "COLUMN") {
			t.Errorf("%s: the error has no proposal: %v", name, err)
		}
		e.Column = "customer_id"
		if err := json.Unmarshal([]byte(e.JSON()), new(any)); err != nil {
			t.Errorf("%s: %s is no JSON: %v", name, e.JSON(), err)
		}
		part := mustParse(t, e.JSON())
		if vs.Tables == nil {
			vs.Tables = map[string]*topo.Table{}
		}
		if vs.Vindexes == nil {
			vs.Vindexes = map[string]*topo.Vindex{}
		}
		vs.Tables["orders"] = part.Tables["orders"]
		for k, v := range part.Vindexes {
			vs.Vindexes[k] = v
		}
		p, err := vindex.Resolve(vs, "orders", vindex.Options{})
		if err != nil || !slices.Equal(p.Columns, []string{"customer_id"}) {
			t.Errorf("%s: with %s it is %+v, %v", name, e.JSON(), p, err)
		}
	}
}

func TestPositions(t *testing.T) {
	p, err := vindex.Resolve(mustParse(t, shop), "users", vindex.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Positions([]string{"ID", "name", "Region"})
	if err != nil || !slices.Equal(got, []int{2, 0}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := p.Positions([]string{"id", "name"}); !errors.As(err, new(*vindex.TableError)) || !strings.Contains(err.Error(), "region") {
		t.Errorf("a table without the column: %v", err)
	}
}

func TestKindString(t *testing.T) {
	for k, want := range map[vindex.Kind]string{vindex.Sharded: "sharded", vindex.Pinned: "pinned", 99: "kind(99)"} {
		if k.String() != want {
			t.Errorf("%s, want %s", k, want)
		}
	}
	for c, want := range map[vindex.Class]string{vindex.Null: "null", vindex.Binary: "binary", 99: "class(99)"} {
		if c.String() != want {
			t.Errorf("%s, want %s", c, want)
		}
	}
}
