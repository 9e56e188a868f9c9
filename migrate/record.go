package migrate

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tablehaul/tablehaul/topo"
)

// A record is what a workflow is, as each of its streams carries it in the sidecar. Nothing of a workflow is kept
// elsewhere.
type record struct {
	Mount          string   `json:"mount"`
	SourceKeyspace string   `json:"source_keyspace"`
	SourceShard    string   `json:"source_shard"`
	SourceShards   []string `json:"source_shards"`
	TargetShards   []string `json:"target_shards"`
	// Layout are all shards of the target keyspace, if TargetShards are not all, and Feeds those that get rows from SourceShard, if not all
	// of TargetShards do.
	Layout []string `json:"layout,omitempty"`
	Feeds  []string `json:"feeds,omitempty"`
	// Tables are in name order.
	Tables []tableRecord `json:"tables"`
	// Tenant is whose rows are moved; nil for all.
	Tenant *tenantRecord `json:"tenant,omitempty"`
	// Sequences give out ids of the tables instead of AUTO_INCREMENT columns.
	Sequences          []sequenceRecord `json:"sequences,omitempty"`
	OnDDL              string           `json:"on_ddl"`
	StopAfterCopy      bool             `json:"stop_after_copy,omitempty"`
	DeferSecondaryKeys bool             `json:"defer_secondary_keys"`
	SourceTimeZone     string           `json:"source_time_zone,omitempty"`
	TabletTypes        []string         `json:"tablet_types"`
	Cells              []string         `json:"cells,omitempty"`
	OnDrift            string           `json:"on_drift,omitempty"`
	// RetryTime is Options.RetryTime of the workflow; 0 is the Migrator's.
	RetryTime time.Duration `json:"retry_time,omitempty"`
	// Revision counts the calls of Update: a stream that runs with an earlier one starts again.
	Revision int64 `json:"revision,omitempty"`
	// Failures are what the stream has met since it last got further.
	Failures failures `json:"failures,omitempty"`
	// Ending is how the workflow is being completed or cancelled; nil before.
	Ending *ending `json:"ending,omitempty"`
}

// A tableRecord is one table of a stream.
type tableRecord struct {
	// Name is the target's.
	Name string `json:"name"`
	// Source is the name at the source, if that is another one; Rule is what of it is taken, if that is not all.
	Source string `json:"source,omitempty"`
	Rule   string `json:"rule,omitempty"`
	// Create says that the table was not there: Create makes it and Cancel may drop it.
	Create bool `json:"create,omitempty"`
	// Rows is the source's estimate of what the shard will get.
	Rows int64 `json:"rows"`
	// Placement is where the target keyspace's rows are; nil if it is not sharded.
	Placement *placementRecord `json:"placement,omitempty"`
}

// An ending is what a second call of Complete or Cancel needs to know about the first.
type ending struct {
	SourceTables SourceTables `json:"source_tables,omitempty"`
	KeepData     bool         `json:"keep_data,omitempty"`
	// DeleteBatch is CancelOptions.DeleteBatch.
	DeleteBatch int `json:"delete_batch,omitempty"`
	// Unmade says that Create had not come to its end: the tables that it made hold nothing, and one that
	// holds rows was made by somebody else.
	Unmade bool `json:"unmade,omitempty"`
}

func (r *record) names() []string {
	names := make([]string, len(r.Tables))
	for i, t := range r.Tables {
		names[i] = t.Name
	}
	return names
}

// created are the tables that Create made.
func (r *record) created() []string {
	var names []string
	for _, t := range r.Tables {
		if t.Create {
			names = append(names, t.Name)
		}
	}
	return names
}

// selector says which servers of the source to read from.
func (r *record) selector() (topo.TabletSelector, error) {
	sel := topo.TabletSelector{Cells: r.Cells}
	for _, text := range r.TabletTypes {
		t, err := topo.ParseTabletType(text)
		if err != nil {
			return sel, err
		}
		sel.Types = append(sel.Types, t)
	}
	return sel, nil
}

// inOrder is the kinds of source servers as Vitess writes an ordered preference.
func (r *record) inOrder() string {
	return "in_order:" + strings.ToLower(strings.Join(r.TabletTypes, ","))
}

func (r *record) source() SourceName { return SourceName{r.Mount, r.SourceKeyspace} }

func (r *record) text() (string, error) {
	b, err := json.Marshal(r)
	return string(b), err
}

// parseRecord refuses what it does not know: a filter that a later version has written, say, must not be left out.
func parseRecord(text string) (*record, error) {
	r := &record{}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("options of the stream: %w", err)
	}
	if r.Mount == "" || r.SourceKeyspace == "" || r.SourceShard == "" || len(r.Tables) == 0 {
		return nil, errors.New("options of the stream: they say not what is moved from where")
	}
	return r, nil
}
