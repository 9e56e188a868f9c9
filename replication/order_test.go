package replication_test

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
)

func keyTable(columns ...replication.Column) *replication.Table {
	t := &replication.Table{Schema: "s", Name: "t", Columns: columns, Ordered: true}
	for i := range columns {
		if columns[i].Name == "" {
			columns[i].Name = fmt.Sprintf("c%d", i)
		}
		t.Primary.Columns = append(t.Primary.Columns, i)
		t.Ordered = t.Ordered && replication.OrderedColumn(&columns[i])
	}
	t.Primary.Exact = !slices.ContainsFunc(columns, func(c replication.Column) bool { return !replication.ExactColumn(&c) })
	return t
}

func textKey(values ...string) replication.Key {
	var k replication.Key
	for _, v := range values {
		k = replication.AppendValue(k, append([]byte{}, v...))
	}
	return k
}

func collated(name string) replication.Column {
	charset, _, _ := strings.Cut(name, "_")
	return replication.Column{Kind: replication.KindText, Charset: charset, Collation: name}
}

// TestCompareValues lists values in the server's order; those within one element are equal.
func TestCompareValues(t *testing.T) {
	kind := func(k replication.Kind) replication.Column { return replication.Column{Kind: k} }
	for name, tt := range map[string]struct {
		column replication.Column
		order  []string
	}{
		"int": {kind(replication.KindInt), []string{
			"-9223372036854775808", "-9223372036854775807", "-100", "-99", "-10", "-9", "-1", "0", "1", "9", "10", "99", "100", "9223372036854775807",
		}},
		"uint": {kind(replication.KindUint), []string{"0", "9", "10", "9223372036854775807", "9223372036854775808", "18446744073709551615"}},
		"decimal": {kind(replication.KindDecimal), []string{
			"-99999999999999999999999999999999999999999999999999999999999999999", "-10.00", "-9.99", "-1.10|-1.1", "-1.09", "-0.01",
			"0.00|0|-0.00|-0", "0.001", "0.01", "0.10|0.1", "0.11", "1.00|1", "1.000000000000000000000000000001", "9.5", "10.49", "10.5|10.50",
			"99999999999999999999999999999999999999999999999999999999999999999",
		}},
		"double": {kind(replication.KindDouble), []string{
			"-1.7976931348623157e+308", "-1e+10", "-2e+00", "-1.5e+00", "-5e-324", "0e+00|-0e+00", "5e-324", "1e-10", "9e+00", "1e+01", "1.7976931348623157e+308",
		}},
		"float":     {kind(replication.KindFloat), []string{"-3.4028234663852886e+38", "1.4012984643248171e-45", "1.100000023841858e+00", "3.4028234663852886e+38"}},
		"year":      {kind(replication.KindYear), []string{"0000|0", "1901", "1999", "2000", "2155"}},
		"date":      {kind(replication.KindDate), []string{"0000-00-00", "0000-00-01", "0999-12-31", "1000-01-01", "2020-00-00", "2020-01-00", "2020-01-01", "9999-12-31"}},
		"datetime":  {kind(replication.KindDatetime), []string{"0000-00-00 00:00:00.000", "1000-01-01 00:00:00.000", "2020-01-01 09:59:59.999", "2020-01-01 10:00:00.000", "9999-12-31 23:59:59.999"}},
		"timestamp": {kind(replication.KindTimestamp), []string{"0000-00-00 00:00:00", "1970-01-01 00:00:01", "2038-01-19 03:14:07"}},
		"time": {kind(replication.KindTime), []string{
			"-838:59:59.000000", "-100:00:00.000000", "-99:59:59.999999", "-99:00:00.000000", "-00:00:01.000000", "-00:00:00.000001",
			"00:00:00.000000|-00:00:00.000000", "00:00:00.000001", "00:00:00.100000", "00:00:01.000000", "01:00:00.000000", "09:59:59.000000",
			"10:00:00.000000", "99:59:59.999999", "100:00:00.000000", "838:59:59.000000",
		}},
		"bit":         {kind(replication.KindBit), []string{"\x00\x00", "\x00\x01", "\x00\xff", "\x01\x00", "\xff\xff"}},
		"enum":        {kind(replication.KindEnum), []string{"0", "1", "2", "10", "65535"}},
		"set":         {kind(replication.KindSet), []string{"0", "2", "10", "9223372036854775808", "18446744073709551615"}},
		"binary":      {kind(replication.KindBinary), []string{"\x00\x00", "a\x00", "a ", "a\xff", "\xff\x00"}},
		"varbinary":   {kind(replication.KindBlob), []string{"", "\x00", "A", "a", "a\x00", "a ", "ab", "b", "\xff"}},
		"0900_bin":    {collated("utf8mb4_0900_bin"), []string{"", " ", "A", "Z", "a", "a\t", "a ", "a  ", "aa", "é", "\uffff", "\U0001f600"}},
		"nopad":       {collated("latin1_nopad_bin"), []string{"", "\t", " ", "a", "a\t", "a ", "\xe9"}},
		"utf8mb4_bin": {collated("utf8mb4_bin"), []string{"\x00", "\t", "| |   ", "!", "A", "a\x00", "a\t", "a\x1f \x1f", "a|a |a   ", "a!", "aa", "é", "\uffff", "\U0001f600"}},
		"latin1_bin":  {collated("latin1_bin"), []string{"a\t", "a \t", "a|a ", "a!", "\xe9\x1f", "\xe9|\xe9 ", "\xff"}},
	} {
		t.Run(name, func(t *testing.T) {
			table := keyTable(tt.column)
			if !table.Ordered {
				t.Fatal("not ordered")
			}
			for i, as := range tt.order {
				for j, bs := range tt.order {
					for a := range strings.SplitSeq(as, "|") {
						for b := range strings.SplitSeq(bs, "|") {
							if got, want := table.Compare(textKey(a), textKey(b)), cmp.Compare(i, j); got != want {
								t.Errorf("Compare(%q, %q) = %d, want %d", a, b, got, want)
							}
						}
					}
				}
				if got := table.Compare(replication.PackRow(nil), textKey(tt.order[i])); got != -1 {
					t.Errorf("NULL compares to %q as %d", tt.order[i], got)
				}
			}
		})
	}
}

func TestColumnClasses(t *testing.T) {
	kind := func(k replication.Kind) replication.Column { return replication.Column{Kind: k} }
	for _, tt := range []struct {
		column         replication.Column
		ordered, exact bool
	}{
		{kind(replication.KindInt), true, true},
		{kind(replication.KindDecimal), true, true},
		{kind(replication.KindTime), true, true},
		{kind(replication.KindEnum), true, true},
		{kind(replication.KindBit), true, true},
		{kind(replication.KindBlob), true, true},
		{kind(replication.KindFloat), true, false},
		{kind(replication.KindDouble), true, false},
		{kind(replication.KindUnknown), false, false},
		{kind(replication.KindJSON), false, false},
		{kind(replication.KindGeometry), false, false},
		{kind(replication.KindVector), false, false},
		{kind(replication.Kind(200)), false, false},
		{collated("utf8mb4_0900_bin"), true, true},
		{collated("binary"), true, true},
		{collated("utf8mb4_nopad_bin"), true, true},
		{collated("utf8mb4_bin"), true, false},
		{collated("utf8mb3_bin"), true, false},
		{collated("utf8_bin"), true, false},
		{collated("latin1_bin"), true, false},
		{collated("ascii_bin"), true, false},
		{collated("cp1251_bin"), true, false},
		{collated("utf16_bin"), false, false},
		{collated("ucs2_bin"), false, false},
		{collated("sjis_bin"), false, false},
		{collated("gbk_bin"), false, false},
		{collated("utf8mb4_0900_ai_ci"), false, false},
		{collated("utf8mb4_general_ci"), false, false},
		{collated("utf8mb4_0900_as_cs"), false, false},
		{collated("utf16_nopad_bin"), false, false},
		{collated("latin1_general_cs"), false, false},
		{collated(""), false, false},
	} {
		if got := replication.OrderedColumn(&tt.column); got != tt.ordered {
			t.Errorf("OrderedColumn(%v %s) = %v", tt.column.Kind, tt.column.Collation, got)
		}
		if got := replication.ExactColumn(&tt.column); got != tt.exact {
			t.Errorf("ExactColumn(%v %s) = %v", tt.column.Kind, tt.column.Collation, got)
		}
	}
}

// TestCompareComposite has the trap of a filter that looks at the first column only.
func TestCompareComposite(t *testing.T) {
	table := keyTable(replication.Column{Kind: replication.KindInt}, replication.Column{Kind: replication.KindInt})
	k := func(a, b int) replication.Key { return textKey(strconv.Itoa(a), strconv.Itoa(b)) }
	span := replication.Span{Lo: k(5, 100), Hi: k(7, 3)}
	for _, tt := range []struct {
		key  replication.Key
		want bool
	}{
		{k(5, 50), false}, {k(5, 100), false}, {k(5, 101), true}, {k(6, -9), true}, {k(7, 3), true}, {k(7, 4), false}, {k(8, 0), false}, {k(4, 999), false},
	} {
		if got := table.In(span, tt.key); got != tt.want {
			t.Errorf("%s in %s: %v", table.FormatKey(tt.key), table.FormatSpan(span), got)
		}
	}
	if !table.In(replication.Span{}, k(0, 0)) || !table.In(replication.Span{Lo: k(1, 1)}, k(1, 2)) || table.In(replication.Span{Hi: k(1, 1)}, k(1, 2)) {
		t.Error("open bounds")
	}
}

// dumbCompare compares by another way than the package: big numbers, padded copies.
func dumbCompare(c *replication.Column, a, b string) int {
	switch c.Kind {
	case replication.KindInt, replication.KindUint, replication.KindDecimal, replication.KindDouble:
		x, okA := new(big.Rat).SetString(a)
		y, okB := new(big.Rat).SetString(b)
		if !okA || !okB {
			panic(a + " " + b)
		}
		return x.Cmp(y)
	case replication.KindTime:
		micros := func(s string) int64 {
			digits, neg := strings.CutPrefix(s, "-")
			var h, m, sec, us int64
			if _, err := fmt.Sscanf(digits, "%d:%d:%d.%d", &h, &m, &sec, &us); err != nil {
				panic(s)
			}
			v := ((h*60+m)*60+sec)*1e6 + us
			if neg {
				return -v
			}
			return v
		}
		return cmp.Compare(micros(a), micros(b))
	case replication.KindText:
		n := max(len(a), len(b))
		return cmp.Compare(a+strings.Repeat(" ", n-len(a)), b+strings.Repeat(" ", n-len(b)))
	}
	return cmp.Compare(a, b)
}

func randomKeyValue(r *rand.Rand, k replication.Kind) string {
	digits := func(n int) string {
		s := strconv.Itoa(r.IntN(10))
		for range r.IntN(n) {
			s += strconv.Itoa(r.IntN(3) * 4)
		}
		return s
	}
	sign := []string{"", "-"}[r.IntN(2)]
	switch k {
	case replication.KindInt:
		return strconv.FormatInt(int64(r.Uint64()>>r.IntN(64))*(1-2*int64(r.IntN(2))), 10)
	case replication.KindUint:
		return strconv.FormatUint(r.Uint64()>>r.IntN(64), 10)
	case replication.KindDecimal:
		return sign + digits(30) + "." + digits(20)
	case replication.KindDouble:
		f := math.Ldexp(r.Float64()-0.5, r.IntN(60)-30)
		return strconv.FormatFloat(f, 'e', -1, 64)
	case replication.KindTime:
		return fmt.Sprintf("%s%02d:%02d:%02d.%06d", sign, r.IntN(839)>>r.IntN(10), r.IntN(60), r.IntN(60), r.IntN(3))
	}
	b := make([]byte, r.IntN(5))
	for i := range b {
		b[i] = " \x1f!a\x00"[r.IntN(5)]
	}
	return string(b)
}

func TestCompareModel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, column := range []replication.Column{
		{Kind: replication.KindInt},
		{Kind: replication.KindUint},
		{Kind: replication.KindDecimal},
		{Kind: replication.KindDouble},
		{Kind: replication.KindTime},
		{Kind: replication.KindBlob},
		collated("utf8mb4_bin"),
	} {
		table := keyTable(column)
		for range 3000 {
			a, b := randomKeyValue(r, column.Kind), randomKeyValue(r, column.Kind)
			if r.IntN(10) == 0 {
				b = a
			}
			if got, want := table.Compare(textKey(a), textKey(b)), dumbCompare(&column, a, b); got != want {
				t.Fatalf("kind %d: Compare(%q, %q) = %d, want %d", column.Kind, a, b, got, want)
			}
		}
	}
}

// FuzzCompare checks that keys of any bytes have a total order, and never panic.
func FuzzCompare(f *testing.F) {
	f.Add([]byte("\x011\x01a"), []byte("\x0210\x01b"), []byte("\xfb\xfb"), uint8(1), uint8(14))
	f.Add([]byte("\x05-1.50"), []byte("\x03inf"), []byte("\x03nan"), uint8(5), uint8(3))
	f.Add([]byte("\x0a-838:59:59\x01 "), []byte("\xff"), []byte("\x05"), uint8(8), uint8(15))
	f.Fuzz(func(t *testing.T, a, b, c []byte, k1, k2 uint8) {
		kinds := uint8(replication.KindVector) + 1
		col := func(k uint8) replication.Column {
			return replication.Column{Kind: replication.Kind(k % kinds), Collation: []string{"utf8mb4_bin", "utf8mb4_0900_bin"}[k/kinds%2]}
		}
		table := keyTable(col(k1), col(k2))
		x, y, z := replication.Key(a), replication.Key(b), replication.Key(c)
		xy, yz, xz := table.Compare(x, y), table.Compare(y, z), table.Compare(x, z)
		if xy != -table.Compare(y, x) || table.Compare(x, x) != 0 {
			t.Fatalf("%q and %q: not antisymmetric", a, b)
		}
		if xy <= 0 && yz <= 0 && xz > 0 || xy == 0 && xz != yz {
			t.Fatalf("%q, %q, %q: not transitive", a, b, c)
		}
		table.In(replication.Span{Lo: x, Hi: y}, z)
		_ = table.FormatSpan(replication.Span{Lo: x, Hi: y})
	})
}
