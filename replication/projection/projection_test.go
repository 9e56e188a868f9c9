package projection_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/projection"
)

// orders has a key of two columns, another one that could identify rows, and one that could not.
func orders() *replication.Table {
	return &replication.Table{
		Schema: "shop", Name: "orders", Ordered: true,
		Columns: []replication.Column{
			{Name: "tenant", Kind: replication.KindInt},
			{Name: "id", Kind: replication.KindInt},
			{Name: "code", Kind: replication.KindInt},
			{Name: "note", Kind: replication.KindText, Collation: "utf8mb4_0900_ai_ci", Nullable: true},
			{Name: "user", Kind: replication.KindInt},
		},
		Primary:     replication.Index{Name: "PRIMARY", Columns: []int{0, 1}, Exact: true},
		Unique:      []replication.Index{{Name: "code", Columns: []int{2}, Exact: true}, {Name: "note", Columns: []int{3}}},
		ForeignKeys: []replication.ForeignKey{{Name: "of", Columns: []int{4}, Parent: "users", ParentColumns: []string{"id"}, OnDelete: replication.ActionCascade}},
	}
}

func users() *replication.Table {
	return &replication.Table{
		Schema: "shop", Name: "users", Ordered: true, Columns: []replication.Column{{Name: "id", Kind: replication.KindInt}, {Name: "mail", Kind: replication.KindBlob}},
		Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}, Exact: true}, Unique: []replication.Index{{Name: "mail", Columns: []int{1}, Exact: true}},
	}
}

// odd takes rows whose column is an odd number.
type odd int

func (o odd) Match(_ context.Context, rows []replication.Row) ([]bool, error) {
	out := make([]bool, len(rows))
	for i, r := range rows {
		for range o {
			_, rest, err := r.Next()
			if err != nil {
				return nil, err
			}
			r = rest
		}
		v, _, err := r.Next()
		if err != nil {
			return nil, err
		}
		out[i] = len(v) > 0 && v[len(v)-1]%2 == 1
	}
	return out, nil
}

func (odd) Where() (string, string) { return "", "" }

func take(columns ...any) (out []projection.Column) {
	for i := 0; i < len(columns); i += 2 {
		out = append(out, projection.Column{Position: columns[i].(int), Name: columns[i+1].(string)})
	}
	return out
}

func TestTables(t *testing.T) {
	tables, err := projection.Tables([]projection.Spec{
		{Table: orders(), Name: "sales", Columns: take(4, "buyer", 2, "code", 0, "tenant")},
		{Table: users(), Name: "people", Columns: take(0, "person")},
	})
	if err != nil {
		t.Fatal(err)
	}
	sales, people := tables[0], tables[1]
	var names []string
	for _, c := range sales.Target.Columns {
		names = append(names, c.Name)
	}
	fk := sales.Target.ForeignKeys[0]
	for what, pair := range map[string][2]any{
		"columns":         {names, []string{"tenant", "code", "buyer"}},
		"key":             {sales.Target.Primary, replication.Index{Name: "code", Columns: []int{1}, Exact: true}},
		"other keys":      {len(sales.Target.Unique), 0},
		"lost keys":       {sales.LostKeys, []string{"PRIMARY", "note"}},
		"lost columns":    {sales.Lost(), []string{"id", "note"}},
		"foreign key":     {[]any{fk.Columns, fk.Parent, fk.ParentColumns}, []any{[]int{2}, "people", []string{"person"}}},
		"name":            {sales.Target.Name + " " + people.Target.Name, "sales people"},
		"people's losses": {people.LostKeys, []string{"mail"}},
	} {
		if fmt.Sprint(pair[0]) != fmt.Sprint(pair[1]) {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
}

func TestTablesRefused(t *testing.T) {
	family := users()
	family.Family = "users, orders"
	for name, c := range map[string]struct {
		specs []projection.Spec
		is    func(error) bool
	}{
		"no key": {[]projection.Spec{{Table: orders(), Columns: take(0, "tenant", 3, "note")}}, func(err error) bool {
			e, ok := errors.AsType[*projection.KeyError](err)
			return ok && slices.Equal(e.Columns, []string{"id"})
		}},
		"family, rows":    {[]projection.Spec{{Table: family, Filter: odd(0)}}, isFamily},
		"family, columns": {[]projection.Spec{{Table: family, Columns: take(0, "id")}}, isFamily},
		"table twice":     {[]projection.Spec{{Table: orders()}, {Table: users(), Name: "orders"}}, isName},
		"column twice":    {[]projection.Spec{{Table: users(), Columns: take(0, "a", 1, "A")}}, isName},
		"foreign key":     {[]projection.Spec{{Table: family, Name: "renamed"}}, func(err error) bool { return err == nil }},
	} {
		if _, err := projection.Tables(c.specs); !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	tables, err := projection.Tables([]projection.Spec{{Table: orders()}, {Table: users(), Columns: take(1, "mail")}})
	if err != nil || len(tables[0].Target.ForeignKeys) > 0 || !slices.Equal(tables[0].LostForeignKeys, []string{"of"}) {
		t.Errorf("a foreign key to a column that is not taken: %v", err)
	}
}

func isFamily(err error) bool { _, ok := errors.AsType[*projection.FamilyError](err); return ok }
func isName(err error) bool   { _, ok := errors.AsType[*projection.NameError](err); return ok }

// script is a Source of given transactions.
type script struct {
	replication.Source
	transactions []*replication.Transaction
}

func (s *script) Transactions(context.Context, replication.Position) iter.Seq2[*replication.Transaction, error] {
	return func(yield func(*replication.Transaction, error) bool) {
		for _, t := range s.transactions {
			if !yield(t, nil) {
				return
			}
		}
	}
}

func row(values ...string) replication.Row {
	var r replication.Row
	for _, v := range values {
		r = replication.AppendValue(r, []byte(v))
	}
	return r
}

// texts are changes as text, of a transaction in memory or not.
func texts(t *testing.T, tx *replication.Transaction) (out []string) {
	t.Helper()
	changes := tx.Changes
	if tx.Spill != nil {
		if err := tx.Spill.Each(func(c replication.Change) error { changes = append(changes, c); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := tx.Spill.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range changes {
		text := c.Table.Name
		for _, r := range []replication.Row{c.Before, c.After} {
			text += ":"
			if r == nil {
				continue
			}
			values, err := r.Values(nil, len(c.Table.Columns))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range values {
				text += string(v) + ","
			}
		}
		out = append(out, text)
	}
	return out
}

func TestTransactions(t *testing.T) {
	o, u := orders(), users()
	tables, err := projection.Tables([]projection.Spec{
		{Table: o, Name: "sales", Filter: odd(0), Columns: take(0, "tenant", 1, "id", 2, "code")}, {Table: u, Name: "people"},
	})
	if err != nil {
		t.Fatal(err)
	}
	order := func(tenant, id, code, note string) replication.Row { return row(tenant, id, code, note, "9") }
	changes := []replication.Change{
		{Table: o, After: order("1", "1", "10", "in")},
		{Table: o, After: order("2", "1", "11", "out")},
		{Table: o, Before: order("1", "1", "10", "in"), After: order("1", "1", "12", "stays")},
		{Table: o, Before: order("1", "1", "12", "stays"), After: order("1", "1", "12", "nothing that is taken changes")},
		{Table: o, Before: order("1", "1", "12", ""), After: order("2", "2", "12", "leaves")},
		{Table: u, Before: row("1", "a"), After: row("1", "b")},
		{Table: o, Before: order("2", "1", "11", ""), After: order("3", "3", "11", "enters")},
		{Table: o, Before: order("2", "2", "12", "")},
		{Table: o, Before: order("3", "3", "11", "")},
	}
	want := []string{"sales::1,1,10,", "sales:1,1,10,:1,1,12,", "sales:1,1,12,:", "people:1,a,:1,b,", "sales::3,3,11,", "sales:3,3,11,:"}
	for _, memory := range []int{0, 1, 100} { // all in memory, nothing, some
		spill, err := replication.NewSpill("")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if err := spill.Append(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := spill.Flush(); err != nil {
			t.Fatal(err)
		}
		ddl := &replication.DDL{Statement: "ALTER TABLE orders ..", Tables: []string{"orders", "users"}}
		inner := &script{transactions: []*replication.Transaction{{Changes: changes}, {Spill: spill}, {DDL: ddl}, {}}}
		src := projection.New(inner, tables, projection.Options{TransactionBytes: memory})
		n := 0
		for tx, err := range src.Transactions(t.Context(), replication.Position{}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n <= 2 {
				if (tx.Spill != nil) != (n == 2 && memory > 0) {
					t.Errorf("memory %d: transaction %d has a spill: %v", memory, n, tx.Spill != nil)
				}
				if got := texts(t, tx); !slices.Equal(got, want) {
					t.Errorf("memory %d: transaction %d is %q, want %q", memory, n, got, want)
				}
			}
			if tx.DDL != nil && strings.Join(tx.DDL.Tables, " ") != "sales people" {
				t.Errorf("a schema change of %q", tx.DDL.Tables)
			}
		}
		if n != 4 {
			t.Errorf("%d transactions: one of which nothing is taken moves the position too", n)
		}
		if err := spill.Each(func(replication.Change) error { return nil }); err == nil {
			t.Error("the source's spill is not closed")
		}
	}
}

// TestNewDefinition: a change with a definition that the projection was not made for ends the stream.
func TestNewDefinition(t *testing.T) {
	tables, err := projection.Tables([]projection.Spec{{Table: orders(), Name: "users"}})
	if err != nil {
		t.Fatal(err)
	}
	again, other := orders(), users()
	inner := &script{transactions: []*replication.Transaction{{Changes: []replication.Change{{Table: other, After: row("1", "x")}}}, {Changes: []replication.Change{{Table: again}}}}}
	var last error
	n := 0
	for tx, err := range projection.New(inner, tables, projection.Options{}).Transactions(t.Context(), replication.Position{}) {
		if n++; err == nil && len(tx.Changes) > 0 {
			t.Error("a table that is not taken, though the target has one of that name")
		}
		last = err
	}
	if _, ok := errors.AsType[*replication.SchemaChangedError](last); !ok || n != 2 {
		t.Errorf("transaction %d: %v", n, last)
	}
}

func ExampleTables() {
	tables, err := projection.Tables([]projection.Spec{{
		Table: orders(), Name: "sales", Columns: []projection.Column{{Position: 0, Name: "tenant_id"}, {Position: 1, Name: "id"}}, Filter: odd(0),
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tables[0].Target.Name, tables[0].Target.Columns[0].Name, "without", tables[0].Lost(), tables[0].LostKeys)
	// Output: sales tenant_id without [code note user] [code note]
}
