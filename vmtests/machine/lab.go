package machine

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Lab is a network of its own: a bridge, and a cable to each host. Nothing of it touches the network of the machine that runs the tests.
type Lab struct {
	prefix string
	guard  *guard
	mu     sync.Mutex
	hosts  map[string]string // name -> address
}

// Subnet4 and Subnet6 are what every host of a lab is in; a host of number n is 198.18.0.n and 2001:2:0:18::n. Both are for benchmarks (RFC 2544, RFC 5180), and routed nowhere.
const (
	Subnet4 = "198.18.0.0/24"
	Subnet6 = "2001:2:0:18::/64"
)

var labs atomic.Int64

// NewLab makes a network without hosts.
func NewLab() (*Lab, error) {
	prefix := fmt.Sprintf("aesvm%d-%d-", os.Getpid(), labs.Add(1))
	g, err := newGuard(`ip netns list | while read -r name rest; do case $name in ` + prefix + `*) ip netns del "$name" ;; esac; done`)
	if err != nil {
		return nil, err
	}
	l := &Lab{prefix: prefix, guard: g, hosts: map[string]string{}}
	err = l.sh(`ip netns add SW
ip -n SW link add br0 type bridge
ip -n SW link set br0 up
ip -n SW link set lo up`)
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close removes the network. Machines that are in it lose their cable.
func (l *Lab) Close() { l.guard.release() }

func (l *Lab) namespace(host string) string { return l.prefix + host }

// sh runs a script in which SW stands for the namespace of the bridge.
func (l *Lab) sh(script string, more ...string) error {
	script = strings.NewReplacer(append([]string{"SW", l.namespace("sw")}, more...)...).Replace(script)
	return command("sh", "-ec", script)
}

// Attach makes a host: a network namespace with one interface, host0, and the addresses of that number. It is a machine's network, or, without one, a place
// from which programs run (Command) and Go code dials and listens (Dial, Listen). At most 11 letters.
func (l *Lab) Attach(host string, number int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.hosts[host]; ok {
		return nil
	}
	l.hosts[host] = fmt.Sprintf("198.18.0.%d", number)
	return l.sh(`ip netns add NS
ip -n SW link add p-HOST type veth peer name host0 netns NS
ip -n SW link set p-HOST master br0 up
ip -n NS link set lo up
ip -n NS addr add 198.18.0.NUMBER/24 dev host0
ip -n NS addr add 2001:2:0:18::NUMBER/64 dev host0 nodad
ip -n NS link set host0 up`, "NS", l.namespace(host), "HOST", host, "NUMBER", fmt.Sprint(number))
}

// Address returns the IPv4 address of a host.
func (l *Lab) Address(host string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hosts[host]
}

// Cut pulls the cable of a host, Heal plugs it in again.
func (l *Lab) Cut(host string) error  { return l.sh("ip -n SW link set p-" + host + " down") }
func (l *Lab) Heal(host string) error { return l.sh("ip -n SW link set p-" + host + " up") }

// Lossy drops percent of all frames that go through the bridge; 0 drops none.
func (l *Lab) Lossy(percent int) error {
	script := `ip netns exec SW nft 'table bridge lab; delete table bridge lab'` // declared first, so that it may be absent
	if percent > 0 {
		script += fmt.Sprintf(`
ip netns exec SW nft 'table bridge lab { chain drops { type filter hook forward priority 0; numgen random mod 100 < %d drop; }; }'`, percent)
	}
	return l.sh(script)
}

// Command is exec.CommandContext on a host: its network, the files of the machine that runs the tests.
func (l *Lab) Command(ctx context.Context, host, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", l.namespace(host), name}, args...)...)
}

// Dial connects from a host to an IP address and port.
func (l *Lab) Dial(ctx context.Context, host, network, address string) (c net.Conn, err error) {
	err = l.within(host, func() error {
		c, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen listens on a host; who accepts may be anywhere.
func (l *Lab) Listen(host, address string) (n net.Listener, err error) {
	err = l.within(host, func() error {
		n, err = net.Listen("tcp", address)
		return err
	})
	return n, err
}

// within runs do on a thread in the network namespace of a host. A socket stays in the namespace that it was made in.
func (l *Lab) within(host string, do func() error) error {
	f, err := os.Open("/run/netns/" + l.namespace(host))
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering %s: %w", host, err)
	}
	err = do()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("leaving %s: %w", host, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}
