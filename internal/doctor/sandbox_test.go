package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sandboxed is a machine on which the signer runs as process 42, as systemd and the kernel tell it.
type sandboxed struct {
	root       string
	properties map[string]string
	status     string
	network    string // of the signer; that of the machine is net:[1]
	limits     string
	profile    string
}

func newSandboxed(t *testing.T) *sandboxed {
	m := &sandboxed{root: t.TempDir(), properties: map[string]string{"MainPID": "42", "LoadState": "loaded", "ActiveState": "active", "NRestarts": "0"},
		status: "Name:\tappliance\nNoNewPrivs:\t1\nSeccomp:\t2\nCapEff:\t0000000000000000\n", network: "net:[2]", profile: "aes-signer (enforce)",
		limits: "Limit                     Soft Limit           Hard Limit           Units     \nMax core file size        0                    0                    bytes     \n"}
	for _, r := range sandboxRules(signerUnit) {
		m.properties[r.property] = r.want[0]
	}
	return m
}

// examine writes what the kernel says, and makes the checks that look at it.
func (m *sandboxed) examine(t *testing.T) map[string]Verdict {
	t.Helper()
	for path, text := range map[string]string{
		"proc/42/status": m.status, "proc/42/limits": m.limits, "proc/42/attr/current": m.profile + "\n", "sys/module/apparmor/parameters/enabled": "Y\n",
	} {
		full := filepath.Join(m.root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for path, to := range map[string]string{"proc/42/ns/net": m.network, "proc/1/ns/net": "net:[1]"} {
		full := filepath.Join(m.root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.RemoveAll(full), os.Symlink(to, full)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(_ context.Context, name string, args ...string) ([]byte, error) {
		if name != "systemctl" || args[0] != "show" {
			return nil, errors.New("not asked in this test")
		}
		var b strings.Builder
		for _, p := range strings.Split(strings.TrimPrefix(args[2], "--property="), ",") {
			if args[3] == signerUnit {
				fmt.Fprintf(&b, "%s=%s\n", p, m.properties[p])
			}
		}
		return []byte(b.String()), nil
	}
	e := &exam{Config: Config{Role: Primary}, m: &Machine{Root: m.root, Run: run}}
	units, got := e.runningUnits(context.Background()), map[string]Verdict{}
	for _, group := range []struct {
		name string
		make func(*sheet)
	}{{"services", func(s *sheet) { e.sandbox(context.Background(), s, units); e.apparmor(s, units) }}, {"machine", func(s *sheet) { e.cores(s, units) }}} {
		s := &sheet{group: group.name}
		group.make(s)
		for _, f := range s.findings {
			if _, there := got[f.Check]; !there { // the signer comes first
				got[f.Check] = f.Verdict
			}
		}
	}
	return got
}

// TestSandbox: each property that the protection of the signer rests on is missed, in what systemd says and in what the kernel does.
func TestSandbox(t *testing.T) {
	if got := newSandboxed(t).examine(t); got["services.sandbox"] != OK || got["services.apparmor"] != OK || got["machine.cores"] != OK {
		t.Fatalf("a good one: %v", got)
	}
	for _, r := range sandboxRules(signerUnit) {
		m := newSandboxed(t)
		m.properties[r.property] = "no"
		if got := m.examine(t); got["services.sandbox"] != Bad {
			t.Errorf("without %s: %v", r.property, got)
		}
	}
	for what, change := range map[string]func(*sandboxed){
		"no_new_privs is off in the kernel": func(m *sandboxed) { m.status = strings.Replace(m.status, "NoNewPrivs:\t1", "NoNewPrivs:\t0", 1) },
		"no system call is filtered":        func(m *sandboxed) { m.status = strings.Replace(m.status, "Seccomp:\t2", "Seccomp:\t0", 1) },
		"it has a capability":               func(m *sandboxed) { m.status = strings.Replace(m.status, "0000000000000000", "0000000000000400", 1) },
		"it is in the machine's network":    func(m *sandboxed) { m.network = "net:[1]" },
	} {
		m := newSandboxed(t)
		change(m)
		if got := m.examine(t); got["services.sandbox"] != Bad {
			t.Errorf("%s: %v", what, got)
		}
	}
	m := newSandboxed(t)
	m.profile, m.limits = "aes-signer (complain)", strings.Replace(m.limits, "0                    0 ", "0            unlimited ", 1)
	if got := m.examine(t); got["services.apparmor"] != Warn || got["machine.cores"] != Bad {
		t.Errorf("complaining only, and a core dump allowed: %v", got)
	}
}
