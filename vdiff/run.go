package vdiff

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

const (
	// saveEvery is how often a table's report is saved while it grows.
	saveEvery = time.Second
	// aliveEvery is how often the runner says that it lives, and looks whether the comparison is still wanted.
	aliveEvery = 2 * time.Second
	// cleanupTime bounds what is written after the caller's context has ended.
	cleanupTime = 5 * time.Second
)

// resume runs a stored comparison. interrupted is the state that it gets when ctx ends.
func (v *VDiff) resume(ctx context.Context, uuid string, interrupted State) (*Report, error) {
	s, err := v.open(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := s.store.find(ctx, uuid)
	if err != nil {
		return nil, err
	}
	ok, err := s.store.claim(ctx, rec.id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s is %s", ErrState, rec.report.UUID, rec.report.State)
	}
	r := rec.report
	r.Options = r.Options.withDefaults()
	r.State, r.StartedAt, r.CompletedAt, r.LastError, r.Tables = StateStarted, time.Time{}, time.Time{}, "", nil
	r.SourceShards, r.TargetShards = s.source.names(), s.target.names()
	return s.run(ctx, rec, interrupted)
}

// run makes a comparison that the caller has claimed, and records how it ended.
func (s *session) run(ctx context.Context, rec *record, interrupted State) (*Report, error) {
	r := rec.report
	s.log.Info("vdiff started", "workflow", s.wf.Name(), "uuid", r.UUID)
	err := s.watched(ctx, rec)
	state, message := StateCompleted, ""
	if err != nil {
		state, message = StateError, err.Error()
		if ctx.Err() != nil {
			state = interrupted
		}
	}
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if !errors.Is(err, ErrNotFound) {
		err = errors.Join(err, s.store.finish(cctx, rec.id, state, message))
	}
	s.log.Info("vdiff ended", "workflow", s.wf.Name(), "uuid", r.UUID, "state", string(state), "rows", r.RowsCompared(), "mismatch", r.HasMismatch())
	// The times are the server's.
	if stored, ferr := s.store.find(cctx, r.UUID); ferr == nil {
		r.CreatedAt, r.StartedAt, r.CompletedAt = stored.report.CreatedAt, stored.report.StartedAt, stored.report.CompletedAt
	} else if err == nil {
		err = ferr
	}
	r.State, r.LastError = state, message
	return r, err
}

// watched compares, and says meanwhile that it lives. It ends when somebody deletes the comparison.
func (s *session) watched(ctx context.Context, rec *record) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		for retry.Wait(ctx, aliveEvery) == nil {
			// Trouble with this statement is trouble for the comparison's own, which will tell.
			if there, err := s.store.alive(ctx, rec); err == nil && !there {
				cancel(&NotFoundError{Kind: "vdiff", Name: rec.report.UUID, Workflow: s.wf.Name()})
			}
		}
	})
	err := s.compare(ctx, rec)
	if gone := (*NotFoundError)(nil); errors.As(context.Cause(ctx), &gone) {
		err = gone
	}
	cancel(nil)
	wg.Wait()
	return err
}

// compare compares the tables, several at once.
func (s *session) compare(ctx context.Context, rec *record) error {
	r := rec.report
	if err := s.running(ctx); err != nil {
		return err
	}
	subjects, err := s.subjects(ctx, r.Options.Tables)
	if err != nil {
		return err
	}
	if err := s.store.log(ctx, rec.id, "State changed to: "+string(StateStarted)); err != nil {
		return err
	}
	differs := make([]*differ, len(subjects))
	for i, t := range subjects {
		if differs[i], err = s.differ(t, r.Options); err != nil {
			return fmt.Errorf("table %s: %w", t.t.Name, err)
		}
		report := differs[i].report
		if report.RowsEstimate, err = differs[i].source.estimate(ctx, t.pair.Source.Name); err != nil {
			return err
		}
		report.RowsEstimate *= int64(len(differs[i].lanes))
		if err := s.store.saveTable(ctx, rec.id, report, nil); err != nil {
			return err
		}
		r.Tables = append(r.Tables, report)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.Options.Parallel)
	for _, d := range differs {
		g.Go(func() error { return s.compareTable(gctx, rec, d) })
	}
	return g.Wait()
}

// differ prepares the comparison of a table.
func (s *session) differ(t *subject, opts Options) (*differ, error) {
	d := &differ{
		wf: s.wf, place: t.place, waitTimeout: opts.WaitTimeout, report: &TableReport{Table: t.t.Name, State: StatePending},
		display: display{t: t.t, samples: opts.MaxSampleRows, cut: max(0, opts.ColumnTruncate)},
	}
	source, err := s.source.only(t.pair.SourceShards)
	if err != nil {
		return nil, err
	}
	target, err := s.target.only(t.holders)
	if err != nil {
		return nil, err
	}
	d.source = newReader(source, t.source)
	r := newReader(target, t.target)
	if t.pair.Route.Every() {
		for i := range target.shards {
			d.lanes = append(d.lanes, &lane{differ: d, target: r.on(i)})
		}
	} else {
		d.lanes = []*lane{{differ: d, target: r}}
	}
	for _, name := range target.names() {
		d.report.Shards = append(d.report.Shards, &ShardReport{Shard: name})
	}
	return d, nil
}

func (s *session) compareTable(ctx context.Context, rec *record, d *differ) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	report := d.report
	var last replication.Key
	var saved time.Time
	save := func(ctx context.Context, state State) error {
		report.State, report.LastKey, saved = state, d.display.key(last), time.Now()
		return s.store.saveTable(ctx, rec.id, report, last)
	}
	d.saved = func(ctx context.Context, upTo replication.Key) error {
		if upTo == nil {
			return nil
		}
		last = upTo
		if time.Since(saved) < saveEvery {
			return nil
		}
		return save(ctx, StateStarted)
	}
	if err := errors.Join(s.store.log(ctx, rec.id, fmt.Sprintf("started: table '%s'", report.Table)), save(ctx, StateStarted)); err != nil {
		return err
	}
	if err := d.run(ctx); err != nil {
		// What was found so far is kept; the error is the comparison's.
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		state := StateError
		if ctx.Err() != nil {
			state = StateStopped
		}
		return errors.Join(err, save(cctx, state))
	}
	return errors.Join(save(ctx, StateCompleted), s.store.log(ctx, rec.id, fmt.Sprintf("completed: table '%s'", report.Table)))
}

// estimate is the number of rows of a table as the servers estimate it.
func (e *end) estimate(ctx context.Context, table string) (int64, error) {
	var all int64
	for _, s := range e.shards {
		var n int64
		err := s.query(ctx, e.side, "SELECT /*+ SET_VAR(information_schema_stats_expiry=0) */ COALESCE(MAX(TABLE_ROWS),0) FROM information_schema.TABLES"+
			" WHERE TABLE_SCHEMA=DATABASE() AND TABLE_NAME="+sqltext.String(table), func() {}, func(v resultRow) (err error) {
			n, err = strconv.ParseInt(string(v[0]), 10, 64)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("%s shard %s: size of table %s: %w", e.name, s.name, table, err)
		}
		all += n
	}
	return all, nil
}
