package test

// The mutations of what is remembered of schema changes; most are noticed on real servers, where a workflow does not get where it should.

func init() {
	by := func(test string) check { return check{dir: "..", pkg: "./migrate", run: test} }
	mutations = append(mutations, []mutation{
		{
			name: "a log is read by the definitions of today", file: "migrate/group.go", by: by("TestAlteredWhileNobodyRead/executed:_new"), says: "Error|got ",
			edits: []edit{{`Definitions: known, Logger: m.log`, `Logger: m.log`}, {`known, err := m.definitions(ctx, g)`, `_, err = m.definitions(ctx, g)`}},
		},
		{
			name: "a definition is chosen whether its change was passed or not", file: "migrate/definitions.go", by: by("TestChooseDefinition"), says: "at \\[",
			edits: []edit{{`return !p.Contains(def.Since)`, `return p.IsZero()`}},
		},
		{
			name: "a change that is ignored is passed without its position", file: "replication/sequencer.go", by: by("TestAlteredWhileNobodyRead/order_of_members"), says: "Error|got |timeout|deadline|not ",
			edits: []edit{{`return s.settle(ctx, &Entry{}, s.unreadable(d))`, `return s.unreadable(d)`}},
		},
		{
			name: "rows that are copied may change what they are", file: "replication/sequencer.go", by: by("TestAlteredDuringCopy/0"), says: "Error|got |differ|timeout|want",
			edits: []edit{{`!s.progress.committed([]*Table{q.table})`, `q.table == nil`}},
		},
		{
			name: "rows between two changes are read by the second one", file: "replication/source/definition.go", by: by("TestAlteredAndBack/3"), says: "--- FAIL: TestAlteredAndBack",
			edits: []edit{{`if late && seen[name] && !g.keepsColumns {`, `if late && seen[name] && g.keepsColumns {`}},
		},
	}...)
}
