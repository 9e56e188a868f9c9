//go:build !linux

package replicationtest

import "syscall"

// dieWithParent does nothing here: a server may outlive a test process that is killed.
func dieWithParent(*syscall.SysProcAttr) {}
