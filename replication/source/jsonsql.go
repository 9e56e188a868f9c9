package source

import (
	"bytes"
	"encoding/hex"
	"strconv"
)

// opaqueKind says which SQL type an opaque value has.
type opaqueKind uint8

const (
	opaqueBinary opaqueKind = iota
	opaqueDecimal
	opaqueDate
	opaqueDatetime
	opaqueTime
)

// opaque is a scalar in a document that JSON text can't carry.
type opaque struct {
	kind opaqueKind
	// text is what the server prints; for binary data the bytes themselves.
	text []byte
}

// append appends an expression of the value. At the top of a document it must be JSON by itself.
func (o opaque) append(dst []byte, depth int) []byte {
	if depth == 0 {
		return append(o.append(append(dst, "json_extract(json_array("...), 1), "),'$[0]')"...)
	}
	cast := func(as string) []byte {
		dst = append(append(append(dst, "cast('"...), o.text...), "' as "...)
		return append(append(dst, as...), ')')
	}
	switch o.kind {
	case opaqueDecimal:
		precision, scale := decimalShape(o.text)
		dst = append(append(append(dst, "cast("...), o.text...), " as decimal("...)
		dst = append(strconv.AppendInt(dst, int64(precision), 10), ',')
		return append(strconv.AppendInt(dst, int64(scale), 10), "))"...)
	case opaqueDate:
		return cast("date")
	case opaqueDatetime:
		return cast("datetime(6)")
	case opaqueTime:
		return cast("time(6)")
	default:
		return append(hex.AppendEncode(append(dst, "x'"...), o.text), '\'')
	}
}

// decimalShape is the least precision and scale that hold a decimal number.
func decimalShape(text []byte) (precision, scale int) {
	text = bytes.TrimPrefix(text, []byte("-"))
	whole, frac, _ := bytes.Cut(text, []byte("."))
	whole = bytes.TrimLeft(whole, "0")
	return max(1, len(whole)+len(frac)), len(frac)
}

func appendConstructor(dst []byte, object bool) []byte {
	if object {
		return append(dst, "json_object("...)
	}
	return append(dst, "json_array("...)
}

// appendUTF8 appends a literal for text in UTF-8.
func appendUTF8(dst, s []byte) []byte {
	return append(hex.AppendEncode(append(dst, "_utf8mb4 x'"...), s), '\'')
}

func appendCastJSON(dst, text []byte) []byte {
	return append(appendUTF8(append(dst, "cast("...), text), " as json)"...)
}
