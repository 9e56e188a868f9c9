package replication

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformedRow means that bytes do not hold a packed row of the wanted number of columns.
var ErrMalformedRow = errors.New("malformed row")

// A Row is one row, packed the way the MySQL text protocol sends it: for every column a
// length-encoded string, or the byte 0xfb for NULL. One row is one byte slice, so that its memory is
// its length and a chunk is a plain buffer. A Row must not be changed after it was made.
//
// A value has one canonical form per column type, whatever path it came by (a SELECT or a binlog
// event), so equal values have equal bytes:
//
//   - integers, YEAR: decimal text; ENUM and SET: the decimal text of the index or bit mask
//   - DECIMAL: text with the full scale; FLOAT and DOUBLE: the shortest text that gives the same
//     float64 back (strconv 'e', -1), so 1.5 is "1.5e+00"
//   - DATE, TIME, DATETIME, TIMESTAMP (in UTC): text as MySQL prints it, all fractional digits of the type
//   - BIT: (n+7)/8 bytes, big-endian
//   - CHAR, VARCHAR, TEXT, BINARY, BLOB: the stored bytes in the column's own character set; BINARY(n)
//     padded to n bytes
//   - JSON: JSON text; or, when the document holds values that JSON text can't carry, a NUL byte and
//     an SQL expression that builds the document
//   - GEOMETRY: SRID and WKB; VECTOR: its bytes; anything else: the stored bytes
type Row []byte

// A Key is the packed values of a table's key columns, in the order of the key (see Table.Key).
type Key = Row

const null = 0xfb

// AppendValue appends one column value to a packed row. A nil value is NULL; an empty one is not.
func AppendValue(dst Row, v []byte) Row {
	if v == nil {
		return append(dst, null)
	}
	return append(AppendLength(dst, len(v)), v...)
}

// AppendLength appends the length prefix of a value of n bytes, for callers that append the bytes themselves.
func AppendLength(dst Row, n int) Row {
	switch {
	case n < 251:
		return append(dst, byte(n))
	case n < 1<<16:
		return append(dst, 0xfc, byte(n), byte(n>>8))
	case n < 1<<24:
		return append(dst, 0xfd, byte(n), byte(n>>8), byte(n>>16))
	default:
		return binary.LittleEndian.AppendUint64(append(dst, 0xfe), uint64(n))
	}
}

// PackRow packs values, nil being NULL.
func PackRow(values ...[]byte) Row {
	var r Row
	for _, v := range values {
		r = AppendValue(r, v)
	}
	return r
}

// Next splits the first value off the row. The value aliases the row and is nil for NULL.
func (r Row) Next() (value []byte, rest Row, err error) {
	if len(r) == 0 {
		return nil, nil, fmt.Errorf("%w: too few columns", ErrMalformedRow)
	}
	n, head := uint64(r[0]), 1
	switch r[0] {
	case null:
		return nil, r[1:], nil
	case 0xfc:
		head = 3
	case 0xfd:
		head = 4
	case 0xfe:
		head = 9
	case 0xff:
		return nil, nil, fmt.Errorf("%w: length byte 0xff", ErrMalformedRow)
	}
	if len(r) < head {
		return nil, nil, fmt.Errorf("%w: cut in a length", ErrMalformedRow)
	}
	if head > 1 {
		var b [8]byte
		copy(b[:], r[1:head])
		n = binary.LittleEndian.Uint64(b[:])
	}
	if n > uint64(len(r)-head) {
		return nil, nil, fmt.Errorf("%w: a value of %d bytes in %d", ErrMalformedRow, n, len(r)-head)
	}
	end := head + int(n)
	return r[head:end:end], r[end:], nil
}

// Values appends the row's values to dst[:0] and returns it; want is the number of columns. The values
// alias the row; NULL is nil.
func (r Row) Values(dst [][]byte, want int) ([][]byte, error) {
	dst = dst[:0]
	for range want {
		v, rest, err := r.Next()
		if err != nil {
			return nil, err
		}
		dst, r = append(dst, v), rest
	}
	if len(r) > 0 {
		return nil, fmt.Errorf("%w: more than %d columns", ErrMalformedRow, want)
	}
	return dst, nil
}
