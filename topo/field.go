package topo

import (
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// label is what every field has.
type label struct {
	num  protowire.Number
	text string // snake case
}

func (l label) number() protowire.Number { return l.num }
func (l label) name() string             { return l.text }

type stringField struct {
	label
	v *string
}

func (f stringField) add(typ protowire.Type, value []byte) error {
	b, err := bytesValue(typ, value)
	*f.v = string(b)
	return err
}

func (f stringField) chunks() []chunk {
	if *f.v == "" {
		return nil
	}
	return []chunk{bytesChunk(f.num, []byte(*f.v))}
}

type bytesField struct {
	label
	v *[]byte
}

func (f bytesField) add(typ protowire.Type, value []byte) error {
	b, err := bytesValue(typ, value)
	*f.v = slices.Clone(b)
	return err
}

func (f bytesField) chunks() []chunk {
	if len(*f.v) == 0 {
		return nil
	}
	return []chunk{bytesChunk(f.num, *f.v)}
}

type boolField struct {
	label
	v *bool
}

func (f boolField) add(typ protowire.Type, value []byte) error {
	n, err := varintValue(typ, value)
	*f.v = n != 0
	return err
}

func (f boolField) chunks() []chunk {
	if !*f.v {
		return nil
	}
	return []chunk{varintChunk(f.num, 1)}
}

// optionalBoolField tells "false" from "not said".
type optionalBoolField struct {
	label
	v **bool
}

func (f optionalBoolField) add(typ protowire.Type, value []byte) error {
	n, err := varintValue(typ, value)
	b := n != 0
	*f.v = &b
	return err
}

func (f optionalBoolField) chunks() []chunk {
	if *f.v == nil {
		return nil
	}
	return []chunk{varintChunk(f.num, protowire.EncodeBool(**f.v))}
}

type integer interface {
	~int32 | ~int64 | ~uint32
}

// intField is an integer, or an enum if it has names.
type intField[T integer] struct {
	label
	v     *T
	names map[T]string
}

func (f intField[T]) add(typ protowire.Type, value []byte) error {
	n, err := varintValue(typ, value)
	*f.v = T(n)
	return err
}

func (f intField[T]) chunks() []chunk {
	if *f.v == 0 {
		return nil
	}
	return []chunk{varintChunk(f.num, uint64(*f.v))}
}

type floatField struct {
	label
	v *float32
}

func (f floatField) add(typ protowire.Type, value []byte) error {
	if typ != protowire.Fixed32Type {
		return errWireType
	}
	n, size := protowire.ConsumeFixed32(value)
	if size < 0 {
		return protowire.ParseError(size)
	}
	*f.v = math.Float32frombits(n)
	return nil
}

func (f floatField) chunks() []chunk {
	if *f.v == 0 {
		return nil
	}
	raw := protowire.AppendTag(nil, f.num, protowire.Fixed32Type)
	return []chunk{{num: f.num, raw: protowire.AppendFixed32(raw, math.Float32bits(*f.v))}}
}

type stringsField struct {
	label
	v *[]string
}

func (f stringsField) isRepeated() {}

func (f stringsField) add(typ protowire.Type, value []byte) error {
	b, err := bytesValue(typ, value)
	*f.v = append(*f.v, string(b))
	return err
}

func (f stringsField) chunks() []chunk {
	var out []chunk
	for _, s := range *f.v {
		out = append(out, bytesChunk(f.num, []byte(s)))
	}
	return out
}

// pointer is a *T that is a message.
type pointer[T any] interface {
	*T
	message
}

type messageField[T any, P pointer[T]] struct {
	label
	v *P
}

func (f messageField[T, P]) add(typ protowire.Type, value []byte) error {
	b, err := bytesValue(typ, value)
	if err != nil {
		return err
	}
	*f.v = new(T)
	return decode(b, *f.v)
}

func (f messageField[T, P]) chunks() []chunk {
	if *f.v == nil {
		return nil
	}
	return []chunk{bytesChunk(f.num, encode(*f.v))}
}

type messagesField[T any, P pointer[T]] struct {
	label
	v *[]T
}

func (f messagesField[T, P]) isRepeated() {}

func (f messagesField[T, P]) add(typ protowire.Type, value []byte) error {
	b, err := bytesValue(typ, value)
	if err != nil {
		return err
	}
	var element T
	if err := decode(b, P(&element)); err != nil {
		return err
	}
	*f.v = append(*f.v, element)
	return nil
}

func (f messagesField[T, P]) chunks() []chunk {
	var out []chunk
	for i := range *f.v {
		out = append(out, bytesChunk(f.num, encode(P(&(*f.v)[i]))))
	}
	return out
}

// valueField is a message that appears as a plain comparable value, whose zero value stands for none.
type valueField[V comparable, T any, P pointer[T]] struct {
	label
	v    *V
	to   func(V) T
	from func(T) (V, error)
}

func (f valueField[V, T, P]) add(typ protowire.Type, value []byte) error {
	b, err := bytesValue(typ, value)
	if err != nil {
		return err
	}
	var m T
	if err := decode(b, P(&m)); err != nil {
		return err
	}
	*f.v, err = f.from(m)
	return err
}

func (f valueField[V, T, P]) chunks() []chunk {
	var zero V
	if *f.v == zero {
		return nil
	}
	m := f.to(*f.v)
	return []chunk{bytesChunk(f.num, encode(P(&m)))}
}

// mapField is a map from strings. The value of an entry is a field of its own, with number 2.
type mapField[V any] struct {
	label
	v     *map[string]V
	value func(*V) field
	fill  func(*V) // replaces a missing message by an empty one
	last  *string  // key of the entry added last
}

func (f mapField[V]) isRepeated()     {}
func (f mapField[V]) lastKey() string { return *f.last }

// entry is one element of a map as protobuf writes it.
type entry[V any] struct {
	layout
	key   string
	value V
	of    func(*V) field
}

func (e *entry[V]) fields() []field {
	return []field{stringField{label{1, "key"}, &e.key}, e.of(&e.value)}
}

func (f mapField[V]) add(typ protowire.Type, value []byte) error {
	b, err := bytesValue(typ, value)
	if err != nil {
		return err
	}
	e := entry[V]{of: f.value}
	if err := decode(b, &e); err != nil {
		return err
	}
	if f.fill != nil {
		f.fill(&e.value)
	}
	if *f.v == nil {
		*f.v = make(map[string]V)
	}
	(*f.v)[e.key] = e.value
	*f.last = e.key
	return nil
}

func (f mapField[V]) chunks() []chunk {
	var out []chunk
	for _, k := range slices.Sorted(maps.Keys(*f.v)) {
		v := (*f.v)[k]
		value := f.value(&v)
		// Protobuf writes key and value of an entry even when they are the default.
		b := bytesChunk(1, []byte(k)).raw
		c := value.chunks()
		if len(c) == 0 {
			c = []chunk{defaultChunk(value)}
		}
		c = []chunk{bytesChunk(f.num, append(b, c[0].raw...))}
		c[0].key, c[0].entry = k, true
		out = append(out, c...)
	}
	return out
}

// defaultChunk is what protobuf writes for a default value where it has to write one.
func defaultChunk(f field) chunk {
	if _, ok := f.(intField[int32]); ok {
		return varintChunk(f.number(), 0)
	}
	return bytesChunk(f.number(), nil)
}

func stringsByName(num protowire.Number, text string, v *map[string]string) field {
	value := func(v *string) field { return stringField{label{2, "value"}, v} }
	return mapField[string]{label{num, text}, v, value, nil, new(string)}
}

func int32sByName(num protowire.Number, text string, v *map[string]int32) field {
	value := func(v *int32) field { return intField[int32]{label: label{2, "value"}, v: v} }
	return mapField[int32]{label{num, text}, v, value, nil, new(string)}
}

func messagesByName[T any, P pointer[T]](num protowire.Number, text string, v *map[string]P) field {
	value := func(v *P) field { return messageField[T, P]{label{2, "value"}, v} }
	fill := func(v *P) {
		if *v == nil {
			*v = new(T)
		}
	}
	return mapField[P]{label{num, text}, v, value, fill, new(string)}
}

type keyRangeMessage struct {
	layout
	start, end []byte
}

func (m *keyRangeMessage) fields() []field {
	return []field{bytesField{label{1, "start"}, &m.start}, bytesField{label{2, "end"}, &m.end}}
}

func keyRangeField(num protowire.Number, text string, v *KeyRange) field {
	return valueField[KeyRange, keyRangeMessage, *keyRangeMessage]{
		label{num, text},
		v,
		func(r KeyRange) keyRangeMessage { return keyRangeMessage{start: r.Start(), end: r.End()} },
		func(m keyRangeMessage) (KeyRange, error) { return NewKeyRange(m.start, m.end) },
	}
}

type aliasMessage struct {
	layout
	alias TabletAlias
}

func (m *aliasMessage) fields() []field {
	return []field{
		stringField{label{1, "cell"}, &m.alias.Cell},
		intField[uint32]{label: label{2, "uid"}, v: &m.alias.UID},
	}
}

func aliasField(num protowire.Number, text string, v *TabletAlias) field {
	return valueField[TabletAlias, aliasMessage, *aliasMessage]{
		label{num, text},
		v,
		func(a TabletAlias) aliasMessage { return aliasMessage{alias: a} },
		func(m aliasMessage) (TabletAlias, error) { return m.alias, nil },
	}
}
