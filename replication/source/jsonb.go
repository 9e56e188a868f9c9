package source

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
)

// The type bytes of MySQL's binary JSON.
const (
	jsonSmallObject = iota
	jsonLargeObject
	jsonSmallArray
	jsonLargeArray
	jsonLiteral
	jsonInt16
	jsonUint16
	jsonInt32
	jsonUint32
	jsonInt64
	jsonUint64
	jsonDouble
	jsonString
	jsonOpaque = 0x0f
)

// jsonDepth is how deep the server lets documents nest.
const jsonDepth = 100

// appendJSONB appends the canonical form of a document in MySQL's binary format: the text that the server
// prints for it; or, when the document holds a DECIMAL, a date or time, or binary data, which text would
// turn into something else, a NUL byte and an SQL expression that builds the document.
func appendJSONB(dst, doc []byte) ([]byte, error) {
	if len(doc) == 0 {
		return append(dst, "null"...), nil // what the server takes a missing document for
	}
	p := jsonbPrinter{budget: len(doc) + 1}
	start := len(dst)
	dst, err := p.text(dst, doc[0], doc[1:], 0)
	if err == nil && p.lossy {
		p = jsonbPrinter{budget: 3 * (len(doc) + 1) * jsonDepth}
		dst = append(dst[:start], 0)
		dst, err = p.expression(dst, doc[0], doc[1:], 0)
	}
	if err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// A jsonbPrinter walks over one document.
type jsonbPrinter struct {
	// budget is how many values may still be visited: a document has no more of them than bytes, unless it
	// is made to mislead.
	budget int
	// lossy is set by text when it has met a value that text can't carry.
	lossy bool
}

var errJSON = fmt.Errorf("%w: binary JSON", ErrMalformedEvent)

// text appends the value of type tp at the start of data.
func (p *jsonbPrinter) text(dst []byte, tp byte, data []byte, depth int) ([]byte, error) {
	if p.budget--; p.budget < 0 || depth > jsonDepth {
		return dst, errJSON
	}
	c := cursor{b: data}
	switch tp {
	case jsonSmallObject, jsonLargeObject, jsonSmallArray, jsonLargeArray:
		return p.container(dst, tp, data, depth)
	case jsonLiteral:
		switch c.byte() {
		case 0:
			dst = append(dst, "null"...)
		case 1:
			dst = append(dst, "true"...)
		case 2:
			dst = append(dst, "false"...)
		default:
			return dst, errJSON
		}
	case jsonInt16:
		dst = strconv.AppendInt(dst, int64(int16(c.uint(2))), 10)
	case jsonInt32:
		dst = strconv.AppendInt(dst, int64(int32(c.uint(4))), 10)
	case jsonInt64:
		dst = strconv.AppendInt(dst, int64(c.uint(8)), 10)
	case jsonUint16:
		dst = strconv.AppendUint(dst, c.uint(2), 10)
	case jsonUint32:
		dst = strconv.AppendUint(dst, c.uint(4), 10)
	case jsonUint64:
		dst = strconv.AppendUint(dst, c.uint(8), 10)
	case jsonDouble:
		dst = appendJSONDouble(dst, math.Float64frombits(c.uint(8)))
	case jsonString:
		dst = appendJSONString(dst, c.take(c.jsonLength()))
	case jsonOpaque:
		p.lossy = true
		return dst, nil
	default:
		return dst, errJSON
	}
	if c.bad {
		return dst, errJSON
	}
	return dst, nil
}

// jsonLength reads a length in groups of seven bits.
func (c *cursor) jsonLength() int {
	n := uint64(0)
	for shift := 0; shift < 35; shift += 7 {
		b := c.byte()
		n |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return int(min(n, math.MaxUint32))
		}
	}
	c.bad = true
	return 0
}

// A jsonMember is one value of an object or array; key is nil in an array.
type jsonMember struct {
	key  []byte
	tp   byte
	data []byte
}

// members lists what an object or array holds.
func members(tp byte, data []byte) ([]jsonMember, error) {
	width := 2
	if tp == jsonLargeObject || tp == jsonLargeArray {
		width = 4
	}
	object := tp == jsonSmallObject || tp == jsonLargeObject
	c := cursor{b: data}
	count, size := c.uint(width), c.uint(width)
	entry := uint64(1 + width)
	if object {
		entry += uint64(width) + 2
	}
	if c.bad || size > uint64(len(data)) || count*entry > size {
		return nil, errJSON
	}
	data = data[:size]
	list := make([]jsonMember, count)
	for i := range list {
		if !object {
			break
		}
		offset, n := c.uint(width), c.uint(2)
		if offset+n > size {
			return nil, errJSON
		}
		list[i].key = data[offset : offset+n : offset+n]
	}
	for i := range list {
		m := &list[i]
		m.tp = c.byte()
		value := c.take(width)
		if c.bad {
			return nil, errJSON
		}
		switch m.tp {
		case jsonLiteral, jsonInt16, jsonUint16:
			m.data = value
			continue
		case jsonInt32, jsonUint32:
			if width == 4 {
				m.data = value
				continue
			}
		}
		offset := (&cursor{b: value}).uint(width)
		if offset >= size {
			return nil, errJSON
		}
		m.data = data[offset:]
	}
	return list, nil
}

func (p *jsonbPrinter) container(dst []byte, tp byte, data []byte, depth int) ([]byte, error) {
	list, err := members(tp, data)
	if err != nil {
		return dst, err
	}
	open, end := byte('['), byte(']')
	if tp == jsonSmallObject || tp == jsonLargeObject {
		open, end = '{', '}'
	}
	dst = append(dst, open)
	for i, m := range list {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if open == '{' {
			dst = append(appendJSONString(dst, m.key), ": "...)
		}
		if dst, err = p.text(dst, m.tp, m.data, depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, end), nil
}

// expression appends an SQL expression for a value.
func (p *jsonbPrinter) expression(dst []byte, tp byte, data []byte, depth int) ([]byte, error) {
	start := len(dst)
	if tp == jsonOpaque {
		return appendOpaque(dst, data, depth)
	}
	was := p.lossy
	p.lossy = false
	text, err := p.text(nil, tp, data, depth)
	lossy := p.lossy
	p.lossy = was || lossy
	if err != nil {
		return dst[:start], err
	}
	if !lossy {
		return appendCastJSON(dst, text), nil
	}
	list, err := members(tp, data)
	if err != nil {
		return dst, err
	}
	object := tp == jsonSmallObject || tp == jsonLargeObject
	dst = appendConstructor(dst, object)
	for i, m := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		if object {
			dst = append(appendUTF8(dst, m.key), ',')
		}
		if dst, err = p.expression(dst, m.tp, m.data, depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, ')'), nil
}

// appendOpaque appends the expression of a value that has an SQL type and no JSON one.
func appendOpaque(dst, data []byte, depth int) ([]byte, error) {
	c := cursor{b: data}
	tp := c.byte()
	v := cursor{b: c.take(c.jsonLength())}
	if c.bad {
		return dst, errJSON
	}
	var o opaque
	switch tp {
	case gomysql.MYSQL_TYPE_NEWDECIMAL:
		precision, scale := int(v.byte()), int(v.byte())
		o = opaque{kind: opaqueDecimal, text: appendDecimal(nil, &v, precision, scale)}
	case gomysql.MYSQL_TYPE_DATE, gomysql.MYSQL_TYPE_NEWDATE:
		text := appendYMDHMS(nil, v.uint(8)>>24)
		o = opaque{kind: opaqueDate, text: text[:max(0, bytes.IndexByte(text, ' '))]}
	case gomysql.MYSQL_TYPE_DATETIME, gomysql.MYSQL_TYPE_TIMESTAMP:
		packed := v.uint(8)
		o = opaque{kind: opaqueDatetime, text: appendFraction(appendYMDHMS(nil, packed>>24), packed&(1<<24-1), 6)}
	case gomysql.MYSQL_TYPE_TIME:
		packed, sign := int64(v.uint(8)), ""
		if packed < 0 {
			packed, sign = -packed, "-"
		}
		hms := uint64(packed) >> 24
		text := appendClock([]byte(sign), hms>>12&0x3ff, hms>>6&63, hms&63)
		o = opaque{kind: opaqueTime, text: appendFraction(text, uint64(packed)&(1<<24-1), 6)}
	default:
		o = opaque{kind: opaqueBinary, text: v.take(len(v.b))}
	}
	if v.bad {
		return dst, errJSON
	}
	return o.append(dst, depth), nil
}

// appendJSONString appends a string as the server prints it.
func appendJSONString(dst, s []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i, b := range s {
		if b >= 0x20 && b != '"' && b != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = hex.AppendEncode(dst, []byte{b})
		}
	}
	return append(append(dst, s[start:]...), '"')
}

// appendJSONDouble appends a double as the server prints it in a document: the shortest digits that give it
// back, with a point or an exponent so that it reads as a double again; with an exponent if the
// point would be more than 15 digits after the first one and no digit after it, or more than 14 before.
func appendJSONDouble(dst []byte, f float64) []byte {
	var buf [32]byte
	e := strconv.AppendFloat(buf[:0], f, 'e', -1, 64)
	mark := bytes.IndexByte(e, 'e')
	if mark < 0 {
		return append(dst, "null"...) // not a number, which the server does not store
	}
	exponent, err := strconv.Atoi(string(e[mark+1:]))
	if err != nil {
		return append(dst, "null"...)
	}
	digits := len(bytes.TrimPrefix(e[:mark], []byte("-")))
	if digits > 1 {
		digits-- // the point
	}
	switch point := exponent + 1; {
	case f == 0 && math.Signbit(f):
		return append(dst, "-0.0"...)
	case f == 0:
		return append(dst, "0.0"...)
	case point < -14, point > 15 && digits <= point, point > 16:
		dst = append(append(dst, e[:mark]...), 'e')
		return strconv.AppendInt(dst, int64(exponent), 10)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, ".0"...)
	}
	return dst
}
