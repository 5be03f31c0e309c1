package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/fault"
)

// A law is what the boolean attributes of a kind of object must be. It is the template when the object is made and the measure when it is
// read back: modules give keys more uses than were asked for (SoftHSM2: MODIFIABLE, DECRYPT, UNWRAP and SIGN_RECOVER) unless told otherwise.
type law []boolean

type boolean struct {
	attribute uint
	name      string
	want      bool
}

// signingKeyLaw: a private key that signs and does nothing else, and never leaves the token.
var signingKeyLaw = law{
	{pkcs11.CKA_TOKEN, "CKA_TOKEN", true},
	{pkcs11.CKA_PRIVATE, "CKA_PRIVATE", true},
	{pkcs11.CKA_SENSITIVE, "CKA_SENSITIVE", true},
	{pkcs11.CKA_EXTRACTABLE, "CKA_EXTRACTABLE", false},
	{pkcs11.CKA_SIGN, "CKA_SIGN", true},
	{pkcs11.CKA_SIGN_RECOVER, "CKA_SIGN_RECOVER", false},
	{pkcs11.CKA_DECRYPT, "CKA_DECRYPT", false},
	{pkcs11.CKA_UNWRAP, "CKA_UNWRAP", false},
	{pkcs11.CKA_DERIVE, "CKA_DERIVE", false},
	{pkcs11.CKA_MODIFIABLE, "CKA_MODIFIABLE", false},
}

// bornInToken is set by the token, never asked for: the key was generated inside and has never been outside.
var bornInToken = law{
	{pkcs11.CKA_LOCAL, "CKA_LOCAL", true},
	{pkcs11.CKA_ALWAYS_SENSITIVE, "CKA_ALWAYS_SENSITIVE", true},
	{pkcs11.CKA_NEVER_EXTRACTABLE, "CKA_NEVER_EXTRACTABLE", true},
}

// publicKeyLaw: a public half that verifies and does nothing else.
var publicKeyLaw = law{
	{pkcs11.CKA_TOKEN, "CKA_TOKEN", true},
	{pkcs11.CKA_PRIVATE, "CKA_PRIVATE", false},
	{pkcs11.CKA_VERIFY, "CKA_VERIFY", true},
	{pkcs11.CKA_VERIFY_RECOVER, "CKA_VERIFY_RECOVER", false},
	{pkcs11.CKA_ENCRYPT, "CKA_ENCRYPT", false},
	{pkcs11.CKA_WRAP, "CKA_WRAP", false},
	{pkcs11.CKA_DERIVE, "CKA_DERIVE", false},
	{pkcs11.CKA_MODIFIABLE, "CKA_MODIFIABLE", false},
}

// secretKeyLaw is what a key that wraps and a key that encrypts have in common.
var secretKeyLaw = law{
	{pkcs11.CKA_TOKEN, "CKA_TOKEN", true},
	{pkcs11.CKA_PRIVATE, "CKA_PRIVATE", true},
	{pkcs11.CKA_SENSITIVE, "CKA_SENSITIVE", true},
	{pkcs11.CKA_EXTRACTABLE, "CKA_EXTRACTABLE", false},
	{pkcs11.CKA_SIGN, "CKA_SIGN", false},
	{pkcs11.CKA_VERIFY, "CKA_VERIFY", false},
	{pkcs11.CKA_DERIVE, "CKA_DERIVE", false},
	{pkcs11.CKA_MODIFIABLE, "CKA_MODIFIABLE", false},
}

// wrapping and encrypting complete secretKeyLaw: the key that wraps clinicians' keys must not decrypt, or it would decrypt what it wrapped.
func wrapping(wrap bool) law {
	return law{
		{pkcs11.CKA_WRAP, "CKA_WRAP", wrap},
		{pkcs11.CKA_UNWRAP, "CKA_UNWRAP", wrap},
		{pkcs11.CKA_ENCRYPT, "CKA_ENCRYPT", !wrap},
		{pkcs11.CKA_DECRYPT, "CKA_DECRYPT", !wrap},
	}
}

// template returns more and then the law as attributes for the making of an object. CKA_MODIFIABLE stands last in every law: SoftHSM2
// obeys it at once when it unwraps, and refuses every attribute after it.
func (l law) template(more ...*pkcs11.Attribute) []*pkcs11.Attribute {
	out := make([]*pkcs11.Attribute, 0, len(l)+len(more))
	out = append(out, more...)
	for _, b := range l {
		out = append(out, pkcs11.NewAttribute(b.attribute, b.want))
	}
	return out
}

// with returns l with one attribute changed.
func (l law) with(attribute uint, want bool) law {
	out := append(law(nil), l...)
	for i := range out {
		if out[i].attribute == attribute {
			out[i].want = want
			return out
		}
	}
	panic(fmt.Sprintf("token: law has no attribute %#x", attribute))
}

// pairTemplates returns the templates of both halves. The parameters of the algorithm are left to crypto11 except for Ed25519.
func pairTemplates(spec KeySpec) (public, private []*pkcs11.Attribute) {
	name := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, spec.Label), pkcs11.NewAttribute(pkcs11.CKA_ID, spec.ID)}
	public, private = publicKeyLaw.template(name...), signingKeyLaw.template(name...)
	if spec.Algorithm == Ed25519 {
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, ckkECEdwards), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, ed25519Params))
		private = append(private, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, ckkECEdwards))
	}
	return public, private
}

// verifyAttributes reads the attributes of l back from the object. An attribute that the object does not have counts as false: that is what
// modules without, say, CKA_SIGN_RECOVER mean by it.
func (t *Token) verifyAttributes(h pkcs11.ObjectHandle, l law, label string) error {
	var wrong []string
	for _, b := range l {
		value, err := t.attribute(h, b.attribute)
		if err != nil && !isAttributeAbsent(err) {
			return p11Error("reading "+b.name, err)
		}
		got := len(value) > 0 && value[0] != 0
		if got != b.want {
			wrong = append(wrong, fmt.Sprintf("%s is %t", b.name, got))
		}
	}
	if len(wrong) > 0 {
		return fault.New(fault.Corrupt, fmt.Sprintf("key %q in the token has attributes that it must not have: %s", label, strings.Join(wrong, ", ")))
	}
	return nil
}

func isAttributeAbsent(err error) bool {
	return isRV(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)
}

// attribute reads one attribute.
func (t *Token) attribute(h pkcs11.ObjectHandle, attribute uint) (value []byte, err error) {
	err = t.pool.do(func(s pkcs11.SessionHandle) error {
		got, err := t.p.GetAttributeValue(s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
		if err == nil {
			value = got[0].Value
		}
		return err
	})
	return value, err
}

// name reads label and ID.
func (t *Token) name(h pkcs11.ObjectHandle) (label string, id []byte, err error) {
	l, err := t.attribute(h, pkcs11.CKA_LABEL)
	if err != nil {
		return "", nil, p11Error("reading CKA_LABEL", err)
	}
	id, err = t.attribute(h, pkcs11.CKA_ID)
	return string(l), id, p11Error("reading CKA_ID", err)
}

// find returns the handles of all objects that have the attributes.
func (t *Token) find(template ...*pkcs11.Attribute) (found []pkcs11.ObjectHandle, err error) {
	t.objects.Lock()
	defer t.objects.Unlock()
	err = t.pool.do(func(s pkcs11.SessionHandle) error {
		if err := t.p.FindObjectsInit(s, template); err != nil {
			return err
		}
		for {
			some, _, err := t.p.FindObjects(s, 100)
			if err != nil {
				return err
			}
			if len(some) == 0 {
				return t.p.FindObjectsFinal(s)
			}
			found = append(found, some...)
		}
	})
	return found, p11Error("looking for objects", err)
}

// DER of the namedCurve OIDs (RFC 5480 §2.1.1.1, RFC 8410 §3; PKCS#11 v3.0 §2.3.10 for the second form of Ed25519).
var (
	p256Params    = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	p384Params    = []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}
	ed25519Params = []byte{0x13, 0x0c, 'e', 'd', 'w', 'a', 'r', 'd', 's', '2', '5', '5', '1', '9'}
	ed25519OID    = []byte{0x06, 0x03, 0x2b, 0x65, 0x70}
)

// publicKey reads the public half at h.
func (t *Token) publicKey(h pkcs11.ObjectHandle) (a Algorithm, pub crypto.PublicKey, err error) {
	err = t.pool.do(func(s pkcs11.SessionHandle) (err error) {
		a, pub, err = readPublicKey(t.p, s, h)
		return err
	})
	return a, pub, err
}

func readPublicKey(p *pkcs11.Ctx, s pkcs11.SessionHandle, h pkcs11.ObjectHandle) (Algorithm, crypto.PublicKey, error) {
	kind, err := p.GetAttributeValue(s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, nil)})
	if err != nil {
		return 0, nil, p11Error("reading CKA_KEY_TYPE", err)
	}
	first, second, read := uint(pkcs11.CKA_EC_PARAMS), uint(pkcs11.CKA_EC_POINT), ecPublicKey
	if ulong(kind[0].Value) == pkcs11.CKK_RSA {
		first, second, read = pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT, rsaPublicKey
	}
	got, err := p.GetAttributeValue(s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(first, nil), pkcs11.NewAttribute(second, nil)})
	if err != nil {
		return 0, nil, p11Error("reading a public key", err)
	}
	return read(got[0].Value, got[1].Value)
}

func rsaPublicKey(n, e []byte) (Algorithm, crypto.PublicKey, error) {
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(n)}
	if !bytes.Equal(bytes.TrimLeft(e, "\x00"), []byte{1, 0, 1}) {
		return 0, nil, fault.New(fault.Corrupt, "an RSA key in the token has a public exponent other than 65537")
	}
	pub.E = 65537
	switch pub.N.BitLen() {
	case 3072:
		return RSA3072, pub, nil
	case 4096:
		return RSA4096, pub, nil
	}
	return 0, nil, fault.New(fault.Corrupt, fmt.Sprintf("an RSA key in the token has %d bits, not 3072 or 4096", pub.N.BitLen()))
}

// ecPublicKey reads CKA_EC_PARAMS and CKA_EC_POINT. The point is a DER OCTET STRING (PKCS#11 v2.40 §2.3.3); some modules give it bare.
func ecPublicKey(params, point []byte) (Algorithm, crypto.PublicKey, error) {
	raw := point
	s := cryptobyte.String(point)
	var inner cryptobyte.String
	if s.ReadASN1(&inner, cbasn1.OCTET_STRING) && s.Empty() {
		raw = inner
	}
	switch {
	case bytes.Equal(params, p256Params):
		return curvePoint(ECDSAP256, raw)
	case bytes.Equal(params, p384Params):
		return curvePoint(ECDSAP384, raw)
	case bytes.Equal(params, ed25519Params), bytes.Equal(params, ed25519OID):
		if len(raw) != ed25519.PublicKeySize {
			return 0, nil, fault.New(fault.Corrupt, fmt.Sprintf("an Ed25519 public key in the token has %d bytes", len(raw)))
		}
		return Ed25519, ed25519.PublicKey(bytes.Clone(raw)), nil
	}
	return 0, nil, fault.New(fault.Corrupt, "a key in the token is on an unknown curve").
		WithCause(fmt.Errorf("CKA_EC_PARAMS %s", hex.EncodeToString(params)))
}

func curvePoint(a Algorithm, raw []byte) (Algorithm, crypto.PublicKey, error) {
	pub, err := ecdsa.ParseUncompressedPublicKey(a.curve(), raw)
	if err != nil {
		return 0, nil, fault.New(fault.Corrupt, "a public key in the token is not a point of its curve").WithCause(err)
	}
	return a, pub, nil
}

// ulong reads a CK_ULONG, which has the machine's order and size.
func ulong(b []byte) uint {
	if len(b) != 8 {
		return ^uint(0)
	}
	return uint(binary.NativeEndian.Uint64(b))
}
