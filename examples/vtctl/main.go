// Command vtctl moves tables into a keyspace of a topology, as users of Vitess's vtctl type it:
// mount an external cluster, migrate, show, compare, complete. "vtctl help" lists the commands.
//
// Every command is a thin call of tablehaul's public API: see the file of each command group for how
// a program of your own makes the same call.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/topo/etcdtopo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := &program{
		openers: topo.Openers{"etcd2": etcdtopo.Open},
		getenv:  os.Getenv, stdout: os.Stdout, stderr: os.Stderr,
	}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
