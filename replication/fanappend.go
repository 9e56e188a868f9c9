package replication

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// partWeight is what a shard's part of an entry counts besides the rows, which parts share.
const partWeight = 512

var (
	errNoRoute    = errors.New("the fanout has no route for it")
	errEarlyChunk = errors.New("a chunk is put into the log before the shard's position (Checkpoint.Level)")
)

// Append divides an entry and gives each shard its part. It blocks while the shards together, or one of those that get a part,
// hold more bytes than they may. After an error nothing more is appended: each further call returns that error, until Load.
func (f *Fanout) Append(ctx context.Context, e *Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.broken == nil {
		f.mu.broken = f.appendEntry(ctx, e)
	}
	return f.mu.broken
}

func (f *Fanout) appendEntry(ctx context.Context, e *Entry) error {
	switch {
	case e.Chunk != nil:
		return f.appendChunk(ctx, e)
	case e.DDL != nil || e.Spill == nil && len(e.Changes) == 0:
		return f.appendToAll(ctx, e)
	}
	return f.appendTransaction(ctx, e)
}

// advance moves the end of the log to e.
func (f *Fanout) advance(e *Entry) {
	f.mu.at = e.Position
	if !e.Committed.IsZero() {
		f.mu.committed = e.Committed
	}
	if f.mu.ahead == 0 {
		return
	}
	for _, s := range f.shards {
		if !s.ahead {
			continue
		}
		s.at = s.at.Union(e.Position)
		if e.Position.Covers(s.at) {
			s.ahead = false
			f.mu.ahead--
		}
	}
}

// position is where in the source's history a shard is after all that it has been given.
func (f *Fanout) position(s *fanShard) Position {
	if s.ahead {
		return s.at
	}
	return f.mu.at
}

// give appends a shard's part of an entry.
func (f *Fanout) give(ctx context.Context, s *fanShard, fl *flight, e *Entry) error {
	e.Committed = f.mu.committed
	if e.Chunk == nil {
		e.Position = f.position(s)
		s.sent = e.Position
	}
	s.given()
	f.flights.more(fl)
	e.Done = func() {
		s.committed(e)
		f.flights.landed(fl)
	}
	return s.wrap(ctx, s.Target.Append(ctx, e))
}

// record gives a shard the position, if that is not the last it was given.
func (f *Fanout) record(ctx context.Context, s *fanShard, fl *flight) error {
	if s.sent.Covers(f.position(s)) {
		return nil
	}
	return f.give(ctx, s, fl, &Entry{})
}

// recordIdle gives the position to those shards that have committed all that they were given; nobody waits for that. After a failed
// Append an idle shard may be one that never got its part of what comes before the position.
func (f *Fanout) recordIdle(ctx context.Context) error {
	if f.mu.broken != nil {
		return nil // Append has told
	}
	for _, s := range f.shards {
		if !s.idle() {
			continue
		}
		if f.mu.broken = f.record(ctx, s, &flight{left: 1}); f.mu.broken != nil {
			return f.mu.broken
		}
	}
	return nil
}

// appendToAll appends a schema change, or only the position.
func (f *Fanout) appendToAll(ctx context.Context, e *Entry) error {
	fl, err := f.flights.begin(ctx, e.Bytes()+partWeight*len(f.shards), true, e.Done)
	if err != nil {
		return err
	}
	var todo []*fanShard
	for _, s := range f.shards {
		if e.DDL != nil && !s.has(e) && f.concerns(e.DDL, s) {
			todo = append(todo, s)
		}
	}
	f.advance(e)
	for _, s := range todo {
		if err := f.give(ctx, s, fl, &Entry{DDL: e.DDL}); err != nil {
			return err
		}
	}
	for _, s := range f.shards {
		if err := f.record(ctx, s, fl); err != nil {
			return err
		}
	}
	f.flights.landed(fl)
	return nil
}

// concerns tells whether a shard holds a table that a schema change names.
func (f *Fanout) concerns(d *DDL, s *fanShard) bool {
	for t := range f.routes {
		if slices.Contains(d.Tables, t.Name) && slices.Contains(f.holders(t), s) {
			return true
		}
	}
	return false
}

// appendTransaction appends the changes of a source transaction.
func (f *Fanout) appendTransaction(ctx context.Context, e *Entry) error {
	touched, err := f.divide(e)
	if err != nil {
		return err
	}
	fl, err := f.flights.begin(ctx, e.Bytes()+partWeight*len(touched), true, e.Done)
	if err != nil {
		return err
	}
	f.advance(e)
	for _, i := range touched {
		s := f.shards[i]
		part := &Entry{Changes: s.changes}
		if e.Spill != nil {
			part = &Entry{Spill: e.Spill, part: f.partOf(i, e.part)}
		}
		s.changes, s.count = nil, 0
		if err := f.give(ctx, s, fl, part); err != nil {
			return err
		}
	}
	f.flights.landed(fl)
	return nil
}

// divide puts an entry's changes into the parts of the shards that have not applied it, and returns those with any.
func (f *Fanout) divide(e *Entry) (touched []int, err error) {
	take := func(i int, c Change) error {
		s := f.shards[i]
		if s.has(e) {
			return nil
		}
		before := s.count
		if err := s.take(c, e.Spill != nil); err != nil {
			return err
		}
		if before == 0 && s.count > 0 {
			touched = append(touched, i)
		}
		return nil
	}
	err = e.Each(func(c Change) error {
		before, after, err := f.places(&c)
		if err != nil {
			return err
		}
		if before == everywhere || after == everywhere {
			for i := range f.shards {
				if err := take(i, c); err != nil {
					return err
				}
			}
			return nil
		}
		for _, i := range []int{before, after} {
			if i == nowhere {
				continue
			}
			part, _ := c.at(i, before, after)
			if err := take(i, part); err != nil {
				return err
			}
			if before == after {
				break
			}
		}
		return nil
	})
	return touched, err
}

// places are the shards of a change's images.
func (f *Fanout) places(c *Change) (before, after int, err error) {
	r, known := f.routes[c.Table]
	if !known {
		return nowhere, nowhere, &RowError{Table: c.Table.Name, Err: errNoRoute}
	}
	if before, err = r.place(c.Table, c.Before, len(f.shards)); err == nil {
		after, err = r.place(c.Table, c.After, len(f.shards))
	}
	return before, after, err
}

// partOf restricts the changes of a spill, of which part is in the log, to a shard and what that has now.
func (f *Fanout) partOf(shard int, part func(Change) (Change, bool, error)) func(Change) (Change, bool, error) {
	of := maps.Clone(f.shards[shard].tables)
	return func(c Change) (Change, bool, error) {
		if part != nil {
			var ok bool
			var err error
			if c, ok, err = part(c); err != nil || !ok {
				return c, false, err
			}
		}
		before, after, err := f.places(&c)
		if err != nil {
			return c, false, err
		}
		c, ok := c.at(shard, before, after)
		if !ok {
			return c, false, nil
		}
		return of.share(c)
	}
}

// appendChunk gives each shard what it lacks of a chunk, after the position at which the chunk is true: what came before it has
// been worked into the chunk.
func (f *Fanout) appendChunk(ctx context.Context, e *Entry) error {
	rows, err := f.divideRows(e.Chunk)
	if err != nil {
		return err
	}
	fl, err := f.flights.begin(ctx, e.Bytes()+partWeight*len(f.shards), false, e.Done)
	if err != nil {
		return err
	}
	for n, s := range f.holders(e.Chunk.Table) {
		of := rows[min(n, len(rows)-1)]
		pieces, err := s.pieces(e.Chunk, of)
		if err == nil && s.ahead && len(pieces) > 0 {
			err = s.wrap(ctx, errEarlyChunk)
		}
		if err != nil {
			return err
		}
		if len(pieces) > 0 {
			if err := f.record(ctx, s, fl); err != nil {
				return err
			}
		}
		for _, c := range pieces {
			if err := f.give(ctx, s, fl, &Entry{Chunk: c, Position: e.Position}); err != nil {
				return err
			}
		}
		s.add(e.Chunk.Table, e.Chunk.Span, e.whole)
	}
	f.flights.landed(fl)
	return nil
}

// divideRows returns a chunk's rows by shard, or once if they are the same for all that hold the table.
func (f *Fanout) divideRows(c *Chunk) ([][]Row, error) {
	r, known := f.routes[c.Table]
	if !known {
		return nil, &RowError{Table: c.Table.Name, Err: errNoRoute}
	}
	if r.of == nil {
		return [][]Row{c.Rows}, nil
	}
	rows := make([][]Row, len(f.shards))
	for _, row := range c.Rows {
		i, err := r.place(c.Table, row, len(f.shards))
		if err != nil {
			return nil, err
		}
		rows[i] = append(rows[i], row)
	}
	return rows, nil
}
