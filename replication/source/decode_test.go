package source

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"testing"

	gobinlog "github.com/go-mysql-org/go-mysql/replication"

	"github.com/tablehaul/tablehaul/replication"
)

// wideTable has a column of every form on the wire.
func wideTable() (*replication.Table, []wireType) {
	t := &replication.Table{Schema: "shop", Name: "t", Columns: []replication.Column{
		{Name: "id", Kind: replication.KindInt, Type: "int"},
		{Name: "u", Kind: replication.KindUint, Type: "bigint unsigned", Unsigned: true},
		{Name: "m", Kind: replication.KindInt, Type: "mediumint"},
		{Name: "d", Kind: replication.KindDecimal, Type: "decimal(14,4)"},
		{Name: "f", Kind: replication.KindFloat, Type: "float"},
		{Name: "g", Kind: replication.KindDouble, Type: "double"},
		{Name: "y", Kind: replication.KindYear, Type: "year"},
		{Name: "da", Kind: replication.KindDate, Type: "date"},
		{Name: "ti", Kind: replication.KindTime, Type: "time(3)", Fsp: 3},
		{Name: "dt", Kind: replication.KindDatetime, Type: "datetime(6)", Fsp: 6},
		{Name: "ts", Kind: replication.KindTimestamp, Type: "timestamp(2)", Fsp: 2},
		{Name: "b", Kind: replication.KindBit, Type: "bit(9)", Length: 9},
		{Name: "e", Kind: replication.KindEnum, Type: "enum('a')"},
		{Name: "s", Kind: replication.KindSet, Type: "set('a')"},
		{Name: "c", Kind: replication.KindText, Type: "char(10)"},
		{Name: "bi", Kind: replication.KindBinary, Type: "binary(4)", Length: 4},
		{Name: "v", Kind: replication.KindText, Type: "varchar(300)"},
		{Name: "bl", Kind: replication.KindBlob, Type: "blob"},
		{Name: "j", Kind: replication.KindJSON, Type: "json"},
	}}
	t.Primary.Columns = []int{0}
	types := make([]wireType, len(t.Columns))
	for i := range t.Columns {
		types[i] = wireOf(&t.Columns[i])
		switch t.Columns[i].Name {
		case "e", "s", "c", "bi":
			types[i].size = 1
		case "v", "bl":
			types[i].size = 2
		case "j":
			types[i].size = 4
		}
	}
	return t, types
}

// FuzzRows: no bytes break the decoder; what decodes is a row of the table's width.
func FuzzRows(f *testing.F) {
	table, types := wideTable()
	m := &tableMap{table: table, types: types}
	f.Add([]byte{0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 19, 0xff, 0xff, 0x07, 0, 0, 0}, true)
	seed := append([]byte{5, 0, 0, 0, 0, 0, 1, 0, 2, 0, 19, 0xff, 0xff, 0x07, 0, 0, 0}, bytes.Repeat([]byte{0x81, 1, 3}, 60)...)
	f.Add(seed, false)
	f.Fuzz(func(t *testing.T, body []byte, update bool) {
		tp := gobinlog.WRITE_ROWS_EVENTv2
		if update {
			tp = gobinlog.UPDATE_ROWS_EVENTv2
		}
		r, err := parseRows(tp, body)
		if err != nil {
			return
		}
		var d decoder
		changes, err := d.decode(nil, m, &r)
		if err != nil {
			return
		}
		for _, c := range changes {
			if _, err := c.After.Values(nil, len(table.Columns)); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzTableMap(f *testing.F) {
	table, _ := wideTable()
	f.Add([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1, 'x', 0, 1, 't', 0, 2, 3, 15, 2, 44, 1, 0, 1, 1, 0x80})
	f.Fuzz(func(_ *testing.T, body []byte) {
		c := cursor{b: body}
		m, err := parseTableMapNames(&c)
		if err != nil || m.parseColumns(&c) != nil {
			return
		}
		_ = m.fit(table)
	})
}

// FuzzJSONB: no bytes break the printer, and its text is JSON that the parser of SELECT's texts reads.
func FuzzJSONB(f *testing.F) {
	for _, doc := range []string{
		"0001000b000b0001000500610c", "02010008000501000000", "0f0c08000000f0a2b2a619", "0ff6050301810a", "0c0361620a", "0400", "0b000000000000f83f",
		"0001000e000b000100050100610000", "0202000f000c0a000c0d0003616263026465",
	} {
		b, err := hex.DecodeString(doc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		out, err := appendJSONB(nil, doc)
		if err != nil {
			return
		}
		if len(out) == 0 {
			t.Fatal("a document became nothing")
		}
		if out[0] == 0 {
			return
		}
		p := jsonParser{b: out}
		if p.value(0); p.bad || len(p.b) > 0 {
			t.Errorf("%q is not JSON", out)
		}
	})
}

func FuzzCanonicalJSON(f *testing.F) {
	f.Add([]byte(`{"a": 1.10, "b": ["x", null]}`), []byte(`[[1, "DECIMAL"]]`), []byte(`[[1, "DECIMAL"]]`))
	f.Add([]byte(`["base64:type15:QUI="]`), []byte(`[[2, "BLOB"]]`), []byte(nil))
	f.Fuzz(func(_ *testing.T, text, elements, members []byte) {
		_, _ = canonicalJSON(text, elements, members)
	})
}

func TestJSONDocumentsThatMislead(t *testing.T) {
	// An array whose elements all are the array itself.
	loop := []byte{jsonSmallArray, 2, 0, 12, 0, jsonSmallArray, 0, 0, jsonSmallArray, 0, 0, 0, 0}
	if _, err := appendJSONB(nil, loop); !errors.Is(err, ErrMalformedEvent) {
		t.Errorf("a document in a circle: %v", err)
	}
	for _, doc := range [][]byte{{0x0d}, {jsonString, 0xff}, {jsonString, 5, 'a'}, {jsonSmallObject, 1}, {jsonLiteral, 9}, {jsonOpaque, 246, 2, 3, 9}} {
		if out, err := appendJSONB([]byte("x"), doc); !errors.Is(err, ErrMalformedEvent) || string(out) != "x" {
			t.Errorf("%x: %q, %v", doc, out, err)
		}
	}
	if out, err := appendJSONB(nil, nil); string(out) != "null" || err != nil {
		t.Errorf("no document: %q, %v", out, err)
	}
}

func TestJSONDoubles(t *testing.T) {
	for f, want := range map[float64]string{
		1: "1.0", -1.5: "-1.5", 1e15: "1e15", 1e14: "100000000000000.0", 1e-15: "0.000000000000001", 1e-16: "1e-16", 1.5e300: "1.5e300",
		1234567890123456.8: "1234567890123456.8", 1234567890123456: "1.234567890123456e15", 123456789012345678: "1.2345678901234568e17",
		math.MaxFloat64: "1.7976931348623157e308", 5e-324: "5e-324", math.Inf(1): "null",
	} {
		if got := string(appendJSONDouble(nil, f)); got != want {
			t.Errorf("%g is printed as %s, want %s", f, got, want)
		}
	}
}

func TestDecimals(t *testing.T) {
	for _, tc := range []struct {
		raw              string
		precision, scale int
		want             string
	}{
		{"810dfb38d204d2", 14, 4, "1234567890.1234"},
		{"7ef204c72dfb2d", 14, 4, "-1234567890.1234"},
		{"80000000000000", 14, 4, "0.0000"},
		{"80", 1, 0, "0"},
		{"7f", 1, 0, "0"},
		{"7e", 1, 0, "-1"},
	} {
		raw, err := hex.DecodeString(tc.raw)
		if err != nil {
			t.Fatal(err)
		}
		c := cursor{b: raw}
		if got := string(appendDecimal(nil, &c, tc.precision, tc.scale)); got != tc.want || c.bad || len(c.b) > 0 {
			t.Errorf("%s is %s, want %s", tc.raw, got, tc.want)
		}
	}
	for _, shape := range [][2]int{{0, 0}, {3, 5}, {66, 2}, {5, -1}} {
		c := cursor{b: make([]byte, 64)}
		if appendDecimal(nil, &c, shape[0], shape[1]); !c.bad {
			t.Errorf("DECIMAL%v was read", shape)
		}
	}
}

func TestCutImages(t *testing.T) {
	table, types := wideTable()
	m := &tableMap{table: table, types: types}
	body := append([]byte{5, 0, 0, 0, 0, 0, 1, 0, 2, 0, 19, 0xff, 0xff, 0x07}, make([]byte, 200)...)
	whole := 0
	for n := range body {
		r, err := parseRows(gobinlog.WRITE_ROWS_EVENTv2, body[:n])
		if err == nil {
			_, err = new(decoder).decode(nil, m, &r)
		}
		if err == nil {
			whole++
		} else if !errors.Is(err, ErrMalformedEvent) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if whole > 3 {
		t.Errorf("%d cut events were read", whole)
	}
}
