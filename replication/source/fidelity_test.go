package source_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
)

// A columnCase is a column definition and values for it, as SQL; NULL is tried with each.
type columnCase struct {
	def    string
	values []string
}

// columnCases are all types with their extremes.
var columnCases = []columnCase{
	{"tinyint", []string{"-128", "0", "127"}},
	{"tinyint unsigned", []string{"0", "255"}},
	{"tinyint(1)", []string{"true", "false", "-5"}},
	{"smallint", []string{"-32768", "32767"}},
	{"smallint unsigned", []string{"65535"}},
	{"mediumint", []string{"-8388608", "8388607", "-1"}},
	{"mediumint unsigned", []string{"16777215"}},
	{"int", []string{"-2147483648", "2147483647"}},
	{"int unsigned", []string{"4294967295"}},
	{"int(8) zerofill", []string{"0", "42", "123456789"}},
	{"bigint", []string{"-9223372036854775808", "9223372036854775807"}},
	{"bigint unsigned", []string{"0", "18446744073709551615"}},
	{"bigint unsigned zerofill", []string{"7"}},
	{"decimal(10,2)", []string{"0", "-0.01", "99999999.99", "-99999999.99", "1.5"}},
	{"decimal(65,30)", []string{"12345678901234567890123456789012345.123456789012345678901234567890", "-1", "0.000000000000000000000000000001"}},
	{"decimal(5,5)", []string{"0.12345", "-0.00001"}},
	{"decimal(9,0) unsigned", []string{"999999999", "0"}},
	{"decimal(12,3) zerofill", []string{"0", "1.5", "123456789.125"}},
	{"decimal(20,1)", []string{"-1234567890123456789.1", "100000000000000000.0"}},
	{"float", []string{"0", "-0e0", "1.5", "16777217", "0.1234567", "3.402823466e38", "-1.175494351e-38", "1e-45"}},
	{"float unsigned", []string{"0.1"}},
	{"float(7,3)", []string{"1234.567", "0.1"}},
	{"double", []string{"0", "-0e0", "0.1", "1e308", "1.7976931348623157e308", "2.2250738585072014e-308", "5e-324", "-123456789.123456789", "1e15", "1e16"}},
	{"double(20,3)", []string{"12345678.9", "0.1"}},
	{"year", []string{"0", "1901", "2155", "2024"}},
	{"date", []string{"'0000-00-00'", "'2020-00-00'", "'2021-02-31'", "'1000-01-01'", "'9999-12-31'"}},
	{"time", []string{"'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'"}},
	{"time(1)", []string{"'-00:00:00.1'", "'-00:00:01.9'", "'01:02:03.4'", "0"}},
	{"time(2)", []string{"'-00:00:00.01'", "'838:59:58.99'"}},
	{"time(3)", []string{"'-838:59:58.999'", "'12:34:56.789'", "'-00:00:01.001'"}},
	{"time(4)", []string{"'-00:00:00.0001'", "'-12:00:00.9999'"}},
	{"time(5)", []string{"'-00:00:00.00001'", "'00:00:00.99999'"}},
	{"time(6)", []string{"'-838:59:58.999999'", "'-00:00:00.000001'", "'-01:00:00'", "'23:59:59.999999'"}},
	{"datetime", []string{"'0000-00-00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'2021-02-31 10:20:30'"}},
	{"datetime(1)", []string{"'2024-01-02 03:04:05.6'"}},
	{"datetime(2)", []string{"'2024-01-02 03:04:05.67'"}},
	{"datetime(3)", []string{"'2024-01-02 03:04:05.678'", "'0000-00-00 00:00:00.000'"}},
	{"datetime(4)", []string{"'2024-01-02 03:04:05.6789'"}},
	{"datetime(5)", []string{"'2024-01-02 03:04:05.67891'"}},
	{"datetime(6)", []string{"'9999-12-31 23:59:59.999999'", "'0000-00-00'", "'1000-01-01 00:00:00.000001'"}},
	{"timestamp null", []string{"'0000-00-00'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2024-03-31 02:30:00'"}},
	{"timestamp(1) null", []string{"'2024-01-02 03:04:05.6'"}},
	{"timestamp(3) null", []string{"'2024-01-02 03:04:05.678'", "'0000-00-00'"}},
	{"timestamp(6) null", []string{"'2038-01-19 03:14:07.499999'", "'1970-01-01 00:00:01.000001'", "'0000-00-00'"}},
	{"bit(1)", []string{"b'0'", "b'1'"}},
	{"bit(8)", []string{"b'10101010'", "0"}},
	{"bit(9)", []string{"b'100000001'"}},
	{"bit(63)", []string{"b'1'"}},
	{"bit(64)", []string{"18446744073709551615", "9223372036854775808", "1"}},
	{"enum('a','b''c','d\\\\e','f,g')", []string{"'a'", "2", "4", "0"}},
	{"enum('é','ü') character set latin1", []string{"1", "2"}},
	{"set('a','b','c','d','e','f','g','h','i')", []string{"0", "511", "'a,i'"}},
	{"set(" + members(64) + ")", []string{"18446744073709551615", "9223372036854775808", "1", "9007199254740993"}},
	{"char(10) character set utf8mb4", []string{"''", "'abc  '", "'日本語😀'", "' x'"}},
	{"char(200) character set utf8mb4", []string{"repeat('é',200)", "'a'"}},
	{"char(255) character set utf8mb4", []string{"repeat('😀',255)", "''"}},
	{"char(10) character set latin1", []string{"x'E9E8'", "'Ã©'"}},
	{"char(10) character set utf16", []string{"'abc'", "'é  '"}},
	{"char(0)", []string{"''"}},
	{"varchar(10) character set utf8mb4 collate utf8mb4_bin", []string{"'a  '", "'日本'"}},
	{"varchar(63) character set utf8mb4", []string{"repeat('😀',63)", "''"}},
	{"varchar(64) character set utf8mb4", []string{"repeat('😀',64)"}},
	{"varchar(255) character set latin1", []string{"repeat(x'ff',255)", "x'C3A9'"}},
	{"varchar(300) character set gbk", []string{"x'C2B5C3A9'", "x'815C'"}},
	{"varchar(20) character set utf16le", []string{"'abc'"}},
	{"varchar(20) character set utf32", []string{"'a😀'"}},
	{"varchar(20) character set ucs2", []string{"'ab'"}},
	{"varchar(20) character set sjis", []string{"x'835C'"}},
	{"binary(4)", []string{"''", "x'00'", "x'01000000'", "x'ff00ff00'", "'ab'"}},
	{"binary(16)", []string{"x'000102030405060708090a0b0c0d0e00'", "x'20'"}},
	{"binary(255)", []string{"repeat(x'00',255)", "repeat(x'ff',255)"}},
	{"varbinary(10)", []string{"''", "x'00'", "x'ff0000'", "'0xdeadbeef'"}},
	{"varbinary(300)", []string{"repeat(x'00',300)", "x'5c27'"}},
	{"tinyblob", []string{"''", "repeat(x'ff',255)"}},
	{"blob", []string{"''", "x'00'", "repeat('x',65535)"}},
	{"mediumblob", []string{"repeat('y',70000)"}},
	{"longblob", []string{"repeat(x'00',251)", "repeat('z',252)"}},
	{"tinytext character set latin1", []string{"x'e9'"}},
	{"text", []string{"''", "'a\\0b\\'c\\\\'", "repeat('é', 300)"}},
	{"mediumtext", []string{"repeat('é', 40000)"}},
	{"longtext character set utf16", []string{"'xyz'"}},
	{"geometry", []string{"ST_GeomFromText('POINT(1 2)', 4326)", "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')"}},
	{"point", []string{"ST_GeomFromText('POINT(-1.5 1e10)')"}},
	{"polygon srid 4326", []string{"ST_GeomFromText('POLYGON((0 0,10 0,10 10,0 0))', 4326)"}},
	{"multipoint", []string{"ST_GeomFromText('MULTIPOINT((1 1),(2 2))')"}},
	{"vector(3)", []string{"to_vector('[1,2.5,-3e10]')"}},
	{"int invisible", []string{"5"}},
	{"json", jsonValues},
}

// jsonValues are documents of every kind, with the types that text can't carry.
var jsonValues = []string{
	"'null'", "'true'", "'[]'", "'{}'", "'\"\"'", "'5'", "'-1'", "'1.5'", "'{\"a\": {\"b\": [1, 2, {\"c\": null}]}}'",
	"'[127, 128, -129, 32767, 32768, 65535, 65536, 2147483647, 2147483648, -2147483649, 4294967296, 9223372036854775807, 9223372036854775808, 18446744073709551615, -9223372036854775808]'",
	"'[1.0, -0.0, 0.0, 1e100, 1e15, 1e14, 123456789012345.6, 1234567890123456.7, 1e-14, 1e-15, 1.5e-15, 1e-16, 0.1, 17.123456789012345, 1.7976931348623157e308, 5e-324]'",
	`'"a\\"b\\\\c\\/d\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\\u00e9\\ud83d\\ude00"'`,
	`'{"é": "日本", "key with \\"quotes\\"": [], "": 1}'`,
	"json_array(1.10, 5, cast(7 as decimal(3,1)))", "cast(1.25 as json)", "json_object('d', 0.50, 'n', -12345.67, 'z', cast(0 as decimal(5,2)))",
	"json_array(cast('2020-01-02' as date), cast('2020-01-02 03:04:05' as datetime), cast('2020-01-02 03:04:05.678901' as datetime(6)), cast('-12:34:56.789' as time(3)), timestamp '2020-01-02 03:04:05')",
	"json_object('a', x'00ff41', 'deep', json_object('l', json_array(1, json_array(x'', 1.5, 2.50)), 'plain', json_array(1, 'x', true, null)))",
	"cast(cast('2020-02-03' as date) as json)", "cast(cast(12 as decimal(10,0)) as json)", "json_extract(json_array(x'4142'), '$[0]')",
	"json_array(repeat(x'41', 100))", "json_array(b'101', cast('abc' as binary(5)))",
	"json_array(repeat('x', 127), repeat('y', 128), repeat('z', 16384))",
	"json_array(repeat('x', 70000), 1, 70000, -70000, 5000000000, json_object('k', 1.5, 'm', cast(1.50 as decimal(5,2))))",
	"json_object('escape me', 'a''b\\\\c', 'q', json_array('\"', 3.10))",
	"'{\"nested\": [[[[[[[[1]]]]]]]]}'", "cast(18446744073709551615 as json)", "json_array(cast(-5 as signed), cast(5 as unsigned))",
}

func members(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("'m%d'", i))
	}
	return strings.Join(list, ",")
}

const looseSession = "SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'"

// TestBothWaysGiveTheSameBytes inserts, updates and deletes every value of every type and compares the log's rows with
// those of a SELECT.
func TestBothWaysGiveTheSameBytes(t *testing.T) {
	for _, metadata := range []string{"FULL", "MINIMAL"} {
		f := newFixture(t)
		f.exec("SET GLOBAL binlog_row_metadata = " + metadata)
		for n, cc := range columnCases {
			f.exec(fmt.Sprintf("CREATE TABLE c%d (id int primary key, v %s, w %s)", n, cc.def, cc.def))
		}
		s := f.open()
		for _, table := range s.Tables() {
			var n int
			if _, err := fmt.Sscanf(table.Name, "c%d", &n); err != nil {
				t.Fatal(err)
			}
			t.Run(metadata+"/"+columnCases[n].def, func(t *testing.T) { f.compareWays(t, s, table, columnCases[n]) })
		}
	}
}

// TestHiddenColumns: the columns of functional keys are not in row events, a generated primary key is.
func TestHiddenColumns(t *testing.T) {
	f := newFixture(t)
	f.exec("SET SESSION sql_generate_invisible_primary_key = ON",
		"CREATE TABLE g (v int, j json, key ((v+1)), key ((cast(j as char(9) array))), unique ((v*2)))")
	s := f.open()
	_, from := f.end(s)
	f.exec("INSERT INTO g (v, j) VALUES (1, '[1]'), (NULL, NULL)", "DELETE FROM g WHERE v=1")
	table := s.Tables()[0]
	if table.Primary.Name != "PRIMARY" || len(table.Columns) != 3 || !table.Ordered {
		t.Fatalf("the key is %+v of %d columns", table.Primary, len(table.Columns))
	}
	logged := changes(f.log(s, from))
	if len(logged) != 3 || string(logged[0].After) != string(logged[2].Before) {
		t.Fatalf("changes are %v", logged)
	}
	if rows := f.read(s, table); len(rows) != 1 || string(rows[0]) != string(logged[1].After) {
		t.Errorf("SELECT gives %q, the log %q", rows, logged[1].After)
	}
}

func (f *fixture) compareWays(t *testing.T, s *source.Source, table *replication.Table, cc columnCase) {
	g := *f
	g.T = t
	_, from := g.end(s)
	statements := []string{looseSession}
	for i, v := range append(cc.values, "NULL") {
		statements = append(statements, fmt.Sprintf("INSERT INTO %s (id, v, w) VALUES (%d, %s, NULL)", table.Name, i, v))
	}
	statements = append(statements, fmt.Sprintf("UPDATE %s SET w = v", table.Name))
	g.exec(statements...)
	rows := map[string]replication.Row{}
	for _, r := range g.read(s, table) {
		k, err := table.Key(r)
		if err != nil {
			t.Fatal(err)
		}
		rows[string(k)] = r
	}
	if len(rows) != len(cc.values)+1 {
		t.Fatalf("%d rows were read, want %d", len(rows), len(cc.values)+1)
	}
	g.exec(fmt.Sprintf("DELETE FROM %s", table.Name))
	logged, deleted := map[string]replication.Row{}, 0
	for _, c := range changes(g.log(s, from)) {
		if c.After == nil {
			deleted++
		}
		for _, image := range []replication.Row{c.Before, c.After} {
			if image == nil {
				continue
			}
			k, err := table.Key(image)
			if err != nil {
				t.Fatal(err)
			}
			if c.After == nil {
				logged[string(k)] = image
			}
		}
	}
	if deleted != len(rows) {
		t.Fatalf("the log has %d deletes, want %d", deleted, len(rows))
	}
	for k, r := range rows {
		if string(logged[k]) != string(r) {
			t.Errorf("%s:\n  SELECT gives %s\n  %q\n  the log has %s\n  %q", table.Name, table.Format(r), r, table.Format(logged[k]), logged[k])
		}
	}
}

// TestRandomDoubles compares the two ways for floating point numbers of all sizes, as columns and in JSON.
func TestRandomDoubles(t *testing.T) {
	f := newFixture(t)
	f.exec("CREATE TABLE d (id int primary key, f float, d double, j json)")
	s := f.open()
	_, from := f.end(s)
	rnd := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for i := range 3000 {
		d := math.Float64frombits(rnd.Uint64())
		if i%3 == 0 {
			d = rnd.NormFloat64() * math.Pow10(rnd.IntN(40)-20)
		}
		if math.IsNaN(d) || math.IsInf(d, 0) {
			continue
		}
		fl := float64(math.Float32frombits(rnd.Uint32()))
		if math.IsNaN(fl) || math.IsInf(fl, 0) {
			fl = 0
		}
		if b.Len() > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "(%d,%.17e,%.17e,json_array(%.17e))", i, fl, d, d)
	}
	f.exec("INSERT INTO d VALUES " + b.String())
	rows := f.read(s, s.Tables()[0])
	logged := changes(f.log(s, from))
	if len(rows) != len(logged) || len(rows) < 2900 {
		t.Fatalf("%d rows, %d changes", len(rows), len(logged))
	}
	for i, r := range rows {
		if string(r) != string(logged[i].After) {
			t.Errorf("SELECT gives %s, the log %s", s.Tables()[0].Format(r), s.Tables()[0].Format(logged[i].After))
		}
	}
}
