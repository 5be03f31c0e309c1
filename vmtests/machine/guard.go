package machine

import (
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// guard cleans up after this process, however it ends: a shell in a session of its own that waits for its standard input to close and then runs
// script. Closing it by hand and dying come to the same, so there is one way to clean up and every test takes it.
type guard struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func newGuard(script string) (*guard, error) {
	cmd := exec.Command("sh", "-c", "trap '' INT TERM HUP; read -r never; "+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe() // close-on-exec: nobody else holds it open
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the guard: %w", err)
	}
	return &guard{cmd, stdin}, nil
}

// release runs the script and waits for its end.
func (g *guard) release() {
	g.stdin.Close()
	g.cmd.Wait()
}
