package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"strings"

	"github.com/tablehaul/tablehaul/topo"
)

// topologyCommands describe the target: cells, keyspaces, shards, tablets, VSchema.
func topologyCommands() []command {
	return []command{
		{
			name: "AddCellInfo", about: "Add a cell to the topology.",
			forms: []string{"-server_address ADDRESS -root PATH CELL"},
			setup: addCellInfo,
		},
		{
			name: "CreateKeyspace", about: "Add a keyspace to the topology.",
			forms: []string{"KEYSPACE"},
			setup: createKeyspace,
		},
		{
			name: "CreateShard", about: "Add a shard to a keyspace.",
			forms: []string{"KEYSPACE/SHARD"},
			setup: createShard,
		},
		{
			name: "InitTablet", about: "Add a MySQL server to a shard.",
			forms: []string{"-hostname HOST -mysql_port PORT -keyspace KEYSPACE -shard SHARD [-db_name_override DATABASE] CELL-NUMBER primary|replica|rdonly"},
			setup: initTablet,
		},
		{
			name: "ApplyVSchema", about: "Set a keyspace's VSchema.",
			forms: []string{"-vschema JSON KEYSPACE"},
			setup: applyVSchema,
		},
		{
			name: "GetVSchema", about: "Print a keyspace's VSchema.",
			forms: []string{"KEYSPACE"},
			setup: getVSchema,
		},
	}
}

func addCellInfo(fs *flag.FlagSet) runFunc {
	var cell topo.CellInfo
	fs.StringVar(&cell.ServerAddress, "server_address", "", "`address` of the cell's topology server")
	fs.StringVar(&cell.Root, "root", "", "`path` of the cell's topology in it")
	return func(ctx context.Context, s *session, args []string) error {
		if err := countArgs(args, "CELL"); err != nil {
			return err
		}
		if cell.ServerAddress == "" || cell.Root == "" {
			return &usageError{"-server_address and -root are needed"}
		}
		ts, err := s.topology(ctx)
		if err != nil {
			return err
		}
		cell.Name = args[0]
		if err := ts.CreateCell(ctx, cell); err != nil {
			return fmt.Errorf("cell %s: %w", cell.Name, err)
		}
		return s.say("Cell %s added", cell.Name)
	}
}

func createKeyspace(*flag.FlagSet) runFunc {
	return func(ctx context.Context, s *session, args []string) error {
		if err := countArgs(args, "KEYSPACE"); err != nil {
			return err
		}
		ts, err := s.topology(ctx)
		if err != nil {
			return err
		}
		if err := ts.CreateKeyspace(ctx, topo.Keyspace{Name: args[0]}); err != nil {
			return fmt.Errorf("keyspace %s: %w", args[0], err)
		}
		return s.say("Keyspace %s created", args[0])
	}
}

func createShard(*flag.FlagSet) runFunc {
	return func(ctx context.Context, s *session, args []string) error {
		if err := countArgs(args, "KEYSPACE/SHARD"); err != nil {
			return err
		}
		keyspace, shard, ok := strings.Cut(args[0], "/")
		if !ok || keyspace == "" || shard == "" {
			return &usageError{fmt.Sprintf("%q is not KEYSPACE/SHARD, as commerce/0 or commerce/-80", args[0])}
		}
		ts, err := s.topology(ctx)
		if err != nil {
			return err
		}
		if err := ts.CreateShard(ctx, keyspace, shard); err != nil {
			return fmt.Errorf("shard %s: %w", args[0], err)
		}
		return s.say("Shard %s created", args[0])
	}
}

func initTablet(fs *flag.FlagSet) runFunc {
	var t topo.Tablet
	var port int
	fs.StringVar(&t.Hostname, "hostname", "", "`host` of the MySQL server")
	fs.IntVar(&port, "mysql_port", 3306, "`port` of the MySQL server")
	fs.StringVar(&t.Keyspace, "keyspace", "", "`keyspace` of the tablet")
	fs.StringVar(&t.Shard, "shard", "", "`shard` of the tablet")
	fs.StringVar(&t.DBNameOverride, "db_name_override", "", "`database` on the server; none: vt_KEYSPACE")
	return func(ctx context.Context, s *session, args []string) error {
		if err := countArgs(args, "CELL-NUMBER", "TYPE"); err != nil {
			return err
		}
		if t.Hostname == "" || t.Keyspace == "" || t.Shard == "" {
			return &usageError{"-hostname, -keyspace and -shard are needed"}
		}
		if port <= 0 || port > math.MaxUint16 {
			return &usageError{fmt.Sprintf("-mysql_port %d is not a port", port)}
		}
		var err error
		if t.Alias, err = topo.ParseTabletAlias(args[0]); err != nil {
			return err
		}
		if t.Type, err = topo.ParseTabletType(args[1]); err != nil {
			return err
		}
		t.MySQLPort = int32(port)
		ts, err := s.topology(ctx)
		if err != nil {
			return err
		}
		if err := ts.InitTablet(ctx, t); err != nil {
			return fmt.Errorf("tablet %s: %w", t.Alias, err)
		}
		return s.say("Tablet %s added to %s/%s", t.Alias, t.Keyspace, t.Shard)
	}
}

func applyVSchema(fs *flag.FlagSet) runFunc {
	text := fs.String("vschema", "", "the VSchema as `JSON`")
	return func(ctx context.Context, s *session, args []string) error {
		if err := countArgs(args, "KEYSPACE"); err != nil {
			return err
		}
		if *text == "" {
			return &usageError{"-vschema is needed"}
		}
		v, err := topo.ParseVSchema([]byte(*text))
		if err != nil {
			return err
		}
		if err := v.Validate(); err != nil {
			return err
		}
		ts, err := s.topology(ctx)
		if err != nil {
			return err
		}
		if err := ts.SaveVSchema(ctx, args[0], v); err != nil {
			return fmt.Errorf("vschema of %s: %w", args[0], err)
		}
		if err := ts.RebuildSrvVSchema(ctx); err != nil {
			return fmt.Errorf("vschema of %s is saved, the cells' copies are not: %w", args[0], err)
		}
		return printJSON(s.out, v)
	}
}

func getVSchema(*flag.FlagSet) runFunc {
	return func(ctx context.Context, s *session, args []string) error {
		if err := countArgs(args, "KEYSPACE"); err != nil {
			return err
		}
		ts, err := s.topology(ctx)
		if err != nil {
			return err
		}
		v, err := ts.VSchema(ctx, args[0])
		if err != nil {
			return fmt.Errorf("vschema of %s: %w", args[0], err)
		}
		return printJSON(s.out, v)
	}
}
