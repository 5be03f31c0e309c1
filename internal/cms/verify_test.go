package cms_test

import (
	"crypto"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/veripath/aes-appliance/internal/cms"
)

func TestVerifyAccepts(t *testing.T) {
	id := identities["P-256"]()
	root := id.root
	for name, change := range map[string]func(p *parts){
		"as it is":                 func(p *parts) {},
		"attributes in any order":  func(p *parts) { slices.Reverse(p.attrs) },
		"NULL in digest algorithm": func(p *parts) { p.digestAlg = seq(idSHA256, null) },
		"NULL with ECDSA":          func(p *parts) { p.sigAlg = seq(idECDSAWithSHA256, null) },
		"bare key type":            func(p *parts) { p.sigAlg = seq(oid(1, 2, 840, 10045, 2, 1)) },
		"no signing-certificate":   func(p *parts) { p.attrs = p.attrs[:2] },
		"signing-certificate v1":   func(p *parts) { p.attrs[2] = attribute(idSigningCert, essV1(id, nil)) },
		"v1 and v2":                func(p *parts) { p.attrs = append(p.attrs, attribute(idSigningCert, essV1(id, nil))) },
		"issuerSerial": func(p *parts) {
			p.attrs[2] = attribute(idSigningCertV2, essV2(id, issuerSerial(root.RawSubject, id.cert.SerialNumber)))
		},
		"explicit hash in ESS": func(p *parts) {
			p.attrs[2] = attribute(idSigningCertV2, seq(seq(seq(seq(idSHA512), tlv(4, digest(crypto.SHA512, id.cert.Raw))))))
		},
		"policies in ESS": func(p *parts) {
			p.attrs[2] = attribute(idSigningCertV2, seq(seq(seq(tlv(4, digest(crypto.SHA256, id.cert.Raw)))), seq(seq(oid(1, 2, 3)))))
		},
		"chain in ESS": func(p *parts) {
			p.attrs[2] = attribute(idSigningCertV2, seq(seq(seq(tlv(4, digest(crypto.SHA256, id.cert.Raw))), seq(tlv(4, digest(crypto.SHA256, root.Raw))))))
		},
		"signing-time": func(p *parts) {
			p.attrs = append(p.attrs, attribute(idSigningTime, tlv(0x17, []byte("260101000000Z"))))
		},
		"algorithm protection": func(p *parts) {
			p.attrs = append(p.attrs, attribute(idProtection, seq(seq(idSHA256, null), tlv(0xa1, idECDSAWithSHA256))))
		},
		"subject key identifier":     func(p *parts) { p.infoVersion, p.sid = der(3), tlv(0x80, id.cert.SubjectKeyId) },
		"certificate of others too":  func(p *parts) { p.certificates = tlv(0xa0, root.Raw, id.cert.Raw) },
		"unreadable certificate too": func(p *parts) { p.certificates = tlv(0xa0, seq(der(1)), tlv(0xa1, der(2)), id.cert.Raw) },
		"empty certificates":         func(p *parts) { p.certificates = tlv(0xa0) },
		"CRL and OCSP": func(p *parts) {
			p.crls = tlv(0xa1, seq(der(1)), tlv(0xa1, oid(1, 3, 6, 1, 5, 5, 7, 16, 2), seq(der(2))))
		},
		"unsigned attributes":     func(p *parts) { p.unsigned = tlv(0xa1, attribute(idTimeStampToken, seq(), seq(der(1)))) },
		"other digest algorithms": func(p *parts) { p.digestAlgs = set() },
	} {
		p := newParts(id)
		change(p)
		s, err := cms.Parse(p.build())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := s.Verify(0, nil, id.cert); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// refusal is one thing put wrong in a good SignedData, and the reason for which Verify must refuse it.
type refusal struct {
	change func(p *parts)
	want   error
}

func TestWrongContentAndAttributesRefused(t *testing.T) {
	refuse(t, map[string]refusal{
		"content changed":          {func(p *parts) { p.encap = seq(idData, tlv(0xa0, tlv(4, []byte("other")))) }, cms.ErrDigest},
		"content gone":             {func(p *parts) { p.encap = seq(idData) }, cms.ErrDigest},
		"content type changed":     {func(p *parts) { p.encap = seq(oid(1, 2, 3, 4), tlv(0xa0, tlv(4, content))) }, cms.ErrContentType},
		"no content-type":          {func(p *parts) { p.attrs = p.attrs[1:] }, cms.ErrAttributes},
		"content-type twice":       {func(p *parts) { p.attrs = append(p.attrs, p.attrs[0]) }, cms.ErrAttributes},
		"content-type, two values": {func(p *parts) { p.attrs[0] = attribute(idContentType, idData, idData) }, cms.ErrAttributes},
		"content-type not an OID":  {func(p *parts) { p.attrs[0] = attribute(idContentType, null) }, cms.ErrAttributes},
		"no message-digest":        {func(p *parts) { p.attrs = slices.Delete(p.attrs, 1, 2) }, cms.ErrAttributes},
		"message-digest twice":     {func(p *parts) { p.attrs = append(p.attrs, attribute(idMessageDigest, tlv(4, []byte("x")))) }, cms.ErrAttributes},
		"message-digest of text":   {func(p *parts) { p.attrs[1] = attribute(idMessageDigest, tlv(12, []byte("x"))) }, cms.ErrAttributes},
		"message-digest too long": {func(p *parts) {
			p.attrs[1] = attribute(idMessageDigest, tlv(4, digest(crypto.SHA256, content), []byte{0}))
		}, cms.ErrDigest},
		"no attributes":          {func(p *parts) { p.attrs = nil }, cms.ErrAttributes},
		"signature of nothing":   {func(p *parts) { p.signature = []byte{} }, cms.ErrSignature},
		"signature of something": {func(p *parts) { p.signature = seq(der(1), der(1)) }, cms.ErrSignature},
		"signature of zeros":     {func(p *parts) { p.signature = seq(der(0), der(0)) }, cms.ErrSignature},
	})
}

func TestWrongCertificatesRefused(t *testing.T) {
	id, other := identities["P-256"](), issue(identities["P-384"]().key)
	twin := id.twin()
	refuse(t, map[string]refusal{
		"no certificate":         {func(p *parts) { p.certificates = nil }, cms.ErrCertificate},
		"another's certificate":  {func(p *parts) { p.certificates = tlv(0xa0, other.cert.Raw); p.sid = seq(der(1)) }, cms.ErrMalformed},
		"serial of another":      {func(p *parts) { p.sid = seq(id.cert.RawIssuer, der(7)) }, cms.ErrCertificate},
		"issuer of another":      {func(p *parts) { p.sid = seq(seq(), der(id.cert.SerialNumber)) }, cms.ErrCertificate},
		"empty key identifier":   {func(p *parts) { p.infoVersion, p.sid = der(3), tlv(0x80) }, cms.ErrCertificate},
		"unreadable certificate": {func(p *parts) { p.certificates = tlv(0xa0, seq(der(1))) }, cms.ErrCertificate},
		"ESS of another":         {func(p *parts) { p.attrs[2] = attribute(idSigningCertV2, essV2(other, nil)) }, cms.ErrESS},
		"ESS v1 of another":      {func(p *parts) { p.attrs[2] = attribute(idSigningCert, essV1(other, nil)) }, cms.ErrESS},
		"certificate exchanged":  {func(p *parts) { p.certificates = tlv(0xa0, twin.Raw) }, cms.ErrESS},
		"ESS, other serial": {func(p *parts) {
			p.attrs[2] = attribute(idSigningCertV2, essV2(id, issuerSerial(id.cert.RawIssuer, big.NewInt(1))))
		}, cms.ErrESS},
		"ESS, other issuer": {func(p *parts) {
			p.attrs[2] = attribute(idSigningCertV2, essV2(id, issuerSerial(id.cert.RawSubject, id.cert.SerialNumber)))
		}, cms.ErrESS},
		"ESS twice": {func(p *parts) { p.attrs = append(p.attrs, p.attrs[2]) }, cms.ErrAttributes},
		"ESS empty": {func(p *parts) { p.attrs[2] = attribute(idSigningCertV2, seq(seq())) }, cms.ErrMalformed},
		"ESS with SHA-1 named": {func(p *parts) {
			p.attrs[2] = attribute(idSigningCertV2, seq(seq(seq(seq(idSHA1), tlv(4, make([]byte, 20))))))
		}, cms.ErrWeak},
		"ESS of wrong length": {func(p *parts) { p.attrs[2] = attribute(idSigningCertV2, seq(seq(seq(tlv(4, make([]byte, 20)))))) }, cms.ErrMalformed},
		"ESS with a tail": {func(p *parts) {
			p.attrs[2] = attribute(idSigningCertV2, seq(seq(seq(tlv(4, make([]byte, 32)), seq(), seq()))))
		}, cms.ErrMalformed},
	})
}

func TestWrongAlgorithmsRefused(t *testing.T) {
	refuse(t, map[string]refusal{
		"digest and signature":      {func(p *parts) { p.sigAlg = seq(idECDSAWithSHA384) }, cms.ErrAlgorithm},
		"signature of another kind": {func(p *parts) { p.sigAlg = seq(idRSAEncryption, null) }, cms.ErrAlgorithm},
		"Ed25519 with SHA-256":      {func(p *parts) { p.sigAlg = seq(idEd25519) }, cms.ErrAlgorithm},
		"SHA-1":                     {func(p *parts) { p.digestAlg = seq(idSHA1) }, cms.ErrWeak},
		"unknown digest":            {func(p *parts) { p.digestAlg = seq(oid(1, 2, 3)) }, cms.ErrUnsupported},
		"unknown signature":         {func(p *parts) { p.sigAlg = seq(oid(1, 2, 3)) }, cms.ErrUnsupported},
		"ECDSA with SHA-1":          {func(p *parts) { p.sigAlg = seq(oid(1, 2, 840, 10045, 4, 1)) }, cms.ErrWeak},
		"parameters with digest":    {func(p *parts) { p.digestAlg = seq(idSHA256, der(1)) }, cms.ErrMalformed},
		"parameters with signature": {func(p *parts) { p.sigAlg = seq(idECDSAWithSHA256, der(1)) }, cms.ErrMalformed},
		"protection, other digest": {func(p *parts) {
			p.attrs = append(p.attrs, attribute(idProtection, seq(seq(idSHA384), tlv(0xa1, idECDSAWithSHA256))))
		}, cms.ErrAlgorithm},
		"protection, other sign": {func(p *parts) {
			p.attrs = append(p.attrs, attribute(idProtection, seq(seq(idSHA256), tlv(0xa1, idECDSAWithSHA384))))
		}, cms.ErrAlgorithm},
		"protection of a MAC": {func(p *parts) {
			p.attrs = append(p.attrs, attribute(idProtection, seq(seq(idSHA256), tlv(0xa2, idECDSAWithSHA384))))
		}, cms.ErrMalformed},
		"PSS, no parameters":         {func(p *parts) { p.sigAlg = seq(idRSAPSS) }, cms.ErrMalformed},
		"PSS, defaults":              {func(p *parts) { p.sigAlg = seq(idRSAPSS, seq()) }, cms.ErrWeak},
		"PSS, other mask generation": {func(p *parts) { p.sigAlg = pss(seq(idSHA256), seq(oid(1, 2, 3), seq(idSHA256)), der(32), nil) }, cms.ErrMalformed},
		"PSS, hash of another":       {func(p *parts) { p.sigAlg = pss(seq(idSHA384), seq(idMGF1, seq(idSHA384)), der(32), nil) }, cms.ErrAlgorithm},
		"PSS, mask of another":       {func(p *parts) { p.sigAlg = pss(seq(idSHA256), seq(idMGF1, seq(idSHA384)), der(32), nil) }, cms.ErrAlgorithm},
		"PSS, mask of SHA-1":         {func(p *parts) { p.sigAlg = pss(seq(idSHA256), seq(idMGF1, seq(idSHA1)), der(32), nil) }, cms.ErrWeak},
		"PSS, negative salt":         {func(p *parts) { p.sigAlg = pss(seq(idSHA256), seq(idMGF1, seq(idSHA256)), der(-1), nil) }, cms.ErrMalformed},
		"PSS, huge salt":             {func(p *parts) { p.sigAlg = pss(seq(idSHA256), seq(idMGF1, seq(idSHA256)), der(1<<20), nil) }, cms.ErrMalformed},
		"PSS, other trailer":         {func(p *parts) { p.sigAlg = pss(seq(idSHA256), seq(idMGF1, seq(idSHA256)), der(32), der(2)) }, cms.ErrMalformed},
		"PSS under an EC key":        {func(p *parts) { p.sigAlg = pss(seq(idSHA256), seq(idMGF1, seq(idSHA256)), der(32), nil) }, cms.ErrAlgorithm},
	})
}

func refuse(t *testing.T, table map[string]refusal) {
	t.Helper()
	for name, c := range table {
		p := newParts(identities["P-256"]())
		c.change(p)
		s, err := cms.Parse(p.build())
		if err == nil {
			_, err = s.Verify(0, nil)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

func pss(hash, mgf, salt, trailer []byte) []byte {
	parts := [][]byte{tlv(0xa0, hash), tlv(0xa1, mgf), tlv(0xa2, salt)}
	if trailer != nil {
		parts = append(parts, tlv(0xa3, trailer))
	}
	return seq(idRSAPSS, seq(parts...))
}

// TestEveryByteCounts flips each byte of a signature and demands that nothing but what is not signed may change unnoticed.
func TestEveryByteCounts(t *testing.T) {
	id := identities["P-256"]()
	p := newParts(id)
	good := p.build()
	unnoticed := 0
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		s, err := cms.Parse(bad)
		if err != nil {
			continue
		}
		if cert, err := s.Verify(0, digest(crypto.SHA256, content)); err == nil {
			unnoticed++
			if !cert.Equal(id.cert) {
				t.Errorf("byte %d: another certificate", i)
			}
		}
	}
	// Not covered: the versions and the digestAlgorithms hint, and the content, since its digest was handed in.
	if most := len(content) + len(p.digestAlgs) + 4; unnoticed > most {
		t.Errorf("%d changes went unnoticed, at most %d can", unnoticed, most)
	}
}

func TestEd25519(t *testing.T) {
	id := identities["Ed25519"]()
	p := newParts(id)
	p.digestAlg, p.sigAlg = seq(idSHA512), seq(idEd25519)
	p.attrs[1] = attribute(idMessageDigest, tlv(4, digest(crypto.SHA512, content)))
	s, err := cms.Parse(p.build())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(0, nil); err != nil {
		t.Error(err)
	}
	if scheme, err := s.Signers[0].Scheme(); scheme != cms.Ed25519 || err != nil {
		t.Errorf("scheme %v, error %v", scheme, err)
	}
	p.signature = make([]byte, 64)
	if s, err = cms.Parse(p.build()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(0, nil); !errors.Is(err, cms.ErrSignature) {
		t.Errorf("a signature of zeros: %v", err)
	}
}

// TestCertificateByESSAmongTwins finds the right one of two certificates with the same issuer and serial number.
func TestCertificateByESSAmongTwins(t *testing.T) {
	id := identities["P-256"]()
	twin := id.twin()
	p := newParts(id)
	p.certificates = tlv(0xa0, twin.Raw)
	s, err := cms.Parse(p.build())
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := s.SignerCertificate(0, twin, id.root, id.cert); err != nil || !cert.Equal(id.cert) {
		t.Errorf("found %v, error %v", cert, err)
	}
	for _, i := range []int{-1, 1} {
		if _, err := s.SignerCertificate(i); err == nil {
			t.Errorf("signer %d exists", i)
		}
		if _, err := s.Verify(i, nil); err == nil {
			t.Errorf("signer %d verifies", i)
		}
		if _, err := s.TimeStamps(i); err == nil {
			t.Errorf("signer %d has time stamps", i)
		}
	}
}

// TestNameInAnotherEncoding finds a certificate whose issuer the signer wrote with another kind of string.
func TestNameInAnotherEncoding(t *testing.T) {
	id := identities["P-256"]()
	name := seq(set(seq(oid(2, 5, 4, 6), tlv(0x13, []byte("GB")))), set(seq(oid(2, 5, 4, 3), tlv(0x0c, []byte("Test Root")))))
	if slices.Equal(name, id.cert.RawIssuer) {
		t.Fatal("the encodings do not differ: the test shows nothing")
	}
	p := newParts(id)
	p.sid = seq(name, der(id.cert.SerialNumber))
	s, err := cms.Parse(p.build())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(0, nil); err != nil {
		t.Error(err)
	}
}
