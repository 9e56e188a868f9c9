package topo

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The JSON form of a message is protobuf's: names in snake case (camel case is read too), 64 bit integers as
// strings, enums by name, bytes in base64, default values left out.

func marshalJSON(m message) []byte {
	b := []byte{'{'}
	for _, f := range m.fields() {
		value, ok := f.toJSON(nil)
		if !ok {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = appendJSON(b, f.name())
		b = append(b, ':')
		b = append(b, value...)
	}
	return append(b, '}')
}

// appendJSON appends a string, number or bool.
func appendJSON(b []byte, v any) []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		// Only NaN and infinities can't be encoded; protobuf spells them as strings.
		return strconv.AppendQuote(b, fmt.Sprint(v))
	}
	return append(b, bytes.TrimRight(buf.Bytes(), "\n")...)
}

// unmarshalJSON fills m from one JSON document.
func unmarshalJSON(b []byte, m message) error {
	d := json.NewDecoder(bytes.NewReader(b))
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		if err == io.EOF {
			return &JSONError{Reason: "it is empty"}
		}
		return &JSONError{Reason: err.Error()}
	}
	if _, err := d.Token(); err != io.EOF {
		return &JSONError{Reason: "something follows the document"}
	}
	return messageFromJSON(raw, "", m)
}

func messageFromJSON(raw []byte, path string, m message) error {
	members, err := objectFromJSON(raw, path)
	if err != nil {
		return err
	}
	byName := make(map[string]field)
	for _, f := range m.fields() {
		byName[f.name()] = f
		byName[camel(f.name())] = f
	}
	seen := make(map[string]bool)
	for _, e := range members {
		at := join(path, e.name)
		f, ok := byName[e.name]
		if !ok {
			return &JSONError{Path: at, Reason: "there is no such field"}
		}
		if seen[f.name()] {
			return &JSONError{Path: at, Reason: "it is given twice"}
		}
		seen[f.name()] = true
		if string(e.raw) == "null" {
			continue
		}
		if err := f.fromJSON(e.raw, at); err != nil {
			return err
		}
	}
	return nil
}

type member struct {
	name string
	raw  json.RawMessage
}

// objectFromJSON returns an object's members in their order; raw is well-formed JSON.
func objectFromJSON(raw []byte, path string) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, &JSONError{Path: path, Reason: "it is not an object"}
	}
	var out []member
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, &JSONError{Path: path, Reason: err.Error()}
		}
		e := member{name: fmt.Sprint(t)}
		if err := d.Decode(&e.raw); err != nil {
			return nil, &JSONError{Path: join(path, e.name), Reason: err.Error()}
		}
		out = append(out, e)
	}
	return out, nil
}

func arrayFromJSON(raw []byte, path string) ([]json.RawMessage, error) {
	var out []json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, &JSONError{Path: path, Reason: "it is not an array"}
	}
	return out, nil
}

func stringFromJSON(raw []byte, path string) (string, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", &JSONError{Path: path, Reason: "it is not a string"}
	}
	return s, nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// camel turns column_vindexes into columnVindexes.
func camel(s string) string {
	parts := strings.Split(s, "_")
	for i, p := range parts[1:] {
		if p != "" {
			parts[i+1] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, "")
}

func (f stringField) fromJSON(raw []byte, path string) (err error) {
	*f.v, err = stringFromJSON(raw, path)
	return err
}

func (f stringField) toJSON(b []byte) ([]byte, bool) { return appendJSON(b, *f.v), *f.v != "" }

func (f bytesField) fromJSON(raw []byte, path string) error {
	s, err := stringFromJSON(raw, path)
	if err != nil {
		return err
	}
	if *f.v, err = base64.StdEncoding.DecodeString(s); err != nil {
		return &JSONError{Path: path, Reason: "it is not base64"}
	}
	return nil
}

func (f bytesField) toJSON(b []byte) ([]byte, bool) {
	return appendJSON(b, base64.StdEncoding.EncodeToString(*f.v)), len(*f.v) > 0
}

func boolFromJSON(raw []byte, path string) (bool, error) {
	var v bool
	if err := json.Unmarshal(raw, &v); err != nil {
		return false, &JSONError{Path: path, Reason: "it is neither true nor false"}
	}
	return v, nil
}

func (f boolField) fromJSON(raw []byte, path string) (err error) {
	*f.v, err = boolFromJSON(raw, path)
	return err
}

func (f boolField) toJSON(b []byte) ([]byte, bool) { return strconv.AppendBool(b, *f.v), *f.v }

func (f optionalBoolField) fromJSON(raw []byte, path string) error {
	v, err := boolFromJSON(raw, path)
	*f.v = &v
	return err
}

func (f optionalBoolField) toJSON(b []byte) ([]byte, bool) {
	if *f.v == nil {
		return b, false
	}
	return strconv.AppendBool(b, **f.v), true
}

func (f intField[T]) fromJSON(raw []byte, path string) error {
	text := string(raw)
	if raw[0] == '"' {
		var err error
		if text, err = stringFromJSON(raw, path); err != nil {
			return err
		}
		for v, name := range f.names {
			if name == text {
				*f.v = v
				return nil
			}
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || int64(T(n)) != n {
		if len(f.names) > 0 {
			known := slices.Sorted(maps.Values(f.names))
			return &JSONError{Path: path, Reason: fmt.Sprintf("%s is none of %s", raw, strings.Join(known, ", "))}
		}
		return &JSONError{Path: path, Reason: fmt.Sprintf("%s is not an integer of the right size", raw)}
	}
	*f.v = T(n)
	return nil
}

func (f intField[T]) toJSON(b []byte) ([]byte, bool) {
	v := *f.v
	if name, ok := f.names[v]; ok {
		return appendJSON(b, name), v != 0
	}
	if _, ok := any(v).(int64); ok {
		return appendJSON(b, strconv.FormatInt(int64(v), 10)), v != 0
	}
	return strconv.AppendInt(b, int64(v), 10), v != 0
}

func (f floatField) fromJSON(raw []byte, path string) error {
	n, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 32)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return &JSONError{Path: path, Reason: fmt.Sprintf("%s is not a number", raw)}
	}
	*f.v = float32(n)
	return nil
}

func (f floatField) toJSON(b []byte) ([]byte, bool) { return appendJSON(b, *f.v), *f.v != 0 }

func (f stringsField) fromJSON(raw []byte, path string) error {
	elements, err := arrayFromJSON(raw, path)
	if err != nil {
		return err
	}
	*f.v = nil
	for i, e := range elements {
		s, err := stringFromJSON(e, index(path, i))
		if err != nil {
			return err
		}
		*f.v = append(*f.v, s)
	}
	return nil
}

func (f stringsField) toJSON(b []byte) ([]byte, bool) {
	b = append(b, '[')
	for i, s := range *f.v {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, s)
	}
	return append(b, ']'), len(*f.v) > 0
}

func (f messageField[T, P]) fromJSON(raw []byte, path string) error {
	*f.v = new(T)
	return messageFromJSON(raw, path, *f.v)
}

func (f messageField[T, P]) toJSON(b []byte) ([]byte, bool) {
	if *f.v == nil {
		return append(b, "{}"...), false
	}
	return append(b, marshalJSON(*f.v)...), true
}

func (f messagesField[T, P]) fromJSON(raw []byte, path string) error {
	elements, err := arrayFromJSON(raw, path)
	if err != nil {
		return err
	}
	*f.v = make([]T, len(elements))
	for i, e := range elements {
		if err := messageFromJSON(e, index(path, i), P(&(*f.v)[i])); err != nil {
			return err
		}
	}
	return nil
}

func (f messagesField[T, P]) toJSON(b []byte) ([]byte, bool) {
	b = append(b, '[')
	for i := range *f.v {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, marshalJSON(P(&(*f.v)[i]))...)
	}
	return append(b, ']'), len(*f.v) > 0
}

func (f valueField[V, T, P]) fromJSON(raw []byte, path string) error {
	var m T
	if err := messageFromJSON(raw, path, P(&m)); err != nil {
		return err
	}
	v, err := f.from(m)
	if err != nil {
		return &JSONError{Path: path, Reason: err.Error()}
	}
	*f.v = v
	return nil
}

func (f valueField[V, T, P]) toJSON(b []byte) ([]byte, bool) {
	var zero V
	m := f.to(*f.v)
	return append(b, marshalJSON(P(&m))...), *f.v != zero
}

func (f mapField[V]) fromJSON(raw []byte, path string) error {
	members, err := objectFromJSON(raw, path)
	if err != nil {
		return err
	}
	*f.v = make(map[string]V, len(members))
	for _, e := range members {
		at := join(path, e.name)
		if _, ok := (*f.v)[e.name]; ok {
			return &JSONError{Path: at, Reason: "it is given twice"}
		}
		var v V
		if err := f.value(&v).fromJSON(e.raw, at); err != nil {
			return err
		}
		(*f.v)[e.name] = v
	}
	return nil
}

func (f mapField[V]) toJSON(b []byte) ([]byte, bool) {
	b = append(b, '{')
	for i, k := range slices.Sorted(maps.Keys(*f.v)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, k)
		b = append(b, ':')
		v := (*f.v)[k]
		b, _ = f.value(&v).toJSON(b)
	}
	return append(b, '}'), len(*f.v) > 0
}
