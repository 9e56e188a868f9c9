package target

import (
	"slices"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

// A task is an entry in the scheduler.
type task struct {
	entry *replication.Entry
	bytes int
	seq   uint64
	// hashes is the write set.
	hashes []uint64
	// inOrder says that the changes must be executed in the order in which they were logged, and not with others.
	inOrder bool
	// blockers is how many unfinished earlier tasks this one must come after; blocked are those that must come after it.
	blockers int
	blocked  []*task
	// chunks are the blockers that are chunks.
	chunks []*task
	// batch executes the task; nil until a worker has taken it. inside is how many of the blockers are in the same batch.
	batch  *batch
	inside int
	// late says that the task must come after something outside of its batch.
	late, done bool
	// seen is the last task that was found to come after this one.
	seen       *task
	prev, next *task
}

// alone tells whether a task is executed with nothing beside it.
func (t *task) alone() bool { return t.entry.DDL != nil || t.entry.Spill != nil }

// merges tells whether a task may share its transaction with its neighbours.
func (t *task) merges() bool { return t.entry.Chunk == nil && !t.alone() && !t.inOrder }

// waitsForChunk tells whether a task waits for a chunk. It begins a batch then: those before it need not wait, and must not
// if the chunk has its place between them, since the chunk commits after them.
func (t *task) waitsForChunk() bool {
	return slices.ContainsFunc(t.chunks, func(c *task) bool { return !c.done })
}

// A batch is neighbouring tasks that are executed in one transaction, by one worker: first those that need not wait for
// anybody outside of the batch, then, when they may, those that must.
type batch struct {
	tasks       []*task
	early, late []*task
	// open is how many unfinished tasks outside of the batch its tasks must come after.
	open int
	// after is the task that the batch has to make way for: it is rolled back, and begins again when that is done.
	after *task
	// committing is set when the batch's turn has come.
	committing bool
	// careful is set when the batch has failed and is executed once more to learn which row it is.
	careful bool
	// conflicted is when the batch first met another's locks.
	conflicted time.Time
}

func (b *batch) first() *task { return b.tasks[0] }
func (b *batch) last() *task  { return b.tasks[len(b.tasks)-1] }

// ready tells whether anything of the batch may be executed, from the beginning.
func (b *batch) ready() bool {
	if b.after != nil && !b.after.done {
		return false
	}
	b.after, b.committing = nil, false
	return len(b.early) > 0 || b.open == 0
}

// A lane is the unfinished tasks of one kind, in log order. They are taken in that order, so the earliest one always has a
// worker, and what it waits for is earlier still.
type lane struct {
	first, last *task
	// fresh is the first that no worker has taken.
	fresh *task
}

func (l *lane) add(t *task) {
	if t.prev = l.last; t.prev != nil {
		t.prev.next = t
	} else {
		l.first = t
	}
	if l.last = t; l.fresh == nil {
		l.fresh = t
	}
}

func (l *lane) remove(t *task) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		l.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		l.last = t.prev
	}
	t.prev, t.next = nil, nil // else a task that is still referred to would keep all later ones in memory
}

// take forms a batch of the next tasks, up to some bytes; nil if there is none.
func (l *lane) take(bytes int) *batch {
	first := l.fresh
	if first == nil {
		return nil
	}
	b, size := &batch{}, 0
	for t := first; t != nil; t = t.next {
		size += t.bytes
		if t != first && (!first.merges() || !t.merges() || size > bytes || t.waitsForChunk()) {
			break
		}
		b.tasks = append(b.tasks, t)
	}
	l.fresh = b.last().next
	b.divide()
	return b
}

// divide tells the tasks that need not wait for anything outside of the batch from those that must, and those that must
// come after such.
func (b *batch) divide() {
	for _, t := range b.tasks {
		t.batch, t.inside, t.late = b, 0, false
	}
	for _, t := range b.tasks {
		outside := t.blockers - t.inside
		b.open += outside
		if t.late = t.late || outside > 0; t.late {
			b.late = append(b.late, t)
		} else {
			b.early = append(b.early, t)
		}
		for _, o := range t.blocked {
			if o.batch == b {
				o.inside++
				o.late = o.late || t.late
			}
		}
	}
}

// graph is the unfinished part of the log, in order, with who waits for whom. It does no I/O.
type graph struct {
	// sources are the source's transactions, loads the chunks; seq counts both.
	sources, loads lane
	seq            uint64
	// touched is the last unfinished task that touches a hash.
	touched map[uint64]*task
	// chunks are the unfinished chunks, by table name.
	chunks map[string][]*task
	// barrier is the last unfinished task that is executed alone.
	barrier *task
}

func newGraph() graph {
	return graph{touched: make(map[uint64]*task), chunks: make(map[string][]*task)}
}

func newTask(e *replication.Entry) (*task, error) {
	t := &task{entry: e, bytes: e.Bytes()}
	var err error
	for _, c := range e.Changes {
		if t.hashes, err = c.AppendConflicts(t.hashes); err != nil {
			return nil, err
		}
		t.inOrder = t.inOrder || c.Cascade
	}
	c := e.Chunk
	if c == nil || spanSays(c.Table) {
		return t, nil
	}
	if c.Table.Coarse() {
		// One hash stands for all rows, and for a chunk without rows.
		t.hashes, err = c.Table.AppendConflicts(t.hashes, nil)
		return t, err
	}
	for _, r := range c.Rows {
		if t.hashes, err = c.Table.AppendConflicts(t.hashes, r); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// spanSays tells whether a chunk's span alone says what it can conflict with.
func spanSays(t *replication.Table) bool {
	return !t.Coarse() && len(t.Unique) == 0
}

// add puts a task at the end of the log.
func (g *graph) add(t *task) {
	g.seq++
	t.seq = g.seq
	after := func(o *task) {
		if o == nil || o == t || o.seen == t {
			return
		}
		o.seen = t
		t.blockers++
		o.blocked = append(o.blocked, t)
		if o.entry.Chunk != nil {
			t.chunks = append(t.chunks, o)
		}
	}
	after(g.barrier)
	if t.alone() {
		for _, l := range []lane{g.sources, g.loads} {
			for o := l.first; o != nil; o = o.next {
				after(o)
			}
		}
		g.barrier = t
	}
	for i := range t.entry.Changes {
		g.insideChunks(&t.entry.Changes[i], after)
	}
	for _, h := range t.hashes {
		after(g.touched[h])
		g.touched[h] = t
	}
	if c := t.entry.Chunk; c != nil {
		g.chunks[c.Table.Name] = append(g.chunks[c.Table.Name], t)
	}
	g.lane(t).add(t)
}

func (g *graph) lane(t *task) *lane {
	if t.entry.Chunk != nil {
		return &g.loads
	}
	return &g.sources
}

// insideChunks calls after for the unfinished chunks whose range a change touches.
func (g *graph) insideChunks(c *replication.Change, after func(*task)) {
	if !c.Table.Ordered {
		// The table's one hash says it, but for a chunk without rows, which touches nothing.
		return
	}
	for _, o := range g.chunks[c.Table.Name] {
		for _, r := range []replication.Row{c.Before, c.After} {
			if r == nil {
				continue
			}
			// newTask has read the same row without error.
			if k, err := c.Table.Key(r); err == nil && c.Table.In(o.entry.Chunk.Span, k) {
				after(o)
			}
		}
	}
}

// remove takes a committed task out and frees those that waited for it.
func (g *graph) remove(t *task) {
	for _, h := range t.hashes {
		if g.touched[h] == t {
			delete(g.touched, h)
		}
	}
	if c := t.entry.Chunk; c != nil {
		g.chunks[c.Table.Name] = slices.DeleteFunc(g.chunks[c.Table.Name], func(o *task) bool { return o == t })
	}
	if g.barrier == t {
		g.barrier = nil
	}
	t.done = true
	for _, o := range t.blocked {
		o.blockers--
		if o.batch != nil {
			o.batch.open--
		}
	}
	t.blocked, t.chunks, t.seen = nil, nil, nil
	g.lane(t).remove(t)
}

// turn tells whether a batch may commit: every source transaction before it has committed.
func (g *graph) turn(b *batch) bool {
	return g.sources.first == nil || g.sources.first.seq >= b.first().seq
}

// displace tells the batches after b that have begun to roll back and to begin again after it. A chunk must not displace the
// batch that its place is inside of: it commits after that batch's first.
func (g *graph) displace(b *batch) {
	for _, l := range []lane{g.sources, g.loads} {
		for t := l.first; t != nil && t != l.fresh; t = t.next {
			if o := t.batch; o != nil && o != b && o.first().seq > b.first().seq && !o.committing {
				o.after = b.last()
			}
		}
	}
}
