package mysqlconn

import (
	"context"
	"net"
)

// Guard is what connections are wrapped in.
func Guard(ctx context.Context, nc net.Conn, cfg Config) net.Conn { return newGuard(ctx, nc, cfg) }
