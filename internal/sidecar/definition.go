package sidecar

import (
	"context"
	"fmt"
	"strings"
)

// A Definition is a definition that a table of the source has had.
type Definition struct {
	Table string
	// Since is the GTID of the schema change that made it; empty for what the table was when the stream began.
	Since string
	// Text is the definition; it is not interpreted here.
	Text string
	// Read is the source's position when it was read; empty if it is of no later time than Since.
	Read string
}

// definitionBytes is about how much text one statement inserts.
const definitionBytes = 1 << 20

// AddDefinitions records definitions; those that are recorded for the same table and change stay.
func (d *DB) AddDefinitions(ctx context.Context, id int64, list []Definition) error {
	for len(list) > 0 {
		n, size := 0, 0
		var args []any
		for ; n < len(list) && (n == 0 || size+len(list[n].Text)+len(list[n].Read) <= definitionBytes); n++ {
			size += len(list[n].Text) + len(list[n].Read)
			args = append(args, id, list[n].Table, list[n].Since, list[n].Text, list[n].Read)
		}
		_, err := d.db.ExecContext(ctx, "INSERT INTO "+d.table("source_definition")+" (vrepl_id, table_name, since, definition, read_at) VALUES "+
			strings.TrimPrefix(strings.Repeat(", (?, ?, ?, ?, ?)", n), ", ")+" ON DUPLICATE KEY UPDATE id = id", args...)
		if err != nil {
			return d.wrap(fmt.Sprintf("add definitions of stream %d", id), err)
		}
		list = list[n:]
	}
	return nil
}

// SetDefinition replaces a recorded definition.
func (d *DB) SetDefinition(ctx context.Context, id int64, def Definition) error {
	_, err := d.db.ExecContext(ctx, "UPDATE "+d.table("source_definition")+" SET definition = ?, read_at = ? WHERE vrepl_id = ? AND table_name = ? AND since = ?",
		def.Text, def.Read, id, def.Table, def.Since)
	return d.wrap(fmt.Sprintf("set a definition of stream %d", id), err)
}

// Definitions lists a stream's definitions in the order in which they were recorded.
func (d *DB) Definitions(ctx context.Context, id int64) ([]Definition, error) {
	what := fmt.Sprintf("definitions of stream %d", id)
	rows, err := d.db.QueryContext(ctx, "SELECT table_name, since, definition, read_at FROM "+d.table("source_definition")+" WHERE vrepl_id = ? ORDER BY id", id)
	if err != nil {
		return nil, d.wrap(what, err)
	}
	defer rows.Close()
	var list []Definition
	for rows.Next() {
		var def Definition
		if err := rows.Scan(&def.Table, &def.Since, &def.Text, &def.Read); err != nil {
			return nil, d.wrap(what, err)
		}
		list = append(list, def)
	}
	return list, d.wrap(what, rows.Err())
}
