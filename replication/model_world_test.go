package replication_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

// The world of the model: a source server with a binary log whose transactions become visible some time after they
// are in the log, as under semi-sync replication, in any order but for those that wait for each other's row locks;
// and the tables it holds.

// numbers has an integer key, whose order is known here, and two unique columns.
var numbers = &replication.Table{
	Name: "numbers",
	Columns: []replication.Column{
		{Name: "id", Kind: replication.KindInt},
		{Name: "v", Kind: replication.KindInt},
		{Name: "u", Kind: replication.KindInt, Nullable: true},
		{Name: "w", Kind: replication.KindInt, Nullable: true},
	},
	Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}, Exact: true},
	Unique:  []replication.Index{{Name: "u", Columns: []int{2}, Exact: true}, {Name: "w", Columns: []int{3}, Exact: true}},
	Ordered: true,
}

// plain has an integer key and nothing else that is unique.
var plain = &replication.Table{
	Name: "plain",
	Columns: []replication.Column{
		{Name: "id", Kind: replication.KindInt},
		{Name: "v", Kind: replication.KindInt},
	},
	Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}, Exact: true},
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

var modelTables = []*replication.Table{numbers, words, plain}

const (
	numberKeys = 12
	wordKeys   = 6
)

// mostWorlds is how many sources can have rows of their own side by side.
const mostWorlds = 4

// worldKeys is how many numbers and words are set aside for each of them.
const worldKeys = 20

// luck is the one stream of random numbers of a seed, which all goroutines of a run draw from.
type luck struct {
	mu  sync.Mutex
	rnd *rand.Rand
}

// IntN is rand.Rand's.
func (l *luck) IntN(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rnd.IntN(n)
}

// Shuffle is rand.Rand's.
func (l *luck) Shuffle(n int, swap func(i, j int)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rnd.Shuffle(n, swap)
}

// identity is what the server takes for a row's key.
func identity(t *replication.Table, r replication.Row) string {
	v, _, err := r.Next()
	if err != nil {
		panic(err)
	}
	if !t.Ordered {
		return strings.ToLower(string(v))
	}
	return padded(string(v))
}

// padded orders short decimal numbers as text.
func padded(number string) string { return "00"[:max(0, 2-len(number))] + number }

// uniqueValues are those of the row's unique columns; "" is NULL.
func uniqueValues(t *replication.Table, r replication.Row) []string {
	var out []string
	values, err := r.Values(nil, len(t.Columns))
	if err != nil {
		panic(err)
	}
	for _, u := range t.Unique {
		out = append(out, string(values[u.Columns[0]]))
	}
	return out
}

// content is what the tables hold: table name, then identity, then row.
type content map[string]map[string]replication.Row

func newContent() content {
	return content{"numbers": {}, "words": {}, "plain": {}, "simple": {}}
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
	// after are the earlier ones that held the locks of rows that it changes.
	after []*logged
}

// waits tells whether the transaction's rows may still be locked by earlier ones.
func (t *logged) waits() bool {
	return slices.ContainsFunc(t.after, func(o *logged) bool { return !o.executed })
}

// locks are the names of the row locks that the transaction takes.
func (t *logged) locks() map[string]bool {
	locks := map[string]bool{}
	for _, c := range t.changes {
		for _, r := range []replication.Row{c.Before, c.After} {
			if r == nil {
				continue
			}
			locks[c.Table.Name+"/"+identity(c.Table, r)] = true
			for i, u := range uniqueValues(c.Table, r) {
				if u != "" {
					locks[fmt.Sprintf("%s/%d/%s", c.Table.Name, i, u)] = true
				}
			}
		}
	}
	return locks
}

// world is the source.
type world struct {
	rnd *luck
	// number is which of several sources it is: their rows have different keys and unique values.
	number int
	// flavor is that of its GTIDs, MySQL's unless a test changes it before the first stream.
	flavor replication.Flavor

	mu struct {
		sync.Mutex
		log     []*logged
		state   content
		history []content // history[i] is the content after i transactions
		server  string
		value   int
		// reading is how many reads of chunks are under way.
		reading int
		// crash is called at the step that steps counts down to.
		steps int
		crash func()
	}
}

func newWorld(rnd *rand.Rand) *world { return newWorldOf(&luck{rnd: rnd}, 0) }

// newWorldOf is one of several sources.
func newWorldOf(rnd *luck, number int) *world {
	w := &world{rnd: rnd, number: number, flavor: replication.FlavorMySQL}
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
func (w *world) dice(n int) int { return w.rnd.IntN(n) }

// first is the first number that is the world's own.
func (w *world) first() int { return w.number * worldKeys }

// owns tells whether a row is one of the world's.
func (w *world) owns(t *replication.Table, r replication.Row) bool {
	k := identity(t, r)
	if !t.Ordered {
		return int(k[0]-'a')/wordKeys == w.number
	}
	n, err := strconv.Atoi(k)
	if err != nil {
		panic(err)
	}
	return n/worldKeys == w.number
}

// crashAt makes the n-th pause from now call f.
func (w *world) crashAt(n int, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.steps, w.mu.crash = n, f
}

// step counts down to the crash; it returns what is left, negative for none.
func (w *world) step() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.steps--; w.mu.steps == 0 {
		w.mu.crash()
	}
}

// pause lets simulated time go by; odd nanoseconds keep any two of the model's goroutines from waking at once.
func (w *world) pause(ctx context.Context, most time.Duration) error {
	w.step()
	timer := time.NewTimer(time.Duration(w.dice(int(most)) + 1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// gtids are the GTIDs of the log's transactions, by flavor. Those of MariaDB have two domains.
var gtids = func() map[replication.Flavor]*[1000]replication.GTID {
	out := map[replication.Flavor]*[1000]replication.GTID{replication.FlavorMySQL: {}, replication.FlavorMariaDB: {}}
	for i := range 1000 {
		for flavor, text := range map[replication.Flavor]string{
			replication.FlavorMySQL:   "00000000-0000-0000-0000-000000000001:" + strconv.Itoa(i+1),
			replication.FlavorMariaDB: fmt.Sprintf("%d-1-%d", i%2, i/2+1),
		} {
			g, err := replication.ParseGTID(text)
			if err != nil {
				panic(err)
			}
			out[flavor][i] = g
		}
	}
	return out
}()

// flavorOf lets every fourth run have the positions of MariaDB.
func flavorOf(seed uint64) replication.Flavor {
	if seed%4 == 3 {
		return replication.FlavorMariaDB
	}
	return replication.FlavorMySQL
}

// gtid is the GTID of a transaction of a MySQL server.
func gtid(i int) replication.GTID { return gtids[replication.FlavorMySQL][i] }

// gtid is the GTID of a transaction of the world's log.
func (w *world) gtid(i int) replication.GTID { return gtids[w.flavor][i] }

// transactionsOf is the number of transactions that a position covers; the model's logs have no other GTIDs.
func transactionsOf(p replication.Position) int {
	list, n := gtids[p.Flavor()], 0
	for list != nil && p.Contains(list[n]) {
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
	locks := t.locks()
	for _, o := range w.mu.log {
		if !o.executed && slices.ContainsFunc(slices.Collect(maps.Keys(o.locks())), func(l string) bool { return locks[l] }) {
			t.after = append(t.after, o)
		}
	}
	w.mu.state = state
	w.mu.log = append(w.mu.log, t)
	w.mu.history = append(w.mu.history, state.clone())
	return t
}

// change makes one random statement's changes that are valid in the state.
func (w *world) change(state content) []replication.Change {
	w.mu.value++
	switch w.rnd.IntN(6) {
	case 0, 1:
		return w.wordChange(state["words"], w.mu.value)
	case 2:
		return w.plainChange(state["plain"], w.mu.value)
	default:
		return w.numberChange(state["numbers"], w.mu.value)
	}
}

// plainChange inserts, deletes, changes or moves a row of plain.
func (w *world) plainChange(rows map[string]replication.Row, v int) []replication.Change {
	id, to := w.first()+w.rnd.IntN(numberKeys), w.first()+w.rnd.IntN(numberKeys)
	pack := func(id int) replication.Row {
		return replication.PackRow([]byte(strconv.Itoa(id)), []byte(strconv.Itoa(v)))
	}
	c := replication.Change{Table: plain, Before: rows[padded(strconv.Itoa(id))], After: pack(id)}
	switch {
	case c.Before == nil:
	case w.rnd.IntN(4) == 0:
		c.After = nil
	case w.rnd.IntN(2) == 0 && rows[padded(strconv.Itoa(to))] == nil:
		c.After = pack(to)
	}
	return []replication.Change{c}
}

// number is a row of numbers; -1 is NULL.
type number struct{ id, v, u, w int }

func parseNumber(r replication.Row) number {
	values, err := r.Values(nil, len(numbers.Columns))
	if err != nil {
		panic(err)
	}
	at := func(i int) int {
		if values[i] == nil {
			return -1
		}
		n, err := strconv.Atoi(string(values[i]))
		if err != nil {
			panic(err)
		}
		return n
	}
	return number{at(0), at(1), at(2), at(3)}
}

func (n number) row() replication.Row {
	text := func(i int) []byte {
		if i < 0 {
			return nil
		}
		return []byte(strconv.Itoa(i))
	}
	return replication.PackRow(text(n.id), text(n.v), text(n.u), text(n.w))
}

// numberChange lets a row of numbers come, go, or change its key, and unique values move between rows.
func (w *world) numberChange(rows map[string]replication.Row, v int) []replication.Change {
	u, x := map[int]bool{}, map[int]bool{}
	var there []number
	for _, k := range slices.Sorted(maps.Keys(rows)) {
		n := parseNumber(rows[k])
		there, u[n.u], x[n.w] = append(there, n), true, true
	}
	free := func(used map[int]bool) int {
		for v := range numberKeys + 3 {
			if v += w.first(); !used[v] && w.rnd.IntN(3) == 0 {
				return v
			}
		}
		return -1
	}
	var out []replication.Change
	to := func(from, n number) {
		n.v = v
		out = append(out, replication.Change{Table: numbers, Before: from.row(), After: n.row()})
	}
	id := w.first() + w.rnd.IntN(numberKeys)
	if rows[padded(strconv.Itoa(id))] == nil {
		return []replication.Change{{Table: numbers, After: number{id, v, free(u), free(x)}.row()}}
	}
	old := parseNumber(rows[padded(strconv.Itoa(id))])
	w.rnd.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
	there = slices.DeleteFunc(there, func(n number) bool { return n.id == id })
	switch kind := w.rnd.IntN(8); {
	case kind == 0:
		return []replication.Change{{Table: numbers, Before: old.row()}}
	case kind == 1: // the key changes, and a unique value with it or not
		n := old
		if n.id = w.first() + w.rnd.IntN(numberKeys); rows[padded(strconv.Itoa(n.id))] != nil {
			return nil
		}
		if w.rnd.IntN(2) == 0 {
			n.u = free(u)
		}
		to(old, n)
	case kind == 2:
		to(old, number{id, v, free(u), free(x)})
	case kind == 3 && len(there) > 0: // a unique value moves on to another row
		a, b := old, there[0]
		a.u, b.u = free(u), old.u
		to(old, a)
		to(there[0], b)
	case kind < 7 && len(there) > 1: // values go round among two or three rows; the first one steps aside
		ring := append([]number{old}, there[:1+w.rnd.IntN(2)]...)
		aside, both := old, w.rnd.IntN(2) == 0
		aside.v, aside.u, aside.w = v, -1, -1
		out = append(out, replication.Change{Table: numbers, Before: old.row(), After: aside.row()})
		for i := len(ring) - 1; i >= 0; i-- {
			n, next := ring[i], ring[(i+1)%len(ring)]
			n.v, n.u = v, next.u
			from := ring[i]
			if i == 0 {
				from = aside
			}
			if both {
				n.w = next.w
			}
			to(from, n)
		}
	default:
		to(old, old)
	}
	return out
}

// wordChange changes a row of words, often to a key that the server takes for the same.
func (w *world) wordChange(rows map[string]replication.Row, v int) []replication.Change {
	word := func() []byte {
		b := byte('a' + w.number*wordKeys + w.rnd.IntN(wordKeys))
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
	for waits := true; waits && ctx.Err() == nil; {
		w.mu.Lock()
		waits = t.waits()
		t.visible = !waits
		w.mu.Unlock()
		if waits {
			_ = w.pause(ctx, time.Millisecond)
		}
	}
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
