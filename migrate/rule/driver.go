package rule

import (
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"

	"github.com/pingcap/tidb/pkg/parser/ast"
	"github.com/pingcap/tidb/pkg/parser/charset"
	"github.com/pingcap/tidb/pkg/parser/format"
	"github.com/pingcap/tidb/pkg/parser/mysql"
)

// The parser leaves it to its user what a literal is, in variables for the whole program. A program that is a user itself keeps
// its own: all that is needed of a literal here is its value, its type, and its text.
func init() { //nolint:gochecknoinits // that is how the parser wants it
	if ast.NewValueExpr != nil {
		return
	}
	ast.NewValueExpr = func(v any, charset, collation string) ast.ValueExpr { return newConstant(v, charset, collation) }
	ast.NewParamMarkerExpr = func(int) ast.ParamMarkerExpr { return &parameter{} }
	ast.NewDecimal = func(s string) (any, error) { return decimal(s), nil }
	ast.NewHexLiteral = func(s string) (any, error) { return parseBytes(s, "x", 16) }
	ast.NewBitLiteral = func(s string) (any, error) { return parseBytes(s, "b", 2) }
}

// A decimal is a number with a point, as it was written.
type decimal string

func (d decimal) String() string { return string(d) }

// A constant is a literal in the parser's tree.
type constant struct {
	ast.TexprNode
	value      any
	projection int
}

func newConstant(v any, charset, collation string) *constant {
	if c, ok := v.(*constant); ok {
		return c
	}
	c := &constant{value: v, projection: -1}
	switch x := v.(type) {
	case bool:
		c.value = int64(0)
		if x {
			c.value = int64(1)
		}
	case int:
		c.value = int64(x)
	case string:
		c.Type.SetCharset(charset)
		c.Type.SetCollate(collation)
	case decimal:
		c.Type.SetType(mysql.TypeNewDecimal)
	case []byte:
		binaryType(c)
	}
	return c
}

func binaryType(c *constant) {
	c.Type.SetCharset(charset.CharsetBin)
	c.Type.SetCollate(charset.CollationBin)
}

// Restore writes the literal as SQL.
func (c *constant) Restore(ctx *format.RestoreCtx) error {
	switch x := c.value.(type) {
	case nil:
		ctx.WriteKeyWord("NULL")
	case string:
		if cs := c.Type.GetCharset(); cs != "" && cs != mysql.DefaultCharset {
			ctx.WritePlain("_" + cs)
		}
		ctx.WriteString(x)
	case []byte:
		ctx.WritePlainf("x'%x'", x)
	case float64:
		ctx.WritePlain(strconv.FormatFloat(x, 'e', -1, 64))
	default:
		ctx.WritePlain(fmt.Sprint(x))
	}
	return nil
}

// Format writes the literal for people.
func (c *constant) Format(w io.Writer) { _, _ = fmt.Fprint(w, c.value) }

// Accept lets a visitor see the literal.
func (c *constant) Accept(v ast.Visitor) (ast.Node, bool) {
	n, _ := v.Enter(c)
	return v.Leave(n)
}

// SetValue sets the value.
func (c *constant) SetValue(v any) { c.value = v }

// GetValue is the value: nil, int64, uint64, float64, string, decimal, or []byte.
func (c *constant) GetValue() any { return c.value }

// GetString is the value of a text.
func (c *constant) GetString() string {
	s, _ := c.value.(string)
	return s
}

// GetDatumString is GetString.
func (c *constant) GetDatumString() string { return c.GetString() }

// GetProjectionOffset is the parser's own.
func (c *constant) GetProjectionOffset() int { return c.projection }

// SetProjectionOffset is the parser's own.
func (c *constant) SetProjectionOffset(n int) { c.projection = n }

// A parameter is a ? in the parser's tree, which is refused.
type parameter struct{ constant }

// Restore writes a question mark.
func (*parameter) Restore(ctx *format.RestoreCtx) error {
	ctx.WritePlain("?")
	return nil
}

// Accept lets a visitor see the parameter.
func (p *parameter) Accept(v ast.Visitor) (ast.Node, bool) {
	n, _ := v.Enter(p)
	return v.Leave(n)
}

// SetOrder is the parser's own.
func (*parameter) SetOrder(int) {}

// parseBytes reads x'4d' and 0x4d, or b'101' and 0b101.
func parseBytes(s, prefix string, base int) ([]byte, error) {
	digits, ok := strings.CutPrefix(s, "0"+prefix)
	quoted := !ok
	if quoted {
		digits = strings.Trim(s[min(1, len(s)):], "'")
	}
	if base == 16 {
		if len(digits)%2 == 1 && !quoted {
			digits = "0" + digits
		}
		return hex.DecodeString(digits)
	}
	out := make([]byte, (len(digits)+7)/8)
	if len(digits) == 0 {
		return out, nil
	}
	n, ok := new(big.Int).SetString(digits, base)
	if !ok {
		return nil, fmt.Errorf("%.40q is no literal of base %d", s, base)
	}
	return n.FillBytes(out), nil
}
