package migrate_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/topo"
)

// published are the tables in the keyspace's VSchema, and in what the cell serves.
func (c *cluster) published() (vschema, served string) {
	c.t.Helper()
	v, err := c.ts.VSchema(c.t.Context(), c.ks)
	if err != nil {
		c.t.Fatal(err)
	}
	names := func(v *topo.VSchema) string {
		var names []string
		if v != nil {
			for n := range v.Tables {
				names = append(names, n)
			}
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	srv, err := c.ts.SrvVSchema(c.t.Context(), "zone1")
	if errors.Is(err, topo.ErrNoNode) {
		return names(v), ""
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return names(v), names(srv.Keyspaces[c.ks])
}

// A stopped workflow is completed only by force; that publishes, adds the keys that are missing, and removes every trace.
func TestCompleteForced(t *testing.T) {
	c := newCluster(t, migrate.Options{}, shopSchema)
	c.create(migrate.CreateOptions{NoAutoStart: true})
	err := c.ts.UpdateVSchema(t.Context(), c.ks, func(v *topo.VSchema) error {
		v.Tables = map[string]*topo.Table{"orders": {Type: "reference"}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.workflow().Complete(t.Context(), migrate.CompleteOptions{})
	if e, ok := errors.AsType[*migrate.NotReadyError](err); !ok || !errors.Is(err, migrate.ErrNotReady) || e.State != migrate.StateStopped {
		t.Fatalf("a stopped workflow: %v", err)
	}
	res, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true, DryRun: true})
	if err != nil || !strings.Contains(res.Plan.String(), "publish "+c.ks+": tables customer, orders, plain") || len(res.Done) > 0 {
		t.Fatalf("plan %v, %v", res, err)
	}
	if v, srv := c.published(); v != "orders" || srv != "" {
		t.Errorf("a dry run has published %q, %q", v, srv)
	}
	res, err = c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true})
	if err != nil || !slices.Equal(res.Published, []string{"customer", "plain"}) {
		t.Fatalf("%+v, %v", res, err)
	}
	if v, srv := c.published(); v != "customer orders plain" || srv != v {
		t.Errorf("published %q, served %q", v, srv)
	}
	if v, err := c.ts.VSchema(t.Context(), c.ks); err != nil || v.Tables["orders"].Type != "reference" {
		t.Errorf("an entry that was there is %+v, %v", v.Tables["orders"], err)
	}
	if got, want := c.keys(), "customer.PRIMARY customer.email customer.name orders.PRIMARY orders.belongs orders.note orders.placed plain.ab plain.v"; got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
	c.clean("customer", "orders", "plain")
	if got := c.tables(c.src, c.db); got != "_orders_gho ann customer orders plain" {
		t.Errorf("the source has %s", got)
	}
	if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); !errors.Is(err, migrate.ErrNotFound) {
		t.Errorf("second Complete: %v", err)
	}
}

func TestCompleteSourceTables(t *testing.T) {
	for _, tc := range []struct {
		what migrate.SourceTables
		left string
	}{
		{migrate.KeepSourceTables, "customer plain"},
		{migrate.RenameSourceTables, "_customer_old _plain_old"},
		{migrate.DropSourceTables, ""},
	} {
		t.Run("SourceTables "+string(tc.what), func(t *testing.T) {
			c := newCluster(t, migrate.Options{}, smallSchema)
			o := migrate.CompleteOptions{Force: true, SourceTables: tc.what}
			// A crash before each step in turn, and the next call goes on; its options are those of the first.
			for n := 1; ; n++ {
				c.create(migrate.CreateOptions{NoAutoStart: true})
				plan, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true, SourceTables: tc.what, DryRun: true})
				if err != nil {
					t.Fatal(err)
				}
				if n >= len(plan.Plan.Steps) {
					break
				}
				crash(t, func() error { return second(c.crashAt(n).Workflow(c.ks+".wf").Complete(t.Context(), o)) })
				if st, err := c.workflow().Show(t.Context()); err != nil || st.State != migrate.StateCompleting {
					t.Fatalf("after step %d: %+v, %v", n, st, err)
				}
				for name, err := range map[string]error{
					"cancelled": second(c.workflow().Cancel(t.Context(), migrate.CancelOptions{})), "started": c.workflow().Start(t.Context()),
				} {
					if !is[*migrate.RefusedError](err) {
						t.Errorf("half a completed workflow can be %s: %v", name, err)
					}
				}
				if _, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{}); err != nil {
					t.Fatalf("after step %d: %v", n, err)
				}
				c.clean("customer", "plain")
				if got := c.tables(c.src, c.db); got != tc.left {
					t.Errorf("after step %d the source has %s, want %s", n, got, tc.left)
				}
				// Start over.
				c.dst.MustExec(t, "DROP DATABASE "+c.vt)
				c.src.MustExec(t, "DROP DATABASE "+c.db+"; CREATE DATABASE "+c.db+"; USE "+c.db+"; "+smallSchema)
			}
		})
	}
}

// What would keep the source's tables from being renamed or dropped is told before anything is done.
func TestCompleteSourceRefused(t *testing.T) {
	c := newCluster(t, migrate.Options{}, shopSchema, "CREATE TABLE _plain_old (id INT NOT NULL PRIMARY KEY)")
	c.create(migrate.CreateOptions{NoAutoStart: true, Tables: []string{"customer", "plain"}})
	_, err := c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true, SourceTables: migrate.DropSourceTables})
	if f := finding(err, migrate.CodeForeignKey, "customer"); f == nil || !strings.Contains(f.Message, "`orders`, which stays") {
		t.Errorf("drop: %v", err)
	}
	_, err = c.workflow().Complete(t.Context(), migrate.CompleteOptions{Force: true, SourceTables: migrate.RenameSourceTables})
	if f := finding(err, migrate.CodeName, "plain"); f == nil {
		t.Errorf("rename: %v", err)
	}
	if st, err := c.workflow().Show(t.Context()); err != nil || st.State != migrate.StateStopped {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := c.workflow().Cancel(t.Context(), migrate.CancelOptions{}); err != nil {
		t.Fatal(err)
	}
	c.clean()
}
