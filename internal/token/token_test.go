package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"os"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// TestMain lets a test start this binary again as a child that may be killed, or that has a module of its own.
func TestMain(m *testing.M) {
	if job := os.Getenv("TOKEN_TEST_CHILD"); job != "" {
		child(job)
		return
	}
	os.Exit(m.Run())
}

const (
	testPIN = "user-pin-7431"
	testSO  = "so-pin-9822"
)

func testConfig(dir string) Config {
	return Config{Dir: dir, Label: "test token", PIN: []byte(testPIN)}
}

// initNew makes a token in a folder of the test and returns its Config.
func initNew(t testing.TB) Config {
	t.Helper()
	cfg := testConfig(t.TempDir())
	if err := Init(cfg, []byte(testSO)); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// open opens a token until the test ends or close is called.
func openToken(t testing.TB, cfg Config) *Token {
	t.Helper()
	tok, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeToken(t, tok) })
	return tok
}

func closeToken(t testing.TB, tok *Token) {
	t.Helper()
	if err := tok.Close(); err != nil {
		t.Error(err)
	}
}

func openNew(t testing.TB) *Token {
	t.Helper()
	return openToken(t, initNew(t))
}

func generate(t testing.TB, tok *Token, label string, a Algorithm) *Key {
	t.Helper()
	k, err := tok.Generate(KeySpec{Label: label, ID: []byte("id of " + label), Algorithm: a})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// wantKind fails unless err is of kind k.
func wantKind(t testing.TB, err error, k fault.Kind) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %s", k)
	} else if fault.KindOf(err) != k {
		t.Errorf("%s error %q, want %s", fault.KindOf(err), err, k)
	}
}

// signAndVerify signs something new and has Go's own cryptography judge it.
func signAndVerify(t testing.TB, s crypto.Signer, text []byte, opts crypto.SignerOpts) {
	t.Helper()
	input := text
	if h := opts.HashFunc(); h != 0 {
		d := h.New()
		d.Write(text)
		input = d.Sum(nil)
	}
	sig, err := s.Sign(nil, input, opts)
	if err != nil {
		t.Error(err)
		return
	}
	good := false
	switch pub := s.Public().(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(pub, input, sig)
	case ed25519.PublicKey:
		good = ed25519.Verify(pub, input, sig)
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			good = rsa.VerifyPSS(pub, pss.Hash, input, sig, &rsa.PSSOptions{SaltLength: pss.Hash.Size()}) == nil
		} else {
			good = rsa.VerifyPKCS1v15(pub, opts.HashFunc(), input, sig) == nil
		}
	}
	if !good {
		t.Errorf("a signature with %T and %v does not verify", s.Public(), opts)
	}
}
