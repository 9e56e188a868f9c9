package replication

// OnDrift says what happens when the target does not hold what the stream has put there: an update or delete finds no
// row, or a row meets another one with the same value of a unique key (see DriftError). Whatever it says, each such
// row is told with table, key and both images, never passed over in silence.
type OnDrift int

const (
	// OnDriftStop ends the stream with the DriftError; nothing of the transaction is committed.
	OnDriftStop OnDrift = iota
	// OnDriftRepair makes the row what the source has: an update that finds no row inserts its after image, a delete that
	// finds none is done, and rows of the target that are in the way of an image by any unique key are removed. Rows
	// that the source does not change stay as they are: compare both ends (vdiff) to find those.
	OnDriftRepair
	// OnDriftSkip leaves the target as it is: the change of that row is not made, all others of the transaction are.
	OnDriftSkip
)

// String is "STOP", "REPAIR" or "SKIP".
func (o OnDrift) String() string {
	switch o {
	case OnDriftStop:
		return "STOP"
	case OnDriftRepair:
		return "REPAIR"
	case OnDriftSkip:
		return "SKIP"
	}
	return "unknown"
}
