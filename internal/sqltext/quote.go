package sqltext

import "encoding/hex"

// Ident quotes a name with backticks. Any text may be a name; one that the server does not allow (empty, with a
// NUL byte, or too long) makes a statement that the server refuses.
func Ident(name string) string { return string(AppendIdent(nil, name)) }

// AppendIdent appends Ident(name).
func AppendIdent(dst []byte, name string) []byte {
	dst = append(dst, '`')
	for i := range len(name) {
		if name[i] == '`' {
			dst = append(dst, '`')
		}
		dst = append(dst, name[i])
	}
	return append(dst, '`')
}

// QualifiedIdent is `schema`.`name`, or `name` alone if schema is empty.
func QualifiedIdent(schema, name string) string {
	if schema == "" {
		return Ident(name)
	}
	return string(AppendIdent(append(AppendIdent(nil, schema), '.'), name))
}

// String is a quoted literal of s in the connection's character set.
func String(s string) string { return string(AppendString(nil, []byte(s))) }

// escapes holds for each byte the letter that follows the backslash in its escape, or 0.
var escapes = [256]byte{0: '0', '\'': '\'', '\\': '\\', '\n': 'n', '\r': 'r', 0x1a: 'Z'}

// AppendString appends a quoted literal that holds the bytes v.
func AppendString(dst, v []byte) []byte {
	dst = append(dst, '\'')
	start := 0
	for i, b := range v {
		if e := escapes[b]; e != 0 {
			dst = append(append(dst, v[start:i]...), '\\', e)
			start = i + 1
		}
	}
	return append(append(dst, v[start:]...), '\'')
}

// AppendBinary appends _binary'...': the bytes v, as a binary string.
func AppendBinary(dst, v []byte) []byte { return AppendString(append(dst, "_binary"...), v) }

// AppendHex appends x'...': the bytes v in hexadecimal.
func AppendHex(dst, v []byte) []byte {
	return append(hex.AppendEncode(append(dst, "x'"...), v), '\'')
}
