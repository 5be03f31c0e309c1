package doctor

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

// What real programs printed: chronyc 4.3 and systemctl 252 on Debian 12, apt 2.6 on the same.
const (
	chronySources = "^,*,192.0.2.1,2,6,377,35,-0.000012345,-0.000012345,0.000912345\n^,-,192.0.2.2,2,6,17,33,0.000112345,0.000112345,0.021912345\n^,?,192.0.2.3,0,8,0,4294967295,0.000000000,0.000000000,0.000000000\n#,?,PHC0,0,4,0,4294967295,0.0,0.0,0.0\n"
	tcpTable      = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0
   1: 0100007F:24F8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0000000000000000 100 0 0 10 0
   2: 0100007F:9C40 0100007F:24F8 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0000000000000000 100 0 0 10 0
`
	tcp6Table = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: B80D01200000000000000000010000FF:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0
   1: 0000000000000000FFFF00000A0000C0:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0000000000000000 100 0 0 10 0
`
	aptSimulated = `NOTE: This is only a simulation!
Reading package lists...
The following packages will be upgraded:
  libexpat1 curl
Inst libexpat1 [2.5.0-1+deb12u1] (2.5.0-1+deb12u2 Debian-Security:12/stable-security [amd64])
Inst curl [7.88.1-10+deb12u12] (7.88.1-10+deb12u14 Debian:12.12/stable [amd64])
Conf libexpat1 (2.5.0-1+deb12u2 Debian-Security:12/stable-security [amd64])
`
)

func TestParseSources(t *testing.T) {
	list, err := parseSources([]byte(chronySources))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || list[0] != (source{"192.0.2.1", "*", 0o377}) || list[2].reach != 0 {
		t.Fatalf("%+v", list)
	}
	for name, text := range map[string]string{
		"too few fields": "^,*,192.0.2.1\n", "reach not octal": "^,*,a,2,6,9,35,0,0,0\n", "reach too large": "^,*,a,2,6,777,35,0,0,0\n",
		"a bare quote": "^,*,\"a,2,6,1,35,0,0,0\n", "a text": "506 Cannot talk to daemon\n", "too many": strings.Repeat("^,*,a,2,6,1,35,0,0,0\n", maxSources+1),
	} {
		if got, err := parseSources([]byte(text)); err == nil {
			t.Errorf("%s: taken as %+v", name, got)
		}
	}
}

func TestJudgeSources(t *testing.T) {
	for answering, want := range map[int]Verdict{0: Bad, 1: Warn, 2: Warn, 3: OK} {
		s, list := &sheet{group: "clock"}, []source{{reach: 0}, {reach: 0}, {reach: 0}}
		for i := range answering {
			list[i].reach = 1
		}
		judgeSources(s, list)
		if got := s.findings[0].Verdict; got != want {
			t.Errorf("%d sources answer: %s, want %s", answering, got, want)
		}
	}
}

func TestParseSockets(t *testing.T) {
	list, err := parseSockets(tcpTable, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	six, err := parseSockets(tcp6Table, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range append(list, six...) {
		got = append(got, l.at.String())
	}
	want := []string{"0.0.0.0:443", "127.0.0.1:9464", "[2001:db8::ff00:1]:22", "192.0.0.10:80"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for name, row := range map[string]string{
		"no address": "0: zz 0:0 0A", "a short address": "0: 0000:0016 0:0 0A", "a long port": "0: 00000000:00016 0:0 0A", "a column missing": "0: 00000000:0016 00000000:0000",
	} {
		if got, err := parseSockets("head\n"+row+"\n", "tcp"); err == nil {
			t.Errorf("%s: taken as %v", name, got)
		}
	}
}

func TestParseShow(t *testing.T) {
	p, err := parseShow([]byte("User=aes-signer\nEnvironment=A=1\nSystemCallFilter=\nMainPID=12\nMainPID=13\n"))
	if err != nil || p["User"] != "aes-signer" || p["Environment"] != "A=1" || p["MainPID"] != "13" {
		t.Errorf("%v %v", p, err)
	}
	for _, text := range []string{"no equals sign\n", "=value\n", strings.Repeat("A=1\n", 1) + "B\n"} {
		if p, err := parseShow([]byte(text)); err == nil {
			t.Errorf("%q is taken as %v", text, p)
		}
	}
}

func TestParseUpdates(t *testing.T) {
	list := parseUpdates([]byte(aptSimulated))
	if want := []update{{"libexpat1", true}, {"curl", false}}; !slices.Equal(list, want) {
		t.Errorf("%+v, want %+v", list, want)
	}
	s := &sheet{group: "updates"}
	judgeUpdates(s, list)
	judgeUpdates(s, list[1:])
	if s.findings[0].Verdict != Warn || s.findings[1].Verdict != OK {
		t.Errorf("%+v", s.findings)
	}
}

func TestJudgeUFW(t *testing.T) {
	for out, want := range map[string]Verdict{
		"Status: inactive\n": Bad,
		"Status: active\nLogging: on (low)\nDefault: deny (incoming), deny (outgoing), disabled (routed)\n":    OK,
		"Status: active\nLogging: on (low)\nDefault: deny (incoming), allow (outgoing), disabled (routed)\n":   Warn,
		"Status: active\nLogging: on (low)\nDefault: allow (incoming), deny (outgoing), disabled (routed)\n":   Bad,
		"Status: active\nLogging: on (low)\nDefault: reject (incoming), reject (outgoing), deny (routed)\n":    OK,
		"something else that holds Default: deny (incoming), deny (outgoing) but does not say that it is on\n": Bad,
	} {
		s := &sheet{group: "firewall"}
		judgeUFW(s, out)
		if got := s.findings[0].Verdict; got != want {
			t.Errorf("%q: %s, want %s", out, got, want)
		}
	}
}

func TestCoreLimit(t *testing.T) {
	const limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax cpu time              unlimited            unlimited            seconds   \nMax core file size        0                    unlimited            bytes     \n"
	if soft, hard := coreLimit(limits); soft != "0" || hard != "unlimited" {
		t.Errorf("%s %s", soft, hard)
	}
	if soft, hard := coreLimit("nothing of the sort"); soft == "0" || hard == "0" {
		t.Error("what is not there was taken for 0")
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{chronySources, tcpTable, tcp6Table, aptSimulated, "A=1\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if list, err := parseSources(data); err == nil && len(list) > maxSources {
			t.Errorf("%d sources", len(list))
		}
		if list, err := parseSockets(string(data), "tcp"); err == nil {
			for _, l := range list {
				if l.at == (netip.AddrPort{}) {
					t.Error("an address that is none")
				}
			}
		}
		if p, err := parseShow(data); err == nil && len(p) > maxProperties {
			t.Errorf("%d properties", len(p))
		}
		parseUpdates(data)
		judgeUFW(&sheet{group: "firewall"}, string(data))
		coreLimit(string(data))
	})
}

// TestReportIsNoTerminalsProgram: a portal that was taken over answers with lines of a report, and with what a terminal obeys.
func TestReportIsNoTerminalsProgram(t *testing.T) {
	evil := "x\x1b[2J\x1b]52;c;cm0gLXJmIC8=\x07\n  ok       all is well\n\u009b31m"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(ready{Reasons: []string{evil, strings.Repeat("y", 5*maxShown)}})
	})}
	go server.Serve(l)
	defer server.Close()
	e := &exam{m: Local()}
	e.Appliance.Portal.ListenMetrics = l.Addr().String()
	s := &sheet{group: "signer"}
	e.portalReady(t.Context(), s)
	if len(s.findings) != 1 || s.findings[0].Verdict != Bad || len(s.findings[0].Text) > 2*maxShown {
		t.Fatalf("%+v", s.findings)
	}
	var report, screen strings.Builder
	o := Overview{Role: Backup, Copies: []CopyView{{Origin: evil}}, Alarms: s.findings}
	if err := errors.Join(Report{Findings: s.findings}.WriteText(&report), o.WriteText(&screen)); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"report": report.String(), "screen": screen.String()} {
		for line := range strings.Lines(text) {
			if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) || strings.HasPrefix(strings.TrimSpace(line), "ok ") {
				t.Errorf("the %s has the line %q", what, line)
			}
		}
	}
}

// TestListsThatEnded: attempts that fail keep apt's folder young. What a list says of itself does not get younger.
func TestListsThatEnded(t *testing.T) {
	now := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	e := &exam{m: &Machine{Root: t.TempDir()}}
	e.Now = func() time.Time { return now }
	lists := e.m.path("/var/lib/apt/lists")
	if err := errors.Join(os.MkdirAll(lists+"/partial", 0o755), os.Chtimes(lists+"/partial", now, now)); err != nil {
		t.Fatal(err)
	}
	judge := func() Finding {
		t.Helper()
		s := &sheet{group: "updates"}
		e.lists(s)
		if len(s.findings) != 1 {
			t.Fatal(s.findings)
		}
		return s.findings[0]
	}
	for name, text := range map[string]string{
		"a_bookworm_InRelease": "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n", "a_security_InRelease": "Valid-Until: Fri, 27 Nov 2026 00:12:41 UTC\n", "b_InRelease": "Valid-Until: soon\n",
	} {
		if err := os.WriteFile(filepath.Join(lists, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if f := judge(); f.Verdict != OK {
		t.Errorf("%+v", f)
	}
	now = now.AddDate(0, 0, 6)
	if err := os.Chtimes(lists+"/partial", now, now); err != nil {
		t.Fatal(err)
	}
	if f := judge(); f.Verdict != Warn || !strings.Contains(f.Text, "until 2026-11-27") || !strings.Contains(f.Text, "a_security_InRelease") {
		t.Errorf("%+v", f)
	}
}
