package routing_test

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tablehaul/tablehaul/migrate/routing"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/source"
	"github.com/tablehaul/tablehaul/topo/vindex"
)

var pathSeed = flag.Uint64("paths.seed", 0, "the seed of the random values of TestBothPathsHashAlike; 0 is a new one")

// A pathColumn is a type of column, and values for it as SQL. NULL is added to them.
type pathColumn struct {
	def    string
	values []string
	// only says that of all vindexes the vindex null alone takes the column; never, that none does.
	only, never bool
	// look is the expression by which a client gets the value; empty is the column itself. Zeros for display don't count.
	look string
}

// pathColumns are all types; random values are added to those of integers, texts and bytes.
func pathColumns(rnd *rand.Rand) []pathColumn {
	columns := []pathColumn{
		{def: "year", values: []string{"0", "1901", "2155"}, look: "CONCAT(v)"},
		{def: "int(8) zerofill", values: []string{"0", "42", "4294967295"}, look: "v + 0"},
		{def: "decimal(10,0)", values: []string{"0", "1", "-1", "127", "9999999999", "-9999999999"}},
		{def: "decimal(20,0) unsigned", values: []string{"1", "18446744073709551615", "18446744073709551616"}},
		{def: "decimal(12,3)", values: []string{"0", "1.5", "-0.001", "123456789.125"}},
		{def: "decimal(65,30)", values: []string{"12345678901234567890123456789012345.123456789012345678901234567890", "-1"}},
		{def: "decimal(12,3) zerofill", values: []string{"0", "1.5"}, look: "v + 0"},
		{def: "date", values: []string{"'0000-00-00'", "'2021-02-31'", "'9999-12-31'"}},
		{def: "time", values: []string{"'-838:59:59'", "'838:59:59'", "'-00:00:01'", "0"}},
		{def: "time(6)", values: []string{"'-838:59:58.999999'", "'-00:00:00.000001'", "'23:59:59.5'"}},
		{def: "datetime", values: []string{"'0000-00-00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"}},
		{def: "datetime(3)", values: []string{"'2024-01-02 03:04:05.678'"}},
		{def: "datetime(6)", values: []string{"'9999-12-31 23:59:59.999999'", "'2024-01-02 03:04:05'", "'2024-01-02 03:04:05.100000'"}},
		{def: "timestamp null", values: []string{"'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2024-03-31 02:30:00'"}},
		{def: "timestamp(6) null", values: []string{"'2038-01-19 03:14:07.499999'", "'0000-00-00'"}},
		{def: "bit(1)", values: []string{"0", "1"}},
		{def: "bit(9)", values: []string{"b'100000001'", "1", "49"}},
		{def: "bit(64)", values: []string{"18446744073709551615", "1", "0x3132333435363738"}},
		{def: "set('a','b','~ ','é')", values: []string{"0", "1", "2", "15", "'a,é'"}},
		{def: "set(" + numbers64() + ")", values: []string{"0", "1", "9223372036854775808", "18446744073709551615"}},
		{def: "enum('1','127','x ','')", values: []string{"1", "2", "3", "4", "'nosuch'"}},
		{def: "float", values: []string{"1.5", "0.1"}, only: true},
		{def: "double", values: []string{"1", "1e308"}, only: true},
		{def: "json", values: []string{"'1'"}, never: true},
		{def: "geometry", values: []string{"ST_GeomFromText('POINT(1 2)')"}, never: true},
		{def: "vector(2)", values: []string{"to_vector('[1,2]')"}, never: true},
	}
	for i, name := range []string{"tinyint", "smallint", "mediumint", "int", "bigint"} {
		bits := []int{8, 16, 24, 32, 64}[i]
		signed, unsigned := pathColumn{def: name}, pathColumn{def: name + " unsigned"}
		for _, v := range []int64{0, 1, -1, 127, -128, -1 << (bits - 1), 1<<(bits-1) - 1} {
			signed.values = append(signed.values, fmt.Sprint(v))
		}
		for _, v := range []uint64{0, 1, 255, 1<<64 - 1} {
			unsigned.values = append(unsigned.values, fmt.Sprint(v>>(64-bits)), fmt.Sprint(v&(1<<bits-1)))
		}
		for range 20 {
			n := rnd.Uint64()
			signed.values = append(signed.values, fmt.Sprint(int64(n)>>(64-bits)))
			unsigned.values = append(unsigned.values, fmt.Sprint(n>>(64-bits)))
		}
		columns = append(columns, signed, unsigned)
	}
	for _, def := range []string{"binary(8)", "varbinary(20)", "tinyblob", "blob", "mediumblob", "longblob"} {
		c := pathColumn{def: def, values: []string{"''", "x'00'", "x'610000'", "'1 '", "' 127'", "x'ff00fe0000000000'", "'-1'", "x'e9'"}}
		for range 10 {
			b := make([]byte, rnd.IntN(9))
			for i := range b {
				b[i] = byte(rnd.IntN(4) * 85)
			}
			c.values = append(c.values, "x'"+hex.EncodeToString(b)+"'")
		}
		columns = append(columns, c)
	}
	return columns
}

func numbers64() string {
	var members []string
	for i := range 64 {
		members = append(members, fmt.Sprintf("'%d'", i))
	}
	return strings.Join(members, ",")
}

// textColumns are the types of text in one character set. Values that it can't hold become question marks.
func textColumns(rnd *rand.Rand, charset string, unicode bool) []pathColumn {
	values := []string{"''", "' '", "'1'", "'127 '", "' -1'", "'a  '", "'Test'", "'TÉST'", "'e\u0301'", "'ß€Ž'", "'日本😀'", "'жλ中ｱ\u00a5'", "'\\t\\0x'"}
	for range 8 {
		text := make([]rune, 1+rnd.IntN(8))
		for i := range text {
			text[i] = rune(0x20 + rnd.IntN([]int{0x60, 0x180, 0x500, 0x3000, 0x9000, 0x1f000}[rnd.IntN(6)]))
			if !utf8.ValidRune(text[i]) || text[i] == '\'' || text[i] == '\\' {
				text[i] = ' '
			}
		}
		values = append(values, "'"+string(text)+"'")
	}
	if !unicode {
		// Every byte that is a character.
		for i := range 256 {
			values = append(values, fmt.Sprintf("_%s x'%02x41'", charset, i))
		}
	}
	suffix := " character set " + charset
	return []pathColumn{
		{def: "varchar(12)" + suffix, values: values},
		{def: "char(12)" + suffix, values: values},
		{def: "text" + suffix, values: values},
		{def: "longtext" + suffix, values: values[:8]},
		{def: "enum('1','é','x€')" + suffix, values: []string{"1", "2", "3", "'nosuch'"}},
		{def: "set('1','é','x€')" + suffix, values: []string{"0", "1", "2", "7"}},
	}
}

// paths is a server with a table for each column type, c0 and up: id, the value, and a copy of it.
type paths struct {
	*testing.T
	rnd     *rand.Rand
	server  *replicationtest.Server
	columns []pathColumn
	src     *source.Source
	// Of each column and row: what a client sees, and every row that came by chunk or in an event.
	seen [][]seen
	rows [][][]replication.Row
	// usable are the columns that vindexes take, integers those among them.
	usable, integers []int
}

// TestBothPathsHashAlike: for every column type and character set and every vindex, a row has the same keyspace id whether a chunk brings it
// or an event of the log, as image before or after; and it is the one that a client would compute of what it sees.
func TestBothPathsHashAlike(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a server")
	}
	t.Parallel()
	seed := *pathSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-paths.seed %d", seed)
	p := &paths{T: t, rnd: rand.New(rand.NewPCG(seed, 1)), server: replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})}
	p.columns = pathColumns(p.rnd)
	for _, row := range p.server.MustQuery(t, "SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS WHERE CHARACTER_SET_NAME <> 'binary' ORDER BY 1") {
		unicode := strings.HasPrefix(row[0], "u") || row[1] != "1"
		p.columns = append(p.columns, textColumns(p.rnd, row[0], unicode)...)
	}
	p.fill()
	known := map[string]bool{}
	for i, c := range p.columns {
		if !p.single(i, known) {
			continue
		}
		if p.usable = append(p.usable, i); strings.Contains(c.def, "int") {
			p.integers = append(p.integers, i)
		}
	}
	for _, charset := range []string{"ascii", "latin1", "utf8mb3", "utf8mb4", "ucs2", "utf16", "utf16le", "utf32"} {
		if !known[charset] {
			t.Errorf("text in %s has no keyspace ids", charset)
		}
	}
	if known["gbk"] {
		t.Error("gbk is not refused; nothing here says what its keyspace ids are")
	}
	p.several()
}

// fill writes all values and reads them back by all ways.
func (p *paths) fill() {
	p.Helper()
	var b strings.Builder
	b.WriteString("CREATE DATABASE paths; USE paths; SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'")
	for i, c := range p.columns {
		fmt.Fprintf(&b, "; CREATE TABLE c%d (id int PRIMARY KEY, v %s, w %s)", i, c.def, c.def)
	}
	p.server.MustExec(p.T, b.String())
	ctx := p.Context()
	var err error
	p.src, err = source.Open(ctx, source.Config{Addr: p.server.Addr(), User: "root", Database: "paths"}, nil, source.Options{})
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = p.src.Close() })
	_, from, err := p.src.End(ctx)
	if err != nil {
		p.Fatal(err)
	}
	b.Reset()
	b.WriteString("USE paths; SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'; BEGIN")
	for i, c := range p.columns {
		fmt.Fprintf(&b, "; INSERT IGNORE INTO c%d (id, v) VALUES (0, NULL)", i)
		for k, v := range c.values {
			fmt.Fprintf(&b, ", (%d, %s)", k+1, v)
		}
		fmt.Fprintf(&b, "; UPDATE c%d SET w = v", i)
	}
	p.server.MustExec(p.T, b.String()+"; COMMIT")
	p.rows, p.seen = make([][][]replication.Row, len(p.columns)), make([][]seen, len(p.columns))
	for i, c := range p.columns {
		p.rows[i], p.seen[i] = make([][]replication.Row, len(c.values)+1), make([]seen, len(c.values)+1)
	}
	p.look(ctx)
	p.readChunks(ctx)
	p.readLog(ctx, from)
}

// look reads the values as a client does, in UTF-8.
func (p *paths) look(ctx context.Context) {
	p.Helper()
	conn, err := p.server.DB(p.T).Conn(ctx)
	if err != nil {
		p.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SET time_zone = '+00:00', NAMES utf8mb4"); err != nil {
		p.Fatal(err)
	}
	for i := range p.columns {
		p.lookAt(ctx, conn, i)
	}
}

func (p *paths) lookAt(ctx context.Context, conn *sql.Conn, column int) {
	p.Helper()
	rows, err := conn.QueryContext(ctx, fmt.Sprintf("SELECT id, %s FROM paths.c%d", cmp.Or(p.columns[column].look, "v"), column))
	if err != nil {
		p.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int
		var v sql.RawBytes
		if err := rows.Scan(&id, &v); err != nil {
			p.Fatal(err)
		}
		p.seen[column][id] = seen{bytes.Clone(v), strings.HasSuffix(p.columns[column].def, "int")}
	}
	if err := rows.Err(); err != nil {
		p.Fatal(err)
	}
}

// take keeps a row of a table.
func (p *paths) take(t *replication.Table, r replication.Row) {
	p.Helper()
	values, err := r.Values(nil, len(t.Columns))
	if err != nil {
		p.Fatal(err)
	}
	var column, id int
	if _, err := fmt.Sscanf(t.Name+" "+string(values[0]), "c%d %d", &column, &id); err != nil {
		p.Fatal(err)
	}
	p.rows[column][id] = append(p.rows[column][id], r)
}

func (p *paths) readChunks(ctx context.Context) {
	p.Helper()
	for _, t := range p.src.Tables() {
		chunk, err := p.src.Read(ctx, t, replication.Span{}, replication.Limit{Rows: 1000, Bytes: 1 << 20})
		if err != nil {
			p.Fatal(err)
		}
		for _, r := range chunk.Rows {
			p.take(t, r)
		}
	}
}

// readLog reads the transaction of fill: every row's insert, and both images of its update.
func (p *paths) readLog(ctx context.Context, from replication.Position) {
	p.Helper()
	for tx, err := range p.src.Transactions(ctx, from) {
		if err != nil {
			p.Fatal(err)
		}
		e := replication.Entry{Changes: tx.Changes, Spill: tx.Spill}
		images := 0
		err := e.Each(func(c replication.Change) error {
			for _, r := range []replication.Row{c.Before, c.After} {
				if r != nil {
					p.take(c.Table, r)
					images++
				}
			}
			return nil
		})
		if err != nil {
			p.Fatal(err)
		}
		if images > 0 {
			break
		}
	}
	for i, rows := range p.rows {
		for id, ways := range rows {
			// Of a value NULL, the update changes nothing.
			if want := 4; len(ways) != want && (id > 0 || len(ways) != 2) {
				p.Fatalf("%s: value %d came %d times, want %d", p.columns[i].def, id, len(ways), want)
			}
		}
	}
}

// table is the one of a column, by the name c and a number.
func (p *paths) table(column int) *replication.Table {
	name := fmt.Sprintf("c%d", column)
	i := slices.IndexFunc(p.src.Tables(), func(t *replication.Table) bool { return t.Name == name })
	return p.src.Tables()[i]
}

// placement is a vindex of some columns.
func (p *paths) placement(typ string, params map[string]string, columns ...string) *vindex.Placement {
	p.Helper()
	v, err := vindex.New(typ, params, vindex.Options{ReadFile: func(string) ([]byte, error) { return []byte(regionsJSON), nil }})
	if err != nil {
		p.Fatal(err)
	}
	return &vindex.Placement{Kind: vindex.Sharded, Vindex: v, Name: typ, Columns: columns}
}

// single tries all vindexes of one column, and tells whether others than the vindex null take it; known gets the character sets of
// which ids can be computed.
func (p *paths) single(column int, known map[string]bool) (usable bool) {
	p.Helper()
	c, t := p.columns[column], p.table(column)
	for _, typ := range vindex.Types() {
		if slices.Contains([]string{"multicol", "region_experimental", "region_json"}, typ) {
			continue
		}
		ids, err := routing.KeyspaceIDs(t, p.placement(typ, naiveParams[typ], "v"))
		_, refused := errors.AsType[*routing.ColumnError](err)
		charset := t.Columns[1].Charset
		switch {
		case c.never && refused, c.only && typ != "null" && errors.Is(err, vindex.ErrFloat):
			continue
		case charset != "" && refused:
			continue // the caller knows which may be
		case err != nil:
			p.Errorf("%s by %s: %v", c.def, typ, err)
			continue
		case c.never, c.only && typ != "null":
			p.Errorf("%s is taken by %s", c.def, typ)
			continue
		}
		known[charset], usable = true, usable || typ != "null"
		for id, ways := range p.rows[column] {
			want, ok := p.agreed(fmt.Sprintf("%s by %s: value %q", c.def, typ, p.seen[column][id]), ways, ids)
			if f := naives[typ]; f != nil {
				p.compare(fmt.Sprintf("%s by %s", c.def, typ), []seen{p.seen[column][id]}, f, want, ok)
			}
		}
	}
	return usable
}

// agreed returns the id that all ways give.
func (p *paths) agreed(what string, ways []replication.Row, ids func(replication.Row) ([]byte, error)) (id []byte, ok bool) {
	p.Helper()
	for i, r := range ways {
		one, err := ids(r)
		if i == 0 {
			id, ok = one, err == nil
		}
		if !bytes.Equal(one, id) || (err == nil) != ok {
			p.Errorf("%s: by way %d the id is %x (%v), by the chunk %x", what, i, one, err, id)
		}
	}
	return id, ok
}

func (p *paths) compare(what string, values []seen, f naive, got []byte, ok bool) {
	p.Helper()
	if want, exists := f(values...); exists != ok || exists && !bytes.Equal(got, want) {
		p.Errorf("%s: values %q have the id %x (%t), a client computes %x (%t)", what, values, got, ok, want, exists)
	}
}

const regionsJSON = `{"1": 1, "é": 300, "": 7, "Test": 255}`

var regions = map[string]uint64{"1": 1, "é": 300, "": 7, "Test": 255}

// several tries vindexes of several columns on random ones. A row with values of several tables stands for one of a table that
// has all those columns.
func (p *paths) several() {
	p.Helper()
	parts := []string{"binary", "binary_md5", "hash", "numeric", "numeric_static_map", "reverse_bits", "xxhash"}
	made := 0
	for range 400 {
		n, typ, params := 2, "region_experimental", map[string]string{"region_bytes": "2"}
		f := naiveRegion(2)
		switch p.rnd.IntN(3) {
		case 0:
			typ, params = "region_json", map[string]string{"region_bytes": "1", "region_map": "regions.json"}
			f = naiveCountry(1, regions)
		case 1:
			typ, n = "multicol", 1+p.rnd.IntN(4)
			types, widths := make([]string, n), make([]int, n)
			for i := range n {
				types[i], widths[i] = parts[p.rnd.IntN(len(parts))], 1+p.rnd.IntN(2)
			}
			params = map[string]string{
				"column_count": fmt.Sprint(n), "column_vindex": strings.Join(types, ","),
				"column_bytes": strings.Trim(strings.ReplaceAll(fmt.Sprint(widths), " ", ","), "[]"), "json": naiveParams["numeric_static_map"]["json"],
			}
			f = naiveMulticol(types, widths)
		}
		made += p.joint(p.placement(typ, params), n, f)
	}
	if made < 2000 {
		p.Errorf("only %d rows had ids by several columns", made)
	}
}

// joint computes ids of random rows of n random columns, and returns how many there were.
func (p *paths) joint(placement *vindex.Placement, n int, f naive) (made int) {
	p.Helper()
	wide := &replication.Table{Name: "wide", Primary: replication.Index{Columns: []int{0}}}
	columns := make([]int, n)
	for i := range n {
		if columns[i] = p.usable[p.rnd.IntN(len(p.usable))]; p.rnd.IntN(3) > 0 {
			columns[i] = p.integers[p.rnd.IntN(len(p.integers))]
		}
		c := p.table(columns[i]).Columns[1]
		c.Name = fmt.Sprintf("c%d", i)
		wide.Columns = append(wide.Columns, c)
		placement.Columns = append(placement.Columns, c.Name)
	}
	ids, err := routing.KeyspaceIDs(wide, placement)
	if err != nil {
		p.Fatal(err)
	}
	for range 20 {
		values := make([]seen, n)
		ways := make([]replication.Row, 2)
		for i, c := range columns {
			id := p.rnd.IntN(len(p.rows[c]))
			values[i] = p.seen[c][id]
			for w := range ways {
				// The chunk's row, and any of the log's.
				r := p.rows[c][id][w*(1+p.rnd.IntN(len(p.rows[c][id])-1))]
				cells, err := r.Values(nil, 3)
				if err != nil {
					p.Fatal(err)
				}
				ways[w] = replication.AppendValue(ways[w], cells[1])
			}
		}
		what := fmt.Sprintf("%s of %v: %q", placement.Name, wide.Columns, values)
		id, ok := p.agreed(what, ways, ids)
		p.compare(what, values, f, id, ok)
		if ok {
			made++
		}
	}
	return made
}
