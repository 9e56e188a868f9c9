package vindex_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/topo/vindex"
)

// params is short for the parameters of a vindex.
type params = map[string]string

func text(s string) vindex.Value     { return vindex.Value{Class: vindex.Text, Bytes: []byte(s)} }
func signed(s string) vindex.Value   { return vindex.Value{Class: vindex.Signed, Bytes: []byte(s)} }
func unsigned(s string) vindex.Value { return vindex.Value{Class: vindex.Unsigned, Bytes: []byte(s)} }

func decimal(s string) vindex.Value { return vindex.Value{Class: vindex.Decimal, Bytes: []byte(s)} }
func float(s string) vindex.Value   { return vindex.Value{Class: vindex.Float, Bytes: []byte(s)} }
func raw(s string) vindex.Value     { return vindex.Value{Class: vindex.Binary, Bytes: []byte(s)} }

var null vindex.Value

func row(v ...vindex.Value) []vindex.Value { return v }

func mustNew(t testing.TB, typ string, p params, o vindex.Options) *vindex.Vindex {
	t.Helper()
	v, err := vindex.New(typ, p, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// vectors are the keyspace ids that Vitess's own tests want.
var vectors = []struct {
	typ    string
	params params
	values []vindex.Value
	want   string // in hexadecimal
}{
	{"hash", nil, row(signed("1")), "166b40b44aba4bd6"},
	{"hash", nil, row(unsigned("1")), "166b40b44aba4bd6"},
	{"hash", nil, row(signed("2")), "06e7ea22ce92708f"},
	{"hash", nil, row(signed("3")), "4eb190c9a2fa169c"},
	{"hash", nil, row(signed("4")), "d2fd8867d50d2dfe"},
	{"hash", nil, row(signed("5")), "70bb023c810ca87a"},
	{"hash", nil, row(signed("6")), "f098480ac4c4be71"},
	{"hash", nil, row(signed("0")), "8ca64de9c1b123a7"},
	{"hash", nil, row(signed("-1")), "355550b2150e2451"},
	{"hash", nil, row(unsigned("18446744073709551615")), "355550b2150e2451"},
	{"hash", nil, row(signed("9223372036854775807")), "f77d48aadda1f1bb"},
	{"hash", nil, row(signed("-9223372036854775808")), "95f8a5e5dd31d900"},

	{"xxhash", nil, row(text("test1")), "d01ab7e4d6978f0b"},
	{"xxhash", nil, row(text("test2")), "87eb11714c0a0e89"},
	{"xxhash", nil, row(text("testaverylongvaluetomakesurethisworks")), "81d8c38e0d850e6a"},
	{"xxhash", nil, row(signed("1")), "d46405367612b4b7"},
	{"xxhash", nil, row(signed("2")), "8b59801662b52160"},
	{"xxhash", nil, row(signed("3")), "a42c16f52a7c1626"},
	{"xxhash", nil, row(signed("4")), "896ba42c32143991"},
	{"xxhash", nil, row(signed("8")), "64c8aa7cbb6246ad"},
	{"xxhash", nil, row(signed("-1")), "d8e2a6a7c8c7623d"},
	{"xxhash", nil, row(unsigned("18446744073709551615")), "477cfa8d6d8f1f8d"},
	{"xxhash", nil, row(signed("9223372036854775807")), "b37eb01f7bffafd8"},
	{"xxhash", nil, row(signed("-9223372036854775808")), "102c27ddb26a609e"},
	{"xxhash", nil, row(null), "99e9d85137db46ef"},
	{"xxhash", nil, row(text("")), "99e9d85137db46ef"},

	{"binary", nil, row(text("test1")), "7465737431"},
	{"binary", nil, row(text("test2")), "7465737432"},
	{"binary", nil, row(raw("\x00\xff\x00")), "00ff00"},
	{"binary", nil, row(null), ""},

	{"binary_md5", nil, row(text("test1")), "5a105e8b9d40e1329780d62ea2265d8a"},
	{"binary_md5", nil, row(text("Test")), "0cbc6611f5540bd0809a388dc95a615b"},
	{"binary_md5", nil, row(text("TEST")), "033bd94b1168d7e4f0d644c3c95e35bf"},
	{"binary_md5", nil, row(null), "d41d8cd98f00b204e9800998ecf8427e"},

	{"numeric", nil, row(signed("1")), "0000000000000001"},
	{"numeric", nil, row(signed("8")), "0000000000000008"},
	{"numeric", nil, row(text("00123")), "000000000000007b"},
	{"numeric", nil, row(unsigned("18446744073709551614")), "fffffffffffffffe"},

	{"numeric_static_map", params{"json": `{"1":1,"3":2}`}, row(signed("1")), "0000000000000001"},
	{"numeric_static_map", params{"json": `{"1":1,"3":2}`}, row(signed("2")), "0000000000000002"},
	{"numeric_static_map", params{"json": `{"1":1,"3":2}`}, row(signed("3")), "0000000000000002"},
	{"numeric_static_map", params{"json": `{"1":1,"3":2}`}, row(signed("4")), "0000000000000004"},
	{"numeric_static_map", params{"json": `{"1":1,"3":2}`}, row(signed("5")), "0000000000000005"},
	{"numeric_static_map", withFallback, row(signed("1")), "0000000000000002"},
	{"numeric_static_map", withFallback, row(signed("2")), "8b59801662b52160"},
	{"numeric_static_map", withFallback, row(signed("3")), "0000000000000004"},
	{"numeric_static_map", withFallback, row(signed("4")), "0000000000000005"},
	{"numeric_static_map", withFallback, row(signed("8")), "0000000000000009"},
	{"numeric_static_map", withFallback, row(signed("10")), "ffffffffffffffff"},

	{"reverse_bits", nil, row(signed("1")), "8000000000000000"},
	{"reverse_bits", nil, row(signed("2")), "4000000000000000"},
	{"reverse_bits", nil, row(signed("3")), "c000000000000000"},
	{"reverse_bits", nil, row(signed("4")), "2000000000000000"},
	{"reverse_bits", nil, row(signed("5")), "a000000000000000"},
	{"reverse_bits", nil, row(signed("6")), "6000000000000000"},

	{"unicode_loose_md5", nil, row(text("Test")), "0b5edbb401fd7524393690491d64f1f5"},
	{"unicode_loose_md5", nil, row(text("TEST")), "0b5edbb401fd7524393690491d64f1f5"},
	{"unicode_loose_md5", nil, row(text("Te\u0301st")), "0b5edbb401fd7524393690491d64f1f5"},
	{"unicode_loose_md5", nil, row(text("T\u00e9st")), "0b5edbb401fd7524393690491d64f1f5"},
	{"unicode_loose_md5", nil, row(text("B\u00e9st")), "c2b2332e4f73d00741026249706f2fb6"},
	{"unicode_loose_md5", nil, row(text("Test ")), "0b5edbb401fd7524393690491d64f1f5"},
	{"unicode_loose_md5", nil, row(text(" Test")), "a2e3515c7e8df1ffd2ccfc11c6b19dd1"},
	{"unicode_loose_md5", nil, row(text("Test\t")), "82456dd87a9c7a02b1c2056b5abaa272"},
	{"unicode_loose_md5", nil, row(text("T\u00e9stLooong")), "9683e12b80430cd453f5dfdfba81c9a5"},
	{"unicode_loose_md5", nil, row(text("T")), "ac0f9179f51db87fe8ecc0cf40cab97a"},
	{"unicode_loose_md5", nil, row(null), "d41d8cd98f00b204e9800998ecf8427e"},

	{"unicode_loose_xxhash", nil, row(text("Test")), "42d21361087a4c07"},
	{"unicode_loose_xxhash", nil, row(text("TEst")), "42d21361087a4c07"},
	{"unicode_loose_xxhash", nil, row(text("T\u00e9st")), "42d21361087a4c07"},
	{"unicode_loose_xxhash", nil, row(text("Te\u0301st")), "42d21361087a4c07"},
	{"unicode_loose_xxhash", nil, row(text("Test ")), "42d21361087a4c07"},
	{"unicode_loose_xxhash", nil, row(text("B\u00e9st")), "926975b9ce2ec316"},
	{"unicode_loose_xxhash", nil, row(text(" Test")), "4fcb8be34ec05775"},
	{"unicode_loose_xxhash", nil, row(text("Test\t")), "20af87fc36e3fd51"},
	{"unicode_loose_xxhash", nil, row(text("T\u00e9stLooong")), "d3ea873942b484a7"},
	{"unicode_loose_xxhash", nil, row(text("T")), "f81c3be2d501fe18"},
	{"unicode_loose_xxhash", nil, row(null), "99e9d85137db46ef"},

	{"region_experimental", params{"region_bytes": "1"}, row(signed("1"), signed("1")), "01166b40b44aba4bd6"},
	{"region_experimental", params{"region_bytes": "1"}, row(signed("255"), signed("1")), "ff166b40b44aba4bd6"},
	{"region_experimental", params{"region_bytes": "1"}, row(signed("256"), signed("1")), "00166b40b44aba4bd6"},
	{"region_experimental", params{"region_bytes": "1"}, row(signed("1"), signed("2")), "0106e7ea22ce92708f"},
	{"region_experimental", params{"region_bytes": "1"}, row(signed("2"), signed("1")), "02166b40b44aba4bd6"},
	{"region_experimental", params{"region_bytes": "2"}, row(signed("1"), signed("1")), "0001166b40b44aba4bd6"},
	{"region_experimental", params{"region_bytes": "2"}, row(signed("255"), signed("1")), "00ff166b40b44aba4bd6"},
	{"region_experimental", params{"region_bytes": "2"}, row(signed("256"), signed("1")), "0100166b40b44aba4bd6"},
	{"region_experimental", params{"region_bytes": "2"}, row(signed("65536"), signed("1")), "0000166b40b44aba4bd6"},

	{"region_json", regionJSON("1"), row(signed("1"), text("fr")), "02166b40b44aba4bd6"},
	{"region_json", regionJSON("2"), row(signed("2"), text("us")), "010006e7ea22ce92708f"},

	{"multicol", params{"column_count": "3"}, row(signed("1"), signed("1"), signed("1")), "166b40166b40166b"},
	{"multicol", params{"column_count": "3"}, row(signed("255"), signed("1"), signed("1")), "254e88166b40166b"},
	{"multicol", params{"column_count": "3"}, row(signed("256"), signed("1"), signed("1")), "dd7c0b166b40166b"},

	{"cfc", nil, row(raw("\x03\x06\x14\x07\x3c\x01")), "030614073c01"},
	{"cfc", nil, row(text("test")), "74657374"},
	{"cfc", nil, row(raw("\x03\x0a\x07\xc8")), "030a07c8"},
	{"cfc", nil, row(null), ""},
	{"cfc", cfcOf("md5"), row(raw("\x0c\xea\x02\x07\x01\x06")), "c3fd2df68906"},
	{"cfc", cfcOf("md5"), row(raw("\x05\x15\x7c\x4b\x05")), "e6d45c688a"},
	{"cfc", cfcOf("xxhash64"), row(raw("\x0c\xea\x02\x07\x01\x06")), "c1c5fce100a5"},
	{"cfc", cfcOf("xxhash64"), row(raw("\x05\x15\x7c\x4b\x05")), "e83b66f7f0"},
	{
		"cfc", cfcOf("md5"), row(raw("\x05\x15\x7c\x4b\x05\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12")),
		"e6d45c688a0f514b1f70495f72ee834a83866e3a45",
	},

	{"null", nil, row(signed("1")), "00"},
	{"null", nil, row(null), "00"},
	{"null", nil, row(float("1.5e+00")), "00"},
}

var withFallback = params{
	"json": `{"1":2,"3":4,"4":5,"5":6,"6":7,"7":8,"8":9,"10":18446744073709551615}`, "fallback_type": "xxhash",
}

func regionJSON(size string) params {
	return params{"region_bytes": size, "region_map": "regions.json"}
}

func cfcOf(hash string) params { return params{"hash": hash, "offsets": "[3,5]"} }

// files are what the tests' vindexes may read.
func files(name string) ([]byte, error) {
	switch name {
	case "regions.json":
		return []byte(`{"fr": 2, "us": 256}`), nil
	case "numbers.json":
		return []byte(`{"1": 7}`), nil
	}
	return nil, errors.New("no such file")
}

var withFiles = vindex.Options{ReadFile: files}

func TestVectors(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range vectors {
		seen[c.typ] = true
		v := mustNew(t, c.typ, c.params, withFiles)
		got, err := v.Map([]byte("before"), c.values)
		if err != nil {
			t.Errorf("%s %v of %s: %v", c.typ, c.params, print(c.values), err)
			continue
		}
		if id, ok := bytes.CutPrefix(got, []byte("before")); !ok || hex.EncodeToString(id) != c.want {
			t.Errorf("%s %v of %s is %x, want it to end in %s", c.typ, c.params, print(c.values), got, c.want)
		}
	}
	for _, typ := range vindex.Types() {
		if !seen[typ] {
			t.Errorf("there is no vector of %s", typ)
		}
	}
}

func print(values []vindex.Value) string {
	var b strings.Builder
	for _, v := range values {
		b.WriteString(v.Class.String() + "(" + string(v.Bytes) + ") ")
	}
	return b.String()
}

// The weights that the unicode vectors hash, as Vitess's tests have them.
func TestWeights(t *testing.T) {
	v := mustNew(t, "unicode_loose_md5", nil, vindex.Options{})
	for s, weights := range map[string]string{
		"T\u00e9stLooong": "1816164c17f318161711177117711771174f1691",
		"B\u00e9st":       "1605164c17f31816",
		" Test":           "01091816164c17f31816",
		"Test\t":          "1816164c17f318160100",
		"T":               "1816",
		"\u0301":          "", // an accent alone weighs nothing
		"   ":             "",
	} {
		b, err := hex.DecodeString(weights)
		if err != nil {
			t.Fatal(err)
		}
		want := md5.Sum(b)
		if got, err := v.Map(nil, row(text(s))); err != nil || !bytes.Equal(got, want[:]) {
			t.Errorf("the id of %q is %x, %v; want the hash of %s", s, got, err, weights)
		}
	}
}

// An accent is the same composed or not, in any order of accents, and in text longer than any buffer.
func TestWeightsOfEqualText(t *testing.T) {
	v := mustNew(t, "unicode_loose_xxhash", nil, vindex.Options{})
	id := func(s string) string {
		b, err := v.Map(nil, row(text(s)))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, n := range []int{1, 100, 10_000, 100_000} {
		for _, pair := range [][2]string{
			{"\u00c5", "a\u030a"},
			{"\u1ed9", "o\u0302\u0323"},
			{"o\u0323\u0302", "o\u0302\u0323"},
			{"\uac00", "\u1100\u1161"}, // Hangul
			{"\u3042", "\u30a2"},       // Hiragana, Katakana
			{"\uff41", "A"},            // full width
			{"\u00df", "ss"},
		} {
			if id(strings.Repeat(pair[0], n)) != id(strings.Repeat(pair[1], n)) {
				t.Errorf("%d times %q and %q have different ids", n, pair[0], pair[1])
			}
		}
		if id(strings.Repeat("a", n)) == id(strings.Repeat("b", n)) || id(strings.Repeat("a", n)) == id(strings.Repeat("a", n+1)) {
			t.Errorf("different text of %d letters has one id", n)
		}
	}
}
