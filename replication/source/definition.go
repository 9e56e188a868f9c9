package source

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tablehaul/tablehaul/replication"
)

// A Definition is the definition that a table has in a part of the log.
type Definition struct {
	Table *replication.Table
	// Since is the schema change from which on the table has it; zero for the one that it had when the stream began.
	Since replication.GTID
	// Read is what the server had executed when the definition was read: it may hold later schema changes than Since, which the log
	// has still to come to.
	Read replication.Position
}

// Definitions remembers the definitions that tables have had, so that a log that is read later than it was written is read by the
// definitions of its time. The log itself tells neither the members of ENUM and SET nor character sets, and names of columns only
// with binlog_row_metadata=FULL.
type Definitions interface {
	// Get returns the definition that is true at the position from which the log will be read; nil if it is not known.
	Get(table string) *Definition
	// Put keeps definitions, durably when it returns. Of two with the same table and Since the first one stays. It is called before
	// anything that follows Since is handed out.
	Put(ctx context.Context, list []Definition) error
}

// remembered returns the tables with the definitions that are remembered in place of those that differ in what matters for rows.
func (s *Source) remembered(now []*replication.Table) []*replication.Table {
	s.mu.read = make(map[string]replication.Position)
	if s.opts.Definitions == nil {
		return now
	}
	out := slices.Clone(now)
	for i, t := range out {
		d := s.opts.Definitions.Get(t.Name)
		if d == nil {
			continue
		}
		s.mu.read[t.Name] = d.Read
		if what := difference(d.Table, t); what != "" {
			s.opts.Logger.Info("a table was altered since the log was last read; until there its former definition holds", "table", t.Name, "change", what)
			out[i] = d.Table
		}
	}
	return out
}

// confirm makes sure that tables are still what they were when the source was opened, where that is all that is known of them, and
// remembers that. Between the opening and the position from which the log is read they may have been altered.
func (s *Source) confirm(ctx context.Context) error {
	if s.opts.Definitions == nil {
		return nil
	}
	var fresh []*replication.Table
	var names []string
	for _, t := range s.tables {
		if s.opts.Definitions.Get(t.Name) == nil {
			fresh, names = append(fresh, t), append(names, t.Name)
		}
	}
	if fresh == nil {
		return nil
	}
	now, read, err := s.definitions(ctx, names)
	if err != nil {
		return err
	}
	list := make([]Definition, len(fresh))
	for i, t := range fresh {
		if what := difference(t, now[i]); what != "" {
			return &replication.TransientError{Err: &replication.SchemaChangedError{Table: t.Name, What: what + ", since it was opened"}}
		}
		list[i] = Definition{Table: t, Read: read}
	}
	if err := s.opts.Definitions.Put(ctx, list); err != nil {
		return fmt.Errorf("remember the definitions of tables: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range list {
		s.mu.read[d.Table.Name] = read
	}
	return nil
}

// definitions reads tables, in name order, and what the server has executed after that.
func (s *Source) definitions(ctx context.Context, names []string) ([]*replication.Table, replication.Position, error) {
	now, err := Tables(ctx, s.db, s.cfg.Database, names)
	if err != nil {
		return nil, replication.Position{}, err
	}
	var executed string
	if err := s.db.QueryRowContext(ctx, "SELECT @@global.gtid_executed").Scan(&executed); err != nil {
		return nil, replication.Position{}, mark(ctx, err)
	}
	read, err := replication.ParsePosition("MySQL56/" + executed)
	return now, read, err
}

// altered looks at the tables that a schema change names, when the log comes to it: it tells its DDL how they differ, and remembers what they
// are now. Tables of which rows were read, as seen says, by a definition that may be of after the change, are an error.
func (s *Source) altered(ctx context.Context, g *group, seen map[string]bool) error {
	for _, name := range g.ddl.Tables {
		s.mu.Lock()
		late := s.mu.read[name].Contains(g.gtid)
		s.mu.Unlock()
		if late && seen[name] && !g.keepsColumns {
			return &replication.SchemaChangedError{Table: name, What: fmt.Sprintf(
				"rows before %.200q were read by a definition that may be of after it, since it was executed soon after another one: the copy has to begin again",
				g.ddl.Statement)}
		}
		now, read, err := s.definitions(ctx, []string{name})
		if _, ok := errors.AsType[*MissingTablesError](err); ok {
			g.ddl.Differs = fmt.Sprintf("table %s was dropped or renamed", name)
			continue
		}
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.tables, func(t *replication.Table) bool { return t.Name == name })
		what := difference(s.tables[i], now[0])
		if g.keepsColumns && what != otherKey {
			continue // what differs is a later change's
		}
		if what != "" {
			g.ddl.Differs = fmt.Sprintf("table %s: %s", name, what)
		}
		// Rows that follow are read by this definition, if it is no other one. The next change may be in it, and take back this one.
		s.mu.Lock()
		s.mu.read[name] = read
		s.mu.Unlock()
		delete(seen, name)
		if s.opts.Definitions == nil {
			continue
		}
		if err := s.opts.Definitions.Put(ctx, []Definition{{Table: now[0], Since: g.gtid, Read: read}}); err != nil {
			return fmt.Errorf("remember the definition of table %s: %w", name, err)
		}
	}
	return nil
}
