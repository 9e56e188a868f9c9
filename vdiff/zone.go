package vdiff

import (
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

const datetimeLayout = "2006-01-02 15:04:05"

// The times outside of which the workflow leaves a DATETIME alone, as MySQL's CONVERT_TZ does: zero dates
// and 9999-12-31 mean no time in a zone.
var (
	firstConverted = time.Unix(1, 0)
	lastConverted  = time.Date(3001, 1, 18, 23, 59, 59, 999999999, time.UTC)
)

func hasDatetime(t *replication.Table) bool {
	for i := range t.Columns {
		if t.Columns[i].Kind == replication.KindDatetime {
			return true
		}
	}
	return false
}

func datetimeInKey(t *replication.Table) bool {
	for _, c := range t.Primary.Columns {
		if t.Columns[c].Kind == replication.KindDatetime {
			return true
		}
	}
	return false
}

// toUTC converts a DATETIME of a zone as the workflow does; other values stay as they are. A time that the
// zone's clock shows twice is the first of the two, as in package time.
func toUTC(c *replication.Column, v []byte, zone *time.Location) []byte {
	if c.Kind != replication.KindDatetime || len(v) < len(datetimeLayout) {
		return v
	}
	t, err := time.ParseInLocation(datetimeLayout, string(v[:len(datetimeLayout)]), zone)
	if err != nil || t.Before(firstConverted) || t.After(lastConverted) {
		return v
	}
	out := t.UTC().AppendFormat(make([]byte, 0, len(v)), datetimeLayout)
	return append(out, v[len(datetimeLayout):]...)
}
