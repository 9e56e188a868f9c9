package replication

// A TablePair says which rows of a source hold the same as which rows of a target: what a workflow makes of one table, for
// those who compare the ends. A table that is copied as it is has only Source and Target, and a Route if there are
// several target shards.
type TablePair struct {
	// Source and Target describe the table on either end. They are the same if nothing is renamed or left out.
	Source, Target *Table
	// Columns are the target's columns that the workflow fills; nil: all of Source, each under its own name. A column of the
	// target that isn't here is not compared.
	Columns []ColumnPair
	// SourceWhere and TargetWhere are SQL conditions, without WHERE, of the rows that the workflow moves; empty: all. They are about
	// a table with the alias s, in UTC. SourceSeek follows from SourceWhere and can be looked up in the source's identifying
	// key: it says where in the table the rows may be at all; empty: anywhere.
	SourceWhere, SourceSeek, TargetWhere string
	// SourceShards are the shards that the rows come from; nil: all of the workflow's.
	SourceShards []string
	// Route says on which target shards a row of Target is. Its shards are positions in TargetShards; nil: all of
	// the workflow's, sorted by name.
	Route        Route
	TargetShards []string
}

// A ColumnPair says where the values of a target column come from.
type ColumnPair struct {
	Target string
	// Source is the column of the source. If it is empty, each row has Value.
	Source string
	// Value is in the form that values have in a Row; nil is NULL.
	Value []byte
}
