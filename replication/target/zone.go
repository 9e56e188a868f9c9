package target

import (
	"errors"
	"fmt"
	"time"
)

// ErrNoSuchTime means that a DATETIME can't be converted from the source's time zone to UTC: clocks were put
// forward over it, or the result is outside of what DATETIME holds.
var ErrNoSuchTime = errors.New("no such time in the source's time zone")

const datetimeLayout = "2006-01-02 15:04:05"

// toUTC converts the text of a DATETIME in zone to UTC. NULL and dates that are none (zero dates, February
// 31) stay as they are. Of a time that occurs twice, when clocks are put back, the first is taken; so
// different times stay different, and their order is kept.
func toUTC(zone *time.Location, v []byte) ([]byte, error) {
	if len(v) < len(datetimeLayout) {
		return v, nil
	}
	text, digits := string(v[:len(datetimeLayout)]), v[len(datetimeLayout):]
	local, err := time.Parse(datetimeLayout, text)
	if err != nil || local.Year() == 0 {
		return v, nil
	}
	// The offset from UTC is one of those in effect a day before and after; the larger one comes first in time.
	var found time.Time
	for _, around := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := local.Add(around).In(zone).Zone()
		utc := local.Add(-time.Duration(offset) * time.Second)
		if utc.In(zone).Format(datetimeLayout) == text && (found.IsZero() || utc.Before(found)) {
			found = utc
		}
	}
	if found.IsZero() || found.Year() < 1 || found.Year() > 9999 {
		return nil, fmt.Errorf("%w %s: %s", ErrNoSuchTime, zone, text)
	}
	return append(found.AppendFormat(make([]byte, 0, len(v)), datetimeLayout), digits...), nil
}
