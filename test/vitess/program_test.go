package vitess

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A program is one of Vitess's servers, which runs until the test ends.
type program struct {
	name, log string
	cmd       *exec.Cmd
	killed    bool
	done      chan struct{} // closed when it has ended
}

// startProgram starts one of Vitess's servers with its output in a file, whose end a failed test prints.
func startProgram(t *testing.T, bin, name string, args ...string) *program {
	t.Helper()
	dir := t.TempDir()
	p := &program{name: name, log: filepath.Join(dir, "log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(binDir(t), bin), args...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = out, out, dir
	p.cmd.Env = append(os.Environ(), "VTDATAROOT="+dir, "VTROOT="+dir)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if uid := os.Getuid(); uid == 0 {
		// Vitess refuses to run as root. In a namespace of its own, root has another number.
		p.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		p.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 1000, HostID: uid, Size: 1}}
		p.cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getgid(), Size: 1}}
	}
	started := make(chan error, 1)
	go func() {
		// The kernel kills the child with the thread that started it, so that thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer out.Close()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.ended() && !p.killed {
			t.Errorf("%s has ended by itself: %s", name, p.complaints(10))
		}
		p.kill()
		if t.Failed() && os.Getenv(logEnv) != "" {
			t.Logf("last errors in the log of %s:\n%s", name, p.complaints(10))
		}
	})
	return p
}

// kill ends the program with SIGKILL.
func (p *program) kill() {
	p.killed = true
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// complaints are the last n errors and warnings of the program's log.
func (p *program) complaints(n int) string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, " ERR ") || strings.Contains(line, " WRN ") || strings.HasPrefix(line, "panic:") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// logEnv is the variable that, if it is set, makes failed tests print errors of Vitess's programs, and all tests the log of the library.
const logEnv = "VITESS_LOG"

// binEnv is the variable that names the folder of Vitess's programs.
const binEnv = "VITESS_BIN"

// binDir is the folder of Vitess's programs.
func binDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(binEnv)
	if dir == "" {
		t.Fatal(binEnv + " is not set: run `make vitess` in the repository's root, which builds Vitess")
	}
	return dir
}

// freePort is a port of this machine that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// await asks f until it has no error, for at most two minutes.
func await(t *testing.T, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, last)
		case <-tick.C:
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
