package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/porttest"
	"github.com/veripath/aes-appliance/internal/wire"
)

// vault is a backup host: its own state and configuration, and its service while it runs.
type vault struct {
	t           testing.TB
	dir, config string
	address     string
	alarms      string // file that its alarm program writes to
	host        string // network namespace that it runs in; "" = the test's own
	*service
}

// newVault makes a backup host that listens on loopback. Its alarm is a program that adds what it is given to a file.
func newVault(t testing.TB) *vault {
	t.Helper()
	dir := t.TempDir()
	v := &vault{t: t, dir: dir, config: filepath.Join(dir, "receiver.toml"), address: fmt.Sprintf("localhost:%d", porttest.Reserve(t)), alarms: filepath.Join(dir, "alarms")}
	page := filepath.Join(dir, "page")
	text := fmt.Sprintf("state_dir = \"state\"\nlisten = \"127.0.0.1:%s\"\n[alarm]\ncommand = \"page\"\nsilence = \"5s\"\n", strings.TrimPrefix(v.address, "localhost:"))
	for path, content := range map[string]string{v.config: text, page: "#!/bin/sh\ncat >> " + v.alarms + "\n"} {
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func (v *vault) start() {
	v.t.Helper()
	cmd := program(v.t, "--config", v.config, "receiver")
	if v.host != "" {
		cmd = on(v.t, v.host, "--config", v.config, "receiver")
	}
	v.service = launch(v.t, cmd)
	v.service.wait()
}

// log returns what the backup host's copy is.
func (v *vault) log() []byte {
	v.t.Helper()
	found, err := filepath.Glob(filepath.Join(v.dir, "state", "logs", "*", "audit_chain.jsonl"))
	if err != nil || len(found) != 1 {
		v.t.Fatalf("%v, %v", found, err)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		v.t.Fatal(err)
	}
	return data
}

// enrol makes v the backup host of the estate, and waits until it holds everything.
func (e *estate) enrol(v *vault, verb string) {
	e.t.Helper()
	out, err := program(e.t, "--config", e.config, "backup", verb, "--to", v.address).Output()
	if err != nil {
		e.t.Fatalf("backup %s: %v", verb, err)
	}
	run(e.t, "--config", v.config, "receiver", "--join", strings.TrimSpace(string(out)))
	e.synchronised(v)
}

// synchronised waits until answers wait for v.
func (e *estate) synchronised(v *vault) {
	e.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		st := e.backupStatus("--wait", "5s")
		if st.Address == v.address && st.State == "sync" && st.Cosigned && st.Connected {
			return
		}
		if time.Now().After(end) {
			e.t.Fatalf("%+v", st)
		}
	}
}

// backupStatus is what "backup status" says; its exit code does not matter here.
func (e *estate) backupStatus(more ...string) (st wire.BackupStatus) {
	e.t.Helper()
	out, _ := program(e.t, append([]string{"--config", e.config, "backup", "status", "--json"}, more...)...).Output()
	if err := json.Unmarshal(out, &st); err != nil {
		e.t.Fatalf("%s: %v", out, err)
	}
	return st
}

// signs asks for a prescription to be signed; the same one each time for the same ID.
func (e *estate) signs(id string) (int, backedAnswer) {
	e.t.Helper()
	e.asking.Lock()
	if e.asked == nil {
		e.asked = map[string]map[string]any{}
	}
	body := e.asked[id]
	if body == nil {
		body = signBody(e.t)
		body["prescription_id"], e.asked[id] = id, body
	}
	e.asking.Unlock()
	status, raw, _ := e.ask("POST", "/api/sign", e.provider.A.Login(e.t, oidctest.Doctor()).Access, body)
	var a backedAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		e.t.Fatalf("%d %s: %v", status, raw, err)
	}
	return status, a
}

// backedAnswer is what is looked at of an answer, be it good or a problem.
type backedAnswer struct {
	Type     string      `json:"type"`
	SHA256   string      `json:"pdf_sha256"`
	Repeated bool        `json:"repeated"`
	Backup   wire.Backup `json:"backup"`
}

// withDoctor gives the clinic a clinician who can sign.
func (e *estate) withDoctor() {
	e.t.Helper()
	doctor := oidctest.Doctor()
	run(e.t, "--config", e.config, "cert", "issue", "--type", "clinician", "--name", doctor.Name, "--clinic", "wharf-lane", "--sub", doctor.Sub,
		"--register", "GMC", "--number", "7654321")
}

// shorten makes answers wait for the backup only a short time.
func (e *estate) shorten() {
	e.t.Helper()
	text, err := os.ReadFile(e.config)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(e.config, append(text, "\n[replication]\nwait = \"500ms\"\nheartbeat = \"1s\"\n"...), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// newBackedEstate is an estate with a doctor and an enrolled backup host.
func newBackedEstate(t *testing.T, more ...func(*estate)) (*estate, *vault) {
	t.Helper()
	e := newGround(t, "caller_rate = 1000\npublic_rate = 1000\n")
	e.shorten()
	for _, f := range more {
		f(e)
	}
	e.provider = oidctest.Start(t, oidctest.Options{})
	e.signer = start(t, "--config", e.config, "signer")
	run(t, "--config", e.config, "clinic", "add", "wharf-lane", "--name", "Wharf Lane Clinic", "--acr", "2", "--audience", "aes-portal", "--admin-role", "aes-admin", "--per-minute", "10000", "--per-token", "10000")
	run(t, "--config", e.config, "realm", "add", e.provider.A.Issuer, "--clinic", "wharf-lane")
	e.portal = start(t, "--config", e.config, "portal")
	e.withDoctor()
	v := e.vault
	if v == nil {
		v = newVault(t)
	}
	v.start()
	if status, a := e.signs("RX-0"); status != http.StatusOK || a.Backup.State != "disabled" || a.Backup.Cosigned { // the demo's ended with it
		t.Errorf("without a backup: %d %+v", status, a)
	}
	e.enrol(v, "enrol")
	return e, v
}

// TestAnswersWaitForTheBackup: what is answered is on the backup; without it nothing leaves, and the same request is answered when it is back.
func TestAnswersWaitForTheBackup(t *testing.T) {
	e, v := newBackedEstate(t)
	status, a := e.signs("RX-1")
	if status != http.StatusOK || a.Backup.State != "sync" || !a.Backup.Cosigned || !strings.HasPrefix(a.Backup.By, "aes-backup-") {
		t.Fatalf("%d %+v", status, a)
	}
	if !strings.Contains(string(v.log()), a.SHA256) {
		t.Error("the answer left, and its line is not on the backup")
	}
	token := e.provider.A.Login(t, oidctest.Doctor()).Access
	_, evidence, _ := e.ask("GET", "/api/evidence/RX-1", token, nil)
	if !strings.Contains(string(evidence), `"backup":{"cosigned":true,`) {
		t.Errorf("the evidence does not name the cosignature: %.300s", evidence)
	}

	e.showsBackup("sync")

	v.stop()
	if status, a := e.signs("RX-2"); status != http.StatusServiceUnavailable || a.Type != "/problems/not-yet-replicated" {
		t.Errorf("with the backup down: %d %+v", status, a)
	}
	for path, want := range map[string]int{"/api/pdf/RX-1": 200, "/api/evidence/RX-1": 200, "/api/pdf/RX-2": 503, "/api/evidence/RX-2": 503, "/api/evidence/RX-2/pack": 503, "/api/prescriptions": 503} {
		if got, body, _ := e.ask("GET", path, token, nil); got != want {
			t.Errorf("GET %s with the backup down: %d %.200s", path, got, body)
		}
	}
	if got, body, _ := e.ask("POST", "/api/prescriptions/RX-1/cancel", token, map[string]string{"reason": "wrong dose"}); got != http.StatusServiceUnavailable {
		t.Errorf("cancelling with the backup down: %d %s", got, body)
	}
	if status, a := e.signs("RX-1"); status != http.StatusServiceUnavailable {
		t.Errorf("an answer that tells of a cancellation which the backup does not have: %d %+v", status, a)
	}
	v.start()
	e.synchronised(v)
	status, a = e.signs("RX-2")
	if status != http.StatusOK || !a.Repeated || !a.Backup.Cosigned {
		t.Errorf("the same request again: %d %+v", status, a)
	}
	if n := len(regexp.MustCompile(`"event_type":"prescription_signed".*"prescription_id":"RX-2"`).FindAll(v.log(), -1)); n != 1 {
		t.Errorf("RX-2 was signed %d times", n)
	}
	e.giveUp(v)
}

// showsBackup looks at the metrics.
func (e *estate) showsBackup(state string) {
	e.t.Helper()
	resp, err := http.Get(e.metrics + "/metrics")
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	if !strings.Contains(string(text), "aes_backup_state{state=\""+state+"\"} 1\n") || !regexp.MustCompile(`(?m)^aes_backup_cosigned_lines [1-9]`).Match(text) {
		e.t.Errorf("the metrics do not say %s:\n%s", state, text)
	}
}

// rotates changes the keys of both sides, one after the other: nothing is lost, and answers go on waiting for the same copy.
func (e *estate) rotates(v *vault) {
	e.t.Helper()
	before := e.backupStatus()
	out, err := program(e.t, "--config", e.config, "backup", "rotate-key").Output()
	if err != nil {
		e.t.Fatal(err)
	}
	if status, a := e.signs("RX-ROTATE-1"); status != http.StatusOK || !a.Backup.Cosigned { // by the old key, until the host has joined
		e.t.Errorf("while the key changes: %d %+v", status, a)
	}
	run(e.t, "--config", v.config, "receiver", "--join", strings.TrimSpace(string(out)))
	e.knows(v, func(st wire.BackupStatus) bool { return st.Primary != before.Primary && st.Receiver == before.Receiver })
	if status, a := e.signs("RX-ROTATE-2"); status != http.StatusOK || !a.Backup.Cosigned {
		e.t.Errorf("with a new key: %d %+v", status, a)
	}
	peers, err := filepath.Glob(filepath.Join(v.dir, "state", "peers", "*"))
	if err != nil || len(peers) != 1 {
		e.t.Fatal(peers, err)
	}
	if text, err := os.ReadFile(peers[0]); err != nil || strings.Contains(string(text), `"before"`) || strings.Contains(string(text), before.Primary) {
		e.t.Errorf("the host still knows the old key: %v\n%s", err, text)
	}
	run(e.t, "--config", v.config, "receiver", "rotate-key")
	v.stop()
	v.start()
	e.enrol(v, "replace")
	e.knows(v, func(st wire.BackupStatus) bool { return st.Receiver != before.Receiver && st.By == before.By })
	if status, a := e.signs("RX-ROTATE-3"); status != http.StatusOK || !a.Backup.Cosigned || !strings.Contains(string(v.log()), a.SHA256) {
		e.t.Errorf("with a new key of the host's: %d %+v", status, a)
	}
}

// knows waits until the status of the enrolled host is as it should be.
func (e *estate) knows(v *vault, ok func(wire.BackupStatus) bool) {
	e.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if st := e.backupStatus(); ok(st) && st.State == "sync" && st.Connected {
			return
		} else if time.Now().After(end) {
			e.t.Fatalf("%+v", st)
		}
	}
}

// TestKeysOfBothSidesChange: see rotates.
func TestKeysOfBothSidesChange(t *testing.T) {
	e, v := newBackedEstate(t)
	e.rotates(v)
	e.portal.stop()
	e.signer.stop()
	run(t, "--config", e.config, "audit", "verify")
	if n := strings.Count(string(e.logText()), `"event_type":"backup_synchronised"`); n != 2 { // the demo's and this one's: never anew
		t.Errorf("it was synchronised %d times", n)
	}
}

// giveUp ends with the act that ends a backup, and another host in its place.
func (e *estate) giveUp(v *vault) {
	e.t.Helper()
	if out, err := program(e.t, "--config", e.config, "backup", "enrol", "--to", v.address).CombinedOutput(); err == nil || !strings.Contains(string(out), "enrolled already") {
		e.t.Errorf("a second enrolment: %v %s", err, out)
	}
	other := newVault(e.t)
	other.start()
	e.enrol(other, "replace")
	if status, a := e.signs("RX-3"); status != http.StatusOK || !a.Backup.Cosigned || !strings.Contains(string(other.log()), a.SHA256) || strings.Contains(string(v.log()), a.SHA256) {
		e.t.Errorf("after the exchange: %d %+v", status, a)
	}
	run(e.t, "--config", e.config, "backup", "disable", "--reason", "the data centre burnt down")
	status, a := e.signs("RX-4")
	if status != http.StatusOK || a.Backup.State != "disabled" || a.Backup.Cosigned {
		e.t.Errorf("after giving it up: %d %+v", status, a)
	}
	e.portal.stop()
	e.signer.stop()
	types := regexp.MustCompile(`"event_type":"(backup_[a-z]+)"`).FindAllStringSubmatch(string(e.logText()), -1)
	var got []string
	for _, m := range types {
		got = append(got, m[1])
	}
	if want := "backup_offered backup_enrolled backup_synchronised backup_offered backup_enrolled backup_synchronised backup_disabled"; !strings.HasSuffix(strings.Join(got, " "), "backup_disabled "+want) {
		e.t.Errorf("the log has %v", got)
	}
	run(e.t, "--config", e.config, "audit", "verify")
}

func (e *estate) logText() []byte {
	e.t.Helper()
	data, err := os.ReadFile(filepath.Join(e.dir, "demo", "state", "audit_chain.jsonl"))
	if err != nil {
		e.t.Fatal(err)
	}
	return data
}

// TestStartComparesWithTheBackup: a signer that starts signs only once it has compared itself; one with an old copy of its log never does, and says so.
func TestStartComparesWithTheBackup(t *testing.T) {
	e, v := newBackedEstate(t)
	old := filepath.Join(t.TempDir(), "state")
	e.signer.stop()
	copyTree(t, filepath.Join(e.dir, "demo", "state"), old)
	v.stop()
	e.signer = start(t, "--config", e.config, "signer")
	status, a := e.signs("RX-1")
	if status != http.StatusServiceUnavailable || a.Type != "/problems/backup-not-compared" {
		t.Errorf("before it is compared: %d %+v", status, a)
	}
	st := e.backupStatus()
	if st.State != "comparing" || st.Signing == "" {
		t.Errorf("%+v", st)
	}
	run(t, "--config", e.config, "clinic", "list") // ready for administration
	v.start()
	e.synchronised(v)
	if status, a := e.signs("RX-1"); status != http.StatusOK {
		t.Fatalf("%d %+v", status, a)
	}

	e.signer.stop()
	state := filepath.Join(e.dir, "demo", "state")
	if err := os.Rename(state, state+".newer"); err != nil {
		t.Fatal(err)
	}
	copyTree(t, old, state)
	e.signer = start(t, "--config", e.config, "signer")
	for end := time.Now().Add(20 * time.Second); e.backupStatus().State != "mismatch"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the old copy is not found out: %+v", e.backupStatus())
		}
	}
	if status, a := e.signs("RX-2"); status != http.StatusServiceUnavailable || a.Type != "/problems/log-not-as-cosigned" {
		t.Errorf("with an old copy: %d %+v", status, a)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if alarms, _ := os.ReadFile(v.alarms); strings.Contains(string(alarms), `"kind":"refusal"`) && strings.Contains(string(alarms), `"kind":"silence"`) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the backup host called for help with %s", alarms)
		}
	}
	if !strings.Contains(string(e.logText()), "backup_mismatch_found") {
		t.Error("what was found is not in the log")
	}
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
