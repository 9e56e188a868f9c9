package replication

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// A fanShard is what a Fanout knows of a shard. Whoever holds the Fanout's lock owns it, but for mu.
type fanShard struct {
	Shard
	// tables has the spans of each table that the shard has, or has been given. Sets are not changed, but replaced.
	tables copied
	// at is the shard's own position, as long as that is ahead of the log.
	at    Position
	ahead bool
	// sent is the last position that the shard was given.
	sent Position
	// changes and count are the shard's part of the entry that is being divided.
	changes []Change
	count   int

	mu struct {
		sync.Mutex
		// applied is the shard's committed position; flying counts entries that it was given and has not committed.
		applied Position
		flying  int
		// rows and bytes have been copied to the shard, by table name.
		rows, bytes map[string]int64
	}
}

// wrap names the shard in an error, unless that only says that the context has ended.
func (s *fanShard) wrap(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return &ShardError{Shard: s.Name, Err: err}
}

// resume sets the shard to what it has applied. from is where the log is read from.
func (s *fanShard) resume(cp *Checkpoint, tables []*Table, from Position) {
	s.tables = make(copied)
	for _, t := range tables {
		s.tables[t] = NewSpanSet(t, cp.Copied[t.Name]...)
	}
	s.start(cp.Position, from)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.flying, s.mu.rows, s.mu.bytes = 0, maps.Clone(cp.Rows), maps.Clone(cp.Bytes)
	if s.mu.rows == nil {
		s.mu.rows = make(map[string]int64)
	}
	if s.mu.bytes == nil {
		s.mu.bytes = make(map[string]int64)
	}
}

// start sets the shard's position. from is where the log is read from.
func (s *fanShard) start(p, from Position) {
	s.at, s.sent, s.ahead = p, p, !from.Covers(p)
	s.changes, s.count = nil, 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.applied = p
}

// has tells whether the shard has applied a source transaction already.
func (s *fanShard) has(e *Entry) bool { return s.ahead && s.at.Contains(e.gtid) }

// add has the shard's set of a table hold one more span. whole says that nothing of the table is missing any more.
func (s *fanShard) add(t *Table, span Span, whole bool) {
	if whole && !t.Ordered {
		// Spans of such tables that several runs have read need not connect.
		s.tables[t] = NewSpanSet(t, Span{})
		return
	}
	set := s.tables[t].clone()
	set.Add(span)
	s.tables[t] = set
}

// part is what of a change, which is on the shard, belongs to what the shard has. Whether it acts on other rows is not
// for the shard to say.
func (m copied) share(c Change) (Change, bool, error) {
	cascade := c.Cascade
	c.Cascade, c.Loose = false, false
	c, ok, err := m.part(c)
	c.Cascade = cascade
	return c, ok, err
}

// take takes a change into the shard's part of the entry that is being divided; count only counts it.
func (s *fanShard) take(c Change, onlyCount bool) error {
	c, ok, err := s.tables.share(c)
	if err != nil || !ok {
		return err
	}
	s.count++
	if !onlyCount {
		s.changes = append(s.changes, c)
	}
	return nil
}

// pieces returns what the shard lacks of a chunk; rows are those that are routed to the shard.
func (s *fanShard) pieces(c *Chunk, rows []Row) ([]*Chunk, error) {
	spans := s.tables[c.Table].lacks(c.Span)
	out := make([]*Chunk, 0, len(spans))
	for _, span := range spans {
		piece := &Chunk{Table: c.Table, Span: span, Rows: rows}
		if len(spans) > 1 || !sameSpan(span, c.Span) {
			piece.Rows = nil
			for _, r := range rows {
				k, err := c.Table.Key(r)
				if err != nil {
					return nil, &RowError{Table: c.Table.Name, Err: err}
				}
				if c.Table.In(span, k) {
					piece.Rows = append(piece.Rows, r)
				}
			}
		}
		for _, r := range piece.Rows {
			piece.Bytes += len(r)
		}
		out = append(out, piece)
	}
	return out, nil
}

func sameSpan(a, b Span) bool {
	return slices.Equal(a.Lo, b.Lo) && slices.Equal(a.Hi, b.Hi) && (a.Hi == nil) == (b.Hi == nil) && (a.Lo == nil) == (b.Lo == nil)
}

// given takes note of an entry that the shard is about to be given.
func (s *fanShard) given() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.flying++
}

// committed takes note that the shard has committed an entry.
func (s *fanShard) committed(e *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.flying--
	if c := e.Chunk; c != nil {
		s.mu.rows[c.Table.Name] += int64(len(c.Rows))
		s.mu.bytes[c.Table.Name] += int64(c.Bytes)
		return
	}
	s.mu.applied = e.Position
}

// idle tells whether the shard has committed all that it was given.
func (s *fanShard) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.flying == 0
}
