package migrate

// A State is where a stream, or a workflow as a whole, is.
type State string

// The states. Lagging is only shown: it is a stream that is stored as Running and is more than 10 s behind, or that nobody
// has reported on for so long.
const (
	// StateCreating: Create is at work, or was killed; Create or Cancel of the same name cleans up.
	StateCreating State = "Creating"
	// StateStopped: nothing runs until Start.
	StateStopped State = "Stopped"
	// StateCopying: rows are copied, and the changes of what was copied are applied.
	StateCopying State = "Copying"
	// StateRunning: all rows are there, changes are applied.
	StateRunning State = "Running"
	// StateLagging: it should be running and is behind; perhaps no process runs it.
	StateLagging State = "Lagging"
	// StateError: stopped by an error that trying again does not cure; Start tries again.
	StateError State = "Error"
	// StateCompleting: Complete is at work, or was killed; Complete goes on.
	StateCompleting State = "Completing"
	// StateCancelling: Cancel is at work, or was killed; Cancel goes on.
	StateCancelling State = "Cancelling"
)

// An event is what moves a stream from one state to another.
type event string

const (
	eventCreated  event = "created"  // Create has made everything
	eventStart    event = "start"    // Start, and rows are left to copy
	eventResume   event = "resume"   // Start, and all rows are copied
	eventCopied   event = "copied"   // the last table is copied and finished
	eventFinish   event = "finish"   // the stream came to an end that was asked for (StopAfterCopy, a DDL)
	eventStop     event = "stop"     // Stop
	eventFail     event = "fail"     // a permanent error
	eventComplete event = "complete" // Complete has passed its checks
	eventCancel   event = "cancel"   // Cancel
)

// next is the whole state machine. What is not in it is refused with a *RefusedError.
var next = map[State]map[event]State{
	StateCreating: {
		eventCreated: StateStopped,
		eventCancel:  StateCancelling,
	},
	StateStopped: {
		eventStart:    StateCopying,
		eventResume:   StateRunning,
		eventStop:     StateStopped,
		eventComplete: StateCompleting,
		eventCancel:   StateCancelling,
	},
	StateCopying: {
		eventStart:    StateCopying,
		eventResume:   StateRunning,
		eventCopied:   StateRunning,
		eventFinish:   StateStopped,
		eventStop:     StateStopped,
		eventFail:     StateError,
		eventComplete: StateCompleting,
		eventCancel:   StateCancelling,
	},
	StateRunning: {
		eventStart:    StateCopying,
		eventResume:   StateRunning,
		eventCopied:   StateRunning,
		eventFinish:   StateStopped,
		eventStop:     StateStopped,
		eventFail:     StateError,
		eventComplete: StateCompleting,
		eventCancel:   StateCancelling,
	},
	StateError: {
		eventStart:    StateCopying,
		eventResume:   StateRunning,
		eventStop:     StateStopped,
		eventComplete: StateCompleting,
		eventCancel:   StateCancelling,
	},
	StateCompleting: {
		eventComplete: StateCompleting,
	},
	StateCancelling: {
		eventCancel: StateCancelling,
	},
}

// after is the state that e leads to from s, and whether it may happen at all.
func (s State) after(e event) (State, bool) {
	to, ok := next[s][e]
	return to, ok
}

// runs tells whether a stream in this state has work for a worker.
func (s State) runs() bool { return s == StateCopying || s == StateRunning }

// severity orders states for an overall one: the state of a workflow is the gravest of its streams.
var severity = map[State]int{
	StateRunning:    1,
	StateStopped:    2,
	StateCopying:    3,
	StateLagging:    4,
	StateError:      5,
	StateCreating:   6,
	StateCompleting: 7,
	StateCancelling: 8,
}

// overall is the state of a workflow with streams in these states.
func overall(states []State) State {
	var worst State
	for _, s := range states {
		if severity[s] > severity[worst] {
			worst = s
		}
	}
	return worst
}
