package machine

import (
	"fmt"
	"io"
	"os"
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

// Scratch makes a folder for temporary files that is gone when remove is called or this process ends. Its path is short: sockets are made below it.
func Scratch() (dir string, remove func(), err error) {
	dir = fmt.Sprintf("/tmp/aesvm-%d-", os.Getpid())
	g, err := newGuard(`rm -rf --one-file-system ` + dir)
	if err != nil {
		return "", nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		g.release()
		return "", nil, err
	}
	return dir, g.release, nil
}
