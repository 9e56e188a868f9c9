package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/topo"
)

const shopSchema = `
CREATE TABLE customer (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) NOT NULL, email VARCHAR(60), UNIQUE KEY email (email), KEY name (name));
CREATE TABLE orders (id INT NOT NULL PRIMARY KEY, customer BIGINT UNSIGNED NOT NULL, note TEXT, placed DATETIME, FULLTEXT KEY note (note), KEY placed (placed),
  CONSTRAINT belongs FOREIGN KEY (customer) REFERENCES customer (id));
CREATE TABLE plain (a INT NOT NULL, b INT NOT NULL, v VARCHAR(10), UNIQUE KEY ab (a, b), KEY v (v));
INSERT INTO customer (name, email) VALUES ('ann', 'a@x'), ('bob', 'b@x'), ('cyd', NULL);
INSERT INTO orders VALUES (1, 1, 'one', '2026-07-01 12:00:00'), (2, 2, 'two', NULL);
INSERT INTO plain VALUES (1, 1, 'x'), (1, 2, NULL);
CREATE VIEW ann AS SELECT * FROM customer WHERE name = 'ann';
CREATE TABLE _orders_gho (id INT NOT NULL PRIMARY KEY)`

// smallSchema is for tests that make tables often.
const smallSchema = `
CREATE TABLE customer (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), KEY name (name));
CREATE TABLE plain (a INT NOT NULL, b INT NOT NULL, UNIQUE KEY ab (a, b)); INSERT INTO plain VALUES (1, 1)`

// finding looks for a finding by code and object.
func finding(err error, code migrate.Code, object string) *migrate.Finding {
	e, ok := errors.AsType[*migrate.PreflightError](err)
	if !ok {
		return nil
	}
	for i, f := range e.Findings {
		if f.Code == code && (object == "" || f.Object == object) {
			return &e.Findings[i]
		}
	}
	return nil
}

func (c *cluster) tryCreate(o migrate.CreateOptions) error {
	c.t.Helper()
	if o.Source == "" {
		o.Source = "ext1." + c.db
	}
	_, err := c.workflow().Create(c.t.Context(), o)
	return err
}

func TestCreate(t *testing.T) {
	c := newCluster(t, migrate.Options{}, shopSchema)
	res := c.create(migrate.CreateOptions{NoAutoStart: true})
	want := []string{"customer", "orders", "plain"}
	if !slices.Equal(res.Tables, want) || !slices.Equal(res.Created, want) {
		t.Errorf("tables %v, created %v, want %v", res.Tables, res.Created, want)
	}
	if len(res.Warnings) != 1 || res.Warnings[0].Code != migrate.CodeInternalTable || !strings.Contains(res.Warnings[0].Message, "`_orders_gho`") {
		t.Errorf("warnings %v", res.Warnings)
	}
	if got := c.tables(c.dst, c.vt); got != "customer orders plain" {
		t.Errorf("tables on the target: %s", got)
	}
	st, err := c.workflow().Show(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.State != migrate.StateStopped || st.Mount != "ext1" || len(st.Streams) != 1 || len(st.Tables) != 3 || st.Tables[0].RowsTotal == 0 {
		t.Errorf("status %+v", st)
	}
	// Keys that can wait are not there yet: what identifies rows, holds AUTO_INCREMENT, serves a foreign key or is FULLTEXT is.
	keys := c.keys()
	if want := "customer.PRIMARY orders.PRIMARY orders.belongs orders.note plain.ab"; keys != want {
		t.Errorf("keys on the target: %s, want %s", keys, want)
	}
	if err := c.tryCreate(migrate.CreateOptions{AllTables: true}); !errors.Is(err, migrate.ErrExists) || !strings.Contains(err.Error(), c.ks+".wf") {
		t.Errorf("second Create: %v", err)
	}
	if users, err := c.m.UsesMount(t.Context(), "ext1"); err != nil || !slices.Equal(users, []string{c.ks + ".wf"}) {
		t.Errorf("ext1 is used by %v, %v", users, err)
	}
	if users, err := c.m.UsesMount(t.Context(), "ext2"); err != nil || len(users) > 0 {
		t.Errorf("ext2 is used by %v, %v", users, err)
	}
	// Another workflow can't take the same tables.
	_, err = c.m.Workflow(c.ks+".other").Create(t.Context(), migrate.CreateOptions{Source: "ext1." + c.db, Tables: []string{"plain"}})
	if f := finding(err, migrate.CodeConflict, "plain"); f == nil || !strings.Contains(f.Message, c.ks+".wf") {
		t.Errorf("two workflows for one table: %v", err)
	}
	cancelled, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{})
	if err != nil || !slices.Equal(cancelled.Dropped, want) {
		t.Fatalf("cancel: %+v, %v", cancelled, err)
	}
	c.clean()
	if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); !errors.Is(err, migrate.ErrNotFound) || !strings.Contains(err.Error(), c.ks+".wf") {
		t.Errorf("second Cancel: %v", err)
	}
}

func TestCreateOptions(t *testing.T) {
	c := newCluster(t, migrate.Options{}, shopSchema)
	t.Run("KeepSecondaryKeys and ExcludeTables", func(t *testing.T) {
		res := c.create(migrate.CreateOptions{NoAutoStart: true, KeepSecondaryKeys: true, ExcludeTables: []string{"plain", "_orders_gho"}})
		if !slices.Equal(res.Tables, []string{"customer", "orders"}) {
			t.Errorf("tables %v", res.Tables)
		}
		keys := c.keys()
		if want := "customer.PRIMARY customer.email customer.name orders.PRIMARY orders.belongs orders.note orders.placed"; keys != want {
			t.Errorf("keys %s, want %s", keys, want)
		}
		if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{KeepData: true}); err != nil {
			t.Fatal(err)
		}
		c.clean("customer", "orders")
	})
	t.Run("equal and empty tables are taken as they are, and stay", func(t *testing.T) {
		res := c.create(migrate.CreateOptions{NoAutoStart: true})
		if !slices.Equal(res.Created, []string{"plain"}) {
			t.Errorf("created %v", res.Created)
		}
		if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
			t.Fatal(err)
		}
		c.clean("customer", "orders")
	})
	t.Run("DryRun", func(t *testing.T) {
		res := c.create(migrate.CreateOptions{DryRun: true})
		if text := res.Plan.String(); !strings.Contains(text, "create table plain") || !strings.Contains(text, "start [shard 0]") || len(res.Done) > 0 {
			t.Errorf("plan %s, done %v", text, res.Done)
		}
		c.clean("customer", "orders")
	})
	t.Run("shown options", func(t *testing.T) {
		c.create(migrate.CreateOptions{
			NoAutoStart: true, Tables: []string{"plain"}, OnDDL: replication.OnDDLStop, StopAfterCopy: true, SourceTimeZone: "Europe/Berlin",
			TabletTypes: []topo.TabletType{topo.TabletPrimary}, Cells: nil,
		})
		st, err := c.workflow().Show(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.OnDDL != "STOP" || !st.StopAfterCopy || st.SourceTimeZone != "Europe/Berlin" || !slices.Equal(st.TabletTypes, []string{"PRIMARY"}) || !st.DeferSecondaryKeys {
			t.Errorf("%+v", st)
		}
		if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

// Everything that is in the way is told at once, and nothing is created.
func TestCreateRefuses(t *testing.T) {
	c := newCluster(t, migrate.Options{}, shopSchema, `
CREATE TABLE nokey (a INT, UNIQUE KEY a (a));
CREATE TABLE old (id INT NOT NULL PRIMARY KEY) ENGINE=MyISAM;
CREATE TABLE filled (id INT NOT NULL PRIMARY KEY);
CREATE TABLE differs (id INT NOT NULL PRIMARY KEY, v VARCHAR(10) CHARACTER SET latin1);
CREATE TABLE is_view (id INT NOT NULL PRIMARY KEY);
CREATE TABLE zoned (at DATETIME NOT NULL PRIMARY KEY, day DATE AS (DATE(at)) STORED UNIQUE)`)
	c.dst.MustExec(t, "CREATE DATABASE "+c.vt+"; USE "+c.vt+`;
CREATE TABLE filled (id INT NOT NULL PRIMARY KEY); INSERT INTO filled VALUES (1);
CREATE TABLE differs (id INT NOT NULL PRIMARY KEY, v VARCHAR(10) CHARACTER SET utf8mb4);
CREATE VIEW is_view AS SELECT 1 AS id;
CREATE TABLE plain (a INT NOT NULL, b INT NOT NULL, v VARCHAR(10), UNIQUE KEY ab (a, b), KEY v (v));
CREATE TRIGGER watch BEFORE INSERT ON plain FOR EACH ROW SET NEW.v = 'y'`)
	err := c.tryCreate(migrate.CreateOptions{
		Tables: []string{"orders", "nokey", "old", "filled", "differs", "is_view", "missing", "ann", "zoned", "plain"}, ExcludeTables: []string{"gone"},
		SourceTimeZone: "Europe/Berlin",
	})
	for _, want := range []struct {
		code   migrate.Code
		object string
		text   string
	}{
		{migrate.CodeUnknownTable, "missing", "`missing` of Tables"},
		{migrate.CodeUnknownTable, "gone", "`gone` of ExcludeTables"},
		{migrate.CodeNotTable, "ann", "is a view"},
		{migrate.CodeForeignKey, "orders", "references `customer`, which is not moved"},
		{migrate.CodeNoKey, "nokey", "no primary key"},
		{migrate.CodeEngine, "old", "MyISAM"},
		{migrate.CodeNotEmpty, "filled", "not empty"},
		{migrate.CodeDifferent, "differs", "latin1"},
		{migrate.CodeNotTable, "is_view", "is a view on the target"},
		{migrate.CodeUnsupported, "zoned", "generated column `day`"},
		{migrate.CodeTrigger, "plain", "trigger"},
	} {
		f := finding(err, want.code, want.object)
		if f == nil || !strings.Contains(f.Message, want.text) || f.Fix == "" || f.Server == "" {
			t.Errorf("%s of %s: %+v", want.code, want.object, f)
		}
	}
	if !errors.Is(err, migrate.ErrNotFound) {
		t.Errorf("an unknown table is no ErrNotFound: %v", err)
	}
	c.clean("differs", "filled", "is_view", "plain")

	for _, tc := range []struct {
		name, workflow string
		o              migrate.CreateOptions
		want           func(error) bool
	}{
		{"malformed workflow", "commerce", migrate.CreateOptions{Source: "ext1.x", AllTables: true}, is[*migrate.NameError]},
		{"malformed source", c.ks + ".wf", migrate.CreateOptions{Source: "ext1", AllTables: true}, is[*migrate.NameError]},
		{"unknown keyspace", "nowhere.wf", migrate.CreateOptions{Source: "ext1.x", AllTables: true}, notFound("keyspace nowhere")},
		{"unknown mount", c.ks + ".wf", migrate.CreateOptions{Source: "ext9.x", AllTables: true}, notFound("mount ext9")},
		{"unknown source keyspace", c.ks + ".wf", migrate.CreateOptions{Source: "ext1.nope", AllTables: true}, notFound("keyspace nope")},
		{"time zone", c.ks + ".wf", migrate.CreateOptions{Source: "ext1." + c.db, Tables: []string{"customer"}, SourceTimeZone: "Mars/Olympus"}, func(err error) bool {
			return finding(err, migrate.CodeTimeZone, "Mars/Olympus") != nil
		}},
		{"nothing left", c.ks + ".wf", migrate.CreateOptions{Source: "ext1." + c.db, Tables: []string{"customer"}, ExcludeTables: []string{"customer"}}, func(err error) bool {
			return finding(err, migrate.CodeNoTables, "") != nil
		}},
	} {
		_, err := c.m.Workflow(tc.workflow).Create(t.Context(), tc.o)
		if err == nil || !tc.want(err) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	c.clean("differs", "filled", "is_view", "plain")
	for name, err := range map[string]error{
		"Start": c.workflow().Start(t.Context()), "Stop": c.workflow().Stop(t.Context()),
		"Complete": second(c.workflow().Complete(t.Context(), migrate.CompleteOptions{})), "Show": second(c.workflow().Show(t.Context())),
	} {
		if !errors.Is(err, migrate.ErrNotFound) || !strings.Contains(err.Error(), c.ks+".wf") {
			t.Errorf("%s of an unknown workflow: %v", name, err)
		}
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func notFound(what string) func(error) bool {
	return func(err error) bool {
		return errors.Is(err, migrate.ErrNotFound) && strings.Contains(err.Error(), what)
	}
}

func second[T any](_ T, err error) error { return err }

// A source that is set up wrong in every way, and accounts that may do nothing.
func TestCreateChecksServers(t *testing.T) {
	_, dst := servers(t)
	src := replicationtest.StartMySQL(t, replicationtest.MySQLOptions{Args: []string{
		"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--binlog-format=STATEMENT", "--binlog-row-image=MINIMAL", "--binlog-row-value-options=PARTIAL_JSON",
	}})
	c := newClusterOn(t, src, dst, migrate.Options{}, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY)")
	src.MustExec(t, "XA START 'left'; INSERT INTO "+c.db+".t VALUES (1); XA END 'left'; XA PREPARE 'left'")
	err := c.tryCreate(migrate.CreateOptions{AllTables: true})
	src.MustExec(t, "XA ROLLBACK 'left'")
	for _, code := range []migrate.Code{migrate.CodePrepared, migrate.CodeGTID, migrate.CodeBinlogFormat, migrate.CodeRowImage, migrate.CodeRowValueOptions} {
		if f := finding(err, code, ""); f == nil || f.Server != src.Addr() || f.Side != migrate.SideSource {
			t.Errorf("%s: %+v", code, f)
		}
	}
	if f := finding(err, migrate.CodePrivilege, ""); f != nil {
		t.Errorf("root lacks a privilege: %+v", f)
	}

	src.MustCreateUser(t, "poor", "pw", "SHOW VIEW ON "+c.db+".*")
	dst.MustCreateUser(t, c.ks, "pw", "SELECT ON `vt\\_"+c.ks+"`.*")
	m, err := migrate.New(c.ts, func(_ context.Context, s mount.Server) (mount.Login, error) {
		if s.Cluster == "ext1" {
			return mount.Login{User: "poor", Password: "pw"}, nil
		}
		return mount.Login{User: c.ks, Password: "pw"}, nil
	}, migrate.Options{SidecarDatabase: c.sidecar})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = m.Workflow(c.ks+".wf").Create(t.Context(), migrate.CreateOptions{Source: "ext1." + c.db, AllTables: true})
	for _, object := range []string{"REPLICATION SLAVE", "REPLICATION CLIENT", "SELECT"} {
		if f := finding(err, migrate.CodePrivilege, object); f == nil || f.Side != migrate.SideSource {
			t.Errorf("source lacks %s: %+v", object, f)
		}
	}
	if f := finding(err, migrate.CodePrivilege, "INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES"); f == nil || f.Side != migrate.SideTarget || f.Server != dst.Addr() {
		t.Errorf("target privileges: %v", err)
	}
	c.clean()
}

// A wrong password and a dead server are findings of the side that they are on, with the others.
func TestCreateUnreachable(t *testing.T) {
	c := newCluster(t, migrate.Options{}, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY)")
	c.register("dead", "127.0.0.1:1")
	_, err := c.workflow().Create(t.Context(), migrate.CreateOptions{Source: "dead." + c.db, AllTables: true})
	if f := finding(err, migrate.CodeUnreachable, ""); f == nil || f.Side != migrate.SideSource || !is[*mount.UnreachableError](err) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("dead source: %v", err)
	}
	m, err := migrate.New(c.ts, mount.Static(mount.Login{User: "root", Password: "secret-word"}), migrate.Options{SidecarDatabase: c.sidecar})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = m.Workflow(c.ks+".wf").Create(t.Context(), migrate.CreateOptions{Source: "ext1." + c.db, AllTables: true})
	e, ok := errors.AsType[*migrate.PreflightError](err)
	if !ok || len(e.Findings) != 2 || !is[*mount.AccessError](err) || strings.Contains(fmt.Sprintf("%+v", err), "secret-word") {
		t.Errorf("wrong password: %v", err)
	}
	c.clean()
}

// errCrash is what a hook panics with to end a command as kill -9 would: nothing is cleaned up.
var errCrash = errors.New("crash")

// crash calls f, which has to crash.
func crash(t *testing.T, f func() error) {
	t.Helper()
	defer func() {
		r := recover()
		if err, ok := r.(error); !ok || !errors.Is(err, errCrash) {
			panic(r)
		}
	}()
	err := f()
	t.Fatalf("no crash: %v", err)
}

// crashAt is a Migrator of the cluster that crashes before step n of its commands.
func (c *cluster) crashAt(n int) *migrate.Migrator {
	steps := 0
	return c.migrator(migrate.Options{Trace: migrate.Trace{StepStarting: func(context.Context, string, migrate.Step) {
		if steps++; steps > n {
			panic(errCrash)
		}
	}}})
}

// A Create that is killed before any of its steps is cleaned up by Cancel, and by the next Create.
func TestCreateCrash(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	o := migrate.CreateOptions{Source: "ext1." + c.db, AllTables: true, NoAutoStart: true}
	for n := 1; n < len(c.create(migrate.CreateOptions{DryRun: true, NoAutoStart: true}).Plan.Steps); n++ {
		crash(t, func() error { return second(c.crashAt(n).Workflow(c.ks+".wf").Create(t.Context(), o)) })
		st, err := c.workflow().Show(t.Context())
		if err != nil || st.State != migrate.StateCreating {
			t.Fatalf("after step %d: %+v, %v", n, st, err)
		}
		if err := c.workflow().Start(t.Context()); !is[*migrate.RefusedError](err) {
			t.Errorf("half a workflow can be started: %v", err)
		}
		if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true}); !is[*migrate.RefusedError](err) {
			t.Errorf("half a workflow can be completed: %v", err)
		}
		if n%2 == 0 {
			if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
				t.Fatal(err)
			}
			c.clean()
			continue
		}
		c.create(o)
		if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
			t.Fatal(err)
		}
		c.clean()
	}
}

// A Create that fails in the middle leaves nothing, and does not touch what others made meanwhile.
func TestCreateFails(t *testing.T) {
	c := newCluster(t, migrate.Options{}, shopSchema)
	m := c.migrator(migrate.Options{Trace: migrate.Trace{StepStarting: func(_ context.Context, _ string, s migrate.Step) {
		if s.Object == "plain" {
			c.dst.MustExec(t, "CREATE TABLE "+c.vt+".plain (x INT); INSERT INTO "+c.vt+".plain VALUES (1)")
		}
	}}})
	_, err := m.Workflow(c.ks+".wf").Create(t.Context(), migrate.CreateOptions{Source: "ext1." + c.db, AllTables: true})
	if err == nil || !strings.Contains(err.Error(), "create table plain") {
		t.Errorf("got %v", err)
	}
	c.clean("plain")
}

// A Cancel that is killed before any of its steps is finished by the next one, with the first one's options.
func TestCancelCrash(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	for n := 1; ; n++ {
		c.create(migrate.CreateOptions{NoAutoStart: true})
		plan, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		if n >= len(plan.Plan.Steps) {
			break
		}
		crash(t, func() error {
			return second(c.crashAt(n).Workflow(c.ks+".wf").Cancel(t.Context(), migrate.CancelOptions{}))
		})
		if st, err := c.workflow().Show(t.Context()); err != nil || st.State != migrate.StateCancelling {
			t.Fatalf("after step %d: %+v, %v", n, st, err)
		}
		if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); !is[*migrate.RefusedError](err) {
			t.Errorf("half a workflow can be completed: %v", err)
		}
		if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{KeepData: true}); err != nil {
			t.Fatal(err)
		}
		c.clean()
	}
}

func TestMariaDBSource(t *testing.T) {
	_, dst := servers(t)
	src := replicationtest.StartMariaDB(t, replicationtest.MariaDBOptions{})
	c := newClusterOn(t, src, dst, migrate.Options{}, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY)")
	err := c.tryCreate(migrate.CreateOptions{AllTables: true})
	if f := finding(err, migrate.CodeUnsupported, ""); f == nil || !errors.Is(err, migrate.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	c.clean()
}

// A mounted Vitess cluster: TabletTypes and Cells say which server is read, in order of preference.
func TestSourceChoice(t *testing.T) {
	c := newCluster(t, migrate.Options{}, "CREATE TABLE on_first (id INT NOT NULL PRIMARY KEY)")
	ctx := t.Context()
	c.dst.MustExec(t, "CREATE DATABASE "+c.db+"; CREATE TABLE "+c.db+".on_second (id INT NOT NULL PRIMARY KEY)")
	defer func() { c.dst.MustExec(t, "DROP DATABASE "+c.db) }()
	at := topo.Address{Type: "memory", Server: "ext", Root: "/ext"}
	ext, err := c.ts.OpenOther(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	defer ext.Close()
	tablet := func(cell string, uid uint32, typ topo.TabletType, s *replicationtest.Server) topo.Tablet {
		return topo.Tablet{
			Alias: topo.TabletAlias{Cell: cell, UID: uid}, Type: typ, Keyspace: "load", Shard: "0", MySQLHostname: s.Host, MySQLPort: int32(s.Port), DBNameOverride: c.db,
		}
	}
	for _, err := range []error{
		ext.CreateCell(ctx, topo.CellInfo{Name: "east", ServerAddress: "ext", Root: "/east"}),
		ext.CreateCell(ctx, topo.CellInfo{Name: "west", ServerAddress: "ext", Root: "/west"}),
		ext.CreateKeyspace(ctx, topo.Keyspace{Name: "load"}),
		ext.CreateShard(ctx, "load", "0"),
		ext.InitTablet(ctx, tablet("east", 1, topo.TabletPrimary, c.src)),
		ext.InitTablet(ctx, tablet("west", 2, topo.TabletReplica, c.dst)),
		mount.Register(ctx, c.ts, mount.Cluster{Name: "vit", Type: mount.Vitess, Topo: at}, mount.RegisterOptions{Credentials: root}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name  string
		types []topo.TabletType
		cells []string
		want  string
	}{
		{"a replica that replicates nothing is the last choice", nil, nil, "on_first"},
		{"primary", []topo.TabletType{topo.TabletPrimary}, nil, "on_first"},
		{"primary first", []topo.TabletType{topo.TabletPrimary, topo.TabletReplica}, nil, "on_first"},
		{"east", nil, []string{"east"}, "on_first"},
		{"west", nil, []string{"west"}, "on_second"},
	} {
		res, err := c.workflow().Create(ctx, migrate.CreateOptions{Source: "vit.load", AllTables: true, TabletTypes: tc.types, Cells: tc.cells, DryRun: true})
		if err != nil || !slices.Equal(res.Tables, []string{tc.want}) {
			t.Errorf("%s: %+v, %v", tc.name, res, err)
		}
	}
	_, err = c.workflow().Create(ctx, migrate.CreateOptions{Source: "vit.load", AllTables: true, TabletTypes: []topo.TabletType{topo.TabletRdonly}})
	if !errors.Is(err, migrate.ErrNotFound) || !strings.Contains(err.Error(), "RDONLY") {
		t.Errorf("no such tablet: %v", err)
	}
	c.clean()
}

// Two processes that create the same workflow at once: one does, the other is told.
func TestCreateTwice(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	errs := make(chan error)
	for range 2 {
		m := c.migrator(migrate.Options{})
		go func() {
			errs <- second(m.Workflow(c.ks+".wf").Create(t.Context(), migrate.CreateOptions{Source: "ext1." + c.db, AllTables: true, NoAutoStart: true}))
		}()
	}
	a, b := <-errs, <-errs
	if a == nil {
		a, b = b, a
	}
	if b != nil || !errors.Is(a, migrate.ErrExists) {
		t.Errorf("%v; %v", a, b)
	}
	// The mount is in use now.
	err := mount.Unregister(t.Context(), c.ts, "ext1", mount.UnregisterOptions{UsedBy: c.m.UsesMount})
	if e, ok := errors.AsType[*mount.InUseError](err); !ok || !slices.Equal(e.Workflows, []string{c.ks + ".wf"}) {
		t.Errorf("unregister: %v", err)
	}
}
