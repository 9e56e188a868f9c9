//go:build !unix

package serverbin

import (
	"context"
	"errors"
)

func lockFile(context.Context, string) (func(), error) {
	return nil, errors.New("no file locks on this system")
}
