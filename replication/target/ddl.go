package target

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/sidecar"
	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// A DDLError means that the target refused a schema change of the source. Do on the target what it
// should do and let the stream go on after it, or choose that such errors are ignored.
type DDLError struct {
	// Statement is the text as it was executed on the target.
	Statement string
	Err       error
}

// Error shows the statement and the server's error.
func (e *DDLError) Error() string {
	return fmt.Sprintf("schema change %q: %v", clip(e.Statement), e.Err)
}

// Unwrap returns the server's error.
func (e *DDLError) Unwrap() error { return e.Err }

// ddlMarker is recorded before a schema change, which can't be part of a transaction. After a crash it tells
// whether the change was made.
type ddlMarker struct {
	// Position is what the change leads to, so that it names the change.
	Position string `json:"position"`
	// Before is a hash of the tables' definitions. No keys are due then, and none are being added: only the change itself can make it
	// another one.
	Before string `json:"before"`
}

// repeatable are the statements that can be executed again after they were executed, or a part of them: MariaDB drops several tables one
// by one, and replaces one in two steps.
var repeatable = regexp.MustCompile(`(?i)^\s*(DROP\s+TABLE|CREATE\s+OR\s+REPLACE\s+TABLE)\b`)

// ExecuteDDL executes a schema change in the target's database, and records its position after it.
func (s *store) ExecuteDDL(ctx context.Context, e *replication.Entry) error {
	c, err := s.dialAlter(ctx, e.DDL.Tables...)
	if err == nil {
		err = s.executeDDL(ctx, c, e)
		c.close()
	}
	if err == nil {
		err = s.recordDDL(ctx, s.next(e))
	}
	return s.classify(ctx, err)
}

// executeDDL does what is left to do of a schema change, on a connection that has the tables' locks: the same statement of who had the stream
// before goes on no longer, and is not begun any more.
func (s *store) executeDDL(ctx context.Context, c *conn, e *replication.Entry) error {
	if err := s.owned(ctx); err != nil {
		return err
	}
	mark := s.mark()
	var marker ddlMarker
	if mark.DDL != "" {
		if err := json.Unmarshal([]byte(mark.DDL), &marker); err != nil {
			return fmt.Errorf("stream %d: stored schema change: %w", s.id, err)
		}
	}
	replay := marker.Position == e.Position.String()
	if !replay {
		// The change may drop or rename such a key, or its columns.
		all, err := s.side.WorkflowActions(ctx, s.id, "")
		if err != nil {
			return err
		}
		due := slices.DeleteFunc(all, func(a sidecar.Action) bool {
			return !slices.ContainsFunc(e.DDL.Tables, func(t string) bool { return strings.EqualFold(t, a.Table) })
		})
		if err := s.addDueKeys(ctx, c, due); err != nil {
			return err
		}
	}
	now, err := s.definitions(ctx, e.DDL.Tables)
	if err != nil {
		return err
	}
	changed := replay && marker.Before != now
	if changed && !repeatable.MatchString(e.DDL.Statement) {
		return nil
	}
	if !replay {
		text, err := json.Marshal(ddlMarker{Position: e.Position.String(), Before: now})
		if err != nil {
			return err
		}
		mark = sidecar.Mark{Seq: mark.Seq + 1, Position: mark.Position, Transaction: mark.Transaction, DDL: string(text)}
		if err := s.recordDDL(ctx, mark); err != nil {
			return err
		}
	}
	return s.runDDL(ctx, c, e.DDL, changed)
}

// recordDDL writes a mark on a connection that is set up for it.
func (s *store) recordDDL(ctx context.Context, m sidecar.Mark) error {
	c, err := s.get(ctx)
	if err != nil {
		return err
	}
	defer s.put(c)
	return s.record(ctx, c, m)
}

// owned fails if somebody else has taken the stream over.
func (s *store) owned(ctx context.Context) error {
	_, epoch, _, err := s.side.Owner(ctx, s.id)
	if err == nil && epoch != s.epoch {
		err = fmt.Errorf("stream %d: %w", s.id, replication.ErrFenced)
	}
	return err
}

// runDDL runs the statement, which may leave the connection in any state. changed says that it has been executed before, or a part of it.
func (s *store) runDDL(ctx context.Context, c *conn, d *replication.DDL, changed bool) error {
	if _, err := c.run(ctx, "SET SESSION sql_mode="+sqltext.String(sqlMode(d.SQLMode))); err != nil {
		return err
	}
	statement := d.Statement
	for _, schema := range s.t.sourceSchemas() {
		statement = requalify(statement, schema, s.t.cfg.Server.Database, d.SQLMode&ansiQuotes != 0)
	}
	_, err := s.runLong(ctx, c, statement)
	_, answered := mysqlerr.Code(err)
	switch {
	case err == nil:
		s.t.opts.Logger.Info("schema changed", "statement", clip(statement))
		return nil
	case changed && mysqlerr.AlreadyDone(err):
		return nil
	case ctx.Err() != nil || !answered || mysqlerr.Transient(err, mysqlerr.Target):
		return err
	case s.t.opts.IgnoreDDLErrors:
		s.t.opts.Logger.Warn("schema change ignored", "statement", clip(statement), "error", err)
		return nil
	}
	return &DDLError{Statement: statement, Err: err}
}

// sourceSchemas are the databases that the stream's tables are in on the source; usually it is one.
func (t *Target) sourceSchemas() []string {
	var names []string
	for _, table := range t.cfg.Tables {
		if !slices.Contains(names, table.Schema) {
			names = append(names, table.Schema)
		}
	}
	return names
}

var autoIncrement = regexp.MustCompile(` AUTO_INCREMENT=[0-9]+`)

// definitions hashes what the server says about tables now; a missing one counts as such.
func (s *store) definitions(ctx context.Context, tables []string) (string, error) {
	h := sha256.New()
	for _, t := range tables {
		var name, text string
		err := s.t.db.QueryRowContext(ctx, "SHOW CREATE TABLE "+s.qualified(t)).Scan(&name, &text)
		if err != nil && !mysqlerr.NotFound(err) {
			return "", fmt.Errorf("definition of table %s: %w", t, err)
		}
		fmt.Fprintf(h, "%d %d %s", len(t), len(text), autoIncrement.ReplaceAllString(text, ""))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// The bits of sql_mode that change how a statement is read.
const (
	pipesAsConcat      = 1 << 1
	ansiQuotes         = 1 << 2
	ignoreSpace        = 1 << 3
	realAsFloat        = 1 << 0
	noBackslashEscapes = 1 << 20
)

// sqlMode names the modes by which a statement is to be read, and lets invalid default dates pass.
func sqlMode(bits uint64) string {
	modes := []string{"ALLOW_INVALID_DATES"}
	for _, m := range []struct {
		bit  uint64
		name string
	}{
		{pipesAsConcat, "PIPES_AS_CONCAT"},
		{ansiQuotes, "ANSI_QUOTES"},
		{ignoreSpace, "IGNORE_SPACE"},
		{realAsFloat, "REAL_AS_FLOAT"},
		{noBackslashEscapes, "NO_BACKSLASH_ESCAPES"},
	} {
		if bits&m.bit != 0 {
			modes = append(modes, m.name)
		}
	}
	return strings.Join(modes, ",")
}
