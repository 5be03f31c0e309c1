package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestFirewallValuesRejected(t *testing.T) {
	in := func(text string) string { return "[firewall]\n" + text + "\n[pki]" }
	reject(t, []wrong{
		{`[pki]`, in(`admin_networks = "0.0.0.0/0"`), "firewall.admin_networks", "192.0.2.7"},
		{`[pki]`, in(`admin_networks = "::/0"`), "firewall.admin_networks", "192.0.2.7"},
		{`[pki]`, in(`admin_networks = "10.1.2.3/24"`), "firewall.admin_networks", "10.1.2.0/24"},
		{`[pki]`, in(`admin_networks = "office.example"`), "firewall.admin_networks", "addresses and networks"},
		{`[pki]`, in(`admin_networks = "fe80::1%eth0"`), "firewall.admin_networks", "addresses and networks"},
		{`[pki]`, in(`admin_networks = "192.0.2.7, 192.0.2.8"`), "firewall.admin_networks", "spaces between"},
		{`[pki]`, in(`admin_networks = "192.0.2.7 192.0.2.7/32"`), "firewall.admin_networks", "twice"},
		{`[pki]`, in(`ssh_port = 0`), "firewall.ssh_port", "65535"},
		{`[pki]`, in(`https_ports = "443 0"`), "firewall.https_ports", "65535"},
		{`[pki]`, in(`https_ports = 443`), "firewall.https_ports", "text in quotes"},
		{`[pki]`, in(`http_ports = "080"`), "firewall.http_ports", "65535"},
		{`[pki]`, in(`mail_ports = "smtp"`), "firewall.mail_ports", "65535"},
		{`[pki]`, in(`dns_servers = "resolver"`), "firewall.dns_servers", "addresses and networks"},
		{`[pki]`, in(`backup = "192.0.2.20"`), "firewall.backup", "192.0.2.20:7443"},
		{`[pki]`, in(`backup = "backup.example:7443"`), "firewall.backup", "192.0.2.20:7443"},
		{`[pki]`, in(`backup = "0.0.0.0:7443"`), "firewall.backup", "192.0.2.20:7443"},
		{`[pki]`, in(`more_in = "9100@192.0.2.40"`), "firewall.more_in", "9100/tcp@192.0.2.40"},
		{`[pki]`, in(`more_in = "9100/sctp@192.0.2.40"`), "firewall.more_in", "9100/tcp@192.0.2.40"},
		{`[pki]`, in(`more_in = "22/tcp@192.0.2.40"`), "firewall.more_in", "admin_networks"},
		{`[pki]`, in(`more_out = "6514/tcp@0.0.0.0/0"`), "firewall.more_out", "9100/tcp@192.0.2.40"},
		{`[pki]`, in(`primaries = "192.0.2.10"`), "firewall.primaries", "is not known"},
	})
}

func TestFirewallValues(t *testing.T) {
	cfg, err := Parse([]byte(minimal + "\n[firewall]\nadmin_networks = \"203.0.113.7 2001:db8:1::/48\"\nssh_port = 2222\nhttps_ports = \"443 8443\"\nmail_ports = \"\"\n" +
		"backup = \"192.0.2.20:7443 [2001:db8::20]:7444\"\nmore_out = \"161/udp@2001:db8::41\"\n"))
	want := Firewall{
		AdminNetworks: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("2001:db8:1::/48")}, SSHPort: 2222,
		HTTPSPorts: []uint16{443, 8443}, HTTPPorts: []uint16{80},
		Backup:  []netip.AddrPort{netip.MustParseAddrPort("192.0.2.20:7443"), netip.MustParseAddrPort("[2001:db8::20]:7444")},
		MoreOut: []Opening{{161, "udp", netip.MustParsePrefix("2001:db8::41/128")}},
	}
	if err != nil || !reflect.DeepEqual(cfg.Firewall, want) {
		t.Errorf("%+v, %v", cfg.Firewall, err)
	}
	r, err := ParseReceiver([]byte("[firewall]\nprimaries = \"192.0.2.10\"\nwatched = \"198.51.100.0/24\"\n"))
	if err != nil || len(r.Firewall.Primaries) != 1 || len(r.Firewall.Watched) != 1 {
		t.Errorf("%+v, %v", r.Firewall, err)
	}
	if _, err := ParseReceiver([]byte("[firewall]\nbackup = \"192.0.2.20:7443\"\n")); err == nil || !strings.Contains(err.Error(), "firewall.backup is not known") {
		t.Errorf("a primary's key in a backup host's file: %v", err)
	}
}
