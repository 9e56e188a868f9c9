//go:build !linux

package replicationtest

import (
	"os"
	"syscall"
)

// dieWithParent does nothing here: a server may outlive a test process that is killed.
func dieWithParent(*syscall.SysProcAttr) {}

func signalGroup(p *os.Process, sig syscall.Signal) {
	//nolint:errcheck // the process may have ended; its end is awaited elsewhere
	p.Signal(sig)
}
