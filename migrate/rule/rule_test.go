package rule_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/migrate/rule"
	"github.com/tablehaul/tablehaul/replication"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"select * from t":                                            "t all",
		"SELECT * FROM `t t` WHERE a = 1":                            "t t all where",
		"select t.* from t":                                          "t all",
		"select a, b as c, `x y` `z` from t":                         "t a=a b=c x y=z",
		"select t.a from t where (t.b) <=> null;":                    "t a=a where",
		"select a from t where not (1 < a or a in (1, 2)) /* why */": "t a=a where",
	} {
		r, err := rule.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := r.Table
		if r.Columns == nil {
			got += " all"
		}
		for _, c := range r.Columns {
			got += " " + c.Source + "=" + c.Target
		}
		if r.Filters() {
			got += " where"
		}
		if got != want || r.String() != text {
			t.Errorf("%s is %q (%s), want %q", text, got, r, want)
		}
	}
}

// TestRefused: what is more than a projection and a filter is refused by its name.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                                            "an empty rule",
		"-- nothing":                                                  "a rule of 0 statements",
		"select * from t; select * from u":                            "a rule of 2 statements",
		"delete from t":                                               "no plain SELECT",
		"select * from t union select * from u":                       "no plain SELECT",
		"table t":                                                     "TABLE or VALUES",
		"select 1":                                                    "without FROM",
		"with x as (select 1) select * from t":                        "WITH",
		"select distinct a from t":                                    "DISTINCT",
		"select a from t group by a":                                  "GROUP BY",
		"select a from t having a > 1":                                "HAVING",
		"select a from t order by a":                                  "ORDER BY",
		"select a from t limit 1":                                     "LIMIT",
		"select a from t for update":                                  "locking clause",
		"select sql_calc_found_rows a from t":                         "option of SELECT",
		"select /*+ USE_INDEX(t, a) */ a from t":                      "optimizer hint",
		"select * from t, u":                                          "a join",
		"select * from t join u using (a)":                            "a join",
		"select * from (select * from t) x":                           "a subquery in FROM",
		"select * from t as x":                                        "an alias of the table",
		"select * from db.t":                                          "a table name with a database",
		"select * from t use index (a)":                               "an index hint",
		"select * from t partition (p0)":                              "PARTITION",
		"select *, a from t":                                          "a mix of * and columns",
		"select u.* from t":                                           "* of another table",
		"select u.a from t":                                           "a column of another table",
		"select a + 1 from t":                                         "the operator +",
		"select lower(a) from t":                                      "the function lower",
		"select keyspace_id() from t":                                 "the function keyspace_id",
		"select count(*) from t":                                      "the aggregate count",
		"select row_number() over () from t":                          "the window function",
		"select convert(a using utf8mb4) from t":                      "the function convert",
		"select cast(a as char) from t":                               "a conversion",
		"select 1 from t":                                             "a literal here",
		"select case when a then 1 end from t":                        "CASE",
		"select * from t where a":                                     "a column as a condition",
		"select * from t where 1":                                     "a literal as a condition",
		"select * from t where a = b":                                 "a column here",
		"select * from t where 1 = 1":                                 "a literal here",
		"select * from t where a + 1 = 2":                             "the operator +",
		"select * from t where a = 1 + 1":                             "the operator +",
		"select * from t where a = now()":                             "the function now",
		"select * from t where a = @x":                                "a variable",
		"select * from t where a = ?":                                 "a parameter",
		"select * from t where (a, b) = (1, 2)":                       "a row of values",
		"select * from t where a in (select 1)":                       "a subquery",
		"select * from t where exists (select 1)":                     "a subquery",
		"select * from t where a = 1 xor a = 2":                       "the operator XOR",
		"select * from t where a is true":                             "IS TRUE",
		"select * from t where a regexp 'x'":                          "REGEXP",
		"select * from t where a like 'x' escape '!'":                 "ESCAPE",
		"select * from t where match (a) against ('x')":               "MATCH",
		"select * from t where a collate utf8mb4_bin = 'x'":           "COLLATE",
		"select * from t where a = _latin1'x'":                        "a character set before a literal",
		"select * from t where 5 between a and b":                     "a literal here",
		"select * from t where in_keyrange('-80')":                    "in_keyrange",
		"select * from t where in_keyrange(id, 'hash', '-80')":        "in_keyrange",
		"select * from t where a = 0.1234567890123456789012345678901": "decimal places",
		"select * from t where a = -'x'":                              "a sign",
	} {
		_, err := rule.Parse(text)
		bad, ok := errors.AsType[*rule.UnsupportedError](err)
		if !ok || !strings.Contains(bad.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"-80", "exclude", "select", "select * frm t", "select * from t where a ="} {
		_, err := rule.Parse(text)
		if _, ok := errors.AsType[*rule.SyntaxError](err); !ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"select a, A from t", "select a, b as A from t"} {
		_, err := rule.Parse(text)
		if _, ok := errors.AsType[*rule.ColumnError](err); !ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestCheck: what can't be compared exactly is refused when the column's type is known.
func TestCheck(t *testing.T) {
	table := &replication.Table{Name: "t", Columns: []replication.Column{
		{Name: "i", Kind: replication.KindInt, Type: "int"},
		{Name: "v", Kind: replication.KindText, Type: "varchar(20)", Charset: "utf8mb4", Collation: "utf8mb4_0900_ai_ci"},
		{Name: "j", Kind: replication.KindJSON, Type: "json"},
		{Name: "d", Kind: replication.KindDate, Type: "date"},
		{Name: "b", Kind: replication.KindBinary, Type: "binary(4)", Length: 4},
		{Name: "f", Kind: replication.KindDouble, Type: "double(10,2)"},
		{Name: "u3", Kind: replication.KindText, Type: "varchar(20)", Charset: "utf8mb3", Collation: "utf8mb3_bin"},
	}}
	check := func(where string) error {
		r, err := rule.Parse("select * from t where " + where)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		return r.Check(table)
	}
	for _, where := range []string{"i = '7'", "V like 'a%'", "j is not null", "d >= '2024-02-29'", "b = 'abcd'", "b = x'01020304'", "i in (1, null)"} {
		if err := check(where); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
	for _, where := range []string{
		"i = '7a'", "i = 1e2", "i = '1234567890123456'", "v = 5", "v = x'61'", "j = '1'", "d = '2024-02-30'", "d = '24-1-1'", "d = 20240101",
		"b = 'ab'", "f = 1", "i like '1%'", "u3 = '\U0001F600'",
	} {
		if _, ok := errors.AsType[*rule.UnsupportedError](check(where)); !ok {
			t.Errorf("%s is not refused: %v", where, check(where))
		}
	}
	if _, ok := errors.AsType[*rule.ColumnError](check("missing = 1")); !ok {
		t.Error("a column that the table does not have")
	}
}

func TestWith(t *testing.T) {
	r, err := rule.Parse("select a as `b``c` from t where a > 1 or a < 0")
	if err != nil {
		t.Fatal(err)
	}
	if r, err = r.With("tenant", "it's", false); err != nil {
		t.Fatal(err)
	}
	if want := "select `a` as `b``c` from `t` where `tenant` = 'it\\'s' and ("; !strings.HasPrefix(r.String(), want) {
		t.Errorf("%s", r)
	}
	if r, err = rule.All("t").With("tenant", "5", true); err != nil || r.String() != "select * from `t` where `tenant` = 5" {
		t.Errorf("%s, %v", r, err)
	}
}

// TestWithLiterals: a condition keeps its literals when it is written anew.
func TestWithLiterals(t *testing.T) {
	const where = "a in (-1, 1.50, 18446744073709551615, null) or b = 'it''s \\\\ ä' or c = x'00ff' or d = b'101' or e = 0x4 or f > 1e3 or g >= date '2024-02-29' or h <=> time '01:02:03' or i like 'a\\_%' or j = true"
	r, err := rule.Parse("select * from t where " + where)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it reads what it has written
		if r, err = r.With("tenant", "5", true); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"-1", "1.50", "18446744073709551615", "NULL", "it''s", "ä", "x'00ff'", "x'05'", "x'04'", "1e+03", "DATE '2024-02-29'", "TIME '01:02:03'", "a\\_%"} {
		if !strings.Contains(r.String(), part) {
			t.Errorf("no %s in %s", part, r)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"select * from t", "select a as b from t where not a in (1, 'x') and b between 1.5 and x'00' or c is null", "select", "a\x00", "select * from t where a like '%'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := rule.Parse(s); err == nil && r.Table == "" {
			t.Errorf("%q: no table", s)
		}
	})
}
