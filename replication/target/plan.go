package target

import (
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// A plan is how a table's rows become statements.
type plan struct {
	table *replication.Table
	// name is quoted and qualified with the target's database; insert is the text before the first row.
	name, insert string
	// upsert is what makes an insert of rows an update of them; empty if that could meet another row than that of the same
	// key, or there is nothing to update.
	upsert string
	// written are the columns that are written: all that aren't generated.
	written []int
	// quoted are the columns' names in backticks.
	quoted []string
	// always are columns that an UPDATE names even if they stay, so that ON UPDATE CURRENT_TIMESTAMP does nothing.
	always []bool
	// zoned are the DATETIME columns to convert from zone to UTC; empty if zone is nil.
	zoned []int
	zone  *time.Location
	// misfit says which column of the target the rows must not be written to; nil if there is none.
	misfit error
}

func newPlan(database string, t *replication.Table, zone *time.Location, rowAlias bool) *plan {
	p := &plan{table: t, name: sqltext.QualifiedIdent(database, t.Name), zone: zone}
	insert := []byte("INSERT INTO " + p.name + " (")
	for i := range t.Columns {
		c := &t.Columns[i]
		p.quoted = append(p.quoted, sqltext.Ident(c.Name))
		p.always = append(p.always, c.Kind == replication.KindTimestamp || c.Kind == replication.KindDatetime)
		if zone != nil && c.Kind == replication.KindDatetime {
			p.zoned = append(p.zoned, i)
		}
		if c.Generated {
			continue
		}
		if len(p.written) > 0 {
			insert = append(insert, ',')
		}
		insert = append(insert, p.quoted[i]...)
		p.written = append(p.written, i)
	}
	p.insert = string(append(insert, ") VALUES "...))
	p.upsert = p.upsertText(rowAlias)
	return p
}

// upsertText is the end of a statement that updates the columns that are no part of the key. Newer servers want the new row
// named, older ones and MariaDB do not know that.
func (p *plan) upsertText(rowAlias bool) string {
	if len(p.table.Unique) > 0 {
		return ""
	}
	before, after, head := "VALUES(", ")", " ON DUPLICATE KEY UPDATE "
	if rowAlias {
		before, after, head = "`tablehaul new`.", "", " AS `tablehaul new` ON DUPLICATE KEY UPDATE "
	}
	var sets []string
	for _, i := range p.written {
		if !slices.Contains(p.table.Primary.Columns, i) {
			sets = append(sets, p.quoted[i]+"="+before+p.quoted[i]+after)
		}
	}
	if len(sets) == 0 {
		return ""
	}
	return head + strings.Join(sets, ",")
}

// values unpacks a row and converts what the target stores otherwise.
func (p *plan) values(dst [][]byte, r replication.Row) ([][]byte, error) {
	values, err := r.Values(dst, len(p.table.Columns))
	if err != nil {
		return dst, &replication.RowError{Table: p.table.Name, Err: err}
	}
	for _, i := range p.zoned {
		if values[i], err = replication.ToUTC(p.zone, values[i]); err != nil {
			return values, &replication.RowError{Table: p.table.Name, Column: p.table.Columns[i].Name, Err: err}
		}
	}
	return values, nil
}

// appendRow appends (v, v, ...) for an INSERT. warnings is how many the server will give for it: storing the
// empty error value of an ENUM, index 0, warns although it is stored as it is.
func (p *plan) appendRow(dst []byte, values [][]byte) (out []byte, warnings int, err error) {
	dst = append(dst, '(')
	for n, i := range p.written {
		if n > 0 {
			dst = append(dst, ',')
		}
		c := &p.table.Columns[i]
		if dst, err = sqltext.AppendLiteral(dst, c, values[i]); err != nil {
			return dst, 0, &replication.RowError{Table: p.table.Name, Column: c.Name, Err: err}
		}
		warnings += enumError(c, values[i])
	}
	return append(dst, ')'), warnings, nil
}

func enumError(c *replication.Column, v []byte) int {
	if c.Kind == replication.KindEnum && len(v) == 1 && v[0] == '0' {
		return 1
	}
	return 0
}

// appendKey appends k=v AND k=v for the identifying key.
func (p *plan) appendKey(dst []byte, values [][]byte) ([]byte, error) {
	return p.appendMatch(dst, p.table.Primary.Columns, values)
}

// appendMatch appends c=v AND c=v for columns.
func (p *plan) appendMatch(dst []byte, columns []int, values [][]byte) ([]byte, error) {
	var err error
	for n, i := range columns {
		if n > 0 {
			dst = append(dst, " AND "...)
		}
		dst = append(append(dst, p.quoted[i]...), '=')
		if dst, err = p.appendKeyValue(dst, i, values[i]); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (p *plan) appendKeyValue(dst []byte, i int, v []byte) ([]byte, error) {
	c := &p.table.Columns[i]
	dst, err := sqltext.AppendKeyLiteral(dst, c, v)
	if err != nil {
		return dst, &replication.RowError{Table: p.table.Name, Column: c.Name, Err: err}
	}
	return dst, nil
}

// appendSet appends c=v,c=v for the columns that change, or something that changes nothing.
func (p *plan) appendSet(dst []byte, before, after [][]byte) (out []byte, warnings int, err error) {
	start := len(dst)
	for _, i := range p.written {
		if !p.always[i] && slices.Equal(before[i], after[i]) && (before[i] == nil) == (after[i] == nil) {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		c := &p.table.Columns[i]
		dst = append(append(dst, p.quoted[i]...), '=')
		if dst, err = sqltext.AppendLiteral(dst, c, after[i]); err != nil {
			return dst, 0, &replication.RowError{Table: p.table.Name, Column: c.Name, Err: err}
		}
		warnings += enumError(c, after[i])
	}
	if len(dst) == start {
		name := p.quoted[p.written[0]]
		dst = append(append(append(dst, name...), '='), name...)
	}
	return dst, warnings, nil
}
