package target

import (
	"context"
	"time"
)

// What the tests look at from outside of the package.
var (
	Requalify       = requalify
	SQLMode         = sqlMode
	AlterStatements = alterStatements
)

func ToUTC(zone *time.Location, v []byte) ([]byte, error) { return toUTC(zone, v) }

// Definitions is the hash of tables' definitions that a schema change's mark holds.
func Definitions(ctx context.Context, t *Target, tables []string) (string, error) {
	s, err := t.loaded()
	if err != nil {
		return "", err
	}
	return s.definitions(ctx, tables)
}
