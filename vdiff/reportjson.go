package vdiff

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The shapes of Vitess's VDiff report. Ours has more: RowsUnsettled, Columns and Key of a difference.
type (
	jsonReport struct {
		Workflow, Keyspace, State, UUID string
		RowsCompared                    int64
		RowsUnsettled                   int64 `json:",omitempty"`
		HasMismatch                     bool
		Shards                          string
		StartedAt                       string
		CompletedAt                     string                           `json:",omitempty"`
		TableSummary                    map[string]jsonTable             `json:",omitempty"`
		Reports                         map[string]map[string]jsonSample `json:",omitempty"`
		Errors                          map[string]string                `json:",omitempty"`
		Progress                        *jsonProgress                    `json:",omitempty"`
	}
	jsonTable struct {
		TableName, State                                                             string
		RowsCompared, MatchingRows, MismatchedRows, ExtraRowsSource, ExtraRowsTarget int64
		RowsUnsettled                                                                int64 `json:",omitempty"`
		HasMismatch                                                                  bool
		LastUpdated                                                                  string `json:",omitempty"`
	}
	jsonSample struct {
		TableName                                                                     string
		ProcessedRows, MatchingRows, MismatchedRows, ExtraRowsSource, ExtraRowsTarget int64
		ExtraRowsSourceSample, ExtraRowsTargetSample                                  []jsonRow      `json:",omitempty"`
		MismatchedRowsSample                                                          []jsonMismatch `json:",omitempty"`
	}
	jsonRow      struct{ Row Values }
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
	return t.UTC().Format(datetimeLayout)
}

// MarshalJSON makes the report of `vtctl VDiff -json Show`.
func (r *Report) MarshalJSON() ([]byte, error) {
	out := jsonReport{
		Workflow: r.Workflow, Keyspace: r.Keyspace, State: string(r.State), UUID: r.UUID,
		RowsCompared: r.RowsCompared(), RowsUnsettled: r.Unsettled(), HasMismatch: r.HasMismatch(), Shards: r.shards(),
		StartedAt: timeText(r.StartedAt), CompletedAt: timeText(r.CompletedAt),
		TableSummary: map[string]jsonTable{}, Reports: map[string]map[string]jsonSample{},
	}
	if r.LastError != "" {
		out.Errors = map[string]string{r.shards(): r.LastError}
	}
	if r.State == StateStarted {
		p := r.Progress(time.Now())
		out.Progress = &jsonProgress{p.Percentage, timeText(p.ETA)}
	}
	for _, t := range r.Tables {
		out.TableSummary[t.Table] = jsonTable{
			TableName: t.Table, State: string(t.State), RowsCompared: t.RowsCompared(), MatchingRows: t.MatchingRows,
			MismatchedRows: t.MismatchedRows, ExtraRowsSource: t.ExtraRowsSource, ExtraRowsTarget: t.ExtraRowsTarget,
			RowsUnsettled: t.RowsUnsettled, HasMismatch: t.HasMismatch(), LastUpdated: timeText(t.UpdatedAt),
		}
		if t.HasMismatch() {
			out.Reports[t.Table] = map[string]jsonSample{r.shards(): t.samples()}
		}
	}
	return json.Marshal(out)
}

func (r *Report) shards() string { return strings.Join(r.TargetShards, ",") }

func (t *TableReport) samples() jsonSample {
	s := jsonSample{
		TableName: t.Table, ProcessedRows: t.RowsCompared(), MatchingRows: t.MatchingRows, MismatchedRows: t.MismatchedRows,
		ExtraRowsSource: t.ExtraRowsSource, ExtraRowsTarget: t.ExtraRowsTarget,
	}
	for _, d := range t.ExtraSource {
		s.ExtraRowsSourceSample = append(s.ExtraRowsSourceSample, jsonRow{d.Source})
	}
	for _, d := range t.ExtraTarget {
		s.ExtraRowsTargetSample = append(s.ExtraRowsTargetSample, jsonRow{d.Target})
	}
	for _, d := range t.Mismatched {
		s.MismatchedRowsSample = append(s.MismatchedRowsSample, jsonMismatch{d.Key, d.Columns, jsonRow{d.Source}, jsonRow{d.Target}})
	}
	return s
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
	line("\tRowsCompared:    %d", t.RowsCompared())
	line("\tMatchingRows:    %d", t.MatchingRows)
	line("\tMismatchedRows:  %d", t.MismatchedRows)
	line("\tExtraRowsSource: %d", t.ExtraRowsSource)
	line("\tExtraRowsTarget: %d", t.ExtraRowsTarget)
	if t.RowsUnsettled > 0 {
		line("\tRowsUnsettled:   %d", t.RowsUnsettled)
	}
	for _, d := range t.Mismatched {
		line("\tdiffers in %s: %s", strings.Join(d.Columns, ", "), d.Key)
		line("\t\tsource: %s", d.Source)
		line("\t\ttarget: %s", d.Target)
	}
	for _, d := range t.ExtraSource {
		line("\tonly on the source: %s", d.Source)
	}
	for _, d := range t.ExtraTarget {
		line("\tonly on the target: %s", d.Target)
	}
}
