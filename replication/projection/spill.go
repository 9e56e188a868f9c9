package projection

import (
	"context"
	"errors"

	"github.com/tablehaul/tablehaul/replication"
)

// batchBytes is how much of a spilled transaction is filtered at once, if its memory allows.
const batchBytes = 1 << 20

// spilled puts what is taken of a transaction's spill into t: in memory if there is room, else in another spill.
func (s *Source) spilled(ctx context.Context, t *replication.Transaction) error {
	k := &sink{source: s}
	from := t.Spill
	t.Spill, t.Changes = nil, nil
	var batch []replication.Change
	size := 0
	flush := func() error {
		taken, err := s.changes(ctx, batch)
		if err == nil {
			err = k.put(taken)
		}
		batch, size = batch[:0], 0
		return err
	}
	err := from.Each(func(c replication.Change) error {
		batch, size = append(batch, c), size+c.Bytes()
		if size < min(batchBytes, s.opts.TransactionBytes) {
			return nil
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil && k.spill != nil {
		err = k.spill.Flush()
	}
	if err != nil {
		if k.spill != nil {
			err = errors.Join(err, k.spill.Close())
		}
		return err
	}
	t.Changes, t.Spill = k.changes, k.spill
	return nil
}

// A sink takes changes, into memory first.
type sink struct {
	source  *Source
	changes []replication.Change
	bytes   int
	spill   *replication.Spill
}

func (k *sink) put(changes []replication.Change) error {
	if k.spill == nil {
		for _, c := range changes {
			k.bytes += c.Bytes() + 96
		}
		k.changes = append(k.changes, changes...)
		if k.bytes <= k.source.opts.TransactionBytes {
			return nil
		}
		var err error
		if k.spill, err = replication.NewSpill(k.source.opts.SpillDir); err != nil {
			return err
		}
		changes, k.changes = k.changes, nil
	}
	for _, c := range changes {
		if err := k.spill.Append(c); err != nil {
			return err
		}
	}
	return nil
}
