package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
)

// A RecordError means that the stream's record in the sidecar database is not one that this stream has written: of
// another version of this library, restored in part, or changed by hand. Nothing is applied or changed. Restore the record, or
// begin the copy again.
type RecordError struct {
	StreamID int64
	// What names the part of the record.
	What string
	Err  error
}

// Error names the stream and the part of its record.
func (e *RecordError) Error() string {
	return fmt.Sprintf("record of stream %d: %s: %v", e.StreamID, e.What, e.Err)
}

// Unwrap returns what is wrong with it.
func (e *RecordError) Unwrap() error { return e.Err }

var (
	errNoPosition = errors.New("rows are copied, but there is no position to go on from")
	errBackwards  = errors.New("it begins after its end")
)

// checkSpans refuses spans that the stream can't have written, and spans of another key than the table has now: the source may have
// been altered while no stream ran.
func (t *Target) checkSpans(ctx context.Context, cp *replication.Checkpoint, reported map[string]sidecar.TableProgress) error {
	spans, err := t.side.Spans(ctx, t.cfg.StreamID)
	if err != nil {
		return err
	}
	if len(spans) > 0 && cp.Position.IsZero() {
		return &RecordError{StreamID: t.cfg.StreamID, What: "position", Err: errNoPosition}
	}
	for _, table := range t.cfg.Tables {
		partly := slices.DeleteFunc(slices.Clone(spans), func(s sidecar.Span) bool { return s.Table != table.Name || s.Lo == nil && s.Hi == nil })
		if was, now := reported[table.Name].Key, keyText(table); was != "" && was != now && len(partly) > 0 {
			return &replication.SchemaChangedError{
				Table: table.Name,
				What:  fmt.Sprintf("its identifying key is (%s), and was (%s) when rows of it were copied: the copy has to begin again", now, was),
			}
		}
		for _, s := range partly {
			if err := checkSpan(table, s); err != nil {
				return &RecordError{StreamID: t.cfg.StreamID, What: fmt.Sprintf("copied span %d of table %s", s.ID, table.Name), Err: err}
			}
		}
	}
	return nil
}

func checkSpan(table *replication.Table, s sidecar.Span) error {
	for _, k := range []replication.Key{s.Lo, s.Hi} {
		if k == nil {
			continue
		}
		if err := table.CheckKey(k); err != nil {
			return err
		}
	}
	if s.Lo != nil && s.Hi != nil && table.Ordered && table.Compare(s.Lo, s.Hi) > 0 {
		return errBackwards
	}
	return nil
}

// keyText names a table's identifying key: what its order depends on.
func keyText(table *replication.Table) string {
	var columns []string
	for _, i := range table.Primary.Columns {
		c := &table.Columns[i]
		columns = append(columns, strings.TrimSpace(c.Name+" "+c.Type+" "+c.Collation))
	}
	return strings.Join(columns, ", ")
}
