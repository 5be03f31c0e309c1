package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/signer"
)

// Bounds of the listener's certificate: ACME renews at a third of 90 days, own-ca likewise, files are somebody's duty.
const (
	warnTLS = 14 * 24 * time.Hour
	badTLS  = 3 * 24 * time.Hour
)

func (e *exam) tls(ctx context.Context, s *sheet) {
	p := e.Appliance.Portal
	if len(p.Hosts) == 0 {
		s.bad("tls.name", `set portal.hosts, then: systemctl restart aes-portal`, "the configuration has no host name for the portal")
		return
	}
	_, port, err := net.SplitHostPort(p.Listen)
	if err != nil || port == "0" {
		port = "443"
	}
	roots, err := e.tlsRoots()
	if err != nil {
		s.unknown("tls.name", "as root: appliance doctor", "the root certificate that clients would trust cannot be read: %v", err)
		return
	}
	here := net.JoinHostPort(e.local(p.Listen), port)
	local := e.shake(ctx, s, "tls.listener", here, p.Hosts[0], roots)
	for _, h := range p.Hosts {
		if local {
			e.shake(ctx, s, "tls.name", net.JoinHostPort(h, port), h, roots)
		} else {
			s.unknown("tls.name", "mend the listener first", "%s was not tried: the listener on this machine does not answer", h)
		}
	}
}

// local is the address on which this machine reaches a listener of its own.
func (e *exam) local(listen string) string {
	host, _, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return host
}

// tlsRoots are by what clients judge the listener: the appliance's own root with own-ca, else the system's (nil).
func (e *exam) tlsRoots() (*x509.CertPool, error) {
	if e.Appliance.Portal.TLS != config.TLSOwnCA {
		return nil, nil
	}
	data, err := e.rootPEM()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if block, _ := pem.Decode(data); block == nil || !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate", signer.RootPEMName)
	}
	return pool, nil
}

// shake makes a handshake as a client would, but judges the certificate afterwards, to say exactly what is wrong with it. It reports whether anybody answered.
func (e *exam) shake(ctx context.Context, s *sheet, check, address, name string, roots *x509.CertPool) bool {
	conn, err := e.m.Dial(ctx, "tcp", address)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		s.bad(check, "let the DNS name "+name+" point to this machine", "the name %s does not resolve: %v", name, err)
		return false
	case err != nil && check == "tls.name":
		s.unknown(check, "try it from another machine: openssl s_client -connect "+address+" -servername "+name+"; if that fails too: DNS, the firewall (appliance firewall show), the provider's own",
			"%s cannot be reached from here by its name: %v", address, err)
		return false
	case err != nil:
		s.bad(check, curePortal, "nobody answers on %s: %v", address, err)
		return false
	}
	c := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}) // judged below
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		s.bad(check, curePortal, "%s answers, but not with TLS: %v", address, err)
		return false
	}
	e.judgeTLS(s, check, address, name, c.ConnectionState(), roots)
	return true
}

func (e *exam) judgeTLS(s *sheet, check, address, name string, st tls.ConnectionState, roots *x509.CertPool) {
	leaf, between := st.PeerCertificates[0], x509.NewCertPool()
	for _, c := range st.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: e.Now(), DNSName: name})
	ends, left := leaf.NotAfter.Format(time.DateOnly), e.left(leaf.NotAfter)
	var stranger x509.UnknownAuthorityError
	renew := map[string]string{
		config.TLSACME: "journalctl -u aes-portal | grep -i acme; port 80 must reach this machine", config.TLSOwnCA: curePortal,
		config.TLSFiles: "put the new certificate into portal.certificate_file; it is taken up by itself",
	}[e.Appliance.Portal.TLS]
	var f *Finding
	switch {
	case errors.As(err, &stranger) && e.Appliance.Portal.TLS == config.TLSFiles:
		f = s.warn(check, "clients must be told to trust its CA, or the file must hold the whole chain", "%s: the certificate's CA is not one that this machine trusts", address)
	case err != nil:
		f = s.bad(check, renew, "%s as %s: %v", address, name, err)
	case st.Version < tls.VersionTLS12:
		f = s.bad(check, "see what stands in front of the portal", "%s speaks %s", address, tls.VersionName(st.Version))
	case left < badTLS:
		f = s.bad(check, renew, "%s: the certificate ends on %s, in %s", address, ends, days(left))
	case left < warnTLS:
		f = s.warn(check, renew, "%s: the certificate ends on %s, in %s", address, ends, days(left))
	default:
		f = s.ok(check, "%s answers as %s with %s, its certificate is good until %s", address, name, tls.VersionName(st.Version), ends)
	}
	f.with("not_after", leaf.NotAfter).with("version", tls.VersionName(st.Version))
}
