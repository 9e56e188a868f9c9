package replication

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
)

// Load takes the stream over on every shard and returns what follows for the stream as a whole. A shard that has no
// position, though others do, has nothing yet: the last Start did not come to it. It begins where the others are.
func (f *Fanout) Load(ctx context.Context) (*Checkpoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flights = newFlights(f.opts.MemoryBytes)
	loaded, err := f.loadShards(ctx)
	if err != nil {
		return nil, err
	}
	var level Position
	for _, cp := range loaded {
		level = level.Union(cp.Position)
	}
	begin := level
	if !level.IsZero() {
		err := onShards(ctx, f.shards, func(ctx context.Context, s *fanShard) error {
			cp := loaded[s]
			if !cp.Position.IsZero() {
				return nil
			}
			cp.Position = level
			return s.Target.Start(ctx, level)
		})
		if err != nil {
			return nil, err
		}
		for _, s := range f.shards {
			begin = begin.intersect(loaded[s].Position)
		}
		if begin.IsZero() {
			return nil, fmt.Errorf("the shards' positions have nothing in common: one is at %s", clipTo(level.String(), 256))
		}
	}
	f.mu.at, f.mu.ahead = begin, 0
	f.mu.broken = nil
	for _, s := range f.shards {
		s.resume(loaded[s], f.tables(), begin)
		if s.ahead {
			f.mu.ahead++
		}
	}
	return f.merge(loaded, begin, level), nil
}

func (f *Fanout) loadShards(ctx context.Context) (map[*fanShard]*Checkpoint, error) {
	var mu sync.Mutex
	loaded := make(map[*fanShard]*Checkpoint, len(f.shards))
	err := onShards(ctx, f.shards, func(ctx context.Context, s *fanShard) error {
		cp, err := s.Target.Load(ctx)
		if err != nil {
			return err
		}
		own := *cp // the caller's stays as it is
		mu.Lock()
		defer mu.Unlock()
		loaded[s] = &own
		return nil
	})
	return loaded, err
}

// Start records the position on all shards. If that ends half-way, the next Load does the rest.
func (f *Fanout) Start(ctx context.Context, p Position) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := onShards(ctx, f.shards, func(ctx context.Context, s *fanShard) error { return s.Target.Start(ctx, p) })
	if err != nil {
		return err
	}
	f.mu.at = p
	for _, s := range f.shards {
		s.start(p, p)
	}
	return nil
}

// merge makes one checkpoint of those of the shards.
func (f *Fanout) merge(loaded map[*fanShard]*Checkpoint, begin, level Position) *Checkpoint {
	out := &Checkpoint{
		Position: begin, Level: level,
		Copied: make(map[string][]Span), Missing: make(map[string][]Span), Finished: make(map[string]bool),
		Rows: make(map[string]int64), Bytes: make(map[string]int64),
	}
	for t, r := range f.routes {
		finished := true
		for _, s := range f.holders(t) {
			cp := loaded[s]
			out.Copied[t.Name] = append(out.Copied[t.Name], cp.Copied[t.Name]...)
			finished = finished && cp.Finished[t.Name]
			if r.of != nil {
				out.Rows[t.Name] += cp.Rows[t.Name]
				out.Bytes[t.Name] += cp.Bytes[t.Name]
			} else {
				out.Rows[t.Name] = max(out.Rows[t.Name], cp.Rows[t.Name])
				out.Bytes[t.Name] = max(out.Bytes[t.Name], cp.Bytes[t.Name])
			}
		}
		out.Finished[t.Name] = finished
		out.Missing[t.Name] = f.missing(t)
	}
	return out
}

// missing returns the spans of a table that some shard lacks.
//
// Of a table that is not Ordered each shard has what lies before some key, and nobody here knows the order of these keys. So the
// table is read from one of them to the next, and from the last one on: wherever a shard's key is among them, all
// that comes after it is read, whatever their order. A little is read twice, or is empty; such a table's chunks may be repeated.
func (f *Fanout) missing(t *Table) []Span {
	all := NewSpanSet(t)
	var from []Key
	for _, s := range f.holders(t) {
		for _, span := range s.tables[t].Missing() {
			if t.Ordered {
				all.Add(span)
			} else if !slices.ContainsFunc(from, func(k Key) bool { return bytes.Equal(k, span.Lo) }) {
				from = append(from, span.Lo)
			}
		}
	}
	if t.Ordered {
		return all.Spans()
	}
	slices.SortFunc(from, func(a, b Key) int { return bytes.Compare(a, b) })
	var out []Span
	for i, k := range from {
		span := Span{Lo: k}
		if i+1 < len(from) {
			span.Hi = from[i+1]
		}
		out = append(out, span)
	}
	return out
}
