package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
	"github.com/tablehaul/tablehaul/replication/target"
	"github.com/tablehaul/tablehaul/topo"
)

// A streamRunner runs one stream for as long as this process owns it.
type streamRunner struct {
	m      *Migrator
	stream *stream
	// basis is told to the shard's loop.
	basis *atomic.Pointer[basis]
	// noted is set while the stored message is that of an error that may have gone away.
	noted bool
	// failed is what the stream has met since it got further than reached.
	failed  failures
	reached milestone
	backoff retry.Backoff
}

// run takes the stream's ownership and runs it until ctx ends, the ownership is lost, or the stream has come to an end.
// When another process owns the stream, it returns at once: the caller asks again later.
func (r *streamRunner) run(ctx context.Context) {
	m, s := r.m, r.stream
	lock, err := m.topo.LockName(ctx, s.ownerLock(), topo.LockOptions{
		Action: "run stream of " + s.name().String(), Try: true, TTL: m.opts.LeaseTTL,
	})
	if err != nil {
		if !errors.Is(err, topo.ErrLocked) && ctx.Err() == nil {
			m.log.Warn("a stream's ownership can't be taken; trying again", "workflow", s.name().String(), "shard", s.shard, "error", err)
		}
		return
	}
	defer func() {
		if err := release(ctx, lock.Unlock); err != nil {
			m.log.Warn("a stream's ownership was not given back; it lapses", "workflow", s.name().String(), "shard", s.shard, "error", err)
		}
	}()
	r.again(lock.Context()) //nolint:contextcheck // a child of ctx that ends with the lock
	if errors.Is(context.Cause(ctx), errPrimaryChanged) {
		m.fenceFormer(context.WithoutCancel(ctx), r.stream)
	}
}

// again runs the stream until there is no more reason to.
func (r *streamRunner) again(ctx context.Context) {
	r.backoff.Max = maxBackoff
	r.failed = r.stream.record.Failures
	r.noted = r.stream.Message != ""
	for {
		r.m.opts.Trace.streamStarting(r.stream.info())
		err := r.once(ctx)
		wait := r.judge(ctx, err)
		r.m.opts.Trace.streamEnded(r.stream.info(), err, wait)
		if wait == 0 || retry.Wait(ctx, wait) != nil {
			return
		}
	}
}

// judge says what an error of a run means: it stores what others need to know, and returns the wait before the next try, or
// 0 when there is none.
func (r *streamRunner) judge(ctx context.Context, err error) (wait time.Duration) {
	m, s := r.m, r.stream
	log := m.log.With("workflow", s.name().String(), "shard", s.shard, "stream", s.ID)
	if ctx.Err() != nil {
		// Stop, Complete and Cancel have stored the state; a lost lock has another owner.
		log.Info("stream ended", "reason", context.Cause(ctx))
		return 0
	}
	var stopped *replication.StoppedAtDDLError
	var e event
	var message string
	switch {
	case errors.Is(err, replication.ErrFenced), errors.Is(err, errGone):
		log.Info("stream ended", "reason", err)
		return 0
	case errors.Is(err, replication.ErrCopied):
		e, message = eventFinish, "Stopped after copy."
	case errors.As(err, &stopped):
		e, message = eventFinish, "Stopped at DDL "+stopped.Statement
	default:
		f := r.failed.add(time.Now(), err.Error())
		most := m.retryTime(s.record)
		if again := transient(err); again && (most == 0 || f.age() < most) {
			wait = r.backoff.Next()
			log.Warn("stream interrupted; trying again", "error", err, "wait", wait, "count", f.Count, "since", f.First)
			r.note(ctx, err.Error())
			return wait
		} else if again {
			message = f.overdue()
		} else {
			message = err.Error()
		}
		e = eventFail
	}
	err = m.move(ctx, s, e, message, func(rec *record) { rec.Failures = r.failed })
	_, refused := errors.AsType[*RefusedError](err)
	if err == nil || refused || errors.Is(err, errGone) {
		return 0
	}
	// The end of the stream could not be stored: it has to be run into again.
	wait = r.backoff.Next()
	log.Warn("a stream's state can't be stored; trying again", "error", err, "wait", wait)
	return wait
}

// note stores the message of a transient error, or clears it, with what the stream has met. That this fails too is likely then, and
// no news.
func (r *streamRunner) note(ctx context.Context, message string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r.noted = message != ""
	db, runs := r.m.sidecar(r.stream.targetShard), false
	err := db.UpdateStream(ctx, r.stream.ID, func(row *sidecar.Stream) {
		if runs = State(row.State).runs(); runs {
			row.Message = message
			_ = changeRecord(row, r.stream, func(rec *record) { rec.Failures = r.failed })
		}
	})
	if n := len(r.failed); err == nil && runs && r.noted && n > 0 && r.failed[n-1].Count == 1 {
		_ = db.Log(ctx, r.stream.ID, "Error", r.stream.State, message)
	}
}

// reach looks how far the stream is. When that is further than at the failures so far, they are over. What counts is what has been
// committed, or that nothing is left to commit; a stream that only runs for a while has not got anywhere.
func (r *streamRunner) reach(p replication.Progress, idle bool) {
	if p.Position.IsZero() {
		return
	}
	now := milestoneOf(p)
	if idle || r.reached.position != "" && now != r.reached {
		r.failed = nil
		r.backoff.Reset()
	}
	r.reached = now
}

// maxBackoff is the longest wait between two tries.
const maxBackoff = 5 * time.Second

// transient tells whether trying again may help without anybody's doing.
func transient(err error) bool {
	if replication.Transient(err) || errors.Is(err, topo.ErrUnreachable) {
		return true
	}
	if _, ok := errors.AsType[*mount.UnreachableError](err); ok {
		return true
	}
	// A failover takes a while: for a moment there is no primary, or the old one, or one without a record.
	if _, ok := errors.AsType[*topo.NoTabletError](err); ok {
		return true
	}
	if e, ok := errors.AsType[*NotFoundError](err); ok && e.Kind == "primary" {
		return true
	}
	return mysqlerr.Transient(err, mysqlerr.Source|mysqlerr.Target)
}

// once opens both ends and runs the stream until something ends it.
func (r *streamRunner) once(ctx context.Context) error {
	m := r.m
	t, err := m.targetShard(ctx, r.stream.keyspace, r.stream.shard)
	if err != nil {
		return fmt.Errorf("target shard %s/%s: %w", r.stream.keyspace, r.stream.shard, err)
	}
	if old := r.stream.targetShard; old.cfg.Addr != t.cfg.Addr {
		m.fenceFormer(ctx, r.stream)
	}
	if err := r.refresh(ctx, t); err != nil {
		return err
	}
	s := r.stream
	r.basis.Store(&basis{addr: t.cfg.Addr, revision: s.record.Revision})
	src, err := m.sourceOf(ctx, s)
	if err != nil {
		return err
	}
	from, err := source.Open(ctx, src.cfg, s.record.names(), source.Options{Logger: m.log})
	if err != nil {
		return fmt.Errorf("source shard %s/%s: %w", s.record.source(), src.shard, err)
	}
	defer from.Close()
	r.estimate(ctx, src)
	onDDL, err := ParseOnDDL(s.record.OnDDL)
	if err != nil {
		return err
	}
	onDrift, err := ParseOnDrift(s.record.OnDrift)
	if err != nil {
		return err
	}
	zone, err := loadZone(s.record.SourceTimeZone)
	if err != nil {
		return err
	}
	to, err := target.Open(ctx,
		target.Config{Server: t.cfg, Sidecar: m.opts.SidecarDatabase, StreamID: s.ID, Tables: from.Tables(), Owner: owner()},
		target.Options{
			Workers: m.opts.Workers, DatetimeZone: zone, IgnoreDDLErrors: onDDL == replication.OnDDLExecIgnore,
			OnDrift: onDrift, Logger: m.log,
		})
	if err != nil {
		return fmt.Errorf("target shard %s/%s: %w", s.keyspace, s.shard, err)
	}
	defer to.Close()
	err = r.follow(ctx, from, to, onDDL)
	if src.replica && errors.Is(err, replication.ErrHistory) {
		// It may be behind the server that was read before, and catch up.
		err = &replication.TransientError{Err: fmt.Errorf("replica %s: %w", src.cfg.Addr, err)}
	}
	return err
}

// refresh reads the stream again: it may have been changed since the shard's loop saw it.
func (r *streamRunner) refresh(ctx context.Context, t *targetShard) error {
	row, err := r.m.sidecar(t).Stream(ctx, r.stream.ID)
	if errors.Is(err, sidecar.ErrNotFound) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("target shard %s/%s: %w", t.keyspace, t.shard, err)
	}
	if !State(row.State).runs() {
		return errGone
	}
	rec, err := parseRecord(row.Options)
	if err != nil {
		return err
	}
	r.stream = &stream{targetShard: t, Stream: *row, record: rec}
	return nil
}

// follow runs the engine, and stores Running when the last table is there.
func (r *streamRunner) follow(ctx context.Context, from *source.Source, to *target.Target, onDDL replication.OnDDL) error {
	m, s := r.m, r.stream
	opts := m.opts.Stream
	opts.OnDDL, opts.StopAfterCopy, opts.Logger = onDDL, s.record.StopAfterCopy, m.log.With("workflow", s.name().String(), "shard", s.shard)
	copied := make(chan struct{}, 1)
	user := opts.Trace.TableFinished
	opts.Trace.TableFinished = func(t *replication.Table) {
		select {
		case copied <- struct{}{}:
		default:
		}
		if user != nil {
			user(t)
		}
	}
	st := replication.NewStream(from, to, from.Tables(), opts)
	sctx, cancel := context.WithCancel(ctx)
	defer cancel()
	saved := make(chan error, 1)
	go func() { saved <- r.watch(sctx, st, to, copied, cancel) }()
	err := st.Run(sctx)
	cancel()
	if ctx.Err() == nil && !errors.Is(err, replication.ErrFenced) {
		// What the stream has done last is of interest most of all when it ends; it is told again by the next run.
		rctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		_ = to.Report(rctx, st.Progress())
		cancel()
	}
	serr := <-saved
	r.reach(st.Progress(), false)
	if serr != nil && ctx.Err() == nil {
		return serr
	}
	return err
}

// owner is how this process calls itself where people see who runs a stream.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d", host, os.Getpid())
}

// watch clears the message of an error that has gone away, and stores the state Running once everything is copied. When that
// fails, it ends the stream, which then tries again.
func (r *streamRunner) watch(ctx context.Context, st *replication.Stream, to *target.Target, copied <-chan struct{}, end context.CancelFunc) error {
	var heard time.Time
	for r.noted || len(r.failed) > 0 || st.Progress().Copying {
		if pause(ctx, copied, r.m.opts.PollInterval) != nil {
			return nil
		}
		p := st.Progress()
		met := len(r.failed)
		r.reach(p, !p.Copying && p.CaughtUp && !heard.IsZero() && p.Read.After(heard))
		if heard = p.Read; (r.noted || len(r.failed) != met) && !heard.IsZero() {
			r.note(ctx, "")
		}
	}
	if r.stream.state() == StateRunning || r.stream.record.StopAfterCopy {
		return nil
	}
	// Whoever sees Running shall see that the tables are complete.
	err := to.Report(ctx, st.Progress())
	if err == nil {
		err = r.m.move(ctx, r.stream, eventCopied, "", nil)
	}
	if _, refused := errors.AsType[*RefusedError](err); refused || err == nil || ctx.Err() != nil {
		return nil
	}
	end()
	return err
}

// estimate stores how many rows the source has in each table by now. It is for people only: when it can't be read, the older
// number stays.
func (r *streamRunner) estimate(ctx context.Context, src *sourceShard) {
	tables, err := listTables(ctx, src.admin, src.cfg.Database)
	if err != nil {
		return
	}
	_ = r.m.sidecar(r.stream.targetShard).UpdateStream(ctx, r.stream.ID, func(row *sidecar.Stream) {
		_ = changeRecord(row, r.stream, func(rec *record) {
			for i, t := range rec.Tables {
				if have := tables[t.Name]; have != nil {
					rec.Tables[i].Rows = have.rows
				}
			}
		})
	})
}
