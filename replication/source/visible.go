package source

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// waitSlice is how long, in seconds, the server is asked to wait at once.
const waitSlice = 1

// ErrNoLog means that the server writes no binary log, or has gtid_mode off. Set log_bin and gtid_mode=ON.
var ErrNoLog = errors.New("server has no binary log with GTIDs")

// End returns the end of the log, and after that the set of executed transactions. The order matters to
// nobody but makes the set as new as can be: a transaction is in the log first, then visible, then in the set.
func (s *Source) End(ctx context.Context) (end replication.LogPos, p replication.Position, err error) {
	err = s.with(ctx, func(c *conn) (err error) {
		end, p, err = c.end(ctx)
		return err
	})
	return end, p, err
}

func (c *conn) end(ctx context.Context) (replication.LogPos, replication.Position, error) {
	end := replication.LogPos{Server: c.server}
	row, err := c.row(ctx, c.binlogStatus, 5)
	if errors.Is(err, errNoRow) {
		return end, replication.Position{}, ErrNoLog
	}
	if err != nil {
		return end, replication.Position{}, err
	}
	if end.File, err = fileNumber(string(row[0])); err != nil {
		return end, replication.Position{}, err
	}
	if end.Offset, err = strconv.ParseUint(string(row[1]), 10, 64); err != nil {
		return end, replication.Position{}, fmt.Errorf("%s: offset: %w", c.binlogStatus, err)
	}
	if row, err = c.row(ctx, "SELECT @@global.gtid_executed, @@global.gtid_mode", 2); err != nil {
		return end, replication.Position{}, err
	}
	if string(row[1]) != "ON" {
		return end, replication.Position{}, fmt.Errorf("%w: gtid_mode is %s", ErrNoLog, row[1])
	}
	p, err := serverPosition(row[0])
	return end, p, err
}

// serverPosition parses a server's set of GTIDs, which may be empty.
func serverPosition(text []byte) (replication.Position, error) {
	return replication.ParsePosition("MySQL56/" + string(text))
}

// WaitVisible waits until the server has executed every transaction of p.
func (s *Source) WaitVisible(ctx context.Context, p replication.Position) error {
	if p.IsZero() || p.Text() == "" {
		return nil
	}
	query := fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %d)", sqltext.String(p.Text()), waitSlice)
	for done := false; !done; {
		err := s.with(ctx, func(c *conn) error {
			row, err := c.row(ctx, query, 1)
			done = err == nil && string(row[0]) == "0"
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
