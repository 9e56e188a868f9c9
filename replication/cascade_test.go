package replication_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

// The tables of a family: rows are (id, value, ref). Children follow changes of their parent's value and go, or lose their
// reference, with its row; grandchildren go with the child. Nothing of that is in the log.
var (
	kinParent = kinTable("b_parent", true)
	kinChild  = kinTable("a_child", true, replication.ForeignKey{Name: "f", Columns: []int{2}, Parent: "b_parent", ParentColumns: []string{"value"}, OnDelete: replication.ActionCascade, OnUpdate: replication.ActionCascade})
	kinLost   = kinTable("c_lost", true, replication.ForeignKey{Name: "f", Columns: []int{2}, Parent: "b_parent", ParentColumns: []string{"value"}, OnDelete: replication.ActionSetNull, OnUpdate: replication.ActionSetNull})
	kinGrand  = kinTable("0_grand", true, replication.ForeignKey{Name: "f", Columns: []int{2}, Parent: "a_child", ParentColumns: []string{"id"}, OnDelete: replication.ActionCascade})
	// The server alone knows the order of loose, which is a grandchild too, and of tree, which references itself.
	kinLoose = kinTable("d_loose", false, replication.ForeignKey{Name: "f", Columns: []int{2}, Parent: "a_child", ParentColumns: []string{"id"}, OnDelete: replication.ActionCascade})
	kinTree  = kinTable("tree", false, replication.ForeignKey{Name: "f", Columns: []int{2}, Parent: "tree", ParentColumns: []string{"id"}, OnDelete: replication.ActionCascade})

	kinTables = []*replication.Table{kinGrand, kinChild, kinParent, kinLost, kinLoose, kinTree}
)

func kinTable(name string, ordered bool, keys ...replication.ForeignKey) *replication.Table {
	return &replication.Table{
		Name: name, Ordered: ordered, Family: "family", ForeignKeys: keys,
		Columns: []replication.Column{
			{Name: "id", Kind: replication.KindInt, Type: "int"},
			{Name: "value", Kind: replication.KindInt, Type: "int"},
			{Name: "ref", Kind: replication.KindInt, Type: "int", Nullable: true},
		},
		Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}, Exact: true},
		Unique:  []replication.Index{{Name: "value", Columns: []int{1}, Exact: true}},
	}
}

// A kinRow is a row; ref 0 is NULL. Values are those of the parent's id but for updates: value is id times 100 and something.
type kinRow struct{ id, value, ref int }

func (r kinRow) pack() replication.Row {
	ref := []byte(strconv.Itoa(r.ref))
	if r.ref == 0 {
		ref = nil
	}
	return replication.PackRow([]byte(strconv.Itoa(r.id)), []byte(strconv.Itoa(r.value)), ref)
}

func unpackKin(row replication.Row) (r kinRow) {
	values, err := row.Values(nil, 3)
	if err != nil {
		panic(err)
	}
	for i, p := range []*int{&r.id, &r.value, &r.ref} {
		*p, _ = strconv.Atoi(string(values[i]))
	}
	return r
}

// A kinState is the content of all tables, by table and id.
type kinState map[*replication.Table]map[int]kinRow

func (s kinState) clone() kinState {
	out := kinState{}
	for t, rows := range s {
		out[t] = maps.Clone(rows)
	}
	return out
}

// apply does a change as a server does, with or without foreign keys.
func (s kinState) apply(t *replication.Table, before, after *kinRow, checks bool) {
	if before != nil {
		delete(s[t], before.id)
	}
	if after != nil {
		s[t][after.id] = *after
	}
	if !checks || before == nil {
		return
	}
	for _, child := range kinTables {
		for _, fk := range child.ForeignKeys {
			was, is := before.id, 0
			if after != nil {
				is = after.id
			}
			if fk.ParentColumns[0] == "value" {
				if was = before.value; after != nil {
					is = after.value
				}
			}
			if fk.Parent == t.Name && was != is {
				s.follow(child, fk, was, is, after == nil)
			}
		}
	}
}

func (s kinState) follow(child *replication.Table, fk replication.ForeignKey, was, is int, deleted bool) {
	action := fk.OnUpdate
	if deleted {
		action = fk.OnDelete
	}
	for _, r := range slices.Collect(maps.Values(s[child])) {
		if r.ref != was || action == replication.ActionNone {
			continue
		}
		next := r
		switch {
		case action == replication.ActionSetNull:
			next.ref = 0
		case deleted:
			s.apply(child, &r, nil, true)
			continue
		default:
			next.ref = is
		}
		s.apply(child, &r, &next, true)
	}
}

// kinWorld is a source whose transactions become visible some time after they are in the log, and a target that executes one
// entry after the other.
type kinWorld struct {
	mu      sync.Mutex
	rnd     *rand.Rand
	log     []kinTx
	visible int
	states  []kinState // after each transaction; the first is the start
	server  string
	// ddl comes with the first transaction.
	ddl *replication.DDL

	queue chan *replication.Entry
	db    struct {
		state    kinState
		position int
		copied   map[string][]replication.Span
		finished map[string]bool
		started  bool
	}
	breach error
}

type kinTx struct{ changes []replication.Change }

func newKinWorld(seed uint64) *kinWorld {
	w := &kinWorld{rnd: rand.New(rand.NewPCG(seed, 5)), server: "a"}
	first := kinState{}
	w.db.state = kinState{}
	for _, t := range kinTables {
		first[t], w.db.state[t] = map[int]kinRow{}, map[int]kinRow{}
	}
	for i := range 60 {
		t := kinTables[i%len(kinTables)]
		id := w.rnd.IntN(12) + 1
		first[t][id] = kinRow{id, 100 * id, w.ref(t, first)}
	}
	w.states = []kinState{first}
	w.db.copied, w.db.finished = map[string][]replication.Span{}, map[string]bool{}
	return w
}

// ref is a reference of a new row: to a row that is there, or, rarely, to nothing, as sessions without checks leave behind.
func (w *kinWorld) ref(t *replication.Table, s kinState) int {
	if len(t.ForeignKeys) == 0 || w.rnd.IntN(8) == 0 {
		return 0
	}
	id := w.rnd.IntN(12) + 1
	if t.ForeignKeys[0].ParentColumns[0] == "value" {
		if p, ok := s[kinParent][id]; ok {
			return p.value
		}
		return 100 * id
	}
	return id
}

// commit appends a random transaction.
func (w *kinWorld) commit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.states[len(w.states)-1].clone()
	var tx kinTx
	for range 1 + w.rnd.IntN(3) {
		t := kinTables[w.rnd.IntN(len(kinTables))]
		id := w.rnd.IntN(12) + 1
		checks := w.rnd.IntN(5) > 0
		c := replication.Change{Table: t, Cascade: checks}
		var before, after *kinRow
		if old, ok := s[t][id]; ok {
			before, c.Before = &old, old.pack()
			next := old
			switch w.rnd.IntN(3) {
			case 0:
				next.ref = w.ref(t, s)
				after = &next
			case 1:
				next.value = 100*id + w.rnd.IntN(50)
				after = &next
			}
		} else {
			after = &kinRow{id, 100*id + w.rnd.IntN(2), w.ref(t, s)}
		}
		if after != nil {
			c.After = after.pack()
		}
		s.apply(t, before, after, checks)
		tx.changes = append(tx.changes, c)
	}
	w.log, w.states = append(w.log, tx), append(w.states, s)
}

// pause waits for some random time, in the bubble's clock.
func (w *kinWorld) pause(ctx context.Context, most time.Duration) error {
	w.mu.Lock()
	d := time.Duration(w.rnd.Int64N(int64(most)))
	w.mu.Unlock()
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *kinWorld) write(ctx context.Context, n int) {
	for range n {
		if w.pause(ctx, 4*time.Millisecond) != nil {
			return
		}
		w.commit()
	}
}

// show makes the log visible, now and then late.
func (w *kinWorld) show(ctx context.Context) {
	for w.pause(ctx, 6*time.Millisecond) == nil {
		w.mu.Lock()
		w.visible = len(w.log)
		w.mu.Unlock()
	}
}

func (w *kinWorld) End(ctx context.Context) (replication.LogPos, replication.Position, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return replication.LogPos{Server: w.server, Offset: uint64(len(w.log))}, kinPosition(w.visible), nil
}

func kinPosition(n int) (p replication.Position) {
	for i := range n {
		p = p.Add(gtid(i))
	}
	return p
}

func (w *kinWorld) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	return func(yield func(*replication.Transaction, error) bool) {
		for i := 0; ; {
			if err := w.pause(ctx, 3*time.Millisecond); err != nil {
				yield(nil, err)
				return
			}
			w.mu.Lock()
			t := &replication.Transaction{End: replication.LogPos{Server: w.server, Offset: uint64(i)}}
			if i < len(w.log) {
				t.GTID, t.Changes = gtid(i), slices.Clone(w.log[i].changes)
				if i == 0 {
					t.DDL = w.ddl
				}
				t.End.Offset++
				i++
			}
			w.mu.Unlock()
			if !from.Contains(t.GTID) && !yield(t, nil) {
				return
			}
		}
	}
}

func (w *kinWorld) WaitVisible(ctx context.Context, p replication.Position) error {
	for {
		w.mu.Lock()
		all := kinPosition(w.visible).Contains(gtid(0)) || len(w.log) == 0
		for i := w.visible; i < len(w.log); i++ {
			all = all && !p.Contains(gtid(i))
		}
		w.mu.Unlock()
		if all || p.IsZero() {
			return nil
		}
		if err := w.pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

func (w *kinWorld) Read(ctx context.Context, t *replication.Table, span replication.Span, limit replication.Limit) (*replication.Chunk, error) {
	if err := w.pause(ctx, 3*time.Millisecond); err != nil {
		return nil, err
	}
	w.mu.Lock()
	rows := maps.Clone(w.states[w.visible][t])
	most := min(limit.Rows, 1+w.rnd.IntN(4))
	if limit.Rows > 1<<20 {
		most = limit.Rows
	}
	w.mu.Unlock()
	chunk := &replication.Chunk{Table: t, Span: span}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		r := rows[id].pack()
		k, _ := t.Key(r)
		if !inSpan(span, id) {
			continue
		}
		chunk.Rows, chunk.Bytes = append(chunk.Rows, r), chunk.Bytes+len(r)
		if len(chunk.Rows) == most {
			chunk.Span.Hi = k
			break
		}
	}
	return chunk, w.pause(ctx, 3*time.Millisecond)
}

func inSpan(s replication.Span, id int) bool {
	bound := func(k replication.Key) int {
		v, _, _ := k.Next()
		n, _ := strconv.Atoi(string(v))
		return n
	}
	return (s.Lo == nil || id > bound(s.Lo)) && (s.Hi == nil || id <= bound(s.Hi))
}

func (w *kinWorld) Split(context.Context, *replication.Table, int) ([]replication.Key, error) {
	return nil, nil
}

// The target.

func (w *kinWorld) Load(context.Context) (*replication.Checkpoint, error) {
	w.queue = make(chan *replication.Entry, 20)
	cp := &replication.Checkpoint{Copied: map[string][]replication.Span{}, Finished: maps.Clone(w.db.finished)}
	for t, spans := range w.db.copied {
		cp.Copied[t] = slices.Clone(spans)
	}
	if w.db.started {
		cp.Position = kinPosition(w.db.position)
	}
	return cp, nil
}

func (w *kinWorld) Start(_ context.Context, p replication.Position) error {
	w.db.started = true
	for p.Contains(gtid(w.db.position)) {
		w.db.position++
	}
	return nil
}

func (w *kinWorld) Append(ctx context.Context, e *replication.Entry) error {
	select {
	case w.queue <- e:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *kinWorld) Run(ctx context.Context) error {
	queue := w.queue
	for {
		if err := w.pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
		select {
		case e := <-queue:
			w.execute(e)
			if w.breach != nil {
				return w.breach
			}
			e.Done()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *kinWorld) execute(e *replication.Entry) {
	if c := e.Chunk; c != nil {
		for _, row := range c.Rows {
			r := unpackKin(row)
			if have, ok := w.db.state[c.Table][r.id]; ok && c.Table.Ordered {
				w.violated("chunk of %s: %v is there as %v", c.Table.Name, r, have)
			}
			w.db.state[c.Table][r.id] = r
		}
		w.db.copied[c.Table.Name] = append(w.db.copied[c.Table.Name], c.Span)
	}
	for _, c := range e.Changes {
		var before, after *kinRow
		if c.Before != nil {
			r := unpackKin(c.Before)
			if have := w.db.state[c.Table][r.id]; have != r && !c.Loose {
				w.violated("%s: a change finds %v in place of %v", c.Table.Name, have, r)
			}
			before = &r
		}
		if c.After != nil {
			r := unpackKin(c.After)
			after = &r
		}
		if c.Cascade && c.Loose {
			w.violated("%s: a cascade of a row that may not be there", c.Table.Name)
		}
		w.db.state.apply(c.Table, before, after, c.Cascade)
	}
	if e.Chunk == nil {
		for e.Position.Contains(gtid(w.db.position)) {
			w.db.position++
		}
	}
	w.check()
}

func (w *kinWorld) violated(format string, args ...any) {
	if w.breach == nil {
		w.breach = fmt.Errorf("at position %d: "+format, append([]any{w.db.position}, args...)...)
	}
}

// check compares the target with the source's state at its position, as far as it was copied.
func (w *kinWorld) check() {
	w.mu.Lock()
	want := w.states[w.db.position]
	w.mu.Unlock()
	for _, t := range kinTables {
		copied := func(id int) bool {
			return slices.ContainsFunc(w.db.copied[t.Name], func(s replication.Span) bool { return inSpan(s, id) })
		}
		for id, r := range want[t] {
			if have, ok := w.db.state[t][id]; copied(id) && (!ok || have != r) {
				w.violated("%s holds %v (%v), the source %v", t.Name, have, ok, r)
			}
		}
		for id, have := range w.db.state[t] {
			if r, ok := want[t][id]; !ok && (copied(id) || !t.Ordered) || ok && r != have {
				w.violated("%s holds %v, the source %v (%v)", t.Name, have, r, ok)
			}
		}
	}
}

func (w *kinWorld) FinishTable(_ context.Context, t *replication.Table) error {
	w.db.finished[t.Name] = true
	return nil
}

func (w *kinWorld) Report(context.Context, replication.Progress) error { return nil }

var errKinDone = errors.New("all is copied")

// target is the world itself, or by way of a Fanout of one shard, which must make no difference.
func (w *kinWorld) target(sharded bool) (replication.Target, error) {
	if !sharded {
		return w, nil
	}
	routes := make(map[*replication.Table]replication.Route)
	for _, t := range kinTables {
		routes[t] = replication.ByRow(func(replication.Row) (int, error) { return 0, nil })
	}
	return replication.NewFanout([]replication.Shard{{Name: "-", Target: w}}, routes, replication.FanoutOptions{})
}

// runKin copies and streams under random writes, with kills, and to the end.
func runKin(seed uint64) (retried int, err error) {
	w := newKinWorld(seed)
	left := w.rnd.IntN(4)
	var again atomic.Int64
	defer func() { retried = int(again.Load()) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { w.write(ctx, 60) })
	wg.Go(func() { w.show(ctx) })
	for kills := left; ; kills-- {
		life, stop := context.WithCancelCause(ctx)
		if kills > 0 {
			wg.Go(func() { stop(w.pause(life, 60*time.Millisecond)) })
		}
		dst, err := w.target(seed%2 == 0)
		if err != nil {
			stop(nil)
			return 0, err
		}
		err = replication.NewStream(w, dst, kinTables, replication.Options{
			Readers: 3, ReportInterval: 5 * time.Millisecond,
			Trace: replication.Trace{
				ChunkRetried: func(context.Context, replication.ChunkInfo, error) { again.Add(1) },
				TableFinished: func(*replication.Table) {
					if len(w.db.finished) == len(kinTables) {
						wg.Go(func() {
							_ = w.pause(life, 300*time.Millisecond)
							stop(errKinDone)
						})
					}
				},
			},
		}).Run(life)
		stop(nil)
		switch {
		case w.breach != nil:
			return 0, w.breach
		case errors.Is(err, errKinDone), kills <= 0 && len(w.db.finished) == len(kinTables):
			return 0, nil
		case ctx.Err() != nil:
			return 0, fmt.Errorf("not copied after a minute: %v", w.db.copied)
		case err != nil && !errors.Is(err, context.Canceled):
			return 0, err
		}
	}
}

// TestCascades checks after every commit that the target holds what the source held, though its log does not tell what
// foreign keys did.
func TestCascades(t *testing.T) {
	retried := 0
	runs := min(300, modelDefault/4)
	if *modelRuns > 0 {
		runs = *modelRuns
	}
	for range runs {
		seed := rand.Uint64()
		if *modelSeed != 0 {
			seed = *modelSeed
		}
		synctest.Test(t, func(t *testing.T) {
			n, err := runKin(seed)
			if retried += n; err != nil {
				t.Fatalf("%v\nrun it again: go test ./replication -run TestCascades -model.seed %d", err, seed)
			}
		})
		if t.Failed() {
			return
		}
	}
	if retried == 0 {
		t.Error("no chunk was ever read again")
	}
	t.Logf("%d chunks read again", retried)
}
