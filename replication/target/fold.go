package target

import (
	"context"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
)

// foldSpans is how many rows of a table are added to copy_state before they are folded.
const foldSpans = 1000

// fold merges the recorded spans of the tables that have got many since the last time.
func (s *store) fold(ctx context.Context) error {
	var due []*replication.Table
	s.mu.Lock()
	for _, t := range s.t.cfg.Tables {
		if s.mu.added[t.Name] >= foldSpans {
			due = append(due, t)
			delete(s.mu.added, t.Name)
		}
	}
	s.mu.Unlock()
	return s.foldTables(ctx, due)
}

// foldTables merges the recorded spans of tables.
func (s *store) foldTables(ctx context.Context, tables []*replication.Table) error {
	for _, t := range tables {
		err := s.side.FoldSpans(ctx, s.id, s.epoch, t.Name, func(old []sidecar.Span) []sidecar.Span { return merge(t, old) })
		if err != nil {
			return err
		}
	}
	return nil
}

// merge joins spans that touch; the first of the result carries the counts of all.
func merge(t *replication.Table, old []sidecar.Span) []sidecar.Span {
	set := replication.NewSpanSet(t)
	var rows, bytes int64
	for _, o := range old {
		set.Add(replication.Span{Lo: o.Lo, Hi: o.Hi})
		rows, bytes = rows+o.Rows, bytes+o.Bytes
	}
	var merged []sidecar.Span
	for _, span := range set.Spans() {
		merged = append(merged, sidecar.Span{Table: t.Name, Lo: span.Lo, Hi: span.Hi})
	}
	if len(merged) == 0 {
		return old
	}
	merged[0].Rows, merged[0].Bytes = rows, bytes
	return merged
}
