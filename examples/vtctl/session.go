package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/tablehaul/tablehaul/migrate"
	"github.com/tablehaul/tablehaul/mount"
	"github.com/tablehaul/tablehaul/topo"
)

// A session is what one command works with: the topology, opened when first asked for, and where to
// print.
type session struct {
	globals
	openers  topo.Openers
	out, err io.Writer

	server   *topo.Server
	migrator *migrate.Migrator
}

// topology opens the topology server that the global flags name.
func (s *session) topology(ctx context.Context) (*topo.Server, error) {
	if s.server != nil {
		return s.server, nil
	}
	if s.topoAddress == "" || s.topoRoot == "" {
		return nil, &usageError{"-topo_global_server_address and -topo_global_root are needed, before the command or in the environment"}
	}
	ts, err := topo.Open(ctx, s.openers, topo.Address{Type: s.topoImplementation, Server: s.topoAddress, Root: s.topoRoot})
	s.server = ts
	return ts, err
}

// migrate opens the way into package migrate; a command does it once.
func (s *session) migrate(ctx context.Context, opts migrate.Options) (*migrate.Migrator, error) {
	ts, err := s.topology(ctx)
	if err != nil {
		return nil, err
	}
	creds, err := s.credentials()
	if err != nil {
		return nil, err
	}
	s.migrator, err = migrate.New(ts, creds, opts)
	return s.migrator, err
}

// workflow is the workflow named "keyspace.workflow".
func (s *session) workflow(ctx context.Context, name string) (*migrate.Workflow, error) {
	m, err := s.migrate(ctx, migrate.Options{})
	if err != nil {
		return nil, err
	}
	return m.Workflow(name), nil
}

// credentials answers with one account for the target's servers and one for those of mounted clusters.
func (s *session) credentials() (mount.Credentials, error) {
	target, err := s.target.login("db_password_file")
	if err != nil {
		return nil, err
	}
	source, err := s.source.login("source_db_password_file")
	if err != nil {
		return nil, err
	}
	return func(_ context.Context, server mount.Server) (mount.Login, error) {
		if server.Cluster == "" {
			return target, nil
		}
		return source, nil
	}, nil
}

// login reads the account's password from its file.
func (a account) login(flagName string) (mount.Login, error) {
	l := mount.Login{User: a.user}
	if a.passwordFile == "" {
		return l, nil
	}
	data, err := os.ReadFile(a.passwordFile)
	if err != nil {
		return l, fmt.Errorf("-%s: %w", flagName, err)
	}
	l.Password = string(bytes.TrimRight(data, "\r\n"))
	return l, nil
}

// log writes to stderr; a machine gets JSON lines.
func (s *session) log() *slog.Logger {
	if s.json {
		return slog.New(slog.NewJSONHandler(s.err, nil))
	}
	return slog.New(slog.NewTextHandler(s.err, nil))
}

// close closes what the command has opened.
func (s *session) close() error {
	var errs []error
	if s.migrator != nil {
		errs = append(errs, s.migrator.Close())
	}
	if s.server != nil {
		errs = append(errs, s.server.Close())
	}
	return errors.Join(errs...)
}

// print writes text for people or value as JSON for machines.
func (s *session) print(value any, text func(w io.Writer)) error {
	if s.json {
		return printJSON(s.out, value)
	}
	var b bytes.Buffer
	text(&b)
	_, err := b.WriteTo(s.out)
	return err
}

// say is print for commands whose result is one sentence.
func (s *session) say(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return s.print(map[string]string{"message": text}, func(w io.Writer) { fmt.Fprintln(w, text) })
}

// orDash is s, or a dash where there is nothing.
func orDash(s string) string { return cmp.Or(s, "-") }
