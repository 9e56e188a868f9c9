package migrate

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

func TestParseAutoIncrement(t *testing.T) {
	for text, want := range map[string]AutoIncrementHandling{
		"": AutoIncrementRemove, "remove": AutoIncrementRemove, "Leave": AutoIncrementLeave, "REPLACE": AutoIncrementReplace,
	} {
		if h, err := ParseAutoIncrement(text); err != nil || h != want {
			t.Errorf("%q: %v, %v", text, h, err)
		}
	}
	for _, h := range []AutoIncrementHandling{AutoIncrementRemove, AutoIncrementLeave, AutoIncrementReplace} {
		if back, err := ParseAutoIncrement(h.String()); err != nil || back != h {
			t.Errorf("%s: %v, %v", h, back, err)
		}
	}
	if _, err := ParseAutoIncrement("KEEP"); err == nil || !strings.Contains(err.Error(), `"KEEP" is not REMOVE, LEAVE or REPLACE`) {
		t.Errorf("%v", err)
	}
	for _, o := range []CreateOptions{{AutoIncrement: 7}, {GlobalKeyspace: "seqs"}, {GlobalKeyspace: "seqs", AutoIncrement: AutoIncrementLeave}} {
		o.Source, o.AllTables = "ext1.load", true
		if e, ok := errors.AsType[*OptionError](o.validate()); !ok {
			t.Errorf("%+v: %v", o, e)
		}
	}
}

func TestParseSequence(t *testing.T) {
	for text, want := range map[string][2]string{
		"t_seq": {"", "t_seq"}, "seqs.t_seq": {"seqs", "t_seq"}, "`my ks`.`t``x`": {"my ks", "t`x"}, "source-ks.my-seq1": {"source-ks", "my-seq1"},
		" seqs . t_seq ": {"seqs", "t_seq"},
	} {
		if ks, name, ok := parseSequence(text); !ok || ks != want[0] || name != want[1] {
			t.Errorf("%q: %q, %q, %v", text, ks, name, ok)
		}
	}
	for _, text := range []string{"", ".", "a.", ".b", "a.b.c", "a b", "'a'", "a.b;", "a-", "`a"} {
		if ks, name, ok := parseSequence(text); ok {
			t.Errorf("%q: %q, %q", text, ks, name)
		}
	}
	for _, s := range []sequenceRecord{{Keyspace: "seqs", Name: "t_seq"}, {Keyspace: "my-ks", Name: "1t_seq"}, {Keyspace: "a`b", Name: "ä"}, {Keyspace: "a.b", Name: "c d"}} {
		if ks, name, ok := parseSequence(s.reference()); !ok || ks != s.Keyspace || name != s.Name {
			t.Errorf("%s: %q, %q, %v", s.reference(), ks, name, ok)
		}
	}
	if got := (sequenceRecord{Keyspace: "seqs", Name: "t_seq"}).reference(); got != "seqs.t_seq" {
		t.Error(got)
	}
}

func TestCheckAutoIncrement(t *testing.T) {
	const e, w = SeverityError, SeverityWarning
	id := []string{"id", "owner"}
	long := strings.Repeat("l", 61)
	const plain = `{"column_vindexes": [{"column": "id", "name": "xx"}]}`
	with := func(auto string) string {
		return `{"column_vindexes": [{"column": "id", "name": "xx"}], "auto_increment": ` + auto + `}`
	}
	replace := CreateOptions{AutoIncrement: AutoIncrementReplace, GlobalKeyspace: "seqs"}
	for _, tc := range []struct {
		name    string
		opts    CreateOptions
		tables  []*replication.Table
		entries string
		shards  []string
		plain   bool // the target is not sharded
		want    []brief
		seqs    []sequenceRecord
	}{
		{
			name: "Remove", tables: []*replication.Table{tableOf("a", id, []int{0}), tableOf("b", id, []int{0})},
			entries: `"a": ` + plain + `, "b": ` + with(`{"column": "id", "sequence": "b_ids"}`),
			want:    []brief{{CodeAutoIncrement, w, "a", "rows need an id"}, {CodeAutoIncrement, w, "b", "sequence b_ids, which nobody sets"}},
		},
		{
			name: "Leave", opts: CreateOptions{AutoIncrement: AutoIncrementLeave}, tables: []*replication.Table{tableOf("a", id, []int{0})}, entries: `"a": ` + plain,
			want: []brief{{CodeAutoIncrement, w, "a", "each shard counts for itself"}},
		},
		{
			name: "Leave on one shard", opts: CreateOptions{AutoIncrement: AutoIncrementLeave}, tables: []*replication.Table{tableOf("a", id, []int{0})}, entries: `"a": ` + plain,
			shards: []string{"-"},
		},
		{
			name: "only tables that are spread", opts: replace, tables: []*replication.Table{tableOf("a", id, []int{0}), tableOf("b", id, []int{0})},
			entries: `"a": {"type": "reference"}, "b": {"pinned": "00"}`,
		},
		{name: "Replace where nothing is sharded", opts: replace, tables: []*replication.Table{tableOf("a", id, []int{0})}, plain: true, want: []brief{{CodeAutoIncrement, w, "to", "not sharded"}}},
		{
			name: "Replace", opts: replace, tables: []*replication.Table{tableOf("a", id, []int{0}), tableOf("b", id, []int{0}), tableOf("c", id, []int{0}), tableOf("d", id, []int{0})},
			entries: `"a": ` + plain + `, "b": ` + with(`{"column": "ID", "sequence": "seqs.b_seq"}`) + `, "c": ` + with(`{"column": "id", "sequence": "c_seq"}`) +
				`, "d": ` + with(`{"column": "id", "sequence": "numbers"}`),
			seqs: []sequenceRecord{
				{Table: "a", Column: "id", Keyspace: "seqs", Name: "a_seq"},
				{Table: "b", Column: "id", Keyspace: "seqs", Name: "b_seq"},
				{Table: "c", Column: "id", Keyspace: "seqs", Name: "c_seq"},
				{Table: "d", Column: "id", Keyspace: "seqs", Name: "numbers"},
			},
			want: []brief{{CodeSequence, w, "d", "sequence numbers in the VSchema already"}},
		},
		{
			name: "Replace without a keyspace", opts: CreateOptions{AutoIncrement: AutoIncrementReplace}, tables: []*replication.Table{tableOf("a", id, []int{0}), tableOf("b", id, []int{0})},
			entries: `"a": ` + plain + `, "b": ` + plain, want: []brief{{CodeSequence, e, "GlobalKeyspace", "sequences of `a`, `b`"}},
			seqs: []sequenceRecord{{Table: "a", Column: "id", Name: "a_seq"}, {Table: "b", Column: "id", Name: "b_seq"}},
		},
		{
			name: "entries that say something else", opts: replace,
			tables: []*replication.Table{tableOf("a", id, []int{0}), tableOf("b", id, []int{0}), tableOf("c", id, []int{0}), tableOf("d", []string{"fid"}, []int{0}), tableOf(long, id, []int{0})},
			entries: `"a": ` + with(`{"column": "owner", "sequence": "a_seq"}`) + `, "b": ` + with(`{"column": "id", "sequence": "elsewhere.b_seq"}`) +
				`, "c": ` + with(`{"column": "id", "sequence": "a.b.c"}`) + `, "d": ` + plain + `, "` + long + `": ` + plain,
			want: []brief{
				{CodeSequence, e, "a", "is for column `owner`, not for `id`"},
				{CodeSequence, e, "b", "of keyspace elsewhere, not of seqs"},
				{CodeSequence, e, "c", "can't be read"},
				{CodeSequence, e, "d", "is float"},
				{CodeSequence, e, long, "longer than 64"},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sh := &sharding{keyspace: "to", shards: tc.shards, tables: tc.tables, autoIncrement: map[string]string{}}
			if sh.shards == nil {
				sh.shards = []string{"-80", "80-"}
			}
			for _, m := range tc.tables {
				sh.autoIncrement[m.Name] = m.Columns[0].Name
			}
			sh.vschema = mustVSchema(t, `{"sharded": `+map[bool]string{true: "false", false: "true"}[tc.plain]+`, `+testVindexes+`, "tables": {`+tc.entries+`}}`)
			var fs findings
			seqs := sh.checkAutoIncrement(&fs, tc.opts)
			checkBriefs(t, fs.list, tc.want)
			if !slices.Equal(seqs, tc.seqs) {
				t.Errorf("sequences %+v, want %+v", seqs, tc.seqs)
			}
		})
	}
}

func TestCheckGlobal(t *testing.T) {
	const e, w = SeverityError, SeverityWarning
	all := parseGrants([]string{"GRANT ALL PRIVILEGES ON *.* TO `x`@`%`"})
	one := []sequenceRecord{{Table: "t", Column: "id", Keyspace: "seqs", Name: "t_seq"}}
	sequence := func() *sequenceTable {
		return &sequenceTable{kind: "BASE TABLE", comment: "vitess_sequence", columns: []string{"id", "next_id", "cache"}}
	}
	for _, tc := range []struct {
		name    string
		change  func(*globalState)
		want    []brief
		existed bool
	}{
		{name: "nothing is there", change: func(*globalState) {}},
		{name: "a sequence is there", change: func(g *globalState) { g.tables["t_seq"] = sequence() }, existed: true, want: []brief{{CodeSequence, w, "t", "is there already"}}},
		{name: "sharded", change: func(g *globalState) { g.vschema.Sharded = true }, want: []brief{{CodeSequence, e, "seqs", "is sharded"}}, existed: true},
		{name: "two shards", change: func(g *globalState) { g.shards = 2 }, want: []brief{{CodeSequence, e, "seqs", "has 2 serving shards"}}, existed: true},
		{name: "a view", change: func(g *globalState) { g.tables["t_seq"] = &sequenceTable{kind: "VIEW"} }, existed: true, want: []brief{{CodeSequence, e, "t", "it is a view"}}},
		{
			name: "another table", change: func(g *globalState) { g.tables["t_seq"] = sequence(); g.tables["t_seq"].comment = "" }, existed: true,
			want: []brief{{CodeSequence, e, "t", "its comment is not 'vitess_sequence'"}},
		},
		{
			name: "another sequence", change: func(g *globalState) {
				g.tables["t_seq"] = sequence()
				g.tables["t_seq"].columns = []string{"id", "cache"}
			}, existed: true,
			want: []brief{{CodeSequence, e, "t", "no column next_id"}},
		},
		{
			name: "something else in the VSchema", change: func(g *globalState) { g.vschema.Tables = map[string]*topo.Table{"t_seq": {}} }, existed: true,
			want: []brief{{CodeSequence, e, "t", `its type is "" in the VSchema`}},
		},
		{name: "in the VSchema", change: func(g *globalState) { g.vschema.Tables = map[string]*topo.Table{"t_seq": {Type: "sequence"}} }},
		{
			name: "a server that may not be written", change: func(g *globalState) {
				g.server.variables = map[string]string{"read_only": "ON"}
				g.server.grants = parseGrants([]string{"GRANT SELECT, INSERT ON *.* TO `x`@`%`"})
			},
			want: []brief{{CodeReadOnly, e, "read_only", "seqs"}, {CodePrivilege, e, "UPDATE, CREATE, DROP", "vt_seqs"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := &globalState{keyspace: "seqs", vschema: &topo.VSchema{}, shards: 1, server: &server{grants: all}, schema: "vt_seqs", tables: map[string]*sequenceTable{}}
			tc.change(g)
			seqs := slices.Clone(one)
			var fs findings
			g.check(&fs, seqs)
			checkBriefs(t, fs.list, tc.want)
			if seqs[0].Create == tc.existed {
				t.Errorf("Create is %v", seqs[0].Create)
			}
		})
	}
}

func TestParseID(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "-5": -5, "9223372036854775806": 9223372036854775806} {
		if id, err := parseID(text); err != nil || id != want {
			t.Errorf("%s: %d, %v", text, id, err)
		}
	}
	for _, text := range []string{"9223372036854775807", "18446744073709551615", "1.5", ""} {
		if id, err := parseID(text); err == nil {
			t.Errorf("%s: %d", text, id)
		}
	}
}

func FuzzParseSequence(f *testing.F) {
	for _, s := range []string{"t_seq", "seqs.t_seq", "`a``b`.`c`", "source-ks.my-seq1", "a.", "`", "a`b`", "a/*x*/.b", "1.2"} {
		f.Add(s, "my ks")
	}
	f.Fuzz(func(t *testing.T, text, keyspace string) {
		_, _, _ = parseSequence(text)
		if text == "" || keyspace == "" {
			return
		}
		s := sequenceRecord{Keyspace: keyspace, Name: text}
		if ks, name, ok := parseSequence(s.reference()); !ok || ks != keyspace || name != text {
			t.Errorf("%q is read as %q, %q, %v", s.reference(), ks, name, ok)
		}
	})
}

func FuzzWithoutAutoIncrement(f *testing.F) {
	f.Add(awkwardTable)
	f.Add("CREATE TABLE `t` (\n  `id` int AUTO_INCREMENT=,\n KEY (`id`)\n) AUTO_INCREMENT=")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCreate(text)
		if err != nil {
			return
		}
		out := c.withoutAutoIncrement()
		if out.autoIncrement() != "" {
			t.Errorf("%q still counts", text)
		}
		// What is left is in the text in the same order.
		rest := text
		for _, d := range out.defs {
			for _, word := range strings.Fields(d.text) {
				_, after, ok := strings.Cut(rest, word)
				if !ok {
					t.Fatalf("%q has no %q", text, word)
				}
				rest = after
			}
		}
	})
}
