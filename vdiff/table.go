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
	wf             Workflow
	source, target *reader
	waitTimeout    time.Duration
	report         *TableReport
	display        display
	// saved is called when everything up to a key has been compared; nil means all.
	saved func(ctx context.Context, upTo replication.Key) error
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
			if err := d.compare(ctx, p); err != nil {
				return err
			}
			if err := d.settle(ctx); err != nil {
				return err
			}
			if err := d.saved(ctx, p.span.Hi); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// readSource cuts the table into chunks and sums them on the source.
func (d *differ) readSource(ctx context.Context, pieces chan<- piece) error {
	size := sizer{target: chunkTime}
	var span replication.Span
	for {
		var err error
		if span.Hi, err = d.chunkEnd(ctx, span, size.next()); err != nil {
			return err
		}
		start := time.Now()
		p := piece{span: span}
		if p.sum, err = d.source.sum(ctx, span); err != nil {
			return err
		}
		size.took(p.sum.rows, time.Since(start))
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
	key, err := d.source.bound(ctx, span, rows)
	if err != nil || key != nil {
		return key, err
	}
	return d.target.bound(ctx, span, rows)
}

// compare compares a chunk. Where sums differ it cuts the span into parts, level by level: the target is waited for once in
// each level, since it may be seconds behind.
func (d *differ) compare(ctx context.Context, p piece) error {
	for level := []piece{p}; len(level) > 0; {
		differing, err := d.differing(ctx, level)
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
			parts, err := d.split(ctx, p)
			if err != nil {
				return err
			}
			level = append(level, parts...)
		}
		if err := d.leaves(ctx, leaves); err != nil {
			return err
		}
	}
	return nil
}

// differing counts the rows of the pieces that are equal on the target, and returns the others. Equal sums need no
// waiting, whatever the target has applied; only a difference may be due to what it has not.
func (d *differ) differing(ctx context.Context, pieces []piece) ([]piece, error) {
	unequal := func(pieces []piece) (left []piece, err error) {
		for _, p := range pieces {
			if p.target, err = d.target.sum(ctx, p.span); err != nil {
				return nil, err
			}
			if p.sum.equal(p.target) {
				d.report.MatchingRows += p.sum.rows
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
	if err := d.waitApplied(ctx, left[len(left)-1].at); err != nil {
		return nil, err
	}
	if time.Since(start) <= lagTime {
		return left, nil
	}
	return unequal(left)
}

// split cuts a piece into parts by the keys of the end that holds more rows, and sums them on the source.
func (d *differ) split(ctx context.Context, p piece) ([]piece, error) {
	cutter := d.source
	if p.target.rows > p.sum.rows {
		cutter = d.target
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
		if part.sum, err = d.source.sum(ctx, span); err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if last {
			break
		}
	}
	at, err := d.source.now(ctx)
	for i := range parts {
		parts[i].at = at
	}
	return parts, err
}

// leaves compares small spans row by row, as many at once as memory allows.
func (d *differ) leaves(ctx context.Context, spans []piece) error {
	for len(spans) > 0 {
		n, err := d.leafBatch(ctx, spans)
		if err != nil {
			return err
		}
		spans = spans[n:]
	}
	return nil
}

// leafBatch compares the first of some small spans and returns how many.
func (d *differ) leafBatch(ctx context.Context, spans []piece) (n int, err error) {
	var source []map[string]keySum
	for rows, held := 0, 0; n < len(spans) && rows < leafBatchRows && held < leafBatchBytes; n++ {
		hashes, err := d.source.hashes(ctx, spans[n].span)
		if err != nil {
			return 0, err
		}
		source, rows = append(source, hashes), rows+len(hashes)
		for key := range hashes {
			held += len(key)
		}
	}
	if err := d.catchUp(ctx); err != nil {
		return 0, err
	}
	for i, p := range spans[:n] {
		target, err := d.target.hashes(ctx, p.span)
		if err != nil {
			return 0, err
		}
		for key, h := range source[i] {
			if t, ok := target[key]; ok && h.equal(t) {
				d.report.MatchingRows += int64(h.rows)
			} else {
				d.suspects = append(d.suspects, replication.Key(key))
			}
			delete(target, key)
		}
		for key := range target {
			d.suspects = append(d.suspects, replication.Key(key))
		}
		source[i] = nil
		if len(d.suspects) >= settleKeys {
			if err := d.settle(ctx); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// count adds the rows of a key to the report. Both lists are sorted.
func (d *differ) count(source, target []replication.Row, v verdict) error {
	if v == verdictEqual {
		d.report.MatchingRows += int64(len(source))
		return nil
	}
	var onlySource, onlyTarget []replication.Row
	for len(source) > 0 || len(target) > 0 {
		switch {
		case len(target) == 0 || len(source) > 0 && slices.Compare(source[0], target[0]) < 0:
			onlySource, source = append(onlySource, source[0]), source[1:]
		case len(source) == 0 || slices.Compare(source[0], target[0]) > 0:
			onlyTarget, target = append(onlyTarget, target[0]), target[1:]
		default:
			d.report.MatchingRows++
			source, target = source[1:], target[1:]
		}
	}
	for i := range max(len(onlySource), len(onlyTarget)) {
		var s, t replication.Row
		if i < len(onlySource) {
			s = onlySource[i]
		}
		if i < len(onlyTarget) {
			t = onlyTarget[i]
		}
		if err := d.report.add(&d.display, s, t); err != nil {
			return fmt.Errorf("table %s: %w", d.report.Table, err)
		}
	}
	return nil
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
