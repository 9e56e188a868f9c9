package target

import (
	"slices"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

// state is where a task stands.
type state uint8

const (
	waiting    state = iota // not begun, or rolled back
	running                 // its statements are being executed
	executed                // only its commit is missing, which waits for its turn
	displaced               // executed, and told to roll back for an earlier task
	committing              // its turn has come
)

// A task is an entry in the scheduler.
type task struct {
	entry *replication.Entry
	bytes int
	state state
	// hashes is the write set.
	hashes []uint64
	// blockers is how many earlier tasks must have committed before this one begins; blocked are those waiting for this one.
	blockers int
	blocked  []*task
	// conflicted is when the task first met another's locks.
	conflicted time.Time
	seq        uint64
	prev, next *task
	// joined are the tasks behind this one that are executed and committed with it.
	joined []*task
}

// merged is the entry that stands for a task and those that have joined it.
func (t *task) merged() *replication.Entry {
	if len(t.joined) == 0 {
		return t.entry
	}
	last := t.joined[len(t.joined)-1].entry
	e := &replication.Entry{Position: last.Position, Committed: t.entry.Committed}
	for _, o := range append([]*task{t}, t.joined...) {
		e.Changes = append(e.Changes, o.entry.Changes...)
		if !o.entry.Committed.IsZero() {
			e.Committed = o.entry.Committed
		}
	}
	return e
}

// rewind puts a task and those that joined it back to waiting, each for itself.
func (t *task) rewind() {
	for _, o := range t.joined {
		o.state = waiting
	}
	t.state, t.joined = waiting, nil
}

// A lane is the unfinished tasks of one kind, in log order.
type lane struct {
	first, last *task
	// idle is how many of the lane's workers have nothing to do.
	idle int
}

func (l *lane) add(t *task) {
	if t.prev = l.last; t.prev != nil {
		t.prev.next = t
	} else {
		l.first = t
	}
	l.last = t
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

// ready is the earliest task that may begin; nil if none may.
func (l *lane) ready() *task {
	for t := l.first; t != nil; t = t.next {
		if t.state == waiting && t.blockers == 0 {
			return t
		}
	}
	return nil
}

func newTask(e *replication.Entry) (*task, error) {
	t := &task{entry: e, bytes: e.Bytes()}
	var err error
	for _, c := range e.Changes {
		if t.hashes, err = c.AppendConflicts(t.hashes); err != nil {
			return nil, err
		}
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

// join lets the tasks right behind t that wait for nothing but t and one another be executed with it, up to some
// bytes: when there is backlog, neighbours commit as one.
func (l *lane) join(t *task, bytes int) {
	if t.entry.DDL != nil || t.entry.Chunk != nil || !t.conflicted.IsZero() {
		return
	}
	inside := make(map[*task]int) // how many of a task's blockers are among those that join
	size := 0
	for o := t; ; {
		size += o.bytes
		for _, b := range o.blocked {
			inside[b]++
		}
		o = o.next
		if o == nil || o.state != waiting || o.entry.DDL != nil || o.blockers != inside[o] || size+o.bytes > bytes {
			return
		}
		o.state = running
		t.joined = append(t.joined, o)
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
	// barrier is the last unfinished DDL.
	barrier *task
}

func newGraph() graph {
	return graph{touched: make(map[uint64]*task), chunks: make(map[string][]*task)}
}

// add puts a task at the end of the log.
func (g *graph) add(t *task) {
	g.seq++
	t.seq = g.seq
	seen := make(map[*task]bool)
	after := func(o *task) {
		if o != nil && o != t && !seen[o] {
			seen[o] = true
			t.blockers++
			o.blocked = append(o.blocked, t)
		}
	}
	after(g.barrier)
	if t.entry.DDL != nil {
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
	for _, o := range t.blocked {
		o.blockers--
	}
	t.blocked = nil
	g.lane(t).remove(t)
}

// turn tells whether a task may commit: every source transaction before it has committed.
func (g *graph) turn(t *task) bool {
	return g.sources.first == nil || g.sources.first.seq >= t.seq
}

// yield makes an executed task give up its worker when an earlier task of its lane could begin and no worker is
// left for it: what waits for that task must not keep it from running.
func (g *graph) yield(t *task) {
	l := g.lane(t)
	if l.idle > 0 || t.state != executed {
		return
	}
	earlier := l.ready()
	if earlier == nil || earlier.seq > t.seq {
		return
	}
	for o := l.last; o != t; o = o.prev {
		if o.state == executed || o.state == displaced {
			return // a later one makes room, or has been told to
		}
	}
	g.push(t, earlier)
}

// push tells an executed task to roll back and to begin again after another one.
func (g *graph) push(t, after *task) {
	t.state = displaced
	t.blockers++
	after.blocked = append(after.blocked, t)
}

// displace tells every later task that has executed to roll back and to begin again after t.
func (g *graph) displace(t *task) {
	for _, l := range []lane{g.sources, g.loads} {
		for o := l.first; o != nil; o = o.next {
			if o.seq > t.seq && o.state == executed {
				g.push(o, t)
			}
		}
	}
}
