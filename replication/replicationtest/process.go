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

// signal signals the program; one that has ended already is what most callers want.
func (p *process) signal(sig syscall.Signal) {
	//nolint:errcheck // the only error is that it has ended, and that is awaited elsewhere
	p.cmd.Process.Signal(sig)
}

// daemon is a server program that can be started again and again in one folder.
type daemon struct {
	name  string // for errors: "mysql server"
	dir   *scratch
	argv  func() []string
	env   []string
	logs  []string // files that LogTail reads, best first
	ready func(context.Context) error

	life sync.Mutex // held by whoever starts or stops; kill9 doesn't wait for it
	mu   struct {
		sync.Mutex
		p      *process
		closed bool
	}
}

// errBind is the error of a start that lost its port to somebody else.
var errBind = errors.New("address already in use")

// present returns the latest run, nil before the first.
func (d *daemon) present() *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.p
}

func (d *daemon) running() bool {
	p := d.present()
	return p != nil && p.running()
}

// start starts the program, if it doesn't run, and waits until it is ready.
func (d *daemon) start(ctx context.Context) error {
	d.life.Lock()
	defer d.life.Unlock()
	return d.startLocked(ctx)
}

func (d *daemon) startLocked(ctx context.Context) error {
	if d.running() {
		return nil
	}
	seen := d.logSize()
	p, err := d.launch(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		last := d.ready(attempt)
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

// launch starts the program, unless the daemon has been closed.
func (d *daemon) launch(ctx context.Context) (*process, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closed {
		return nil, errors.New("closed")
	}
	p, err := startProcess(ctx, d.argv(), d.env, d.dir.path, filepath.Join(d.dir.path, "output.log"))
	if err == nil {
		d.mu.p = p
	}
	return p, err
}

func endOf(p *process) error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

func (d *daemon) restart(ctx context.Context) error {
	d.life.Lock()
	defer d.life.Unlock()
	if err := d.stopLocked(ctx); err != nil {
		return err
	}
	return d.startLocked(ctx)
}

func (d *daemon) stop(ctx context.Context) error {
	d.life.Lock()
	defer d.life.Unlock()
	return d.stopLocked(ctx)
}

func (d *daemon) stopLocked(ctx context.Context) error {
	if !d.running() {
		return nil
	}
	if err := d.present().stop(ctx); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return nil
}

// kill9 kills the program, also one that is being started or stopped.
func (d *daemon) kill9() {
	if p := d.present(); p != nil {
		p.kill()
	}
}

// signal sends sig to the running program; nothing happens when none runs.
func (d *daemon) signal(sig syscall.Signal) {
	if p := d.present(); p != nil {
		p.signal(sig)
	}
}

// pid returns the program's process id, 0 when it doesn't run.
func (d *daemon) pid() int {
	if p := d.present(); p != nil && p.running() {
		return p.cmd.Process.Pid
	}
	return 0
}

// close kills the program for good and removes its folder.
func (d *daemon) close() error {
	d.mu.Lock()
	d.mu.closed = true
	d.mu.Unlock()
	d.kill9()
	d.life.Lock() // a start that is under way sees the program's end
	defer d.life.Unlock()
	return d.dir.remove()
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
