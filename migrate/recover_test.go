package migrate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
)

// mover runs the cluster's streams in this process as a user of its own, one without the rights that go past read_only.
func (c *cluster) mover(opts migrate.Options) *migrate.Migrator {
	c.t.Helper()
	user := "move" + c.ks
	for _, s := range []*replicationtest.Server{c.src, c.dst} {
		s.MustCreateUser(c.t, user, "pw", "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, RELOAD, PROCESS, REPLICATION SLAVE, REPLICATION CLIENT ON *.*")
	}
	opts.SidecarDatabase, opts.PollInterval = c.sidecar, 50*time.Millisecond
	m, err := migrate.New(c.ts, mount.Static(mount.Login{User: user, Password: "pw"}), opts)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = m.Close() })
	c.run(m)
	return m
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			t.Fatalf("not in a minute: %s", what)
		case <-tick.C:
		}
	}
}

// ends counts runs of streams that ended and are tried again.
type ends struct{ again, final atomic.Int64 }

func (e *ends) trace() migrate.Trace {
	return migrate.Trace{StreamEnded: func(_ migrate.StreamInfo, err error, retry time.Duration) {
		switch {
		case err != nil && retry > 0:
			e.again.Add(1)
		case err != nil:
			e.final.Add(1)
		}
	}}
}

// Any connection may be killed at any time. The stream goes on by itself, and counts each row once.
func TestKilledConnections(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	c.fill("plain", "a, b", "i + 1000, i", 20_000)
	rows := one(t, c.src, "SELECT COUNT(*) FROM "+c.db+".plain")
	var e ends
	opts := migrate.Options{Trace: e.trace()}
	opts.Stream.ChunkRows = 500
	c.mover(opts)
	load := replicationtest.StartLoad(t, c.src.DB(t), c.db, replicationtest.LoadOptions{Seed: 7, Tables: []string{"customer"}, Rate: 200})
	c.create(migrate.CreateOptions{})
	rnd := rand.New(rand.NewPCG(1, 2))
	kills := 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for kills < 25 {
		<-tick.C
		s := []*replicationtest.Server{c.src, c.dst}[rnd.IntN(2)]
		var ids []string
		for _, r := range s.MustQuery(t, "SHOW PROCESSLIST") {
			if r[1] == "move"+c.ks {
				ids = append(ids, r[0])
			}
		}
		if len(ids) == 0 {
			continue
		}
		_ = s.Exec(t.Context(), "KILL "+ids[rnd.IntN(len(ids))]) // it may have ended
		kills++
	}
	st := c.await(migrate.StateRunning)
	load.MustStop(t)
	c.caughtUp()
	c.equal("customer", "plain")
	for _, tab := range st.Tables {
		if tab.Table == "plain" && fmt.Sprint(tab.Rows) != rows {
			t.Errorf("%d rows were copied of a table of %s", tab.Rows, rows)
		}
	}
	if e.again.Load() == 0 || e.final.Load() != 0 {
		t.Errorf("after %d kills %d runs were tried again, %d were not", kills, e.again.Load(), e.final.Load())
	}
}

// A target that takes no writes for a while, and one whose rows somebody else has locked.
func TestTargetRefusesForAWhile(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	var e ends
	c.mover(migrate.Options{Trace: e.trace()})
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	c.caughtUp()

	t.Run("Locks", func(t *testing.T) {
		held, err := c.dst.DB(t).BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = held.Rollback() }()
		if _, err := held.ExecContext(t.Context(), "SELECT * FROM "+c.vt+".plain FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		waits := func() int {
			n, err := strconv.Atoi(c.dst.MustQuery(t, "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'")[0][1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := waits()
		c.src.MustExec(t, "UPDATE "+c.db+".plain SET b = b + 100; INSERT INTO "+c.db+".plain VALUES (501, 1)")
		// Two statements wait at once; what is more is tried again after a lock wait timeout.
		until(t, "a transaction is tried again", func() bool { return waits() >= before+4 })
		if err := held.Rollback(); err != nil {
			t.Fatal(err)
		}
		c.caughtUp()
		c.equal("customer", "plain")
		if n := e.again.Load(); n != 0 {
			t.Errorf("locks have interrupted the stream %d times", n)
		}
	})

	t.Run("ReadOnly", func(t *testing.T) {
		c.dst.MustExec(t, "SET GLOBAL read_only = ON")
		defer c.dst.MustExec(t, "SET GLOBAL read_only = OFF")
		c.src.MustExec(t, "UPDATE "+c.db+".plain SET b = b + 100")
		until(t, "the stream is interrupted", func() bool { return e.again.Load() > 1 })
		if st := c.show(); st.State == migrate.StateError || e.final.Load() > 0 {
			t.Errorf("a read-only target gives state %s: %s", st.State, st.Message)
		}
		c.dst.MustExec(t, "SET GLOBAL read_only = OFF")
		c.caughtUp()
		c.equal("customer", "plain")
		until(t, "the failure is over", func() bool { st := c.show(); return st.Message == "" && st.Streams[0].Failure == nil })
	})
}

func (c *cluster) show() *migrate.Status {
	c.t.Helper()
	st, err := c.workflow().Show(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return st
}

// The same error for longer than RetryTime is state Error, with its first and last time, and Start tries again.
func TestRetryTime(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	proxy := replicationtest.StartProxy(t, c.src.Addr())
	c.register("ext2", proxy.Addr())
	c.create(migrate.CreateOptions{Source: "ext2." + c.db, NoAutoStart: true, RetryTime: time.Hour})
	c.run(c.migrator(migrate.Options{RetryTime: -1}))
	proxy.Cut()
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "three failures are shown", func() bool {
		f := c.show().Streams[0].Failure
		return f != nil && f.Count >= 3
	})
	if st := c.show(); st.State == migrate.StateError || st.Message == "" {
		t.Errorf("before its time is up the state is %s, the message %q", st.State, st.Message)
	}
	short := 500 * time.Millisecond
	if _, err := c.workflow().Update(t.Context(), migrate.UpdateOptions{RetryTime: &short}); err != nil {
		t.Fatal(err)
	}
	until(t, "state Error", func() bool { return c.show().State == migrate.StateError })
	st := c.show()
	f := st.Streams[0].Failure
	if f == nil || f.Count < 3 || f.Last.Sub(f.First) < short || time.Since(f.Last) > time.Minute || !strings.Contains(f.Message, "connection refused") {
		t.Fatalf("%+v", f)
	}
	if !strings.HasPrefix(st.Message, "tried again for ") || !strings.Contains(st.Message, f.Message) || !strings.Contains(st.Message, "times") {
		t.Errorf("message %q", st.Message)
	}
	text, err := json.Marshal(st)
	if err != nil || !strings.Contains(string(text), `"last_error":{"message":"`) || !strings.Contains(string(text), `"vreplication-max-time-to-retry-on-error":"500ms"`) {
		t.Errorf("%s, %v", text, err)
	}
	proxy.MustRestore(t)
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := c.await(migrate.StateRunning); st.Streams[0].Failure != nil || st.Message != "" {
		t.Errorf("after Start: %+v, %q", st.Streams[0].Failure, st.Message)
	}
	c.caughtUp()
	c.equal("customer", "plain")
}

// A table's keys can't be added, while all else of the stream gets further: that is state Error too when it lasts.
func TestRetryTimeOfKeys(t *testing.T) {
	c := newCluster(t, migrate.Options{}, "CREATE TABLE plain (a INT PRIMARY KEY, b INT)", "CREATE TABLE keyed (a INT PRIMARY KEY, b INT, KEY kb (b))")
	c.fill("keyed", "a, b", "i, i", 100)
	c.create(migrate.CreateOptions{NoAutoStart: true, RetryTime: time.Hour})
	c.run(c.migrator(migrate.Options{}))
	// Somebody reads the table for long, and somebody else stops the schema changes that wait for that.
	hold := func() (release func()) {
		t.Helper()
		tx, err := c.dst.DB(t).BeginTx(t.Context(), nil)
		if err == nil {
			_, err = tx.ExecContext(t.Context(), "SELECT 1 FROM "+c.vt+".keyed LIMIT 1")
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() { _ = tx.Rollback() }
	}
	rows := 0
	// refuse waits until the keys are being added, lets the stream get further, and stops the schema change.
	refuse := func() {
		t.Helper()
		var id string
		until(t, "the keys are being added", func() bool {
			for _, r := range c.dst.MustQuery(t, "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'ALTER TABLE `"+c.vt+"`.`keyed` ADD %' AND STATE LIKE 'Waiting for table metadata lock'") {
				id = r[0]
				return true
			}
			return false
		})
		if f := c.show().Streams[0].Failure; f != nil && !strings.Contains(c.show().Message, "finish table keyed: ") {
			t.Errorf("while keys are missing the message is %q", c.show().Message)
		}
		rows++
		c.src.MustExec(t, fmt.Sprintf("INSERT INTO %s.plain VALUES (%d, 0)", c.db, rows))
		until(t, "the stream gets further", func() bool { return one(t, c.dst, "SELECT COUNT(*) FROM "+c.vt+".plain") == strconv.Itoa(rows) })
		_ = c.dst.Exec(t.Context(), "KILL QUERY "+id)
	}
	release := hold()
	defer func() { release() }()
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		refuse()
		until(t, "the failure is shown", func() bool {
			f := c.show().Streams[0].Failure
			return f != nil && f.Count > int64(i)
		})
	}
	short := 100 * time.Millisecond
	if _, err := c.workflow().Update(t.Context(), migrate.UpdateOptions{RetryTime: &short}); err != nil {
		t.Fatal(err)
	}
	refuse()
	until(t, "state Error", func() bool { return c.show().State == migrate.StateError })
	if st := c.show(); !strings.HasPrefix(st.Message, "tried again for ") || !strings.Contains(st.Message, "finish table keyed: ") {
		t.Errorf("message %q", st.Message)
	}
	// Once they are added all is well.
	long := time.Hour
	if _, err := c.workflow().Update(t.Context(), migrate.UpdateOptions{RetryTime: &long}); err != nil {
		t.Fatal(err)
	}
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	refuse()
	release()
	c.await(migrate.StateRunning)
	until(t, "the failure is over", func() bool { st := c.show(); return st.Message == "" && st.Streams[0].Failure == nil })
	c.caughtUp()
	c.equal("plain", "keyed")
	if keys := c.keys(); !strings.Contains(keys, "keyed.kb") {
		t.Errorf("keys %q", keys)
	}
}

// A target that hangs is noticed, and the stream goes on when it is back.
func TestHungTarget(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	proxy := replicationtest.StartProxy(t, c.dst.Addr())
	c.moveTarget(100, proxy.Port())
	var e ends
	c.mover(migrate.Options{HangTimeout: 500 * time.Millisecond, Trace: e.trace()})
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	load := replicationtest.StartLoad(t, c.src.DB(t), c.db, replicationtest.LoadOptions{Seed: 3, Rate: 100})
	c.caughtUp()
	before := e.again.Load()
	proxy.Freeze()
	until(t, "the hanging target is noticed", func() bool { return e.again.Load() > before })
	proxy.Thaw()
	load.MustStop(t)
	c.caughtUp()
	c.equal("customer", "plain")
	if e.final.Load() > 0 {
		t.Error("the stream was given up")
	}
}

// moveTarget gives the tablet of the target shard another port.
func (c *cluster) moveTarget(uid uint32, port int) {
	c.t.Helper()
	err := c.ts.UpdateTablet(c.t.Context(), topo.TabletAlias{Cell: "zone1", UID: uid}, func(t *topo.Tablet) error {
		t.MySQLPort = int32(port)
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// Update changes what is stored, and a stream that runs goes by it without anybody's doing.
func TestUpdate(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	var starts atomic.Int64
	c.run(c.migrator(migrate.Options{Trace: migrate.Trace{StreamStarting: func(migrate.StreamInfo) { starts.Add(1) }}}))
	c.create(migrate.CreateOptions{})
	c.await(migrate.StateRunning)
	ctx, wf := t.Context(), c.workflow()
	if _, err := wf.Update(ctx, migrate.UpdateOptions{}); !isOption(err) {
		t.Errorf("an update of nothing: %v", err)
	}
	bad := replication.OnDrift(99)
	if _, err := wf.Update(ctx, migrate.UpdateOptions{OnDrift: &bad}); !isOption(err) {
		t.Errorf("an unknown policy: %v", err)
	}
	if _, err := c.m.Workflow(c.ks+".nope").Update(ctx, migrate.UpdateOptions{Cells: []string{}}); !errors.Is(err, migrate.ErrNotFound) {
		t.Errorf("an unknown workflow: %v", err)
	}
	onDDL, onDrift := replication.OnDDLStop, replication.OnDriftSkip
	o := migrate.UpdateOptions{OnDDL: &onDDL, OnDrift: &onDrift, TabletTypes: []topo.TabletType{topo.TabletPrimary}}
	before := starts.Load()
	for i, want := range []bool{true, false} {
		res, err := wf.Update(ctx, o)
		if err != nil || len(res.Streams) != 1 || res.Streams[0].Changed != want || res.Streams[0].Tablet != "zone1-0000000100" {
			t.Fatalf("update %d: %+v, %v", i, res, err)
		}
	}
	until(t, "the stream starts again", func() bool { return starts.Load() > before })
	if st := c.show(); st.OnDDL != "STOP" || st.OnDrift != "SKIP" || fmt.Sprint(st.TabletTypes) != "[PRIMARY]" {
		t.Errorf("%+v", st)
	}
	if got := one(t, c.dst, "SELECT CONCAT(source, ' ', tablet_types) FROM "+c.sidecar+".vreplication"); !strings.Contains(got, " on_ddl:STOP stop") || !strings.HasSuffix(got, "in_order:primary") {
		t.Errorf("stored: %s", got)
	}
	// It goes by the new policy now.
	c.src.MustExec(t, "ALTER TABLE "+c.db+".plain ADD COLUMN later int")
	if st := c.await(migrate.StateStopped); !strings.Contains(st.Message, "Stopped at DDL") {
		t.Errorf("message %q", st.Message)
	}
}

func isOption(err error) bool {
	_, ok := errors.AsType[*migrate.OptionError](err)
	return ok
}
