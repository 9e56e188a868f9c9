package replicationtest

import "syscall"

// dieWithParent has the kernel kill the child with the thread that started it. The child
// leads a process group, so that an interrupt from the terminal reaches the test alone,
// which then ends its servers in order.
func dieWithParent(a *syscall.SysProcAttr) {
	a.Setpgid = true
	a.Pdeathsig = syscall.SIGKILL
}
