// Package firewall is what the packet filter of each role lets through, and puts it in force with ufw: nothing in and nothing out but that.
//
// A Plan is made of the configuration alone. Host compares it with what is in force and applies it, so that who administers the machine cannot lock
// themselves out: what is new is in the kernel only, until it is confirmed, and the files that the next boot reads are the old ones.
package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/veripath/aes-appliance/internal/config"
)

// Direction is where a packet that opens a connection goes.
type Direction string

// Directions.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// Rule lets something through.
type Rule struct {
	Direction Direction    `json:"direction"`
	Proto     string       `json:"protocol"` // tcp, udp
	Port      uint16       `json:"port"`     // of this machine when it goes in, of the other when it goes out
	Network   netip.Prefix `json:"network"`  // of the other side; the zero value is anywhere
	Why       string       `json:"why"`      // for people: the comment of the rule in ufw, after mark, which takes no apostrophe
}

// mark begins the comment of every rule that comes from the configuration: it tells them from others.
const mark = "aes-appliance: "

// Anywhere reports whether the other side may have any address.
func (r Rule) Anywhere() bool { return !r.Network.IsValid() }

// String returns r for people.
func (r Rule) String() string {
	other := "anywhere"
	if !r.Anywhere() {
		other = r.Network.String()
		if r.Network.IsSingleIP() {
			other = r.Network.Addr().String()
		}
	}
	if r.Direction == In {
		return fmt.Sprintf("in %d/%s from %s", r.Port, r.Proto, other)
	}
	return fmt.Sprintf("out to %s %d/%s", other, r.Port, r.Proto)
}

// args are the words of ufw that add r.
func (r Rule) args() []string {
	other := "any"
	if !r.Anywhere() {
		other = r.Network.String()
	}
	port := strconv.Itoa(int(r.Port))
	if r.Direction == In {
		return []string{"allow", "in", "proto", r.Proto, "from", other, "to", "any", "port", port, "comment", mark + r.Why}
	}
	return []string{"allow", "out", "proto", r.Proto, "to", other, "port", port, "comment", mark + r.Why}
}

// Plan is everything that is let through, in the order in which it is shown. What belongs to a connection that was let through, ICMP that the
// network needs, and loopback are ufw's own rules, which it does not repeat.
type Plan struct {
	Role    string         `json:"role"` // primary, backup
	Rules   []Rule         `json:"rules"`
	Admins  []netip.Prefix `json:"-"` // whence ssh comes in
	SSHPort uint16         `json:"-"`
}

// Primary is the plan of the machine that signs.
func Primary(c config.Config) Plan {
	p := Plan{Role: "primary", Admins: c.Firewall.AdminNetworks, SSHPort: c.Firewall.SSHPort}
	p.open(portOf(c.Portal.Listen), "API and pages (https)")
	p.open(portOf(c.Portal.ListenHTTP), "status of certificates, ACME (http)")
	p.common(c.Firewall)
	for _, b := range c.Firewall.Backup {
		p.add(Rule{Out, "tcp", b.Port(), single(b.Addr()), "backup host"})
	}
	return p
}

// Backup is the plan of a backup host.
func Backup(c config.Receiver) Plan {
	p := Plan{Role: "backup", Admins: c.Firewall.AdminNetworks, SSHPort: c.Firewall.SSHPort}
	p.from(c.Firewall.Primaries, portOf(c.Listen), "log of a primary")
	if c.Witness.Listen != "" {
		p.from(slices.Concat(c.Firewall.Primaries, c.Firewall.Watched), portOf(c.Witness.Listen), "logs that are watched")
	}
	p.common(c.Firewall)
	return p
}

// common is what both roles need.
func (p *Plan) common(f config.Firewall) {
	p.from(f.AdminNetworks, f.SSHPort, "administrators (ssh)")
	for _, o := range f.MoreIn {
		p.add(Rule{In, o.Proto, o.Port, o.Network, "more_in"})
	}
	for _, proto := range []string{"udp", "tcp"} {
		p.out(proto, 53, f.DNSServers, "names (DNS)")
	}
	p.out("udp", 123, f.NTPServers, "time (NTP)")
	p.out("udp", 67, nil, "renewal of the address (DHCP)")
	p.out("udp", 547, []netip.Prefix{netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff02::1:2/128")}, "renewal of the address (DHCPv6)")
	for _, each := range []struct {
		ports []uint16
		why   string
	}{{f.HTTPSPorts, "https"}, {f.HTTPPorts, "http: apt, status of certificates"}, {f.MailPorts, "mail (submission)"}} {
		for _, port := range each.ports {
			p.out("tcp", port, nil, each.why)
		}
	}
	for _, o := range f.MoreOut {
		p.add(Rule{Out, o.Proto, o.Port, o.Network, "more_out"})
	}
}

// open lets TCP in to a port from anywhere.
func (p *Plan) open(port uint16, why string) {
	p.add(Rule{Direction: In, Proto: "tcp", Port: port, Why: why})
}

// from lets TCP in to a port from each of networks: from nowhere when there is none.
func (p *Plan) from(networks []netip.Prefix, port uint16, why string) {
	for _, n := range networks {
		p.add(Rule{In, "tcp", port, n, why})
	}
}

// out lets something go to a port of each of networks: of anywhere when there is none.
func (p *Plan) out(proto string, port uint16, networks []netip.Prefix, why string) {
	if len(networks) == 0 {
		p.add(Rule{Direction: Out, Proto: proto, Port: port, Why: why})
	}
	for _, n := range networks {
		p.add(Rule{Out, proto, port, n, why})
	}
}

// add adds a rule once: what is let through for two reasons is one rule of ufw.
func (p *Plan) add(r Rule) {
	if !slices.ContainsFunc(p.Rules, func(o Rule) bool { o.Why = r.Why; return o == r }) {
		p.Rules = append(p.Rules, r)
	}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// portOf returns the port of what config accepted as an address to listen on.
func portOf(listen string) uint16 {
	_, port, _ := net.SplitHostPort(listen)
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint16(n)
}
