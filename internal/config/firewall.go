package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Firewall is what the packet filter lets through besides the ports that the services themselves listen on.
type Firewall struct {
	AdminNetworks []netip.Prefix // ssh from here; none: from nowhere
	SSHPort       uint16
	HTTPSPorts    []uint16 // out, TCP, to anywhere
	HTTPPorts     []uint16
	MailPorts     []uint16
	DNSServers    []netip.Prefix // none: port 53 of anywhere
	NTPServers    []netip.Prefix // none: port 123 of anywhere
	MoreIn        []Opening
	MoreOut       []Opening

	Backup    []netip.AddrPort // of a primary: where its backup host listens
	Primaries []netip.Prefix   // of a backup host: who may connect to its service
	Watched   []netip.Prefix   // of a backup host: who may connect to its witness, besides Primaries
}

// Opening is one more port that is open to or from a network.
type Opening struct {
	Port    uint16
	Proto   string // tcp, udp
	Network netip.Prefix
}

// String returns o as the configuration writes it.
func (o Opening) String() string { return fmt.Sprintf("%d/%s@%v", o.Port, o.Proto, o.Network) }

// filterSection introduces the keys that both files have.
const filterSection = "What the packet filter (ufw) lets through, besides the ports that the services listen on: everything else is dropped, in and out. " +
	"\"appliance firewall apply\" puts it in force, \"appliance firewall check\" compares. It knows addresses and ports, not names: those are the portal's own to watch."

// firewallKeys are the keys of both files; own are those of one.
func firewallKeys(at func(*Config) *Firewall, own ...key) []key {
	networks := func(field func(*Firewall) *[]netip.Prefix) func(*Config, any) error {
		return texts(network, func(c *Config, each []string) { *field(at(c)) = prefixes(each) })
	}
	ports := func(field func(*Firewall) *[]uint16) func(*Config, any) error {
		return texts(port, func(c *Config, each []string) {
			for _, s := range each {
				n, _ := strconv.ParseUint(s, 10, 16) // as port returned it
				*field(at(c)) = append(*field(at(c)), uint16(n))
			}
		})
	}
	more := func(field func(*Firewall) *[]Opening) func(*Config, any) error {
		return texts(opening, func(c *Config, each []string) {
			for _, s := range each {
				o, _ := parseOpening(s) // as opening returned it
				*field(at(c)) = append(*field(at(c)), o)
			}
		})
	}
	keys := []key{
		{"firewall", "admin_networks", "Addresses and networks of administrators, separated by spaces: ssh is let in from here and from nowhere else. Empty: from nowhere.",
			"203.0.113.7 2001:db8:1::/48", "", networks(func(f *Firewall) *[]netip.Prefix { return &f.AdminNetworks })},
		{"firewall", "ssh_port", "Port of ssh.", int64(22), int64(22), number(1, 65535, func(c *Config, n int64) { at(c).SSHPort = uint16(n) })},
	}
	keys = append(keys, own...)
	return append(keys, []key{
		{"firewall", "https_ports", "Ports to which https may go out, separated by spaces: identity providers, an ACME authority, witnesses, apt. Empty: none.",
			"443 8443", "443", ports(func(f *Firewall) *[]uint16 { return &f.HTTPSPorts })},
		{"firewall", "http_ports", "Ports to which plain http may go out: apt, the status of certificates, time stamps. Empty: none.",
			"80", "80", ports(func(f *Firewall) *[]uint16 { return &f.HTTPPorts })},
		{"firewall", "mail_ports", "Ports to which mail may go out (submission, with STARTTLS). Empty: none.",
			"587", "587", ports(func(f *Firewall) *[]uint16 { return &f.MailPorts })},
		{"firewall", "dns_servers", "Addresses of the name servers that may be asked. Empty: any.",
			"192.0.2.53 2001:db8::53", "", networks(func(f *Firewall) *[]netip.Prefix { return &f.DNSServers })},
		{"firewall", "ntp_servers", "Addresses of the time servers that may be asked. Empty: any.",
			"192.0.2.123", "", networks(func(f *Firewall) *[]netip.Prefix { return &f.NTPServers })},
		{"firewall", "more_in", "What else may come in, as PORT/tcp@NETWORK or PORT/udp@NETWORK, separated by spaces: an agent of the monitoring, say.",
			"9100/tcp@192.0.2.40", "", more(func(f *Firewall) *[]Opening { return &f.MoreIn })},
		{"firewall", "more_out", "What else may go out, written likewise: a server that collects logs, say.",
			"6514/tcp@192.0.2.41 161/udp@2001:db8::41", "", more(func(f *Firewall) *[]Opening { return &f.MoreOut })},
	}...)
}

// applianceFirewallKeys are those of appliance.toml.
func applianceFirewallKeys() []key {
	return firewallKeys(func(c *Config) *Firewall { return &c.Firewall },
		key{"firewall", "backup", "Address and port of the backup host, separated by spaces when it has several: the only place that its port is open to. Empty: there is none yet.",
			"192.0.2.20:7443 [2001:db8::20]:7443", "", texts(addressPort, func(c *Config, each []string) {
				for _, s := range each {
					c.Firewall.Backup = append(c.Firewall.Backup, netip.MustParseAddrPort(s)) // as addressPort returned it
				}
			})})
}

// receiverFirewallKeys are those of receiver.toml.
func receiverFirewallKeys() []key {
	list := func(field func(*Firewall) *[]netip.Prefix) func(*Config, any) error {
		return texts(network, func(c *Config, each []string) { *field(&c.Receiver.Firewall) = prefixes(each) })
	}
	return firewallKeys(func(c *Config) *Firewall { return &c.Receiver.Firewall },
		key{"firewall", "primaries", "Addresses of the primaries, separated by spaces: the service's port is open to these and to nobody else. A bare machine that a lost primary is to be restored on counts too, while that lasts.",
			"192.0.2.10 2001:db8::10", "", list(func(f *Firewall) *[]netip.Prefix { return &f.Primaries })},
		key{"firewall", "watched", "Addresses and networks from which witness.listen is reached, besides primaries.",
			"198.51.100.0/24", "", list(func(f *Firewall) *[]netip.Prefix { return &f.Watched })})
}

// agree checks what no key can be judged for alone.
func (f Firewall) agree() Problems {
	for _, o := range f.MoreIn {
		if o.Proto == "tcp" && o.Port == f.SSHPort {
			return Problems{{Key: "firewall.more_in", Text: "opens the port of ssh", Cure: "name the network in admin_networks"}}
		}
	}
	return nil
}

// network accepts a network, or the address of one machine: 192.0.2.7 is 192.0.2.7/32. Everywhere is refused: it would make a rule that keeps nobody out.
func network(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()).String(), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p != p.Masked() || p.Bits() == 0 || p.Addr().Is4In6() {
		return "", errors.New("is not a list of addresses and networks such as 192.0.2.7 or 10.1.2.0/24 with spaces between")
	}
	return p.String(), nil
}

func port(s string) (string, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return "", errors.New("is not a list of ports from 1 to 65535 with spaces between")
	}
	return s, nil
}

func addressPort(s string) (string, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Port() == 0 || ap.Addr().Zone() != "" || ap.Addr().IsUnspecified() {
		return "", errors.New("is not a list of addresses with ports such as 192.0.2.20:7443 with spaces between")
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String(), nil
}

func opening(s string) (string, error) {
	o, err := parseOpening(s)
	if err != nil {
		return "", err
	}
	return o.String(), nil
}

func parseOpening(s string) (Opening, error) {
	bad := errors.New("is not a list such as 9100/tcp@192.0.2.40 with spaces between")
	what, where, found := strings.Cut(s, "@")
	number, proto, slash := strings.Cut(what, "/")
	if !found || !slash || !slices.Contains([]string{"tcp", "udp"}, proto) {
		return Opening{}, bad
	}
	number, errPort := port(number)
	where, errWhere := network(where)
	if errPort != nil || errWhere != nil {
		return Opening{}, bad
	}
	n, _ := strconv.ParseUint(number, 10, 16) // as port returned it
	return Opening{Port: uint16(n), Proto: proto, Network: netip.MustParsePrefix(where)}, nil
}
