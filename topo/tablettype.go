package topo

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// TabletType says what a tablet's MySQL server is used for.
type TabletType int32

// The tablet types of Vitess.
const (
	TabletUnknown      TabletType = 0
	TabletPrimary      TabletType = 1
	TabletReplica      TabletType = 2
	TabletRdonly       TabletType = 3
	TabletSpare        TabletType = 4
	TabletExperimental TabletType = 5
	TabletBackup       TabletType = 6
	TabletRestore      TabletType = 7
	TabletDrained      TabletType = 8
)

var tabletTypes = map[TabletType]string{
	TabletUnknown: "UNKNOWN", TabletPrimary: "PRIMARY", TabletReplica: "REPLICA", TabletRdonly: "RDONLY",
	TabletSpare: "SPARE", TabletExperimental: "EXPERIMENTAL", TabletBackup: "BACKUP", TabletRestore: "RESTORE",
	TabletDrained: "DRAINED",
}

func enumName[T integer](names map[T]string, v T) string {
	if name, ok := names[v]; ok {
		return name
	}
	return strconv.FormatInt(int64(v), 10)
}

// ParseTabletType reads a tablet type in upper or lower case; "master" and "batch" are the old names of primary and
// rdonly. Errors are [*NameError]s.
func ParseTabletType(s string) (TabletType, error) {
	switch name := strings.ToUpper(strings.TrimSpace(s)); name {
	case "MASTER":
		return TabletPrimary, nil
	case "BATCH":
		return TabletRdonly, nil
	default:
		for t, n := range tabletTypes {
			if n == name && t != TabletUnknown {
				return t, nil
			}
		}
	}
	known := slices.DeleteFunc(slices.Sorted(maps.Values(tabletTypes)), func(n string) bool { return n == "UNKNOWN" })
	return 0, &NameError{Kind: "tablet type", Name: s, Reason: "it is none of " + strings.Join(known, ", ")}
}

// Serves tells whether tablets of the type answer queries: a spare, drained or restoring one, and one that is being backed up, do
// not, and may be behind by any time.
func (t TabletType) Serves() bool {
	return t == TabletPrimary || t == TabletReplica || t == TabletRdonly || t == TabletExperimental
}

// ParseTabletTypes reads a comma separated list, best type first. Vitess writes "in_order:" before a list whose
// order counts; here it always does, and the word is accepted.
func ParseTabletTypes(s string) ([]TabletType, error) {
	s = strings.TrimPrefix(s, "in_order:")
	var out []TabletType
	for part := range strings.SplitSeq(s, ",") {
		t, err := ParseTabletType(part)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out, nil
}

// String returns Vitess's name of the type, in upper case.
func (t TabletType) String() string { return enumName(tabletTypes, t) }

// MarshalText is [TabletType.String].
func (t TabletType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText is [ParseTabletType].
func (t *TabletType) UnmarshalText(b []byte) error {
	parsed, err := ParseTabletType(string(b))
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}
