package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

// Options of a Migrator. The zero value is right for most.
type Options struct {
	// SidecarDatabase is the database on each target shard that holds the state of streams; default
	// "_tablehaul". All processes that share workflows must agree on it.
	SidecarDatabase string
	// Keyspaces are the target keyspaces whose streams Run runs; default all of the topology.
	Keyspaces []string
	// PollInterval is how soon Run notices what other processes do to a workflow, and how often Watch looks;
	// default 1 s.
	PollInterval time.Duration
	// LeaseTTL is how long a stream stays with a process that has died before another one in Run takes it over; default 10 s.
	// A process that only hangs for longer loses its streams, and can do no harm when it wakes up.
	LeaseTTL time.Duration
	// RetryTime is how long the same error of a stream is tried again, as long as it gets no further, before the stream goes to state
	// Error; default 1 h, negative for ever. Waits grow from 100 ms to 5 s. Errors that can't go away by themselves are not tried again.
	RetryTime time.Duration
	// HangTimeout is how long a MySQL server may be silent in the middle of a statement before a second connection asks
	// whether it still works on it; default 10 s, negative never asks. A server that does not answer that twice, within 5 s (or HangTimeout, if
	// that is shorter) each, hangs: its stream is interrupted and tried again.
	HangTimeout time.Duration
	// Stream holds the engine's settings: readers, chunk sizes and memory bounds. OnDDL, StopAfterCopy, Logger and Trace of it
	// are set per workflow, and what is given here is not used, but for the hooks of Stream.Trace.
	Stream replication.Options
	// Workers is on how many connections a stream writes the source's changes to its target shard, Loaders on how many it writes
	// chunks of the copy at once; 0 is the target's own default (target.Options).
	Workers, Loaders int
	// ReadFile reads the files that vindexes of a target keyspace name in their parameters (json_path of numeric_static_map, region_map of
	// region_json). Nil refuses such vindexes, since a topology that others write should not choose which files a program opens.
	ReadFile func(name string) ([]byte, error)
	// Logger receives one line per state change, retry and command; nil discards.
	Logger *slog.Logger
	// Trace holds hooks.
	Trace Trace
}

func (o Options) withDefaults() Options {
	o.SidecarDatabase = cmp.Or(o.SidecarDatabase, defaultSidecar)
	o.PollInterval = cmp.Or(o.PollInterval, time.Second)
	o.LeaseTTL = cmp.Or(o.LeaseTTL, 10*time.Second)
	o.RetryTime = cmp.Or(o.RetryTime, time.Hour)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.PollInterval < 0 {
		errs = append(errs, &OptionError{"PollInterval", "is negative"})
	}
	if o.LeaseTTL < 0 {
		errs = append(errs, &OptionError{"LeaseTTL", "is negative"})
	}
	if o.Workers < 0 {
		errs = append(errs, &OptionError{"Workers", "is negative"})
	}
	if o.Loaders < 0 {
		errs = append(errs, &OptionError{"Loaders", "is negative"})
	}
	if len(o.SidecarDatabase) > maxName {
		errs = append(errs, &OptionError{"SidecarDatabase", fmt.Sprintf("is longer than %d bytes", maxName)})
	}
	return errors.Join(errs...)
}

// CreateOptions say what a new workflow moves, and how. Source, and one of Tables and AllTables, are
// needed; the zero value of the rest is the right default.
type CreateOptions struct {
	// Source is the keyspace to move from, as "mount.keyspace".
	Source string
	// Tables are the tables to move; AllTables moves every table of the source keyspace but views and the
	// tables that schema change tools leave behind. One of them is needed, not both.
	Tables    []string
	AllTables bool
	// SourceShards are the shards of a sharded source keyspace to move from, all of which must serve; default all that serve. A reference
	// table of the source's VSchema, which is whole on each, is read from the first of them.
	SourceShards []string
	// Filters say what is taken of a table, by the table's name on the target, as a SELECT that projects and filters (package rule):
	// {"sales": "select id, tenant as tenant_id from orders where state <> 'void'"} moves some rows and columns of orders, under
	// other names. What is more than that is refused by name. The tables of the rules need not be in Tables.
	Filters map[string]string
	// TenantID moves the rows of one tenant only, and lets the target tables hold rows of others: the rule of every table gets one more
	// condition, on the column that the target keyspace's multi_tenant_spec names. Empty moves all rows.
	TenantID string
	// ExcludeTables are left out. Each must be a table of the source.
	ExcludeTables []string
	// StopAfterCopy stops the streams when everything is copied.
	StopAfterCopy bool
	// NoAutoStart leaves the workflow Stopped until Start.
	NoAutoStart bool
	// OnDDL says what happens at a schema change on the source.
	OnDDL replication.OnDDL
	// OnDrift says what happens when the target does not hold what the stream has put there. With another policy than stop each such row is
	// in the stream's log (Status), the newest 1,000 at least, and counted (StreamStatus.Drifts).
	OnDrift replication.OnDrift
	// RetryTime is the workflow's own Options.RetryTime; 0 leaves it to the process that runs the streams.
	RetryTime time.Duration
	// KeepSecondaryKeys creates the target tables with all their keys. By default, secondary keys are
	// added when a table's rows are there, which is faster.
	KeepSecondaryKeys bool
	// DropForeignKeys creates the target tables without foreign keys; the secondary keys that serve them stay. It also lets tables be
	// moved whose foreign keys reference tables that are not. It is refused where the target needs them, since the source does
	// not log what they do (MySQL before 9.6).
	DropForeignKeys bool
	// AutoIncrement says what becomes of AUTO_INCREMENT columns of tables that a sharded target keyspace spreads over its shards. The default is
	// AutoIncrementRemove, since shards that count for themselves hand the same id out twice; in a keyspace that is not sharded, and for
	// tables that are whole on a shard, the columns stay as they are whatever is given here.
	AutoIncrement AutoIncrementHandling
	// GlobalKeyspace is the keyspace, not sharded, for the sequences of AutoIncrementReplace.
	GlobalKeyspace string
	// SourceTimeZone is an IANA name, such as "Europe/Berlin": DATETIME values of the source are times in that
	// zone and become UTC on the target. Empty copies them as they are.
	SourceTimeZone string
	// TabletTypes are the kinds of source servers to read from, best first; default replica, then primary. A server that does not
	// answer, has stopped replicating, has settings that do not do, or lacks what was read before is passed over for the next; one that is more
	// than 30 s behind is taken only when no other can be.
	TabletTypes []topo.TabletType
	// Cells of the source cluster to look for servers in, or aliases of cells, best first; default all. They do not matter when
	// primary is the only type.
	Cells []string
	// DryRun makes the checks and the plan and changes nothing.
	DryRun bool
}

func (o CreateOptions) withDefaults() CreateOptions {
	if len(o.TabletTypes) == 0 {
		o.TabletTypes = []topo.TabletType{topo.TabletReplica, topo.TabletPrimary}
	}
	if mappings, err := parseFilters(o.Filters); err == nil && !o.AllTables {
		o.Tables = append(slices.Clone(o.Tables), sortedKeys(mappings)...)
	}
	o.Tables = sortedUnique(o.Tables)
	o.ExcludeTables = sortedUnique(o.ExcludeTables)
	return o
}

// validate reports every bad field.
func (o CreateOptions) validate() error {
	var errs []error
	if _, err := ParseSourceName(o.Source); err != nil {
		errs = append(errs, err)
	}
	switch {
	case len(o.Tables) > 0 && o.AllTables:
		errs = append(errs, &OptionError{"Tables", "is given together with AllTables"})
	case len(o.Tables) == 0 && !o.AllTables && len(o.Filters) == 0:
		errs = append(errs, &OptionError{"Tables", "tables or all tables are needed to say what to move"})
	}
	for _, t := range slices.Concat(o.Tables, o.ExcludeTables) {
		if err := checkIdentifier(t); err != "" {
			errs = append(errs, &OptionError{"Tables", fmt.Sprintf("%q: %s", t, err)})
		}
	}
	mappings, err := parseFilters(o.Filters)
	errs = append(errs, err)
	for _, name := range sortedKeys(mappings) {
		if slices.Contains(o.ExcludeTables, name) {
			errs = append(errs, &OptionError{"Filters", fmt.Sprintf("the rule of table %s is of %s, which ExcludeTables leaves out", mappings[name].target, name)})
		}
	}
	if _, err := onDDLText(o.OnDDL); err != nil {
		errs = append(errs, err)
	}
	if _, err := onDriftText(o.OnDrift); err != nil {
		errs = append(errs, err)
	}
	if err := o.validateAutoIncrement(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkIdentifier says why a name can't be a table's; empty if it can.
func checkIdentifier(name string) string {
	switch {
	case name == "":
		return "an empty name"
	case len([]rune(name)) > maxName:
		return "longer than 64 characters"
	case strings.ContainsRune(name, 0):
		return "a NUL character"
	}
	return ""
}

// CompleteOptions say how a workflow ends well. The zero value keeps the source as it is.
type CompleteOptions struct {
	// Force completes a workflow that is still copying, lagging, stopped or in Error, and does not wait for what
	// the source has beyond the target's position. What has not arrived stays behind.
	Force bool
	// MaxLag is how far behind the source a stream may be when Complete is called; default 30 s.
	MaxLag time.Duration
	// Timeout bounds the wait for the target to apply what the source had at the call; default 5 minutes.
	Timeout time.Duration
	// SourceTables says what becomes of the tables at the source.
	SourceTables SourceTables
	// DryRun makes the checks and the plan and changes nothing.
	DryRun bool
}

func (o CompleteOptions) withDefaults() CompleteOptions {
	o.MaxLag = cmp.Or(o.MaxLag, 30*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 5*time.Minute)
	return o
}

func (o CompleteOptions) validate() error {
	var errs []error
	if o.MaxLag < 0 {
		errs = append(errs, &OptionError{"MaxLag", "is negative"})
	}
	if o.Timeout < 0 {
		errs = append(errs, &OptionError{"Timeout", "is negative"})
	}
	switch o.SourceTables {
	case KeepSourceTables, RenameSourceTables, DropSourceTables:
	default:
		errs = append(errs, &OptionError{"SourceTables", fmt.Sprintf("%q is not Keep, Rename or Drop", string(o.SourceTables))})
	}
	return errors.Join(errs...)
}

// CancelOptions say how a workflow is given up.
type CancelOptions struct {
	// DeleteBatch is how many rows of a tenant are deleted at once (CreateOptions.TenantID), default 1000: tables that hold rows of others are
	// not dropped.
	DeleteBatch int
	// KeepData leaves the target tables that Create made as they are. By default they are dropped. Tables that were there
	// before are never dropped. Sequences that Create made are dropped in any case, unless they are in use.
	KeepData bool
	// DryRun makes the plan and changes nothing.
	DryRun bool
}

// SourceTables says what Complete does to the tables at the source.
type SourceTables string

// What Complete can do to the tables at the source.
const (
	// KeepSourceTables leaves them.
	KeepSourceTables SourceTables = ""
	// RenameSourceTables renames each to _<name>_old, the name cut to fit in 64 characters.
	RenameSourceTables SourceTables = "Rename"
	// DropSourceTables drops them.
	DropSourceTables SourceTables = "Drop"
)

// ParseSourceTables reads "keep", "rename" or "drop" in any case; empty is keep.
func ParseSourceTables(s string) (SourceTables, error) {
	switch strings.ToLower(s) {
	case "", "keep":
		return KeepSourceTables, nil
	case "rename":
		return RenameSourceTables, nil
	case "drop":
		return DropSourceTables, nil
	}
	return "", &OptionError{"SourceTables", fmt.Sprintf("%q is not keep, rename or drop", s)}
}

// onDDLNames are the names as Vitess spells them.
var onDDLNames = map[replication.OnDDL]string{
	replication.OnDDLIgnore:     "IGNORE",
	replication.OnDDLStop:       "STOP",
	replication.OnDDLExec:       "EXEC",
	replication.OnDDLExecIgnore: "EXEC_IGNORE",
}

// ParseOnDDL reads IGNORE, STOP, EXEC or EXEC_IGNORE in any case; empty is IGNORE.
func ParseOnDDL(s string) (replication.OnDDL, error) {
	if s == "" {
		return replication.OnDDLIgnore, nil
	}
	for o, name := range onDDLNames {
		if strings.EqualFold(name, s) {
			return o, nil
		}
	}
	return 0, &OptionError{"OnDDL", fmt.Sprintf("%q is not IGNORE, STOP, EXEC or EXEC_IGNORE", s)}
}

// executes tells whether schema changes are executed on the target.
func executes(o replication.OnDDL) bool {
	return o == replication.OnDDLExec || o == replication.OnDDLExecIgnore
}

func onDDLText(o replication.OnDDL) (string, error) {
	if name, ok := onDDLNames[o]; ok {
		return name, nil
	}
	return "", &OptionError{"OnDDL", fmt.Sprintf("unknown value %d", int(o))}
}

// onDrifts are all policies.
var onDrifts = []replication.OnDrift{replication.OnDriftStop, replication.OnDriftRepair, replication.OnDriftSkip}

// ParseOnDrift reads STOP, REPAIR or SKIP in any case; empty is STOP.
func ParseOnDrift(s string) (replication.OnDrift, error) {
	if s == "" {
		return replication.OnDriftStop, nil
	}
	for _, o := range onDrifts {
		if strings.EqualFold(o.String(), s) {
			return o, nil
		}
	}
	return 0, &OptionError{"OnDrift", fmt.Sprintf("%q is not STOP, REPAIR or SKIP", s)}
}

func onDriftText(o replication.OnDrift) (string, error) {
	if slices.Contains(onDrifts, o) {
		return o.String(), nil
	}
	return "", &OptionError{"OnDrift", fmt.Sprintf("unknown value %d", int(o))}
}

// renamed is the name that a source table gets by RenameSourceTables.
func renamed(table string) string {
	r := []rune(table)
	if len(r) > 59 {
		r = r[:59]
	}
	return "_" + string(r) + "_old"
}

func sortedUnique(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// ident quotes an identifier.
func ident(name string) string { return sqltext.Ident(name) }
