package target_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
	"github.com/tablehaul/tablehaul/replication/target"
)

// A misfit is a column of the source, a value, and what the target has.
type misfit struct {
	column replication.Column
	value  string
	ddl    string
	// want is what is stored: loud if the server says that it can't be, refused if nothing must be written since it would not.
	want string
}

const loud, refused = "loud", "refused"

// source is a column of the source: "varchar(10)", or "varchar(10) latin1" with its character set.
func source(k replication.Kind, columnType string) replication.Column {
	columnType, charset, _ := strings.Cut(columnType, " ")
	c := replication.Column{Name: "c", Kind: k, Type: columnType, Charset: charset}
	_, args, _ := strings.Cut(columnType, "(")
	n := 0
	_, _ = fmt.Sscan(strings.TrimSuffix(args, ")"), &n)
	switch k {
	case replication.KindTime, replication.KindDatetime, replication.KindTimestamp:
		c.Fsp = n
	case replication.KindBinary, replication.KindBit:
		c.Length = n
	}
	return c
}

func misfits() []misfit {
	integer := func(s string) replication.Column { return source(replication.KindInt, s) }
	decimal := func(s string) replication.Column { return source(replication.KindDecimal, s) }
	float, double := source(replication.KindFloat, "float"), source(replication.KindDouble, "double")
	datetime := func(s string) replication.Column { return source(replication.KindDatetime, s) }
	timestamp := func(s string) replication.Column { return source(replication.KindTimestamp, s) }
	clock := func(s string) replication.Column { return source(replication.KindTime, s) }
	date, year := source(replication.KindDate, "date"), source(replication.KindYear, "year")
	bit := source(replication.KindBit, "bit(8)")
	enum, set := source(replication.KindEnum, "enum('a','b','c')"), source(replication.KindSet, "set('a','b','c')")
	str := func(s string) replication.Column { return source(replication.KindText, s) }
	binary, blob := source(replication.KindBinary, "binary(4)"), source(replication.KindBlob, "varbinary(9)")
	json := source(replication.KindJSON, "json")
	generated, nullable, moment := integer("int"), integer("int"), timestamp("timestamp")
	generated.Generated, nullable.Nullable, moment.Nullable = true, true, true
	return []misfit{
		{integer("int"), "300", "bigint", "300"},
		{integer("int"), "300", "tinyint", loud},
		{integer("int"), "-1", "int unsigned", loud},
		{source(replication.KindUint, "int"), "4294967295", "int", loud},
		{integer("int"), "-3", "decimal(5,2)", "-3.00"},
		{integer("int"), "1234", "varchar(9) CHARACTER SET latin1", "1234"},
		{integer("int"), "1234", "char(9) CHARACTER SET utf16", refused},
		{integer("int"), "12345", "double", "12345"},
		{integer("int"), "16777217", "float", refused},
		{integer("bigint"), "9007199254740993", "double", refused},
		{integer("int"), "1", "year", refused},
		{integer("int"), "20200101", "date", refused},
		{integer("int"), "5", "bit(8)", refused},
		{integer("int"), "1", "enum('5','a')", refused},
		{year, "2021", "int", "2021"},
		{year, "2021", "tinyint", loud},
		{year, "0000", "varchar(9)", refused},
		{decimal("decimal(5,2)"), "1.50", "decimal(5,1)", "1.5"},
		{decimal("decimal(5,2)"), "1.25", "decimal(5,1)", loud},
		{decimal("decimal(5,2)"), "-1.50", "decimal(5,2) unsigned", loud},
		{decimal("decimal(5,2)"), "1.50", "int", refused},
		{decimal("decimal(20,0)"), "150", "bigint", "150"},
		{decimal("decimal(25,20)"), "0.12345678901234567890", "double", refused},
		{decimal("decimal(5,2)"), "1.50", "varchar(9)", "1.50"},
		{float, "1.2345678806304932e+00", "double", "1.2345678806304932"},
		{float, "1.2345678806304932e+00", "float(7,2)", refused},
		{source(replication.KindFloat, "float(7,2)"), "1.25e+00", "float(7,3)", "1.25"},
		{float, "1.2345678806304932e+00", "decimal(7,2)", loud},
		{float, "1.5e+00", "int", refused},
		{float, "-1.5e+00", "float unsigned", loud},
		{float, "1.5e+00", "varchar(30)", refused},
		{double, "1.2345678901234567e+00", "float", refused},
		{double, "1.2345678901234567e+00", "double(7,2)", refused},
		{double, "1.5e+00", "decimal(7,2)", "1.50"},
		{datetime("datetime(6)"), "2021-02-03 04:05:06.789000", "datetime", refused},
		{datetime("datetime(3)"), "2021-02-03 04:05:06.789", "datetime(2)", refused},
		{datetime("datetime"), "2021-02-03 04:05:06", "datetime(3)", "2021-02-03 04:05:06.000"},
		{datetime("datetime"), "2021-02-03 04:05:06", "date", loud},
		{datetime("datetime"), "2021-02-03 00:00:00", "date", "2021-02-03"},
		{datetime("datetime"), "2021-02-03 04:05:06", "varchar(40)", "2021-02-03 04:05:06"},
		{datetime("datetime"), "2021-02-03 04:05:06", "timestamp NULL", refused},
		{timestamp("timestamp"), "2021-02-03 04:05:06", "datetime", refused},
		{timestamp("timestamp(3)"), "2021-02-03 04:05:06.700", "timestamp NULL", refused},
		{moment, null, "timestamp NOT NULL DEFAULT '2020-01-01'", refused},
		{clock("time(1)"), "10:11:12.6", "time", refused},
		{clock("time"), "10:11:12", "datetime", refused},
		{clock("time"), "10:11:12", "time(2)", "10:11:12.00"},
		{date, "2021-02-03", "datetime", "2021-02-03 00:00:00"},
		{date, "2021-02-03", "timestamp NULL", refused},
		{bit, "5", "bit(16)", "\x005"},
		{bit, "5", "bit(4)", loud},
		{bit, "5", "int", refused},
		{enum, "3", "enum('a','b','c','d')", "c"},
		{enum, "2", "enum('a','b')", "b"},
		{enum, "3", "enum('a','b')", loud},
		{enum, "2", "enum('b','a','c')", refused},
		{enum, "2", "enum('a','bb','c')", refused},
		{enum, "2", "set('a','b','c')", refused},
		{enum, "2", "varchar(9)", refused},
		{set, "3", "set('a','b')", "a,b"},
		{set, "5", "set('a','b')", loud},
		{set, "1", "set('b','a','c')", refused},
		{set, "3", "int", refused},
		{str("varchar(9) utf8mb3"), "é", "varchar(9) CHARACTER SET utf8mb4", "é"},
		{str("varchar(9) utf8mb4"), "\U0001f600", "varchar(9) CHARACTER SET utf8mb3", loud},
		{str("varchar(9) utf8mb4"), "é", "varchar(9) CHARACTER SET latin1", refused},
		{str("varchar(9) utf8mb4"), "é", "varchar(9) CHARACTER SET utf16", refused},
		{str("varchar(9) latin1"), "\xc3\xa9", "text CHARACTER SET utf8mb4", refused},
		{str("varchar(9) ascii"), "a", "varchar(9) CHARACTER SET latin1", "a"},
		{str("varchar(9) ascii"), "a", "varchar(9) CHARACTER SET utf16", refused},
		{str("varchar(9) utf8mb4"), "abcdef", "varchar(5) CHARACTER SET utf8mb4", loud},
		{str("varchar(9) utf8mb4"), "a ", "char(9) CHARACTER SET utf8mb4", refused},
		{str("char(9) utf8mb4"), "a", "char(12) CHARACTER SET utf8mb4", "a"},
		{str("varchar(9) utf8mb4"), "é", "varbinary(9)", "é"},
		{str("varchar(9) utf8mb4"), "é", "binary(9)", refused},
		{str("varchar(9) utf8mb4"), "2", "enum('a','b')", refused},
		{str("varchar(9) utf8mb4"), "007", "int", refused},
		{binary, "a\x00\x00\x00", "binary(8)", refused},
		{binary, "a\x00\x00\x00", "varbinary(8)", "a\x00\x00\x00"},
		{blob, "a", "binary(4)", refused},
		{blob, "a\xff", "varchar(9) CHARACTER SET utf8mb4", loud},
		{blob, "é", "varchar(9) CHARACTER SET utf8mb4", "é"},
		{blob, "a", "varchar(9) CHARACTER SET utf16", refused},
		{blob, "a ", "char(9)", refused},
		{json, `{"a": "é"}`, "varchar(20) CHARACTER SET latin1", `{"a": "é"}`},
		{json, `{"a": "ж"}`, "varchar(20) CHARACTER SET latin1", loud},
		{json, `1`, "int", refused},
		{json, `{}`, "binary(20)", refused},
		{integer("int"), "5", "int AS (1+1) STORED", refused},
		{generated, "5", "int DEFAULT 1", refused},
		{generated, "5", "int AS (1+1) STORED", "2"},
		{integer("int"), "5", "int DEFAULT (1+2)", "5"},
		{nullable, null, "int NOT NULL", loud},
		{nullable, null, "int NOT NULL AUTO_INCREMENT, KEY (c)", refused},
	}
}

// Where the target's columns are not the source's, nothing is written that would be stored as something else in silence. What is refused
// is so stored, or at least one such way there is, if it is written all the same.
func TestMisfits(t *testing.T) {
	silent := map[string]bool{}
	eachPath(t, func(t *testing.T, s *replicationtest.Server, opts target.Options) {
		h := newShard(t, s)
		var tables []*replication.Table
		for i, m := range misfits() {
			name := fmt.Sprint("t", i)
			h.exec("CREATE TABLE " + name + " (id int PRIMARY KEY, C " + m.ddl + ")")
			tables = append(tables, &replication.Table{
				Schema: "source", Name: name, Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
				Columns: []replication.Column{{Name: "id", Kind: replication.KindInt, Type: "int"}, m.column},
			})
		}
		for i, m := range misfits() {
			what := m.column.Type + " " + m.column.Charset + " to " + m.ddl
			write := func(r *run) error {
				e := chunk(tables[i], replication.Span{}, position(0), row("1", m.value), row("2", m.value))
				if opts.DisableLocalInfile {
					e = r.entry(insert(tables[i], "1", m.value), insert(tables[i], "2", m.value))
				}
				defer func() { _ = r.stop() }()
				return r.apply(e)
			}
			err := write(h.start(h.target(opts, tables[i])))
			bad, isRefused := errors.AsType[*replication.SchemaChangedError](err)
			switch _, isRow := errors.AsType[*replication.RowError](err); {
			case isRefused != (m.want == refused) || isRow != (m.want == loud):
				t.Errorf("%s: %v", what, err)
			case isRow:
			case err == nil:
				h.want("SELECT c FROM "+tables[i].Name+" WHERE id = 1", m.want)
			case bad.Table != tables[i].Name || !strings.Contains(err.Error(), "on the target: column C is "+strings.ToLower(strings.Fields(m.ddl)[0])) ||
				!strings.Contains(err.Error(), m.column.Type):
				t.Errorf("%s: %v", what, err)
			default:
				h.want("SELECT COUNT(*) FROM "+tables[i].Name, "0")
				tg := h.target(opts, tables[i])
				r := h.startWith(tg, func() { target.WriteMisfits(tg) })
				silent[what] = write(r) == nil || silent[what]
			}
		}
	})
	for what, is := range silent {
		if !is {
			t.Errorf("%s is refused, and would be an error anyway", what)
		}
	}
}

// A DATETIME that is converted to UTC may become a TIMESTAMP, and a schema change that is in the log may make columns fit.
func TestMisfitsThatFit(t *testing.T) {
	each(t, func(t *testing.T, s *replicationtest.Server) {
		h := newShard(t, s, "CREATE TABLE t (id int PRIMARY KEY, c timestamp(3) NULL)", "CREATE TABLE e (id int PRIMARY KEY, c enum('b','a'))")
		berlin, err := time.LoadLocation("Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		table := func(name string, c replication.Column) *replication.Table {
			return &replication.Table{
				Schema: "source", Name: name, Ordered: true, Primary: replication.Index{Columns: []int{0}, Exact: true},
				Columns: []replication.Column{{Name: "id", Kind: replication.KindInt, Type: "int"}, c},
			}
		}
		at, e := table("t", source(replication.KindDatetime, "datetime(3)")), table("e", source(replication.KindEnum, "enum('a','b')"))
		opts := target.Options{DatetimeZone: berlin}
		r := h.start(h.target(opts, at, e))
		alter := r.entry()
		alter.Changes, alter.DDL = nil, &replication.DDL{Statement: "ALTER TABLE e MODIFY c enum('a','b')", Tables: []string{"e"}}
		r.must(r.entry(insert(at, "1", "2021-07-01 02:00:00.500")), alter)
		h.want("SELECT c FROM t", "2021-07-01 00:00:00.500")
		_ = r.stop()
		r = h.start(h.target(opts, at, e))
		r.must(r.entry(insert(e, "1", "2")))
		h.want("SELECT c FROM e", "b")
	})
}
