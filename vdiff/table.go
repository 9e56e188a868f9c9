package vdiff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tablehaul/tablehaul/replication"
)

const (
	// chunkTime is what one checksum statement should take.
	chunkTime = 500 * time.Millisecond
	// leafRows is the number of rows up to which a span is compared row by row, splitParts that of the
	// parts into which a larger one is cut when its sums differ.
	leafRows, splitParts = 2000, 16
	// leafBatchRows and leafBatchBytes are about the number of rows whose keys and hashes are held at once, and of those keys' bytes.
	leafBatchRows, leafBatchBytes = 50_000, 8 << 20
	// lagTime is the wait from which on it was worth to look again: the target was behind when it was first read.
	lagTime = 50 * time.Millisecond
)

// A differ compares one table. Its report grows as it goes.
type differ struct {
	wf     Workflow
	source *reader
	// lanes are what the source is compared with: all target shards together, or each of them if each holds the whole table.
	lanes []*lane
	// place is set if a row can be on a wrong shard.
	place       *placement
	waitTimeout time.Duration
	report      *TableReport
	display     display
	// saved is called when everything up to a key has been compared; nil means all.
	saved func(ctx context.Context, upTo replication.Key) error
}

// A lane compares a table with some target shards that hold one copy of it together.
type lane struct {
	*differ
	target *reader
	// suspects are keys that look different and have not been settled.
	suspects []replication.Key
}

// A piece is a span that has been summed on the source at a moment, and perhaps on the target.
type piece struct {
	span        replication.Span
	sum, target *sum
	at          *moment
}

// size is the number of rows of the end that holds more.
func (p *piece) size() int64 { return max(p.sum.rows, p.target.rows) }

// run compares the whole table. The source is one chunk ahead of the target.
func (d *differ) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	pieces := make(chan piece)
	g.Go(func() error {
		defer close(pieces)
		return d.readSource(ctx, pieces)
	})
	g.Go(func() error {
		for p := range pieces {
			for _, l := range d.lanes {
				if err := l.piece(ctx, p); err != nil {
					return err
				}
			}
			if err := d.saved(ctx, p.span.Hi); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// piece compares a chunk to the end.
func (l *lane) piece(ctx context.Context, p piece) error {
	if err := l.compare(ctx, p); err != nil {
		return err
	}
	if err := l.settle(ctx); err != nil {
		return err
	}
	if l.place == nil {
		return nil
	}
	return l.misplaced(ctx, p.span)
}

// readSource cuts the table into chunks and sums them on the source.
func (d *differ) readSource(ctx context.Context, pieces chan<- piece) error {
	size := sizer{target: chunkTime}
	var span replication.Span
	for {
		var err error
		rows := size.next()
		if span.Hi, err = d.chunkEnd(ctx, span, rows); err != nil {
			return err
		}
		start := time.Now()
		p := piece{span: span}
		if p.sum, err = d.source.sum(ctx, span); err != nil {
			return err
		}
		if d.source.st.cond == "" || span.Hi == nil {
			rows = p.sum.rows
		}
		size.took(rows, time.Since(start))
		if p.at, err = d.source.now(ctx); err != nil {
			return err
		}
		select {
		case pieces <- p:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if span.Hi == nil {
			return nil
		}
		span = replication.Span{Lo: span.Hi}
	}
}

// chunkEnd is the upper bound of the chunk that begins the open span. What the target holds beyond the source's last
// row is cut by the target's rows.
func (d *differ) chunkEnd(ctx context.Context, span replication.Span, rows int64) (replication.Key, error) {
	key, err := d.source.scanBound(ctx, span, rows)
	for i := 0; i < len(d.lanes) && err == nil && key == nil; i++ {
		key, err = d.lanes[i].target.bound(ctx, span, rows)
	}
	return key, err
}

// compare compares a chunk. Where sums differ it cuts the span into parts, level by level: the target is waited for once in
// each level, since it may be seconds behind.
func (l *lane) compare(ctx context.Context, p piece) error {
	for level := []piece{p}; len(level) > 0; {
		differing, err := l.differing(ctx, level)
		if err != nil {
			return err
		}
		level = nil
		var leaves []piece
		for _, p := range differing {
			if p.size() <= leafRows {
				leaves = append(leaves, p)
				continue
			}
			parts, err := l.split(ctx, p)
			if err != nil {
				return err
			}
			level = append(level, parts...)
		}
		if err := l.leaves(ctx, leaves); err != nil {
			return err
		}
	}
	return nil
}

// differing counts the rows of the pieces that are equal on the target, and returns the others. Equal sums need no
// waiting, whatever the target has applied; only a difference may be due to what it has not.
func (l *lane) differing(ctx context.Context, pieces []piece) ([]piece, error) {
	unequal := func(pieces []piece) (left []piece, err error) {
		for _, p := range pieces {
			if p.target, err = l.target.sum(ctx, p.span); err != nil {
				return nil, err
			}
			if p.sum.equal(p.target) {
				for i, rows := range p.target.shards {
					l.matched(i, rows)
				}
			} else {
				left = append(left, p)
			}
		}
		return left, nil
	}
	left, err := unequal(pieces)
	if err != nil || len(left) == 0 {
		return nil, err
	}
	start := time.Now()
	if err := l.waitApplied(ctx, left[len(left)-1].at); err != nil {
		return nil, err
	}
	if time.Since(start) <= lagTime {
		return left, nil
	}
	return unequal(left)
}

// split cuts a piece into parts by the keys of the end that holds more rows, and sums them on the source.
func (l *lane) split(ctx context.Context, p piece) ([]piece, error) {
	cutter := l.source
	if p.target.rows > p.sum.rows {
		cutter = l.target
	}
	step := max(leafRows/2, p.size()/splitParts)
	var parts []piece
	for span := p.span; ; span = (replication.Span{Lo: span.Hi, Hi: p.span.Hi}) {
		hi, err := cutter.bound(ctx, span, step)
		if err != nil {
			return nil, err
		}
		last := hi == nil
		if !last {
			span.Hi = hi
		}
		part := piece{span: span}
		if part.sum, err = l.source.sum(ctx, span); err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if last {
			break
		}
	}
	at, err := l.source.now(ctx)
	for i := range parts {
		parts[i].at = at
	}
	return parts, err
}

// leaves compares small spans row by row, as many at once as memory allows.
func (l *lane) leaves(ctx context.Context, spans []piece) error {
	for len(spans) > 0 {
		n, err := l.leafBatch(ctx, spans)
		if err != nil {
			return err
		}
		spans = spans[n:]
	}
	return nil
}

// leafBatch compares the first of some small spans and returns how many.
func (l *lane) leafBatch(ctx context.Context, spans []piece) (n int, err error) {
	var source []map[string]keySum
	for rows, held := 0, 0; n < len(spans) && rows < leafBatchRows && held < leafBatchBytes; n++ {
		hashes, err := l.source.hashes(ctx, spans[n].span)
		if err != nil {
			return 0, err
		}
		source, rows = append(source, hashes), rows+len(hashes)
		for key := range hashes {
			held += len(key)
		}
	}
	if err := l.catchUp(ctx); err != nil {
		return 0, err
	}
	for i, p := range spans[:n] {
		target, err := l.target.hashes(ctx, p.span)
		if err != nil {
			return 0, err
		}
		for key, h := range source[i] {
			if t, ok := target[key]; ok && h.equal(t) {
				l.matched(int(t.shard), 1)
				for _, i := range t.others {
					l.matched(int(i), 1)
				}
			} else {
				l.suspects = append(l.suspects, replication.Key(key))
			}
			delete(target, key)
		}
		for key := range target {
			l.suspects = append(l.suspects, replication.Key(key))
		}
		source[i] = nil
		if len(l.suspects) >= settleKeys {
			if err := l.settle(ctx); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// matched counts rows of a target shard that are as they should be.
func (l *lane) matched(shard int, rows int64) {
	if rows > 0 {
		l.report.on(l.target.shards[shard].name).MatchingRows += rows
		l.report.MatchingRows += rows
	}
}

// count adds the rows of a key to the report. Both lists are sorted.
func (l *lane) count(source, target []held, v verdict) error {
	var onlySource, onlyTarget []held
	for len(source) > 0 || len(target) > 0 {
		switch {
		case len(target) == 0 || len(source) > 0 && slices.Compare(source[0].row, target[0].row) < 0:
			onlySource, source = append(onlySource, source[0]), source[1:]
		case len(source) == 0 || slices.Compare(source[0].row, target[0].row) > 0:
			onlyTarget, target = append(onlyTarget, target[0]), target[1:]
		default:
			l.matched(target[0].shard, 1)
			source, target = source[1:], target[1:]
		}
	}
	if v == verdictEqual {
		// What the source has now is what the target had before, wherever that was.
		for i := range onlySource {
			f, err := l.find(onlySource, nil, i)
			if err != nil {
				return err
			}
			l.report.on(f.shard).MatchingRows++
			l.report.MatchingRows++
		}
		return nil
	}
	// A row that is on a wrong shard as well is the one too many.
	slices.SortStableFunc(onlyTarget, func(a, b held) int { return compareBool(l.strayed(a), l.strayed(b)) })
	for i := range max(len(onlySource), len(onlyTarget)) {
		f, err := l.find(onlySource, onlyTarget, i)
		if err != nil {
			return err
		}
		if err := l.report.add(&l.display, f); err != nil {
			return fmt.Errorf("table %s: %w", l.report.Table, err)
		}
	}
	return nil
}

// find is the i-th pair of rows that differ; one of them may be missing.
func (l *lane) find(source, target []held, i int) (f find, err error) {
	if i < len(source) {
		f.source, f.from = source[i].row, l.source.shards[source[i].shard].name
	}
	switch {
	case i < len(target):
		f.target, f.shard = target[i].row, l.target.shards[target[i].shard].name
	case l.place != nil:
		f.shard, err = l.place.of(f.source)
	default:
		f.shard = l.target.shards[0].name
	}
	return f, err
}

// strayed tells whether a row of the target is on a wrong shard.
func (l *lane) strayed(r held) bool {
	if l.place == nil {
		return false
	}
	home, err := l.place.of(r.row)
	return err == nil && home != l.target.shards[r.shard].name
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// catchUp waits until the target has applied all that reads on the source have seen so far.
func (d *differ) catchUp(ctx context.Context) error {
	m, err := d.source.now(ctx)
	if err != nil {
		return err
	}
	return d.waitApplied(ctx, m)
}

// waitApplied waits until the target has applied what was visible on the source at m.
func (d *differ) waitApplied(ctx context.Context, m *moment) error {
	tctx, cancel := context.WithTimeoutCause(ctx, d.waitTimeout, errWaitTimeout)
	defer cancel()
	g, tctx := errgroup.WithContext(tctx)
	for name, p := range m.positions {
		g.Go(func() error {
			err := d.wf.WaitApplied(tctx, name, p)
			if err == nil || ctx.Err() != nil {
				return err
			}
			if errors.Is(context.Cause(tctx), errWaitTimeout) {
				return &BehindError{Workflow: d.wf.Name(), Shard: name, Position: p, Timeout: d.waitTimeout}
			}
			return streamError(d.wf.Name(), name, err)
		})
	}
	return g.Wait()
}
