package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// help is "vtctl help [COMMAND]".
func (p *program) help(global *flag.FlagSet, args []string) int {
	if len(args) == 0 {
		help(p.stdout, global)
		return exitOK
	}
	cmd, ok := findCommand(args[0])
	if !ok {
		return p.misuse(global, fmt.Sprintf("unknown command %q", args[0]))
	}
	fs := newFlagSet(cmd.name)
	fs.Bool("json", false, "print JSON")
	cmd.setup(fs)
	cmd.usage(p.stdout, fs)
	return exitOK
}

// help prints the commands and the flags that stand before them.
func help(w io.Writer, global *flag.FlagSet) {
	fmt.Fprint(w, "Usage: vtctl [flags] COMMAND [flags] [arguments]\n\nCommands:\n")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(tw, "  %s\t%s\n", c.name, c.about)
	}
	fmt.Fprint(tw, "  help\thelp COMMAND: the flags and arguments of one command\n")
	tw.Flush()
	fmt.Fprint(w, "\nFlags before the command, with one dash or two (or as environment variables, TOPO_GLOBAL_ROOT or topo_global_root):\n")
	printFlags(w, global)
	fmt.Fprint(w, "\nExit status: 0 done, 1 failed (VDiff: or the tables differ), 2 wrong usage.\n")
}

// usage prints how a command is used.
func (cmd command) usage(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "%s\n\nUsage:\n", cmd.about)
	for _, form := range cmd.forms {
		fmt.Fprintln(w, "  vtctl "+strings.TrimSpace(cmd.name+" "+form))
	}
	fmt.Fprint(w, "\nFlags:\n")
	printFlags(w, fs)
}

// printFlags lists flags, one line each, with their defaults.
func printFlags(w io.Writer, fs *flag.FlagSet) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fs.VisitAll(func(f *flag.Flag) {
		value, about := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			about += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(tw, "  -%s\t%s\n", strings.TrimSpace(f.Name+" "+value), about)
	})
	tw.Flush()
}
