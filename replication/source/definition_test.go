package source

import "testing"

func TestKeepsColumns(t *testing.T) {
	for text, want := range map[string]bool{
		"ALTER TABLE t ADD KEY k (a), DROP INDEX j, ALGORITHM = INPLACE, LOCK = NONE":                      true,
		"ALTER TABLE `s`.`t` ADD UNIQUE (a, (lower(b)))":                                                   true,
		"ALTER TABLE t COMMENT 'ADD COLUMN c INT', ENGINE=InnoDB":                                          true,
		"ALTER TABLE t ADD PARTITION (PARTITION p VALUES LESS THAN (3), PARTITION q VALUES LESS THAN (4))": true,
		"ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES p (id), DROP CHECK d":                   true,
		"ALTER TABLE t ALTER COLUMN a SET DEFAULT 3, RENAME INDEX a TO b":                                  true,
		"CREATE UNIQUE INDEX i ON t (a)":                                                                   true,
		"DROP INDEX i ON t":                                                                                true,

		"ALTER TABLE t ADD c INT":                              false,
		"ALTER TABLE t ADD KEY (a), ADD COLUMN (c INT, d INT)": false,
		"ALTER TABLE t COMMENT 'x', MODIFY a BIGINT":           false,
		"ALTER TABLE t DROP KEY a, DROP b":                     false,
		"ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4":       false,
		"ALTER TABLE t RENAME COLUMN a TO b":                   false,
		"ALTER TABLE t CHANGE a b INT":                         false,
		"ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (b)":  false,
		"ALTER TABLE t ADD CONSTRAINT p PRIMARY KEY (b)":       false,
		"DROP INDEX `PRIMARY` ON t":                            false,
		"CREATE TABLE t (a INT)":                               false,
		"TRUNCATE t":                                           false,
		"FROBNICATE t":                                         false,
	} {
		s := parseStatement(text, 0)
		if got := s.keepsColumns(); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
