package main

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/porttest"
)

// TestWitnessedAppliance: a backup host and a witness that somebody else runs cosign the log, a time-stamping authority stamps it; the pack of a prescription shows
// all three, offline, to this program and to one in another language, and the log passes an auditor who has the file and the published checkpoint.
func TestWitnessedAppliance(t *testing.T) {
	e, _ := newBackedEstate(t)
	state := filepath.Join(filepath.Dir(e.root), "state")
	logKey := filepath.Join(state, "log-key.txt")
	status, signed := e.signs("RX-1")
	if status != 200 || !signed.Backup.Cosigned {
		t.Fatalf("%d %+v", status, signed)
	}
	policy := e.watchedBy(t, logKey, signed.Backup.By)
	e.restart(fmt.Sprintf("[log]\nwitness_policy_file = %q\nwitness_roots_file = %q\nwitness_every = \"1s\"\ntimestamp_url = %q\ntimestamp_roots_file = %q\n",
		policy, filepath.Join(e.dir, "witness.pem"), e.plain+"/tsa", e.root))
	pack, text, code := filepath.Join(e.dir, "RX-1.zip"), "", -1
	for end := time.Now().Add(30 * time.Second); code != 0 && time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		status, body, _ := e.ask("GET", "/api/evidence/RX-1/pack", e.provider.A.Login(t, oidctest.Doctor()).Access, nil)
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		if err := os.WriteFile(pack, body, 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		code = Main(t.Context(), []string{"verify", pack, "--trust", e.root, "--log-key", logKey, "--witness-keys", policy, "--tsa-trust", e.root}, strings.NewReader(""), &out, &out)
		if text = out.String(); !strings.Contains(text, "time_stamp") {
			code = -1
		}
	}
	if code != 0 || !strings.Contains(text, "witness.example/w") || !strings.Contains(text, "aes-backup-") || !strings.Contains(text, "which you trust, time-stamped") {
		t.Fatalf("exit code %d\n%s", code, text)
	}
	e.proofsInPython(t, pack, logKey, policy)
	note := filepath.Join(e.dir, "kept.txt")
	_, body, _ := e.ask("GET", "/log/checkpoint", "", nil)
	if err := os.WriteFile(note, body, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := Main(t.Context(), []string{"audit", "verify", filepath.Join(state, "audit_chain.jsonl"), "--checkpoint", note, "--log-key", logKey, "--witness-keys", policy},
		strings.NewReader(""), &out, &out); code != 0 || !strings.Contains(out.String(), "cosigned   by witness.example/w") {
		t.Errorf("exit code %d\n%s", code, &out)
	}
}

// watchedBy has another backup host, which holds nothing of this log, watch it, and returns the policy that wants it and the estate's own backup host.
func (e *estate) watchedBy(t *testing.T, logKey, backup string) (policy string) {
	t.Helper()
	v := newVault(t)
	certificate, key := selfSigned(t, "localhost")
	address := fmt.Sprintf("localhost:%d", porttest.Reserve(t))
	logs, err := os.ReadFile(logKey)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(v.config)
	if err != nil {
		t.Fatal(err)
	}
	policy = filepath.Join(e.dir, "witnesses.txt")
	write := func(path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(v.dir, "logs.txt"), "# who is watched\n"+string(logs))
	write(filepath.Join(v.dir, "tls.pem"), certificate)
	write(filepath.Join(v.dir, "tls.key"), key)
	write(filepath.Join(e.dir, "witness.pem"), certificate)
	write(v.config, string(text)+fmt.Sprintf("[witness]\nlisten = \"127.0.0.1:%s\"\nname = \"witness.example/w\"\nlogs_file = \"logs.txt\"\ncertificate_file = \"tls.pem\"\nkey_file = \"tls.key\"\n", strings.TrimPrefix(address, "localhost:")))
	v.start()
	its, err := os.ReadFile(filepath.Join(v.dir, "state", witnessDir, witnessKeyPublic))
	if err != nil {
		t.Fatal(err)
	}
	write(policy, fmt.Sprintf("witness backup %s\nwitness outside %s https://%s\ngroup both all backup outside\nquorum both\n", backup, strings.TrimSpace(string(its)), address))
	return policy
}

// selfSigned returns a certificate for a name, and its key, in PEM.
func selfSigned(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// restart stops both processes, and starts them with more in the configuration.
func (e *estate) restart(more string) {
	e.t.Helper()
	e.portal.stop()
	e.signer.stop()
	text, err := os.ReadFile(e.config)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(e.config, append(text, more...), 0o600); err != nil {
		e.t.Fatal(err)
	}
	e.signer = start(e.t, "--config", e.config, "signer")
	e.portal = start(e.t, "--config", e.config, "portal")
}

// proofsInPython has docs/vectors/audit-log/verify.py verify each proof of a pack, under both cosignatures.
func (e *estate) proofsInPython(t *testing.T, pack, logKey, policy string) {
	t.Helper()
	z, err := zip.OpenReader(pack)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files := map[string][]byte{}
	var proofs []string
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name, ".tlog-proof") {
			proofs = append(proofs, f.Name)
		}
	}
	key, err := os.ReadFile(logKey)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{strings.TrimSpace(string(key))}
	for _, line := range strings.Split(string(text), "\n") {
		if words := strings.Fields(line); len(words) > 2 && words[0] == "witness" {
			args = append(args, words[2])
		}
	}
	lines := bytes.SplitAfter(files["chain.jsonl"], []byte("\n"))
	if len(proofs) != len(lines)-1 || len(proofs) < 3 {
		t.Fatalf("%d proofs of %d lines", len(proofs), len(lines)-1)
	}
	for i, name := range proofs {
		line, proof := filepath.Join(e.dir, "line"), filepath.Join(e.dir, "proof")
		for path, content := range map[string][]byte{line: lines[i], proof: files[name]} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("python3", append([]string{"-B", "../../docs/vectors/audit-log/verify.py", "--proof", line, proof}, args...)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
