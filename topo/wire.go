package topo

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is a record, or a part of one, that is described by its fields. One description serves the wire
// form and JSON, in both directions.
type message interface {
	fields() []field
	memo() *layout
}

// field connects a number and a JSON name with a variable of the message.
type field interface {
	number() protowire.Number
	name() string
	// add takes one occurrence of the field off the wire.
	add(typ protowire.Type, value []byte) error
	// chunks returns the present value as occurrences with their tags: none for a default value, one for each
	// element of a list or map.
	chunks() []chunk
	// fromJSON sets the field from JSON; path is for errors.
	fromJSON(raw []byte, path string) error
	// toJSON appends the value to b, or reports that the field has its default.
	toJSON(b []byte) ([]byte, bool)
}

// chunk is one field occurrence on the wire.
type chunk struct {
	num   protowire.Number
	raw   []byte // tag and value
	key   string // of a map's entry
	entry bool   // of a map
}

// layout remembers how a message looked on the wire, so that writing it back keeps the order of its fields, the
// fields that are not known here, and the exact bytes of what did not change. It is immutable once decoded, so
// messages may be copied by value.
type layout struct {
	chunks []chunk                      // as they were read
	was    map[protowire.Number][]chunk // what chunks() said then
}

func (l *layout) memo() *layout { return l }

// inherit makes a message that was not read be written as another one of its kind was.
func (l *layout) inherit(from *layout) {
	if l.chunks == nil && l.was == nil {
		*l = *from
	}
}

// Errors of malformed records; they arrive in a [*RecordError].
var errWireType = errors.New("unexpected wire type")

func decode(b []byte, m message) error {
	fields := m.fields()
	byNumber := make(map[protowire.Number]field, len(fields))
	for _, f := range fields {
		byNumber[f.number()] = f
	}
	l := layout{was: make(map[protowire.Number][]chunk)}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		c := chunk{num: num, raw: bytes.Clone(b[:n+size])}
		value := b[n : n+size]
		b = b[n+size:]
		if f, ok := byNumber[num]; ok {
			if err := f.add(typ, value); err != nil {
				return fmt.Errorf("field %s: %w", f.name(), err)
			}
			if m, ok := f.(keyed); ok {
				c.key, c.entry = m.lastKey(), true
			}
		}
		l.chunks = append(l.chunks, c)
	}
	for _, f := range fields {
		if c := f.chunks(); len(c) > 0 {
			l.was[f.number()] = c
		}
	}
	*m.memo() = l
	return nil
}

// keyed is a field of entries with keys.
type keyed interface{ lastKey() string }

func encode(m message) []byte {
	w := newWriter(m)
	for _, c := range w.l.chunks {
		w.flush(c.num)
		w.rewrite(c, w.seen[c.num])
		w.seen[c.num]++
	}
	w.flush(protowire.MaxValidNumber)
	return w.b
}

// repeated is a field of more than one occurrence.
type repeated interface{ isRepeated() }

// writer lays a message out as it was read, with its present values. What is new comes where protobuf would write it.
type writer struct {
	b     []byte
	l     *layout
	order []protowire.Number           // of the known fields, as protobuf writes them
	left  map[protowire.Number][]chunk // values that are still to be written
	same  map[protowire.Number]bool    // nothing of the field has changed
	lists map[protowire.Number]bool
	total map[protowire.Number]int // how often the field was read
	seen  map[protowire.Number]int // how many of these have been passed
}

func newWriter(m message) *writer {
	w := &writer{
		l:    m.memo(),
		left: make(map[protowire.Number][]chunk), same: make(map[protowire.Number]bool),
		lists: make(map[protowire.Number]bool),
		total: make(map[protowire.Number]int), seen: make(map[protowire.Number]int),
	}
	for _, f := range m.fields() {
		num := f.number()
		w.order = append(w.order, num)
		w.left[num] = f.chunks()
		w.same[num] = slices.EqualFunc(w.left[num], w.l.was[num], equalChunks)
		_, w.lists[num] = f.(repeated)
	}
	slices.Sort(w.order)
	for _, c := range w.l.chunks {
		w.total[c.num]++
	}
	return w
}

// flush writes what is left of the fields before num that do not come again.
func (w *writer) flush(num protowire.Number) {
	for _, n := range w.order {
		if n >= num {
			return
		}
		if w.seen[n] < w.total[n] || w.same[n] {
			continue
		}
		for _, c := range w.left[n] {
			w.b = append(w.b, c.raw...)
		}
		w.left[n] = nil
	}
}

// rewrite writes what stands for c, the nth occurrence of its number, now.
func (w *writer) rewrite(c chunk, nth int) {
	values, known := w.left[c.num]
	switch {
	case !known || w.same[c.num]:
		w.b = append(w.b, c.raw...)
	case !w.lists[c.num]:
		if len(values) > 0 {
			w.b = append(w.b, values[0].raw...)
			w.left[c.num] = nil
		}
	case c.entry:
		i := slices.IndexFunc(values, func(v chunk) bool { return v.key == c.key })
		if i < 0 {
			return // deleted
		}
		if was := w.l.was[c.num]; slices.ContainsFunc(was, func(o chunk) bool { return equalChunks(o, values[i]) }) {
			w.b = append(w.b, c.raw...)
		} else {
			w.b = append(w.b, values[i].raw...)
		}
		w.left[c.num] = slices.Delete(slices.Clone(values), i, i+1)
	case len(values) > 0:
		if was := w.l.was[c.num]; nth < len(was) && equalChunks(was[nth], values[0]) {
			w.b = append(w.b, c.raw...)
		} else {
			w.b = append(w.b, values[0].raw...)
		}
		w.left[c.num] = values[1:]
	}
}

func equalChunks(a, b chunk) bool { return a.key == b.key && bytes.Equal(a.raw, b.raw) }

// bytesValue returns the content of a length-delimited value.
func bytesValue(typ protowire.Type, value []byte) ([]byte, error) {
	if typ != protowire.BytesType {
		return nil, errWireType
	}
	b, n := protowire.ConsumeBytes(value)
	if n < 0 {
		return nil, protowire.ParseError(n)
	}
	return b, nil
}

func varintValue(typ protowire.Type, value []byte) (uint64, error) {
	if typ != protowire.VarintType {
		return 0, errWireType
	}
	v, n := protowire.ConsumeVarint(value)
	if n < 0 {
		return 0, protowire.ParseError(n)
	}
	return v, nil
}

func bytesChunk(num protowire.Number, b []byte) chunk {
	raw := protowire.AppendTag(nil, num, protowire.BytesType)
	return chunk{num: num, raw: protowire.AppendBytes(raw, b)}
}

func varintChunk(num protowire.Number, v uint64) chunk {
	raw := protowire.AppendTag(nil, num, protowire.VarintType)
	return chunk{num: num, raw: protowire.AppendVarint(raw, v)}
}
