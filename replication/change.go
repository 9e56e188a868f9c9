package replication

import (
	"fmt"
	"time"
)

// A Change is one row change of the source: an insert (Before is nil), a delete (After is nil) or an
// update. Rows hold all columns of Table, in its order.
type Change struct {
	Table         *Table
	Before, After Row
	// Cascade says that foreign keys may have changed rows of other tables, or other rows of this one, with this change, and
	// that the log doesn't tell which. A source sets it for every change that was made with foreign keys on by a server that
	// doesn't log what they do; a target gets it only where rows that it holds may be concerned. It executes such a change in its
	// place, by itself and with foreign_key_checks=1, so that its own foreign keys do the same. All other changes are executed
	// with foreign_key_checks=0.
	Cascade bool
	// Loose says that the row may or may not be on the target already, since its table is not Ordered and
	// not wholly copied: an insert or update replaces what is there, a delete may find nothing. All
	// other changes must find exactly what they change.
	Loose bool
}

// Bytes is the memory that the change's rows take.
func (c Change) Bytes() int { return len(c.Before) + len(c.After) }

// keys are those of the change's images; nil for an absent one.
func (c *Change) keys() (before, after Key, err error) {
	if c.Before != nil {
		before, err = c.Table.Key(c.Before)
	}
	if c.After != nil && err == nil {
		after, err = c.Table.Key(c.After)
	}
	if err != nil {
		return nil, nil, &RowError{Table: c.Table.Name, Err: err}
	}
	return before, after, nil
}

// A LogPos is a place in one server's binary log. It orders events of that server only.
type LogPos struct {
	// Server is the server's identity (server_uuid); places of different servers do not compare.
	Server string
	// File is the number that ends the log file's name, Offset the byte in it.
	File, Offset uint64
}

// Before tells whether p comes before q in the log of their common server.
func (p LogPos) Before(q LogPos) bool {
	return p.File < q.File || p.File == q.File && p.Offset < q.Offset
}

// String is for people: server/file:offset.
func (p LogPos) String() string { return fmt.Sprintf("%s/%d:%d", p.Server, p.File, p.Offset) }

// A Transaction is what a source yields next: a committed transaction, or only the news that the
// reader has come as far as End (GTID is zero then, and there are no changes).
type Transaction struct {
	GTID GTID
	// Prepared is the GTID of the XA PREPARE whose COMMIT or ROLLBACK this is. It came as a transaction of its own, without
	// changes, unless that was before the position that reading started from.
	Prepared GTID
	// End is the place right after the transaction in the source's log.
	End LogPos
	// Committed is the commit time, by this process's clock as far as the source can tell; zero if the log doesn't tell.
	Committed time.Time
	// Changes are the row changes of the tables that the source was opened for, in log order.
	Changes []Change
	// Spill holds the changes instead, if they are too large for memory. Who takes the transaction closes it.
	Spill *Spill
	// DDL is set when the transaction is a schema change that names at least one of those tables.
	DDL *DDL
}

// Bytes is the memory that the transaction's rows take, with a fixed amount for each change and for a spill.
func (t *Transaction) Bytes() int {
	n := 256
	if t.Spill != nil {
		n += spillWeight
	}
	for _, c := range t.Changes {
		n += c.Bytes() + 96
	}
	if t.DDL != nil {
		n += len(t.DDL.Statement)
	}
	return n
}

// A DDL is a schema change in the source's log.
type DDL struct {
	// Schema is the session's default database at the time, Statement the text as logged.
	Schema, Statement string
	// Tables are the names of the opened tables that the statement names.
	Tables []string
	// ReplacesRows says that the statement removes or exchanges rows, which no row change tells: TRUNCATE, DROP, RENAME,
	// some changes of partitions.
	ReplacesRows bool
	// Differs says in what its tables differ now from the definitions by which their rows are read; empty if in nothing that
	// matters for rows, and for a statement that changes only keys.
	Differs string
	// ForeignKeys says that it changes foreign keys, of a server that does not log what they do.
	ForeignKeys bool
	// SQLMode is the session's sql_mode, by which Statement is to be read.
	SQLMode uint64
}

// A Chunk is the content of one span of a table at one point of the log.
type Chunk struct {
	Table *Table
	Span  Span
	// Rows are in key order where Table.Ordered.
	Rows []Row
	// Bytes is the sum of the rows' lengths.
	Bytes int
}

// An Entry is one unit of the log that a target executes: a source transaction or a chunk. Entries
// take effect in the order in which they were appended; a chunk may commit later than its place, never earlier.
type Entry struct {
	// Changes and DDL are those of a source transaction, restricted to what the target holds; Chunk is
	// set for a chunk. An entry with none of them only moves the position.
	Changes []Change
	DDL     *DDL
	Chunk   *Chunk
	// Spill holds the changes of a source transaction that is too large for memory; read them with Each, which
	// restricts them. It is closed after Done.
	Spill *Spill
	// part says, for a Spill, which of its changes, or what of them, belong to the log; nil: all.
	part func(Change) (Change, bool, error)
	// gtid is that of a source transaction.
	gtid GTID
	// whole says that with this chunk everything of its table is in the log.
	whole bool
	// Position is the source's position after this entry; what the target records with it. For a chunk
	// it is the place at which the chunk's content is exact, and is not recorded.
	Position Position
	// Committed is the source's commit time of the newest transaction in the entry; zero if unknown.
	Committed time.Time
	// Done is called once after the entry has committed, in commit order; it must not block.
	Done func()
}

// Each calls f for each of the entry's changes in their order, until an error of f, which it returns. It may be called
// again, and by several goroutines at once; rows may be kept.
func (e *Entry) Each(f func(Change) error) error {
	if e.Spill == nil {
		for _, c := range e.Changes {
			if err := f(c); err != nil {
				return err
			}
		}
		return nil
	}
	return e.Spill.Each(func(c Change) error {
		if e.part == nil {
			return f(c)
		}
		part, ok, err := e.part(c)
		if err != nil || !ok {
			return err
		}
		return f(part)
	})
}

// Bytes is the memory that the entry holds, with a fixed amount for a spill.
func (e *Entry) Bytes() int {
	n := 512
	if e.Spill != nil {
		n += spillWeight
	}
	for _, c := range e.Changes {
		n += c.Bytes() + 96
	}
	if e.Chunk != nil {
		n += e.Chunk.Bytes + 24*len(e.Chunk.Rows)
	}
	return n
}
