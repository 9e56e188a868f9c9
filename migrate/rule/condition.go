package rule

import (
	"github.com/pingcap/tidb/pkg/parser/ast"
	"github.com/pingcap/tidb/pkg/parser/opcode"
)

// A condition is what follows WHERE: a tree of AND, OR and NOT over atoms.
type condition struct {
	kind conditionKind
	args []*condition
	// atom is set for the leaves.
	atom *atom
	// text is the condition as SQL.
	text string
}

type conditionKind uint8

const (
	isAtom conditionKind = iota
	isAnd
	isOr
	isNot
)

// An atom compares one column with literals.
type atom struct {
	op     operator
	column string
	// values are one literal, or those of an IN; none for IS NULL.
	values []literal
	text   string
}

// An operator is that of an atom.
type operator uint8

const (
	opEqual operator = iota
	opNotEqual
	opLess
	opLessEqual
	opGreater
	opGreaterEqual
	opNullSafe // <=>
	opIn
	opIsNull
	opLike
)

// symbols are the operators as SQL writes them.
var symbols = map[operator]string{
	opEqual: "=", opNotEqual: "<>", opLess: "<", opLessEqual: "<=", opGreater: ">", opGreaterEqual: ">=", opNullSafe: "<=>",
	opIn: "IN", opIsNull: "IS NULL", opLike: "LIKE",
}

// mirrored are the operators when literal and column change sides.
var mirrored = map[operator]operator{
	opLess: opGreater, opLessEqual: opGreaterEqual, opGreater: opLess, opGreaterEqual: opLessEqual,
}

var comparisons = map[opcode.Op]operator{
	opcode.EQ: opEqual, opcode.NE: opNotEqual, opcode.LT: opLess, opcode.LE: opLessEqual, opcode.GT: opGreater, opcode.GE: opGreaterEqual,
	opcode.NullEQ: opNullSafe,
}

func conditionOf(table string, e ast.ExprNode) (*condition, error) {
	e = bare(e)
	c, err := treeOf(table, e)
	if err != nil {
		return nil, err
	}
	c.text = wholeText(e)
	if c.atom != nil && c.atom.text == "" {
		c.atom.text = restore(e)
	}
	return c, nil
}

func treeOf(table string, e ast.ExprNode) (*condition, error) {
	switch e := e.(type) {
	case *ast.BinaryOperationExpr:
		switch e.Op {
		case opcode.LogicAnd:
			return joined(table, isAnd, e.L, e.R)
		case opcode.LogicOr:
			return joined(table, isOr, e.L, e.R)
		default:
			if op, ok := comparisons[e.Op]; ok {
				return comparisonOf(table, op, e)
			}
		}
	case *ast.UnaryOperationExpr:
		if e.Op == opcode.Not || e.Op == opcode.Not2 {
			return joined(table, isNot, e.V)
		}
	case *ast.PatternInExpr:
		return inOf(table, e)
	case *ast.BetweenExpr:
		return betweenOf(table, e)
	case *ast.IsNullExpr:
		column, err := columnOf(table, e.Expr)
		return negated(&condition{atom: &atom{op: opIsNull, column: column}}, e.Not), err
	case *ast.PatternLikeOrIlikeExpr:
		return likeOf(table, e)
	case *ast.ColumnNameExpr:
		return nil, unsupported("a column as a condition", restore(e))
	case ast.ValueExpr:
		return nil, unsupported("a literal as a condition", restore(e))
	}
	return nil, unsupported(nameOf(e), restore(e))
}

func joined(table string, kind conditionKind, args ...ast.ExprNode) (*condition, error) {
	c := &condition{kind: kind}
	for _, a := range args {
		arg, err := conditionOf(table, a)
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, arg)
	}
	return c, nil
}

// negated puts a NOT before a condition if not is set.
func negated(c *condition, not bool) *condition {
	if !not {
		return c
	}
	return &condition{kind: isNot, args: []*condition{c}}
}

// comparisonOf reads column op literal, in either order.
func comparisonOf(table string, op operator, e *ast.BinaryOperationExpr) (*condition, error) {
	l, r := bare(e.L), bare(e.R)
	if _, ok := l.(*ast.ColumnNameExpr); !ok {
		if _, ok := r.(*ast.ColumnNameExpr); ok {
			l, r = r, l
			if m, ok := mirrored[op]; ok {
				op = m
			}
		}
	}
	return compared(table, op, l, r, restore(e))
}

func compared(table string, op operator, column, value ast.ExprNode, text string) (*condition, error) {
	name, err := columnOf(table, column)
	if err != nil {
		return nil, err
	}
	v, err := literalOf(value)
	if err != nil {
		return nil, err
	}
	return &condition{atom: &atom{op: op, column: name, values: []literal{v}, text: text}}, nil
}

func inOf(table string, e *ast.PatternInExpr) (*condition, error) {
	if e.Sel != nil {
		return nil, unsupported("a subquery", restore(e))
	}
	column, err := columnOf(table, e.Expr)
	if err != nil {
		return nil, err
	}
	a := &atom{op: opIn, column: column, text: restore(e)}
	for _, item := range e.List {
		v, err := literalOf(item)
		if err != nil {
			return nil, err
		}
		a.values = append(a.values, v)
	}
	if err := checkMix(a.text, a.values...); err != nil {
		return nil, err
	}
	return negated(&condition{atom: a}, e.Not), nil
}

// checkMix refuses literals of different kinds together: what they are compared as depends on all of them.
func checkMix(text string, literals ...literal) error {
	var first literalKind
	for _, l := range literals {
		kind := l.kind
		if kind == litDecimal {
			kind = litInteger
		}
		switch {
		case kind == litNull:
		case first == litNull:
			first = kind
		case kind != first:
			return unsupported("a mix of literals of different types", text)
		}
	}
	return nil
}

func betweenOf(table string, e *ast.BetweenExpr) (*condition, error) {
	text := restore(e)
	lo, err := compared(table, opGreaterEqual, e.Expr, e.Left, text)
	if err != nil {
		return nil, err
	}
	hi, err := compared(table, opLessEqual, e.Expr, e.Right, text)
	if err != nil {
		return nil, err
	}
	if err := checkMix(text, lo.atom.values[0], hi.atom.values[0]); err != nil {
		return nil, err
	}
	return negated(&condition{kind: isAnd, args: []*condition{lo, hi}}, e.Not), nil
}

func likeOf(table string, e *ast.PatternLikeOrIlikeExpr) (*condition, error) {
	switch {
	case !e.IsLike:
		return nil, unsupported("ILIKE", restore(e))
	case e.EscapeExplicit || e.Escape != '\\':
		return nil, unsupported("ESCAPE", restore(e))
	}
	c, err := compared(table, opLike, e.Expr, e.Pattern, restore(e))
	return negated(c, e.Not), err
}
