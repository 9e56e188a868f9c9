// Command servers finds or fetches the servers that replicationtest starts.
//
//	servers fetch [mysql|mariadb|etcd]...   fetch what the machine doesn't have (default: all)
//	servers which [mysql|mariadb|etcd]...   print what would be started, and from where
//	servers run   KIND [args...]            run the server program itself, e.g. run mysql --verbose --help
//
// A server is taken from $MYSQLD, $MARIADBD or $ETCD, else from PATH, else from the
// cache folder ($TABLEHAUL_CACHE, by default "tablehaul" in the user's cache folder).
// Fetching needs Debian's apt-get and dpkg-deb, but neither root nor a change to the
// machine. It is idempotent: what is there is not fetched again.
//
// Exit status: 0, 1 when something failed or is missing, 2 for a wrong command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"

	"github.com/tablehaul/tablehaul/internal/serverbin"
)

const usage = `usage: servers fetch [mysql|mariadb|etcd]...
       servers which [mysql|mariadb|etcd]...
       servers run mysql|mariadb|etcd [args...]
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := command(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func command(ctx context.Context, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	verb, names := args[0], args[1:]
	if verb == "run" {
		return runServer(ctx, names)
	}
	kinds := serverbin.Kinds()
	if len(names) > 0 {
		kinds = nil
	}
	for _, n := range names {
		k, err := serverbin.ParseKind(n)
		if err != nil {
			fmt.Fprintln(os.Stderr, "servers:", err)
			return 2
		}
		kinds = append(kinds, k)
	}
	var get func(serverbin.Kind) (*serverbin.Binary, error)
	switch verb {
	case "fetch":
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		get = func(k serverbin.Kind) (*serverbin.Binary, error) {
			b, err := serverbin.Fetch(ctx, k, log)
			if err == nil && (k == serverbin.MySQL || k == serverbin.MariaDB) {
				_, err = serverbin.DataDir(ctx, b)
			}
			return b, err
		}
	case "which":
		get = func(k serverbin.Kind) (*serverbin.Binary, error) { return serverbin.Find(ctx, k) }
	default:
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	code := 0
	for _, k := range kinds {
		b, err := get(k)
		if err != nil {
			fmt.Fprintln(os.Stderr, "servers:", err)
			code = 1
			continue
		}
		fmt.Fprintf(os.Stdout, "%s %s (%s) %s\n", k, b.Version, b.Origin, b.Path)
	}
	return code
}

// runServer runs a server program with the arguments of the command line.
func runServer(ctx context.Context, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	k, err := serverbin.ParseKind(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		return 2
	}
	b, err := serverbin.Find(ctx, k)
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		return 1
	}
	var argv []string
	if k != serverbin.MySQL && k != serverbin.MariaDB {
		argv = b.Command(args[1:]...)
	} else {
		argv = b.Command(append(append([]string{"--no-defaults"}, b.PathArgs()...), args[1:]...)...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		return 1
	}
	return 0
}
