package migrate

import (
	"errors"
	"fmt"
	"strings"
)

// What callers branch on. The typed errors below carry the facts and match these with errors.Is.
var (
	// ErrNotFound: the workflow, keyspace, shard, mount or table that was named is not there.
	ErrNotFound = errors.New("not found")
	// ErrExists: the workflow is there already; cancel or complete it, or use another name.
	ErrExists = errors.New("exists already")
	// ErrUnsupported: the request is understood and not built yet.
	ErrUnsupported = errors.New("not supported yet")
	// ErrNotReady: Complete was refused; wait, repair the workflow, or complete with Force.
	ErrNotReady = errors.New("not ready to complete")
)

// A NameError says that a workflow or source name is malformed.
type NameError struct {
	// Kind is "workflow" or "source", Form what such a name looks like, Text what was given.
	Kind, Form, Text string
	Reason           string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("malformed %s name %q: %s; it looks like %s", e.Kind, e.Text, e.Reason, e.Form)
}

// An OptionError says that an option's value makes no sense.
type OptionError struct {
	Option, Reason string
}

func (e *OptionError) Error() string { return fmt.Sprintf("option %s: %s", e.Option, e.Reason) }

// A NotFoundError names what is not there. It matches ErrNotFound.
type NotFoundError struct {
	// Kind is "workflow", "keyspace", "shard", "primary", "mount", "database" or "table".
	Kind, Name string
	// Reason says more where there is more to say.
	Reason string
	// Err is the cause where there is one.
	Err error
}

func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("%s %s not found", e.Kind, e.Name)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// Is tells whether target is ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// Unwrap returns the cause.
func (e *NotFoundError) Unwrap() error { return e.Err }

// An ExistsError names the workflow that is there already. It matches ErrExists.
type ExistsError struct {
	Workflow string
	State    State
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("workflow %s exists already (%s)", e.Workflow, e.State)
}

// Is tells whether target is ErrExists.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// A NotReadyError says why Complete was refused. It matches ErrNotReady.
type NotReadyError struct {
	Workflow string
	State    State
	Reason   string
}

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("workflow %s is not ready to complete: %s", e.Workflow, e.Reason)
}

// Is tells whether target is ErrNotReady.
func (e *NotReadyError) Is(target error) bool { return target == ErrNotReady }

// A RefusedError says that a command does not go with the state that the workflow is in.
type RefusedError struct {
	Workflow string
	State    State
	Command  string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("workflow %s is %s: it can't %s", e.Workflow, e.State, e.Command)
}

// A PlacementError means that the target keyspace's VSchema places a table's rows in another way than when the workflow was created:
// rows that have been copied could not be found any more. Change the VSchema back, or cancel the workflow and create it again.
type PlacementError struct {
	Table string
	// Was and Now are the placements, as JSON.
	Was, Now string
}

func (e *PlacementError) Error() string {
	return fmt.Sprintf("table %s: the VSchema places its rows by %s, and did so by %s when the workflow was created", e.Table, e.Now, e.Was)
}

// A StreamStoppedError says that a stream is not one that will apply more by itself.
type StreamStoppedError struct {
	// Shard is the target shard.
	Shard   string
	State   State
	Message string
}

func (e *StreamStoppedError) Error() string {
	s := fmt.Sprintf("the stream of target shard %s is %s", e.Shard, e.State)
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// StreamState is the state as Show prints it.
func (e *StreamStoppedError) StreamState() string { return string(e.State) }

// A PreflightError holds everything that Create or Complete found to be in the way, all at once.
// Nothing has been created or changed.
type PreflightError struct {
	Workflow string
	// Findings has at least one of severity SeverityError, and the warnings too.
	Findings []Finding
}

func (e *PreflightError) Error() string {
	var b strings.Builder
	n := 0
	for _, f := range e.Findings {
		if f.Severity == SeverityError {
			n++
			b.WriteString("\n  " + f.String())
		}
	}
	return fmt.Sprintf("workflow %s: %d thing(s) in the way:%s", e.Workflow, n, b.String())
}

// Unwrap returns the errors behind the findings.
func (e *PreflightError) Unwrap() []error {
	var errs []error
	for _, f := range e.Findings {
		if f.Err != nil && f.Severity == SeverityError {
			errs = append(errs, f.Err)
		}
	}
	return errs
}

// Is matches ErrNotFound and ErrUnsupported when a finding says so, so that callers who ask for
// nothing else need not look into the findings.
func (e *PreflightError) Is(target error) bool {
	for _, f := range e.Findings {
		if f.Severity != SeverityError {
			continue
		}
		switch target {
		case ErrNotFound:
			if f.Code == CodeUnknownTable {
				return true
			}
		case ErrUnsupported:
			if f.Code == CodeUnsupported {
				return true
			}
		}
	}
	return false
}
