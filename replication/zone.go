package replication

import (
	"errors"
	"fmt"
	"time"
)

// ErrNoSuchTime means that a DATETIME can't be converted from the source's time zone to UTC: clocks were put
// forward over it, or the result is outside of what DATETIME holds.
var ErrNoSuchTime = errors.New("no such time in the source's time zone")

const datetimeLayout = "2006-01-02 15:04:05"

// ToUTC converts the text of a DATETIME in zone to UTC. NULL and dates that are none (zero dates, February
// 31) stay as they are. Of a time that occurs twice, when clocks are put back, the first is taken; so
// different times stay different, and their order is kept. What can't be converted is an [ErrNoSuchTime].
func ToUTC(zone *time.Location, v []byte) ([]byte, error) {
	shown, digits, ok := parseDatetime(v)
	if !ok {
		return v, nil
	}
	utc, ok := firstShown(zone, shown)
	if !ok || utc.Year() < 1 || utc.Year() > 9999 {
		return nil, fmt.Errorf("%w %s: %s", ErrNoSuchTime, zone, v[:len(datetimeLayout)])
	}
	return append(utc.AppendFormat(make([]byte, 0, len(v)), datetimeLayout), digits...), nil
}

// FromUTC is the inverse of ToUTC. When clocks are put back, the second time that they show an hour is what no DATETIME in the zone
// stands for: gap, and the value returned is the first one that stands for a later time.
func FromUTC(zone *time.Location, v []byte) (value []byte, gap bool) {
	utc, digits, ok := parseDatetime(v)
	if !ok {
		return v, false
	}
	shown := utc.In(zone)
	if shown.Year() < 1 || shown.Year() > 9999 {
		return v, false
	}
	clock := time.Date(shown.Year(), shown.Month(), shown.Day(), shown.Hour(), shown.Minute(), shown.Second(), 0, time.UTC)
	first, ok := firstShown(zone, clock)
	if !ok || first.Equal(utc) {
		return append(shown.AppendFormat(make([]byte, 0, len(v)), datetimeLayout), digits...), false
	}
	// Clocks have been put back at begin; what they showed then is what they show again when the hour is over.
	begin, _ := shown.ZoneBounds()
	return begin.Add(utc.Sub(first)).AppendFormat(nil, datetimeLayout), true
}

// parseDatetime reads a DATETIME as if it were UTC, without its fractional digits; false for what is no date.
func parseDatetime(v []byte) (t time.Time, digits []byte, ok bool) {
	if len(v) < len(datetimeLayout) {
		return t, nil, false
	}
	t, err := time.Parse(datetimeLayout, string(v[:len(datetimeLayout)]))
	return t, v[len(datetimeLayout):], err == nil && t.Year() > 0
}

// firstShown is the first time at which clocks in a zone show what t shows in UTC; false if they never do.
func firstShown(zone *time.Location, t time.Time) (found time.Time, ok bool) {
	want := t.Format(datetimeLayout)
	// The offset from UTC is one of those in effect a day before and after; the larger one comes first in time.
	for _, around := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := t.Add(around).In(zone).Zone()
		utc := t.Add(-time.Duration(offset) * time.Second)
		if utc.In(zone).Format(datetimeLayout) == want && (!ok || utc.Before(found)) {
			found, ok = utc, true
		}
	}
	return found, ok
}
