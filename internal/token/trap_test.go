package token

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/veripath/aes-appliance/internal/fault"
)

// makePair makes a pair past Generate, with changed attributes.
func makePair(t *testing.T, tok *Token, label, id string, change func(public, private law) (law, law)) {
	t.Helper()
	pub, priv := publicKeyLaw, signingKeyLaw
	if change != nil {
		pub, priv = change(pub, priv)
	}
	name := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(id))}
	err := tok.pool.do(func(s pkcs11.SessionHandle) error {
		_, _, err := tok.p.GenerateKeyPair(s, []*pkcs11.Mechanism{ECDSAP256.keyGen()},
			pub.template(append(ECDSAP256.params(), name...)...), priv.template(name...))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// remove destroys the halves of a class.
func remove(t *testing.T, tok *Token, class uint, label string) {
	t.Helper()
	found, err := tok.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	if err != nil || len(found) == 0 {
		t.Fatalf("%d objects %q: %v", len(found), label, err)
	}
	for _, h := range found {
		if err := tok.pool.do(func(s pkcs11.SessionHandle) error { return tok.p.DestroyObject(s, h) }); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWrongAttributes: a key that can do more than sign is not used, whoever made it; the error names each attribute.
func TestWrongAttributes(t *testing.T) {
	tok := openNew(t)
	for _, b := range signingKeyLaw {
		if b.attribute == pkcs11.CKA_TOKEN || b.attribute == pkcs11.CKA_SIGN {
			continue
		}
		label := "wrong " + b.name
		makePair(t, tok, label, label, func(pub, priv law) (law, law) { return pub, priv.with(b.attribute, !b.want) })
		_, err := tok.Key(label, []byte(label), nil)
		wantKind(t, err, fault.Corrupt)
		if err != nil && !strings.Contains(err.Error(), b.name) {
			t.Errorf("%v does not name %s", err, b.name)
		}
	}
	// What crypto11 and SoftHSM2 make when they are not told otherwise.
	if _, err := tok.c11.GenerateECDSAKeyPairWithLabel([]byte("plain"), []byte("plain"), ECDSAP256.curve()); err != nil {
		t.Fatal(err)
	}
	_, err := tok.Key("plain", []byte("plain"), nil)
	wantKind(t, err, fault.Corrupt)
	for _, name := range []string{"CKA_MODIFIABLE", "CKA_UNWRAP", "CKA_DECRYPT", "CKA_SIGN_RECOVER"} {
		if !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}

// TestExactlyOne: duplicates of either half, a missing half, and another key's public half are all refused.
func TestExactlyOne(t *testing.T) {
	tok := openNew(t)
	makePair(t, tok, "twice", "twice", nil)
	makePair(t, tok, "twice", "twice", nil)
	_, err := tok.Key("twice", []byte("twice"), nil)
	wantKind(t, err, fault.Conflict)

	makePair(t, tok, "two public", "two public", nil)
	makePair(t, tok, "two public", "two public", nil)
	found, err := tok.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, "two public"))
	if err != nil || len(found) != 2 {
		t.Fatal(found, err)
	}
	if err := tok.pool.do(func(s pkcs11.SessionHandle) error { return tok.p.DestroyObject(s, found[0]) }); err != nil {
		t.Fatal(err)
	}
	_, err = tok.Key("two public", []byte("two public"), nil)
	wantKind(t, err, fault.Conflict)

	// The same label with different IDs: each is found by both.
	makePair(t, tok, "label", "first", nil)
	makePair(t, tok, "label", "second", nil)
	first, err := tok.Key("label", []byte("first"), nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := tok.Key("label", []byte("second"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if samePublic(first.Public(), second.Public()) {
		t.Error("two IDs found one key")
	}
	_, err = tok.Key("label", []byte("first"), second.Public())
	wantKind(t, err, fault.Corrupt)
	_, err = tok.Key("label", []byte("third"), nil)
	wantKind(t, err, fault.NotFound)

	// crypto11 gives a private key without a public half any public half with its ID.
	makePair(t, tok, "half", "half", nil)
	remove(t, tok, pkcs11.CKO_PUBLIC_KEY, "half")
	_, err = tok.Key("half", []byte("half"), nil)
	wantKind(t, err, fault.NotFound)
	_, err = tok.Keys()
	wantKind(t, err, fault.Corrupt)
	makePair(t, tok, "donor", "half", nil)
	_, err = tok.Key("half", []byte("half"), nil)
	wantKind(t, err, fault.NotFound)
}

// TestMismatchedHalves: both halves are there, once each, and do not belong together. Only a signature shows it.
func TestMismatchedHalves(t *testing.T) {
	tok := openNew(t)
	makePair(t, tok, "pair", "pair", func(pub, priv law) (law, law) { return pub.with(pkcs11.CKA_MODIFIABLE, true), priv })
	makePair(t, tok, "other", "other", func(pub, priv law) (law, law) { return pub.with(pkcs11.CKA_MODIFIABLE, true), priv })
	remove(t, tok, pkcs11.CKO_PUBLIC_KEY, "pair")
	remove(t, tok, pkcs11.CKO_PRIVATE_KEY, "other")
	public, err := tok.one("public", pkcs11.CKO_PUBLIC_KEY, "other", []byte("other"))
	if err != nil {
		t.Fatal(err)
	}
	err = tok.pool.do(func(s pkcs11.SessionHandle) error {
		for _, a := range []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "pair"), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte("pair"))} {
			if err := tok.p.SetAttributeValue(s, public, []*pkcs11.Attribute{a}); err != nil {
				return err
			}
		}
		_, err := tok.p.CopyObject(s, public, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.pool.do(func(s pkcs11.SessionHandle) error { return tok.p.DestroyObject(s, public) }); err != nil {
		t.Fatal(err)
	}
	_, err = tok.Key("pair", []byte("pair"), nil)
	wantKind(t, err, fault.Corrupt)
	if err != nil && !strings.Contains(err.Error(), "does not belong") {
		t.Error(err)
	}
}

// TestUnwrappedKeyIsSensitive: what lives while a wrapped key signs can be neither read nor wrapped again.
func TestUnwrappedKeyIsSensitive(t *testing.T) {
	tok := openNew(t)
	wrapped, _, err := tok.GenerateWrapped(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	wrapPad := []*pkcs11.Mechanism{mechWrapPad.bare()}
	if err := tok.pool.do(func(s pkcs11.SessionHandle) error {
		h, err := tok.p.UnwrapKey(s, wrapPad, tok.keyKEK, wrapped, ECDSAP256.unwrapTemplate())
		if err != nil {
			return err
		}
		if _, err := tok.p.GetAttributeValue(s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)}); !isRV(err, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
			t.Errorf("reading it: %v", err)
		}
		if _, err := tok.p.WrapKey(s, wrapPad, tok.keyKEK, h); !isRV(err, pkcs11.CKR_KEY_UNEXTRACTABLE) {
			t.Errorf("wrapping it: %v", err)
		}
		for _, b := range clinicianKeyLaw {
			got, err := tok.p.GetAttributeValue(s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(b.attribute, nil)})
			if err != nil || (got[0].Value[0] != 0) != b.want {
				t.Errorf("%s: %v %v", b.name, got, err)
			}
		}
		// The key that wraps cannot decrypt what it wrapped, nor can the one that seals unwrap.
		if err := tok.p.DecryptInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_CBC, make([]byte, 16))}, tok.keyKEK); err == nil {
			t.Error("the key that wraps decrypts")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := tok.pool.do(func(s pkcs11.SessionHandle) error {
		_, err := tok.p.UnwrapKey(s, wrapPad, tok.objKEK, wrapped, ECDSAP256.unwrapTemplate())
		if err == nil {
			t.Error("the key that seals unwraps")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestSessionsAreBounded: no more than MaxSessions operations run at once, and who finds no session in time is told that the token is busy.
func TestSessionsAreBounded(t *testing.T) {
	cfg := initNew(t)
	cfg.MaxSessions, cfg.PoolWait = 2, 50*time.Millisecond
	tok := openToken(t, cfg)
	k := generate(t, tok, "k", ECDSAP256)
	release := make(chan struct{})
	held := make(chan struct{})
	for range 2 {
		go func() {
			_ = tok.pool.do(func(pkcs11.SessionHandle) error { held <- struct{}{}; <-release; return nil })
		}()
		<-held
	}
	start := time.Now()
	_, err := k.Sign(nil, make([]byte, 32), crypto.SHA256)
	wantKind(t, err, fault.Unavailable)
	if d := time.Since(start); d < cfg.PoolWait || d > 40*cfg.PoolWait {
		t.Errorf("waited %v, PoolWait is %v", d, cfg.PoolWait)
	}
	close(release)
	signAndVerify(t, k, []byte("again"), crypto.SHA256)
}

// TestManyKeysDoNotSlowSigning: handles are kept, so that signing searches nothing. A search makes it 100 times slower at 60 keys.
func TestManyKeysDoNotSlowSigning(t *testing.T) {
	tok := openNew(t)
	k := generate(t, tok, "k", ECDSAP256)
	measure := func() time.Duration {
		best := time.Hour
		for range 5 {
			start := time.Now()
			for range 40 {
				if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
					t.Fatal(err)
				}
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	before := measure()
	for i := range 60 {
		makePair(t, tok, fmt.Sprint("other ", i), fmt.Sprint(i), nil)
	}
	if after := measure(); after > 5*before {
		t.Errorf("40 signatures took %v with one key, %v with 61", before, after)
	}
}

// TestEnvironment: SOFTHSM2_CONF is the package's, whatever it was, and the host's OpenSSL configuration does not matter.
func TestEnvironment(t *testing.T) {
	fips := filepath.Join(t.TempDir(), "openssl.cnf")
	if err := os.WriteFile(fips, []byte("openssl_conf = c\n[c]\nalg_section = a\nproviders = p\n[p]\nbase = b\n[b]\nactivate = 1\n[a]\ndefault_properties = fips=yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := initNew(t)
	c := startChild(t, "open", cfg.Dir, "OPENSSL_CONF="+fips, "SOFTHSM2_CONF=/nonexistent")
	if got := c.line(t); got != "opened" {
		t.Error(got)
	}
}

// TestLaws keeps the laws themselves in shape.
func TestLaws(t *testing.T) {
	for _, l := range []law{signingKeyLaw, publicKeyLaw, clinicianKeyLaw, secretLaw(keyKEK), secretLaw(objectKEK)} {
		if last := l[len(l)-1]; last.attribute != pkcs11.CKA_MODIFIABLE || last.want {
			t.Errorf("a law ends in %s=%t: SoftHSM2 wants CKA_MODIFIABLE last", last.name, last.want)
		}
	}
	for a := ECDSAP256; a <= Ed25519; a++ {
		if got, err := ParseAlgorithm(a.String()); err != nil || got != a {
			t.Errorf("%s became %s (%v)", a, got, err)
		}
	}
	for _, name := range []string{"", "ECDSA-P256", "rsa-2048", "algorithm(0)"} {
		_, err := ParseAlgorithm(name)
		wantKind(t, err, fault.Invalid)
	}
	if !slices.Contains(mechanismsUsed, "CKM_ECDSA") {
		t.Error("mechanismsUsed")
	}
}
