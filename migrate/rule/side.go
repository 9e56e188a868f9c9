package rule

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// A side is a literal as a column is compared with it.
type side struct {
	null bool
	// as compares two values in the form that form makes of a column's value (nil: as it is); literal has that form.
	as      *replication.Column
	form    func(v []byte) ([]byte, error)
	literal []byte
	// question is the number of the question for the server, if only that can compare; 0 if not.
	question int
	like     bool
	// sql is the literal as SQL text.
	sql string
}

// side makes the side of one literal. What would need a conversion of the column's values is refused: the server makes most of
// them by way of floating-point numbers.
func (b *binder) side(a *atom, c *replication.Column, l literal) (*side, error) {
	if c.Kind == replication.KindJSON || c.Kind == replication.KindGeometry || c.Kind == replication.KindVector || c.Kind == replication.KindUnknown {
		return nil, unsupported("a comparison of a column of type "+c.Type, a.text)
	}
	if l.kind == litNull {
		return &side{null: true, sql: "NULL"}, nil
	}
	if a.op == opLike && c.Kind != replication.KindText {
		return nil, unsupported("LIKE on a column of type "+c.Type, a.text)
	}
	var s *side
	var err error
	switch c.Kind {
	case replication.KindInt, replication.KindUint, replication.KindDecimal:
		s = numberSide(c, l)
	case replication.KindFloat, replication.KindDouble:
		s = floatSide(c, l)
	case replication.KindYear:
		s = yearSide(l)
	case replication.KindBit:
		s = bitSide(l)
	case replication.KindDate, replication.KindDatetime, replication.KindTimestamp:
		s = dateSide(c, l)
	case replication.KindTime:
		s = timeSide(c, l)
	case replication.KindBinary, replication.KindBlob:
		s = bytesSide(c, l)
	case replication.KindEnum:
		s, err = b.enumSide(a, c, l)
	case replication.KindSet:
		s, err = b.setSide(a, c, l)
	default:
		s, err = b.textSide(a, c, l)
	}
	if s == nil && err == nil {
		err = unsupported("comparing a column of type "+c.Type+" with this literal", a.text)
	}
	return s, err
}

// maxExact is how many digits a whole number may have so that it is the same as a floating-point number.
const maxExact = 15

func numberSide(c *replication.Column, l literal) *side {
	integer := c.Kind != replication.KindDecimal
	switch {
	case l.kind == litInteger, l.kind == litDecimal:
	case l.kind == litString && integer && len(l.text) <= maxExact && isInteger(l.text):
	case l.kind == litBytes && integer && len(l.text) <= 8:
		l.text = strconv.FormatUint(number(l.text), 10)
	default:
		return nil
	}
	return &side{as: &replication.Column{Kind: replication.KindDecimal}, literal: []byte(l.text), sql: l.text}
}

// isInteger tells whether a text is a whole number as the server prints it.
func isInteger(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && strconv.FormatInt(n, 10) == s
}

// number is the number that up to eight bytes stand for.
func number(s string) uint64 {
	var b [8]byte
	copy(b[8-len(s):], s)
	return binary.BigEndian.Uint64(b[:])
}

func floatSide(c *replication.Column, l literal) *side {
	// Columns with a fixed number of decimals are compared with some tolerance.
	if strings.Contains(c.Type, ",") || l.kind != litInteger && l.kind != litDecimal && l.kind != litFloat {
		return nil
	}
	x, err := strconv.ParseFloat(l.text, 64)
	if err != nil || math.IsInf(x, 0) {
		return nil
	}
	return &side{as: &replication.Column{Kind: replication.KindDouble}, literal: []byte(l.text), sql: l.text}
}

func yearSide(l literal) *side {
	n, err := strconv.Atoi(l.text)
	if l.kind != litInteger || err != nil || n != 0 && (n < 1901 || n > 2155) {
		return nil
	}
	return &side{
		as: &replication.Column{Kind: replication.KindDecimal}, literal: []byte(l.text), sql: l.text,
	}
}

func bitSide(l literal) *side {
	switch {
	case l.kind == litInteger:
		if _, err := strconv.ParseUint(l.text, 10, 64); err != nil {
			return nil
		}
	case l.kind == litBytes && len(l.text) <= 8:
		l.text = strconv.FormatUint(number(l.text), 10)
	default:
		return nil
	}
	form := func(v []byte) ([]byte, error) {
		if len(v) > 8 {
			return nil, fmt.Errorf("%w: a BIT of %d bytes", replication.ErrMalformedRow, len(v))
		}
		return strconv.AppendUint(nil, number(string(v)), 10), nil
	}
	return &side{as: &replication.Column{Kind: replication.KindUint}, form: form, literal: []byte(l.text), sql: l.text}
}

const (
	dateLayout     = "2006-01-02"
	datetimeLayout = "2006-01-02 15:04:05"
	// midnight makes a date a time.
	midnight = " 00:00:00"
	// fraction has all fractional digits.
	fraction = ".000000"
)

// The times that a TIMESTAMP can be.
var firstTimestamp, lastTimestamp = "1970-01-01 00:00:01.000000", "2038-01-19 03:14:07.999999"

// dateSide takes dates that exist, written in full, from the year 1000 on.
func dateSide(c *replication.Column, l literal) *side {
	if l.kind != litString && l.kind != litDate && l.kind != litDatetime {
		return nil
	}
	layout := datetimeLayout
	if len(l.text) == len(dateLayout) {
		layout = dateLayout
	}
	if l.kind == litDate && layout != dateLayout || l.kind == litDatetime && layout != datetimeLayout {
		return nil
	}
	head, digits, point := strings.Cut(l.text, ".")
	t, err := time.Parse(layout, head)
	if err != nil || t.Format(layout) != head || t.Year() < 1000 || point && (layout == dateLayout || !isFraction(digits)) {
		return nil
	}
	if c.Kind != replication.KindDate && len(strings.TrimRight(digits, "0")) > c.Fsp {
		return nil // the server rounds it, sometimes
	}
	full := string(fullTime([]byte(l.text)))
	if c.Kind == replication.KindTimestamp && (full < firstTimestamp || full > lastTimestamp) {
		return nil
	}
	form := func(v []byte) ([]byte, error) { return fullTime(v), nil }
	return &side{as: &replication.Column{Kind: replication.KindDatetime}, form: form, literal: []byte(full), sql: sqltext.String(l.text)}
}

// isFraction tells whether these can be the digits after the point of a time.
func isFraction(digits string) bool {
	return len(digits) >= 1 && len(digits) <= 6 && strings.Trim(digits, "0123456789") == ""
}

// fullTime is a date or time with all its parts.
func fullTime(v []byte) []byte {
	out := make([]byte, 0, len(datetimeLayout)+len(fraction))
	out = append(out, v...)
	if len(v) == len(dateLayout) {
		out = append(out, midnight...)
	}
	return fullFraction(out)
}

// fullFraction adds the fractional digits that a time lacks.
func fullFraction(v []byte) []byte {
	i := bytes.IndexByte(v, '.')
	if i < 0 {
		return append(v, fraction...)
	}
	return append(v, fraction[min(len(v)-i, len(fraction)):]...)
}

// timeSide takes -?hh:mm:ss, with a fraction or without.
func timeSide(c *replication.Column, l literal) *side {
	if l.kind != litString && l.kind != litTime {
		return nil
	}
	text, negative := strings.CutPrefix(l.text, "-")
	head, digits, point := strings.Cut(text, ".")
	if point && !isFraction(digits) || len(strings.TrimRight(digits, "0")) > c.Fsp {
		return nil
	}
	hours, rest, _ := strings.Cut(head, ":")
	h, err := strconv.Atoi(hours)
	t, rerr := time.Parse("04:05", rest)
	if err != nil || rerr != nil || t.Format("04:05") != rest || len(hours) < 2 || len(hours) > 3 || h > 837 || !isInteger("1"+hours) {
		return nil
	}
	if negative && strings.Trim(text, "0:.") != "" {
		text = "-" + text
	}
	form := func(v []byte) ([]byte, error) { return fullFraction(bytes.Clone(v)), nil }
	return &side{
		as: &replication.Column{Kind: replication.KindTime}, form: form, literal: fullFraction([]byte(text)), sql: sqltext.String(l.text),
	}
}

// bytesSide takes literals of a BINARY(n) only if they have n bytes: of others the server sometimes thinks as padded.
func bytesSide(c *replication.Column, l literal) *side {
	if l.kind != litString && l.kind != litBytes || c.Kind == replication.KindBinary && len(l.text) != c.Length {
		return nil
	}
	return &side{
		as: &replication.Column{Kind: replication.KindBlob}, literal: []byte(l.text), sql: string(sqltext.AppendBinary(nil, []byte(l.text))),
	}
}

// enumSide compares an ENUM by number: with a text, that of the member that equals it, as the server does.
func (b *binder) enumSide(a *atom, c *replication.Column, l literal) (*side, error) {
	if l.kind == litInteger {
		return &side{as: &replication.Column{Kind: replication.KindDecimal}, literal: []byte(l.text), sql: l.text}, nil
	}
	switch a.op {
	case opEqual, opNotEqual, opNullSafe, opIn:
	default:
		return nil, nil //nolint:nilnil // the caller says what does not fit
	}
	s, err := b.textSide(a, c, l)
	if err != nil || s == nil || l.text == "" { // that is the text of number 0 too
		return nil, err
	}
	equal, err := b.equalMembers(c, s)
	switch {
	case err != nil:
		return nil, err
	case len(equal) > 1:
		return nil, unsupported("a text that several members of an ENUM equal", a.text)
	case len(equal) == 0:
		equal = []int{-1}
	}
	return &side{as: &replication.Column{Kind: replication.KindDecimal}, literal: strconv.AppendInt(nil, int64(equal[0]), 10), sql: s.sql}, nil
}

// equalMembers are the numbers of the members that equal a text.
func (b *binder) equalMembers(c *replication.Column, s *side) (equal []int, err error) {
	var questions []string
	for i, m := range c.Members {
		if s.question == 0 && s.as.Compare([]byte(m), s.literal) == 0 {
			equal = append(equal, i+1)
		}
		questions = append(questions, s.questionSQL([]byte(m)))
	}
	if s.question == 0 || b.ask == nil {
		return equal, nil
	}
	for from := 0; from < len(questions); from += askCount {
		answers, err := b.ask(b.ctx, questions[from:min(from+askCount, len(questions))])
		if err != nil {
			return nil, err
		}
		for i := range answers {
			a, err := answerOf(answers, i)
			if err != nil {
				return nil, err
			}
			if a == 0 {
				equal = append(equal, from+i+1)
			}
		}
	}
	return equal, nil
}

// setSide compares a SET with a text, or by its number.
func (b *binder) setSide(a *atom, c *replication.Column, l literal) (*side, error) {
	switch {
	case l.kind == litInteger && len(c.Members) < 64:
		return &side{as: &replication.Column{Kind: replication.KindDecimal}, literal: []byte(l.text), sql: l.text}, nil
	case wideCharset(c.Charset):
		return nil, unsupported("comparing a SET of character set "+c.Charset, a.text)
	}
	s, err := b.textSide(a, c, l)
	if s != nil {
		s.form = func(v []byte) ([]byte, error) { return setText(c, v) }
	}
	return s, err
}

// setText is the text of a SET's value.
func setText(c *replication.Column, v []byte) ([]byte, error) {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %q", replication.ErrMalformedRow, c.Type, v)
	}
	set := []byte{}
	for i, m := range c.Members {
		if n>>i&1 == 1 {
			if len(set) > 0 {
				set = append(set, ',')
			}
			set = append(set, m...)
		}
	}
	return set, nil
}

// textSide compares by the column's collation: here where that goes by bytes, else the server does it.
func (b *binder) textSide(a *atom, c *replication.Column, l literal) (*side, error) {
	if l.kind != litString {
		return nil, nil //nolint:nilnil // the caller says what does not fit
	}
	text, err := b.convert(a, c, l.text)
	if err != nil {
		return nil, err
	}
	as := &replication.Column{Kind: replication.KindText, Charset: c.Charset, Collation: c.Collation, Name: c.Name}
	s := &side{as: as, literal: text, like: a.op == opLike}
	if s.like || !replication.OrderedColumn(as) {
		b.questions++
		s.question = b.questions
	}
	literal, err := sqltext.AppendKeyLiteral(nil, as, text)
	s.sql = string(literal)
	return s, err
}

// wideCharset tells whether ASCII has other bytes in a character set.
func wideCharset(name string) bool {
	return strings.HasPrefix(name, "ucs") || strings.HasPrefix(name, "utf16") || strings.HasPrefix(name, "utf32") || name == "swe7"
}

// convert gives a literal the column's character set. One that does not have it is refused: the server would convert the column.
func (b *binder) convert(a *atom, c *replication.Column, text string) ([]byte, error) {
	refused := unsupported("a literal that the column's character set ("+c.Charset+") does not have", a.text)
	if !utf8.ValidString(text) {
		return nil, unsupported("a text literal that is no UTF-8", a.text)
	}
	ascii := strings.IndexFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
	switch {
	case ascii && !wideCharset(c.Charset), c.Charset == "utf8mb4":
		return []byte(text), nil
	case c.Charset == "utf8mb3" || c.Charset == "utf8":
		if strings.IndexFunc(text, func(r rune) bool { return r > 0xffff }) >= 0 {
			return nil, refused
		}
		return []byte(text), nil
	case b.ask == nil:
		return []byte(text), nil
	}
	converted := fmt.Sprintf("CONVERT(_utf8mb4 x'%x' USING %s)", text, c.Charset)
	got, err := b.ask(b.ctx, []string{"CAST(" + converted + " AS BINARY)", "CAST(CONVERT(" + converted + " USING utf8mb4) AS BINARY)"})
	switch {
	case err != nil:
		return nil, err
	case len(got) != 2 || string(got[1]) != text:
		return nil, refused
	}
	return bytes.Clone(got[0]), nil
}
