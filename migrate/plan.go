package migrate

import (
	"fmt"
	"strings"
)

// A Plan is what a command is going to do, in order. It is made before anything is done; DryRun
// returns it and does nothing else.
type Plan struct {
	// Command is "Create", "Complete" or "Cancel", Workflow the full name.
	Command, Workflow string
	Steps             []Step
}

// String is one line per step.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s:\n", p.Command, p.Workflow)
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "%3d. %s\n", i+1, s)
	}
	return b.String()
}

// A Step is one part of a plan. Doing it twice does no harm.
type Step struct {
	Kind StepKind `json:"kind"`
	// Shard is a shard of the target keyspace, or of the source for steps at the source; empty for steps that concern the
	// topology.
	Shard string `json:"shard,omitempty"`
	// Object is the database, table, keyspace or sequence ("keyspace.name"), Text says more for people.
	Object string `json:"object,omitempty"`
	Text   string `json:"text,omitempty"`
	// SQL is the statement, where the step is one.
	SQL string `json:"sql,omitempty"`
}

// A StepKind says what a step does.
type StepKind string

// The kinds of steps.
const (
	StepRecord         StepKind = "record"          // record the streams, and what Create is about to make
	StepCreateDatabase StepKind = "create database" // on a target shard
	StepCreateTable    StepKind = "create table"    // on a target shard
	StepRenameColumns  StepKind = "rename columns"  // of a table that was created, as its rule says
	StepCreateSequence StepKind = "create sequence" // a table in the global keyspace
	StepReady          StepKind = "ready"           // everything is there: the streams become Stopped
	StepStart          StepKind = "start"           // the streams become Copying or Running
	StepWait           StepKind = "wait"            // until the target has applied what the source had
	StepStop           StepKind = "stop"            // no owner can commit any more
	StepLevel          StepKind = "level"           // all target shards get one state of a source shard
	StepFinishKeys     StepKind = "check keys"      // deferred keys that are missing are added
	StepSequence       StepKind = "set sequence"    // above the highest id that was moved
	StepPublish        StepKind = "publish"         // tables into the VSchema
	StepRebuild        StepKind = "rebuild"         // SrvVSchema of all cells
	StepRenameSource   StepKind = "rename source"   // a table of the source
	StepDropSource     StepKind = "drop source"     // a table of the source
	StepDeleteRows     StepKind = "delete rows"     // those of a tenant on a target shard
	StepDropTable      StepKind = "drop table"      // on a target shard
	StepDropSequence   StepKind = "drop sequence"   // that Create made
	StepForget         StepKind = "forget"          // the sidecar rows of the workflow on a shard
)

// String is the step as one line.
func (s Step) String() string {
	parts := []string{string(s.Kind)}
	if s.Object != "" {
		parts = append(parts, s.Object)
	}
	if s.Shard != "" {
		parts = append(parts, "[shard "+s.Shard+"]")
	}
	line := strings.Join(parts, " ")
	if s.Text != "" {
		line += ": " + s.Text
	}
	if s.SQL != "" {
		line += ": " + strings.Join(strings.Fields(s.SQL), " ")
	}
	return line
}
