package migrate

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate/routing"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// tableOf has BIGINT columns, and FLOAT ones whose names begin with f. The first key is the primary one.
func tableOf(name string, columns []string, keys ...[]int) *replication.Table {
	t := &replication.Table{Name: name}
	for _, c := range columns {
		kind := replication.KindInt
		if strings.HasPrefix(c, "f") {
			kind = replication.KindFloat
		}
		t.Columns = append(t.Columns, replication.Column{Name: c, Kind: kind, Type: map[bool]string{true: "bigint", false: "float"}[kind == replication.KindInt]})
	}
	for i, k := range keys {
		index := replication.Index{Name: "PRIMARY", Columns: k, Exact: true}
		if i == 0 {
			t.Primary = index
			continue
		}
		index.Name = "u" + string(rune('0'+i))
		t.Unique = append(t.Unique, index)
	}
	return t
}

func foreignKeyTo(t *replication.Table, parent string, columns []int, parentColumns []string) *replication.Table {
	t.ForeignKeys = append(t.ForeignKeys, replication.ForeignKey{Name: "fk", Columns: columns, Parent: parent, ParentColumns: parentColumns})
	return t
}

func mustVSchema(t *testing.T, text string) *topo.VSchema {
	t.Helper()
	vs, err := topo.ParseVSchema([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return vs
}

const testVindexes = `"vindexes": {"xx": {"type": "xxhash"}, "other": {"type": "hash"}, "look": {"type": "lookup_unique"}, "odd": {"type": "no_such"}, "map": {"type": "numeric_static_map"},
	"same": {"type": "xxhash"}}`

// brief is a finding as code, severity, object and a part of the message.
type brief struct {
	code   Code
	sev    Severity
	object string
	part   string
}

func checkBriefs(t *testing.T, got []Finding, want []brief) {
	t.Helper()
	for _, w := range want {
		i := slices.IndexFunc(got, func(f Finding) bool {
			return f.Code == w.code && f.Severity == w.sev && f.Object == w.object && strings.Contains(f.Message+" FIX "+f.Fix, w.part)
		})
		if i < 0 {
			t.Errorf("no finding %+v", w)
			continue
		}
		got = slices.Delete(slices.Clone(got), i, i+1)
	}
	for _, f := range got {
		t.Errorf("more: %s %s %s: %s (fix: %s)", f.Code, f.Severity, f.Object, f.Message, f.Fix)
	}
}

func TestShardCheck(t *testing.T) {
	id := []string{"id", "owner", "f"}
	halves := []string{"-80", "80-"}
	pk := []int{0}
	const e, w = SeverityError, SeverityWarning
	for _, tc := range []struct {
		name    string
		tables  []*replication.Table
		entries string // of the target's VSchema
		sources map[string]sourcePlace
		shards  []string
		opts    CreateOptions
		want    []brief
	}{
		{name: "all is well", tables: []*replication.Table{tableOf("t", id, pk)}, entries: `"t": {"column_vindexes": [{"column": "ID", "name": "xx"}]}`, shards: halves},
		{
			name: "tables are missing", tables: []*replication.Table{tableOf("a", []string{"k"}, pk), tableOf("b", id, pk)}, entries: ``, shards: halves,
			want: []brief{
				{CodeVSchema, e, "a", `FIX add to the VSchema {"tables":{"a":{"column_vindexes":[{"column":"k","name":`},
				{CodeVSchema, e, "b", `FIX add to the VSchema {"tables":{"b":{"column_vindexes":[{"column":"id","name":`},
			},
		},
		{
			name: "vindexes that can't place rows", shards: halves,
			tables: []*replication.Table{tableOf("a", id, pk), tableOf("b", id, pk), tableOf("c", id, pk), tableOf("d", id, pk), tableOf("e", id, pk), tableOf("g", id, pk), tableOf("h", id, pk)},
			entries: `"a": {"column_vindexes": [{"column": "id", "name": "look"}]}, "b": {"column_vindexes": [{"column": "id", "name": "odd"}]},
				"c": {"column_vindexes": [{"column": "id", "name": "nowhere"}]}, "d": {"column_vindexes": [{"column": "gone", "name": "xx"}]}, "e": {},
				"g": {"column_vindexes": [{"column": "f", "name": "xx"}]}, "h": {"column_vindexes": [{"column": "id", "name": "map"}]}`,
			want: []brief{
				{CodeVSchema, e, "a", "lookup_unique"},
				{CodeVSchema, e, "b", "no_such"},
				{CodeVSchema, e, "c", "FIX define the vindex"},
				{CodeVSchema, e, "d", "no column gone"},
				{CodeVSchema, e, "e", "FIX add column_vindexes"},
				{CodeVSchema, e, "g", "FIX shard the table by another column"},
				{CodeVSchema, e, "h", "ReadFile"},
			},
		},
		{
			name: "shards with a gap, and a table besides", tables: []*replication.Table{tableOf("t", id, pk)}, shards: []string{"-40", "80-"},
			want: []brief{{CodeShards, e, "to", "40-80"}, {CodeVSchema, e, "t", "is not in the VSchema"}},
		},
		{
			name: "shards that overlap", tables: []*replication.Table{tableOf("t", id, pk)}, entries: `"t": {"type": "reference"}`, shards: []string{"-80", "40-"},
			want: []brief{{CodeShards, e, "to", "overlap in 40-80"}},
		},
		{
			name: "unique keys", shards: halves,
			tables: []*replication.Table{
				tableOf("t", id, []int{0}, []int{1}, []int{0, 1}), tableOf("ref", id, pk, []int{1}), tableOf("pinned", id, pk, []int{1}),
			},
			entries: `"t": {"column_vindexes": [{"column": "owner", "name": "xx"}]}, "ref": {"type": "reference"}, "pinned": {"pinned": "00"}`,
			want:    []brief{{CodeUniqueKey, w, "t", "unique key `PRIMARY` of table `t` lacks `owner`"}},
		},
		{
			name: "unique keys on one shard", shards: []string{"-"}, tables: []*replication.Table{tableOf("t", id, []int{0}, []int{1})},
			entries: `"t": {"column_vindexes": [{"column": "owner", "name": "xx"}]}`,
		},
		{
			name: "several source shards", shards: []string{"-"},
			tables: []*replication.Table{tableOf("t", id, []int{0, 1}, []int{1}), tableOf("u", id, pk), tableOf("ref", id, pk), tableOf("other", id, pk), tableOf("pinned", id, pk)},
			entries: `"t": {"column_vindexes": [{"column": "id", "name": "xx"}]}, "u": {"column_vindexes": [{"column": "id", "name": "xx"}]},
				"ref": {"type": "reference"}, "other": {"type": "reference"}, "pinned": {"column_vindexes": [{"column": "id", "name": "xx"}]}`,
			sources: map[string]sourcePlace{
				"t": {shards: 2, columns: []string{"ID"}}, "u": {shards: 2}, "ref": {shards: 1}, "other": {shards: 2}, "pinned": {shards: 2, one: true},
			},
			want: []brief{
				{CodeUniqueKey, w, "t", "unique key `u1` of table `t` is unique within each of 2 source shards, and lacks `ID`"},
				{CodeUniqueKey, w, "u", "does not say by what its rows are spread"},
				{CodeReference, w, "other", `"type": "reference"`},
			},
		},
		{
			name: "foreign keys", shards: halves,
			tables: []*replication.Table{
				tableOf("parent", id, []int{0}),
				foreignKeyTo(tableOf("with", id, []int{0, 1}), "parent", []int{1}, []string{"id"}),
				foreignKeyTo(tableOf("apart", id, []int{0}), "parent", []int{1}, []string{"id"}),
				foreignKeyTo(tableOf("different", id, []int{0, 1}), "parent", []int{1}, []string{"id"}),
				foreignKeyTo(tableOf("toref", id, []int{0}), "ref", []int{1}, []string{"id"}),
				foreignKeyTo(tableOf("ref", id, []int{0}), "parent", []int{1}, []string{"id"}),
				foreignKeyTo(tableOf("pin", id, []int{0}), "nail", []int{1}, []string{"id"}),
				tableOf("nail", id, []int{0}),
				foreignKeyTo(tableOf("self", id, []int{0}), "self", []int{1}, []string{"id"}),
			},
			entries: `"parent": {"column_vindexes": [{"column": "id", "name": "xx"}]}, "with": {"column_vindexes": [{"column": "owner", "name": "same"}]},
				"apart": {"column_vindexes": [{"column": "id", "name": "xx"}]}, "different": {"column_vindexes": [{"column": "owner", "name": "other"}]},
				"toref": {"column_vindexes": [{"column": "id", "name": "xx"}]}, "ref": {"type": "reference"}, "pin": {"pinned": "20"}, "nail": {"pinned": "20"},
				"self": {"column_vindexes": [{"column": "id", "name": "xx"}]}`,
			want: []brief{
				{CodeUniqueKey, w, "apart", ""},
				{CodeForeignKey, w, "apart", "`apart` is spread by id, `parent` by id, which the foreign key does not tie together"},
				{CodeForeignKey, w, "different", "different vindexes, other and xx"},
				{CodeForeignKey, w, "ref", "one is reference, the other sharded"},
				{CodeForeignKey, w, "self", "does not tie together"},
			}[1:],
		},
		{
			name: "foreign keys that are dropped", shards: halves, opts: CreateOptions{DropForeignKeys: true},
			tables:  []*replication.Table{tableOf("parent", id, pk), foreignKeyTo(tableOf("apart", id, pk), "parent", []int{1}, []string{"id"})},
			entries: `"parent": {"column_vindexes": [{"column": "id", "name": "xx"}]}, "apart": {"column_vindexes": [{"column": "id", "name": "xx"}]}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sh := &sharding{
				keyspace: "to", shards: tc.shards, tables: tc.tables, sources: tc.sources,
				vschema: mustVSchema(t, `{"sharded": true, `+testVindexes+`, "tables": {`+tc.entries+`}}`),
			}
			var fs findings
			sh.check(&fs, tc.opts)
			checkBriefs(t, fs.list, tc.want)
		})
	}
}

// The errors behind the findings can be asked for.
func TestShardCheckErrors(t *testing.T) {
	sh := &sharding{
		keyspace: "to", shards: []string{"-40", "80-"}, vschema: &topo.VSchema{Sharded: true},
		tables: []*replication.Table{tableOf("t", []string{"id"}, []int{0})},
	}
	var fs findings
	sh.check(&fs, CreateOptions{})
	err := fs.err("to.wf")
	missing, ok := errors.AsType[*vindex.MissingTableError](err)
	if !ok || missing.Table != "t" || missing.Column != "id" {
		t.Errorf("%v", err)
	}
	if _, ok := errors.AsType[*topo.CoverError](err); !ok {
		t.Errorf("%v", err)
	}

	sh.vschema, fs = &topo.VSchema{}, findings{}
	sh.check(&fs, CreateOptions{})
	checkBriefs(t, fs.list, []brief{{CodeShards, SeverityError, "to", `"sharded": true`}})
	if err := fs.err("to.wf"); !errors.Is(err, routing.ErrShards) {
		t.Errorf("%v", err)
	}
}

// Families are refused on several shards only, by the same rule as the engine's.
func TestShardCheckFamilies(t *testing.T) {
	child := foreignKeyTo(tableOf("child", []string{"id", "up"}, []int{0}), "parent", []int{1}, []string{"id"})
	child.Family, child.ForeignKeys[0].OnDelete = "parent", replication.ActionCascade
	parent := tableOf("parent", []string{"id"}, []int{0})
	parent.Family = "parent"
	sh := &sharding{
		keyspace: "to", shards: []string{"-"}, tables: []*replication.Table{child, parent},
		vschema: mustVSchema(t, `{"sharded": true, `+testVindexes+`, "tables": {"child": {"type": "reference"}, "parent": {"type": "reference"}}}`),
	}
	var fs findings
	sh.check(&fs, CreateOptions{})
	checkBriefs(t, fs.list, nil)
	sh.shards = []string{"-80", "80-"}
	sh.check(&fs, CreateOptions{})
	checkBriefs(t, fs.list, []brief{{CodeForeignKey, SeverityError, "child", "foreign key `fk` of table `child` changes rows by itself"}})
	if e, ok := errors.AsType[*replication.CascadeError](fs.err("to.wf")); !ok || e.Table != "child" {
		t.Errorf("%v", fs.err("to.wf"))
	}
}

func TestCheckDenied(t *testing.T) {
	shard := &topo.Shard{Keyspace: "to", Name: "-80", TabletControls: []topo.TabletControl{
		{TabletType: topo.TabletPrimary, DeniedTables: []string{"a", "b", "c"}}, {TabletType: topo.TabletReplica, DeniedTables: []string{"x"}},
	}}
	var fs findings
	checkDenied(&fs, shard, []string{"a", "c", "d"})
	checkBriefs(t, fs.list, []brief{{CodeDenied, SeverityWarning, "to/-80", "vtctldclient SetShardTabletControl --remove --denied-tables=a,c to/-80 primary"}})
	if err := fs.err("to.wf"); err != nil {
		t.Errorf("it stops Create: %v", err)
	}
}
