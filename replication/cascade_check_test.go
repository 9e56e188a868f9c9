package replication_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tablehaul/tablehaul/replication"
)

func TestCheckCascades(t *testing.T) {
	if errs := replication.CheckCascades(kinTables); errs != nil {
		t.Errorf("a family that can be copied: %v", errs)
	}
	fk := func(parent, column string) replication.ForeignKey {
		return replication.ForeignKey{Name: "fk_" + parent, Columns: []int{2}, Parent: parent, ParentColumns: []string{column}, OnDelete: replication.ActionCascade}
	}
	elsewhere := fk("x", "id")
	elsewhere.ParentSchema = "other"
	for _, tc := range []struct {
		name   string
		tables []*replication.Table
		want   []string
	}{
		{"circle", []*replication.Table{kinTable("x", true, fk("y", "id")), kinTable("y", true, fk("z", "id")), kinTable("z", true, fk("x", "id"))}, []string{"of table x: it closes a circle", "of table y: it closes", "of table z: it closes"}},
		{"parent left out", []*replication.Table{kinTable("x", true, fk("y", "id"))}, []string{"fk_y of table x: it references table y, which is not copied"}},
		{"other schema", []*replication.Table{kinTable("x", true), kinTable("y", true, elsewhere)}, []string{"fk_x of table y: it references table x, which"}},
		{"no unique key", []*replication.Table{kinTable("x", true), kinTable("y", true, fk("x", "ref"))}, []string{"no unique key of table x"}},
	} {
		errs := replication.CheckCascades(tc.tables)
		if len(errs) != len(tc.want) {
			t.Errorf("%s: %v", tc.name, errs)
			continue
		}
		for i, want := range tc.want {
			if !strings.Contains(errs[i].Error(), want) {
				t.Errorf("%s: %v, want %s", tc.name, errs[i], want)
			}
		}
		err := replication.NewStream(nil, nil, tc.tables, replication.Options{}).Run(t.Context())
		if e, ok := errors.AsType[*replication.CascadeError](err); !ok || e.Table != errs[0].Table {
			t.Errorf("%s: the stream says %v", tc.name, err)
		}
		for _, table := range tc.tables {
			table.Family = ""
		}
		if errs := replication.CheckCascades(tc.tables); errs != nil {
			t.Errorf("%s, all logged: %v", tc.name, errs)
		}
	}
}

// What a stream can't know ends it; it is not passed over.
func TestCascadeRefused(t *testing.T) {
	parent, child := kinTable("b_parent", true), kinTable("a_child", true, kinChild.ForeignKeys...)
	plain := kinTable("b_parent", true)
	logged := kinTable("a_child", true, kinChild.ForeignKeys...)
	plain.Family, logged.Family = "", ""
	keyed := kinTable("a_child", true, kinChild.ForeignKeys...)
	keyed.Primary.Columns = []int{2}
	row := func(id, value, ref int) replication.Row { return kinRow{id, value, ref}.pack() }
	for _, tc := range []struct {
		name   string
		tables []*replication.Table
		copied map[string][]replication.Span
		tx     replication.Transaction
		want   string
	}{
		{
			"the server was to log it",
			[]*replication.Table{plain, logged},
			nil,
			replication.Transaction{Changes: []replication.Change{{Table: plain, Before: row(1, 1, 0), Cascade: true}}},
			"though this server would",
		},
		{
			"a child before its parent",
			[]*replication.Table{parent, child},
			map[string][]replication.Span{"a_child": {{}}},
			replication.Transaction{},
			"has to begin again",
		},
		{
			"the child's key changes",
			[]*replication.Table{parent, keyed},
			map[string][]replication.Span{"b_parent": {{}}, "a_child": {{Hi: replication.PackRow([]byte("5"))}}},
			replication.Transaction{Changes: []replication.Change{{Table: parent, Before: row(1, 1, 0), After: row(1, 2, 0), Cascade: true}}},
			"identifying key of rows",
		},
		{
			"foreign keys change",
			[]*replication.Table{parent, child},
			nil,
			replication.Transaction{DDL: &replication.DDL{Statement: "ALTER TABLE a_child ..", Tables: []string{"a_child"}, ForeignKeys: true}},
			"can't be ignored",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newKinWorld(1)
				for name, spans := range tc.copied {
					w.db.copied[name] = spans
				}
				w.db.started = true
				w.log = []kinTx{{tc.tx.Changes}}
				w.ddl = tc.tx.DDL
				w.visible = 0
				w.states = append(w.states, w.states[0])
				err := replication.NewStream(w, stillTarget{w}, tc.tables, replication.Options{}).Run(ctx)
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("the stream says %v, want %s", err, tc.want)
				}
			})
		})
	}
}

// stillTarget takes entries and executes none.
type stillTarget struct{ *kinWorld }

func (s stillTarget) Run(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}
