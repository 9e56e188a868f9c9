package migrate

import (
	"encoding/json"
	"slices"
	"strings"
)

// A Code says what kind of thing a Finding is about.
type Code string

// The codes of findings.
const (
	// CodeUnreachable: a server can't be reached or refuses the login.
	CodeUnreachable Code = "unreachable"
	// CodePrivilege: an account lacks a privilege.
	CodePrivilege Code = "privilege"
	// CodeVersion: the server is too old, or not one that is known.
	CodeVersion Code = "version"
	// CodeUnsupported: not supported yet.
	CodeUnsupported Code = "unsupported"
	// CodeBinlogOff: the source writes no binary log.
	CodeBinlogOff Code = "binlog_off"
	// CodeBinlogFormat: binlog_format is not ROW.
	CodeBinlogFormat Code = "binlog_format"
	// CodeRowImage: binlog_row_image is not FULL.
	CodeRowImage Code = "binlog_row_image"
	// CodeRowValueOptions: binlog_row_value_options is not empty (partial JSON).
	CodeRowValueOptions Code = "binlog_row_value_options"
	// CodeOrderCommits: binlog_order_commits is not ON: what is visible to reads may then lack what came before it in the log.
	CodeOrderCommits Code = "binlog_order_commits"
	// CodeGTID: gtid_mode is not ON.
	CodeGTID Code = "gtid_mode"
	// CodeLogUpdates: a replica does not log what it applies.
	CodeLogUpdates Code = "log_replica_updates"
	// CodePrepared: XA transactions are prepared on the source. If one is older than the source's logs, its commit will end the stream.
	CodePrepared Code = "xa_prepared"
	// CodeReadOnly: the target's primary is read-only.
	CodeReadOnly Code = "read_only"
	// CodeTimeZone: the time zone is not known.
	CodeTimeZone Code = "time_zone"
	// CodeUnknownTable: a table that was named is not in the source.
	CodeUnknownTable Code = "unknown_table"
	// CodeInternalTable: tables are left out, since their names are those of schema change tools.
	CodeInternalTable Code = "internal_table"
	// CodeNoTables: nothing is left to move.
	CodeNoTables Code = "no_tables"
	// CodeNotTable: what was named is a view or a sequence.
	CodeNotTable Code = "not_a_table"
	// CodeNoKey: the table has no primary key and no unique key without nullable columns.
	CodeNoKey Code = "no_usable_key"
	// CodeEngine: the table's engine is not transactional, or not known to the target.
	CodeEngine Code = "engine"
	// CodeNotEmpty: the target table holds rows.
	CodeNotEmpty Code = "target_not_empty"
	// CodeDifferent: the target table is there and not the same.
	CodeDifferent Code = "target_different"
	// CodeForeignKey: a foreign key reaches out of the set of tables, or its cascades are not in the log.
	CodeForeignKey Code = "foreign_key"
	// CodeConflict: another workflow moves the table already.
	CodeConflict Code = "conflict"
	// CodeTrigger: a table of the source or target has triggers.
	CodeTrigger Code = "trigger"
	// CodeName: a table's new name can't be used.
	CodeName Code = "name"
	// CodeShards: the shards of the target keyspace do not hold every keyspace id exactly once.
	CodeShards Code = "shards"
	// CodeUniqueKey: a unique key does not hold for several shards together.
	CodeUniqueKey Code = "unique_key"
	// CodeReference: a reference table of the target is none at the source.
	CodeReference Code = "reference_table"
	// CodeAutoIncrement: shards hand out ids for themselves, or nobody does.
	CodeAutoIncrement Code = "auto_increment"
	// CodeSequence: a sequence can't be made, or not be used as it is.
	CodeSequence Code = "sequence"
	// CodeDenied: a record of the topology denies queries for a table.
	CodeDenied Code = "denied_tables"
	// CodeFilter: a rule of CreateOptions.Filters does not fit its table.
	CodeFilter Code = "filter"
	// CodeVSchema: the target keyspace's VSchema does not say on which shard rows are, or can't be followed.
	CodeVSchema Code = "vschema"
)

// Severity says whether a finding stops the command.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Side says where a finding was made.
type Side string

// The sides.
const (
	SideSource   Side = "source"
	SideTarget   Side = "target"
	SideTopology Side = "topology"
)

// A Finding is one thing that a check found.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Side     Side     `json:"side"`
	// Server is the address of the server where there is one.
	Server string `json:"server,omitempty"`
	// Object is the table, privilege, variable or option that the finding is about.
	Object string `json:"object,omitempty"`
	// Message says what was found, Fix what to do about it.
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
	// Err is the error behind it where there is one; errors.Is and errors.As on the PreflightError find it.
	Err error `json:"-"`
}

// String is one line: where, what, what to do.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(string(f.Side))
	if f.Server != "" {
		b.WriteString(" " + f.Server)
	}
	b.WriteString(": " + f.Message)
	if f.Fix != "" {
		b.WriteString(" (fix: " + f.Fix + ")")
	}
	return b.String()
}

// findings collects what checks find.
type findings struct {
	list []Finding
}

// add records a finding; an empty severity is SeverityError.
func (fs *findings) add(f Finding) {
	if f.Severity == "" {
		f.Severity = SeverityError
	}
	// Shards of one end may be on one server, and say the same.
	known := func(o Finding) bool {
		return o.Code == f.Code && o.Side == f.Side && o.Server == f.Server && o.Object == f.Object && o.Message == f.Message
	}
	if !slices.ContainsFunc(fs.list, known) {
		fs.list = append(fs.list, f)
	}
}

// warnings are the findings that stop nothing.
func (fs *findings) warnings() []Finding {
	var w []Finding
	for _, f := range fs.list {
		if f.Severity == SeverityWarning {
			w = append(w, f)
		}
	}
	return w
}

// err is a *PreflightError if anything stops the command.
func (fs *findings) err(workflow string) error {
	if len(fs.warnings()) == len(fs.list) {
		return nil
	}
	return &PreflightError{Workflow: workflow, Findings: fs.list}
}

// MarshalJSON lists the findings, for machines that print the error.
func (e *PreflightError) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Workflow string    `json:"workflow"`
		Findings []Finding `json:"findings"`
	}{e.Workflow, e.Findings})
}
