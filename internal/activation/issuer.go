package activation

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/veripath/aes-appliance/internal/fault"
)

// jwksPath is where a Keycloak realm publishes its keys, below its issuer.
const jwksPath = "/protocol/openid-connect/certs"

// endpoint is where a realm's keys are fetched from.
type endpoint struct {
	url     string
	host    string // that the TLS certificate is for
	address string // host:port to dial
	tls     bool
}

// maxPEM bounds a realm's own CA file.
const maxPEM = 64 << 10

func makeRealm(r Realm, demo bool) (*realm, error) {
	if !clinicSlug().MatchString(r.Clinic) {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("%.80q is no slug of a clinic", r.Clinic))
	}
	where, err := parseIssuer(r.Issuer, demo)
	if err != nil {
		return nil, err
	}
	made := &realm{Realm: r, where: where}
	if r.CA == "" {
		return made, nil
	}
	if !where.tls {
		return nil, fault.New(fault.Invalid, "a realm without TLS has no use for a CA")
	}
	made.roots, err = parseRoots(r.CA)
	return made, err
}

func parseRoots(text string) (*x509.CertPool, error) {
	invalid := func(text string, err error) error {
		return fault.New(fault.Invalid, "the realm's CA "+text).WithCause(err).WithHint("give PEM certificates of the authorities that its TLS certificate may be by")
	}
	if len(text) > maxPEM {
		return nil, invalid(fmt.Sprintf("has more than %d bytes", maxPEM), nil)
	}
	pool, rest := x509.NewCertPool(), []byte(text)
	for n := 0; ; n++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			if n == 0 || strings.TrimSpace(string(rest)) != "" {
				return nil, invalid("is not PEM certificates alone", nil)
			}
			return pool, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, invalid(fmt.Sprintf("holds a %.40q", block.Type), nil)
		}
		crt, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, invalid("holds what is no certificate", err)
		}
		pool.AddCert(crt)
	}
}

// hostName matches names whose last label begins with a letter, as every top-level domain does: 0177.0.0.1 is an address to some resolvers.
func hostName() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
}

// parseIssuer accepts an issuer only in the one form that it can have: OpenID Connect Core §2 compares it as text, so that any other spelling would
// be another issuer. https, and not this machine, unless demo: then http on loopback too.
func parseIssuer(issuer string, demo bool) (endpoint, error) {
	invalid := func(text string) error {
		return fault.New(fault.Invalid, fmt.Sprintf("the issuer %.200q %s", issuer, text)).
			WithHint("give it exactly as tokens have it in iss, e.g. https://sso.example.org/realms/clinic")
	}
	if len(issuer) > 500 {
		return endpoint{}, invalid("has more than 500 characters")
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return endpoint{}, invalid("is no URL")
	}
	if u.User != nil || u.Opaque != "" || strings.ContainsAny(issuer, "?#%\\ ") || u.Scheme+"://"+u.Host+u.Path != issuer {
		return endpoint{}, invalid("has more than scheme, host, port and a plain path")
	}
	if u.Path != "" && (path.Clean(u.Path) != u.Path || u.Path == "/" || strings.ContainsFunc(u.Path, func(c rune) bool { return c <= ' ' || c > '~' })) {
		return endpoint{}, invalid("has a path that is not in its shortest form, or ends in a slash")
	}
	host, port := u.Hostname(), u.Port()
	addr, notAddress := netip.ParseAddr(host)
	if notAddress == nil && addr.Unmap().String() != host || notAddress != nil && !hostName().MatchString(host) || len(host) > 253 {
		return endpoint{}, invalid("has a host that is no lower-case name and no address in its shortest form")
	}
	where := endpoint{url: issuer + jwksPath, host: host, tls: u.Scheme == "https"}
	standard := map[string]string{"https": "443", "http": "80"}[u.Scheme]
	switch {
	case standard == "" || strings.HasSuffix(u.Host, ":") || strings.HasPrefix(port, "0"):
		return endpoint{}, invalid("is not https, or has an odd port")
	case port == standard:
		return endpoint{}, invalid("names the standard port, which tokens leave out")
	case port == "":
		port = standard
	}
	local := isLoopback(host, addr)
	switch {
	case addr.IsUnspecified() || addr.IsLinkLocalUnicast() || addr.IsMulticast():
		return endpoint{}, invalid("has an address that no realm can have")
	case local && !demo:
		return endpoint{}, invalid("is on this machine, and this appliance is not a demo")
	case !where.tls && !(local && demo):
		return endpoint{}, invalid("is not https")
	}
	where.address = net.JoinHostPort(host, port)
	return where, nil
}

func isLoopback(host string, addr netip.Addr) bool {
	return addr.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".localdomain")
}
