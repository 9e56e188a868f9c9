package migrate

import (
	"context"
	"iter"

	"github.com/tablehaul/tablehaul/replication"
)

// A barrier is a source whose log ends at the first schema change, for streams that end there: what comes after it has another
// shape, which would be an error before the stream has done what the change asks for.
type barrier struct{ replication.Source }

// Transactions yields nothing after a schema change and waits for ctx to end.
func (b barrier) Transactions(ctx context.Context, from replication.Position) iter.Seq2[*replication.Transaction, error] {
	return func(yield func(*replication.Transaction, error) bool) {
		for t, err := range b.Source.Transactions(ctx, from) {
			if !yield(t, err) {
				return
			}
			if err == nil && t.DDL != nil {
				<-ctx.Done()
				return
			}
		}
	}
}
