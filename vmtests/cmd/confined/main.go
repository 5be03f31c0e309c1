// confined tries, in the place of the appliance and so within a unit's sandbox, what the unit promises that the service cannot do. It writes one line for each
// attempt to standard output: its name, and "done" or why not. "confined connect PATH" connects to a socket, and says the same of that.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "again" {
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "connect" {
		fmt.Println(outcome(connect(os.Args[2])))
		return
	}
	for _, a := range attempts() {
		fmt.Printf("attempt %s: %s\n", a.name, outcome(a.try()))
	}
	for _, dir := range []string{"/", "/etc", "/usr", "/usr/bin", "/var", "/var/lib", "/var/lib/aes-appliance", "/run", "/run/aes-appliance", "/run/credentials", "/home", "/dev"} {
		fmt.Printf("folder %s: %s\n", dir, list(dir))
	}
	fmt.Printf("folder interfaces: %s\n", interfaces())
	status, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if name, value, _ := strings.Cut(line, ":"); strings.HasPrefix(name, "Cap") || name == "NoNewPrivs" || name == "Seccomp" {
			fmt.Printf("status %s: %s\n", name, strings.TrimSpace(value))
		}
	}
	if err != nil {
		fmt.Println("status:", err)
	}
}

type attempt struct {
	name string
	try  func() error
}

func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "done"
}

// list is what is in a folder; "none" when it is not to be seen, "nothing" when it is empty.
func list(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "none"
	}
	if len(entries) == 0 {
		return "nothing"
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

// interfaces are those of this process's network.
func interfaces() string {
	data, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return err.Error()
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return strings.Join(names, " ")
}

func open(path string, flags int) func() error {
	return func() error {
		f, err := os.OpenFile(path, flags, 0o600)
		if err == nil {
			f.Close()
		}
		return err
	}
}

func socket(domain, kind, protocol int) func() error {
	return func() error {
		fd, err := unix.Socket(domain, kind, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

func attempts() []attempt {
	return []attempt{
		{"write /", open("/x", os.O_CREATE|os.O_WRONLY)},
		{"write /etc", open("/etc/x", os.O_CREATE|os.O_WRONLY)},
		{"write /etc/aes-appliance", open("/etc/aes-appliance/x", os.O_CREATE|os.O_WRONLY)},
		{"write the program", func() error { return unix.Utimes("/usr/bin/appliance", nil) }}, // a program that runs cannot be opened to write, by nobody
		{"write /run", open("/run/x", os.O_CREATE|os.O_WRONLY)},
		{"write shared memory", open("/dev/shm/x", os.O_CREATE|os.O_WRONLY)},
		{"read shared memory", open("/dev/shm", os.O_RDONLY)},
		{"read /etc/shadow", open("/etc/shadow", os.O_RDONLY)},
		{"read a key of ssh", open("/etc/ssh/ssh_host_ed25519_key", os.O_RDONLY)},
		{"read sealed credentials", open("/etc/credstore.encrypted/aes-signer.token-pin", os.O_RDONLY)},
		{"read the PIN", open("/run/credentials/aes-signer.service/token-pin", os.O_RDONLY)},
		{"read the signer's state", open("/var/lib/aes-appliance/signer/audit_chain.jsonl", os.O_RDONLY)},
		{"write the signer's state", open("/var/lib/aes-appliance/signer/audit_chain.jsonl", os.O_WRONLY)},
		{"read the token", open("/var/lib/aes-appliance/signer/token", os.O_RDONLY)},
		{"read the portal's state", open("/var/lib/aes-appliance/portal", os.O_RDONLY)},
		{"read the receiver's state", open("/var/lib/aes-appliance/receiver", os.O_RDONLY)},
		{"read another process", open("/proc/1/status", os.O_RDONLY)},
		{"read memory", open("/dev/mem", os.O_RDONLY)},
		{"read the kernel's log", open("/dev/kmsg", os.O_RDONLY)},
		{"write a kernel setting", open("/proc/sys/kernel/hostname", os.O_WRONLY)},
		{"ask systemd", askSystemd},
		{"run a shell", func() error { return exec.Command("/bin/sh", "-c", "true").Run() }},
		{"run a file of its own", runOwn},
		{"write its state", writeState},
		{"set a set-user-ID bit", own(func(path string) error { return unix.Chmod(path, 0o4755) })},
		{"make a device", own(func(path string) error {
			defer os.Remove(path + "-dev")
			return unix.Mknod(path+"-dev", unix.S_IFCHR|0o600, 1<<8|3)
		})},
		{"make a network socket", socket(unix.AF_INET, unix.SOCK_STREAM, 0)},
		{"make an IPv6 socket", socket(unix.AF_INET6, unix.SOCK_STREAM, 0)},
		{"make a raw socket", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
		{"make a packet socket", socket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"make a netlink socket", socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)},
		{"make a unix socket", socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)},
		{"listen on TCP", listenTCP(0)},
		{"listen on a unix socket", listenUnix},
		{"bind port 81", listenTCP(81)},
		{"bind port 8081", bindTCP(8081)},
		{"map memory to write and execute", writeExecute},
		{"read the clock's state", func() error { _, err := unix.Adjtimex(&unix.Timex{}); return err }},
		{"change the clock's state", func() error { _, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_TICK, Tick: 10000}); return err }},
		{"set the clock", setClock},
		{"become root", func() error { return unix.Setresuid(0, 0, 0) }},
		{"make a user namespace", func() error { return copied(unix.CLONE_NEWUSER, func(int) error { return nil }) }},
		{"mount", func() error { return unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") }},
		{"change the root folder", func() error { return unix.Chroot("/tmp") }},
		{"trace", func() error { return copied(0, unix.PtraceAttach) }},
		{"use a key ring", func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true); return err }},
		{"load a program into the kernel", loadProgram},
		{"load a module", loadModule},
		{"name the host", func() error { return unix.Sethostname([]byte("x")) }},
		{"change personality", func() error { return errno(unix.Syscall(unix.SYS_PERSONALITY, 0x0008, 0, 0)) }},
		{"run in real time", func() error {
			return unix.SchedSetAttr(0, &unix.SchedAttr{Size: 48, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
		}},
		{"dump core", dumpsCore},
	}
}

func errno(_, _ uintptr, e unix.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

// state are the folders of state that this service sees.
func state() []string {
	dirs, _ := filepath.Glob("/var/lib/aes-appliance/*") // the pattern is right
	return dirs
}

// writeState makes a file in one of them.
func writeState() error { return inOne(state(), func(string) error { return nil }) }

// own makes a file wherever this service may.
func own(do func(path string) error) func() error {
	return func() error { return inOne(append(state(), "/tmp"), do) }
}

// inOne makes a file in the first of dirs that takes one.
func inOne(dirs []string, do func(path string) error) error {
	err := os.ErrNotExist
	for _, dir := range dirs {
		path := filepath.Join(dir, "probe")
		if err = os.WriteFile(path, []byte("x"), 0o600); err == nil {
			defer os.Remove(path)
			return do(path)
		}
	}
	return err
}

func connect(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}

// askSystemd connects to where it listens for root, or to the bus.
func askSystemd() error {
	if err := connect("/run/systemd/private"); err != nil {
		return connect("/run/dbus/system_bus_socket")
	}
	return nil
}

// copied makes a copy of this process, in namespaces as flags say, and does something to it. No program is run for it, or it would fail where that is refused; and a namespace
// of users is for a process with one thread, which no program in Go is.
func copied(flags uintptr, do func(pid int) error) error {
	pid, _, failed := unix.RawSyscall(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0)
	if failed != 0 {
		return failed
	}
	for pid == 0 { // the copy, which waits to be killed
		unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
	err := do(int(pid))
	unix.Kill(int(pid), unix.SIGKILL)
	for {
		var status unix.WaitStatus
		if _, ended := unix.Wait4(int(pid), &status, 0, nil); ended != unix.EINTR && !status.Stopped() {
			return err
		}
	}
}

// loadProgram has the kernel take the least BPF program that there is.
func loadProgram() error {
	program, license := &[2]uint64{0xb7, 0x95}, &[4]byte{'G', 'P', 'L'} // r0 = 0; exit
	var held runtime.Pinner
	defer held.Unpin()
	held.Pin(program)
	held.Pin(license)
	// bpf(2): union bpf_attr of BPF_PROG_LOAD, as far as it is needed.
	attr := &struct {
		kind, count           uint32
		instructions, license uint64
		_                     [3]uint64
	}{unix.BPF_PROG_TYPE_SOCKET_FILTER, 2, uint64(uintptr(unsafe.Pointer(program))), uint64(uintptr(unsafe.Pointer(license))), [3]uint64{}}
	fd, _, failed := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
	if failed != 0 {
		return failed
	}
	return unix.Close(int(fd))
}

// loadModule offers an empty one: who may load modules is told that it is none.
func loadModule() error {
	if err := unix.InitModule(nil, ""); err != unix.ENOEXEC {
		return err
	}
	return nil
}

// runOwn tries it in every place that a service may write to.
func runOwn() error {
	data, err := os.ReadFile("/usr/bin/appliance")
	if err != nil {
		return err
	}
	for _, dir := range append(state(), "/tmp", "/var/tmp", "/dev/shm", "/run") {
		path := filepath.Join(dir, "own")
		if err = os.WriteFile(path, data, 0o700); err != nil {
			continue
		}
		err = exec.Command(path, "again").Start()
		os.Remove(path)
		if err == nil {
			return nil
		}
	}
	return err
}

func bindTCP(port int) func() error {
	return func() error { _, err := bound(port); return err }
}

func bound(port int) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err != nil {
		return fd, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrInet4{Port: port})
}

func listenTCP(port int) func() error {
	return func() error {
		fd, err := bound(port)
		if err != nil {
			return err
		}
		return unix.Listen(fd, 1)
	}
}

func listenUnix() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@confined"})
	}
	if err != nil {
		return err
	}
	return unix.Listen(fd, 1)
}

func writeExecute() error {
	_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	return err
}

func setClock() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	return errno(unix.Syscall(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&now)), 0))
}

func dumpsCore() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil || l.Max > 0 {
		return err
	}
	return fmt.Errorf("limit 0")
}
