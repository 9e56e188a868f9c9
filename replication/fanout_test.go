package replication_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tablehaul/tablehaul/replication"
)

// shelf is a Target that keeps entries until the test commits them.
type shelf struct {
	cp  replication.Checkpoint
	err error

	mu struct {
		sync.Mutex
		started  replication.Position
		entries  []*replication.Entry
		finished []string
		report   replication.Progress
	}
}

func (s *shelf) Load(context.Context) (*replication.Checkpoint, error) { return &s.cp, s.err }

func (s *shelf) Start(_ context.Context, p replication.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.started = p
	return s.err
}

func (s *shelf) Run(ctx context.Context) error {
	if s.err != nil {
		return s.err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (s *shelf) Append(_ context.Context, e *replication.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.mu.entries = append(s.mu.entries, e)
	}
	return s.err
}

func (s *shelf) FinishTable(_ context.Context, t *replication.Table) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.finished = append(s.mu.finished, t.Name)
	return s.err
}

func (s *shelf) Report(_ context.Context, p replication.Progress) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.report = p
	return s.err
}

// take takes the entries off and commits them; they are told as text.
func (s *shelf) take() string {
	s.mu.Lock()
	entries := s.mu.entries
	s.mu.entries = nil
	s.mu.Unlock()
	var out []string
	for _, e := range entries {
		out = append(out, entryText(e))
		e.Done()
	}
	return strings.Join(out, " ")
}

// entryText shows an entry: its changes or rows by key, and the last transaction of its position.
func entryText(e *replication.Entry) string {
	var b strings.Builder
	key := func(r replication.Row) string {
		if r == nil {
			return "-"
		}
		v, _, _ := r.Next()
		return string(v)
	}
	_ = e.Each(func(c replication.Change) error {
		fmt.Fprintf(&b, "%s>%s,", key(c.Before), key(c.After))
		return nil
	})
	if e.DDL != nil {
		b.WriteString("ddl,")
	}
	if c := e.Chunk; c != nil {
		fmt.Fprintf(&b, "chunk(%s,%s]", key(c.Span.Lo), key(c.Span.Hi))
		for _, r := range c.Rows {
			fmt.Fprintf(&b, ":%s", key(r))
		}
	}
	return fmt.Sprintf("%s@%d", b.String(), transactionsOf(e.Position))
}

func upTo(n int) (p replication.Position) {
	for i := range n {
		p = p.Add(gtid(i))
	}
	return p
}

func plainRow(id, v int) replication.Row {
	return replication.PackRow([]byte(strconv.Itoa(id)), []byte(strconv.Itoa(v)))
}

// newShelves are n shards over shelves; plain goes by v modulo n, and words is on all of them.
func newShelves(t *testing.T, n int, options replication.FanoutOptions) (*replication.Fanout, []*shelf) {
	t.Helper()
	var shards []replication.Shard
	var shelves []*shelf
	for i := range n {
		s := &shelf{}
		shelves = append(shelves, s)
		shards = append(shards, replication.Shard{Name: strconv.Itoa(i), Target: s})
	}
	fan, err := replication.NewFanout(shards, map[*replication.Table]replication.Route{
		plain: replication.ByRow(func(r replication.Row) (int, error) {
			_, rest, _ := r.Next()
			v, _, _ := rest.Next()
			if v == nil {
				return 0, errors.New("NULL has no shard")
			}
			n, err := strconv.Atoi(string(v))
			return n % len(shards), err
		}),
		words:   replication.EveryShard(),
		numbers: replication.OneShard(0),
	}, options)
	if err != nil {
		t.Fatal(err)
	}
	return fan, shelves
}

// startShelves starts a stream whose shards have the whole of all tables, at transaction 1.
func startShelves(t *testing.T, fan *replication.Fanout, shelves []*shelf) {
	t.Helper()
	for _, s := range shelves {
		s.cp.Position = upTo(1)
		s.cp.Copied = map[string][]replication.Span{"plain": {{}}, "words": {{}}, "numbers": {{}}}
	}
	if _, err := fan.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func wantShelves(t *testing.T, what string, shelves []*shelf, want ...string) {
	t.Helper()
	for i, s := range shelves {
		if got := s.take(); got != want[i] {
			t.Errorf("%s: shard %d got %q, want %q", what, i, got, want[i])
		}
	}
}

func TestFanoutPositions(t *testing.T) {
	fan, shelves := newShelves(t, 3, replication.FanoutOptions{})
	startShelves(t, fan, shelves)
	done := 0
	add := func(p int, e replication.Entry) {
		t.Helper()
		e.Position, e.Done = upTo(p), func() { done++ }
		if err := fan.Append(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	report := func() {
		t.Helper()
		if err := fan.Report(t.Context(), replication.Progress{}); err != nil {
			t.Fatal(err)
		}
	}
	insert := func(id, v int) []replication.Change {
		return []replication.Change{{Table: plain, After: plainRow(id, v)}}
	}
	add(2, replication.Entry{Changes: insert(1, 0)})
	add(3, replication.Entry{Changes: insert(2, 3)})
	report() // shard 0 is busy
	wantShelves(t, "changes of one shard", shelves, "->1,@2 ->2,@3", "@3", "@3")
	report()
	add(3, replication.Entry{})
	wantShelves(t, "nothing", shelves, "", "", "")
	add(4, replication.Entry{Changes: []replication.Change{{Table: plain, Before: plainRow(1, 0), After: plainRow(1, 1)}}})
	add(5, replication.Entry{Changes: []replication.Change{{Table: words, After: plainRow(7, 0)}}})
	wantShelves(t, "a row that moves, and one for all", shelves, "1>-,@4 ->7,@5", "->1,@4 ->7,@5", "->7,@5")
	add(6, replication.Entry{Changes: insert(5, 2)})
	add(7, replication.Entry{})
	wantShelves(t, "a position for all", shelves, "@7", "@7", "->5,@6 @7")
	add(8, replication.Entry{DDL: &replication.DDL{Tables: []string{"numbers"}}})
	wantShelves(t, "a schema change of one shard's table", shelves, "ddl,@8", "@8", "@8")
	if done != 8 {
		t.Errorf("done was called %d times for 8 entries", done)
	}
}

func TestFanoutChunks(t *testing.T) {
	fan, shelves := newShelves(t, 2, replication.FanoutOptions{})
	five, nine := replication.PackRow([]byte("5")), replication.PackRow([]byte("9"))
	shelves[0].cp = replication.Checkpoint{Position: upTo(3), Copied: map[string][]replication.Span{"plain": {{Lo: five, Hi: nine}}}}
	shelves[1].cp = replication.Checkpoint{Position: upTo(3), Copied: map[string][]replication.Span{"words": {{}}}}
	if _, err := fan.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := 0
	add := func(e replication.Entry) {
		t.Helper()
		e.Position, e.Done = upTo(4), func() { done++ }
		if err := fan.Append(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	// Before the chunk, shard 0 has only rows above 5.
	update := replication.Change{Table: plain, Before: plainRow(3, 0), After: plainRow(7, 0)}
	add(replication.Entry{Changes: []replication.Change{update}})
	wantShelves(t, "a change of what one shard has", shelves, "->7,@4", "")
	rows := []replication.Row{plainRow(2, 2), plainRow(3, 3), plainRow(6, 1), plainRow(7, 0), plainRow(11, 2), plainRow(12, 1)}
	add(replication.Entry{Chunk: &replication.Chunk{Table: plain, Rows: rows}})
	wantShelves(t, "a chunk of which one shard has a part", shelves, "chunk(-,5]:2@4 chunk(9,-]:11@4", "@4 chunk(-,-]:3:6:12@4")
	add(replication.Entry{Chunk: &replication.Chunk{Table: words, Rows: rows[:2]}})
	wantShelves(t, "a chunk of a reference table", shelves, "chunk(-,-]:2:3@4", "")
	add(replication.Entry{Changes: []replication.Change{update}})
	wantShelves(t, "a change after the chunk", shelves, "3>7,@4", "")
	if done != 4 {
		t.Errorf("done was called %d times for 4 entries", done)
	}
	if err := fan.Report(t.Context(), replication.Progress{Tables: map[string]replication.TableProgress{"plain": {Rows: 5, Done: true}, "numbers": {}}}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(shelves[0].mu.report.Tables); got != "map[numbers:{0 0 false} plain:{2 9 true}]" {
		t.Errorf("shard 0 is told %s", got)
	}
	if got := fmt.Sprint(shelves[1].mu.report.Tables); got != "map[plain:{3 13 true}]" {
		t.Errorf("shard 1 is told %s", got)
	}
}

func TestFanoutDone(t *testing.T) {
	fan, shelves := newShelves(t, 2, replication.FanoutOptions{})
	startShelves(t, fan, shelves)
	var done []int
	for i, values := range [][2]int{{0, 1}, {1, 1}, {0, 0}} {
		e := replication.Entry{Position: upTo(2 + i), Done: func() { done = append(done, i) }}
		e.Changes = []replication.Change{{Table: plain, Before: plainRow(i, values[0]), After: plainRow(i, values[1])}}
		if err := fan.Append(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	shelves[1].take()
	if len(done) > 0 {
		t.Errorf("done with %v before the first shard has committed anything", done)
	}
	shelves[0].take()
	if !slices.Equal(done, []int{0, 1, 2}) {
		t.Errorf("done in the order %v", done)
	}
}

// When a shard can't be given its part of an entry, those after it have not got theirs: none of them may be given a position any more, not even
// by a report that comes from elsewhere.
func TestFanoutBroken(t *testing.T) {
	for _, c := range []struct {
		what  string
		entry replication.Entry
		// first is what the shard before the broken one gets.
		first string
	}{
		{"changes", replication.Entry{Changes: []replication.Change{{Table: words, After: plainRow(7, 0)}}}, "->7,@2"},
		{"a schema change", replication.Entry{DDL: &replication.DDL{Tables: []string{"words"}}}, "ddl,@2"},
		{"a position", replication.Entry{}, "@2"},
	} {
		fan, shelves := newShelves(t, 3, replication.FanoutOptions{})
		startShelves(t, fan, shelves)
		report := func() {
			t.Helper()
			if err := fan.Report(t.Context(), replication.Progress{}); err != nil {
				t.Errorf("%s: report: %v", c.what, err)
			}
		}
		shelves[1].err = errors.New("gone")
		c.entry.Position = upTo(2)
		first := fan.Append(t.Context(), &c.entry)
		if !errors.Is(first, shelves[1].err) {
			t.Fatalf("%s: %v", c.what, first)
		}
		shelves[1].err = nil
		report()
		wantShelves(t, c.what, shelves, c.first, "", "")
		if err := fan.Append(t.Context(), &replication.Entry{Position: upTo(3)}); err == nil || err.Error() != first.Error() {
			t.Errorf("%s: the next entry: %v", c.what, err)
		}
		report()
		wantShelves(t, c.what+", and the next entry", shelves, "", "", "")
		startShelves(t, fan, shelves)
		if err := fan.Append(t.Context(), &replication.Entry{Position: upTo(2)}); err != nil {
			t.Errorf("%s: after a new start: %v", c.what, err)
		}
		wantShelves(t, c.what+", after a new start", shelves, "@2", "@2", "@2")
	}
	// A report that could not give a shard its position: a chunk must not come after that.
	fan, shelves := newShelves(t, 2, replication.FanoutOptions{})
	startShelves(t, fan, shelves)
	if err := fan.Append(t.Context(), &replication.Entry{Position: upTo(2), Changes: []replication.Change{{Table: plain, After: plainRow(1, 0)}}}); err != nil {
		t.Fatal(err)
	}
	shelves[1].err = errors.New("gone")
	first := fan.Report(t.Context(), replication.Progress{})
	if !errors.Is(first, shelves[1].err) {
		t.Fatal(first)
	}
	shelves[1].err = nil
	if err := fan.Append(t.Context(), &replication.Entry{Position: upTo(2), Chunk: &replication.Chunk{Table: words}}); err == nil || err.Error() != first.Error() {
		t.Errorf("a chunk after a failed report: %v", err)
	}
}

// Shards together hold no more than they may, and a slow one does not stop the others before that.
func TestFanoutMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fan, shelves := newShelves(t, 2, replication.FanoutOptions{MemoryBytes: 100_000})
		startShelves(t, fan, shelves)
		appended := 0
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			for i := 0; ; i++ {
				e := replication.Entry{Position: upTo(1), Changes: []replication.Change{{Table: plain, After: plainRow(i, min(i%100, 1))}}}
				if err := fan.Append(ctx, &e); err != nil {
					ended <- err
					return
				}
				appended++
				shelves[1].take()
			}
		}()
		synctest.Wait()
		if appended < 50 || appended > 200 {
			t.Errorf("%d entries were appended while one shard stood still", appended)
		}
		before := appended
		shelves[0].take()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) || appended == before {
			t.Errorf("%v after %d entries, %d before the shard went on", err, appended, before)
		}
	})
}

func TestFanoutLoad(t *testing.T) {
	fan, shelves := newShelves(t, 3, replication.FanoutOptions{})
	k := func(s string) replication.Key { return replication.PackRow([]byte(s)) }
	shelves[0].cp = replication.Checkpoint{
		Position: upTo(5), Finished: map[string]bool{"numbers": true}, Rows: map[string]int64{"plain": 3, "words": 7},
		Copied: map[string][]replication.Span{"plain": {{Hi: k("5")}, {Lo: k("7")}}, "words": {{Hi: k("m")}}, "numbers": {{}}},
	}
	shelves[1].cp = replication.Checkpoint{
		Position: upTo(9), Rows: map[string]int64{"plain": 4, "words": 6},
		Copied: map[string][]replication.Span{"plain": {{Hi: k("6")}}, "words": {{Hi: k("d")}, {Lo: k("d"), Hi: k("f")}}},
	}
	cp, err := fan.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a, b := transactionsOf(cp.Position), transactionsOf(cp.Level); a != 5 || b != 9 {
		t.Errorf("the log is read from %d, and level at %d", a, b)
	}
	if got := transactionsOf(shelves[2].mu.started); got != 9 {
		t.Errorf("the shard without a position began at %d", got)
	}
	show := func(spans []replication.Span) string {
		var out []string
		for _, s := range spans {
			out = append(out, fmt.Sprintf("%s..%s", strings.TrimSpace(string(s.Lo)), strings.TrimSpace(string(s.Hi))))
		}
		return strings.Join(out, " ")
	}
	for table, want := range map[string]string{"plain": "..", "numbers": "", "words": "..\x01f \x01f..\x01m \x01m.."} {
		if got := show(cp.Missing[table]); got != want {
			t.Errorf("missing of %s: %q, want %q", table, got, want)
		}
	}
	if !cp.Finished["numbers"] || cp.Finished["plain"] || cp.Rows["plain"] != 7 || cp.Rows["words"] != 7 {
		t.Errorf("finished %v, rows %v", cp.Finished, cp.Rows)
	}
	// Positions that grew in different order, as read from different servers.
	for _, p := range [][4]string{
		{
			"MySQL56/00000000-0000-0000-0000-000000000001:1-5:7:9", "MySQL56/00000000-0000-0000-0000-000000000001:1-3:5-8,00000000-0000-0000-0000-000000000002:1",
			"MySQL56/00000000-0000-0000-0000-000000000001:1-3:5:7", "MySQL56/00000000-0000-0000-0000-000000000001:1-9,00000000-0000-0000-0000-000000000002:1",
		},
		{"MariaDB/0-1-5,1-1-3", "MariaDB/0-2-4", "MariaDB/0-2-4", "MariaDB/0-1-5,1-1-3"},
	} {
		fan, shelves := newShelves(t, 2, replication.FanoutOptions{})
		for i, s := range shelves {
			if s.cp.Position, err = replication.ParsePosition(p[i]); err != nil {
				t.Fatal(err)
			}
		}
		cp, err := fan.Load(t.Context())
		if err != nil || cp.Position.String() != p[2] || cp.Level.String() != p[3] {
			t.Errorf("%s and %s: from %s, level at %s: %v", p[0], p[1], cp.Position, cp.Level, err)
		}
	}
}

func TestFanoutErrors(t *testing.T) {
	fan, shelves := newShelves(t, 2, replication.FanoutOptions{})
	startShelves(t, fan, shelves)
	var rowErr *replication.RowError
	bad := replication.PackRow([]byte("3"), nil)
	if err := fan.Append(t.Context(), &replication.Entry{Changes: []replication.Change{{Table: plain, After: bad}}}); !errors.As(err, &rowErr) || rowErr.Key != "(id=3)" {
		t.Errorf("a row without a shard: %v", err)
	}
	startShelves(t, fan, shelves)
	if err := fan.Append(t.Context(), &replication.Entry{Changes: []replication.Change{{Table: kinTree, After: bad}}}); !errors.As(err, &rowErr) {
		t.Errorf("a table without a route: %v", err)
	}
	startShelves(t, fan, shelves)
	shelves[1].err = &replication.TransientError{Err: errors.New("gone")}
	var shard *replication.ShardError
	for what, err := range map[string]error{
		"run":    fan.Run(t.Context()),
		"finish": fan.FinishTable(t.Context(), plain),
		"report": fan.Report(t.Context(), replication.Progress{}),
		"start":  fan.Start(t.Context(), upTo(1)),
		"append": fan.Append(t.Context(), &replication.Entry{Position: upTo(2)}),
	} {
		if !errors.As(err, &shard) || shard.Shard != "1" || !replication.Transient(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := fan.FinishTable(t.Context(), numbers); err != nil {
		t.Errorf("finish a table that the broken shard has not: %v", err)
	}
	if _, err := fan.Load(t.Context()); !errors.As(err, &shard) || !replication.Transient(err) {
		t.Errorf("load: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	shelves[1].err = nil
	if err := fan.Run(ctx); errors.As(err, &shard) || !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

func TestNewFanoutRefuses(t *testing.T) {
	two := []replication.Shard{{Name: "a", Target: &shelf{}}, {Name: "b", Target: &shelf{}}}
	if _, err := replication.NewFanout(nil, nil, replication.FanoutOptions{}); err == nil {
		t.Error("no shards are accepted")
	}
	if _, err := replication.NewFanout(two, map[*replication.Table]replication.Route{plain: replication.OneShard(2)}, replication.FanoutOptions{}); err == nil {
		t.Error("a third of two shards is accepted")
	}
	for _, c := range []struct {
		parent, child replication.Route
		shards        int
		ok            bool
	}{
		{replication.OneShard(1), replication.OneShard(1), 2, false},
		{replication.OneShard(0), replication.OneShard(1), 2, false},
		{replication.EveryShard(), replication.EveryShard(), 2, false},
		{replication.ByRow(nil), replication.EveryShard(), 1, true},
	} {
		_, err := replication.NewFanout(two[:c.shards], map[*replication.Table]replication.Route{kinParent: c.parent, kinChild: c.child}, replication.FanoutOptions{})
		var cascade *replication.CascadeError
		if c.ok && err != nil || !c.ok && (!errors.As(err, &cascade) || cascade.Table != kinChild.Name) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// laggingSource is a server that has only a part of the log for a while, as a replica that was failed over to.
type laggingSource struct {
	*modelSource
	has   int
	whole chan struct{}
	reads chan struct{}
}

func (s *laggingSource) End(context.Context) (replication.LogPos, replication.Position, error) {
	select {
	case <-s.whole:
		return replication.LogPos{Server: "a", Offset: uint64(len(s.mu.log))}, upTo(len(s.mu.log)), nil
	default:
		return replication.LogPos{Server: "a", Offset: uint64(s.has)}, upTo(s.has), nil
	}
}

func (s *laggingSource) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	return func(yield func(*replication.Transaction, error) bool) {
		for t, err := range s.modelSource.Transactions(ctx, from) {
			if err == nil && t.End.Offset > uint64(s.has) {
				select {
				case <-s.whole:
				case <-ctx.Done():
					err = context.Cause(ctx)
				}
			}
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

func (s *laggingSource) Read(ctx context.Context, t *replication.Table, span replication.Span, limit replication.Limit) (*replication.Chunk, error) {
	select {
	case s.reads <- struct{}{}:
	default:
	}
	return s.modelSource.Read(ctx, t, span, limit)
}

// No chunk is read before the log has been read to where the foremost shard is.
func TestFanoutLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(rand.New(rand.NewPCG(3, 3)))
		fan, shelves := newShelves(t, 2, replication.FanoutOptions{})
		shelves[0].cp.Position, shelves[1].cp.Position = upTo(1), upTo(len(w.mu.log))
		src := &laggingSource{modelSource: &modelSource{world: w}, has: 3, whole: make(chan struct{}), reads: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- replication.NewStream(src, fan, modelTables, replication.Options{}).Run(ctx) }()
		if err := w.pause(ctx, 1e9); err != nil {
			t.Error(err)
		}
		select {
		case <-src.reads:
			t.Error("rows are read while a shard is ahead of the log")
		default:
		}
		close(src.whole)
		select {
		case <-src.reads:
		case err := <-ended:
			t.Errorf("the stream ended: %v", err)
			ended <- err
		}
		cancel()
		<-ended
	})
}

// forkedSource is a server that has never had the transactions after the first three.
type forkedSource struct{ *modelSource }

func (s forkedSource) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	if transactionsOf(from) <= 3 {
		return s.modelSource.Transactions(ctx, from)
	}
	return func(yield func(*replication.Transaction, error) bool) { yield(nil, replication.ErrHistory) }
}

func TestFanoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(rand.New(rand.NewPCG(3, 3)))
		fan, shelves := newShelves(t, 2, replication.FanoutOptions{})
		shelves[0].cp.Position, shelves[1].cp.Position = upTo(1), upTo(5)
		err := replication.NewStream(forkedSource{&modelSource{world: w}}, fan, modelTables, replication.Options{}).Run(t.Context())
		if !errors.Is(err, replication.ErrHistory) {
			t.Errorf("one shard has what the source never had: %v", err)
		}
	})
}
