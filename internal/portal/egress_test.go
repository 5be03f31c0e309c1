package portal

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/veripath/aes-appliance/internal/wire"
)

// names is a resolver that asks a name server of the test's, which answers with the addresses that zone has for a name.
func names(t *testing.T, zone map[string][]string) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			q := m.Questions[0]
			for _, s := range zone[strings.TrimSuffix(q.Name.String(), ".")] {
				h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
				switch a := netip.MustParseAddr(s); {
				case a.Is4() && q.Type == dnsmessage.TypeA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
				case a.Is6() && q.Type == dnsmessage.TypeAAAA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
			if packed, err := m.Pack(); err == nil {
				server.WriteTo(packed, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// refusals are how often a connection was refused for one purpose.
func refusals(p *Portal, why string) uint64 {
	p.metrics.mu.Lock()
	defer p.metrics.mu.Unlock()
	return p.metrics.refused[why]
}

// TestNamesLeadOutwardOnly: whoever answers for a name in the DNS does not choose among the machines behind the filter.
func TestNamesLeadOutwardOnly(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	inside := []string{
		"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.0.8", "224.0.0.1", "240.0.0.1",
		"255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
		"64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::1",
	}
	zone := map[string][]string{}
	for _, s := range inside {
		zone[strings.NewReplacer(".", "-", ":", "-").Replace("a"+s+"z")+".example"] = []string{s}
	}
	p, _ := newPortal(t, func(c *Config) { c.Resolver = names(t, zone) })
	for name, to := range zone {
		before := refusals(p, egressRealm)
		conn, err := p.connect(t.Context(), egressRealm, net.JoinHostPort(name, port))
		if conn != nil || !errors.Is(err, errEgress) || refusals(p, egressRealm) == before {
			t.Errorf("%v: %v, %v, %d refusals", to, conn, err, refusals(p, egressRealm)-before)
		}
	}
	for _, s := range []string{"8.8.8.8", "192.0.2.1", "2001:4860::1", "64:ff9b::808:808", "2002:808:808::1"} {
		if wrong := p.egress.wrong(netip.MustParseAddr(s), true); wrong != "" {
			t.Errorf("%s: %s", s, wrong)
		}
	}
}

// TestAddressesOfOperators: an operator may name an address within, but none that is nobody's or a cloud's.
func TestAddressesOfOperators(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	p, _ := newPortal(t, func(c *Config) {
		c.Resolver = names(t, map[string][]string{"idp.intranet.example": {"fd00::1", "127.0.0.1"}})
	})
	conn, err := p.connect(t.Context(), egressSigner, listener.Addr().String())
	if err != nil {
		t.Fatalf("an address that an operator named: %v", err)
	}
	conn.Close()
	for _, s := range []string{"169.254.169.254:80", "0.0.0.0:" + port, "[::]:" + port, "[fe80::1]:80", "224.0.0.1:80", "[::ffff:169.254.169.254]:80", "no-port"} {
		if conn, err := p.connect(t.Context(), egressSigner, s); conn != nil || !errors.Is(err, errEgress) {
			t.Errorf("%s: %v", s, err)
		}
	}
	if _, err := p.connect(t.Context(), egressRealm, "idp.intranet.example:"+port); !errors.Is(err, errEgress) {
		t.Errorf("a name that leads within: %v", err)
	}
	p.egress.private = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if conn, err = p.connect(t.Context(), egressRealm, "idp.intranet.example:"+port); err != nil {
		t.Fatalf("a name that may lead within: %v", err)
	}
	conn.Close()
}

// TestSignerIsToldOfARefusal: the signer hears that there is no connection, and the metrics count it.
func TestSignerIsToldOfARefusal(t *testing.T) {
	p, d := newPortal(t, func(c *Config) { c.Resolver = names(t, map[string][]string{"witness.example": {"169.254.169.254"}}) })
	d.do[wire.OpWanted] = func(any, *os.File) (any, *os.File, error) {
		return wire.Wanted{ID: 7, Address: "witness.example:80"}, nil, nil
	}
	told := make(chan wire.Dialled, 1)
	d.do[wire.OpDialled] = func(in any, fd *os.File) (any, *os.File, error) {
		if fd == nil {
			told <- in.(wire.Dialled)
		}
		return wire.Nothing{}, nil, nil
	}
	if err := p.dialNext(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-told:
		if got.ID != 7 || !strings.Contains(got.Error, "link-local") {
			t.Errorf("%+v", got)
		}
	default:
		t.Error("the signer was not told")
	}
	var shown strings.Builder
	p.metrics.write(&shown)
	if !strings.Contains(shown.String(), `aes_portal_egress_refused_total{for="signer"} 1`) || !strings.Contains(shown.String(), `{for="acme"} 0`) {
		t.Error(shown.String())
	}
}

// TestRealmsAreDialledAtTheirOwnHost: a realm's keys come from the host that its issuer names.
func TestRealmsAreDialledAtTheirOwnHost(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	p, d := newPortal(t, nil)
	given := 0
	d.do[wire.OpRealmKeys] = func(_ any, fd *os.File) (any, *os.File, error) {
		if fd != nil {
			given++
		}
		return wire.Nothing{}, nil, nil
	}
	at := listener.Addr().String()
	for _, issuer := range []string{"https://idp.example/realms/north", "", "https://127.0.0.2/realms/north", "://"} {
		if err := p.dial(t.Context(), &wire.NeedDial{Issuer: issuer, Address: at}); !errors.Is(err, errEgress) {
			t.Errorf("%q at %s: %v", issuer, at, err)
		}
	}
	if err := p.dial(t.Context(), &wire.NeedDial{Issuer: "https://" + at + "/realms/north", Address: at}); err != nil || given != 1 || refusals(p, egressRealm) != 4 {
		t.Errorf("%v, %d connections, %d refusals", err, given, refusals(p, egressRealm))
	}
}

// TestACMEStaysWithItsAuthority: what the authority answers, a redirect say, leads nowhere else.
func TestACMEStaysWithItsAuthority(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("somebody else was asked") }))
	defer elsewhere.Close()
	authority := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		}
	}))
	defer authority.Close()
	p, _ := newPortal(t, func(c *Config) { c.Resolver = names(t, map[string][]string{"acme.example": {"10.0.0.1"}}) })
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{Proxy: p.egress.only(egressACME, sameHost(authority.URL+"/dir"))}}
	got, err := client.Get(authority.URL + "/dir")
	if err != nil {
		t.Fatal(err)
	}
	got.Body.Close()
	for _, where := range []string{authority.URL + "/away", elsewhere.URL, "http://localhost:1/"} {
		if got, err := client.Get(where); !errors.Is(err, errEgress) {
			t.Errorf("%s: %v, %v", where, got, err)
		}
	}
	inward := p.egress.only(egressACME, sameHost("https://acme.example/dir"))
	to, _ := url.Parse("https://acme.example/order")
	if _, err := inward((&http.Request{URL: to}).WithContext(t.Context())); !errors.Is(err, errEgress) {
		t.Errorf("a name that leads within: %v", err)
	}
	if n := refusals(p, egressACME); n != 4 {
		t.Errorf("%d refusals", n)
	}
}

// TestNothingElseConnects: the portal's code has one way out.
func TestNothingElseConnects(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	if err != nil || len(sources) == 0 {
		t.Fatal(err)
	}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") || source == "egress.go" {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), source, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				x, _ := n.X.(*ast.Ident)
				if x != nil && (x.Name == "net" && strings.HasPrefix(n.Sel.Name, "Dial") || x.Name == "tls" && strings.HasPrefix(n.Sel.Name, "Dial") ||
					x.Name == "http" && (n.Sel.Name == "Get" || n.Sel.Name == "Post" || n.Sel.Name == "Head" || n.Sel.Name == "PostForm" || strings.HasPrefix(n.Sel.Name, "DefaultClient") || n.Sel.Name == "DefaultTransport")) {
					t.Errorf("%s: %s.%s connects past egress", source, x.Name, n.Sel.Name)
				}
			case *ast.CompositeLit:
				s, _ := n.Type.(*ast.SelectorExpr)
				if s != nil && s.Sel.Name == "Transport" && !sets(n, "DialContext") || s != nil && s.Sel.Name == "ACMEIssuer" && !sets(n, "HTTPProxy") {
					t.Errorf("%s: a %s that connects past egress", source, s.Sel.Name)
				}
			}
			return true
		})
	}
}

func sets(lit *ast.CompositeLit, field string) bool {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if k, ok := kv.Key.(*ast.Ident); ok && k.Name == field {
				return true
			}
		}
	}
	return false
}
