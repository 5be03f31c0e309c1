package token

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"

	"github.com/veripath/aes-appliance/internal/fault"
)

// The secret keys that Init makes. Their CKA_ID is their label.
const (
	keyKEK    = "clinician-key-wrapping" // AES-256, wraps clinicians' private keys
	objectKEK = "object-key-sealing"     // AES-256, seals the keys of objects
)

// secretLaw is the law of one of the two secret keys.
func secretLaw(label string) law {
	return append(wrapping(label == keyKEK), secretKeyLaw...)
}

// generateSecret makes one of the two secret keys.
func generateSecret(p *pkcs11.Ctx, s pkcs11.SessionHandle, label string) error {
	_, err := p.GenerateKey(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)},
		secretLaw(label).template(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(label))))
	return p11Error("generating the AES key "+label, err)
}

// secretKey finds one of the two secret keys and reads its attributes back.
func (t *Token) secretKey(label string) (pkcs11.ObjectHandle, error) {
	h, err := t.one("AES", pkcs11.CKO_SECRET_KEY, label, []byte(label))
	if err != nil {
		return 0, err
	}
	return h, t.verifyAttributes(h, append(secretLaw(label), bornInToken...), label)
}

// maxWrapped bounds a wrapped key in bytes: RSA-4096 has about 2,400.
const maxWrapped = 4096

// clinicianKeyLaw: a session object that exists to be wrapped once, or to sign once.
var clinicianKeyLaw = signingKeyLaw.with(pkcs11.CKA_TOKEN, false)

// GenerateWrapped makes a key pair inside the token as session objects, wraps the private half out with AES-KWP (RFC 5649,
// CKM_AES_KEY_WRAP_PAD, its PKCS#8 form) and destroys it. Nothing of it stays in the token. The wrapped key has been unwrapped and
// tried once when this returns. Ed25519 is Unsupported.
func (t *Token) GenerateWrapped(a Algorithm) (wrapped []byte, pub crypto.PublicKey, err error) {
	if t.keyKEK == 0 {
		return nil, nil, errSigningOnly()
	}
	if a == Ed25519 {
		return nil, nil, errWrappedEd25519()
	}
	if err := (KeySpec{Label: "-", ID: []byte{0}, Algorithm: a}).check(); err != nil {
		return nil, nil, err
	}
	if err := t.need(mechWrapPad); err != nil {
		return nil, nil, err
	}
	wrapped, pub, err = t.generateWrapped(a)
	if err != nil {
		return nil, nil, err
	}
	return wrapped, pub, t.tryWrapped(wrapped, pub)
}

func (t *Token) generateWrapped(a Algorithm) (wrapped []byte, pub crypto.PublicKey, err error) {
	t.objects.RLock()
	defer t.objects.RUnlock()
	var public, private pkcs11.ObjectHandle
	err = t.pool.do(func(s pkcs11.SessionHandle) (err error) {
		public, private, err = t.p.GenerateKeyPair(s, []*pkcs11.Mechanism{a.keyGen()},
			publicKeyLaw.with(pkcs11.CKA_TOKEN, false).template(a.params()...),
			clinicianKeyLaw.with(pkcs11.CKA_EXTRACTABLE, true).template())
		if err != nil {
			return p11Error("generating a key pair to be wrapped", err)
		}
		defer func() {
			err = errors.Join(err, p11Error("destroying a wrapped key pair", errors.Join(t.p.DestroyObject(s, private), t.p.DestroyObject(s, public))))
		}()
		if wrapped, err = t.p.WrapKey(s, []*pkcs11.Mechanism{mechWrapPad.bare()}, t.keyKEK, private); err != nil {
			return mechWrapPad.error("wrapping a key", err)
		}
		var got Algorithm
		if got, pub, err = readPublicKey(t.p, s, public); err == nil && got != a {
			err = fault.New(fault.Corrupt, fmt.Sprintf("the token made an %s key, not %s", got, a))
		}
		return err
	})
	return wrapped, pub, err
}

func (t *Token) tryWrapped(wrapped []byte, pub crypto.PublicKey) error {
	digest := sha256.Sum256([]byte("aes-appliance wrapped key self-test"))
	sig, err := t.WrappedSigner(wrapped, pub).Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if !verifies(pub, digest[:], sig) {
		return fault.New(fault.Corrupt, "a wrapped key does not belong to its public key")
	}
	return nil
}

// WrappedSigner returns a signer for a key that GenerateWrapped made. Each Sign unwraps the key inside the token as a session object that is
// sensitive and cannot be extracted, signs, and destroys it. It takes what Key.Sign takes; a wrapped key that was changed, or another
// token's, is Corrupt. That pub belongs to it is the caller's to know.
func (t *Token) WrappedSigner(wrapped []byte, pub crypto.PublicKey) crypto.Signer {
	w := &wrappedKey{t: t, wrapped: bytes.Clone(wrapped), pub: pub}
	if w.algorithm, w.err = algorithmOf(pub); w.err == nil && w.algorithm == Ed25519 {
		w.err = errWrappedEd25519()
	}
	// RFC 5649 §3: whole semiblocks, and never fewer than a PKCS#8 key has.
	if n := len(wrapped); w.err == nil && (n%8 != 0 || n < 24 || n > maxWrapped) {
		w.err = fault.New(fault.Corrupt, fmt.Sprintf("a wrapped key cannot have %d bytes", n))
	}
	if w.err == nil {
		w.template = w.algorithm.unwrapTemplate()
	}
	return w
}

type wrappedKey struct {
	t         *Token
	wrapped   []byte
	pub       crypto.PublicKey
	algorithm Algorithm
	template  []*pkcs11.Attribute
	err       error // what is wrong with wrapped or pub: crypto.Signer lets only Sign say it
}

func (w *wrappedKey) Public() crypto.PublicKey { return w.pub }

func (w *wrappedKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if w.t.keyKEK == 0 {
		return nil, errSigningOnly()
	}
	if w.err != nil {
		return nil, w.err
	}
	in, err := newSigning(w.algorithm, digest, opts)
	if err != nil {
		return nil, err
	}
	w.t.objects.RLock()
	defer w.t.objects.RUnlock()
	var raw []byte
	err = w.t.pool.do(func(s pkcs11.SessionHandle) (err error) {
		raw, err = w.signIn(s, in)
		return err
	})
	if err != nil {
		return nil, signError(err)
	}
	return in.encode(raw)
}

// signIn unwraps, signs and destroys in one session. When it fails the session is thrown away, and with it whatever object it still has.
func (w *wrappedKey) signIn(s pkcs11.SessionHandle, in signing) (raw []byte, err error) {
	p := w.t.p
	h, err := p.UnwrapKey(s, []*pkcs11.Mechanism{mechWrapPad.bare()}, w.t.keyKEK, w.wrapped, w.template)
	switch {
	case isRV(err, pkcs11.CKR_WRAPPED_KEY_INVALID), isRV(err, pkcs11.CKR_WRAPPED_KEY_LEN_RANGE),
		isRV(err, pkcs11.CKR_GENERAL_ERROR), isRV(err, pkcs11.CKR_ENCRYPTED_DATA_INVALID), isRV(err, pkcs11.CKR_FUNCTION_FAILED):
		return nil, fault.New(fault.Corrupt, "a wrapped key is damaged or was wrapped by another token").WithCause(err)
	case err != nil:
		return nil, mechWrapPad.error("unwrapping a key", err)
	}
	raw, err = in.run(p, s, h)
	return raw, errors.Join(err, p11Error("destroying an unwrapped key", p.DestroyObject(s, h)))
}

func errWrappedEd25519() error {
	return fault.New(fault.Unsupported, "a wrapped key is ECDSA or RSA, not Ed25519")
}

func errSigningOnly() error {
	return fault.New(fault.Unsupported, "this token only signs: it has no keys that wrap")
}

func (a Algorithm) keyGen() *pkcs11.Mechanism {
	if a.scalar() > 0 {
		return pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)
	}
	return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)
}

// params returns the attributes of a public template that choose the algorithm.
func (a Algorithm) params() []*pkcs11.Attribute {
	switch a {
	case ECDSAP256:
		return []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256Params)}
	case ECDSAP384:
		return []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p384Params)}
	}
	return []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, a.bits()), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})}
}

// unwrapTemplate returns what an unwrapped key is. It is the law in full: what the module would add of its own accord is refused.
func (a Algorithm) unwrapTemplate() []*pkcs11.Attribute {
	kind := pkcs11.CKK_RSA
	if a.scalar() > 0 {
		kind = pkcs11.CKK_EC
	}
	return clinicianKeyLaw.template(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind))
}
