package shardcheck

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxProblems is how many problems a report has the text of.
const maxProblems = 20

// A Shard is one shard's database.
type Shard struct {
	// Name is a key range such as "-80" where the shard is a target; else anything.
	Name     string
	DB       *sql.DB
	Database string
}

// A Row is a row by column, as stored; NULL is nil.
type Row map[string][]byte

// A Table says how rows are told apart, and where they belong.
type Table struct {
	Name string
	// Key is the primary key. Keys are equal if their bytes are.
	Key []string
	// ID computes a row's keyspace id.
	ID func(Row) ([]byte, error)
	// Everywhere says that all shards, on both sides, have all rows. ID is not used then.
	Everywhere bool
}

// A Report says what was found.
type Report struct {
	// Rows is how many rows the source has, Problems how many of them, or of the target's, are not as they must be.
	Rows, Problems int
	// Texts are the first problems, one line each.
	Texts []string
	// PerShard is how many rows each target shard has, in the order given.
	PerShard []int
}

// String is one line, or one and those of the problems.
func (r *Report) String() string {
	s := fmt.Sprintf("%d rows, on the target shards %v, %d problems", r.Rows, r.PerShard, r.Problems)
	return strings.Join(append([]string{s}, r.Texts...), "\n\t")
}

func (r *Report) problem(format string, args ...any) {
	if r.Problems++; len(r.Texts) < maxProblems {
		r.Texts = append(r.Texts, fmt.Sprintf(format, args...))
	}
}

// rows of one table on one shard: key to row, both as bytes that no other columns give.
type rows map[string]stored

type stored struct {
	row  Row
	text string
}

// Check reads all shards. An error says that it couldn't; what is wrong with the rows is in the report.
func Check(ctx context.Context, sources, targets []Shard, tables []Table) (*Report, error) {
	r := &Report{PerShard: make([]int, len(targets))}
	for _, t := range tables {
		from, err := readAll(ctx, sources, t)
		if err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		to, err := readAll(ctx, targets, t)
		if err != nil {
			return nil, fmt.Errorf("target: %w", err)
		}
		for i := range to {
			r.PerShard[i] += len(to[i])
		}
		want, err := r.expected(t, sources, from, targets)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t.Name, err)
		}
		r.compare(t, targets, want, to)
	}
	return r, nil
}

// Home returns which of some shards a row of a table belongs on, by their names; -1 if none has its keyspace id.
func Home(shards []Shard, t Table, r Row) (int, error) {
	id, err := t.ID(r)
	if err != nil {
		return -1, err
	}
	for i, s := range shards {
		k, err := parseRange(s.Name)
		if err != nil {
			return -1, err
		}
		if k.contains(id) {
			return i, nil
		}
	}
	return -1, nil
}

// expected says what each target shard must have of a table.
func (r *Report) expected(t Table, sources []Shard, from []rows, targets []Shard) ([]rows, error) {
	want := make([]rows, len(targets))
	for i := range want {
		want[i] = rows{}
	}
	home := map[string]string{}
	for i, shard := range from {
		for key, s := range shard {
			if t.Everywhere {
				r.everywhere(t, sources, from, i, key)
				for _, w := range want {
					w[key] = s
				}
				continue
			}
			if other, twice := home[key]; twice {
				return nil, fmt.Errorf("the source has %s on shard %s and on %s", show(key), other, sources[i].Name)
			}
			home[key] = sources[i].Name
			r.Rows++
			at, err := Home(targets, t, s.row)
			if err != nil {
				return nil, fmt.Errorf("row %s: %w", show(key), err)
			}
			if at < 0 {
				return nil, fmt.Errorf("row %s: no shard has its keyspace id", show(key))
			}
			want[at][key] = s
		}
	}
	return want, nil
}

// everywhere compares a row of a source shard with that of the first one.
func (r *Report) everywhere(t Table, sources []Shard, from []rows, i int, key string) {
	if i == 0 {
		r.Rows++
		for k := range from {
			if _, there := from[k][key]; !there {
				r.problem("%s: %s is not on source shard %s", t.Name, show(key), sources[k].Name)
			}
		}
	} else if from[0][key].text != from[i][key].text {
		r.problem("%s: %s differs between source shards %s and %s", t.Name, show(key), sources[0].Name, sources[i].Name)
	}
}

// compare compares what target shards have with what they must have.
func (r *Report) compare(t Table, targets []Shard, want, have []rows) {
	for i, shard := range targets {
		for _, key := range slices.Sorted(maps.Keys(want[i])) {
			h, there := have[i][key]
			switch w := want[i][key]; {
			case !there:
				r.problem("%s: shard %s misses %s", t.Name, shard.Name, show(key))
			case h.text != w.text:
				r.problem("%s: shard %s has %s as %q, the source has %q", t.Name, shard.Name, show(key), h.text, w.text)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(have[i])) {
			if _, due := want[i][key]; due {
				continue
			}
			where := "the source has no such row"
			for k := range want {
				if _, due := want[k][key]; due {
					where = "it belongs on shard " + targets[k].Name
				}
			}
			r.problem("%s: shard %s has %s, %s", t.Name, shard.Name, show(key), where)
		}
	}
}

func show(key string) string { return fmt.Sprintf("%q", key) }

func readAll(ctx context.Context, shards []Shard, t Table) ([]rows, error) {
	out := make([]rows, len(shards))
	for i, s := range shards {
		var err error
		if out[i], err = read(ctx, s, t); err != nil {
			return nil, fmt.Errorf("shard %s: table %s: %w", s.Name, t.Name, err)
		}
	}
	return out, nil
}

// read reads a table's rows as they are stored; a table that is not there has none.
func read(ctx context.Context, s Shard, t Table) (rows, error) {
	conn, err := s.DB.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var there int
	err = conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?", s.Database, t.Name).Scan(&there)
	if err != nil || there == 0 {
		return rows{}, err
	}
	if _, err := conn.ExecContext(ctx, "SET character_set_results = NULL, time_zone = '+00:00'"); err != nil {
		return nil, err
	}
	result, err := conn.QueryContext(ctx, "SELECT * FROM `"+s.Database+"`.`"+t.Name+"`")
	if err != nil {
		return nil, err
	}
	defer result.Close()
	columns, err := result.Columns()
	if err != nil {
		return nil, err
	}
	values, into := make([][]byte, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	out := rows{}
	for result.Next() {
		if err := result.Scan(into...); err != nil {
			return nil, err
		}
		one := stored{row: Row{}}
		var text, key strings.Builder
		for i, c := range columns {
			one.row[c] = values[i]
			text.WriteString(literal(c, values[i]))
		}
		for _, c := range t.Key {
			key.WriteString(literal(c, one.row[c]))
		}
		one.text = text.String()
		if _, twice := out[key.String()]; twice {
			return nil, fmt.Errorf("the key %s is there twice", show(key.String()))
		}
		out[key.String()] = one
	}
	return out, result.Err()
}

// literal is a column's value in a form in which no two rows look alike.
func literal(column string, v []byte) string {
	if v == nil {
		return column + "=NULL;"
	}
	return fmt.Sprintf("%s=%d:%s;", column, len(v), v)
}
