package vitess

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

// A vindexCase is one vindex of the keyspace customer, and the type of the columns that it places a table's rows by.
type vindexCase struct {
	name, kind string
	params     map[string]string
	columns    []string       // SQL types
	classes    []vindex.Class // of the columns
	values     func(r *rand.Rand) []any
	null       bool    // NULL has a keyspace id
	refused    [][]any // rows that have none, and that nobody can insert
}

const regions = `{"DE": 1, "FR": 64, "US": 128, "JP": 255, "CN": 65535}`

// vindexCases has every functional unique vindex of Vitess. The file of regions is only read by vtgate.
func vindexCases(regionFile string) []vindexCase {
	signed := func(r *rand.Rand) []any { return []any{someInt(r)} }
	count := func(r *rand.Rand) []any { return []any{max(0, someInt(r))} }
	text := func(r *rand.Rand) []any { return []any{someText(r)} }
	binary := func(r *rand.Rand) []any { return []any{someBytes(r)} }
	one := func(kind, column string, class vindex.Class, values func(*rand.Rand) []any, null bool, refused ...any) vindexCase {
		v := vindexCase{name: kind + "_" + class.String(), kind: kind, columns: []string{column}, classes: []vindex.Class{class}, values: values, null: null}
		for _, r := range refused {
			v.refused = append(v.refused, []any{r})
		}
		return v
	}
	const bigint, varchar, varbinary = "BIGINT", "VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "VARBINARY(200)"
	cases := []vindexCase{
		one("binary", varchar, vindex.Text, text, false),
		one("binary", varbinary, vindex.Binary, binary, false),
		one("binary_md5", varchar, vindex.Text, text, true),
		one("binary_md5", varbinary, vindex.Binary, binary, true),
		one("binary_md5", bigint, vindex.Signed, signed, true),
		one("hash", bigint, vindex.Signed, signed, false, nil),
		one("hash", "BIGINT UNSIGNED", vindex.Unsigned, func(r *rand.Rand) []any { return []any{r.Uint64()} }, false),
		one("hash", varchar, vindex.Text, func(r *rand.Rand) []any {
			return []any{fmt.Sprintf([]string{"%d", " %d", "%d\t", "00%d"}[r.IntN(4)], r.Uint64()>>8)}
		}, false, "-1", "+1", "x", "", "1.0"),
		one("numeric", bigint, vindex.Signed, count, false, nil, -1, int64(math.MinInt64)),
		one("null", bigint, vindex.Signed, signed, true),
		one("reverse_bits", bigint, vindex.Signed, count, false, nil, -1),
		one("unicode_loose_md5", varchar, vindex.Text, text, true),
		one("unicode_loose_xxhash", varchar, vindex.Text, text, true),
		one("xxhash", bigint, vindex.Signed, signed, true),
		one("xxhash", varchar, vindex.Text, text, true),
		one("xxhash", varbinary, vindex.Binary, binary, true),
		one("cfc", varbinary, vindex.Binary, binary, false),
	}
	longer := func(r *rand.Rand) []any {
		return []any{append(append([]byte{}, 'p', 'r', 'e', 'f', 'i', 'x'), someBytes(r)...)}
	}
	return append(
		cases,
		vindexCase{
			name: "cfc_md5", kind: "cfc", params: map[string]string{"hash": "md5", "offsets": "[2,5]"},
			columns: []string{varbinary}, classes: []vindex.Class{vindex.Binary}, values: longer, refused: [][]any{{[]byte("abcd")}},
		},
		vindexCase{
			name: "cfc_xxhash64", kind: "cfc", params: map[string]string{"hash": "xxhash64", "offsets": "[3]"},
			columns: []string{varbinary}, classes: []vindex.Class{vindex.Binary}, values: longer,
		},
		vindexCase{
			name: "numeric_static_map", kind: "numeric_static_map",
			params:  map[string]string{"json": `{"1": 9223372036854775809, "2": 7, "77": 18446744073709551615}`, "fallback_type": "xxhash"},
			columns: []string{bigint}, classes: []vindex.Class{vindex.Signed},
			values: func(r *rand.Rand) []any { return []any{r.Int64N(100)} }, refused: [][]any{{-1}, {nil}},
		},
		vindexCase{
			name: "region_experimental", kind: "region_experimental", params: map[string]string{"region_bytes": "1"},
			columns: []string{bigint, bigint}, classes: []vindex.Class{vindex.Signed, vindex.Signed},
			values:  func(r *rand.Rand) []any { return []any{r.Int64N(300), max(0, someInt(r))} },
			refused: [][]any{{-1, 1}, {1, -1}, {nil, 1}, {1, nil}},
		},
		vindexCase{
			name: "region_json", kind: "region_json", params: map[string]string{"region_map": regionFile, "region_bytes": "2"},
			columns: []string{bigint, varchar}, classes: []vindex.Class{vindex.Signed, vindex.Text},
			values: func(r *rand.Rand) []any {
				return []any{max(0, someInt(r)), []string{"DE", "FR", "US", "JP", "CN"}[r.IntN(5)]}
			},
			refused: [][]any{{-1, "DE"}, {1, "IT"}, {1, nil}},
		},
		vindexCase{
			name: "multicol", kind: "multicol",
			params:  map[string]string{"column_count": "3", "column_bytes": "1,3,4", "column_vindex": "hash,binary,unicode_loose_xxhash"},
			columns: []string{bigint, varbinary, varchar}, classes: []vindex.Class{vindex.Signed, vindex.Binary, vindex.Text},
			values: func(r *rand.Rand) []any {
				return []any{someInt(r), append([]byte("abc"), someBytes(r)...), someText(r)}
			},
		},
	)
}

// testVindexes compares keyspace ids and placements with those of a vtgate: it asks vtgate for the ids of many values, and
// inserts rows through vtgate and looks on which shard they are.
func testVindexes(t *testing.T, l *lab) {
	c := l.west()
	regionFile := filepath.Join(t.TempDir(), "regions.json")
	must(t, os.WriteFile(regionFile, []byte(regions), 0o600))
	cases := vindexCases(regionFile)
	vs := &topo.VSchema{Sharded: true, Vindexes: map[string]*topo.Vindex{}, Tables: map[string]*topo.Table{}}
	for _, v := range cases {
		vs.Vindexes[v.name] = &topo.Vindex{Type: v.kind, Params: v.params}
		cv := topo.ColumnVindex{Name: v.name}
		for i := range v.columns {
			cv.Columns = append(cv.Columns, fmt.Sprintf("v%d", i))
		}
		vs.Tables[v.table()] = &topo.Table{ColumnVindexes: []topo.ColumnVindex{cv}}
		c.ctl(t, "ApplySchema", "--ddl-strategy=direct", "--sql", v.create(), "customer")
	}
	text, err := json.Marshal(vs)
	must(t, err)
	before := c.ctl(t, "GetVSchema", "customer")
	c.ctl(t, "ApplyVSchema", "--vschema", string(text), "customer")
	c.undo(t, "ApplyVSchema", "--vschema", before, "customer")
	c.awaitTable(t, "customer", cases[len(cases)-1].table())
	router, err := topo.NewRouter(shardRanges(t, c, "customer"))
	must(t, err)
	for _, v := range cases {
		t.Run(v.name, func(t *testing.T) {
			opts := vindex.Options{ReadFile: os.ReadFile}
			p, err := vindex.Resolve(vs, v.table(), opts)
			must(t, err)
			if len(v.columns) == 1 {
				v.compareIDs(t, c, p.Vindex)
			}
			v.compareShards(t, c, p.Vindex, router)
			v.compareRefusals(t, c, p.Vindex)
		})
	}
}

func (v vindexCase) table() string { return "t_" + v.name }

func (v vindexCase) create() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (id BIGINT PRIMARY KEY", v.table())
	for i, c := range v.columns {
		fmt.Fprintf(&b, ", v%d %s", i, c)
	}
	return b.String() + ")"
}

// compareIDs asks vtgate for keyspace ids.
func (v vindexCase) compareIDs(t *testing.T, c *cluster, ours *vindex.Vindex) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	want := map[string][]byte{}
	for range 5 {
		var list []any
		for range 100 {
			value := v.values(r)[0]
			if n, ok := value.(int64); ok && n < 0 {
				continue // a literal for vtgate's parser, but no value
			}
			if b, ok := value.([]byte); ok {
				value = string(b) // without the introducer that the driver gives to bytes
			}
			text := fmt.Sprint(value)
			id, err := ours.Map(nil, []vindex.Value{{Class: v.classes[0], Bytes: []byte(text)}})
			must(t, err)
			want[text] = id
			list = append(list, value)
		}
		rows, err := query(t.Context(), c.gate, "SELECT id, keyspace_id FROM customer."+v.name+" WHERE id IN (?"+strings.Repeat(", ?", len(list)-1)+")", list...)
		must(t, err)
		if len(rows) == 0 {
			t.Error("vtgate has no ids")
		}
		for _, row := range rows {
			if id, ok := want[row[0]]; !ok || !bytes.Equal(id, []byte(row[1])) {
				t.Errorf("%q: vtgate has keyspace id %x, we %x", row[0], row[1], id)
			}
		}
	}
}

// compareShards inserts through vtgate and looks where the rows are.
func (v vindexCase) compareShards(t *testing.T, c *cluster, ours *vindex.Vindex, router *topo.Router) {
	t.Helper()
	r := rand.New(rand.NewPCG(2, 2))
	const rows = 200
	var args []any
	for id := range rows {
		args = append(append(args, id), v.values(r)...)
		if v.null && id%50 == 0 {
			args[len(args)-1] = nil
		}
	}
	must(t, v.insert(t, c, args))
	found := 0
	for _, tab := range c.keyspaceTablets("customer") {
		if !tab.primary {
			continue
		}
		shard, err := topo.ParseShardName(tab.shard)
		must(t, err)
		stored, err := queryNull(t.Context(), tab.server.DB(t), "SELECT * FROM vt_customer."+v.table())
		must(t, err)
		for _, row := range stored {
			var values []vindex.Value
			for i, class := range v.classes {
				value := vindex.Value{}
				if row[i+1] != nil {
					value = vindex.Value{Class: class, Bytes: row[i+1]}
				}
				values = append(values, value)
			}
			id, err := ours.Map(nil, values)
			must(t, err)
			if !shard.Contains(id) {
				t.Errorf("row %s: vtgate put %q on shard %s, ours is number %d", row[0], row[1:], tab.shard, router.Route(id))
			}
			found++
		}
	}
	if found != rows {
		t.Errorf("%d rows are on the shards, %d were inserted", found, rows)
	}
}

// insert inserts rows through vtgate.
func (v vindexCase) insert(t *testing.T, c *cluster, args []any) error {
	t.Helper()
	cols, mark := "id", "(?"
	for i := range v.columns {
		cols += fmt.Sprintf(", v%d", i)
		mark += ", ?"
	}
	mark += ")"
	more := len(args)/(len(v.columns)+1) - 1
	_, err := c.gate.ExecContext(t.Context(), "INSERT INTO customer."+v.table()+" ("+cols+") VALUES "+mark+strings.Repeat(", "+mark, more), args...)
	return err
}

// compareRefusals inserts rows that have no keyspace id.
func (v vindexCase) compareRefusals(t *testing.T, c *cluster, ours *vindex.Vindex) {
	t.Helper()
	for i, row := range v.refused {
		var values []vindex.Value
		for j, value := range row {
			switch value := value.(type) {
			case nil:
				values = append(values, vindex.Value{})
			case []byte:
				values = append(values, vindex.Value{Class: v.classes[j], Bytes: value})
			default:
				values = append(values, vindex.Value{Class: v.classes[j], Bytes: fmt.Append([]byte{}, value)})
			}
		}
		theirs := v.insert(t, c, append([]any{10000 + i}, row...))
		id, err := ours.Map(nil, values)
		if theirs == nil || !errors.As(err, new(*vindex.ValueError)) {
			t.Errorf("%q: vtgate says %v, we %x and %v", row, theirs, id, err)
		}
	}
}

// shardRanges are the key ranges of a keyspace's serving shards.
func shardRanges(t *testing.T, c *cluster, keyspace string) (out []topo.KeyRange) {
	t.Helper()
	shards, err := c.topology(t).ServingShards(t.Context(), keyspace)
	must(t, err)
	for _, s := range shards {
		out = append(out, s.KeyRange)
	}
	return out
}

// someInt takes small numbers and limits as often as others.
func someInt(r *rand.Rand) int64 {
	switch r.IntN(4) {
	case 0:
		return r.Int64N(1000) - 500
	case 1:
		return []int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MaxInt32, math.MinInt32, math.MaxUint32}[r.IntN(8)]
	case 2:
		return int64(r.Uint64()) >> r.IntN(64)
	}
	return int64(r.Uint64())
}

// someText has letters of many scripts, marks that combine, and spaces at the end.
func someText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(20) {
		switch r.IntN(6) {
		case 0, 1:
			b.WriteByte(byte(' ' + r.IntN('~'-' '+1)))
		case 2:
			b.WriteRune([]rune("äöüÄÖÜßéÉèçñÑøØåÅæœŁłžŽčČđÐþÞıİſﬁ")[r.IntN(33)])
		case 3:
			b.WriteRune(rune(0x300 + r.IntN(0x70)))
		case 4:
			lows := []int{0x370, 0x400, 0x5d0, 0x620, 0x905, 0xe01, 0x10d0, 0x3041, 0x4e00, 0xac00, 0x1f600}
			b.WriteRune(rune(lows[r.IntN(len(lows))] + r.IntN(40)))
		case 5:
			b.WriteString(strings.Repeat(" ", 1+r.IntN(2)))
		}
	}
	return b.String()
}

func someBytes(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(24))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return slices.Clip(b)
}
