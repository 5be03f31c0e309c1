package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sandboxed is a machine on which the signer runs as process 42, as systemd and the kernel tell it.
type sandboxed struct {
	root       string
	properties map[string]string
	status     string
	network    string // /proc/PID/net/dev of the signer
	limits     string
	profile    string
}

func newSandboxed(t *testing.T) *sandboxed {
	m := &sandboxed{root: t.TempDir(), properties: map[string]string{"MainPID": "42", "LoadState": "loaded", "ActiveState": "active", "NRestarts": "0"},
		status: "Name:\tappliance\nNoNewPrivs:\t1\nSeccomp:\t2\nCapEff:\t0000000000000000\n", network: "Inter-|   Receive\n face |bytes\n    lo:       0\n", profile: "aes-signer (enforce)",
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
		"proc/42/status": m.status, "proc/42/limits": m.limits, "proc/42/net/dev": m.network, "proc/42/attr/current": m.profile + "\n", "sys/module/apparmor/parameters/enabled": "Y\n",
	} {
		full := filepath.Join(m.root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, []byte(text), 0o600)); err != nil {
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
		"it is in the machine's network":    func(m *sandboxed) { m.network += "  eth0:      10\n" },
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

// TestReplaced: a service that runs a program which was replaced is seen by who may trace it, and by who may not.
func TestReplaced(t *testing.T) {
	for _, one := range []struct {
		name string
		exe  string // where /proc/PID/exe leads; empty: that is not shown
		age  time.Duration
		want bool
	}{
		{"the present program", program, time.Hour, false},
		{"one that was removed", program + " (deleted)", time.Hour, true},
		{"begun after the file came", "", time.Second, false},
		{"begun before", "", time.Hour, true},
	} {
		root := t.TempDir()
		file, proc := filepath.Join(root, program), filepath.Join(root, "proc/42")
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o700), os.MkdirAll(proc, 0o700),
			os.WriteFile(filepath.Join(root, "proc/uptime"), []byte("7200.00 100.00\n"), 0o600),
			os.WriteFile(filepath.Join(proc, "stat"), fmt.Appendf(nil, "42 (a) b) S %s %d 0 0\n", strings.Repeat("0 ", 18), int64((7200*time.Second-one.age)/(10*time.Millisecond))), 0o600)); err != nil {
			t.Fatal(err)
		}
		if one.exe != "" {
			if err := os.Symlink(one.exe, filepath.Join(proc, "exe")); err != nil {
				t.Fatal(err)
			}
		}
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil {
			t.Fatal(err)
		}
		e := &exam{Config: Config{Now: func() time.Time { return time.Unix(st.Ctim.Unix()).Add(time.Minute) }}, m: &Machine{Root: root}}
		if got := e.replaced(42); got != one.want {
			t.Errorf("%s: %v", one.name, got)
		}
	}
}
