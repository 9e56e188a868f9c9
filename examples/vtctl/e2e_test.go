package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

// A world is two clusters as a user has them: the local one and a Vitess-like one to move from, each with an etcd
// and a MySQL server, and vtctl as a binary.
type world struct {
	binary         string
	source, target *replicationtest.Server
	sourceTopo     *replicationtest.Etcd
	env            []string
}

// Passwords and names that the tests look for where they must not be.
const (
	sourcePassword = "s0urce-secret"
	targetPassword = "t4rget-secret"
)

// newWorld starts the servers. The source's keyspace load is the database vt_load; the targets commerce and
// store have one shard each.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{binary: filepath.Join(t.TempDir(), "vtctl")}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", w.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	w.source = replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	w.target = replicationtest.StartMySQL(t, replicationtest.MySQLOptions{})
	w.sourceTopo = replicationtest.StartEtcd(t)
	local := replicationtest.StartEtcd(t)
	w.source.MustExec(t, shop)
	w.source.MustCreateUser(t, "reader", sourcePassword, "SELECT ON vt_load.*", "REPLICATION SLAVE, REPLICATION CLIENT ON *.*")
	// The least privileges that README names.
	const onTables = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES ON "
	w.target.MustCreateUser(t, "haul", targetPassword, onTables+"commerce.*", onTables+"store.*", "ALL ON `_tablehaul`.*")
	w.env = []string{
		"TOPO_IMPLEMENTATION=etcd2", "topo_global_server_address=" + local.Addr(), "TOPO_GLOBAL_ROOT=/vitess/global", "cell=zone1",
		"DB_USER=haul", "DB_PASSWORD_FILE=" + passwordFile(t, targetPassword),
		"SOURCE_DB_USER=reader", "SOURCE_DB_PASSWORD_FILE=" + passwordFile(t, sourcePassword),
	}

	// The source cluster's topology: flags win over the environment.
	there := []string{"--topo_global_server_address", w.sourceTopo.Addr(), "--topo_global_root", "/vitess/global"}
	for _, line := range []string{
		"AddCellInfo -server_address " + w.sourceTopo.Addr() + " -root /vitess/far far",
		"CreateKeyspace load",
		"CreateShard load/0",
		fmt.Sprintf("InitTablet -hostname %s -mysql_port %d -keyspace load -shard 0 far-1 primary", w.source.Host, w.source.Port),
	} {
		w.must(t, append(slices.Clone(there), strings.Fields(line)...)...)
	}
	w.must(t, "AddCellInfo", "-server_address", local.Addr(), "-root", "/vitess/zone1", "zone1")
	for i, ks := range []string{"commerce", "store"} {
		w.must(t, "CreateKeyspace", ks)
		w.must(t, "CreateShard", ks+"/0")
		w.must(t, "InitTablet", "-hostname", w.target.Host, "-mysql_port", fmt.Sprint(w.target.Port), "-keyspace", ks, "-shard", "0",
			"-db_name_override", ks, fmt.Sprintf("zone1-%d00", i+1), "primary")
	}
	return w
}

// shop is what is moved: a table with secondary keys, one with a composite key, an empty one.
const shop = `
CREATE DATABASE vt_load;
USE vt_load;
CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(64) NOT NULL, spent DECIMAL(12,2), note TEXT, KEY (name)) CHARSET utf8mb4;
CREATE TABLE line (order_id BIGINT UNSIGNED, n INT, sku VARBINARY(16), qty DOUBLE, PRIMARY KEY (order_id, n), KEY (sku));
CREATE TABLE nothing_yet (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20));
SET cte_max_recursion_depth = 20000;
INSERT INTO customer WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i, CONCAT('customer ', i), i / 100, REPEAT('x', i % 50) FROM n;
INSERT INTO line SELECT id DIV 4, id % 4, LEFT(UNHEX(SHA2(id, 256)), 16), id / 7 FROM customer;
`

func passwordFile(t *testing.T, password string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.binary, args...)
	cmd.Env = append(os.Environ(), w.env...)
	return cmd
}

// run runs vtctl and returns its exit status and output. No output ever holds a password.
func (w *world) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := w.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || !exit.Exited() {
			t.Fatalf("%q: %v\n%s%s", args, err, out.String(), errs.String())
		}
		code = exit.ExitCode()
	}
	checkNoPassword(t, out.String()+errs.String())
	return code, out.String(), errs.String()
}

func (w *world) must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := w.run(t, args...)
	if code != exitOK {
		t.Fatalf("%q: status %d\n%s%s", args, code, stdout, stderr)
	}
	return stdout
}

// fails runs vtctl, which must end with the status and name the thing on stderr.
func (w *world) fails(t *testing.T, status int, say string, args ...string) {
	t.Helper()
	code, stdout, stderr := w.run(t, args...)
	t.Logf("%s: %s", strings.Join(args, " "), stderr)
	if code != status || !strings.Contains(stderr, say) {
		t.Errorf("%q: status %d, want %d, and no %q in\n%s%s", args, code, status, say, stdout, stderr)
	}
}

func checkNoPassword(t *testing.T, text string) {
	t.Helper()
	for _, p := range []string{sourcePassword, targetPassword} {
		if strings.Contains(text, p) {
			t.Errorf("a password is in\n%s", text)
		}
	}
}

// startWorker starts vtctl Run as its own process. The returned function ends it with a signal and checks that
// this is exit status 0.
func (w *world) startWorker(t *testing.T, end os.Signal) (stop func()) {
	t.Helper()
	var log bytes.Buffer
	cmd := w.command(t.Context(), "Run")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cmd.Process.Signal(end)
		if err := cmd.Wait(); err != nil {
			t.Errorf("worker: %v", err)
		}
		checkNoPassword(t, log.String())
		if t.Failed() {
			t.Logf("worker's log:\n%s", log.String())
		}
	}
	t.Cleanup(stop)
	return stop
}

// until calls f about five times a second until it says true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// A shown is what the tests read of Workflow -json Show.
type shown struct {
	Name    string
	State   string
	Message string
	Source  struct {
		Keyspace string
		Shards   []string
	}
	Target struct {
		Keyspace string
		Shards   []string
	}
	MaxLag       *string `json:"max_v_replication_lag"`
	WorkflowType string  `json:"workflow_type"`
	ShardStreams map[string]struct {
		Streams []struct {
			ID           string
			State        string
			Position     string
			BinlogSource struct {
				ExternalCluster string `json:"external_cluster"`
			} `json:"binlog_source"`
		}
	} `json:"shard_streams"`
	Tables map[string]struct {
		RowsCopied     json.Number `json:"rows_copied"`
		RowsTotal      json.Number `json:"rows_total"`
		RowsPercentage float64     `json:"rows_percentage"`
		Phase          string
	} `json:"table_copy_state"`
}

func (w *world) show(t *testing.T, workflow string) shown {
	t.Helper()
	var s shown
	out := w.must(t, "Workflow", "-json", "Show", workflow)
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("Workflow -json Show: %v\n%s", err, out)
	}
	return s
}

// untilRunning waits for the end of the copy.
func (w *world) untilRunning(t *testing.T, workflow string) shown {
	t.Helper()
	var s shown
	until(t, workflow+" runs", func() bool {
		s = w.show(t, workflow)
		if s.State == "Error" {
			t.Fatalf("%s: %s", workflow, s.Message)
		}
		return s.State == "Running"
	})
	return s
}

// checkEqual compares the rows and the keys of the source with a target database, by code that shares nothing
// with VDiff.
func (w *world) checkEqual(t *testing.T, database string) {
	t.Helper()
	keys := "SELECT TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX, COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '%s' ORDER BY 1, 2, 3"
	want, got := w.source.MustQuery(t, fmt.Sprintf(keys, "vt_load")), w.target.MustQuery(t, fmt.Sprintf(keys, database))
	if len(want) == 0 || !slices.EqualFunc(want, got, slices.Equal) {
		t.Errorf("keys of %s: %v, want %v", database, got, want)
	}
	replicationtest.CheckEqual(t, w.source.DB(t), w.target.DB(t), "vt_load", database)
}

// TestCommandLines is the five command lines of a user, with the worker started before and after Create, while
// the source is written to; then what a user does wrong.
func TestCommandLines(t *testing.T) {
	if testing.Short() {
		t.Skip("needs servers")
	}
	w := newWorld(t)
	t.Run("worker after", func(t *testing.T) { w.moveAll(t, "commerce.wf", false) })
	t.Run("worker before", func(t *testing.T) { w.moveAll(t, "store.wf", true) })
	t.Run("difference and cancel", w.differAndCancel)
	t.Run("bad input", w.badInput)
}

// moveAll is Mount, Create, Show, VDiff, Complete.
func (w *world) moveAll(t *testing.T, workflow string, workerFirst bool) {
	keyspace, _, _ := strings.Cut(workflow, ".")
	load := replicationtest.StartLoad(t, w.source.DB(t), "vt_load", replicationtest.LoadOptions{Seed: 1, Rate: 100})
	stop := func() {}
	if workerFirst {
		stop = w.startWorker(t, os.Interrupt)
	}
	w.must(t, strings.Fields("Mount -type vitess -topo_type etcd2 -topo_server "+w.sourceTopo.Addr()+" -topo_root /vitess/global ext1")...)
	if out := w.must(t, "Migrate", "-all", "-source", "ext1.load", "-dry_run", "Create", workflow); !strings.Contains(out, "customer") {
		t.Errorf("plan:\n%s", out)
	}
	w.must(t, "Migrate", "-all", "-source", "ext1.load", "Create", workflow)
	if out := w.must(t, "Workflow", "List", keyspace); out != "wf\n" {
		t.Errorf("Workflow List: %q", out)
	}
	if out := w.must(t, "Workflow", "Show", workflow); !strings.Contains(out, workflow) || !strings.Contains(out, "customer") {
		t.Errorf("Workflow Show:\n%s", out)
	}
	w.fails(t, exitFailed, workflow, "Migrate", "-all", "-source", "ext1.load", "Create", workflow)
	w.fails(t, exitFailed, workflow, "Mount", "-unmount", "ext1")
	if !workerFirst {
		if s := w.show(t, workflow); s.State == "Running" {
			t.Errorf("without a worker, the workflow is %s", s.State)
		}
		w.fails(t, exitFailed, "not ready", "Migrate", "Complete", workflow)
		stop = w.startWorker(t, syscall.SIGTERM)
	}
	checkShown(t, keyspace, w.untilRunning(t, workflow))

	w.checkVDiff(t, workflow)
	w.must(t, "Workflow", "Stop", workflow)
	for _, want := range []string{"updated", "unchanged"} {
		out := w.must(t, "Workflow", "-on_drift", "repair", "-retry_time", "2h", "-cells", "", "Update", workflow)
		if !strings.HasSuffix(out, ") "+want+"\n") {
			t.Errorf("Workflow Update: %q, want %s", out, want)
		}
	}
	if out := w.must(t, "Workflow", "-json", "Show", workflow); !strings.Contains(out, `"on_drift": "REPAIR"`) {
		t.Errorf("after Update:\n%s", out)
	}
	if s := w.show(t, workflow); s.State != "Stopped" {
		t.Errorf("after Stop: %s", s.State)
	}
	w.must(t, "Workflow", "Start", workflow)
	w.untilRunning(t, workflow)

	load.MustStop(t)
	if out := w.must(t, "Migrate", "Complete", workflow); !strings.Contains(out, workflow+" completed") {
		t.Errorf("Complete:\n%s", out)
	}
	w.checkEqual(t, keyspace)
	if out := w.must(t, "GetVSchema", keyspace); !strings.Contains(out, "nothing_yet") {
		t.Errorf("VSchema after Complete:\n%s", out)
	}
	w.fails(t, exitFailed, workflow, "Workflow", "Show", workflow)
	if out := w.must(t, "Workflow", "List", "-json", keyspace); strings.TrimSpace(out) != "[]" {
		t.Errorf("Workflow List after Complete: %q", out)
	}
	w.must(t, "Mount", "-unmount", "ext1")
	stop()
}

// checkShown checks the shape of Workflow -json Show of a workflow that has copied everything.
func checkShown(t *testing.T, keyspace string, s shown) {
	t.Helper()
	if s.Name != "wf" || s.Source.Keyspace != "load" || s.Target.Keyspace != keyspace || !slices.Equal(s.Target.Shards, []string{"0"}) ||
		s.WorkflowType != "Migrate" || s.MaxLag == nil {
		t.Errorf("Workflow -json Show: %+v", s)
	}
	if len(s.ShardStreams) != 1 {
		t.Errorf("shard_streams: %+v", s.ShardStreams)
	}
	for key, shard := range s.ShardStreams {
		if !strings.HasPrefix(key, "0/zone1-") || len(shard.Streams) != 1 || shard.Streams[0].Position == "" || shard.Streams[0].BinlogSource.ExternalCluster != "ext1" {
			t.Errorf("shard_streams[%q]: %+v", key, shard)
		}
	}
	for _, table := range []string{"customer", "line", "nothing_yet"} {
		c := s.Tables[table]
		if c.Phase != "COMPLETE" || c.RowsPercentage != 100 {
			t.Errorf("table_copy_state[%q]: %+v", table, c)
		}
	}
}

// checkVDiff compares in the command's own process and in the worker; both find no difference.
func (w *world) checkVDiff(t *testing.T, workflow string) {
	t.Helper()
	if out := w.must(t, "VDiff", "-wait", "Create", workflow); !strings.Contains(out, "customer") {
		t.Errorf("VDiff:\n%s", out)
	}
	recorded := w.must(t, "VDiff", "-json", "Create", workflow)
	var id struct{ UUID string }
	if err := json.Unmarshal([]byte(recorded), &id); err != nil || id.UUID == "" {
		t.Fatalf("VDiff -json Create: %v\n%s", err, recorded)
	}
	var report struct {
		UUID, Workflow, Keyspace, State string
		HasMismatch                     bool
		RowsCompared                    int64
	}
	until(t, "VDiff by the worker", func() bool {
		out := w.must(t, "VDiff", "-json", "Show", workflow, id.UUID)
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("VDiff -json Show: %v\n%s", err, out)
		}
		return report.State == "completed"
	})
	if report.UUID != id.UUID || report.HasMismatch || report.RowsCompared < 20000 {
		t.Errorf("VDiff -json Show: %+v", report)
	}
	if out := w.must(t, "VDiff", "Show", workflow, "last"); !strings.Contains(out, id.UUID) {
		t.Errorf("VDiff Show last:\n%s", out)
	}
}

// differAndCancel changes a row on the target: VDiff tells, by its exit status too; Cancel leaves nothing.
func (w *world) differAndCancel(t *testing.T) {
	stop := w.startWorker(t, syscall.SIGTERM)
	w.target.MustExec(t, "DROP DATABASE IF EXISTS store")
	w.must(t, strings.Fields("Mount -type mysql -hosts "+w.source.Addr()+" plain")...)
	w.must(t, strings.Fields("Migrate --tables customer,line --source plain.vt_load create store.part")...)
	w.untilRunning(t, "store.part")
	w.target.MustExec(t, "UPDATE store.customer SET note = 'changed' WHERE id = 17; DELETE FROM store.line WHERE order_id = 5 AND n = 1")
	code, stdout, stderr := w.run(t, "VDiff", "store.part")
	if code != exitFailed || !strings.Contains(stdout, "17") || !strings.Contains(stdout, "note") {
		t.Errorf("VDiff of a difference: status %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = w.run(t, "VDiff", "-json", "Show", "store.part", "last")
	var report struct{ HasMismatch bool }
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != exitFailed || !report.HasMismatch {
		t.Errorf("VDiff Show of a difference: status %d, %v\n%s%s", code, err, stdout, stderr)
	}
	w.must(t, "Migrate", "-dry_run", "Cancel", "store.part")
	w.must(t, "Migrate", "Cancel", "store.part")
	if got := w.target.MustQuery(t, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'store'"); len(got) > 0 {
		t.Errorf("tables after Cancel: %v", got)
	}
	w.must(t, "Mount", "-unmount", "plain")
	stop()
}

// badInput is what only real servers can refuse.
func (w *world) badInput(t *testing.T) {
	wrong := passwordFile(t, "wrong")
	w.must(t, strings.Fields("Mount -type mysql -hosts "+w.source.Addr()+" plain")...)
	for _, tt := range []struct {
		status    int
		say, line string
	}{
		{exitUsage, "Usage:", "Migrate -all Create"},
		{exitFailed, "127.0.0.1:1", "-topo_global_server_address 127.0.0.1:1 Mount -list"},
		{exitFailed, "127.0.0.1:1", "Mount -type vitess -topo_server 127.0.0.1:1 -topo_root /vitess/global ext9"},
		{exitFailed, "127.0.0.1:1", "Mount -type mysql -hosts 127.0.0.1:1 ext9"},
		{exitFailed, "reader", "-source_db_password_file " + wrong + " Mount -type mysql -hosts " + w.source.Addr() + " ext9"},
		{exitFailed, "plain", "Mount -type mysql -hosts " + w.source.Addr() + " plain"},
		{exitFailed, "nowhere", "Migrate -all -source nowhere.load Create store.bad"},
		{exitFailed, "nowhere", "Migrate -all -source plain.nowhere Create store.bad"},
		{exitFailed, "no_such_table", "Migrate -tables no_such_table -source plain.vt_load Create store.bad"},
		{exitFailed, "customer", "Migrate -all -source plain.vt_load Create commerce.bad"}, // its tables are there and not empty
		{exitFailed, "haul", "-db_password_file " + wrong + " Migrate -all -source plain.vt_load Create store.bad"},
		{exitFailed, "reader", "-source_db_password_file " + wrong + " Migrate -all -source plain.vt_load Create store.bad"},
		{exitFailed, "store.bad", "Migrate Complete store.bad"},
		{exitFailed, "store.bad", "Migrate Cancel store.bad"},
		{exitFailed, "store.bad", "Workflow Stop store.bad"},
		{exitFailed, "store.bad", "VDiff -wait Create store.bad"},
		{exitFailed, "store.bad", "VDiff Show store.bad last"},
	} {
		w.fails(t, tt.status, tt.say, strings.Fields(tt.line)...)
	}
	if out := w.must(t, "Mount", "-list"); out != "plain\n" {
		t.Errorf("mounts after failures: %q", out)
	}
	if out := w.must(t, "Workflow", "List", "store"); out != "" {
		t.Errorf("workflows after failures: %q", out)
	}
}
