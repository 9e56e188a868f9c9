package migrate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
)

// fenceFormer fences the stream on the server that was the target shard's primary, if it answers: whoever still writes there
// can't commit any more. The new primary is fenced by the stream's start there. What is on the new primary counts, rows and position
// alike: what the former one had committed and not passed on is read again from the source.
//
// The fence must not become a transaction of the former primary's own, which would keep it from becoming a replica of the
// new one; without the right to that it is left alone. It is fenced by super_read_only then, as after every orderly failover, or cut
// off with all that it does.
func (m *Migrator) fenceFormer(ctx context.Context, s *stream) {
	log := m.log.With("workflow", s.name().String(), "shard", s.shard, "stream", s.ID, "former", s.cfg.Addr)
	fctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	switch err := m.fenceUnlogged(fctx, s); {
	case err == nil:
		log.Info("target shard has another primary; the former one is fenced")
	case mysqlerr.Transient(err, mysqlerr.Target) || fctx.Err() != nil:
		log.Info("target shard has another primary; the former one takes no writes or does not answer", "error", err)
	default:
		log.Warn("target shard has another primary; the former one can't be fenced", "error", err)
	}
}

// fenceUnlogged raises the stream's epoch without a trace in the server's log.
func (m *Migrator) fenceUnlogged(ctx context.Context, s *stream) (err error) {
	c, err := s.admin.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() {
		// The session is no longer one for others.
		_ = c.Raw(func(any) error { return driver.ErrBadConn })
		_ = c.Close()
	}()
	if _, err := c.ExecContext(ctx, "SET SESSION sql_log_bin = 0"); err != nil {
		return fmt.Errorf("switch off the binary log of the session: %w", err)
	}
	var r sql.Result
	r, err = c.ExecContext(ctx, "UPDATE "+m.sidecar(s.targetShard).Table("vreplication_epoch")+
		" SET epoch = epoch + 1, owner = '', taken_at = UNIX_TIMESTAMP() WHERE vrepl_id = ?", s.ID)
	if err != nil {
		return err
	}
	_, err = r.RowsAffected()
	return err
}
