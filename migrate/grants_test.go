package migrate

import "testing"

func TestGrants(t *testing.T) {
	g := parseGrants([]string{
		"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `m`@`%`",
		"GRANT SELECT, SHOW VIEW ON `load`.* TO `m`@`%`",
		"GRANT ALL PRIVILEGES ON `vt\\_%`.* TO `m`@`%` WITH GRANT OPTION",
		"GRANT SELECT (`a`, `b`), INSERT ON `shop`.`orders` TO `m`@`%`",
		"GRANT `role`@`%` TO `m`@`%`",
		"GRANT PROXY ON ``@`` TO `m`@`%`",
		"GRANT EXECUTE ON PROCEDURE `load`.`p` TO `m`@`%`",
	})
	for _, tc := range []struct {
		privilege, schema, table string
		want                     bool
	}{
		{"REPLICATION SLAVE", "", "", true},
		{"REPLICATION CLIENT", "", "", true},
		{"SELECT", "", "", false},
		{"SELECT", "load", "", true},
		{"SELECT", "load", "t", true},
		{"SELECT", "loads", "t", false},
		{"DROP", "load", "t", false},
		{"DROP", "vt_commerce", "", true},
		{"DROP", "vtxcommerce", "", false},
		{"SELECT", "shop", "orders", false}, // for two columns only
		{"INSERT", "shop", "orders", true},
		{"INSERT", "shop", "", false},
		{"EXECUTE", "load", "", false},
	} {
		if got := g.has(tc.privilege, tc.schema, tc.table); got != tc.want {
			t.Errorf("%s on %q.%q: %v, want %v", tc.privilege, tc.schema, tc.table, got, tc.want)
		}
	}
}

func TestGrantsRevokedAndRenamed(t *testing.T) {
	g := parseGrants([]string{
		"GRANT ALL PRIVILEGES ON *.* TO 'root'@'localhost'",
		"REVOKE INSERT, UPDATE ON `mysql`.* FROM 'root'@'localhost'",
	})
	if !g.has("INSERT", "load", "t") || g.has("INSERT", "mysql", "user") || !g.has("SELECT", "mysql", "user") {
		t.Error("a partial revoke takes away what it names, and no more")
	}
	if m := parseGrants([]string{"GRANT BINLOG MONITOR, REPLICATION SLAVE ON *.* TO `m`@`%`"}); !m.has("REPLICATION CLIENT", "", "") {
		t.Error("BINLOG MONITOR is MariaDB's name for REPLICATION CLIENT")
	}
}
