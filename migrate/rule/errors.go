package rule

import "fmt"

// An UnsupportedError means that a rule asks for more than a projection and a row filter, or for a comparison of which the
// result is not known exactly. Write the rule without it.
type UnsupportedError struct {
	// Construct names what is not supported, such as "GROUP BY" or "a comparison of a JSON column".
	Construct string
	// Text is the part of the rule; empty if the construct says all.
	Text string
}

// Error names the construct.
func (e *UnsupportedError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("rule: %s is not supported", e.Construct)
	}
	return fmt.Sprintf("rule: %s is not supported: %s", e.Construct, e.Text)
}

// A SyntaxError means that a rule is no SQL.
type SyntaxError struct {
	Rule string
	Err  error
}

// Error shows the rule and what the parser says.
func (e *SyntaxError) Error() string { return fmt.Sprintf("rule %.200q: %v", e.Rule, e.Err) }

// Unwrap returns the parser's error.
func (e *SyntaxError) Unwrap() error { return e.Err }

// A ColumnError means that a column of a rule does not fit its table.
type ColumnError struct {
	// Table is the source's.
	Table, Column string
	// What says what is wrong, such as "the table has no such column".
	What string
}

// Error names table and column.
func (e *ColumnError) Error() string {
	return fmt.Sprintf("rule: table %s, column %s: %s", e.Table, e.Column, e.What)
}

func unsupported(construct string, text ...string) error {
	e := &UnsupportedError{Construct: construct}
	if len(text) > 0 {
		e.Text = text[0]
	}
	return e
}
