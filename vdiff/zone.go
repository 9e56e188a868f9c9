package vdiff

import (
	"errors"
	"fmt"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

var errNoSuchTime = errors.New("no such time in the source's time zone")

const datetimeLayout = "2006-01-02 15:04:05"

func hasDatetime(t *replication.Table) bool {
	for i := range t.Columns {
		if t.Columns[i].Kind == replication.KindDatetime {
			return true
		}
	}
	return false
}

// local reads a DATETIME as if it were UTC, without its fractional digits. What is no date (zero dates, February 31) has no time.
func local(v []byte) (t time.Time, digits []byte, ok bool) {
	if len(v) < len(datetimeLayout) {
		return t, nil, false
	}
	t, err := time.Parse(datetimeLayout, string(v[:len(datetimeLayout)]))
	return t, v[len(datetimeLayout):], err == nil && t.Year() > 0
}

// toUTC converts a DATETIME of a zone as the workflow does (target.toUTC). NULL and what is no date stays as it is. Of a time
// that occurs twice, when clocks are put back, the first is taken: so different times stay different, and their order is kept.
func toUTC(v []byte, zone *time.Location) ([]byte, error) {
	t, digits, ok := local(v)
	if !ok {
		return v, nil
	}
	utc, ok := instant(t, zone)
	if !ok || utc.Year() < 1 || utc.Year() > 9999 {
		return nil, fmt.Errorf("%w %s: %s", errNoSuchTime, zone, v)
	}
	return append(utc.AppendFormat(make([]byte, 0, len(v)), datetimeLayout), digits...), nil
}

// instant is the first time at which clocks in a zone show what t shows in UTC.
func instant(t time.Time, zone *time.Location) (found time.Time, ok bool) {
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

// fromUTC is the inverse of toUTC. When clocks are put back, the second time that they show an hour is of no value in the zone:
// gap, and the value returned is the first one beyond.
func fromUTC(v []byte, zone *time.Location) (value []byte, gap bool) {
	utc, digits, ok := local(v)
	if !ok {
		return v, false
	}
	shown := utc.In(zone)
	if shown.Year() < 1 || shown.Year() > 9999 {
		return v, false
	}
	first, ok := instant(wall(shown), zone)
	if !ok || first.Equal(utc) {
		return append(shown.AppendFormat(make([]byte, 0, len(v)), datetimeLayout), digits...), false
	}
	// Clocks have been put back at begin; what they showed then is what they show again when the hour is over.
	begin, _ := shown.ZoneBounds()
	return begin.Add(utc.Sub(first)).AppendFormat(nil, datetimeLayout), true
}

// wall is the time in UTC that shows what t shows.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}
