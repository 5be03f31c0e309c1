package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// process is one of the appliance's services as a child of the demo's. It ends with the demo, however that ends.
type process struct {
	name, log string
	cmd       *exec.Cmd
	ended     chan struct{}
	err       error // of its end; read it once ended is closed
}

// startProcess starts "appliance NAME" of this very program; what it says goes to the file log.
func startProcess(name, config, log string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "cannot write "+log+reason(err)).WithCause(err)
	}
	defer out.Close()
	cmd := exec.Command(program, name, "--config", config)
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = out, out
	// Ctrl-C is for this process to deal with; and when it is killed, its services are, too: they are made to survive that.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{name: name, log: log, cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel means this thread when it says parent: it waits here for as long as the child lives
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fault.New(fault.Unavailable, "cannot start the "+name+reason(err)).WithCause(err)
	}
	return p, nil
}

// stopWait is how long a service has to finish what is in flight.
const stopWait = 30 * time.Second

// stop tells the service to end, and sees that it does.
func (p *process) stop() error {
	select {
	case <-p.ended:
		return p.failure()
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(stopWait):
		err := p.cmd.Process.Kill()
		<-p.ended
		return fault.New(fault.Internal, fmt.Sprintf("the %s did not end within %v and was killed", p.name, stopWait)).WithHint("what it said is in " + p.log).WithCause(err)
	}
	if p.err != nil {
		return p.failure()
	}
	return nil
}

// failure is the error of a service that ended of its own accord, in its own words.
func (p *process) failure() error {
	f := fault.New(fault.Unavailable, "the "+p.name+" ended").WithCause(p.err).WithHint("what it said is in " + p.log)
	text, err := os.ReadFile(p.log)
	if err != nil {
		return f.WithCause(errors.Join(p.err, err))
	}
	for line := range strings.Lines(string(text)) {
		if said, ok := strings.CutPrefix(line, "error: "); ok {
			f.Public = "the " + p.name + " ended: " + strings.TrimSpace(said)
		}
		if said, ok := strings.CutPrefix(line, "hint: "); ok {
			f = f.WithHint(strings.TrimSpace(said))
		}
	}
	return f
}

// await asks again and again whether the service is ready, until it is.
func (p *process) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return p.failure()
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fault.New(fault.Unavailable, "the "+p.name+" is not ready after a minute").WithCause(err).WithHint("what it said is in " + filepath.Clean(p.log))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
