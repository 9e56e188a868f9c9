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

// Counts are numbers of rows that were compared, not of rows that should be there.
type Counts struct {
	// MatchingRows are on both ends and equal; MismatchedRows are on both ends, with the same key, and differ; the extra
	// ones are on one end only. A key that the server takes for equal though its bytes differ ('a' and 'A') is the same key. A row that
	// is on two target shards is extra on one of them. A table that every target shard holds whole counts once for each.
	MatchingRows, MismatchedRows, ExtraRowsSource, ExtraRowsTarget int64
	// MisplacedRows are on another target shard than the VSchema says, so that a vtgate does not find them. They are counted above too.
	MisplacedRows int64 `json:",omitempty"`
}

// RowsCompared is the number of rows that have been compared: a row that is on both ends counts once.
func (c *Counts) RowsCompared() int64 {
	return c.MatchingRows + c.MismatchedRows + c.ExtraRowsSource + c.ExtraRowsTarget
}

// HasMismatch tells whether a difference has been found.
func (c *Counts) HasMismatch() bool {
	return c.MismatchedRows > 0 || c.ExtraRowsSource > 0 || c.ExtraRowsTarget > 0 || c.MisplacedRows > 0
}

// A TableReport is what the comparison of one table has found so far.
type TableReport struct {
	// Table is the name on the target.
	Table string
	State State
	// RowsEstimate is the source's own estimate of the table's size when the comparison began, for each copy that the target has.
	RowsEstimate int64
	// Counts are of all shards.
	Counts
	// RowsUnsettled changed each time that they were read, so there is no verdict on them. Compare again when there are
	// fewer writes.
	RowsUnsettled int64
	// The samples hold the first differences of each kind, Options.MaxSampleRows at most of each target shard. The counts above are
	// complete all the same.
	Mismatched, ExtraSource, ExtraTarget []Difference
	Misplaced                            []Difference `json:",omitempty"`
	// Shards are the counts of the target shards that the table is compared on, sorted by name.
	Shards []*ShardReport
	// LastKey is the key up to which the table has been compared, for people: values separated by ", ".
	LastKey   string
	UpdatedAt time.Time
	// homeless counts what belongs on no shard.
	homeless ShardReport
}

// A ShardReport is what the comparison of one table has found on one target shard. A row of the source that is nowhere on the target
// counts where it belongs.
type ShardReport struct {
	Shard string
	Counts
}

// Shard is the report of a target shard; nil if the table isn't compared there.
func (t *TableReport) Shard(name string) *ShardReport {
	for _, s := range t.Shards {
		if s.Shard == name {
			return s
		}
	}
	return nil
}

// on is Shard for counting.
func (t *TableReport) on(shard string) *ShardReport {
	if s := t.Shard(shard); s != nil {
		return s
	}
	return &t.homeless
}

// A Difference is a row that is not the same on both ends, or on the wrong shard.
type Difference struct {
	// Key are the values of the identifying columns; of the source's row if there is one. Columns have the target's names.
	Key Values
	// Source and Target are the row on either end; nil where it is not there.
	Source, Target Values
	// Columns are the names of the columns that differ, in table order; nil for an extra row.
	Columns []string
	// Shard is the target shard that the row is on; where it belongs if it is on the source only; empty if no keyspace
	// id can be computed for it. SourceShard is the source shard that it is on, empty if it is on none.
	Shard, SourceShard string
	// Belongs is set for misplaced rows: the target shard where the row should be; empty if no keyspace id can be computed.
	Belongs string `json:",omitempty"`
}

// A find is a pair of rows that differ, nil where there is none.
type find struct {
	source, target replication.Row
	// from is the source's shard, shard the target's.
	from, shard string
}

// add counts a difference and keeps it as a sample if there is room.
func (t *TableReport) add(d *display, f find) error {
	on := t.on(f.shard)
	count, one, samples := &t.MismatchedRows, &on.MismatchedRows, &t.Mismatched
	switch {
	case f.target == nil:
		count, one, samples = &t.ExtraRowsSource, &on.ExtraRowsSource, &t.ExtraSource
	case f.source == nil:
		count, one, samples = &t.ExtraRowsTarget, &on.ExtraRowsTarget, &t.ExtraTarget
	}
	*count++
	*one++
	return d.sample(samples, *one, f, "")
}

// addMisplaced is add for a row that is on one shard and belongs on another.
func (t *TableReport) addMisplaced(d *display, shard, belongs string, row replication.Row) error {
	t.MisplacedRows++
	on := t.on(shard)
	on.MisplacedRows++
	return d.sample(&t.Misplaced, on.MisplacedRows, find{target: row, shard: shard}, belongs)
}
