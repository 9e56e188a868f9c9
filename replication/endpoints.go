package replication

import (
	"context"
	"iter"
	"time"
)

// A Source reads one source shard. All its methods speak to one server at a time, the one whose
// identity LogPos.Server tells, and may be called at once from several goroutines. An error for which
// Transient says true is worth another try on a new Source or the same one.
type Source interface {
	// End returns a position that every transaction seen by an earlier read is at or before in the log:
	// the end of the log now, and the set of transactions that are visible to reads now (a
	// transaction can be in the log, before the end, and not yet visible).
	End(ctx context.Context) (LogPos, Position, error)
	// Transactions yields what comes after from, in log order, and waits for more at the end, until the
	// context ends or an error does. When nothing happens it yields a transaction without GTID at
	// least every few seconds, and as soon as it has skipped to a new place in the log. It
	// reconnects by itself, resuming after what it has yielded; if that leads to another server, later
	// LogPos tell.
	Transactions(ctx context.Context, from Position) iter.Seq2[*Transaction, error]
	// WaitVisible blocks until every transaction in p is visible to reads on the server.
	WaitVisible(ctx context.Context, p Position) error
	// Read reads the rows of span in key order, in one consistent read that holds nothing afterwards, and
	// stops early when it has limit.Rows rows or limit.Bytes bytes (at least one row is returned if
	// there is one). It returns the span that the rows cover: span itself, or its part up to the last row. A source that leaves out rows
	// may return fewer, and none, and a part that ends anywhere.
	Read(ctx context.Context, t *Table, span Span, limit Limit) (*Chunk, error)
	// Split returns up to n-1 keys that cut the table into parts that can be read in parallel; nil if it can't be cut
	// cheaply.
	Split(ctx context.Context, t *Table, n int) ([]Key, error)
}

// Limit bounds one read.
type Limit struct{ Rows, Bytes int }

// A Target executes the log of one source shard on one target shard: entries in order, each in one
// transaction together with the record of it.
type Target interface {
	// Load takes the stream over (an earlier owner can no longer commit) and returns what has been applied.
	Load(ctx context.Context) (*Checkpoint, error)
	// Start records that the stream begins at p; called once, when Load returned no position.
	Start(ctx context.Context, p Position) error
	// Run executes appended entries until the context ends or an entry can't be executed. Nothing
	// that was appended and not committed is executed after Run has returned.
	Run(ctx context.Context) error
	// Append puts an entry at the end of the log. It blocks while the target holds more bytes
	// than it may, and returns the context's error if that ends first. Calls do not overlap.
	Append(ctx context.Context, e *Entry) error
	// FinishTable does what was put off until the table's rows are copied (secondary keys); it runs
	// beside the stream and for several tables at once, and does nothing when it was done before.
	FinishTable(ctx context.Context, t *Table) error
	// Report saves progress for others to see; it has no part in recovery.
	Report(ctx context.Context, p Progress) error
}

// A Checkpoint is what a target has durably applied.
type Checkpoint struct {
	// Position is zero if the stream has not started. Of a target of several parts it is where the log has to be read from: what
	// comes after it has not been applied by all of them.
	Position Position
	// Level is where the log has to be read to before all parts have applied the same; zero if they have. No chunk is put into
	// the log before that.
	Level Position
	// Copied are the spans of each table, by name, whose chunks have been committed; by at least one part, if there are several.
	Copied map[string][]Span
	// Missing are, by table name, the spans that have to be read, though some parts may have them. Of a table that is
	// not in it that is what Copied leaves.
	Missing map[string][]Span
	// Finished are the tables, by name, for which FinishTable has been done.
	Finished map[string]bool
	// Rows and Bytes are what the committed chunks held, by table name.
	Rows, Bytes map[string]int64
}

// missing returns what has to be read of a table.
func (cp *Checkpoint) missing(t *Table) []Span {
	if spans, told := cp.Missing[t.Name]; told {
		return spans
	}
	return NewSpanSet(t, cp.Copied[t.Name]...).Missing()
}

// Progress is the state of a stream at one time.
type Progress struct {
	// Copying is true until every table has been copied and finished.
	Copying bool
	// Position is the target's position.
	Position Position
	// Committed is the source's commit time of the last transaction applied; zero before the first.
	Committed time.Time
	// Lag is how far the target is behind the source.
	Lag time.Duration
	// Read is when the source was last heard of; CaughtUp says that all that was read by then has been applied.
	Read     time.Time
	CaughtUp bool
	// Tables is by name.
	Tables map[string]TableProgress
}

// TableProgress is how far a table's copy has come.
type TableProgress struct {
	// Rows and Bytes have been copied (committed on the target).
	Rows, Bytes int64
	Done        bool
}
