package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/clock"
)

// Machine is what is examined beside the appliance itself.
type Machine struct {
	Root   string       // before every path that is read; "" on the machine itself
	Kernel clock.Kernel // nil: the machine's own
	// Run runs a program of the system's and returns its standard output; the error of a program that ended badly is an *exec.ExitError.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
	// Dial connects; nil: the machine's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Local is this machine.
func Local() *Machine {
	return &Machine{Run: runProgram, Dial: (&net.Dialer{Timeout: dialTime}).DialContext}
}

const dialTime = 5 * time.Second

// errNoProgram says that the machine does not have a program.
var errNoProgram = errors.New("is not installed")

// systemPath is where Debian keeps the programs that are asked: the operator's own PATH does not decide what runs as root.
func systemPath() []string { return []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} }

// maxOutput bounds what is taken of a program's output, in bytes.
const maxOutput = 4 << 20

func runProgram(ctx context.Context, name string, args ...string) ([]byte, error) {
	path := ""
	for _, dir := range systemPath() {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			path = filepath.Join(dir, name)
			break
		}
	}
	if path == "" {
		return nil, fmt.Errorf("%s %w", name, errNoProgram)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C.UTF-8", "PATH=" + strings.Join(systemPath(), ":")}
	cmd.WaitDelay = time.Second
	out := &bounded{most: maxOutput}
	cmd.Stdout, cmd.Stderr = out, &bounded{most: 4 << 10}
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return out.Bytes(), err
}

// bounded keeps the beginning of what is written.
type bounded struct {
	bytes.Buffer
	most int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if room := b.most - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// path is where a file of the machine is for this process.
func (m *Machine) path(p string) string { return m.Root + p }

// read reads a small file of the machine's.
func (m *Machine) read(p string) (string, error) {
	b, err := os.ReadFile(m.path(p))
	return strings.TrimSpace(string(b)), err
}

// space is how a file system stands, in bytes and files.
type space struct {
	total, free, files, freeFiles uint64
}

func (m *Machine) space(p string) (space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(m.path(p), &st); err != nil {
		return space{}, fmt.Errorf("%s: %w", p, err)
	}
	unit := uint64(st.Bsize)
	return space{total: st.Blocks * unit, free: st.Bavail * unit, files: st.Files, freeFiles: st.Ffree}, nil
}
