package replication

import (
	"errors"
	"fmt"
)

// What ends a stream and asks for a decision. Everything else that ends one is a typed error below, or the
// error of a server.
var (
	// ErrPositionGone means that the source has purged binary logs that the stream still needs. What was
	// copied can't be brought up to date: the copy has to start again.
	ErrPositionGone = errors.New("source has purged the binary logs after the position (the copy has to start again; keep logs for longer: binlog_expire_logs_seconds)")
	// ErrHistory means that the position holds transactions that the source has never had: it was
	// restored from an older backup, or a replica that lagged took over. The target may hold rows that the source
	// does not: go back to the right source, or start the copy again.
	ErrHistory = errors.New("position has transactions that the source never had (go back to the right source, or start the copy again)")
	// ErrFenced means that another owner has taken the stream over. The stream goes on there; this
	// owner stops, and nothing it had not committed will be.
	ErrFenced = errors.New("another owner has taken the stream over")
	// ErrCopied means that the stream was told to stop after the copy, and has copied every table.
	ErrCopied = errors.New("copy is complete")
	// ErrReached means that the stream was told to end at a position (Options.Until), and that the target has applied all
	// that comes before it.
	ErrReached = errors.New("position is reached")
)

// Transient tells whether an error, or one that it wraps, says that the same work may succeed if
// it is tried again: by a method Transient() bool, as TransientError has.
func Transient(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Transient() bool
	}](err)
	return ok && t.Transient()
}

// A TransientError marks an error as worth another try: a lost connection, a server that restarts.
type TransientError struct{ Err error }

// Error is the text of the marked error.
func (e *TransientError) Error() string { return e.Err.Error() }

// Unwrap returns the marked error.
func (e *TransientError) Unwrap() error { return e.Err }

// Transient is true.
func (e *TransientError) Transient() bool { return true }

// A FinishError says that the rows of a table are copied, and what was put off until then (secondary keys) failed. It is transient if
// Err is. The stream gets further without the table, so that it does says nothing about this error.
type FinishError struct {
	// Table is the table's name.
	Table string
	Err   error
}

// Error names the table.
func (e *FinishError) Error() string { return fmt.Sprintf("finish table %s: %v", e.Table, e.Err) }

// Unwrap returns what went wrong.
func (e *FinishError) Unwrap() error { return e.Err }

// A SchemaChangedError means that a table is not, or not any more, what the stream was opened with. Make
// both ends' schemas fit and start the stream again, so that it reads them anew; or leave out the table.
type SchemaChangedError struct {
	// Table is the table's name.
	Table string
	// What says what differs, such as "column 3 is bigint, was int".
	What string
}

// Error names the table and what differs.
func (e *SchemaChangedError) Error() string {
	return fmt.Sprintf("table %s: schema changed: %s", e.Table, e.What)
}

// A DriftError means that the target does not hold what the stream has put there: an update or delete found no
// row, or an insert found one. Somebody else writes to the target, or it lost data. Compare both ends (vdiff),
// repair the row, and start the stream again; nothing is lost meanwhile.
type DriftError struct {
	Table string
	// Key is the row's key as Table.FormatKey writes it.
	Key string
	// Op is "insert", "update" or "delete".
	Op string
	// Position is the source's position after the change; the target is still before it.
	Position Position
	// Before and After are the row as Table.Format writes it; empty if the change has none.
	Before, After string
	// Err is the target's error, such as a duplicate key; nil if it found no row.
	Err error
}

// Error says which change of which row did not fit.
func (e *DriftError) Error() string {
	what := "no such row on the target"
	if e.Err != nil {
		what = e.Err.Error()
	}
	s := fmt.Sprintf("table %s: %s of %s: %s", e.Table, e.Op, e.Key, what)
	if e.Before != "" {
		s += "; before " + e.Before
	}
	if e.After != "" {
		s += "; after " + e.After
	}
	return s + "; at " + clipTo(e.Position.String(), 256)
}

// Unwrap returns the target's error, or nil.
func (e *DriftError) Unwrap() error { return e.Err }

// A StoppedAtDDLError means that the source changed the schema of a table of the stream, which is
// set to stop then. The target is right before the statement. Run its like on the target, and let the stream go
// on after it.
type StoppedAtDDLError struct {
	// Statement is the text as the source logged it.
	Statement string
}

// Error shows the statement.
func (e *StoppedAtDDLError) Error() string {
	return "stopped before a schema change: " + clipTo(e.Statement, 1024)
}

// A RowError means that one value of a row can't be read, mapped or stored exactly. Change the value on the
// source or the column on the target, or leave the table out.
type RowError struct {
	Table string
	// Key is the row's key as Table.FormatKey writes it; empty if it isn't known.
	Key string
	// Column is empty if it is not one column's fault.
	Column string
	Err    error
}

// Error names the table, row and column.
func (e *RowError) Error() string {
	s := "table " + e.Table
	if e.Key != "" {
		s += ", row " + e.Key
	}
	if e.Column != "" {
		s += ", column " + e.Column
	}
	return fmt.Sprintf("%s: %v", s, e.Err)
}

// Unwrap returns what is wrong with the value.
func (e *RowError) Unwrap() error { return e.Err }

// clip and clipTo shorten a text for an error.
func clip(s string) string { return clipTo(s, 64) }

func clipTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return fmt.Sprintf("%s...(+%d bytes)", s[:n], len(s)-n)
}
