//go:build !unix

package serverbin

import (
	"context"
	"errors"
)

var errNoLocks = errors.New("no file locks on this system")

// TryLock fails: servers are started on Unix only.
func TryLock(string) (unlock func(), ok bool, err error) { return nil, false, errNoLocks }

func lockFile(context.Context, string) (func(), error) { return nil, errNoLocks }
