package cert_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"github.com/veripath/aes-appliance/internal/cert"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

type party struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newParty makes a certificate with the standard library alone, so that these tests do not rest on the profiles.
func newParty(t testing.TB, name string, issuer *party, change func(*x509.Certificate)) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(spki)
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.AddDate(1, 0, 0), SubjectKeyId: id[:20]}
	if change != nil {
		change(tmpl)
	}
	parent, signer := tmpl, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{c, key}
}

func asCA(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
}

func asResponder(c *x509.Certificate) {
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	c.KeyUsage = x509.KeyUsageDigitalSignature
}

type ocspFixture struct {
	ca, responder, leaf *party
	signer              *cert.OCSPSigner
}

func newOCSPFixture(t testing.TB) ocspFixture {
	ca := newParty(t, "CA", nil, asCA)
	f := ocspFixture{ca: ca, responder: newParty(t, "OCSP", ca, asResponder), leaf: newParty(t, "Leaf", ca, nil)}
	s, err := cert.NewOCSPSigner(f.responder.cert, f.responder.key)
	if err != nil {
		t.Fatal(err)
	}
	f.signer = s
	return f
}

func (f ocspFixture) single(t testing.TB, h crypto.Hash) cert.SingleResponse {
	id, err := cert.NewCertID(h, f.ca.cert, f.leaf.cert.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	return cert.SingleResponse{CertID: id, ThisUpdate: noon, NextUpdate: noon.Add(time.Hour)}
}

func (f ocspFixture) sign(t testing.TB, tmpl cert.OCSPTemplate) []byte {
	t.Helper()
	der, err := f.signer.Sign(rand.Reader, tmpl)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOCSPResponseIsReadByAnIndependentReader(t *testing.T) {
	f := newOCSPFixture(t)
	for _, status := range []cert.OCSPStatus{cert.OCSPGood, cert.OCSPRevoked, cert.OCSPUnknown} {
		s := f.single(t, crypto.SHA1)
		s.Status, s.ArchiveCutoff = status, noon.AddDate(-1, 0, 0)
		if status == cert.OCSPRevoked {
			s.RevokedAt, s.Reason = noon.Add(-time.Minute), 1
		}
		der := f.sign(t, cert.OCSPTemplate{ProducedAt: noon, Singles: []cert.SingleResponse{s}, Nonce: []byte("0123456789abcdef")})
		got, err := xocsp.ParseResponseForCert(der, f.leaf.cert, f.ca.cert)
		if err != nil {
			t.Fatalf("%v: %v", status, err)
		}
		if got.Status != int(status) || !got.ThisUpdate.Equal(noon) || !got.NextUpdate.Equal(noon.Add(time.Hour)) || !got.ProducedAt.Equal(noon) {
			t.Errorf("%v: read as %+v", status, got)
		}
		if status == cert.OCSPRevoked && (got.RevocationReason != 1 || !got.RevokedAt.Equal(noon.Add(-time.Minute))) {
			t.Errorf("revoked: reason %d at %v", got.RevocationReason, got.RevokedAt)
		}
	}
}

func TestParseOCSPResponseReadsBackWhatWasSigned(t *testing.T) {
	f := newOCSPFixture(t)
	a, b := f.single(t, crypto.SHA1), f.single(t, crypto.SHA256)
	b.Status, b.RevokedAt, b.Reason, b.ArchiveCutoff = cert.OCSPRevoked, noon.Add(-time.Hour), 4, noon.AddDate(-3, 0, 0)
	der := f.sign(t, cert.OCSPTemplate{ProducedAt: noon, Singles: []cert.SingleResponse{a, b}, Nonce: []byte{1, 2, 3}})
	r, err := cert.ParseOCSPResponse(der)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Singles) != 2 || !bytes.Equal(r.Nonce, []byte{1, 2, 3}) || len(r.Certificates) != 1 || !r.ProducedAt.Equal(noon) || !r.Names(f.responder.cert) {
		t.Fatalf("%+v", r)
	}
	for i, s := range r.Singles {
		if !s.CertID.Matches(f.leaf.cert, f.ca.cert) || s.CertID.Matches(f.responder.cert, f.ca.cert) || s.CertID.Matches(f.leaf.cert, f.responder.cert) {
			t.Errorf("single %d names the wrong certificate", i)
		}
	}
	if s := r.Singles[1]; s.Status != cert.OCSPRevoked || s.Reason != 4 || !s.RevokedAt.Equal(b.RevokedAt) || !s.ArchiveCutoff.Equal(b.ArchiveCutoff) {
		t.Errorf("%+v", s)
	}
	if got, err := r.VerifyFrom(f.ca.cert); err != nil || !got.Equal(f.responder.cert) {
		t.Errorf("VerifyFrom = %v, %v", got, err)
	}
}

func TestVerifyFromRefusesThoseWhoMayNotSpeak(t *testing.T) {
	f := newOCSPFixture(t)
	other := newParty(t, "CA", nil, asCA) // same name, other key
	for name, responder := range map[string]*party{
		"no EKU":       newParty(t, "X", f.ca, nil),
		"wrong EKU":    newParty(t, "X", f.ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }),
		"other issuer": newParty(t, "X", other, asResponder),
		"self-issued":  newParty(t, "CA", nil, asResponder),
	} {
		s, err := cert.NewOCSPSigner(responder.cert, responder.key)
		if err != nil {
			t.Fatal(err)
		}
		der, err := s.Sign(rand.Reader, cert.OCSPTemplate{ProducedAt: noon, Singles: []cert.SingleResponse{f.single(t, crypto.SHA1)}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := cert.ParseOCSPResponse(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.VerifyFrom(f.ca.cert); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	der := f.sign(t, cert.OCSPTemplate{ProducedAt: noon, Singles: []cert.SingleResponse{f.single(t, crypto.SHA1)}})
	at := bytes.Index(der, []byte("20261120120000Z"))
	der[at+3]++ // producedAt
	r, err := cert.ParseOCSPResponse(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.VerifyFrom(f.ca.cert); err == nil {
		t.Error("a changed response verifies")
	}
}

func TestOCSPRequestOfAnIndependentWriter(t *testing.T) {
	f := newOCSPFixture(t)
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		der, err := xocsp.CreateRequest(f.leaf.cert, f.ca.cert, &xocsp.RequestOptions{Hash: h})
		if err != nil {
			t.Fatal(err)
		}
		r, err := cert.ParseOCSPRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.CertIDs) != 1 || r.CertIDs[0].Hash != h || !r.CertIDs[0].Matches(f.leaf.cert, f.ca.cert) {
			t.Errorf("%+v", r)
		}
		again, err := r.Marshal()
		if err != nil || !bytes.Equal(again, der) {
			t.Errorf("Marshal(Parse(x)) = %x, %v", again, err)
		}
	}
}

func TestOCSPRequestRoundTrip(t *testing.T) {
	f := newOCSPFixture(t)
	want := cert.OCSPRequest{Nonce: []byte("nonce")}
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		want.CertIDs = append(want.CertIDs, f.single(t, h).CertID)
	}
	der, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := cert.ParseOCSPRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range got.CertIDs {
		w := want.CertIDs[i]
		if id.Hash != w.Hash || !bytes.Equal(id.NameHash, w.NameHash) || !bytes.Equal(id.KeyHash, w.KeyHash) || id.Serial.Cmp(w.Serial) != 0 {
			t.Errorf("CertID %d: %+v", i, id)
		}
	}
	if !bytes.Equal(got.Nonce, want.Nonce) {
		t.Errorf("nonce %x", got.Nonce)
	}
}

// tlv is a small DER writer of the tests' own.
func tlv(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	switch n := len(body); {
	case n < 128:
		return append([]byte{tag, byte(n)}, body...)
	case n < 256:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	case n < 1<<16:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body...)
	default:
		return append([]byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}, body...)
	}
}

func oid(ids ...int) []byte {
	der, err := asn1.Marshal(asn1.ObjectIdentifier(ids))
	if err != nil {
		panic(err)
	}
	return der
}

var (
	null    = []byte{5, 0}
	sha1Alg = tlv(0x30, oid(1, 3, 14, 3, 2, 26), null)
	certID  = tlv(0x30, sha1Alg, tlv(4, make([]byte, 20)), tlv(4, make([]byte, 20)), []byte{2, 1, 7})
	nonceID = oid(1, 3, 6, 1, 5, 5, 7, 48, 1, 2)
)

func request(parts ...[]byte) []byte { return tlv(0x30, tlv(0x30, parts...)) }

func extensions(list ...[]byte) []byte { return tlv(0xa2, tlv(0x30, list...)) }

func TestParseOCSPRequestRefuses(t *testing.T) {
	one := tlv(0x30, tlv(0x30, certID))
	ext := func(parts ...[]byte) []byte { return tlv(0x30, parts...) }
	for _, c := range []struct {
		name, want string
		der        []byte
	}{
		{"nothing", "not exactly one", nil},
		{"trailing byte", "not exactly one", append(request(one), 0)},
		{"indefinite length", "not exactly one", []byte{0x30, 0x80, 0, 0}},
		{"long form of a short length", "not exactly one", []byte{0x30, 0x81, 2, 5, 0}},
		{"not a tbsRequest", "tbsRequest", tlv(0x30, null)},
		{"junk after tbsRequest", "optionalSignature", tlv(0x30, tlv(0x30, one), null)},
		{"version 2", "only v1", request(tlv(0xa0, []byte{2, 1, 1}), one)},
		{"version not a number", "version", request(tlv(0xa0, null), one)},
		{"no list", "requestList", request()},
		{"empty list", "no certificate", request(tlv(0x30))},
		{"Request not a SEQUENCE", "Request 0", request(tlv(0x30, null))},
		{"no CertID", "CertID", request(tlv(0x30, tlv(0x30, null)))},
		{"no serial", "serialNumber", request(tlv(0x30, tlv(0x30, tlv(0x30, sha1Alg, tlv(4, make([]byte, 20)), tlv(4, make([]byte, 20))))))},
		{"padded serial", "serialNumber", request(tlv(0x30, tlv(0x30, tlv(0x30, sha1Alg, tlv(4, make([]byte, 20)), tlv(4, make([]byte, 20)), []byte{2, 2, 0, 7}))))},
		{"short hash", "hashes have 19", request(tlv(0x30, tlv(0x30, tlv(0x30, sha1Alg, tlv(4, make([]byte, 19)), tlv(4, make([]byte, 20)), []byte{2, 1, 7}))))},
		{"no algorithm", "hashAlgorithm", request(tlv(0x30, tlv(0x30, tlv(0x30, tlv(0x30), tlv(4), tlv(4), []byte{2, 1, 7}))))},
		{"junk after CertID", "follows CertID", request(tlv(0x30, tlv(0x30, certID, null)))},
		{"33 requests", "more than 32", request(tlv(0x30, bytes.Repeat(tlv(0x30, certID), 33)))},
		{"junk after list", "follows requestList", request(one, null)},
		{"empty nonce", "nonce has 0", request(one, extensions(ext(nonceID, tlv(4, tlv(4)))))},
		{"nonce of 129", "nonce has 129", request(one, extensions(ext(nonceID, tlv(4, tlv(4, make([]byte, 129))))))},
		{"bare nonce", "OCTET STRING", request(one, extensions(ext(nonceID, tlv(4, []byte("bare")))))},
		{"two nonces", "comes twice", request(one, extensions(ext(nonceID, tlv(4, tlv(4, []byte{1}))), ext(nonceID, tlv(4, tlv(4, []byte{1})))))},
		{"critical stranger", "critical extension", request(one, extensions(ext(oid(1, 2, 3), []byte{1, 1, 0xff}, tlv(4))))},
		{"FALSE in BER", "critical is malformed", request(one, extensions(ext(oid(1, 2, 3), []byte{1, 1, 1}, tlv(4))))},
		{"extension without value", "OCTET STRING", request(one, extensions(ext(oid(1, 2, 3))))},
		{"extensions not a SEQUENCE", "Extensions", request(one, tlv(0xa2, null))},
		{"too big", "are allowed", make([]byte, cert.MaxOCSPRequest+1)},
	} {
		_, err := cert.ParseOCSPRequest(c.der)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one about %q", c.name, err, c.want)
		}
	}
}

func TestParseOCSPRequestAccepts(t *testing.T) {
	one := tlv(0x30, tlv(0x30, certID))
	for name, der := range map[string][]byte{
		"plain":                  request(one),
		"explicit v1":            request(tlv(0xa0, []byte{2, 1, 0}), one),
		"requestor":              request(tlv(0xa1, tlv(0xa4, tlv(0x30))), one),
		"signed":                 tlv(0x30, tlv(0x30, one), tlv(0xa0, tlv(0x30))),
		"unknown extension":      request(one, extensions(tlv(0x30, oid(1, 2, 3), tlv(4)))),
		"unknown hash":           request(tlv(0x30, tlv(0x30, tlv(0x30, tlv(0x30, oid(1, 2, 3)), tlv(4), tlv(4), []byte{2, 1, 7})))),
		"32 requests":            request(tlv(0x30, bytes.Repeat(tlv(0x30, certID), 32))),
		"negative serial":        request(tlv(0x30, tlv(0x30, tlv(0x30, sha1Alg, tlv(4, make([]byte, 20)), tlv(4, make([]byte, 20)), []byte{2, 1, 0xff})))),
		"algorithm without NULL": request(tlv(0x30, tlv(0x30, tlv(0x30, tlv(0x30, oid(1, 3, 14, 3, 2, 26)), tlv(4, make([]byte, 20)), tlv(4, make([]byte, 20)), []byte{2, 1, 7})))),
	} {
		if _, err := cert.ParseOCSPRequest(der); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeOCSPPath(t *testing.T) {
	der := request(tlv(0x30, tlv(0x30, tlv(0x30, sha1Alg, tlv(4, bytes.Repeat([]byte{0xff, 0xef, 0xbe}, 6), []byte{1, 2}), tlv(4, make([]byte, 20)), []byte{2, 1, 7}))))
	std := base64.StdEncoding.EncodeToString(der)
	for name, path := range map[string]string{
		"escaped": url.QueryEscape(std), "path-escaped": url.PathEscape(std), "bare": std, "slash before": "/" + std,
		"URL alphabet": base64.URLEncoding.EncodeToString(der), "no padding": base64.RawURLEncoding.EncodeToString(der),
	} {
		got, err := cert.DecodeOCSPPath(path)
		if err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	for _, path := range []string{"%zz", "a", "AB$=", strings.Repeat("A", 2*cert.MaxOCSPRequest+1)} {
		if _, err := cert.DecodeOCSPPath(path); err == nil {
			t.Errorf("%.20q accepted", path)
		}
	}
}
