package main

import (
	"errors"
	"flag"
	"io"
	"strings"
)

// globals are the flags that stand before the command.
type globals struct {
	topoImplementation string
	topoAddress        string
	topoRoot           string
	cell               string

	target, source account
	json           bool
}

// An account is a user and the file that its password is in.
type account struct{ user, passwordFile string }

// define adds the flags. Their defaults come from the environment: the variable with the flag's name,
// or with that name in upper case.
func (g *globals) define(fs *flag.FlagSet, getenv func(string) string) {
	text := func(p *string, name, fallback, about string) {
		for _, v := range []string{getenv(strings.ToUpper(name)), getenv(name)} {
			if v != "" {
				fallback = v
			}
		}
		fs.StringVar(p, name, fallback, about)
	}
	text(&g.topoImplementation, "topo_implementation", "etcd2", "`kind` of the topology server")
	text(&g.topoAddress, "topo_global_server_address", "", "`address` of the topology server, host:port[,host:port]")
	text(&g.topoRoot, "topo_global_root", "", "`path` of the global topology, as /vitess/global")
	text(&g.cell, "cell", "", "`cell` that this process is in; taken for the sake of scripts, nothing depends on it")
	text(&g.target.user, "db_user", "root", "`user` on the target's MySQL servers")
	text(&g.target.passwordFile, "db_password_file", "", "`file` with that user's password; none: no password")
	text(&g.source.user, "source_db_user", "root", "`user` on the mounted clusters' MySQL servers")
	text(&g.source.passwordFile, "source_db_password_file", "", "`file` with that user's password; none: no password")
	fs.BoolVar(&g.json, "json", false, "print JSON; every command has this flag too")
}

// newFlagSet is a flag set that prints nothing on its own.
func newFlagSet(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// parseMixed parses flags that stand before, between and after the arguments, and returns the
// arguments. After "--" everything is an argument.
func parseMixed(fs *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		left := fs.Args()
		if n := len(args) - len(left); n > 0 && args[n-1] == "--" {
			return append(rest, left...), nil
		}
		if len(left) == 0 {
			return rest, nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// A list is a flag with values separated by commas; given twice, it adds up.
type list []string

// String is the form that Set reads.
func (l *list) String() string { return strings.Join(*l, ",") }

// Set adds the values of one use of the flag.
func (l *list) Set(s string) error {
	for v := range strings.SplitSeq(s, ",") {
		v = strings.TrimSpace(v)
		if v == "" {
			return errors.New("an entry of the list is empty")
		}
		*l = append(*l, v)
	}
	return nil
}

// rules is a flag that may be given several times, each time with the name of a table and a SELECT.
type rules map[string]string

// String is empty: the flag has no default.
func (r *rules) String() string { return "" }

// Set adds one rule.
func (r *rules) Set(text string) error {
	table, rule, ok := strings.Cut(text, "=")
	if !ok || strings.TrimSpace(table) == "" || strings.TrimSpace(rule) == "" {
		return errors.New("want TABLE=SELECT")
	}
	if _, twice := (*r)[table]; twice {
		return errors.New("the table has a rule already")
	}
	if *r == nil {
		*r = rules{}
	}
	(*r)[table] = rule
	return nil
}
