package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Portal is the part of the appliance that faces the network.
type Portal struct {
	StateDir        string   // absolute: TLS keys and certificates, nothing else
	Hosts           []string // lower case, what clients call it; the first is its own name
	Listen          string   // HTTPS
	ListenHTTP      string   // plain http: ACME, /ocsp, /crl, /ca
	ListenMetrics   string   // loopback
	TLS             string   // TLSACME, TLSOwnCA, TLSFiles
	CertificateFile string   // with TLSFiles
	KeyFile         string   // with TLSFiles
	ACMEDirectory   string
	ACMEEmail       string // may be empty
	ACMERootsFile   string // may be empty: the system's
	TrustedProxies  []netip.Prefix
	PrivateNetworks []netip.Prefix // where the names of those that the portal connects to may lead
	BodyBytes       int64          // of one request
	RequestTime     time.Duration  // for one request, from its first byte to the answer's last
	CallerRate      int            // requests a second of one authenticated caller
	PublicRate      int            // requests a second of one address without a token
}

// Where the portal's own certificate comes from.
const (
	TLSACME  = "acme"
	TLSOwnCA = "own-ca"
	TLSFiles = "files"
)

func portalKeys() []key {
	return slices.Concat(portalAddressKeys(), portalTLSKeys(), []key{
		{"portal", "trusted_proxies", "Networks of reverse proxies in front of the portal, separated by spaces: only what they write into X-Forwarded-For is believed. " +
			"Empty: there are none, and X-Forwarded-For is the booking app's word.", "10.1.2.0/24 2001:db8::/64", "",
			texts(prefix, func(c *Config, each []string) { c.Portal.TrustedProxies = prefixes(each) })},
		{"portal", "private_networks", "Networks on which identity providers, the backup host and whoever else the portal connects to by name may be although they are private, separated by " +
			"spaces. A name that leads to any other private address, to loopback or to a link-local one is refused, and counted in the metrics. Empty: public addresses only; who is named by address is not meant.",
			"10.20.0.0/16", "", texts(prefix, func(c *Config, each []string) { c.Portal.PrivateNetworks = prefixes(each) })},
		{"portal", "body_bytes", "Largest body of a request, in bytes. A PDF in base64 takes a third more than the PDF.", int64(24 << 20), int64(24 << 20),
			number(1<<16, 256<<20, func(c *Config, n int64) { c.Portal.BodyBytes = n })},
		{"portal", "request_time", "How long one request may take, from its first byte to the last of the answer: 1s to 5m.", "30s", "30s",
			duration(time.Second, 5*time.Minute, func(c *Config) *time.Duration { return &c.Portal.RequestTime })},
		{"portal", "caller_rate", "Requests a second that one clinic's caller may make, on average; bursts of twice as many.", int64(20), int64(20),
			number(1, 100000, func(c *Config, n int64) { c.Portal.CallerRate = int(n) })},
		{"portal", "public_rate", "Requests a second that one address may make without a token, to /tsa, /ocsp, /crl, /ca and the pages; bursts of twice as many. " +
			"An IPv6 network of 64 bits counts as one address.", int64(20), int64(20),
			number(1, 100000, func(c *Config, n int64) { c.Portal.PublicRate = int(n) })},
	})
}

func portalAddressKeys() []key {
	return []key{
		{"portal", "state_dir", "Folder of the portal's TLS keys and certificates. The portal's user owns it; nobody else may read it.",
			"/var/lib/aes-appliance/portal", "/var/lib/aes-appliance/portal", text(absolute, func(c *Config) *string { return &c.Portal.StateDir })},
		{"portal", "hosts", "Names that clients call the portal by, separated by spaces, its own first: the TLS certificate is for these. The portal does not start without. " +
			"With tls \"own-ca\" IP addresses may stand here too.",
			"sign.clinic-signing.example", "", texts(host, func(c *Config, each []string) { c.Portal.Hosts = each })},
		{"portal", "listen", "Address and port of HTTPS. Under systemd the socket unit decides.", ":443", ":443",
			text(address, func(c *Config) *string { return &c.Portal.Listen })},
		{"portal", "listen_http", "Address and port of plain http, which serves /ocsp, /crl and /ca as the certificates say, and ACME's challenges; all else is sent to HTTPS.",
			":80", ":80", text(address, func(c *Config) *string { return &c.Portal.ListenHTTP })},
		{"portal", "listen_metrics", "Address and port of /metrics and /readyz, without TLS: on loopback only.",
			"127.0.0.1:9464", "127.0.0.1:9464", text(loopback, func(c *Config) *string { return &c.Portal.ListenMetrics })},
	}
}

func portalTLSKeys() []key {
	return []key{
		{"portal", "tls", "Where the portal's certificate comes from. acme: an ACME CA, whose terms of service you accept by this. " +
			"own-ca: the appliance's own Infrastructure CA, which clients must be told to trust. files: files that you put there; the status that their CA gives is sent along (OCSP stapling).",
			TLSACME, TLSACME, text(oneOf(TLSACME, TLSOwnCA, TLSFiles), func(c *Config) *string { return &c.Portal.TLS })},
		{"portal", "certificate_file", "With tls \"files\": the certificate and its chain, PEM. Read again when it changes.",
			"/etc/aes-appliance/tls.pem", "", text(optional(absolute), func(c *Config) *string { return &c.Portal.CertificateFile })},
		{"portal", "key_file", "With tls \"files\": the private key, PEM, readable by its owner only; under systemd, a credential.",
			"/run/credentials/aes-portal.service/tls-key", "", text(optional(absolute), func(c *Config) *string { return &c.Portal.KeyFile })},
		{"portal", "acme_directory", "With tls \"acme\": the CA's directory.", "https://acme-v02.api.letsencrypt.org/directory",
			"https://acme-v02.api.letsencrypt.org/directory", text(httpsURL, func(c *Config) *string { return &c.Portal.ACMEDirectory })},
		{"portal", "acme_email", "With tls \"acme\": whom the CA may write to. May be left out.",
			"operations@clinic-signing.example", "", text(optional(upTo(254)), func(c *Config) *string { return &c.Portal.ACMEEmail })},
		{"portal", "acme_roots_file", "With tls \"acme\": root certificates, PEM, by which the CA's own HTTPS is judged. Left out: those of the system.",
			"/etc/aes-appliance/acme-roots.pem", "", text(optional(absolute), func(c *Config) *string { return &c.Portal.ACMERootsFile })},
	}
}

// agreePortal checks what no key of the section can be judged for alone.
func agreePortal(p Portal) Problems {
	var problems Problems
	if p.TLS == TLSFiles {
		for key, value := range map[string]string{"portal.certificate_file": p.CertificateFile, "portal.key_file": p.KeyFile} {
			if value == "" {
				problems = append(problems, Problem{Key: key, Text: "is missing", Cure: `tls = "files" needs it`})
			}
		}
		slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Key, b.Key) })
	}
	for _, h := range p.Hosts {
		if _, err := netip.ParseAddr(h); err == nil && p.TLS == TLSACME {
			problems = append(problems, Problem{Key: "portal.hosts", Text: "holds an IP address", Cure: `use a name, or tls = "own-ca"`})
			break
		}
	}
	return problems
}

// texts sets a list from one text with spaces between its members, each of which check accepts.
func texts(check func(string) (string, error), put func(c *Config, each []string)) func(*Config, any) error {
	return func(c *Config, value any) error {
		s, ok := value.(string)
		if !ok {
			return errors.New("is not a text in quotes")
		}
		var each []string
		for _, one := range strings.Fields(s) {
			clean, err := check(one)
			if err != nil {
				return err
			}
			if slices.Contains(each, clean) {
				return errors.New("names something twice")
			}
			each = append(each, clean)
		}
		put(c, each)
		return nil
	}
}

var hostLabels = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// host accepts a DNS name in ASCII (RFC 1123 §2.1) or an IP address.
func host(s string) (string, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return addr.String(), nil
	}
	s = strings.ToLower(s)
	if len(s) > 253 || !hostLabels.MatchString(s) {
		return "", errors.New("is not a list of host names with spaces between")
	}
	return s, nil
}

func prefix(s string) (string, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p != p.Masked() || p.Bits() == 0 {
		return "", errors.New("is not a list of networks such as 10.1.2.0/24 with spaces between")
	}
	return p.String(), nil
}

func prefixes(each []string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range each {
		list = append(list, netip.MustParsePrefix(s)) // as prefix returned it
	}
	return list
}

// address accepts [host]:port, the host an IP address or nothing.
func address(s string) (string, error) {
	h, port, err := net.SplitHostPort(s)
	n, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || errPort != nil || strconv.FormatUint(n, 10) != port {
		return "", errors.New("is not an address and port such as 192.0.2.1:443 or :443")
	}
	if _, err := netip.ParseAddr(h); h != "" && err != nil {
		return "", errors.New("is not an IP address and port, but a name")
	}
	return s, nil
}

func loopback(s string) (string, error) {
	s, err := address(s)
	if err != nil {
		return "", err
	}
	if ap, err := netip.ParseAddrPort(s); err != nil || !ap.Addr().IsLoopback() {
		return "", errors.New("is not on loopback")
	}
	return s, nil
}

func httpsURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !printableURL(s) {
		return "", errors.New("is not a plain https://host/path")
	}
	return s, nil
}
