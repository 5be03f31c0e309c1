package portal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
)

// Why the portal connects to somebody. There is nothing else that it connects for.
const (
	egressRealm  = "realm"  // an identity provider whose keys the signer asks for: the host of a registered realm
	egressSigner = "signer" // the backup host, a witness of the log, its time-stamping authority: the address that the signer names
	egressACME   = "acme"   // the ACME authority of the configuration
	egressOCSP   = "ocsp"   // the responder that the listener's certificate names
)

// errEgress says that a connection is refused by what it leads to.
var errEgress = errors.New("the portal does not connect there")

// egress is the one way by which the portal connects to other machines. The packet filter decides by address and port; what it cannot do, names, is done
// here: only those are dialled that an act of the log, the configuration or the listener's certificate names, and a name does not lead inward: whoever
// answers for it in the DNS would otherwise choose among the machines behind the filter.
type egress struct {
	private  []netip.Prefix // where names may lead all the same
	resolver *net.Resolver
	refused  func(why string)
	log      *slog.Logger
}

// dial connects to address (host:port), TCP. A host that is written as an address was chosen by an operator, and may be on a private network or on
// loopback; what a name leads to may not, unless it is in egress.private.
func (g *egress) dial(ctx context.Context, why, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, g.refuse(ctx, why, address, "it is no host and port")
	}
	_, err = netip.ParseAddr(host)
	named := err != nil
	d := &net.Dialer{Timeout: dialTime, Resolver: g.resolver}
	// Asked for each address that is tried, after the name was looked up: what is checked is what is connected to.
	d.ControlContext = func(ctx context.Context, _, got string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(got)
		if err != nil {
			return g.refuse(ctx, why, address, "it leads to "+got)
		}
		if wrong := g.wrong(ap.Addr(), named); wrong != "" {
			return g.refuse(ctx, why, address, "it leads to "+ap.Addr().String()+": "+wrong)
		}
		return nil
	}
	return d.DialContext(ctx, "tcp", address)
}

// ofIssuer refuses an address that is not on the host of the realm that it is said to be of: keys of a realm come from nowhere else.
func (g *egress) ofIssuer(ctx context.Context, issuer, address string) error {
	u, err := url.Parse(issuer)
	host, _, errAddress := net.SplitHostPort(address)
	if err != nil || errAddress != nil || !strings.EqualFold(u.Hostname(), host) {
		return g.refuse(ctx, egressRealm, address, "it is not the host of the realm")
	}
	return nil
}

// client returns the DialContext of an HTTP client for one purpose.
func (g *egress) client(why string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) { return g.dial(ctx, why, address) }
}

// only is for a client whose connections cannot be given to it, as http.Transport.Proxy: it lets a request to one of hosts (host or host:port) go, without a
// proxy, and refuses others. What the name leads to is looked up for this; that the same answer comes a moment later is for TLS to make sure.
func (g *egress) only(why string, hosts func(u *url.URL) bool) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		if !hosts(r.URL) {
			return nil, g.refuse(r.Context(), why, r.URL.Host, "nothing names it")
		}
		host := r.URL.Hostname()
		if _, err := netip.ParseAddr(host); err == nil {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(r.Context(), dialTime)
		defer cancel()
		addresses, err := g.resolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			if wrong := g.wrong(a, true); wrong != "" {
				return nil, g.refuse(r.Context(), why, r.URL.Host, "it leads to "+a.String()+": "+wrong)
			}
		}
		return nil, nil
	}
}

// refuse counts and says that a connection is not made.
func (g *egress) refuse(ctx context.Context, why, address, text string) error {
	g.refused(why)
	g.log.WarnContext(ctx, "a connection to the outside is refused", "for", why, "address", address, "cause", text)
	return fmt.Errorf("%w: %.200s: %s", errEgress, address, text)
}

// wrong says why an address is not connected to; "" when it is. named is whether a name led to it.
func (g *egress) wrong(a netip.Addr, named bool) string {
	a = inner(a)
	switch {
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "it is nobody's address"
	case a.IsLinkLocalUnicast():
		return "it is link-local: where clouds keep secrets of machines"
	case !named:
		return ""
	case covered(g.private, a):
		return ""
	case a.IsLoopback():
		return "it is this machine"
	case a.IsPrivate() || covered(inward(), a):
		return "it is on a private network; portal.private_networks lets names lead there"
	}
	return ""
}

// inner returns the IPv4 address within one of IPv6 that is translated on the way (RFC 4291 §2.5.5.2, RFC 6052, RFC 3056), a itself when there is none.
func inner(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	raw := a.As16()
	switch {
	case a.Is4():
		return a
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a):
		return netip.AddrFrom4([4]byte(raw[12:]))
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return netip.AddrFrom4([4]byte(raw[2:6]))
	}
	return a
}

// inward are networks besides RFC 1918's and RFC 4193's that no public name leads to: this network, shared address space (RFC 6598), IETF protocols, reserved,
// IPv4-compatible, local-use translation (RFC 8215), site-local.
func inward() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "240.0.0.0/4", "::/96", "64:ff9b:1::/48", "fec0::/10"} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func covered(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// sameHost reports whether u is on the host and port of a configured address.
func sameHost(configured string) func(*url.URL) bool {
	want, err := url.Parse(configured)
	return func(u *url.URL) bool {
		return err == nil && u.Scheme == want.Scheme && strings.EqualFold(u.Host, want.Host)
	}
}

// plainHTTP reports whether u is what a certificate may name for its status.
func plainHTTP(u *url.URL) bool { return u.Scheme == "http" && u.Hostname() != "" }

// newEgress makes the portal's.
func (p *Portal) newEgress() *egress {
	resolver := p.cfg.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	return &egress{private: p.cfg.PrivateNetworks, resolver: resolver, refused: p.metrics.refusal, log: p.log}
}
