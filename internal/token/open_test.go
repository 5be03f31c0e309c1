package token

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ThalesGroup/crypto11"

	"github.com/veripath/aes-appliance/internal/fault"
)

// TestPIN: a wrong PIN is refused, also where the module is logged in already, and no error holds a PIN.
func TestPIN(t *testing.T) {
	cfg := initNew(t)
	wrong := cfg
	wrong.PIN = []byte("wrong-pin-5512")
	for range 3 {
		_, err := Open(context.Background(), wrong)
		wantKind(t, err, fault.Unauthorized)
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "5512") {
			t.Errorf("the error holds the PIN: %v", err)
		}
	}
	tok := openToken(t, cfg)
	closeToken(t, tok)

	// Another user of the module in this process is logged in. crypto11 alone would take any PIN for right now. (It may write token.object
	// here: after a login that could not, SoftHSM2 answers C_GetTokenInfo with CKR_GENERAL_ERROR, and nobody gets as far as the PIN.)
	if err := os.Chmod(tokenObject(t, cfg.Dir), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := crypto11.Configure(&crypto11.Config{Path: cfg.withModule(), TokenLabel: cfg.Label, Pin: testPIN})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{wrong, cfg} {
		_, err := Open(context.Background(), c)
		wantKind(t, err, fault.Conflict)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	openToken(t, cfg)
}

func (cfg Config) withModule() string {
	if cfg.Module == "" {
		return DefaultModule
	}
	return cfg.Module
}

// TestOneOwner: a second token in the process is a Conflict, and everything after Close fails cleanly.
func TestOneOwner(t *testing.T) {
	cfg, second := initNew(t), initNew(t)
	tok := openToken(t, cfg)
	_, err := Open(context.Background(), second)
	wantKind(t, err, fault.Conflict)
	wantKind(t, Init(testConfig(t.TempDir()), []byte(testSO)), fault.Conflict)
	k := generate(t, tok, "k", ECDSAP256)
	signAndVerify(t, k, []byte("still works"), crypto.SHA256)
	wrapped, pub, err := tok.GenerateWrapped(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	closeToken(t, tok)
	closeToken(t, tok)
	_, err = k.Sign(nil, make([]byte, 32), crypto.SHA256)
	wantKind(t, err, fault.Unavailable)
	_, err = tok.WrappedSigner(wrapped, pub).Sign(nil, make([]byte, 32), crypto.SHA256)
	wantKind(t, err, fault.Unavailable)
	_, err = tok.Generate(KeySpec{Label: "x", ID: []byte("x"), Algorithm: ECDSAP256})
	wantKind(t, err, fault.Unavailable)
	_, _, err = tok.GenerateWrapped(ECDSAP256)
	wantKind(t, err, fault.Unavailable)
	_, err = tok.SealKey(make([]byte, 32))
	wantKind(t, err, fault.Unavailable)
	_, err = tok.Keys()
	wantKind(t, err, fault.Unavailable)
	openToken(t, second)
}

// TestInit: one token per folder, all or nothing, under a Config that makes sense.
func TestInit(t *testing.T) {
	cfg := initNew(t)
	wantKind(t, Init(cfg, []byte(testSO)), fault.Conflict)
	for _, c := range []struct {
		change func(*Config)
		so     string
	}{
		{func(c *Config) { c.Label = "" }, testSO},
		{func(c *Config) { c.Label = strings.Repeat("x", 33) }, testSO},
		{func(c *Config) { c.Label = "padded " }, testSO},
		{func(c *Config) { c.PIN = nil }, testSO},
		{func(c *Config) { c.PIN = []byte("nul\x00nul") }, testSO},
		{func(c *Config) { c.MaxSessions = -1 }, testSO},
		{func(c *Config) { c.PoolWait = -1 }, testSO},
		{func(c *Config) {}, ""},
		{func(c *Config) { c.Dir = filepath.Join(t.TempDir(), "new\nline") }, testSO},
	} {
		cfg := testConfig(t.TempDir())
		c.change(&cfg)
		wantKind(t, Init(cfg, []byte(c.so)), fault.Invalid)
	}
	// A PIN that the module refuses leaves nothing, and Init can be repeated.
	short := testConfig(t.TempDir())
	short.PIN = []byte("1")
	wantKind(t, Init(short, []byte(testSO)), fault.Unauthorized)
	_, err := Open(context.Background(), short)
	wantKind(t, err, fault.NotFound)
	short.PIN = []byte(testPIN)
	if err := Init(short, []byte(testSO)); err != nil {
		t.Fatal(err)
	}
	closeToken(t, openToken(t, short))

	other := cfg
	other.Label = "another label"
	_, err = Open(context.Background(), other)
	wantKind(t, err, fault.NotFound)
}

func TestSigningOnly(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.SigningOnly = true
	if err := Init(cfg, []byte(testSO)); err != nil {
		t.Fatal(err)
	}
	tok := openToken(t, cfg)
	if all, err := tok.find(); err != nil || len(all) > 0 {
		t.Errorf("%d objects in a new token that only signs (%v)", len(all), err)
	}
	signAndVerify(t, generate(t, tok, "root", ECDSAP384), []byte("root"), crypto.SHA384)
	_, _, err := tok.GenerateWrapped(ECDSAP256)
	wantKind(t, err, fault.Unsupported)
	_, err = tok.SealKey(make([]byte, 32))
	wantKind(t, err, fault.Unsupported)
	_, err = tok.OpenKey(make([]byte, sealedSize))
	wantKind(t, err, fault.Unsupported)
	_, err = tok.WrappedSigner(make([]byte, 64), tok.mustKey(t, "root").Public()).Sign(nil, make([]byte, 32), crypto.SHA256)
	wantKind(t, err, fault.Unsupported)
	closeToken(t, tok)
	cfg.SigningOnly = false
	_, err = Open(context.Background(), cfg)
	wantKind(t, err, fault.NotFound)
}

func (t *Token) mustKey(tb testing.TB, label string) *Key {
	tb.Helper()
	k, err := t.Key(label, []byte("id of "+label), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}
