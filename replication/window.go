package replication

import "errors"

var (
	errSpoiled       = errors.New("the window saw a schema change")
	errWindowFull    = errors.New("the window outgrew its memory")
	errServerChanged = errors.New("the log is read from another server")
)

// A window keeps, from the moment a chunk's read begins until its place in the log is reached, the
// last image of every row that the log changes in the chunk's range.
type window struct {
	table *Table
	span  Span
	// touched maps the key of each changed row, before or after, to its last image; nil: no such row now.
	touched map[string]Row
	bytes   int
	limit   int
	// err says why the chunk must be read again.
	err error
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
	w.err, w.touched = err, nil
}

// integrate makes of the rows that were read the rows that the chunk's range holds at the present place
// in the log: what the log touched is dropped, and put in again as its last image says. Rows of a table
// that is not Ordered are only dropped: the changes that touched them are applied in any case.
func (w *window) integrate(c *Chunk) error {
	if w.err != nil {
		return w.err
	}
	if len(w.touched) == 0 {
		return nil
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
	if w.table.Ordered {
		for k, image := range w.touched {
			if image != nil && w.table.In(c.Span, Key(k)) {
				kept, bytes = append(kept, image), bytes+len(image)
			}
		}
	}
	c.Rows, c.Bytes = kept, bytes
	return nil
}
