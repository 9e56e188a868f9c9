package sqltext_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// unquote reads one quoted token the way the server's lexer does and returns its bytes and what follows.
func unquote(t *testing.T, s []byte, quote byte) (value, rest []byte) {
	t.Helper()
	if len(s) == 0 || s[0] != quote {
		t.Fatalf("%q does not start with %c", s, quote)
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			value = append(value, quote)
			i++
		case s[i] == quote:
			return value, s[i+1:]
		case s[i] == '\\' && quote == '\'':
			i++
			if i == len(s) {
				t.Fatalf("%q ends in an escape", s)
			}
			if b := bytes.IndexByte([]byte("0nrZ"), s[i]); b >= 0 {
				value = append(value, "\x00\n\r\x1a"[b])
			} else {
				value = append(value, s[i])
			}
		default:
			value = append(value, s[i])
		}
	}
	t.Fatalf("%q does not end", s)
	return nil, nil
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", "`", "'", "\\", "a\x00b", "\x1a\r\n", "\xbf\x27", "\xbf\\", "``''\\\\", "\\'"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		if got, rest := unquote(t, sqltext.AppendString(nil, v), '\''); !bytes.Equal(got, v) || len(rest) > 0 {
			t.Errorf("AppendString(%q) reads as %q and %q", v, got, rest)
		}
		if got, rest := unquote(t, sqltext.AppendIdent(nil, string(v)), '`'); !bytes.Equal(got, v) || len(rest) > 0 {
			t.Errorf("AppendIdent(%q) reads as %q and %q", v, got, rest)
		}
		h := sqltext.AppendHex(nil, v)
		if got, err := hex.DecodeString(string(h[2 : len(h)-1])); err != nil || !bytes.Equal(got, v) {
			t.Errorf("AppendHex(%q) is %s", v, h)
		}
	})
}

// FuzzLiteral checks that no value gets out of its literal: what is not quoted is a plain number.
func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"1", "-1", "1;DROP TABLE t", "1e1", "1.5e+00", "0x1", "", "-", ".", "1.", "e1", "2020-01-01 00:00:00", "'", "NULL"} {
		f.Add([]byte(s), uint8(1), true)
	}
	f.Fuzz(func(t *testing.T, v []byte, kind uint8, key bool) {
		col := &replication.Column{Name: "c", Kind: replication.Kind(kind % (uint8(replication.KindVector) + 1)), Charset: "latin1"}
		appendLiteral := sqltext.AppendLiteral
		if key {
			appendLiteral = sqltext.AppendKeyLiteral
		}
		if col.Kind == replication.KindJSON && len(v) > 0 && v[0] == 0 {
			return // an expression, made by this module
		}
		if v == nil {
			v = []byte{}
		}
		got, err := appendLiteral([]byte("a="), col, v)
		if err != nil {
			if !errors.Is(err, sqltext.ErrValue) {
				t.Errorf("kind %d, %q: %v", col.Kind, v, err)
			}
			return
		}
		text := bytes.TrimPrefix(got, []byte("a="))
		quote := bytes.IndexByte(text, '\'')
		if quote < 0 {
			if strings.Trim(string(text), "()-+.eE0123456789") != "" || strings.Contains(string(text), "--") {
				t.Errorf("kind %d, %q is written as %q", col.Kind, v, text)
			}
			return
		}
		intro := string(text[:quote])
		value, rest := unquote(t, text[quote:], '\'')
		switch {
		case intro == "_latin1 x":
			value, err = hex.DecodeString(string(value))
		case intro == "_binary", intro == "_utf8mb4", intro == "":
		case intro == "CAST(_utf8mb4" && string(rest) == " AS JSON)":
			rest = nil
		default:
			t.Errorf("kind %d, %q is written as %q", col.Kind, v, text)
		}
		if err != nil || !bytes.Equal(value, v) || len(rest) > 0 {
			t.Errorf("kind %d, %q is written as %q", col.Kind, v, text)
		}
	})
}

func TestLiterals(t *testing.T) {
	text := func(kind replication.Kind) *replication.Column {
		return &replication.Column{Name: "c", Kind: kind, Charset: "gbk"}
	}
	for _, c := range []struct {
		kind      replication.Kind
		value     []byte
		want, key string
	}{
		{replication.KindInt, []byte("-5"), "-5", "-5"},
		{replication.KindUint, []byte("18446744073709551615"), "18446744073709551615", "18446744073709551615"},
		{replication.KindUint, []byte("-1"), "", ""},
		{replication.KindDecimal, []byte("-0.10"), "-0.10", "-0.10"},
		{replication.KindDouble, []byte("1.5e+00"), "1.5e+00", "1.5e+00"},
		{replication.KindDouble, []byte("NaN"), "", ""},
		{replication.KindDate, []byte("0000-00-00"), "'0000-00-00'", "'0000-00-00'"},
		{replication.KindSet, []byte("18446744073709551615"), "18446744073709551615", "-1"},
		{replication.KindSet, []byte("x"), "", ""},
		{replication.KindBit, []byte{1, 2}, "258", "258"},
		{replication.KindBit, nil, "NULL", "NULL"},
		{replication.KindBit, []byte{}, "", ""},
		{replication.KindText, []byte{}, "_binary''", "_gbk x''"},
		{replication.KindText, []byte("\xbf'"), "_binary'\xbf\\''", "_gbk x'bf27'"},
		{replication.KindBlob, []byte{0}, `_binary'\0'`, `_binary'\0'`},
		{replication.KindJSON, []byte(`{"a":1}`), `_utf8mb4'{"a":1}'`, `CAST(_utf8mb4'{"a":1}' AS JSON)`},
		{replication.KindJSON, []byte("\x00JSON_ARRAY(1)"), `(JSON_ARRAY(1))`, `CAST((JSON_ARRAY(1)) AS JSON)`},
	} {
		got, err := sqltext.AppendLiteral(nil, text(c.kind), c.value)
		if string(got) != c.want || (err != nil) != (c.want == "") {
			t.Errorf("AppendLiteral(%d, %q) = %q, %v", c.kind, c.value, got, err)
		}
		key, err := sqltext.AppendKeyLiteral(nil, text(c.kind), c.value)
		if string(key) != c.key || (err != nil) != (c.key == "") {
			t.Errorf("AppendKeyLiteral(%d, %q) = %q, %v", c.kind, c.value, key, err)
		}
	}
	bad := &replication.Column{Kind: replication.KindText, Charset: "x' --"}
	if _, err := sqltext.AppendKeyLiteral(nil, bad, []byte("a")); !errors.Is(err, sqltext.ErrValue) {
		t.Errorf("a character set that isn't a name gives %v", err)
	}
}

func ExampleQualifiedIdent() {
	fmt.Println(sqltext.QualifiedIdent("load", "odd`name"))
	// Output: `load`.`odd``name`
}

func ExampleAppendLiteral() {
	col := &replication.Column{Name: "c", Kind: replication.KindText, Charset: "latin1"}
	text, err := sqltext.AppendLiteral(nil, col, []byte("it's"))
	fmt.Println(string(text), err)
	// Output: _binary'it\'s' <nil>
}
