package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// conformance is what every module must do. open opens the same token each time it is called.
func conformance(t *testing.T, open func(t testing.TB) *Token) {
	t.Run("keys", func(t *testing.T) { conformKeys(t, open) })
	t.Run("rejections", func(t *testing.T) { conformRejections(t, open(t)) })
	t.Run("wrapped", func(t *testing.T) { conformWrapped(t, open) })
	t.Run("sealed", func(t *testing.T) { conformSealed(t, open) })
	t.Run("concurrent", func(t *testing.T) { conformConcurrent(t, open(t)) })
	t.Run("reopen", func(t *testing.T) {
		for range 10 {
			tok := open(t)
			if err := tok.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// optionsOf lists every way in which a key of this algorithm signs.
func optionsOf(a Algorithm) []crypto.SignerOpts {
	hashes := []crypto.SignerOpts{crypto.SHA256, crypto.SHA384, crypto.SHA512}
	switch a {
	case Ed25519:
		return []crypto.SignerOpts{crypto.Hash(0)}
	case RSA3072, RSA4096:
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			hashes = append(hashes, &rsa.PSSOptions{Hash: h, SaltLength: rsa.PSSSaltLengthEqualsHash}, &rsa.PSSOptions{Hash: h, SaltLength: h.Size()})
		}
	}
	return hashes
}

func conformKeys(t *testing.T, open func(t testing.TB) *Token) {
	tok := open(t)
	all := []Algorithm{ECDSAP256, ECDSAP384, RSA3072, RSA4096, Ed25519}
	public := map[Algorithm]crypto.PublicKey{}
	for _, a := range all {
		k := generate(t, tok, "conform "+a.String(), a)
		public[a] = k.Public()
		if got, err := algorithmOf(k.Public()); err != nil || got != a {
			t.Errorf("generated %s, asked for %s (%v)", got, a, err)
		}
		for _, opts := range optionsOf(a) {
			signAndVerify(t, k, nil, opts)
			signAndVerify(t, k, []byte("some text"), opts)
		}
	}
	closeToken(t, tok)

	tok = open(t)
	list, err := tok.Keys()
	if err != nil || len(list) != len(all) {
		t.Errorf("%d keys after a restart, want %d (%v)", len(list), len(all), err)
	}
	for _, a := range all {
		label, id := "conform "+a.String(), []byte("id of conform "+a.String())
		k, err := tok.Key(label, id, public[a])
		if err != nil {
			t.Fatal(err)
		}
		if i := k.Info(); i.Label != label || !bytes.Equal(i.ID, id) || i.Algorithm != a {
			t.Errorf("key is %v", i)
		}
		signAndVerify(t, k, []byte("after a restart"), optionsOf(a)[0])
		if err := tok.Destroy(label, id); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Sign(nil, make([]byte, 32), optionsOf(a)[0]); err == nil {
			t.Errorf("a destroyed %s key signs", a)
		}
		_, err = tok.Key(label, id, public[a])
		wantKind(t, err, fault.NotFound)
		wantKind(t, tok.Destroy(label, id), fault.NotFound)
	}
	closeToken(t, tok)
}

// conformRejections: what crypto11 and the modules would accept, and must not reach them.
func conformRejections(t *testing.T, tok *Token) {
	ec, rsaKey := generate(t, tok, "reject ec", ECDSAP256), generate(t, tok, "reject rsa", RSA3072)
	ed := generate(t, tok, "reject ed", Ed25519)
	wrapped, pub, err := tok.GenerateWrapped(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		key    crypto.Signer
		digest int
		opts   crypto.SignerOpts
	}{
		{"no hash named", ec, 32, nil},
		{"a hash of zero with ECDSA", ec, 32, crypto.Hash(0)},
		{"a short digest", ec, 31, crypto.SHA256},
		{"a long digest", ec, 33, crypto.SHA256},
		{"an empty digest", ec, 0, crypto.SHA256},
		{"another hash's length", ec, 32, crypto.SHA384},
		{"SHA-1", ec, 20, crypto.SHA1},
		{"PSS with ECDSA", ec, 32, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 32}},
		{"a short digest for a wrapped key", tok.WrappedSigner(wrapped, pub), 31, crypto.SHA256},
		{"an unknown hash in PKCS#1 v1.5", rsaKey, 28, crypto.SHA224},
		{"a bare digest in PKCS#1 v1.5", rsaKey, 32, crypto.Hash(0)},
		{"MD5+SHA1 in PKCS#1 v1.5", rsaKey, 36, crypto.MD5SHA1},
		{"a PSS salt of automatic length", rsaKey, 32, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthAuto}},
		{"a PSS salt that is too short", rsaKey, 32, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 20}},
		{"PSS without a hash", rsaKey, 32, &rsa.PSSOptions{SaltLength: 32}},
		{"a digest with Ed25519", ed, 32, crypto.SHA256},
	} {
		_, err := c.key.Sign(nil, make([]byte, c.digest), c.opts)
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v, want an invalid error", c.what, err)
		}
	}
	for _, s := range []KeySpec{{}, {Label: "x", Algorithm: ECDSAP256}, {ID: []byte("x"), Algorithm: ECDSAP256},
		{Label: "x", ID: []byte("x")}, {Label: "x", ID: []byte("x"), Algorithm: 99}, {Label: "x", ID: make([]byte, 65), Algorithm: ECDSAP256}} {
		_, err := tok.Generate(s)
		wantKind(t, err, fault.Invalid)
	}
	for _, s := range []KeySpec{{"reject ec", []byte("another"), ECDSAP256}, {"another", []byte("id of reject ec"), ECDSAP256},
		{"another", []byte(keyKEK), ECDSAP256}, {objectKEK, []byte("x"), ECDSAP256}} {
		_, err := tok.Generate(s)
		wantKind(t, err, fault.Conflict)
	}
	_, err = tok.Key("reject ec", nil, nil)
	wantKind(t, err, fault.Invalid)
	_, err = tok.Key("", []byte("id of reject ec"), nil)
	wantKind(t, err, fault.Invalid)
	_, err = tok.Key("reject ec", []byte("id of reject ec"), rsaKey.Public())
	wantKind(t, err, fault.Corrupt)
	closeToken(t, tok)
}

func conformWrapped(t *testing.T, open func(t testing.TB) *Token) {
	tok := open(t)
	type wrappedPair struct {
		wrapped []byte
		pub     crypto.PublicKey
	}
	keys := map[Algorithm]wrappedPair{}
	before, err := tok.find()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []Algorithm{ECDSAP256, ECDSAP384, RSA3072} {
		wrapped, pub, err := tok.GenerateWrapped(a)
		if err != nil {
			t.Fatal(err)
		}
		keys[a] = wrappedPair{wrapped, pub}
	}
	if after, err := tok.find(); err != nil || len(after) != len(before) {
		t.Errorf("%d objects in the token after wrapping, %d before (%v)", len(after), len(before), err)
	}
	_, _, err = tok.GenerateWrapped(Ed25519)
	wantKind(t, err, fault.Unsupported)
	_, _, err = tok.GenerateWrapped(0)
	wantKind(t, err, fault.Invalid)
	closeToken(t, tok)

	tok = open(t)
	for a, k := range keys {
		for _, opts := range optionsOf(a) {
			signAndVerify(t, tok.WrappedSigner(k.wrapped, k.pub), []byte("wrapped"), opts)
		}
		for i := 0; i < len(k.wrapped); i += 1 + len(k.wrapped)/16 {
			changed := bytes.Clone(k.wrapped)
			changed[i] ^= 1
			_, err := tok.WrappedSigner(changed, k.pub).Sign(nil, make([]byte, 32), crypto.SHA256)
			wantKind(t, err, fault.Corrupt)
		}
		for _, cut := range []int{0, 8, 16, len(k.wrapped) - 8, len(k.wrapped) - 1} {
			_, err := tok.WrappedSigner(k.wrapped[:cut], k.pub).Sign(nil, make([]byte, 32), crypto.SHA256)
			wantKind(t, err, fault.Corrupt)
		}
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tok.WrappedSigner(keys[RSA3072].wrapped, &small.PublicKey).Sign(nil, make([]byte, 32), crypto.SHA256)
	wantKind(t, err, fault.Unsupported)
	// A key of another kind than its public key says must not sign as that kind.
	_, err = tok.WrappedSigner(keys[RSA3072].wrapped, keys[ECDSAP256].pub).Sign(nil, make([]byte, 32), crypto.SHA256)
	if err == nil {
		t.Error("a wrapped RSA key signed as P-256")
	}
	if after, err := tok.find(); err != nil || len(after) != len(before) {
		t.Errorf("%d objects in the token after signing, %d before (%v)", len(after), len(before), err)
	}
	closeToken(t, tok)
}

func conformSealed(t *testing.T, open func(t testing.TB) *Token) {
	tok := open(t)
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	sealed, err := tok.SealKey(key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := tok.SealKey(key)
	if err != nil || bytes.Equal(sealed, again) {
		t.Errorf("two seals of one key are the same (%v)", err)
	}
	closeToken(t, tok)

	tok = open(t)
	if got, err := tok.OpenKey(sealed); err != nil || !bytes.Equal(got, key) {
		t.Errorf("opened %x, sealed %x (%v)", got, key, err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 0x80
		_, err := tok.OpenKey(changed)
		wantKind(t, err, fault.Corrupt)
	}
	for n := range len(sealed) {
		_, err := tok.OpenKey(sealed[:n])
		wantKind(t, err, fault.Corrupt)
	}
	for _, n := range []int{0, 16, 31, 33} {
		_, err := tok.SealKey(make([]byte, n))
		wantKind(t, err, fault.Invalid)
	}
	closeToken(t, tok)
}

// conformConcurrent uses everything at once from many goroutines.
func conformConcurrent(t *testing.T, tok *Token) {
	k := generate(t, tok, "concurrent", ECDSAP256)
	ed := generate(t, tok, "concurrent ed", Ed25519)
	wrapped, pub, err := tok.GenerateWrapped(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	w := tok.WrappedSigner(wrapped, pub)
	var wg sync.WaitGroup
	for g := range 48 {
		wg.Go(func() {
			for i := range 20 {
				text := fmt.Appendf(nil, "%d %d", g, i)
				signAndVerify(t, k, text, crypto.SHA256)
				signAndVerify(t, w, text, crypto.SHA512)
				signAndVerify(t, ed, text, crypto.Hash(0))
				sealed, err := tok.SealKey(bytes.Repeat([]byte{byte(g)}, 32))
				if err != nil {
					t.Error(err)
					return
				}
				if key, err := tok.OpenKey(sealed); err != nil || key[0] != byte(g) {
					t.Errorf("opened %x (%v)", key, err)
				}
			}
		})
	}
	wg.Go(func() {
		if _, err := tok.Generate(KeySpec{Label: "meanwhile", ID: []byte("meanwhile"), Algorithm: ECDSAP256}); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	closeToken(t, tok)
}

func TestConformance(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.PoolWait = 30 * time.Second
	if err := Init(cfg, []byte(testSO)); err != nil {
		t.Fatal(err)
	}
	conformance(t, func(t testing.TB) *Token {
		tok := openToken(t, cfg)
		if f := tok.Findings(); len(f) > 0 {
			t.Errorf("findings after an orderly end: %v", f)
		}
		return tok
	})
}

// TestECDSAEncoding compares the DER of ECDSA-Sig-Value with encoding that the standard library reads, over values with every kind of start.
func TestECDSAEncoding(t *testing.T) {
	for _, r := range [][]byte{{0}, {1}, {0x7f}, {0x80}, {0xff, 0xff}, bytes.Repeat([]byte{0x80}, 32), bytes.Repeat([]byte{0x7f}, 32)} {
		raw := make([]byte, 64)
		copy(raw[32-len(r):], r)
		copy(raw[64-len(r):], r)
		der, err := signing{algorithm: ECDSAP256}.encode(raw)
		if err != nil {
			t.Fatal(err)
		}
		gotR, gotS, err := parseECDSA(der)
		if want := new(big.Int).SetBytes(r); err != nil || gotR.Cmp(want) != 0 || gotS.Cmp(want) != 0 {
			t.Errorf("%x became %x: %v %v (%v)", r, der, gotR, gotS, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		digest := make([]byte, 48)
		if _, err := rand.Read(digest); err != nil {
			t.Fatal(err)
		}
		der, err := ecdsa.SignASN1(rand.Reader, key, digest)
		if err != nil {
			t.Fatal(err)
		}
		r, s, err := parseECDSA(der)
		if err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, 96)
		r.FillBytes(raw[:48])
		s.FillBytes(raw[48:])
		if got, err := (signing{algorithm: ECDSAP384}).encode(raw); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%x, want %x (%v)", got, der, err)
		}
	}
}
