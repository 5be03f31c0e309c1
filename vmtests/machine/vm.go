package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// VM is a machine of qemu: Debian's own kernel, with AppArmor, limits, a clock and a power switch of its own.
type VM struct {
	lab    *Lab
	host   string
	number int
	image  Image
	dir    string
	guard  *guard
	cmd    *exec.Cmd
	ended  chan error
	agent  net.Conn
	chip   int           // number of its TPM
	spent  time.Duration // of the processor, by what ran before the last boot

	mu      sync.Mutex
	calls   int
	waiting map[int]chan answer
}

type answer struct {
	ID     int    `json:"id"`
	Output []byte `json:"output"`
	Code   int    `json:"code"`
}

var vms atomic.Int64

// NewVM makes a machine from an image with a cable to lab; host and number are as in Lab.Attach. Boot starts it.
func NewVM(image Image, lab *Lab, host string, number int) (*VM, error) {
	m := &VM{lab: lab, host: host, number: number, image: image, dir: filepath.Join(Cache, "run", fmt.Sprintf("aesvm-%d-q%d", os.Getpid(), vms.Add(1)))}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if m.guard, err = newGuard(`for pid in ` + m.dir + `/pid ` + m.dir + `/tpm*.pid; do [ ! -e $pid ] || kill -9 $(cat $pid); done; rm -rf ` + m.dir); err != nil {
		return nil, err
	}
	if err := lab.tap(host, number); err != nil {
		return m, err
	}
	return m, command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image.Disk, filepath.Join(m.dir, "disk"))
}

// tap makes the end of a cable that a VM is plugged into.
func (l *Lab) tap(host string, number int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hosts[host] = fmt.Sprintf("198.18.0.%d", number)
	return l.sh(`ip -n SW tuntap add p-HOST mode tap
ip -n SW link set p-HOST master br0 up`, "HOST", host)
}

// accelerator is KVM where it works: /dev/kvm can be opened without (paravirtual guests), and then cannot run a distribution's kernel.
func accelerator() []string {
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err == nil {
		f.Close()
		if strings.Contains(string(cpu), " vmx") || strings.Contains(string(cpu), " svm") {
			return []string{"-accel", "kvm", "-cpu", "host"}
		}
	}
	return []string{"-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off,cx16=off"}
}

// Boot is Machine's.
func (m *VM) Boot(ctx context.Context) error {
	at := func(name string) string { return filepath.Join(m.dir, name) }
	os.Remove(at("agent"))
	tpm, err := m.plugTPM()
	if err != nil {
		return err
	}
	args := []string{"netns", "exec", m.lab.namespace("sw"), "qemu-system-x86_64", "-machine", "q35", "-smp", "2", "-m", "1024",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-pidfile", at("pid"), // a reset inside qemu takes 47 s under TCG, another qemu 15
		"-kernel", m.image.Kernel, "-initrd", m.image.Initrd, "-append", fmt.Sprintf("console=ttyS0 root=/dev/vda rw quiet systemd.show_status=0 "+
			"nokaslr mitigations=off random.trust_cpu=on tsc=reliable no_timer_check net.ifnames=0 systemd.hostname=%s vm.number=%d sysctl.kernel.printk_ratelimit=0", m.host, m.number),
		"-serial", "file:" + at("console"),
		// Flushes stop at this machine's page cache: a power cut loses what the guest had not flushed, and no more.
		"-drive", "if=none,id=d,file=" + at("disk") + ",format=qcow2,cache=unsafe,discard=unmap", "-device", "virtio-blk-pci,drive=d",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,path=" + at("agent") + ",server=on,wait=off", "-device", "virtserialport,chardev=agent,name=agent",
		"-device", "virtio-rng-pci",
		"-netdev", "tap,id=n,ifname=p-" + m.host + ",script=no,downscript=no", "-device", fmt.Sprintf("virtio-net-pci,netdev=n,romfile=,mac=52:54:00:00:00:%02x", m.number)}
	m.cmd = exec.Command("ip", slices.Concat(args, tpm, accelerator())...)
	said, err := os.Create(at("qemu.log"))
	if err != nil {
		return err
	}
	defer said.Close()
	m.cmd.Stdout, m.cmd.Stderr = said, said
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := m.cmd.Start(); err != nil {
		return err
	}
	m.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(m.cmd, m.ended)
	if err := m.connect(ctx, at("agent")); err != nil {
		console, _ := os.ReadFile(at("console"))
		log, _ := os.ReadFile(at("qemu.log"))
		return fmt.Errorf("%s does not boot: %w\n%s\n%s", m.host, err, log, tail(console, 4000))
	}
	// What is started again and again, or waits, keeps multi-user.target waiting: that is for whoever booted it to judge.
	_, err = m.Exec(ctx, "timeout 60 sh -c 'until systemctl is-active -q multi-user.target; do sleep 0.2; done' && timeout 30 systemctl is-system-running --wait >/dev/null; systemctl is-active -q basic.target")
	return err
}

// plugTPM starts the machine's TPM2, which ends with qemu, and returns what qemu is told of it. What it has sealed is in a folder beside the disk.
func (m *VM) plugTPM() ([]string, error) {
	name := filepath.Join(m.dir, fmt.Sprintf("tpm%d", m.chip))
	if err := os.MkdirAll(name, 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(name + ".sock"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+name, "--ctrl", "type=unixio,path="+name+".sock", "--flags", "startup-clear", "--terminate", "--pid", "file="+name+".pid", "--daemon"); err != nil {
		return nil, err
	}
	return []string{"-chardev", "socket,id=tpm,path=" + name + ".sock", "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"}, nil
}

// OtherTPM has the next boot find another TPM, a fresh one, as a disk does that was put into another machine.
func (m *VM) OtherTPM() { m.chip++ }

// Spent is how much of the processor the machine has taken since it was made: what it would take on a machine that does nothing else is told better by that than by time.
func (m *VM) Spent() time.Duration {
	if m.cmd == nil || m.cmd.Process == nil {
		return m.spent
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	_, rest, found := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest) // proc(5): of all fields from the third on
	if err != nil || !found || len(fields) < 13 {
		return m.spent
	}
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	if errors.Join(errUser, errSystem) != nil {
		return m.spent
	}
	return m.spent + time.Duration(user+system)*time.Second/100 // clock ticks, of which Linux tells 100 a second
}

// connect waits until the agent answers.
func (m *VM) connect(ctx context.Context, path string) error {
	for {
		select {
		case err := <-m.ended:
			m.ended <- err
			return fmt.Errorf("qemu ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			continue
		}
		m.agent, m.waiting = c, map[int]chan answer{}
		go m.listen(c, m.waiting)
		break
	}
	for { // what is written before the port is open inside is lost
		asking, cancel := context.WithTimeout(ctx, time.Second)
		_, err := m.call(asking, "", nil)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case err := <-m.ended:
			m.ended <- err
			return fmt.Errorf("qemu ended: %w", err)
		default:
		}
	}
}

// listen gives each answer to who waits for it.
func (m *VM) listen(c net.Conn, waiting map[int]chan answer) {
	r := bufio.NewReaderSize(c, 1<<16)
	for {
		line, err := r.ReadBytes('\n')
		m.mu.Lock()
		if err != nil {
			for id, ch := range waiting {
				close(ch)
				delete(waiting, id)
			}
			m.mu.Unlock()
			return
		}
		var a answer
		if json.Unmarshal(line, &a) == nil && waiting[a.ID] != nil {
			waiting[a.ID] <- a
			delete(waiting, a.ID)
		}
		m.mu.Unlock()
	}
}

func (m *VM) call(ctx context.Context, line string, stdin []byte) (answer, error) {
	ch := make(chan answer, 1)
	m.mu.Lock()
	m.calls++
	id, agent := m.calls, m.agent
	m.waiting[id] = ch
	q, _ := json.Marshal(map[string]any{"id": id, "line": line, "stdin": stdin})
	_, err := agent.Write(append(q, '\n'))
	m.mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return answer{}, errors.New("the machine went down")
		}
		return a, nil
	case <-ctx.Done():
		return answer{}, fmt.Errorf("%s: %w", line, ctx.Err())
	}
}

// Exec is Machine's.
func (m *VM) Exec(ctx context.Context, line string) (string, error) { return m.Feed(ctx, line, nil) }

// Feed is Machine's.
func (m *VM) Feed(ctx context.Context, line string, stdin io.Reader) (string, error) {
	var in []byte
	if stdin != nil {
		var err error
		if in, err = io.ReadAll(stdin); err != nil {
			return "", err
		}
	}
	a, err := m.call(ctx, line, in)
	if err == nil && a.Code != 0 {
		err = &ExitError{line, a.Code, string(a.Output)}
	}
	return string(a.Output), err
}

// Reboot is Machine's.
func (m *VM) Reboot(ctx context.Context) error {
	m.Exec(ctx, "systemctl reboot")
	for down := false; !down; {
		spent := m.Spent()
		select {
		case <-m.ended:
			m.spent, m.cmd, down = spent, nil, true
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s does not go down: %w", m.host, ctx.Err())
		}
	}
	m.agent.Close()
	return m.Boot(ctx)
}

// PowerCut is Machine's: what the guest had not flushed to its disk is lost.
func (m *VM) PowerCut() error {
	m.spent = m.Spent()
	if err := m.cmd.Process.Kill(); err != nil {
		return err
	}
	<-m.ended
	m.cmd = nil
	m.agent.Close()
	return nil
}

// Close is Machine's.
func (m *VM) Close() {
	m.guard.release()
	if m.agent != nil {
		m.agent.Close()
	}
}
