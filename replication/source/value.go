package source

import (
	"fmt"
	"math"
	"strconv"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tablehaul/tablehaul/replication"
)

// A cursor walks over bytes of the wire. The first read beyond the end sets bad, and every read after
// that gives zeros: callers look at bad once per row.
type cursor struct {
	b   []byte
	bad bool
}

// take returns the next n bytes, or nil.
func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

// uint reads n bytes, little-endian.
func (c *cursor) uint(n int) uint64 {
	var v uint64
	for i, b := range c.take(n) {
		v |= uint64(b) << (8 * i)
	}
	return v
}

// bigEndian reads n bytes, big-endian.
func (c *cursor) bigEndian(n int) uint64 {
	var v uint64
	for _, b := range c.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// length reads a length-encoded integer.
func (c *cursor) length() uint64 {
	switch b := c.byte(); b {
	case 0xfc:
		return c.uint(2)
	case 0xfd:
		return c.uint(3)
	case 0xfe:
		return c.uint(8)
	case 0xfb, 0xff:
		c.bad = true
		return 0
	default:
		return uint64(b)
	}
}

// bytes reads a length-encoded string.
func (c *cursor) bytes() []byte {
	n := c.length()
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	return c.take(int(n))
}

// decodeValue reads one value of a row image from c and appends it to dst in canonical form.
func decodeValue(dst replication.Row, c *cursor, wt wireType, col *replication.Column) (replication.Row, error) {
	var buf [64]byte
	v := buf[:0]
	switch wt.tp {
	case gomysql.MYSQL_TYPE_TINY, gomysql.MYSQL_TYPE_SHORT, gomysql.MYSQL_TYPE_INT24, gomysql.MYSQL_TYPE_LONG,
		gomysql.MYSQL_TYPE_LONGLONG:
		u := c.uint(wt.size)
		if col.Unsigned {
			v = strconv.AppendUint(v, u, 10)
		} else {
			shift := 64 - 8*wt.size
			v = strconv.AppendInt(v, int64(u<<shift)>>shift, 10)
		}
	case gomysql.MYSQL_TYPE_NEWDECIMAL:
		v = appendDecimal(v, c, wt.precision, wt.scale)
	case gomysql.MYSQL_TYPE_FLOAT:
		v = appendDouble(v, float64(math.Float32frombits(uint32(c.uint(4)))))
	case gomysql.MYSQL_TYPE_DOUBLE:
		v = appendDouble(v, math.Float64frombits(c.uint(8)))
	case gomysql.MYSQL_TYPE_YEAR:
		y := uint64(c.byte())
		if y > 0 {
			y += 1900
		}
		v = appendPadded(v, y, 4)
	case gomysql.MYSQL_TYPE_DATE, gomysql.MYSQL_TYPE_NEWDATE:
		d := c.uint(3)
		v = appendDate(v, d>>9, d>>5&15, d&31)
	case gomysql.MYSQL_TYPE_TIME2:
		v = appendTime(v, c, wt.size)
	case gomysql.MYSQL_TYPE_DATETIME2:
		v = appendDatetime(v, c, wt.size)
	case gomysql.MYSQL_TYPE_TIMESTAMP2:
		v = appendTimestamp(v, c, wt.size)
	case gomysql.MYSQL_TYPE_BIT:
		v = c.take(wt.size)
	case gomysql.MYSQL_TYPE_ENUM, gomysql.MYSQL_TYPE_SET:
		v = strconv.AppendUint(v, c.uint(wt.size), 10)
	case gomysql.MYSQL_TYPE_STRING:
		b := c.take(int(c.uint(wt.size)))
		if col.Kind == replication.KindBinary && len(b) < col.Length {
			dst = append(replication.AppendLength(dst, col.Length), b...)
			return append(dst, make([]byte, col.Length-len(b))...), nil
		}
		v = b
	case gomysql.MYSQL_TYPE_VARCHAR, gomysql.MYSQL_TYPE_BLOB, gomysql.MYSQL_TYPE_GEOMETRY, gomysql.MYSQL_TYPE_VECTOR:
		v = c.take(int(c.uint(wt.size)))
	case gomysql.MYSQL_TYPE_JSON:
		doc := c.take(int(c.uint(wt.size)))
		if c.bad {
			break
		}
		var err error
		if v, err = appendJSONB(v, doc); err != nil {
			return dst, err
		}
	default:
		return dst, fmt.Errorf("%w: column type %d", ErrMalformedEvent, wt.tp)
	}
	if c.bad {
		return dst, fmt.Errorf("%w: row image is cut", ErrMalformedEvent)
	}
	return append(replication.AppendLength(dst, len(v)), v...), nil
}

// appendDouble writes the canonical form of FLOAT and DOUBLE.
func appendDouble(dst []byte, f float64) []byte {
	return strconv.AppendFloat(dst, f, 'e', -1, 64)
}

// appendPadded writes v with at least width digits.
func appendPadded(dst []byte, v uint64, width int) []byte {
	var b [20]byte
	s := strconv.AppendUint(b[:0], v, 10)
	for range width - len(s) {
		dst = append(dst, '0')
	}
	return append(dst, s...)
}

func appendDate(dst []byte, year, month, day uint64) []byte {
	dst = append(appendPadded(dst, year, 4), '-')
	dst = append(appendPadded(dst, month, 2), '-')
	return appendPadded(dst, day, 2)
}

func appendClock(dst []byte, hour, minute, second uint64) []byte {
	dst = append(appendPadded(dst, hour, 2), ':')
	dst = append(appendPadded(dst, minute, 2), ':')
	return appendPadded(dst, second, 2)
}

// appendFraction writes the first fsp digits of a number of microseconds.
func appendFraction(dst []byte, micros uint64, fsp int) []byte {
	if fsp == 0 {
		return dst
	}
	dst = append(dst, '.')
	return appendPadded(dst, micros, 6)[:len(dst)+fsp]
}

// fraction reads the fraction of a temporal value with fsp digits, as microseconds.
func fraction(c *cursor, fsp int) uint64 {
	n := (fsp + 1) / 2
	v := c.bigEndian(n)
	for range 3 - n {
		v *= 100
	}
	return v
}

// appendTime reads a TIME2: a big-endian number of 3 to 6 bytes, moved so that it is positive.
func appendTime(dst []byte, c *cursor, fsp int) []byte {
	n := (fsp + 1) / 2
	v := int64(c.bigEndian(3+n)) - int64(1)<<(8*(3+n)-1)
	if v < 0 {
		dst, v = append(dst, '-'), -v
	}
	micros := uint64(v) & (1<<(8*n) - 1)
	for range 3 - n {
		micros *= 100
	}
	hms := uint64(v) >> (8 * n)
	return appendFraction(appendClock(dst, hms>>12&0x3ff, hms>>6&63, hms&63), micros, fsp)
}

// appendDatetime reads a DATETIME2.
func appendDatetime(dst []byte, c *cursor, fsp int) []byte {
	packed := c.bigEndian(5) - 1<<39
	micros := fraction(c, fsp)
	return appendFraction(appendYMDHMS(dst, packed), micros, fsp)
}

// appendYMDHMS writes the whole part of a packed date and time.
func appendYMDHMS(dst []byte, packed uint64) []byte {
	packed &= 1<<39 - 1
	ymd, hms := packed>>17, packed&(1<<17-1)
	month := ymd >> 5
	dst = append(appendDate(dst, month/13, month%13, ymd&31), ' ')
	return appendClock(dst, hms>>12, hms>>6&63, hms&63)
}

// appendTimestamp reads a TIMESTAMP2 and writes it in UTC.
func appendTimestamp(dst []byte, c *cursor, fsp int) []byte {
	seconds := c.bigEndian(4)
	micros := fraction(c, fsp)
	if seconds == 0 {
		return appendFraction(append(dst, "0000-00-00 00:00:00"...), 0, fsp)
	}
	dst = time.Unix(int64(seconds), 0).UTC().AppendFormat(dst, "2006-01-02 15:04:05")
	return appendFraction(dst, micros, fsp)
}

// decimalBytes says how many bytes hold a given number of left-over digits.
var decimalBytes = [10]int{0, 1, 1, 2, 2, 3, 3, 4, 4, 4}

// decimalSize is the size of a DECIMAL on the wire.
func decimalSize(precision, scale int) int {
	whole := precision - scale
	return whole/9*4 + decimalBytes[whole%9] + scale/9*4 + decimalBytes[scale%9]
}

// appendDecimal reads a DECIMAL: groups of nine digits, big-endian, in the order of comparison.
func appendDecimal(dst []byte, c *cursor, precision, scale int) []byte {
	if scale < 0 || precision < scale || precision > 65 || precision == 0 {
		c.bad = true
		return dst
	}
	raw := c.take(decimalSize(precision, scale))
	if raw == nil {
		return dst
	}
	var buf [40]byte
	b := buf[:copy(buf[:], raw)]
	negative := b[0]&0x80 == 0
	b[0] ^= 0x80
	if negative {
		for i := range b {
			b[i] = ^b[i]
		}
	}
	var digits [80]byte
	d := digits[:0]
	group := func(n int) {
		if n > 0 {
			g := cursor{b: b}
			d = appendPadded(d, g.bigEndian(decimalBytes[n]), n)
			b = g.b
		}
	}
	whole := precision - scale
	group(whole % 9)
	for range whole / 9 {
		group(9)
	}
	for range scale / 9 {
		group(9)
	}
	group(scale % 9)
	if len(d) != precision {
		c.bad = true // a group with more digits than it may have
		return dst
	}
	return appendDigits(dst, negative, d[:whole], d[whole:])
}

// appendDigits writes a decimal number without leading zeros and without a minus before zero.
func appendDigits(dst []byte, negative bool, whole, frac []byte) []byte {
	for len(whole) > 0 && whole[0] == '0' {
		whole = whole[1:]
	}
	if negative && (len(whole) > 0 || !zeros(frac)) {
		dst = append(dst, '-')
	}
	if len(whole) == 0 {
		dst = append(dst, '0')
	}
	dst = append(dst, whole...)
	if len(frac) > 0 {
		dst = append(append(dst, '.'), frac...)
	}
	return dst
}

func zeros(digits []byte) bool {
	for _, c := range digits {
		if c != '0' {
			return false
		}
	}
	return true
}
