package topo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/topo"
)

const bigVSchema = `{
  "sharded": true,
  "vindexes": {
    "xxhash": {"type": "xxhash"},
    "region": {"type": "region_json", "params": {"region_bytes": "1", "region_map": "/<&>"}, "owner": "t"}
  },
  "tables": {
    "t": {
      "column_vindexes": [{"column": "id", "name": "xxhash"}, {"name": "region", "columns": ["a", "b"]}],
      "auto_increment": {"column": "id", "sequence": "main.t_seq"},
      "columns": [{"name": "id", "type": "INT64", "nullable": false}, {"name": "e", "type": "ENUM", "invisible": true,
        "default": "'x'", "collation_name": "utf8mb4_bin", "size": 3, "scale": 1, "values": ["x", "y"]}],
      "column_list_authoritative": true
    },
    "ref": {"type": "reference", "source": "main.ref"},
    "seq": {"type": "sequence", "pinned": "80"}
  },
  "require_explicit_routing": true,
  "foreign_key_mode": "managed",
  "multi_tenant_spec": {"tenant_id_column_name": "tenant", "tenant_id_column_type": "INT64"}
}`

// sorted returns a document with the keys of every object sorted.
func sorted(t *testing.T, s string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestVSchemaJSON(t *testing.T) {
	v, err := topo.ParseVSchema([]byte(bigVSchema))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Validate(); err != nil {
		t.Fatal(err)
	}
	table := v.Tables["t"]
	if !v.Sharded || v.ForeignKeyMode != topo.ForeignKeysManaged || v.Vindexes["region"].Params["region_bytes"] != "1" ||
		len(table.ColumnVindexes) != 2 || table.ColumnVindexes[1].ColumnNames()[1] != "b" || *table.Columns[0].Nullable ||
		table.Columns[1].Type.String() != "ENUM" || table.Columns[1].Nullable != nil {
		t.Errorf("parsed as %+v", v)
	}
	b, err := json.Marshal(v)
	if err != nil || sorted(t, string(b)) != sorted(t, bigVSchema) {
		t.Errorf("prints as %s, %v", b, err)
	}

	// The same through the wire.
	back := new(topo.VSchema)
	if err := topo.Decode(topo.Encode(v), back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil || string(again) != string(b) {
		t.Errorf("after the wire it prints as %s, %v", again, err)
	}

	for in, out := range map[string]string{
		`{}`:                                 `{}`,
		`{"sharded":null,"tables":{"t":{}}}`: `{"tables":{"t":{}}}`,
		`{"tables":{"t":{"columnVindexes":[{"column":"id","name":"x"}],"columns":[{"name":"a","type":265}]}}}`: `{"tables":{"t":{"column_vindexes":[{"column":"id","name":"x"}],"columns":[{"name":"a","type":"INT64"}]}}}`,
		`{"foreign_key_mode":2}`: `{"foreign_key_mode":"unmanaged"}`,
	} {
		v, err := topo.ParseVSchema([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if b, err := json.Marshal(v); err != nil || string(b) != out {
			t.Errorf("%s prints as %s, %v, want %s", in, b, err, out)
		}
	}
}

func TestVSchemaJSONErrors(t *testing.T) {
	for in, path := range map[string]string{
		``:                                      "",
		`[]`:                                    "",
		`{"sharded":true`:                       "",
		`{} {}`:                                 "",
		`{"shardd":true}`:                       "shardd",
		`{"Sharded":true}`:                      "Sharded",
		`{"sharded":true,"sharded":false}`:      "sharded",
		`{"sharded":"yes"}`:                     "sharded",
		`{"vindexes":[]}`:                       "vindexes",
		`{"vindexes":{"x":{"typ":"xxhash"}}}`:   "vindexes.x.typ",
		`{"vindexes":{"x":{"params":{"a":1}}}}`: "vindexes.x.params.a",
		`{"tables":{"t":null}}`:                 "tables.t",
		`{"tables":{"t":{},"t":{}}}`:            "tables.t",
		`{"tables":{"t":{"column_vindexes":{}}}}`:                               "tables.t.column_vindexes",
		`{"tables":{"t":{"column_vindexes":[{"column":"a"},{"nmae":"x"}]}}}`:    "tables.t.column_vindexes[1].nmae",
		`{"tables":{"t":{"column_vindexes":[{"columns":["a",2],"name":"x"}]}}}`: "tables.t.column_vindexes[0].columns[1]",
		`{"tables":{"t":{"columns":[{"name":"a","type":"INT"}]}}}`:              "tables.t.columns[0].type",
		`{"tables":{"t":{"columns":[{"name":"a","size":3000000000}]}}}`:         "tables.t.columns[0].size",
		`{"foreign_key_mode":"on"}`:                                             "foreign_key_mode",
	} {
		_, err := topo.ParseVSchema([]byte(in))
		e := (*topo.JSONError)(nil)
		if !errors.As(err, &e) || e.Path != path || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestVSchemaValidate(t *testing.T) {
	v, err := topo.ParseVSchema([]byte(`{"sharded":true,"vindexes":{"x":{"type":"xxhash"},"none":{}},"tables":{
		"a":{}, "b":{"type":"view"}, "c":{"column_vindexes":[{"column":"id","name":"y"},{"name":"x"},{"name":"x","column":"a","columns":["b"]}]},
		"s":{"type":"sequence"}, "i":{"pinned":"80","auto_increment":{"column":"id"}}, "r":{"type":"reference"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	const want = `vindex none: it has no type
table a: it is in a sharded keyspace and has no column_vindexes
table b: type "view" is none of "", "sequence", "reference"
table c, vindex y: there is no such vindex
table c, vindex x: it has no column
table c, vindex x: it has column and columns; give one of them
table i: auto_increment needs column and sequence
table s: a sequence needs an unsharded keyspace or a pinned keyspace id`
	if err := v.Validate(); err == nil || err.Error() != want || !errors.As(err, new(*topo.VSchemaError)) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func FuzzVSchemaJSON(f *testing.F) {
	f.Add([]byte(bigVSchema))
	f.Add([]byte(`{"tables":{"t":{"columns":[{"type":"INT64","nullable":true}]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := topo.ParseVSchema(b)
		if err != nil {
			if !errors.As(err, new(*topo.JSONError)) {
				t.Fatalf("%q: %v (%T)", b, err, err)
			}
			return
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		wire := topo.Encode(v)
		back := new(topo.VSchema)
		if err := topo.Decode(wire, back); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(back)
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("%s is %s after the wire (%v)", out, again, err)
		}
		if _, err := topo.ParseVSchema(out); err != nil {
			t.Fatalf("%s does not parse: %v", out, err)
		}
	})
}
