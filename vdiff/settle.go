package vdiff

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/tablehaul/tablehaul/internal/retry"
	"github.com/tablehaul/tablehaul/replication"
)

// How long keys that look different are read again.
const (
	// sameReads is the number of repeated reads after which a difference counts that nothing explains. A row that has two values
	// in turn all the time looks so in one of 4^sameReads cases.
	sameReads = 8
	// minRounds and maxRounds bound the reads of a key that changes all the time, settleTime those of a key
	// that waits for a slow transaction.
	minRounds, maxRounds = 12, 50
	settleTime           = 60 * time.Second
	// settleKeys is the number of keys from which on they are settled without waiting for more.
	settleKeys = 5000
	// settleBytes is how much of the source's rows is held while the target is waited for.
	settleBytes = 16 << 20
)

// A fingerprint stands for the rows that one end has for a key.
type fingerprint [sha256.Size]byte

func fingerprintOf(rows []held) fingerprint {
	h := sha256.New()
	var head replication.Row
	for _, r := range rows {
		head = replication.AppendLength(head[:0], len(r.row))
		h.Write(head)
		h.Write(r.row)
	}
	return fingerprint(h.Sum(nil))
}

// A suspect is a key for which the ends may hold different rows.
type suspect struct {
	key            replication.Key
	read           bool
	source, target fingerprint
	// same counts the reads in a row that brought what the one before brought.
	same int
	// since is the moment right after the first of those reads.
	since *moment
}

// verdict is what is known of a suspect.
type verdict uint8

const (
	verdictOpen verdict = iota
	verdictEqual
	verdictDifferent
)

// judge takes a pair of reads: the source's rows, read after before, then the target's, which held at that time all
// that the source had committed, read before after. It is where lag and slow commits are told from differences:
//
//   - equal rows are equal, and so are rows that the target had earlier and the source shows now
//     (a stream may deliver a transaction before the source lets readers see it)
//   - different rows are different if the source stood still from before to after
//   - or if both ends show the same rows again and again, and no transaction that was under way at the first such read
//     still is
func (s *suspect) judge(source, target fingerprint, before, after *moment) verdict {
	if source == target || s.read && source == s.target {
		return verdictEqual
	}
	if s.read && s.source == source && s.target == target {
		s.same++
	} else {
		s.same, s.since = 0, after
	}
	s.read, s.source, s.target = true, source, target
	if before.still(after) {
		return verdictDifferent
	}
	if s.same >= sameReads && !s.since.overlaps(before) {
		return verdictDifferent
	}
	return verdictOpen
}

// settle reads all suspects again until each is found equal or different.
func (l *lane) settle(ctx context.Context) error {
	keys := l.suspects
	l.suspects = nil
	// Samples come in key order as far as it is known, and in the same order each time.
	slices.SortFunc(keys, func(a, b replication.Key) int {
		if t := l.source.st.t; t.Ordered {
			return t.Compare(a, b)
		}
		return slices.Compare(a, b)
	})
	open := make([]*suspect, len(keys))
	for i, k := range keys {
		open[i] = &suspect{key: k}
	}
	// Keys that the server takes for equal lead to the same rows; those count once.
	counted := map[[2]fingerprint]bool{}
	start, quick, slow := time.Now(), retry.Backoff{Min: 20 * time.Millisecond, Max: 200 * time.Millisecond}, retry.Backoff{Max: time.Second}
	for round := 1; len(open) > 0; round++ {
		var err error
		if open, err = l.round(ctx, open, counted); err != nil || len(open) == 0 {
			return err
		}
		if round >= maxRounds || round >= minRounds && time.Since(start) > settleTime {
			break
		}
		var wait time.Duration
		switch {
		case slices.ContainsFunc(open, func(s *suspect) bool { return 0 < s.same && s.same < sameReads }):
			wait = quick.Next()
		case slices.ContainsFunc(open, func(s *suspect) bool { return s.same > 0 }):
			wait = slow.Next() // what is open waits for a transaction
		default:
			quick.Reset()
			continue
		}
		if err := retry.Wait(ctx, wait); err != nil {
			return err
		}
	}
	for _, s := range open {
		// Rows that stay the same and different are a difference, however long a transaction is under way.
		if s.same < sameReads {
			l.report.RowsUnsettled++
			continue
		}
		if err := l.conclude(ctx, s, counted); err != nil {
			return err
		}
	}
	return nil
}

// round reads the rows of all open suspects on both ends once, and returns those that stay open.
func (l *lane) round(ctx context.Context, open []*suspect, counted map[[2]fingerprint]bool) ([]*suspect, error) {
	var left []*suspect
	for len(open) > 0 {
		keys := make([]replication.Key, len(open))
		for i := range keys {
			keys[i] = open[i].key
		}
		p, err := l.pair(ctx, keys)
		if err != nil {
			return nil, err
		}
		for i := range p.source {
			s := open[i]
			fs, ft := fingerprintOf(p.source[i]), fingerprintOf(p.target[i])
			v := s.judge(fs, ft, p.before, p.after)
			if v == verdictOpen {
				left = append(left, s)
				continue
			}
			if pair := [2]fingerprint{fs, ft}; !counted[pair] || len(p.source[i])+len(p.target[i]) == 0 {
				counted[pair] = true
				if err := l.count(p.source[i], p.target[i], v); err != nil {
					return nil, err
				}
			}
		}
		open = open[len(p.source):]
	}
	return left, nil
}

// conclude reads a suspect's rows a last time and counts them as they are.
func (l *lane) conclude(ctx context.Context, s *suspect, counted map[[2]fingerprint]bool) error {
	p, err := l.pair(ctx, []replication.Key{s.key})
	if err != nil {
		return err
	}
	fs, ft := fingerprintOf(p.source[0]), fingerprintOf(p.target[0])
	v := verdictDifferent
	if fs == ft {
		v = verdictEqual
	}
	if pair := [2]fingerprint{fs, ft}; !counted[pair] {
		counted[pair] = true
		return l.count(p.source[0], p.target[0], v)
	}
	return nil
}

// A pairRead holds the rows of some keys, by key, as both ends had them.
type pairRead struct {
	source, target [][]held
	before, after  *moment
}

// pair reads the rows of the first of keys, as many as memory allows, and waits for the target once.
func (l *lane) pair(ctx context.Context, keys []replication.Key) (p pairRead, err error) {
	if p.before, err = l.source.now(ctx); err != nil {
		return p, err
	}
	for size := 0; len(p.source) < len(keys) && size < settleBytes; {
		rows, err := l.source.lookup(ctx, keys[len(p.source):])
		if err != nil {
			return p, err
		}
		p.source = append(p.source, rows...)
		for _, list := range rows {
			for _, r := range list {
				size += len(r.row)
			}
		}
	}
	if err = l.catchUp(ctx); err != nil {
		return p, err
	}
	for len(p.target) < len(p.source) {
		rows, err := l.target.lookup(ctx, keys[len(p.target):len(p.source)])
		if err != nil {
			return p, err
		}
		p.target = append(p.target, rows...)
	}
	for i := range p.source {
		sortRows(p.source[i])
		// Of equal rows, one on the wrong shard comes last: it is the one too many.
		slices.SortStableFunc(p.target[i], func(a, b held) int {
			if c := slices.Compare(a.row, b.row); c != 0 {
				return c
			}
			return compareBool(l.strayed(a), l.strayed(b))
		})
	}
	p.after, err = l.source.now(ctx)
	return p, err
}

func sortRows(rows []held) {
	slices.SortFunc(rows, func(a, b held) int { return cmp.Or(slices.Compare(a.row, b.row), a.shard-b.shard) })
}
