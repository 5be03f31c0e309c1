package token

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/veripath/aes-appliance/internal/fault"
)

// KeySpec says what key pair to make.
type KeySpec struct {
	Label     string // CKA_LABEL of both halves
	ID        []byte // CKA_ID of both halves, unique in the token; 1 to 64 bytes
	Algorithm Algorithm
}

func (s KeySpec) check() error {
	if s.Label == "" || len(s.Label) > 255 || len(s.ID) == 0 || len(s.ID) > 64 {
		return fault.New(fault.Invalid, "a key needs a label of 1 to 255 bytes and an ID of 1 to 64 bytes")
	}
	if s.Algorithm == 0 || int(s.Algorithm) >= len(algorithmNames) {
		return fault.New(fault.Invalid, fmt.Sprintf("unknown key %s", s.Algorithm))
	}
	return nil
}

// KeyInfo describes a key pair of the token.
type KeyInfo struct {
	Label     string
	ID        []byte
	Algorithm Algorithm
	Public    crypto.PublicKey // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey
}

// Key is a key pair in the token, found and tried out: a crypto.Signer that is safe for concurrent use. See Sign for what it takes.
type Key struct {
	t       *Token
	info    KeyInfo
	private pkcs11.ObjectHandle
}

// Info returns what the key is called and which it is.
func (k *Key) Info() KeyInfo { return k.info }

// Public returns the public half, read from the token when the key was loaded and proven by a signature.
func (k *Key) Public() crypto.PublicKey { return k.info.Public }

// Generate makes a key pair inside the token. It returns when the key is durable, its attributes have been read back and a test signature
// verified. A Conflict says that the label or the ID is taken.
func (t *Token) Generate(spec KeySpec) (*Key, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	t.mending.Lock()
	defer t.mending.Unlock()
	if err := t.free(spec); err != nil {
		return nil, err
	}
	// A crash from here on leaves the intent, and the next Open removes every object file that was not there before it.
	change, err := folder(t.cfg.Dir).beginGenerate()
	if err != nil {
		return nil, err
	}
	key, err := t.generate(spec)
	if err != nil {
		if _, undo := t.destroyAll(spec.Label, spec.ID); undo != nil {
			change.abandon()
			return nil, errors.Join(err, undo)
		}
	}
	if err := errors.Join(err, change.finish()); err != nil {
		return nil, err
	}
	return key, nil
}

func (t *Token) generate(spec KeySpec) (*Key, error) {
	if err := t.generatePair(spec); err != nil {
		return nil, err
	}
	return t.load(spec.Label, spec.ID, nil)
}

// free refuses a label or an ID that any object of the token has.
func (t *Token) free(spec KeySpec) error {
	for _, a := range []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, spec.Label), pkcs11.NewAttribute(pkcs11.CKA_ID, spec.ID)} {
		found, err := t.find(a)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return fault.New(fault.Conflict, fmt.Sprintf("the token already has an object with the label %q or the ID %x", spec.Label, spec.ID))
		}
	}
	return nil
}

// generatePair makes the two halves as token objects.
func (t *Token) generatePair(spec KeySpec) error {
	public, private := pairTemplates(spec)
	switch spec.Algorithm {
	case Ed25519:
		if err := t.need(mechEdDSAKeyGen); err != nil {
			return err
		}
		return t.pool.do(func(s pkcs11.SessionHandle) error {
			_, _, err := t.p.GenerateKeyPair(s, []*pkcs11.Mechanism{mechEdDSAKeyGen.bare()}, public, private)
			return mechEdDSAKeyGen.error("generating an Ed25519 key pair", err)
		})
	case RSA3072, RSA4096:
		_, err := t.c11.GenerateRSAKeyPairWithAttributes(attributeSet(public), attributeSet(private), spec.Algorithm.bits())
		return p11Error("generating an RSA key pair", err)
	default:
		_, err := t.c11.GenerateECDSAKeyPairWithAttributes(attributeSet(public), attributeSet(private), spec.Algorithm.curve())
		return p11Error("generating an ECDSA key pair", err)
	}
}

func attributeSet(list []*pkcs11.Attribute) crypto11.AttributeSet {
	set := crypto11.NewAttributeSet()
	set.AddIfNotPresent(list)
	return set
}

// Key finds the key pair with this label and this ID and tries it out: exactly one private and one public half, the attributes that
// Generate sets, the public key pub (from the certificate; nil takes the token's word), a test signature. Handles are kept: signing
// searches nothing. Errors: NotFound, Conflict (more than one), Corrupt (not the key it should be).
func (t *Token) Key(label string, id []byte, pub crypto.PublicKey) (*Key, error) {
	if label == "" || len(id) == 0 {
		return nil, fault.New(fault.Invalid, "a key is found by its label and its ID, both")
	}
	return t.load(label, id, pub)
}

func (t *Token) load(label string, id []byte, pub crypto.PublicKey) (*Key, error) {
	private, err := t.one("private", pkcs11.CKO_PRIVATE_KEY, label, id)
	if err != nil {
		return nil, err
	}
	public, err := t.one("public", pkcs11.CKO_PUBLIC_KEY, label, id)
	if err != nil {
		return nil, err
	}
	k := &Key{t: t, private: private}
	k.info = KeyInfo{Label: label, ID: bytes.Clone(id)}
	if k.info.Algorithm, k.info.Public, err = t.publicKey(public); err != nil {
		return nil, err
	}
	if pub != nil && !samePublic(pub, k.info.Public) {
		return nil, fault.New(fault.Corrupt, fmt.Sprintf("key %q in the token is not the one that its certificate names", label))
	}
	if err := t.verifyAttributes(private, append(bornInToken[:len(bornInToken):len(bornInToken)], signingKeyLaw...), label); err != nil {
		return nil, err
	}
	if err := t.verifyAttributes(public, publicKeyLaw, label); err != nil {
		return nil, err
	}
	if err := k.selfTest(); err != nil {
		return nil, err
	}
	return k, nil
}

// one demands exactly one object of the class with label and id.
func (t *Token) one(half string, class uint, label string, id []byte) (pkcs11.ObjectHandle, error) {
	found, err := t.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, fault.New(fault.NotFound, fmt.Sprintf("the token has no %s key %q with the ID %x", half, label, id))
	case len(found) > 1:
		return 0, fault.New(fault.Conflict, fmt.Sprintf("the token has %d %s keys %q with the ID %x", len(found), half, label, id))
	}
	return found[0], nil
}

// selfTest signs and verifies once: the private half found belongs to the public half found.
func (k *Key) selfTest() error {
	text := []byte("aes-appliance token self-test of " + k.info.Label)
	digest := sha256.Sum256(text)
	message, opts := digest[:], crypto.SignerOpts(crypto.SHA256)
	if k.info.Algorithm == Ed25519 {
		message, opts = text, crypto.Hash(0)
	}
	sig, err := k.Sign(nil, message, opts)
	if err != nil {
		return err
	}
	if !verifies(k.info.Public, message, sig) {
		return fault.New(fault.Corrupt, fmt.Sprintf("the private half of key %q does not belong to its public half", k.info.Label))
	}
	return nil
}

// Keys lists the key pairs of the token, in no order, without trying them out. A private half without its public half is Corrupt.
func (t *Token) Keys() ([]KeyInfo, error) {
	handles, err := t.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true))
	if err != nil {
		return nil, err
	}
	list := make([]KeyInfo, 0, len(handles))
	for _, h := range handles {
		label, id, err := t.name(h)
		if err != nil {
			return nil, err
		}
		public, err := t.one("public", pkcs11.CKO_PUBLIC_KEY, label, id)
		if err != nil {
			return nil, fault.New(fault.Corrupt, fmt.Sprintf("key %q in the token has no public half of its own", label)).WithCause(err)
		}
		info := KeyInfo{Label: label, ID: id}
		if info.Algorithm, info.Public, err = t.publicKey(public); err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// lone reports the halves of key pairs whose other half is missing. No intent explains them, so they are damage, and stay where they are.
func (t *Token) lone() ([]Finding, error) {
	type half struct{ label, id string }
	halves := map[half]int{}
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		found, err := t.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true))
		if err != nil {
			return nil, err
		}
		for _, h := range found {
			label, id, err := t.name(h)
			if err != nil {
				return nil, err
			}
			halves[half{label, string(id)}] += 1 - 2*int(class-pkcs11.CKO_PUBLIC_KEY)
		}
	}
	var report []Finding
	for h, n := range halves {
		if n != 0 {
			report = append(report, Finding{"a key pair has lost a half: restore the token from a backup, or destroy the key", h.label})
		}
	}
	return report, nil
}

// Destroy removes a key pair for good, or what half there is; a Key of it that is still held fails from then on. A crash in between is
// finished by the next Open.
func (t *Token) Destroy(label string, id []byte) error {
	t.mending.Lock()
	defer t.mending.Unlock()
	switch found, err := t.named(label, id); {
	case err != nil:
		return err
	case len(found) == 0:
		return fault.New(fault.NotFound, fmt.Sprintf("the token has no key %q with the ID %x", label, id))
	}
	change, err := folder(t.cfg.Dir).beginDestroy(label, id)
	if err != nil {
		return err
	}
	if _, err := t.destroyAll(label, id); err != nil {
		change.abandon()
		return err
	}
	return change.finish()
}

// named finds every token object with label and id.
func (t *Token) named(label string, id []byte) ([]pkcs11.ObjectHandle, error) {
	return t.find(pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, id))
}

// destroyAll destroys every token object with label and id and returns how many there were.
func (t *Token) destroyAll(label string, id []byte) (int, error) {
	found, err := t.named(label, id)
	if err != nil {
		return 0, err
	}
	for _, h := range found {
		if err := t.pool.do(func(s pkcs11.SessionHandle) error { return t.p.DestroyObject(s, h) }); err != nil {
			return 0, p11Error("destroying a key", err)
		}
	}
	return len(found), nil
}
