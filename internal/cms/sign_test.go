package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"reflect"
	"slices"
	"testing"

	"github.com/veripath/aes-appliance/internal/cms"
)

func sign(t testing.TB, id identity, change func(*cms.SignParams)) *cms.SignedData {
	t.Helper()
	p := cms.SignParams{Hash: crypto.SHA256, Certificate: id.cert, Chain: []*x509.Certificate{id.root}, MessageDigest: digest(crypto.SHA256, content)}
	if change != nil {
		change(&p)
	}
	s, err := cms.Sign(rand.Reader, p, id.key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBaselineStructure holds the structure against EN 319 142-1 §6.3: those three signed attributes, each once, in DER order, and no more.
func TestBaselineStructure(t *testing.T) {
	id := identities["P-256"]()
	s := sign(t, id, nil)
	var types []string
	for _, a := range s.Signers[0].SignedAttrs {
		types = append(types, a.Type.String())
	}
	want := []string{"1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4", "1.2.840.113549.1.9.16.2.47"}
	slices.Sort(types)
	slices.Sort(want)
	if !slices.Equal(types, want) {
		t.Errorf("signed attributes %v", types)
	}
	if s.Version != 1 || s.Content != nil || len(s.Signers) != 1 || s.Signers[0].Version != 1 || len(s.Signers[0].UnsignedAttrs) != 0 || len(s.CRLs) != 0 {
		t.Errorf("%+v", s)
	}
	if len(s.Certificates) != 2 || !slices.ContainsFunc(s.Certificates, id.cert.Equal) {
		t.Error("the signer's certificate and its chain are not embedded")
	}
	// RFC 5035 §4: SHA-256 is the default, and DER leaves a default out.
	if want := attribute(idSigningCertV2, essV2(id, nil)); !bytes.Contains(s.Bytes(), want) {
		t.Error("the signing-certificate-v2 attribute is not the shortest")
	}
	ids, err := s.Signers[0].SigningCertificates()
	if err != nil || len(ids) != 1 || !ids[0].Matches(id.cert) || ids[0].Hash != crypto.SHA256 {
		t.Errorf("ESSCertIDs %v, error %v", ids, err)
	}
}

// TestSetsAreInDEROrder compares every set with encoding/asn1's own sorting.
func TestSetsAreInDEROrder(t *testing.T) {
	id := identities["P-256"]()
	s := sign(t, id, func(p *cms.SignParams) { p.Chain = append(p.Chain, id.root, id.twin()) })
	stamped, err := s.WithTimeStamp(seq(der(2)))
	if err == nil {
		stamped, err = stamped.WithTimeStamp(seq(der(1)))
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(stamped.Certificates) != 3 {
		t.Errorf("%d certificates, want each once", len(stamped.Certificates))
	}
	for _, attrs := range [][]cms.Attribute{stamped.Signers[0].SignedAttrs, stamped.Signers[0].UnsignedAttrs} {
		var sorted []asn1.RawValue
		var plain []byte
		for _, a := range attrs {
			one := attribute(der(a.Type), a.Values...)
			plain = append(plain, one...)
			sorted = append(sorted, asn1.RawValue{FullBytes: one})
		}
		want, err := asn1.MarshalWithParams(sorted, "set")
		if err != nil || !bytes.Equal(set(plain), want) {
			t.Errorf("not in DER order: %x", plain)
		}
	}
	certs := slices.Clone(stamped.Certificates)
	slices.SortFunc(certs, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	if !reflect.DeepEqual(certs, stamped.Certificates) {
		t.Error("certificates are not in DER order")
	}
}

func TestContentTypesAndVersions(t *testing.T) {
	id := identities["P-256"]()
	tst := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	s := sign(t, id, func(p *cms.SignParams) { p.ContentType, p.Content, p.EmbedNone = tst, content, true })
	if s.Version != 3 || !s.ContentType.Equal(tst) || !bytes.Equal(s.Content, content) { // RFC 5652 §5.1
		t.Errorf("version %d, type %v", s.Version, s.ContentType)
	}
	if len(s.Certificates) != 0 {
		t.Error("certificates are embedded")
	}
	if _, err := s.Verify(0, nil); !errors.Is(err, cms.ErrCertificate) {
		t.Errorf("without a certificate: %v", err)
	}
	if _, err := s.Verify(0, nil, id.root, id.cert); err != nil {
		t.Error(err)
	}
}

// TestSignLaw is the law in Parse's comment.
func TestSignLaw(t *testing.T) {
	id := identities["P-384"]()
	s := sign(t, id, func(p *cms.SignParams) { p.Hash, p.MessageDigest = crypto.SHA384, digest(crypto.SHA384, content) })
	for range 3 {
		again, err := cms.Parse(s.Bytes())
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("parsed again it differs: %v", err)
		}
		if s, err = s.WithTimeStamp(seq(der(1))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithTimeStampKeepsEveryByte(t *testing.T) {
	id := identities["P-256"]()
	s := sign(t, id, nil)
	before := bytes.Clone(s.Bytes())
	token := sign(t, id, func(p *cms.SignParams) { p.Content = s.Signers[0].Signature }).Bytes()
	stamped, err := s.WithTimeStamp(token)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.Bytes(), before) || len(s.Signers[0].UnsignedAttrs) != 0 {
		t.Error("the original changed")
	}
	tokens, err := stamped.TimeStamps(0)
	if err != nil || len(tokens) != 1 || !bytes.Equal(tokens[0], token) {
		t.Errorf("%d tokens, error %v", len(tokens), err)
	}
	if !bytes.Equal(stamped.Signers[0].Signature, s.Signers[0].Signature) {
		t.Error("the signature changed")
	}
	if _, err := stamped.Verify(0, digest(crypto.SHA256, content)); err != nil {
		t.Error(err)
	}
	if grown := len(stamped.Bytes()) - len(before) - len(token); grown > cms.TimeStampOverhead {
		t.Errorf("grown by %d bytes besides the token, at most %d are promised", grown, cms.TimeStampOverhead)
	}
	large, err := s.WithTimeStamp(seq(make([]byte, 70000)))
	if err != nil || len(large.Bytes())-len(before)-70005 > cms.TimeStampOverhead {
		t.Errorf("a large token: error %v", err)
	}
	for name, bad := range map[string][]byte{"nothing": nil, "not a sequence": der(1), "two": append(seq(), seq()...), "indefinite": {0x30, 0x80, 0, 0}} {
		if _, err := s.WithTimeStamp(bad); !errors.Is(err, cms.ErrMalformed) {
			t.Errorf("token of %s: %v", name, err)
		}
	}
	empty, err := cms.Parse(contentInfo(der(1), set(), seq(idData), set()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := empty.WithTimeStamp(token); err == nil {
		t.Error("a time stamp of no signature")
	}
}

func TestMaxSizeIsAnUpperBound(t *testing.T) {
	for name, hash := range map[string]crypto.Hash{"P-256": crypto.SHA256, "P-384": crypto.SHA384, "P-521": crypto.SHA512, "RSA-2048": crypto.SHA256} {
		id := identities[name]()
		p, err := cms.NewProducer(cms.SignParams{Hash: hash, Certificate: id.cert, Chain: []*x509.Certificate{id.root}}, id.key)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			for _, c := range [][]byte{nil, {}, content} {
				n := -1
				if c != nil {
					n = len(c)
				}
				der, err := p.Sign(rand.Reader, c, digest(hash, content))
				if err != nil {
					t.Fatal(err)
				}
				if most := p.MaxSize(n); len(der) > most || most-len(der) > 10 {
					t.Errorf("%s: %d bytes, at most %d promised", name, len(der), most)
				}
			}
		}
	}
}

// shortKey signs with fewer or more bytes than can be, or not at all.
type shortKey struct {
	crypto.Signer
	signature []byte
	err       error
}

func (k shortKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return k.signature, k.err
}

func TestSignRefuses(t *testing.T) {
	id, other, rsaID := identities["P-256"](), identities["P-384"](), identities["RSA-2048"]()
	d := digest(crypto.SHA256, content)
	busy := errors.New("token busy")
	for name, c := range map[string]struct {
		p   cms.SignParams
		key crypto.Signer
	}{
		"no certificate":    {cms.SignParams{Hash: crypto.SHA256, MessageDigest: d}, id.key},
		"no key":            {cms.SignParams{Hash: crypto.SHA256, MessageDigest: d, Certificate: id.cert}, nil},
		"key of another":    {cms.SignParams{Hash: crypto.SHA256, MessageDigest: d, Certificate: id.cert}, other.key},
		"no digest":         {cms.SignParams{Hash: crypto.SHA256, Certificate: id.cert}, id.key},
		"digest of another": {cms.SignParams{Hash: crypto.SHA512, MessageDigest: d, Certificate: id.cert}, id.key},
		"SHA-1":             {cms.SignParams{Hash: crypto.SHA1, MessageDigest: d[:20], Certificate: id.cert}, id.key},
		"no hash":           {cms.SignParams{MessageDigest: d, Certificate: id.cert}, id.key},
		"PSS under EC":      {cms.SignParams{Hash: crypto.SHA256, MessageDigest: d, Certificate: id.cert, PSS: true}, id.key},
		"short RSA":         {cms.SignParams{Hash: crypto.SHA256, MessageDigest: d, Certificate: identities["RSA-1024"]().cert}, identities["RSA-1024"]().key},
		"Ed25519":           {cms.SignParams{Hash: crypto.SHA512, MessageDigest: digest(crypto.SHA512, content), Certificate: identities["Ed25519"]().cert}, identities["Ed25519"]().key},
		"no signature":      {cms.SignParams{Hash: crypto.SHA256, MessageDigest: d, Certificate: id.cert}, shortKey{Signer: id.key}},
		"too long":          {cms.SignParams{Hash: crypto.SHA256, MessageDigest: d, Certificate: id.cert}, shortKey{Signer: id.key, signature: make([]byte, 74)}},
		"the token is busy": {cms.SignParams{Hash: crypto.SHA256, MessageDigest: d, Certificate: id.cert}, shortKey{Signer: id.key, err: busy}},
		"too many in chain": {cms.SignParams{Hash: crypto.SHA256, MessageDigest: d, Certificate: id.cert, Chain: manyCerts(id)}, id.key},
		"RSA, too long":     {cms.SignParams{Hash: crypto.SHA256, MessageDigest: d, Certificate: rsaID.cert}, shortKey{Signer: rsaID.key, signature: make([]byte, 257)}},
	} {
		s, err := cms.Sign(rand.Reader, c.p, c.key)
		if err == nil || s != nil {
			t.Errorf("%s: signed", name)
		}
		if name == "the token is busy" && !errors.Is(err, busy) {
			t.Errorf("the cause is lost: %v", err)
		}
	}
}

func manyCerts(id identity) []*x509.Certificate {
	var certs []*x509.Certificate
	for i := range cms.MaxCertificates {
		certs = append(certs, &x509.Certificate{Raw: der(i)})
	}
	return certs
}

// TestKeyGetsDigests looks at what a key in a token is given: digests, their hash, and for PSS the salt length too.
func TestKeyGetsDigests(t *testing.T) {
	id := identities["RSA-2048"]()
	spy := &spyKey{Signer: id.key}
	for _, usePSS := range []bool{false, true} {
		if _, err := cms.Sign(rand.Reader, cms.SignParams{Hash: crypto.SHA512, MessageDigest: make([]byte, 64), Certificate: id.cert, PSS: usePSS}, spy); err != nil {
			t.Fatal(err)
		}
		if len(spy.digest) != 64 || spy.opts.HashFunc() != crypto.SHA512 {
			t.Errorf("the key was given %d bytes and %v", len(spy.digest), spy.opts)
		}
		pss, isPSS := spy.opts.(*rsa.PSSOptions)
		if isPSS != usePSS || isPSS && pss.SaltLength != 64 {
			t.Errorf("PSS %v: options %+v", usePSS, spy.opts)
		}
	}
}

type spyKey struct {
	crypto.Signer
	digest []byte
	opts   crypto.SignerOpts
}

func (k *spyKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.digest, k.opts = digest, opts
	return k.Signer.Sign(rand, digest, opts)
}

func BenchmarkProducer(b *testing.B) {
	id := identities["P-256"]()
	p, err := cms.NewProducer(cms.SignParams{Hash: crypto.SHA256, Certificate: id.cert, Chain: []*x509.Certificate{id.root}},
		shortKey{Signer: id.key, signature: make([]byte, 71)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Sign(rand.Reader, content, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s := sign(b, identities["P-256"](), nil)
	d := digest(crypto.SHA256, content)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Verify(0, d); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	der := sign(b, identities["P-256"](), nil).Bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cms.Parse(der); err != nil {
			b.Fatal(err)
		}
	}
}
