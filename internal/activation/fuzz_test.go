package activation

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzIssuer: an issuer that is accepted is a URL in the one form that it can have, and its keys come from its own host.
func FuzzIssuer(f *testing.F) {
	for _, s := range []string{"https://sso.example.org/realms/a", "http://127.0.0.1:8080/realms/a", "https://[2001:db8::1]:8443/x", "https://a..b/", "https://a/../b", "https://a:443"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, issuer string, demo bool) {
		where, err := parseIssuer(issuer, demo)
		if err != nil {
			return
		}
		u, err := url.Parse(where.url)
		if err != nil || u.Host == "" || u.Hostname() != where.host || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.String() != where.url {
			t.Fatalf("%q: keys from %q, %v", issuer, where.url, err)
		}
		if where.url != issuer+jwksPath || !strings.Contains(where.address, where.host) || u.Scheme == "http" && !demo || where.tls != (u.Scheme == "https") {
			t.Fatalf("%q: %+v", issuer, where)
		}
	})
}
