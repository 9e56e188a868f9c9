package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/topo"
	"github.com/tablehaul/tablehaul/vdiff"
	"golang.org/x/sync/errgroup"
)

// workerCommands run what the other commands record.
func workerCommands() []command {
	return []command{{
		name: "Run", about: "Run the streams and VDiffs of all workflows, until SIGINT or SIGTERM.",
		forms: []string{"[-keyspaces KEYSPACE[,KEYSPACE...]]"},
		setup: runWorker,
	}}
}

func runWorker(fs *flag.FlagSet) runFunc {
	var keyspaces list
	fs.Var(&keyspaces, "keyspaces", "only workflows of these target `keyspaces`, separated by commas; none: all")
	return func(ctx context.Context, s *session, args []string) error {
		if err := countArgs(args); err != nil {
			return err
		}
		ts, err := s.topology(ctx)
		if err != nil {
			return err
		}
		log := s.log()
		m, err := s.migrate(ctx, migrate.Options{Keyspaces: keyspaces, Logger: log})
		if err != nil {
			return err
		}
		log.Info("worker runs", "topology", s.topoAddress, "root", s.topoRoot, "keyspaces", strings.Join(keyspaces, ","))
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return m.Run(ctx) })
		g.Go(func() error { return runVDiffs(ctx, log, ts, m, keyspaces) })
		err = g.Wait()
		if err == nil {
			log.Info("worker stopped")
		}
		return err
	}
}

// runVDiffs runs the VDiffs that "VDiff Create" has recorded, of each workflow one at a time, until ctx
// ends. Trouble with one is logged, and it is tried again a second later.
func runVDiffs(ctx context.Context, log *slog.Logger, ts *topo.Server, m *migrate.Migrator, keyspaces []string) error {
	var busy sync.Map // names of workflows that are looked after right now
	g, ctx := errgroup.WithContext(ctx)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		names, err := workflowNames(ctx, ts, m, keyspaces)
		if err != nil && ctx.Err() == nil {
			log.Warn("workflows not listed", "error", err)
		}
		for _, name := range names {
			if _, there := busy.LoadOrStore(name, true); there {
				continue
			}
			g.Go(func() error {
				defer busy.Delete(name)
				err := vdiff.New(m.Workflow(name)).RunPending(ctx)
				if err != nil && ctx.Err() == nil && !errors.Is(err, migrate.ErrNotFound) {
					log.Warn("vdiff not run", "workflow", name, "error", err)
				}
				return nil
			})
		}
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-tick.C:
		}
	}
}

// workflowNames are the workflows of the keyspaces, or of all there are.
func workflowNames(ctx context.Context, ts *topo.Server, m *migrate.Migrator, keyspaces []string) ([]string, error) {
	if len(keyspaces) == 0 {
		var err error
		if keyspaces, err = ts.Keyspaces(ctx); err != nil {
			return nil, err
		}
	}
	var names []string
	for _, ks := range keyspaces {
		list, err := m.List(ctx, ks)
		if err != nil {
			return names, err
		}
		for _, wf := range list {
			names = append(names, ks+"."+wf)
		}
	}
	return names, nil
}
