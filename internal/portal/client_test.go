package portal

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func prefixesOf(each ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range each {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

func TestClientAddress(t *testing.T) {
	trusted := prefixesOf("10.0.0.0/8", "2001:db8:1::/48")
	for name, c := range map[string]struct{ peer, forwarded, client, before string }{
		"direct":                        {"192.0.2.1:5", "", "192.0.2.1", ""},
		"direct, the app's word":        {"192.0.2.1:5", "203.0.113.9", "192.0.2.1", "203.0.113.9"},
		"direct, forged hops":           {"192.0.2.1:5", "10.0.0.1, 203.0.113.9", "192.0.2.1", "203.0.113.9"},
		"proxy":                         {"10.1.2.3:5", "198.51.100.4", "198.51.100.4", ""},
		"proxy, the app's word":         {"10.1.2.3:5", "203.0.113.9, 198.51.100.4", "198.51.100.4", "203.0.113.9"},
		"two proxies":                   {"10.1.2.3:5", "203.0.113.9,198.51.100.4 , 10.9.9.9", "198.51.100.4", "203.0.113.9"},
		"two lines":                     {"10.1.2.3:5", "203.0.113.9\n198.51.100.4", "198.51.100.4", "203.0.113.9"},
		"spoofed behind a proxy":        {"10.1.2.3:5", "10.0.0.1, 192.0.2.66", "192.0.2.66", "10.0.0.1"},
		"proxies only":                  {"10.1.2.3:5", "10.0.0.1", "10.0.0.1", ""},
		"proxy says nothing":            {"10.1.2.3:5", "", "10.1.2.3", ""},
		"proxy says no address":         {"10.1.2.3:5", "203.0.113.9, unknown", "10.1.2.3", ""},
		"the app says no address":       {"192.0.2.1:5", "unknown", "192.0.2.1", ""},
		"with a port":                   {"10.1.2.3:5", "198.51.100.4:4711", "198.51.100.4", ""},
		"v6":                            {"[2001:db8:1::7]:5", "[2001:db8:2::1]:80", "2001:db8:2::1", ""},
		"v4 in v6 is the same":          {"[::ffff:10.1.2.3]:5", "198.51.100.4", "198.51.100.4", ""},
		"zone":                          {"[fe80::1%eth0]:5", "", "fe80::1", ""},
		"a long chain is cut":           {"10.1.2.3:5", strings.Repeat("10.0.0.1,", 5000) + "10.0.0.2", "10.0.0.1", ""},
		"empty members prove nothing":   {"10.1.2.3:5", "203.0.113.9,,", "10.1.2.3", ""},
		"a header that is only a comma": {"192.0.2.1:5", ",", "192.0.2.1", ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		for line := range strings.SplitSeq(c.forwarded, "\n") {
			r.Header.Add("X-Forwarded-For", line)
		}
		client, before := clientAddress(r, trusted)
		got := ""
		if before.IsValid() {
			got = before.String()
		}
		if client.String() != c.client || got != c.before {
			t.Errorf("%s: client %s before %q, want %s %q", name, client, got, c.client, c.before)
		}
	}
}

func FuzzForwarded(f *testing.F) {
	f.Add("203.0.113.9, 198.51.100.4")
	f.Add("[::1]:80,,%")
	f.Fuzz(func(t *testing.T, line string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.1.2.3:5"
		r.Header["X-Forwarded-For"] = []string{line}
		if client, _ := clientAddress(r, prefixesOf("10.0.0.0/8")); !client.IsValid() || client.Zone() != "" {
			t.Errorf("%q: %v", line, client)
		}
	})
}

func TestLimiter(t *testing.T) {
	l := newLimiter(10, 20)
	now := time.Unix(1e9, 0)
	for i := range 20 {
		if a := l.take("a", now); !a.ok || a.remaining != 19-i {
			t.Fatalf("%d: %+v", i, a)
		}
	}
	if a := l.take("a", now); a.ok || a.wait != 100*time.Millisecond {
		t.Errorf("after the burst: %+v", a)
	}
	if a := l.take("b", now); !a.ok {
		t.Errorf("another key: %+v", a)
	}
	now = now.Add(100 * time.Millisecond)
	if a := l.peek("a", now); !a.ok {
		t.Errorf("peek: %+v", a)
	}
	if a := l.take("a", now); !a.ok {
		t.Errorf("a tenth of a second later: %+v", a)
	}
	if a := l.take("a", now); a.ok {
		t.Errorf("twice: %+v", a)
	}
	for i := range 3 * maxKeys {
		l.take(string(rune(i))+"x"+time.Duration(i).String(), now)
	}
	if len(l.empty) > maxKeys {
		t.Errorf("%d keys are kept", len(l.empty))
	}
	if k := addressKey(netip.MustParseAddr("2001:db8:0:1::5")); k != addressKey(netip.MustParseAddr("2001:db8:0:1:ffff::9")) || k == addressKey(netip.MustParseAddr("2001:db8:0:2::5")) {
		t.Errorf("one subscriber: %s", k)
	}
}
