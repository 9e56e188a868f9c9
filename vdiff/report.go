package vdiff

import (
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

// State is how far a comparison, or one of its tables, has come.
type State string

// The states of a comparison and of its tables.
const (
	// StatePending: recorded, and not begun.
	StatePending State = "pending"
	// StateStarted: somebody compares.
	StateStarted State = "started"
	// StateCompleted: all rows have been compared; whether they are equal is another question.
	StateCompleted State = "completed"
	// StateStopped: the caller's context ended before the end.
	StateStopped State = "stopped"
	// StateError: it ended with LastError.
	StateError State = "error"
)

// Done tells whether s is a state in which nothing happens any more.
func (s State) Done() bool { return s == StateCompleted || s == StateStopped || s == StateError }

// A Report is what a comparison has found so far. It is final when State.Done. Its JSON has the names that VDiff has in
// Vitess, with UTC times as "2006-01-02 15:04:05".
type Report struct {
	// Workflow and Keyspace are the two parts of the workflow's name.
	Workflow, Keyspace string
	UUID               string
	State              State
	// SourceShards and TargetShards are sorted.
	SourceShards, TargetShards []string
	Options                    Options
	// CreatedAt is set always, StartedAt and CompletedAt once that has happened.
	CreatedAt, StartedAt, CompletedAt time.Time
	// LastError is set in StateError and StateStopped.
	LastError string
	// Tables are sorted by name.
	Tables []*TableReport
}

// RowsCompared is the number of rows that have been compared in all tables; see TableReport.RowsCompared.
func (r *Report) RowsCompared() int64 {
	var n int64
	for _, t := range r.Tables {
		n += t.RowsCompared()
	}
	return n
}

// HasMismatch tells whether a table has a difference so far. It says nothing about what has not been compared: only with
// StateCompleted and no unsettled rows does false mean that the ends are equal.
func (r *Report) HasMismatch() bool {
	for _, t := range r.Tables {
		if t.HasMismatch() {
			return true
		}
	}
	return false
}

// Unsettled is the number of rows for which there is no verdict; see TableReport.RowsUnsettled.
func (r *Report) Unsettled() int64 {
	var n int64
	for _, t := range r.Tables {
		n += t.RowsUnsettled
	}
	return n
}

// Equal tells whether all rows have been compared and found equal.
func (r *Report) Equal() bool {
	return r.State == StateCompleted && !r.HasMismatch() && r.Unsettled() == 0
}

// A Progress says how much of a comparison is done.
type Progress struct {
	// Percentage is from 0 to 100, of the number of rows that the servers estimate; 100 only when the comparison has completed.
	Percentage float64 `json:"Percentage"`
	// ETA is zero as long as there is no estimate.
	ETA time.Time `json:"-"`
}

// maxETA is as far ahead as an estimate makes sense.
const maxETA = 365 * 24 * time.Hour

// Progress estimates how much is done at the time now.
func (r *Report) Progress(now time.Time) Progress {
	if r.State == StateCompleted {
		return Progress{Percentage: 100}
	}
	var done, all float64
	for _, t := range r.Tables {
		rows := float64(max(t.RowsEstimate, t.RowsCompared()))
		if t.State == StateCompleted {
			rows = float64(t.RowsCompared())
		}
		done, all = done+float64(t.RowsCompared()), all+rows
	}
	if all == 0 {
		return Progress{}
	}
	// A table that turns out larger than estimated would show 100 before its end.
	p := Progress{Percentage: min(100*done/all, 99.99)}
	if elapsed := now.Sub(r.StartedAt); p.Percentage >= 1 && r.State == StateStarted && elapsed > 0 {
		left := time.Duration(min(float64(elapsed)/p.Percentage*(100-p.Percentage), float64(maxETA)))
		p.ETA = now.Add(left)
	}
	return p
}

// A TableReport is what the comparison of one table has found so far. The counts are of rows that were
// compared, not of rows that should be there.
type TableReport struct {
	Table string
	State State
	// RowsEstimate is the source's own estimate of the table's size when the comparison began.
	RowsEstimate int64
	// MatchingRows are on both ends and equal; MismatchedRows are on both ends, with the same key, and differ; the extra
	// ones are on one end only. A key that the server takes for equal though its bytes differ ('a' and 'A') is the same key.
	MatchingRows, MismatchedRows, ExtraRowsSource, ExtraRowsTarget int64
	// RowsUnsettled changed each time that they were read, so there is no verdict on them. Compare again when there are
	// fewer writes.
	RowsUnsettled int64
	// The samples hold the first differences of each kind, Options.MaxSampleRows at most. The counts above are
	// complete all the same.
	Mismatched, ExtraSource, ExtraTarget []Difference
	// LastKey is the key up to which the table has been compared, for people: values separated by ", ".
	LastKey   string
	UpdatedAt time.Time
}

// RowsCompared is the number of rows that have been compared: a row that is on both ends counts once.
func (t *TableReport) RowsCompared() int64 {
	return t.MatchingRows + t.MismatchedRows + t.ExtraRowsSource + t.ExtraRowsTarget
}

// HasMismatch tells whether a difference has been found.
func (t *TableReport) HasMismatch() bool {
	return t.MismatchedRows > 0 || t.ExtraRowsSource > 0 || t.ExtraRowsTarget > 0
}

// A Difference is a row that is not the same on both ends.
type Difference struct {
	// Key are the values of the identifying columns; of the source's row if there is one.
	Key Values
	// Source and Target are the row on either end; nil where it is not there.
	Source, Target Values
	// Columns are the names of the columns that differ, in table order; nil for an extra row.
	Columns []string
}

// add counts a difference and keeps it as a sample if there is room. A nil row is one that isn't there.
func (t *TableReport) add(d *display, source, target replication.Row) error {
	count, samples := &t.MismatchedRows, &t.Mismatched
	switch {
	case target == nil:
		count, samples = &t.ExtraRowsSource, &t.ExtraSource
	case source == nil:
		count, samples = &t.ExtraRowsTarget, &t.ExtraTarget
	}
	*count++
	if len(*samples) >= d.samples {
		return nil
	}
	diff, err := d.difference(source, target)
	if err != nil {
		return err
	}
	*samples = append(*samples, diff)
	return nil
}
