package vdiff

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tablehaul/tablehaul/replication"
)

// truncated marks a value of which only the beginning is shown.
const truncated = "...[TRUNCATED]"

// A Value is one column's value as people read it: binary values as 0x..., text that is no
// UTF-8 too, ENUM and SET by their names.
type Value struct {
	Column string
	// Text is empty for NULL.
	Text string
	Null bool
}

// Values are the values of a row: the key's first, then the others in table order.
type Values []Value

// Value returns a column's value, and whether there is such a column.
func (v Values) Value(column string) (Value, bool) {
	i := slices.IndexFunc(v, func(x Value) bool { return x.Column == column })
	if i < 0 {
		return Value{}, false
	}
	return v[i], true
}

// String is "a=1, b=NULL".
func (v Values) String() string {
	parts := make([]string, len(v))
	for i, x := range v {
		text := x.Text
		if x.Null {
			text = "NULL"
		}
		parts[i] = x.Column + "=" + text
	}
	return strings.Join(parts, ", ")
}

// MarshalJSON makes an object in the order of the values, with null for NULL.
func (v Values) MarshalJSON() ([]byte, error) {
	if v == nil {
		return []byte("null"), nil
	}
	out := []byte{'{'}
	for i, x := range v {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := json.Marshal(x.Column)
		if err != nil {
			return nil, err
		}
		text := []byte("null")
		if !x.Null {
			if text, err = json.Marshal(x.Text); err != nil {
				return nil, err
			}
		}
		out = append(append(append(out, name...), ':'), text...)
	}
	return append(out, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON made.
func (v *Values) UnmarshalJSON(b []byte) error {
	*v = nil
	if bytes.Equal(bytes.TrimSpace(b), []byte("null")) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("row values: want an object (%w)", orNone(err))
	}
	*v = Values{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var text *string
		if err := d.Decode(&text); err != nil {
			return fmt.Errorf("row values: column %v: %w", name, err)
		}
		x := Value{Column: fmt.Sprint(name), Null: text == nil}
		if text != nil {
			x.Text = *text
		}
		*v = append(*v, x)
	}
	return nil
}

// errShape is for JSON that is well formed and something else.
var errShape = fmt.Errorf("unexpected JSON")

func orNone(err error) error {
	if err == nil {
		return errShape
	}
	return err
}

// A display turns rows of one table into values for people.
type display struct {
	t *replication.Table
	// samples is the number of differences of each kind and shard to keep, cut the length beyond which values
	// are shown in part (0: never).
	samples, cut int
}

// sample adds a difference to a list, if there is room: it is the n-th of its shard.
func (d *display) sample(list *[]Difference, n int64, f find, belongs string) error {
	if n > int64(d.samples) {
		return nil
	}
	diff, err := d.difference(f.source, f.target)
	if err != nil {
		return err
	}
	diff.Shard, diff.SourceShard, diff.Belongs = f.shard, f.from, belongs
	*list = append(*list, diff)
	return nil
}

// difference shows a pair of rows; nil is a row that isn't there.
func (d *display) difference(source, target replication.Row) (Difference, error) {
	var out Difference
	var err error
	if source != nil {
		if out.Source, err = d.row(source); err != nil {
			return out, err
		}
	}
	if target != nil {
		if out.Target, err = d.row(target); err != nil {
			return out, err
		}
	}
	row := out.Source
	if source == nil {
		row = out.Target
	}
	out.Key = row[:len(d.t.Primary.Columns):len(d.t.Primary.Columns)]
	if source == nil || target == nil {
		return out, nil
	}
	columns, err := differing(d.t, source, target)
	for _, c := range columns {
		out.Columns = append(out.Columns, d.t.Columns[c].Name)
	}
	return out, err
}

func (d *display) row(r replication.Row) (Values, error) {
	values, err := r.Values(nil, len(d.t.Columns))
	if err != nil {
		return nil, err
	}
	out := make(Values, 0, len(values))
	for _, c := range d.t.Primary.Columns {
		out = append(out, d.value(c, values[c], 0))
	}
	for c := range values {
		if !slices.Contains(d.t.Primary.Columns, c) {
			out = append(out, d.value(c, values[c], d.cut))
		}
	}
	return out, nil
}

// key shows the values of a packed key as "1, x"; nil is "".
func (d *display) key(k replication.Key) string {
	values, err := k.Values(nil, len(d.t.Primary.Columns))
	if k == nil || err != nil {
		return ""
	}
	parts := make([]string, len(values))
	for i, c := range d.t.Primary.Columns {
		parts[i] = d.value(c, values[i], 0).Text
	}
	return strings.Join(parts, ", ")
}

// value shows one value, of which at most about cut bytes if cut isn't 0.
func (d *display) value(column int, v []byte, cut int) Value {
	c := &d.t.Columns[column]
	if v == nil {
		return Value{Column: c.Name, Null: true}
	}
	tail := ""
	// Cutting off less than the mark that says so would make the value longer.
	if cut > 0 && len(v) > cut+len(truncated) {
		v, tail = v[:cut], truncated
		if isText(c) {
			v = wholeRunes(v)
		}
	}
	text := string(v)
	switch {
	case c.Kind == replication.KindEnum:
		text = enumText(c, text)
	case c.Kind == replication.KindSet:
		text = setText(c, text)
	case c.Kind == replication.KindFloat || c.Kind == replication.KindDouble:
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			text = strconv.FormatFloat(f, 'g', -1, 64)
		}
	case formOf(c.Kind) == formBytes && !(isText(c) && utf8.Valid(v)):
		text = "0x" + strings.ToUpper(hex.EncodeToString(v))
	}
	return Value{Column: c.Name, Text: text + tail}
}

func isText(c *replication.Column) bool {
	return c.Kind == replication.KindText || c.Kind == replication.KindJSON
}

// wholeRunes cuts a last character off of which a part is missing.
func wholeRunes(v []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(v); i++ {
		if b := v[len(v)-i]; utf8.RuneStart(b) {
			if !utf8.FullRune(v[len(v)-i:]) {
				return v[:len(v)-i]
			}
			break
		}
	}
	return v
}

// enumText is the name of an ENUM's index, which is the index itself if it has none.
func enumText(c *replication.Column, index string) string {
	if i, err := strconv.Atoi(index); err == nil && i > 0 && i <= len(c.Members) {
		return c.Members[i-1]
	}
	return index
}

// setText is the names in a SET's bit mask.
func setText(c *replication.Column, mask string) string {
	bits, err := strconv.ParseUint(mask, 10, 64)
	if err != nil || bits>>len(c.Members) != 0 {
		return mask
	}
	var names []string
	for i, m := range c.Members {
		if bits&(1<<i) != 0 {
			names = append(names, m)
		}
	}
	return strings.Join(names, ",")
}
