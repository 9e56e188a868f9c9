package replication

import (
	"bytes"
	"cmp"
	"strconv"
	"strings"
)

// OrderedColumn tells whether the order of a column's values is known here, so that Table.Compare agrees
// with the order of the server's index: numbers, BIT, ENUM and SET (by number), temporal types, binary
// strings, and text whose collation compares code by code (binaryCollation). A table is Ordered when
// this holds for every column of its identifying key, and each is a whole column.
//
// A server that sorts instead of following the index can differ: MySQL in a strict sql_mode turns dates
// with a zero month or day into zero dates on the way, MariaDB takes NO PAD texts that differ
// in NULs at the end for equal.
func OrderedColumn(c *Column) bool {
	switch c.Kind {
	case KindFloat, KindDouble:
		return true
	case KindText:
		_, ok := binaryCollation(c.Collation)
		return ok
	}
	return ExactColumn(c)
}

// ExactColumn tells whether two values of a column are equal for the server if and only if their
// canonical bytes are. It is false for
//
//   - text, except where the collation is binary and NO PAD: others fold case or accents, or ignore
//     trailing spaces (PAD SPACE, as utf8mb4_bin and latin1_bin do)
//   - FLOAT and DOUBLE: 0 and -0 are equal
//   - JSON, GEOMETRY, VECTOR and unknown types
func ExactColumn(c *Column) bool {
	switch c.Kind {
	case KindInt, KindUint, KindDecimal, KindYear, KindDate, KindTime, KindDatetime, KindTimestamp,
		KindBit, KindEnum, KindSet, KindBinary, KindBlob:
		return true
	case KindText:
		pad, ok := binaryCollation(c.Collation)
		return ok && !pad
	}
	return false
}

// binCharsets are the character sets whose _bin collation compares byte by byte: all single-byte sets,
// and UTF-8, where bytes order as code points do.
var binCharsets = map[string]bool{
	"utf8mb4": true, "utf8mb3": true, "utf8": true, "ascii": true, "latin1": true, "latin2": true,
	"latin5": true, "latin7": true, "cp1250": true, "cp1251": true, "cp1256": true, "cp1257": true,
	"cp850": true, "cp852": true, "cp866": true, "koi8r": true, "koi8u": true, "greek": true,
	"hebrew": true, "dec8": true, "hp8": true, "swe7": true, "armscii8": true, "geostd8": true,
	"keybcs2": true, "macce": true, "macroman": true,
}

// binaryCollation tells whether a collation compares byte by byte, and whether the shorter value counts as
// padded with spaces then.
func binaryCollation(name string) (pad, ok bool) {
	if name == "binary" || name == "utf8mb4_0900_bin" {
		return false, true
	}
	if charset, found := strings.CutSuffix(name, "_nopad_bin"); found { // MariaDB
		return false, binCharsets[charset]
	}
	charset, found := strings.CutSuffix(name, "_bin")
	return true, found && binCharsets[charset]
}

// Compare orders two keys of an Ordered table as the server does; NULL comes first. Bytes that are
// no packed key have an order too, but no meaningful one.
func (t *Table) Compare(a, b Key) int {
	for _, i := range t.Primary.Columns {
		x, ra, errA := a.Next()
		y, rb, errB := b.Next()
		if errA != nil || errB != nil {
			if errA == nil || errB == nil {
				return trueFirst(errA != nil, errB != nil)
			}
			return bytes.Compare(a, b)
		}
		if c := t.Columns[i].compare(x, y); c != 0 {
			return c
		}
		a, b = ra, rb
	}
	return 0
}

// In tells whether a key lies in a span. For the whole table that is true for any key; other spans
// may be asked for Ordered tables only.
func (t *Table) In(s Span, k Key) bool {
	return (len(s.Lo) == 0 || t.Compare(s.Lo, k) < 0) && (len(s.Hi) == 0 || t.Compare(k, s.Hi) <= 0)
}

// trueFirst orders true before false.
func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return 1
	}
	return -1
}

// Compare orders two values of the column as the server does, in the form that a Row has; nil is NULL and comes first. It may be
// asked only if OrderedColumn holds.
func (c *Column) Compare(a, b []byte) int { return c.compare(a, b) }

func (c *Column) compare(a, b []byte) int {
	if a == nil || b == nil {
		return trueFirst(a == nil, b == nil)
	}
	switch c.Kind {
	case KindInt, KindUint, KindDecimal, KindYear, KindEnum, KindSet:
		return compareNumbers(a, b, '.', true)
	case KindTime:
		return compareNumbers(a, b, ':', false)
	case KindFloat, KindDouble:
		return compareFloats(a, b)
	case KindText:
		if pad, _ := binaryCollation(c.Collation); pad {
			return comparePadded(a, b)
		}
	}
	// DATE, DATETIME and TIMESTAMP have all digits of their type, zero dates too, and BIT all its bytes.
	return bytes.Compare(a, b)
}

// compareNumbers compares texts that begin with an optional minus and a whole number, up to sep; what
// follows compares by bytes, without trailing zeros if trim is set. For a TIME that is the hours,
// then two digits each.
func compareNumbers(a, b []byte, sep byte, trim bool) int {
	negA, wholeA, restA := splitNumber(a, sep, trim)
	negB, wholeB, restB := splitNumber(b, sep, trim)
	if negA != negB {
		return trueFirst(negA, negB)
	}
	c := cmp.Compare(len(wholeA), len(wholeB))
	if c == 0 {
		c = bytes.Compare(wholeA, wholeB)
	}
	if c == 0 {
		c = bytes.Compare(restA, restB)
	}
	if negA {
		return -c
	}
	return c
}

func splitNumber(s []byte, sep byte, trim bool) (neg bool, whole, rest []byte) {
	if len(s) > 0 && s[0] == '-' {
		neg, s = true, s[1:]
	}
	whole = s
	if i := bytes.IndexByte(s, sep); i >= 0 {
		whole, rest = s[:i], s[i+1:]
	}
	for len(whole) > 0 && whole[0] == '0' {
		whole = whole[1:]
	}
	if trim {
		for len(rest) > 0 && rest[len(rest)-1] == '0' {
			rest = rest[:len(rest)-1]
		}
	}
	if neg && len(whole) == 0 && onlyZeros(rest) {
		neg = false
	}
	return neg, whole, rest
}

// onlyZeros tells whether the digits in s are zeros.
func onlyZeros(s []byte) bool {
	for _, c := range s {
		if c != '0' && c != ':' && c != '.' {
			return false
		}
	}
	return true
}

// compareFloats compares by value; what is no number comes last, by bytes.
func compareFloats(a, b []byte) int {
	x, errA := strconv.ParseFloat(string(a), 64)
	y, errB := strconv.ParseFloat(string(b), 64)
	switch {
	case errA == nil && errB == nil:
		return cmp.Compare(x, y)
	case errA != nil && errB != nil:
		return bytes.Compare(a, b)
	}
	return trueFirst(errA == nil, errB == nil)
}

// comparePadded compares as if the shorter value were filled up with spaces.
func comparePadded(a, b []byte) int {
	n := min(len(a), len(b))
	if c := bytes.Compare(a[:n], b[:n]); c != 0 {
		return c
	}
	for _, c := range a[n:] {
		if c != ' ' {
			return cmp.Compare(c, ' ')
		}
	}
	for _, c := range b[n:] {
		if c != ' ' {
			return cmp.Compare(' ', c)
		}
	}
	return 0
}
