package test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

var (
	chaosSeed  = flag.Uint64("chaos.seed", 0, "seed of TestChaos: the tables, what is written, and the blows and their order; 0 draws one")
	chaosBlows = flag.Int("chaos.kills", 30, "how many blows TestChaos deals: kills of processes, links and connections")
)

// blow is one thing that goes wrong. It returns when the world is whole again; the library may still be reeling.
type blow struct {
	name string
	deal func(*chaos) error
}

// blows is the deck: shuffled, dealt, and shuffled again.
var blows = []blow{
	{"kill the worker", (*chaos).killWorker},
	{"kill the worker", (*chaos).killWorker},
	{"kill the worker", (*chaos).killWorker},
	{"hang the worker until another one has taken over", (*chaos).rival},
	{"kill the source", func(c *chaos) error { return killServer(c.ctx, c.src) }},
	{"kill the source", func(c *chaos) error { return killServer(c.ctx, c.src) }},
	{"kill the target", func(c *chaos) error { return killServer(c.ctx, c.dst) }},
	{"kill the target", func(c *chaos) error { return killServer(c.ctx, c.dst) }},
	{"kill etcd", func(c *chaos) error { c.etcd.Kill9(); return c.etcd.Restart(c.ctx) }},
	{"cut the link to the source", func(c *chaos) error { return c.cut(c.links.source) }},
	{"cut the link to the target", func(c *chaos) error { return c.cut(c.links.target) }},
	{"cut the link to etcd", func(c *chaos) error { return c.cut(c.links.etcd) }},
	{"break the link to the source in a packet", func(c *chaos) error { return c.cutAfter(c.links.source) }},
	{"break the link to the target in a packet", func(c *chaos) error { return c.cutAfter(c.links.target) }},
	{"stall the link to the source", func(c *chaos) error { return c.stall(c.links.source) }},
	{"stall the link to the target", func(c *chaos) error { return c.stall(c.links.target) }},
	{"kill all connections at the source", func(c *chaos) error { return c.killConnections(c.src) }},
	{"kill all connections at the target", func(c *chaos) error { return c.killConnections(c.dst) }},
	{"hang the target", (*chaos).hangTarget},
	{"stop and start the workflow", (*chaos).stopStart},
	{"flush the source's log", func(c *chaos) error { return c.src.Exec(c.ctx, "FLUSH BINARY LOGS") }},
}

// chaosUser is whom the library logs in as, so that its connections can be told from the test's.
const chaosUser = "hauler"

// chaos is one migration in a bad world.
type chaos struct {
	*cluster
	t      *testing.T
	ctx    context.Context
	seed   uint64
	rnd    *rand.Rand // of the blows
	links  struct{ source, target, etcd *replicationtest.Proxy }
	tables []chaosTable
	srcDB  *sql.DB
	dstDB  *sql.DB
	worker *exec.Cmd
	cfg    workerConfig
	wf     *migrate.Workflow
	load   *chaosLoad
	rounds int
}

// TestChaos migrates random tables under a random load while processes are killed and links break, and compares every row:
// at random moments, for which only the writers stop, and at the end. The seed gives the same tables, the same
// writers and the same blows in the same order.
func TestChaos(t *testing.T) {
	t.Parallel()
	c := newChaos(t)
	kills := *chaosBlows
	deck := c.shuffled(kills)
	c.links.source.SetDelay(25 * time.Millisecond) // the copy shall not be over too soon
	c.create(kills)
	for i, b := range deck {
		if i == kills/2 {
			c.links.source.SetDelay(0)
		}
		began := time.Now()
		before := c.progress()
		if err := b.deal(c); err != nil {
			c.fatalf("blow %d, %s: %v", i+1, b.name, err)
		}
		patient := c.rnd.IntN(3) > 0
		pauseFor := time.Duration(c.rnd.IntN(300)) * time.Millisecond
		compare := c.rnd.IntN(8) == 0 || i == kills/3
		if patient || compare {
			c.recovered(before)
		}
		pause(t, pauseFor)
		t.Logf("blow %d: %s; %s", i+1, b.name, time.Since(began).Round(time.Millisecond))
		if err := c.light(); err != nil {
			c.fatalf("after blow %d, %s: %v", i+1, b.name, err)
		}
		if compare {
			c.compare()
		}
	}
	c.finish()
}

// shuffled draws n blows.
func (c *chaos) shuffled(n int) []blow {
	var out []blow
	for len(out) < n {
		deck := slices.Clone(blows)
		c.rnd.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		out = append(out, deck...)
	}
	return out[:n]
}

// fatalf fails the test, with how to run it again.
func (c *chaos) fatalf(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf(format+"\nagain: cd test && go test -run 'TestChaos$' -chaos.seed %d -chaos.kills %d .", append(args, c.seed, *chaosBlows)...)
}

func newChaos(t *testing.T) *chaos {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d, %d blows", seed, *chaosBlows)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute+time.Duration(*chaosBlows)*20*time.Second, errors.New("chaos takes too long"))
	t.Cleanup(cancel)
	c := &chaos{t: t, ctx: ctx, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1))}
	// A lost commit would be the servers' fault: both write through at every commit, as the kit starts them.
	c.cluster = &cluster{
		src:  replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{"--innodb-lock-wait-timeout=3"}}),
		dst:  replicationtest.StartMySQL(t, replicationtest.MySQLOptions{}),
		etcd: replicationtest.StartEtcd(t),
	}
	c.links.source = replicationtest.StartProxy(t, c.src.Addr())
	c.links.target = replicationtest.StartProxy(t, c.dst.Addr())
	c.links.etcd = replicationtest.StartProxy(t, c.etcd.Addr())
	for _, s := range []*replicationtest.Server{c.src, c.dst} {
		s.MustCreateUser(t, chaosUser, "", "ALL ON *.*")
	}
	c.srcDB, c.dstDB = openPool(t, c.src, srcDB), c.dst.DB(t)
	draw := rand.New(rand.NewPCG(seed, 2))
	c.tables = chaosSchema(draw)
	c.cfg = workerConfig{Topology: c.links.etcd.Addr(), User: chaosUser, ChunkRows: 10 + draw.IntN(30), Workers: 1 + draw.IntN(4)}
	c.src.MustExec(t, "CREATE DATABASE shop; CREATE DATABASE aside")
	for _, table := range c.tables {
		t.Log(table.create)
		c.src.MustExec(t, "USE shop; "+table.create)
	}
	c.build(t, clusterAddrs{etcd: c.links.etcd.Addr(), source: c.links.source.Addr(), targetPort: c.links.target.Port()},
		migrate.Options{PollInterval: 100 * time.Millisecond})
	return c
}

// create fills the tables, as much as is needed to copy during half of the blows, and creates the workflow.
func (c *chaos) create(kills int) {
	c.t.Helper()
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.fatalf("%v", err)
		}
	}
	filler := &wanderer{db: c.srcDB, done: new(atomic.Int64)}
	for i := range wanderTables {
		must(filler.within(c.ctx, func(tx *sql.Tx) error { return wanderTables[i].fill(c.ctx, tx) }))
	}
	c.src.MustExec(c.t, fmt.Sprintf(`SET SESSION cte_max_recursion_depth=1000000;
		INSERT INTO shop.bulk (part, u, pad) WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i+1 FROM n WHERE i < %d)
		SELECT i %% 20, i, REPEAT('f', i %% 100) FROM n`, 300*kills))
	var names []string
	for _, t := range c.tables {
		if t.written {
			names = append(names, t.name)
		}
	}
	random, err := replicationtest.RunLoad(c.ctx, c.srcDB, srcDB, replicationtest.LoadOptions{Tables: names, Seed: c.seed, Writers: 2})
	must(err)
	must(until(c.ctx, func() (bool, error) { return random.Counts().Inserted > 200*len(names), nil }))
	_, err = random.Stop()
	must(err)

	c.wf = c.m.Workflow("commerce.wf")
	_, err = c.wf.Create(c.ctx, migrate.CreateOptions{Source: "ext1.shop", AllTables: true, KeepSecondaryKeys: c.rnd.IntN(3) == 0})
	must(err)
	c.resume()
	c.start()
}

// resume starts the writers.
func (c *chaos) resume() {
	c.t.Helper()
	var err error
	c.rounds++
	if c.load, err = startChaosLoad(c.ctx, c.srcDB, c.tables, c.seed, c.rounds); err != nil {
		c.fatalf("start the writers: %v", err)
	}
}

// start starts a worker in place of the present one.
func (c *chaos) start() {
	w := startWorker(c.t, c.cfg)
	c.worker = w
	c.t.Cleanup(func() { kill(w) })
}

func kill(w *exec.Cmd) {
	if w.ProcessState == nil {
		_ = w.Process.Kill()
		_ = w.Wait()
	}
}

func (c *chaos) killWorker() error {
	kill(c.worker)
	c.start()
	return nil
}

// rival hangs the worker until another one runs the stream, and lets it go on then: it must not commit any more.
func (c *chaos) rival() error {
	old := c.worker
	epoch, err := c.epoch()
	if err != nil {
		return err
	}
	if err := old.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	c.start()
	// The locks of the one that hangs may be in the way until the server ends its connections.
	ctx, cancel := context.WithTimeout(c.ctx, 2*time.Minute)
	defer cancel()
	err = until(ctx, func() (bool, error) {
		now, err := c.epoch()
		return now > epoch, err
	})
	if err != nil {
		return fmt.Errorf("nobody takes over from a worker that hangs: %w", err)
	}
	if err := old.Process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	pause(c.t, 300*time.Millisecond)
	kill(old)
	return nil
}

// epoch is how often the stream was taken over.
func (c *chaos) epoch() (n int64, err error) {
	return n, c.dstDB.QueryRowContext(c.ctx, "SELECT epoch FROM _tablehaul.vreplication_epoch").Scan(&n)
}

func killServer(ctx context.Context, s *replicationtest.Server) error {
	s.Kill9()
	return s.Restart(ctx)
}

func (c *chaos) hangTarget() error {
	c.dst.Freeze()
	defer c.dst.Thaw()
	return retry.Wait(c.ctx, time.Duration(200+c.rnd.IntN(3000))*time.Millisecond)
}

func (c *chaos) cut(p *replicationtest.Proxy) error {
	p.Cut()
	wait := time.Duration(c.rnd.IntN(800)) * time.Millisecond
	return errors.Join(retry.Wait(c.ctx, wait), p.Restore())
}

// cutAfter breaks the link after so many bytes that it is in the middle of something.
func (c *chaos) cutAfter(p *replicationtest.Proxy) error {
	p.CutAfter(int64(1 + c.rnd.IntN(4000)))
	wait := time.Duration(100+c.rnd.IntN(400)) * time.Millisecond
	err := retry.Wait(c.ctx, wait)
	p.CutAfter(-1)
	return errors.Join(err, p.Restore())
}

func (c *chaos) stall(p *replicationtest.Proxy) error {
	p.Freeze()
	defer p.Thaw()
	return retry.Wait(c.ctx, time.Duration(200+c.rnd.IntN(2500))*time.Millisecond)
}

// killConnections kills what the library has open at a server.
func (c *chaos) killConnections(s *replicationtest.Server) error {
	found, err := s.Query(c.ctx, "SHOW PROCESSLIST")
	for _, row := range found {
		if row[1] == chaosUser {
			_ = s.Exec(c.ctx, "KILL "+row[0]) // it may have ended by itself
		}
	}
	return err
}

// stopStart stops the workflow: when Stop returns, nothing more is committed.
func (c *chaos) stopStart() error {
	if err := c.insist(c.wf.Stop); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	before := c.progress()
	pause(c.t, 200*time.Millisecond)
	if after := c.progress(); after.seq != before.seq || after.span > before.span {
		return fmt.Errorf("a stopped workflow goes on: %+v, then %+v", before, after)
	}
	if err := c.insist(c.wf.Start); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// light looks at what the library holds at the source: no lock, no change, and no read view that is older than a chunk takes
// over a link that stalls.
func (c *chaos) light() error {
	mine := map[string]bool{}
	found, err := c.src.Query(c.ctx, "SHOW PROCESSLIST")
	if err != nil {
		return err
	}
	for _, row := range found {
		mine[row[0]] = row[1] == chaosUser
	}
	held, err := c.src.Query(c.ctx, `SELECT trx_mysql_thread_id, trx_rows_locked, trx_rows_modified, trx_tables_locked,
		TIMESTAMPDIFF(SECOND, trx_started, NOW()) FROM information_schema.innodb_trx`)
	if err != nil {
		return err
	}
	for _, row := range held {
		if !mine[row[0]] {
			continue
		}
		age, err := strconv.Atoi(row[4])
		if err != nil {
			return err
		}
		if row[1] != "0" || row[2] != "0" || row[3] != "0" || age > 20 {
			return fmt.Errorf("at the source the library holds %s rows locked, %s changed, %s tables locked, for %d s", row[1], row[2], row[3], age)
		}
	}
	return nil
}

// insist calls f until it succeeds: what the last blow has left behind may be in the way.
func (c *chaos) insist(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	for {
		attempt, stop := context.WithTimeout(ctx, 15*time.Second)
		err := f(attempt)
		stop()
		if err == nil {
			return nil
		}
		if retry.Wait(ctx, 200*time.Millisecond) != nil {
			return err
		}
	}
}

// chaosProgress is how far the target is.
type chaosProgress struct {
	position       string
	seq, span      int64
	state, message string
}

// progress looks at the target's record; a workflow in the state Error has failed the test.
func (c *chaos) progress() chaosProgress {
	c.t.Helper()
	var p chaosProgress
	var position sql.NullString
	err := until(c.ctx, func() (bool, error) {
		err := c.dstDB.QueryRowContext(c.ctx, `SELECT (SELECT pos FROM _tablehaul.vreplication_pos ORDER BY seq DESC LIMIT 1),
			IFNULL((SELECT MAX(seq) FROM _tablehaul.vreplication_pos), 0), IFNULL((SELECT MAX(id) FROM _tablehaul.copy_state), 0),
			(SELECT state FROM _tablehaul.vreplication), (SELECT message FROM _tablehaul.vreplication)`).
			Scan(&position, &p.seq, &p.span, &p.state, &p.message)
		if err != nil && !lostServer(err) {
			return false, err
		}
		return err == nil, nil
	})
	if err != nil {
		c.fatalf("the target's record: %v", err)
	}
	if p.state == string(migrate.StateError) {
		c.fatalf("the workflow has failed: %s", p.message)
	}
	_, p.position, _ = strings.Cut(position.String, "/")
	return p
}

// recovered waits until the target moves on.
func (c *chaos) recovered(before chaosProgress) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	// Commits that were under way during the blow don't count.
	first := c.progress()
	err := until(ctx, func() (bool, error) {
		p := c.progress()
		return p.seq > first.seq+2 && p.seq > before.seq, nil
	})
	if err != nil {
		c.fatalf("the stream does not go on: %+v, then %+v", first, c.progress())
	}
}

// compare stops the writers, lets the target come level, and compares what has been copied.
func (c *chaos) compare() {
	c.t.Helper()
	if err := c.load.end(); err != nil {
		c.fatalf("writers: %v", err)
	}
	c.level()
	rows, err := comparePart(c.ctx, c.t, c.srcDB, c.dstDB, "vt_commerce", c.tables)
	if err != nil {
		c.fatalf("compare: %v", err)
	}
	c.t.Logf("%d rows of the target are right", rows)
	c.resume()
}

// level waits until the target has all that the source has; nobody writes.
func (c *chaos) level() {
	c.t.Helper()
	var want string
	if err := c.srcDB.QueryRowContext(c.ctx, "SELECT @@GLOBAL.gtid_executed").Scan(&want); err != nil {
		c.fatalf("the source's position: %v", err)
	}
	ctx, cancel := context.WithTimeout(c.ctx, 2*time.Minute)
	defer cancel()
	var last chaosProgress
	err := until(ctx, func() (bool, error) {
		last = c.progress()
		var covers bool
		err := c.srcDB.QueryRowContext(ctx, "SELECT GTID_SUBSET(?, ?)", want, last.position).Scan(&covers)
		return covers, err
	})
	if err != nil {
		c.fatalf("the target does not come level with %s: %+v: %v", want, last, err)
	}
}

// finish compares everything, completes, and compares again, the keys too.
func (c *chaos) finish() {
	t := c.t
	if err := c.load.end(); err != nil {
		c.fatalf("writers: %v", err)
	}
	err := until(c.ctx, func() (bool, error) { return c.progress().state == string(migrate.StateRunning), nil })
	if err != nil {
		c.fatalf("the copy does not end: %+v", c.progress())
	}
	c.level()
	if !replicationtest.CheckEqual(t, c.src.DB(t), c.dst.DB(t), srcDB, "vt_commerce") {
		c.fatalf("the tables differ")
	}
	err = c.insist(func(ctx context.Context) error {
		_, err := c.wf.Complete(ctx, migrate.CompleteOptions{})
		return err
	})
	if err != nil {
		c.fatalf("complete: %v", err)
	}
	kill(c.worker)
	replicationtest.CheckEqual(t, c.src.DB(t), c.dst.DB(t), srcDB, "vt_commerce")
	if left := c.dst.MustQuery(t, "SHOW DATABASES LIKE '\\_tablehaul'"); len(left) > 0 {
		t.Errorf("the sidecar is still there: %v", left)
	}
	keys := func(s *replicationtest.Server, schema string) string {
		return fmt.Sprint(s.MustQuery(t, `SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics
			WHERE table_schema=? ORDER BY 1, 2, 3`, schema))
	}
	if have, want := keys(c.dst, "vt_commerce"), keys(c.src, srcDB); have != want {
		t.Errorf("the target's keys:\n%s\nthe source's:\n%s", have, want)
	}
	if t.Failed() {
		c.fatalf("not a clean end")
	}
}
