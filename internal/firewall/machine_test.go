package firewall

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideVariable tells a test that it runs on a machine of its own, and the name of the network namespace of the other one.
const insideVariable = "AES_TEST_FIREWALL_PEER"

// Addresses of the cable between the two.
const (
	own4, own6       = "198.18.5.1", "2001:db8:5::1"
	admin4, admin6   = "198.18.5.2", "2001:db8:5::2"
	other4, other6   = "198.18.5.3", "2001:db8:5::3"
	backup4, backup6 = "198.18.5.20", "2001:db8:5::20"
)

// machine runs the test on a machine of its own: a network namespace with a cable to another one, and a mount namespace in which ufw's files are a
// fresh installation's. It returns the other's namespace inside, and "" outside, where the caller has nothing more to do. It takes root.
func machine(t *testing.T) (peer string) {
	t.Helper()
	if peer := os.Getenv(insideVariable); peer != "" {
		furnish(t)
		return peer
	}
	needMachine(t)
	t.Parallel()
	name := fmt.Sprintf("fw%d%s", os.Getpid()%100000, t.Name()[4:min(len(t.Name()), 10)])
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v %s", args, err, out)
		}
	}
	for _, host := range []string{"h", "p"} {
		ip("netns", "add", name+host)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", name+host).Run() })
		ip("-n", name+host, "link", "set", "lo", "up")
	}
	ip("-n", name+"h", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", name+"p")
	for host, addresses := range map[string][]string{"h": {own4, own6}, "p": {admin4, admin6, other4, other6, backup4, backup6}} {
		for _, a := range addresses {
			if strings.Contains(a, ":") {
				ip("-n", name+host, "addr", "add", a+"/64", "dev", "cable", "nodad")
			} else {
				ip("-n", name+host, "addr", "add", a+"/24", "dev", "cable")
			}
		}
		ip("-n", name+host, "link", "set", "cable", "up")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", name+"h", "unshare", "--mount", "--propagation", "private", self, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"="+name+"p")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
	return ""
}

// needMachine leaves a test out where there is no root, no namespaces or no ufw. In CI that is a failure.
func needMachine(t *testing.T) {
	t.Helper()
	out, err := exec.Command("unshare", "--mount", "--net", "sh", "-c", "iptables-save >/dev/null && command -v "+ufwProgram).CombinedOutput()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("this test takes root, a machine that lets it make namespaces, and ufw: %v %s", err, out)
	}
	t.Skipf("this test takes root, a machine that lets it make namespaces, and ufw: %v %s", err, out)
}

// furnish puts a fresh installation's files of ufw over this machine's, and hides its systemd.
func furnish(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	script := `set -e
cp -a /etc/ufw /etc/default "$0"/
cp /usr/share/ufw/iptables/*.rules "$0"/ufw/
cp /usr/share/ufw/ufw.conf "$0"/ufw/
sed -i -e 's/^ENABLED=.*/ENABLED=no/' "$0"/ufw/ufw.conf
sed -i -e 's/^DEFAULT_INPUT_POLICY=.*/DEFAULT_INPUT_POLICY="DROP"/' -e 's/^DEFAULT_OUTPUT_POLICY=.*/DEFAULT_OUTPUT_POLICY="ACCEPT"/' "$0"/default/ufw
mount --bind "$0"/ufw /etc/ufw
mount --bind "$0"/default /etc/default
[ ! -e /run/systemd ] || mount -t tmpfs none /run/systemd`
	if out, err := exec.Command("sh", "-c", script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}

// in runs f on a thread that is on another machine.
func in(t *testing.T, namespace string, f func()) {
	t.Helper()
	var wrong error
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := os.Open(filepath.Join("/run/netns", namespace))
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if wrong = err; err == nil {
			f()
		}
	})
	done.Wait()
	if wrong != nil {
		t.Fatal(wrong)
	}
}

// listen has ports answered on the machine of this thread, until the test ends.
func listen(t *testing.T, ports ...int) {
	t.Helper()
	for _, port := range ports {
		l, err := net.Listen("tcp", fmt.Sprintf("[::]:%d", port))
		if err != nil {
			t.Errorf("port %d: %v", port, err)
			continue
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					buffer := make([]byte, 16)
					for {
						n, err := c.Read(buffer)
						if err != nil {
							return
						}
						c.Write(buffer[:n])
					}
				}()
			}
		}()
	}
}

// reach is how long a connection over the cable may take: a dropped packet is not answered at all.
const reach = 800 * time.Millisecond

// open returns which of the ports of an address are open from another address, both of the machines of this thread.
func open(from, to string, ports []int) []int { return openWithin(from, to, ports, reach) }

func openWithin(from, to string, ports []int, reach time.Duration) []int {
	results := make([]bool, len(ports))
	var trying sync.WaitGroup
	for i, port := range ports {
		// The socket is made on this thread; goroutines of its own would be on another machine.
		family := unix.AF_INET
		if strings.Contains(to, ":") {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if from != "" {
			_ = unix.Bind(fd, sockaddr(from, 0)) // the connection then fails
		}
		_ = unix.Connect(fd, sockaddr(to, port)) // EINPROGRESS
		trying.Go(func() {
			defer unix.Close(fd)
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(p, int(reach/time.Millisecond)); err != nil || n == 0 {
				return
			}
			e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			results[i] = err == nil && e == 0
		})
	}
	trying.Wait()
	var all []int
	for i, port := range ports {
		if results[i] {
			all = append(all, port)
		}
	}
	return all
}

func sockaddr(address string, port int) unix.Sockaddr {
	ip := net.ParseIP(address)
	if v4 := ip.To4(); v4 != nil {
		a := &unix.SockaddrInet4{Port: port}
		copy(a.Addr[:], v4)
		return a
	}
	a := &unix.SockaddrInet6{Port: port}
	copy(a.Addr[:], ip)
	return a
}

// goes reports to which of the ports a datagram gets from this machine.
func goes(t *testing.T, peer, to string, ports []int) []int {
	t.Helper()
	var all []int
	for _, port := range ports {
		var c net.PacketConn
		in(t, peer, func() { c, _ = net.ListenPacket("udp", net.JoinHostPort(to, fmt.Sprint(port))) })
		if c == nil {
			t.Errorf("no UDP port %d on the other machine", port)
			continue
		}
		if out, err := net.Dial("udp", net.JoinHostPort(to, fmt.Sprint(port))); err == nil {
			_, _ = out.Write([]byte("?")) // EPERM when the filter drops it
			out.Close()
		}
		c.SetReadDeadline(time.Now().Add(reach))
		if n, _, err := c.ReadFrom(make([]byte, 8)); err == nil && n == 1 {
			all = append(all, port)
		}
		c.Close()
	}
	return all
}

// alarm is a Timer that calls Rollback as systemd's does, from this process.
type alarm struct {
	h     *Host
	armed *time.Timer
	fired chan error
}

func (a *alarm) Arm(ctx context.Context, d time.Duration) error {
	if err := a.Disarm(ctx); err != nil {
		return err
	}
	fired := make(chan error, 1) // of this one: it may go off, and be armed anew while that waits for the lock
	a.fired = fired
	a.armed = time.AfterFunc(d, func() {
		_, err := a.h.Rollback(context.Background(), true)
		fired <- err
	})
	return nil
}

func (a *alarm) Disarm(context.Context) error {
	if a.armed != nil {
		a.armed.Stop()
	}
	return nil
}

// house is this machine's packet filter, with its own folder for what waits.
func house(t *testing.T) (*Host, *alarm) {
	t.Helper()
	a := &alarm{}
	a.h = New(a, time.Now)
	a.h.run = filepath.Join(t.TempDir(), "run")
	return a.h, a
}

// equal compares lists of ports.
func equal(t *testing.T, what string, got, want []int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, not %v", what, got, want)
	}
}
