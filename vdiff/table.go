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

// A piece is a chunk that has been summed on the source.
type piece struct {
	span replication.Span
	sum  *sum
	at   *moment
}

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
			// The suspects of a chunk wait for one another, not one after another.
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

// compare compares a chunk whose sum on the source is known. Equal sums need no waiting, whatever the target has
// applied; only a difference may be due to what it has not.
func (d *differ) compare(ctx context.Context, p piece) error {
	target, err := d.target.sum(ctx, p.span)
	if err != nil {
		return err
	}
	if p.sum.equal(target) {
		d.report.MatchingRows += p.sum.rows
		return nil
	}
	start := time.Now()
	if err := d.waitApplied(ctx, p.at); err != nil {
		return err
	}
	if time.Since(start) > lagTime {
		if target, err = d.target.sum(ctx, p.span); err != nil {
			return err
		}
		if p.sum.equal(target) {
			d.report.MatchingRows += p.sum.rows
			return nil
		}
	}
	return d.narrow(ctx, p.span, p.sum.rows, target.rows)
}

// narrow finds the differences in a span whose sums differ, by cutting it into parts.
func (d *differ) narrow(ctx context.Context, span replication.Span, sourceRows, targetRows int64) error {
	if max(sourceRows, targetRows) <= leafRows {
		return d.leaf(ctx, span)
	}
	cutter, rows := d.source, sourceRows
	if targetRows > sourceRows {
		cutter, rows = d.target, targetRows
	}
	step := max(leafRows/2, rows/splitParts)
	for lo := span.Lo; ; {
		hi, err := cutter.bound(ctx, replication.Span{Lo: lo, Hi: span.Hi}, step)
		if err != nil {
			return err
		}
		last := hi == nil
		if last {
			hi = span.Hi
		}
		p := piece{span: replication.Span{Lo: lo, Hi: hi}}
		if p.sum, err = d.source.sum(ctx, p.span); err != nil {
			return err
		}
		if p.at, err = d.source.now(ctx); err != nil {
			return err
		}
		if err := d.compare(ctx, p); err != nil || last {
			return err
		}
		lo = hi
	}
}

// leaf compares a small span row by row.
func (d *differ) leaf(ctx context.Context, span replication.Span) error {
	source, err := d.source.hashes(ctx, span)
	if err != nil {
		return err
	}
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	target, err := d.target.hashes(ctx, span)
	if err != nil {
		return err
	}
	var suspects []replication.Key
	for key, h := range source {
		if t := target[key]; t != nil && h.equal(t) {
			d.report.MatchingRows += h.rows
		} else {
			suspects = append(suspects, replication.Key(key))
		}
		delete(target, key)
	}
	for key := range target {
		suspects = append(suspects, replication.Key(key))
	}
	// Samples come in key order as far as it is known, and in the same order each time.
	slices.SortFunc(suspects, func(a, b replication.Key) int {
		if t := d.source.st.t; t.Ordered {
			return t.Compare(a, b)
		}
		return slices.Compare(a, b)
	})
	if d.suspects = append(d.suspects, suspects...); len(d.suspects) >= settleKeys {
		return d.settle(ctx)
	}
	return nil
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
