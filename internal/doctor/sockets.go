package doctor

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// listening is a socket that waits for others.
type listening struct {
	protocol string // tcp, udp
	at       netip.AddrPort
}

func (l listening) String() string { return fmt.Sprintf("%s %s", l.protocol, l.at) }

// maxSockets bounds what is read of the kernel's tables.
const maxSockets = 1 << 16

// parseSockets reads /proc/net/tcp, tcp6, udp or udp6 (proc_pid_net(5)) and returns what listens: TCP in state 0A, UDP in state 07, which is unconnected.
func parseSockets(table, protocol string) ([]listening, error) {
	state := map[string]string{"tcp": "0A", "udp": "07"}[protocol]
	var list []listening
	rows := bufio.NewScanner(strings.NewReader(table))
	for n := 0; rows.Scan(); n++ {
		f := strings.Fields(rows.Text())
		if n == 0 || len(f) == 0 { // its head
			continue
		}
		if n > maxSockets || len(f) < 4 {
			return nil, fmt.Errorf("line %d is not one of the kernel's table of sockets", n+1)
		}
		if f[3] != state {
			continue
		}
		at, err := parseAddress(f[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		list = append(list, listening{protocol, at})
	}
	return list, rows.Err()
}

// parseAddress reads ADDRESS:PORT in hexadecimal, the address as 32-bit words of this machine's (little-endian) order.
func parseAddress(text string) (netip.AddrPort, error) {
	a, p, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(a)
	port, errPort := strconv.ParseUint(p, 16, 16)
	if !ok || err != nil || errPort != nil || len(raw) != 4 && len(raw) != 16 || len(p) != 4 {
		return netip.AddrPort{}, fmt.Errorf("%.60q is no address", text)
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	addr, _ := netip.AddrFromSlice(raw) // of 4 or 16 bytes
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// listeners returns what listens.
func (e *exam) listeners() ([]listening, error) {
	var list []listening
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6"} {
		table, err := e.m.read("/proc/net/" + name)
		if err != nil {
			if strings.HasSuffix(name, "6") {
				continue // no IPv6 here
			}
			return nil, err
		}
		some, err := parseSockets(table, strings.TrimSuffix(name, "6"))
		if err != nil {
			return nil, fmt.Errorf("/proc/net/%s: %w", name, err)
		}
		list = append(list, some...)
	}
	return list, nil
}

// sshPort is where the operator comes in; another one is found in sshd's configuration by whoever changed it.
const sshPort = 22

// expectedPorts are those that a role needs, by what they are for.
func (e *exam) expectedPorts() map[uint16]string {
	port := func(address string) uint16 {
		if _, p, ok := cutLast(address, ":"); ok {
			n, _ := strconv.ParseUint(p, 10, 16) // the configuration was checked
			return uint16(n)
		}
		return 0
	}
	if e.Role == Backup {
		ports := map[uint16]string{port(e.Receiver.Listen): "the receiver"}
		if w := e.Receiver.Witness.Listen; w != "" {
			ports[port(w)] = "the witness"
		}
		return ports
	}
	return map[uint16]string{port(e.Appliance.Portal.Listen): "HTTPS", port(e.Appliance.Portal.ListenHTTP): "http"}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func (e *exam) sockets(s *sheet) {
	const check = "services.sockets"
	list, err := e.listeners()
	if err != nil {
		s.unknown(check, "run it on the machine itself", "what listens cannot be read: %v", err)
		return
	}
	want, found := e.expectedPorts(), map[uint16]bool{}
	var others []string
	outside := 0
	for _, l := range list {
		if l.protocol == "tcp" {
			found[l.at.Port()] = true
		}
		if l.at.Addr().IsLoopback() {
			continue
		}
		outside++
		if l.protocol == "tcp" {
			if _, ok := want[l.at.Port()]; ok || l.at.Port() == sshPort {
				continue
			}
		}
		if l.protocol == "udp" && slices.Contains([]uint16{68, 546}, l.at.Port()) { // DHCP's answers
			continue
		}
		others = append(others, l.String())
	}
	missing := false
	for port, what := range want {
		if !found[port] {
			missing = true
			s.bad(check, "systemctl list-sockets 'aes-*'; systemctl restart 'aes-*.socket'", "nothing listens on port %d, for %s", port, what)
		}
	}
	slices.Sort(others)
	others = slices.Compact(others)
	switch {
	case len(others) > 0:
		s.warn(check, "ss -lntup names the program: remove it from this machine, or bind it to loopback", "others than the appliance and ssh listen: %s", few(others)).with("others", others)
	case !missing:
		s.ok(check, "exactly what must listen does: %d sockets that others can reach", outside)
	}
}
