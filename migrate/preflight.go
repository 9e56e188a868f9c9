package migrate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/source"
)

// A sourceState is what was read of one source shard; the checks of this file are pure functions of it.
type sourceState struct {
	shard    string
	schema   string
	replica  bool
	server   *server
	tables   map[string]*table
	triggers map[string][]string
	// selected are the tables to move, by name; models describes them in the same order.
	selected []string
	models   []*replication.Table
	// provided are those of selected that are read from this shard.
	provided []string
	shapes   map[string]*shape
	// foreignKeys are all of the database.
	foreignKeys []*foreignKey
}

// A targetState is what was read of one target shard.
type targetState struct {
	shard       string
	schema      string
	exists      bool // the database
	server      *server
	tables      map[string]*table
	filled      map[string]bool // tables that hold rows
	triggers    map[string][]string
	shapes      map[string]*shape
	foreignKeys []*foreignKey
	// taken says which workflow of the shard moves a table already.
	taken map[string]string
}

// checkSourceServer looks at version, settings and global privileges of a source.
func checkSourceServer(fs *findings, s *server, replica bool) {
	add := func(code Code, object, message, fix string) {
		fs.add(Finding{Code: code, Side: SideSource, Server: s.addr, Object: object, Message: message, Fix: fix})
	}
	switch {
	case s.mariadb:
		add(CodeUnsupported, s.version, "MariaDB as a source is not supported yet", "use a MySQL source")
		return
	case !s.atLeast(8, 0):
		add(CodeVersion, s.version, "MySQL "+s.version+" is older than 8.0", "upgrade the source to MySQL 8.0 or later")
	}
	if !s.on("log_bin", true) {
		add(CodeBinlogOff, "log_bin", "the binary log is off", "start the server with --log-bin")
	}
	want := func(code Code, variable, value, fix string) {
		if v, ok := s.variables[variable]; ok && !strings.EqualFold(v, value) {
			add(code, variable, fmt.Sprintf("%s is %q, not %q", variable, v, value), fix)
		}
	}
	want(CodeBinlogFormat, "binlog_format", "ROW", "SET PERSIST binlog_format = 'ROW', and reconnect the clients")
	want(CodeRowImage, "binlog_row_image", "FULL", "SET PERSIST binlog_row_image = 'FULL', and reconnect the clients")
	want(CodeRowValueOptions, "binlog_row_value_options", "", "SET PERSIST binlog_row_value_options = '', and reconnect the clients")
	want(CodeOrderCommits, "binlog_order_commits", "ON", "SET PERSIST binlog_order_commits = ON")
	if v := s.variables["gtid_mode"]; !strings.EqualFold(v, "ON") {
		add(CodeGTID, "gtid_mode", fmt.Sprintf("gtid_mode is %q, not \"ON\"", v),
			"SET PERSIST enforce_gtid_consistency = ON, then gtid_mode = OFF_PERMISSIVE, ON_PERMISSIVE, ON, one after the other")
	}
	if replica && !s.on("log_replica_updates", s.on("log_slave_updates", true)) {
		add(CodeLogUpdates, "log_replica_updates", "the replica does not log what it applies", "start it with --log-replica-updates, or read from the primary")
	}
	if s.prepared > 0 {
		fs.add(Finding{
			Code: CodePrepared, Severity: SeverityWarning, Side: SideSource, Server: s.addr, Object: "XA",
			Message: fmt.Sprintf("%d XA transaction(s) are prepared: when one is committed, its rows are looked for in the source's older logs", s.prepared),
			Fix:     "if one is older than these logs, end it with XA COMMIT or XA ROLLBACK before (XA RECOVER lists them)",
		})
	}
	for _, p := range []string{"REPLICATION SLAVE", "REPLICATION CLIENT"} {
		if !s.grants.has(p, "", "") {
			add(CodePrivilege, p, "the account lacks "+p+" on *.*", "GRANT "+p+" ON *.* TO the account")
		}
	}
}

// checkTargetServer looks at version, settings and privileges of a target shard's primary.
func checkTargetServer(fs *findings, s *server, schema, sidecar string) {
	add := func(code Code, object, message, fix string) {
		fs.add(Finding{Code: code, Side: SideTarget, Server: s.addr, Object: object, Message: message, Fix: fix})
	}
	switch {
	case s.mariadb:
		add(CodeUnsupported, s.version, "MariaDB as a target is not supported yet", "use a MySQL target")
		return
	case !s.atLeast(8, 0):
		add(CodeVersion, s.version, "MySQL "+s.version+" is older than 8.0", "upgrade the target to MySQL 8.0 or later")
	}
	if s.on("read_only", false) || s.on("super_read_only", false) {
		add(CodeReadOnly, "read_only", "the shard's primary is read-only", "SET GLOBAL super_read_only = OFF, read_only = OFF, or correct the primary in the topology")
	}
	for _, need := range []struct {
		schema     string
		privileges []string
	}{
		{schema, []string{"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES"}},
		{sidecar, []string{"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "LOCK TABLES"}},
	} {
		var missing []string
		for _, p := range need.privileges {
			if !s.grants.has(p, need.schema, "") {
				missing = append(missing, p)
			}
		}
		if len(missing) > 0 {
			list := strings.Join(missing, ", ")
			add(CodePrivilege, list, fmt.Sprintf("the account lacks %s on %s.*", list, ident(need.schema)), fmt.Sprintf("GRANT %s ON %s.* TO the account", list, ident(need.schema)))
		}
	}
}

// selectTables says which tables to move. Unknown names and what is no table are findings.
func selectTables(fs *findings, o CreateOptions, s *sourceState) []string {
	unknown := func(names []string, option string) {
		for _, n := range names {
			switch t := s.tables[n]; {
			case t == nil:
				fs.add(Finding{
					Code: CodeUnknownTable, Side: SideSource, Server: s.server.addr, Object: n,
					Message: fmt.Sprintf("table %s of %s is not in database %s", ident(n), option, ident(s.schema)),
					Fix:     "correct the name, or GRANT SELECT on the table to the account",
				})
			case t.kind != "BASE TABLE" && option == "Tables":
				fs.add(Finding{
					Code: CodeNotTable, Side: SideSource, Server: s.server.addr, Object: n,
					Message: fmt.Sprintf("%s is a %s", ident(n), strings.ToLower(t.kind)), Fix: "leave it out",
				})
			}
		}
	}
	unknown(o.Tables, "Tables")
	unknown(o.ExcludeTables, "ExcludeTables")
	var names, internal []string
	for _, name := range sortedKeys(s.tables) {
		switch {
		case s.tables[name].kind != "BASE TABLE", slices.Contains(o.ExcludeTables, name):
		case slices.Contains(o.Tables, name), o.AllTables && !source.InternalTable(name):
			names = append(names, name)
		case o.AllTables && !strings.HasPrefix(name, "_vt_"): // these can only be Vitess's
			internal = append(internal, ident(name))
		}
	}
	if len(names) == 0 && fs.err("") == nil {
		fs.add(Finding{
			Code: CodeNoTables, Side: SideSource, Server: s.server.addr, Object: s.schema,
			Message: fmt.Sprintf("there are no tables to move in database %s", ident(s.schema)), Fix: "name another source, or other tables",
		})
	}
	if len(internal) > 0 {
		fs.add(Finding{
			Code: CodeInternalTable, Severity: SeverityWarning, Side: SideSource, Server: s.server.addr, Object: s.schema,
			Message: "tables are left out, since their names are those of schema change tools: " + strings.Join(internal, ", "),
			Fix:     "if one of them is yours, name the tables instead of moving all",
		})
	}
	return names
}

// transactional are the engines whose rows become visible when they are logged.
var transactional = map[string]bool{"InnoDB": true, "ROCKSDB": true, "TokuDB": true}

// checkTables looks at each selected table of a source: engine, key, privileges, foreign keys, triggers.
func checkTables(fs *findings, o CreateOptions, s *sourceState) {
	add := func(sev Severity, code Code, object, message, fix string) {
		fs.add(Finding{Code: code, Severity: sev, Side: SideSource, Server: s.server.addr, Object: object, Message: message, Fix: fix})
	}
	for _, name := range s.selected {
		t := s.tables[name]
		if !s.server.grants.has("SELECT", s.schema, name) {
			add(SeverityError, CodePrivilege, "SELECT", fmt.Sprintf("the account lacks SELECT on %s.%s", ident(s.schema), ident(name)),
				fmt.Sprintf("GRANT SELECT ON %s.* TO the account", ident(s.schema)))
		}
		if !transactional[t.engine] {
			add(SeverityError, CodeEngine, name, fmt.Sprintf("table %s uses %s, which is not transactional", ident(name), t.engine),
				fmt.Sprintf("ALTER TABLE %s ENGINE = InnoDB", ident(name)))
		}
		if n := len(s.triggers[name]); n > 0 {
			add(SeverityWarning, CodeTrigger, name, fmt.Sprintf("table %s has %d trigger(s), which are not moved", ident(name), n),
				"create them on the target after Complete")
		}
		if t.create != nil {
			checkForeignKeys(fs, o, s, t)
		}
	}
	for _, m := range s.models {
		if len(m.Primary.Columns) == 0 {
			add(SeverityError, CodeNoKey, m.Name, fmt.Sprintf("table %s has no primary key and no unique key of NOT NULL columns", ident(m.Name)),
				"add a primary key")
		}
		if c := generatedKeyColumn(m); o.SourceTimeZone != "" && c != "" {
			add(SeverityError, CodeUnsupported, m.Name, fmt.Sprintf("table %s has DATETIME columns, which are converted, and the generated column %s, which may depend on them, in a unique key",
				ident(m.Name), ident(c)), "leave SourceTimeZone empty, or leave the table out")
		}
	}
}

// generatedKeyColumn is the first generated column in a unique key of a table with DATETIME columns. The target would compute another value when these are
// converted, by which the row is not found.
func generatedKeyColumn(t *replication.Table) string {
	if !slices.ContainsFunc(t.Columns, func(c replication.Column) bool { return c.Kind == replication.KindDatetime && !c.Generated }) {
		return ""
	}
	for _, index := range append([]replication.Index{t.Primary}, t.Unique...) {
		for _, c := range index.Columns {
			if t.Columns[c].Generated {
				return t.Columns[c].Name
			}
		}
	}
	return ""
}

// checkTargetTables looks at what is on a target shard already, of the tables that it is to hold. For those that are uncounted AUTO_INCREMENT makes no
// difference.
func checkTargetTables(fs *findings, s *sourceState, t *targetState, names []string, uncounted func(string) bool) {
	add := func(code Code, object, message, fix string) {
		fs.add(Finding{Code: code, Side: SideTarget, Server: t.server.addr, Object: object, Message: message, Fix: fix})
	}
	for _, name := range names {
		if wf := t.taken[name]; wf != "" {
			add(CodeConflict, name, fmt.Sprintf("table %s is moved by workflow %s already", ident(name), wf), "cancel or complete that workflow, or leave the table out")
			continue
		}
		have := t.tables[name]
		switch {
		case have == nil:
		case have.kind != "BASE TABLE":
			add(CodeNotTable, name, fmt.Sprintf("%s is a %s on the target", ident(name), strings.ToLower(have.kind)), "drop it, or leave the table out")
		default:
			if t.filled[name] {
				add(CodeNotEmpty, name, fmt.Sprintf("table %s on the target is not empty", ident(name)), "empty or drop it, or leave the table out")
			}
			if n := len(t.triggers[name]); n > 0 {
				add(CodeTrigger, name, fmt.Sprintf("table %s on the target has %d trigger(s), which would change what is copied", ident(name), n), "drop them until Complete")
			}
			if !transactional[have.engine] {
				add(CodeEngine, name, fmt.Sprintf("table %s on the target uses %s, which is not transactional", ident(name), have.engine), "drop it, or change its engine")
			}
			if want, have := s.shapes[name], t.shapes[name]; want != nil && have != nil {
				if uncounted(name) {
					want, have = want.withoutAutoIncrement(), have.withoutAutoIncrement()
				}
				if d := difference(want, have); d != "" {
					add(CodeDifferent, name, fmt.Sprintf("table %s on the target is not like the source's: %s", ident(name), d), "drop it or make it alike, or leave the table out")
				}
			}
		}
	}
}

// checkZone finds the time zone.
func checkZone(fs *findings, name string) {
	if _, err := loadZone(name); err != nil {
		fs.add(Finding{Code: CodeTimeZone, Side: SideSource, Object: name, Message: err.Error(), Fix: "use an IANA name such as Europe/Berlin"})
	}
}
