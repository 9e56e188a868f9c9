package replication

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// formatLimit is how many bytes of a value people are shown.
const formatLimit = 64

// Format renders a row for people, such as (id=1, name='a', data=0x00ff, x=NULL): text quoted
// with Go's escapes, binary values in hex, ENUM and SET by name, values of more than 64 bytes cut with
// a mark of how much. The result is not SQL.
func (t *Table) Format(r Row) string {
	columns := make([]int, len(t.Columns))
	for i := range columns {
		columns[i] = i
	}
	return t.format(r, columns)
}

// FormatKey renders a key like Format, with its columns only.
func (t *Table) FormatKey(k Key) string { return t.format(k, t.Primary.Columns) }

// FormatSpan renders a span, such as ((id=1), (id=9)], with "start" and "end" for open bounds.
func (t *Table) FormatSpan(s Span) string {
	lo, hi := "start", "end"
	if len(s.Lo) > 0 {
		lo = t.FormatKey(s.Lo)
	}
	if len(s.Hi) > 0 {
		hi = t.FormatKey(s.Hi)
	}
	return "(" + lo + ", " + hi + "]"
}

func (t *Table) format(r Row, columns []int) string {
	values, err := r.Values(nil, len(columns))
	if err != nil {
		return fmt.Sprintf("(%v: %s)", err, formatBytes(r))
	}
	var b strings.Builder
	for i, c := range columns {
		b.WriteString([2]string{"(", ", "}[min(i, 1)])
		b.WriteString(t.Columns[c].Name)
		b.WriteByte('=')
		b.WriteString(t.Columns[c].format(values[i]))
	}
	b.WriteByte(')')
	return b.String()
}

func (c *Column) format(v []byte) string {
	if v == nil {
		return "NULL"
	}
	switch c.Kind {
	case KindInt, KindUint, KindDecimal, KindFloat, KindDouble, KindYear:
		return clip(string(v))
	case KindEnum, KindSet:
		return formatText([]byte(c.members(string(v))))
	case KindJSON:
		return formatText([]byte(strings.TrimPrefix(string(v), "\x00")))
	case KindDate, KindTime, KindDatetime, KindTimestamp, KindText:
		return formatText(v)
	}
	return formatBytes(v)
}

// members names what an ENUM index or SET mask stands for; text that is neither stays.
func (c *Column) members(text string) string {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return text
	}
	if c.Kind == KindEnum {
		if n == 0 || n > uint64(len(c.Members)) {
			return text
		}
		return c.Members[n-1]
	}
	if len(c.Members) < 64 && n>>len(c.Members) != 0 {
		return text
	}
	var names []string
	for i, m := range c.Members {
		if n&(1<<i) != 0 {
			names = append(names, m)
		}
	}
	return strings.Join(names, ",")
}

func formatText(v []byte) string {
	cut, rest := v, 0
	if len(v) > formatLimit {
		n := formatLimit
		for n > formatLimit-utf8.UTFMax && !utf8.RuneStart(v[n]) {
			n--
		}
		cut, rest = v[:n], len(v)-n
	}
	if !utf8.Valid(cut) {
		return formatBytes(v)
	}
	q := strconv.Quote(string(cut))
	q = "'" + strings.ReplaceAll(strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`), `'`, `\'`) + "'"
	return q + mark(rest)
}

func formatBytes(v []byte) string {
	n := min(len(v), formatLimit)
	return "0x" + hex.EncodeToString(v[:n]) + mark(len(v)-n)
}

// mark says that bytes were left out.
func mark(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("...(+%d bytes)", n)
}
