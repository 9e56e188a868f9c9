package target

import "github.com/tablehaul/tablehaul/replication"

// ErrNoSuchTime is [replication.ErrNoSuchTime].
var ErrNoSuchTime = replication.ErrNoSuchTime
