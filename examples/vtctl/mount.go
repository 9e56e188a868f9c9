package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
)

// mountCommands name the external clusters.
func mountCommands() []command {
	return []command{{
		name: "Mount", about: "Give an external cluster a name; list, show or forget such names.",
		forms: []string{
			"-type vitess -topo_type etcd2 -topo_server ADDRESS -topo_root PATH NAME",
			"-type mysql -hosts HOST:PORT[,HOST:PORT...] NAME",
			"-list",
			"-show NAME",
			"-unmount NAME",
		},
		setup: mountCommand,
	}}
}

func mountCommand(fs *flag.FlagSet) runFunc {
	var (
		kind, topoType, topoServer, topoRoot string
		hosts                                list
		doList, doShow, doUnmount, skip      bool
	)
	fs.StringVar(&kind, "type", "vitess", "`kind` of cluster: vitess or mysql")
	fs.StringVar(&topoType, "topo_type", "etcd2", "vitess: `kind` of its topology server")
	fs.StringVar(&topoServer, "topo_server", "", "vitess: `address` of its topology server")
	fs.StringVar(&topoRoot, "topo_root", "", "vitess: `path` of its global topology")
	fs.Var(&hosts, "hosts", "mysql: `addresses` of the primary and its replicas, host:port, separated by commas")
	fs.BoolVar(&doList, "list", false, "list the names")
	fs.BoolVar(&doShow, "show", false, "print what a name stands for")
	fs.BoolVar(&doUnmount, "unmount", false, "forget a name")
	fs.BoolVar(&skip, "skip_checks", false, "register without looking whether the cluster answers")
	return func(ctx context.Context, s *session, args []string) error {
		verb, run := "registering", func() error {
			c := mount.Cluster{Type: mount.Type(strings.ToLower(kind))}
			switch c.Type {
			case mount.MySQL:
				c.Hosts = hosts
			default:
				c.Topo = topo.Address{Type: topoType, Server: topoServer, Root: topoRoot}
			}
			return mountRegister(ctx, s, c, skip, args)
		}
		allowed := []string{"type", "topo_type", "topo_server", "topo_root", "skip_checks"}
		if strings.EqualFold(kind, string(mount.MySQL)) {
			verb, allowed = "-type mysql", []string{"type", "hosts", "skip_checks"}
		}
		switch {
		case doList:
			verb, allowed, run = "-list", []string{"list"}, func() error { return mountList(ctx, s, args) }
		case doShow:
			verb, allowed, run = "-show", []string{"show"}, func() error { return mountShow(ctx, s, args) }
		case doUnmount:
			verb, allowed, run = "-unmount", []string{"unmount"}, func() error { return mountUnregister(ctx, s, args) }
		}
		if err := flagsFit(fs, verb, allowed); err != nil {
			return err
		}
		return run()
	}
}

func mountRegister(ctx context.Context, s *session, c mount.Cluster, skip bool, args []string) error {
	if err := countArgs(args, "NAME"); err != nil {
		return err
	}
	switch {
	case c.Type == mount.MySQL && len(c.Hosts) == 0:
		return &usageError{"-hosts is needed for -type mysql"}
	case c.Type == mount.Vitess && (c.Topo.Server == "" || c.Topo.Root == ""):
		return &usageError{"-topo_server and -topo_root are needed for -type vitess"}
	}
	c.Name = args[0]
	ts, err := s.topology(ctx)
	if err != nil {
		return err
	}
	creds, err := s.credentials()
	if err != nil {
		return err
	}
	if err := mount.Register(ctx, ts, c, mount.RegisterOptions{Credentials: creds, SkipChecks: skip}); err != nil {
		return err
	}
	return s.say("Mount %s registered", c.Name)
}

func mountList(ctx context.Context, s *session, args []string) error {
	if err := countArgs(args); err != nil {
		return err
	}
	ts, err := s.topology(ctx)
	if err != nil {
		return err
	}
	names, err := mount.List(ctx, ts)
	if err != nil {
		return err
	}
	return s.print(map[string][]string{"names": append([]string{}, names...)}, func(w io.Writer) {
		for _, n := range names {
			fmt.Fprintln(w, n)
		}
	})
}

func mountShow(ctx context.Context, s *session, args []string) error {
	if err := countArgs(args, "NAME"); err != nil {
		return err
	}
	ts, err := s.topology(ctx)
	if err != nil {
		return err
	}
	c, err := mount.Show(ctx, ts, args[0])
	if err != nil {
		return err
	}
	return printJSON(s.out, mountJSON(c))
}

// mountJSON is a mount as vtctl prints it, with the type and the hosts added.
func mountJSON(c *mount.Cluster) any {
	return struct {
		Name       string   `json:"name"`
		Type       string   `json:"type"`
		TopoType   string   `json:"topo_type,omitempty"`
		TopoServer string   `json:"topo_server,omitempty"`
		TopoRoot   string   `json:"topo_root,omitempty"`
		Hosts      []string `json:"hosts,omitempty"`
	}{c.Name, string(c.Type), c.Topo.Type, c.Topo.Server, c.Topo.Root, c.Hosts}
}

func mountUnregister(ctx context.Context, s *session, args []string) error {
	if err := countArgs(args, "NAME"); err != nil {
		return err
	}
	m, err := s.migrate(ctx, migrate.Options{})
	if err != nil {
		return err
	}
	ts, err := s.topology(ctx)
	if err != nil {
		return err
	}
	if err := mount.Unregister(ctx, ts, args[0], mount.UnregisterOptions{UsedBy: m.UsesMount}); err != nil {
		return err
	}
	return s.say("Mount %s unregistered", args[0])
}
