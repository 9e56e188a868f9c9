package test

// byCascades is the simulation of tables whose foreign keys act without being logged.
var byCascades = check{dir: "..", pkg: "./replication", run: "TestCascades$"}

// These break what is done about foreign keys.
func init() {
	mutations = append(mutations, []mutation{
		{
			name: "a chunk keeps rows that a foreign key may have changed", file: "replication/window.go", by: byCascades, says: breach,
			edits: []edit{{`if err != nil || values[string(v)] {`, `if err != nil || values[string(v)] && false {`}},
		},
		{
			name: "foreign keys further down spoil no window", file: "replication/sequencer.go", by: byCascades, says: breach,
			edits: []edit{{`range s.tables[next.by.child].windows {`, `range s.tables[next.by.child].windows[:0] {`}},
		},
		{
			name: "children are copied beside their parents", file: "replication/sequencer.go", by: byCascades, says: breach + "|has to begin again",
			edits: []edit{{`if !s.tables[p].inLog.Whole() {`, `if s.tables[p].inLog == nil {`}},
		},
		{
			name: "changes of a table that is held are kept", file: "replication/spanset.go", by: byCascades, says: breach,
			edits: []edit{{`	case s.held:`, `	case s.held && s.t == nil:`}},
		},
		{
			name: "the target's foreign keys never act", file: "replication/spanset.go", by: byCascades, says: breach,
			edits: []edit{{`c.Cascade, err = cascades(s.acting, &c)`, `c.Cascade, err = cascades(nil, &c)`}},
		},
		{
			name: "the target's foreign keys act before the children are there", file: "replication/spanset.go", by: byCascades, says: breach,
			edits: []edit{{`if c.Cascade, err = cascades(s.acting, &c); err != nil {`, `if _, err = cascades(s.acting, &c); err != nil {`}},
		},
		{
			name: "a window of a table that is held loses its images", file: "replication/window.go", by: byCascades, says: breach,
			edits: []edit{{`if w.table.Ordered || w.drops {`, `if w.table.Ordered {`}},
		},
	}...)
}
