package firewall

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// primary is the plan of a primary with the addresses of the cable.
func primary() Plan {
	return Primary(config.Config{
		Portal: config.Portal{Listen: ":443", ListenHTTP: ":80"},
		Firewall: config.Firewall{
			AdminNetworks: prefixes(admin4+"/32", admin6+"/128"), SSHPort: 22, HTTPSPorts: []uint16{443}, HTTPPorts: []uint16{80}, MailPorts: []uint16{587},
			DNSServers: prefixes(other4+"/32", other6+"/128"), MoreIn: []config.Opening{{Port: 9100, Proto: "tcp", Network: netip.MustParsePrefix(other4 + "/32")}},
			Backup: []netip.AddrPort{netip.MustParseAddrPort(backup4 + ":7443"), netip.MustParseAddrPort("[" + backup6 + "]:7443")},
		},
	})
}

// scanned are the ports that are tried, inward and outward; each is answered.
func scanned() []int { return []int{22, 25, 53, 80, 443, 587, 7443, 8080, 9100, 9464} }

// TestExactlyWhatIsWanted looks from another machine, before and after: exactly the ports of the plan are open, in and out, from and to each address, IPv4
// and IPv6. Applied again, nothing changes.
func TestExactlyWhatIsWanted(t *testing.T) {
	peer := machine(t)
	if peer == "" {
		return
	}
	listen(t, scanned()...)
	in(t, peer, func() { listen(t, scanned()...) })
	h, _ := house(t)
	in(t, peer, func() { equal(t, "before", open(admin4, own4, scanned()), scanned()) })
	result, err := h.Apply(t.Context(), primary(), Options{})
	if err != nil || !result.Changed || len(result.Others) != 0 || !result.Until.IsZero() {
		t.Fatalf("%+v, %v", result, err)
	}
	in(t, peer, func() {
		equal(t, "in, administrator, IPv4", open(admin4, own4, scanned()), []int{22, 80, 443})
		equal(t, "in, administrator, IPv6", open(admin6, own6, scanned()), []int{22, 80, 443})
		equal(t, "in, anybody, IPv4", open(other4, own4, scanned()), []int{80, 443, 9100})
		equal(t, "in, anybody, IPv6", open(other6, own6, scanned()), []int{80, 443})
	})
	equal(t, "out, anywhere, IPv4", open("", admin4, scanned()), []int{80, 443, 587})
	equal(t, "out, anywhere, IPv6", open("", admin6, scanned()), []int{80, 443, 587})
	equal(t, "out, name server, IPv4", open("", other4, scanned()), []int{53, 80, 443, 587})
	equal(t, "out, name server, IPv6", open("", other6, scanned()), []int{53, 80, 443, 587})
	equal(t, "out, backup, IPv4", open("", backup4, scanned()), []int{80, 443, 587, 7443})
	equal(t, "out, backup, IPv6", open("", backup6, scanned()), []int{80, 443, 587, 7443})
	equal(t, "out, UDP, anywhere", goes(t, peer, admin4, []int{53, 67, 123, 161}), []int{67, 123})
	equal(t, "out, UDP, name server, IPv6", goes(t, peer, other6, []int{53, 123, 161}), []int{53, 123})
	equal(t, "loopback", open("", "127.0.0.1", scanned()), scanned())
	if found, err := h.Check(t.Context(), primary()); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
	before := kernel(t) + onDisk(t)
	if result, err := h.Apply(t.Context(), primary(), Options{}); err != nil || result.Changed {
		t.Errorf("again: %+v, %v", result, err)
	}
	if kernel(t)+onDisk(t) != before {
		t.Error("applied again, it changed something")
	}
}

// kernel returns the tables in force, without counters.
func kernel(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", "iptables-save -t filter; ip6tables-save -t filter").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		if line, _, _ = strings.Cut(line, " ["); !strings.HasPrefix(line, "#") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return strings.Join(all, "\n")
}

// onDisk returns ufw's files.
func onDisk(t *testing.T) string {
	t.Helper()
	var all []string
	for _, name := range files() {
		data, err := os.ReadFile(filepath.Join(etc, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name, string(data))
	}
	return strings.Join(all, "\n")
}

// TestBackupTakesItsPrimaryOnly: the service's port is open to the primary's address and to no other.
func TestBackupTakesItsPrimaryOnly(t *testing.T) {
	peer := machine(t)
	if peer == "" {
		return
	}
	listen(t, scanned()...)
	h, _ := house(t)
	p := Backup(config.Receiver{Listen: ":7443", Firewall: config.Firewall{AdminNetworks: prefixes(admin4 + "/32"), SSHPort: 22, HTTPSPorts: []uint16{443}, Primaries: prefixes(backup4+"/32", backup6+"/128")}})
	if _, err := h.Apply(t.Context(), p, Options{}); err != nil {
		t.Fatal(err)
	}
	in(t, peer, func() {
		equal(t, "primary", open(backup4, own4, scanned()), []int{7443})
		equal(t, "primary, IPv6", open(backup6, own6, scanned()), []int{7443})
		equal(t, "administrator", open(admin4, own4, scanned()), []int{22})
		equal(t, "anybody", open(other4, own4, scanned()), nil)
		equal(t, "anybody, IPv6", open(other6, own6, scanned()), nil)
	})
}

// TestUnconfirmed: what nobody confirms is undone, also when the clock is set back meanwhile, and until then the files that a boot reads are the old ones.
func TestUnconfirmed(t *testing.T) {
	if machine(t) == "" {
		return
	}
	h, timer := house(t)
	if out, err := exec.Command(ufwProgram, "allow", "2222/tcp").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if out, err := exec.Command(ufwProgram, "--force", "enable").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	files, filter := onDisk(t), kernel(t)
	var setBack atomic.Bool
	h.now = func() time.Time {
		if setBack.Load() {
			return time.Now().Add(-time.Hour)
		}
		return time.Now()
	}
	result, err := h.Apply(t.Context(), primary(), Options{Within: 10 * time.Second})
	setBack.Store(true)
	if err != nil || result.Until.IsZero() || len(result.Others) != 2 {
		t.Fatalf("%+v, %v", result, err)
	}
	if onDisk(t) != files {
		t.Error("ufw's files changed before anybody confirmed")
	}
	if found, err := h.Check(t.Context(), primary()); err != nil || len(found) != 3 || found[0].Kind != "pending" || kernel(t) == filter {
		t.Errorf("the rules are not in force, or nobody says that they wait: %v, %v", found, err)
	}
	if _, err := h.Apply(t.Context(), primary(), Options{}); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a second change while one waits: %v", err)
	}
	if err := <-timer.fired; err != nil {
		t.Fatal(err)
	}
	if onDisk(t) != files || kernel(t) != filter {
		t.Errorf("not as it was:\n%s\n%s", kernel(t), filter)
	}
	if err := h.Confirm(t.Context()); fault.KindOf(err) != fault.NotFound {
		t.Errorf("confirmed too late: %v", err)
	}
}

// TestConfirmed: what is confirmed is what the next boot reads, and nothing undoes it any more. What somebody else has changed meanwhile is not written over.
func TestConfirmed(t *testing.T) {
	if machine(t) == "" {
		return
	}
	h, _ := house(t)
	files := onDisk(t)
	if _, err := h.Apply(t.Context(), primary(), Options{Within: time.Minute}); err != nil {
		t.Fatal(err)
	}
	// A reboot meanwhile: the kernel and /run forget, ufw starts by its files.
	reboot := func() {
		t.Helper()
		for _, args := range [][]string{{ufwInit, "flush-all"}, {ufwInit, "start", "quiet"}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
		}
	}
	if err := os.RemoveAll(h.run); err != nil {
		t.Fatal(err)
	}
	reboot()
	if onDisk(t) != files || strings.Contains(kernel(t), "DROP") {
		t.Errorf("a reboot did not undo it:\n%s", kernel(t))
	}
	if _, err := h.Apply(t.Context(), primary(), Options{Within: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(ufwProgram, "allow", "2222/tcp").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := h.Confirm(t.Context()); fault.KindOf(err) != fault.Conflict || !strings.Contains(onDisk(t), "2222") {
		t.Errorf("confirmed over what somebody else did: %v", err)
	}
	if _, err := h.Apply(t.Context(), primary(), Options{Within: time.Minute, RemoveOthers: true}); err != nil {
		t.Fatal(err)
	}
	if err := h.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if undone, err := h.Rollback(t.Context(), false); undone || err != nil {
		t.Errorf("confirmed, and undone: %v, %v", undone, err)
	}
	filter := kernel(t)
	reboot()
	if kernel(t) != filter {
		t.Errorf("a reboot changed it:\n%s\n%s", kernel(t), filter)
	}
	if found, err := h.Check(t.Context(), primary()); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// TestSessionIsKept: an ssh session from elsewhere than the administrators' networks stops it, unless somebody answers for that; one from there goes on.
func TestSessionIsKept(t *testing.T) {
	peer := machine(t)
	if peer == "" {
		return
	}
	listen(t, 22)
	h, _ := house(t)
	connect := func(from string) (c net.Conn) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: reach}
		in(t, peer, func() {
			var err error
			if c, err = d.Dial("tcp", own4+":22"); err != nil {
				t.Error(err)
			}
		})
		return c
	}
	none := primary()
	none.Admins = nil
	if _, err := h.Apply(t.Context(), none, Options{}); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "empty") {
		t.Errorf("nobody could come in again: %v", err)
	}
	// OpenSSH is elsewhere than the configuration says.
	elsewhere := exec.Command("perl", "-MIO::Socket::INET", "-e", `$0 = "sshd: /usr/sbin/sshd -D [listener]"; $l = IO::Socket::INET->new(Listen => 1, LocalPort => 2222) or die; $| = 1; print "x"; sleep`)
	out, err := elsewhere.StdoutPipe()
	if err == nil {
		err = elsewhere.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Apply(t.Context(), primary(), Options{}); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "ssh is at port 2222") {
		t.Errorf("ssh is at another port: %v", err)
	}
	_ = elsewhere.Process.Kill()
	_ = elsewhere.Wait()
	mine := connect(admin4)
	defer mine.Close()
	theirs := connect(other4)
	files, filter := onDisk(t), kernel(t)
	_, err = h.Apply(t.Context(), primary(), Options{Within: time.Minute})
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), other4) || strings.Contains(err.Error(), admin4) {
		t.Errorf("a session from elsewhere: %v", err)
	}
	asked := ""
	no := func(question string) (bool, error) { asked = question; return false, nil }
	if _, err := h.Apply(t.Context(), primary(), Options{Within: time.Minute, Ask: no}); fault.KindOf(err) != fault.Conflict || !strings.Contains(asked, other4) {
		t.Errorf("%q, %v", asked, err)
	}
	if onDisk(t) != files || kernel(t) != filter {
		t.Error("refused, and changed all the same")
	}
	theirs.Close()
	if _, err := h.Apply(t.Context(), primary(), Options{}); err != nil {
		t.Fatal(err)
	}
	mine.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := mine.Write([]byte("still?")); err != nil {
		t.Error(err)
	}
	if n, err := mine.Read(make([]byte, 16)); err != nil || n != 6 {
		t.Errorf("the session that may stay does not: %d, %v", n, err)
	}
}

// TestDifferences: whatever was changed by hand is found, and applying mends what is the configuration's.
func TestDifferences(t *testing.T) {
	if machine(t) == "" {
		return
	}
	h, _ := house(t)
	if _, err := h.Apply(t.Context(), primary(), Options{}); err != nil {
		t.Fatal(err)
	}
	type change struct{ name, change, kind, text string }
	for _, changes := range [][]change{{
		{"a rule taken out of the kernel", "iptables -D ufw-user-input -p tcp --dport 443 -j ACCEPT", "missing", "not in force: in 443/tcp from anywhere, IPv4"},
		{"the same, IPv6", "ip6tables -D ufw6-user-output -p tcp -d " + backup6 + " --dport 7443 -j ACCEPT", "missing", "out to " + backup6 + " 7443/tcp, IPv6"},
		{"a rule put into the kernel", "iptables -A ufw-user-input -p tcp --dport 9999 -j ACCEPT", "foreign", "in no file"},
		{"a rule put between ufw's own", "iptables -I ufw-before-input 2 -p tcp --dport 9998 -j ACCEPT", "foreign", "ufw-before-input lets through by"},
		{"the same, IPv6", "ip6tables -I ufw6-before-forward -j ACCEPT", "foreign", "ufw6-before-forward lets through by"},
		{"policy of the kernel", "ip6tables -P OUTPUT ACCEPT", "inactive", "OUTPUT, IPv6"},
		{"the way into ufw's rules", "iptables -D INPUT -j ufw-before-input", "inactive", "does not ask ufw's rules for INPUT, IPv4"},
	}, {
		{"default policy", ufwProgram + " default allow outgoing", "policy", "DEFAULT_OUTPUT_POLICY is ACCEPT"},
		{"a rule deleted", ufwProgram + " delete allow in proto tcp from any to any port 80", "missing", "ufw does not have: in 80/tcp"},
		{"a stale rule", ufwProgram + " allow in proto tcp from any to any port 8443 comment 'aes-appliance: old'", "stale", "8443"},
		{"disabled", ufwProgram + " disable", "inactive", "not started at boot"},
		{"IPv6 off", "sed -i s/^IPV6=.*/IPV6=no/ /etc/default/ufw", "policy", "IPv6 is not filtered"},
	}} {
		for _, c := range changes {
			if out, err := exec.Command("sh", "-c", c.change).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v %s", c.name, err, out)
			}
		}
		found, err := h.Check(t.Context(), primary())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if !slices.ContainsFunc(found, func(d Difference) bool { return d.Kind == c.kind && strings.Contains(d.Text, c.text) && d.Cure != "" }) {
				t.Errorf("%s: %v", c.name, found)
			}
		}
		if result, err := h.Apply(t.Context(), primary(), Options{}); err != nil || !result.Changed {
			t.Errorf("%+v, %v", result, err)
		}
		if found, err := h.Check(t.Context(), primary()); err != nil || len(found) != 0 {
			t.Errorf("applied: %v, %v", found, err)
		}
	}
}

// TestOthersAreShown: a rule that is not of the configuration stays, is shown, and goes when that is asked for. What ufw does not rule is shown only.
func TestOthersAreShown(t *testing.T) {
	if machine(t) == "" {
		return
	}
	h, _ := house(t)
	if out, err := exec.Command("sh", "-c", ufwProgram+" limit 2222/tcp comment 'the monitoring'; "+ufwProgram+" deny out to 192.0.2.66").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	result, err := h.Apply(t.Context(), primary(), Options{})
	if err != nil || len(result.Others) != 3 || !strings.Contains(strings.Join(result.Others, "\n"), "the monitoring") {
		t.Fatalf("%+v, %v", result, err)
	}
	found, err := h.Check(t.Context(), primary())
	if err != nil || len(found) != 3 || slices.ContainsFunc(found, func(d Difference) bool { return d.Kind != "foreign" }) {
		t.Errorf("%v, %v", found, err)
	}
	if again, err := h.Apply(t.Context(), primary(), Options{}); err != nil || again.Changed || len(again.Others) != 3 {
		t.Errorf("%+v, %v", again, err)
	}
	if removed, err := h.Apply(t.Context(), primary(), Options{RemoveOthers: true}); err != nil || !removed.Changed || len(removed.Others) != 0 {
		t.Errorf("%+v, %v", removed, err)
	}
	if found, err := h.Check(t.Context(), primary()); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
	for _, change := range []string{"iptables -I INPUT -p tcp --dport 9999 -j ACCEPT",
		"iptables -N ban; iptables -A ban -s 192.0.2.9 -j REJECT; iptables -A ban -j RETURN; iptables -I INPUT -j ban",                // as fail2ban does: it lets nothing through
		"iptables -N outer; iptables -N inner; iptables -A inner -j ACCEPT; iptables -A outer -g inner; iptables -I FORWARD -j outer", // as docker does
		"echo '# by hand' >>/etc/ufw/before.rules"} {
		if out, err := exec.Command("sh", "-c", change).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	found, err = h.Check(t.Context(), primary())
	if err != nil || len(found) != 3 || !slices.ContainsFunc(found, func(d Difference) bool { return strings.Contains(d.Text, "-j outer") }) {
		t.Errorf("%v, %v", found, err)
	}
}
