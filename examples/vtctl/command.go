package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/topo"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// A command is one word of the command line with its flags.
type command struct {
	name string
	// forms are what may follow the name, one line of usage each.
	forms []string
	about string
	// setup defines the command's flags and returns what runs after they are parsed.
	setup func(fs *flag.FlagSet) runFunc
}

// A runFunc does a command's work with the arguments that are left after the flags.
type runFunc func(ctx context.Context, s *session, args []string) error

// commands is every command, in the order that help shows them.
func commands() []command {
	return slices.Concat(topologyCommands(), mountCommands(), migrateCommands(), workflowCommands(), vdiffCommands(), workerCommands())
}

// A program is what main gives to run: the world outside, so that tests can give another one.
type program struct {
	// openers are the kinds of topology servers.
	openers        topo.Openers
	getenv         func(string) string
	stdout, stderr io.Writer
}

// run parses args, runs one command and returns the exit status.
func (p *program) run(ctx context.Context, args []string) int {
	var g globals
	fs := newFlagSet("vtctl")
	g.define(fs, p.getenv)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			help(p.stdout, fs)
			return exitOK
		}
		return p.misuse(fs, err.Error())
	}
	args = fs.Args()
	if len(args) == 0 {
		return p.misuse(fs, "which command?")
	}
	name, args := args[0], args[1:]
	if strings.EqualFold(name, "help") {
		return p.help(fs, args)
	}
	cmd, ok := findCommand(name)
	if !ok {
		return p.misuse(fs, fmt.Sprintf("unknown command %q", name))
	}
	return p.runCommand(ctx, cmd, g, args)
}

// misuse says what is wrong with the command line before the command.
func (p *program) misuse(global *flag.FlagSet, text string) int {
	fmt.Fprintf(p.stderr, "vtctl: %s\n\n", text)
	help(p.stderr, global)
	return exitUsage
}

// runCommand parses the command's own flags, which may stand between its arguments too, and runs it.
func (p *program) runCommand(ctx context.Context, cmd command, g globals, args []string) int {
	fs := newFlagSet(cmd.name)
	fs.BoolVar(&g.json, "json", g.json, "print JSON")
	work := cmd.setup(fs)
	rest, err := parseMixed(fs, args)
	if errors.Is(err, flag.ErrHelp) {
		cmd.usage(p.stdout, fs)
		return exitOK
	}
	if err == nil {
		s := &session{globals: g, openers: p.openers, out: p.stdout, err: p.stderr}
		err = work(ctx, s, rest)
		err = errors.Join(err, s.close())
	} else {
		err = &usageError{err.Error()}
	}
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(p.stderr, "vtctl %s: %v\n\n", cmd.name, err)
		cmd.usage(p.stderr, fs)
		return exitUsage
	}
	if !errors.Is(err, errSaid) {
		printError(p.stderr, cmd.name, err, g.json)
	}
	return exitFailed
}

// A usageError is a mistake in the command line: the exit status is 2 and the usage is shown.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// errSaid fails a command that has printed why on its own.
var errSaid = errors.New("said already")

func findCommand(name string) (command, bool) {
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return strings.EqualFold(c.name, name) })
	if i < 0 {
		return command{}, false
	}
	return all[i], true
}

// An action is the word that some commands take before their argument: Migrate Create, VDiff Show.
type action struct {
	name string
	// flags are those of the command's flags that go with this action.
	flags []string
	// args names the arguments; one in brackets may be missing.
	args []string
	run  runFunc
}

// actions makes a runFunc that picks the action. Upper and lower case are the same, and the action
// may stand after the first argument as well, as vtctl's "Workflow commerce.wf show".
func actions(fs *flag.FlagSet, list ...action) runFunc {
	find := func(word string) *action {
		for i := range list {
			if strings.EqualFold(list[i].name, word) {
				return &list[i]
			}
		}
		return nil
	}
	var names []string
	for _, a := range list {
		names = append(names, a.name)
	}
	choice := strings.Join(names, ", ")
	return func(ctx context.Context, s *session, args []string) error {
		if len(args) == 0 {
			return &usageError{"which action? one of " + choice}
		}
		a, rest := find(args[0]), args[1:]
		if a == nil && len(args) > 1 {
			if a = find(args[1]); a != nil {
				rest = append([]string{args[0]}, args[2:]...)
			}
		}
		if a == nil {
			return &usageError{fmt.Sprintf("unknown action %q, not one of %s", args[0], choice)}
		}
		if err := flagsFit(fs, a.name, a.flags); err != nil {
			return err
		}
		if err := countArgs(rest, a.args...); err != nil {
			return err
		}
		return a.run(ctx, s, rest)
	}
}

// flagsFit refuses flags that were given and do nothing for an action.
func flagsFit(fs *flag.FlagSet, action string, allowed []string) error {
	var wrong []string
	fs.Visit(func(f *flag.Flag) {
		if f.Name != "json" && !slices.Contains(allowed, f.Name) {
			wrong = append(wrong, "-"+f.Name)
		}
	})
	if len(wrong) > 0 {
		return &usageError{fmt.Sprintf("%s does nothing for %s", strings.Join(wrong, ", "), action)}
	}
	return nil
}

// countArgs refuses too few and too many arguments; names in brackets are optional.
func countArgs(args []string, names ...string) error {
	for i, name := range names {
		if i >= len(args) && !strings.HasPrefix(name, "[") {
			return &usageError{"missing " + name}
		}
		if i < len(args) && args[i] == "" {
			return &usageError{name + " is empty"}
		}
	}
	if len(args) > len(names) {
		return &usageError{fmt.Sprintf("%q is one argument too many", args[len(names)])}
	}
	return nil
}
