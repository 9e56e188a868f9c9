package replication

import (
	"fmt"
	"strconv"
	"strings"
)

// CheckKey tells whether k is a key that the table can have: as many values as its identifying key has columns, NULL
// only where a column allows it, each in its canonical form (see [Row]) as far as that can be seen. The error is an
// ErrMalformedRow. It is for keys that come from outside, such as those of a stored record; Compare trusts its keys.
func (t *Table) CheckKey(k Key) error {
	var buf [32][]byte
	values, err := k.Values(buf[:0], len(t.Primary.Columns))
	if err != nil {
		return err
	}
	for i, v := range values {
		c := &t.Columns[t.Primary.Columns[i]]
		if !c.holds(v) {
			return fmt.Errorf("%w: column %s can't be %q", ErrMalformedRow, c.Name, clip(string(v)))
		}
	}
	return nil
}

// holds tells whether a value has a form that the column's values have.
func (c *Column) holds(v []byte) bool {
	if v == nil {
		return c.Nullable
	}
	switch c.Kind {
	case KindInt:
		_, err := strconv.ParseInt(string(v), 10, 64)
		return err == nil
	case KindUint, KindYear, KindEnum, KindSet:
		_, err := strconv.ParseUint(string(v), 10, 64)
		return err == nil
	case KindFloat, KindDouble:
		_, err := strconv.ParseFloat(string(v), 64)
		return err == nil
	case KindDecimal:
		return onlyOf(v, ".-")
	case KindDate, KindTime, KindDatetime, KindTimestamp:
		return onlyOf(v, ":-. ")
	case KindBinary:
		return c.Length == 0 || len(v) == c.Length
	case KindBit:
		return c.Length == 0 || len(v) == (c.Length+7)/8
	}
	return true
}

// onlyOf tells whether a text has a digit, and nothing but digits and some others.
func onlyOf(v []byte, others string) bool {
	digits := 0
	for _, b := range v {
		switch {
		case '0' <= b && b <= '9':
			digits++
		case strings.IndexByte(others, b) < 0:
			return false
		}
	}
	return digits > 0
}
