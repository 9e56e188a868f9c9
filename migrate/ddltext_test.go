package migrate

import (
	"slices"
	"strings"
	"testing"
)

const awkwardTable = "CREATE TABLE `odd ``name``` (\n" +
	"  `id` bigint unsigned NOT NULL AUTO_INCREMENT COMMENT 'a, b) \\' KEY `x` (`y`)',\n" +
	"  `org` int NOT NULL DEFAULT '0',\n" +
	"  `n,ame` varchar(20) CHARACTER SET latin1 COLLATE latin1_bin DEFAULT ')',\n" +
	"  `kind` enum('a,b','c''d','(') DEFAULT NULL,\n" +
	"  `doc` json DEFAULT NULL,\n" +
	"  `g` int GENERATED ALWAYS AS ((`org` + length(_utf8mb4'),('))) VIRTUAL,\n" +
	"  `p` point NOT NULL /*!80003 SRID 4326 */,\n" +
	"  PRIMARY KEY (`org`,`id`),\n" +
	"  UNIQUE KEY `u` (`n,ame`(10)) USING BTREE COMMENT 'x, y',\n" +
	"  KEY `by_id` (`id`),\n" +
	"  KEY `fn` ((cast(json_extract(`doc`,_utf8mb4'$.a,b') as unsigned array)),`org` DESC) /*!80000 INVISIBLE */,\n" +
	"  KEY `child` (`g`,`org`),\n" +
	"  FULLTEXT KEY `ft` (`n,ame`) /*!50100 WITH PARSER `ngram` */ ,\n" +
	"  SPATIAL KEY `sp` (`p`),\n" +
	"  CONSTRAINT `fk` FOREIGN KEY (`org`, `g`) REFERENCES `other db`.`parent` (`a`, `b`) ON DELETE CASCADE ON UPDATE NO ACTION,\n" +
	"  CONSTRAINT `chk` CHECK ((`org` in (1,2,3)))\n" +
	") ENGINE=InnoDB AUTO_INCREMENT=42 DEFAULT CHARSET=utf8mb4 COMMENT='(,)'\n" +
	"/*!50100 PARTITION BY RANGE (`org`)\n(PARTITION p0 VALUES LESS THAN (10) ENGINE = InnoDB,\n PARTITION p1 VALUES LESS THAN MAXVALUE ENGINE = InnoDB) */"

func TestParseCreate(t *testing.T) {
	c, err := parseCreate(awkwardTable)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range c.defs {
		got = append(got, strings.Join(append([]string{string('0' + rune(d.kind)), d.name}, d.columns...), "|"))
	}
	want := []string{
		"0|id", "0|org", "0|n,ame", "0|kind", "0|doc", "0|g", "0|p", "1||org|id", "2|u|n,ame", "3|by_id|id", "3|fn||org",
		"3|child|g|org", "4|ft|n,ame", "5|sp|p", "6|fk|org|g", "7|chk",
	}
	if !slices.Equal(got, want) {
		t.Errorf("definitions\n got %q\nwant %q", got, want)
	}
	fk := c.kinds(defForeignKey)[0]
	if fk.refSchema != "other db" || fk.refTable != "parent" || !slices.Equal(fk.refColumns, []string{"a", "b"}) || !fk.cascades {
		t.Errorf("foreign key read as %+v", fk)
	}
	if !c.defs[0].autoIncrement || c.defs[1].autoIncrement {
		t.Errorf("AUTO_INCREMENT column not found, or found twice")
	}
	same := c.without(func(definition) bool { return false })
	words := func(s string) string { return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), " ,", ",") }
	if words(same) != words(awkwardTable) {
		t.Errorf("text was changed:\n%s", same)
	}
}

func TestDeferrable(t *testing.T) {
	for _, tc := range []struct {
		name, table, identity string
		needed                [][]string
		want                  string
	}{
		{"awkward", awkwardTable, "", nil, "u fn"},
		{"needed by a child", awkwardTable, "", [][]string{{"n,ame"}}, "fn"},
		{"identity", "CREATE TABLE `t` (\n `a` int NOT NULL,\n `b` int,\n UNIQUE KEY `a` (`a`),\n UNIQUE KEY `b` (`b`)\n)", "a", nil, "b"},
		{"auto first in pk", "CREATE TABLE `t` (\n `a` int NOT NULL AUTO_INCREMENT,\n `b` int,\n PRIMARY KEY (`a`),\n KEY `x` (`a`,`b`)\n)", "", nil, "x"},
		{"auto not first", "CREATE TABLE `t` (\n `a` int NOT NULL AUTO_INCREMENT,\n `b` int,\n PRIMARY KEY (`b`,`a`),\n KEY `x` (`a`,`b`),\n KEY `y` (`b`)\n)", "", nil, "y"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parseCreate(tc.table)
			if err != nil {
				t.Fatal(err)
			}
			deferred := c.deferrable(tc.identity, tc.needed)
			var names []string
			for _, d := range c.defs {
				if deferred(d) {
					names = append(names, d.name)
				}
			}
			if got := strings.Join(names, " "); got != tc.want {
				t.Errorf("deferred %q, want %q", got, tc.want)
			}
			for _, name := range names {
				if strings.Contains(c.without(deferred), "KEY `"+name+"`") {
					t.Errorf("key %s is still in the text", name)
				}
			}
		})
	}
}

func TestParseCreateRefuses(t *testing.T) {
	for _, text := range []string{
		"", "CREATE TABLE `t`", "CREATE TABLE `t` (", "CREATE TABLE `t` (`a` int", "CREATE TABLE `t` (KEY `k` `a`)",
		"CREATE TABLE `t` (`a` int, CONSTRAINT `f` FOREIGN KEY (`a`) POINTS AT `x` (`y`))", "CREATE TABLE `t` (KEY `k` (`a`",
		"CREATE TABLE `t` (`a` int, KEY", "CREATE TABLE `t` (`a` int DEFAULT 'x)",
	} {
		if _, err := parseCreate(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func FuzzParseCreate(f *testing.F) {
	f.Add(awkwardTable)
	f.Add("CREATE TABLE `t` (`a` int, KEY `k` (`a`))")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCreate(text)
		if err != nil {
			return
		}
		again, err := parseCreate(c.without(func(definition) bool { return false }))
		if err != nil {
			t.Fatalf("printed text can't be read: %v", err)
		}
		if len(again.defs) != len(c.defs) {
			t.Fatalf("%d definitions became %d", len(c.defs), len(again.defs))
		}
	})
}

// The word is cut where it is a property of the column or an option of the table, and nowhere else.
func TestWithoutAutoIncrement(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"column and counter", awkwardTable, strings.NewReplacer(
			"NOT NULL AUTO_INCREMENT COMMENT", "NOT NULL COMMENT", "ENGINE=InnoDB AUTO_INCREMENT=42 DEFAULT", "ENGINE=InnoDB DEFAULT",
		).Replace(awkwardTable)},
		{
			"names, comments, defaults and members",
			"CREATE TABLE `AUTO_INCREMENT` (\n  `auto_increment` int NOT NULL DEFAULT '1' COMMENT ' AUTO_INCREMENT ',\n" +
				"  `id` int NOT NULL COMMENT 'it''s AUTO_INCREMENT=1' /*!80023 INVISIBLE */ AUTO_INCREMENT,\n" +
				"  `e` enum(' AUTO_INCREMENT ','x') DEFAULT ' AUTO_INCREMENT ',\n  `v` varchar(20) DEFAULT (concat(_utf8mb4' AUTO_INCREMENT ',`auto_increment`)),\n" +
				"  KEY `id` (`id`)\n) ENGINE=InnoDB /* AUTO_INCREMENT=1 */ AUTO_INCREMENT = 7 COMMENT=' AUTO_INCREMENT=2'",
			"CREATE TABLE `AUTO_INCREMENT` (\n  `auto_increment` int NOT NULL DEFAULT '1' COMMENT ' AUTO_INCREMENT ',\n" +
				"  `id` int NOT NULL COMMENT 'it''s AUTO_INCREMENT=1' /*!80023 INVISIBLE */,\n" +
				"  `e` enum(' AUTO_INCREMENT ','x') DEFAULT ' AUTO_INCREMENT ',\n  `v` varchar(20) DEFAULT (concat(_utf8mb4' AUTO_INCREMENT ',`auto_increment`)),\n" +
				"  KEY `id` (`id`)\n) ENGINE=InnoDB /* AUTO_INCREMENT=1 */ COMMENT=' AUTO_INCREMENT=2'",
		},
		{"none", "CREATE TABLE `t` (\n  `id` int NOT NULL\n) ENGINE=InnoDB", "CREATE TABLE `t` (\n  `id` int NOT NULL\n) ENGINE=InnoDB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parseCreate(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			before := c.without(func(definition) bool { return false })
			out := c.withoutAutoIncrement()
			want, err := parseCreate(tc.want)
			if err != nil {
				t.Fatal(err)
			}
			all := func(definition) bool { return false }
			if got := out.without(all); got != want.without(all) {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
			if out.autoIncrement() != "" {
				t.Errorf("column %s still counts", out.autoIncrement())
			}
			if c.without(all) != before {
				t.Error("the original was changed")
			}
		})
	}
}
