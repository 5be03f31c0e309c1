// probe tries, from inside a unit, what the unit must not be able to do, and prints what came of each attempt: "ok" or the error, as JSON.
//
// It is put in the place of the program that the unit runs, under the unit's own directives. Its arguments are the folder that the unit may write to, and an address
// that answers if it can be reached.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getuid() == 0 {
		fmt.Fprintln(os.Stderr, "probe: as root all of this would be let through, and do harm")
		os.Exit(1)
	}
	state, address := os.Args[1], os.Args[2]
	r := map[string]string{}
	identity(r)
	files(r, state)
	network(r, address)
	calls(r)
	programs(r, state)
	json.NewEncoder(os.Stdout).Encode(r)
}

// said is "ok" or the bare error.
func said(err error) string {
	switch e := err.(type) {
	case nil:
		return "ok"
	case syscall.Errno:
		if e == 0 {
			return "ok"
		}
	case *os.PathError:
		return e.Err.Error()
	case *os.SyscallError:
		return e.Err.Error()
	case *net.OpError:
		return said(e.Err)
	}
	return err.Error()
}

// identity tells who the unit is to the kernel.
func identity(r map[string]string) {
	r["uid"] = fmt.Sprint(os.Getuid())
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp":
			r[key] = strings.TrimSpace(value)
		}
	}
	label, _ := os.ReadFile("/proc/self/attr/current")
	r["apparmor"] = strings.TrimSpace(string(label))
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	r["core"] = fmt.Sprint(limit.Cur)
	processes := 0
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if n := e.Name(); n[0] >= '1' && n[0] <= '9' {
			processes++
		}
	}
	r["processes"] = fmt.Sprint(processes)
}

// files tells what can be written and read.
func files(r map[string]string, state string) {
	for _, dir := range []string{state, "/", "/etc", "/etc/aes-appliance", "/usr/bin", "/var/lib", "/run", "/tmp", "/dev/shm", "/sys/fs/cgroup", "/proc/sys/kernel"} {
		path := filepath.Join(dir, "probe")
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			f.Close()
			os.Remove(path)
		}
		name := "write " + dir
		if dir == state {
			name = "write state"
		}
		r[name] = said(err)
	}
	for _, path := range []string{"/etc/shadow", "/etc/ssh/ssh_host_ed25519_key", "/etc/credstore.encrypted", "/root", "/home", "/bin/sh", "/usr/bin/cat", "/var/log", "/boot",
		"/dev/kmsg", "/dev/mem", "/dev/vda", "/proc/kmsg", "/proc/kcore", "/proc/1/environ", "/sys/kernel/security", "/var/lib/aes-appliance/signer", "/var/lib/aes-appliance/portal",
		"/var/lib/aes-appliance/receiver", "/run/aes-appliance/admin/signer.sock", "/run/aes-appliance/portal/signer.sock", "/run/systemd/private", "/run/dbus/system_bus_socket"} {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err == nil {
			if names, _ := f.Readdirnames(-1); len(names) == 0 {
				if info, _ := f.Stat(); info.IsDir() {
					err = fmt.Errorf("empty folder")
				}
			}
			f.Close()
		}
		r["read "+path] = said(err)
	}
	entries, _ := os.ReadDir("/dev")
	var devices []string
	for _, e := range entries {
		devices = append(devices, e.Name())
	}
	r["devices"] = strings.Join(devices, " ")
	r["write sysctl"] = said(os.WriteFile("/proc/sys/net/ipv4/ip_default_ttl", []byte("64"), 0))
}

// network tells what can be reached.
func network(r map[string]string, address string) {
	for name, family := range map[string]int{"inet": unix.AF_INET, "inet6": unix.AF_INET6, "unix": unix.AF_UNIX, "netlink": unix.AF_NETLINK, "packet": unix.AF_PACKET, "vsock": unix.AF_VSOCK} {
		kind := unix.SOCK_STREAM
		if family == unix.AF_NETLINK || family == unix.AF_PACKET {
			kind = unix.SOCK_RAW
		}
		fd, err := unix.Socket(family, kind, 0)
		if err == nil {
			unix.Close(fd)
		}
		r["socket "+name] = said(err)
	}
	c, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err == nil {
		c.Close()
	}
	r["connect"] = said(err)
	l, err := net.Listen("tcp", ":8765")
	if err == nil {
		l.Close()
	}
	r["listen tcp"] = said(err)
	u, err := net.Listen("unix", "@aes-probe")
	if err == nil {
		u.Close()
	}
	r["listen unix"] = said(err)
	links, err := os.ReadDir("/sys/class/net")
	var interfaces []string
	for _, l := range links {
		interfaces = append(interfaces, l.Name())
	}
	r["interfaces"] = strings.Join(interfaces, " ")
	_ = err
}

// calls tells which system calls are let through. Each is made so that it does no harm where it is.
func calls(r map[string]string) {
	runtime.LockOSThread()
	r["mount"] = said(unix.Mount("none", "/tmp", "tmpfs", 0, ""))
	r["chroot"] = said(unix.Chroot("/"))
	for name, flag := range map[string]int{"user": unix.CLONE_NEWUSER, "net": unix.CLONE_NEWNET, "mount": unix.CLONE_NEWNS} {
		r["unshare "+name] = said(unix.Unshare(flag))
	}
	_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	r["mmap writable and executable"] = said(err)
	raw := func(name string, number uintptr, args ...uintptr) {
		var a [6]uintptr
		copy(a[:], args)
		_, _, e := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		r[name] = said(e)
	}
	raw("keyctl", unix.SYS_KEYCTL, 0, ^uintptr(2), 0)
	raw("personality", unix.SYS_PERSONALITY, 0x0040000)
	raw("ptrace", unix.SYS_PTRACE, unix.PTRACE_PEEKUSR, 1, 0, 0) // ESRCH if it is let through
	raw("bpf", unix.SYS_BPF, 0, 0, 0)
	raw("perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, ^uintptr(0), ^uintptr(0), 0)
	raw("init_module", unix.SYS_INIT_MODULE, 0, 0, 0)
	raw("kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0, 0)
	raw("reboot", unix.SYS_REBOOT, 0, 0, 0) // a wrong magic number: EINVAL if it is let through
	raw("swapoff", unix.SYS_SWAPOFF, 0)
	raw("process_vm_readv", unix.SYS_PROCESS_VM_READV, 1, 0, 0, 0, 0, 0)
	raw("io_uring_setup", unix.SYS_IO_URING_SETUP, 0, 0)
	raw("userfaultfd", unix.SYS_USERFAULTFD, 0xffff)
	now := unix.NsecToTimespec(time.Now().UnixNano())
	raw("clock_settime", unix.SYS_CLOCK_SETTIME, 999, uintptr(unsafe.Pointer(&now))) // no such clock: EINVAL if it is let through
	var tx unix.Timex
	_, err = unix.Adjtimex(&tx)
	r["adjtimex, reading"] = said(err)
	tx = unix.Timex{Modes: unix.ADJ_MAXERROR, Maxerror: 16_000_000}
	_, err = unix.Adjtimex(&tx)
	r["adjtimex, setting"] = said(err)
	param := struct{ priority int32 }{1}
	raw("realtime", unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&param)))
	r["sethostname"] = said(unix.Sethostname([]byte("probe")))
	raw("setuid", unix.SYS_SETUID, 0)
	_, _, e := unix.Syscall(unix.SYS_SYSLOG, 3, 0, 0)
	r["syslog"] = said(e)
}

// programs tells what can be executed, and made so that others would execute it with more rights.
func programs(r map[string]string, state string) {
	for _, path := range []string{"/bin/sh", "/usr/bin/cat"} {
		r["run "+path] = said(exec.Command(path, "/dev/null").Run())
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		self, err = os.ReadFile("/usr/bin/appliance")
	}
	path := filepath.Join(state, "probe-copy")
	if err == nil {
		err = os.WriteFile(path, self, 0o700)
	}
	if err == nil {
		err = exec.Command(path, "--version").Run()
	}
	r["run what it wrote"] = said(err)
	r["set-user-ID"] = said(unix.Chmod(path, 0o4755))
	os.Remove(path)
}
