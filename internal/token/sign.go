package token

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Sign signs a digest of exactly the length of opts.HashFunc(), which is SHA-256, SHA-384 or SHA-512; an Ed25519 key signs the message
// itself, with crypto.Hash(0). The answer is an ECDSA-Sig-Value in DER, an RSA signature (PKCS#1 v1.5; PSS when opts is *rsa.PSSOptions,
// with a salt as long as the hash), or the 64 bytes of Ed25519. The token draws its own random numbers: rand is not used.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	in, err := newSigning(k.info.Algorithm, digest, opts)
	if err != nil {
		return nil, err
	}
	var raw []byte
	err = k.t.pool.do(func(s pkcs11.SessionHandle) (err error) {
		raw, err = in.run(k.t.p, s, k.private)
		return err
	})
	if err != nil {
		return nil, signError(err)
	}
	return in.encode(raw)
}

func signError(err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	if isRV(err, pkcs11.CKR_KEY_HANDLE_INVALID) || isRV(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) {
		return fault.New(fault.NotFound, "the key is no longer in the token").WithCause(err)
	}
	return p11Error("signing", err)
}

// signing is what the module is given for one signature: always checked, so that a module which signs anything is asked for nothing wrong.
type signing struct {
	algorithm Algorithm
	mechanism *pkcs11.Mechanism
	input     []byte
}

// digestInfo is the DER of DigestInfo up to the digest (RFC 8017 §9.2, note 1).
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// pssParams gives CK_RSA_PKCS_PSS_PARAMS {hashAlg, mgf, sLen} for a salt as long as the hash.
func pssParams(h crypto.Hash) []byte {
	var alg, mgf uint
	switch h {
	case crypto.SHA256:
		alg, mgf = pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256
	case crypto.SHA384:
		alg, mgf = pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384
	case crypto.SHA512:
		alg, mgf = pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512
	}
	return pkcs11.NewPSSParams(alg, mgf, uint(h.Size()))
}

func newSigning(a Algorithm, digest []byte, opts crypto.SignerOpts) (signing, error) {
	if opts == nil {
		return signing{}, fault.New(fault.Invalid, "signing needs to know the digest's hash")
	}
	h := opts.HashFunc()
	if a == Ed25519 {
		if h != 0 {
			return signing{}, fault.New(fault.Invalid, "an Ed25519 key signs the message, not a digest")
		}
		return signing{a, mechEdDSA.bare(), digest}, nil
	}
	prefix, ok := digestInfo[h]
	if !ok {
		return signing{}, fault.New(fault.Invalid, fmt.Sprintf("hash %s is not SHA-256, SHA-384 or SHA-512", h))
	}
	if len(digest) != h.Size() {
		return signing{}, fault.New(fault.Invalid, fmt.Sprintf("a %s digest has %d bytes, not %d", h, h.Size(), len(digest)))
	}
	pss, isPSS := opts.(*rsa.PSSOptions)
	switch {
	case a == ECDSAP256 || a == ECDSAP384:
		if isPSS {
			return signing{}, fault.New(fault.Invalid, "PSS options are for RSA keys")
		}
		// FIPS 186-5 §6.4.1: the leftmost bits of a digest longer than the order. Not every module cuts it itself.
		return signing{a, pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil), digest[:min(len(digest), a.scalar())]}, nil
	case isPSS:
		if pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != h.Size() {
			return signing{}, fault.New(fault.Invalid, "the PSS salt must be as long as the hash")
		}
		return signing{a, pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pssParams(h)), digest}, nil
	}
	return signing{a, pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), append(append([]byte(nil), prefix...), digest...)}, nil
}

// run makes the raw signature with the private key at h.
func (in signing) run(p *pkcs11.Ctx, s pkcs11.SessionHandle, h pkcs11.ObjectHandle) ([]byte, error) {
	if err := p.SignInit(s, []*pkcs11.Mechanism{in.mechanism}, h); err != nil {
		if in.algorithm == Ed25519 {
			return nil, mechEdDSA.error("signing", err)
		}
		return nil, err
	}
	return p.Sign(s, in.input)
}

// encode turns the module's raw signature into the one that standards use.
func (in signing) encode(raw []byte) ([]byte, error) {
	if want := in.algorithm.rawSize(); len(raw) != want {
		return nil, fault.New(fault.Corrupt, fmt.Sprintf("the token made a signature of %d bytes, not %d", len(raw), want))
	}
	if n := in.algorithm.scalar(); n > 0 {
		// RFC 3279 §2.2.3: ECDSA-Sig-Value ::= SEQUENCE { r INTEGER, s INTEGER }; PKCS#11 v2.40 §2.3.1 gives r ‖ s.
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addUnsigned(b, raw[:n])
			addUnsigned(b, raw[n:])
		})
		return b.Bytes()
	}
	return raw, nil
}

// addUnsigned adds big-endian v as a DER INTEGER.
func addUnsigned(b *cryptobyte.Builder, v []byte) {
	for len(v) > 1 && v[0] == 0 {
		v = v[1:]
	}
	b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) {
		if v[0]&0x80 != 0 {
			b.AddUint8(0)
		}
		b.AddBytes(v)
	})
}
