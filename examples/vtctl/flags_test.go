package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParseMixed(t *testing.T) {
	for _, tt := range []struct {
		line  string
		args  string
		wait  bool
		names string
	}{
		{"Create a.b", "Create a.b", false, ""},
		{"-wait Create a.b", "Create a.b", true, ""},
		{"--wait Create a.b", "Create a.b", true, ""},
		{"Create -wait a.b", "Create a.b", true, ""},
		{"Create a.b --wait", "Create a.b", true, ""},
		{"-wait=false Create a.b", "Create a.b", false, ""},
		{"-tables t1,t2 Create --tables=t3 a.b", "Create a.b", false, "t1,t2,t3"},
		{"-wait -- -tables t1", "-tables t1", true, ""},
		{"Show -- -wait", "Show -wait", false, ""},
		{"-tables -80 x", "x", false, "-80"},
	} {
		fs := newFlagSet("test")
		wait := fs.Bool("wait", false, "")
		var names list
		fs.Var(&names, "tables", "")
		args, err := parseMixed(fs, strings.Fields(tt.line))
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		if got := strings.Join(args, " "); got != tt.args || *wait != tt.wait || names.String() != tt.names {
			t.Errorf("%s: args %q wait %v tables %q, want %q %v %q", tt.line, got, *wait, names.String(), tt.args, tt.wait, tt.names)
		}
	}
}

func TestParseMixedRefuses(t *testing.T) {
	for _, line := range []string{"-nonsense", "Create -nonsense", "-wait=perhaps", "Create a.b -tables", "-tables a,,b", "---wait"} {
		fs := newFlagSet("test")
		fs.Bool("wait", false, "")
		fs.Var(&list{}, "tables", "")
		if args, err := parseMixed(fs, strings.Fields(line)); err == nil {
			t.Errorf("%s: accepted, arguments %q", line, args)
		}
	}
}

func TestGlobalsFromEnvironment(t *testing.T) {
	env := map[string]string{
		"TOPO_GLOBAL_ROOT":           "/upper",
		"topo_global_root":           "/as/written",
		"TOPO_GLOBAL_SERVER_ADDRESS": "host:1",
		"DB_USER":                    "haul",
		"cell":                       "zone1",
	}
	for _, tt := range []struct {
		args string
		want globals
	}{
		{"", globals{topoImplementation: "etcd2", topoAddress: "host:1", topoRoot: "/as/written", cell: "zone1", target: account{user: "haul"}, source: account{user: "root"}}},
		{
			"--topo_global_root /flag -source_db_user reader -source_db_password_file /f -json",
			globals{
				topoImplementation: "etcd2", topoAddress: "host:1", topoRoot: "/flag", cell: "zone1",
				target: account{user: "haul"}, source: account{"reader", "/f"}, json: true,
			},
		},
	} {
		var g globals
		fs := newFlagSet("test")
		g.define(fs, func(k string) string { return env[k] })
		if err := fs.Parse(strings.Fields(tt.args)); err != nil {
			t.Fatal(err)
		}
		if g != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.args, g, tt.want)
		}
	}
}

func TestCommandsAreDescribed(t *testing.T) {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
		if c.about == "" || len(c.forms) == 0 || c.setup == nil {
			t.Errorf("%s: about, forms or setup is missing", c.name)
		}
	}
	want := []string{
		"AddCellInfo", "CreateKeyspace", "CreateShard", "InitTablet", "ApplyVSchema", "GetVSchema",
		"Mount", "Migrate", "Workflow", "VDiff", "Run",
	}
	if !slices.Equal(names, want) {
		t.Errorf("commands %q, want %q", names, want)
	}
}

func TestRulesFlag(t *testing.T) {
	fs := newFlagSet("test")
	var r rules
	fs.Var(&r, "filter", "")
	rest, err := parseMixed(fs, []string{"-filter", "sales=select * from orders where a = 'x=y'", "Create", "-filter=b=select b from b", "ks.wf"})
	if err != nil || len(r) != 2 || r["sales"] != "select * from orders where a = 'x=y'" || r["b"] != "select b from b" || len(rest) != 2 {
		t.Errorf("%v, %v, %v", r, rest, err)
	}
	for _, bad := range []string{"sales", "=select 1", "sales=", "b=select a from b"} {
		if _, err := parseMixed(fs, []string{"-filter", bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
