package vindex

import (
	"bytes"
	"fmt"
	"math"
)

// A Class says how the bytes of a [Value] are to be read.
type Class uint8

// The classes. What an engine that reads MySQL's text protocol gives:
const (
	// Null is the class of the zero Value.
	Null Class = iota
	// Signed and Unsigned are integers and YEAR, in decimal without leading zeros (ZEROFILL is display only).
	Signed
	Unsigned
	// Decimal is DECIMAL, with its full scale.
	Decimal
	// Float is FLOAT and DOUBLE; only the vindex null takes them.
	Float
	// Text is CHAR, VARCHAR and TEXT in UTF-8 whatever the column's character set, the member (not the number)
	// of ENUM and SET, and dates and times as MySQL prints them.
	Text
	// Binary is BINARY (padded to its length), VARBINARY, BLOB and BIT: the stored bytes.
	Binary
)

var classNames = [...]string{"null", "signed", "unsigned", "decimal", "float", "text", "binary"}

// String returns the class in lower case.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// A Value is the value of one vindex column in one row. The zero Value is NULL.
type Value struct {
	Class Class
	// Bytes are as [Class] says. Nil is NULL, whatever the class; empty is not.
	Bytes []byte
}

// IsNull tells whether the value is NULL.
func (v Value) IsNull() bool { return v.Bytes == nil || v.Class == Null }

// text returns the bytes that vindexes of text take. NULL is like the empty string.
func (v Value) text() ([]byte, error) {
	switch {
	case v.IsNull():
		return nil, nil
	case v.Class == Float:
		return nil, ErrFloat
	}
	return v.Bytes, nil
}

// number returns the integer that vindexes of numbers take: decimal digits with spaces and tabs around them. A negative one
// has no keyspace id since Vitess 24; before, it had that of the unsigned integer of the same 64 bits.
func (v Value) number() (uint64, error) {
	switch {
	case v.IsNull():
		return 0, ErrNull
	case v.Class == Float:
		return 0, ErrFloat
	}
	n, ok := parseDigits(bytes.Trim(v.Bytes, " \t"))
	if !ok {
		return 0, ErrNotInteger
	}
	return n, nil
}

// signedNumber is number for the vindex hash, where a negative integer is the unsigned one of the same 64 bits. Text that
// looks like one has no keyspace id, as in Vitess.
func (v Value) signedNumber() (uint64, error) {
	digits, negative := bytes.CutPrefix(v.Bytes, []byte{'-'})
	if v.Class != Signed || !negative {
		return v.number()
	}
	n, ok := parseDigits(digits)
	if !ok || n > -math.MinInt64 {
		return 0, ErrNotInteger
	}
	return -n, nil
}

// parseDigits reads decimal digits.
func parseDigits(digits []byte) (n uint64, ok bool) {
	for _, c := range digits {
		d := uint64(c - '0')
		if d > 9 || n > math.MaxUint64/10 || n*10 > math.MaxUint64-d {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(digits) > 0
}
