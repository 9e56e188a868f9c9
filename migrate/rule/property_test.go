package rule_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate/rule"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
)

// A sample is a column, the values that it holds (as SQL), and literals to compare it with.
type sample struct {
	typ      string
	values   []string
	literals []string
}

var (
	wholes   = []string{"0", "1", "-1", "7", "127", "255", "-128"}
	numbers  = []string{"0", "1", "-1", "7", "1.0", "7.5", "-0.5", "255", "-128", "99999999999999999999", "0.1", "'7'", "'-1'", "x'07'", "1e0", "'7.0'", "null", "true"}
	big      = []string{"9223372036854775807", "-9223372036854775808", "9007199254740993", "0", "1"}
	bigs     = []string{"9223372036854775807", "9223372036854775807.5", "-9223372036854775808", "9007199254740992", "9007199254740993", "18446744073709551615", "x'20000000000001'", "0"}
	words    = []string{"''", "'a'", "'A'", "'b'", "'a '", "'\u00e4'", "'ss'", "'\u00df'", "'stra\u00dfe'", "'STRASSE'", "'a%'", "'a_c'", "'abc'", "' '", "'0'", "'it''s'", `'back\\slash'`}
	patterns = []string{"'a%'", "'_'", "'%s%'", `'a\\%'`, "''", "'A_C'", `'a\_c'`, `'%\\\\%'`}
	dates    = []string{"'2024-02-29'", "'1999-12-31'", "'9999-12-31'", "'1000-01-01'", "'0000-00-00'", "'2024-00-00'"}
	times    = []string{"'2024-02-29 12:30:00'", "'1999-12-31 23:59:59'", "'2024-02-29 00:00:00'", "'2024-02-29 12:30:00.5'", "'0000-00-00 00:00:00'", "'2038-01-01 00:00:00.999999'"}
	moments  = []string{"'2024-02-29'", "'2024-02-29 12:30:00'", "'2024-02-29 12:30:00.5'", "'2024-02-29 00:00:00.000000'", "date '2024-02-29'", "timestamp '1999-12-31 23:59:59'", "'2024-02-29 12:30:00.500001'", "'9999-12-31'"}
)

var samples = []sample{
	{"tinyint", wholes[:5], numbers},
	{"tinyint unsigned", []string{"0", "1", "7", "255"}, numbers},
	{"smallint", wholes, numbers},
	{"mediumint unsigned zerofill", []string{"0", "1", "7", "255"}, numbers},
	{"int", wholes, numbers},
	{"int unsigned", []string{"0", "7", "4294967295"}, append(numbers, "4294967295", "4294967296")},
	{"bigint", big, append(bigs, numbers...)},
	{"bigint unsigned", []string{"18446744073709551615", "9007199254740993", "9223372036854775807", "0"}, append(bigs, numbers...)},
	{"decimal(20,3)", append([]string{"7.5", "-0.5", "0.001", "12345678901234567.125"}, wholes...), append([]string{"0.001", "7.500", "12345678901234567.125", "12345678901234567.1250001"}, numbers...)},
	{"decimal(65,30)", []string{"0.1", "7", "-0.5", "99999999999999999999999999999999999.000000000000000000000000000001"}, append([]string{"99999999999999999999999999999999999.000000000000000000000000000001"}, numbers...)},
	{"float", []string{"0.1", "7.5", "-1", "0", "1e30", "-0e0"}, append([]string{"1e30", "7.5e0", "0.10000000149011612"}, numbers...)},
	{"double", []string{"0.1", "7.5", "-1", "0", "1e300", "-0e0"}, append([]string{"1e300", "7.5e0", "1e-1"}, numbers...)},
	{"year", []string{"2024", "0", "1901", "2155"}, []string{"2024", "0", "1901", "2155", "1999", "24", "'2024'", "null"}},
	{"date", dates, moments},
	{"datetime", times, moments},
	{"datetime(6)", times, moments},
	{"datetime(1)", times, moments},
	{"timestamp null", append([]string{"'1970-01-01 00:00:01'"}, times[:5]...), append([]string{"'1970-01-01 00:00:01'", "'1969-12-31'"}, moments...)},
	{"timestamp(3) null", times[:4], moments},
	{"time", []string{"'12:30:00'", "'-12:30:00'", "'838:59:59'", "'-838:59:59'", "'00:00:00'"}, []string{"'12:30:00'", "'-12:30:00'", "'00:00:00'", "'-00:00:00'", "'12:30:00.5'", "'837:00:00'", "'-100:00:00'", "time '12:30:00'", "'12:30'"}},
	{"time(3)", []string{"'12:30:00.5'", "'-12:30:00.125'", "'00:00:00'"}, []string{"'12:30:00.5'", "'12:30:00.500'", "'-12:30:00.125'", "'-12:30:00.1251'", "'00:00:00'"}},
	{"bit(1)", []string{"0", "1"}, []string{"0", "1", "2", "b'1'", "x'00'", "true", "-1"}},
	{"bit(64)", []string{"0", "1", "18446744073709551615", "9223372036854775808"}, []string{"0", "18446744073709551615", "9223372036854775807", "b'1'", "x'8000000000000000'"}},
	{"enum('b','a','c d','\u00e4') character set utf8mb4 collate utf8mb4_general_ci", []string{"1", "2", "3", "4", "0"}, append([]string{"'C D'", "'c d'", "2", "0", "''"}, words[:6]...)},
	{"enum('b','a','A ','\u00e9') character set latin1 collate latin1_bin", []string{"1", "2", "3", "4"}, append([]string{"'\u00e9'", "2", "'\u20ac'", "'\u0416'"}, words[:6]...)},
	{"set('b','a','c') character set utf8mb4 collate utf8mb4_0900_ai_ci", []string{"0", "1", "2", "3", "5", "7"}, []string{"''", "'a'", "'B'", "'b,a'", "'a,b'", "'B,C'", "3", "0", "8"}},
	{"varchar(20) character set utf8mb4 collate utf8mb4_0900_ai_ci", words, append(words, "'\U0001F600'", "5", "x'61'", "null")},
	{"varchar(20) character set utf8mb4 collate utf8mb4_bin", words, words},
	{"varchar(20) character set utf8mb4 collate utf8mb4_0900_bin", words, words},
	{"varchar(20) character set utf8mb4 collate utf8mb4_general_ci", words, words},
	{"char(20) character set utf8mb4 collate utf8mb4_0900_ai_ci", words, words},
	{"char(20) character set utf8mb4 collate utf8mb4_bin", words, words},
	{"varchar(20) character set utf8mb3 collate utf8mb3_general_ci", words, append(words, "'\U0001F600'")},
	{"varchar(20) character set latin1 collate latin1_swedish_ci", words, append(words, "'\u0416'", "'\u20ac'")},
	{"varchar(20) character set latin1 collate latin1_bin", words, words},
	{"varchar(20) character set latin1 collate latin1_german2_ci", words, words},
	{"varchar(20) character set ascii collate ascii_general_ci", []string{"'a'", "'A'", "''", "'abc'"}, words},
	{"varchar(20) character set utf16 collate utf16_unicode_ci", words, words},
	{"varchar(20) character set cp932 collate cp932_japanese_ci", []string{"'a'", "'\u8868'", "'ss'"}, append(words[:4], "'\u8868'", "'\u30bd'")},
	{"text character set utf8mb4 collate utf8mb4_0900_as_cs", words, words},
	{"mediumtext character set utf8mb4 collate utf8mb4_de_pb_0900_ai_ci", words, words},
	{"varbinary(20)", append([]string{"x'00'", "x'6100'"}, words...), append([]string{"x'00'", "x'6100'", "x'61'"}, words...)},
	{"blob", words, words},
	{"binary(4)", []string{"'a'", "'abcd'", "x'00000000'", "''"}, []string{"'a'", "'abcd'", "x'61000000'", "'a\\0\\0\\0'", "''", "'abcde'"}},
	{"json", []string{"'1'", "'null'"}, []string{"'1'"}},
	{"point", []string{"point(1,2)"}, []string{"'x'"}},
}

// world is the table of all samples: column c0 is of the first, and so on.
type world struct {
	*testing.T
	db    *sql.DB
	src   *source.Source
	table *replication.Table
	rows  []replication.Row
	ids   []string
}

func newWorld(t *testing.T) *world {
	srv := server(t)
	db, err := srv.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	w := &world{T: t, db: db}
	w.exec("CREATE DATABASE rules")
	w.exec("SET sql_mode='', time_zone='+00:00'")
	w.exec("USE rules")
	create := "CREATE TABLE p (id int primary key"
	for i, s := range samples {
		create += fmt.Sprintf(", c%d %s", i, s.typ)
		switch {
		case strings.HasPrefix(s.typ, "json"), strings.HasPrefix(s.typ, "point"):
		case strings.Contains(s.typ, "text"), strings.HasPrefix(s.typ, "blob"):
			create += fmt.Sprintf(", key k%d (c%d(10))", i, i)
		default:
			create += fmt.Sprintf(", key k%d (c%d)", i, i)
		}
	}
	w.exec(create + ")")
	for r := range 40 {
		insert := "INSERT INTO p VALUES (" + strconv.Itoa(r)
		for i, s := range samples {
			if v := (r + i) % (len(s.values) + 1); v < len(s.values) {
				insert += "," + s.values[v]
			} else {
				insert += ",NULL"
			}
		}
		w.exec(insert + ")")
	}
	w.exec("ANALYZE TABLE p")
	cfg := source.Config{Addr: srv.Addr(), User: srv.Config("").User, Password: srv.Config("").Passwd, Database: "rules"}
	if w.src, err = source.Open(t.Context(), cfg, nil, source.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.src.Close() })
	w.table = w.src.Tables()[0]
	chunk, err := w.src.Read(t.Context(), w.table, replication.Span{}, replication.Limit{})
	if err != nil {
		t.Fatal(err)
	}
	w.rows, w.ids = chunk.Rows, w.idsOf(chunk.Rows)
	return w
}

func (w *world) exec(q string) {
	w.Helper()
	if _, err := w.db.ExecContext(w.Context(), q); err != nil {
		w.Fatalf("%.300s: %v", q, err)
	}
}

func (w *world) idsOf(rows []replication.Row) (ids []string) {
	for _, r := range rows {
		id, _, err := r.Next()
		if err != nil {
			w.Fatal(err)
		}
		ids = append(ids, string(id))
	}
	return ids
}

// check compares what the server says about a condition with what Match and ReadWhere say; false if the rule is refused.
func (w *world) check(where string) bool {
	r, err := rule.Parse("select * from p where " + where)
	if _, ok := errors.AsType[*rule.UnsupportedError](err); ok {
		return false
	}
	if err != nil {
		w.Errorf("%s: %v", where, err)
		return true
	}
	f, err := r.Bind(w.Context(), w.table, w.src.Ask)
	if _, ok := errors.AsType[*rule.UnsupportedError](err); ok {
		return false
	}
	if err != nil {
		w.Errorf("%s: %v", where, err)
		return true
	}
	var want []string
	rows, err := w.db.QueryContext(w.Context(), "SELECT id FROM p WHERE "+where+" ORDER BY id")
	if err != nil {
		w.Errorf("%s: the server: %v", where, err)
		return true
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			w.Fatal(err)
		}
		want = append(want, id)
	}
	if err := rows.Err(); err != nil {
		w.Errorf("%s: the server: %v", where, err)
	}
	verdicts, err := f.Match(w.Context(), w.rows)
	if err != nil {
		w.Errorf("%s: %v", where, err)
		return true
	}
	var got []string
	for i, ok := range verdicts {
		if ok {
			got = append(got, w.ids[i])
		}
	}
	condition, seek := f.Where()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.Errorf("%s (%s) chooses %v, the server %v", where, condition, got, want)
	}
	chunk, err := w.src.ReadWhere(w.Context(), w.table, replication.Span{}, replication.Limit{}, condition, seek)
	if err != nil {
		w.Errorf("%s as %s: %v", where, condition, err)
	} else if pushed := w.idsOf(chunk.Rows); fmt.Sprint(pushed) != fmt.Sprint(want) {
		w.Errorf("%s as %s reads %v, the server's choice is %v", where, condition, pushed, want)
	}
	return true
}

// TestServerAgrees: for every type, value, operator and literal, and for random conditions of these, the verdict is the server's.
func TestServerAgrees(t *testing.T) {
	w := newWorld(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	var atoms []string
	refused := 0
	for i, s := range samples {
		c := "c" + strconv.Itoa(i)
		of := []string{c + " is null", c + " is not null"}
		accepted := 0
		for n, l := range s.literals {
			for m, op := range []string{"=", "<>", "<", "<=", ">", ">=", "<=>"} {
				if m == n%7 { // the order of the two does not matter
					of = append(of, flipped(l, op, c))
					continue
				}
				of = append(of, c+" "+op+" "+l)
			}
			other := s.literals[rnd.IntN(len(s.literals))]
			of = append(of, c+" in ("+l+","+other+")", c+" not in ("+l+","+other+")", c+" between "+l+" and "+other, c+" not between "+other+" and "+l)
		}
		if strings.Contains(s.typ, "char") || strings.Contains(s.typ, "text") {
			for _, p := range patterns {
				of = append(of, c+" like "+p, c+" not like "+p)
			}
		}
		for _, a := range of {
			if w.check(a) {
				accepted++
				atoms = append(atoms, a)
			} else {
				refused++
			}
		}
		if accepted < 10 && s.typ != "json" && s.typ != "point" {
			t.Errorf("%s: only %d conditions are not refused", s.typ, accepted)
		}
	}
	for range 500 {
		var tree func(depth int) string
		tree = func(depth int) string {
			switch n := rnd.IntN(4); {
			case depth == 0 || n == 0:
				return atoms[rnd.IntN(len(atoms))]
			case n == 1:
				return "not (" + tree(depth-1) + ")"
			default:
				return "(" + tree(depth-1) + []string{" and ", " or ", " && "}[rnd.IntN(3)] + tree(depth-1) + ")"
			}
		}
		w.check(tree(3))
	}
	t.Logf("%d conditions, %d refused", len(atoms), refused)
}

// flipped writes a comparison with the literal first.
func flipped(literal, op, column string) string {
	switch op {
	case "<", "<=":
		op = strings.Replace(op, "<", ">", 1)
	case ">", ">=":
		op = strings.Replace(op, ">", "<", 1)
	}
	return literal + " " + op + " " + column
}

// TestAsks: the server is asked about a text once, and about many at once; what is equal by its bytes needs no question.
func TestAsks(t *testing.T) {
	w := newAsker(t)
	r, err := rule.Parse("select * from t where tenant = 'Acme' or tenant in ('x', 'Y')")
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Bind(t.Context(), w.table, w.ask)
	if err != nil {
		t.Fatal(err)
	}
	var rows []replication.Row
	for i := range 3000 {
		rows = append(rows, replication.PackRow([]byte([]string{"Acme", "acme", "other" + strconv.Itoa(i%100)}[i%3])))
	}
	for range 2 {
		verdicts, err := f.Match(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		for i, ok := range verdicts {
			if ok != (i%3 < 2) {
				t.Fatalf("row %d: %v", i, ok)
			}
		}
	}
	if w.asked > 303 || w.calls > 2 {
		t.Errorf("%d questions in %d calls", w.asked, w.calls)
	}
}

// asker answers as a collation that folds case would.
type asker struct {
	table        *replication.Table
	asked, calls int
}

func newAsker(*testing.T) *asker {
	return &asker{table: &replication.Table{Name: "t", Columns: []replication.Column{{Name: "tenant", Kind: replication.KindText, Charset: "utf8mb4", Collation: "utf8mb4_0900_ai_ci"}}}}
}

func (a *asker) ask(_ context.Context, expressions []string) ([][]byte, error) {
	a.calls++
	a.asked += len(expressions)
	out := make([][]byte, len(expressions))
	for i, e := range expressions {
		out[i] = []byte("1")
		if parts := strings.Split(strings.ToLower(e), "'"); strings.EqualFold(fold(parts[1]), fold(parts[3])) {
			out[i] = []byte("0")
		}
	}
	return out, nil
}

// fold makes letters in hexadecimal lower case.
func fold(hex string) string {
	var b strings.Builder
	for i := 0; i+1 < len(hex); i += 2 {
		n, _ := strconv.ParseUint(hex[i:i+2], 16, 8)
		b.WriteString(strings.ToLower(string(rune(n))))
	}
	return b.String()
}
