package replication

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// nearEnd is how long the log may take to be read up to its end for chunks to be opened: after a long
// stop the reader first catches up, so that windows stay small.
const nearEnd = 5 * time.Second

// readBytes is about how much is read at once. A longer read keeps the processor of a busy source from other sessions for
// longer; a shorter one costs more for each row. It is a variable for the model, whose rows are small.
var readBytes = int64(256 << 10)

// readTime is how long the parts of a chunk are read; what remains is another chunk. It is reached when the source looks at many rows for the few
// that it returns.
const readTime = 2 * time.Second

// patience is how long a chunk waits for the reader to be near the end.
const patience = 30 * time.Second

// The copier reads what is missing of every table, chunk by chunk, several chunks at once.
type copier struct {
	source Source
	seq    *sequencer
	opts   Options
	work   *workList
	memory *semaphore.Weighted
	// flying counts chunks that are in the log and not committed.
	flying atomic.Int64
	// later are the tables that are begun when those that they reference are whole (kinship).
	later []*Table

	mu struct {
		sync.Mutex
		// close is until when the reader is known to be near the log's end.
		close time.Time
	}
}

func newCopier(s *Stream, seq *sequencer, cp *Checkpoint) *copier {
	c := &copier{
		source: s.source, seq: seq, opts: s.opts,
		work:   newWorkList(),
		memory: semaphore.NewWeighted(int64(s.opts.CopyBytes)),
	}
	// The list is a stack: the first table is put in last.
	for _, t := range slices.Backward(s.tables) {
		if seq.ripe(t) {
			c.begin(t, cp.missing(t))
		} else {
			c.later = append(c.later, t)
			c.work.expect()
		}
	}
	return c
}

// begin puts what is missing of a table on the list.
func (c *copier) begin(t *Table, missing []Span) {
	pace, left := newPace(c.opts.ChunkBytes), &atomic.Int64{}
	for _, span := range missing {
		c.add(&job{table: t, pace: pace, left: left, span: span, rows: min(1000, c.opts.ChunkRows), fresh: span.Lo == nil && span.Hi == nil})
	}
}

// add puts one more job of a table on the list.
func (c *copier) add(j *job) {
	j.left.Add(1)
	c.work.add(j)
}

// unlock begins the tables that had to wait for others, as soon as those are whole on the target.
func (c *copier) unlock(ctx context.Context, whole <-chan *Table) error {
	for left := len(c.later); left > 0; {
		select {
		case <-whole:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		reply := make(chan int, 1)
		err := c.seq.do(ctx, func(context.Context) error {
			c.later = slices.DeleteFunc(c.later, c.tryBegin)
			reply <- len(c.later)
			return nil
		})
		if err != nil {
			return err
		}
		select {
		case left = <-reply:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// tryBegin begins a table if those that it references are whole on the target; call it inside do.
func (c *copier) tryBegin(t *Table) bool {
	if !c.seq.ripe(t) || !c.seq.progress.committed(c.seq.kin.parents[t]) {
		return false
	}
	c.seq.begin(t)
	c.begin(t, []Span{{}})
	c.work.done()
	return true
}

func (c *copier) run(ctx context.Context, whole <-chan *Table) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.unlock(ctx, whole) })
	// A chunk is true at one point of the log, so all of the target has to be at that point.
	select {
	case <-c.seq.level:
	case <-ctx.Done():
		return g.Wait()
	}
	for range c.opts.Readers {
		g.Go(func() error {
			for {
				j, err := c.work.take(ctx)
				if err != nil || j == nil {
					return err
				}
				if err := c.chunk(ctx, j); err != nil {
					return fmt.Errorf("copy table %s: %w", j.table.Name, err)
				}
			}
		})
	}
	return g.Wait()
}

// chunk reads one chunk from the front of the job's span, in the five steps of the algorithm, and puts the rest
// of the span back.
func (c *copier) chunk(ctx context.Context, j *job) error {
	if j.fresh {
		if err := c.split(ctx, j); err != nil {
			return err
		}
	}
	limit := c.limit(j)
	held := int64(max(limit.Bytes, min(j.expect, c.opts.CopyBytes)))
	if err := c.memory.Acquire(ctx, held); err != nil {
		return context.Cause(ctx)
	}
	release := func() { c.memory.Release(held) }
	if j.tight {
		c.far()
	}
	if err := c.catchUp(ctx); err != nil {
		release()
		return err
	}
	w, read, err := c.open(ctx, j)
	if err != nil {
		release()
		return err
	}
	began := time.Now()
	chunk, end, err := c.read(ctx, j, limit, read)
	if err != nil {
		release()
		return err
	}
	reading := time.Since(began)
	if whole := (chunk.Span.Lo == nil && chunk.Span.Hi == nil); c.seq.kin.self[j.table] && !whole {
		release()
		return c.seq.kin.tooLarge(j.table, limit.Bytes)
	}
	if rest := j.after(chunk, c.opts); rest != nil {
		c.add(rest)
	}
	asked := time.Now()
	return c.seq.do(ctx, func(ctx context.Context) error {
		w.span = chunk.Span
		return c.seq.await(ctx, end, func(ctx context.Context, err error) error {
			if err == nil {
				c.passed(asked)
				last := j.left.Add(-1) == 0
				if err = c.seq.place(ctx, w, chunk, last, c.fly(j.pace, chunk.Bytes, reading, release)); err != nil {
					c.flying.Add(-1)
				}
			} else {
				j.left.Add(-1)
				c.seq.drop(w)
			}
			switch {
			case err == nil:
				c.work.done()
			case errors.Is(err, errWindowFull), errors.Is(err, errSpoiled), errors.Is(err, errCascade), errors.Is(err, errServerChanged):
				release()
				c.opts.Trace.chunkRetried(ctx, ChunkInfo{Table: j.table, Span: chunk.Span}, err)
				c.add(&job{table: j.table, pace: j.pace, left: j.left, span: chunk.Span, rows: max(1, len(chunk.Rows)/2), tight: errors.Is(err, errCascade)})
				c.work.done()
			default:
				return err
			}
			return nil
		})
	})
}

// limit bounds a chunk; a table that references itself comes in one.
func (c *copier) limit(j *job) Limit {
	if c.seq.kin.self[j.table] {
		return Limit{Rows: math.MaxInt32, Bytes: c.opts.CopyBytes}
	}
	return Limit{Rows: j.rows, Bytes: min(c.opts.ChunkBytes, c.opts.CopyBytes)}
}

// fly returns what to call when a chunk that is put into the log now has been committed.
func (c *copier) fly(p *pace, bytes int, reading time.Duration, release func()) func() {
	// Those before it are written first, as many at once as are read at once.
	turns := max(1, float64(c.flying.Add(1))/float64(c.opts.Readers))
	placed := time.Now()
	return func() {
		c.flying.Add(-1)
		p.took(bytes, reading, time.Duration(float64(time.Since(placed))/turns))
		release()
	}
}

// open opens the window and returns the position that the log has been read up to.
func (c *copier) open(ctx context.Context, j *job) (*window, Position, error) {
	type opened struct {
		w *window
		p Position
	}
	reply := make(chan opened, 1)
	err := c.seq.do(ctx, func(context.Context) error {
		reply <- opened{c.seq.open(j.table, j.span), c.seq.position}
		return nil
	})
	if err != nil {
		return nil, Position{}, err
	}
	select {
	case o := <-reply:
		c.opts.Trace.windowOpened(ctx, ChunkInfo{Table: j.table, Span: j.span})
		return o.w, o.p, nil
	case <-ctx.Done():
		return nil, Position{}, context.Cause(ctx)
	}
}

// read makes sure that whatever the log was read up to can be seen, reads the rows, and only then asks for
// the log's end: all that the rows can hold is before it.
func (c *copier) read(ctx context.Context, j *job, limit Limit, seen Position) (*Chunk, LogPos, error) {
	if err := c.source.WaitVisible(ctx, seen); err != nil {
		return nil, LogPos{}, fmt.Errorf("wait until %s is visible: %w", seen, err)
	}
	chunk, err := c.readParts(ctx, j, limit)
	if err != nil {
		return nil, LogPos{}, err
	}
	c.opts.Trace.chunkRead(ctx, ChunkInfo{Table: j.table, Span: chunk.Span, Rows: len(chunk.Rows), Bytes: chunk.Bytes})
	end, _, err := c.source.End(ctx)
	return chunk, end, err
}

// readParts reads a chunk by several short reads. They see the table at several moments, but all of them while the window is
// open, and that is what counts: whatever is changed between the first and the last is in the window.
func (c *copier) readParts(ctx context.Context, j *job, limit Limit) (*Chunk, error) {
	chunk := &Chunk{Table: j.table, Span: Span{Lo: j.span.Lo, Hi: j.span.Lo}}
	rows, bytes := j.rows, j.expect // what rows of the table are known to take
	began := time.Now()
	for {
		rest := Limit{Rows: limit.Rows - len(chunk.Rows), Bytes: limit.Bytes - chunk.Bytes}
		if bytes > 0 {
			rest.Rows = min(rest.Rows, 1+int(readBytes*int64(rows)/int64(bytes)))
		}
		got, err := c.source.Read(ctx, j.table, Span{Lo: chunk.Span.Hi, Hi: j.span.Hi}, rest)
		if err != nil {
			return nil, err
		}
		if chunk.Rows == nil && got.Bytes > 0 && !sameKey(got.Span.Hi, j.span.Hi) { // room for about as many rows as will come
			n := float64(len(got.Rows)) / float64(got.Bytes) * float64(limit.Bytes)
			chunk.Rows = make([]Row, 0, int(min(n*17/16, float64(limit.Rows)))+1)
		}
		chunk.Rows, chunk.Bytes, chunk.Span.Hi = append(chunk.Rows, got.Rows...), chunk.Bytes+got.Bytes, got.Span.Hi
		if sameKey(chunk.Span.Hi, j.span.Hi) || len(chunk.Rows) >= limit.Rows || chunk.Bytes >= limit.Bytes || time.Since(began) > readTime {
			return chunk, nil
		}
		rows, bytes = len(chunk.Rows), chunk.Bytes
	}
}

func sameKey(a, b Key) bool { return string(a) == string(b) && (a == nil) == (b == nil) }

// split cuts a table that has not been begun into parts that are read in parallel; j becomes the first part.
func (c *copier) split(ctx context.Context, j *job) error {
	j.fresh = false
	if !j.table.Ordered || c.opts.Readers < 2 || c.seq.kin.self[j.table] {
		return nil
	}
	keys, err := c.source.Split(ctx, j.table, c.opts.Readers)
	if err != nil {
		return err
	}
	for i, k := range keys {
		part := &job{table: j.table, pace: j.pace, left: j.left, span: Span{Lo: k}, rows: j.rows}
		if i+1 < len(keys) {
			part.span.Hi = keys[i+1]
		} else {
			part.span.Hi = j.span.Hi
		}
		c.add(part)
	}
	if len(keys) > 0 {
		j.span.Hi = keys[0]
	}
	return nil
}

// catchUp blocks until the log is read about as fast as it is written. When it isn't for long, since more is written than
// the target can apply, it lets a chunk pass all the same: the copy is slow then, but it does not stand still.
func (c *copier) catchUp(ctx context.Context) error {
	begun := time.Now()
	for {
		c.mu.Lock()
		near := time.Now().Before(c.mu.close)
		c.mu.Unlock()
		if near || time.Since(begun) > patience {
			return nil
		}
		asked := time.Now()
		end, _, err := c.source.End(ctx)
		if err != nil {
			return err
		}
		reached := make(chan error, 1)
		err = c.seq.do(ctx, func(ctx context.Context) error {
			return c.seq.await(ctx, end, func(_ context.Context, err error) error {
				reached <- err
				return nil
			})
		})
		if err != nil {
			return err
		}
		select {
		case err = <-reached:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err != nil {
			return &TransientError{Err: err}
		}
		c.passed(asked)
	}
}

// passed takes note that the log was read up to the end it had at asked.
func (c *copier) passed(asked time.Time) {
	if time.Since(asked) < nearEnd {
		c.mu.Lock()
		c.mu.close = time.Now().Add(nearEnd)
		c.mu.Unlock()
	}
}

// far makes the next chunk wait until the log is read up to its end, so that its window is as short as it can be.
func (c *copier) far() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.close = time.Time{}
}

// A job is a span of a table that has not been read.
type job struct {
	table *Table
	span  Span
	// rows is how many rows the next chunk may have.
	rows int
	// expect is how many bytes that may be.
	expect int
	pace   *pace
	// left counts the table's jobs that are not in the log.
	left  *atomic.Int64
	fresh bool
	// tight says that the window should be short: foreign keys spoil it.
	tight bool
}

// after is the job that remains when a chunk has been read; nil if nothing does.
func (j *job) after(c *Chunk, o Options) *job {
	if sameKey(c.Span.Hi, j.span.Hi) {
		return nil
	}
	rest := &job{table: j.table, pace: j.pace, left: j.left, span: Span{Lo: c.Span.Hi, Hi: j.span.Hi}, rows: j.rows}
	if n := len(c.Rows); n > 0 && c.Bytes > 0 {
		// Grow or shrink towards the wanted bytes, at most by four at once. A little less is wanted, since a chunk that gets too
		// large is cut, and the rest was read for nothing.
		want := int(int64(j.pace.want()) * 15 / 16 * int64(n) / int64(c.Bytes))
		rest.rows = max(1, min(want, 4*max(n, j.rows), o.ChunkRows))
		rest.expect = int(int64(c.Bytes) * int64(rest.rows) / int64(n))
	}
	return rest
}

// workList holds the jobs; it is empty for good when no job is in it and none is under way.
type workList struct {
	mu struct {
		sync.Mutex
		jobs []*job
		// open counts jobs in the list and under way.
		open int
		wake chan struct{}
	}
}

func newWorkList() *workList {
	l := &workList{}
	l.mu.wake = make(chan struct{})
	return l
}

// add puts a job in front: tables are copied one after another, as far as there are enough readers.
func (l *workList) add(j *job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.jobs = append(l.mu.jobs, j)
	l.mu.open++
	l.signal()
}

// expect keeps the list open for jobs that come later, until done is called for it.
func (l *workList) expect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.open++
}

// done says that a job that was taken needs no more care.
func (l *workList) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.open--; l.mu.open == 0 {
		l.signal()
	}
}

func (l *workList) signal() {
	close(l.mu.wake)
	l.mu.wake = make(chan struct{})
}

// take waits for a job; nil means that there will be none.
func (l *workList) take(ctx context.Context) (*job, error) {
	for {
		l.mu.Lock()
		if n := len(l.mu.jobs); n > 0 {
			j := l.mu.jobs[n-1]
			l.mu.jobs = l.mu.jobs[:n-1]
			l.mu.Unlock()
			return j, nil
		}
		over, wake := l.mu.open == 0, l.mu.wake
		l.mu.Unlock()
		if over {
			return nil, nil //nolint:nilnil // no job and no error: the work is done
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
