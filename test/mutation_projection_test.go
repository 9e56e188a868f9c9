package test

// byProjection is the simulation of a source of which rows and columns are left out.
var byProjection = check{dir: "..", pkg: "./replication", run: "TestProjectionModel$", args: []string{"-model.runs", "4000"}}

// These break what keeps rows that enter and leave a filter exact.
func init() {
	mutations = append(mutations, []mutation{
		{
			name: "a projection does not filter the rows of chunks", file: "replication/projection/table.go", by: byProjection, says: breach,
			edits: []edit{{"		if !taken[i] {\n			continue\n", "		if !taken[i] && len(out) > len(rows) {\n			continue\n"}},
		},
		{
			name: "a row that leaves a filter stays as it was", file: "replication/projection/source.go", by: byProjection, says: breach,
			edits: []edit{
				{"		if c.After, err = m.next(p, c.After); err != nil {", "		update := c.After != nil\n		if c.After, err = m.next(p, c.After); err != nil {"},
				{"		if c.Before == nil && c.After == nil ||", "		if update && c.After == nil || c.Before == nil && c.After == nil ||"},
			},
		},
		{
			name: "a projection forgets what does not fit into memory", file: "replication/projection/spill.go", by: byProjection, says: breach,
			edits: []edit{{"		changes, k.changes = k.changes, nil", "		changes, k.changes = nil, nil"}},
		},
	}...)
}
