package replication_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

// The world of the model: a source server with a binary log whose transactions become visible some time after they
// are in the log, in any order, as under semi-sync replication, and the two tables it holds.

// numbers has an integer key, whose order is known here, and a unique column.
var numbers = &replication.Table{
	Name: "numbers",
	Columns: []replication.Column{
		{Name: "id", Kind: replication.KindInt},
		{Name: "v", Kind: replication.KindInt},
		{Name: "u", Kind: replication.KindInt, Nullable: true},
	},
	Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}, Exact: true},
	Unique:  []replication.Index{{Name: "u", Columns: []int{2}, Exact: true}},
	Ordered: true,
}

// words has a key that only the server can compare: A and a are the same key.
var words = &replication.Table{
	Name: "words",
	Columns: []replication.Column{
		{Name: "w", Kind: replication.KindText, Charset: "utf8mb4", Collation: "utf8mb4_0900_ai_ci"},
		{Name: "v", Kind: replication.KindInt},
	},
	Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}},
}

var modelTables = []*replication.Table{numbers, words}

const (
	numberKeys = 12
	wordKeys   = 6
)

// identity is what the server takes for a row's key.
func identity(t *replication.Table, r replication.Row) string {
	v, _, err := r.Next()
	if err != nil {
		panic(err)
	}
	if t == words {
		return strings.ToLower(string(v))
	}
	return padded(string(v))
}

// padded orders short decimal numbers as text.
func padded(number string) string { return "00"[:max(0, 2-len(number))] + number }

// uniqueValue is the value of numbers.u, or "".
func uniqueValue(t *replication.Table, r replication.Row) string {
	if t != numbers {
		return ""
	}
	values, err := r.Values(nil, 3)
	if err != nil {
		panic(err)
	}
	return string(values[2])
}

// content is what the tables hold: table name, then identity, then row.
type content map[string]map[string]replication.Row

func newContent() content {
	return content{"numbers": {}, "words": {}}
}

func (c content) clone() content {
	out := newContent()
	for t, rows := range c {
		for k, r := range rows {
			out[t][k] = r
		}
	}
	return out
}

func (c content) apply(ch replication.Change) {
	if ch.Before != nil {
		delete(c[ch.Table.Name], identity(ch.Table, ch.Before))
	}
	if ch.After != nil {
		c[ch.Table.Name][identity(ch.Table, ch.After)] = ch.After
	}
}

// logged is one transaction of the source's log.
type logged struct {
	changes           []replication.Change
	visible, executed bool
}

// world is the source.
type world struct {
	rnd *rand.Rand

	mu struct {
		sync.Mutex
		log     []*logged
		state   content
		history []content // history[i] is the content after i transactions
		server  string
		value   int
	}
}

func newWorld(rnd *rand.Rand) *world {
	w := &world{rnd: rnd}
	w.mu.state = newContent()
	w.mu.history = []content{newContent()}
	w.mu.server = "a"
	for range 8 {
		if t := w.commit(); t != nil {
			t.visible, t.executed = true, true
		}
	}
	return w
}

// dice draws from the seed's one stream of random numbers.
func (w *world) dice(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

// pause lets simulated time go by; odd nanoseconds keep any two of the model's goroutines from waking at once.
func (w *world) pause(ctx context.Context, most time.Duration) error {
	timer := time.NewTimer(time.Duration(w.dice(int(most)) + 1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// gtids are the GTIDs of the log's transactions.
var gtids = func() (out [1000]replication.GTID) {
	for i := range out {
		g, err := replication.ParseGTID("00000000-0000-0000-0000-000000000001:" + strconv.Itoa(i+1))
		if err != nil {
			panic(err)
		}
		out[i] = g
	}
	return out
}()

func gtid(i int) replication.GTID { return gtids[i] }

// transactionsOf is the number of transactions that a position covers; the model's log has no other GTIDs.
func transactionsOf(p replication.Position) int {
	n := 0
	for p.Contains(gtid(n)) {
		n++
	}
	return n
}

// commit puts a random transaction into the log, not visible yet; nil if it came out empty.
func (w *world) commit() *logged {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &logged{}
	state := w.mu.state.clone()
	for range 1 + w.rnd.IntN(3) {
		for _, c := range w.change(state) {
			t.changes = append(t.changes, c)
			state.apply(c)
		}
	}
	if len(t.changes) == 0 && w.rnd.IntN(4) > 0 {
		return nil
	}
	w.mu.state = state
	w.mu.log = append(w.mu.log, t)
	w.mu.history = append(w.mu.history, state.clone())
	return t
}

// change makes one random statement's changes that are valid in the state.
func (w *world) change(state content) []replication.Change {
	w.mu.value++
	v := w.mu.value
	if w.rnd.IntN(3) == 0 {
		return w.wordChange(state["words"], v)
	}
	rows := state["numbers"]
	row := func(id, u int) replication.Row {
		text := []byte(strconv.Itoa(u))
		if u < 0 {
			text = nil
		}
		return replication.PackRow([]byte(strconv.Itoa(id)), []byte(strconv.Itoa(v)), text)
	}
	used := map[string]bool{}
	for _, r := range rows {
		used[uniqueValue(numbers, r)] = true
	}
	free := -1
	for u := range numberKeys + 3 {
		if !used[strconv.Itoa(u)] && w.rnd.IntN(3) == 0 {
			free = u
			break
		}
	}
	id := w.rnd.IntN(numberKeys)
	old := rows[padded(strconv.Itoa(id))]
	unique := func(r replication.Row) int {
		if u := uniqueValue(numbers, r); u != "" {
			n, _ := strconv.Atoi(u)
			return n
		}
		return -1
	}
	one := func(before, after replication.Row) []replication.Change {
		return []replication.Change{{Table: numbers, Before: before, After: after}}
	}
	if old == nil {
		return one(nil, row(id, free))
	}
	switch w.rnd.IntN(6) {
	case 0:
		return one(old, nil)
	case 1: // the key changes
		to := w.rnd.IntN(numberKeys)
		if rows[padded(strconv.Itoa(to))] != nil {
			return nil
		}
		return one(old, row(to, unique(old)))
	case 2, 3: // a unique value moves to another row, this one takes the other's
		other := w.rnd.IntN(numberKeys)
		r := rows[padded(strconv.Itoa(other))]
		if r == nil || other == id {
			return nil
		}
		a, b := row(id, -1), row(other, unique(old))
		return []replication.Change{
			{Table: numbers, Before: old, After: a},
			{Table: numbers, Before: r, After: b},
			{Table: numbers, Before: a, After: row(id, unique(r))},
		}
	case 4:
		return one(old, row(id, free))
	default:
		return one(old, row(id, unique(old)))
	}
}

// wordChange changes a row of words, often to a key that the server takes for the same.
func (w *world) wordChange(rows map[string]replication.Row, v int) []replication.Change {
	word := func() []byte {
		b := byte('a' + w.rnd.IntN(wordKeys))
		if w.rnd.IntN(2) == 0 {
			b -= 'a' - 'A'
		}
		return []byte{b}
	}
	text := []byte(strconv.Itoa(v))
	k := word()
	old := rows[strings.ToLower(string(k))]
	change := replication.Change{Table: words, Before: old}
	switch {
	case old == nil:
		change.After = replication.PackRow(k, text)
	case w.rnd.IntN(3) == 0: // delete
	case w.rnd.IntN(2) == 0: // another spelling of the key
		change.After = replication.PackRow(k, text)
	default:
		to := word()
		if other := rows[strings.ToLower(string(to))]; other != nil && string(other) != string(old) {
			return nil
		}
		change.After = replication.PackRow(to, text)
	}
	return []replication.Change{change}
}

// write is the application: it commits until the context ends.
func (w *world) write(ctx context.Context, n int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range n {
		if w.pause(ctx, 4*time.Millisecond) != nil {
			return
		}
		if t := w.commit(); t != nil {
			wg.Go(func() { w.appear(ctx, t) })
		}
		if w.dice(60) == 0 {
			w.mu.Lock()
			w.mu.server = map[string]string{"a": "b", "b": "a"}[w.mu.server]
			w.mu.Unlock()
		}
	}
}

// appear makes a transaction visible after a while, and its GTID executed a little later.
func (w *world) appear(ctx context.Context, t *logged) {
	most := 2 * time.Millisecond
	if w.dice(4) == 0 {
		most = 40 * time.Millisecond
	}
	_ = w.pause(ctx, most)
	w.mu.Lock()
	t.visible = true
	w.mu.Unlock()
	_ = w.pause(ctx, time.Millisecond)
	w.mu.Lock()
	t.executed = true
	w.mu.Unlock()
}

// snapshot is what a SELECT sees of a table now, in the server's key order.
func (w *world) snapshot(t *replication.Table) []replication.Row {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := newContent()
	for _, tx := range w.mu.log {
		if tx.visible {
			for _, c := range tx.changes {
				state.apply(c)
			}
		}
	}
	keys := make([]string, 0, len(state[t.Name]))
	for k := range state[t.Name] {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	rows := make([]replication.Row, 0, len(keys))
	for _, k := range keys {
		rows = append(rows, state[t.Name][k])
	}
	return rows
}
