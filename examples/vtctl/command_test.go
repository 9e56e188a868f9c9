package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/memorytopo"
)

// A harness runs command lines on one topology in memory.
type harness struct {
	openers topo.Openers
	env     map[string]string
}

func newHarness() *harness {
	return &harness{
		openers: topo.Openers{"memory": memorytopo.New().Open},
		env: map[string]string{
			"TOPO_IMPLEMENTATION": "memory", "TOPO_GLOBAL_SERVER_ADDRESS": "test", "TOPO_GLOBAL_ROOT": "/vitess/global",
		},
	}
}

// run returns the exit status and what was printed.
func (h *harness) run(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	p := &program{openers: h.openers, getenv: func(k string) string { return h.env[k] }, stdout: &out, stderr: &err}
	code = p.run(ctx, args)
	return code, out.String(), err.String()
}

// must runs a line of words that has to succeed and returns what it printed.
func (h *harness) must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := h.run(t.Context(), args...)
	if code != exitOK {
		t.Fatalf("%s: status %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// cluster adds a cell and the keyspace commerce with one shard and a primary that nobody listens on.
func (h *harness) cluster(t *testing.T) {
	t.Helper()
	h.must(t, "AddCellInfo", "-server_address", "test", "-root", "/vitess/zone1", "zone1")
	h.must(t, "CreateKeyspace", "commerce")
	h.must(t, "CreateShard", "commerce/0")
	h.must(t, "InitTablet", "-hostname", "127.0.0.1", "-mysql_port", "1", "-keyspace", "commerce", "-shard", "0",
		"-db_name_override", "commerce", "zone1-100", "primary")
}

func TestWrongUsage(t *testing.T) {
	h := newHarness()
	for _, tt := range []struct{ line, say string }{
		{"", "which command?"},
		{"Migrat", `unknown command "Migrat"`},
		{"-nonsense Migrate", "-nonsense"},
		{"help Migrat", `unknown command "Migrat"`},
		{"CreateKeyspace", "missing KEYSPACE"},
		{"CreateKeyspace a b", `"b" is one argument too many`},
		{"CreateShard commerce", "is not KEYSPACE/SHARD"},
		{"AddCellInfo zone1", "-server_address and -root are needed"},
		{"InitTablet -hostname h -keyspace k -shard 0 zone1-1", "missing TYPE"},
		{"InitTablet -hostname h -mysql_port 70000 -keyspace k -shard 0 zone1-1 primary", "not a port"},
		{"ApplyVSchema commerce", "-vschema is needed"},
		{"Mount", "missing NAME"},
		{"Mount -type vitess ext1", "-topo_server and -topo_root are needed"},
		{"Mount -type mysql ext1", "-hosts is needed"},
		{"Mount -type mysql -topo_root / -hosts a:1 ext1", "-topo_root does nothing"},
		{"Mount -show", "missing NAME"},
		{"Mount -list ext1", "one argument too many"},
		{"Mount -list -show ext1", "-show does nothing for -list"},
		{"Migrate", "which action?"},
		{"Migrate Creat commerce.wf", `unknown action "Creat"`},
		{"Migrate -all Create commerce.wf", "-source is needed"},
		{"Migrate -source ext1.load Create commerce.wf", "-all and -tables"},
		{"Migrate -all -tables t -source ext1.load Create commerce.wf", "-all and -tables"},
		{"Migrate -all -source ext1.load Create", "missing KEYSPACE.WORKFLOW"},
		{"Migrate -all Complete commerce.wf", "-all does nothing for Complete"},
		{"Migrate -rename_tables -drop_tables Complete commerce.wf", "only one of"},
		{"Migrate -force Cancel commerce.wf", "-force does nothing for Cancel"},
		{"Workflow Show", "missing KEYSPACE.WORKFLOW"},
		{"Workflow Rename commerce.wf", `unknown action "Rename"`},
		{"Workflow Update commerce.wf", "nothing to update"},
		{"Workflow -on_ddl STOPP Update commerce.wf", "not IGNORE"},
		{"Workflow -on_drift FIX Update commerce.wf", "not STOP, REPAIR or SKIP"},
		{"Workflow -cells , Update commerce.wf", "an entry of the list is empty"},
		{"Workflow -on_ddl STOP Stop commerce.wf", "-on_ddl does nothing for Stop"},
		{"Workflow -lines Show commerce.wf", "-lines"},
		{"VDiff Show commerce.wf", "missing last|UUID"},
		{"VDiff -wait Show commerce.wf last", "-wait does nothing for Show"},
		{"Run now", "one argument too many"},
	} {
		code, stdout, stderr := h.run(t.Context(), strings.Fields(tt.line)...)
		if code != exitUsage || stdout != "" {
			t.Errorf("%q: status %d, stdout %q", tt.line, code, stdout)
		}
		first, rest, _ := strings.Cut(stderr, "\n")
		if !strings.Contains(first, tt.say) || !strings.Contains(rest, "Usage:") {
			t.Errorf("%q: said %q; want %q and the usage", tt.line, stderr, tt.say)
		}
	}
}

func TestUsageIsThatOfTheCommand(t *testing.T) {
	h := newHarness()
	_, _, stderr := h.run(t.Context(), "VDiff")
	if !strings.Contains(stderr, "Show KEYSPACE.WORKFLOW last|UUID") || strings.Contains(stderr, "Migrate") {
		t.Errorf("usage:\n%s", stderr)
	}
}

func TestHelp(t *testing.T) {
	h := newHarness()
	all := h.must(t, "help")
	for _, c := range commands() {
		if !strings.Contains(all, "  "+c.name+" ") {
			t.Errorf("help does not mention %s", c.name)
		}
		one := h.must(t, "help", strings.ToLower(c.name))
		if !strings.Contains(one, c.about) || !strings.Contains(one, "vtctl "+c.name) {
			t.Errorf("help %s:\n%s", c.name, one)
		}
		if same := h.must(t, c.name, "-h"); same != one {
			t.Errorf("%s -h differs from help %s:\n%s", c.name, c.name, same)
		}
	}
	for _, f := range []string{"topo_implementation", "db_password_file", "source_db_user"} {
		if !strings.Contains(all, "-"+f) {
			t.Errorf("help does not mention -%s", f)
		}
	}
	if same := h.must(t, "--help"); same != all {
		t.Errorf("--help differs from help")
	}
}

func TestTopologyCommands(t *testing.T) {
	h := newHarness()
	h.cluster(t)
	ts, err := topo.Open(t.Context(), h.openers, topo.Address{Type: "memory", Server: "test", Root: "/vitess/global"})
	if err != nil {
		t.Fatal(err)
	}
	defer ts.Close()
	primary, err := ts.Primary(t.Context(), "commerce", "0")
	if err != nil {
		t.Fatal(err)
	}
	if primary.DBName() != "commerce" || primary.MySQLAddr() != "127.0.0.1:1" || primary.Alias.String() != "zone1-0000000100" {
		t.Errorf("primary %s, database %s on %s", primary.Alias, primary.DBName(), primary.MySQLAddr())
	}
	vschema := `{"sharded":true,"vindexes":{"h":{"type":"hash"}},"tables":{"t":{"column_vindexes":[{"column":"id","name":"h"}]}}}`
	h.must(t, "ApplyVSchema", "--vschema", vschema, "commerce")
	for _, args := range [][]string{{"GetVSchema", "commerce"}, {"getvschema", "-json", "commerce"}, {"-json", "GetVSchema", "commerce"}} {
		var got struct {
			Sharded bool
			Tables  map[string]any
		}
		if out := h.must(t, args...); json.Unmarshal([]byte(out), &got) != nil || !got.Sharded || got.Tables["t"] == nil {
			t.Errorf("%q: %s", args, out)
		}
	}
	srv, err := ts.SrvVSchema(t.Context(), "zone1")
	if err != nil || srv.Keyspaces["commerce"] == nil || !srv.Keyspaces["commerce"].Sharded {
		t.Errorf("SrvVSchema of the cell: %+v, %v", srv, err)
	}
}

// TestFailures are lines that are well formed and can't be done: status 1, one line that names the thing.
func TestFailures(t *testing.T) {
	h := newHarness()
	h.cluster(t)
	for _, tt := range []struct{ line, say string }{
		{"CreateKeyspace commerce", "commerce"},
		{"CreateKeyspace a/b", "a/b"},
		{"CreateShard nowhere/0", "nowhere"},
		{"CreateShard commerce/40-20", "40-20"},
		{"AddCellInfo -server_address a -root /r zone1", "zone1"},
		{"InitTablet -hostname h -keyspace commerce -shard 0 zone1 primary", "zone1"},
		{"InitTablet -hostname h -keyspace commerce -shard 0 zone1-200 boss", "boss"},
		{"InitTablet -hostname h -keyspace commerce -shard 0 zone1-200 primary", "zone1-0000000100"},
		{"ApplyVSchema -vschema {\"shards\":1} commerce", "shards"},
		{"ApplyVSchema -vschema {} nowhere", "nowhere"},
		{"GetVSchema nowhere", "nowhere"},
		{"Mount -show ext1", "ext1"},
		{"Mount -unmount ext1", "ext1"},
		{"Mount -type oracle -topo_server a -topo_root /r ext1", "oracle"},
		{"Mount -type mysql -hosts 127.0.0.1:1 ext1", "127.0.0.1:1"},
		{"Migrate -all -source ext1.load Create wf", `"wf"`},
		{"Migrate -all -source load Create commerce.wf", `"load"`},
		{"Migrate -all -source ext1.load Create nowhere.wf", "nowhere"},
		{"Migrate -all -source ext1.load Create commerce.wf", "ext1"},
		{"Migrate -all -source ext1.load -on_ddl MAYBE Create commerce.wf", "MAYBE"},
		{"Migrate -all -source ext1.load -sharded_auto_increment_handling KEEP Create commerce.wf", "KEEP"},
		{"Migrate -all -source ext1.load -global_keyspace seqs Create commerce.wf", "AutoIncrement is not REPLACE"},
		{"Migrate -all -source ext1.load -tablet_types boss Create commerce.wf", "boss"},
		{"Migrate Complete commerce", `"commerce"`},
		{"Migrate Cancel nowhere.wf", "nowhere"},
		{"Workflow Show nowhere.wf", "nowhere"},
		{"Workflow List nowhere", "nowhere"},
		{"Workflow List commerce", "127.0.0.1:1"},
		{"-db_password_file /nonexistent/password Workflow Show commerce.wf", "/nonexistent/password"},
		{"-topo_implementation zk2 CreateKeyspace x", "zk2"},
	} {
		code, stdout, stderr := h.run(t.Context(), strings.Fields(tt.line)...)
		if code != exitFailed || stdout != "" {
			t.Errorf("%q: status %d, stdout %q, stderr %q", tt.line, code, stdout, stderr)
		}
		first, rest, _ := strings.Cut(stderr, "\n")
		if !strings.HasPrefix(first, "vtctl ") || !strings.Contains(stderr, tt.say) {
			t.Errorf("%q: said %q; want it to name %q", tt.line, stderr, tt.say)
		}
		for line := range strings.Lines(rest) {
			if !strings.HasPrefix(line, "  ") { // findings are indented
				t.Errorf("%q: more than one line: %q", tt.line, stderr)
			}
		}

		args := append([]string{"-json"}, strings.Fields(tt.line)...)
		_, _, stderr = h.run(t.Context(), args...)
		var e errorObject
		if err := json.Unmarshal([]byte(stderr), &e); err != nil || !strings.Contains(stderr, strings.Trim(tt.say, `"`)) {
			t.Errorf("%q: stderr is not the error as JSON: %v\n%s", args, err, stderr)
		}
	}
	if out := h.must(t, "Mount", "-list"); out != "" {
		t.Errorf("mounts after failures only: %q", out)
	}
}

func TestMountCommands(t *testing.T) {
	h := newHarness()
	if out := h.must(t, "Mount", "-list", "-json"); strings.Join(strings.Fields(out), "") != `{"names":[]}` {
		t.Errorf("an empty list: %s", out)
	}
	h.must(t, "Mount", "-type", "mysql", "-skip_checks", "-hosts", "db1:3306,db2:3306", "ext1")
	h.must(t, "Mount", "--type=vitess", "--skip_checks", "--topo_type", "memory", "--topo_server", "other", "--topo_root", "/vitess/global", "ext2")
	if out := h.must(t, "Mount", "-list"); out != "ext1\next2\n" {
		t.Errorf("list: %q", out)
	}
	var c struct {
		Name, Type string
		Hosts      []string
		Server     string `json:"topo_server"`
		Root       string `json:"topo_root"`
		TopoType   string `json:"topo_type"`
	}
	if err := json.Unmarshal([]byte(h.must(t, "Mount", "-show", "ext1")), &c); err != nil || c.Name != "ext1" || c.Type != "mysql" || strings.Join(c.Hosts, " ") != "db1:3306 db2:3306" {
		t.Errorf("ext1: %+v, %v", c, err)
	}
	if err := json.Unmarshal([]byte(h.must(t, "Mount", "-show", "ext2")), &c); err != nil || c.Type != "vitess" || c.Server != "other" || c.Root != "/vitess/global" || c.TopoType != "memory" {
		t.Errorf("ext2: %+v, %v", c, err)
	}
	code, _, stderr := h.run(t.Context(), "Mount", "-skip_checks", "-type", "mysql", "-hosts", "db3:3306", "ext1")
	if code != exitFailed || !strings.Contains(stderr, "ext1") || !strings.Contains(stderr, "exists") {
		t.Errorf("a name twice: status %d, %s", code, stderr)
	}
	h.must(t, "Mount", "-unmount", "ext1")
	if out := h.must(t, "Mount", "-list"); out != "ext2\n" {
		t.Errorf("list: %q", out)
	}
}

// TestTopologyIsNeeded: nothing runs without an address, and the message says which flag.
func TestTopologyIsNeeded(t *testing.T) {
	h := newHarness()
	h.env = nil
	code, _, stderr := h.run(t.Context(), "CreateKeyspace", "commerce")
	if code != exitUsage || !strings.Contains(stderr, "-topo_global_server_address") {
		t.Errorf("status %d, %s", code, stderr)
	}
}

func TestPasswordFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("se cret \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := account{"haul", file}.login("db_password_file")
	if err != nil || l.User != "haul" || l.Password != "se cret " {
		t.Errorf("login %q %q, %v", l.User, l.Password, err)
	}
}

// TestRunEnds: the worker of a topology without workflows runs until it is told to end, and that is no failure.
func TestRunEnds(t *testing.T) {
	h := newHarness()
	h.cluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := &firstLine{seen: cancel}
	p := &program{openers: h.openers, getenv: func(k string) string { return h.env[k] }, stdout: out, stderr: out}
	if code := p.run(ctx, []string{"Run"}); code != exitOK {
		t.Errorf("status %d, %s", code, out.String())
	}
}

// A firstLine calls seen when something is written.
type firstLine struct {
	bytes.Buffer
	seen func()
}

func (f *firstLine) Write(p []byte) (int, error) {
	f.seen()
	return f.Buffer.Write(p)
}
