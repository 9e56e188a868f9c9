package migrate

import (
	"cmp"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// MarshalJSON prints the workflow as Vitess prints its vtctldata.Workflow: names with underscores, 64-bit integers as
// strings, streams under "shard/tablet". Ours are "state", "message" and "table_copy_state" at the top, and
// "owner", "lag_seconds", "source_shard", "table_copy_state", "last_error", "drifts" and "on_drift" in a stream.
func (s *Status) MarshalJSON() ([]byte, error) {
	source, target := shardsJSON{s.SourceKeyspace, s.SourceShards}, shardsJSON{s.Keyspace, s.TargetShards}
	out := workflowJSON{
		Name: s.Workflow, State: s.State, Message: s.Message, Source: source, Target: target,
		MaxLag: seconds(s.Lag), MaxTransactionLag: s.transactionLag(), ShardStreams: map[string]*shardStreamJSON{},
		WorkflowType: workflowType, WorkflowSubType: "None", DeferSecondaryKeys: s.DeferSecondaryKeys,
		Options: map[string]any{}, TableCopyState: copyJSON(s.Tables),
	}
	if s.RetryTime != 0 {
		out.Options["config"] = map[string]string{retryTimeKey: s.RetryTime.String()}
	}
	for _, st := range s.Streams {
		key := st.TargetShard + "/" + st.Tablet
		if out.ShardStreams[key] == nil {
			out.ShardStreams[key] = &shardStreamJSON{TabletControls: []any{}, IsPrimaryServing: true}
		}
		shard := out.ShardStreams[key]
		shard.Streams = append(shard.Streams, s.streamJSON(st))
	}
	return json.Marshal(out)
}

// retryTimeKey is what Vitess calls RetryTime among the settings of a workflow.
const retryTimeKey = "vreplication-max-time-to-retry-on-error"

// workflowType is how Vitess names what this package does.
const workflowType = "Migrate"

type int64JSON int64

func (i int64JSON) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(int64(i), 10) + `"`), nil
}

func seconds(d time.Duration) int64JSON { return int64JSON(math.Round(d.Seconds())) }

// transactionLag is the largest one; while rows are copied, Vitess says it is without bound.
func (s *Status) transactionLag() int64JSON {
	if s.State == StateCopying {
		return math.MaxInt64
	}
	return seconds(s.Lag)
}

type timeJSON struct {
	Seconds     int64JSON `json:"seconds"`
	Nanoseconds int32     `json:"nanoseconds"`
}

func timeOf(t time.Time) timeJSON {
	if t.IsZero() {
		return timeJSON{}
	}
	return timeJSON{int64JSON(t.Unix()), int32(t.Nanosecond())}
}

type workflowJSON struct {
	Name               string                      `json:"name"`
	State              State                       `json:"state"`
	Message            string                      `json:"message,omitempty"`
	Source             shardsJSON                  `json:"source"`
	Target             shardsJSON                  `json:"target"`
	MaxLag             int64JSON                   `json:"max_v_replication_lag"`
	ShardStreams       map[string]*shardStreamJSON `json:"shard_streams"`
	WorkflowType       string                      `json:"workflow_type"`
	WorkflowSubType    string                      `json:"workflow_sub_type"`
	MaxTransactionLag  int64JSON                   `json:"max_v_replication_transaction_lag"`
	DeferSecondaryKeys bool                        `json:"defer_secondary_keys"`
	Options            map[string]any              `json:"options"`
	TableCopyState     map[string]tableJSON        `json:"table_copy_state"`
}

type shardsJSON struct {
	Keyspace string   `json:"keyspace"`
	Shards   []string `json:"shards"`
}

type shardStreamJSON struct {
	Streams          []streamJSON `json:"streams"`
	TabletControls   []any        `json:"tablet_controls"`
	IsPrimaryServing bool         `json:"is_primary_serving"`
}

type aliasJSON struct {
	Cell string `json:"cell"`
	UID  uint32 `json:"uid"`
}

type sourceJSON struct {
	Keyspace        string     `json:"keyspace"`
	Shard           string     `json:"shard"`
	Filter          filterJSON `json:"filter"`
	OnDDL           string     `json:"on_ddl"`
	StopAfterCopy   bool       `json:"stop_after_copy"`
	ExternalCluster string     `json:"external_cluster"`
	SourceTimeZone  string     `json:"source_time_zone"`
	TargetTimeZone  string     `json:"target_time_zone"`
}

type filterJSON struct {
	Rules []ruleJSON `json:"rules"`
}

type ruleJSON struct {
	Match  string `json:"match"`
	Filter string `json:"filter"`
}

type copyStateJSON struct {
	Table    string    `json:"table"`
	LastPK   string    `json:"last_pk"`
	StreamID int64JSON `json:"stream_id"`
}

type logJSON struct {
	ID        int64JSON `json:"id"`
	StreamID  int64JSON `json:"stream_id"`
	Type      string    `json:"type"`
	State     State     `json:"state"`
	CreatedAt timeJSON  `json:"created_at"`
	UpdatedAt timeJSON  `json:"updated_at"`
	Message   string    `json:"message"`
	Count     int64JSON `json:"count"`
}

type streamJSON struct {
	ID                        int64JSON            `json:"id"`
	Shard                     string               `json:"shard"`
	Tablet                    aliasJSON            `json:"tablet"`
	BinlogSource              sourceJSON           `json:"binlog_source"`
	Position                  string               `json:"position"`
	StopPosition              string               `json:"stop_position"`
	State                     State                `json:"state"`
	DBName                    string               `json:"db_name"`
	TransactionTimestamp      timeJSON             `json:"transaction_timestamp"`
	TimeUpdated               timeJSON             `json:"time_updated"`
	Message                   string               `json:"message"`
	CopyStates                []copyStateJSON      `json:"copy_states"`
	Logs                      []logJSON            `json:"logs"`
	LogFetchError             string               `json:"log_fetch_error"`
	Tags                      []string             `json:"tags"`
	RowsCopied                int64JSON            `json:"rows_copied"`
	ThrottlerStatus           any                  `json:"throttler_status"`
	TabletTypes               []string             `json:"tablet_types"`
	TabletSelectionPreference string               `json:"tablet_selection_preference"`
	Cells                     []string             `json:"cells"`
	Owner                     string               `json:"owner"`
	LagSeconds                float64              `json:"lag_seconds"`
	SourceShard               string               `json:"source_shard"`
	TableCopyState            map[string]tableJSON `json:"table_copy_state"`
	OnDrift                   string               `json:"on_drift"`
	Drifts                    int64JSON            `json:"drifts"`
	LastError                 *failureJSON         `json:"last_error,omitempty"`
}

// failureJSON is a Failure.
type failureJSON struct {
	Message string    `json:"message"`
	First   timeJSON  `json:"first"`
	Last    timeJSON  `json:"last"`
	Count   int64JSON `json:"count"`
}

// tableJSON has the names of Vitess's TableCopyState, and ours after them.
type tableJSON struct {
	RowsCopied      int64JSON `json:"rows_copied"`
	RowsTotal       int64JSON `json:"rows_total"`
	RowsPercentage  float64   `json:"rows_percentage"`
	BytesCopied     int64JSON `json:"bytes_copied"`
	BytesTotal      int64JSON `json:"bytes_total"`
	BytesPercentage float64   `json:"bytes_percentage"`
	Phase           Phase     `json:"phase"`
	RowsPerSecond   float64   `json:"rows_per_second"`
	ETASeconds      int64JSON `json:"eta_seconds"`
}

func copyJSON(tables []TableStatus) map[string]tableJSON {
	out := make(map[string]tableJSON, len(tables))
	for _, t := range tables {
		out[t.Table] = tableJSON{
			RowsCopied: int64JSON(t.Rows), RowsTotal: int64JSON(t.RowsTotal), RowsPercentage: t.Percent,
			BytesCopied: int64JSON(t.Bytes), BytesTotal: int64JSON(t.BytesTotal),
			BytesPercentage: percent(t.Bytes, t.BytesTotal, t.Phase), Phase: t.Phase,
			RowsPerSecond: math.Round(t.RowsPerSecond*10) / 10, ETASeconds: seconds(t.ETA),
		}
	}
	return out
}

func (s *Status) streamJSON(st StreamStatus) streamJSON {
	out := streamJSON{
		ID: int64JSON(st.ID), Shard: st.TargetShard, Tablet: aliasOf(st.Tablet), Position: st.Position, StopPosition: st.StopPosition,
		BinlogSource: sourceJSON{
			Keyspace: s.SourceKeyspace, Shard: st.SourceShard, OnDDL: s.OnDDL, StopAfterCopy: s.StopAfterCopy,
			ExternalCluster: s.Mount, SourceTimeZone: s.SourceTimeZone,
		},
		State: st.State, DBName: st.Database, TransactionTimestamp: timeOf(st.Transaction), TimeUpdated: timeOf(st.Updated),
		Message: st.Message, CopyStates: []copyStateJSON{}, Logs: []logJSON{}, Tags: []string{}, RowsCopied: int64JSON(st.RowsCopied),
		TabletTypes: s.TabletTypes, TabletSelectionPreference: "INORDER", Cells: append([]string{}, s.Cells...),
		Owner: st.Owner, LagSeconds: math.Round(st.Lag.Seconds()*1000) / 1000, SourceShard: st.SourceShard,
		TableCopyState: copyJSON(st.Tables), OnDrift: s.OnDrift, Drifts: int64JSON(st.Drifts),
	}
	if f := st.Failure; f != nil {
		out.LastError = &failureJSON{f.Message, timeOf(f.First), timeOf(f.Last), int64JSON(f.Count)}
	}
	if s.SourceTimeZone != "" {
		out.BinlogSource.TargetTimeZone = "UTC"
	}
	for _, t := range st.Tables {
		rule := ruleJSON{Match: t.Table, Filter: cmp.Or(t.Rule, "select * from "+ident(cmp.Or(t.Source, t.Table)))}
		out.BinlogSource.Filter.Rules = append(out.BinlogSource.Filter.Rules, rule)
		if t.Phase != PhaseComplete {
			out.CopyStates = append(out.CopyStates, copyStateJSON{Table: t.Table, StreamID: int64JSON(st.ID)})
		}
	}
	for _, l := range st.Logs {
		out.Logs = append(out.Logs, logJSON{
			ID: int64JSON(l.ID), StreamID: int64JSON(st.ID), Type: l.Type, State: l.State,
			CreatedAt: timeOf(l.Created), UpdatedAt: timeOf(l.Updated), Message: l.Message, Count: int64JSON(l.Count),
		})
	}
	return out
}

// aliasOf splits "zone1-0000000100".
func aliasOf(s string) aliasJSON {
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return aliasJSON{Cell: s}
	}
	uid, err := strconv.ParseUint(s[i+1:], 10, 32)
	if err != nil {
		return aliasJSON{Cell: s}
	}
	return aliasJSON{s[:i], uint32(uid)}
}
