package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestPortalListsAreSplit(t *testing.T) {
	cfg, err := Parse([]byte(minimal + "[portal]\ntls = \"own-ca\"\nhosts = \"Sign.Example.org  127.0.0.1\"\ntrusted_proxies = \"10.0.0.0/8 2001:db8::/32\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"sign.example.org", "127.0.0.1"}; !slices.Equal(cfg.Portal.Hosts, want) {
		t.Errorf("hosts %q, want %q", cfg.Portal.Hosts, want)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}; !slices.Equal(cfg.Portal.TrustedProxies, want) {
		t.Errorf("proxies %v, want %v", cfg.Portal.TrustedProxies, want)
	}
}

func TestPortalValuesRejected(t *testing.T) {
	var table []wrong
	for _, c := range []struct{ line, key, text string }{
		{`hosts = "https://x.example"`, "portal.hosts", "host names"},
		{`hosts = "x.example x.example"`, "portal.hosts", "twice"},
		{`hosts = "x.example fe80::1%eth0"`, "portal.hosts", "host names"},
		{`hosts = "x.example 192.0.2.1"`, "portal.hosts", "IP address"},
		{`hosts = "-x.example"`, "portal.hosts", "host names"},
		{`listen = "443"`, "portal.listen", "address and port"},
		{`listen = ":65536"`, "portal.listen", "address and port"},
		{`listen = ":0443"`, "portal.listen", "address and port"},
		{`listen = "example.org:443"`, "portal.listen", "but a name"},
		{`listen_metrics = ":9464"`, "portal.listen_metrics", "loopback"},
		{`listen_metrics = "192.0.2.1:9464"`, "portal.listen_metrics", "loopback"},
		{`tls = "none"`, "portal.tls", "acme, own-ca, files"},
		{"tls = \"files\"\nkey_file = \"/k\"", "portal.certificate_file", "is missing"},
		{"tls = \"files\"\ncertificate_file = \"/k\"", "portal.key_file", "is missing"},
		{`acme_directory = "http://acme.example/dir"`, "portal.acme_directory", "https"},
		{`trusted_proxies = "10.0.0.1/8"`, "portal.trusted_proxies", "networks"},
		{`trusted_proxies = "0.0.0.0/0"`, "portal.trusted_proxies", "networks"},
		{`trusted_proxies = "10.0.0.1"`, "portal.trusted_proxies", "networks"},
		{`body_bytes = 1`, "portal.body_bytes", "65536"},
		{`request_time = "10m"`, "portal.request_time", "5m"},
		{`caller_rate = 0`, "portal.caller_rate", "1 to 100000"},
		{`public_rate = -1`, "portal.public_rate", "1 to 100000"},
	} {
		table = append(table, wrong{"[token]", "[portal]\n" + c.line + "\n[token]", c.key, c.text})
	}
	reject(t, table)
	if !strings.Contains(Example(), "#hosts = \"\"") {
		t.Error("the example does not show hosts")
	}
}
