package replication

import (
	"bytes"
	"slices"
	"sort"
)

// A SpanSet is the part of one table that has been copied. It is not safe for concurrent use.
//
// Spans of an Ordered table may be added in any order and overlap; what touches or overlaps is merged.
// Of any other table only equality of bounds is known, so spans are merged when the Hi of one is the
// Lo of the other, byte by byte: they must come from one reader that goes through the table, each beginning
// where another ended, though they may be added in any order. What is not connected to the table's
// start can't be placed, so Missing has it; reading it again is right, since a chunk of such a
// table deletes before it inserts.
type SpanSet struct {
	t *Table
	// spans is sorted if the table is Ordered. Otherwise no two have the same Lo or the same Hi.
	spans []Span
	// held says that changes are dropped, even those of a table that is not Ordered: the chunks that are read later tell.
	held bool
	// acting are the foreign keys that reference the table and whose rows may be in the log.
	acting []*reference
}

// NewSpanSet returns the set of what a table's committed spans cover, when a stream starts. Of a table
// that is not Ordered only what follows from the table's start counts: give all committed spans here, not to Add.
func NewSpanSet(t *Table, committed ...Span) *SpanSet {
	s := &SpanSet{t: t}
	if t.Ordered {
		for _, sp := range committed {
			s.Add(sp)
		}
	} else if sp, ok := chain(committed); ok {
		s.Add(sp)
	}
	return s
}

// chain follows spans from the table's start, each from where another ends, as far as they lead. Spans of several
// runs may lead different ways; every way covers what it passes.
func chain(spans []Span) (Span, bool) {
	from := make(map[string][]Span)
	for _, sp := range spans {
		from[string(sp.Lo)] = append(from[string(sp.Lo)], sp)
	}
	var end Key
	seen := map[string]bool{"": true}
	for ways := from[""]; len(ways) > 0; ways = ways[1:] {
		sp := ways[0]
		if len(sp.Hi) == 0 {
			return Span{}, true
		}
		end = sp.Hi
		if !seen[string(end)] {
			seen[string(end)] = true
			ways = append(ways, from[string(end)]...)
		}
	}
	return Span{Hi: end}, end != nil
}

// Add adds a span; one that is empty (Lo is not before Hi) changes nothing. In a table that is
// not Ordered, a second span with the Lo or the Hi of another one is left out, unless it reaches from there to
// the table's end (or start).
func (s *SpanSet) Add(sp Span) {
	if len(sp.Lo) == 0 {
		sp.Lo = nil
	}
	if len(sp.Hi) == 0 {
		sp.Hi = nil
	}
	switch {
	case sp.Lo == nil && sp.Hi == nil:
		s.spans = []Span{{}}
	case s.t.Ordered:
		s.addOrdered(sp)
	default:
		s.addChained(sp)
	}
}

func (s *SpanSet) addOrdered(sp Span) {
	if sp.Lo != nil && sp.Hi != nil && s.t.Compare(sp.Lo, sp.Hi) >= 0 {
		return
	}
	// Spans i to j-1 touch or overlap sp.
	i := sort.Search(len(s.spans), func(i int) bool { return s.reaches(s.spans[i].Hi, sp.Lo) })
	j := i + sort.Search(len(s.spans)-i, func(n int) bool { return !s.reaches(sp.Hi, s.spans[i+n].Lo) })
	if i < j {
		if first := s.spans[i]; first.Lo == nil || sp.Lo != nil && s.t.Compare(first.Lo, sp.Lo) < 0 {
			sp.Lo = first.Lo
		}
		if last := s.spans[j-1]; last.Hi == nil || sp.Hi != nil && s.t.Compare(last.Hi, sp.Hi) > 0 {
			sp.Hi = last.Hi
		}
	}
	s.spans = slices.Replace(s.spans, i, j, sp)
}

// reaches tells whether an upper bound is not below a lower one.
func (s *SpanSet) reaches(hi, lo Key) bool {
	return hi == nil || lo == nil || s.t.Compare(hi, lo) >= 0
}

func (s *SpanSet) addChained(sp Span) {
	if bytes.Equal(sp.Lo, sp.Hi) {
		return
	}
	for _, e := range s.spans {
		if bytes.Equal(e.Lo, sp.Lo) && sp.Hi != nil || bytes.Equal(e.Hi, sp.Hi) && sp.Lo != nil {
			return
		}
	}
	// Merge what ends at sp.Lo and what begins at sp.Hi; drop what sp reaches over.
	merged := sp
	s.spans = slices.DeleteFunc(s.spans, func(e Span) bool {
		switch {
		case sp.Lo != nil && bytes.Equal(e.Hi, sp.Lo):
			merged.Lo = e.Lo
		case sp.Hi != nil && bytes.Equal(e.Lo, sp.Hi):
			merged.Hi = e.Hi
		default:
			return bytes.Equal(e.Lo, sp.Lo) || bytes.Equal(e.Hi, sp.Hi)
		}
		return true
	})
	if merged.Lo == nil && merged.Hi == nil {
		s.spans = s.spans[:0]
	}
	s.spans = append(s.spans, merged)
}

// Contains tells whether a key has been copied. For a table that is not Ordered it is false until the
// whole table has been.
func (s *SpanSet) Contains(k Key) bool {
	if !s.t.Ordered {
		return s.Whole()
	}
	i := sort.Search(len(s.spans), func(i int) bool { return s.reaches(s.spans[i].Hi, k) })
	return i < len(s.spans) && s.t.In(s.spans[i], k)
}

// Whole tells whether the whole table has been copied.
func (s *SpanSet) Whole() bool {
	return len(s.spans) == 1 && s.spans[0].Lo == nil && s.spans[0].Hi == nil
}

// Spans returns what has been copied, merged, and in order if the table is Ordered.
func (s *SpanSet) Spans() []Span { return slices.Clone(s.spans) }

// Missing returns what has not been copied, in order. For a table that is not Ordered that is one span at
// most, from where the copied spans that follow one another from the start end, to the end.
func (s *SpanSet) Missing() []Span {
	var missing []Span
	var lo Key
	for _, sp := range s.spans {
		if !s.t.Ordered && sp.Lo != nil {
			continue
		}
		if sp.Lo != nil {
			missing = append(missing, Span{lo, sp.Lo})
		}
		if sp.Hi == nil {
			return missing
		}
		lo = sp.Hi
	}
	return append(missing, Span{Lo: lo})
}

// lacks returns what of a span has not been copied. Of a table that is not Ordered that is all of it, unless the
// whole table has been.
func (s *SpanSet) lacks(sp Span) []Span {
	switch {
	case s.Whole():
		return nil
	case !s.t.Ordered:
		return []Span{sp}
	}
	var out []Span
	for _, m := range s.Missing() {
		if m.Lo == nil || sp.Lo != nil && s.t.Compare(sp.Lo, m.Lo) > 0 {
			m.Lo = sp.Lo
		}
		if m.Hi == nil || sp.Hi != nil && s.t.Compare(sp.Hi, m.Hi) < 0 {
			m.Hi = sp.Hi
		}
		if m.Lo == nil || m.Hi == nil || s.t.Compare(m.Lo, m.Hi) < 0 {
			out = append(out, m)
		}
	}
	return out
}

// part is what of a change, whose keys are given (nil for an absent image), touches what has been copied.
func (s *SpanSet) part(c Change, before, after Key) (Change, bool, error) {
	if c.Cascade {
		var err error
		if c.Cascade, err = cascades(s.acting, &c); err != nil {
			return c, false, err
		}
	}
	switch {
	case s.held:
		return c, false, nil
	case s.Whole():
		return c, true, nil
	case !s.t.Ordered:
		c.Loose = true
		return c, true, nil
	}
	if before != nil && !s.Contains(before) {
		c.Before = nil
	}
	if after != nil && !s.Contains(after) {
		c.After = nil
	}
	return c, c.Before != nil || c.After != nil, nil
}

func (s *SpanSet) clone() *SpanSet {
	return &SpanSet{t: s.t, spans: slices.Clone(s.spans), held: s.held, acting: slices.Clone(s.acting)}
}

// copied is what of each table of a stream has been copied, at one place of the log.
type copied map[*Table]*SpanSet

// part is what of a change belongs to the log at that place.
func (m copied) part(c Change) (Change, bool, error) {
	s := m[c.Table]
	if s == nil {
		return c, false, nil
	}
	if s.Whole() && !c.Cascade {
		return c, true, nil
	}
	before, after, err := c.keys()
	if err != nil {
		return c, false, err
	}
	return s.part(c, before, after)
}
