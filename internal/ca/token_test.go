package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/token"
)

// rootDir makes this test binary hold a ceremony over that token folder: one process can have one token open.
var rootDir = flag.String("root-token", "", "token folder of the root, for the ceremony's own process")

func tokenConfig(dir string, root bool) token.Config {
	return token.Config{Dir: dir, Label: "test", PIN: []byte("1234-user"), SigningOnly: root}
}

// TestRootCeremonyProcess is not a test when the flag is given: it is the ceremony's process, request on stdin, answer on stdout.
func TestRootCeremonyProcess(t *testing.T) {
	if *rootDir == "" {
		return
	}
	var r ca.CeremonyRequest
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		t.Fatal(err)
	}
	tok := openToken(t, tokenConfig(*rootDir, true))
	answer, err := ca.RootCeremony(t.Context(), ca.RootConfig{Keys: ca.TokenKeys(tok), Now: time.Now(), Rand: rand.Reader}, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		t.Fatal(err)
	}
}

// openToken opens a token, made before if it is not there.
func openToken(t testing.TB, cfg token.Config) *token.Token {
	t.Helper()
	if _, err := os.Stat(filepath.Join(cfg.Dir, "tokens")); os.IsNotExist(err) {
		if err := token.Init(cfg, []byte("1234-so-pin")); err != nil {
			t.Fatal(err, fault.HintOf(err))
		}
	}
	tok, err := token.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err, fault.HintOf(err))
	}
	return tok
}

// newHardAppliance is an appliance over SoftHSM2, whose root lives in a token of its own.
func newHardAppliance(t testing.TB) (*machine, *token.Token) {
	t.Helper()
	tok := openToken(t, tokenConfig(t.TempDir(), false))
	t.Cleanup(func() {
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
	})
	m := newMachine(t)
	m.keys, m.sealer = ca.TokenKeys(tok), tok
	m.open()
	dir := t.TempDir()
	err := m.ca.Establish(context.Background(), "operator", func(ctx context.Context, r ca.CeremonyRequest) (a ca.CeremonyAnswer, err error) {
		in, err := json.Marshal(r)
		if err != nil {
			return a, err
		}
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestRootCeremonyProcess$", "-root-token="+dir)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("ceremony: %s", out)
			return a, err
		}
		return a, json.NewDecoder(bytes.NewReader(out)).Decode(&a)
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, tok
}

func TestOnTheRealToken(t *testing.T) {
	m, tok := newHardAppliance(t)
	ctx := context.Background()
	before, err := tok.Keys()
	if err != nil {
		t.Fatal(err)
	}
	for name, algorithm := range map[string]cert.Algorithm{"Ann Good": "", "Bob Big": cert.RSA3072} {
		r := doctor("north", name)
		r.Algorithm = algorithm
		c := m.issue(r)
		key, err := m.ca.Signer(ctx, c.Serial)
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256([]byte("a prescription"))
		sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if !verifies(parse(t, c.DER).PublicKey, digest[:], sig) {
			t.Errorf("%s: signature does not verify", name)
		}
	}
	if after, err := tok.Keys(); err != nil || len(after) != len(before) {
		t.Errorf("clinicians' keys stay in the token: %d, %d before, %v", len(after), len(before), err)
	}
	server := m.issue(ca.Request{Kind: cert.TLSServer, Actor: "admin", Subject: cert.Subject{CommonName: "sign.veripath.example"}, DNSNames: []string{"sign.veripath.example"}})
	if after, err := tok.Keys(); err != nil || len(after) != len(before)+1 || !server.KeyExists {
		t.Errorf("%d keys, %+v, %v", len(after), server, err)
	}
	r := doctor("north", "Cy Curve")
	r.Algorithm = "ed25519"
	_, err = m.ca.Issue(ctx, r)
	wantKind(t, err, fault.Unsupported, "Ed25519")
	a := m.mustByName("north", "Ann Good")
	if err := m.ca.Usable(a.Serial); err != nil {
		t.Error(err)
	}
	checkpoint, err := m.ca.CheckpointKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.Sign(rand.Reader, []byte("a checkpoint"), crypto.Hash(0)); err != nil {
		t.Error(err)
	}
	m.advance(25 * day)
	if u := m.maintain(); len(u.Issued) != 3 {
		t.Errorf("%+v", u)
	}
	m.advance(2 * time.Hour)
	m.maintain()
	if after, err := tok.Keys(); err != nil || len(after) != len(before)+1 {
		t.Errorf("superseded responders' keys stay: %d, %v", len(after), err)
	}
	m.reopen()
	if _, err := m.ca.Signer(ctx, a.Serial); err != nil {
		t.Error(err)
	}
	if r := m.answer(request(t, m, crypto.SHA1, nil, a)); r.Status != cert.OCSPSuccessful {
		t.Errorf("%+v", r)
	}
}

func verifies(pub crypto.PublicKey, digest, sig []byte) bool {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest, sig) == nil
	}
	return false
}
