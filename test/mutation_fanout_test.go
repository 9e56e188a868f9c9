package test

var (
	// byFanout is the simulation of a target of several shards.
	byFanout = check{dir: "..", pkg: "./replication", run: "TestFanoutModel$", args: []string{"-model.runs", "4000"}}
	byShards = check{dir: "..", pkg: "./replication", run: "TestFanoutLevel$|TestFanoutDone$|TestFanoutPositions$"}
)

// These break what makes shards exact that differ.
func init() {
	mutations = append(mutations, []mutation{
		{
			name: "spans that one shard has are not read for the others", file: "replication/fanload.go", by: byFanout, says: breach,
			edits: []edit{{"	for _, s := range f.holders(t) {\n		for _, span := range s.tables[t].Missing() {", "	for _, s := range f.holders(t)[:1] {\n		for _, span := range s.tables[t].Missing() {"}},
		},
		{
			name: "the log is read from the foremost shard's position", file: "replication/fanload.go", by: byFanout, says: breach,
			edits: []edit{{"	f.mu.at, f.mu.ahead = begin, 0", "	begin = level\n	f.mu.at, f.mu.ahead = begin, 0"}},
		},
		{
			name: "a shard without a position is not started", file: "replication/fanload.go", by: byFanout, says: breach,
			edits: []edit{{"return s.Target.Start(ctx, level)", "return nil"}},
		},
		{
			name: "tables without an order are read from one shard's end only", file: "replication/fanload.go", by: byFanout, says: breach,
			edits: []edit{{"	for i, k := range from {\n", "	for i, k := range from {\n		if i+1 < len(from) {\n			continue\n		}\n"}},
		},
		{
			name: "shards are given what they have applied", file: "replication/fanshard.go", by: byFanout, says: breach,
			edits: []edit{{"return s.ahead && s.at.Contains(e.gtid)", "return false"}},
		},
		{
			name: "chunks are given to shards that have their rows", file: "replication/fanshard.go", by: byFanout, says: breach,
			edits: []edit{{"spans := s.tables[c.Table].lacks(c.Span)", "spans := []Span{c.Span}"}},
		},
		{
			name: "a chunk is placed before its position is recorded", file: "replication/fanappend.go", by: byFanout, says: breach,
			edits: []edit{{"			if err := f.record(ctx, s, fl); err != nil {", "			if err := context.Cause(ctx); err != nil {"}},
		},
		{
			name: "a large transaction's changes go to shards that lack the rows", file: "replication/fanappend.go", by: byFanout, says: breach,
			edits: []edit{{"return of.share(c)", "return c, of != nil, nil"}},
		},
		{
			name: "a row that moves stays where it was", file: "replication/fanappend.go", by: byFanout, says: breach,
			edits: []edit{{"part, _ := c.at(i, before, after)", "part := c"}},
		},
		{
			name: "idle shards record no position", file: "replication/fanappend.go", by: byShards, says: "FAIL",
			edits: []edit{{"		if !s.idle() {", "		if s != nil {"}},
		},
		{
			name: "chunks don't wait until shards are level", file: "replication/sequencer.go", by: byShards, says: "rows are read while a shard is ahead",
			edits: []edit{{"if s.position.Covers(s.ahead) {", "if s.position.Covers(s.ahead) || s.level != nil {"}},
		},
		{
			name: "an entry is done before earlier ones", file: "replication/flights.go", by: byShards, says: "done with",
			edits: []edit{{"	if !fl.ordered {\n		f.over(fl)", "	if fl.left == 0 {\n		f.over(fl)"}},
		},
	}...)
}
