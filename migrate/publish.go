package migrate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/topo"
)

// The VSchema is changed by Complete alone, in one step: until then no other program's rebuild can make known what is not there yet, and
// Cancel has nothing to take back. What would stop that step is told before Complete does anything.

// checkPublish refuses what could not be published.
func (f *completion) checkPublish(ctx context.Context) error {
	vs, err := f.m.vschema(ctx, f.name.Keyspace)
	if err != nil {
		return err
	}
	reasons := f.misplaced(vs)
	if seqs := f.sequences(); len(seqs) > 0 {
		g, _, err := f.m.readGlobal(ctx, seqs[0].Keyspace, seqs)
		if err != nil {
			return fmt.Errorf("sequences of workflow %s: %w", f.name, err)
		}
		var fs findings
		g.check(&fs, slices.Clone(seqs))
		for _, found := range fs.list {
			if found.Severity == SeverityError {
				reasons = append(reasons, found.Message)
			}
		}
		for _, s := range seqs {
			if e := vs.Tables[s.Table]; e != nil && e.AutoIncrement != nil && !s.is(e.AutoIncrement) {
				reasons = append(reasons, otherSequence(s, e.AutoIncrement))
			}
			if _, err := highestID(ctx, f.shards, s); err != nil {
				return err
			}
		}
	}
	if len(reasons) > 0 {
		return f.unpublished(reasons...)
	}
	return nil
}

func (f *completion) unpublished(reasons ...string) error {
	return &NotReadyError{Workflow: f.name.String(), State: f.streams[0].state(), Reason: strings.Join(reasons, "; ")}
}

func otherSequence(s sequenceRecord, e *topo.AutoIncrement) string {
	return fmt.Sprintf("auto_increment of table %s in the VSchema is now %s by %s, not %s by %s", s.Table, e.Column, e.Sequence, s.Column, s.reference())
}

// misplaced says which tables the VSchema lacks, or places in another way than when their rows were written.
func (f *completion) misplaced(vs *topo.VSchema) []string {
	var reasons []string
	seen := map[string]bool{}
	for _, s := range f.streams {
		for _, t := range s.record.Tables {
			now := placementOf(vs, t.Name)
			switch {
			case seen[t.Name] || text(now) == text(t.Placement):
			case vs.Sharded && vs.Tables[t.Name] == nil && t.Placement != nil:
				reasons = append(reasons, fmt.Sprintf("table %s is no longer in the VSchema of the sharded keyspace %s; add %s", t.Name, f.name.Keyspace, t.Placement.vschemaJSON(t.Name, vs)))
			default:
				reasons = append(reasons, (&PlacementError{Table: t.Name, Was: text(t.Placement), Now: text(now)}).Error())
			}
			seen[t.Name] = true
		}
	}
	return reasons
}

// vschemaJSON is the part of a VSchema that places a table so.
func (p *placementRecord) vschemaJSON(table string, vs *topo.VSchema) string {
	entry := &topo.Table{Type: p.Type, Pinned: p.Pinned}
	part := &topo.VSchema{Tables: map[string]*topo.Table{table: entry}}
	if p.spread() {
		c := topo.ColumnVindex{Name: p.Name, Columns: p.Columns}
		if len(p.Columns) == 1 {
			c.Column, c.Columns = p.Columns[0], nil
		}
		entry.ColumnVindexes = []topo.ColumnVindex{c}
		if vs.Vindexes[p.Name] == nil {
			part.Vindexes = map[string]*topo.Vindex{p.Name: {Type: p.Vindex, Params: p.Params}}
		}
	}
	b, _ := part.MarshalJSON() // it always succeeds
	return string(b)
}

// sequences are those of the workflow, by name.
func (f *finishing) sequences() []sequenceRecord { return sequencesOf(f.streams) }

// sharded tells whether the target keyspace was sharded when the workflow was created.
func (f *finishing) sharded() bool {
	return slices.ContainsFunc(f.streams, func(s *stream) bool {
		return slices.ContainsFunc(s.record.Tables, func(t tableRecord) bool { return t.Placement != nil })
	})
}

// publishSteps set the sequences and make tables and sequences known.
func (f *completion) publishSteps() []Step {
	var steps []Step
	var counted []string
	for _, s := range f.sequences() {
		steps = append(steps, Step{Kind: StepSequence, Object: s.String(), Text: fmt.Sprintf("above the highest %s of table %s on all shards", s.Column, s.Table)})
		counted = append(counted, s.Table)
	}
	what := "tables " + strings.Join(f.tables(), ", ")
	switch {
	case f.sharded() && len(counted) > 0:
		what = "sequences of tables " + strings.Join(counted, ", ")
	case f.sharded():
		what = "its tables are in the VSchema"
	}
	return append(steps,
		Step{Kind: StepPublish, Object: f.name.Keyspace, Text: what},
		Step{Kind: StepRebuild, Object: "SrvVSchema", Text: "in all cells"})
}

// setSequence raises a sequence above the highest id that was moved.
func (f *completion) setSequence(ctx context.Context, s sequenceRecord) (string, error) {
	highest, err := highestID(ctx, f.shards, s)
	if err != nil {
		return "", err
	}
	next, err := f.m.raiseSequence(ctx, s, highest)
	if err != nil {
		return "", err
	}
	f.res.Sequences[s.String()] = next
	return fmt.Sprintf("sequence %s hands out %d next", s, next), nil
}

// publish adds the tables to the VSchema of the target keyspace, and their sequences to that of their own. What is there stays as it is.
func (f *completion) publish(ctx context.Context) (string, error) {
	seqs := f.sequences()
	// The vttablets come first: a vtgate asks for the tables as soon as it knows them.
	lines, err := f.tell(ctx, seqs)
	if err != nil {
		return "", err
	}
	if len(seqs) > 0 {
		if err := f.publishSequences(ctx, seqs); err != nil {
			return "", fmt.Errorf("VSchema of %s: %w", seqs[0].Keyspace, err)
		}
	}
	var added []string
	counted := 0
	err = f.m.topo.UpdateVSchema(ctx, f.name.Keyspace, func(v *topo.VSchema) error {
		added, counted = nil, 0
		if v.Sharded {
			if reasons := f.misplaced(v); len(reasons) > 0 {
				return f.unpublished(reasons...)
			}
		}
		for _, name := range f.tables() {
			if v.Tables[name] == nil {
				setTable(v, name, &topo.Table{})
				added = append(added, name)
			}
		}
		for _, s := range seqs {
			switch e := v.Tables[s.Table]; {
			case e.AutoIncrement == nil:
				e.AutoIncrement = &topo.AutoIncrement{Column: s.Column, Sequence: s.reference()}
				counted++
			case !s.is(e.AutoIncrement):
				return f.unpublished(otherSequence(s, e.AutoIncrement))
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	f.res.Published = added
	line := fmt.Sprintf("added %d table(s) to the VSchema of %s", len(added), f.name.Keyspace)
	if len(seqs) > 0 {
		line += fmt.Sprintf(", and a sequence to %d", counted)
	}
	return strings.Join(append([]string{line}, lines...), "; "), nil
}

// tell makes the vttablets of both keyspaces read which tables they have, and returns what there is to say about that.
func (f *completion) tell(ctx context.Context, seqs []sequenceRecord) ([]string, error) {
	keyspaces := []string{f.name.Keyspace}
	var names []string
	if len(seqs) > 0 {
		keyspaces = append(keyspaces, seqs[0].Keyspace)
	}
	for _, s := range seqs {
		names = append(names, s.Name)
	}
	var lines []string
	all := 0
	for i, ks := range keyspaces {
		var reset []string
		if i > 0 {
			reset = names
		}
		told, byHand, err := f.m.tellTablets(ctx, ks, reset)
		if err != nil {
			return nil, err
		}
		if byHand != "" {
			lines = append(lines, byHand)
		}
		all += told
	}
	if all > 0 {
		lines = append([]string{fmt.Sprintf("told %d vttablet(s)", all)}, lines...)
	}
	return lines, nil
}

func (f *completion) publishSequences(ctx context.Context, seqs []sequenceRecord) error {
	return f.m.topo.UpdateVSchema(ctx, seqs[0].Keyspace, func(v *topo.VSchema) error {
		for _, s := range seqs {
			switch e := v.Tables[s.Name]; {
			case e == nil:
				setTable(v, s.Name, &topo.Table{Type: "sequence"})
			case e.Type != "sequence":
				return f.unpublished((&globalState{keyspace: s.Keyspace, vschema: v}).problem(s))
			}
		}
		return nil
	})
}

func setTable(v *topo.VSchema, name string, t *topo.Table) {
	if v.Tables == nil {
		v.Tables = map[string]*topo.Table{}
	}
	v.Tables[name] = t
}
