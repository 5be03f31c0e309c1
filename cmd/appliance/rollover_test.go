package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/escrow"
	"github.com/veripath/aes-appliance/internal/pdf"
	"github.com/veripath/aes-appliance/internal/token"
	"github.com/veripath/aes-appliance/internal/wire"
)

// rolled is a demo whose root token has been sealed and taken away, as setup does with a real one's.
type rolled struct {
	t                                 *testing.T
	dir, config, root, sealed, holder string
}

// TestRollover: with the root brought back, every CA, the TSA and the responders get new keys while the signer runs; then a CA is compromised. Documents that were
// signed before, between and after are valid to verify and to openssl.
func TestRollover(t *testing.T) {
	r := newRolled(t)
	first := filepath.Join(r.dir, "prescription.signed.pdf")
	before := r.certificates()
	service := start(t, "--config", r.config, "signer")
	time.Sleep(1100 * time.Millisecond) // so that what comes later is later in whole seconds
	out := r.ceremony("rollover")
	for _, kind := range []string{"clinician-ca", "time-ca", "infrastructure-ca"} {
		if got := strings.Count(out, kind); got != 2 || before[kind] == "" {
			t.Errorf("%d of %s:\n%s", got, kind, out)
		}
	}
	service.stop()
	after := r.certificates()
	if after["tsa"] == before["tsa"] || after["time-ca"] == before["time-ca"] {
		t.Errorf("the TSA is the old one: %v, %v", before, after)
	}
	second := r.sign("second") // by the old Clinician CA, stamped by the new TSA
	run(t, "--config", r.config, "cert", "renew", "--issued-by", before["clinician-ca"])
	third := r.sign("third")
	r.judge(first, before["clinician-ca"], before["time-ca"])
	r.judge(second, before["clinician-ca"], after["time-ca"])
	r.judge(third, after["clinician-ca"], after["time-ca"])

	// The Clinician CA's key is in other hands: its successor, and its end, in one ceremony.
	out = r.ceremony("rollover", "--ca", "clinician-ca", "--revoke-old", "cACompromise")
	if strings.Count(out, "revoked, cACompromise") != 2 {
		t.Errorf("two Clinician CAs were to end:\n%s", out)
	}
	if text := r.refused("sign", "--in", first, "--out", filepath.Join(r.dir, "not.pdf"), "--as", "Doctor Clinician"); !strings.Contains(text, "CA that has been revoked") {
		t.Errorf("a clinician of the revoked CA: %s", text)
	}
	run(t, "--config", r.config, "cert", "renew", "--issued-by", after["clinician-ca"])
	last := r.certificates()
	fourth := r.sign("fourth")
	for _, path := range []string{first, second, third, fourth} {
		run(t, "verify", path, "--trust", r.root)
	}
	r.judge(fourth, last["clinician-ca"], after["time-ca"])
	r.checkList(last["clinician-ca"], before["clinician-ca"], after["clinician-ca"])

	// The old Time CA's key is out too. What its successor has stamped before its end stays valid, also to who knows of the end.
	renewed, again := filepath.Join(r.dir, "renewed.pdf"), filepath.Join(r.dir, "again.pdf")
	run(t, "--config", r.config, "renew", "--in", first, "--out", renewed)
	r.ceremony("revoke", before["time-ca"], "--reason", "cACompromise")
	r.ceremony("sign-list")
	run(t, "--config", r.config, "renew", "--in", renewed, "--out", again) // has the root's new list in it
	for _, path := range []string{renewed, again, fourth} {
		run(t, "verify", path, "--trust", r.root)
	}
	late := filepath.Join(r.dir, "late.pdf")
	run(t, "--config", r.config, "renew", "--in", first, "--out", late)
	if text := r.refused("verify", late, "--trust", r.root); !strings.Contains(text, "REVOKED_CA_NO_POE") {
		t.Errorf("renewed only after the end: %s", text)
	}
	if text := r.refused("ceremony", "revoke", after["time-ca"], "--reason", "keyCompromise", "--root", r.sealed, "--identity", r.holder); !strings.Contains(text, "no time-ca would be left") {
		t.Errorf("the last Time CA: %s", text)
	}
	run(t, "audit", "verify", filepath.Join(r.dir, "state", "audit_chain.jsonl"))
}

// TestRootIsAskedForWhatWasOrdered: a signer that was taken over asks the root for more than the operator ordered.
func TestRootIsAskedForWhatWasOrdered(t *testing.T) {
	csr := map[cert.Kind][]byte{cert.ClinicianCA: {1}}
	ends := []ca.CeremonyRevocation{{Serial: "5f1c", Reason: "superseded"}}
	ordered := wire.CeremonyBegin{Succeed: []string{"clinician-ca"}, Revoke: []wire.CeremonyEnding{{Serial: "005F1C", Reason: "superseded"}}}
	for what, c := range map[string]struct {
		ordered wire.CeremonyBegin
		asked   ca.CeremonyRequest
		good    bool
	}{
		"a list alone":               {wire.CeremonyBegin{}, ca.CeremonyRequest{}, true},
		"as ordered":                 {ordered, ca.CeremonyRequest{Requests: csr, Revoke: ends}, true},
		"ordered twice":              {wire.CeremonyBegin{Succeed: []string{"clinician-ca", "clinician-ca"}}, ca.CeremonyRequest{Requests: csr}, true},
		"a CA with a list":           {wire.CeremonyBegin{}, ca.CeremonyRequest{Requests: csr}, false},
		"an end with a list":         {wire.CeremonyBegin{}, ca.CeremonyRequest{Revoke: ends}, false},
		"no end":                     {ordered, ca.CeremonyRequest{Requests: csr}, false},
		"another's end":              {ordered, ca.CeremonyRequest{Requests: csr, Revoke: []ca.CeremonyRevocation{{Serial: "5f1d", Reason: "superseded"}}}, false},
		"for another reason":         {ordered, ca.CeremonyRequest{Requests: csr, Revoke: []ca.CeremonyRevocation{{Serial: "5f1c", Reason: "keyCompromise"}}}, false},
		"another kind":               {ordered, ca.CeremonyRequest{Requests: map[cert.Kind][]byte{cert.TimeCA: {1}}, Revoke: ends}, false},
		"two kinds, one was ordered": {wire.CeremonyBegin{Succeed: []string{"clinician-ca"}}, ca.CeremonyRequest{Requests: map[cert.Kind][]byte{cert.ClinicianCA: {1}, cert.TimeCA: {1}}}, false},
	} {
		if got := sameWish(c.ordered, c.asked); got != c.good {
			t.Errorf("%s: %t", what, got)
		}
	}
}

func newRolled(t *testing.T) *rolled {
	t.Helper()
	r := &rolled{t: t, dir: filepath.Join(t.TempDir(), "demo")}
	run(t, "demo", "--dir", r.dir)
	r.config, r.root = filepath.Join(r.dir, "appliance.toml"), filepath.Join(r.dir, "root.pem")
	r.sealed, r.holder = filepath.Join(t.TempDir(), "root.age"), filepath.Join(t.TempDir(), "identity")
	holder, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(r.config)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := readPIN(filepath.Join(r.dir, "root-pin"))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cfg.StateDir, "root")
	token, err := token.Open(context.Background(), token.Config{Module: cfg.Token.Module, Dir: folder, Label: "aes-root", PIN: pin, SigningOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	files, err := token.Files()
	if err != nil || token.Close() != nil {
		t.Fatal(err)
	}
	der, _ := pem.Decode(r.read(r.root))
	sum := sha256.Sum256(der.Bytes)
	b := escrow.Backup{Origin: "root " + hex.EncodeToString(sum[:]), Made: time.Now(), Label: "aes-root", PIN: pin}
	for _, f := range files {
		b.Files = append(b.Files, escrow.File(f))
	}
	var sealed bytes.Buffer
	if err := escrow.Seal(&sealed, []string{holder.Recipient().String()}, b); err != nil {
		t.Fatal(err)
	}
	r.write(r.sealed, sealed.Bytes())
	r.write(r.holder, []byte(holder.String()+"\n"))
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rolled) read(path string) []byte {
	r.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return data
}

func (r *rolled) write(path string, data []byte) {
	r.t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// ceremony runs a verb that takes the root.
func (r *rolled) ceremony(verb string, args ...string) string {
	r.t.Helper()
	time.Sleep(1100 * time.Millisecond)
	return run(r.t, append([]string{"--config", r.config, "ceremony", verb, "--root", r.sealed, "--identity", r.holder}, args...)...)
}

// refused runs a verb that must fail.
func (r *rolled) refused(args ...string) string {
	r.t.Helper()
	out, err := program(r.t, append([]string{"--config", r.config}, args...)...).CombinedOutput()
	if err == nil {
		r.t.Errorf("%v was done:\n%s", args, out)
	}
	return string(out)
}

// sign has the demo's clinician sign a document.
func (r *rolled) sign(name string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name+".pdf")
	run(r.t, "--config", r.config, "sign", "--in", filepath.Join(r.dir, "prescription.pdf"), "--out", path, "--as", "Doctor Clinician")
	return path
}

// certificates returns the serial of the newest valid certificate of each kind.
func (r *rolled) certificates() map[string]string {
	r.t.Helper()
	var list []struct {
		Type   string `json:"cert_type"`
		Serial string `json:"serial"`
		Next   string `json:"renewed_by"`
	}
	out, err := program(r.t, "--config", r.config, "cert", "list", "--status", "valid", "--json").Output() // what takes its time is said on standard error
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	newest := map[string]string{}
	for _, c := range list {
		if c.Next == "" {
			newest[c.Type] = c.Serial
		}
	}
	return newest
}

// judge has verify and openssl judge a document, and looks which CAs stand above its signature and its time stamp.
func (r *rolled) judge(path, clinicians, times string) {
	r.t.Helper()
	run(r.t, "verify", path, "--trust", r.root)
	document := r.read(path)
	f, err := pdf.Open(document, pdf.Limits{})
	if err != nil {
		r.t.Fatal(err)
	}
	signatures, err := f.Signatures()
	if err != nil || len(signatures) < 2 {
		r.t.Fatalf("%d signatures, %v", len(signatures), err)
	}
	for i, s := range signatures {
		der, err := cms.TrimPadding(s.Contents)
		if err != nil {
			r.t.Fatal(err)
		}
		parsed, err := cms.Parse(der)
		if err != nil {
			r.t.Fatal(err)
		}
		content := append(bytes.Clone(document[s.ByteRange[0]:s.ByteRange[0]+s.ByteRange[1]]), document[s.ByteRange[2]:s.ByteRange[2]+s.ByteRange[3]]...)
		signed, structure := filepath.Join(r.dir, "content"), filepath.Join(r.dir, "structure")
		r.write(signed, content)
		r.write(structure, der)
		above := clinicians
		if i > 0 {
			above = times
			openssl(r.t, "ts", "-verify", "-token_in", "-in", structure, "-data", signed, "-CAfile", r.root)
		} else {
			openssl(r.t, "cms", "-verify", "-binary", "-inform", "DER", "-in", structure, "-content", signed, "-CAfile", r.root, "-purpose", "any", "-out", os.DevNull)
		}
		found := false
		for _, c := range parsed.Certificates {
			found = found || c.IsCA && hexSerial(c.SerialNumber.Bytes()) == above
		}
		if !found {
			r.t.Errorf("%s, signature %d: not under %s", filepath.Base(path), i, above)
		}
	}
}

func hexSerial(b []byte) string { return strings.Repeat("0", 32-2*len(b)) + hex.EncodeToString(b) }

// checkList has openssl judge CAs by the root's newest list: good, and revoked ones.
func (r *rolled) checkList(good string, revoked ...string) {
	r.t.Helper()
	var list []byte
	cas := map[string][]byte{}
	for line := range bytes.Lines(r.read(filepath.Join(r.dir, "state", "audit_chain.jsonl"))) {
		var entry struct {
			Entry struct {
				Type    string `json:"event_type"`
				Details struct {
					CRL          []byte `json:"root_crl"`
					Certificates []struct {
						Serial      string `json:"serial"`
						Certificate []byte `json:"certificate"`
					} `json:"certificates"`
				} `json:"details"`
			} `json:"entry"`
		}
		if !bytes.Contains(line, []byte(`"ceremony_completed"`)) {
			continue
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			r.t.Fatal(err)
		}
		list = entry.Entry.Details.CRL
		for _, c := range entry.Entry.Details.Certificates {
			cas[c.Serial] = c.Certificate
		}
	}
	crl := filepath.Join(r.dir, "root.crl.pem")
	r.write(crl, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}))
	verify := func(serial string) (string, error) {
		path := filepath.Join(r.dir, serial+".pem")
		r.write(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cas[serial]}))
		out, err := exec.Command("openssl", "verify", "-crl_check", "-CRLfile", crl, "-CAfile", r.root, path).CombinedOutput()
		return string(out), err
	}
	if out, err := verify(good); err != nil {
		r.t.Errorf("the CA in use: %v %s", err, out)
	}
	for _, serial := range revoked {
		if out, err := verify(serial); err == nil || !strings.Contains(out, "revoked") {
			r.t.Errorf("a revoked CA: %v %s", err, out)
		}
	}
}
