package migrate

import (
	"slices"
	"strings"
)

// grants are the privileges of one account, as SHOW GRANTS prints them.
type grants struct {
	entries []grant
}

// A grant is one GRANT or REVOKE line.
type grant struct {
	// schema and table are patterns as granted; "*" is all. A schema may hold the wildcards % and _.
	schema, table string
	privileges    []string
	all           bool
	revoked       bool
}

// parseGrants reads the lines of SHOW GRANTS, of MySQL or MariaDB. Lines of other kinds (roles, proxies)
// are passed over; the privileges of roles have to be in the lines already.
func parseGrants(lines []string) *grants {
	g := &grants{}
	for _, line := range lines {
		if e, ok := parseGrant(line); ok {
			g.entries = append(g.entries, e)
		}
	}
	return g
}

func parseGrant(line string) (grant, bool) {
	t := &tokens{s: line}
	var e grant
	switch strings.ToUpper(t.next()) {
	case "GRANT":
	case "REVOKE":
		e.revoked = true
	default:
		return e, false
	}
	var words []string
	for tok := t.next(); !strings.EqualFold(tok, "ON"); tok = t.next() {
		switch tok {
		case "": // a role: there is no ON
			return e, false
		case "(": // a column list: the privilege holds for some columns only, which is not enough
			words = nil
			end := nextTop(t.s, t.i, ")")
			if end < 0 {
				return e, false
			}
			t.i = end + 1
		case ",":
			e.addPrivilege(words)
			words = nil
		default:
			words = append(words, strings.ToUpper(tok))
		}
	}
	e.addPrivilege(words)
	return e, e.object(t)
}

func (e *grant) addPrivilege(words []string) {
	switch p := strings.Join(words, " "); p {
	case "":
	case "ALL PRIVILEGES", "ALL":
		e.all = true
	default:
		e.privileges = append(e.privileges, p)
	}
}

// object reads schema and table.
func (e *grant) object(t *tokens) bool {
	part := func() (string, bool) {
		if t.peek() == "*" {
			t.next()
			return "*", true
		}
		name, err := t.name()
		return name, err == nil
	}
	var ok bool
	if e.schema, ok = part(); !ok || t.next() != "." {
		return false // PROXY, PROCEDURE, …
	}
	e.table, ok = part()
	return ok
}

// synonyms are the names that other versions have for a privilege.
var synonyms = map[string][]string{
	"REPLICATION CLIENT": {"BINLOG MONITOR", "SUPER"},
	"REPLICATION SLAVE":  {"REPLICATION REPLICA"},
}

// has tells whether the account has the privilege on schema.table. An empty schema asks for the global
// privilege, an empty table for one on the whole schema.
func (g *grants) has(privilege, schema, table string) bool {
	names := append([]string{privilege}, synonyms[privilege]...)
	held := false
	for _, e := range g.entries {
		if e.revoked || !e.covers(schema, table) {
			continue
		}
		if e.all || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(e.privileges, n) }) {
			if e.schema != "*" {
				return true
			}
			held = true
		}
	}
	// A partial revoke takes away from global grants only.
	for _, e := range g.entries {
		if e.revoked && schema != "" && e.covers(schema, table) && (e.all || slices.Contains(e.privileges, privilege)) {
			return false
		}
	}
	return held
}

func (e grant) covers(schema, table string) bool {
	switch {
	case e.schema == "*":
		return true
	case schema == "" || !like(e.schema, schema):
		return false
	case e.table == "*":
		return true
	}
	return table != "" && e.table == table
}

// like matches a schema name against a pattern with %, _ and backslash.
func like(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	switch c := pattern[0]; {
	case c == '%':
		for i := range len(name) + 1 {
			if like(pattern[1:], name[i:]) {
				return true
			}
		}
		return false
	case name == "":
		return false
	case c == '_':
		return like(pattern[1:], name[1:])
	case c == '\\' && len(pattern) > 1:
		return pattern[1] == name[0] && like(pattern[2:], name[1:])
	default:
		return c == name[0] && like(pattern[1:], name[1:])
	}
}
