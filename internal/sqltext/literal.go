package sqltext

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/tablehaul/tablehaul/replication"
)

// ErrValue means that a value is not in the canonical form of its column's kind.
var ErrValue = errors.New("value is not in its canonical form")

// AppendLiteral appends a literal that stores v into col; nil is NULL. Text is written as the
// bytes that it has in the column's character set. Values that would not be literals of their kind are an ErrValue.
func AppendLiteral(dst []byte, col *replication.Column, v []byte) ([]byte, error) {
	if v == nil {
		return append(dst, "NULL"...), nil
	}
	switch col.Kind {
	case replication.KindJSON:
		if len(v) > 0 && v[0] == 0 {
			return append(append(append(dst, '('), v[1:]...), ')'), nil
		}
		return AppendString(append(dst, "_utf8mb4"...), v), nil
	case replication.KindText, replication.KindBinary, replication.KindBlob, replication.KindGeometry,
		replication.KindVector, replication.KindUnknown:
		return AppendBinary(dst, v), nil
	}
	return appendScalar(dst, col, v)
}

// AppendKeyLiteral appends a literal to compare col with: by the column's own collation, and such that an
// index on the column can be used. nil is NULL, which equals nothing.
func AppendKeyLiteral(dst []byte, col *replication.Column, v []byte) ([]byte, error) {
	if v == nil {
		return append(dst, "NULL"...), nil
	}
	switch col.Kind {
	case replication.KindText:
		charset := col.Charset
		if !isCharset(charset) {
			return nil, fmt.Errorf("column %s: character set %q: %w", col.Name, charset, ErrValue)
		}
		if charset == "utf8" || charset == "utf8mb3" {
			charset = "utf8mb4" // a superset, whose name the server does not warn of; the column's collation decides all the same
		}
		return AppendHex(append(append(append(dst, '_'), charset...), ' '), v), nil
	case replication.KindSet:
		// Servers compare a SET as a signed number, so with member 64 it is negative.
		if n, err := strconv.ParseUint(string(v), 10, 64); err == nil && isDigits(v) {
			return strconv.AppendInt(dst, int64(n), 10), nil
		}
	case replication.KindJSON:
		dst, err := AppendLiteral(append(dst, "CAST("...), col, v)
		return append(dst, " AS JSON)"...), err
	case replication.KindBinary, replication.KindBlob, replication.KindGeometry, replication.KindVector, replication.KindUnknown:
		return AppendBinary(dst, v), nil
	}
	return appendScalar(dst, col, v)
}

// appendScalar writes the kinds whose literals are the same in both uses.
func appendScalar(dst []byte, col *replication.Column, v []byte) ([]byte, error) {
	ok := false
	switch col.Kind {
	case replication.KindInt:
		ok = isInteger(v)
	case replication.KindUint, replication.KindYear, replication.KindEnum, replication.KindSet:
		ok = isDigits(v)
	case replication.KindDecimal:
		ok = isDecimal(v)
	case replication.KindFloat, replication.KindDouble:
		ok = isFloat(v)
	case replication.KindDate, replication.KindTime, replication.KindDatetime, replication.KindTimestamp:
		if isTemporal(v) {
			return AppendString(dst, v), nil
		}
	case replication.KindBit:
		if len(v) > 0 && len(v) <= 8 {
			var b [8]byte
			copy(b[8-len(v):], v)
			return strconv.AppendUint(dst, binary.BigEndian.Uint64(b[:]), 10), nil
		}
	}
	if !ok {
		return nil, fmt.Errorf("column %s (%s): %.40q: %w", col.Name, col.Type, v, ErrValue)
	}
	return append(dst, v...), nil
}

func isDigits(v []byte) bool {
	for _, b := range v {
		if b < '0' || b > '9' {
			return false
		}
	}
	return len(v) > 0
}

func isInteger(v []byte) bool {
	if len(v) > 0 && v[0] == '-' {
		v = v[1:]
	}
	return isDigits(v)
}

// isDecimal wants -?digits(.digits)?.
func isDecimal(v []byte) bool {
	if len(v) > 0 && v[0] == '-' {
		v = v[1:]
	}
	for i, b := range v {
		if b == '.' {
			return isDigits(v[:i]) && isDigits(v[i+1:])
		}
	}
	return isDigits(v)
}

// isFloat wants a decimal with an exponent.
func isFloat(v []byte) bool {
	for i, b := range v {
		if b != 'e' && b != 'E' {
			continue
		}
		exponent := v[i+1:]
		if len(exponent) > 0 && (exponent[0] == '+' || exponent[0] == '-') {
			exponent = exponent[1:]
		}
		return isDecimal(v[:i]) && isDigits(exponent)
	}
	return isDecimal(v)
}

func isTemporal(v []byte) bool {
	for _, b := range v {
		switch {
		case b >= '0' && b <= '9', b == ':', b == '.', b == ' ', b == '-':
		default:
			return false
		}
	}
	return len(v) > 0
}

func isCharset(name string) bool {
	for i := range len(name) {
		b := name[i]
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '_' {
			return false
		}
	}
	return name != ""
}
