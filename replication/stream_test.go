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
	// What the source meets after the statement must not hide that the stream stopped there.
	late := &replication.SchemaChangedError{Table: "numbers", What: "a row of another shape"}
	var stopped *replication.StoppedAtDDLError
	if err := runDDL(t, replication.OnDDLStop, alter, late); !errors.As(err, &stopped) || stopped.Statement != alter.Statement {
		t.Errorf("stop at an ALTER: %v", err)
	}
}
