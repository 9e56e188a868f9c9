package vdiff

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/bits"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/internal/mysqlerr"
	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
)

// attempts bounds how often a statement is tried again after transient trouble.
const attempts = 8

// An end is one of the two sides of a comparison: all its shards together.
type end struct {
	name   string // "source" or "target"
	side   mysqlerr.Side
	shards []*shard
}

// A shard is one server of an end.
type shard struct {
	name   string
	db     *sql.DB
	flavor replication.Flavor
	// session sets a connection up.
	session string
}

// openEnd asks each server what it is. An end without shards is an error.
func openEnd(ctx context.Context, name string, side mysqlerr.Side, dbs map[string]*sql.DB) (*end, error) {
	e := &end{name: name, side: side}
	if len(dbs) == 0 {
		return nil, fmt.Errorf("%s: %w", name, errNoShard)
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, key := range slices.Sorted(maps.Keys(dbs)) {
		s := &shard{name: key, db: dbs[key], flavor: replication.FlavorMySQL}
		e.shards = append(e.shards, s)
		g.Go(func() error {
			if err := s.ask(gctx); err != nil {
				return fmt.Errorf("%s shard %s: %w", name, key, err)
			}
			return nil
		})
	}
	return e, g.Wait()
}

// ask finds out what kind of server it is.
func (s *shard) ask(ctx context.Context) error {
	var version string
	if err := s.db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return err
	}
	limit := "max_execution_time=0"
	if strings.Contains(strings.ToLower(version), "mariadb") {
		s.flavor, limit = replication.FlavorMariaDB, "max_statement_time=0"
	}
	s.session = "SET NAMES utf8mb4, SESSION sql_mode='', SESSION time_zone='+00:00', SESSION autocommit=1, " +
		"SESSION sql_big_selects=1, SESSION " + limit
	return nil
}

// only is the end with some of its shards, by name; nil: all.
func (e *end) only(names []string) (*end, error) {
	if names == nil {
		return e, nil
	}
	out := &end{name: e.name, side: e.side}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		i := slices.IndexFunc(e.shards, func(s *shard) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("%s shard %s: %w", e.name, name, errNoShard)
		}
		out.shards = append(out.shards, e.shards[i])
	}
	if len(out.shards) == 0 {
		return nil, fmt.Errorf("%s: %w", e.name, errNoShard)
	}
	return out, nil
}

func (e *end) names() []string {
	out := make([]string, len(e.shards))
	for i, s := range e.shards {
		out[i] = s.name
	}
	return out
}

// A resultRow is one row of a result; its values are valid until the function that got it returns.
type resultRow = []sql.RawBytes

// again calls f until it succeeds or fails for good.
func again(ctx context.Context, side mysqlerr.Side, f func() error) error {
	backoff := retry.Backoff{Max: 5 * time.Second}
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || ctx.Err() != nil || attempt == attempts || !mysqlerr.Transient(err, side) {
			return err
		}
		if err := retry.Wait(ctx, backoff.Next()); err != nil {
			return err
		}
	}
}

// query runs one statement in its own autocommit transaction. begin is called before each attempt, row for
// each row of the result; both may be called again from the start after transient trouble.
func (s *shard) query(ctx context.Context, side mysqlerr.Side, text string, begin func(), row func(resultRow) error) error {
	return again(ctx, side, func() error {
		begin()
		return s.try(ctx, text, row)
	})
}

func (s *shard) try(ctx context.Context, text string, row func(resultRow) error) (err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() {
		// Closing gives the connection back; what matters has been read by then.
		if cerr := conn.Close(); cerr != nil && !errors.Is(cerr, sql.ErrConnDone) && err == nil {
			err = cerr
		}
	}()
	if _, err := conn.ExecContext(ctx, s.session); err != nil {
		return err
	}
	rows, err := conn.QueryContext(ctx, text)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has the error
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make(resultRow, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := row(values); err != nil {
			return err
		}
	}
	return rows.Err()
}

// position is a position that covers what earlier statements have seen, and the transactions that are on
// their way to being visible: a target may have applied one before a read on the source shows it. MariaDB does not
// tell those.
func (s *shard) position(ctx context.Context, side mysqlerr.Side) (p replication.Position, owned []string, err error) {
	// In this order: a transaction goes from the first to the second, so it is in one at least.
	text, prefix := "SELECT @@global.gtid_owned, @@global.gtid_executed", "MySQL56/"
	if s.flavor == replication.FlavorMariaDB {
		text, prefix = "SELECT '', @@global.gtid_binlog_pos", "MariaDB/"
	}
	err = s.query(ctx, side, text, func() { owned = nil }, func(r resultRow) (err error) {
		owned = parseOwned(string(r[0]))
		p, err = replication.ParsePosition(prefix + string(r[1]))
		return err
	})
	return p, owned, err
}

// parseOwned splits @@gtid_owned, such as "uuid:7#12:8#13,\nuuid2:1#9", into uuid:number#thread each. A text of
// another form stays whole, which serves as well: it is only compared with a later one.
func parseOwned(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		uuid, numbers, _ := strings.Cut(strings.TrimSpace(part), ":")
		if uuid == "" {
			continue
		}
		for n := range strings.SplitSeq(numbers, ":") {
			out = append(out, uuid+":"+n)
		}
	}
	return out
}

// A sum is what a range of rows adds up to: over chunks, over shards, in any order.
type sum struct {
	rows int64
	// shards are the rows by shard, if it is of a whole end.
	shards []int64
	// hashes is the sum of the rows' hashes; negative if a row has no hash.
	hashes big.Int
}

// equal tells whether two sums show the same rows. Sums with rows that have no hash show nothing.
func (s *sum) equal(o *sum) bool {
	return s.rows == o.rows && s.hashes.Sign() >= 0 && s.hashes.Cmp(&o.hashes) == 0
}

func (s *sum) add(o *sum) {
	s.rows += o.rows
	if s.hashes.Sign() < 0 || o.hashes.Sign() < 0 {
		s.hashes.SetInt64(-1)
		return
	}
	s.hashes.Add(&s.hashes, &o.hashes)
}

// A keySum is the sum of the few rows of one key.
type keySum struct {
	low, high uint64
	rows      int32
	// unhashed is set when a row has no hash.
	unhashed bool
	// shard is the number of one row's shard, others those of the others.
	shard  int32
	others []int32
}

func (k keySum) add(o keySum) keySum {
	if k.rows == 0 {
		return o
	}
	var carry uint64
	k.low, carry = bits.Add64(k.low, o.low, 0)
	k.high += o.high + carry
	k.rows += o.rows
	k.unhashed = k.unhashed || o.unhashed
	k.others = append(append(k.others, o.shard), o.others...)
	return k
}

// equal tells whether two sums show the same rows.
func (k keySum) equal(o keySum) bool {
	return k.low == o.low && k.high == o.high && k.rows == o.rows && !k.unhashed && !o.unhashed
}
