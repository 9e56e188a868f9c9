package vdiff

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The shapes of Vitess's VDiff report. Ours has more: RowsUnsettled, MisplacedRows, and Columns, Key and shards of a difference.
type (
	jsonReport struct {
		Workflow, Keyspace, State, UUID string
		RowsCompared                    int64
		RowsUnsettled                   int64 `json:",omitempty"`
		HasMismatch                     bool
		Shards                          string
		StartedAt                       string
		CompletedAt                     string                           `json:",omitempty"`
		ShardSummaries                  map[string]jsonShard             `json:",omitempty"`
		TableSummary                    map[string]jsonTable             `json:",omitempty"`
		Reports                         map[string]map[string]jsonSample `json:",omitempty"`
		Errors                          map[string]string                `json:",omitempty"`
		Progress                        *jsonProgress                    `json:",omitempty"`
	}
	jsonShard struct {
		State       string
		StartedAt   string
		CompletedAt string `json:",omitempty"`
		LastError   string `json:",omitempty"`
		TableStates map[string]jsonTable
	}
	jsonTable struct {
		TableName, State                                                             string
		RowsCompared, MatchingRows, MismatchedRows, ExtraRowsSource, ExtraRowsTarget int64
		MisplacedRows                                                                int64 `json:",omitempty"`
		RowsUnsettled                                                                int64 `json:",omitempty"`
		HasMismatch                                                                  bool
		LastUpdated                                                                  string `json:",omitempty"`
	}
	jsonSample struct {
		TableName                                                                     string
		ProcessedRows, MatchingRows, MismatchedRows, ExtraRowsSource, ExtraRowsTarget int64
		MisplacedRows                                                                 int64          `json:",omitempty"`
		ExtraRowsSourceSample, ExtraRowsTargetSample                                  []jsonRow      `json:",omitempty"`
		MismatchedRowsSample                                                          []jsonMismatch `json:",omitempty"`
		MisplacedRowsSample                                                           []jsonStray    `json:",omitempty"`
	}
	jsonRow struct {
		Row         Values
		SourceShard string `json:",omitempty"`
	}
	jsonStray struct {
		Row Values
		// Shard is where the row should be.
		BelongsTo string
	}
	jsonMismatch struct {
		Key            Values
		Columns        []string
		Source, Target jsonRow
	}
	jsonProgress struct {
		Percentage float64
		ETA        string `json:",omitempty"`
	}
)

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateTime)
}

// MarshalJSON makes the report of `vtctl VDiff -json Show`.
func (r *Report) MarshalJSON() ([]byte, error) {
	out := jsonReport{
		Workflow: r.Workflow, Keyspace: r.Keyspace, State: string(r.State), UUID: r.UUID,
		RowsCompared: r.RowsCompared(), RowsUnsettled: r.Unsettled(), HasMismatch: r.HasMismatch(), Shards: r.shards(),
		StartedAt: timeText(r.StartedAt), CompletedAt: timeText(r.CompletedAt),
		ShardSummaries: map[string]jsonShard{}, TableSummary: map[string]jsonTable{}, Reports: map[string]map[string]jsonSample{},
	}
	if r.LastError != "" {
		out.Errors = map[string]string{r.shards(): r.LastError} // of no shard in particular
	}
	if r.State == StateStarted {
		p := r.Progress(time.Now())
		out.Progress = &jsonProgress{p.Percentage, timeText(p.ETA)}
	}
	for _, name := range r.TargetShards {
		out.ShardSummaries[name] = jsonShard{
			State: out.State, StartedAt: out.StartedAt, CompletedAt: out.CompletedAt, LastError: r.LastError, TableStates: map[string]jsonTable{},
		}
	}
	for _, t := range r.Tables {
		out.TableSummary[t.Table] = t.summary(&t.Counts)
		for _, on := range t.Shards {
			one := t.summary(&on.Counts)
			one.RowsUnsettled = 0 // known of the table only
			if s, ok := out.ShardSummaries[on.Shard]; ok {
				s.TableStates[t.Table] = one
			}
		}
		if t.HasMismatch() {
			out.Reports[t.Table] = r.samples(t)
		}
	}
	return json.Marshal(out)
}

func (r *Report) shards() string { return strings.Join(r.TargetShards, ",") }

func (t *TableReport) summary(c *Counts) jsonTable {
	return jsonTable{
		TableName: t.Table, State: string(t.State), RowsCompared: c.RowsCompared(), MatchingRows: c.MatchingRows,
		MismatchedRows: c.MismatchedRows, ExtraRowsSource: c.ExtraRowsSource, ExtraRowsTarget: c.ExtraRowsTarget, MisplacedRows: c.MisplacedRows,
		RowsUnsettled: t.RowsUnsettled, HasMismatch: c.HasMismatch(), LastUpdated: timeText(t.UpdatedAt),
	}
}

// samples are a table's differences by target shard. One that is on no shard, since no keyspace id can be computed for it, is
// under "".
func (r *Report) samples(t *TableReport) map[string]jsonSample {
	out := map[string]jsonSample{}
	for _, on := range t.Shards {
		if on.HasMismatch() {
			out[on.Shard] = jsonSample{
				TableName: t.Table, ProcessedRows: on.RowsCompared(), MatchingRows: on.MatchingRows, MismatchedRows: on.MismatchedRows,
				ExtraRowsSource: on.ExtraRowsSource, ExtraRowsTarget: on.ExtraRowsTarget, MisplacedRows: on.MisplacedRows,
			}
		}
	}
	each := func(list []Difference, f func(*jsonSample, Difference)) {
		for _, d := range list {
			s := out[d.Shard]
			s.TableName = t.Table
			f(&s, d)
			out[d.Shard] = s
		}
	}
	row := func(v Values, shard string) jsonRow {
		if len(r.SourceShards) < 2 {
			shard = ""
		}
		return jsonRow{v, shard}
	}
	each(t.ExtraSource, func(s *jsonSample, d Difference) {
		s.ExtraRowsSourceSample = append(s.ExtraRowsSourceSample, row(d.Source, d.SourceShard))
	})
	each(t.ExtraTarget, func(s *jsonSample, d Difference) {
		s.ExtraRowsTargetSample = append(s.ExtraRowsTargetSample, row(d.Target, ""))
	})
	each(t.Mismatched, func(s *jsonSample, d Difference) {
		s.MismatchedRowsSample = append(s.MismatchedRowsSample, jsonMismatch{d.Key, d.Columns, row(d.Source, d.SourceShard), row(d.Target, "")})
	})
	each(t.Misplaced, func(s *jsonSample, d Difference) {
		s.MisplacedRowsSample = append(s.MisplacedRowsSample, jsonStray{d.Target, d.Belongs})
	})
	return out
}

// String is the report as text: a summary as Vitess prints it, then a line for each sample.
func (r *Report) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("VDiff Summary for %s.%s (%s)", r.Keyspace, r.Workflow, r.UUID)
	line("State:        %s", r.State)
	if r.LastError != "" {
		line("Error:        %s", r.LastError)
	}
	line("RowsCompared: %d", r.RowsCompared())
	if n := r.Unsettled(); n > 0 {
		line("Unsettled:    %d (changed at each look; compare again)", n)
	}
	line("HasMismatch:  %t", r.HasMismatch())
	if !r.StartedAt.IsZero() {
		line("StartedAt:    %s", timeText(r.StartedAt))
	}
	if !r.CompletedAt.IsZero() {
		line("CompletedAt:  %s", timeText(r.CompletedAt))
	}
	if r.State == StateStarted {
		p := r.Progress(time.Now())
		line("Progress:     %.2f%%", p.Percentage)
		if !p.ETA.IsZero() {
			line("ETA:          %s", timeText(p.ETA))
		}
	}
	for _, t := range r.Tables {
		t.write(line)
	}
	return b.String()
}

func (t *TableReport) write(line func(format string, args ...any)) {
	line("")
	line("Table %s: %s", t.Table, t.State)
	t.Counts.write("\t", line)
	if t.RowsUnsettled > 0 {
		line("\tRowsUnsettled:   %d", t.RowsUnsettled)
	}
	on := func(Difference) string { return "" }
	not := on
	if len(t.Shards) > 1 {
		on = func(d Difference) string { return " on shard " + d.Shard }
		not = func(d Difference) string {
			if d.Shard == "" {
				return ", belongs on no shard"
			}
			return ", not on shard " + d.Shard
		}
		for _, s := range t.Shards {
			line("\tShard %s:", s.Shard)
			s.Counts.write("\t\t", line)
		}
	}
	from := func(d Difference) string {
		if d.SourceShard == "" || len(t.Shards) < 2 {
			return ""
		}
		return " (shard " + d.SourceShard + ")"
	}
	for _, d := range t.Mismatched {
		line("\tdiffers%s in %s: %s", on(d), strings.Join(d.Columns, ", "), d.Key)
		line("\t\tsource%s: %s", from(d), d.Source)
		line("\t\ttarget: %s", d.Target)
	}
	for _, d := range t.ExtraSource {
		line("\tonly on the source%s%s: %s", from(d), not(d), d.Source)
	}
	for _, d := range t.ExtraTarget {
		line("\tonly on the target%s: %s", on(d), d.Target)
	}
	for _, d := range t.Misplaced {
		home := "shard " + d.Belongs
		if d.Belongs == "" {
			home = "no shard"
		}
		line("\ton shard %s, belongs on %s: %s", d.Shard, home, d.Target)
	}
}

func (c *Counts) write(indent string, line func(format string, args ...any)) {
	line("%sRowsCompared:    %d", indent, c.RowsCompared())
	line("%sMatchingRows:    %d", indent, c.MatchingRows)
	line("%sMismatchedRows:  %d", indent, c.MismatchedRows)
	line("%sExtraRowsSource: %d", indent, c.ExtraRowsSource)
	line("%sExtraRowsTarget: %d", indent, c.ExtraRowsTarget)
	if c.MisplacedRows > 0 {
		line("%sMisplacedRows:   %d", indent, c.MisplacedRows)
	}
}
