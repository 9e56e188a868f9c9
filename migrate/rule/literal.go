package rule

import (
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"

	"github.com/pingcap/tidb/pkg/parser/ast"
	"github.com/pingcap/tidb/pkg/parser/mysql"
	"github.com/pingcap/tidb/pkg/parser/opcode"
)

// A literal is a constant of a rule.
type literal struct {
	kind literalKind
	// text is a number as decimal digits, the bytes of a string or of a hexadecimal one, or a date or time as written.
	text string
}

type literalKind uint8

const (
	litNull     literalKind = iota
	litInteger              // -?digits
	litDecimal              // -?digits.digits
	litFloat                // what ParseFloat reads
	litString               // UTF-8
	litBytes                // x'..' and b'..'
	litDate                 // DATE '..'
	litTime                 // TIME '..'
	litDatetime             // TIMESTAMP '..'
)

// maxDigits is how many digits the server's DECIMAL has.
const maxDigits = 65

func literalOf(e ast.ExprNode) (literal, error) {
	e = bare(e)
	if u, ok := e.(*ast.UnaryOperationExpr); ok && (u.Op == opcode.Minus || u.Op == opcode.Plus) {
		l, err := literalOf(u.V)
		switch {
		case err != nil:
			return l, err
		case l.kind != litInteger && l.kind != litDecimal && l.kind != litFloat:
			return l, unsupported("a sign before what is no number", restore(e))
		case u.Op == opcode.Minus:
			l.text = negative(l.text)
		}
		return l, nil
	}
	if f, ok := e.(*ast.FuncCallExpr); ok {
		kinds := map[string]literalKind{ast.DateLiteral: litDate, ast.TimeLiteral: litTime, ast.TimestampLiteral: litDatetime}
		if kind, ok := kinds[f.FnName.L]; ok && len(f.Args) == 1 {
			l, err := literalOf(f.Args[0])
			if err == nil && l.kind == litString {
				return literal{kind, l.text}, nil
			}
		}
	}
	v, ok := e.(ast.ValueExpr)
	if !ok {
		return literal{}, unsupported(nameOf(e), restore(e))
	}
	if _, ok := e.(ast.ParamMarkerExpr); ok {
		return literal{}, unsupported(nameOf(e), "?")
	}
	return valueOf(v)
}

func valueOf(v ast.ValueExpr) (literal, error) {
	switch x := v.GetValue().(type) {
	case nil:
		return literal{}, nil
	case int64:
		return literal{litInteger, strconv.FormatInt(x, 10)}, nil
	case uint64:
		return literal{litInteger, strconv.FormatUint(x, 10)}, nil
	case float64:
		return literal{litFloat, strconv.FormatFloat(x, 'e', -1, 64)}, nil
	case string:
		// An introducer makes it a text of that character set.
		if cs := v.GetType().GetCharset(); cs != "" && cs != mysql.DefaultCharset {
			return literal{}, unsupported("a character set before a literal", "_"+cs)
		}
		return literal{litString, x}, nil
	case fmt.Stringer:
		if v.GetType().GetType() == mysql.TypeNewDecimal {
			return decimalOf(x.String())
		}
	}
	if b := reflect.ValueOf(v.GetValue()); b.Kind() == reflect.Slice && b.Type().Elem().Kind() == reflect.Uint8 {
		return literal{litBytes, string(b.Bytes())}, nil
	}
	return literal{}, unsupported("a literal of this type", restore(v))
}

// decimalOf reads a number with a point, or a whole one that is larger than 64 bits.
func decimalOf(text string) (literal, error) {
	whole, fraction, point := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if len(fraction) > 30 {
		return literal{}, unsupported("a number of more than 30 decimal places", text)
	}
	if len(whole)+len(fraction) > maxDigits {
		return literal{}, unsupported(fmt.Sprintf("a number of more than %d digits", maxDigits), text)
	}
	if _, ok := new(big.Int).SetString(whole+fraction, 10); !ok {
		return literal{}, unsupported("a number of this form", text)
	}
	if !point {
		return literal{litInteger, text}, nil
	}
	return literal{litDecimal, text}, nil
}

func negative(number string) string {
	if rest, ok := strings.CutPrefix(number, "-"); ok {
		return rest
	}
	return "-" + number
}
