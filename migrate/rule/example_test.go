package rule_test

import (
	"context"
	"fmt"

	"github.com/tablehaul/tablehaul/migrate/rule"
	"github.com/tablehaul/tablehaul/replication"
)

// A rule that takes two columns of one tenant's rows, and one that asks for too much.
func ExampleParse() {
	r, err := rule.Parse("select id, tenant as tenant_id from orders where tenant = 7 and note is not null")
	if err != nil {
		fmt.Println(err)
		return
	}
	orders := &replication.Table{Name: "orders", Columns: []replication.Column{
		{Name: "id", Kind: replication.KindInt}, {Name: "tenant", Kind: replication.KindInt}, {Name: "note", Kind: replication.KindBlob, Nullable: true},
	}, Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}}}
	ctx := context.Background()
	f, err := r.Bind(ctx, orders, nil) // numbers need no server
	if err != nil {
		fmt.Println(err)
		return
	}
	row := func(values ...[]byte) replication.Row { return replication.PackRow(values...) }
	taken, err := f.Match(ctx, []replication.Row{row([]byte("1"), []byte("7"), []byte("x")), row([]byte("2"), []byte("7"), nil), row([]byte("3"), []byte("8"), []byte("y"))})
	fmt.Println(r.Table, r.Columns, taken, err)
	where, _ := f.Where()
	fmt.Println(where)
	_, err = rule.Parse("select count(*) from orders group by tenant")
	fmt.Println(err)
	// Output:
	// orders [{id id} {tenant tenant_id}] [true false false] <nil>
	// (s.`tenant`=7) AND (NOT (s.`note` IS NULL))
	// rule: GROUP BY is not supported
}
