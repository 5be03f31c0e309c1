package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/doctor"
	"github.com/veripath/aes-appliance/internal/signer"
)

// consult examines an estate in this process; the system's programs, which take seconds, answer as they did on a machine in order. What they say is examined
// on real machines.
func consult(t testing.TB, role doctor.Role, path string, full bool) doctor.Report {
	t.Helper()
	a := &app{configPath: path, stderr: io.Discard}
	cfg, err := a.examined(role)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Full, cfg.Firewall = full, nil
	cfg.Machine = doctor.Local()
	cfg.Machine.Run = func(_ context.Context, name string, args ...string) ([]byte, error) {
		switch name {
		case "chronyc":
			return []byte("^,*,192.0.2.1,2,6,377,35,0,0,0\n^,+,192.0.2.2,2,6,377,33,0,0,0\n^,+,192.0.2.3,2,6,377,3,0,0,0\n"), nil
		case "ufw":
			return []byte("Status: active\nDefault: deny (incoming), deny (outgoing), deny (routed)\n"), nil
		case "apt-get":
			return nil, nil
		}
		return nil, errors.New(name + " is not asked in this test")
	}
	return doctor.Examine(context.Background(), cfg)
}

// TestDoctorVerb: the program prints the report as JSON that has the documented members and no other, or as text with every finding, and its exit code is the report's.
func TestDoctorVerb(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "appliance.toml")
	cmd := program(t, "doctor", "--json", "--config", missing)
	out, err := cmd.Output()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != exitBad {
		t.Fatalf("%v: %s", err, out)
	}
	var r doctor.Report
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || r.Schema != doctor.Schema || r.Verdict != doctor.Bad || r.Role != doctor.Primary {
		t.Fatalf("%v: %s", err, out)
	}
	expectVerdicts(t, "no configuration", r, map[string]doctor.Verdict{"configuration.valid": doctor.Bad, "machine.entropy": doctor.OK})
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if !strings.Contains(text.String(), f.Text) || !strings.Contains(text.String(), f.Cure) {
			t.Errorf("the text lacks %+v", f)
		}
	}
	for verdict, code := range map[doctor.Verdict]int{doctor.OK: exitGood, doctor.Warn: exitGood, doctor.Unknown: exitUnjudged, doctor.Bad: exitBad} {
		got := exitGood
		var e *exit
		if errors.As(doctorExit(doctor.Report{Verdict: verdict}), &e) {
			got = e.code
		}
		if got != code {
			t.Errorf("%s: exit code %d, want %d", verdict, got, code)
		}
	}
	if out, err := program(t, "doctor", "--role", "bystander").CombinedOutput(); !errors.As(err, &ended) || ended.ExitCode() != exitUsage {
		t.Errorf("%v: %s", err, out)
	}
}

// verdict returns the heaviest verdict of a check, and its texts.
func verdict(r doctor.Report, check string) (v doctor.Verdict, text string) {
	order := []doctor.Verdict{"", doctor.OK, doctor.Warn, doctor.Unknown, doctor.Bad}
	for _, f := range r.Findings {
		if f.Check == check {
			text += f.Text + "\n"
			if slices.Index(order, f.Verdict) > slices.Index(order, v) {
				v = f.Verdict
			}
		}
	}
	return v, text
}

func expectVerdicts(t *testing.T, when string, r doctor.Report, want map[string]doctor.Verdict) {
	t.Helper()
	for check, v := range want {
		if got, text := verdict(r, check); got != v {
			t.Errorf("%s: %s is %q, want %q: %s", when, check, got, v, text)
		}
	}
}

// TestDoctor: on an appliance that runs the doctor finds in order what is, and each thing that breaks by its own check, also when half of the appliance is down.
func TestDoctor(t *testing.T) {
	e := newEstate(t)
	state := filepath.Join(e.dir, "demo", "state")
	good := map[string]doctor.Verdict{
		"configuration.valid": doctor.OK, "disk.growth": doctor.OK, "clock.sources": doctor.OK, "firewall.active": doctor.OK, "updates.packages": doctor.OK, "permissions.paths": doctor.OK, "signer.answers": doctor.OK, "signer.portal": doctor.OK, "signer.version": doctor.OK,
		"token.files": doctor.OK, "token.pin": doctor.OK, "token.keys": doctor.OK, "certificates.authorities": doctor.OK, "certificates.own": doctor.OK, "tls.listener": doctor.OK,
		"tls.name": doctor.OK, "revocation.root_crl": doctor.OK, "revocation.ocsp": doctor.OK, "realms.reachable": doctor.OK, "log.recent": doctor.OK, "log.whole": doctor.OK,
		"backup.enrolled": doctor.Warn, "backup.drill": doctor.Warn, "backup.token": doctor.Bad, "permissions.root_token": doctor.Warn,
	}
	run(t, "--config", e.config, "realm", "remove", demoIssuer(t, e.config)) // nobody plays it now
	r := consult(t, doctor.Primary, e.config, true)
	expectVerdicts(t, "all is up", r, good)
	if r.Verdict != doctor.Bad { // a demo's clock is not proven, and its token not backed up
		t.Errorf("verdict %s", r.Verdict)
	}
	e.doctorSees(state)

	e.portal.stop()
	r = consult(t, doctor.Primary, e.config, false)
	expectVerdicts(t, "the portal is down", r, map[string]doctor.Verdict{
		"signer.answers": doctor.OK, "signer.portal": doctor.Bad, "tls.listener": doctor.Bad, "tls.name": doctor.Unknown, "revocation.root_crl": doctor.Bad, "revocation.ocsp": doctor.Bad,
		"log.recent": doctor.OK, "token.keys": doctor.OK,
	})
	e.signer.stop()
	r = consult(t, doctor.Primary, e.config, false)
	expectVerdicts(t, "both are down", r, map[string]doctor.Verdict{
		"signer.answers": doctor.Bad, "token.files": doctor.OK, "token.pin": doctor.OK, "token.keys": doctor.Unknown, "certificates.authorities": doctor.Unknown,
		"log.recent": doctor.OK, "log.whole": doctor.OK, "backup.drill": doctor.Unknown,
	})
	e.doctorSeesDamage(state)
}

// demoIssuer is the realm that a demo registers for itself.
func demoIssuer(t testing.TB, path string) string {
	t.Helper()
	for line := range strings.Lines(run(t, "--config", path, "realm", "list")) {
		for _, f := range strings.Fields(line) {
			if strings.HasSuffix(f, "/realms/demo") {
				return f
			}
		}
	}
	t.Fatal("the demo has no realm")
	return ""
}

// doctorSees changes one thing after the other, and puts it back.
func (e *estate) doctorSees(state string) {
	e.t.Helper()
	t := e.t.(*testing.T)
	pin, nowhere := filepath.Join(e.dir, "demo", "pin"), "http://127.0.0.1:1/realms/gone"
	run(t, "--config", e.config, "clinic", "add", "gone", "--name", "Gone Clinic")
	for check, change := range map[string]struct{ do, undo func() error }{
		"permissions.paths": {func() error { return os.Chmod(state, 0o755) }, func() error { return os.Chmod(state, 0o700) }},
		"token.pin":         {func() error { return os.Chmod(pin, 0o644) }, func() error { return os.Chmod(pin, 0o600) }},
		"realms.reachable": {
			func() error {
				run(t, "--config", e.config, "realm", "add", nowhere, "--clinic", "gone")
				return nil
			},
			func() error { run(t, "--config", e.config, "realm", "remove", nowhere); return nil },
		},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		r := consult(t, doctor.Primary, e.config, false)
		if err := change.undo(); err != nil {
			t.Fatal(err)
		}
		expectVerdicts(t, "changed for "+check, r, map[string]doctor.Verdict{check: doctor.Bad})
	}
}

// doctorSeesDamage harms what a stopped appliance keeps.
func (e *estate) doctorSeesDamage(state string) {
	e.t.Helper()
	t := e.t.(*testing.T)
	log := filepath.Join(state, "audit_chain.jsonl")
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := filepath.Glob(filepath.Join(state, "token", "*", "*", "token.object"))
	if err != nil || len(tokens) == 0 {
		if tokens, err = filepath.Glob(filepath.Join(state, "token", "*", "token.object")); err != nil || len(tokens) == 0 {
			t.Fatal(tokens, err)
		}
	}
	changed := bytes.Clone(data)
	changed[len(changed)-100] ^= 4
	for _, one := range []struct {
		when string
		do   func() error
		want map[string]doctor.Verdict
	}{
		{"a byte near the log's end was changed", func() error { return os.WriteFile(log, changed, 0o600) }, map[string]doctor.Verdict{"log.recent": doctor.Bad, "log.whole": doctor.Bad}},
		{"the log ends within a line", func() error { return os.WriteFile(log, data[:len(data)-9], 0o600) }, map[string]doctor.Verdict{"log.recent": doctor.Warn, "log.whole": doctor.OK}},
		{"the log is gone", func() error { return os.Remove(log) }, map[string]doctor.Verdict{"log.recent": doctor.Bad, "disk.growth": doctor.Unknown}},
		{"the token's master key is gone", func() error { return os.Truncate(tokens[0], 0) }, map[string]doctor.Verdict{"token.files": doctor.Bad}},
	} {
		if err := one.do(); err != nil {
			t.Fatal(err)
		}
		r := consult(t, doctor.Primary, e.config, false)
		expectVerdicts(t, one.when, r, one.want)
	}
}

// TestDoctorJudgesRevocation: an answer that was good once, or another CA's list, is not taken: a relying party would not take it either.
func TestDoctorJudgesRevocation(t *testing.T) {
	e := newEstate(t)
	cfg, err := config.Load(e.config)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	kept, lie := map[string][]byte{}, false
	replay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		kind := r.Method
		if strings.HasPrefix(r.URL.Path, "/crl/") {
			kind = r.Method + strings.Split(filepath.Base(r.URL.Path), "-")[0]
		}
		if lie && len(kept[kind]) > 0 {
			if r.Method == http.MethodGet { // any CA's list for every CA
				kind = "GETroot"
			}
			w.Write(kept[kind])
			return
		}
		asked, err := http.NewRequest(r.Method, e.plain+r.URL.Path, r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		asked.Header = r.Header
		answer, err := http.DefaultClient.Do(asked)
		if err != nil {
			t.Error(err)
			return
		}
		defer answer.Body.Close()
		kept[kind], _ = io.ReadAll(answer.Body)
		w.Write(kept[kind])
	}))
	defer replay.Close()
	base := strings.TrimPrefix(cfg.PKI.BaseURL, "http://")
	m := doctor.Local()
	dial := m.Dial
	m.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == base {
			address = replay.Listener.Addr().String()
		}
		return dial(ctx, network, address)
	}
	look := func() doctor.Report {
		return doctor.Examine(context.Background(), doctor.Config{Role: doctor.Primary, Appliance: cfg, ConfigPath: e.config, Version: version, Machine: m, Now: time.Now, Rand: rand.Reader})
	}
	good := map[string]doctor.Verdict{"revocation.root_crl": doctor.OK, "revocation.crl": doctor.OK, "revocation.ocsp": doctor.OK}
	expectVerdicts(t, "through an honest proxy", look(), good)
	mu.Lock()
	lie = true
	mu.Unlock()
	r := look()
	expectVerdicts(t, "replayed", r, map[string]doctor.Verdict{"revocation.root_crl": doctor.OK, "revocation.crl": doctor.Bad, "revocation.ocsp": doctor.Bad})
	if _, text := verdict(r, "revocation.ocsp"); !strings.Contains(text, "nonce") {
		t.Errorf("a replayed answer is said to be wrong for: %s", text)
	}
}

// TestDoctorOfABackupHost: the copies, what listens, and what does not come any more.
func TestDoctorOfABackupHost(t *testing.T) {
	v := newVault(t)
	v.address = strings.Replace(v.address, "localhost", "127.0.0.1", 1) // an address of the operator's own choice may be this machine, a name may not
	r := consult(t, doctor.Backup, v.config, false)
	expectVerdicts(t, "before its first start", r, map[string]doctor.Verdict{"copies.held": doctor.Bad})
	v.start()
	r = consult(t, doctor.Backup, v.config, false)
	expectVerdicts(t, "without a primary", r, map[string]doctor.Verdict{"copies.held": doctor.Warn, "copies.listener": doctor.OK, "alarm.ways": doctor.OK, "permissions.paths": doctor.OK})

	e := newEstate(t)
	e.enrol(v, "enrol")
	r = consult(t, doctor.Backup, v.config, true)
	expectVerdicts(t, "with a primary", r, map[string]doctor.Verdict{"copies.held": doctor.OK, "copies.fresh": doctor.OK, "copies.refusals": doctor.OK, "copies.listener": doctor.OK, "log.recent": doctor.OK, "log.whole": doctor.OK})
	r = consult(t, doctor.Primary, e.config, false)
	expectVerdicts(t, "the primary", r, map[string]doctor.Verdict{"backup.enrolled": doctor.OK, "backup.head": doctor.OK})

	run(t, "--config", v.config, "receiver", "rotate-key")
	r = consult(t, doctor.Backup, v.config, false)
	expectVerdicts(t, "with a key that the service has not taken up", r, map[string]doctor.Verdict{"copies.listener": doctor.Bad})
	v.stop()
	r = consult(t, doctor.Backup, v.config, false)
	expectVerdicts(t, "stopped", r, map[string]doctor.Verdict{"copies.listener": doctor.Bad, "copies.held": doctor.OK})
	for end := time.Now().Add(30 * time.Second); e.backupStatus().Connected && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	r = consult(t, doctor.Primary, e.config, false)
	expectVerdicts(t, "the primary without it", r, map[string]doctor.Verdict{"backup.enrolled": doctor.Bad})
}

// TestDoctorServing: only what tells whether the services do their work is asked, a time stamp among it; what a report before found wrong does not count, and what
// has gone wrong since does. systemd is not there: what it says is seen on machines.
func TestDoctorServing(t *testing.T) {
	e := newEstate(t)
	a := &app{configPath: e.config, stderr: io.Discard}
	r, err := a.examineServing(t.Context(), doctor.Primary, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	expectVerdicts(t, "all is up", r, map[string]doctor.Verdict{"signer.answers": doctor.OK, "signer.stamps": doctor.OK, "signer.portal": doctor.OK, "token.keys": doctor.OK, "tls.listener": doctor.OK, "log.whole": doctor.OK})
	if _, text := verdict(r, "clock.kernel"); text != "" {
		t.Errorf("the clock was examined: %s", text)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	before := filepath.Join(t.TempDir(), "before.json")
	if err := os.WriteFile(before, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := a.examineServing(t.Context(), doctor.Primary, time.Minute, before); err != nil || r.Verdict != doctor.OK || len(r.Findings) != 0 {
		t.Errorf("nothing has changed: %v %+v", err, r.Findings)
	}
	// What lies in the state folder is the signer's user's to exchange: for what never ends, and for what nobody ever writes to.
	root := filepath.Join(e.dir, "demo", "state", signer.RootPEMName)
	for name, plant := range map[string]func() error{"endless": func() error { return os.Symlink("/dev/zero", root) }, "silent": func() error { return syscall.Mkfifo(root, 0o600) }} {
		if err := errors.Join(os.Rename(root, root+".away"), plant()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		r, err := a.examineServing(t.Context(), doctor.Primary, time.Second, before)
		if err != nil || r.Verdict != doctor.Bad || time.Since(began) > time.Minute {
			t.Errorf("%s: %v %s after %v", name, err, r.Verdict, time.Since(began))
		}
		if err := os.Rename(root+".away", root); err != nil {
			t.Fatal(err)
		}
	}
	e.portal.stop()
	r, err = a.examineServing(t.Context(), doctor.Primary, time.Second, before)
	if err != nil || r.Verdict != doctor.Bad {
		t.Errorf("the portal is down: %v %s", err, r.Verdict)
	}
	expectVerdicts(t, "the portal is down", r, map[string]doctor.Verdict{"signer.stamps": doctor.Bad, "signer.portal": doctor.Bad, "tls.listener": doctor.Bad})
	if _, text := verdict(r, "signer.answers"); text != "" {
		t.Errorf("what is as good as before is told: %s", text)
	}
	if err := os.WriteFile(before, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.examineServing(t.Context(), doctor.Primary, 0, before); err == nil {
		t.Error("a report of nothing was taken")
	}
}

// TestDoctorDocumented: docs/doctor.md has every check, in the words of the program.
func TestDoctorDocumented(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "doctor.md"))
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, c := range doctor.Checks() {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", c.Name, c.Roles, c.Doc)
	}
	if !strings.Contains(string(data), table.String()) {
		t.Errorf("docs/doctor.md does not have this table:\n%s", table.String())
	}
}
