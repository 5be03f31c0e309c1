package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/wire"
)

const day = 24 * time.Hour

var examinedAt = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)

// came asserts what one check came to: the heaviest of what it found. What is not ok has a cure (sheet.add holds that).
func came(t *testing.T, what string, s *sheet, check string, want Verdict) {
	t.Helper()
	got := Verdict("")
	for _, f := range s.findings {
		if f.Check == check && (got == "" || f.Verdict.rank() > got.rank()) {
			got = f.Verdict
		}
	}
	if got != want {
		t.Errorf("%s: %s is %q, want %q (%+v)", what, check, got, want, s.findings)
	}
}

// TestDiskAtItsLimits: what docs/doctor.md says of room and inodes.
func TestDiskAtItsLimits(t *testing.T) {
	const gib = 1 << 30
	for what, c := range map[string]struct {
		free, total uint64
		want        Verdict
	}{
		"half of 100 GiB":            {50 * gib, 100 * gib, OK},
		"15 % of 100 GiB":            {15 * gib, 100 * gib, OK},
		"less than 15 %":             {15*gib - 1, 100 * gib, Warn},
		"5 % of 100 GiB":             {5 * gib, 100 * gib, Warn},
		"less than 5 %":              {5*gib - 1, 100 * gib, Bad},
		"4 of 20 GiB":                {4 * gib, 20 * gib, OK},
		"less than 4 GiB, a quarter": {4*gib - 1, 16 * gib, Warn},
		"1 GiB of 8":                 {gib, 8 * gib, Warn},
		"less than 1 GiB, half":      {gib - 1, 2 * gib, Bad},
		"nothing":                    {0, 0, Bad},
	} {
		s := &sheet{group: "disk"}
		judgeSpace(s, "/var/lib/x", space{free: c.free, total: c.total})
		came(t, what, s, "disk.space", c.want)
	}
	for free, want := range map[uint64]Verdict{1000: OK, 150: OK, 149: Warn, 50: Warn, 49: Bad, 0: Bad} {
		s := &sheet{group: "disk"}
		judgeFiles(s, space{files: 1000, freeFiles: free})
		came(t, "inodes", s, "disk.files", want)
	}
	s := &sheet{group: "disk"}
	if judgeFiles(s, space{}); len(s.findings) != 0 {
		t.Errorf("a file system that does not count inodes: %+v", s.findings)
	}
}

// steady is a kernel's clock with what adjtimex(2) says of it.
type steady struct{ state clock.State }

func (k steady) Sample(bool) (clock.Sample, error) {
	return clock.Sample{Wall: examinedAt, Boot: time.Hour, State: k.state}, nil
}

func TestClockOutOfStep(t *testing.T) {
	for what, c := range map[string]struct {
		mode  string
		state clock.State
		want  Verdict
	}{
		"in step":           {clock.System, clock.State{MaxError: 20 * time.Millisecond}, OK},
		"too far off":       {clock.System, clock.State{MaxError: 501 * time.Millisecond}, Bad},
		"not in step":       {clock.System, clock.State{Unsynchronised: true, MaxError: 20 * time.Millisecond}, Bad},
		"nobody's business": {clock.Unproven, clock.State{MaxError: 20 * time.Millisecond}, Bad},
	} {
		e := &exam{m: &Machine{Kernel: steady{c.state}, Run: func(context.Context, string, ...string) ([]byte, error) { return []byte(chronySources), nil }}}
		e.Role, e.Appliance.Clock.Mode, e.Appliance.Clock.MaxError = Primary, c.mode, 500*time.Millisecond
		s := &sheet{group: "clock"}
		e.clock(t.Context(), s)
		came(t, what, s, "clock.kernel", c.want)
	}
}

func TestSwap(t *testing.T) {
	const head = "Filename\tType\tSize\tUsed\tPriority\n"
	for what, c := range map[string]struct {
		swaps, most, locked string
		want                Verdict
	}{
		"none":                    {head, "infinity", "0 kB", OK},
		"none for the signer":     {head + "/dev/vda2 partition 1 0 -2\n", "0", "0 kB", OK},
		"memory is locked":        {head + "/dev/vda2 partition 1 0 -2\n", "infinity", "2048 kB", OK},
		"the signer may be there": {head + "/dev/vda2 partition 1 0 -2\n", "infinity", "0 kB", Warn},
	} {
		e := &exam{m: &Machine{Root: t.TempDir(), Run: func(context.Context, string, ...string) ([]byte, error) {
			return []byte("MemorySwapMax=" + c.most + "\n"), nil
		}}}
		for name, text := range map[string]string{"/proc/swaps": c.swaps, "/proc/7/status": "Name:\tx\nVmLck:\t" + c.locked + "\n"} {
			if err := os.MkdirAll(filepath.Dir(e.m.path(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(e.m.path(name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s := &sheet{group: "machine"}
		e.swap(t.Context(), s, map[string]int{signerUnit: 7})
		came(t, what, s, "machine.swap", c.want)
	}
}

func TestBackupBehind(t *testing.T) {
	in := func(state string, lag time.Duration) wire.BackupStatus {
		return wire.BackupStatus{Backup: wire.Backup{State: state}, Connected: true, Address: "backup.example:7443", Lag: lag.Milliseconds(), DisabledAt: examinedAt, Mismatch: "line 7"}
	}
	away := in("cosigned", 0)
	away.Connected = false
	for what, c := range map[string]struct {
		st             wire.BackupStatus
		enrolled, head Verdict
	}{
		"all is well":       {in("cosigned", 0), OK, OK},
		"a minute behind":   {in("cosigned", time.Minute), OK, OK},
		"more":              {in("cosigned", time.Minute+time.Millisecond), OK, Bad},
		"not connected":     {away, Bad, OK},
		"comparing":         {in("comparing", 0), Warn, OK},
		"catching up":       {in("catching-up", 2*time.Minute), Warn, Bad},
		"none":              {in("none", 0), Warn, ""},
		"given up":          {in("disabled", 0), Warn, ""},
		"another log there": {in("mismatch", 0), Bad, ""},
	} {
		s := &sheet{group: "backup"}
		judgeBackup(s, c.st)
		came(t, what, s, "backup.enrolled", c.enrolled)
		came(t, what, s, "backup.head", c.head)
	}
	e := &exam{}
	e.Now = func() time.Time { return examinedAt }
	enrolled := wire.BackupStatus{Address: "backup.example:7443", EnrolledAt: examinedAt.Add(-100 * day)}
	ago := func(d time.Duration) wire.DrillHeld { return wire.DrillHeld{At: examinedAt.Add(-d)} }
	for what, c := range map[string]struct {
		said               wire.Examined
		token, copy, drill Verdict
	}{
		"never":     {wire.Examined{}, Bad, Warn, Warn},
		"fresh":     {wire.Examined{TokenBackup: wire.TokenBackupAge{Recipients: 1, At: examinedAt.Add(-366 * day)}, Copy: ago(40 * day), Drill: ago(100 * day)}, OK, OK, OK},
		"old":       {wire.Examined{TokenBackup: wire.TokenBackupAge{Recipients: 1, At: examinedAt.Add(-367 * day)}, Copy: ago(40*day + 1), Drill: ago(100*day + 1)}, Warn, Warn, Warn},
		"changed":   {wire.Examined{TokenBackup: wire.TokenBackupAge{Recipients: 1, At: examinedAt, Due: true}, Copy: ago(0), Drill: ago(0)}, Bad, OK, OK},
		"no backup": {wire.Examined{TokenBackup: wire.TokenBackupAge{Recipients: 1}, Copy: ago(0), Drill: ago(0)}, Bad, OK, OK},
	} {
		s := &sheet{group: "backup"}
		e.tokenBackup(s, c.said)
		e.copyVerified(s, c.said, enrolled)
		e.drill(s, c.said, enrolled)
		came(t, what, s, "backup.token", c.token)
		came(t, what, s, "backup.copy", c.copy)
		came(t, what, s, "backup.drill", c.drill)
	}
}

// TestCertificatesThatEnd: authorities by what the signer says of them, the listener's by the handshake.
func TestCertificatesThatEnd(t *testing.T) {
	e := &exam{}
	e.Now, e.Appliance.Portal.TLS = func() time.Time { return examinedAt }, config.TLSOwnCA
	for what, c := range map[string]struct {
		a    wire.Authority
		want Verdict
	}{
		"long":              {wire.Authority{Newest: true, NotAfter: examinedAt.Add(1000 * day)}, OK},
		"sixty days":        {wire.Authority{Newest: true, NotAfter: examinedAt.Add(60 * day)}, OK},
		"less":              {wire.Authority{Newest: true, NotAfter: examinedAt.Add(60*day - 1)}, Bad},
		"successor is due":  {wire.Authority{Newest: true, NotAfter: examinedAt.Add(300 * day), Due: true}, Warn},
		"revoked":           {wire.Authority{Newest: true, NotAfter: examinedAt.Add(300 * day), Revoked: true}, Bad},
		"an old one, ended": {wire.Authority{NotAfter: examinedAt.Add(-day), Revoked: true}, OK},
	} {
		s := &sheet{group: "certificates"}
		e.authorities(s, wire.Examined{Authorities: []wire.Authority{c.a}})
		came(t, what, s, "certificates.authorities", c.want)
	}
	for what, c := range map[string]struct {
		name    string
		left    time.Duration
		version uint16
		want    Verdict
	}{
		"good":              {"portal.example", 14 * day, tls.VersionTLS13, OK},
		"two weeks":         {"portal.example", 14*day - time.Second, tls.VersionTLS13, Warn},
		"three days":        {"portal.example", 3*day - time.Second, tls.VersionTLS13, Bad},
		"ended":             {"portal.example", -time.Second, tls.VersionTLS13, Bad},
		"for somebody else": {"other.example", 100 * day, tls.VersionTLS13, Bad},
		"TLS 1.1":           {"portal.example", 100 * day, tls.VersionTLS11, Bad},
	} {
		leaf := selfSigned(t, "portal.example", examinedAt.Add(c.left))
		roots := x509.NewCertPool()
		roots.AddCert(leaf)
		s := &sheet{group: "tls"}
		e.judgeTLS(s, "tls.name", "portal.example:443", c.name, tls.ConnectionState{Version: c.version, PeerCertificates: []*x509.Certificate{leaf}}, roots)
		came(t, what, s, "tls.name", c.want)
	}
	s, leaf := &sheet{group: "tls"}, selfSigned(t, "portal.example", examinedAt.Add(100*day))
	e.judgeTLS(s, "tls.name", "portal.example:443", "portal.example", tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{leaf}}, x509.NewCertPool())
	came(t, "a stranger's", s, "tls.name", Bad)
}

func selfSigned(t *testing.T, name string, notAfter time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: notAfter.Add(-200 * day), NotAfter: notAfter, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPINThatWasNotHandedOver: a unit whose credential systemd could not decrypt runs with an empty file for a while. What helps is the PIN of the backup, not another token.
func TestPINThatWasNotHandedOver(t *testing.T) {
	const path = "/run/credentials/aes-signer.service/token-pin"
	e := &exam{m: &Machine{Root: t.TempDir(), Run: func(context.Context, string, ...string) ([]byte, error) { return nil, new(exec.ExitError) }}}
	e.Deadline, e.Appliance.Token.PINFile = time.Second, path
	for name, text := range map[string]string{path: "", pinCredential: "sealed"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(e.m.path(name)), 0o755), os.WriteFile(e.m.path(name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s, opens := &sheet{group: "token"}, e.pinOpens(t.Context())
	e.pin(s, func() bool { return <-opens })
	came(t, "empty", s, "token.pin", Bad)
	if !strings.Contains(s.findings[0].Cure, "appliance backup pin") {
		t.Errorf("the cure is %q", s.findings[0].Cure)
	}
	if err := os.WriteFile(e.m.path(path), []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, opens = &sheet{group: "token"}, e.pinOpens(t.Context())
	e.pin(s, func() bool { return <-opens })
	came(t, "handed over", s, "token.pin", OK)
}
