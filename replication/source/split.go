package source

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

const (
	// minSplitRows is how many keys a part of a table must be able to hold to be worth a reader of its own.
	minSplitRows = 1000
	// splitRounds bounds how often gaps are looked for, each time in the widest range that is left.
	splitRounds = 8
)

// Split cuts a table whose identifying key is one integer column by arithmetic, leaving out wide gaps between keys:
// a table of ids 1 to 1,000,000 and 300,000,000,000 is cut at 250,000, 500,000 and 750,000. That takes a few look-ups in the index.
func (s *Source) Split(ctx context.Context, t *replication.Table, n int) ([]replication.Key, error) {
	if n < 2 || len(t.Primary.Columns) != 1 {
		return nil, nil
	}
	c := &t.Columns[t.Primary.Columns[0]]
	if c.Kind != replication.KindInt && c.Kind != replication.KindUint {
		return nil, nil
	}
	b := bounds{source: s, unsigned: c.Kind == replication.KindUint, name: sqltext.Ident(c.Name)}
	b.query = fmt.Sprintf("SELECT MIN(%s), MAX(%s) FROM %s", b.name, b.name, sqltext.QualifiedIdent(t.Schema, t.Name))
	all, ok, err := b.read(ctx, b.query)
	if err != nil || !ok {
		return nil, err
	}
	ranges, err := dense(all, n, func(r keyRange) (keyRange, bool, error) {
		return b.read(ctx, fmt.Sprintf("%s WHERE %s BETWEEN %s AND %s", b.query, b.name, b.text(r.lo), b.text(r.hi)))
	})
	if err != nil {
		return nil, err
	}
	var keys []replication.Key
	for _, k := range cut(ranges, n) {
		keys = append(keys, replication.PackRow([]byte(b.text(k))))
	}
	return keys, nil
}

// bounds asks for the least and the greatest key of a table.
type bounds struct {
	source      *Source
	unsigned    bool
	name, query string
}

// flip orders signed numbers as unsigned ones.
const flip = 1 << 63

func (b *bounds) text(k uint64) string {
	if b.unsigned {
		return strconv.FormatUint(k, 10)
	}
	return strconv.FormatInt(int64(k^flip), 10)
}

func (b *bounds) parse(text []byte) (uint64, error) {
	if b.unsigned {
		return strconv.ParseUint(string(text), 10, 64)
	}
	v, err := strconv.ParseInt(string(text), 10, 64)
	return uint64(v) ^ flip, err
}

// read returns what a query says; false if there are no keys.
func (b *bounds) read(ctx context.Context, query string) (r keyRange, ok bool, err error) {
	var row [][]byte
	err = b.source.with(ctx, func(c *conn) (err error) {
		row, err = c.row(ctx, query, 2)
		return err
	})
	if err == nil && row[0] != nil {
		ok = true
		if r.lo, err = b.parse(row[0]); err == nil {
			r.hi, err = b.parse(row[1])
		}
	}
	if err != nil {
		return r, false, fmt.Errorf("%s: %w", query, err)
	}
	return r, ok, nil
}

// A keyRange is the numbers from lo to hi, both included.
type keyRange struct{ lo, hi uint64 }

func (r keyRange) width() uint64 { return r.hi - r.lo }

// dense returns ranges between the ends of all that hold all keys and no very wide gap. hull tells the least and the greatest key
// in a range.
func dense(all keyRange, n int, hull func(keyRange) (keyRange, bool, error)) ([]keyRange, error) {
	ranges := []keyRange{all}
	for range splitRounds {
		widest := 0
		for i, r := range ranges {
			if r.width() > ranges[widest].width() {
				widest = i
			}
		}
		r := ranges[widest]
		step := r.width() / uint64(n)
		if step < minSplitRows {
			break
		}
		var parts []keyRange
		left := uint64(0)
		for i := range uint64(n) {
			part := keyRange{r.lo + i*step, r.lo + (i+1)*step - 1}
			if i == uint64(n)-1 {
				part.hi = r.hi
			}
			part, ok, err := hull(part)
			if err != nil {
				return nil, err
			}
			if ok {
				parts, left = append(parts, part), left+part.width()
			}
		}
		ranges = slices.Replace(ranges, widest, widest+1, parts...)
		if left > r.width()/2 || len(ranges) == 0 {
			break
		}
	}
	return ranges, nil
}

// cut returns up to n-1 keys that cut the ranges, as if there were nothing between them, into parts of the same width.
func cut(ranges []keyRange, n int) []uint64 {
	total := uint64(0)
	for _, r := range ranges {
		total += r.width()
	}
	n = int(min(uint64(n), total/minSplitRows))
	var keys []uint64
	passed := uint64(0)
	for _, r := range ranges {
		for len(keys) < n-1 {
			at := total / uint64(n) * uint64(len(keys)+1)
			if at-passed > r.width() {
				break
			}
			keys = append(keys, r.lo+at-passed)
		}
		passed += r.width()
	}
	return keys
}
