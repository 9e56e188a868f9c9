package replication_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tablehaul/tablehaul/replication"
)

func TestFormat(t *testing.T) {
	table := &replication.Table{Name: "t", Primary: replication.Index{Columns: []int{1, 0}}, Columns: []replication.Column{
		{Name: "id", Kind: replication.KindInt},
		{Name: "name", Kind: replication.KindText, Collation: "utf8mb4_bin"},
		{Name: "bin", Kind: replication.KindBlob},
		{Name: "at", Kind: replication.KindDatetime},
		{Name: "e", Kind: replication.KindEnum, Members: []string{"x", "y"}},
		{Name: "s", Kind: replication.KindSet, Members: []string{"p", "q", "r"}},
		{Name: "j", Kind: replication.KindJSON},
		{Name: "bit", Kind: replication.KindBit},
	}}
	b := func(s string) []byte { return []byte(s) }
	for _, tt := range []struct {
		row  replication.Row
		want string
	}{
		{
			replication.PackRow(b("-1"), b("it's \"ü\"\n"), b("\x00\xff"), b("2020-01-01 00:00:00"), b("2"), b("5"), b(`{"a": 1}`), b("\x01")),
			`(id=-1, name='it\'s "ü"\n', bin=0x00ff, at='2020-01-01 00:00:00', e='y', s='p,r', j='{"a": 1}', bit=0x01)`,
		},
		{
			replication.PackRow(b("1"), b("\xff\xfe"), b(""), nil, b("0"), b("0"), b("\x00JSON_OBJECT()"), nil),
			`(id=1, name=0xfffe, bin=0x, at=NULL, e='0', s='', j='JSON_OBJECT()', bit=NULL)`,
		},
		{
			replication.PackRow(nil, b(strings.Repeat("a", 65)), b(strings.Repeat("\x01", 66)), nil, b("9"), b("8"), nil, nil),
			`(id=NULL, name='` + strings.Repeat("a", 64) + `'...(+1 bytes), bin=0x` + strings.Repeat("01", 64) + `...(+2 bytes), at=NULL, e='9', s='8', j=NULL, bit=NULL)`,
		},
		{
			replication.PackRow(nil, b("a"+strings.Repeat("ü", 40)), nil, nil, nil, nil, nil, nil),
			`(id=NULL, name='a` + strings.Repeat("ü", 31) + `'...(+18 bytes), bin=NULL, at=NULL, e=NULL, s=NULL, j=NULL, bit=NULL)`,
		},
		{replication.Row("\x05a"), "(malformed row: a value of 5 bytes in 1: 0x0561)"},
	} {
		if got := table.Format(tt.row); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	if got := table.FormatKey(replication.PackRow(b("k"), b("7"))); got != "(name='k', id=7)" {
		t.Errorf("FormatKey: %s", got)
	}
	if got := table.FormatSpan(replication.Span{Hi: replication.PackRow(b("k"), b("7"))}); got != "(start, (name='k', id=7)]" {
		t.Errorf("FormatSpan: %s", got)
	}
}

func FuzzFormat(f *testing.F) {
	f.Add([]byte("\x03abc\x011"))
	f.Add([]byte("\xfb\xfb"))
	f.Add([]byte("\xfc\x50\x00" + strings.Repeat("\xf0\x9f\x98\x80", 20) + "\x01\xff"))
	f.Fuzz(func(t *testing.T, r []byte) {
		for k := replication.KindUnknown; k <= replication.KindVector; k++ {
			table := keyTable(replication.Column{Kind: replication.KindText}, replication.Column{Kind: k, Members: []string{"a", "b"}})
			s := table.Format(r)
			if !strings.HasPrefix(s, "(") || !strings.HasSuffix(s, ")") || len(s) > 1200 || utf8.Valid(r) && !utf8.ValidString(s) {
				t.Fatalf("%q: %q", r, s)
			}
		}
	})
}
