package test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
	"github.com/tablehaul/tablehaul/replication/replicationtest"
)

func sourcePosition(ctx context.Context, s *replicationtest.Server) (replication.Position, error) {
	rows, err := s.Query(ctx, "SELECT CONCAT('MySQL56/', @@GLOBAL.gtid_executed)")
	if err != nil {
		return replication.Position{}, err
	}
	return replication.ParsePosition(rows[0][0])
}

// A shardWriter changes the rows of one source shard. Shard i of n has the ids whose remainder is i, so that no two shards have a
// key, or a unique value, in common.
type shardWriter struct {
	rnd        *rand.Rand
	db         *sql.DB
	all        []*sql.DB
	i, n, rows int
}

// write starts a writer for each source shard; stop ends them all.
func (r *reshard) write(t *testing.T, seed uint64, rows int, every time.Duration) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, len(r.sources))
	all := make([]*sql.DB, len(r.sources))
	for i, s := range r.sources {
		all[i] = openPool(t, r.src[i%2], s.Database)
	}
	for i := range all {
		w := &shardWriter{rnd: rand.New(rand.NewPCG(seed, uint64(i))), db: all[i], all: all, i: i, n: len(all), rows: rows / len(all)}
		go func() { ended <- w.run(ctx, every) }()
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range all {
			if err := <-ended; err != nil {
				t.Errorf("%s: a writer: %v", r.keyspace, err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func (w *shardWriter) run(ctx context.Context, every time.Duration) error {
	for n := 0; retry.Wait(ctx, every) == nil; n++ {
		if err := w.transaction(context.WithoutCancel(ctx), n); err != nil {
			return err
		}
	}
	return nil
}

// id is a random one of the shard's, seldom one that isn't there yet.
func (w *shardWriter) id() int { return (1+w.rnd.IntN(w.rows+w.rows/20))*w.n + w.i }

// transaction commits a few changes; now and then it rolls them back.
func (w *shardWriter) transaction(ctx context.Context, n int) error {
	if w.i == 0 && w.rnd.IntN(20) == 0 {
		// All shards of the source have the same countries.
		id := w.rnd.IntN(110)
		for _, q := range []string{
			fmt.Sprintf("UPDATE countries SET name = 'changed %d' WHERE id = %d", n, id),
			fmt.Sprintf("REPLACE INTO countries VALUES (%d, 'new %d')", id, n),
			fmt.Sprintf("DELETE FROM countries WHERE id = %d", id),
		}[n%3:][:1] {
			for _, db := range w.all {
				if _, err := db.ExecContext(ctx, q); err != nil {
					return err
				}
			}
		}
	}
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for range 1 + w.rnd.IntN(4) {
		for _, q := range w.statements(n) {
			if _, err := tx.ExecContext(ctx, q); err != nil && !duplicate(err) {
				return errors.Join(fmt.Errorf("%s: %w", q, err), tx.Rollback())
			}
		}
	}
	if w.rnd.IntN(20) == 0 {
		return tx.Rollback()
	}
	return tx.Commit()
}

// statements are those of one random change. Most of them move rows to other shards.
func (w *shardWriter) statements(n int) []string {
	id, other, customer := w.id(), w.id(), w.rnd.Int64N(1<<48)-1<<47
	f := fmt.Sprintf
	one := func(format string, args ...any) []string { return []string{f(format, args...)} }
	switch w.rnd.IntN(14) {
	case 0, 1: // some rows go to another shard
		return one("UPDATE orders SET customer = %d + id, note = 'moved %d' WHERE id BETWEEN %d AND %d", customer, n, id, id+w.rnd.IntN(4*w.n))
	case 2:
		return one("UPDATE orders SET note = 'stays %d' WHERE id = %d", n, id)
	case 3:
		return one("DELETE FROM orders WHERE id = %d", id)
	case 4:
		return one("INSERT IGNORE INTO orders VALUES (%d, %d, 'new %d', NULL)", id, customer, n)
	case 5:
		return one("UPDATE IGNORE orders SET id = -id, customer = %d WHERE id = %d", customer, id)
	case 6, 7: // two rows trade their unique values, and one of them, or both, their shards
		if id == other {
			return nil
		}
		return []string{
			f("SET @a = (SELECT serial FROM orders WHERE id = %d), @b = (SELECT serial FROM orders WHERE id = %d)", id, other),
			f("UPDATE orders SET serial = NULL WHERE id IN (%d, %d)", id, other),
			f("UPDATE orders SET serial = @b, customer = customer + %d WHERE id = %d", w.rnd.IntN(2), id),
			f("UPDATE orders SET serial = @a, customer = %d WHERE id = %d", customer, other),
		}
	case 8: // a new vindex value, which is the key
		return one("UPDATE IGNORE names SET name = CONCAT('ñ', %d, '_', %d, 'x') WHERE name = CONCAT(ELT(1 + %[3]d %% 3, 'a', 'B', 'ç'), %[3]d)", n%50, w.i, id)
	case 9: // the same key to the server, other bytes, so another shard
		return one("UPDATE names SET name = IF(n %% 2, LOWER(name), UPPER(name)), n = n + 1 WHERE name = CONCAT(ELT(1 + %[1]d %% 3, 'a', 'B', 'ç'), %[1]d)", id)
	case 10:
		return []string{
			f("DELETE FROM names WHERE name = CONCAT('A', %d)", id),
			f("INSERT IGNORE INTO names VALUES (CONCAT(ELT(1 + %[1]d %% 3, 'A', 'b', 'Ç'), %[1]d), -1)", other),
		}
	case 11: // the first column of a vindex of two
		return one("UPDATE IGNORE events SET region = (region + 1) %% 7, at = NOW(6) WHERE id = %d", id)
	case 12:
		return []string{
			f("DELETE FROM events WHERE id = %d", id),
			f("INSERT IGNORE INTO events VALUES (%d, %d, NOW(6), x'00ff00')", w.rnd.IntN(256), other),
		}
	}
	if w.i > 0 {
		return nil
	}
	return []string{
		f("UPDATE settings SET v = JSON_OBJECT('n', %d) WHERE k = 'key %d'", n, w.rnd.IntN(100)),
		f("REPLACE INTO settings VALUES ('new %d', 'null')", w.rnd.IntN(10)),
	}
}
