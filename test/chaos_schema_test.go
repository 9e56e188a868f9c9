package test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// chaosTable is a table of a random shape. written says that replicationtest.Load can write to it.
type chaosTable struct {
	name, create string
	written      bool
}

// chaosKeys are primary keys: columns and key. The first half has an order that the library knows, the rest only the server.
var chaosKeys = [][2]string{
	{"id BIGINT AUTO_INCREMENT", "id"},
	{"id INT UNSIGNED", "id"},
	{"tenant SMALLINT, id INT", "tenant, id"},
	{"id BINARY(8)", "id"},
	{"id VARBINARY(16), n TINYINT", "n, id"},
	{"id DECIMAL(9,3)", "id"},
	{"id DATETIME(3)", "id"},
	{"id VARCHAR(12) COLLATE utf8mb4_bin", "id"},
	{"id VARCHAR(20) COLLATE utf8mb4_0900_ai_ci", "id"},
	{"id CHAR(9) COLLATE utf8mb4_general_ci", "id"},
	{"tenant INT, id VARCHAR(12) COLLATE utf8mb4_unicode_ci", "tenant, id"},
	{"id VARCHAR(10) CHARACTER SET latin1 COLLATE latin1_swedish_ci", "id"},
}

var chaosTypes = []string{
	"INT", "BIGINT UNSIGNED", "SMALLINT", "DECIMAL(12,4)", "DOUBLE", "FLOAT", "VARCHAR(40)", "CHAR(10) CHARACTER SET latin1",
	"TEXT", "MEDIUMBLOB", "VARBINARY(20)", "BINARY(6)", "DATE", "DATETIME(6)", "TIMESTAMP(3) NULL", "TIME(2)", "YEAR",
	"ENUM('a','B','ç')", "SET('x','y','z')", "BIT(9)", "JSON", "CHAR(6) CHARACTER SET utf16", "INT NOT NULL DEFAULT 7",
}

// chaosSchema draws some tables. Each has a primary key; the table bulk may have but a unique one.
func chaosSchema(rnd *rand.Rand) []chaosTable {
	var tables []chaosTable
	for i := range 3 + rnd.IntN(3) {
		// A table with an order first, then one without, and so on, so that every schema has both.
		half := len(chaosKeys) * 2 / 3
		key := chaosKeys[rnd.IntN(half)]
		if i%2 == 1 {
			key = chaosKeys[half+rnd.IntN(len(chaosKeys)-half)]
		}
		tables = append(tables, chaosTable{name: fmt.Sprintf("r%d", i), create: randomTable(rnd, fmt.Sprintf("r%d", i), key), written: true})
	}
	identity := "PRIMARY KEY (id)"
	if rnd.IntN(2) == 0 {
		identity = "UNIQUE KEY identity (id)"
	}
	tables = append(tables, chaosTable{name: "bulk", create: `CREATE TABLE bulk (id BIGINT NOT NULL AUTO_INCREMENT, part INT NOT NULL,
		u BIGINT UNIQUE, pad VARBINARY(300), at TIMESTAMP(6) NULL, ` + identity + `, KEY (part))`})
	for _, w := range wanderTables {
		tables = append(tables, chaosTable{name: w.name, create: w.create})
	}
	return tables
}

func randomTable(rnd *rand.Rand, name string, key [2]string) string {
	defs := strings.Split(strings.ReplaceAll(key[0], ",3)", ";3)"), ", ")
	for i := range defs {
		defs[i] = strings.ReplaceAll(defs[i], ";3)", ",3)")
	}
	n := 2 + rnd.IntN(6)
	for i := range n {
		defs = append(defs, fmt.Sprintf("c%d %s", i, chaosTypes[rnd.IntN(len(chaosTypes))]))
	}
	defs = append(defs, "u INT", "v VARCHAR(30)")
	partitioned := key[1] == "id" && strings.Contains(key[0], "INT") && rnd.IntN(2) == 0
	if !partitioned {
		switch rnd.IntN(4) {
		case 0:
			defs = append(defs, "UNIQUE (u)")
		case 1:
			defs = append(defs, "UNIQUE (v)")
		case 2:
			defs = append(defs, "UNIQUE (u, v)", "KEY (v)")
		}
	}
	if rnd.IntN(3) == 0 {
		defs = append(defs, "g INT GENERATED ALWAYS AS (u % 100) "+[]string{"VIRTUAL", "STORED"}[rnd.IntN(2)], "KEY (g)")
	}
	create := fmt.Sprintf("CREATE TABLE %s (%s, PRIMARY KEY (%s))", name, strings.Join(defs, ", "), key[1])
	if partitioned {
		create += " PARTITION BY HASH (id) PARTITIONS 3"
	}
	return create
}
