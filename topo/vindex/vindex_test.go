package vindex_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/topo/vindex"
)

func TestNumbers(t *testing.T) {
	v := mustNew(t, "numeric", nil, vindex.Options{})
	for _, c := range []struct {
		v    vindex.Value
		want uint64
	}{
		{text("00123"), 123},
		{text(" \t12\t "), 12},
		{raw("7"), 7},
		{decimal("5"), 5},
		{unsigned("18446744073709551615"), 1<<64 - 1},
		{text("000000000000000000000000000001"), 1},
	} {
		got, err := v.Map(nil, row(c.v))
		if err != nil || binary.BigEndian.Uint64(got) != c.want {
			t.Errorf("%s is %x, %v, want %d", print(row(c.v)), got, err, c.want)
		}
	}
	for _, c := range []struct {
		v    vindex.Value
		want error
	}{
		{null, vindex.ErrNull},
		{vindex.Value{Class: vindex.Signed}, vindex.ErrNull},
		{float("1e+00"), vindex.ErrFloat},
		{decimal("1.1"), vindex.ErrNotInteger},
		{decimal("1.0"), vindex.ErrNotInteger},
		{text("aa"), vindex.ErrNotInteger},
		{text(""), vindex.ErrNotInteger},
		{text("-"), vindex.ErrNotInteger},
		{text("-1"), vindex.ErrNotInteger},
		{signed("-1"), vindex.ErrNotInteger},
		{signed("-9223372036854775808"), vindex.ErrNotInteger},
		{text("--1"), vindex.ErrNotInteger},
		{text("- 1"), vindex.ErrNotInteger},
		{text("+1"), vindex.ErrNotInteger},
		{text("1\n"), vindex.ErrNotInteger},
		{text("1 2"), vindex.ErrNotInteger},
		{text("0x10"), vindex.ErrNotInteger},
		{raw("1\x00"), vindex.ErrNotInteger},
		{text("18446744073709551616"), vindex.ErrNotInteger},
		{text("99999999999999999999999999"), vindex.ErrNotInteger},
		{text("-9223372036854775809"), vindex.ErrNotInteger},
	} {
		if _, err := v.Map(nil, row(c.v)); !errors.Is(err, c.want) {
			t.Errorf("%s gives %v, want %v", print(row(c.v)), err, c.want)
		}
	}
}

// Every integer has the id of its 64 bits, whatever class it comes in. Vitess has negative ones for hash alone.
func TestNumberProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	numeric, hash := mustNew(t, "numeric", nil, vindex.Options{}), mustNew(t, "hash", nil, vindex.Options{})
	for range 2000 {
		n := r.Uint64() >> r.IntN(64)
		plain := row(unsigned(strconv.FormatUint(n, 10)))
		hashed, err := hash.Map(nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range []vindex.Value{
			signed(strconv.FormatInt(int64(n), 10)), plain[0], text(strconv.FormatUint(n, 10)),
		} {
			if got, err := hash.Map(nil, row(in)); err != nil || !bytes.Equal(got, hashed) {
				t.Fatalf("hash of %s is %x, %v, want %x", print(row(in)), got, err, hashed)
			}
			got, err := numeric.Map(nil, row(in))
			if negative := in.Bytes[0] == '-'; negative != errors.Is(err, vindex.ErrNotInteger) || !negative && binary.BigEndian.Uint64(got) != n {
				t.Fatalf("%s is %x, %v, want %x", print(row(in)), got, err, n)
			}
		}
	}
}

// What a vtgate of Vitess 24 refuses to insert has no id.
func TestNegativeNumbers(t *testing.T) {
	for _, c := range []struct {
		typ    string
		params params
		values []vindex.Value
	}{
		{"hash", nil, row(text("-1"))},
		{"hash", nil, row(signed("-"))},
		{"hash", nil, row(signed("-9223372036854775809"))},
		{"reverse_bits", nil, row(signed("-1"))},
		{"numeric_static_map", withFallback, row(signed("-1"))},
		{"region_experimental", params{"region_bytes": "1"}, row(signed("-1"), signed("1"))},
		{"region_experimental", params{"region_bytes": "1"}, row(signed("1"), signed("-1"))},
		{"region_json", regionJSON("1"), row(signed("-1"), text("fr"))},
	} {
		if id, err := mustNew(t, c.typ, c.params, withFiles).Map(nil, c.values); !errors.Is(err, vindex.ErrNotInteger) {
			t.Errorf("%s of %s is %x, %v", c.typ, print(c.values), id, err)
		}
	}
}

// valid are vindexes of every type.
var valid = []struct {
	typ    string
	params params
}{
	{"binary", nil},
	{"binary_md5", nil},
	{"cfc", nil},
	{"cfc", cfcOf("md5")},
	{"cfc", cfcOf("xxhash64")},
	{"hash", nil},
	{"multicol", params{"column_count": "3"}},
	{"multicol", params{"column_count": "2", "column_bytes": "1", "column_vindex": "binary_md5, unicode_loose_md5"}},
	{"multicol", params{"column_count": "8", "column_vindex": "binary,numeric,xxhash,reverse_bits"}},
	{"multicol", params{"column_count": "2", "column_vindex": "numeric_static_map,binary", "json": "{}"}},
	{"null", nil},
	{"numeric", nil},
	{"numeric_static_map", withFallback},
	{"numeric_static_map", params{"json_path": "numbers.json"}},
	{"region_experimental", params{"region_bytes": "1"}},
	{"region_experimental", params{"region_bytes": "2"}},
	{"region_json", regionJSON("1")},
	{"region_json", regionJSON("2")},
	{"reverse_bits", nil},
	{"unicode_loose_md5", nil},
	{"unicode_loose_xxhash", nil},
	{"xxhash", nil},
}

func TestValueErrors(t *testing.T) {
	for _, c := range []struct {
		typ    string
		params params
		values []vindex.Value
		column int
		want   error
	}{
		{"hash", nil, row(null), 0, vindex.ErrNull},
		{"hash", nil, row(text("aa")), 0, vindex.ErrNotInteger},
		{"numeric", nil, row(null), 0, vindex.ErrNull},
		{"reverse_bits", nil, row(null), 0, vindex.ErrNull},
		{"numeric_static_map", withFallback, row(null), 0, vindex.ErrNull},
		{"numeric_static_map", withFallback, row(text("aa")), 0, vindex.ErrNotInteger},
		{"xxhash", nil, row(float("1e+00")), 0, vindex.ErrFloat},
		{"binary", nil, row(float("1e+00")), 0, vindex.ErrFloat},
		{"binary_md5", nil, row(float("1e+00")), 0, vindex.ErrFloat},
		{"unicode_loose_md5", nil, row(float("1e+00")), 0, vindex.ErrFloat},
		{"unicode_loose_xxhash", nil, row(text("a\xff")), 0, vindex.ErrNotUTF8},
		{"unicode_loose_md5", nil, row(raw("\xc3")), 0, vindex.ErrNotUTF8},
		{"cfc", cfcOf("md5"), row(raw("\x03\x04\x05")), 0, vindex.ErrTooShort},
		{"cfc", cfcOf("xxhash64"), row(null), 0, vindex.ErrTooShort},
		{"multicol", params{"column_count": "3"}, row(text("abcd"), signed("1"), signed("1")), 0, vindex.ErrNotInteger},
		{"multicol", params{"column_count": "3"}, row(signed("1"), signed("1"), null), 2, vindex.ErrNull},
		{"region_experimental", params{"region_bytes": "2"}, row(signed("1"), text("abcd")), 1, vindex.ErrNotInteger},
		{"region_experimental", params{"region_bytes": "2"}, row(null, signed("1")), 0, vindex.ErrNull},
		{"region_json", regionJSON("1"), row(signed("1"), text("xx")), 1, vindex.ErrUnmapped},
		{"region_json", regionJSON("1"), row(signed("1"), null), 1, vindex.ErrUnmapped},
		{"region_json", regionJSON("1"), row(null, text("fr")), 0, vindex.ErrNull},
	} {
		v := mustNew(t, c.typ, c.params, withFiles)
		got, err := v.Map([]byte("before"), c.values)
		e := (*vindex.ValueError)(nil)
		if !errors.As(err, &e) || !errors.Is(err, c.want) || e.Column != c.column || e.Type != c.typ || e.Class != c.values[c.column].Class {
			t.Errorf("%s of %s gives %v, want %v about value %d", c.typ, print(c.values), err, c.want, c.column)
		}
		if string(got) != "before" {
			t.Errorf("%s of %s leaves %q behind", c.typ, print(c.values), got)
		}
	}
}

func TestColumns(t *testing.T) {
	for _, c := range valid {
		v := mustNew(t, c.typ, c.params, withFiles)
		if v.Type() != c.typ {
			t.Errorf("%s says it is %s", c.typ, v.Type())
		}
		for n := range 10 {
			_, err := v.Map(nil, make([]vindex.Value, n))
			e := (*vindex.ColumnsError)(nil)
			if got := errors.As(err, &e); got != (n != v.Columns()) {
				t.Errorf("%s of %d columns gets %d values: %v", c.typ, v.Columns(), n, err)
			}
			if err := v.Check(make([]vindex.Class, n)...); errors.As(err, &e) != (n != v.Columns()) {
				t.Errorf("%s of %d columns is checked with %d: %v", c.typ, v.Columns(), n, err)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	region := mustNew(t, "region_experimental", params{"region_bytes": "1"}, vindex.Options{})
	if err := region.Check(vindex.Unsigned, vindex.Text); err != nil {
		t.Error(err)
	}
	e := (*vindex.ValueError)(nil)
	if err := region.Check(vindex.Signed, vindex.Float); !errors.As(err, &e) || e.Column != 1 || !errors.Is(err, vindex.ErrFloat) {
		t.Errorf("a float is checked: %v", err)
	}
	if err := mustNew(t, "null", nil, vindex.Options{}).Check(vindex.Float); err != nil {
		t.Errorf("null refuses a float: %v", err)
	}
}

func TestMulticolBytes(t *testing.T) {
	for _, c := range []struct {
		params params
		values []vindex.Value
		want   string
	}{
		// Shares of what column_bytes leaves open: 1, then 4 and 3 of the other 7.
		{params{"column_count": "3", "column_bytes": "1"}, row(signed("1"), signed("1"), signed("1")), "16" + "166b40b4" + "166b40"},
		{params{"column_count": "2", "column_bytes": ",2", "column_vindex": ",numeric"}, row(signed("1"), unsigned("18446744073709551615")), "166b40b44aba" + "ffff"},
		// An id that is shorter than its share is filled with zeros, but for the last.
		{params{"column_count": "3", "column_vindex": "binary,binary,binary"}, row(text("a"), null, text("b")), "610000" + "000000" + "62"},
		{params{"column_count": "2", "column_bytes": "0,8", "column_vindex": "binary,xxhash"}, row(text("abc"), text("test1")), "d01ab7e4d6978f0b"},
		{params{"column_count": "1"}, row(signed("1")), "166b40b44aba4bd6"},
	} {
		got, err := mustNew(t, "multicol", c.params, vindex.Options{}).Map([]byte{0xee}, c.values)
		if err != nil || hex.EncodeToString(got) != "ee"+c.want {
			t.Errorf("%v of %s is %x, %v, want %s", c.params, print(c.values), got, err, c.want)
		}
	}
}

func TestParamErrors(t *testing.T) {
	for _, c := range []struct {
		typ    string
		params params
		param  string
	}{
		{"cfc", params{"hash": "sha1", "offsets": "[1]"}, "hash"},
		{"cfc", params{"hash": "md5"}, "offsets"},
		{"cfc", cfcWith(""), "offsets"},
		{"cfc", cfcWith("[]"), "offsets"},
		{"cfc", cfcWith("null"), "offsets"},
		{"cfc", cfcWith("1,2"), "offsets"},
		{"cfc", cfcWith("[0,1]"), "offsets"},
		{"cfc", cfcWith("[2,1]"), "offsets"},
		{"cfc", cfcWith("[2,2]"), "offsets"},
		{"cfc", cfcWith("[1.5]"), "offsets"},
		{"multicol", nil, "column_count"},
		{"multicol", params{"column_count": "0"}, "column_count"},
		{"multicol", params{"column_count": "9"}, "column_count"},
		{"multicol", params{"column_count": "two"}, "column_count"},
		{"multicol", params{"column_count": "2", "column_bytes": "4,5"}, "column_bytes"},
		{"multicol", params{"column_count": "2", "column_bytes": "8"}, "column_bytes"},
		{"multicol", params{"column_count": "2", "column_bytes": "-1,3"}, "column_bytes"},
		{"multicol", params{"column_count": "2", "column_bytes": "x"}, "column_bytes"},
		{"multicol", params{"column_count": "2", "column_bytes": "1,1,1"}, "column_bytes"},
		{"multicol", params{"column_count": "1", "column_vindex": "hash,hash"}, "column_vindex"},
		{"multicol", params{"column_count": "1", "column_vindex": "null"}, "column_vindex"},
		{"multicol", params{"column_count": "1", "column_vindex": "cfc"}, "column_vindex"},
		{"multicol", params{"column_count": "1", "column_vindex": "multicol"}, "column_vindex"},
		{"multicol", params{"column_count": "1", "column_vindex": "lookup_hash"}, "column_vindex"},
		{"multicol", params{"column_count": "1", "column_vindex": "numeric_static_map"}, "column_vindex"},
		{"numeric_static_map", nil, "json"},
		{"numeric_static_map", params{"json": "{}", "json_path": "numbers.json"}, "json"},
		{"numeric_static_map", params{"json": "{"}, "json"},
		{"numeric_static_map", params{"json": `{"1": -1}`}, "json"},
		{"numeric_static_map", params{"json": `{"-1": 1}`}, "json"},
		{"numeric_static_map", params{"json": `{"1": 1, "01": 1}`}, "json"},
		{"numeric_static_map", params{"json_path": "none.json"}, "json_path"},
		{"numeric_static_map", params{"json": "{}", "fallback_type": ""}, "fallback_type"},
		{"numeric_static_map", params{"json": "{}", "fallback_type": "null"}, "fallback_type"},
		{"numeric_static_map", params{"json": "{}", "fallback_type": "lookup"}, "fallback_type"},
		{"region_experimental", nil, "region_bytes"},
		{"region_experimental", params{"region_bytes": "3"}, "region_bytes"},
		{"region_json", params{"region_map": "regions.json"}, "region_bytes"},
		{"region_json", params{"region_bytes": "1"}, "region_map"},
		{"region_json", params{"region_bytes": "1", "region_map": "none.json"}, "region_map"},
	} {
		_, err := vindex.New(c.typ, c.params, withFiles)
		e := (*vindex.ParamError)(nil)
		if !errors.As(err, &e) || e.Type != c.typ || e.Param != c.param {
			t.Errorf("%s %v gives %v, want an error about %s", c.typ, c.params, err, c.param)
		}
	}
}

func cfcWith(offsets string) params { return params{"hash": "md5", "offsets": offsets} }

// All that is wrong with multicol is said at once.
func TestParamErrorsTogether(t *testing.T) {
	_, err := vindex.New("multicol", params{"column_count": "1", "column_bytes": "9", "column_vindex": "lookup"}, vindex.Options{})
	if err == nil || !strings.Contains(err.Error(), "column_bytes") || !strings.Contains(err.Error(), "column_vindex") {
		t.Error(err)
	}
}

// A topology does not choose which files are read.
func TestFilesNeedAReader(t *testing.T) {
	for typ, p := range map[string]params{
		"numeric_static_map": {"json_path": "/etc/hostname"},
		"region_json":        {"region_bytes": "1", "region_map": "/etc/hostname"},
		"multicol":           {"column_count": "1", "column_vindex": "numeric_static_map", "json_path": "/etc/hostname"},
	} {
		_, err := vindex.New(typ, p, vindex.Options{})
		if !errors.As(err, new(*vindex.ParamError)) || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s gives %v", typ, err)
		}
	}
}

func TestUnsupported(t *testing.T) {
	for _, typ := range []string{
		"", "Hash", "no_such", "lookup", "lookup_unique", "lookup_hash", "lookup_hash_unique", "consistent_lookup",
		"consistent_lookup_unique", "lookup_unicodeloosemd5_hash", "lookup_unicodeloosemd5_hash_unique",
	} {
		_, err := vindex.New(typ, nil, vindex.Options{})
		e := (*vindex.UnsupportedError)(nil)
		if !errors.As(err, &e) || e.Type != typ || !strings.Contains(err.Error(), strconv.Quote(typ)) {
			t.Errorf("%q gives %v", typ, err)
		}
		if got := strings.Contains(err.Error(), "table"); got != strings.Contains(typ, "lookup") {
			t.Errorf("%q: %v", typ, err)
		}
	}
}

func TestUnknownParams(t *testing.T) {
	for _, c := range []struct {
		typ    string
		params params
		want   []string
	}{
		{"hash", params{"b": "", "a": ""}, []string{"a", "b"}},
		{"xxhash", nil, nil},
		{"cfc", params{"hash": "md5", "offsets": "[1]", "offset": "[1]"}, []string{"offset"}},
		{"multicol", params{"column_count": "1", "json": "{}", "x": ""}, []string{"x"}},
		{"region_experimental", params{"region_bytes": "1", "region_map": ""}, []string{"region_map"}},
	} {
		if got := mustNew(t, c.typ, c.params, withFiles).UnknownParams(); !slices.Equal(got, c.want) {
			t.Errorf("%s %v does not know %v, want %v", c.typ, c.params, got, c.want)
		}
	}
}

func TestTypes(t *testing.T) {
	if !slices.IsSorted(vindex.Types()) {
		t.Errorf("types are not sorted: %v", vindex.Types())
	}
	for _, typ := range vindex.Types() {
		if _, err := vindex.New(typ, nil, vindex.Options{}); errors.As(err, new(*vindex.UnsupportedError)) {
			t.Errorf("type %s is in the list, and %v", typ, err)
		}
	}
}

// The one value that no text-taking vindex may mix up: NULL is like the empty string only where Vitess says so.
func TestNullIsNotZero(t *testing.T) {
	for _, typ := range []string{"hash", "numeric", "reverse_bits"} {
		v := mustNew(t, typ, nil, vindex.Options{})
		if _, err := v.Map(nil, row(signed("0"))); err != nil {
			t.Errorf("%s of 0: %v", typ, err)
		}
		if id, err := v.Map(nil, row(null)); err == nil {
			t.Errorf("%s of NULL is %x", typ, id)
		}
	}
}

// How a real cluster of two shards has split numbers.
func TestSplitOfNumbers(t *testing.T) {
	router, _ := mustRouter(t, 2)
	count := func(typ string, from, to int) (rows [2][]int) {
		v := mustNew(t, typ, nil, vindex.Options{})
		for n := from; n <= to; n++ {
			id, err := v.Map(nil, row(signed(strconv.Itoa(n))))
			if err != nil {
				t.Fatal(err)
			}
			shard := router.Route(id)
			rows[shard] = append(rows[shard], n)
		}
		return rows
	}
	if got := count("hash", 1, 6); !slices.Equal(got[0], []int{1, 2, 3, 5}) || !slices.Equal(got[1], []int{4, 6}) {
		t.Errorf("hash splits 1 to 6 as %v", got)
	}
	if got := count("xxhash", 1, 2000); len(got[0]) != 991 {
		t.Errorf("xxhash splits 1 to 2000 as %d and %d", len(got[0]), len(got[1]))
	}
}

func TestMapAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 64)
	for _, c := range valid {
		if strings.Contains(c.typ+c.params["column_vindex"], "unicode") {
			continue // its collators are in a pool, which may be emptied at any time
		}
		v := mustNew(t, c.typ, c.params, withFiles)
		values := slices.Repeat(row(signed("123456")), v.Columns())
		if c.typ == "region_json" {
			values[1] = text("fr")
		}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := v.Map(buf, values); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s %v allocates %v times", c.typ, c.params, n)
		}
	}
}
