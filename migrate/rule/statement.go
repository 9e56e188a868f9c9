package rule

import (
	"fmt"
	"strings"

	"github.com/pingcap/tidb/pkg/parser"
	"github.com/pingcap/tidb/pkg/parser/ast"
	"github.com/pingcap/tidb/pkg/parser/format"
	"github.com/pingcap/tidb/pkg/parser/mysql"
	"github.com/pingcap/tidb/pkg/parser/opcode"
)

// Parse reads a rule: select [* | column [as name], ...] from table [where condition]. Errors are a *SyntaxError, an
// *UnsupportedError that names what goes beyond that, or a *ColumnError for a name that is used twice.
func Parse(text string) (*Rule, error) {
	if strings.TrimSpace(text) == "" {
		return nil, unsupported("an empty rule")
	}
	p := parser.New()
	p.SetSQLMode(mysql.ModeNone)
	nodes, _, err := p.ParseSQL(text)
	if err != nil {
		return nil, &SyntaxError{Rule: text, Err: err}
	}
	if len(nodes) != 1 {
		return nil, unsupported(fmt.Sprintf("a rule of %d statements", len(nodes)))
	}
	s, ok := nodes[0].(*ast.SelectStmt)
	if !ok {
		return nil, unsupported("a statement that is no plain SELECT", restore(nodes[0]))
	}
	if err := checkClauses(s); err != nil {
		return nil, err
	}
	r := &Rule{text: text}
	if r.Table, err = tableOf(s); err != nil {
		return nil, err
	}
	if r.Columns, err = columnsOf(r.Table, s.Fields); err != nil {
		return nil, err
	}
	if s.Where != nil {
		r.where, err = conditionOf(r.Table, s.Where)
	}
	return r, err
}

// checkClauses refuses every clause but the select list, FROM and WHERE.
func checkClauses(s *ast.SelectStmt) error {
	o := s.SelectStmtOpts
	for _, c := range []struct {
		there bool
		name  string
	}{
		{s.Kind != ast.SelectStmtKindSelect, "TABLE or VALUES as a statement"},
		{s.With != nil, "WITH"},
		{s.Distinct, "DISTINCT"},
		{s.GroupBy != nil, "GROUP BY"},
		{s.Having != nil, "HAVING"},
		{len(s.WindowSpecs) > 0, "WINDOW"},
		{s.OrderBy != nil, "ORDER BY"},
		{s.Limit != nil, "LIMIT"},
		{s.LockInfo != nil, "a locking clause"},
		{s.SelectIntoOpt != nil, "INTO"},
		{len(s.TableHints) > 0, "an optimizer hint"},
		{o != nil && (o.SQLBigResult || o.SQLBufferResult || o.SQLSmallResult || o.CalcFoundRows || o.StraightJoin || o.Priority != 0), "an option of SELECT"},
		{s.From == nil, "a rule without FROM"},
	} {
		if c.there {
			return unsupported(c.name)
		}
	}
	return nil
}

// tableOf finds the one table of FROM.
func tableOf(s *ast.SelectStmt) (string, error) {
	j := s.From.TableRefs
	if j == nil || j.Right != nil {
		return "", unsupported("a join", restore(s.From))
	}
	src, ok := j.Left.(*ast.TableSource)
	if !ok {
		return "", unsupported("a join", restore(s.From))
	}
	t, ok := src.Source.(*ast.TableName)
	switch {
	case !ok:
		return "", unsupported("a subquery in FROM", restore(s.From))
	case src.AsName.O != "":
		return "", unsupported("an alias of the table", restore(s.From))
	case t.Schema.O != "":
		return "", unsupported("a table name with a database", restore(s.From))
	case len(t.IndexHints) > 0:
		return "", unsupported("an index hint", restore(s.From))
	case len(t.PartitionNames) > 0:
		return "", unsupported("PARTITION", restore(s.From))
	case t.TableSample != nil || t.AsOf != nil:
		return "", unsupported("a sample or an older version of a table", restore(s.From))
	}
	return t.Name.O, nil
}

// columnsOf reads the select list.
func columnsOf(table string, list *ast.FieldList) ([]Column, error) {
	var columns []Column
	sources, targets := map[string]bool{}, map[string]bool{}
	for _, f := range list.Fields {
		if f.WildCard != nil {
			switch {
			case len(list.Fields) > 1:
				return nil, unsupported("a mix of * and columns")
			case f.WildCard.Schema.O != "" || f.WildCard.Table.O != "" && f.WildCard.Table.O != table:
				return nil, unsupported("* of another table", restore(f))
			}
			return nil, nil
		}
		name, err := columnOf(table, f.Expr)
		if err != nil {
			return nil, err
		}
		c := Column{Source: name, Target: name}
		if f.AsName.O != "" {
			c.Target = f.AsName.O
		}
		if sources[strings.ToLower(c.Source)] {
			return nil, &ColumnError{Table: table, Column: c.Source, What: "it is taken twice"}
		}
		if targets[strings.ToLower(c.Target)] {
			return nil, &ColumnError{Table: table, Column: c.Source, What: fmt.Sprintf("another column is named %s too", c.Target)}
		}
		sources[strings.ToLower(c.Source)], targets[strings.ToLower(c.Target)] = true, true
		columns = append(columns, c)
	}
	return columns, nil
}

// columnOf is the name of a plain column; anything else is refused by name.
func columnOf(table string, e ast.ExprNode) (string, error) {
	c, ok := bare(e).(*ast.ColumnNameExpr)
	if !ok {
		return "", unsupported(nameOf(e), restore(e))
	}
	if c.Name.Schema.O != "" || c.Name.Table.O != "" && c.Name.Table.O != table {
		return "", unsupported("a column of another table", restore(e))
	}
	return c.Name.Name.O, nil
}

// bare takes the parentheses off.
func bare(e ast.ExprNode) ast.ExprNode {
	for {
		p, ok := e.(*ast.ParenthesesExpr)
		if !ok {
			return e
		}
		e = p.Expr
	}
}

// nameOf names a construct that is not supported where it stands.
func nameOf(e ast.ExprNode) string {
	switch e := bare(e).(type) {
	case *ast.FuncCallExpr:
		switch name := e.FnName.L; name {
		case ast.DateLiteral, ast.TimeLiteral, ast.TimestampLiteral:
			return "a literal here"
		case "in_keyrange":
			return "in_keyrange (rows go to the shards of the target's own vindexes)"
		default:
			return "the function " + e.FnName.O
		}
	case *ast.AggregateFuncExpr:
		return "the aggregate " + e.F
	case *ast.WindowFuncExpr:
		return "the window function " + e.Name
	case *ast.FuncCastExpr:
		return "a conversion (CAST, CONVERT)"
	case *ast.SubqueryExpr, *ast.ExistsSubqueryExpr, *ast.CompareSubqueryExpr:
		return "a subquery"
	case *ast.CaseExpr:
		return "CASE"
	case *ast.RowExpr:
		return "a row of values"
	case *ast.VariableExpr:
		return "a variable"
	case ast.ParamMarkerExpr:
		return "a parameter"
	case *ast.DefaultExpr, *ast.ValuesExpr:
		return "DEFAULT or VALUES"
	case *ast.SetCollationExpr:
		return "COLLATE"
	case *ast.MatchAgainst:
		return "MATCH"
	case *ast.PatternRegexpExpr:
		return "REGEXP"
	case *ast.IsTruthExpr:
		return "IS TRUE or IS FALSE"
	case *ast.BinaryOperationExpr:
		return "the operator " + symbol(e.Op) + " here"
	case *ast.UnaryOperationExpr:
		return "the operator " + symbol(e.Op) + " here"
	case *ast.ColumnNameExpr:
		return "a column here"
	case ast.ValueExpr:
		return "a literal here"
	}
	return "an expression"
}

// symbol is an operator as it is written.
func symbol(op opcode.Op) string {
	var b strings.Builder
	op.Format(&b)
	return strings.ToUpper(b.String())
}

// restore is the text of a part of the rule, shortened.
func restore(n ast.Node) string {
	text := wholeText(n)
	if r := []rune(text); len(r) > 100 {
		return string(r[:100]) + "..."
	}
	return text
}

func wholeText(n ast.Node) string {
	var b strings.Builder
	if err := n.Restore(format.NewRestoreCtx(format.DefaultRestoreFlags, &b)); err != nil {
		return ""
	}
	return b.String()
}
