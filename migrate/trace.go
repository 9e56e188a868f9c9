package migrate

import (
	"context"
	"time"
)

// Trace is a set of hooks into commands and streams. Every field may be nil. A hook that blocks holds up what it
// reports.
type Trace struct {
	// StepStarting is called before each step of Create, Complete and Cancel.
	StepStarting func(ctx context.Context, workflow string, s Step)
	// StreamStarting is called each time that this process begins to run a stream.
	StreamStarting func(StreamInfo)
	// StreamEnded is called when a run of a stream has ended, with its error, and the wait before
	// the next try (0: there is none).
	StreamEnded func(i StreamInfo, err error, retry time.Duration)
	// StateChanged is called when this process has stored a new state for a stream.
	StateChanged func(i StreamInfo, from, to State)
}

// A StreamInfo says which stream a hook is about.
type StreamInfo struct {
	Workflow                 string
	ID                       int64
	SourceShard, TargetShard string
}

func (t *Trace) stepStarting(ctx context.Context, workflow string, s Step) {
	if t.StepStarting != nil {
		t.StepStarting(ctx, workflow, s)
	}
}

func (t *Trace) streamStarting(i StreamInfo) {
	if t.StreamStarting != nil {
		t.StreamStarting(i)
	}
}

func (t *Trace) streamEnded(i StreamInfo, err error, retry time.Duration) {
	if t.StreamEnded != nil {
		t.StreamEnded(i, err, retry)
	}
}

func (t *Trace) stateChanged(i StreamInfo, from, to State) {
	if t.StateChanged != nil {
		t.StateChanged(i, from, to)
	}
}
