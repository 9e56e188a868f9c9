package target

import (
	"context"
	"time"

	"github.com/tablehaul/tablehaul/replication"
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

// Loads tells whether chunks of a table are loaded by LOAD DATA.
func Loads(t *Target, table *replication.Table) bool {
	s, err := t.loaded()
	return err == nil && !s.noInfile.Load() && !s.loaders[table].off.Load()
}
