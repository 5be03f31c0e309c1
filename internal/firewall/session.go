package firewall

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// peer is an established TCP connection to a port of this machine.
type peer struct {
	address netip.Addr
	inode   string // of the socket: by it the process is found that has it
}

// Sessions returns the addresses that are connected to the ssh port now and are logged in, each once: the kernel's table of connections says who is
// connected, which no variable of a shell can be wrong about. What has not logged in yet is nobody's session: anybody can connect.
func Sessions(port uint16) ([]netip.Addr, error) {
	var peers []peer
	for _, name := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		data, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := parsePeers(data, port)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		peers = append(peers, found...)
	}
	if len(peers) == 0 {
		return nil, nil
	}
	owners := owners(peers)
	var all []netip.Addr
	for _, p := range peers {
		if titles := owners[p.inode]; len(titles) > 0 && !slices.ContainsFunc(titles, loggedIn) {
			continue
		}
		if !slices.Contains(all, p.address) {
			all = append(all, p.address)
		}
	}
	return all, nil
}

// Listening reports whether something waits for connections to the port on another address than loopback's.
func Listening(port uint16) bool {
	for _, name := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		rows, err := parseTCP(data)
		if err == nil && slices.ContainsFunc(rows, func(r row) bool {
			return r.state == listening && r.local.Port() == port && !r.local.Addr().IsLoopback()
		}) {
			return true
		}
	}
	return false
}

// sshdPorts returns the ports at which OpenSSH itself waits for connections, on other addresses than loopback's. None: it does not run, or systemd listens for it.
func sshdPorts() []uint16 {
	var waiting []peer
	ports := map[string]uint16{}
	for _, name := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		rows, err := parseTCP(data)
		if err != nil {
			continue
		}
		for _, r := range rows {
			if r.state == listening && !r.local.Addr().IsLoopback() {
				waiting = append(waiting, peer{r.local.Addr(), r.inode})
				ports[r.inode] = r.local.Port()
			}
		}
	}
	var all []uint16
	for inode, titles := range owners(waiting) {
		if slices.ContainsFunc(titles, sshdTitle.MatchString) && !slices.Contains(all, ports[inode]) {
			all = append(all, ports[inode])
		}
	}
	slices.Sort(all)
	return all
}

// sshdTitle is how OpenSSH's processes call themselves: "sshd: alice@pts/0" once somebody is logged in, "sshd: [accepted]", "sshd: alice [priv]" or
// "sshd: unknown [net]" before, with sshd-session for sshd since 9.8. The listener's has the path of its program.
var sshdTitle = regexp.MustCompile(`^(/\S+/)?sshd(-session|-auth)?\b`)

// loggedIn reports whether a process with this title has a connection for somebody who is logged in: OpenSSH once it says so, any other program always.
func loggedIn(title string) bool {
	return !sshdTitle.MatchString(title) || strings.Contains(title, "@")
}

// owners returns the titles of the processes that have the sockets, by inode. Processes that are not root's to look at, or end meanwhile, are passed over.
func owners(peers []peer) map[string][]string {
	wanted := map[string]string{}
	for _, p := range peers {
		wanted["socket:["+p.inode+"]"] = p.inode
	}
	titles := map[string][]string{}
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well formed
	for _, fd := range descriptors {
		link, err := os.Readlink(fd)
		if err != nil || wanted[link] == "" {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(fd)), "cmdline"))
		if err != nil {
			continue
		}
		inode := wanted[link]
		titles[inode] = append(titles[inode], strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))))
	}
	return titles
}

// row is one of /proc/net/tcp.
type row struct {
	local, remote netip.AddrPort
	state         string
	inode         string
}

// States of a row (include/net/tcp_states.h).
const (
	established = "01"
	listening   = "0A"
)

// parsePeers returns who is connected to port, from /proc/net/tcp or tcp6.
func parsePeers(data []byte, port uint16) ([]peer, error) {
	rows, err := parseTCP(data)
	var peers []peer
	for _, r := range rows {
		if r.state == established && r.local.Port() == port && !r.remote.Addr().IsLoopback() {
			peers = append(peers, peer{r.remote.Addr(), r.inode})
		}
	}
	return peers, err
}

// parseTCP reads /proc/net/tcp or tcp6 (proc(5)): after a line of titles, a row for each socket.
func parseTCP(data []byte) ([]row, error) {
	var rows []row
	s := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; s.Scan(); n++ {
		w := strings.Fields(s.Text())
		if n == 1 || len(w) == 0 {
			continue
		}
		if len(w) < 10 {
			return nil, fmt.Errorf("line %d has %d words", n, len(w))
		}
		local, errLocal := parseHexAddr(w[1])
		remote, errRemote := parseHexAddr(w[2])
		if errLocal != nil || errRemote != nil {
			return nil, fmt.Errorf("line %d holds no addresses", n)
		}
		rows = append(rows, row{local, remote, w[3], w[9]})
	}
	return rows, s.Err()
}

// parseHexAddr reads ADDRESS:PORT in hexadecimal, the address in words of four bytes of which the least significant comes first, as this machine keeps them.
func parseHexAddr(s string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(address)
	n, errPort := strconv.ParseUint(port, 16, 16)
	if err != nil || errPort != nil || (len(raw) != 4 && len(raw) != 16) {
		return netip.AddrPort{}, fmt.Errorf("no address: %.60q", s)
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	a, _ := netip.AddrFromSlice(raw) // 4 or 16 bytes
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}
