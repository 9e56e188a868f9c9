package migrate

import (
	"errors"
	"fmt"
	"time"
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
