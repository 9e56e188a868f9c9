package replication

// Kind says how a column's values look and compare.
type Kind uint8

// The kinds of columns. Programs record the numbers: new ones go to the end.
const (
	KindUnknown   Kind = iota
	KindInt            // TINYINT to BIGINT, signed
	KindUint           // TINYINT to BIGINT, unsigned
	KindDecimal        // DECIMAL
	KindFloat          // FLOAT, 32 bits
	KindDouble         // DOUBLE
	KindYear           // YEAR
	KindDate           // DATE
	KindTime           // TIME(fsp)
	KindDatetime       // DATETIME(fsp)
	KindTimestamp      // TIMESTAMP(fsp)
	KindBit            // BIT(n)
	KindEnum           // ENUM
	KindSet            // SET
	KindText           // CHAR, VARCHAR, TEXT: bytes in the column's character set
	KindBinary         // BINARY(n): padded
	KindBlob           // VARBINARY, BLOB
	KindJSON           // JSON
	KindGeometry       // GEOMETRY and its subtypes
	KindVector         // VECTOR
)

// A Column describes one column of a table.
type Column struct {
	Name string
	Kind Kind
	// Type is the column type as the server prints it, such as "int unsigned" or "varchar(20)".
	Type string
	// Charset and Collation are set for KindText, KindEnum and KindSet.
	Charset, Collation string
	// Length is the length in bytes of BINARY, the number of bits of BIT, else 0.
	Length int
	// Fsp is the number of fractional digits of a temporal type.
	Fsp int
	// Unsigned is set for unsigned DECIMAL, FLOAT and DOUBLE too.
	Unsigned bool
	Nullable bool
	// Generated columns are never written; their values are in rows all the same.
	Generated bool
	// Members are the values of an ENUM or SET, as stored.
	Members []string
}

// An Index is a unique key.
type Index struct {
	Name string
	// Columns are positions in Table.Columns, in key order.
	Columns []int
	// Exact says that two entries are equal if and only if the bytes of their columns are: whole
	// columns (no prefix, no expression) of kinds and collations that compare by bytes. All unique
	// keys for which this does not hold are handled coarsely: every change of the table conflicts.
	Exact bool
}

// An Action is what a foreign key does to the rows that reference a row that is deleted, or whose key changes.
type Action uint8

// The actions. ActionNone stands for RESTRICT and NO ACTION: the statement fails.
const (
	ActionNone    Action = iota
	ActionCascade        // the rows are deleted, or follow the change
	ActionSetNull        // their referencing columns become NULL
)

// A ForeignKey is a foreign key of a table.
type ForeignKey struct {
	Name string
	// Columns are the referencing ones, positions in Table.Columns.
	Columns []int
	// Parent is the table that is referenced, ParentColumns its columns, in the order of Columns. ParentSchema is empty
	// if it is the table's own.
	ParentSchema, Parent string
	ParentColumns        []string
	OnDelete, OnUpdate   Action
}

// A Table describes a table as the engine needs it. It is not changed after it was made.
type Table struct {
	Schema, Name string
	Columns      []Column
	// Primary is the key that identifies rows: the primary key or the best NOT NULL unique key.
	Primary Index
	// Unique are the other unique keys.
	Unique []Index
	// Ordered says that the order of the identifying key is known here (Compare). Otherwise only the
	// server can order keys, and rows are applied whether their range was copied or not.
	Ordered bool
	// ForeignKeys are those of the table itself.
	ForeignKeys []ForeignKey
	// Family is set if foreign keys change rows of the table, or of tables that are tied to it by foreign keys, and the
	// source's log does not tell that: it names all those tables together. Changes of one family keep their order.
	Family string
}

// Key packs the identifying columns of a row.
func (t *Table) Key(r Row) (Key, error) {
	return t.pick(r, t.Primary.Columns)
}

func (t *Table) pick(r Row, columns []int) (Row, error) {
	var buf [32][]byte
	values, err := r.Values(buf[:0], len(t.Columns))
	if err != nil {
		return nil, err
	}
	n := 0
	for _, c := range columns {
		n += len(values[c]) + 9
	}
	key := make(Row, 0, n)
	for _, c := range columns {
		key = AppendValue(key, values[c])
	}
	return key, nil
}

// A Span is a range of keys of one table: those after Lo, up to and including Hi. A nil Lo is the
// start of the table, a nil Hi its end.
type Span struct{ Lo, Hi Key }
