package migrate

import (
	"math"
	"time"
)

// A Status is a workflow at one moment, safe to keep and to compare with a later one. Its JSON form is that of
// Vitess's vtctldata.Workflow with additions: see MarshalJSON.
type Status struct {
	// Keyspace and Workflow are the two parts of the workflow's name.
	Keyspace, Workflow string
	// State is the gravest one of the streams, Message the message of that stream.
	State   State
	Message string
	// Mount is the external cluster, SourceKeyspace the keyspace in it.
	Mount, SourceKeyspace      string
	SourceShards, TargetShards []string
	// Lag is how far the slowest stream that should run is behind the source, in time.
	Lag     time.Duration
	Streams []StreamStatus
	// Tables is sorted by name.
	Tables []TableStatus
	// The options that the workflow was created with.
	OnDDL, OnDrift string
	// RetryTime is the workflow's own; 0 if the processes that run it decide.
	RetryTime          time.Duration
	StopAfterCopy      bool
	DeferSecondaryKeys bool
	SourceTimeZone     string
	TabletTypes, Cells []string
}

// Name is "keyspace.workflow".
func (s *Status) Name() string { return s.Keyspace + "." + s.Workflow }

// Progress is the share of bytes that has been copied, in percent; 100 only when all tables are complete.
func (s *Status) Progress() float64 {
	var sum TableStatus
	sum.Phase = PhaseComplete
	for _, t := range s.Tables {
		sum.Rows += t.Rows
		sum.RowsTotal += t.RowsTotal
		if t.Phase != PhaseComplete {
			sum.Phase = PhaseInProgress
		}
	}
	return percent(sum.Rows, sum.RowsTotal, sum.Phase)
}

// A StreamStatus is one stream: what flows from one source shard to one target shard.
type StreamStatus struct {
	ID                       int64
	SourceShard, TargetShard string
	// Tablet is the alias of the target shard's primary, such as "zone1-0000000100"; Database is the
	// database on it.
	Tablet, Database string
	State            State
	// Position is the source's position that has been applied, without flavor prefix; StopPosition is where the stream
	// will stop, if it will.
	Position, StopPosition string
	// Lag is how far the target is behind the source. It is the age of the last report when that is more.
	Lag time.Duration
	// Updated is when the stream last reported; Transaction is the commit time, by the source's clock, of
	// the last applied transaction. Both may be zero.
	Updated, Transaction time.Time
	// Message is the last error or the reason why the stream stopped.
	Message string
	// Failure is the last error since the stream last got further, with its first and last occurrence; nil if there was none. It
	// is told while the stream tries again, and in state Error.
	Failure *Failure
	// Drifts is how many rows were not what the stream had put there and did not stop it (see OnDrift). Logs has the last
	// ones, the table vreplication_log of the sidecar database at least the last 1,000 (if no more than that were in one transaction).
	Drifts int64
	// Owner is who runs the stream, as host:pid; empty if nobody does.
	Owner      string
	RowsCopied int64
	Tables     []TableStatus
	// Logs are the last entries of the stream's log, oldest first.
	Logs []LogEntry
}

// A Phase is how far the copy of a table is.
type Phase string

// The phases, as Vitess spells them.
const (
	PhaseNotStarted Phase = "NOT_STARTED"
	PhaseInProgress Phase = "IN_PROGRESS"
	PhaseComplete   Phase = "COMPLETE"
)

// A TableStatus is the copy of one table.
type TableStatus struct {
	Table string
	// Source is the table's name at the source, if that is another one; Rule is what of it is taken, if that is not all.
	Source, Rule string
	// Rows and Bytes have been committed on the target. Bytes are those of the rows as they travel.
	Rows, Bytes int64
	// RowsTotal is the source's own estimate while the copy runs, corrected by what was copied, and what was copied when it is
	// complete. BytesTotal follows from it.
	RowsTotal, BytesTotal int64
	// Percent is the share of rows, from 0 to 100. It is 100 only when the table is complete.
	Percent float64
	// RowsPerSecond is the mean rate of the copy; 0 when unknown.
	RowsPerSecond float64
	// ETA is the time left at that rate; 0 when unknown or done.
	ETA   time.Duration
	Phase Phase
}

// A LogEntry is one line of a stream's log.
type LogEntry struct {
	ID               int64
	Type             string
	State            State
	Created, Updated time.Time
	Message          string
	Count            int64
}

// percent is rows of total; it reaches 100 only in PhaseComplete.
func percent(rows, total int64, phase Phase) float64 {
	if phase == PhaseComplete {
		return 100
	}
	if total <= 0 || rows <= 0 {
		return 0
	}
	return min(99.9, math.Round(float64(rows)/float64(total)*1000)/10)
}

// minElapsed is when a rate is first told; one of the first moments would be anything.
const minElapsed = time.Second

// tableStatus puts together what is known about a table's copy. estimate is the source's number of rows, elapsed
// the time the copy has taken so far (0 if unknown).
func tableStatus(name string, rows, bytes, estimate int64, done, started bool, elapsed time.Duration) TableStatus {
	t := TableStatus{Table: name, Rows: rows, Bytes: bytes, Phase: PhaseNotStarted}
	switch {
	case done:
		t.Phase, t.RowsTotal, t.BytesTotal = PhaseComplete, rows, bytes
	case started || rows > 0:
		t.Phase = PhaseInProgress
		// An estimate below what is there is wrong; what is left is unknown, and not nothing.
		t.RowsTotal = max(estimate, rows)
	default:
		t.RowsTotal = estimate
	}
	if !done && rows > 0 {
		t.BytesTotal = max(bytes, int64(float64(bytes)/float64(rows)*float64(t.RowsTotal)))
	}
	t.Percent = percent(rows, t.RowsTotal, t.Phase)
	if (elapsed >= minElapsed || done && elapsed > 0) && rows > 0 {
		t.RowsPerSecond = float64(rows) / elapsed.Seconds()
	}
	if left := t.RowsTotal - rows; left > 0 && t.RowsPerSecond > 0 {
		t.ETA = time.Duration(float64(left) / t.RowsPerSecond * float64(time.Second)).Round(time.Second)
	}
	return t
}
