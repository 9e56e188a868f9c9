package migrate

import (
	"errors"
	"testing"

	"github.com/tablehaul/tablehaul/replication"
)

func TestLoadZone(t *testing.T) {
	if z, err := loadZone(""); z != nil || err != nil {
		t.Errorf("no zone: %v, %v", z, err)
	}
	if z, err := loadZone("Europe/Berlin"); err != nil || z.String() != "Europe/Berlin" {
		t.Errorf("Europe/Berlin: %v, %v", z, err)
	}
	for _, bad := range []string{"Mars/Olympus", "Local", "../etc/passwd"} {
		if z, err := loadZone(bad); err == nil {
			t.Errorf("%s is zone %v", bad, z)
		}
	}
}

// A row is where its DATETIME in UTC says, though the route is asked before that is converted.
func TestRouteInUTC(t *testing.T) {
	zone, err := loadZone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	table := &replication.Table{Name: "t", Columns: []replication.Column{{Name: "id", Kind: replication.KindInt}, {Name: "at", Kind: replication.KindDatetime}}}
	byHour := replication.ByColumns([]int{1}, func(r replication.Row) (int, error) {
		values, err := r.Values(nil, 2)
		if err != nil || values[1] == nil {
			return 3, err
		}
		return int(values[1][12] - '0'), nil
	})
	plain := map[*replication.Table]replication.Route{table: byHour}
	shard := func(routes map[*replication.Table]replication.Route, at string) (int, error) {
		return routes[table].Shard(table, replication.PackRow([]byte("1"), []byte(at)), 4)
	}
	if i, err := shard(inUTC(nil, plain, 4), "2024-07-01 03:00:00"); i != 3 || err != nil {
		t.Errorf("without a zone: %d, %v", i, err)
	}
	routes := inUTC(zone, plain, 4)
	if i, err := shard(routes, "2024-07-01 03:00:00"); i != 1 || err != nil {
		t.Errorf("in summer: %d, %v", i, err)
	}
	if i, err := shard(routes, "2024-12-01 03:00:00"); i != 2 || err != nil {
		t.Errorf("in winter: %d, %v", i, err)
	}
	if i, err := routes[table].Shard(table, replication.PackRow([]byte("1"), nil), 4); i != 3 || err != nil {
		t.Errorf("NULL: %d, %v", i, err)
	}
	if _, err := shard(routes, "2024-03-31 02:30:00"); !errors.Is(err, replication.ErrNoSuchTime) {
		t.Errorf("a time that there is not: %v", err)
	}
}
