package vdiff

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tablehaul/tablehaul/replication"
)

// unhashable stands in a sum for a row whose hash is NULL, because the row as one string is longer than the
// server allows. It is so far below zero that any such row makes the sum negative.
const unhashable = "-100000000000000000000000000000000000"

// A form says how a column's value is written into the string that a row's hash is taken of. The string
// can be read back from left to right in one way only: NULL is "N", and no form begins with that letter.
type form uint8

const (
	// formText is the value as text that can hold no comma, and a comma.
	formText form = iota
	// formDouble is "=" and the 8 bytes of the IEEE number, little-endian.
	formDouble
	// formBytes is the number of bytes, a colon, and the bytes.
	formBytes
)

func formOf(k replication.Kind) form {
	switch k {
	case replication.KindInt, replication.KindUint, replication.KindDecimal, replication.KindYear,
		replication.KindDate, replication.KindTime, replication.KindDatetime, replication.KindTimestamp,
		replication.KindEnum, replication.KindSet:
		return formText
	case replication.KindFloat, replication.KindDouble:
		return formDouble
	}
	return formBytes
}

// valueExpr is the SQL expression of a column's value as bytes that mean the same on every server and
// in every session (time zone UTC). col is the quoted name.
func valueExpr(c *replication.Column, col string) string {
	switch c.Kind {
	case replication.KindInt, replication.KindUint:
		if strings.Contains(strings.ToLower(c.Type), "zerofill") {
			return col + "+0"
		}
		return col
	case replication.KindDecimal, replication.KindYear, replication.KindDate, replication.KindTime,
		replication.KindDatetime, replication.KindTimestamp:
		return col
	case replication.KindFloat, replication.KindDouble:
		// The text of a number depends on the server (1.0000000116860974e-7 is 0.00000010000000116860974 on
		// MariaDB) and is slow to make; the coordinate of a point is the number itself.
		return "SUBSTR(CAST(POINT(" + col + ",0) AS BINARY),10,8)"
	case replication.KindEnum, replication.KindSet:
		return "CAST(" + col + " AS UNSIGNED)"
	case replication.KindJSON:
		return "CAST(CONVERT(" + col + " USING utf8mb4) AS BINARY)"
	}
	return "CAST(" + col + " AS BINARY)"
}

// frameExpr is a column's part of the hashed string.
func frameExpr(c *replication.Column, col string) string {
	e := valueExpr(c, col)
	var framed string
	switch formOf(c.Kind) {
	case formText:
		framed = e + ",','"
	case formDouble:
		framed = "'='," + e
	default:
		length := "LENGTH(" + col + ")"
		if c.Kind == replication.KindJSON {
			length = "LENGTH(" + e + ")"
		}
		framed = length + ",':'," + e
	}
	// A NOT NULL column of the source may be nullable on the target, so every column is asked.
	return "IFNULL(CONCAT(" + framed + "),'N')"
}

// hashExpr is 64 bits of the SHA-256 of a row as an unsigned integer; NULL if the row is too long. columns are the SQL of the columns.
//
// CRC32 would be cheaper by a third, but it is linear: when two rows exchange a value, the XOR of the four checksums
// is 0, and their sums agree once in about 10,000 times.
func hashExpr(t *replication.Table, columns []string) string {
	parts := make([]string, len(t.Columns))
	for i := range t.Columns {
		parts[i] = frameExpr(&t.Columns[i], columns[i])
	}
	return "CAST(CONV(LEFT(SHA2(CONCAT(" + strings.Join(parts, ",") + "),256),16),16,10) AS UNSIGNED)"
}

// appendFrame appends a row's hashed string as frameExpr makes it on the server.
func appendFrame(dst []byte, t *replication.Table, values [][]byte) ([]byte, error) {
	for i, v := range values {
		if v == nil {
			dst = append(dst, 'N')
			continue
		}
		switch formOf(t.Columns[i].Kind) {
		case formText:
			dst = append(append(dst, v...), ',')
		case formDouble:
			f, err := strconv.ParseFloat(string(v), 64)
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", t.Columns[i].Name, err)
			}
			dst = binary.LittleEndian.AppendUint64(append(dst, '='), math.Float64bits(f))
		default:
			dst = append(append(strconv.AppendInt(dst, int64(len(v)), 10), ':'), v...)
		}
	}
	return dst, nil
}

// canonical turns the bytes of valueExpr into the form that a replication.Row has. The result may alias v.
func canonical(c *replication.Column, v []byte) ([]byte, error) {
	if v == nil || formOf(c.Kind) != formDouble {
		return v, nil
	}
	if len(v) != 8 {
		return nil, fmt.Errorf("column %s: a number of %d bytes", c.Name, len(v))
	}
	f := math.Float64frombits(binary.LittleEndian.Uint64(v))
	return strconv.AppendFloat(nil, f, 'e', -1, 64), nil
}

// differing are the positions of the columns in which two rows differ.
func differing(t *replication.Table, a, b replication.Row) ([]int, error) {
	x, err := a.Values(nil, len(t.Columns))
	if err != nil {
		return nil, err
	}
	y, err := b.Values(nil, len(t.Columns))
	if err != nil {
		return nil, err
	}
	var out []int
	for i := range x {
		if (x[i] == nil) != (y[i] == nil) || !bytes.Equal(x[i], y[i]) {
			out = append(out, i)
		}
	}
	return slices.Clip(out), nil
}
