package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

// A Failure is an error that a stream has met, perhaps again and again, without getting any further in between.
type Failure struct {
	// Message is the error as it was when it last happened.
	Message string
	// First and Last are when it happened, by the clock of the process that ran the stream; Count is how often.
	First, Last time.Time
	Count       int64
}

// failures are what a stream has met since it last got further: each kind of error once, the newest last.
type failures []failureRecord

// A failureRecord is a Failure as the sidecar keeps it.
type failureRecord struct {
	// Kind is the message without what changes from time to time.
	Kind string `json:"kind"`
	// Table is the one that could not be finished, if that was the error (replication.FinishError).
	Table   string    `json:"table,omitempty"`
	Message string    `json:"message"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Count   int64     `json:"count"`
}

// maxFailures bounds the kinds that are kept, and maxFailureText their texts.
const (
	maxFailures    = 8
	maxFailureText = 2000
)

// add notes that an error happened now, and returns what is known of it.
func (f *failures) add(now time.Time, err error) failureRecord {
	message := err.Error()
	kind := kindOf(message)
	now = now.UTC().Truncate(time.Millisecond)
	one := failureRecord{Kind: kind, First: now}
	if e, ok := errors.AsType[*replication.FinishError](err); ok {
		one.Table = e.Table
	}
	if i := slices.IndexFunc(*f, func(o failureRecord) bool { return o.Kind == kind && o.Table == one.Table }); i >= 0 {
		one = (*f)[i]
		*f = slices.Delete(*f, i, i+1)
	}
	one.Message, one.Last = cut(message), now
	one.Count++
	*f = append(*f, one)
	if len(*f) > maxFailures {
		*f = slices.Delete(*f, 0, len(*f)-maxFailures)
	}
	return one
}

// over removes the failures that are over: that of finishing a table when the table is finished, or not moved any more, all others if moved
// says that the stream got further. What is copied and committed of other tables says nothing of the one that can't be finished.
func (f *failures) over(p replication.Progress, moved bool) {
	*f = slices.DeleteFunc(*f, func(o failureRecord) bool {
		t, told := p.Tables[o.Table]
		return o.Table == "" && moved || o.Table != "" && (!told || t.Done)
	})
}

// unfinished is the newest message of a table that could not be finished; empty if there is none.
func (f failures) unfinished() string {
	for _, o := range slices.Backward(f) {
		if o.Table != "" {
			return o.Message
		}
	}
	return ""
}

// newest is the last one as Show tells it; nil if there is none.
func (f failures) newest() *Failure {
	if len(f) == 0 {
		return nil
	}
	l := f[len(f)-1]
	return &Failure{Message: l.Message, First: l.First, Last: l.Last, Count: l.Count}
}

// age is for how long the error has come back.
func (f failureRecord) age() time.Duration { return max(0, f.Last.Sub(f.First)) }

// overdue is the message of a stream that gives up.
func (f failureRecord) overdue() string {
	return fmt.Sprintf("tried again for %s, since %s, %d times: %s", f.age().Round(time.Second), f.First.Format(time.RFC3339), f.Count, f.Message)
}

var (
	uuids   = regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)
	numbers = regexp.MustCompile(`[0-9]+`)
	runs    = regexp.MustCompile(`#([-:,. ]*#)+`)
)

// kindOf is an error's text without positions, ports, ids and times, so that the same error is known again.
func kindOf(message string) string {
	s := uuids.ReplaceAllString(cut(message), "#")
	s = numbers.ReplaceAllString(s, "#")
	return runs.ReplaceAllString(s, "#")
}

func cut(s string) string {
	if len(s) > maxFailureText {
		return s[:maxFailureText]
	}
	return s
}

// retryTime is how long the stream tries the same error again; 0 is for ever.
func (m *Migrator) retryTime(r *record) time.Duration {
	return max(0, cmp.Or(r.RetryTime, m.opts.RetryTime))
}

// A milestone is how far a stream has come: what must have changed for an earlier failure to be over.
type milestone struct {
	position string
	rows     int64
}

func milestoneOf(p replication.Progress) milestone {
	m := milestone{position: p.Position.String()}
	for _, t := range p.Tables {
		m.rows += t.Rows
	}
	return m
}
