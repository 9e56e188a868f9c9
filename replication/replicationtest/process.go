package replicationtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one run of a server program. It is killed when this process ends.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended
	err  error         // how; valid after done
}

// startProcess starts argv with its output appended to the file logPath.
func startProcess(ctx context.Context, argv, env []string, dir, logPath string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("server output: %w", err)
	}
	defer log.Close()
	// The program outlives ctx: ctx bounds the start, Stop and Kill9 end the run.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(cmd.SysProcAttr)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel kills the child when the *thread* that started it ends, so this
		// goroutine keeps its thread until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start server: %w", err)
	}
	return p, nil
}

// running tells whether the program has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the program with SIGKILL and waits for its end.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop asks the program to end, and kills it when ctx ends first.
func (p *process) stop(ctx context.Context) error {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("server killed, it did not stop: %w", context.Cause(ctx))
	}
}

// signal reaches the whole process group. Signalling a process that has ended is no error.
func (p *process) signal(sig syscall.Signal) {
	if p.running() {
		signalGroup(p.cmd.Process, sig)
	}
}

// daemon is a server program that can be started again and again in one folder.
type daemon struct {
	name  string // for errors: "mysql server"
	dir   *scratch
	argv  func() []string
	env   []string
	logs  []string // files that LogTail reads, best first
	ready func(context.Context) error

	mu struct {
		sync.Mutex
		p      *process
		closed bool
	}
}

// errBind is the error of a start that lost its port to somebody else.
var errBind = errors.New("address already in use")

// start starts the program, which must not run, and waits until it is ready.
func (d *daemon) start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.startLocked(ctx)
}

func (d *daemon) startLocked(ctx context.Context) error {
	if d.mu.closed {
		return fmt.Errorf("%s: closed", d.name)
	}
	if d.mu.p != nil && d.mu.p.running() {
		return nil
	}
	seen := d.logSize()
	p, err := startProcess(ctx, d.argv(), d.env, d.dir.path, filepath.Join(d.dir.path, "output.log"))
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	d.mu.p = p
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		last = d.ready(attempt)
		cancel()
		if last == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			if d.logContains(seen, "ddress already in use") {
				return fmt.Errorf("%s: %w", d.name, errBind)
			}
			return fmt.Errorf("%s ended while starting: %w\n%s", d.name, endOf(p), d.logTail(20))
		case <-ctx.Done():
			p.kill()
			return fmt.Errorf("%s did not become ready: %w (last: %w)\n%s", d.name, context.Cause(ctx), last, d.logTail(20))
		}
	}
}

func endOf(p *process) error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

func (d *daemon) restart(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.p != nil && d.mu.p.running() {
		if err := d.mu.p.stop(ctx); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return d.startLocked(ctx)
}

func (d *daemon) stop(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.p == nil {
		return nil
	}
	if err := d.mu.p.stop(ctx); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return nil
}

func (d *daemon) kill9() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.p != nil {
		d.mu.p.kill()
	}
}

// signal sends sig to the running program; nothing happens when none runs.
func (d *daemon) signal(sig syscall.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.p != nil {
		d.mu.p.signal(sig)
	}
}

func (d *daemon) running() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.p != nil && d.mu.p.running()
}

// close kills the program and removes its folder.
func (d *daemon) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.closed = true
	if d.mu.p != nil {
		d.mu.p.kill()
	}
	return d.dir.remove()
}

func (d *daemon) pid() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.p == nil || !d.mu.p.running() {
		return 0
	}
	return d.mu.p.cmd.Process.Pid
}

// logTail returns the last n lines of the first log that has any.
func (d *daemon) logTail(n int) string {
	for _, f := range d.logs {
		text, err := os.ReadFile(f)
		if err != nil || len(text) == 0 {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return strings.Join(lines[max(0, len(lines)-n):], "\n")
	}
	return ""
}

func (d *daemon) logSize() []int64 {
	sizes := make([]int64, len(d.logs))
	for i, f := range d.logs {
		if st, err := os.Stat(f); err == nil {
			sizes[i] = st.Size()
		}
	}
	return sizes
}

// logContains looks for text in what was logged after from was taken.
func (d *daemon) logContains(from []int64, text string) bool {
	for i, f := range d.logs {
		b, err := os.ReadFile(f)
		if err == nil && int64(len(b)) > from[i] && strings.Contains(string(b[from[i]:]), text) {
			return true
		}
	}
	return false
}
