package target_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/target"
)

// A script is a Store whose transactions take the time that the script says; it writes down what happens.
type script struct {
	// apply and fail are by entry; each may be missing.
	apply map[*replication.Entry]time.Duration
	fail  map[*replication.Entry]error
	// locks are held from Apply to the end of the transaction; who meets a held one fails.
	locks map[*replication.Entry]string
	names map[*replication.Entry]string
	// rows tells whose change a row is.
	rows map[string]*replication.Entry
	// slow is what each change takes.
	slow time.Duration
	// bad is a row that can't be written.
	bad replication.Row

	mu struct {
		sync.Mutex
		log  []string
		held map[string]bool
		open int
	}
}

func newScript() *script {
	s := &script{
		apply: map[*replication.Entry]time.Duration{}, fail: map[*replication.Entry]error{},
		locks: map[*replication.Entry]string{}, names: map[*replication.Entry]string{},
		rows: map[string]*replication.Entry{},
	}
	s.mu.held = map[string]bool{}
	return s
}

func (s *script) note(what string, e *replication.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.log = append(s.mu.log, what+" "+s.names[e])
}

// when is the place of a line in the log; -1 if it isn't there.
func (s *script) when(line string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Index(s.mu.log, line)
}

func (s *script) lines(prefix string) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.mu.log {
		if rest, ok := strings.CutPrefix(l, prefix+" "); ok {
			out = append(out, rest)
		}
	}
	return out
}

func (s *script) ExecuteDDL(ctx context.Context, e *replication.Entry) error {
	s.mu.Lock()
	open := s.mu.open
	s.mu.Unlock()
	if open > 0 {
		return fmt.Errorf("%d transactions are open during a schema change", open)
	}
	s.note("begin", e)
	err := retry.Wait(ctx, s.apply[e])
	s.note("commit", e)
	return err
}

func (s *script) Begin(context.Context) (target.Tx, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.open++
	return &scriptTx{s: s}, nil
}

type scriptTx struct {
	s *script
	e *replication.Entry
	// lock is the one that is held.
	lock string
}

func (t *scriptTx) Apply(ctx context.Context, e *replication.Entry, _ bool) error {
	// What is executed stands for one entry or for several.
	lock := t.s.locks[e]
	for _, c := range e.Changes {
		lock = cmp.Or(lock, t.s.locks[t.s.rows[string(c.After)]])
	}
	if len(e.Changes) > 0 {
		whole := t.s.rows[string(e.Changes[0].After)]
		if !slices.ContainsFunc(e.Changes, func(c replication.Change) bool { return t.s.rows[string(c.After)] != whole }) {
			e = whole
		}
	}
	t.e = e
	t.s.note("begin", e)
	if lock != "" {
		t.s.mu.Lock()
		taken := t.s.mu.held[lock]
		if !taken {
			t.s.mu.held[lock], t.lock = true, lock
		}
		t.s.mu.Unlock()
		if taken {
			t.e = nil
			if err := retry.Wait(ctx, time.Second); err != nil {
				return err
			}
			return fmt.Errorf("%w: lock %s", target.ErrLockConflict, lock)
		}
	}
	if err := retry.Wait(ctx, t.s.apply[e]+time.Duration(len(e.Changes))*t.s.slow); err != nil {
		return err
	}
	for _, c := range e.Changes {
		if t.s.bad != nil && string(c.After) == string(t.s.bad) {
			return errBad
		}
	}
	t.s.note("executed", e)
	return t.s.fail[e]
}

func (t *scriptTx) Commit(_ context.Context, e *replication.Entry) error {
	t.s.note("commit", e)
	t.end()
	return nil
}

func (t *scriptTx) Ping(context.Context) error {
	t.s.note("ping", t.e)
	return nil
}

func (t *scriptTx) Rollback(context.Context) {
	if t.e != nil {
		t.s.note("rollback", t.e)
	}
	t.end()
}

func (t *scriptTx) end() {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.mu.open--
	if t.lock != "" {
		delete(t.s.mu.held, t.lock)
	}
}

// txn names an entry that inserts rows with these ids (and unique values of the same number).
func (s *script) txn(name string, ids ...int) *replication.Entry {
	e := &replication.Entry{}
	for _, id := range ids {
		c := insert(scriptTable, fmt.Sprint(id), name, fmt.Sprint(id))
		s.rows[string(c.After)] = e
		e.Changes = append(e.Changes, c)
	}
	s.names[e] = name
	return e
}

// chunk names a chunk (lo, hi] whose rows have these unique values.
func (s *script) chunk(name string, lo, hi int, unique ...int) *replication.Entry {
	var rows []replication.Row
	for i, u := range unique {
		rows = append(rows, row(fmt.Sprint(lo+1+i), "x", fmt.Sprint(u)))
	}
	e := chunk(scriptTable, replication.Span{Lo: row(fmt.Sprint(lo)), Hi: row(fmt.Sprint(hi))}, replication.Position{}, rows...)
	s.names[e] = name
	return e
}

var (
	scriptTable = pairs()
	errBad      = errors.New("bad row")
)

// play runs entries, one by one unless opts say otherwise, to their end in fake time and returns how long that took. After an
// hour it is a hang.
func (s *script) play(t *testing.T, opts target.SchedulerOptions, entries ...*replication.Entry) (took time.Duration, err error) {
	t.Helper()
	opts.MergeBytes = cmp.Or(opts.MergeBytes, -1)
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		sched := target.NewScheduler(s, opts)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			ended <- sched.Run(ctx)
			cancel()
		}()
		done := make(chan struct{}, len(entries))
		var doneOrder []string
		for _, e := range entries {
			name := s.names[e]
			e.Done = func() {
				doneOrder = append(doneOrder, name)
				done <- struct{}{}
			}
			if aerr := sched.Append(ctx, e); aerr != nil {
				break
			}
		}
		for range entries {
			select {
			case <-done:
				continue
			case <-ctx.Done():
			}
			break
		}
		took = time.Since(begun)
		cancel()
		err = <-ended
		if errors.Is(err, context.Canceled) {
			err = nil
			if got := s.lines("commit"); opts.MergeBytes < 0 && !slices.Equal(got, doneOrder) {
				t.Errorf("committed %v, Done was called for %v", got, doneOrder)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.mu.open != 0 {
			t.Errorf("%d transactions are open after Run", s.mu.open)
		}
	})
	return took, err
}

func (s *script) before(t *testing.T, lines ...string) {
	t.Helper()
	for i := 1; i < len(lines); i++ {
		a, b := s.when(lines[i-1]), s.when(lines[i])
		if a < 0 || b < 0 || a >= b {
			t.Errorf("%q is not before %q in %q", lines[i-1], lines[i], s.mu.log)
		}
	}
}

func TestSchedulerRunsAtOnceAndCommitsInOrder(t *testing.T) {
	s := newScript()
	var entries []*replication.Entry
	var want []string
	for i := range 20 {
		name := fmt.Sprint("t", i)
		e := s.txn(name, i)
		s.apply[e] = time.Duration(20-i) * time.Second
		entries, want = append(entries, e), append(want, name)
	}
	took, err := s.play(t, target.SchedulerOptions{Workers: 20}, entries...)
	if err != nil || took != 20*time.Second {
		t.Errorf("took %v, %v; the longest takes 20 s", took, err)
	}
	if got := s.lines("commit"); !slices.Equal(got, want) {
		t.Errorf("commits are %v", got)
	}
}

func TestSchedulerConflictsWait(t *testing.T) {
	s := newScript()
	a, b, c := s.txn("a", 1), s.txn("b", 2), s.txn("c", 3, 1)
	s.apply[a] = time.Second
	if _, err := s.play(t, target.SchedulerOptions{Workers: 3}, a, b, c); err != nil {
		t.Error(err)
	}
	s.before(t, "begin b", "executed a", "commit a", "begin c")
}

func TestSchedulerChunkIsLateNeverEarly(t *testing.T) {
	s := newScript()
	slow, early := s.txn("slow", 500), s.txn("other", 501)
	c := s.chunk("chunk", 0, 100, 700)
	outside, inside, stolen := s.txn("outside", 200), s.txn("inside", 50), s.txn("stolen", 700)
	s.apply[slow], s.apply[c] = 5*time.Second, 10*time.Second
	if _, err := s.play(t, target.SchedulerOptions{Workers: 1, Loaders: 1}, slow, early, c, outside, inside, stolen); err != nil {
		t.Error(err)
	}
	s.before(t, "begin chunk", "commit slow", "commit outside", "commit chunk", "begin inside", "begin stolen")

	s = newScript()
	slow, c = s.txn("slow", 500), s.chunk("chunk", 0, 100, 7)
	s.apply[slow] = 5 * time.Second
	if _, err := s.play(t, target.SchedulerOptions{}, slow, c); err != nil {
		t.Error(err)
	}
	s.before(t, "executed chunk", "commit slow", "commit chunk")
	if got := s.lines("ping"); len(got) > 0 {
		t.Errorf("a wait of 5 s has pings: %q", got)
	}
	s = newScript()
	slow, c = s.txn("slow", 500), s.chunk("chunk", 0, 100, 7)
	s.apply[slow] = 35 * time.Second
	if _, err := s.play(t, target.SchedulerOptions{}, slow, c); err != nil {
		t.Error(err)
	}
	if got := s.lines("ping"); len(got) != 3 {
		t.Errorf("a wait of 35 s has the pings %q", got)
	}

	// A unique value comes into the chunk's range from a row that an earlier transaction takes it from.
	s = newScript()
	slow, c = s.txn("slow", 500), s.chunk("chunk", 0, 100, 500)
	s.apply[slow] = 5 * time.Second
	if _, err := s.play(t, target.SchedulerOptions{}, slow, c); err != nil {
		t.Error(err)
	}
	s.before(t, "commit slow", "begin chunk")
}

// TestSchedulerMakesWay: b is executed and holds a lock that a needs; the database does not know that b waits for a.
func TestSchedulerMakesWay(t *testing.T) {
	s := newScript()
	first, a, b, c := s.txn("first", 1), s.txn("a", 2, 1), s.txn("b", 3), s.chunk("chunk", 100, 200)
	s.apply[first] = time.Second
	s.locks[a], s.locks[b] = "page", "page"
	took, err := s.play(t, target.SchedulerOptions{Workers: 3}, first, a, b, c)
	if err != nil || took > 10*time.Second {
		t.Errorf("took %v, %v", took, err)
	}
	s.before(t, "executed b", "begin a", "rollback b", "commit a", "commit b")
	if got := s.lines("commit"); !slices.Equal(got, []string{"first", "a", "b", "chunk"}) {
		t.Errorf("commits are %v", got)
	}
}

// TestSchedulerChunkInsideBatch: a chunk needs a lock of the merged transactions before and after it, whose first it has to
// commit after.
func TestSchedulerChunkInsideBatch(t *testing.T) {
	s := newScript()
	ddl := &replication.Entry{DDL: &replication.DDL{Statement: "ALTER TABLE t"}}
	s.names[ddl] = "ddl"
	a, c, b := s.txn("a", 1), s.chunk("chunk", 100, 200), s.txn("b", 2)
	first := s.chunk("first chunk", 300, 400)
	s.apply[ddl], s.apply[first], s.slow = time.Second, time.Second, 2*time.Second
	s.locks[a], s.locks[c] = "page", "page"
	took, err := s.play(t, target.SchedulerOptions{Workers: 1, Loaders: 1, MergeBytes: 1 << 20}, ddl, first, a, c, b)
	if err != nil || took > 10*time.Second {
		t.Errorf("took %v, %v", took, err)
	}
	if got := s.lines("commit"); !slices.Equal(got, []string{"ddl", "first chunk", "b", "chunk"}) {
		t.Errorf("commits are %q", got)
	}
	// The chunk has met the lock of both.
	if got := s.lines("begin"); len(got) < 5 || got[len(got)-1] != "chunk" || got[len(got)-2] != "chunk" {
		t.Errorf("begun are %q", got)
	}
}

func TestSchedulerGivesUpOnForeignLocks(t *testing.T) {
	s := newScript()
	a := s.txn("a", 1)
	s.locks[a] = "foreign"
	s.mu.held["foreign"] = true
	took, err := s.play(t, target.SchedulerOptions{LockTimeout: 30 * time.Second}, a, s.txn("b", 2))
	if !errors.Is(err, target.ErrLockConflict) || took < 30*time.Second || took > time.Minute {
		t.Errorf("after %v: %v", took, err)
	}
	if got := s.lines("commit"); len(got) > 0 {
		t.Errorf("commits are %v", got)
	}
}

// TestSchedulerMerges: what has piled up behind a schema change commits with few commits, up to some bytes, but for what a
// chunk keeps waiting.
func TestSchedulerMerges(t *testing.T) {
	s := newScript()
	ddl, c := &replication.Entry{DDL: &replication.DDL{Statement: "ALTER TABLE t"}}, s.chunk("chunk", 0, 100, 700)
	s.names[ddl] = "ddl"
	s.apply[ddl], s.apply[c] = time.Second, time.Minute
	waits := s.txn("waits", 50)
	bytes := s.txn("", 1).Bytes()
	_, err := s.play(t, target.SchedulerOptions{Workers: 1, MergeBytes: 4 * bytes}, ddl, c,
		s.txn("a", 501), s.txn("b", 502, 501), s.txn("c", 503), s.txn("d", 504), s.txn("e", 505), waits, s.txn("f", 506))
	if err != nil {
		t.Error(err)
	}
	// b has two rows, so a, b and c are as many bytes as may commit together; d and e are; the last two are. A commit has the
	// name of the last.
	if got := s.lines("commit"); !slices.Equal(got, []string{"ddl", "c", "e", "chunk", "f"}) {
		t.Errorf("commits are %q", got)
	}
}

// TestSchedulerMergesLessWhenSlow: a batch takes no longer than it may for long.
func TestSchedulerMergesLessWhenSlow(t *testing.T) {
	for _, c := range []struct {
		slow     time.Duration
		from, to int
	}{{0, 2, 4}, {100 * time.Millisecond, 12, 60}} {
		s := newScript()
		s.slow = c.slow
		entries := []*replication.Entry{{DDL: &replication.DDL{Statement: "ALTER TABLE t"}}}
		s.names[entries[0]] = "ddl"
		s.apply[entries[0]] = time.Second
		for i := range 150 {
			entries = append(entries, s.txn("t", i))
		}
		_, err := s.play(t, target.SchedulerOptions{Workers: 1, MergeBytes: 64 * entries[1].Bytes()}, entries...)
		if got := len(s.lines("commit")); err != nil || got < c.from || got > c.to {
			t.Errorf("%v for each change: %d commits, %v", c.slow, got, err)
		}
	}
}

// TestSchedulerCommitsAllBeforeAnError: an error in merged transactions does not take back the good ones before it.
func TestSchedulerCommitsAllBeforeAnError(t *testing.T) {
	s := newScript()
	slow, a, b, c := s.txn("slow", 1), s.txn("a", 2), s.txn("b", 3), s.txn("c", 4)
	s.apply[slow] = time.Second
	s.bad = b.Changes[0].After
	if _, err := s.play(t, target.SchedulerOptions{MergeBytes: 1 << 20}, slow, a, b, c); !errors.Is(err, errBad) {
		t.Error(err)
	}
	if got := s.lines("commit"); !slices.Equal(got, []string{"slow", "a"}) {
		t.Errorf("commits are %q", got)
	}
}

func TestSchedulerBarrier(t *testing.T) {
	s := newScript()
	a, c, b := s.txn("a", 1), s.chunk("chunk", 100, 200), s.txn("b", 2)
	ddl := &replication.Entry{DDL: &replication.DDL{Statement: "ALTER TABLE t"}}
	s.names[ddl] = "ddl"
	s.apply[a], s.apply[c], s.apply[ddl] = time.Second, 3*time.Second, time.Second
	if _, err := s.play(t, target.SchedulerOptions{Workers: 4}, a, c, ddl, b, s.chunk("later", 300, 400)); err != nil {
		t.Error(err)
	}
	s.before(t, "commit a", "commit chunk", "begin ddl", "commit ddl", "begin b")
	s.before(t, "commit ddl", "begin later")
}

func TestSchedulerErrorEndsAll(t *testing.T) {
	s := newScript()
	broken := errors.New("broken")
	a, b, c := s.txn("a", 1), s.txn("b", 2), s.txn("c", 3)
	s.apply[a], s.apply[b], s.apply[c] = time.Second, 2*time.Second, 100*time.Second
	s.fail[b] = broken
	took, err := s.play(t, target.SchedulerOptions{Workers: 3}, a, b, c, s.chunk("chunk", 100, 200))
	if !errors.Is(err, broken) || took != 2*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
	if got := s.lines("commit"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("commits are %v", got)
	}
}

func TestSchedulerHoldsFewBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		one := s.txn("1", 1)
		limit := 2*one.Bytes() + 10
		sched := target.NewScheduler(s, target.SchedulerOptions{MemoryBytes: limit, MergeBytes: -1})
		ctx, cancel := context.WithCancel(t.Context())
		appended := make(chan string, 10)
		large := s.txn("large", 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
		if large.Bytes() <= limit {
			t.Fatal("the large entry is not larger than the bound")
		}
		go func() {
			for _, e := range []*replication.Entry{one, s.txn("2", 2), s.txn("3", 3), large, s.txn("17", 17)} {
				if err := sched.Append(ctx, e); err != nil {
					appended <- err.Error()
					return
				}
				appended <- s.names[e]
			}
		}()
		synctest.Wait()
		if len(appended) != 2 {
			t.Errorf("%d entries are let in before Run", len(appended))
		}
		ended := make(chan error, 1)
		go func() { ended <- sched.Run(ctx) }()
		synctest.Wait()
		if len(appended) != 5 {
			t.Errorf("%d entries are let in while all are executed at once", len(appended))
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ends with %v", err)
		}
		if got := s.lines("commit"); !slices.Equal(got, []string{"1", "2", "3", "large", "17"}) {
			t.Errorf("commits are %v", got)
		}
	})
}

// TestSchedulerForgets: what has been committed is garbage.
func TestSchedulerForgets(t *testing.T) {
	sched := target.NewScheduler(newScript(), target.SchedulerOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen []weak.Pointer[replication.Entry]
	done := make(chan struct{}, 200)
	for i := range cap(done) {
		e := &replication.Entry{}
		if i%2 == 0 {
			e = chunk(scriptTable, replication.Span{Lo: row(fmt.Sprint(i)), Hi: row(fmt.Sprint(i + 2))}, replication.Position{}, row(fmt.Sprint(i+1), "x", fmt.Sprint(i)))
		}
		e.Done = func() { done <- struct{}{} }
		seen = append(seen, weak.Make(e))
		if err := sched.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- sched.Run(ctx) }()
	for range cap(done) {
		<-done
	}
	runtime.GC()
	kept := 0
	for _, w := range seen {
		if w.Value() != nil {
			kept++
		}
	}
	if kept > 10 {
		t.Errorf("%d of %d committed entries are still in memory", kept, len(seen))
	}
	cancel()
	<-ended
}
