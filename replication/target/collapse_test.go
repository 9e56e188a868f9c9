package target_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/target"
)

// heap is a table with a key and a unique column whose values compare without case, as pairs is for the property test.
type heap map[string]replication.Row

// do makes a change; the error says what a server would.
func (h heap) do(c replication.Change, uniqueAt int) error {
	fold := func(r replication.Row, column int) string {
		values, err := r.Values(nil, 3)
		if err != nil {
			panic(err)
		}
		if values[column] == nil {
			return ""
		}
		return strings.ToLower(string(values[column]))
	}
	if c.Before != nil {
		k := fold(c.Before, 0)
		if h[k] == nil && !c.Loose {
			return fmt.Errorf("%q is not there", c.Before)
		}
		if h[k] != nil && !c.Loose && string(h[k]) != string(c.Before) {
			return fmt.Errorf("%q is there as %q", c.Before, h[k])
		}
		delete(h, k)
	}
	if c.After == nil {
		return nil
	}
	if h[fold(c.After, 0)] != nil {
		return fmt.Errorf("%q meets %q", c.After, h[fold(c.After, 0)])
	}
	u := fold(c.After, uniqueAt)
	for _, r := range h {
		if u != "" && fold(r, uniqueAt) == u {
			return fmt.Errorf("%q meets the unique value of %q", c.After, r)
		}
	}
	h[fold(c.After, 0)] = c.After
	return nil
}

// TestCollapse plays random histories of rows with a unique value, in which values are exchanged and keys change their case,
// and wants the collapsed changes to be possible in their order, to lead to the same rows and to be few.
func TestCollapse(t *testing.T) {
	text := replication.Column{Kind: replication.KindText, Charset: "utf8mb4", Collation: "utf8mb4_general_ci"}
	table := &replication.Table{
		Name: "t", Columns: []replication.Column{text, text, text},
		Primary: replication.Index{Columns: []int{0}}, Unique: []replication.Index{{Columns: []int{2}}},
	}
	exact := *table
	exact.Ordered, exact.Primary.Exact, exact.Unique = true, true, []replication.Index{{Columns: []int{2}, Exact: true}}
	exact.Columns = []replication.Column{{Kind: replication.KindBlob}, {Kind: replication.KindBlob}, {Kind: replication.KindBlob}}
	for seed := range uint64(20_000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		table := table
		keys := []string{"a", "A", "b", "c", "C", "d"}
		values := []string{"x", "X", "y", "z", ""}
		if seed%2 == 0 {
			table, keys, values = &exact, []string{"a", "b", "c", "d", "e"}, []string{"x", "y", "z", "w", ""}
		}
		random := func() replication.Row {
			u := values[rnd.IntN(len(values))]
			if u == "" {
				u = null
			}
			return row(keys[rnd.IntN(len(keys))], fmt.Sprint(rnd.IntN(3)), u)
		}
		before := heap{}
		for range 4 {
			_ = before.do(replication.Change{After: random()}, 2)
		}
		now, want := heap{}, heap{}
		for k, r := range before {
			now[k], want[k] = r, r
		}
		// A loose change may find its row or not: the target lacks some.
		loose := seed%5 == 1
		if loose {
			for k := range now {
				if rnd.IntN(2) == 0 {
					delete(now, k)
				}
			}
		}
		var changes []replication.Change
		touched := heap{}
		for range 1 + rnd.IntN(12) {
			c := replication.Change{Table: table, Loose: loose}
			for _, r := range want {
				if rnd.IntN(3) > 0 {
					c.Before = r
					break
				}
			}
			if c.Before == nil || rnd.IntN(3) > 0 {
				c.After = random()
			}
			next := heap{}
			for k, r := range want {
				next[k] = r
			}
			if err := next.do(replication.Change{Before: c.Before, After: c.After}, 2); err != nil {
				continue
			}
			want = next
			changes = append(changes, c)
			for _, r := range []replication.Row{c.Before, c.After} {
				if r != nil {
					touched[string(r[:2])] = r
				}
			}
		}
		net, err := target.Collapse(changes)
		if err != nil {
			t.Fatal(err)
		}
		if len(net) > 2*len(touched) {
			t.Errorf("seed %d: %d changes of %d keys", seed, len(net), len(touched))
		}
		for i, c := range net {
			if len(changes) == 1 {
				break // passed on as it is
			}
			if err := now.do(c, 2); err != nil {
				t.Fatalf("seed %d: change %d of %v (from %v): %v", seed, i, net, changes, err)
			}
		}
		if len(changes) < 2 {
			continue
		}
		for k, r := range now {
			if string(want[k]) != string(r) {
				t.Fatalf("seed %d: %q in place of %q after %v", seed, r, want[k], net)
			}
		}
		for k, r := range want {
			if now[k] == nil && (!loose || touched[string(r[:2])] != nil) {
				t.Fatalf("seed %d: %q is missing after %v", seed, r, net)
			}
		}
	}
}
