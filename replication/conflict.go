package replication

import (
	"hash/maphash"
	"math/bits"
)

// conflictSeed is one for the process: the hashes are never stored.
var conflictSeed = maphash.MakeSeed()

// Coarse tells whether any two changes of the table conflict, because bytes don't tell whether two
// rows share a key value: a unique key is not Exact, or the table is not Ordered; or since a change may bring others with it,
// in all tables of its Family.
func (t *Table) Coarse() bool {
	if !t.Ordered || !t.Primary.Exact || t.Family != "" {
		return true
	}
	for i := range t.Unique {
		if !t.Unique[i].Exact {
			return true
		}
	}
	return false
}

// AppendConflicts appends what the row takes part in, as hashes: one for its identifying key and one for each
// other unique key, except those with a NULL column, which never conflict. For a Coarse table it is
// one hash that all its rows share, and those of its Family; the row is not looked at then. Changes must keep their
// order if a hash of one is among those of the other. Hashes are good for this process only.
func (t *Table) AppendConflicts(dst []uint64, r Row) ([]uint64, error) {
	schema := maphash.String(conflictSeed, t.Schema)
	if t.Family != "" {
		return append(dst, mix(schema, mix(maphash.String(conflictSeed, t.Family), 0))), nil
	}
	table := mix(schema, maphash.String(conflictSeed, t.Name))
	if t.Coarse() {
		return append(dst, table), nil
	}
	var buf [32][]byte
	values, err := r.Values(buf[:0], len(t.Columns))
	if err != nil {
		return dst, &RowError{Table: t.Name, Err: err}
	}
	dst = append(dst, hashKey(mix(table, 1), values, t.Primary.Columns))
	for i := range t.Unique {
		columns := t.Unique[i].Columns
		if !anyNull(values, columns) {
			dst = append(dst, hashKey(mix(table, uint64(i)+2), values, columns))
		}
	}
	return dst, nil
}

// AppendConflicts appends the hashes of both images of the change, each hash once.
func (c Change) AppendConflicts(dst []uint64) ([]uint64, error) {
	start := len(dst)
	for _, r := range [2]Row{c.Before, c.After} {
		if r == nil {
			continue
		}
		own := len(dst)
		var err error
		if dst, err = c.Table.AppendConflicts(dst, r); err != nil {
			return dst[:start], err
		}
		dst = dropRepeats(dst, start, own)
	}
	return dst, nil
}

// dropRepeats removes from h[own:] what is in h[start:own].
func dropRepeats(h []uint64, start, own int) []uint64 {
	out := h[:own]
	for _, v := range h[own:] {
		seen := false
		for _, w := range h[start:own] {
			seen = seen || v == w
		}
		if !seen {
			out = append(out, v)
		}
	}
	return out
}

// hashKey hashes every value on its own, so that ("a","bc") and ("ab","c") differ.
func hashKey(h uint64, values [][]byte, columns []int) uint64 {
	for _, c := range columns {
		if v := values[c]; v == nil {
			h = mix(h, 0)
		} else {
			h = mix(h, maphash.Bytes(conflictSeed, v))
		}
	}
	return h
}

func anyNull(values [][]byte, columns []int) bool {
	for _, c := range columns {
		if values[c] == nil {
			return true
		}
	}
	return false
}

// mix combines two hashes; the order counts.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, bits.RotateLeft64(b, 32)^0xd6e8feb86659fd93)
	return hi ^ lo ^ bits.RotateLeft64(a, 17) ^ b
}
