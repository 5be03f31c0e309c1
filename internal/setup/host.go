package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Host is the machine that is set up.
type Host struct {
	Root string // what stands before every path; "" is the machine itself
	// Exec runs a program with input, and returns what it wrote to standard output; nil: as this machine does.
	Exec func(ctx context.Context, input []byte, name string, args ...string) ([]byte, error)
	// As says as whom things of a service's are done; nil: as its user on this machine.
	As func(name string) (*syscall.Credential, error)
}

// Path is where something is on this host.
func (h Host) Path(path string) string {
	if h.Root == "" {
		return path
	}
	return filepath.Join(h.Root, path)
}

// Has reports whether there is something at a path of this host.
func (h Host) Has(path string) bool {
	_, err := os.Lstat(h.Path(path))
	return err == nil
}

// commandTime bounds one command but for those that wait by themselves.
const commandTime = 2 * time.Minute

// Run runs a program of the machine's.
func (h Host) Run(ctx context.Context, input []byte, name string, args ...string) ([]byte, error) {
	if h.Exec != nil {
		return h.Exec(ctx, input, name, args...)
	}
	return Exec(ctx, input, name, args...)
}

// systemPath is where the machine's programs are.
const systemPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// installed is where a program of the machine's is: what root runs is not for the PATH of whoever became root to say.
func installed(name string) string {
	for _, dir := range filepath.SplitList(systemPath) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && !filepath.IsAbs(name) {
			return path
		}
	}
	return name
}

// Exec runs a program with nothing of the environment, and input on its standard input. The error says what it said.
func Exec(ctx context.Context, input []byte, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, installed(name), args...)
	cmd.Env = []string{"PATH=" + systemPath, "LC_ALL=C"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &problems
	if err := cmd.Run(); err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(problems.String()), "\n")
		return out.Bytes(), fault.New(fault.Unavailable, name+" failed: "+said).WithCause(fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, problems.String()))
	}
	return out.Bytes(), nil
}

// User returns as whom things of a service's are done, nil: as this process. Errors: NotFound.
func (h Host) User(name string) (*syscall.Credential, error) {
	if h.As != nil {
		return h.As(name)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fault.New(fault.NotFound, "there is no user "+name).WithHint("systemd-sysusers makes it; the package has that done").WithCause(err)
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errUID, errGID); err != nil {
		return nil, fmt.Errorf("setup: the numbers of user %s: %w", name, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// Folder makes a folder of a user's, with those above it, that nobody else can look into when mode says so. One that is there is given mode and owner.
func (h Host) Folder(path string, mode fs.FileMode, as *syscall.Credential) error {
	path = h.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return storage(path, err)
	}
	if err := durable.Mkdir(durable.OS{}, path, mode); err != nil {
		return storage(path, err)
	}
	if as != nil {
		if err := os.Chown(path, int(as.Uid), int(as.Gid)); err != nil {
			return storage(path, err)
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		return storage(path, err)
	}
	return nil
}

// Write makes a file appear, whole or not at all, of root's.
func (h Host) Write(path string, data []byte, mode fs.FileMode) error {
	path = h.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return storage(path, err)
	}
	if err := durable.WriteFile(durable.OS{}, path, data, mode); err != nil {
		return storage(path, err)
	}
	// An operator's umask may have made it narrower than the services need.
	if err := os.Chmod(path, mode); err != nil {
		return storage(path, err)
	}
	return nil
}

// Remove removes a file that may be there.
func (h Host) Remove(path string) error {
	if err := os.Remove(h.Path(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storage(h.Path(path), err)
	}
	return nil
}

// Read reads a file of at most max bytes; fs.ErrNotExist is in the error's tree when there is none.
func (h Host) Read(path string, max int64) ([]byte, error) {
	data, err := durable.ReadFile(durable.OS{}, h.Path(path), max)
	if err != nil {
		return nil, storage(h.Path(path), err)
	}
	return data, nil
}

func storage(path string, err error) error {
	text, hint := durable.Explain(err)
	if text == "" {
		text = "there is a problem"
	}
	return fault.New(fault.Unavailable, path+": "+text).WithHint(hint).WithCause(err)
}
