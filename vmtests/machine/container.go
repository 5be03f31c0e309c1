package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Container is a machine of systemd-nspawn: its own PID 1, users, mounts, network and cgroup, on this machine's kernel and clock.
type Container struct {
	lab    *Lab
	host   string
	base   Base
	binds  []string
	dir    string // upper and work of its overlay, its console
	cgroup []string
	guard  *guard
	notify *net.UnixConn
	cmd    *exec.Cmd
	ended  chan error // takes what cmd.Wait returns
	leader int        // its PID 1, seen from here
}

var containers atomic.Int64

// NewContainer makes a machine from base, with a cable to lab: host is its name and number its address there (see Attach). Each of binds is a folder
// of the machine that runs the tests and, after a colon, where it is to be read (and not written) in the new one. Boot starts it.
func NewContainer(base Base, lab *Lab, host string, number int, binds ...string) (*Container, error) {
	if err := lab.Attach(host, number); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("aesvm-%d-%d", os.Getpid(), containers.Add(1))
	m := &Container{lab: lab, host: host, base: base, dir: filepath.Join(Cache, "run", name),
		binds: append([]string{base.Mirror + ":/srv/mirror"}, binds...)}
	for _, root := range hierarchies() {
		m.cgroup = append(m.cgroup, filepath.Join(root, name))
	}
	for _, d := range append([]string{m.dir + "/upper", m.dir + "/work", m.dir + "/root"}, m.cgroup...) {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	// Its overlay is mounted in a mount namespace that ends with its last process: there is nothing to unmount.
	m.guard, err = newGuard(`for g in ` + strings.Join(m.cgroup, " ") + `; do
  [ ! -e $g/cgroup.kill ] || echo 1 >$g/cgroup.kill
done
for g in ` + strings.Join(m.cgroup, " ") + `; do
  n=0; while [ -d $g ] && [ $n -lt 250 ]; do find $g -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02; n=$((n+1)); done
done
rm -rf --one-file-system ` + m.dir)
	return m, err
}

// hierarchies returns the roots of the cgroup hierarchies that systemd counts processes in.
func hierarchies() []string {
	var found []string
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(root + "/cgroup.procs"); err == nil {
			found = append(found, root)
		}
	}
	return found
}

// start is what becomes systemd-nspawn: in the machine's own cgroup (two machines started from one would share "payload"), with its overlay mounted.
const start = `for g in $CGROUPS; do echo $$ >$g/cgroup.procs || exit 1; done
mount -t overlay -o "lowerdir=$LOWER,upperdir=$DIR/upper,workdir=$DIR/work" overlay "$DIR/root" || exit 1
exec systemd-nspawn --directory="$DIR/root" "$@"`

// Boot starts the machine and waits until its systemd has started everything.
func (m *Container) Boot(ctx context.Context) error {
	socket := filepath.Join(m.dir, "notify")
	os.Remove(socket)
	var err error
	if m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"}); err != nil {
		return err
	}
	console, err := os.OpenFile(filepath.Join(m.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer console.Close()
	args := []string{"--mount", "--propagation=private", "sh", "-c", start, "sh",
		"--quiet", "--machine=" + filepath.Base(m.dir), "--hostname=" + m.host, "--register=no", "--keep-unit", "--link-journal=no",
		"--resolv-conf=off", "--timezone=off", "--console=pipe", "--notify-ready=yes", "--kill-signal=SIGRTMIN+3",
		"--network-namespace-path=/run/netns/" + m.lab.namespace(m.host), "--capability=CAP_NET_ADMIN",
		"--system-call-filter=bpf adjtimex"} // or IPAddressDeny= and DevicePolicy= would do nothing, and no state of the clock be read (without CAP_SYS_TIME none is set)
	for _, b := range m.binds {
		args = append(args, "--bind-ro="+b)
	}
	m.cmd = exec.Command("unshare", append(args, "--boot")...)
	m.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
		"CGROUPS="+strings.Join(m.cgroup, " "), "LOWER="+m.base.Tree, "DIR="+m.dir)
	m.cmd.Stdout, m.cmd.Stderr = console, console
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ctrl-C is for the test, whose guard then ends the machine
	if err := m.cmd.Start(); err != nil {
		return err
	}
	m.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(m.cmd, m.ended)
	if err := m.ready(ctx); err != nil {
		said, _ := os.ReadFile(filepath.Join(m.dir, "console"))
		return fmt.Errorf("%s does not boot: %w\n%s", m.host, err, tail(said, 4000))
	}
	go heed(m.notify)
	return nil
}

// heed takes what the machine's systemd goes on to say until the socket is closed: were nobody to, it would wait for ever at the next daemon-reload.
func heed(notify *net.UnixConn) {
	if notify.SetReadDeadline(time.Time{}) != nil {
		return
	}
	for buf := make([]byte, 4096); ; {
		if _, err := notify.Read(buf); err != nil {
			return
		}
	}
}

// ready waits for what nspawn passes on of the machine's systemd: READY=1, and the process that it is.
func (m *Container) ready(ctx context.Context) error {
	buf := make([]byte, 4096)
	m.leader = 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		select {
		case err := <-m.ended:
			m.ended <- err
			return fmt.Errorf("systemd-nspawn ended: %w", err)
		default:
		}
		m.notify.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := m.notify.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return err
		}
		up := false
		for line := range strings.Lines(string(buf[:n])) {
			line = strings.TrimSpace(line)
			if pid, ok := strings.CutPrefix(line, "X_NSPAWN_LEADER_PID="); ok {
				m.leader, _ = strconv.Atoi(pid)
			}
			up = up || line == "READY=1"
		}
		if up && m.leader != 0 {
			return nil
		}
	}
}

// Shell is the command that runs a line of shell in the machine.
func (m *Container) Shell(ctx context.Context, line string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(m.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--",
		"/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=cat", "SYSTEMD_COLORS=0", "container=systemd-nspawn", "TERM="+os.Getenv("TERM"), "/bin/sh", "-c", "cd; "+line)
}

// Exec is Machine's.
func (m *Container) Exec(ctx context.Context, line string) (string, error) {
	return m.Feed(ctx, line, nil)
}

// Feed is Machine's.
func (m *Container) Feed(ctx context.Context, line string, stdin io.Reader) (string, error) {
	cmd := m.Shell(ctx, line)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", line, ctx.Err(), tail(out.Bytes(), 4000))
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), &ExitError{line, exit.ExitCode(), out.String()}
	}
	return out.String(), err
}

// Reboot is Machine's. nspawn ends with 133 when the machine wants to be started again.
func (m *Container) Reboot(ctx context.Context) error {
	m.Exec(ctx, "systemctl reboot") // killed by what it does
	select {
	case <-m.ended:
	case <-ctx.Done():
		return fmt.Errorf("%s does not go down: %w", m.host, ctx.Err())
	}
	if code := m.cmd.ProcessState.ExitCode(); code != 133 {
		return fmt.Errorf("%s ended with %d where it was to reboot", m.host, code)
	}
	m.notify.Close()
	return m.Boot(ctx)
}

// PowerCut is Machine's: every process ends at once, since the first of their namespace does (pid_namespaces(7)). The disk is this machine's page cache, so what was
// written stays written, synced or not.
//
// It is not done by cgroup.kill alone: under a group that was killed so, Linux 6.18 ends whatever is cloned into a new one (CLONE_INTO_CGROUP), as systemd 257 does.
func (m *Container) PowerCut() error {
	if err := syscall.Kill(m.leader, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	select {
	case err := <-m.ended:
		m.notify.Close()
		m.ended <- err
		return nil
	case <-time.After(10 * time.Second):
	}
	for _, g := range m.cgroup {
		if err := os.WriteFile(g+"/cgroup.kill", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	<-m.ended
	m.notify.Close()
	return nil
}

// Close is Machine's.
func (m *Container) Close() {
	m.guard.release()
	if m.notify != nil {
		m.notify.Close()
	}
}
