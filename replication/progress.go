package replication

import (
	"slices"
	"sync"
	"time"
)

// progress is what a running stream tells about itself; every goroutine of the stream adds to it.
type progress struct {
	mu struct {
		sync.Mutex
		sent, done Position
		committed  time.Time
		heard      time.Time
		// last is the commit time of the transaction that was heard of last; zero if that was only news. flight has those of
		// the entries that are not applied, in order.
		last       time.Time
		flight     []time.Time
		tables     map[*Table]*tableState
		unfinished int
	}
	// copied tables go to finish, each once.
	finish chan *Table
	// whole gets every table, once, that becomes wholly copied while the stream runs.
	whole chan *Table
	// finished is closed when no table is left to copy or to finish.
	finished chan struct{}
}

type tableState struct {
	rows, bytes int64
	// pending chunks are in the log and not committed; whole is set when no chunk is missing in the log.
	pending int
	whole   bool
	done    bool
}

func newProgress(tables []*Table, cp *Checkpoint) *progress {
	p := &progress{finish: make(chan *Table, len(tables)), whole: make(chan *Table, len(tables)), finished: make(chan struct{})}
	p.mu.tables = make(map[*Table]*tableState)
	p.mu.sent, p.mu.done = cp.Position, cp.Position
	for _, t := range tables {
		whole := len(cp.missing(t)) == 0
		st := &tableState{rows: cp.Rows[t.Name], bytes: cp.Bytes[t.Name], whole: whole, done: cp.Finished[t.Name] && whole}
		p.mu.tables[t] = st
		if !st.done {
			p.mu.unfinished++
		}
		if st.whole && !st.done {
			p.finish <- t
		}
	}
	if p.mu.unfinished == 0 {
		close(p.finished)
	}
	return p
}

// heard takes note that the source has sent something: a transaction, or the news that there is none (committed is zero).
func (p *progress) heard(committed time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.heard, p.mu.last = time.Now(), committed
}

func (p *progress) appended(sent Position, committed time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.sent = sent
	p.mu.flight = append(p.mu.flight, committed)
}

func (p *progress) applied(done Position, committed time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.done = done
	p.mu.flight = p.mu.flight[1:]
	if !committed.IsZero() {
		p.mu.committed = committed
	}
}

func (p *progress) placed(t *Table, whole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.mu.tables[t]
	st.pending++
	st.whole = whole
}

func (p *progress) copied(i ChunkInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.mu.tables[i.Table]
	st.rows += int64(i.Rows)
	st.bytes += int64(i.Bytes)
	st.pending--
	if st.whole && st.pending == 0 {
		p.finish <- i.Table
		p.whole <- i.Table
	}
}

// committed tells whether all chunks of the tables, which are whole in the log, are on the target.
func (p *progress) committed(tables []*Table) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.ContainsFunc(tables, func(t *Table) bool { return p.mu.tables[t].pending > 0 || !p.mu.tables[t].whole })
}

func (p *progress) tableFinished(t *Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.tables[t].done = true
	if p.mu.unfinished--; p.mu.unfinished == 0 {
		close(p.finished)
	}
}

func (p *progress) snapshot() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := Progress{
		Copying: p.mu.unfinished > 0, Position: p.mu.done, Committed: p.mu.committed, Read: p.mu.heard,
		Tables: make(map[string]TableProgress, len(p.mu.tables)),
	}
	for t, st := range p.mu.tables {
		out.Tables[t.Name] = TableProgress{Rows: st.rows, Bytes: st.bytes, Done: st.done}
	}
	if !p.mu.heard.IsZero() {
		out.CaughtUp, out.Lag = p.mu.done.Equal(p.mu.sent), p.lag()
	}
	return out
}

// lag is the age of the oldest of what was read and is not applied, or of the last that was read, if that is older;
// of the news that there is nothing to read, how old these are. Call it with the lock held.
func (p *progress) lag() time.Duration {
	lag := time.Since(p.mu.heard)
	if !p.mu.last.IsZero() {
		lag = time.Since(p.mu.last)
	}
	if len(p.mu.flight) > 0 && !p.mu.flight[0].IsZero() {
		lag = max(lag, time.Since(p.mu.flight[0]))
	}
	return max(lag, 0)
}
