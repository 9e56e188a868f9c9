package migrate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/topo"
)

// provide decides which tables are read from which source shard, and checks that these agree. A shard of which nothing is read is no
// source then.
func (c *creation) provide(ctx context.Context) error {
	vs := &topo.VSchema{}
	if len(c.sourceStates) > 1 {
		var err error
		if vs, err = c.sourceVSchema(ctx); err != nil {
			return err
		}
	}
	checkSourceShards(&c.fs, vs, c.sourceStates)
	tables := make([][]string, len(c.sourceStates))
	for i, s := range c.sourceStates {
		tables[i] = s.selected
	}
	var sources []*sourceShard
	var states []*sourceState
	for i, names := range provided(vs, tables) {
		s := c.sourceStates[i]
		if s.provided = names; len(names) > 0 || len(s.selected) == 0 {
			sources, states = append(sources, c.sources[i]), append(states, s)
		}
	}
	c.sources, c.sourceStates = sources, states
	return nil
}

// provided says which tables a stream reads from which source shard: each of those that the shard has, but a reference table, which is
// whole on every shard, only from the first that has it. tables are those of the shards, in the order of the shards; so is the result. The
// VSchema is the source keyspace's; one that is not sharded has no reference tables in this sense.
func provided(vs *topo.VSchema, tables [][]string) [][]string {
	out := make([][]string, len(tables))
	taken := map[string]bool{}
	for i, names := range tables {
		for _, name := range names {
			if wholeEverywhere(vs, name) {
				if taken[name] {
					continue
				}
				taken[name] = true
			}
			out[i] = append(out[i], name)
		}
	}
	return out
}

// wholeEverywhere tells whether every shard of a keyspace has all rows of a table.
func wholeEverywhere(vs *topo.VSchema, table string) bool {
	if vs == nil || !vs.Sharded {
		return false
	}
	t := vs.Tables[table]
	return t != nil && t.Type == "reference"
}

// checkSourceShards looks for tables that are not the same on all source shards that are read.
func checkSourceShards(fs *findings, vs *topo.VSchema, states []*sourceState) {
	if len(states) < 2 {
		return
	}
	var names []string
	for _, s := range states {
		names = append(names, s.selected...)
	}
	for _, name := range sortedUnique(names) {
		var first *sourceState
		var missing []string
		for _, s := range states {
			switch {
			case !slices.Contains(s.selected, name):
				missing = append(missing, s.shard)
			case first == nil:
				first = s
			default:
				checkSameTable(fs, name, first, s)
			}
		}
		if len(missing) > 0 {
			checkMissing(fs, vs, name, first, missing)
		}
	}
}

// checkSameTable compares the definitions of a table on two source shards.
func checkSameTable(fs *findings, name string, a, b *sourceState) {
	if a.shapes[name] == nil || b.shapes[name] == nil {
		return // the account may not read it, which is a finding of its own
	}
	if d := difference(a.shapes[name], b.shapes[name]); d != "" {
		fs.add(Finding{
			Code: CodeDifferent, Side: SideSource, Server: b.server.addr, Object: name,
			Message: fmt.Sprintf("table %s on source shard %s is not like that on %s: %s", ident(name), b.shard, a.shard, strings.ReplaceAll(d, "in the source", "on "+a.shard)),
			Fix:     "bring the schema change to its end on all shards, or leave the table out",
		})
	}
}

// checkMissing is about a table that some source shards don't have. Where the VSchema knows it, they should, unless its rows are
// all on one shard.
func checkMissing(fs *findings, vs *topo.VSchema, name string, has *sourceState, missing []string) {
	f := Finding{
		Code: CodeDifferent, Severity: SeverityWarning, Side: SideSource, Server: has.server.addr, Object: name,
		Message: fmt.Sprintf("table %s is not on source shard %s", ident(name), strings.Join(missing, ", ")),
		Fix:     "leave it out if it was forgotten on the other shards",
	}
	if vs != nil && vs.Tables[name] != nil && vs.Tables[name].Pinned == "" && !wholeEverywhere(vs, name) {
		f.Severity, f.Fix = SeverityError, "bring the schema change to its end on all shards, or leave the table out"
	}
	fs.add(f)
}
