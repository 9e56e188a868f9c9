package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

const customerVSchema = `{"sharded": true, "vindexes": {"bits": {"type": "reverse_bits"}}, "tables": {
	"orders": {"column_vindexes": [{"column": "owner", "name": "bits"}]}, "country": {"type": "reference"},
	"customer": {"column_vindexes": [{"column": "id", "name": "bits"}]}}}`

const customerTable = "CREATE TABLE customer (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'AUTO_INCREMENT', org INT NOT NULL, name VARCHAR(40), PRIMARY KEY (org, id), KEY id (id)) AUTO_INCREMENT = 100"

// A replaceCluster has two target shards, and a keyspace for sequences.
type replaceCluster struct {
	*shardedCluster
	seqs string
}

func newReplace(t *testing.T) *replaceCluster {
	t.Helper()
	c := &replaceCluster{shardedCluster: newSharded(t, []string{"-"}, []string{"-80", "80-"}, customerVSchema, unplacedVSchema)}
	c.seqs = "seqs" + strings.TrimPrefix(c.ks, "to")
	err := errors.Join(c.ts.CreateKeyspace(t.Context(), topo.Keyspace{Name: c.seqs}), c.ts.CreateShard(t.Context(), c.seqs, "0"),
		c.ts.InitTablet(t.Context(), topo.Tablet{
			Alias: topo.TabletAlias{Cell: "zone1", UID: 300}, Type: topo.TabletPrimary, Keyspace: c.seqs, Shard: "0", MySQLHostname: c.dst.Host, MySQLPort: int32(c.dst.Port),
		}))
	if err != nil {
		t.Fatal(err)
	}
	c.src.MustExec(t, "USE "+c.sourceDB("-")+"; "+customerTable+`;
		INSERT INTO customer (org, name) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (1, 'd'), (2, 'e'); INSERT INTO customer VALUES (700, 1, 'f')`)
	t.Cleanup(func() { _ = c.dst.Exec(context.Background(), "DROP DATABASE IF EXISTS vt_"+c.seqs) })
	return c
}

func (c *replaceCluster) options() migrate.CreateOptions {
	return migrate.CreateOptions{Source: "ext1.src", Tables: []string{"customer"}, AutoIncrement: migrate.AutoIncrementReplace, GlobalKeyspace: c.seqs}
}

// sequence is the row of a sequence, or "" if there is none.
func (c *replaceCluster) sequence(name string) string {
	c.t.Helper()
	if !strings.Contains(" "+c.tables(c.dst, "vt_"+c.seqs)+" ", " "+name+" ") {
		return ""
	}
	var rows []string
	for _, r := range c.dst.MustQuery(c.t, "SELECT id, next_id, cache FROM vt_"+c.seqs+"."+name) {
		rows = append(rows, strings.Join(r, ","))
	}
	return strings.Join(rows, ";")
}

// auto is a table's auto_increment in the VSchema.
func (c *replaceCluster) auto(table string) string {
	c.t.Helper()
	vs, err := c.ts.VSchema(c.t.Context(), c.ks)
	if err != nil {
		c.t.Fatal(err)
	}
	if a := vs.Tables[table].AutoIncrement; a != nil {
		return a.Column + " " + a.Sequence
	}
	return ""
}

// entry is the type of a table of the sequences' keyspace in the VSchema; "none" if it is not there.
func (c *replaceCluster) entry(name string) string {
	c.t.Helper()
	vs, err := c.ts.VSchema(c.t.Context(), c.seqs)
	if err != nil {
		c.t.Fatal(err)
	}
	if vs.Tables[name] == nil {
		return "none"
	}
	return vs.Tables[name].Type
}

func (c *replaceCluster) setVSchema(keyspace string, change func(*topo.VSchema)) {
	c.t.Helper()
	err := c.ts.UpdateVSchema(c.t.Context(), keyspace, func(v *topo.VSchema) error { change(v); return nil })
	if err != nil {
		c.t.Fatal(err)
	}
}

// crashBefore is a Migrator that crashes before the first step of a kind.
func (c *replaceCluster) crashBefore(kind migrate.StepKind) *migrate.Migrator {
	return c.migrator(migrate.Options{Trace: migrate.Trace{StepStarting: func(_ context.Context, _ string, s migrate.Step) {
		if s.Kind == kind {
			panic(errCrash)
		}
	}}})
}

// From Create to Complete, each killed before the steps that sequences and VSchema are about, and after them: the sequence is made, set above the highest id of all shards and published, and
// Cancel leaves nothing.
func TestReplace(t *testing.T) {
	c := newReplace(t)
	o, wf := c.options(), c.ks+".wf"
	o.NoAutoStart = true
	dry := o
	dry.DryRun = true
	plan := c.create(dry).Plan
	if !strings.Contains(plan.String(), "create sequence "+c.seqs+".customer_seq: CREATE TABLE IF NOT EXISTS `customer_seq`") {
		t.Errorf("plan %s", plan)
	}
	for _, kind := range []migrate.StepKind{migrate.StepCreateSequence, migrate.StepReady} {
		crash(t, func() error { return second(c.crashBefore(kind).Workflow(wf).Create(t.Context(), o)) })
		if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
			t.Fatal(err)
		}
		c.clean("")
		if got := c.tables(c.dst, "vt_"+c.seqs); got != "" {
			t.Errorf("after a crash before %s and Cancel there is %s", kind, got)
		}
	}
	crash(t, func() error { return second(c.crashBefore(migrate.StepReady).Workflow(wf).Create(t.Context(), o)) })
	c.create(o) // which removes what the last crash left
	for _, shard := range c.targets {
		if ddl := c.dst.MustQuery(t, "SHOW CREATE TABLE "+c.targetDB(shard)+".customer")[0][1]; strings.Count(ddl, "AUTO_INCREMENT") != 1 || !strings.Contains(ddl, "COMMENT 'AUTO_INCREMENT'") {
			t.Errorf("shard %s: %s", shard, ddl)
		}
	}
	if got := c.sequence("customer_seq"); got != "0,1,1000" {
		t.Errorf("sequence %s", got)
	}
	if err := c.workflow().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.run(c.m)
	c.await(migrate.StateRunning)
	c.src.MustExec(t, "USE "+c.sourceDB("-")+"; INSERT INTO customer (org, name) VALUES (4, 'h')")
	c.level()
	for _, kind := range []migrate.StepKind{migrate.StepSequence, migrate.StepPublish, migrate.StepRebuild, migrate.StepForget} {
		crash(t, func() error {
			return second(c.crashBefore(kind).Workflow(wf).Complete(t.Context(), migrate.CompleteOptions{}))
		})
		want := "0,702,1000, , none"
		switch kind {
		case migrate.StepSequence:
			want = "0,1,1000, , none"
		case migrate.StepRebuild, migrate.StepForget:
			want = "0,702,1000, id " + c.seqs + ".customer_seq, sequence"
		}
		if got := c.sequence("customer_seq") + ", " + c.auto("customer") + ", " + c.entry("customer_seq"); got != want {
			t.Errorf("before %s: %s, want %s", kind, got, want)
		}
	}
	res, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Sequences[c.seqs+".customer_seq"]; got != 702 || c.sequence("customer_seq") != "0,702,1000" {
		t.Errorf("next id %d, %s", got, c.sequence("customer_seq"))
	}
	if c.auto("customer") != "id "+c.seqs+".customer_seq" || c.entry("customer_seq") != "sequence" {
		t.Errorf("published: %s, %s", c.auto("customer"), c.entry("customer_seq"))
	}
	srv, err := c.ts.SrvVSchema(t.Context(), "zone1")
	if err != nil || srv.Keyspaces[c.seqs].Tables["customer_seq"].Type != "sequence" || srv.Keyspaces[c.ks].Tables["customer"].AutoIncrement == nil {
		t.Errorf("served: %+v, %v", srv, err)
	}
	c.clean("customer")
}

// A sequence that is there and named by the VSchema is used, raised and never lowered, and Cancel leaves it.
func TestReplaceExisting(t *testing.T) {
	c := newReplace(t)
	c.dst.MustExec(t, "CREATE DATABASE vt_"+c.seqs+"; USE vt_"+c.seqs+`; CREATE TABLE numbers (id INT, next_id BIGINT, cache BIGINT, PRIMARY KEY (id)) COMMENT 'vitess_sequence';
		INSERT INTO numbers VALUES (0, 5000, 10)`)
	c.setVSchema(c.ks, func(v *topo.VSchema) {
		v.Tables["customer"].AutoIncrement = &topo.AutoIncrement{Column: "id", Sequence: "numbers"}
	})
	o := c.options()
	o.NoAutoStart = true
	res := c.create(o)
	warned := 0
	for _, f := range res.Warnings {
		if f.Code == migrate.CodeSequence && f.Object == "customer" {
			warned++
		}
	}
	if warned != 2 || strings.Contains(res.Plan.String(), "sequence") {
		t.Errorf("warnings %v, plan %s", res.Warnings, res.Plan)
	}
	if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); err != nil || c.sequence("numbers") != "0,5000,10" {
		t.Fatalf("%s, %v", c.sequence("numbers"), err)
	}
	complete := func() {
		t.Helper()
		if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	c.create(o)
	complete()
	if got := c.sequence("numbers"); got != "0,5000,10" {
		t.Errorf("lowered to %s", got)
	}
	for _, shard := range c.targets {
		c.dst.MustExec(t, "DELETE FROM "+c.targetDB(shard)+".customer")
	}
	c.create(o)
	c.dst.MustExec(t, "INSERT INTO "+c.targetDB("80-")+".customer VALUES (6000, 1, 'x')")
	complete()
	if got := c.sequence("numbers"); got != "0,6001,10" || c.auto("customer") != "id numbers" || c.entry("numbers") != "sequence" {
		t.Errorf("raised to %s, by %s, %s", got, c.auto("customer"), c.entry("numbers"))
	}
}

// A sequence that was made and is in use stays when the workflow is cancelled.
func TestReplaceInUse(t *testing.T) {
	c := newReplace(t)
	o := c.options()
	o.NoAutoStart = true
	for name, use := range map[string]func(){
		"has handed ids out": func() { c.dst.MustExec(t, "UPDATE vt_"+c.seqs+".customer_seq SET next_id = 1001") },
		"another table uses it": func() {
			c.setVSchema(c.ks, func(v *topo.VSchema) {
				v.Tables["orders"].AutoIncrement = &topo.AutoIncrement{Column: "id", Sequence: "customer_seq"}
			})
		},
	} {
		c.create(o)
		use()
		if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
			t.Fatal(err)
		}
		c.clean("")
		if c.sequence("customer_seq") == "" {
			t.Errorf("%s, and it is gone", name)
		}
		c.dst.MustExec(t, "DROP TABLE vt_"+c.seqs+".customer_seq")
		c.setVSchema(c.ks, func(v *topo.VSchema) { v.Tables["orders"].AutoIncrement = nil })
	}
	// A Create that fails leaves none.
	m := c.migrator(migrate.Options{Trace: migrate.Trace{StepStarting: func(_ context.Context, _ string, s migrate.Step) {
		if s.Kind == migrate.StepReady && s.Shard == "80-" {
			if c.sequence("customer_seq") != "0,1,1000" {
				t.Errorf("sequence %q", c.sequence("customer_seq"))
			}
			c.dst.MustExec(t, "DELETE FROM "+c.sidecar+".vreplication WHERE db_name = '"+c.targetDB("80-")+"'")
		}
	}}})
	if _, err := m.Workflow(c.ks+".wf").Create(t.Context(), o); err == nil {
		t.Error("Create did not fail")
	}
	if got := c.sequence("customer_seq"); got != "" {
		t.Errorf("left: %s", got)
	}
}

// Everything that is in the way of a sequence is told by Create, and what got in the way later by Complete, before it does anything.
func TestReplaceRefused(t *testing.T) {
	c := newReplace(t)
	refused := func(what string, change func(o *migrate.CreateOptions), code migrate.Code, object, part string) error {
		t.Helper()
		o := c.options()
		change(&o)
		_, err := c.workflow().Create(t.Context(), o)
		if f := finding(err, code, object); f == nil || !strings.Contains(f.Message, part) {
			t.Errorf("%s: %v", what, err)
		}
		return err
	}
	refused("no keyspace", func(o *migrate.CreateOptions) { o.GlobalKeyspace = "" }, migrate.CodeSequence, "GlobalKeyspace", "`customer`")
	err := refused("unknown keyspace", func(o *migrate.CreateOptions) { o.GlobalKeyspace = "nowhere" }, migrate.CodeSequence, "nowhere", "nowhere")
	if !errors.Is(err, migrate.ErrNotFound) {
		t.Errorf("unknown keyspace: %v", err)
	}
	refused("sharded keyspace", func(o *migrate.CreateOptions) { o.GlobalKeyspace = c.ks }, migrate.CodeSequence, c.ks, "sharded")
	c.dst.MustExec(t, "CREATE DATABASE vt_"+c.seqs+"; CREATE VIEW vt_"+c.seqs+".customer_seq AS SELECT 1")
	refused("a view", func(*migrate.CreateOptions) {}, migrate.CodeSequence, "customer", "it is a view")
	c.dst.MustExec(t, "DROP VIEW vt_"+c.seqs+".customer_seq")
	c.clean("")

	o := c.options()
	o.NoAutoStart = true
	c.create(o)
	for what, tc := range map[string]struct {
		change, back func()
		part         string
	}{
		"entry removed": {
			func() { c.setVSchema(c.ks, func(v *topo.VSchema) { delete(v.Tables, "customer") }) },
			func() {
				c.setVSchema(c.ks, func(v *topo.VSchema) {
					v.Tables["customer"] = &topo.Table{ColumnVindexes: []topo.ColumnVindex{{Column: "id", Name: "bits"}}}
				})
			}, `add {"tables":{"customer":{"column_vindexes":[{"column":"id","name":"bits"}]}}}`,
		},
		"entry changed": {
			func() {
				c.setVSchema(c.ks, func(v *topo.VSchema) { v.Tables["customer"].ColumnVindexes[0].Column = "org" })
			},
			func() {
				c.setVSchema(c.ks, func(v *topo.VSchema) { v.Tables["customer"].ColumnVindexes[0].Column = "id" })
			}, "places its rows by",
		},
		"another sequence": {
			func() {
				c.setVSchema(c.ks, func(v *topo.VSchema) {
					v.Tables["customer"].AutoIncrement = &topo.AutoIncrement{Column: "id", Sequence: "x"}
				})
			},
			func() { c.setVSchema(c.ks, func(v *topo.VSchema) { v.Tables["customer"].AutoIncrement = nil }) }, "is now id by x",
		},
		"no sequence any more": {
			func() {
				c.setVSchema(c.seqs, func(v *topo.VSchema) { v.Tables = map[string]*topo.Table{"customer_seq": {}} })
			},
			func() { c.setVSchema(c.seqs, func(v *topo.VSchema) { v.Tables = nil }) }, `not "sequence"`,
		},
		"an id too high": {
			func() {
				c.dst.MustExec(t, "INSERT INTO "+c.targetDB("80-")+".customer VALUES (18446744073709551615, 1, 'x')")
			},
			func() { c.dst.MustExec(t, "DELETE FROM "+c.targetDB("80-")+".customer") }, "18446744073709551615: a sequence hands out ids up to",
		},
	} {
		tc.change()
		_, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true})
		if err == nil || !strings.Contains(err.Error(), tc.part) || what != "an id too high" && !errors.Is(err, migrate.ErrNotReady) {
			t.Errorf("%s: %v", what, err)
		}
		if st, err := c.workflow().Show(t.Context()); err != nil || st.State != migrate.StateStopped {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
		tc.back()
	}
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if got := c.sequence("customer_seq"); got != "0,1,1000" {
		t.Errorf("a table without rows: %s", got)
	}
}

// What is on the target already may count or not: the rows that are moved have their ids.
func TestRemoveFromExisting(t *testing.T) {
	c := newReplace(t)
	without := strings.Replace(customerTable, "NOT NULL AUTO_INCREMENT", "NOT NULL", 1)
	c.dst.MustExec(t, fmt.Sprintf("CREATE DATABASE %[1]s; USE %[1]s; %s; CREATE DATABASE %[3]s; USE %[3]s; %s", c.targetDB("-80"), without, c.targetDB("80-"), customerTable))
	o := migrate.CreateOptions{Source: "ext1.src", Tables: []string{"customer"}, NoAutoStart: true}
	leave := o
	leave.AutoIncrement = migrate.AutoIncrementLeave
	if _, err := c.workflow().Create(t.Context(), leave); finding(err, migrate.CodeDifferent, "customer") == nil {
		t.Errorf("Leave: %v", err)
	}
	err := c.ts.UpdateShard(t.Context(), c.ks, "80-", func(s *topo.Shard) error {
		s.TabletControls = []topo.TabletControl{{TabletType: topo.TabletPrimary, DeniedTables: []string{"customer"}}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, f := range c.create(o).Warnings {
		codes = append(codes, string(f.Code)+" "+f.Object)
	}
	want := "denied_tables " + c.ks + "/80-, auto_increment customer, auto_increment customer"
	if got := strings.Join(codes, ", "); got != want {
		t.Errorf("warnings %s, want %s", got, want)
	}
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if shard, err := c.ts.Shard(t.Context(), c.ks, "80-"); err != nil || len(shard.TabletControls) != 1 {
		t.Errorf("what others deny was changed: %+v, %v", shard, err)
	}
}

// A cell that does not answer stops Complete with its name, the others are told, and the next call goes on.
func TestCompleteUnreachableCell(t *testing.T) {
	c := newCluster(t, migrate.Options{}, smallSchema)
	store, down := memorytopo.New(), atomic.Bool{}
	c.ts = newTopologyWith(t, func(ctx context.Context, a topo.Address) (topo.Conn, error) {
		if a.Root == "/zone2" && down.Load() {
			return nil, fmt.Errorf("zone2: %w", topo.ErrUnreachable)
		}
		return store.Open(ctx, a)
	}, c.ks, c.dst.Host, c.dst.Port)
	if err := c.ts.CreateCell(t.Context(), topo.CellInfo{Name: "zone2", Root: "/zone2"}); err != nil {
		t.Fatal(err)
	}
	if err := mount.Register(t.Context(), c.ts, mount.Cluster{Name: "ext1", Type: mount.MySQL, Hosts: []string{c.src.Addr()}}, mount.RegisterOptions{Credentials: root, SkipChecks: true}); err != nil {
		t.Fatal(err)
	}
	c.m = c.migrator(migrate.Options{})
	c.create(migrate.CreateOptions{NoAutoStart: true})
	down.Store(true)
	_, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true})
	if e, ok := errors.AsType[*topo.CellError](err); !ok || len(e.Cells) != 1 || e.Cells["zone2"] == nil || !strings.Contains(err.Error(), "rebuild SrvVSchema") {
		t.Fatalf("%v", err)
	}
	if st, err := c.workflow().Show(t.Context()); err != nil || st.State != migrate.StateCompleting {
		t.Errorf("%+v, %v", st, err)
	}
	if _, served := c.published(); served != "customer plain" {
		t.Errorf("zone1 serves %q", served)
	}
	down.Store(false)
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if srv, err := c.ts.SrvVSchema(t.Context(), "zone2"); err != nil || len(srv.Keyspaces[c.ks].Tables) != 2 {
		t.Errorf("zone2 serves %+v, %v", srv, err)
	}
	c.clean("customer", "plain")
}

func ExampleParseAutoIncrement() {
	h, err := migrate.ParseAutoIncrement("replace")
	fmt.Println(h, err)
	_, err = migrate.ParseAutoIncrement("keep")
	fmt.Println(err)
	// Output:
	// REPLACE <nil>
	// option AutoIncrement: "keep" is not REMOVE, LEAVE or REPLACE
}

// The ids of tables that are spread over shards come from sequences in the keyspace lookup, which is not sharded.
func ExampleWorkflow_Create_sequences() {
	create := func(ctx context.Context, m *migrate.Migrator) error {
		res, err := m.Workflow("customer.wf").Create(ctx, migrate.CreateOptions{
			Source: "ext1.load", AllTables: true, AutoIncrement: migrate.AutoIncrementReplace, GlobalKeyspace: "lookup",
		})
		if err != nil {
			return err
		}
		for _, w := range res.Warnings {
			fmt.Println(w)
		}
		return nil
	}
	_ = create
}
