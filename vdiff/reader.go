package vdiff

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/replication"
)

// Bounds of one lookup statement.
const (
	lookupKeys  = 50
	lookupBytes = 8 << 20
)

// A reader reads one table from all shards of an end.
type reader struct {
	*end
	st *statements
	// zone is set when DATETIME values have to be converted to UTC before they compare; hashes are then
	// computed here instead of on the server.
	zone *time.Location
	// batch is the number of keys in the next lookup; it follows the size of the rows.
	batch int
}

func newReader(e *end, st *statements) *reader {
	r := &reader{end: e, st: st, batch: 1}
	if hasDatetime(st.t) {
		r.zone = st.zone
	}
	return r
}

func hasDatetime(t *replication.Table) bool {
	return slices.ContainsFunc(t.Columns, func(c replication.Column) bool { return c.Kind == replication.KindDatetime })
}

// on is a reader of one shard.
func (r *reader) on(shard int) *reader {
	return &reader{end: &end{name: r.name, side: r.side, shards: r.shards[shard : shard+1]}, st: r.st, zone: r.zone, batch: 1}
}

// each runs a statement on every shard at once. row is never called by two shards at the same time; begin
// and row get the shard's number.
func (r *reader) each(ctx context.Context, text string, begin func(shard int), row func(shard int, v resultRow) error) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range r.shards {
		g.Go(func() error {
			err := s.query(ctx, r.side, text, func() {
				mu.Lock()
				defer mu.Unlock()
				begin(i)
			}, func(v resultRow) error {
				mu.Lock()
				defer mu.Unlock()
				return row(i, v)
			})
			if err != nil {
				return fmt.Errorf("table %s: %s shard %s: %w", r.st.t.Name, r.name, s.name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// sum adds up the rows of a span.
func (r *reader) sum(ctx context.Context, span replication.Span) (*sum, error) {
	if r.zone != nil {
		return r.sumHere(ctx, span)
	}
	text, err := r.st.sum(span)
	if err != nil {
		return nil, err
	}
	parts := make([]sum, len(r.shards))
	err = r.each(ctx, text, func(int) {}, func(i int, v resultRow) error {
		n, err := strconv.ParseInt(string(v[0]), 10, 64)
		if err != nil {
			return fmt.Errorf("row count: %w", err)
		}
		parts[i].rows = n
		if _, ok := parts[i].hashes.SetString(string(v[1]), 10); !ok {
			return fmt.Errorf("checksum %.40q is no number", v[1])
		}
		return nil
	})
	return total(parts), err
}

// sumHere is sum with the hashes computed in this process.
func (r *reader) sumHere(ctx context.Context, span replication.Span) (*sum, error) {
	text, err := r.st.rows(span)
	if err != nil {
		return nil, err
	}
	parts := make([]sum, len(r.shards))
	err = r.each(ctx, text, func(i int) { parts[i] = sum{} }, func(i int, v resultRow) error {
		_, h, err := r.hashHere(v)
		if err != nil {
			return err
		}
		one := sum{rows: 1}
		one.hashes.SetUint64(h)
		parts[i].add(&one)
		return nil
	})
	return total(parts), err
}

// total adds up the sums of shards.
func total(parts []sum) *sum {
	out := new(sum)
	for i := range parts {
		out.add(&parts[i])
		out.shards = append(out.shards, parts[i].rows)
	}
	return out
}

// hashHere hashes one row as the server does, after conversion.
func (r *reader) hashHere(v resultRow) (replication.Row, uint64, error) {
	row, err := r.row(v)
	if err != nil {
		return nil, 0, err
	}
	values, err := row.Values(nil, len(r.st.t.Columns))
	if err != nil {
		return nil, 0, err
	}
	frame, err := appendFrame(nil, r.st.t, values)
	if err != nil {
		return nil, 0, err
	}
	digest := sha256.Sum256(frame)
	return row, binary.BigEndian.Uint64(digest[:8]), nil
}

// row packs the values of a result in canonical form.
func (r *reader) row(v resultRow) (replication.Row, error) {
	n := 0
	for _, b := range v {
		n += len(b) + 9
	}
	row := make(replication.Row, 0, n)
	for i, b := range v {
		c := &r.st.t.Columns[i]
		value, err := canonical(c, b)
		if err != nil {
			return nil, err
		}
		if r.zone != nil && c.Kind == replication.KindDatetime {
			// A time that there is not stays as it is, to be seen in the report.
			if utc, err := replication.ToUTC(r.zone, value); err == nil {
				value = utc
			} else if slices.Contains(r.st.t.Primary.Columns, i) {
				return nil, fmt.Errorf("column %s: %w", c.Name, err)
			}
		}
		row = replication.AppendValue(row, value)
	}
	return row, nil
}

// key packs key values of a result in canonical form.
func (r *reader) key(v resultRow) (replication.Key, error) {
	var key replication.Key
	for i, c := range r.st.t.Primary.Columns {
		value, err := canonical(&r.st.t.Columns[c], v[i])
		if err == nil && r.zone != nil && r.st.t.Columns[c].Kind == replication.KindDatetime {
			value, err = replication.ToUTC(r.zone, value)
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", r.st.t.Columns[c].Name, err)
		}
		key = replication.AppendValue(key, value)
	}
	return key, nil
}

// hashes are the sums of the rows of a span, by key. A key has several rows when it is on several shards.
func (r *reader) hashes(ctx context.Context, span replication.Span) (map[string]keySum, error) {
	text, err := r.st.hashes(span)
	if r.zone != nil {
		text, err = r.st.rows(span)
	}
	if err != nil {
		return nil, err
	}
	parts := make([]map[string]keySum, len(r.shards))
	err = r.each(ctx, text, func(i int) { parts[i] = map[string]keySum{} }, func(i int, v resultRow) error {
		key, h, err := r.keyHash(v)
		if err != nil {
			return err
		}
		h.shard = int32(i)
		parts[i][string(key)] = parts[i][string(key)].add(h)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := parts[0]
	for _, p := range parts[1:] {
		for key, h := range p {
			out[key] = out[key].add(h)
		}
	}
	return out, nil
}

func (r *reader) keyHash(v resultRow) (replication.Key, keySum, error) {
	if r.zone != nil {
		row, h, err := r.hashHere(v)
		if err != nil {
			return nil, keySum{}, err
		}
		key, err := r.st.t.Key(row)
		return key, keySum{rows: 1, low: h}, err
	}
	key, err := r.key(v)
	if err != nil {
		return nil, keySum{}, err
	}
	text := v[len(r.st.t.Primary.Columns)]
	if text == nil {
		return key, keySum{rows: 1, unhashed: true}, nil
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return nil, keySum{}, fmt.Errorf("row hash: %w", err)
	}
	return key, keySum{rows: 1, low: n}, nil
}

// bound is a key at most about n rows into a span, nil if there are not that many.
func (r *reader) bound(ctx context.Context, span replication.Span, n int64) (replication.Key, error) {
	return r.cut(ctx, span, n, r.st.bound)
}

// scanBound is bound for all rows that the server has to look at.
func (r *reader) scanBound(ctx context.Context, span replication.Span, n int64) (replication.Key, error) {
	return r.cut(ctx, span, n, r.st.scanBound)
}

// cut finds a key by a statement.
func (r *reader) cut(ctx context.Context, span replication.Span, n int64, statement func(replication.Span, int64) (string, error)) (replication.Key, error) {
	n = max(1, n/int64(len(r.shards)))
	if !r.st.t.Ordered {
		return r.cutByServer(ctx, span, n, statement)
	}
	text, err := statement(span, n)
	if err != nil {
		return nil, err
	}
	keys := make([]replication.Key, len(r.shards))
	err = r.each(ctx, text, func(i int) { keys[i] = nil }, func(i int, v resultRow) (err error) {
		keys[i], err = r.key(v)
		return err
	})
	if err != nil {
		return nil, err
	}
	// Any of the keys would do; the smallest keeps the span small.
	var out replication.Key
	for _, k := range keys {
		if k != nil && (out == nil || r.st.t.Compare(k, out) < 0) {
			out = k
		}
	}
	return out, nil
}

// cutByServer is cut for keys that only servers can order: each shard is asked for a key before the one found so far.
func (r *reader) cutByServer(ctx context.Context, span replication.Span, n int64, statement func(replication.Span, int64) (string, error)) (out replication.Key, err error) {
	for i := range r.shards {
		text, err := statement(span, n)
		if err != nil {
			return nil, err
		}
		one := r.on(i)
		var key replication.Key
		err = one.each(ctx, text, func(int) { key = nil }, func(_ int, v resultRow) (err error) {
			key, err = one.key(v)
			return err
		})
		if err != nil {
			return nil, err
		}
		if key != nil {
			out, span.Hi = key, key
		}
	}
	return out, nil
}

// A held row is one that a shard holds.
type held struct {
	// shard is the number of the shard in its reader.
	shard int
	row   replication.Row
}

// lookup reads the rows of the first keys, as many keys as are sensible at once, from every shard: one list per
// key. What the server takes for equal to a key is found, though its bytes may differ.
func (r *reader) lookup(ctx context.Context, keys []replication.Key) ([][]held, error) {
	keys = keys[:min(len(keys), r.batch)]
	text, err := r.st.lookup(keys)
	if err != nil {
		return nil, err
	}
	parts := make([][][]held, len(r.shards))
	largest := 0
	err = r.each(ctx, text, func(i int) { parts[i] = make([][]held, len(keys)) }, func(i int, v resultRow) error {
		n, err := strconv.Atoi(string(v[0]))
		if err != nil || n < 0 || n >= len(keys) {
			return fmt.Errorf("key number %.20q in a result of %d keys", []byte(v[0]), len(keys))
		}
		row, err := r.row(v[1:])
		if err != nil {
			return err
		}
		largest = max(largest, len(row))
		parts[i][n] = append(parts[i][n], held{i, row})
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.batch = min(lookupKeys, 2*r.batch, max(1, lookupBytes/max(1, largest)))
	out := parts[0]
	for _, p := range parts[1:] {
		for i := range p {
			out[i] = append(out[i], p[i]...)
		}
	}
	return out, nil
}
