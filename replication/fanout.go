package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// shardsAtOnce is how many shards a Fanout loads, finishes or reports to at the same time.
const shardsAtOnce = 16

// A Shard is one of a Fanout's targets.
type Shard struct {
	// Name is for errors, such as "-80".
	Name   string
	Target Target
}

// A ShardError says from which shard of a Fanout an error comes. It is transient if Err is.
type ShardError struct {
	Shard string
	Err   error
}

// Error names the shard.
func (e *ShardError) Error() string { return fmt.Sprintf("shard %s: %v", e.Shard, e.Err) }

// Unwrap returns the shard's error.
func (e *ShardError) Unwrap() error { return e.Err }

// FanoutOptions of a Fanout. The zero value is right for most.
type FanoutOptions struct {
	// MemoryBytes bounds the entries that are held for all shards together; default 64 MiB. Each shard's Target has its own
	// bound too.
	MemoryBytes int
}

func (o FanoutOptions) withDefaults() FanoutOptions {
	o.MemoryBytes = cmp.Or(o.MemoryBytes, 64<<20)
	return o
}

// A Fanout is the Target of a stream whose rows go to several shards: of each entry of the log a shard executes what
// is routed to it. The source is read once, however many shards there are.
//
//	                    ┌─► Target -80   rows of its key range; position, copied spans
//	one log ─► Fanout ──┤
//	                    └─► Target 80-   rows of its key range; position, copied spans
//
// Each shard keeps its own position and copied spans, in its own database, so after a crash shards differ. A stream then
// reads the log from the earliest position, and each shard is given what it has not applied, of the spans
// that it has. Once the log has been read to where all shards are level, the spans that some shard lacks are copied to those
// that lack them. So after every commit each shard holds what is routed to it of the source's state at its own position.
//
// A shard that an entry does not concern is not bothered with its position: that is recorded with the next entry for it,
// before a chunk, or when progress is reported. When a shard is slow the others go on until the memory is used up.
type Fanout struct {
	shards  []*fanShard
	routes  map[*Table]Route
	opts    FanoutOptions
	flights *flights

	// mu is held while entries are given to the shards.
	mu struct {
		sync.Mutex
		// at is how far the log has been appended, ahead how many shards are ahead of it.
		at        Position
		ahead     int
		committed time.Time
		// broken is the error after which the shards may not have got all that comes before at: no more is appended until Load.
		broken error
	}
}

var _ Target = (*Fanout)(nil)

// NewFanout makes the target of a stream of the tables in routes; it does no I/O. The shards must not be used otherwise while the
// stream runs. Tables whose rows are changed by foreign keys of which the log does not tell what they do (Table.Family) can't go to
// several shards: a *CascadeError.
func NewFanout(shards []Shard, routes map[*Table]Route, opts FanoutOptions) (*Fanout, error) {
	f := &Fanout{routes: maps.Clone(routes), opts: opts.withDefaults()}
	f.flights = newFlights(f.opts.MemoryBytes)
	var errs []error
	if len(shards) == 0 {
		errs = append(errs, errors.New("there are no shards"))
	}
	for _, t := range f.tables() {
		if r := f.routes[t]; r.shard < 0 || r.shard >= len(shards) {
			errs = append(errs, fmt.Errorf("table %s is routed to shard %d of %d", t.Name, r.shard, len(shards)))
		}
	}
	for _, s := range shards {
		f.shards = append(f.shards, &fanShard{Shard: s})
	}
	if err := errors.Join(append(errs, f.checkFamilies())...); err != nil {
		return nil, err
	}
	return f, nil
}

// checkFamilies refuses families on several shards: what a foreign key does there depends on rows of others. Even on one shard of
// several a family is refused: when that shard is ahead of the log, the changes that are read again come after its chunks.
func (f *Fanout) checkFamilies() error {
	if len(f.shards) < 2 {
		return nil
	}
	var errs []error
	for _, t := range f.tables() {
		for _, fk := range t.ForeignKeys {
			if t.Family != "" && (fk.OnDelete != ActionNone || fk.OnUpdate != ActionNone) {
				errs = append(errs, &CascadeError{
					Table: t.Name, ForeignKey: fk.Name,
					What: "the log does not tell which rows it changes, and the target has several shards",
				})
			}
		}
	}
	return errors.Join(errs...)
}

// tables are those that have routes, by name.
func (f *Fanout) tables() []*Table {
	return slices.SortedFunc(maps.Keys(f.routes), func(a, b *Table) int { return cmp.Compare(a.Name, b.Name) })
}

// holders are the shards that hold rows of a table.
func (f *Fanout) holders(t *Table) []*fanShard {
	r, known := f.routes[t]
	switch {
	case !known:
		return nil
	case r.every || r.of != nil:
		return f.shards
	}
	return f.shards[r.shard : r.shard+1]
}

// onShards calls do for some shards, several at once.
func onShards(ctx context.Context, shards []*fanShard, do func(context.Context, *fanShard) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(shardsAtOnce)
	for _, s := range shards {
		g.Go(func() error { return s.wrap(ctx, do(gctx, s)) })
	}
	return g.Wait()
}

// Run executes what is appended, on all shards at once. The first error of one ends all of them: a *ShardError.
func (f *Fanout) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range f.shards {
		g.Go(func() error { return s.wrap(ctx, s.Target.Run(gctx)) })
	}
	return g.Wait()
}

// FinishTable finishes a table on the shards that hold it.
func (f *Fanout) FinishTable(ctx context.Context, t *Table) error {
	return onShards(ctx, f.holders(t), func(ctx context.Context, s *fanShard) error { return s.Target.FinishTable(ctx, t) })
}

// Report saves progress on every shard, with the shard's own position and rows. Shards that have nothing to do are
// given the position that they have not recorded yet.
func (f *Fanout) Report(ctx context.Context, p Progress) error {
	// While entries are being appended, maybe to a shard that takes its time, the next report will do.
	if f.mu.TryLock() {
		err := f.recordIdle(ctx)
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return onShards(ctx, f.shards, func(ctx context.Context, s *fanShard) error { return s.Target.Report(ctx, f.progress(s, p)) })
}

// progress is a shard's share of a stream's.
func (f *Fanout) progress(s *fanShard, p Progress) Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Position = s.mu.applied
	tables := make(map[string]TableProgress, len(p.Tables))
	for t := range f.routes {
		if whole, told := p.Tables[t.Name]; told && slices.Contains(f.holders(t), s) {
			tables[t.Name] = TableProgress{Rows: s.mu.rows[t.Name], Bytes: s.mu.bytes[t.Name], Done: whole.Done}
		}
	}
	p.Tables = tables
	return p
}
