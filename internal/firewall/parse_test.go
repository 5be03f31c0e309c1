package firewall

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// fresh is the beginning of what ufw writes.
const fresh = `*filter
:ufw-user-input - [0:0]
### RULES ###

### tuple ### allow tcp 22 0.0.0.0/0 any 198.51.100.0/24 in comment=6165732d6170706c69616e63653a20737368
-A ufw-user-input -p tcp --dport 22 -s 198.51.100.0/24 -j ACCEPT

### tuple ### limit tcp 2222 0.0.0.0/0 any 0.0.0.0/0 OpenSSH - in_eth0
-A ufw-user-input -i eth0 -p tcp --dport 2222 -m conntrack --ctstate NEW -m recent --set

### END RULES ###
### LOGGING ###
-A ufw-after-logging-input -j LOG
COMMIT
`

func TestParseStored(t *testing.T) {
	got, err := parseStored([]byte(fresh), false)
	if err != nil || len(got) != 2 || got[0].comment != "aes-appliance: ssh" || !got[0].ours() || got[1].ours() || len(got[1].words) != 9 || len(got[1].lines) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	want := Rule{In, "tcp", 22, netip.MustParsePrefix("198.51.100.0/24"), "ssh"}.wanted()
	if len(want) != 1 || !reflect.DeepEqual(got[0], want[0]) {
		t.Errorf("ufw keeps %+v, expected %+v", got[0], want)
	}
}

func TestParseStoredRejects(t *testing.T) {
	for name, text := range map[string]string{
		"too few words":            "### RULES ###\n### tuple ### allow tcp 22\n",
		"too many words":           "### RULES ###\n### tuple ### allow tcp 22 a b c d e f g\n",
		"no words":                 "### RULES ###\n### tuple ###\n",
		"a comment without digits": "### RULES ###\n### tuple ### allow tcp 22 a b c in comment=zz\n",
		"a rule of no tuple":       "### RULES ###\n-A ufw-user-input -j ACCEPT\n",
		"a line without end":       "### RULES ###\n### tuple ### " + strings.Repeat("x", 1<<17),
	} {
		if got, err := parseStored([]byte(text), false); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestParseSaved(t *testing.T) {
	got, err := parseSaved([]byte("# by iptables-save\n*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [1:2]\n:ufw-user-input - [0:0]\n-A INPUT -j ufw-before-input\n-A ufw-user-input -s 198.51.100.7/32 -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n"))
	if err != nil || got.policies["INPUT"] != "DROP" || got.policies["OUTPUT"] != "" || len(got.chains["INPUT"]) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if w := (Rule{In, "tcp", 22, netip.MustParsePrefix("198.51.100.7/32"), "ssh"}).wanted(); !got.has(w[0].lines[0]) {
		t.Errorf("%q is not among %q", w[0].lines[0], got.chains)
	}
	for name, text := range map[string]string{
		"a chain without a policy": "*filter\n:INPUT\n",
		"no table":                 "*filter\nINPUT ACCEPT\n",
		"a line without end":       "*filter\n-A " + strings.Repeat("x", 1<<17),
	} {
		if got, err := parseSaved([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// connections is what /proc/net/tcp and tcp6 hold; the second has an IPv4 address in it.
const connections = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1
   1: 0105C612:0016 077100CB:D431 01 00000000:00000000 00:00000000 00000000     0        0 18 1
   2: 0105C612:01BB 087100CB:D431 01 00000000:00000000 00:00000000 00000000     0        0 19 1
   3: 0100007F:0016 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 20 1
   4: 0000000000000000FFFF00000105C612:0016 0000000000000000FFFF0000097100CB:D431 01 00000000:00000000 00:00000000 00000000     0        0 21 1
   5: B80D0120000000000000000001000000:0016 B80D0120000000000000000007000000:D431 01 00000000:00000000 00:00000000 00000000     0        0 22 1
`

func TestParsePeers(t *testing.T) {
	got, err := parsePeers([]byte(connections), 22)
	want := []peer{{netip.MustParseAddr("203.0.113.7"), "18"}, {netip.MustParseAddr("203.0.113.9"), "21"}, {netip.MustParseAddr("2001:db8::7"), "22"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for name, line := range map[string]string{
		"too few words": "0: 00000000:0016 00000000:0000 01", "no address": "0: x:0016 00000000:0000 01 a b c d e f", "a short address": "0: 00:0016 00000000:0000 01 a b c d e f",
		"no port": "0: 00000000 00000000:0000 01 a b c d e f", "a big port": "0: 00000000:10016 00000000:0000 01 a b c d e f",
	} {
		if got, err := parsePeers([]byte("titles\n"+line+"\n"), 22); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestLoggedIn: who has not logged in has no session, so that nobody can stop a change by connecting.
func TestLoggedIn(t *testing.T) {
	for title, want := range map[string]bool{
		"sshd: alice@pts/0": true, "sshd: root@notty": true, "sshd-session: alice@pts/1": true, "dropbear -F": true, "/opt/ssh/gateway": true,
		"sshd: [accepted]": false, "sshd: alice [priv]": false, "sshd: unknown [net]": false, "sshd-session: alice [priv]": false, "sshd-auth: alice [net]": false,
		"sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups": false, "/usr/sbin/sshd -D": false,
	} {
		if loggedIn(title) != want {
			t.Errorf("%q: %v", title, !want)
		}
	}
}

func TestPlanNamesNobodyTwice(t *testing.T) {
	p := primary()
	p.add(p.Rules[0])
	seen := map[string]bool{}
	for _, r := range p.Rules {
		if seen[r.String()] {
			t.Errorf("twice: %v", r)
		}
		seen[r.String()] = true
		if strings.ContainsAny(r.Why, `'"`) {
			t.Errorf("%q: ufw takes no quotes in a comment", r.Why)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fresh))
	f.Add([]byte(connections))
	f.Add([]byte("*filter\n:INPUT DROP [0:0]\n-A INPUT -s 192.0.2.1 ! -d 1.2.3.4 -m tcp -j ACCEPT\nCOMMIT\n"))
	f.Add([]byte("ENABLED=no\nIPV6=\"yes\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := parseStored(data, true)
		if err == nil {
			kept, err := parseStored(without(data, func(stored) bool { return false }, true), true)
			if err != nil || len(kept) != len(rules) {
				t.Errorf("%d rules of %d, %v", len(kept), len(rules), err)
			}
			if none, err := parseStored(without(data, func(stored) bool { return true }, true), true); err != nil || len(none) != 0 {
				t.Errorf("%d rules after all were taken out, %v", len(none), err)
			}
		}
		if table, err := parseSaved(data); err == nil {
			for _, lines := range table.chains {
				for _, line := range lines {
					if canonical(line) != line {
						t.Errorf("%q, and again %q", line, canonical(line))
					}
				}
			}
		}
		_, _ = parsePeers(data, 22)
		set := assign(data, []string{"ENABLED"}, map[string]string{"ENABLED": "yes"})
		if got := parseAssignments(set)["ENABLED"]; got != "yes" {
			t.Errorf("ENABLED is %q", got)
		}
	})
}
