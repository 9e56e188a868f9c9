package migrate

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tablehaul/tablehaul/replication"
)

// errLocalZone refuses a name that would mean another zone on every machine.
var errLocalZone = errors.New(`"Local" depends on the machine`)

// loadZone finds a time zone by its IANA name; nil for an empty one.
func loadZone(name string) (*time.Location, error) {
	switch name {
	case "":
		return nil, nil
	case "Local":
		return nil, fmt.Errorf("time zone %q: %w", name, errLocalZone)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("time zone %q: %w", name, err)
	}
	return zone, nil
}

// inUTC makes routes for rows whose DATETIME values are yet to be converted from a zone (nil: they are not): a row is where a client
// finds it, by what the target will hold. n is the number of shards.
func inUTC(zone *time.Location, routes map[*replication.Table]replication.Route, n int) map[*replication.Table]replication.Route {
	if zone == nil {
		return routes
	}
	out := make(map[*replication.Table]replication.Route, len(routes))
	for t, r := range routes {
		out[t] = r
		columns := slices.DeleteFunc(r.Columns(), func(c int) bool { return t.Columns[c].Kind != replication.KindDatetime })
		if len(columns) == 0 {
			continue
		}
		out[t] = replication.ByColumns(r.Columns(), func(row replication.Row) (int, error) {
			values, err := row.Values(nil, len(t.Columns))
			if err != nil {
				return 0, err
			}
			for _, c := range columns {
				if values[c], err = replication.ToUTC(zone, values[c]); err != nil {
					return 0, fmt.Errorf("column %s: %w", t.Columns[c].Name, err)
				}
			}
			return r.Shard(t, replication.PackRow(values...), n)
		})
	}
	return out
}
