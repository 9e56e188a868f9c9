package migrate

import "testing"

// Every stored state and every event is in the table, no event leads out of it, and what is begun to be removed
// can only be removed.
func TestStates(t *testing.T) {
	stored := []State{
		StateCreating, StateStopped, StateCopying, StateRunning, StateError, StateCompleting, StateCancelling,
	}
	events := []event{
		eventCreated, eventStart, eventResume, eventCopied, eventFinish, eventStop, eventFail, eventComplete, eventCancel,
	}
	if len(next) != len(stored) {
		t.Errorf("%d states in the table, want %d", len(next), len(stored))
	}
	seen := map[event]bool{}
	for _, s := range stored {
		for e, to := range next[s] {
			seen[e] = true
			if _, ok := next[to]; !ok {
				t.Errorf("%s of %s leads to %s, which is not in the table", e, s, to)
			}
			if again, ok := to.after(e); ok && again != to {
				t.Errorf("%s is not idempotent: %s, %s, %s", e, s, to, again)
			}
		}
		if to, ok := s.after(eventCancel); ok != (s != StateCompleting) || ok && to != StateCancelling {
			t.Errorf("cancel of %s gives %s, %v", s, to, ok)
		}
	}
	for _, e := range events {
		if !seen[e] {
			t.Errorf("no state knows %s", e)
		}
	}
	for _, s := range []State{StateCompleting, StateCancelling, StateCreating, StateStopped, StateError} {
		if s.runs() {
			t.Errorf("%s runs", s)
		}
	}
	if got := overall([]State{StateRunning, StateError, StateCopying}); got != StateError {
		t.Errorf("overall state %s, want Error", got)
	}
	if _, ok := StateCreating.after(eventStart); ok {
		t.Error("a half created workflow can be started")
	}
}
