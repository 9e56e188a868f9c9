package replication

import (
	"context"
	"time"
)

// Trace is a set of hooks into a running stream. Every field may be nil. Hooks are called from the
// stream's goroutines, one of them may be called several times at once, and a hook that blocks holds up
// what it reports.
type Trace struct {
	// WindowOpened is called when a chunk's window is open and before its rows are read.
	WindowOpened func(context.Context, ChunkInfo)
	// ChunkRead is called when a chunk's rows have been read, before the end of the log is asked for.
	ChunkRead func(context.Context, ChunkInfo)
	// ChunkRetried is called when a chunk is given up and will be read again.
	ChunkRetried func(context.Context, ChunkInfo, error)
	// ChunkCommitted is called after a chunk's commit on the target.
	ChunkCommitted func(ChunkInfo)
	// TransactionCommitted is called after the commit of a source transaction's changes on the target.
	TransactionCommitted func(TransactionInfo)
	// TableFinished is called when a table is copied and its keys are complete.
	TableFinished func(*Table)
}

// ChunkInfo describes one chunk to a hook.
type ChunkInfo struct {
	Table *Table
	Span  Span
	// Rows and Bytes are zero before the chunk is read.
	Rows, Bytes int
}

// TransactionInfo describes one applied transaction to a hook.
type TransactionInfo struct {
	Position Position
	Changes  int
	// Committed is the commit time on the source (Transaction.Committed).
	Committed time.Time
}

func (t *Trace) windowOpened(ctx context.Context, i ChunkInfo) {
	if t.WindowOpened != nil {
		t.WindowOpened(ctx, i)
	}
}

func (t *Trace) chunkRead(ctx context.Context, i ChunkInfo) {
	if t.ChunkRead != nil {
		t.ChunkRead(ctx, i)
	}
}

func (t *Trace) chunkRetried(ctx context.Context, i ChunkInfo, err error) {
	if t.ChunkRetried != nil {
		t.ChunkRetried(ctx, i, err)
	}
}

func (t *Trace) chunkCommitted(i ChunkInfo) {
	if t.ChunkCommitted != nil {
		t.ChunkCommitted(i)
	}
}

func (t *Trace) transactionCommitted(i TransactionInfo) {
	if t.TransactionCommitted != nil {
		t.TransactionCommitted(i)
	}
}

func (t *Trace) tableFinished(table *Table) {
	if t.TableFinished != nil {
		t.TableFinished(table)
	}
}
