package target_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// words is a table of one column.
func words() *replication.Table {
	return &replication.Table{
		Schema: "source", Name: "words", Ordered: true, Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}, Exact: true},
		Columns: []replication.Column{{Name: "w", Kind: replication.KindBlob, Type: "varbinary(20)"}},
	}
}

func TestChunkOfOneColumn(t *testing.T) {
	eachPath(t, func(t *testing.T, s *replicationtest.Server, opts target.Options) {
		h := newShard(t, s, "CREATE TABLE words (w varbinary(20) PRIMARY KEY)")
		r := h.start(h.target(opts, words()))
		r.must(chunk(target.Tables(r.t)[0], replication.Span{}, position(0), row(""), row("\t"), row("\n"), row("\\"), row("\\N"), row("NULL"), row("\r\n"), row("\x00"), row("'"), row("\x1a")))
		h.want("SELECT HEX(w) FROM words ORDER BY w", "", "00", "09", "0A", "0D0A", "1A", "27", "4E554C4C", "5C", "5C4E")
	})
}

// An empty value at the beginning of a line is a field like any other.
func TestChunkOfEmptyValues(t *testing.T) {
	eachPath(t, func(t *testing.T, s *replicationtest.Server, opts target.Options) {
		h := newShard(t, s, "CREATE TABLE hollow (name varchar(99), note varchar(99), b varbinary(9), x text, doc json NULL, e enum('','b') NULL, s set('a','b') NULL, PRIMARY KEY (name, note, b)) CHARACTER SET utf8mb4")
		str := func(name string) replication.Column {
			return replication.Column{Name: name, Kind: replication.KindText, Type: "varchar(99)", Charset: "utf8mb4"}
		}
		hollow := &replication.Table{
			Schema: "source", Name: "hollow", Primary: replication.Index{Name: "PRIMARY", Columns: []int{0, 1, 2}},
			Columns: []replication.Column{
				str("name"), str("note"),
				{Name: "b", Kind: replication.KindBlob, Type: "varbinary(9)"},
				str("x"),
				{Name: "doc", Kind: replication.KindJSON, Type: "json", Nullable: true},
				{Name: "e", Kind: replication.KindEnum, Type: "enum('','b')", Members: []string{"", "b"}, Nullable: true},
				{Name: "s", Kind: replication.KindSet, Type: "set('a','b')", Members: []string{"a", "b"}, Nullable: true},
			},
		}
		hollow.Columns[3].Type, hollow.Columns[3].Nullable = "text", true
		r := h.start(h.target(opts, hollow))
		r.must(chunk(hollow, replication.Span{}, position(0),
			row("", "", "", "", "{}", "1", "3"), row("", "", "\t", null, null, null, null), row("", "", "x", "", null, "2", "0"),
			row("", "n", "", "", "{}", "1", "1"), row("a", "", "", "", "[]", "2", null), row("b", "n", "", "y", "[1]", null, "2")))
		if target.Loads(r.t, hollow) == opts.DisableLocalInfile {
			t.Error("the wrong path was taken")
		}
		h.want("SELECT name, note, HEX(b), x, doc, e+0, s+0 FROM hollow ORDER BY name, note, b",
			"    {} 1 3", "  09 NULL NULL NULL NULL", "  78  NULL 2 0", " n   {} 1 1", "a    [] 2 NULL", "b n  y [1] NULL 2")
	})
}

// A line, read by the rules of LOAD DATA, has the fields that were put in.
func TestLinesAreReadBack(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	kinds := []replication.Kind{replication.KindInt, replication.KindText, replication.KindBlob, replication.KindJSON, replication.KindEnum, replication.KindUnknown}
	const pieces = "\t\n\\N'0\r\x00\x1ax"
	for range 20000 {
		table := &replication.Table{Name: "t", Primary: replication.Index{Columns: []int{0}}}
		values := make([][]byte, 1+rnd.IntN(5))
		written := values[:0:0]
		for i := range values {
			c := replication.Column{Name: fmt.Sprint("c", i), Kind: kinds[rnd.IntN(len(kinds))], Generated: i > 0 && rnd.IntN(5) == 0}
			if rnd.IntN(4) > 0 {
				values[i] = make([]byte, rnd.IntN(4))
				for j := range values[i] {
					values[i][j] = pieces[rnd.IntN(len(pieces))]
				}
				if c.Kind == replication.KindInt || c.Kind == replication.KindEnum {
					values[i] = []byte(fmt.Sprint(rnd.IntN(100)))
				}
			}
			table.Columns = append(table.Columns, c)
			if !c.Generated {
				written = append(written, values[i])
			}
		}
		line, err := target.Line(table, replication.PackRow(values...))
		if err != nil {
			t.Fatal(err)
		}
		if got := fields(line); !reflect.DeepEqual(got, written) {
			t.Fatalf("%q became %q, which is %q", written, line, got)
		}
	}
}

// fields reads a file of one line as LOAD DATA ... ESCAPED BY '\\' does; nil if it has not one line.
func fields(file []byte) (out [][]byte) {
	field := []byte{}
	isNull := false
	for i := 0; i < len(file); i++ {
		switch b := file[i]; b {
		case '\t', '\n':
			if isNull {
				field = nil
			}
			out, field, isNull = append(out, field), []byte{}, false
			if b == '\n' {
				if i+1 < len(file) {
					return nil
				}
				return out
			}
		case '\\':
			i++
			// \N is NULL only if it is the whole field.
			isNull = file[i] == 'N' && len(field) == 0 && (file[i+1] == '\t' || file[i+1] == '\n')
			if j := strings.IndexByte("0nrtbZ", file[i]); j >= 0 {
				field = append(field, "\x00\n\r\t\b\x1a"[j])
			} else {
				field = append(field, file[i])
			}
		default:
			field = append(field, b)
		}
	}
	return nil
}

// Id 0, generated columns, and columns that only the target has.
func TestChunkOfUnusualTable(t *testing.T) {
	eachPath(t, func(t *testing.T, s *replicationtest.Server, opts target.Options) {
		h := newShard(t, s, "CREATE TABLE odd (id int PRIMARY KEY AUTO_INCREMENT, g int AS (LENGTH(`a b``c`) * 2) STORED, `a b``c` varchar(10) CHARACTER SET utf8mb4 NOT NULL, v int AS (1 + 1), extra int DEFAULT 7)")
		odd := &replication.Table{
			Schema: "source", Name: "odd", Ordered: true, Primary: replication.Index{Name: "PRIMARY", Columns: []int{0}, Exact: true},
			Columns: []replication.Column{
				{Name: "id", Kind: replication.KindInt, Type: "int"},
				{Name: "g", Kind: replication.KindInt, Type: "int", Generated: true, Nullable: true},
				{Name: "a b`c", Kind: replication.KindText, Type: "varchar(10)", Charset: "utf8mb4"},
				{Name: "v", Kind: replication.KindInt, Type: "int", Generated: true, Nullable: true},
			},
		}
		r := h.start(h.target(opts, odd))
		// MariaDB's default is to lock the counter for a whole LOAD DATA.
		if want := !opts.DisableLocalInfile && s.Flavor == "mysql"; target.Loads(r.t, odd) != want {
			t.Errorf("loads: %v, want %v", !want, want)
		}
		r.must(chunk(odd, replication.Span{}, position(0), row("0", "2", "x", "2"), row("5", "0", "", "2"), row("-3", "4", "yz", "2")))
		h.want("SELECT * FROM odd ORDER BY id", "-3 4 yz 2 7", "0 2 x 2 7", "5 0  2 7")
	})
}

// A chunk of a table whose order is not known replaces what is there.
func TestChunkReplacesRows(t *testing.T) {
	eachPath(t, func(t *testing.T, s *replicationtest.Server, opts target.Options) {
		h := newShard(t, s, createPairs)
		p := pairs()
		p.Ordered, p.Primary.Exact = false, false
		r := h.start(h.target(opts, p))
		loose := insert(p, "2", "old", "20")
		loose.Loose = true
		r.must(r.entry(loose))
		var rows []replication.Row
		want := []string{"1 a 10", "2 b 20"}
		rows = append(rows, row("1", "a", "10"), row("2", "b", "20"))
		for i := 3; i < 700; i++ {
			rows = append(rows, row(fmt.Sprint(i), null, fmt.Sprint(100*i)))
			want = append(want, fmt.Sprintf("%d NULL %d", i, 100*i))
		}
		r.must(chunk(p, replication.Span{}, position(1), rows...))
		h.want(allPairs, want...)
	})
}

func TestLargeChunkRows(t *testing.T) {
	eachPath(t, func(t *testing.T, s *replicationtest.Server, opts target.Options) {
		s.MustExec(t, "SET GLOBAL max_allowed_packet = 64 * 1024 * 1024")
		defer s.MustExec(t, "SET GLOBAL max_allowed_packet = 8 * 1024 * 1024")
		h := newShard(t, s, "CREATE TABLE big (id int PRIMARY KEY, b longblob)")
		big := &replication.Table{
			Schema: "source", Name: "big", Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
			Columns: []replication.Column{{Name: "id", Kind: replication.KindInt}, {Name: "b", Kind: replication.KindBlob}},
		}
		r := h.start(h.target(opts, big))
		value := strings.Repeat("\\\n", 17<<19)
		r.must(chunk(big, replication.Span{}, position(0), row("1", value), row("2", "x")))
		h.want("SELECT id, LENGTH(b), b = REPEAT(_binary'\\\\\\n', 8912896) FROM big ORDER BY id",
			"1 17825792 1", "2 1 0")
		if target.Loads(r.t, big) == opts.DisableLocalInfile {
			t.Error("the wrong path was taken")
		}
		_ = r.stop()
		s.MustExec(t, "SET GLOBAL max_allowed_packet = 8 * 1024 * 1024")
		r = h.start(h.target(opts, big))
		err := r.apply(chunk(big, replication.Span{Lo: row("4")}, position(0), row("5", value)))
		if _, ok := errors.AsType[*replication.RowError](err); !ok || !strings.Contains(err.Error(), "max_allowed_packet") {
			t.Errorf("a row that the server does not take: %v", err)
		}
	})
}

// A row that is there already is left out by LOAD DATA LOCAL, a value that does not fit is changed: neither
// must be found on the target.
func TestLoadIsChecked(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, createPairs)
		p := pairs()
		r := h.start(h.target(target.Options{}, p))
		r.must(r.entry(insert(p, "500", "there", "5")))
		for name, bad := range map[string]replication.Row{
			"key":       row("500", "new", "1"),
			"unique":    row("501", "new", "5"),
			"too long":  row("501", strings.Repeat("x", 30), null),
			"not a int": row("501", null, "x"),
			"not utf8":  row("501", "\xff", null),
		} {
			var rows []replication.Row
			for i := range 1000 {
				if i == 700 {
					rows = append(rows, bad)
				} else {
					rows = append(rows, row(fmt.Sprint(1000+i), "x", null))
				}
			}
			err := r.apply(chunk(p, replication.Span{}, position(1), rows...))
			drift, isDrift := errors.AsType[*replication.DriftError](err)
			_, isRow := errors.AsType[*replication.RowError](err)
			if wantDrift := name == "key" || name == "unique"; isDrift != wantDrift || isRow == wantDrift || isDrift && !strings.Contains(drift.Key, "50") {
				t.Errorf("%s: %v", name, err)
			}
			h.want(allPairs, "500 there 5")
			h.want("SELECT COUNT(*) FROM "+h.side.Table("copy_state"), "0")
			r = h.start(h.target(target.Options{}, p))
		}
	})
}

// The server is told not to allow LOAD DATA LOCAL while chunks are written: they are written by INSERT.
func TestLocalInfileIsSwitchedOff(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		defer s.MustExec(t, "SET GLOBAL local_infile = ON")
		h := newShard(t, s, createPairs)
		p := pairs()
		var log bytes.Buffer
		opts := target.Options{Loaders: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		r := h.start(h.target(opts, p))
		r.must(chunk(p, replication.Span{Hi: row("1")}, position(0), row("1", "a", null)))
		s.MustExec(t, "SET GLOBAL local_infile = OFF")
		r.must(chunk(p, replication.Span{Lo: row("1"), Hi: row("2")}, position(0), row("2", "b", null)),
			chunk(p, replication.Span{Lo: row("2"), Hi: row("3")}, position(0), row("3", "c", null)))
		h.want("SELECT id FROM pairs ORDER BY id", "1", "2", "3")
		if target.Loads(r.t, p) {
			t.Error("it goes on trying")
		}
		_ = r.stop()
		r = h.start(h.target(opts, p))
		r.must(chunk(p, replication.Span{Lo: row("3"), Hi: row("4")}, position(0), row("4", "d", null)))
		h.want("SELECT id FROM pairs ORDER BY id", "1", "2", "3", "4")
		_ = r.stop()
		if got := log.String(); strings.Count(got, "LOAD DATA LOCAL INFILE") != 1 || strings.Count(got, "by INSERT from now on") != 1 || strings.Count(got, `"copy by"=INSERT`) != 1 {
			t.Errorf("log is\n%s", got)
		}
	})
}

// A server that asks for a file gets nothing but the rows of the statement that is under way, once, by their name.
func TestServerAsksForFiles(t *testing.T) {
	rows := "1\ta\n"
	for name, c := range map[string]struct {
		asks []string
		load bool
		want string
	}{
		"its own file":            {[]string{"/etc/passwd"}, true, ""},
		"without LOAD DATA":       {[]string{target.InfileName}, false, ""},
		"a file out of the blue":  {[]string{"/etc/passwd"}, false, ""},
		"the rows":                {[]string{target.InfileName}, true, rows},
		"the rows, and once more": {[]string{target.InfileName, target.InfileName}, true, rows},
		"the rows, then a file":   {[]string{target.InfileName, "/etc/passwd"}, true, rows},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			got := make(chan string, 1)
			go func() {
				defer there.Close()
				got <- askFor(there, c.asks)
			}()
			err := target.Talk(t.Context(), here, c.load, pairs(), row("1", "a", null))
			_ = here.Close()
			sent := strings.ReplaceAll(<-got, "\t\\N", "")
			if sent != c.want {
				t.Errorf("the server got %q, want %q", sent, c.want)
			}
			if good := len(c.asks) == 1 && c.want != ""; good != (err == nil) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// askFor is a server that answers a statement by asking for files, and says OK at the end. It returns what it was sent.
func askFor(nc net.Conn, files []string) string {
	seq := byte(0)
	read := func() []byte {
		head := make([]byte, 4)
		if _, err := io.ReadFull(nc, head); err != nil {
			return nil
		}
		body := make([]byte, binary.LittleEndian.Uint32([]byte{head[0], head[1], head[2], 0}))
		if _, err := io.ReadFull(nc, body); err != nil {
			return nil
		}
		seq = head[3] + 1
		return body
	}
	write := func(p []byte) error {
		_, err := nc.Write(append([]byte{byte(len(p)), byte(len(p) >> 8), 0, seq}, p...))
		return err
	}
	read()
	sent := ""
	for _, f := range files {
		if write(append([]byte{0xfb}, f...)) != nil {
			return sent
		}
		for {
			p := read()
			if len(p) == 0 {
				break
			}
			sent += string(p)
		}
	}
	_ = write([]byte{0, 1, 0, 2, 0, 0, 0})
	return sent
}
