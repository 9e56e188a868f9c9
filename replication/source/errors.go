package source

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/replication"
)

// ErrUnsupportedServer means that the server is of a kind or version that can't be read from; the text names it.
// MySQL 8.0 and newer can.
var ErrUnsupportedServer = errors.New("unsupported source server")

// ErrNotRow means that the log holds a change as a statement, whose rows are not known, and that it may be one of an opened table, also
// by a view, a trigger, a routine or a foreign key; which it is can only be told by a user with SELECT and TRIGGER on *.*. Set binlog_format to ROW for
// every session of the source and start the copy again.
var ErrNotRow = errors.New("change was logged as a statement, not as rows (set binlog_format=ROW)")

// ErrPartialImage means that a row event lacks columns. Set binlog_row_image to FULL and
// binlog_row_value_options to ” for every session of the source and start the copy again.
var ErrPartialImage = errors.New("row event lacks columns (set binlog_row_image=FULL and binlog_row_value_options='')")

// ErrPreparedBefore means that an XA transaction was committed whose rows were prepared before the position
// that reading started from, and that the server has no log of that time any more, so they are not known. Start the copy again while no
// XA transaction is prepared that is older than the server's logs.
var ErrPreparedBefore = errors.New("XA transaction was prepared before the start position, and the log of that time is gone")

// ErrUnknownEvent means that a transaction holds an event of a type that this version can't read.
var ErrUnknownEvent = errors.New("event type is not known")

// ErrIncident means that the source logged an incident: it lost events (for example at a write error of its log).
// The copy has to start again.
var ErrIncident = errors.New("source logged an incident: events are missing from its log")

// ErrMalformedEvent means that bytes of the log do not decode.
var ErrMalformedEvent = errors.New("malformed event")

// A LogError means that a transaction of the log can't be mapped to changes. What came before it has been yielded.
type LogError struct {
	// GTID names the transaction; zero if it isn't known.
	GTID replication.GTID
	// Pos is the end of the event.
	Pos replication.LogPos
	// Err says why.
	Err error
}

// Error names the transaction and the place.
func (e *LogError) Error() string {
	if e.GTID.IsZero() {
		return fmt.Sprintf("log at %s: %v", e.Pos, e.Err)
	}
	return fmt.Sprintf("log at %s: transaction %s: %v", e.Pos, e.GTID, e.Err)
}

// Unwrap returns the reason.
func (e *LogError) Unwrap() error { return e.Err }

// A NoKeyError lists tables that have neither a primary key nor a unique key over NOT NULL columns. Add one,
// or leave the tables out.
type NoKeyError struct{ Tables []string }

// Error lists the tables.
func (e *NoKeyError) Error() string {
	return "no primary key or unique key over NOT NULL columns: " + strings.Join(e.Tables, ", ")
}

// A MissingTablesError lists tables that the schema does not have (or that are views).
type MissingTablesError struct {
	Schema string
	Tables []string
}

// Error lists the tables.
func (e *MissingTablesError) Error() string {
	return fmt.Sprintf("schema %s has no table %s", e.Schema, strings.Join(e.Tables, ", "))
}

// A ServerChangedError means that a connection led to another server than the one that the log is read from.
// It is transient: a new stream finds one server again.
type ServerChangedError struct {
	// Want and Have are server UUIDs.
	Want, Have string
}

// Error names both servers.
func (e *ServerChangedError) Error() string {
	return fmt.Sprintf("connected to server %s, but the log is read from %s", e.Have, e.Want)
}

// Transient is true.
func (e *ServerChangedError) Transient() bool { return true }

// mark wraps an error of the server or of the way to it as transient, if it is, and returns the
// context's cause if that is why.
func mark(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case replication.Transient(err):
		return err
	case mysqlerr.Transient(err, mysqlerr.Source):
		return &replication.TransientError{Err: err}
	}
	return err
}
