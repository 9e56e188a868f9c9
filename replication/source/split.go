package source

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/tablehaul/tablehaul/internal/sqltext"
	"github.com/tablehaul/tablehaul/replication"
)

// minSplitRows is how many keys a part of a table must be able to hold to be worth a reader of its own.
const minSplitRows = 1000

// Split cuts a table whose identifying key is one integer column by arithmetic, between its least and
// greatest key.
func (s *Source) Split(ctx context.Context, t *replication.Table, n int) ([]replication.Key, error) {
	if n < 2 || len(t.Primary.Columns) != 1 {
		return nil, nil
	}
	c := &t.Columns[t.Primary.Columns[0]]
	if c.Kind != replication.KindInt && c.Kind != replication.KindUint {
		return nil, nil
	}
	name := sqltext.Ident(c.Name)
	query := fmt.Sprintf("SELECT MIN(%s), MAX(%s) FROM %s", name, name, sqltext.QualifiedIdent(t.Schema, t.Name))
	var row [][]byte
	err := s.with(ctx, func(c *conn) (err error) {
		row, err = c.row(ctx, query, 2)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bounds of table %s: %w", t.Name, err)
	}
	if row[0] == nil {
		return nil, nil
	}
	return splitRange(row[0], row[1], c.Kind == replication.KindUint, n)
}

// splitRange returns up to n-1 keys between low and high.
func splitRange(low, high []byte, unsigned bool, n int) ([]replication.Key, error) {
	const flip = 1 << 63 // orders signed numbers as unsigned ones
	parse := func(text []byte) (uint64, error) {
		if unsigned {
			return strconv.ParseUint(string(text), 10, 64)
		}
		v, err := strconv.ParseInt(string(text), 10, 64)
		return uint64(v) ^ flip, err
	}
	lo, err := parse(low)
	if err != nil {
		return nil, err
	}
	hi, err := parse(high)
	if err != nil {
		return nil, err
	}
	n = int(min(uint64(n), (hi-lo)/minSplitRows))
	var keys []replication.Key
	for i := 1; i < n; i++ {
		k := lo + (hi-lo)/uint64(n)*uint64(i)
		var text []byte
		if unsigned {
			text = strconv.AppendUint(nil, k, 10)
		} else {
			text = strconv.AppendInt(nil, int64(k^flip), 10)
		}
		if len(keys) == 0 || !bytes.Equal(keys[len(keys)-1], replication.PackRow(text)) {
			keys = append(keys, replication.PackRow(text))
		}
	}
	return keys, nil
}
