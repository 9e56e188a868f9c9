package replication

import "errors"

var (
	errSpoiled       = errors.New("the window saw a schema change")
	errWindowFull    = errors.New("the window outgrew its memory")
	errCascade       = errors.New("a foreign key changed rows that the chunk may hold")
	errServerChanged = errors.New("the log is read from another server")
)

// A window keeps, from the moment a chunk's read begins until its place in the log is reached, the
// last image of every row that the log changes in the chunk's range.
type window struct {
	table *Table
	span  Span
	// touched maps the key of each changed row, before or after, to its last image; nil: no such row now.
	touched map[string]Row
	// gone are the values of foreign keys whose rows were changed by them, and the log does not tell which.
	gone  map[*reference]map[string]bool
	bytes int
	limit int
	// err says why the chunk must be read again.
	err error
	// drops says that the changes in the window are not applied by themselves, though the table is not Ordered.
	drops bool
}

func newWindow(t *Table, span Span, limit int) *window {
	return &window{table: t, span: span, touched: make(map[string]Row), limit: limit}
}

// covers tells whether the window's range may hold the key.
func (w *window) covers(k Key) bool {
	return !w.table.Ordered || w.table.In(w.span, k)
}

// note takes in one change, given with the keys of its images (nil for an absent image).
func (w *window) note(c *Change, before, after Key) {
	if w.err != nil {
		return
	}
	if before != nil && w.covers(before) {
		w.put(before, nil)
	}
	if after != nil && w.covers(after) {
		w.put(after, c.After)
	}
	if w.bytes > w.limit {
		w.spoil(errWindowFull)
	}
}

func (w *window) put(k Key, image Row) {
	old, known := w.touched[string(k)]
	if !known {
		w.bytes += len(k) + 64
	}
	w.bytes += len(image) - len(old)
	w.touched[string(k)] = image
}

func (w *window) spoil(err error) {
	w.err, w.touched, w.gone = err, nil, nil
}

// cascade notes that rows of the foreign key with that value were changed. Those that the chunk was read with, or that the window
// holds, are as they were before, or are new: nobody knows.
func (w *window) cascade(r *reference, value Row) {
	switch {
	case w.err != nil:
		return
	case !r.exact:
		w.spoil(errCascade)
		return
	case w.gone == nil:
		w.gone = make(map[*reference]map[string]bool)
	}
	if w.gone[r] == nil {
		w.gone[r] = make(map[string]bool)
	}
	if !w.gone[r][string(value)] {
		w.gone[r][string(value)] = true
		w.bytes += len(value) + 64
	}
	if w.bytes > w.limit {
		w.spoil(errWindowFull)
	}
}

// hit tells whether a foreign key may have changed one of the rows.
func (w *window) hit(rows []Row) (bool, error) {
	for r, values := range w.gone {
		for _, row := range rows {
			v, err := w.table.pick(row, r.key.Columns)
			if err != nil || values[string(v)] {
				return true, err
			}
		}
	}
	return false, nil
}

// integrate makes of the rows that were read the rows that the chunk's range holds at the present place
// in the log: what the log touched is dropped, and put in again as its last image says. Rows of a table
// that is not Ordered are only dropped: the changes that touched them are applied in any case (but for drops).
func (w *window) integrate(c *Chunk) error {
	if w.err != nil {
		return w.err
	}
	if len(w.touched) == 0 {
		return w.check(c)
	}
	kept := c.Rows[:0]
	bytes := 0
	for _, r := range c.Rows {
		k, err := w.table.Key(r)
		if err != nil {
			return err
		}
		if _, hit := w.touched[string(k)]; !hit {
			kept, bytes = append(kept, r), bytes+len(r)
		}
	}
	if w.table.Ordered || w.drops {
		for k, image := range w.touched {
			if image != nil && (w.drops || w.table.In(c.Span, Key(k))) {
				kept, bytes = append(kept, image), bytes+len(image)
			}
		}
	}
	c.Rows, c.Bytes = kept, bytes
	return w.check(c)
}

func (w *window) check(c *Chunk) error {
	hit, err := w.hit(c.Rows)
	if hit && err == nil {
		err = errCascade
	}
	return err
}
