package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/vdiff"
)

// sameRows compares what a query gives on the source with what another one gives on the target.
func (c *cluster) sameRows(source, target string) {
	c.t.Helper()
	want, got := c.src.MustQuery(c.t, source), c.dst.MustQuery(c.t, target)
	text := func(rows [][]string) []string {
		out := make([]string, len(rows))
		for i, r := range rows {
			out[i] = strings.Join(r, " | ")
		}
		slices.Sort(out)
		return out
	}
	a, b := text(want), text(got)
	if !slices.Equal(a, b) {
		c.t.Errorf("%s: %d rows; %s: %d rows", source, len(a), target, len(b))
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				c.t.Errorf("first difference: %s, on the target %s", a[i], b[i])
				break
			}
		}
	}
}

// write changes the source until the test stops it, or a few thousand times.
func (c *cluster) write(statement func(*rand.Rand) string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		rnd := rand.New(rand.NewPCG(7, 8))
		for n := 0; ctx.Err() == nil && n < 5000; n++ {
			if err := c.src.Exec(context.WithoutCancel(ctx), "USE "+c.db+"; "+statement(rnd)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(stop)
	return stop
}

// vdiff compares both ends by the library's own means.
func (c *cluster) vdiff() {
	c.t.Helper()
	r, err := vdiff.New(c.workflow()).Create(c.t.Context(), vdiff.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	if !r.Equal() {
		c.t.Errorf("%v", r)
	}
}

const filterSchema = "CREATE TABLE users (id INT PRIMARY KEY, mail VARCHAR(50), note TEXT, KEY (mail));" +
	"CREATE TABLE orders (id INT NOT NULL AUTO_INCREMENT, code INT NOT NULL, buyer INT, state ENUM('new', 'paid', 'void'), total DECIMAL(10, 2), note VARCHAR(100)," +
	" PRIMARY KEY (id), UNIQUE KEY code (code), KEY by_note (note), KEY by_total (total), CONSTRAINT buys FOREIGN KEY (buyer) REFERENCES users (id));" +
	"CREATE TABLE plain (id INT PRIMARY KEY, v INT)"

// TestFilters: some rows and columns under other names, while rows enter and leave.
func TestFilters(t *testing.T) {
	c := newCluster(t, migrate.Options{}, filterSchema)
	c.fill("users", "id, mail, note", "i, CONCAT('m', i, '@x'), REPEAT('n', 200)", 50)
	c.fill("orders", "code, buyer, state, total, note", "i, 1 + i % 50, 1 + i % 3, i % 100, REPEAT('o', i % 90)", 3000)
	c.src.MustExec(t, "INSERT INTO "+c.db+".plain VALUES (1, 1)")
	stop := c.write(func(r *rand.Rand) string {
		id := 1 + r.IntN(3200)
		switch r.IntN(6) {
		case 0:
			return fmt.Sprintf("DELETE FROM orders WHERE id = %d", id)
		case 1:
			return fmt.Sprintf("INSERT IGNORE INTO orders (id, code, buyer, state, total) VALUES (%d, %d, NULL, 'paid', %d)", id, id+10_000, r.IntN(40))
		case 2:
			return fmt.Sprintf("UPDATE IGNORE orders SET code = code + 1, note = 'x%d' WHERE id = %d", id, id)
		default:
			return fmt.Sprintf("UPDATE orders SET state = %d, total = %d WHERE id BETWEEN %d AND %d", 1+r.IntN(3), r.IntN(40), id, id+2)
		}
	})
	c.run(c.m)
	res := c.create(migrate.CreateOptions{AllTables: true, Filters: map[string]string{
		"sales":  "select id as sale_id, code, buyer as customer_id, total, state from orders where state <> 'void' and (total >= 10 or buyer is null)",
		"people": "select id as person_id, mail from users",
	}})
	if got := strings.Join(res.Created, " "); got != "people plain sales" {
		t.Errorf("created %s", got)
	}
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0].Message, "by_note") {
		t.Errorf("warnings %v", res.Warnings)
	}
	st := c.await(migrate.StateRunning)
	stop()
	c.caughtUp()
	c.sameRows("SELECT id, code, buyer, total, state FROM "+c.db+".orders WHERE state <> 'void' AND (total >= 10 OR buyer IS NULL)", "SELECT sale_id, code, customer_id, total, state FROM "+c.vt+".sales")
	c.sameRows("SELECT id, mail FROM "+c.db+".users", "SELECT person_id, mail FROM "+c.vt+".people")
	c.equal("plain")
	c.vdiff()
	create := c.dst.MustQuery(t, "SHOW CREATE TABLE "+c.vt+".sales")[0][1]
	for _, part := range []string{"`sale_id` int NOT NULL AUTO_INCREMENT", "UNIQUE KEY `code` (`code`)", "KEY `by_total`", "FOREIGN KEY (`customer_id`) REFERENCES `people` (`person_id`)"} {
		if !strings.Contains(create, part) {
			t.Errorf("no %s in %s", part, create)
		}
	}
	for _, table := range st.Tables {
		if want := map[string]string{"sales": "orders", "people": "users"}[table.Table]; table.Source != want || (table.Rule != "") != (want != "") {
			t.Errorf("Show says %+v", table)
		}
	}
	if text := one(t, c.dst, "SELECT source FROM "+c.sidecar+".vreplication"); !strings.Contains(text, `match:"people" filter:"select id as person_id, mail from users"`) {
		t.Errorf("source %s", text)
	}
	exec := replication.OnDDLExec
	if _, err := c.workflow().Update(t.Context(), migrate.UpdateOptions{OnDDL: &exec}); err == nil || !strings.Contains(err.Error(), "EXEC") {
		t.Errorf("a policy that needs the source's names: %v", err)
	}
	_, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{SourceTables: migrate.DropSourceTables})
	if bad, ok := errors.AsType[*migrate.OptionError](err); !ok || bad.Option != "SourceTables" {
		t.Errorf("dropping tables of which rows stay behind: %v", err)
	}
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.clean("people", "plain", "sales")
	if v, _ := c.published(); v != "people plain sales" {
		t.Errorf("published %s", v)
	}
}

// TestFiltersIntoExisting: a table that is there must be what the rule makes; keys and their order of columns count too.
func TestFiltersIntoExisting(t *testing.T) {
	c := newCluster(t, migrate.Options{}, "CREATE TABLE a (x INT NOT NULL, y INT NOT NULL, z INT, PRIMARY KEY (x), UNIQUE KEY yz (y, z), UNIQUE KEY y (y))", "INSERT INTO a VALUES (1, 2, 3)")
	c.dst.MustExec(t, "CREATE DATABASE "+c.vt+"; USE "+c.vt+"; CREATE TABLE b (y INT NOT NULL, z INT, UNIQUE KEY yz (y, z), UNIQUE KEY y (y)); CREATE TABLE c LIKE b; ALTER TABLE c DROP KEY yz")
	create := func(target string) error {
		_, err := c.workflow().Create(t.Context(), migrate.CreateOptions{Source: "ext1." + c.db, Filters: map[string]string{target: "select z, y from a"}})
		return err
	}
	if err := create("c"); !hasCode(err, migrate.CodeDifferent) {
		t.Errorf("a key is missing: %v", err)
	}
	if err := create("b"); err != nil {
		t.Fatal(err)
	}
	// The primary key is not taken: rows are told apart by the other one.
	c.run(c.m)
	c.await(migrate.StateRunning)
	c.src.MustExec(t, "INSERT INTO "+c.db+".a VALUES (2, 3, NULL); UPDATE "+c.db+".a SET x = 9, z = 4 WHERE y = 2; DELETE FROM "+c.db+".a WHERE y = 3; INSERT INTO "+c.db+".a VALUES (4, 5, 6)")
	c.caughtUp()
	c.sameRows("SELECT y, z FROM "+c.db+".a", "SELECT y, z FROM "+c.vt+".b")
	if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
		t.Fatal(err)
	}
	c.clean("b", "c")
}

func hasCode(err error, code migrate.Code) bool {
	e, ok := errors.AsType[*migrate.PreflightError](err)
	return ok && slices.ContainsFunc(e.Findings, func(f migrate.Finding) bool { return f.Code == code })
}

// TestFiltersRefused: what can't be done is said before anything is made.
func TestFiltersRefused(t *testing.T) {
	c := newCluster(t, migrate.Options{}, filterSchema)
	for name, o := range map[string]migrate.CreateOptions{
		"LIMIT":          {Filters: map[string]string{"orders": "select * from orders limit 1"}},
		"function":       {Filters: map[string]string{"orders": "select lower(note) as n, id from orders"}},
		"near":           {Filters: map[string]string{"orders": "-80"}},
		"more than one":  {Filters: map[string]string{"a": "select * from orders", "b": "select * from orders"}},
		"ExcludeTables":  {AllTables: true, ExcludeTables: []string{"orders"}, Filters: map[string]string{"a": "select * from orders"}},
		"no such column": {Filters: map[string]string{"orders": "select id, missing from orders"}},
		"identifying":    {Filters: map[string]string{"orders": "select total from orders"}},
		"comparing":      {Filters: map[string]string{"orders": "select * from orders where note = 5"}},
		"not in data":    {Filters: map[string]string{"a": "select * from missing"}},
		"another table":  {AllTables: true, Filters: map[string]string{"plain": "select * from orders"}},
		"TenantID":       {AllTables: true, TenantID: "5"},
		"EXEC":           {Filters: map[string]string{"a": "select * from orders", "users": "select * from users"}, OnDDL: replication.OnDDLExec},
	} {
		o.Source = "ext1." + c.db
		if _, err := c.workflow().Create(t.Context(), o); err == nil || !strings.Contains(err.Error(), strings.Split(name, " data")[0]) {
			t.Errorf("%s: %v", name, err)
		}
		c.clean()
	}
}

// TestTenants: the rows of two tenants come from one table each into one that they share; one is cancelled.
func TestTenants(t *testing.T) {
	c := newCluster(t, migrate.Options{}, "CREATE TABLE notes (tenant_id VARCHAR(20), id INT, v VARCHAR(20), PRIMARY KEY (tenant_id, id), KEY (id)); CREATE TABLE ids (id INT PRIMARY KEY, tenant_id VARCHAR(20)); CREATE TABLE tags (owner VARCHAR(20), tag VARCHAR(20), PRIMARY KEY (owner, tag))")
	vs, err := topo.ParseVSchema([]byte(`{"multi_tenant_spec": {"tenant_id_column_name": "tenant_id", "tenant_id_column_type": "VARCHAR"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ts.SaveVSchema(t.Context(), c.ks, vs); err != nil {
		t.Fatal(err)
	}
	c.fill("notes", "tenant_id, id, v", "ELT(1 + i % 3, 'acme', 'Zeta', 'other'), i, i", 6000)
	c.src.MustExec(t, "INSERT INTO "+c.db+".ids VALUES (1, 'acme'), (2, 'zeta'), (3, 'x')")
	c.fill("tags", "owner, tag", "ELT(1 + i % 3, 'ACME', 'zeta', 'other'), i", 300)
	stop := c.write(func(r *rand.Rand) string {
		id := r.IntN(6000)
		return fmt.Sprintf("UPDATE notes SET tenant_id = '%s', v = %d WHERE id = %d; DELETE FROM tags WHERE tag = %d; INSERT INTO tags VALUES ('%s', '%d')",
			[]string{"acme", "zeta", "other", "ACME"}[r.IntN(4)], r.IntN(100), id, id, []string{"acme", "zeta", "x"}[r.IntN(3)], id)
	})
	c.src.MustExec(t, "CREATE TABLE "+c.db+".names (name VARCHAR(20) PRIMARY KEY, tenant_id VARCHAR(20))")
	c.run(c.m)
	of := func(tenant string) migrate.CreateOptions {
		return migrate.CreateOptions{Source: "ext1." + c.db, AllTables: true, TenantID: tenant, Filters: map[string]string{"labels": "select owner as tenant_id, tag from tags"}}
	}
	if _, err := c.workflow().Create(t.Context(), of("acme")); !hasCode(err, migrate.CodeUniqueKey) {
		t.Errorf("a key of all tenants that only the server compares: %v", err)
	}
	c.src.MustExec(t, "DROP TABLE "+c.db+".names")
	if created := c.create(of("acme")); len(created.Warnings) != 1 || created.Warnings[0].Code != migrate.CodeUniqueKey {
		t.Errorf("warnings %v", created.Warnings)
	}
	c.await(migrate.StateRunning)
	other := c.m.Workflow(c.ks + ".zeta")
	if _, err := other.Create(t.Context(), of("zeta")); err != nil {
		t.Fatal(err)
	}
	again := c.m.Workflow(c.ks + ".again")
	if _, err := again.Create(t.Context(), of("acme")); !hasCode(err, migrate.CodeNotEmpty) && !hasCode(err, migrate.CodeConflict) {
		t.Errorf("a tenant twice: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for st, err := range other.Watch(ctx, 0) {
		if err != nil || st.State == migrate.StateError {
			t.Fatalf("%v, %v", st, err)
		}
		if st.State == migrate.StateRunning {
			break
		}
	}
	stop()
	c.caughtUp()
	if err := other.WaitApplied(t.Context(), "0", c.position()); err != nil {
		t.Fatal(err)
	}
	c.sameRows("SELECT * FROM "+c.db+".notes WHERE tenant_id IN ('acme', 'zeta')", "SELECT * FROM "+c.vt+".notes")
	c.sameRows("SELECT * FROM "+c.db+".tags WHERE owner IN ('acme', 'zeta')", "SELECT * FROM "+c.vt+".labels")
	c.vdiff()
	repair := replication.OnDriftRepair
	if _, err := c.workflow().Update(t.Context(), migrate.UpdateOptions{OnDrift: &repair}); err == nil || !strings.Contains(err.Error(), "REPAIR") {
		t.Errorf("repairs in tables of several tenants: %v", err)
	}
	// The first has made the tables; they stay, with the rows of the other.
	res, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{DeleteBatch: 100})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Dropped) > 0 {
		t.Errorf("dropped %v", res.Dropped)
	}
	c.sameRows("SELECT * FROM "+c.db+".notes WHERE tenant_id = 'zeta'", "SELECT * FROM "+c.vt+".notes")
	if _, err := other.Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"notes", "labels", "ids"} {
		if n := one(t, c.dst, "SELECT COUNT(*) FROM "+c.vt+"."+table); n != "0" {
			t.Errorf("%s rows are left in %s", n, table)
		}
	}
}

// TestZonedKeys: a DATETIME that is converted may be a key, and be what a rule looks at, as the source has it.
func TestZonedKeys(t *testing.T) {
	c := newCluster(t, migrate.Options{}, "CREATE TABLE ticks (at DATETIME(1) PRIMARY KEY, v INT); CREATE TABLE gen (id INT PRIMARY KEY, at DATETIME, d DATE AS (DATE(at)) STORED, UNIQUE KEY (d))")
	c.src.MustExec(t, "INSERT INTO "+c.db+".ticks VALUES ('2026-10-25 01:30:00', 1), ('2026-10-25 02:30:00.5', 2), ('2026-10-25 03:00:00', 3), ('2025-01-01 00:30:00', 4)")
	o := migrate.CreateOptions{SourceTimeZone: "Europe/Berlin", Source: "ext1." + c.db, AllTables: true, Filters: map[string]string{"ticks": "select * from ticks where at >= '2025-12-31'"}}
	if _, err := c.workflow().Create(t.Context(), o); !hasCode(err, migrate.CodeUnsupported) {
		t.Errorf("a generated key: %v", err)
	}
	o.ExcludeTables = []string{"gen"}
	c.run(c.m)
	c.create(o)
	c.await(migrate.StateRunning)
	c.src.MustExec(t, "USE "+c.db+"; UPDATE ticks SET v = 22 WHERE v = 2; DELETE FROM ticks WHERE v = 3; UPDATE ticks SET at = '2026-07-01 00:00:00' WHERE v = 1; UPDATE ticks SET at = '2026-01-01 00:00:00' WHERE v = 4; INSERT INTO ticks VALUES ('2025-12-30 23:59:59', 5)")
	c.caughtUp()
	got := fmt.Sprint(c.dst.MustQuery(t, "SELECT * FROM "+c.vt+".ticks ORDER BY at"))
	if want := "[[2025-12-31 23:00:00.0 4] [2026-06-30 22:00:00.0 1] [2026-10-25 00:30:00.5 22]]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c.vdiff()
}

// TestFiltersSharded: what is taken goes to the shards of the target by a column that has another name there, and moves with it.
func TestFiltersSharded(t *testing.T) {
	vschema := `{"sharded": true, "vindexes": {"h": {"type": "reverse_bits"}}, "tables": {"sales": {"column_vindexes": [{"column": "customer", "name": "h"}]}, "nation": {"type": "reference"}}}`
	c := newSharded(t, []string{"-80", "80-"}, []string{"-40", "40-c0", "c0-"}, vschema, unplacedVSchema)
	for i, shard := range c.sources {
		c.src.MustExec(t, fmt.Sprintf(`USE %s; SET SESSION cte_max_recursion_depth = 100000;
			INSERT INTO orders WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT i * 2 + %d, i * 7919, CONCAT('n', i %% 10) FROM n;
			INSERT INTO country VALUES ('de', 'Germany'), ('pt', 'Portugal')`, c.sourceDB(shard), i))
	}
	c.run(c.m)
	c.create(migrate.CreateOptions{Source: "ext1.src", Filters: map[string]string{
		"sales": "select owner as customer, id as sale from orders where note in ('N1', 'n2', 'n3') and not id between 100 and 200", "nation": "select code from country",
	}})
	for i, shard := range c.sources {
		for n := range 40 {
			c.src.MustExec(t, fmt.Sprintf(`USE %s; UPDATE orders SET owner = owner + %d, note = CONCAT('n', (id + %d) %% 10) WHERE id %% 41 = %d; DELETE FROM orders WHERE id = %d; INSERT INTO orders VALUES (%d, %d, 'n1')`,
				c.sourceDB(shard), n+1, n, n, n*20+i, 100_000+n*2+i, n*13))
		}
	}
	c.await(migrate.StateRunning)
	for _, shard := range c.sources {
		c.src.MustExec(t, "UPDATE "+c.sourceDB(shard)+".orders SET owner = owner + 1 WHERE id < 500")
	}
	c.level()
	from := c.rows(c.src, c.databases(c.sources, c.sourceDB), "SELECT owner, id FROM %s.orders WHERE note IN ('N1', 'n2', 'n3') AND NOT id BETWEEN 100 AND 200")
	to := c.rows(c.dst, c.databases(c.targets, c.targetDB), "SELECT customer, sale FROM %s.sales")
	if len(from) != len(to) || len(from) < 100 {
		t.Errorf("%d rows at the source, %d on the target", len(from), len(to))
	}
	for row := range from {
		if len(to[row]) != 1 {
			t.Errorf("row %s is on %v", row, to[row])
			break
		}
	}
	c.vdiff() // looks at the shards too
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); err != nil {
		t.Fatal(err)
	}
}
