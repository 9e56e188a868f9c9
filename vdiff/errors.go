package vdiff

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

var (
	// ErrNotFound is what every [NotFoundError] is.
	ErrNotFound = errors.New("not found")
	// ErrExists means that the UUID is taken: leave Options.UUID empty to get a new one.
	ErrExists = errors.New("vdiff exists")
	// ErrCopying means that the workflow has not copied all rows yet: wait for that, then compare.
	ErrCopying = errors.New("the workflow is still copying")
	// ErrNotRunning means that a stream is stopped or has failed, so the ends would never be at one
	// position: start the workflow, or see in Workflow.Show what is wrong.
	ErrNotRunning = errors.New("the workflow does not run")
	// ErrBehind is what every [BehindError] is.
	ErrBehind = errors.New("the target is too far behind")
	// ErrState means that a comparison is not in a state in which it can be run: somebody runs it, or it has ended.
	ErrState = errors.New("vdiff is not pending")
	// ErrNoKey means that a table has no primary key and no other NOT NULL unique key; leave it out with Options.Tables.
	ErrNoKey = errors.New("table has no usable key")
)

var (
	errWaitTimeout = errors.New("wait timeout")
	errNoShard     = errors.New("no such shard")
)

// A NotFoundError names what isn't there.
type NotFoundError struct {
	// Kind is "table" or "vdiff", Name what was asked for (several names are separated by ", "), Workflow where.
	Kind, Name, Workflow string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("workflow %s: %s %s not found", e.Workflow, e.Kind, e.Name)
}

// Is tells that e is an [ErrNotFound].
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// A StreamError means that a stream will not get to the position that a comparison waits for. It is an [ErrCopying]
// or an [ErrNotRunning].
type StreamError struct {
	// Workflow is keyspace.workflow, Shard the source shard of the stream, State what Show says of it.
	Workflow, Shard, State string
	Err                    error
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("workflow %s: source shard %s: stream is %s: %v", e.Workflow, e.Shard, e.State, e.Err)
}

// Unwrap returns the workflow's error.
func (e *StreamError) Unwrap() error { return e.Err }

// Is tells which sentinel e is.
func (e *StreamError) Is(target error) bool {
	if strings.EqualFold(e.State, "Copying") {
		return target == ErrCopying
	}
	return target == ErrNotRunning
}

// streamError explains an error of Workflow.WaitApplied, which says the stream's state if it has one.
func streamError(workflow, shard string, err error) error {
	var state interface {
		error
		StreamState() string
	}
	if errors.As(err, &state) {
		return &StreamError{Workflow: workflow, Shard: shard, State: state.StreamState(), Err: err}
	}
	return fmt.Errorf("workflow %s: source shard %s: %w", workflow, shard, err)
}

// A BehindError means that the target did not get to a position in time. Nothing is wrong with the rows; run it again
// when the workflow has caught up, or with a longer Options.WaitTimeout. It is an [ErrBehind].
type BehindError struct {
	Workflow, Shard string
	Position        replication.Position
	Timeout         time.Duration
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("workflow %s: the target has not applied source shard %s's position %s within %s",
		e.Workflow, e.Shard, e.Position, e.Timeout)
}

// Is tells that e is an [ErrBehind].
func (e *BehindError) Is(target error) bool { return target == ErrBehind }

// An OptionError names a field of [Options] that has no usable value.
type OptionError struct{ Option, Reason string }

func (e *OptionError) Error() string { return fmt.Sprintf("option %s: %s", e.Option, e.Reason) }
