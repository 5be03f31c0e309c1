package machine

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// Machine is a booted Debian.
type Machine interface {
	// Exec runs a line of shell as root and returns what it printed, both streams. Its error has the exit code: see ExitError.
	Exec(ctx context.Context, line string) (string, error)
	// Feed is Exec with standard input.
	Feed(ctx context.Context, line string, stdin io.Reader) (string, error)
	// Reboot restarts in order and waits until the boot is complete.
	Reboot(ctx context.Context) error
	// PowerCut ends the machine between two instructions; Boot starts it again on the same disk.
	PowerCut() error
	// Boot waits until systemd has started everything.
	Boot(ctx context.Context) error
	// Close removes the machine.
	Close()
}

// ExitError says that a line of shell ran and failed.
type ExitError struct {
	Line   string
	Code   int
	Output string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("exit %d of: %s\n%s", e.Code, e.Line, tail([]byte(e.Output), 4000))
}

// Put writes a file, with the folders above it.
func Put(ctx context.Context, m Machine, path string, mode uint32, content io.Reader) error {
	q := "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	_, err := m.Feed(ctx, fmt.Sprintf(`mkdir -p "$(dirname %[1]s)" && cat >%[1]s && chmod %[2]o %[1]s`, q, mode), content)
	return err
}
