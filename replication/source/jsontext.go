package source

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// errJSONText means that the server's text of a document is not understood; a bug here or a new server.
var errJSONText = errors.New("unexpected JSON text")

// jsonTypesExpr is a query for two columns beside a JSON column: the places and types of the values that
// text can't carry, among the elements of arrays and among the members of objects. Both are NULL for nearly all
// documents. Places count in the order of the server's path evaluation: for every array (object) in
// document order, its elements (members). %s is the column.
const jsonTypesExpr = `(select json_arrayagg(json_array(o, json_type(v))) from json_table(json_array(%s), _utf8mb4'$**[*]' columns (o for ordinality, v json path _utf8mb4'$')) t where ` + jsonOpaqueTypes + `), ` +
	`(select json_arrayagg(json_array(o, json_type(v))) from json_table(%s, _utf8mb4'$**.*' columns (o for ordinality, v json path _utf8mb4'$')) t where ` + jsonOpaqueTypes + `)`

const jsonOpaqueTypes = `json_type(v) not in ('OBJECT','ARRAY','STRING','INTEGER','UNSIGNED INTEGER','DOUBLE','BOOLEAN','NULL')`

// canonicalJSON returns the canonical form of a document of which a SELECT gave text and, from
// jsonTypesExpr, elements and members.
func canonicalJSON(text, elements, members []byte) ([]byte, error) {
	if elements == nil && members == nil {
		return text, nil
	}
	p := jsonParser{b: text}
	root := p.value(0)
	if p.bad || len(p.b) > 0 {
		return nil, fmt.Errorf("%w: %.100q", errJSONText, text)
	}
	// The queried document has an array around it.
	wrapper := &jsonNode{kind: '[', children: []*jsonNode{root}}
	if err := wrapper.mark('[', elements); err != nil {
		return nil, err
	}
	if err := root.mark('{', members); err != nil {
		return nil, err
	}
	root.settle()
	return root.expression([]byte{0}, 0)
}

// A jsonNode is a value of a parsed document.
type jsonNode struct {
	// kind is '{', '[', '"' or 0 for other scalars.
	kind     byte
	text     []byte
	keys     [][]byte
	children []*jsonNode
	// sql is the JSON_TYPE of a value that text can't carry.
	sql   string
	lossy bool
}

// mark notes the types of the children of containers of one kind, given as [[place, type], ...].
func (n *jsonNode) mark(kind byte, types []byte) error {
	if types == nil {
		return nil
	}
	var list [][2]any
	if err := json.Unmarshal(types, &list); err != nil {
		return fmt.Errorf("%w: types %.100q: %w", errJSONText, types, err)
	}
	var all []*jsonNode
	n.collect(kind, &all)
	for _, e := range list {
		place, ok1 := e[0].(float64)
		tp, ok2 := e[1].(string)
		if !ok1 || !ok2 || place < 1 || int(place) > len(all) {
			return fmt.Errorf("%w: types %.100q", errJSONText, types)
		}
		all[int(place)-1].sql = tp
	}
	return nil
}

func (n *jsonNode) collect(kind byte, all *[]*jsonNode) {
	if n.kind == kind {
		*all = append(*all, n.children...)
	}
	for _, c := range n.children {
		c.collect(kind, all)
	}
}

// settle finds which containers hold a value that text can't carry.
func (n *jsonNode) settle() bool {
	n.lossy = n.sql != ""
	for _, c := range n.children {
		if c.settle() {
			n.lossy = true
		}
	}
	return n.lossy
}

func (n *jsonNode) expression(dst []byte, depth int) ([]byte, error) {
	switch {
	case !n.lossy:
		return appendCastJSON(dst, n.text), nil
	case n.sql != "":
		o, err := n.opaque()
		if err != nil {
			return dst, err
		}
		return o.append(dst, depth), nil
	}
	dst = appendConstructor(dst, n.kind == '{')
	for i, c := range n.children {
		if i > 0 {
			dst = append(dst, ',')
		}
		if n.kind == '{' {
			dst = append(appendUTF8(dst, n.keys[i]), ',')
		}
		var err error
		if dst, err = c.expression(dst, depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, ')'), nil
}

func (n *jsonNode) opaque() (opaque, error) {
	if n.sql == "DECIMAL" {
		return opaque{kind: opaqueDecimal, text: normalDecimal(n.text)}, nil
	}
	s, err := unquoteJSON(n.text)
	if err != nil {
		return opaque{}, err
	}
	switch n.sql {
	case "DATE":
		return opaque{kind: opaqueDate, text: s}, nil
	case "DATETIME":
		return opaque{kind: opaqueDatetime, text: s}, nil
	case "TIME":
		return opaque{kind: opaqueTime, text: s}, nil
	}
	// base64:type252:QUJD
	parts := bytes.SplitN(s, []byte(":"), 3)
	if len(parts) != 3 || string(parts[0]) != "base64" {
		return opaque{}, fmt.Errorf("%w: a %s: %.100q", errJSONText, n.sql, s)
	}
	coded := bytes.ReplaceAll(parts[2], []byte("\n"), nil)
	data := make([]byte, base64.StdEncoding.DecodedLen(len(coded)))
	size, err := base64.StdEncoding.Decode(data, coded)
	if err != nil {
		return opaque{}, fmt.Errorf("%w: a %s: %w", errJSONText, n.sql, err)
	}
	return opaque{kind: opaqueBinary, text: data[:size]}, nil
}

// normalDecimal writes a decimal as appendDecimal does.
func normalDecimal(text []byte) []byte {
	digits, negative := bytes.CutPrefix(text, []byte("-"))
	whole, frac, _ := bytes.Cut(digits, []byte("."))
	return appendDigits(nil, negative, whole, frac)
}

// unquoteJSON is the content of a JSON string as the server prints it.
func unquoteJSON(text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '"' {
		return nil, fmt.Errorf("%w: %.100q is not a string", errJSONText, text)
	}
	text = text[1 : len(text)-1]
	if bytes.IndexByte(text, '\\') < 0 {
		return text, nil
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 >= len(text) {
			out = append(out, text[i])
			continue
		}
		i++
		switch text[i] {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			var code rune
			if i+4 >= len(text) {
				return nil, fmt.Errorf("%w: %.100q", errJSONText, text)
			}
			if _, err := fmt.Sscanf(string(text[i+1:i+5]), "%04x", &code); err != nil {
				return nil, fmt.Errorf("%w: %.100q", errJSONText, text)
			}
			out = append(out, string(code)...)
			i += 4
		default:
			out = append(out, text[i])
		}
	}
	return out, nil
}

// A jsonParser reads the text that the server prints for a document.
type jsonParser struct {
	b   []byte
	bad bool
}

func (p *jsonParser) skip(c byte) bool {
	for len(p.b) > 0 && p.b[0] == ' ' {
		p.b = p.b[1:]
	}
	if len(p.b) == 0 || p.b[0] != c {
		return false
	}
	p.b = p.b[1:]
	return true
}

// value reads one value.
func (p *jsonParser) value(depth int) *jsonNode {
	p.skip(0)
	start := p.b
	n := &jsonNode{}
	switch {
	case p.bad || len(p.b) == 0 || depth > jsonDepth:
		p.bad = true
		return n
	case p.b[0] == '"':
		n.kind = '"'
		p.str()
	case p.b[0] == '{' || p.b[0] == '[':
		p.container(n, depth)
	default:
		end := slices.IndexFunc(p.b, func(c byte) bool { return c == ',' || c == ']' || c == '}' || c == ' ' })
		if end < 0 {
			end = len(p.b)
		}
		if end == 0 {
			p.bad = true
		}
		p.b = p.b[end:]
	}
	n.text = start[:len(start)-len(p.b)]
	return n
}

// str reads a string with its quotes.
func (p *jsonParser) str() []byte {
	if len(p.b) == 0 || p.b[0] != '"' {
		p.bad = true
		return nil
	}
	for i := 1; i < len(p.b); i++ {
		switch p.b[i] {
		case '\\':
			i++
		case '"':
			s := p.b[:i+1]
			p.b = p.b[i+1:]
			return s
		}
	}
	p.bad, p.b = true, nil
	return nil
}

func (p *jsonParser) container(n *jsonNode, depth int) {
	n.kind = p.b[0]
	p.b = p.b[1:]
	end := n.kind + 2 // ']' and '}' come two after '[' and '{'
	if p.skip(end) {
		return
	}
	for !p.bad {
		if n.kind == '{' {
			p.skip(0)
			key, err := unquoteJSON(p.str())
			if err != nil || !p.skip(':') {
				p.bad = true
				return
			}
			n.keys = append(n.keys, key)
		}
		n.children = append(n.children, p.value(depth+1))
		if p.skip(end) {
			return
		}
		if !p.skip(',') {
			p.bad = true
		}
	}
}
