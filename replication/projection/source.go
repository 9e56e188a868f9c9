package projection

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/tablehaul/tablehaul/replication"
)

// A Conditional is a Source that reads with a condition (source.Source.ReadWhere): chunks of a filtered table don't bring what is thrown away then.
type Conditional interface {
	ReadWhere(ctx context.Context, t *replication.Table, span replication.Span, limit replication.Limit, where, seek string) (*replication.Chunk, error)
}

// Options of a Source. The zero value is right for most.
type Options struct {
	// TransactionBytes bounds the memory of what is taken of one transaction that the source has spilled; more goes to a temporary file in SpillDir.
	// Default 16 MiB.
	TransactionBytes int
	// SpillDir is the directory for temporary files; "" is the system's.
	SpillDir string
}

func (o Options) withDefaults() Options {
	o.TransactionBytes = cmp.Or(o.TransactionBytes, 16<<20)
	return o
}

// A Source filters and projects another one. Make it with New.
type Source struct {
	inner  replication.Source
	opts   Options
	tables []*Table
	// bySource and byTarget find tables by the definitions on either side; names by the source's names.
	bySource, byTarget map[*replication.Table]*Table
	names              map[string]*Table
}

var _ replication.Source = (*Source)(nil)

// New makes a source of what is taken of the tables of another one, which must be all that it was opened for. It does no I/O.
func New(inner replication.Source, tables []*Table, o Options) *Source {
	s := &Source{
		inner: inner, opts: o.withDefaults(), tables: tables, names: make(map[string]*Table, len(tables)),
		bySource: make(map[*replication.Table]*Table, len(tables)), byTarget: make(map[*replication.Table]*Table, len(tables)),
	}
	for _, t := range tables {
		s.bySource[t.Source], s.byTarget[t.Target], s.names[t.Source.Name] = t, t, t
	}
	return s
}

// Tables are the tables as the target has them.
func (s *Source) Tables() []*replication.Table {
	out := make([]*replication.Table, len(s.tables))
	for i, t := range s.tables {
		out[i] = t.Target
	}
	return out
}

// End is that of the source behind.
func (s *Source) End(ctx context.Context) (replication.LogPos, replication.Position, error) {
	return s.inner.End(ctx)
}

// WaitVisible is that of the source behind.
func (s *Source) WaitVisible(ctx context.Context, p replication.Position) error {
	return s.inner.WaitVisible(ctx, p)
}

// Split is that of the source behind.
func (s *Source) Split(ctx context.Context, t *replication.Table, n int) ([]replication.Key, error) {
	p, err := s.table(t)
	if err != nil {
		return nil, err
	}
	return s.inner.Split(ctx, p.read, n)
}

// table finds what is behind a table of the target.
func (s *Source) table(t *replication.Table) (*Table, error) {
	if p := s.byTarget[t]; p != nil {
		return p, nil
	}
	return nil, &replication.SchemaChangedError{Table: t.Name, What: "the projection was not made with this definition of it"}
}

// Read reads what is taken of a span. A chunk of a filtered table may have fewer rows than the limit, or none, though its span is a part of what was
// asked for: the next read goes on after it.
func (s *Source) Read(ctx context.Context, t *replication.Table, span replication.Span, limit replication.Limit) (*replication.Chunk, error) {
	p, err := s.table(t)
	if err != nil {
		return nil, err
	}
	chunk, err := s.read(ctx, p, span, limit)
	if err != nil {
		return nil, err
	}
	out := &replication.Chunk{Table: t, Span: chunk.Span, Rows: chunk.Rows}
	if len(p.read.Columns) == len(p.Source.Columns) {
		if out.Rows, err = p.Rows(ctx, chunk.Rows); err != nil {
			return nil, err
		}
	}
	for _, r := range out.Rows {
		out.Bytes += len(r)
	}
	return out, nil
}

func (s *Source) read(ctx context.Context, p *Table, span replication.Span, limit replication.Limit) (*replication.Chunk, error) {
	if c, ok := s.inner.(Conditional); ok {
		if where, seek := p.Where(); where != "" {
			return c.ReadWhere(ctx, p.read, span, limit, where, seek)
		}
	}
	return s.inner.Read(ctx, p.read, span, limit)
}

// Transactions yields those of the source behind, with what is taken of their changes. One of which nothing is left is yielded too: the
// position moves.
func (s *Source) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	return func(yield func(*replication.Transaction, error) bool) {
		for t, err := range s.inner.Transactions(ctx, from) {
			if err == nil {
				t, err = s.transaction(ctx, t)
			}
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

func (s *Source) transaction(ctx context.Context, t *replication.Transaction) (*replication.Transaction, error) {
	out := *t
	var err error
	if t.Spill != nil {
		err = s.spilled(ctx, &out)
		_ = t.Spill.Close() // it was read, or nobody wants it
	} else {
		out.Changes, err = s.changes(ctx, t.Changes)
	}
	if err != nil {
		return nil, err
	}
	if t.DDL != nil {
		out.DDL = s.ddl(t.DDL)
	}
	return &out, nil
}

// ddl translates the names of tables; the statement stays as it was logged.
func (s *Source) ddl(d *replication.DDL) *replication.DDL {
	out := *d
	out.Tables = slices.Clone(d.Tables)
	for i, name := range out.Tables {
		if t := s.names[name]; t != nil {
			out.Tables[i] = t.Target.Name
		}
	}
	return &out
}

// changes returns what is taken of changes, in their order.
func (s *Source) changes(ctx context.Context, changes []replication.Change) ([]replication.Change, error) {
	m := &images{rows: make(map[*Table][]replication.Row)}
	for i := range changes {
		c := &changes[i]
		p := s.bySource[c.Table]
		if p == nil {
			if s.names[c.Table.Name] != nil {
				return nil, &replication.SchemaChangedError{Table: c.Table.Name, What: "its definition changed while the stream ran"}
			}
			continue
		}
		m.add(p, c.Before)
		m.add(p, c.After)
	}
	if err := m.match(ctx); err != nil {
		return nil, err
	}
	out := make([]replication.Change, 0, len(changes))
	for _, c := range changes {
		p := s.bySource[c.Table]
		if p == nil {
			continue
		}
		var err error
		if c.Before, err = m.next(p, c.Before); err != nil {
			return nil, err
		}
		if c.After, err = m.next(p, c.After); err != nil {
			return nil, err
		}
		if c.Before == nil && c.After == nil || c.Before != nil && string(c.Before) == string(c.After) && !c.Cascade {
			continue
		}
		c.Table = p.Target
		out = append(out, c)
	}
	return out, nil
}

// images are the images of changes, by table, in the order of the changes.
type images struct {
	rows  map[*Table][]replication.Row
	taken map[*Table][]bool
}

func (m *images) add(p *Table, r replication.Row) {
	if r != nil && p.filter != nil {
		m.rows[p] = append(m.rows[p], r)
	}
}

// match filters all at once.
func (m *images) match(ctx context.Context) (err error) {
	m.taken = make(map[*Table][]bool, len(m.rows))
	for p, rows := range m.rows {
		if m.taken[p], err = p.filter.Match(ctx, rows); err != nil {
			return err
		}
		if len(m.taken[p]) != len(rows) {
			return fmt.Errorf("table %s: the filter tells of %d rows, not %d", p.Source.Name, len(m.taken[p]), len(rows))
		}
	}
	return nil
}

// next is what is taken of the next image; nil if that is nothing.
func (m *images) next(p *Table, r replication.Row) (replication.Row, error) {
	if r == nil {
		return nil, nil
	}
	if p.filter != nil {
		taken := m.taken[p][0]
		m.taken[p] = m.taken[p][1:]
		if !taken {
			return nil, nil
		}
	}
	return p.row(r)
}
