package replication_test

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/target"
)

// ddlSource is the model's source, with a schema change as the next transaction of its log, and after it an error.
type ddlSource struct {
	*modelSource
	ddl *replication.DDL
	err error
}

func (s ddlSource) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	return func(yield func(*replication.Transaction, error) bool) {
		n := transactionsOf(from)
		t := &replication.Transaction{GTID: gtid(n), End: replication.LogPos{Server: "a", Offset: uint64(n + 1)}, DDL: s.ddl}
		if !yield(t, nil) {
			return
		}
		if s.err == nil {
			<-ctx.Done()
		}
		yield(nil, errors.Join(s.err, context.Cause(ctx)))
	}
}

// runDDL runs a stream over a schema change, for at most a minute of simulated time.
func runDDL(t *testing.T, on replication.OnDDL, ddl *replication.DDL, after error) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(rand.New(rand.NewPCG(1, 1)))
		w.mu.history = append(w.mu.history, w.mu.state) // the schema change is a transaction without rows
		dst := newModelTarget(w, modelTables, target.SchedulerOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		src := ddlSource{&modelSource{world: w}, ddl, after}
		err = replication.NewStream(src, dst, modelTables, replication.Options{OnDDL: on}).Run(ctx)
	})
	return err
}

func TestStreamOnDDL(t *testing.T) {
	alter := &replication.DDL{Statement: "ALTER TABLE numbers ADD KEY (v)", Tables: []string{"numbers"}}
	truncate := &replication.DDL{Statement: "TRUNCATE numbers", Tables: []string{"numbers"}, ReplacesRows: true}
	if err := runDDL(t, replication.OnDDLIgnore, alter, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an ignored ALTER: %v", err)
	}
	var changed *replication.SchemaChangedError
	if err := runDDL(t, replication.OnDDLIgnore, truncate, nil); !errors.As(err, &changed) {
		t.Errorf("an ignored TRUNCATE: %v", err)
	}
	other := &replication.DDL{Statement: "ALTER TABLE numbers MODIFY v ENUM('a')", Tables: []string{"numbers"}, Differs: "column v is another"}
	if err := runDDL(t, replication.OnDDLIgnore, other, nil); !errors.As(err, &changed) || changed.Table != "numbers" {
		t.Errorf("an ALTER that can't be ignored while rows are copied: %v", err)
	}
	// What the source meets after the statement must not hide that the stream stopped there.
	late := &replication.SchemaChangedError{Table: "numbers", What: "a row of another shape"}
	var stopped *replication.StoppedAtDDLError
	if err := runDDL(t, replication.OnDDLStop, alter, late); !errors.As(err, &stopped) || stopped.Statement != alter.Statement {
		t.Errorf("stop at an ALTER: %v", err)
	}
}

// lateSource is the model's source, whose log is always read as late as behind says.
type lateSource struct {
	*modelSource
	begun  time.Time
	behind time.Duration
}

func (s lateSource) End(ctx context.Context) (replication.LogPos, replication.Position, error) {
	_, p, err := s.modelSource.End(ctx)
	return replication.LogPos{Server: "a", Offset: uint64(time.Since(s.begun) / time.Millisecond)}, p, err
}

func (s lateSource) Transactions(ctx context.Context, _ replication.Position) iter.Seq2[*replication.Transaction, error] {
	return func(yield func(*replication.Transaction, error) bool) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				yield(nil, context.Cause(ctx))
				return
			}
			at := max(0, time.Since(s.begun)-s.behind)
			if !yield(&replication.Transaction{End: replication.LogPos{Server: "a", Offset: uint64(at / time.Millisecond)}}, nil) {
				return
			}
		}
	}
}

// TestCopyGoesOnWhenTheLogIsLate: more is written than can be applied, for as long as the copy lasts.
func TestCopyGoesOnWhenTheLogIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(rand.New(rand.NewPCG(1, 1)))
		dst := newModelTarget(w, modelTables, target.SchedulerOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		src := lateSource{&modelSource{world: w}, time.Now(), 20 * time.Second}
		err := replication.NewStream(src, dst, modelTables, replication.Options{StopAfterCopy: true}).Run(ctx)
		if !errors.Is(err, replication.ErrCopied) {
			t.Error(err)
		}
	})
}

// slowKeys is the model's target, which takes a minute for the keys of a table.
type slowKeys struct {
	*modelTarget
	begun, done int
	bad         string
}

func (s *slowKeys) FinishTable(ctx context.Context, t *replication.Table) error {
	s.db.Lock()
	s.begun++
	s.db.Unlock()
	if t.Name == s.bad {
		return errors.New("no such key")
	}
	select {
	case <-time.After(time.Minute):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.db.Lock()
	s.done++
	s.db.Unlock()
	return s.modelTarget.FinishTable(ctx, t)
}

// Keys are built on several tables at once, and an error of one ends the others.
func TestTablesAreFinishedAtOnce(t *testing.T) {
	for _, bad := range []string{"", "words"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(rand.New(rand.NewPCG(1, 1)))
			dst := &slowKeys{modelTarget: newModelTarget(w, modelTables, target.SchedulerOptions{}), bad: bad}
			began := time.Now()
			err := replication.NewStream(lateSource{modelSource: &modelSource{world: w}, begun: began}, dst, modelTables, replication.Options{StopAfterCopy: true}).Run(t.Context())
			took := time.Since(began)
			e, failed := errors.AsType[*replication.FinishError](err)
			switch {
			case bad == "" && (!errors.Is(err, replication.ErrCopied) || dst.done != len(modelTables) || took > 90*time.Second):
				t.Errorf("%d tables in %s: %v", dst.done, took, err)
			case bad != "" && (!failed || e.Table != bad || dst.done > 0 || took > 30*time.Second):
				t.Errorf("%d tables of %d in %s: %v", dst.done, dst.begun, took, err)
			}
		})
	}
}
