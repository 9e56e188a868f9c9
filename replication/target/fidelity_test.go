package target_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// A typed column, and canonical values with what the server must say to an expression about each.
type typeCase struct {
	ddl    string
	column replication.Column
	// read is an expression in which c is the column.
	read   string
	values [][2]string
	only   string
}

func same(values ...string) (out [][2]string) {
	for _, v := range values {
		out = append(out, [2]string{v, v})
	}
	return out
}

func hexed(values ...string) (out [][2]string) {
	for _, v := range values {
		out = append(out, [2]string{v, strings.ToUpper(hex.EncodeToString([]byte(v)))})
	}
	return out
}

func text(charset, collation string) replication.Column {
	return replication.Column{Kind: replication.KindText, Charset: charset, Collation: collation}
}

func kind(k replication.Kind) replication.Column { return replication.Column{Kind: k} }

var every = func() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}()

var typeCases = []typeCase{
	{ddl: "tinyint", column: kind(replication.KindInt), read: "c", values: same("-128", "0", "127")},
	{ddl: "bigint", column: kind(replication.KindInt), read: "c", values: same("-9223372036854775808", "-1", "9223372036854775807")},
	{ddl: "bigint unsigned", column: kind(replication.KindUint), read: "c", values: same("0", "18446744073709551615")},
	{ddl: "decimal(65,30)", column: kind(replication.KindDecimal), read: "c", values: same(
		"99999999999999999999999999999999999.999999999999999999999999999999", "-0.000000000000000000000000000001", "0.000000000000000000000000000000")},
	{ddl: "decimal(10,0) unsigned", column: kind(replication.KindDecimal), read: "c", values: same("0", "9999999999")},
	{ddl: "float", column: kind(replication.KindFloat), read: "c+0e0", values: [][2]string{
		{"3.4028234663852886e+38", "3.4028234663852886e+38"},
		{"1.401298464324817e-45", "1.401298464324817e-45"},
		{"1.6777216e+07", "1.6777216e+07"},
		{"-1.2345670163631439e-01", "-0.12345670163631439"},
	}},
	{ddl: "double", column: kind(replication.KindDouble), read: "c", values: [][2]string{
		{"1.7976931348623157e+308", "1.7976931348623157e+308"},
		{"5e-324", "5e-324"},
		{"2.2250738585072014e-308", "2.2250738585072014e-308"},
		{"1e-01", "0.1"},
		{"0e+00", "0"},
	}},
	// MariaDB has no -0.
	{ddl: "double unsigned", only: "mysql", column: kind(replication.KindDouble), read: "c", values: [][2]string{{"0e+00", "0"}}},
	{ddl: "double", only: "mysql", column: kind(replication.KindDouble), read: "c", values: [][2]string{{"-0e+00", "-0"}}},
	{ddl: "year", column: kind(replication.KindYear), read: "CONCAT(c)", values: same("0000", "1901", "2155")},
	{ddl: "date", column: kind(replication.KindDate), read: "c", values: same("0000-00-00", "2020-00-00", "2021-02-31", "9999-12-31", "1000-01-01", "0001-01-01")},
	{ddl: "time(6)", column: kind(replication.KindTime), read: "c", values: same("-838:59:59.000000", "838:59:59.000000", "-00:00:00.000001", "00:00:00.000000")},
	{ddl: "datetime(6)", column: kind(replication.KindDatetime), read: "c", values: same(
		"0000-00-00 00:00:00.000000", "9999-12-31 23:59:59.999999", "2021-02-31 01:02:03.100000", "2021-03-28 02:30:00.000000")},
	{ddl: "timestamp(3) NULL", column: kind(replication.KindTimestamp), read: "c", values: same(
		"0000-00-00 00:00:00.000", "1970-01-01 00:00:01.000", "2038-01-19 03:14:07.999", "2021-03-28 01:30:00.001")},
	{ddl: "bit(1)", column: replication.Column{Kind: replication.KindBit, Length: 1}, read: "c+0", values: [][2]string{{"\x00", "0"}, {"\x01", "1"}}},
	{ddl: "bit(64)", column: replication.Column{Kind: replication.KindBit, Length: 64}, read: "c+0", values: [][2]string{
		{"\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"}, {"\x80\x00\x00\x00\x00\x00\x00\x00", "9223372036854775808"}, {"5\x00\x00\x00\x00\x00\x00'", "3819052484010180647"},
	}},
	{ddl: "enum('a','','c')", column: kind(replication.KindEnum), read: "c+0", values: same("0", "1", "2", "3")},
	{ddl: "set('a','b','c')", column: kind(replication.KindSet), read: "c+0", values: same("0", "5", "7")},
	{ddl: "set(" + manyMembers() + ")", column: kind(replication.KindSet), read: "c|0", values: same("0", "18446744073709551615", "9223372036854775808")},
	{ddl: "varchar(100) CHARACTER SET utf8mb4", column: text("utf8mb4", "utf8mb4_general_ci"), read: "HEX(c)", values: hexed("", " ", "a ", "it's \\ \"`\x00\x1a\r\n", "\U0001f600é", "NULL", "\\N")},
	{ddl: "char(20) CHARACTER SET utf8mb4", column: text("utf8mb4", "utf8mb4_general_ci"), read: "HEX(c)", values: hexed("", "a", "\U0001f600é")},
	{ddl: "varchar(100) CHARACTER SET utf8mb3", column: text("utf8mb3", "utf8mb3_general_ci"), read: "HEX(c)", values: hexed("", "é", "\uffff")},
	{ddl: "varchar(300) CHARACTER SET latin1", column: text("latin1", "latin1_swedish_ci"), read: "HEX(c)", values: hexed("", "\xc3\xa9", every)},
	{ddl: "varchar(100) CHARACTER SET gbk", column: text("gbk", "gbk_chinese_ci"), read: "HEX(c)", values: hexed("", "\xc2\xb5\xc3\xa9", "\xd5\x5c'\\", "\x81\x5c")},
	{ddl: "varchar(100) CHARACTER SET sjis", column: text("sjis", "sjis_japanese_ci"), read: "HEX(c)", values: hexed("\x83\x5c", "\x95\x5c'")},
	{ddl: "varchar(100) CHARACTER SET utf16", column: text("utf16", "utf16_general_ci"), read: "HEX(c)", values: hexed("", "\x00a\x00b", "\xd8\x3d\xde\x00", "\x00'\x00\\")},
	{ddl: "varchar(100) CHARACTER SET utf32", column: text("utf32", "utf32_general_ci"), read: "HEX(c)", values: hexed("", "\x00\x01\xf6\x00", "\x00\x00\x00\x00")},
	{ddl: "longtext CHARACTER SET ucs2", column: text("ucs2", "ucs2_general_ci"), read: "HEX(c)", values: hexed("", "\x00a", "\x00\x00")},
	{ddl: "text CHARACTER SET binary", column: kind(replication.KindBlob), read: "HEX(c)", values: hexed("", "\x00", every)},
	{ddl: "binary(4)", column: replication.Column{Kind: replication.KindBinary, Length: 4}, read: "HEX(c)", values: hexed("\x00\x00\x00\x00", "a\x00\x00\x00", "    ", "\xff'\\\x00")},
	{ddl: "varbinary(300)", column: kind(replication.KindBlob), read: "HEX(c)", values: hexed("", "\x00", "0xdeadbeef", every)},
	{ddl: "longblob", column: kind(replication.KindBlob), read: "SHA2(c, 256)", values: [][2]string{{strings.Repeat("'\x00", 1<<20), fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Repeat("'\x00", 1<<20))))}}},
	{ddl: "geometry", column: kind(replication.KindGeometry), read: "HEX(c)", values: hexed(
		"\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00@",
		"\xe6\x10\x00\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00@")},
	{ddl: "json", only: "mysql", column: kind(replication.KindJSON), read: "CONCAT(JSON_TYPE(JSON_EXTRACT(c, '$[0]')), ' ', c)", values: [][2]string{
		{`[1.0, "ü\u0000'\\"]`, `DOUBLE [1.0, "ü\u0000'\\"]`},
	}},
	{ddl: "json", only: "mysql", column: kind(replication.KindJSON), read: "CONCAT(JSON_TYPE(JSON_EXTRACT(c, '$[0]')), ' ', c)", values: [][2]string{
		{"\x00JSON_ARRAY(CAST('1.10' AS DECIMAL(10,2)), CAST('2020-01-02' AS DATE))", `DECIMAL [1.10, "2020-01-02"]`},
		{`[18446744073709551615, 1e100]`, `UNSIGNED INTEGER [18446744073709551615, 1e100]`},
	}},
	{ddl: "vector(3)", only: "mysql", column: kind(replication.KindVector), read: "HEX(c)", values: hexed("\x00\x00\x80?\x00\x00\x00@\x00\x00@@")},
	{ddl: "uuid", only: "mariadb", column: kind(replication.KindUnknown), read: "c", values: [][2]string{{"\x12\x3e\x45\x67\xe8\x9b\x12\xd3\xa4\x56\x42\x66\x14\x17\x40\x00", "123e4567-e89b-12d3-a456-426614174000"}}},
}

func manyMembers() string {
	var m []string
	for i := range 64 {
		m = append(m, fmt.Sprintf("'m%d'", i))
	}
	return strings.Join(m, ",")
}

// TestEveryType stores values of every type by a chunk and by a transaction, changes each row by its key, and
// looks at what the server then has.
func TestEveryType(t *testing.T) {
	eachPath(t, func(t *testing.T, s *replicationtest.Server, opts target.Options) {
		h := newShard(t, s)
		var tables []*replication.Table
		var cases []typeCase
		for i, c := range typeCases {
			if c.only != "" && c.only != s.Flavor {
				continue
			}
			name := fmt.Sprintf("t%d", i)
			null := " NULL"
			if strings.HasSuffix(c.ddl, "NULL") {
				null = ""
			}
			h.exec("CREATE TABLE " + name + " (id int PRIMARY KEY, c " + c.ddl + null + ", n int NOT NULL) CHARACTER SET utf8mb4")
			column := c.column
			column.Name, column.Type, column.Nullable = "c", c.ddl, true
			tables = append(tables, &replication.Table{
				Schema: "source", Name: name, Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
				Columns: []replication.Column{{Name: "id", Kind: replication.KindInt}, column, {Name: "n", Kind: replication.KindInt}},
			})
			cases = append(cases, c)
		}
		r := h.start(h.target(opts, tables...))
		for i, c := range cases {
			var rows []replication.Row
			var changes, later []replication.Change
			for n, v := range c.values {
				id := strconv.Itoa(n)
				rows = append(rows, row(id, v[0], "0"))
				changes = append(changes, insert(tables[i], strconv.Itoa(100+n), v[0], "0"))
				other := c.values[(n+1)%len(c.values)][0]
				later = append(later, update(tables[i], row(id, v[0], "0"), row(id, v[0], "1")),
					update(tables[i], row(strconv.Itoa(100+n), v[0], "0"), row(strconv.Itoa(100+n), null, "0")),
					update(tables[i], row(strconv.Itoa(100+n), null, "0"), row(strconv.Itoa(100+n), other, "0")),
					update(tables[i], row(strconv.Itoa(100+n), other, "0"), row(strconv.Itoa(100+n), v[0], "1")))
			}
			if err := r.apply(chunk(tables[i], replication.Span{Hi: row("99")}, position(r.n), rows...), r.entry(changes...), r.entry(later...)); err != nil {
				t.Errorf("%s: %v", c.ddl, err)
				r = h.start(h.target(opts, tables...))
				continue
			}
			var want []string
			for range 2 {
				for _, v := range c.values {
					want = append(want, v[1]+" 1")
				}
			}
			if target.Loads(r.t, tables[i]) == opts.DisableLocalInfile {
				t.Errorf("%s: the wrong path was taken", c.ddl)
			}
			h.want("SELECT "+c.read+", n FROM "+tables[i].Name+" ORDER BY id", want...)
		}
	})
}

// TestEveryTypeAsKey finds rows by keys of every type that can be one.
func TestEveryTypeAsKey(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s)
		for i, c := range typeCases {
			switch k := c.column.Kind; {
			case c.only != "", k == replication.KindJSON, k == replication.KindGeometry, k == replication.KindVector,
				strings.Contains(c.ddl, "text"), strings.Contains(c.ddl, "longblob"):
				continue
			}
			name := fmt.Sprintf("k%d", i)
			h.exec("CREATE TABLE " + name + " (c " + strings.TrimSuffix(c.ddl, " NULL") + " NOT NULL, n int, PRIMARY KEY (c)) CHARACTER SET utf8mb4")
			column := c.column
			column.Name, column.Type = "c", c.ddl
			table := &replication.Table{
				Schema: "source", Name: name, Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
				Columns: []replication.Column{column, {Name: "n", Kind: replication.KindInt}},
			}
			composite := *table
			composite.Primary.Columns = []int{0, 1}
			composite.Name = "c" + name
			h.exec("CREATE TABLE c" + name + " (c " + strings.TrimSuffix(c.ddl, " NULL") + " NOT NULL, n int, PRIMARY KEY (c, n)) CHARACTER SET utf8mb4")
			r := h.start(h.target(target.Options{}, table, &composite))
			values := c.values
			if c.column.Kind == replication.KindText {
				values = nil // values that are the same row by the collation would be duplicates
				for _, v := range c.values {
					if strings.TrimRight(v[0], " \x00") == v[0] && v[0] != "\\N" && v[0] != every {
						values = append(values, v)
					}
				}
			}
			for _, v := range values {
				err := r.apply(r.entry(insert(table, v[0], "1"), insert(&composite, v[0], "1")),
					r.entry(update(table, row(v[0], "1"), row(v[0], "2")), update(&composite, row(v[0], "1"), row(v[0], "2"))),
					r.entry(remove(table, v[0], "2"), remove(&composite, v[0], "2")))
				if err != nil {
					t.Errorf("%s: key %q: %v", c.ddl, v[0], err)
					r = h.start(h.target(target.Options{}, table, &composite))
					h.exec("DELETE FROM " + name)
					h.exec("DELETE FROM c" + name)
				}
			}
			_ = r.stop()
		}
	})
}

// TestRandomValues is the round trip of random bytes and floats: row, literal, server, HEX.
func TestRandomValues(t *testing.T) {
	eachPath(t, func(t *testing.T, s *replicationtest.Server, opts target.Options) {
		h := newShard(t, s, "CREATE TABLE r (id int PRIMARY KEY, b longblob, l longtext CHARACTER SET latin1, d double, f float)")
		table := &replication.Table{
			Schema: "source", Name: "r", Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
			Columns: []replication.Column{
				{Name: "id", Kind: replication.KindInt},
				{Name: "b", Kind: replication.KindBlob},
				{Name: "l", Kind: replication.KindText, Charset: "latin1"},
				{Name: "d", Kind: replication.KindDouble},
				{Name: "f", Kind: replication.KindFloat},
			},
		}
		r := h.start(h.target(opts, table))
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 1))
		var rows []replication.Row
		var want []string
		for id := range 500 {
			b := make([]byte, rnd.IntN(200))
			for i := range b {
				b[i] = byte(rnd.Uint32())
				if rnd.IntN(4) == 0 {
					b[i] = "'\\\x00\n\x1a\";-`"[rnd.IntN(9)]
				}
			}
			d := math.Float64frombits(rnd.Uint64())
			f := math.Float32frombits(rnd.Uint32())
			if math.IsNaN(d) || math.IsInf(d, 0) {
				d = 1
			}
			if f != f || math.IsInf(float64(f), 0) {
				f = 1
			}
			rows = append(rows, row(strconv.Itoa(id), string(b), string(b), strconv.FormatFloat(d, 'e', -1, 64), strconv.FormatFloat(float64(f), 'e', -1, 64)))
			want = append(want, fmt.Sprintf("%X %X %v %v", b, b, d, float64(f)))
		}
		r.must(chunk(table, replication.Span{}, position(0), rows...))
		for i, got := range h.rows("SELECT HEX(b), HEX(l), d, f+0e0 FROM r ORDER BY id") {
			g, w := strings.SplitN(got+" ", " ", 4), strings.SplitN(want[i]+" ", " ", 4)
			for j := range g {
				if j < 2 && g[j] != w[j] || j >= 2 && !equalFloats(g[j], w[j]) {
					t.Errorf("row %d: got %s, want %s", i, got, want[i])
				}
			}
		}
	})
}

func equalFloats(a, b string) bool {
	for i, x := range strings.Fields(a) {
		p, err1 := strconv.ParseFloat(x, 64)
		q, err2 := strconv.ParseFloat(strings.Fields(b)[i], 64)
		if err1 != nil || err2 != nil || p != q {
			return false
		}
	}
	return true
}

func TestLargeRows(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, "CREATE TABLE big (id int PRIMARY KEY, b longblob)")
		big := &replication.Table{
			Schema: "source", Name: "big", Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
			Columns: []replication.Column{{Name: "id", Kind: replication.KindInt}, {Name: "b", Kind: replication.KindBlob}},
		}
		r := h.start(h.target(target.Options{}, big))
		value := strings.Repeat("x", 3<<20)
		r.must(r.entry(insert(big, "1", value), insert(big, "2", value), insert(big, "3", value)),
			r.entry(update(big, row("1", value), row("1", value+"y")), remove(big, "2", value)))
		h.want("SELECT id, LENGTH(b) FROM big ORDER BY id", "1 3145729", "3 3145728")
		// 5 MB of quotes need 10 MB of text, and the server takes 8.
		err := r.apply(r.entry(insert(big, "4", strings.Repeat("'", 5<<20))))
		if bad, ok := errors.AsType[*replication.RowError](err); !ok || bad.Table != "big" || !strings.Contains(err.Error(), "max_allowed_packet") {
			t.Errorf("error is %.300v", err)
		}
		h.want("SELECT COUNT(*) FROM big", "2")
	})
}
