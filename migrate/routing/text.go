package routing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

var (
	errMember = errors.New("it is not the number of a member")
	errText   = errors.New("it is not text in the column's character set")
)

// classOf returns how a column's values are to be read, and what makes UTF-8 of their bytes.
func classOf(t *replication.Table, c *replication.Column) (vindex.Class, func([]byte) ([]byte, error), error) {
	switch c.Kind {
	case replication.KindInt, replication.KindYear:
		return vindex.Signed, nil, nil
	case replication.KindUint:
		return vindex.Unsigned, nil, nil
	case replication.KindDecimal:
		return vindex.Decimal, nil, nil
	case replication.KindFloat, replication.KindDouble:
		return vindex.Float, nil, nil
	case replication.KindDate, replication.KindTime, replication.KindDatetime, replication.KindTimestamp:
		return vindex.Text, nil, nil
	case replication.KindBit, replication.KindBinary, replication.KindBlob:
		return vindex.Binary, nil, nil
	case replication.KindText, replication.KindEnum, replication.KindSet:
		decode, known := decoders[c.Charset]
		if !known {
			return 0, nil, &ColumnError{Table: t.Name, Column: c.Name, Why: fmt.Sprintf("text in character set %s can't be converted to UTF-8 here", c.Charset)}
		}
		if c.Kind == replication.KindText {
			return vindex.Text, decode, nil
		}
		members, err := decodeAll(c.Members, decode)
		if err != nil {
			return 0, nil, &ColumnError{Table: t.Name, Column: c.Name, Why: err.Error()}
		}
		if c.Kind == replication.KindEnum {
			return vindex.Text, func(b []byte) ([]byte, error) { return enumText(members, b) }, nil
		}
		return vindex.Text, func(b []byte) ([]byte, error) { return setText(members, b) }, nil
	}
	return 0, nil, &ColumnError{Table: t.Name, Column: c.Name, Why: fmt.Sprintf("no vindex takes values of type %s", c.Type)}
}

func decodeAll(members []string, decode func([]byte) ([]byte, error)) ([][]byte, error) {
	out := make([][]byte, 0, len(members))
	for _, m := range members {
		b := []byte(m)
		if decode != nil {
			var err error
			if b, err = decode(b); err != nil {
				return nil, err
			}
		}
		out = append(out, b)
	}
	return out, nil
}

// enumText is the member whose number is given; 0 is the empty string.
func enumText(members [][]byte, number []byte) ([]byte, error) {
	n, err := strconv.ParseUint(string(number), 10, 32)
	switch {
	case err != nil || n > uint64(len(members)):
		return nil, errMember
	case n == 0:
		return []byte{}, nil
	}
	return members[n-1], nil
}

// setText joins the members whose bits are set.
func setText(members [][]byte, mask []byte) ([]byte, error) {
	bits, err := strconv.ParseUint(string(mask), 10, 64)
	if err != nil || len(members) < 64 && bits>>len(members) != 0 {
		return nil, errMember
	}
	out := []byte{}
	for i, m := range members {
		if bits>>i&1 == 0 {
			continue
		}
		if len(out) > 0 {
			out = append(out, ',')
		}
		out = append(out, m...)
	}
	return out, nil
}

// decoders make UTF-8 of text, by character set; nil where it is UTF-8.
var decoders = map[string]func([]byte) ([]byte, error){
	"ascii": nil, "utf8": nil, "utf8mb3": nil, "utf8mb4": nil,
	"latin1":  fromLatin1,
	"ucs2":    func(b []byte) ([]byte, error) { return fromUTF16(b, binary.BigEndian) },
	"utf16":   func(b []byte) ([]byte, error) { return fromUTF16(b, binary.BigEndian) },
	"utf16le": func(b []byte) ([]byte, error) { return fromUTF16(b, binary.LittleEndian) },
	"utf32":   fromUTF32,
}

// high are the characters 0x80 to 0x9f of MySQL's latin1, which is Windows-1252 with the five holes filled.
var high = []rune("\u20ac\u0081\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u008d\u017d\u008f" +
	"\u0090\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u009d\u017e\u0178")

func fromLatin1(b []byte) ([]byte, error) {
	if !slices.ContainsFunc(b, func(c byte) bool { return c >= 0x80 }) {
		return b, nil
	}
	out := make([]byte, 0, len(b)+8)
	for _, c := range b {
		r := rune(c)
		if c >= 0x80 && c < 0xa0 {
			r = high[c-0x80]
		}
		out = utf8.AppendRune(out, r)
	}
	return out, nil
}

func fromUTF16(b []byte, order binary.ByteOrder) ([]byte, error) {
	if len(b)%2 != 0 {
		return nil, errText
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i += 2 {
		r := rune(order.Uint16(b[i:]))
		if utf16.IsSurrogate(r) {
			if i+4 > len(b) {
				return nil, errText
			}
			i += 2
			if r = utf16.DecodeRune(r, rune(order.Uint16(b[i:]))); r == utf8.RuneError {
				return nil, errText
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return out, nil
}

func fromUTF32(b []byte) ([]byte, error) {
	if len(b)%4 != 0 {
		return nil, errText
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i += 4 {
		r := rune(binary.BigEndian.Uint32(b[i:]))
		if !utf8.ValidRune(r) {
			return nil, errText
		}
		out = utf8.AppendRune(out, r)
	}
	return out, nil
}
