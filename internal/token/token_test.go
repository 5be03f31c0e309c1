package token

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"testing"
)

func testConfig(t testing.TB) Config {
	return Config{Dir: t.TempDir(), Label: "test", PIN: []byte("1234-user")}
}

func TestQuick(t *testing.T) {
	cfg := testConfig(t)
	if err := Init(cfg, []byte("1234-so")); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		tok, err := Open(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if len(tok.Findings()) > 0 {
			t.Error(tok.Findings())
		}
		for _, a := range []Algorithm{ECDSAP256, ECDSAP384, RSA3072, Ed25519} {
			spec := KeySpec{Label: a.String(), ID: []byte(a.String()), Algorithm: a}
			if i == 0 {
				if _, err := tok.Generate(spec); err != nil {
					t.Fatal(a, err)
				}
			}
			k, err := tok.Key(spec.Label, spec.ID, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(k.Info())
		}
		for _, a := range []Algorithm{ECDSAP256, ECDSAP384, RSA3072} {
			w, pub, err := tok.GenerateWrapped(a)
			if err != nil {
				t.Fatal(a, err)
			}
			s := tok.WrappedSigner(w, pub)
			d := sha256.Sum256([]byte("x"))
			sig, err := s.Sign(rand.Reader, d[:], crypto.SHA256)
			if err != nil || !verifies(pub, d[:], sig) {
				t.Fatal(err)
			}
		}
		k := make([]byte, 32)
		sealed, err := tok.SealKey(k)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tok.OpenKey(sealed); err != nil {
			t.Fatal(err)
		}
		sealed[3] ^= 1
		_, err = tok.OpenKey(sealed)
		t.Log(err)
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// openNew makes a token as cfg says (its zero values filled in for a test) and opens it until the test ends.
func openNew(t testing.TB, cfg Config) *Token {
	t.Helper()
	c := testConfig(t)
	c.SigningOnly, c.MaxSessions, c.PoolWait = cfg.SigningOnly, cfg.MaxSessions, cfg.PoolWait
	if err := Init(c, []byte("so-pin-1234")); err != nil {
		t.Fatal(err)
	}
	tok, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tok.Close() })
	return tok
}
