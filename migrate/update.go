package migrate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/topo"
)

// UpdateOptions change how a workflow runs. What is nil stays as it is; one field at least must be set. The fields mean what those
// of CreateOptions do.
type UpdateOptions struct {
	OnDDL   *replication.OnDDL
	OnDrift *replication.OnDrift
	// TabletTypes and Cells say which source servers to read from. An empty list of Cells that is not nil means all cells.
	TabletTypes []topo.TabletType
	Cells       []string
	// RetryTime points to 0 for what the process that runs the streams has, to a negative time for ever.
	RetryTime *time.Duration
}

// An UpdateResult says what Update has changed.
type UpdateResult struct {
	Streams []StreamUpdate
}

// A StreamUpdate is what Update did to the stream of one source and target shard.
type StreamUpdate struct {
	SourceShard, TargetShard string
	// Tablet is the alias of the target shard's primary.
	Tablet string
	// Changed is false if the stream was set so before.
	Changed bool
}

func (o UpdateOptions) validate() error {
	var errs []error
	if o.OnDDL == nil && o.OnDrift == nil && o.TabletTypes == nil && o.Cells == nil && o.RetryTime == nil {
		errs = append(errs, &OptionError{"UpdateOptions", "nothing is given to update"})
	}
	if o.OnDDL != nil {
		_, err := onDDLText(*o.OnDDL)
		errs = append(errs, err)
	}
	if o.OnDrift != nil {
		_, err := onDriftText(*o.OnDrift)
		errs = append(errs, err)
	}
	if o.TabletTypes != nil && len(o.TabletTypes) == 0 {
		errs = append(errs, &OptionError{"TabletTypes", "the list is empty"})
	}
	if slices.Contains(o.Cells, "") {
		errs = append(errs, &OptionError{"Cells", "a cell has no name"})
	}
	return errors.Join(errs...)
}

// apply changes a record; it tells whether it did.
func (o UpdateOptions) apply(rec *record) (changed bool) {
	set := func(to *string, text string) {
		changed = changed || *to != text
		*to = text
	}
	list := func(to *[]string, texts []string) {
		changed = changed || !slices.Equal(*to, texts)
		*to = texts
	}
	if o.OnDDL != nil {
		text, _ := onDDLText(*o.OnDDL) // validate has looked
		set(&rec.OnDDL, text)
	}
	if o.OnDrift != nil {
		was, _ := ParseOnDrift(rec.OnDrift)
		changed = changed || was != *o.OnDrift
		rec.OnDrift = o.OnDrift.String()
	}
	if o.TabletTypes != nil {
		var types []string
		for _, t := range o.TabletTypes {
			types = append(types, t.String())
		}
		list(&rec.TabletTypes, types)
	}
	if o.Cells != nil {
		list(&rec.Cells, o.Cells)
	}
	if o.RetryTime != nil {
		changed = changed || rec.RetryTime != *o.RetryTime
		rec.RetryTime = *o.RetryTime
	}
	if changed {
		rec.Revision++
	}
	return changed
}

// Update changes how a workflow runs, in whatever state it is but that of being made, completed or cancelled (a *RefusedError). Streams that run
// start again with it, within a second or so, where they were; no process has to. A stream in state Error stays there until
// Start. When one of several shards can't be changed, the result tells which ones were.
func (w *Workflow) Update(ctx context.Context, o UpdateOptions) (*UpdateResult, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	res := &UpdateResult{}
	err := w.each(ctx, "update", func(ctx context.Context, s *stream) error {
		changed, err := w.m.update(ctx, s, o)
		if err == nil {
			res.Streams = append(res.Streams, StreamUpdate{s.record.SourceShard, s.shard, s.tablet.String(), changed})
		}
		return err
	})
	return res, err
}

// onDDLField is where the source column repeats the policy, after the table's filters, as Vitess has it.
var onDDLField = regexp.MustCompile(`\} on_ddl:[A-Z_]+ stop_after_copy:`)

func (m *Migrator) update(ctx context.Context, s *stream, o UpdateOptions) (changed bool, err error) {
	var refused error
	db := m.sidecar(s.targetShard)
	err = db.UpdateStream(ctx, s.ID, func(row *sidecar.Stream) {
		refused, changed = nil, false
		if st := State(row.State); st == StateCreating || st == StateCompleting || st == StateCancelling {
			refused = &RefusedError{Workflow: s.name().String(), State: st, Command: "update"}
			return
		}
		if refused = s.record.checkPolicies(o.OnDDL, o.OnDrift); refused != nil {
			return
		}
		refused = changeRecord(row, s, func(rec *record) { changed = o.apply(rec) })
		if refused != nil || !changed {
			return
		}
		row.TabletTypes, row.Cell = s.record.inOrder(), strings.Join(s.record.Cells, ",")
		if all := onDDLField.FindAllStringIndex(row.Source, -1); len(all) > 0 {
			last := all[len(all)-1]
			row.Source = row.Source[:last[0]] + "} on_ddl:" + s.record.OnDDL + " stop_after_copy:" + row.Source[last[1]:]
		}
	})
	if err = errors.Join(err, refused); err != nil || !changed {
		return changed, err
	}
	text := fmt.Sprintf("on_ddl=%s on_drift=%s tablet_types=%s cells=%s retry_time=%s", s.record.OnDDL, s.record.OnDrift,
		strings.Join(s.record.TabletTypes, ","), strings.Join(s.record.Cells, ","), s.record.RetryTime)
	m.log.Info("workflow updated", "workflow", s.name().String(), "shard", s.shard, "stream", s.ID, "to", text)
	m.notify()
	return changed, db.Log(ctx, s.ID, "Stream Updated", s.State, text)
}
