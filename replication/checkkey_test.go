package replication

import (
	"errors"
	"testing"
)

func TestCheckKey(t *testing.T) {
	one := func(c Column) *Table {
		c.Name = "k"
		return &Table{Name: "t", Columns: []Column{{Name: "other"}, c}, Primary: Index{Columns: []int{1}}}
	}
	for _, c := range []struct {
		column    Column
		good, bad []string
	}{
		{Column{Kind: KindInt}, []string{"0", "-9223372036854775808", "5"}, []string{"", "5.0", "9223372036854775808", "a", "\x05"}},
		{Column{Kind: KindUint}, []string{"18446744073709551615"}, []string{"-1", "18446744073709551616"}},
		{Column{Kind: KindEnum}, []string{"0", "3"}, []string{"red"}},
		{Column{Kind: KindDecimal}, []string{"-1.50", "7"}, []string{"1e5", ".", ""}},
		{Column{Kind: KindDouble}, []string{"1.5e+00"}, []string{"one"}},
		{Column{Kind: KindDatetime}, []string{"2026-07-01 00:00:00.5", "0000-00-00 00:00:00"}, []string{"now", "", "2026-07-01T00:00:00"}},
		{Column{Kind: KindTime}, []string{"-838:59:59"}, []string{"noon"}},
		{Column{Kind: KindBinary, Length: 4}, []string{"abcd", "a\x00\x00\x00"}, []string{"a", "abcde"}},
		{Column{Kind: KindBit, Length: 9}, []string{"\x01\xff"}, []string{"\x01", "\x00\x00\x00"}},
		{Column{Kind: KindText}, []string{"", "anything", "\xff"}, nil},
		{Column{Kind: KindBlob}, []string{"", "\x00"}, nil},
	} {
		for _, s := range c.good {
			if err := one(c.column).CheckKey(PackRow([]byte(s))); err != nil {
				t.Errorf("kind %d: %v", c.column.Kind, err)
			}
		}
		for _, s := range c.bad {
			if err := one(c.column).CheckKey(PackRow([]byte(s))); !errors.Is(err, ErrMalformedRow) {
				t.Errorf("kind %d, %q: %v", c.column.Kind, s, err)
			}
		}
	}
	table := one(Column{Kind: KindInt})
	for _, k := range []Key{nil, {0xff}, {0x03, '1'}, PackRow([]byte("1"), []byte("2")), PackRow(nil)} {
		if err := table.CheckKey(k); !errors.Is(err, ErrMalformedRow) {
			t.Errorf("%q: %v", k, err)
		}
	}
	if err := one(Column{Kind: KindInt, Nullable: true}).CheckKey(PackRow(nil)); err != nil {
		t.Errorf("a NULL where one is allowed: %v", err)
	}
}
