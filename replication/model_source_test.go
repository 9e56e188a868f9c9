package replication_test

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

// modelSource is a Source over the world.
type modelSource struct {
	*world
	// spills makes it put some transactions into files.
	spills bool
}

var errModelLink = &replication.TransientError{Err: errors.New("the link broke")}

func (s *modelSource) End(ctx context.Context) (replication.LogPos, replication.Position, error) {
	if err := s.pause(ctx, time.Millisecond); err != nil {
		return replication.LogPos{}, replication.Position{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var p replication.Position
	for i, t := range s.mu.log {
		// A position of MariaDB is where its log ends, whatever can be seen of it.
		if t.executed || s.flavor == replication.FlavorMariaDB {
			p = p.Add(s.gtid(i))
		}
	}
	return replication.LogPos{Server: s.mu.server, Offset: uint64(len(s.mu.log))}, p, nil
}

func (s *modelSource) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	return func(yield func(*replication.Transaction, error) bool) {
		for i := 0; ; {
			if err := s.pause(ctx, 3*time.Millisecond); err != nil {
				yield(nil, err)
				return
			}
			if s.dice(300) == 0 {
				yield(nil, errModelLink)
				return
			}
			s.mu.Lock()
			t := &replication.Transaction{End: replication.LogPos{Server: s.mu.server, Offset: uint64(i)}}
			if i < len(s.mu.log) {
				t.GTID, t.Changes, t.Committed = s.gtid(i), s.mu.log[i].changes, time.Now()
				t.End.Offset++
				i++
			}
			s.mu.Unlock()
			if from.Contains(t.GTID) {
				continue
			}
			if s.spills && len(t.Changes) > 1 && s.dice(3) == 0 {
				if err := spill(t); err != nil {
					yield(nil, err)
					return
				}
			}
			if !yield(t, nil) {
				return
			}
		}
	}
}

// spill moves the transaction's changes into a file.
func spill(t *replication.Transaction) error {
	sp, err := replication.NewSpill("")
	if err != nil {
		return err
	}
	for _, c := range t.Changes {
		if err := sp.Append(c); err != nil {
			return err
		}
	}
	t.Spill, t.Changes = sp, nil
	return sp.Flush()
}

func (s *modelSource) WaitVisible(ctx context.Context, p replication.Position) error {
	for {
		s.mu.Lock()
		all := true
		for i, t := range s.mu.log {
			all = all && (t.executed || !p.Contains(s.gtid(i)))
		}
		s.mu.Unlock()
		if all {
			return nil
		}
		if err := s.pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

func (s *modelSource) Read(ctx context.Context, t *replication.Table, span replication.Span, limit replication.Limit) (*replication.Chunk, error) {
	s.read(1)
	defer s.read(-1)
	if err := s.pause(ctx, 3*time.Millisecond); err != nil {
		return nil, err
	}
	chunk := &replication.Chunk{Table: t, Span: span}
	for _, r := range s.snapshot(t) {
		k, err := t.Key(r)
		if err != nil {
			return nil, err
		}
		if span.Lo != nil && identity(t, r) <= identity(t, span.Lo) || span.Hi != nil && identity(t, r) > identity(t, span.Hi) {
			continue
		}
		if len(chunk.Rows) == limit.Rows {
			break
		}
		chunk.Rows, chunk.Bytes = append(chunk.Rows, r), chunk.Bytes+len(r)
		if len(chunk.Rows) == limit.Rows {
			chunk.Span.Hi = k
		}
	}
	return chunk, s.pause(ctx, 3*time.Millisecond)
}

// read counts the reads that are under way.
func (s *modelSource) read(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.reading += n
}

func (s *modelSource) Split(_ context.Context, t *replication.Table, _ int) ([]replication.Key, error) {
	if !t.Ordered || s.dice(2) == 0 {
		return nil, nil
	}
	at := func(n int) replication.Key { return replication.PackRow([]byte(strconv.Itoa(s.first() + n))) }
	return []replication.Key{at(3), at(7)}, nil
}
