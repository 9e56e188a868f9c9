package migrate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
	"github.com/tablehaul/tablehaul/replication/target"
)

// definitions are the definitions of a group's source tables in the log from the group's position on, in the sidecar database of its
// first stream.
type definitions struct {
	db *sidecar.DB
	id int64
	at map[string]*source.Definition
}

// definitions reads what is known of a group's tables.
func (m *Migrator) definitions(ctx context.Context, g *group) (*definitions, error) {
	first := g.first()
	d := &definitions{db: m.sidecar(first.targetShard), id: first.ID, at: make(map[string]*source.Definition)}
	positions, err := m.positions(ctx, g.streams)
	if err != nil || len(positions) < len(g.streams) { // those that have not begun will, at a position that is still to be found
		return d, err
	}
	list, err := d.db.Definitions(ctx, d.id)
	if err != nil {
		return nil, err
	}
	before, err := d.choose(list, positions)
	if err != nil {
		return nil, err
	}
	if first.record.OnDDL == onDDLNames[replication.OnDDLExec] && len(before) > 0 {
		err = d.takeExecuted(ctx, first.targetShard, before)
	}
	return d, err
}

// choose takes of what was recorded of each table the last definition whose schema change all streams have passed. It returns what tables that
// were changed had been before, but for those whose definition was taken of the target already. A change may be recorded that was not passed: the process died in between.
func (d *definitions) choose(list []sidecar.Definition, positions []replication.Position) (before map[string]*replication.Table, err error) {
	before = make(map[string]*replication.Table)
	for _, row := range list {
		def, err := parsePast(row)
		if err != nil {
			return nil, &target.RecordError{StreamID: d.id, What: "definition of table " + row.Table, Err: err}
		}
		if row.Since != "" {
			if slices.ContainsFunc(positions, func(p replication.Position) bool { return !p.Contains(def.Since) }) {
				continue
			}
			delete(before, row.Table)
			if was := d.at[row.Table]; was != nil && !def.Read.IsZero() {
				before[row.Table] = was.Table
			}
		}
		d.at[row.Table] = def
	}
	return before, nil
}

// takeExecuted takes the target's definitions of tables whose last schema change was executed there. What was read of the source
// when the log came to that change may be of after the next one.
func (d *definitions) takeExecuted(ctx context.Context, t *targetShard, before map[string]*replication.Table) error {
	have, err := source.Tables(ctx, t.admin, t.cfg.Database, nil)
	if err != nil {
		return err
	}
	for _, on := range have {
		was := before[on.Name]
		if was == nil || !madeFrom(on, was, d.at[on.Name].Table) {
			continue
		}
		now := *d.at[on.Name].Table
		now.Columns, now.Primary, now.Ordered, now.Unique = on.Columns, on.Primary, on.Ordered, on.Unique
		// It is of no later time, so Read is zero.
		def := source.Definition{Table: &now, Since: d.at[on.Name].Since}
		row, err := formatPast(def)
		if err == nil {
			err = d.db.SetDefinition(ctx, d.id, row)
		}
		if err != nil {
			return err
		}
		d.at[on.Name] = &def
	}
	return nil
}

// madeFrom tells whether the target's table is what the source's was and nothing but the source's changes. Somebody may have made
// it with more columns, or in another order, and the columns of foreign keys are given by their places.
func madeFrom(on, was, now *replication.Table) bool {
	if len(now.ForeignKeys) > 0 || now.Family != "" {
		return false
	}
	names := func(t *replication.Table, in ...*replication.Table) (list []string) {
		for i := range t.Columns {
			name := t.Columns[i].Name
			has := func(o *replication.Table) bool {
				return slices.ContainsFunc(o.Columns, func(c replication.Column) bool { return c.Name == name })
			}
			if slices.ContainsFunc(in, has) {
				list = append(list, name)
			}
		}
		return list
	}
	return len(names(on, was, now)) == len(on.Columns) && slices.Equal(names(on, was), names(was, on))
}

// A pastText is the text of a definition. Members are those of the columns, by place: bytes that need not be UTF-8.
type pastText struct {
	Table   replication.Table `json:"table"`
	Members map[int][][]byte  `json:"members,omitempty"`
}

func formatPast(def source.Definition) (sidecar.Definition, error) {
	t := def.Table
	text := pastText{Table: *t, Members: make(map[int][][]byte)}
	text.Table.Columns = slices.Clone(t.Columns)
	for i := range t.Columns {
		for _, m := range t.Columns[i].Members {
			text.Members[i] = append(text.Members[i], []byte(m))
		}
		text.Table.Columns[i].Members = nil
	}
	b, err := json.Marshal(text)
	row := sidecar.Definition{Table: t.Name, Text: string(b)}
	if !def.Since.IsZero() {
		row.Since = def.Since.String()
	}
	if !def.Read.IsZero() {
		row.Read = def.Read.String()
	}
	return row, err
}

func parsePast(row sidecar.Definition) (*source.Definition, error) {
	var text pastText
	if err := json.Unmarshal([]byte(row.Text), &text); err != nil {
		return nil, err
	}
	if text.Table.Name != row.Table {
		return nil, fmt.Errorf("it is one of table %.200q", text.Table.Name)
	}
	for i, members := range text.Members {
		if i < 0 || i >= len(text.Table.Columns) {
			return nil, fmt.Errorf("members of column %d of %d", i, len(text.Table.Columns))
		}
		for _, m := range members {
			text.Table.Columns[i].Members = append(text.Table.Columns[i].Members, string(m))
		}
	}
	def := &source.Definition{Table: &text.Table}
	var err error
	if row.Since != "" {
		if def.Since, err = replication.ParseGTID(row.Since); err != nil {
			return nil, err
		}
	}
	def.Read, err = replication.ParsePosition(row.Read)
	return def, err
}

// Get is part of source.Definitions.
func (d *definitions) Get(table string) *source.Definition { return d.at[table] }

// Put is part of source.Definitions.
func (d *definitions) Put(ctx context.Context, list []source.Definition) error {
	rows := make([]sidecar.Definition, len(list))
	for i, def := range list {
		var err error
		if rows[i], err = formatPast(def); err != nil {
			return err
		}
	}
	return d.db.AddDefinitions(ctx, d.id, rows)
}
