package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/config"
)

// overridden is a machine with the package's units, on which systemd and dpkg say what a test has them say.
type overridden struct {
	root     string
	fragment map[string]string   // of a unit, where it is not the package's
	dropIns  map[string][]string // of a unit
	verify   string              // what dpkg prints
	reload   bool
}

func newOverridden(t *testing.T) *overridden {
	t.Helper()
	m := &overridden{root: t.TempDir(), fragment: map[string]string{}, dropIns: map[string][]string{}}
	units, err := filepath.Glob("../../systemd/aes-*")
	if err != nil || len(units) < 10 {
		t.Fatalf("%v %v", units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		m.write(t, filepath.Join(unitDir, filepath.Base(unit)), string(text))
		if _, err := parseUnit(string(text)); err != nil {
			t.Errorf("%s: %v", unit, err)
		}
	}
	return m
}

func (m *overridden) write(t *testing.T, file, text string) {
	t.Helper()
	full := filepath.Join(m.root, file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// add gives a unit a drop-in.
func (m *overridden) add(t *testing.T, unit, name, text string) {
	t.Helper()
	file := "/etc/systemd/system/" + unit + ".d/" + name
	m.write(t, file, text)
	m.dropIns[unit] = append(m.dropIns[unit], file)
}

func (m *overridden) run(_ context.Context, name string, args ...string) ([]byte, error) {
	if name == "dpkg" {
		if m.verify == "" {
			return nil, nil
		}
		return []byte(m.verify), new(exec.ExitError)
	}
	var told []string
	for _, asked := range args[3:] {
		if strings.Contains(asked, "@.") {
			return nil, errors.New("of a template systemd says nothing")
		}
		unit := strings.Replace(asked, "@doctor.", "@.", 1)
		fragment := m.fragment[unit]
		if fragment == "" {
			fragment = "/lib/systemd/system/" + unit // Debian 12's word for it
		}
		told = append(told, fmt.Sprintf("FragmentPath=%s\nDropInPaths=%s\nNeedDaemonReload=%s\n", fragment, strings.Join(m.dropIns[unit], " "), map[bool]string{true: "yes", false: "no"}[m.reload]))
	}
	return []byte(strings.Join(told, "\n")), nil
}

func (m *overridden) examine(cfg Config) []Finding {
	e, s := &exam{Config: cfg, m: &Machine{Root: m.root, Run: m.run}}, &sheet{group: "services"}
	e.overrides(context.Background(), s)
	return s.findings
}

// worst is the heaviest verdict of findings.
func worst(list []Finding) Verdict {
	for _, v := range []Verdict{Bad, Unknown, Warn} {
		if slices.ContainsFunc(list, func(f Finding) bool { return f.Verdict == v }) {
			return v
		}
	}
	return OK
}

// TestOverrides: what is not the package's, or changes it, is seen; what takes protection away is bad, and what docs/hardening.md has operators do is not.
func TestOverrides(t *testing.T) {
	if got := newOverridden(t).examine(Config{}); worst(got) != OK || len(got) != 1 {
		t.Fatalf("as the package brought them: %+v", got)
	}
	const service, socket = "[Service]\n", "[Socket]\n"
	cfg := Config{Appliance: config.Config{Token: config.Token{BackupDir: "/var/backups/aes-appliance"}}, Receiver: config.Receiver{AppendOnly: true}}
	for _, one := range []struct {
		unit, text string
		want       Verdict
	}{
		// The table of docs/hardening.md.
		{"aes-portal.socket", socket + "ListenStream=\nListenStream=8443\n", Warn},
		{"aes-portal.service", service + "LoadCredentialEncrypted=tls-key:/etc/credstore.encrypted/aes-portal.tls-key\n", Warn},
		{receiverUnit, service + "BindReadOnlyPaths=/usr/local/bin/page\nExecPaths=+/usr/local/bin/page\n", Warn},
		{receiverUnit, service + "PrivateUsers=no\nCapabilityBoundingSet=CAP_LINUX_IMMUTABLE\nAmbientCapabilities=CAP_LINUX_IMMUTABLE\n", Warn},
		{receiverUnit, service + "SystemCallFilter=listen\nSocketBindAllow=tcp:7444\n", Warn},
		{signerUnit, service + "BindPaths=/var/backups/aes-appliance\n", Warn},
		{signerUnit, service + "MemoryMax=2G\n", Warn},
		// What changes nothing of the protection, or adds to it.
		{signerUnit, service + "WatchdogSec=10\n[Unit]\nAfter=x.service\n", Warn},
		{signerUnit, service + "# PrivateNetwork=no\n; User=root\nProtectHome=yes\nSystemCallFilter=~ptrace\n", Warn},
		// What takes it away.
		{signerUnit, service + "ExecStart=\nExecStart=/usr/local/bin/other\n", Bad},
		{signerUnit, service + "User=root\n", Bad},
		{signerUnit, service + "RootDirectory=/\n", Bad},
		{signerUnit, service + "BindPaths=/etc\n", Bad},
		{signerUnit, service + "BindPaths=/var/backups/aes-appliance:/etc /home\n", Bad},
		{signerUnit, service + "BindReadOnlyPaths=/etc/shadow\n", Bad},
		{signerUnit, service + "AmbientCapabilities=CAP_SYS_ADMIN\n", Bad},
		{signerUnit, service + "AmbientCapabilities=CAP_LINUX_IMMUTABLE\n", Bad},
		{signerUnit, service + "MemoryDenyWriteExecute=no\n", Bad},
		{signerUnit, service + "MemorySwapMax=infinity\n", Bad},
		{signerUnit, service + "LimitCORE=infinity\n", Bad},
		{signerUnit, service + "SystemCallFilter=\n", Bad},
		{signerUnit, service + "SystemCallFilter=listen\n", Bad},
		{signerUnit, service + "NoExecPaths=\n", Bad},
		{signerUnit, service + "Private\\\nNetwork=no\n", Bad},
		{signerUnit, service + "PrivateNetwork = \\\n# in between\n  no\n", Bad},
		{signerUnit, service + "ReadWritePaths=/\n", Bad},
		{signerUnit, service + "AppArmorProfile=\n", Bad},
		{signerUnit, service + "IPAddressAllow=any\n", Bad},
		{receiverUnit, service + "BindReadOnlyPaths=/\n", Bad},
		{receiverUnit, service + "BindReadOnlyPaths=/etc/x/../../..\n", Bad},
		{"aes-signer-admin.socket", socket + "SocketMode=0666\n", Bad},
		{"aes-signer.socket", socket + "ListenStream=7000\n", Bad},
		{"aes-signer-pin@.service", service + "ExecStart=\nExecStart=/usr/bin/tee /tmp/pin\n", Bad},
		{"aes-doctor.service", service + "CapabilityBoundingSet=~\n", Bad},
		{signerUnit, "User=root\n", Bad},
	} {
		m := newOverridden(t)
		m.add(t, one.unit, "own.conf", one.text)
		got := m.examine(cfg)
		if worst(got) != one.want || !strings.Contains(got[0].Text, "/etc/systemd/system/"+one.unit+".d/own.conf") {
			t.Errorf("%s %q: %+v, want %s", one.unit, one.text, got, one.want)
		}
	}
	m := newOverridden(t)
	m.add(t, "aes-doctor.service", "50-setup-credentials.conf", service+"LoadCredentialEncrypted=webhook:/etc/credstore.encrypted/aes-doctor.webhook\n")
	if got := m.examine(cfg); worst(got) != OK {
		t.Errorf("what setup writes: %+v", got)
	}
}

// TestUnitsThatAreNotThePackages are found without a drop-in.
func TestUnitsThatAreNotThePackages(t *testing.T) {
	for name, one := range map[string]struct {
		change func(*overridden)
		want   Verdict
		text   string
	}{
		"a file in the place of the package's": {func(m *overridden) { m.fragment[signerUnit] = "/etc/systemd/system/" + signerUnit }, Bad, "/etc/systemd/system/aes-signer.service stands in its place"},
		"a changed unit":                       {func(m *overridden) { m.verify = "??5??????   /usr/lib/systemd/system/aes-signer.service\n" }, Bad, "is not as the package brought it"},
		"a changed program":                    {func(m *overridden) { m.verify = "??5??????   /usr/bin/appliance\n" }, Bad, "/usr/bin/appliance"},
		"a conffile that is gone":              {func(m *overridden) { m.verify = "missing   c /etc/apparmor.d/aes-signer\n" }, Warn, "/etc/apparmor.d/aes-signer of the package is gone"},
		"a unit that is gone":                  {func(m *overridden) { m.verify = "missing     /usr/lib/systemd/system/aes-drill.timer\n" }, Bad, "is gone"},
		"a changed profile":                    {func(m *overridden) { m.verify = "??5?????? c /etc/apparmor.d/aes-signer\n" }, Warn, "was changed since"},
		"texts that were left out":             {func(m *overridden) { m.verify = "missing     /usr/share/doc/aes-appliance/hardening.md\n" }, OK, ""},
		"systemd does not know the files":      {func(m *overridden) { m.reload = true }, Warn, "otherwise than its files say"},
		"a drop-in that is gone":               {func(m *overridden) { m.dropIns[signerUnit] = []string{"/etc/systemd/system/x.conf"} }, Warn, "which is gone"},
	} {
		m := newOverridden(t)
		one.change(m)
		got := m.examine(Config{})
		if worst(got) != one.want || !strings.Contains(got[0].Text, one.text) {
			t.Errorf("%s: %+v", name, got)
		}
		// apt brings a conffile back only when it is told to.
		if strings.Contains(got[0].Cure, "--force-confmiss") != (name == "a conffile that is gone") {
			t.Errorf("%s: %s", name, got[0].Cure)
		}
	}
}

func TestParseUnitRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"a setting before a section": "User=root\n", "a section without an end": "[Service\n", "an empty section": "[]\n", "no setting": "[Service]\nUser\n", "a setting without a name": "[Service]\n=x\n",
		"a line that goes on without end": "[Service]\nUser=\\\n", "too long": "[Service]\n#" + strings.Repeat("x", maxUnitFile), "too many": "[Service]\n" + strings.Repeat("A=b\n", maxUnitSettings+1),
	} {
		if got, err := parseUnit(text); err == nil {
			t.Errorf("%s: taken as %v", name, got)
		}
	}
}

// FuzzParseUnit: what is taken is bounded, and each setting stands in a section.
func FuzzParseUnit(f *testing.F) {
	f.Add("[Service]\nUser=root\nExecStart=a \\\n  b\n# c\n")
	f.Add("[Unit]\r\nAfter = x\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseUnit(text)
		if err != nil {
			return
		}
		for _, one := range list {
			if one.section == "" || one.name == "" || strings.ContainsAny(one.name+one.section, "\n") || len(list) > maxUnitSettings {
				t.Errorf("%q", one)
			}
		}
	})
}
