package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

// A groupRunner runs one group for as long as this process owns it.
type groupRunner struct {
	m     *Migrator
	group *group
	// basis is told to the keyspace's loop.
	basis *atomic.Pointer[basis]
	// noted is set while the stored message is that of an error that may have gone away.
	noted bool
	// failed is what the group has met since it got further than reached.
	failed  failures
	reached milestone
	backoff retry.Backoff
}

// run takes the group's ownership and runs it until ctx ends, the ownership is lost, or the group has come to an end.
// When another process owns it, it returns at once: the caller asks again later.
func (r *groupRunner) run(ctx context.Context) {
	m, g := r.m, r.group
	lock, err := m.topo.LockName(ctx, g.first().ownerLock(), topo.LockOptions{
		Action: "run streams of " + g.name().String(), Try: true, TTL: m.opts.LeaseTTL,
	})
	log := m.log.With(g.attrs()...)
	if err != nil {
		if !errors.Is(err, topo.ErrLocked) && ctx.Err() == nil {
			log.Warn("the ownership of streams can't be taken; trying again", "error", err)
		}
		return
	}
	defer func() {
		if err := release(ctx, lock.Unlock); err != nil {
			log.Warn("the ownership of streams was not given back; it lapses", "error", err)
		}
	}()
	r.again(lock.Context()) //nolint:contextcheck // a child of ctx that ends with the lock
	if errors.Is(context.Cause(ctx), errPrimaryChanged) {
		cctx, cancel := cleanup(ctx)
		defer cancel()
		r.fenceFormer(cctx)
	}
}

// fenceFormer fences the streams on the servers that are no longer the primaries of their shards.
func (r *groupRunner) fenceFormer(ctx context.Context) {
	_ = r.group.each(ctx, func(ctx context.Context, s *stream) error {
		if t, err := r.m.targetShard(ctx, s.keyspace, s.shard); err == nil && t.cfg.Addr != s.cfg.Addr {
			r.m.fenceFormer(ctx, s)
		}
		return nil // where the topology can't be read, the next start does it
	})
}

// again runs the group until there is no more reason to.
func (r *groupRunner) again(ctx context.Context) {
	r.backoff.Max = maxBackoff
	r.failed = r.group.first().record.Failures
	r.noted = slices.ContainsFunc(r.group.streams, func(s *stream) bool { return s.Message != "" })
	for {
		r.trace(r.m.opts.Trace.streamStarting)
		err := r.once(ctx)
		wait := r.judge(ctx, err)
		r.trace(func(i StreamInfo) { r.m.opts.Trace.streamEnded(i, err, wait) })
		if wait == 0 || retry.Wait(ctx, wait) != nil {
			return
		}
	}
}

func (r *groupRunner) trace(hook func(StreamInfo)) {
	for _, s := range r.group.streams {
		hook(s.info())
	}
}

// judge says what an error of a run means: it stores what others need to know, and returns the wait before the next try, or
// 0 when there is none.
func (r *groupRunner) judge(ctx context.Context, err error) (wait time.Duration) {
	m, g := r.m, r.group
	log := m.log.With(g.attrs()...)
	if ctx.Err() != nil {
		// Stop, Complete and Cancel have stored the state; a lost lock has another owner.
		log.Info("streams ended", "reason", context.Cause(ctx))
		return 0
	}
	var stopped *replication.StoppedAtDDLError
	var e event
	var message string
	switch {
	case errors.Is(err, replication.ErrFenced), errors.Is(err, errGone):
		log.Info("streams ended", "reason", err)
		return 0
	case errors.Is(err, replication.ErrCopied):
		e, message = eventFinish, "Stopped after copy."
	case errors.As(err, &stopped):
		e, message = eventFinish, "Stopped at DDL "+stopped.Statement
	case errors.Is(err, errSourceChanged):
		log.Info("the source is read from another server", "reason", err)
		_ = g.each(ctx, func(ctx context.Context, s *stream) error { // for people only
			return m.sidecar(s.targetShard).Log(ctx, s.ID, "Source Changed", s.State, err.Error())
		})
		return r.backoff.Next()
	default:
		f := r.failed.add(time.Now(), err)
		most := m.retryTime(g.first().record)
		again := transient(err)
		if g.crossed(err) {
			again, most = true, crossTime
		}
		if again && (most == 0 || f.age() < most) {
			wait = r.backoff.Next()
			log.Warn("streams interrupted; trying again", "error", err, "wait", wait, "count", f.Count, "since", f.First)
			r.note(ctx, err.Error())
			return wait
		} else if again {
			message = f.overdue()
		} else {
			message = err.Error()
		}
		e = eventFail
	}
	// All streams of the group end, since they are run together; the message says which shard it was that could not go on. The loop that sees
	// the first of them ended cancels ctx, which must not keep the others from it.
	mctx, cancel := cleanup(ctx)
	defer cancel()
	err = r.move(mctx, e, message, func(rec *record) { rec.Failures = r.failed })
	if err == nil {
		return 0
	}
	// The end of the streams could not be stored: it has to be run into again.
	wait = r.backoff.Next()
	log.Warn("the state of streams can't be stored; trying again", "error", err, "wait", wait)
	return wait
}

// crossTime is how long a row may be in the way of one that comes from another source shard.
const crossTime = time.Minute

// crossed tells whether an error may be that of a row that has moved from one source shard to another one: it comes to the target by one log
// before it goes by the other. Nothing is lost by waiting for that.
func (g *group) crossed(err error) bool {
	d, ok := errors.AsType[*replication.DriftError](err)
	return ok && (d.Op == "insert" || d.Err != nil) && len(g.first().record.SourceShards) > 1
}

// move changes the state of all streams. One whose state does not allow it was changed by a command, or is gone, and stays as it is.
func (r *groupRunner) move(ctx context.Context, e event, message string, change func(*record)) error {
	return r.group.each(ctx, func(ctx context.Context, s *stream) error {
		err := r.m.move(ctx, s, e, message, change)
		if _, refused := errors.AsType[*RefusedError](err); refused || errors.Is(err, errGone) {
			return nil
		}
		return err
	})
}

// note stores the message of a transient error, or clears it, with what the group has met. That this fails too is likely then, and
// no news.
func (r *groupRunner) note(ctx context.Context, message string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r.noted = message != ""
	n := len(r.failed)
	first := r.noted && n > 0 && r.failed[n-1].Count == 1
	_ = r.group.each(ctx, func(ctx context.Context, s *stream) error {
		db, runs := r.m.sidecar(s.targetShard), false
		err := db.UpdateStream(ctx, s.ID, func(row *sidecar.Stream) {
			if runs = State(row.State).runs(); runs {
				row.Message = message
				_ = changeRecord(row, s, func(rec *record) { rec.Failures = r.failed })
			}
		})
		if err == nil && runs && first {
			err = db.Log(ctx, s.ID, "Error", s.State, message)
		}
		return err
	})
}

// reach looks how far the stream is. When that is further than at the failures so far, they are over. What counts is what has been
// committed, or that nothing is left to commit; a stream that only runs for a while has not got anywhere. What counts for a table that
// could not be finished is only that it is.
func (r *groupRunner) reach(p replication.Progress, idle bool) {
	if p.Position.IsZero() {
		return
	}
	now := milestoneOf(p)
	moved := idle || r.reached.position != "" && now != r.reached
	if r.failed.over(p, moved); moved && len(r.failed) == 0 {
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

// once opens both ends and runs the group until something ends it.
func (r *groupRunner) once(ctx context.Context) error {
	m := r.m
	g, err := m.refresh(ctx, r.group)
	if err != nil {
		return err
	}
	if !g.runs() {
		return errGone
	}
	r.group = g
	r.basis.Store(basisOf(g))
	e, err := m.open(ctx, g)
	if err != nil {
		return err
	}
	defer e.close()
	r.estimate(ctx, e.src)
	err = r.followSource(ctx, e)
	if e.src.replica && errors.Is(err, replication.ErrHistory) {
		// It may be behind the server that was read before, and catch up.
		err = &replication.TransientError{Err: fmt.Errorf("replica %s: %w", e.src.cfg.Addr, err)}
	}
	return err
}

// followSource is follow until the source shard is to be read from another server.
func (r *groupRunner) followSource(ctx context.Context, e *engine) error {
	fctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	name := r.group.first().record.source() // the record changes while the stream runs
	watching.Go(func() {
		if err := r.m.watchSource(fctx, name, e.src); err != nil {
			cancel(err)
		}
	})
	err := r.follow(fctx, e)
	changed := context.Cause(fctx)
	cancel(nil)
	watching.Wait()
	switch {
	case !errors.Is(changed, errSourceChanged):
		return err
	case errors.Is(err, errSourceChanged), errors.Is(err, context.Canceled), transient(err):
		return changed
	}
	return errors.Join(err, changed)
}

// follow runs the engine, and stores Running when the last table is there.
func (r *groupRunner) follow(ctx context.Context, e *engine) error {
	m := r.m
	opts := m.opts.Stream
	opts.OnDDL, opts.StopAfterCopy, opts.Logger = e.onDDL, r.group.first().record.StopAfterCopy, m.log.With(r.group.attrs()...)
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
	st := replication.NewStream(e.source, e.to, e.tables, opts)
	sctx, cancel := context.WithCancel(ctx)
	defer cancel()
	saved := make(chan error, 1)
	go func() { saved <- r.watch(sctx, st, e.to, copied, cancel) }()
	err := st.Run(sctx)
	cancel()
	if ctx.Err() == nil && !errors.Is(err, replication.ErrFenced) {
		// What the group has done last is of interest most of all when it ends; it is told again by the next run.
		rctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		_ = e.to.Report(rctx, st.Progress())
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
// fails, it ends the group, which then tries again.
func (r *groupRunner) watch(ctx context.Context, st *replication.Stream, to replication.Target, copied <-chan struct{}, end context.CancelFunc) error {
	var heard time.Time
	for r.noted || len(r.failed) > 0 || st.Progress().Copying {
		if pause(ctx, copied, r.m.opts.PollInterval) != nil {
			return nil
		}
		p := st.Progress()
		met := len(r.failed)
		r.reach(p, !p.Copying && p.CaughtUp && !heard.IsZero() && p.Read.After(heard))
		left := r.failed.unfinished()
		if heard = p.Read; (r.noted && left == "" || len(r.failed) != met) && !heard.IsZero() {
			r.note(ctx, left)
		}
	}
	copying := func(s *stream) bool { return s.state() != StateRunning }
	if !slices.ContainsFunc(r.group.streams, copying) || r.group.first().record.StopAfterCopy {
		return nil
	}
	// Whoever sees Running shall see that the tables are complete.
	err := to.Report(ctx, st.Progress())
	if err == nil {
		err = r.move(ctx, eventCopied, "", nil)
	}
	if err == nil || ctx.Err() != nil {
		return nil
	}
	end()
	return err
}

// estimate stores how many rows the target shards will get from the source, as it seems by now. It is for people only: when it can't be
// read, the older numbers stay.
func (r *groupRunner) estimate(ctx context.Context, src *sourceShard) {
	tables, err := listTables(ctx, src.admin, src.cfg.Database)
	if err != nil {
		return
	}
	_ = r.group.each(ctx, func(ctx context.Context, s *stream) error {
		return r.m.sidecar(s.targetShard).UpdateStream(ctx, s.ID, func(row *sidecar.Stream) {
			_ = changeRecord(row, s, func(rec *record) {
				for i, t := range rec.Tables {
					if have := tables[t.source()]; have != nil {
						rec.Tables[i].Rows = t.Placement.share(have.rows, len(rec.fed()))
					}
				}
			})
		})
	})
}
